"""The options of repeated paragraphs, as they stand under ``repeats`` in a job file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _off(value: object) -> object:
    """YAML 1.1 reads a bare ``off`` as false."""
    return "off" if value is False else value


class Repeats(BaseModel):
    """Which paragraphs count as boilerplate, and what becomes of them.

    ``count`` looks and reports, ``trim`` also cuts: what ``count`` reports is what ``trim`` would look for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Annotated[Literal["off", "count", "trim"], BeforeValidator(_off)] = Field(
        default="off", description="'count': report paragraphs that recur across hosts; 'trim': also cut them out"
    )
    hosts: int = Field(default=10, ge=2, description="different hosts on which a paragraph counts as boilerplate")
    letters: int = Field(
        default=30,
        ge=1,
        description="paragraphs of fewer letters and digits are not looked at; a Han character or kana counts as two",
    )
