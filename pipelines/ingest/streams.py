"""Decoded pieces of a plain, gzip or zstd shard, each with its place in the shard, and the damage between them.

A damaged gzip member or zstd frame ends in a :class:`Fault`; reading goes on at the next member whose content starts
as the caller says that members start. Memory stays bounded: one piece of about 1 MiB and a window of the raw shard.

Sources: RFC 1952 (gzip), RFC 8878 (zstd), and the WARC zstd draft of IIPC for the dictionary frame.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Generator, Iterator
from typing import BinaryIO, NamedTuple, Protocol, cast

import zstandard

GZIP_MAGIC = b"\x1f\x8b\x08"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"  # the last three bytes of a skippable frame's magic number; the first is 0x50 to 0x5f
_DICTIONARY = b"\x5d" + _SKIPPABLE

_PIECE = 1 << 20  # decoded bytes in one piece, roughly
_CHUNK = 1 << 20  # raw bytes in one read
_WINDOW = 16 << 20  # raw bytes kept to search again after damage
_TRIAL = 4096  # raw bytes that show how a member starts
_MAXIMUM_DICTIONARY = 16 << 20


class Piece(NamedTuple):
    """Decoded bytes of one member. ``offset``: where the member starts in the shard; plain: where ``data`` does."""

    data: bytes
    offset: int
    opens: bool  # the first piece of its member
    closes: bool  # the last one, and the member's check sum holds


class Fault(NamedTuple):
    """A stretch of the shard, byte ``offset`` to byte ``end``, that cannot be decoded further than its pieces."""

    offset: int
    end: int
    error: str
    truncated: bool  # the shard ends inside a member


class Source:
    """A forward-only stream with look-ahead and a bounded look back; ``offset`` is the cursor's place in the shard."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._buffer = b""
        self._base = 0
        self._position = 0
        self._ended = False
        self._held = 0

    @property
    def offset(self) -> int:
        """The cursor's place in the shard, in bytes."""
        return self._base + self._position

    def hold(self) -> None:
        """Keeps what follows the cursor, up to the window, so that :meth:`rewind` can return there."""
        self._held = self.offset

    def peek(self, size: int) -> bytes:
        """The next ``size`` bytes, fewer only where the shard ends; the cursor stays."""
        while len(self._buffer) - self._position < size and not self._ended:
            keep = max(min(self._held, self.offset) - self._base, self._position - _WINDOW, 0)
            chunk = self._stream.read(max(_CHUNK, (self._position - keep) // 4))
            self._ended = not chunk
            self._buffer = self._buffer[keep:] + (chunk or b"")
            self._base += keep
            self._position -= keep
        return self._buffer[self._position : self._position + size]

    def skip(self, size: int) -> None:
        """Moves the cursor over bytes that :meth:`peek` has shown."""
        self._position += size

    def rewind(self, offset: int) -> None:
        """Moves the cursor back to a place in the shard, or to the oldest byte still kept."""
        self._position = max(offset - self._base, 0)

    def find(self, pattern: bytes) -> bool:
        """Moves the cursor to the next ``pattern``, or to the end of the shard."""
        while True:
            at = self._buffer.find(pattern, self._position)
            if at >= 0:
                self._position = at
                return True
            self._position = max(self._position, len(self._buffer) - len(pattern) + 1)
            self._held = self.offset
            if len(self.peek(len(pattern))) < len(pattern):
                self._position = len(self._buffer)
                return False


class _Decoder(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def unconsumed_tail(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


class Codec:
    """How one compression opens its members. A codec serves one shard: it may hold that shard's dictionary."""

    def __init__(self, name: str, magic: bytes, largest_slice: int, errors: tuple[type[Exception], ...]) -> None:
        self.name = name
        self.magic = magic
        self.largest_slice = largest_slice
        self.errors = errors
        self._zstd = zstandard.ZstdDecompressor()

    def learn(self, dictionary: bytes) -> None:
        """Uses a zstd dictionary for all members from here on."""
        self._zstd = zstandard.ZstdDecompressor(dict_data=zstandard.ZstdCompressionDict(dictionary))

    def open(self) -> _Decoder:
        """A decoder for one member."""
        if self.name == "gzip":
            return cast(_Decoder, zlib.decompressobj(31))
        return cast(_Decoder, self._zstd.decompressobj())

    def copy(self, decoder: _Decoder) -> _Decoder | None:
        """A decoder in the same state, where the codec can make one."""
        return cast(_Decoder, decoder.copy()) if self.name == "gzip" else None  # type: ignore[attr-defined]


def gzip_codec() -> Codec:
    """Gzip (RFC 1952), any number of members."""
    return Codec("gzip", GZIP_MAGIC, 1 << 16, (zlib.error,))


def zstd_codec() -> Codec:
    """Zstandard (RFC 8878), any number of frames, with the dictionary of a ``.warc.zst`` file where there is one.

    Input slices are small: python-zstandard's output has no limit, and one byte can stand for 32 KiB.
    """
    return Codec("zstd", ZSTD_MAGIC, 1 << 11, (zstandard.ZstdError,))


def codec_of(head: bytes) -> Codec | None:
    """The codec of a shard that starts with ``head``; ``None``: it is not compressed, or not so that it can be read."""
    if head.startswith(GZIP_MAGIC[:2]):
        return gzip_codec()
    if head.startswith(ZSTD_MAGIC) or (head[1:4] == _SKIPPABLE and head[0] >> 4 == 5):
        return zstd_codec()
    return None


def plain_pieces(source: Source) -> Iterator[Piece | Fault]:
    """The pieces of a shard that is not compressed: one member that never closes."""
    opens = True
    while data := source.peek(_CHUNK):
        offset = source.offset
        source.skip(len(data))
        source.hold()
        yield Piece(data, offset, opens, False)
        opens = False


def compressed_pieces(source: Source, codec: Codec, starts: Callable[[bytes], bool]) -> Iterator[Piece | Fault]:
    """The pieces of a compressed shard; after damage, from the next member whose first bytes ``starts`` accepts."""
    slice_size = codec.largest_slice
    while source.peek(1):
        source.hold()
        if codec.name == "zstd" and _pass_skippable(source, codec):
            continue
        start = source.offset
        failure = yield from _member(source, codec, slice_size)
        if failure is None:
            slice_size = min(max((source.offset - start) * 2, 1024), codec.largest_slice)
            continue
        error, truncated = failure
        source.rewind(start + 1)
        found = find_member(source, codec, starts)
        yield Fault(start, source.offset, error, truncated and not found)


def _member(source: Source, codec: Codec, slice_size: int) -> Generator[Piece, None, tuple[str, bool] | None]:
    """Yields the pieces of the member at the cursor; returns what is wrong with it and whether the shard ends in it."""
    start = source.offset
    raw = source.peek(slice_size)
    if not raw.startswith(codec.magic) and not codec.magic.startswith(raw):
        return f"no {codec.name} member starts here", False
    decoder = codec.open()
    parts: list[bytes] = []
    size = 0
    opens = True
    failure: tuple[str, bool] | None = None
    while True:
        # zlib gives nothing of a call that fails; decoding again from the state before shows how far the data go.
        before = codec.copy(decoder) if parts or not opens else None
        try:
            data = decoder.decompress(raw, _PIECE) if codec.name == "gzip" else decoder.decompress(raw)
        except codec.errors as error:
            failure = str(error), False
            parts.append(_as_far_as_it_goes(raw, codec, before or (codec.open() if opens and not parts else None)))
            break
        source.skip(len(raw) - len(decoder.unused_data if decoder.eof else decoder.unconsumed_tail))
        if not raw and not data and not decoder.eof:
            failure = f"the shard ends inside a {codec.name} member", True
            break
        parts.append(data)
        if decoder.eof:
            break
        raw = source.peek(slice_size)
        size += len(data)
        if size >= _PIECE:
            yield Piece(b"".join(parts), start, opens, False)
            parts, size, opens = [], 0, False
    if parts or failure is None:
        yield Piece(b"".join(parts), start, opens, failure is None)
    return failure


def _as_far_as_it_goes(raw: bytes, codec: Codec, decoder: _Decoder | None) -> bytes:
    if decoder is None:
        return b""
    parts: list[bytes] = []
    step = 64
    try:
        for at in range(0, len(raw), step):
            parts.append(decoder.decompress(raw[at : at + step]))
    except codec.errors:
        pass
    return b"".join(parts)


def find_member(source: Source, codec: Codec, starts: Callable[[bytes], bool]) -> bool:
    """Moves the cursor to the next member that starts as it should, or to the end of the shard."""
    while source.find(codec.magic):
        raw = source.peek(_TRIAL)
        extra = codec.name == "gzip" and len(raw) > 3 and raw[3] & 4
        if starts(first_bytes(source.peek(_TRIAL + 65_536) if extra else raw, codec)):
            return True
        source.skip(1)
    return False


def first_bytes(raw: bytes, codec: Codec, size: int = 512) -> bytes:
    """The first decoded bytes of the member with which ``raw`` starts, as far as it can be decoded."""
    decoder = codec.open()
    decoded = b""
    try:
        if codec.name == "gzip":
            return decoder.decompress(raw, size)
        for at in range(len(raw)):
            if decoder.eof or len(decoded) >= size:
                break
            decoded += decoder.decompress(raw[at : at + 1])
    except codec.errors:
        pass
    return decoded[:size]


def _pass_skippable(source: Source, codec: Codec) -> bool:
    """Moves the cursor over a skippable frame, and takes the dictionary out of it where it holds one."""
    head = source.peek(8)
    if len(head) < 8 or head[1:4] != _SKIPPABLE or head[0] >> 4 != 5:
        return False
    length = int.from_bytes(head[4:8], "little")
    if source.offset == 0 and head.startswith(_DICTIONARY) and length <= _MAXIMUM_DICTIONARY:
        content = source.peek(8 + length)[8:]
        if content.startswith(ZSTD_MAGIC):
            content = zstandard.ZstdDecompressor().decompressobj().decompress(content)
        codec.learn(content)
    length += 8
    while length and (raw := source.peek(min(length, _CHUNK))):
        source.skip(len(raw))
        source.hold()
        length -= len(raw)
    return True
