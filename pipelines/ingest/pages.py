"""WARC record → document or reject: which records are pages, and what their text is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from resiliparse.parse.html import HTMLParserException

from pipelines.ingest.batches import BatchBuilder
from pipelines.ingest.extraction import extract_defused
from pipelines.ingest.grammar import target_uri
from pipelines.ingest.hostile import HostilePageError, defuse
from pipelines.ingest.html import decode_text
from pipelines.ingest.http import BombError, CodingError, decode_body, looks_binary, parse_response
from pipelines.ingest.options import Ingest
from pipelines.ingest.timestamps import parse_time
from pipelines.ingest.warc import Record
from pipelines.records import Evidence, Reason

# Called with the HTML of a page and its HTTP headers (names in lower case); what it finds becomes evidence.
InspectPage = Callable[[str, Mapping[str, str]], list[Evidence]]

_HTML_TYPES = {"text/html", "application/xhtml+xml", "application/vnd.wap.xhtml+xml"}
_UNKNOWN_TYPES = {"", "application/octet-stream", "application/unknown", "unknown/unknown", "*/*", "unknown", "none"}
_TYPE = re.compile(r"[\w.+*-]+/[\w.+*-]+\Z")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_MARKUP = re.compile(
    rb"\s*(?:<!--.*?-->\s*)*<(?:!doctype html|\?xml|html|head|body|script|iframe|h1|div|font|table|a|style|title|b|br|p"
    rb"|meta)[\s>/]",
    re.IGNORECASE | re.DOTALL,
)
_BINARY_MARKS = (
    b"%PDF-",
    b"\x89PNG",
    b"GIF8",
    b"\xff\xd8\xff",
    b"PK\x03\x04",
    b"\x1f\x8b\x08",
    b"RIFF",
    b"wOF",
    b"\x00asm",
)


class _RefusedError(Exception):
    """The record gives no document."""

    def __init__(self, reason: Reason, detail: str | None = None) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class _Page(NamedTuple):
    body: bytes
    content_type: str
    headers: Mapping[str, str]


def add_record(
    record: Record,
    options: Ingest,
    inspect_page: InspectPage | None,
    batch: BatchBuilder,
    found: Sequence[Evidence] = (),
) -> None:
    """Adds the document of a record, with what was ``found`` out already, or the reason why it gives none."""
    url = target_uri(record.headers)
    evidence: list[Evidence] = []
    try:
        if record.headers.get("warc-type", "").lower() == "conversion":
            payload = record.block
            text = _read_conversion(record, options)
        else:
            page = _page_of(record, url, options)
            payload = page.body
            text, evidence = _read_page(page, options, inspect_page)
    except _RefusedError as refusal:
        batch.reject(record.offset, url, refusal.reason, refusal.detail, record.length)
        return
    evidence = [*found, *evidence]
    written = record.headers.get("warc-date")
    captured_at = parse_time(written)
    if written and captured_at is None:
        evidence = [*evidence, Evidence("ingest", "unreadable_capture_time", detail=written[:100])]
    batch.document(record.offset, url, captured_at, payload, text, evidence)


def _read_conversion(record: Record, options: Ingest) -> str:
    """The text of a WET record, character for character: as JSON Lines or Parquet it would be the same document."""
    content_type = record.headers.get("content-type", "")
    if _essence(content_type) not in ("text/plain", ""):
        raise _RefusedError(Reason.CONTENT_TYPE, content_type)
    return _long_enough(record.block.decode("utf-8", "replace"), options)


def _long_enough(text: str, options: Ingest) -> str:
    if len(text) < options.minimum_characters or len(text.strip()) < options.minimum_characters:
        raise _RefusedError(Reason.NO_TEXT)
    return text


def _page_of(record: Record, url: str | None, options: Ingest) -> _Page:
    kind = record.headers.get("warc-type", "").lower()
    content_type = record.headers.get("content-type", "")
    if kind == "response" and record.block[:6].upper().startswith((b"HTTP/", b"HTTPX/")):
        return _page_of_response(record, options)
    if kind == "response" and content_type.lower().startswith("application/http"):
        raise _RefusedError(Reason.BAD_RECORD, f"no HTTP status line, but {record.block[:40]!r}")
    # A response or a resource without an HTTP head holds the page itself. Crawlers also keep their own logs and
    # settings as resources, under schemes of their own.
    is_web = (url or "").lower().startswith(("http://", "https://", "ftp://"))
    if kind in ("response", "resource") and is_web:
        return _Page(record.block, content_type, {})
    raise _RefusedError(Reason.NOT_A_PAGE, kind or "no WARC-Type")


def _page_of_response(record: Record, options: Ingest) -> _Page:
    try:
        response = parse_response(record.block)
    except ValueError as error:
        raise _RefusedError(Reason.BAD_RECORD, str(error)) from error
    if response.status != 200:
        raise _RefusedError(Reason.HTTP_STATUS, str(response.status))
    content_type = response.headers.get("content-type", "")
    if not _may_be_text(content_type):
        raise _RefusedError(Reason.CONTENT_TYPE, content_type)
    truncated = record.headers.get("warc-truncated")
    try:
        body = decode_body(response, options.maximum_record_bytes, truncated=truncated is not None)
    except BombError as error:
        raise _RefusedError(Reason.TOO_LARGE, str(error)) from error
    except CodingError as error:
        raise _RefusedError(Reason.ENCODING, str(error)) from error
    return _Page(body, content_type, response.headers)


@lru_cache(maxsize=4096)
def _essence(content_type: str) -> str:
    """The type without parameters; of several, which some servers send, the first."""
    essence = content_type.partition(";")[0].partition(",")[0].strip().lower()
    return essence if _TYPE.match(essence) else ""


def _may_be_text(content_type: str) -> bool:
    essence = _essence(content_type)
    return essence in _HTML_TYPES or essence in _UNKNOWN_TYPES or essence == "text/plain"


def _is_html(page: _Page) -> bool:
    """Whether the page is HTML rather than plain text. A type that is missing or says nothing is sniffed."""
    essence = _essence(page.content_type)
    if not _may_be_text(page.content_type):
        raise _RefusedError(Reason.CONTENT_TYPE, page.content_type)
    if page.body.startswith(_BINARY_MARKS) and (page.body.startswith(b"%PDF-") or looks_binary(page.body)):
        raise _RefusedError(
            Reason.CONTENT_TYPE, f"{page.content_type or 'no type'}, but the body starts {page.body[:8]!r}"
        )
    if essence in _HTML_TYPES:
        return True
    # A control character in what says to be UTF-8 text is left alone; without a type it shows a binary file.
    if essence in _UNKNOWN_TYPES and looks_binary(page.body):
        raise _RefusedError(Reason.CONTENT_TYPE, f"{page.content_type or 'no type'}, and a binary body")
    return essence in _UNKNOWN_TYPES and _MARKUP.match(page.body[:4096]) is not None


def _read_page(page: _Page, options: Ingest, inspect_page: InspectPage | None) -> tuple[str, list[Evidence]]:
    if not page.body or page.body.isspace():
        raise _RefusedError(Reason.NO_TEXT, "the body is empty")
    is_html = _is_html(page)
    charset = _CHARSET.search(page.content_type)
    if is_html and len(page.body) > options.maximum_html_bytes:
        raise _RefusedError(
            Reason.TOO_LARGE, f"the page has {len(page.body)} bytes, more than {options.maximum_html_bytes}"
        )
    source = decode_text(page.body, charset[1] if charset else None, markup=is_html)
    text = source
    if is_html:
        try:
            # What inspects the page parses it as well.
            source = defuse(source)
            text = extract_defused(source, options.extraction)
        except HostilePageError as error:
            raise _RefusedError(Reason.TOO_LARGE, str(error)) from error
        except (HTMLParserException, ValueError) as error:
            raise _RefusedError(Reason.BAD_RECORD, f"the HTML cannot be parsed: {error}") from error
    return _long_enough(text, options), inspect_page(source, page.headers) if inspect_page else []
