"""How shards are compressed: gzip (RFC 1952), zstd (RFC 8878) and LZ4 (its frame format), one codec each.

A codec opens decoders for single members (gzip) or frames (zstd, LZ4), and decodes small ones in one call, which is
several times faster. ``.warc.zst`` may begin with a dictionary frame (IIPC's draft of the format).
"""

from __future__ import annotations

import zlib
from typing import Any

import deflate
import lz4.frame
import zstandard

_SKIPPABLE = b"\x2a\x4d\x18"  # the last three bytes of a skippable frame's magic number; the first is 0x50 to 0x5f
_DICTIONARY = b"\x5d" + _SKIPPABLE
_MAXIMUM_DICTIONARY = 16 << 20
_LARGEST_AT_ONCE = 64 << 20  # decoded bytes
_GREATEST_RATIO = 1032  # of deflate (https://zlib.net/zlib_tech.html)


class Codec:
    """One compression. A codec serves one shard: it may hold that shard's dictionary."""

    name: str
    magic: bytes
    errors: tuple[type[Exception], ...]
    slice: int  # raw bytes to feed at a time; small where the output of a call cannot be bounded
    at_once: int  # raw bytes that :meth:`whole` takes at most

    def open(self) -> Any:
        """A decoder for one member, with the attributes ``eof`` and ``unused_data``."""
        raise NotImplementedError

    def feed(self, decoder: Any, raw: bytes, most: int) -> tuple[bytes, int]:
        """Decodes on; gives the decoded bytes, about ``most`` of them, and how many of ``raw`` were taken."""
        data = decoder.decompress(raw)
        return data, len(raw) - (len(decoder.unused_data or b"") if decoder.eof else 0)

    def copy(self, decoder: Any) -> Any:
        """A decoder in the same state, or None where the codec can make none."""
        return None

    def whole(self, raw: memoryview) -> bytes | None:
        """The content of a member that ``raw`` is all of, its check sum verified, or None: decode it step by step.

        ``raw`` is small enough for its content to be held, whatever that may be.
        """
        raise NotImplementedError

    def learn(self, head: bytes) -> None:
        """Takes the dictionary out of a shard that starts with ``head``, where there is one."""


class Gzip(Codec):
    """Gzip, any number of members."""

    name = "gzip"
    magic = b"\x1f\x8b\x08"
    errors = (zlib.error,)
    slice = 1 << 16
    at_once = 1 << 19

    def open(self) -> Any:
        """A decoder for one member."""
        return zlib.decompressobj(31)

    def feed(self, decoder: Any, raw: bytes, most: int) -> tuple[bytes, int]:
        """Decodes on."""
        data = decoder.decompress(raw, most)
        return data, len(raw) - len(decoder.unused_data if decoder.eof else decoder.unconsumed_tail)

    def copy(self, decoder: Any) -> Any:
        """A decoder in the same state."""
        return decoder.copy()

    def whole(self, raw: memoryview) -> bytes | None:
        """A member's last four bytes are its content's length, so that bytes behind the member show as well."""
        size = int.from_bytes(raw[-4:], "little")
        if not 0 < size <= min(len(raw) * _GREATEST_RATIO, _LARGEST_AT_ONCE):
            return None
        try:
            data = deflate.gzip_decompress(raw, size)
        except deflate.DeflateError:
            return None
        return bytes(data) if len(data) == size else None


class Zstd(Codec):
    """Zstandard, any number of frames, with the dictionary of a ``.warc.zst`` file where there is one."""

    name = "zstd"
    magic = b"\x28\xb5\x2f\xfd"
    errors = (zstandard.ZstdError,)
    slice = 1 << 11  # one byte can stand for 32 KiB
    at_once = 1 << 19

    def __init__(self) -> None:
        self._zstd = zstandard.ZstdDecompressor()

    def open(self) -> Any:
        """A decoder for one frame."""
        return self._zstd.decompressobj()

    def whole(self, raw: memoryview) -> bytes | None:
        """Only for frames that tell the length of their content."""
        try:
            if not 0 < zstandard.frame_content_size(raw) <= _LARGEST_AT_ONCE:
                return None
            return self._zstd.decompress(raw, allow_extra_data=False)
        except zstandard.ZstdError:
            return None

    def learn(self, head: bytes) -> None:
        """Takes the dictionary out of the first frame."""
        length = int.from_bytes(head[4:8], "little")
        if not head.startswith(_DICTIONARY) or length > _MAXIMUM_DICTIONARY or len(head) < 8 + length:
            return
        content = head[8 : 8 + length]
        if content.startswith(self.magic):
            try:
                plain = zstandard.ZstdDecompressor().decompressobj()
                content = b"".join(plain.decompress(content[at : at + 1024]) for at in range(0, len(content), 1024))
            except zstandard.ZstdError:
                return
        try:
            self._zstd = zstandard.ZstdDecompressor(dict_data=zstandard.ZstdCompressionDict(content))
        except zstandard.ZstdError:  # a dictionary with damage in it
            return


class Lz4(Codec):
    """LZ4 in its frame format, any number of frames."""

    name = "lz4"
    magic = b"\x04\x22\x4d\x18"
    errors = (RuntimeError, EOFError)
    slice = 1 << 12  # one byte can stand for 255
    at_once = 1 << 17

    def open(self) -> Any:
        """A decoder for one frame."""
        return lz4.frame.LZ4FrameDecompressor()

    def whole(self, raw: memoryview) -> bytes | None:
        """LZ4 tells how far it has read."""
        try:
            data, read = lz4.frame.decompress(raw, return_bytearray=False, return_bytes_read=True)
        except RuntimeError:
            return None
        return data if read == len(raw) else None


def codec_of(head: bytes) -> Codec | None:
    """The codec of a shard that starts with ``head``; ``None``: it is not compressed, or not so that it can be read."""
    if head.startswith(Gzip.magic[:2]):
        return Gzip()
    if head.startswith(Lz4.magic):
        return Lz4()
    if head.startswith(Zstd.magic) or skippable_length(head):
        return Zstd()
    return None


def dictionary_bytes(head: bytes) -> int:
    """How many bytes of the shard hold its zstd dictionary; 0: it has none, or one that is too large."""
    length = skippable_length(head) if head.startswith(_DICTIONARY) else 0
    return length if length <= _MAXIMUM_DICTIONARY + 8 else 0


def skippable_length(head: bytes) -> int:
    """The length of the skippable frame (RFC 8878, section 3.1.2) that ``head`` starts with; 0: it starts with none."""
    if len(head) < 8 or head[1:4] != _SKIPPABLE or head[0] >> 4 != 5:
        return 0
    return 8 + int.from_bytes(head[4:8], "little")
