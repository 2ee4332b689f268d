"""What a user may set about reading shards; every default is here.

    Ingest(columns=Columns(text="raw_content"), minimum_characters=200)

A job file holds the same keys under ``ingest``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MIB = 1 << 20


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(min_length=1)]


class Columns(BaseModel):
    """Names of the columns (Parquet) or keys (JSONL) to read: one name or several; the first that is present wins."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: Names = ("text", "content", "raw_content", "body", "document", "page_text")
    url: Names = ("url", "warc_url", "source_url", "uri", "target_uri", "link")
    captured_at: Names = (
        "timestamp",
        "date",
        "warc_date",
        "captured_at",
        "crawl_date",
        "fetch_time",
        "date_download",
        "crawl_timestamp",
    )


class Ingest(BaseModel):
    """How shards become documents."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # auto: by the first bytes, then by the name. wet is warc under the name that users look for.
    format: Literal["auto", "warc", "wet", "parquet", "jsonl"] = "auto"
    columns: Columns = Columns()
    # Leave out menus, footers and the like; false keeps all visible text of a page.
    main_content: bool = True
    # Shorter texts, white space at both ends not counted, are rejected as no_text.
    minimum_characters: int = Field(default=1, ge=1)
    # Caps on what one record may take, compressed or not: longer ones are rejected as too_large.
    maximum_record_bytes: int = Field(default=64 * MIB, ge=1024)
    # The same for one HTML page, whose parsed tree takes many times its size.
    maximum_html_bytes: int = Field(default=16 * MIB, ge=1024)
    # About how much text one batch holds.
    batch_bytes: int = Field(default=4 * MIB, ge=1)
