"""The members of a ZIP file: from its directory, or from their own headers where there is none. Memory is bounded.

``zipfile`` holds the whole directory, and opens nothing without one.

Source: APPNOTE.TXT 6.3.10 (PKWARE), sections 4.3 to 4.5.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple, cast

STORED, DEFLATED = 0, 8
ENCRYPTED = 0x0001 | 0x0040 | 0x2000  # flags
_SIZES_FOLLOW = 0x0008
_UTF8 = 0x0800
_FULL = 0xFFFFFFFF
_CHUNK = 1 << 16

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR_64 = struct.Struct("<4sIQI")
_DESCRIPTORS = (struct.Struct("<3I"), struct.Struct("<I2Q"))
_MEMBER_MARK = b"PK\x03\x04"
_DESCRIPTOR_MARK = b"PK\x07\x08"
_MARKS = re.compile(rb"PK\x03\x04|PK\x01\x02|PK\x06\x06|PK\x05\x06")


class Member(NamedTuple):
    """A file in a ZIP file as a header describes it; sizes and places in bytes."""

    name: str
    flags: int
    method: int
    crc32: int | None  # None: not known
    compressed: int
    size: int | None
    header: int  # where its local header is
    data: int | None = None  # where its data begin; None: as its local header says
    end: int | None = None


class Window(io.RawIOBase):
    """The bytes ``begin`` to ``end`` of a stream that can seek, as a stream that can seek; position 0 is ``begin``."""

    def __init__(self, stream: BinaryIO, begin: int, end: int) -> None:
        super().__init__()
        self._stream = stream
        self._begin = begin
        self._size = max(end - begin, 0)
        self._position = 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position in the window."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves to a position in the window; one behind its end reads nothing."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(start + offset, 0)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fills a buffer as far as the stream gives bytes at once."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def read(self, size: int | None = -1) -> bytes:
        """At most ``size`` bytes, or all that the stream gives at once; none only at the end."""
        left = max(self._size - self._position, 0)
        wanted = left if size is None or size < 0 else min(size, left)
        if not wanted:
            return b""
        if self._stream.tell() != self._begin + self._position:
            self._stream.seek(self._begin + self._position)
        data = self._stream.read(wanted)
        self._position += len(data)
        return data


def listed_members(stream: BinaryIO, size: int) -> Iterator[Member | None]:
    """The members in the directory of a file of ``size`` bytes; ``None`` where it is missing or breaks off."""
    found = _find_directory(stream, size)
    if found is None:
        yield None
        return
    begin, end, shift = found
    source = io.BufferedReader(Window(stream, begin, end), _CHUNK)
    while head := source.read(_CENTRAL.size):
        if len(head) < _CENTRAL.size or not head.startswith(b"PK\x01\x02"):
            yield None
            return
        (_, _, _, flags, method, _, _, crc32, *sizes, name_size, extra_size, comment_size, _, _, _, header) = (
            _CENTRAL.unpack(head)
        )
        name, extra = source.read(name_size), source.read(extra_size)
        source.read(comment_size)
        compressed, plain = sizes
        plain, compressed, header = _wide(extra, plain, compressed, header)
        yield Member(_name(name, flags), flags, method, crc32, compressed, plain, header + shift)


def found_members(stream: BinaryIO, size: int) -> Iterator[Member]:
    """The members whose local headers are found in a file of ``size`` bytes, for one without a directory.

    All have ``data`` and ``end``. Where sizes follow the data (section 4.3.9), a member ends where they fit; a stored
    one where they never do reaches to the end of the file.
    """
    marks = _Marks(stream, size)
    at = 0
    unended: Member | None = None
    while (place := marks.find(at)) is not None:
        at = place + 4
        member = local_member(stream, size, place)
        if member is not None and (not member.name.isprintable() or not member.name.strip("\ufffd")):
            member = None
        if unended is not None:
            ended = _ended(stream, unended, place)
            if ended is None and member is not None and unended.method == DEFLATED:
                ended = unended._replace(end=place)
            if ended is None:
                continue  # a ZIP file in a page of a WARC file
            yield ended
            unended = None
        if member is None:
            continue
        if member.end is None:
            unended = member
            at = cast(int, member.data)
        else:
            yield member
            at = member.end
    if unended is not None:
        yield _ended(stream, unended, size) or unended._replace(end=size)


def local_member(stream: BinaryIO, size: int, at: int) -> Member | None:
    """The member whose local header is at ``at``, if one is; without ``end`` where the header cannot be right on it."""
    head = read_at(stream, at, _LOCAL.size)
    if len(head) < _LOCAL.size or not head.startswith(_MEMBER_MARK):
        return None
    _, _, flags, method, _, _, crc32, compressed, plain, name_size, extra_size = _LOCAL.unpack(head)
    rest = read_at(stream, at + _LOCAL.size, name_size + extra_size)
    name = _name(rest[:name_size], flags)
    data = at + _LOCAL.size + name_size + extra_size
    if data > size:
        return None
    plain, compressed, _ = _wide(rest[name_size:], plain, compressed, 0)
    if flags & _SIZES_FOLLOW and not compressed:
        return Member(name, flags, method, None, 0, None, at, data)
    end = data + compressed
    if method == DEFLATED and b"PK" not in read_at(stream, min(end, size), 32):
        return Member(name, flags, method, None, 0, None, at, data)
    return Member(name, flags, method, crc32, compressed, plain, at, data, min(end, size))


def read_at(stream: BinaryIO, offset: int, size: int) -> bytes:
    """The ``size`` bytes at an offset, fewer only where the stream ends."""
    stream.seek(offset)
    parts: list[bytes] = []
    while size > 0 and (data := stream.read(size)):
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


def _find_directory(stream: BinaryIO, size: int) -> tuple[int, int, int] | None:
    """Where the directory begins and ends, and by how many bytes all its offsets are too low."""
    tail_begin = max(size - _END.size - 0xFFFF - _LOCATOR_64.size, 0)
    tail = read_at(stream, tail_begin, size - tail_begin)
    at = len(tail)
    while (at := tail.rfind(b"PK\x05\x06", 0, at)) >= 0:
        if at + _END.size > len(tail):
            continue
        _, _, _, _, count, length, begin, _ = _END.unpack_from(tail, at)
        end = tail_begin + at
        locator = tail[max(at - _LOCATOR_64.size, 0) : at]
        if len(locator) == _LOCATOR_64.size and locator.startswith(b"PK\x06\x07"):
            # Bytes before the ZIP file shift the record; it usually stands right before its locator.
            for place in (_LOCATOR_64.unpack(locator)[2], end - _LOCATOR_64.size - _END_64.size):
                wide = read_at(stream, place, _END_64.size) if 0 <= place < size else b""
                if len(wide) == _END_64.size and wide.startswith(b"PK\x06\x06"):
                    count, length, begin = _END_64.unpack(wide)[7:]
                    end = place
                    break
        shift = end - length - begin
        # Shifted in a file that starts with a member, or before another member, it is the directory of a ZIP file in a
        # page, or of one of several.
        if shift < 0 or (shift and read_at(stream, 0, 4) == _MEMBER_MARK) or _MEMBER_MARK in tail[at:]:
            continue
        if not count or read_at(stream, begin + shift, 4) == b"PK\x01\x02":
            return begin + shift, end, shift
    return None


class _Marks:
    """The places of headers of any kind, read forward."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._size = size
        self._begin = 0
        self._data = b""

    def find(self, begin: int) -> int | None:
        """The next place from ``begin`` on, which never goes back."""
        while begin < self._size:
            if found := _MARKS.search(self._data, begin - self._begin):
                return self._begin + found.start()
            begin = max(begin, self._begin + len(self._data) - 3)
            data = read_at(self._stream, begin, 16 * _CHUNK)
            if begin + len(data) == self._begin + len(self._data):
                return None
            self._begin, self._data = begin, data
        return None


def _ended(stream: BinaryIO, member: Member, following: int) -> Member | None:
    """The member with the sizes that follow its data, if they stand right before byte ``following`` and fit."""
    data = cast(int, member.data)
    for descriptor in _DESCRIPTORS:
        end = following - descriptor.size
        if end < data:
            continue
        crc32, compressed, plain = descriptor.unpack(read_at(stream, end, descriptor.size))
        for data_end in (end - len(_DESCRIPTOR_MARK), end):
            if data_end - data == compressed:
                return member._replace(crc32=crc32, compressed=compressed, size=plain, end=data_end)
    return None


def _wide(extra: bytes, *values: int) -> list[int]:
    """The values, with those that are full taken from the ZIP64 field (section 4.5.3)."""
    wide = list(values)
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        at += 4
        if kind == 1:
            field = extra[at : at + length]
            for index, value in enumerate(values):
                if value == _FULL and len(field) >= 8:
                    wide[index] = int.from_bytes(field[:8], "little")
                    field = field[8:]
            break
        at += length
    return wide


def _name(raw: bytes, flags: int) -> str:
    try:
        return raw.decode("utf-8" if flags & _UTF8 or raw.isascii() else "cp437")
    except UnicodeDecodeError:
        return raw.decode("utf-8", "replace")
