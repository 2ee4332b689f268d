"""Reads the records of a WARC or ARC shard, plain or compressed, and says what it could not read.

    for found in read_records(pieces, WARC, Limits(64 << 20, plain=False)):
        match found:
            case Record(): ...      # a record; with a `fault` where it does not fit its header
            case Loss(): ...        # a stretch that gives no record

It is an own reader since those at hand stop, often silently, at the first damage. It divides the shard into runs: a run
is a stretch of decoded bytes without damage that starts at the start of the shard or at a member that opens with a
record. A record is believed once what follows it is known: another record, the clean end of its member, or the blank
lines that end it. Otherwise reading goes on at the next place where a record starts.

``offset`` is where the record begins in a plain shard; in a compressed one, where its member begins, plus the number of
records and losses before it in the same member. Offsets rise strictly.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import NamedTuple

from pipelines.ingest.grammar import MAXIMUM_HEAD, WARC, Grammar, Head, Headers, content_length, target_uri
from pipelines.ingest.streams import Fault, Piece
from pipelines.records import Reason

_LENGTH = re.compile(r"\+?\d{1,18}\Z", re.ASCII)
_COMPACT = 4 << 20


class Record(NamedTuple):
    """A record. ``headers`` have lower-case names; of repeated ones the first counts.

    ``length``: bytes of the shard from where the record, or its member, begins. ``fault``: in what the record does not
    fit its ``Content-Length``; ``block`` then goes up to the next record, and ``declared`` is what the header says.
    """

    offset: int
    length: int
    headers: Mapping[str, str]
    block: bytes
    fault: str | None = None
    declared: int | None = None


class Loss(NamedTuple):
    """A stretch of the shard that could not be read. ``headers``: of the record in it, where one could be read."""

    offset: int
    length: int
    reason: Reason
    detail: str
    headers: Mapping[str, str] | None = None

    @property
    def url(self) -> str | None:
        """Of the record."""
        return target_uri(self.headers) if self.headers else None


class Limits(NamedTuple):
    """How far reading goes. ``stop``: a place in the shard; records that begin there or later are not read."""

    record_bytes: int
    plain: bool
    stop: int | None = None
    floor: int = -1  # the greatest offset that was given to a record already
    # Has the pieces of a plain shard go on at a place, if the bytes there are accepted.
    jump: Callable[[int, Callable[[bytes], bool]], bool] | None = None


class Stop(NamedTuple):
    """Where reading stopped: the next record's place (None: the shard's end), and the greatest offset given."""

    position: int | None
    floor: int


def read_records(
    pieces: Iterator[Piece | Fault], grammar: Grammar, limits: Limits
) -> Generator[Record | Loss, None, Stop]:
    """All records and losses of the pieces, in their order, up to the limits; returns where it stopped."""
    offsets = _Offsets(limits)
    only = _only_warc if grammar is WARC else _only
    stop = None if limits.plain else limits.stop
    ahead = next(pieces, None)
    while ahead is not None:
        if isinstance(ahead, Fault):
            yield _loss_of_fault(offsets.of_member(ahead.offset), ahead, "")
            ahead = next(pieces, None)
            continue
        # Damage belongs to the range of what stands before it, so that the next range starts with a record.
        if stop is not None and ahead.offset >= stop and grammar.opens(ahead.data):
            return Stop(ahead.offset, offsets.last)
        data, offset, end, opens, closes = ahead
        if opens and closes and (record := only(data, grammar, limits.record_bytes)):
            yield Record(offsets.of_member(offset), end - offset, *record)
            ahead = next(pieces, None)
            continue
        run = _Run(ahead, pieces, grammar, offsets)
        yield from run.read()
        if run.stopped_at is not None:
            return Stop(run.stopped_at, offsets.last)
        ahead = run.following
    return Stop(None, offsets.last)


def _only_warc(data: bytes, grammar: Grammar, most: int) -> tuple[Mapping[str, str], bytes] | None:
    """The record of a member that holds just one, which is how nearly all shards are written."""
    end = data.find(b"\r\n\r\n", 0, MAXIMUM_HEAD)
    if end < 0 or not grammar.at(data, 0) or data.find(b"\nWARC/", 0, end) >= 0:
        return None
    length = content_length(data, 0, end)
    if length is None or (size := int(length)) > most:
        return None
    stop = end + 4 + size
    if stop > len(data) or ((rest := data[stop:]) != b"\r\n\r\n" and rest.strip(b"\r\n")):
        return None
    return Headers(data[:end]), data[end + 4 : stop]


def _only(data: bytes, grammar: Grammar, most: int) -> tuple[Mapping[str, str], bytes] | None:
    if not grammar.at(data, 0) or (head := grammar.head(data, 0, 0)) is None or head.cut:
        return None
    headers = grammar.parse(data[: head.end])
    length = headers.get("content-length", "")
    if not _LENGTH.match(length) or (size := int(length)) > most:
        return None
    stop = head.block + size
    if stop > len(data) or data[stop:].strip(b"\r\n"):
        return None
    return headers, data[head.block : stop]


def _loss_of_fault(offset: int, fault: Fault, before: str, headers: Mapping[str, str] | None = None) -> Loss:
    length = fault.end - min(offset, fault.offset)
    detail = f"{before}{length} bytes cannot be decoded: {fault.error}"
    return Loss(offset, length, Reason.TRUNCATED if fault.truncated else Reason.DAMAGED, detail, headers)


class _Offsets:
    """Gives each record and loss its place in the shard; see the module's docstring."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.last = limits.floor
        self._member = -1
        self._count = 0

    def of_member(self, member: int) -> int:
        if member == self._member:
            self._count += 1
        else:
            self._count = 0
            self._member = member
        return self.exact(member + self._count)

    def exact(self, offset: int) -> int:
        # A member of a few bytes may hold thousands of records that are all the same.
        self.last = offset if offset > self.last else self.last + 1
        return self.last


class _Place(NamedTuple):
    """Where a record or a loss begins: its offset, its decoded position in the run, its member's place in the shard."""

    offset: int
    position: int
    member: int


class _Run:
    """One run of decoded bytes, read through a window that slides.

    ``following``: the piece or fault after the run; ``stopped_at``: the place of the record at which reading stopped.
    """

    def __init__(self, first: Piece, pieces: Iterator[Piece | Fault], grammar: Grammar, offsets: _Offsets) -> None:
        self.following: Piece | Fault | None = None
        self.stopped_at: int | None = None
        self._pieces = pieces
        self._grammar = grammar
        self._offsets = offsets
        self._limits = offsets.limits
        self._buffer = bytearray()
        self._cursor = 0
        self._dropped = 0  # decoded bytes of the run before the buffer
        self._sound = 0  # index up to which the bytes lie in members whose check sums hold
        self._marks: list[tuple[int, int]] = []  # (decoded position in the run, offset of the member)
        self._headless = 0  # decoded position in the run up to which no header ends that ends behind the cursor
        self._end = 0  # of the raw bytes
        self._ended = False
        self._append(first)

    def read(self) -> Iterator[Record | Loss]:
        """The records and losses of the run, with the fault that ends it."""
        while True:
            self._skip_newlines()
            if not self._need(1):
                break
            if self._at_stop():
                return
            yield self._next()
            if self._cursor > _COMPACT:
                self._drop(self._cursor)
        if isinstance(self.following, Fault):
            yield self._take_fault(self._offsets.of_member(self.following.offset), "")

    def _at_stop(self) -> bool:
        if not self._limits.plain or self._limits.stop is None:
            return False
        position = self._raw_position()
        if position >= self._limits.stop:
            self._need(self._grammar.start_bytes)
            if self._grammar.at(self._buffer, self._cursor):
                self.stopped_at = position
        return self.stopped_at is not None

    def _append(self, piece: Piece) -> None:
        self._marks.append((self._dropped + len(self._buffer), piece.offset))
        self._buffer += piece.data
        self._end = piece.end
        if piece.closes or self._limits.plain:
            self._sound = len(self._buffer)

    def _pull(self) -> bool:
        if self._ended:
            return False
        piece = next(self._pieces, None)
        if isinstance(piece, Piece) and not (piece.opens and self._grammar.opens(piece.data)):
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

    def _mark(self) -> tuple[int, int]:
        position = self._dropped + self._cursor
        if self._marks[-1][0] <= position:
            return self._marks[-1]
        return next(mark for mark in reversed(self._marks) if mark[0] <= position)

    def _raw_position(self) -> int:
        """The cursor's place in a plain shard."""
        at, offset = self._mark()
        return offset + self._dropped + self._cursor - at

    def _place(self) -> _Place:
        position = self._dropped + self._cursor
        begin, member = self._mark()
        if self._limits.plain:
            return _Place(self._offsets.exact(member + position - begin), position, member)
        return _Place(self._offsets.of_member(member), position, member)

    def _length(self, place: _Place) -> int:
        """Bytes of the shard from the place to the cursor; of a compressed one, to the end of what was decoded."""
        if self._limits.plain:
            return self._dropped + self._cursor - place.position
        return self._end - place.member

    def _take_fault(self, offset: int, before: str, headers: Mapping[str, str] | None = None) -> Loss:
        fault = self.following
        assert isinstance(fault, Fault)
        self.following = next(self._pieces, None)
        return _loss_of_fault(offset, fault, before, headers)

    def _next(self) -> Record | Loss:
        place = self._place()
        self._need(self._grammar.start_bytes)
        if not self._grammar.at(self._buffer, self._cursor):
            return self._resync(place, self._cursor + 1, "no record starts here")
        head = self._find_head()
        if head is None or head.cut:
            return self._broken_head(place, head)
        headers = self._grammar.parse(bytes(self._buffer[self._cursor : head.end]))
        written = headers.get("content-length", "")
        if not _LENGTH.match(written):
            why = f"the header has Content-Length {written!r}" if written else "the header has no Content-Length"
            return self._without_length(place, headers, head.block, why, None)
        return self._block(place, headers, head.block, int(written))

    def _find_head(self) -> Head | None:
        # Of many headers that do not end, each would search the same bytes.
        searched = max(self._cursor, self._headless - self._dropped)
        while (head := self._grammar.head(self._buffer, self._cursor, searched)) is None:
            searched = len(self._buffer)
            self._headless = self._dropped + searched
            if searched - self._cursor > MAXIMUM_HEAD or not self._pull():
                return None
        # However much of it was at hand: what a shard gives must not depend on how it is divided.
        return head if head.end - self._cursor <= MAXIMUM_HEAD else None

    def _broken_head(self, place: _Place, head: Head | None) -> Loss:
        """A header without an end: up to where another record starts, or as far as it goes."""
        end = head.end if head else self._grammar.find(self._buffer, self._cursor + 1) or len(self._buffer)
        end = min(end, self._cursor + MAXIMUM_HEAD)
        headers = self._grammar.parse(bytes(self._buffer[self._cursor : end]))
        why = "a record header is cut off by another record" if head else "a record header does not end"
        return self._resync(place, self._cursor + 1, why, headers, Reason.DAMAGED if head else None)

    def _block(self, place: _Place, headers: Mapping[str, str], start: int, length: int) -> Record | Loss:
        if length > self._limits.record_bytes:
            return self._too_large(place, headers, start, length)
        head = start - self._cursor
        if not self._need(head + length):
            missing = head + length - (len(self._buffer) - self._cursor)
            why = f"Content-Length is {length}, and {missing} bytes of that are missing"
            return self._without_length(place, headers, self._cursor + head, why, length)
        self._need(head + length + 4 + self._grammar.start_bytes)
        stop = start + length
        end = self._grammar.block_end(self._buffer, start, stop)
        if end is None or self._overruns(start, stop, end[1]):
            why = f"Content-Length is {length}, but the record does not end there"
            return self._without_length(place, headers, start, why, length)
        stop, after = end
        if after == len(self._buffer) and stop > self._sound:
            return self._resync(place, after, "a record lies in a damaged member", headers)
        block = bytes(memoryview(self._buffer)[start:stop])
        self._cursor = after
        return Record(place.offset, self._length(place), headers, block)

    def _overruns(self, start: int, stop: int, after: int) -> bool:
        """Whether a block that no record follows ends inside of a later record, at blank lines that are that one's."""
        if after == len(self._buffer) or self._grammar.at(self._buffer, after):
            return False
        last, at = None, self._grammar.find(self._buffer, start)
        while at is not None and at < stop:
            last, at = at, self._grammar.find(self._buffer, at + 1)
        head = None if last is None else self._grammar.head(self._buffer, last, last)
        if last is None or head is None or head.cut:
            return False
        written = self._grammar.parse(bytes(self._buffer[last : head.end])).get("content-length", "")
        length = int(written) if _LENGTH.match(written) else 0
        if length > self._limits.record_bytes or head.block + length <= stop:
            return False
        self._need(head.block + length + self._grammar.start_bytes - self._cursor)
        end = self._grammar.block_end(self._buffer, head.block, head.block + length)
        return end is not None and (end[1] == len(self._buffer) or self._grammar.at(self._buffer, end[1]))

    def _too_large(self, place: _Place, headers: Mapping[str, str], start: int, length: int) -> Loss:
        """Passes over a record that is over the cap, if it is as long as it says; else up to the next record."""
        why = f"the record has {length} bytes, more than {self._limits.record_bytes}"
        if self._limits.jump:
            after = self._raw_position() + start - self._cursor + length
            if self._limits.jump(after, self._follows):
                self._marks = [(place.position + after - place.offset, after)]
                self._dropped, self._buffer, self._cursor = self._marks[0][0], bytearray(), 0
                return Loss(place.offset, after - place.offset, Reason.TOO_LARGE, why, headers)
            return self._resync(place, start, f"{why}, and it does not end there", headers, Reason.TOO_LARGE)
        left = start - self._cursor + length
        while left > len(self._buffer) - self._cursor:
            left -= len(self._buffer) - self._cursor
            self._drop(len(self._buffer))
            if not self._pull():
                why = f"{why}, and {left} bytes of that are missing"
                return self._resync(place, self._cursor, why, headers, Reason.TOO_LARGE)
        self._cursor += left
        self._need(self._grammar.start_bytes)
        return self._resync(place, self._cursor, why, headers, Reason.TOO_LARGE)

    def _follows(self, data: bytes) -> bool:
        """Whether a record, or the shard's end, stands where a block has ended."""
        data = data.lstrip(b"\r\n")
        return not data or self._grammar.at(data, 0)

    def _without_length(
        self, place: _Place, headers: Mapping[str, str], start: int, why: str, declared: int | None
    ) -> Record | Loss:
        """A record whose length is not known: it goes up to the next record, or to the end of what is whole."""
        head = start - self._cursor
        searched = start
        while (at := self._grammar.find(self._buffer, searched)) is None:
            searched = max(len(self._buffer) - self._grammar.start_bytes, self._cursor + head)
            if len(self._buffer) - self._cursor - head > self._limits.record_bytes:
                return self._resync(place, searched, f"{why}, nor within {self._limits.record_bytes} bytes", headers)
            if not self._pull():
                break
        start = self._cursor + head
        if at is None:
            is_short = declared is not None and start + declared > len(self._buffer)
            if isinstance(self.following, Fault) or (self._limits.plain and is_short):
                return self._resync(place, len(self._buffer), why, headers, None)
            at = len(self._buffer)
        block = bytes(self._buffer[start:at]).removesuffix(self._grammar.separator)
        self._cursor = at
        fault = f"{why}; {len(block)} bytes stand before what follows"
        return Record(place.offset, self._length(place), headers, block, fault, declared)

    def _resync(
        self,
        place: _Place,
        begin: int,
        why: str,
        headers: Mapping[str, str] | None = None,
        reason: Reason | None = Reason.DAMAGED,
    ) -> Loss:
        """Passes over everything up to the next start of a record from index ``begin`` on, in bounded memory.

        ``reason``: what to report; ``None``: truncated where the shard ends, damaged where something follows.
        """
        while (at := self._start_from(begin)) is None:
            begin = max(begin, len(self._buffer) - self._grammar.start_bytes)
            if begin > _COMPACT:
                self._drop(begin - 1)
                begin = 1
            if not self._pull():
                break
        self._cursor = len(self._buffer) if at is None else at
        passed = self._dropped + self._cursor - place.position
        if at is None and isinstance(self.following, Fault):
            return self._take_fault(place.offset, f"{why}; after {passed} decoded bytes, ", headers)
        if reason is None:
            reason = Reason.TRUNCATED if at is None and self.following is None else Reason.DAMAGED
        return Loss(place.offset, self._length(place), reason, f"{passed} bytes passed over: {why}", headers)

    def _start_from(self, begin: int) -> int | None:
        if begin <= len(self._buffer) and self._grammar.at(self._buffer, begin) and begin > self._cursor:
            return begin
        return self._grammar.find(self._buffer, begin)
