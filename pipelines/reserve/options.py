"""The options of the seal, as they stand under ``seal`` in a job file."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from pipelines.ingest.options import as_tuple


class Seal(BaseModel):
    """How the output is sealed. None of it decides a byte outside the seal."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(
        default=True, description="write a Merkle tree over all decisions and a manifest of all files"
    )
    key: Annotated[tuple[str, ...], BeforeValidator(as_tuple)] = Field(
        default=(), description="private keys that sign it (`reserve seal keygen`); default: it stays unsigned"
    )
    passphrase_file: str | None = Field(default=None, description="file with the pass phrase of the keys")
    passphrase_env: str | None = Field(default=None, description="environment variable with that pass phrase")
    origin: str | None = Field(default=None, description="name of the log; default: the name of the first key")
    after: str | None = Field(default=None, description="sealed output of the release that this one goes on from")
