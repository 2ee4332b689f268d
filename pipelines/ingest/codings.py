"""Undoes one content coding in bounded memory: gzip, deflate, br, zstd (RFC 9110, section 8.4.1; RFC 8878; RFC 7932).

undo("gzip", body, cap=64 << 20)
"""

from __future__ import annotations

import re
import zlib

import brotli  # type: ignore[import-untyped]
import zstandard

_STEP = 1 << 16
_GZIP = b"\x1f\x8b"
_ZSTD_STEP = 64
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")
# RFC 8878 lets a decoder refuse larger windows than 8 MiB; files made with --long have some of 128 MiB.
_ZSTD_WINDOW = 1 << 27
# Each member costs a decoder. Block gzip of a page at the default cap has 1,000.
_MAXIMUM_MEMBERS = 10_000
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")


class CodingError(ValueError):
    """A coding cannot be undone; the text says which one, and at which byte."""


class BombError(ValueError):
    """The body grows over the cap when it is decoded."""


class _EarlyEndError(CodingError):
    pass


def undo(coding: str, body: bytes, cap: int, truncated: bool = False) -> bytes:
    """The body with one coding (in lower case) undone, or as it is where it is text already.

    ``cap``: the most bytes that may come of it. ``truncated``: a body that ends early gives what could be decoded.
    Raises :class:`CodingError` or :class:`BombError`.
    """
    if coding in ("gzip", "x-gzip"):
        return _gzip(coding, body, cap, truncated)
    if coding in ("deflate", "x-deflate", "zlib"):
        return _deflate(body, cap, truncated)
    if coding == "br":
        return _brotli(body, cap, truncated)
    if coding in ("zstd", "x-zstd"):
        return _zstd(body, cap, truncated) if body.startswith(_ZSTD) else _already_decoded(coding, body)
    return _already_decoded(coding, body)


def looks_binary(body: bytes) -> bool:
    """Whether the first bytes hold a control character that no text has (WHATWG MIME Sniffing, section 3)."""
    return not body.startswith((b"\xff\xfe", b"\xfe\xff")) and _CONTROL.search(body[:1445]) is not None


def _already_decoded(coding: str, body: bytes, why: str = "") -> bytes:
    if looks_binary(body):
        raise CodingError(f"content coding {coding!r} cannot be undone: " + (why or f"it starts with {body[:8]!r}"))
    return body


def _gzip(coding: str, body: bytes, cap: int, truncated: bool) -> bytes:
    if body.startswith(_GZIP):
        return _inflate("gzip", body, 31, cap, truncated)
    # Some servers say gzip and send the zlib format.
    if body[:1] == b"\x78" and len(body) > 2 and int.from_bytes(body[:2], "big") % 31 == 0 and _CONTROL.search(body):
        return _inflate("gzip (zlib)", body, 15, cap, truncated)
    return _already_decoded(coding, body)


def _inflate(coding: str, body: bytes, window: int, cap: int, truncated: bool) -> bytes:
    decoded = bytearray()
    position = members = 0
    # Members may follow one another; padding and other bytes after the last one are no part of the content.
    while position < len(body) and (not members or (window == 31 and body.startswith(_GZIP, position))):
        members += 1
        if members > _MAXIMUM_MEMBERS:
            raise CodingError(f"{coding}: more than {_MAXIMUM_MEMBERS} members, at byte {position} of the body")
        decoder = zlib.decompressobj(window)
        try:
            while position < len(body) and not decoder.eof:
                decoded += decoder.decompress(body[position : position + _STEP], cap - len(decoded) + 1)
                if len(decoded) > cap:
                    raise BombError(f"the decoded body has more than {cap} bytes")
                position = min(position + _STEP, len(body)) - len(decoder.unused_data)
        except zlib.error as error:
            if truncated and decoded:
                break
            place = f"near byte {position} of the body, after {len(decoded)} decoded bytes"
            raise CodingError(f"{coding}: {error}, {place}") from error
        if not decoder.eof and not (truncated and decoded):
            place = f"at byte {len(body)}, after {len(decoded)} decoded bytes"
            raise _EarlyEndError(f"{coding}: the body ends early, {place}")
    return bytes(decoded)


def _deflate(body: bytes, cap: int, truncated: bool) -> bytes:
    # "deflate" is the zlib format; some servers send raw deflate data (RFC 9110, section 8.4.1.2), some gzip.
    if body.startswith(_GZIP):
        return _inflate("deflate (gzip)", body, 31, cap, truncated)
    problem: CodingError | None = None
    for window in (15, -15):
        try:
            return _inflate("deflate", body, window, cap, truncated)
        except CodingError as error:
            problem = error if problem is None or isinstance(error, _EarlyEndError) else problem
    return _already_decoded("deflate", body, str(problem))


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
        return _already_decoded("br", body, f"the data is broken after {len(decoded)} decoded bytes")
    if len(decoded) > cap:
        raise BombError(f"the decoded body has more than {cap} bytes")
    if not decoder.is_finished() and not (truncated and decoded):
        return _already_decoded("br", body, f"the body ends early, after {len(decoded)} decoded bytes")
    return bytes(decoded)


def _zstd(body: bytes, cap: int, truncated: bool) -> bytes:
    decoded = bytearray()
    position = frames = 0
    complete = False
    try:
        while body.startswith(_ZSTD, position):
            frames += 1
            if frames > _MAXIMUM_MEMBERS:
                raise CodingError(f"zstd: more than {_MAXIMUM_MEMBERS} frames, at byte {position} of the body")
            decoder = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
            # Small slices: the output of a call has no limit, and four bytes can stand for 128 KiB.
            while position < len(body) and not decoder.eof:
                decoded += decoder.decompress(body[position : position + _ZSTD_STEP])
                if len(decoded) > cap:
                    raise BombError(f"the decoded body has more than {cap} bytes")
                position = min(position + _ZSTD_STEP, len(body)) - len(decoder.unused_data)
            complete = decoder.eof
            while _ZSTD_SKIPPABLE.match(body, position):
                position += 8 + int.from_bytes(body[position + 4 : position + 8], "little")
    except zstandard.ZstdError as error:
        if not (truncated and decoded):
            place = f"near byte {position} of the body, after {len(decoded)} decoded bytes"
            raise CodingError(f"zstd: {error}, {place}") from error
        complete = True
    if not complete and not (truncated and decoded):
        raise CodingError(f"zstd: the body ends early, at byte {len(body)}, after {len(decoded)} decoded bytes")
    return bytes(decoded)
