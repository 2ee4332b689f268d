"""The HTTP response in a WARC record: head, transfer and content coding; tolerant of what servers and crawlers write.

Sources: RFC 9112 (HTTP/1.1 messages, chunked coding), RFC 9110 section 8.4 (content codings).
"""

from __future__ import annotations

import re
import zlib
from typing import NamedTuple

import brotli  # type: ignore[import-untyped]
import zstandard

_HEAD_END = re.compile(rb"\r?\n[ \t]*\r?\n")
_STATUS = re.compile(r"\s*HTTP/?[\d.]*\s+(\d{3})(?!\d)", re.IGNORECASE)
_CHUNK_SIZE = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")
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
    "chunked",
    "plain",
}
_STEP = 1 << 16


class Response(NamedTuple):
    """An HTTP response. Header names are in lower case; values of repeated headers are joined with ``", "``."""

    status: int
    headers: dict[str, str]
    body: bytes


class CodingError(ValueError):
    """A content coding cannot be undone."""


class BombError(ValueError):
    """The body grows over the cap when it is decoded."""


def parse_response(message: bytes) -> Response:
    """Parses a response with its body still encoded. Raises ``ValueError`` where there is no status line."""
    end = _HEAD_END.search(message)
    head, body = (message[: end.start()], message[end.end() :]) if end else (message, b"")
    lines = head.decode("utf-8", "replace").split("\n")
    status = _STATUS.match(lines[0])
    if not status:
        raise ValueError(f"no HTTP status line, but {message[:40]!r}")
    headers: dict[str, str] = {}
    name = ""
    for line in lines[1:]:
        if line[:1] in (" ", "\t") and name:
            headers[name] += " " + line.strip()
            continue
        name, colon, value = line.partition(":")
        name = name.strip().lower()
        if not colon:
            name = ""
        elif name in headers:
            headers[name] += ", " + value.strip()
        else:
            headers[name] = value.strip()
    return Response(int(status[1]), headers, body)


def decode_body(response: Response, cap: int, truncated: bool = False) -> bytes:
    """The body with transfer and content coding undone, or as it is where the crawler has undone them already.

    ``cap`` is in bytes. ``truncated``: the crawler says that it cut the body off, so that what can be decoded is all
    there is. Raises :class:`CodingError` or :class:`BombError`.
    """
    body = response.body
    if "chunked" in response.headers.get("transfer-encoding", "").lower():
        body = dechunk(body)
    codings = [c.strip().lower() for c in response.headers.get("content-encoding", "").split(",")]
    for coding in reversed(codings[:8]):
        if coding not in _IDENTITY and body:
            body = _undo(coding, body, cap, truncated)
    if len(body) > cap:
        raise BombError(f"the decoded body has {len(body)} bytes")
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
            return b"".join(parts)
        data = body[size.end() : size.end() + length]
        position = size.end() + len(data)
        after = body[position : position + 2]
        if not parts and (len(data) < length or (after and after[:1] not in b"\r\n")):
            return body
        parts.append(data)
        if after and after[:1] not in b"\r\n":
            raise CodingError(f"chunk {len(parts)} does not end where it should")
        position += 2 if after == b"\r\n" else min(1, len(after))
    if not parts:
        return body
    if body[position:].strip(b"\r\n"):
        raise CodingError(f"no chunk size after chunk {len(parts)}")
    return b"".join(parts)


def _undo(coding: str, body: bytes, cap: int, truncated: bool) -> bytes:
    if coding in ("gzip", "x-gzip"):
        if not body.startswith(b"\x1f\x8b"):
            return _already_decoded(coding, body)
        return _inflate(body, 31, cap, truncated)
    if coding == "deflate":
        return _deflate(body, cap, truncated)
    if coding == "br":
        return _brotli(body, cap, truncated)
    if coding == "zstd":
        if not body.startswith(b"\x28\xb5\x2f\xfd"):
            return _already_decoded(coding, body)
        return _zstd(body, cap, truncated)
    return _already_decoded(coding, body)


def _already_decoded(coding: str, body: bytes) -> bytes:
    if looks_binary(body):
        raise CodingError(f"content coding {coding!r} cannot be undone")
    return body


def looks_binary(body: bytes) -> bool:
    """Whether the first bytes hold a control character that no text has (WHATWG MIME Sniffing, section 3)."""
    if body.startswith((b"\xff\xfe", b"\xfe\xff")):
        return False
    return bool(re.search(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]", body[:1445]))


def _inflate(body: bytes, window: int, cap: int, truncated: bool) -> bytes:
    parts: list[bytes] = []
    size = 0
    while body:
        decoder = zlib.decompressobj(window)
        try:
            while body and not decoder.eof:
                data = decoder.decompress(body, cap - size + 1)
                parts.append(data)
                size += len(data)
                if size > cap:
                    raise BombError(f"the decoded body has more than {cap} bytes")
                body = decoder.unconsumed_tail
        except zlib.error as error:
            if truncated and size:
                break
            raise CodingError(str(error)) from error
        if not decoder.eof:
            if truncated and size:
                break
            raise CodingError("the compressed body ends early")
        # Members may follow one another; padding and other bytes after the last one are no part of the content.
        body = decoder.unused_data if decoder.unused_data.startswith(b"\x1f\x8b") else b""
    return b"".join(parts)


def _deflate(body: bytes, cap: int, truncated: bool) -> bytes:
    # "deflate" is the zlib format; some servers send raw deflate data (RFC 9110, section 8.4.1.2).
    for window in (15, -15):
        try:
            return _inflate(body, window, cap, truncated)
        except CodingError:
            continue
    return _already_decoded("deflate", body)


def _brotli(body: bytes, cap: int, truncated: bool) -> bytes:
    decoder = brotli.Decompressor()
    decoded = bytearray()
    try:
        decoded += decoder.process(body, output_buffer_limit=_STEP)
        while not decoder.is_finished() and not decoder.can_accept_more_data() and len(decoded) <= cap:
            decoded += decoder.process(b"", output_buffer_limit=_STEP)
    except brotli.error:
        if truncated and decoded:
            return bytes(decoded)
        return _already_decoded("br", body)
    if len(decoded) > cap:
        raise BombError(f"the decoded body has more than {cap} bytes")
    if not decoder.is_finished() and not truncated:
        return _already_decoded("br", body)
    return bytes(decoded)


def _zstd(body: bytes, cap: int, truncated: bool) -> bytes:
    decoded = bytearray()
    complete = False
    try:
        while body.startswith(b"\x28\xb5\x2f\xfd"):
            decoder = zstandard.ZstdDecompressor().decompressobj()
            # Small slices: the output of a call has no limit, and one byte can stand for 32 KiB.
            for at in range(0, len(body), 1024):
                decoded += decoder.decompress(body[at : at + 1024])
                if len(decoded) > cap:
                    raise BombError(f"the decoded body has more than {cap} bytes")
                if decoder.eof:
                    break
            complete = decoder.eof
            body = decoder.unused_data + body[at + 1024 :] if complete else b""
    except zstandard.ZstdError as error:
        if not (truncated and decoded):
            raise CodingError(str(error)) from error
    if not complete and not truncated:
        raise CodingError("the compressed body ends early")
    return bytes(decoded)
