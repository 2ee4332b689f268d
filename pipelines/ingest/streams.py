"""Decoded pieces of a plain or compressed shard, each with its place in the shard, and the damage between them.

A damaged member (gzip) or frame (zstd, LZ4) ends in a :class:`Fault`; reading goes on at the next member whose content
starts as the caller says that members start. Memory stays bounded: one piece and a window of the raw shard.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

from pipelines.ingest.compression import Codec, skippable_length
from pipelines.ingest.source import Source

_PIECE = 1 << 20  # decoded bytes in one piece, roughly
_CHUNK = 1 << 20  # raw bytes in one plain piece
_TRIAL = 4096  # raw bytes that show how a member starts
_TRIAL_STEP = 64
# Raw bytes of damaged members that overlap which are looked through again for members in them. Without a bound, each
# byte could be decoded thousands of times.
_AGAIN = 1 << 20


class Piece(NamedTuple):
    """Decoded bytes of one member. ``offset``: where the member starts in the shard; plain: where ``data`` does."""

    data: bytes
    offset: int
    end: int  # where the raw bytes of the piece end in the shard
    opens: bool  # the first piece of its member
    closes: bool  # the last one, and the member's check sum holds


class Fault(NamedTuple):
    """A stretch of the shard, byte ``offset`` to byte ``end``, that cannot be decoded further than its pieces."""

    offset: int
    end: int
    error: str
    truncated: bool  # the shard ends inside a member


class _Failure(NamedTuple):
    error: str
    truncated: bool  # the shard ends inside the member
    reached: int  # how far its raw bytes could be decoded, as a place in the shard


def plain_pieces(source: Source) -> Iterator[Piece | Fault]:
    """The pieces of a shard that is not compressed: one member that never closes."""
    opens = True
    while data := source.peek(_CHUNK):
        offset = source.offset
        source.skip(len(data))
        source.hold()
        yield Piece(data, offset, source.offset, opens, False)
        opens = False


def compressed_pieces(source: Source, codec: Codec, starts: Callable[[bytes], bool]) -> Iterator[Piece | Fault]:
    """The pieces of a compressed shard; after damage, from the next member whose first bytes ``starts`` accepts."""
    magic = re.compile(re.escape(codec.magic))
    again = furthest = 0
    while True:
        start = source.offset
        raw = source.up_to(magic, codec.at_once)
        if raw is not None and len(raw) > 8 and (data := codec.whole(raw)) is not None:
            source.skip(len(raw))
            yield Piece(data, start, source.offset, True, True)
            continue
        if not source.peek(1):
            return
        source.hold()
        if codec.name != "gzip" and _pass_skippable(source):
            continue
        failure = yield from _member(source, codec)
        if failure is not None:
            error, truncated, reached = failure
            again = again + min(furthest, reached) - start if start < furthest else 0
            furthest = max(furthest, reached)
            source.move(start + 1 if again <= _AGAIN else max(start + 1, reached))
            found = find_member(source, codec, starts)
            yield Fault(start, source.offset, error, truncated and not found)


def _member(source: Source, codec: Codec) -> Generator[Piece, None, _Failure | None]:
    """Yields the pieces of the member at the cursor; returns what is wrong with it."""
    start = source.offset
    raw = source.peek(codec.slice)
    if not raw.startswith(codec.magic) and not codec.magic.startswith(raw):
        return _Failure(f"no {codec.name} member starts here", False, start)
    decoder = codec.open()
    parts: list[bytes] = []
    size = 0
    opens = True
    failure: _Failure | None = None
    while True:
        # zlib gives nothing of a call that fails; decoding again from the state before shows how far the data go.
        before = codec.copy(decoder) if parts or not opens else None
        try:
            data, taken = codec.feed(decoder, raw, _PIECE)
        except codec.errors as error:
            before = before or (codec.open() if opens and not parts else None)
            data, taken = _as_far_as_it_goes(raw, codec, before)
            failure = _Failure(str(error), False, source.offset + taken)
            parts.append(data)
            break
        source.skip(taken)
        if not raw and not data and not decoder.eof:
            failure = _Failure(f"the shard ends inside a {codec.name} member", True, source.offset)
            break
        parts.append(data)
        if decoder.eof:
            break
        raw = source.peek(codec.slice)
        size += len(data)
        if size >= _PIECE:
            yield Piece(b"".join(parts), start, source.offset, opens, False)
            parts, size, opens = [], 0, False
    if parts or failure is None:
        yield Piece(b"".join(parts), start, source.offset, opens, failure is None)
    return failure


def _as_far_as_it_goes(raw: bytes, codec: Codec, decoder: Any) -> tuple[bytes, int]:
    """What can be decoded, in small steps, and how many raw bytes it was made of."""
    if decoder is None:
        return b"", 0
    parts: list[bytes] = []
    at = 0
    try:
        while at < len(raw):
            parts.append(codec.feed(decoder, raw[at : at + _TRIAL_STEP], _PIECE)[0])
            at += _TRIAL_STEP
    except codec.errors:
        pass
    return b"".join(parts), min(at, len(raw))


def find_member(source: Source, codec: Codec, starts: Callable[[bytes], bool], limit: int | None = None) -> bool:
    """Moves the cursor to the next member that starts as it should, or to the end of the shard.

    ``limit``: a place in the shard; a member that begins there or later is not looked for.
    """
    while source.find(codec.magic, limit):
        if starts(first_bytes(source.peek(_TRIAL), codec)):
            return True
        source.skip(1)
    return False


def first_bytes(raw: bytes, codec: Codec, size: int = 512) -> bytes:
    """The first decoded bytes of the member with which ``raw`` starts, as far as it can be decoded."""
    decoder = codec.open()
    decoded = b""
    step = len(raw) if codec.name == "gzip" else _TRIAL_STEP  # the others cannot be told how much to give
    try:
        for at in range(0, len(raw), step):
            if decoder.eof or len(decoded) >= size:
                break
            decoded += codec.feed(decoder, raw[at : at + step], size)[0]
    except codec.errors:
        pass
    return decoded[:size]


def _pass_skippable(source: Source) -> bool:
    """Moves the cursor over a skippable frame, whose content is the codec's own matter."""
    length = skippable_length(source.peek(8))
    left = length
    while left and (raw := source.peek(min(left, _CHUNK))):
        source.skip(len(raw))
        source.hold()
        left -= len(raw)
    return length > 0
