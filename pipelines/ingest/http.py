"""The HTTP response in a WARC record: head and transfer coding; tolerant of what servers and crawlers write.

Sources: RFC 9112 (HTTP/1.1 messages, chunked coding), RFC 9110 (status codes, content codings).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pipelines.ingest.codings import BombError, CodingError, looks_binary, undo

__all__ = ["BombError", "CodingError", "Response", "dechunk", "decode_body", "looks_binary", "parse_response"]

_HEAD_END = re.compile(rb"\r*\n[ \t]*\r*\n")
_STATUS = re.compile(r"\s*HTTPX?(?:/ *[\d.]*)?[ \t]+(\d{3})(?!\d)", re.IGNORECASE)
_CHUNK_SIZE = re.compile(rb"[ \t]*(?:0x)?([0-9A-Fa-f]{1,32})[ \t]*(?:;[^\r\n]*)?\r*\n")
_IDENTITY = {
    "",
    "identity",
    "none",
    "binary",
    "8bit",
    "7bit",
    "utf-8",
    "utf8",
    "iso-8859-1",
    "text",
    "text/html",
    "chunked",
    "plain",
}
_MAXIMUM_HEAD = 1 << 20  # bytes; a body without a head in front of it would be searched to its end
_MAXIMUM_HEADERS = 10_000
_MAXIMUM_HEADS = 8  # 1xx responses and a proxy's "Connection established" before the response itself
_MAXIMUM_CODINGS = 8


class Response(NamedTuple):
    """An HTTP response. Header names are in lower case; values of repeated headers are joined with ``", "``."""

    status: int
    headers: dict[str, str]
    body: bytes


def parse_response(message: bytes) -> Response:
    """Parses a response with its body still encoded. Raises ``ValueError`` where there is no status line.

    Interim responses (1xx), and a proxy's answer to CONNECT, are passed over where another response follows.
    """
    response = _parse_head(message)
    for _ in range(_MAXIMUM_HEADS):
        follows = response.body[:5].upper() == b"HTTP/"
        interim = response.status < 200 or (response.status == 200 and not _describes_content(response.headers))
        if not (follows and interim):
            break
        response = _parse_head(response.body)
    return response


def _describes_content(headers: dict[str, str]) -> bool:
    return any(name in headers for name in ("content-type", "content-length", "transfer-encoding", "content-encoding"))


def _parse_head(message: bytes) -> Response:
    end = _HEAD_END.search(message, 0, _MAXIMUM_HEAD)
    if end:
        head, body = message[: end.start()], message[end.end() :]
    elif len(message) <= _MAXIMUM_HEAD:
        head, body = message, b""
    else:
        head = message[: message.find(b"\n", 0, _MAXIMUM_HEAD)]
        raise ValueError(f"the HTTP head does not end within {_MAXIMUM_HEAD} bytes; it starts {head[:40]!r}")
    lines = head.decode("utf-8", "replace").split("\n")
    status = _STATUS.match(lines[0])
    if not status:
        raise ValueError(f"no HTTP status line, but {message[:40]!r}")
    return Response(int(status[1]), _parse_headers(lines[1:]), body)


def _parse_headers(lines: list[str]) -> dict[str, str]:
    values: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in lines[:_MAXIMUM_HEADERS]:
        if line[:1] in (" ", "\t"):
            if current:
                current[-1] += " " + line.strip(" \t\r\0")
            continue
        name, colon, value = line.partition(":")
        name = name.strip().strip("\0").lower()
        current = values.setdefault(name, []) if colon and name else None
        if current is not None:
            current.append(value.strip(" \t\r\0"))
    return {name: ", ".join(several) for name, several in values.items()}


def decode_body(response: Response, cap: int, truncated: bool = False) -> bytes:
    """The body with transfer and content coding undone, or as it is where the crawler has undone them already.

    ``cap`` is in bytes. ``truncated``: the crawler says that it cut the body off, so that what can be decoded is all
    there is. A gzip or zstd body whose coding no header names is decoded too. Raises :class:`CodingError`, whose text
    says which coding and where, or :class:`BombError`.
    """
    body = response.body
    transfer = _codings(response.headers.get("transfer-encoding", ""))
    if any(coding.partition(";")[0].strip() == "chunked" for coding in transfer):
        body = dechunk(body)
    content = _codings(response.headers.get("content-encoding", ""))
    codings = [coding for coding in (*content, *transfer) if coding not in _IDENTITY]
    if len(codings) > _MAXIMUM_CODINGS:
        raise CodingError(f"{len(codings)} codings on top of each other, more than {_MAXIMUM_CODINGS}")
    for coding in reversed(codings):
        if body:
            body = undo(coding, body, cap, truncated)
    if not codings:
        body = _undo_undeclared(body, cap, truncated)
    if len(body) > cap:
        raise BombError(f"the decoded body has {len(body)} bytes")
    return body


def _codings(header: str) -> list[str]:
    return [coding.strip().strip("\"'").lower() for coding in header.split(",")]


def _undo_undeclared(body: bytes, cap: int, truncated: bool) -> bytes:
    # No page starts with these bytes.
    for magic, coding in ((b"\x1f\x8b\x08", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd")):
        if body.startswith(magic):
            return undo(coding, body, cap, truncated)
    return body


def dechunk(body: bytes) -> bytes:
    """Undoes chunked transfer coding. A body that is not chunked stays as it is; one that ends early gives its start.

    Raises :class:`CodingError` where a later chunk makes no sense.
    """
    parts: list[bytes] = []
    position = 0
    while size := _CHUNK_SIZE.match(body, position):
        length = int(size[1], 16)
        if length == 0:
            # A page may start with a line "0"; then what follows is no trailer.
            return b"".join(parts) if parts or _is_trailer(body[size.end() :]) else body
        data = body[size.end() : size.end() + length]
        end = size.end() + len(data)
        after = body[end : end + 2]
        if not parts and (len(data) < length or (after and after[:1] not in b"\r\n")):
            return body
        parts.append(data)
        if after and after[:1] not in b"\r\n":
            raise CodingError(f"chunked: chunk {len(parts)} of {length} bytes does not end at byte {end} of the body")
        position = end + (2 if after == b"\r\n" else min(1, len(after)))
    if not parts:
        return body
    # An empty rest: the last chunk is missing, which is how many servers close.
    rest = body[position:].lstrip(b"\r\n")
    if rest and not re.fullmatch(rb"[ \t]*[0-9A-Fa-f]{0,32}[ \t]*\r*", rest):
        raise CodingError(
            f"chunked: no chunk size after chunk {len(parts)}, at byte {position} of the body, but {rest[:20]!r}"
        )
    return b"".join(parts)


def _is_trailer(rest: bytes) -> bool:
    lines = rest.replace(b"\r", b"").strip(b"\n\0").split(b"\n")
    return lines == [b""] or all(re.match(rb"[\w-]+:", line) for line in lines)
