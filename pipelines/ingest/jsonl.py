"""JSON Lines, plain or compressed → documents. ``record_offset`` is the line's byte offset in the decoded text.

A key may lie in objects: ``content.body`` is the key ``body`` of the object under ``content``. A key that is itself
``content.body`` comes first.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator
from typing import Any, NamedTuple

from pipelines.ingest.batches import BatchBuilder, Ingested, without_surrogates
from pipelines.ingest.options import Ingest
from pipelines.ingest.streams import Fault, Piece
from pipelines.ingest.timestamps import parse_time
from pipelines.records import Evidence, Reason

_BLANK = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"
_ABSENT = object()


class _Line(NamedTuple):
    offset: int
    data: bytes  # without the line feed; the first bytes of a line that is too long
    length: int
    fault: Fault | None = None  # damage inside the line


def starts_line(data: bytes) -> bool:
    """Whether a member with these first bytes opens a record."""
    return data.removeprefix(_BOM).lstrip(_BLANK)[:1] == b"{"


def read_jsonl(
    pieces: Iterator[Piece | Fault],
    options: Ingest,
    batch: BatchBuilder,
    begin: int = 0,
    end: int | None = None,
) -> Generator[Ingested, None, int | None]:
    """Adds each line's document or reject to ``batch``, and yields the batch whenever it is full.

    Only the lines that begin at byte ``begin`` of the decoded text or later, and before ``end`` (None: its end), are
    read, each to its own end. Where ``begin`` is not 0, ``pieces`` start at byte ``begin - 1``, since only the byte
    before tells whether a line begins there.
    """
    for line in _lines(pieces, options.maximum_record_bytes, begin):
        if end is not None and line.offset >= end:
            if line.fault is None and line.length <= options.maximum_record_bytes and not line.data.strip(_BLANK):
                continue
            return line.offset
        if line.fault is not None:
            fault = line.fault
            reason = Reason.TRUNCATED if fault.truncated else Reason.DAMAGED
            detail = f"{fault.end - fault.offset} bytes at byte {fault.offset} cannot be decoded: {fault.error}"
            batch.reject(line.offset, None, reason, detail)
        elif line.length > options.maximum_record_bytes:
            batch.reject(line.offset, None, Reason.TOO_LARGE, f"the line has {line.length} bytes")
        elif line.data.strip(_BLANK):
            _add_line(line, options, batch)
        if batch.full:
            yield batch.take()
    return None


def _lines(pieces: Iterable[Piece | Fault], cap: int, first: int) -> Iterator[_Line]:
    """Lines of any length in bounded memory. A fault ends the line that it is in, whose start is lost with it."""
    offset = max(first - 1, 0)  # of `held` in the decoded text
    passing = first > 0  # over the rest of a line that begins before
    held: list[bytes] = []
    length = 0
    for piece in pieces:
        if isinstance(piece, Fault):
            yield _Line(offset, b"", length, piece)
            # Damage that holds no decoded byte still needs an offset of its own.
            offset += max(length, 1)
            held, length, passing = [], 0, False
            continue
        begin = 0
        while (end := piece.data.find(b"\n", begin)) >= 0:
            if length <= cap and not passing:
                held.append(piece.data[begin:end])
            length += end - begin
            if not passing:
                yield _Line(offset, b"".join(held) if length <= cap else b"", length)
            offset += length + 1
            held, length, passing = [], 0, False
            begin = end + 1
        if passing:
            # Nothing of it is held, however long it is.
            offset += len(piece.data) - begin
            continue
        if length <= cap:
            held.append(piece.data[begin:])
        length += len(piece.data) - begin
    if length and not passing:
        yield _Line(offset, b"".join(held) if length <= cap else b"", length)


def _add_line(line: _Line, options: Ingest, batch: BatchBuilder) -> None:
    data = line.data.removeprefix(_BOM) if line.offset == 0 else line.data
    broken = ""
    try:
        # Bytes that are no UTF-8 become U+FFFD, as in pages: one bad byte is no reason to lose a document.
        value: Any = json.loads(data.decode("utf-8", "replace"))
    except json.JSONDecodeError as error:
        broken = f"{error.msg} at character {error.pos} of the line"
    except (ValueError, RecursionError) as error:
        broken = str(error) or type(error).__name__
    if broken or not isinstance(value, dict):
        batch.reject(line.offset, None, Reason.BAD_RECORD, broken or f"a {type(value).__name__}, not an object")
        return
    columns = options.columns
    url = _first(value, columns.url)
    url = without_surrogates(url) if isinstance(url, str) and url else None
    text = _first(value, columns.text)
    if isinstance(text, list) and all(isinstance(item, str) or item is None for item in text):
        text = joined([item for item in text if item is not None])
    if not isinstance(text, str):
        keys = ", ".join(map(str, list(value)[:20]))
        detail = (
            f"no text under {', '.join(columns.text)}; the keys are: {keys}"
            if text is None
            else f"the text is a {type(text).__name__}, not a string"
        )
        batch.reject(line.offset, url, Reason.NO_TEXT if text is None else Reason.BAD_RECORD, detail)
        return
    add_text(line.offset, url, _first(value, columns.captured_at), text, options, batch)


def _first(value: dict[str, Any], names: tuple[str, ...]) -> Any:
    for name in names:
        if name in value:
            return value[name]
        if "." in name and (found := _at_path(value, name)) is not _ABSENT:
            return found
    return None


def _at_path(value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        return _ABSENT
    if name in value:
        return value[name]
    dot = name.find(".")
    while dot >= 0:
        if name[:dot] in value and (found := _at_path(value[name[:dot]], name[dot + 1 :])) is not _ABSENT:
            return found
        dot = name.find(".", dot + 1)
    return _ABSENT


def joined(paragraphs: list[str]) -> str | None:
    """The text of a column or key that holds a list of paragraphs: one a line; None where there is none."""
    return "\n".join(paragraphs) if paragraphs else None


def add_text(offset: int, url: str | None, written: object, text: str, options: Ingest, batch: BatchBuilder) -> None:
    """Adds a document whose payload is its text in UTF-8, or the reason why it gives none."""
    try:
        payload = text.encode()
    except UnicodeEncodeError:
        text = without_surrogates(text)
        payload = text.encode()
    if len(payload) > options.maximum_record_bytes:
        batch.reject(offset, url, Reason.TOO_LARGE, f"the text has {len(payload)} bytes")
        return
    if len(text) < options.minimum_characters or len(text.strip()) < options.minimum_characters:
        batch.reject(offset, url, Reason.NO_TEXT)
        return
    captured_at = parse_time(written)
    evidence = []
    if captured_at is None and written not in (None, ""):
        detail = without_surrogates(str(written)[:100])
        evidence = [Evidence("ingest", "unreadable_capture_time", detail=detail)]
    batch.document(offset, url, captured_at, payload, text, evidence)
