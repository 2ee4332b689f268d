"""The options of watermark tests, as they stand under ``watermarks`` in a job file."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Watermarks(BaseModel):
    """Which keys to look for, and how sure to be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    registry: str | None = Field(
        None, description="YAML file of keys to look for (`reserve watermark list`); none: off"
    )
    level: float = Field(
        0.01, gt=0, lt=0.5, description="false discovery rate among documents found, and again among sites found"
    )
    sites: bool = Field(True, description="also test hosts and their sections, whose short documents add up")
