"""Reads WARC records (ISO 28500) from a plain, gzip or zstd shard, and says what it could not read.

    for found in read_warc(pieces):
        match found:
            case Record(): ...      # a record whose bytes are vouched for
            case Loss(): ...        # one damaged stretch

It is an own reader since those at hand stop, often silently, at the first damage. It divides the shard into runs: a run
is a stretch of decoded bytes without damage that starts at the start of the shard or at a member that opens with
``WARC/``. A record is believed once what follows it is known: another record, the clean end of its member, or the blank
lines that end it. Otherwise reading goes on at the next place where a record starts.

``offset`` is where the record begins in a plain shard; in a compressed one, where its member begins, plus the number of
records and losses before it in the same member. Offsets rise strictly.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from pipelines.ingest.streams import Fault, Piece
from pipelines.records import Reason

_MARK = b"WARC/"
_VERSION_LINE = re.compile(rb"WARC/\d+\.\d+[ \t]*\r?\n", re.IGNORECASE)
_FIRST_FIELD = re.compile(rb"[A-Za-z][\w-]*[ \t]*:")
_START_BYTES = 96  # enough to see that a record starts
# A record that starts inside of a header ends it too: what was there is cut off.
_HEAD_END = re.compile(rb"\r?\n\r?\n|\nWARC/")
_MAXIMUM_HEAD = 256 << 10
_FIELD = re.compile(r"^([^\s:][^:\r\n]*):[ \t]*([^\r\n]*)", re.MULTILINE)
_FOLD = re.compile(r"\r?\n[ \t]+")
_LENGTH = re.compile(r"\+?\d{1,18}\Z", re.ASCII)
_COMPACT = 4 << 20


class Record(NamedTuple):
    """A WARC record. ``headers`` have lower-case names; of repeated ones the first counts."""

    offset: int
    headers: dict[str, str]
    block: bytes


class Loss(NamedTuple):
    """A stretch of the shard, or a record, that could not be read."""

    offset: int
    reason: Reason
    detail: str
    url: str | None = None


def starts_record(data: bytes) -> bool:
    """Whether a member with these first bytes opens a record."""
    return data.lstrip(b"\r\n")[: len(_MARK)].upper() == _MARK


def parse_head(head: bytes) -> dict[str, str]:
    """The named fields of a WARC header, version line included or not; folded lines are joined."""
    text = head.decode("utf-8", "replace")
    if "\n " in text or "\n\t" in text:
        text = _FOLD.sub(" ", text)
    fields = _FIELD.findall(text)
    fields.reverse()
    return {name.lower().rstrip(): value.rstrip() for name, value in fields}


def target_uri(headers: dict[str, str]) -> str | None:
    """``WARC-Target-URI`` without the angle brackets that WARC 1.0's grammar asks for and few writers give."""
    uri = headers.get("warc-target-uri", "").strip()
    if uri[:1] == "<" and uri[-1:] == ">":
        uri = uri[1:-1]
    return uri or None


def read_warc(pieces: Iterator[Piece | Fault], maximum_record_bytes: int, plain: bool) -> Iterator[Record | Loss]:
    """All records and losses of a shard, in its order. ``plain``: the shard is not compressed."""
    offsets = _Offsets(plain)
    ahead = next(pieces, None)
    while ahead is not None:
        if isinstance(ahead, Fault):
            yield _loss_of_fault(offsets.of_member(ahead.offset), ahead, "")
            ahead = next(pieces, None)
            continue
        if ahead.opens and ahead.closes and (record := _only_record(ahead.data, maximum_record_bytes)):
            yield Record(offsets.of_member(ahead.offset), *record)
            ahead = next(pieces, None)
            continue
        run = _Run(ahead, pieces, offsets, maximum_record_bytes)
        yield from run.read()
        ahead = run.following


def _only_record(data: bytes, maximum_record_bytes: int) -> tuple[dict[str, str], bytes] | None:
    """The record of a member that holds just one, which is how nearly all shards are written."""
    end = data.find(b"\r\n\r\n", 0, _MAXIMUM_HEAD)
    if end < 0 or not _VERSION_LINE.match(data) or data.find(b"\nWARC/", 0, end) >= 0:
        return None
    headers = parse_head(data[:end])
    length = headers.get("content-length", "")
    if not _LENGTH.match(length) or (size := int(length)) > maximum_record_bytes:
        return None
    stop = end + 4 + size
    if stop > len(data) or data[stop:].strip(b"\r\n"):
        return None
    return headers, data[end + 4 : stop]


def _loss_of_fault(offset: int, fault: Fault, before: str, url: str | None = None) -> Loss:
    length = fault.end - min(offset, fault.offset)
    detail = f"{before}{length} bytes cannot be decoded: {fault.error}"
    return Loss(offset, Reason.TRUNCATED if fault.truncated else Reason.DAMAGED, detail, url)


class _Offsets:
    """Gives each record and loss its place in the shard; see the module's docstring."""

    def __init__(self, plain: bool) -> None:
        self.plain = plain
        self._member = -1
        self._count = 0
        self._last = -1

    def of_member(self, member: int) -> int:
        self._count = self._count + 1 if member == self._member else 0
        self._member = member
        return self._rising(member + self._count)

    def exact(self, offset: int) -> int:
        return self._rising(offset)

    def _rising(self, offset: int) -> int:
        # A member of a few bytes may hold thousands of records that are all the same.
        self._last = max(offset, self._last + 1)
        return self._last


class _Run:
    """One run of decoded bytes, read through a window that slides. ``following``: the piece or fault after the run."""

    def __init__(
        self,
        first: Piece,
        pieces: Iterator[Piece | Fault],
        offsets: _Offsets,
        maximum_record_bytes: int,
    ) -> None:
        self.following: Piece | Fault | None = None
        self._pieces = pieces
        self._offsets = offsets
        self._cap = maximum_record_bytes
        self._buffer = bytearray()
        self._cursor = 0
        self._dropped = 0  # decoded bytes of the run before the buffer
        self._sound = 0  # index up to which the bytes lie in members whose check sums hold
        self._marks: list[tuple[int, int]] = []  # (decoded position in the run, offset of the member)
        self._ended = False
        self._append(first)

    def read(self) -> Iterator[Record | Loss]:
        """The records and losses of the run, with the fault that ends it."""
        while True:
            self._skip_newlines()
            if not self._need(1):
                break
            yield self._next()
            if self._cursor > _COMPACT:
                self._drop(self._cursor)
        if isinstance(self.following, Fault):
            yield self._take_fault(self._offsets.of_member(self.following.offset), "")

    def _append(self, piece: Piece) -> None:
        self._marks.append((self._dropped + len(self._buffer), piece.offset))
        self._buffer += piece.data
        if piece.closes or self._offsets.plain:
            self._sound = len(self._buffer)

    def _pull(self) -> bool:
        if self._ended:
            return False
        piece = next(self._pieces, None)
        if isinstance(piece, Piece) and not (piece.opens and starts_record(piece.data)):
            self._append(piece)
            return True
        self.following = piece
        self._ended = True
        return False

    def _need(self, size: int) -> bool:
        """Whether ``size`` bytes follow the cursor in this run."""
        while len(self._buffer) - self._cursor < size:
            if not self._pull():
                return False
        return True

    def _drop(self, size: int) -> None:
        del self._buffer[:size]
        self._cursor = max(self._cursor - size, 0)
        self._sound = max(self._sound - size, 0)
        self._dropped += size
        while len(self._marks) > 1 and self._marks[1][0] <= self._dropped:
            del self._marks[0]

    def _skip_newlines(self) -> None:
        while self._need(1) and self._buffer[self._cursor] in b"\r\n":
            self._cursor += 1

    def _offset(self) -> int:
        position = self._dropped + self._cursor
        at, offset = next(mark for mark in reversed(self._marks) if mark[0] <= position)
        if self._offsets.plain:
            return self._offsets.exact(offset + position - at)
        return self._offsets.of_member(offset)

    def _take_fault(self, offset: int, before: str, url: str | None = None) -> Loss:
        fault = self.following
        assert isinstance(fault, Fault)
        self.following = next(self._pieces, None)
        return _loss_of_fault(offset, fault, before, url)

    def _next(self) -> Record | Loss:
        offset = self._offset()
        self._need(_START_BYTES)
        if not _VERSION_LINE.match(self._buffer, self._cursor):
            return self._resync(offset, self._cursor + 1, "no record starts here")
        head_end = self._find_head_end()
        if head_end is None:
            return self._resync(offset, self._cursor + 1, "a record header does not end")
        head = bytes(self._buffer[self._cursor : head_end[0]])
        if self._buffer[head_end[1] - 1] != 0x0A:
            return self._resync(offset, self._cursor + 1, "a record header is cut off by another record")
        headers = parse_head(head)
        url = target_uri(headers)
        length = headers.get("content-length", "")
        if not _LENGTH.match(length):
            why = (
                f"a record header has Content-Length {length!r}" if length else "a record header has no Content-Length"
            )
            return self._resync(offset, self._cursor + 1, why, url)
        return self._block(offset, headers, url, head_end[1] - self._cursor, int(length))

    def _find_head_end(self) -> tuple[int, int] | None:
        searched = self._cursor
        while True:
            if found := _HEAD_END.search(self._buffer, searched):
                return found.span()
            searched = max(len(self._buffer) - 4, self._cursor)
            if searched - self._cursor > _MAXIMUM_HEAD or not self._pull():
                return None

    def _block(self, offset: int, headers: dict[str, str], url: str | None, head: int, length: int) -> Record | Loss:
        if length > self._cap:
            why = f"the record has {length} bytes, more than {self._cap}"
            return self._resync(offset, self._cursor + head, why, url, Reason.TOO_LARGE)
        if not self._need(head + length):
            missing = head + length - (len(self._buffer) - self._cursor)
            why = f"Content-Length is {length}, and {missing} bytes of that are missing"
            return self._resync(offset, self._cursor + head, why, url, None)
        start, stop = self._cursor + head, self._cursor + head + length
        self._need(head + length + 4 + _START_BYTES)
        after = stop
        while after < len(self._buffer) and self._buffer[after] in b"\r\n" and after - stop < 64:
            after += 1
        at_end = after == len(self._buffer)
        if (at_end and stop <= self._sound) or _VERSION_LINE.match(self._buffer, after):
            pass
        elif at_end:
            return self._resync(offset, len(self._buffer), "a record lies in a damaged member", url)
        elif self._buffer[stop : stop + 4] != b"\r\n\r\n":
            why = f"Content-Length is {length}, but the record does not end there"
            return self._resync(offset, start, why, url)
        block = bytes(memoryview(self._buffer)[start:stop])
        self._cursor = after
        return Record(offset, headers, block)

    def _find_start(self, begin: int) -> int | None:
        """The index of the next place in the buffer, from ``begin``, where a record starts."""
        for version in _VERSION_LINE.finditer(self._buffer, begin):
            at = version.start()
            # Garbage may stand right before a record; then the line after must look like a record's as well.
            if (at and self._buffer[at - 1] == 0x0A) or _FIRST_FIELD.match(self._buffer, version.end()):
                return at
        return None

    def _resync(
        self, offset: int, begin: int, why: str, url: str | None = None, reason: Reason | None = Reason.DAMAGED
    ) -> Loss:
        """Passes over everything up to the next start of a record from index ``begin`` on, in bounded memory.

        ``reason``: what to report; ``None``: truncated where the shard ends, damaged where something follows.
        """
        from_position = self._dropped + self._cursor
        while (at := self._find_start(begin)) is None:
            begin = max(begin, len(self._buffer) - _START_BYTES)
            if begin > _COMPACT:
                self._drop(begin - 1)
                begin = 1
            if not self._pull():
                break
        self._cursor = len(self._buffer) if at is None else at
        passed = self._dropped + self._cursor - from_position
        if at is None and isinstance(self.following, Fault):
            return self._take_fault(offset, f"{why}; after {passed} decoded bytes, ", url)
        if reason is None:
            reason = Reason.TRUNCATED if at is None and self.following is None else Reason.DAMAGED
        return Loss(offset, reason, f"{passed} bytes passed over: {why}", url)
