"""A shard's raw bytes: a stream with look-ahead, look-back and search."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import BinaryIO

_CHUNK = 1 << 20  # raw bytes in one read
_WINDOW = 16 << 20  # raw bytes kept to search again after damage, where the stream cannot seek


class Source:
    """A stream with a cursor that can look ahead, and back: anywhere if the stream can seek, else some 16 MiB.

    ``begin``: the cursor's first place in the shard; other than 0 needs a stream that can seek. ``origin``: where the
    stream's first byte lies in the shard.
    """

    def __init__(self, stream: BinaryIO, begin: int = 0, origin: int = 0) -> None:
        self._stream = stream
        self._seekable = stream.seekable()
        self._set(b"")
        self._origin = origin
        self._base = begin + origin
        self._position = 0
        self._ended = False
        self._held = 0
        if begin:
            stream.seek(begin)

    def _set(self, buffer: bytes) -> None:
        self._buffer = buffer
        self._view = memoryview(buffer)
        self._matches: list[int] = []  # places in the buffer that `up_to` found
        self._searched = (0, 0)  # between which indices it looked

    @property
    def offset(self) -> int:
        """The cursor's place in the shard, in bytes."""
        return self._base + self._position

    @property
    def seekable(self) -> bool:
        """Whether :meth:`move` reaches every place."""
        return self._seekable

    def hold(self) -> None:
        """Keeps what follows the cursor, up to the window, so that :meth:`move` can return there."""
        self._held = self.offset

    def peek(self, size: int) -> bytes:
        """The next ``size`` bytes, fewer only where the shard ends; the cursor stays."""
        if len(self._buffer) - self._position < size:
            self._load(size)
        return self._buffer[self._position : self._position + size]

    def up_to(self, pattern: re.Pattern[bytes], most: int) -> memoryview | None:
        """The bytes from the cursor to the next match behind it, or to the shard's end; None if over ``most``.

        All calls give the same pattern; a match has at most 16 bytes.
        """
        position = self._position
        if len(self._buffer) - position < most + 16 and not self._ended:
            self.hold()
            self._load(most + 16)
            position = self._position
        begin, end = self._searched
        if position < begin or (position + most + 16 > end and end < len(self._buffer)):
            # A stretch at once: searching anew for each member takes several times as long.
            end = min(position + most + _CHUNK, len(self._buffer))
            self._matches = [match.start() for match in pattern.finditer(self._buffer, position, end)]
            self._searched = (position, end)
        following = bisect_right(self._matches, position)
        at = self._matches[following] if following < len(self._matches) else len(self._buffer)
        return self._view[position:at] if at - position <= most else None

    def _load(self, size: int) -> None:
        while len(self._buffer) - self._position < size and not self._ended:
            keep = max(min(self._held, self.offset) - self._base, self._position - _WINDOW, 0)
            chunk = self._stream.read(max(_CHUNK, (self._position - keep) // 4))
            self._ended = not chunk
            self._set(self._buffer[keep:] + (chunk or b""))
            self._base += keep
            self._position -= keep

    def skip(self, size: int) -> None:
        """Moves the cursor over bytes that :meth:`peek` has shown."""
        self._position += size

    def move(self, offset: int) -> None:
        """Moves the cursor to a place in the shard; if the stream cannot seek, to the nearest byte still kept."""
        at = offset - self._base
        if 0 <= at <= len(self._buffer):
            self._position = at
        elif self._seekable:
            self._stream.seek(offset - self._origin)
            self._set(b"")
            self._base, self._position, self._held = offset, 0, offset
            self._ended = False
        else:
            self._position = 0 if at < 0 else len(self._buffer)

    def find(self, pattern: bytes, limit: int | None = None) -> bool:
        """Moves the cursor to the next ``pattern``, or to the end of the shard, or to ``limit`` if none begins before.

        ``limit`` is a place in the shard. Where the pattern is not found, the cursor may stand beyond the limit.
        """
        while True:
            at = self._buffer.find(pattern, self._position)
            if at >= 0 and (limit is None or self._base + at < limit):
                self._position = at
                return True
            self._position = max(self._position, len(self._buffer) - len(pattern) + 1)
            self._held = self.offset
            if at >= 0 or (limit is not None and self.offset >= limit):
                return False
            if len(self.peek(len(pattern))) < len(pattern):
                self._position = len(self._buffer)
                return False
