"""What a user may set about reading shards; every default is here.

    Ingest(columns=Columns(text="raw_content"), minimum_characters=200)

A job file holds the same keys under ``ingest``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

MIB = 1 << 20


def as_tuple(value: object) -> object:
    """A single name as a tuple of one; anything else as it is."""
    return (value,) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(as_tuple), Field(min_length=1)]


class Columns(BaseModel):
    """Names of the columns (Parquet) or keys (JSONL) to read: one name or several; the first that is present wins."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: Names = Field(
        default=("text", "content", "raw_content", "body", "document", "page_text"), description="holds the text"
    )
    url: Names = Field(
        default=("url", "warc_url", "source_url", "uri", "target_uri", "link"), description="holds the page's URL"
    )
    captured_at: Names = Field(
        default=(
            "timestamp",
            "date",
            "warc_date",
            "captured_at",
            "crawl_date",
            "fetch_time",
            "date_download",
            "crawl_timestamp",
        ),
        description="holds the capture time: a timestamp, a number since 1970, or ISO 8601",
    )


class Extraction(BaseModel):
    """How the text of an HTML page is found. Every switch means the same with each extractor."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    extractor: Literal["resiliparse", "trafilatura"] = Field(
        default="resiliparse", description="trafilatura finds the main content better and takes some ten times as long"
    )
    main_content: bool = Field(
        default=True, description="leave out menus, footers and the like; false keeps all visible text of a page"
    )
    comments: bool = Field(default=False, description="keep readers' comments under the main content")
    tables: bool = Field(default=True, description="keep the text in tables")
    links: bool = Field(default=False, description="write the target of each link behind its text")

    @field_validator("extractor")
    @classmethod
    def _installed(cls, extractor: str) -> str:
        if extractor == "trafilatura":
            try:
                import trafilatura  # noqa: F401
            except ImportError as error:
                raise PydanticCustomError(
                    "not_installed",
                    "it cannot be imported ({error}); pip install 'human-reserve[trafilatura]'",
                    {"error": str(error).splitlines()[0]},
                ) from None
        return extractor


class Ingest(BaseModel):
    """How shards become documents."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # wet is warc under the name that users look for.
    format: Literal["auto", "warc", "wet", "arc", "wacz", "parquet", "jsonl"] = Field(
        default="auto", description="of the shards; auto: by the first bytes, then by the name"
    )
    columns: Columns = Columns()
    extraction: Extraction = Extraction()
    minimum_characters: int = Field(default=1, ge=1, description="shorter texts are rejected as no_text")
    maximum_record_bytes: int = Field(
        default=64 * MIB, ge=1024, description="longer records, compressed or not, are rejected as too_large"
    )
    maximum_html_bytes: int = Field(
        default=16 * MIB, ge=1024, description="the same for one HTML page, whose tree takes many times its size"
    )
    mismatches: Literal["reject", "keep"] = Field(
        default="reject",
        description="what becomes of a record whose digest or length is not what its header says; "
        "keep: a document with evidence of that",
    )
    split_bytes: int = Field(
        default=64 * MIB, ge=1024, description="of a shard, as it is stored, that one worker reads at a time"
    )
    batch_bytes: int = Field(default=4 * MIB, ge=1, description="about how much text one batch holds")
