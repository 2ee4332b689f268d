"""The options of near-duplicate removal, as they stand under ``neardup`` in a job file."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class NearDup(BaseModel):
    """How near-duplicates are found.

    ``threshold`` is a Jaccard similarity of shingle sets, estimated from ``permutations`` MinHash values: the standard
    error is at most ``0.5 / sqrt(permutations)``, and 0.035 at the defaults. ``ranges`` decides only how finely the
    work is cut up, never the result.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(default=True, description="find and remove near-duplicates; false keeps every copy")
    threshold: float = Field(default=0.8, gt=0, le=1, description="similarity from which two documents count as copies")
    permutations: int = Field(default=128, ge=16, le=4096, description="MinHash values in a signature")
    shingle: int = Field(
        default=5, ge=1, le=64, description="tokens in a shingle: words, or characters where none are spaced"
    )
    seed: int = Field(default=1, ge=0, lt=2**32, description="seed of the permutations, as datasketch takes it")
    ranges: int = Field(
        default=16, ge=1, le=4096, description="hash ranges that each band is cut into; does not change results"
    )
