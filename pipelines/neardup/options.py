"""The options of near-duplicate removal, as they stand under ``neardup`` in a job file."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Preference = Literal["captured_at", "findings", "length"]


class NearDup(BaseModel):
    """How near-duplicates are found, and which copy stays.

    ``threshold`` is a Jaccard similarity of shingle sets. ``permutations`` MinHash values estimate it with a standard
    error of at most ``0.5 / sqrt(permutations)``, 0.035 at the defaults; with ``verify: exact`` the sets themselves
    decide wherever the estimate leaves a doubt. ``ranges`` and ``forest_edges`` decide only how the work is cut up,
    never the result.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(default=True, description="find and remove near-duplicates; false keeps every copy")
    threshold: float = Field(default=0.8, gt=0, le=1, description="similarity from which two documents count as copies")
    verify: Literal["exact", "estimate"] = Field(
        default="exact", description="'exact': shingle sets decide where signatures leave a doubt; 'estimate': never"
    )
    keep: tuple[Preference, ...] = Field(
        default=("captured_at", "findings", "length"),
        description="which copy stays, the weightiest first: earliest capture, most findings, longest text",
    )
    permutations: int = Field(default=128, ge=16, le=4096, description="MinHash values in a signature")
    shingle: int = Field(
        default=5, ge=1, le=64, description="tokens in a shingle: words, or characters where none are spaced"
    )
    seed: int = Field(default=1, ge=0, lt=2**32, description="seed of the permutations, as datasketch takes it")
    index: bool = Field(
        default=True, description="leave the signatures in the output (0.5 KB a distinct text), for runs against it"
    )
    ranges: int = Field(
        default=16, ge=1, le=4096, description="hash ranges that each band is cut into; does not change results"
    )
    forest_edges: int = Field(
        default=25_000_000,
        ge=0,
        description="candidate edges up to which one process finds the components; rounds over files beyond it",
    )

    @field_validator("keep")
    @classmethod
    def _each_once(cls, keep: tuple[Preference, ...]) -> tuple[Preference, ...]:
        if len(set(keep)) < len(keep):
            raise ValueError("a preference is named twice")
        return keep
