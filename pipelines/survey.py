"""What a shard holds, what is broken in it, and what a job would recover from it, without a job.

    with open("crawl-00000.warc.gz", "rb") as stream:
        found = survey(stream, Shard("crawl-00000.warc.gz", path, size, 0.0), Ingest())
    print(found.read, found.records, found.lost_bytes, found.damage)

Memory is bounded: no text is kept, names are counted up to a number of different ones, and damaged stretches are
listed up to a number of them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO, ClassVar, NamedTuple, cast

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import files
from pipelines.errors import one_line
from pipelines.ingest.account import WHOLE, Account
from pipelines.ingest.grammar import target_uri
from pipelines.ingest.http import parse_response
from pipelines.ingest.options import Ingest
from pipelines.ingest.reader import read_shard
from pipelines.ingest.shards import Shard
from pipelines.ingest.timestamps import parse_time
from pipelines.ingest.urls import host_of
from pipelines.ingest.warc import Loss, Record
from pipelines.language import identify
from pipelines.progress import Watch
from pipelines.records import Reason

UNKNOWN = "unknown"  # a language that the identifier will not name
OTHERS = "others"  # names beyond those that are counted one by one

_LARGE = 32 << 20  # bytes; less is read in seconds
_NAMES = 50_000
_LISTED = 100_000  # damaged stretches
_CAPTURES = {"response", "revisit", "resource", "conversion"}
_LOST = {Reason.DAMAGED.value, Reason.TRUNCATED.value, Reason.DIGEST_MISMATCH.value}
_UNREAD = {Reason.UNSUPPORTED.value, Reason.EMPTY_SHARD.value}


class Damage(NamedTuple):
    """A stretch of the shard, or a record, that is lost. ``length``: in bytes; None where that is not known."""

    offset: int
    length: int | None
    reason: str
    detail: str


@dataclass
class Survey(Account):
    """What was found in one shard; sums over several make sense too (:meth:`add`)."""

    shard: str = ""
    size: int = 0  # bytes, as it is stored
    seconds: float = 0.0
    quick: bool = False
    records: int = 0  # records, rows or lines whose beginning was found
    read: int = 0  # those of them that can be read, and are what their header says
    refused: int = 0  # those that can be read, and are not; see the option `mismatches`
    unread_types: Counter[str] = field(default_factory=Counter)  # of records whose header was read and no more
    first_capture: datetime | None = None
    last_capture: datetime | None = None
    hosts: Counter[str] = field(default_factory=Counter)  # of captures
    statuses: Counter[str] = field(default_factory=Counter)  # of HTTP responses
    content_types: Counter[str] = field(default_factory=Counter)  # of captures
    documents: int = 0
    characters: int = 0
    languages: Counter[str] = field(default_factory=Counter)
    rejects: Counter[str] = field(default_factory=Counter)  # by reason
    undigested: int = 0  # records without any digest
    damage: list[Damage] = field(default_factory=list)  # the first ones
    damages: int = 0  # all of them
    lost_bytes: int = 0
    unmeasured: int = 0  # damaged stretches of unknown length
    at_most: bool = False  # damaged members may also hold records that were read, so that fewer bytes are lost
    unread: str = ""  # why the shard could not be read at all, or not to its end

    @property
    def is_whole(self) -> bool:
        """Whether nothing is damaged, lost or left unread."""
        return not (self.damages or self.unfit or self.unread)

    def to_dict(self) -> dict[str, Any]:
        """All of it for JSON, the most frequent names first."""
        values = {name: value for name, value in vars(self).items() if not name.startswith("_") and name not in _INNER}
        for name, value in values.items():
            if isinstance(value, Counter):
                values[name] = dict(by_count(value))
            elif isinstance(value, datetime):
                values[name] = value.isoformat()
        return {**values, "whole": self.is_whole, "damage": [found._asdict() for found in self.damage]}

    def add(self, other: Survey) -> None:
        """Adds what was found in another shard; what only one shard has, such as its format, is left out."""
        for name, value in vars(other).items():
            if isinstance(value, Counter):
                for key, number in value.items():
                    _count(getattr(self, name), key, number)
            elif name in _SUMMED:
                setattr(self, name, getattr(self, name) + value)
        self.at_most |= other.at_most
        for when in (other.first_capture, other.last_capture):
            self.captured(when)

    def captured(self, when: datetime | None) -> None:
        """Widens the range of capture times."""
        if when is not None:
            self.first_capture = when if self.first_capture is None else min(when, self.first_capture)
            self.last_capture = when if self.last_capture is None else max(when, self.last_capture)


_INNER = {"chained", "start", "stop", "floor", "stretches"}
_SUMMED = {
    *("size", "seconds", "records", "read", "refused", "documents", "characters", "undigested"),
    *("damages", "lost_bytes", "unmeasured", "unfit", "partial", "stretches"),
}


@dataclass
class _Reading(Survey):
    """A survey that is being made: what the reader tells of records, beside its documents and rejects."""

    _over: set[int] = field(default_factory=set)  # offsets of records over the cap
    _read_to: int = 0  # the end of what records were read from
    _shares: bool = False  # whether a member holds several records, each of which reaches to the member's end
    _lost_to: int = 0

    def saw(self, record: Record) -> None:
        super().saw(record)
        self._shares |= record.offset < self._read_to
        self._read_to = max(self._read_to, record.offset + record.length)
        headers = record.headers
        if "warc-block-digest" not in headers and "warc-payload-digest" not in headers:
            self.undigested += 1
        if headers.get("warc-type", "").lower() in _CAPTURES:
            self._capture(record)

    def missed(self, loss: Loss) -> None:
        super().missed(loss)
        if loss.headers is not None:
            self.unread_types[loss.headers.get("warc-type", "").lower()] += 1
        if loss.reason is Reason.TOO_LARGE:
            self._over.add(loss.offset)
        self._shares |= loss.offset < self._read_to

    def _capture(self, record: Record) -> None:
        headers = record.headers
        self.captured(parse_time(headers.get("warc-date")))
        _count(self.hosts, host_of(target_uri(headers)) or "none")
        content_type = headers.get("arc-content-type") or headers.get("content-type", "")
        is_http = content_type.lower().startswith("application/http")
        if is_http or record.block[:5].upper() == b"HTTP/":
            try:
                response = parse_response(record.block)
            except ValueError:
                _count(self.statuses, "none")
                return
            _count(self.statuses, str(response.status))
            content_type = response.headers.get("content-type", "")
        _count(self.content_types, content_type.partition(";")[0].strip().lower()[:60] or "none")

    def documented(self, batch: pa.RecordBatch) -> None:
        """Counts a batch of documents."""
        if not batch.num_rows:
            return
        self.documents += batch.num_rows
        self.characters += pc.sum(pc.utf8_length(batch.column("text"))).as_py()
        if not self.types:  # rows and lines, which the reader tells nothing else of
            for host in batch.column("host").to_pylist():
                _count(self.hosts, host or "none")
            for when in pc.min_max(batch.column("captured_at")).as_py().values():
                self.captured(when)
        if not self.quick:
            self.languages.update(identify(text.as_py()) or UNKNOWN for text in batch.column("text"))

    def rejected(self, batch: pa.RecordBatch) -> None:
        """Counts a batch of rejects."""
        for row in batch.to_pylist():
            reason, offset = row["reason"], row["record_offset"]
            self.rejects[reason] += 1
            if reason in _UNREAD:
                self.unread = self.unread or row["detail"]
            elif reason in _LOST or offset in self._over:
                self._damaged(Damage(offset, row["length"], reason, row["detail"] or ""))
        self._over.clear()

    def _damaged(self, found: Damage) -> None:
        self.damages += 1
        self.at_most |= self._shares
        if len(self.damage) < _LISTED:
            self.damage.append(found)
        if found.length is None:
            self.unmeasured += 1
            return
        # In a compressed shard the losses in one member each reach to its end.
        end = found.offset + found.length
        self.lost_bytes += max(0, min(end, self.size or end) - max(found.offset, self._lost_to))
        self._lost_to = max(self._lost_to, end)


@dataclass
class _QuickReading(_Reading):
    wants_text: ClassVar[bool] = False


def survey(stream: BinaryIO, shard: Shard, options: Ingest, quick: bool = False) -> Survey:
    """Reads a whole shard; ``stream`` stands at its start, and can seek where it is Parquet or WACZ.

    ``quick``: extracts no text from WARC and ARC records, and identifies no language; records, digests and damage are
    the same. Damage never raises, nor does an ``OSError`` of the stream: the survey says how far it got.
    """
    found = (_QuickReading if quick else _Reading)(shard=shard.name, size=shard.size, quick=quick)
    began = time.perf_counter()
    try:
        for documents, rejects in read_shard(stream, shard.name, options, None, WHOLE, found):
            found.documented(documents)
            found.rejected(rejects)
    except OSError as error:
        found.unread = one_line(error)
    found.seconds = time.perf_counter() - began
    if found.types or found.unread_types:
        found.records = found.types.total() + found.partial
        found.refused = found.unfit if options.mismatches == "reject" else 0
        found.read = found.types.total() - found.refused
    else:
        found.records = found.documents + sum(n for reason, n in found.rejects.items() if reason not in _LOST | _UNREAD)
        found.read = found.records
    return found


def survey_shards(shards: Sequence[Shard], options: Ingest, quick: bool = False) -> Iterator[Survey]:
    """The surveys of shards, one by one; for large ones, progress goes to standard error."""
    size = sum(shard.size for shard in shards)
    progress = _Progress()
    if size < _LARGE:
        yield from (_survey_file(shard, options, quick, progress) for shard in shards)
        return
    with Watch("survey", "MB", size // 10**6, 0, lambda: progress.bytes // 10**6):
        yield from (_survey_file(shard, options, quick, progress) for shard in shards)


def _survey_file(shard: Shard, options: Ingest, quick: bool, progress: _Progress) -> Survey:
    before = progress.bytes
    try:
        with files.open_read(shard.path) as stream:
            found = survey(cast(BinaryIO, _Counted(stream, progress)), shard, options, quick)
    except OSError as error:
        found = Survey(shard=shard.name, size=shard.size, quick=quick, unread=one_line(error))
    progress.bytes = before + shard.size
    return found


class _Progress:
    """Bytes that were read."""

    bytes = 0


class _Counted:
    """A stream that tells how much of it was read."""

    def __init__(self, stream: BinaryIO, progress: _Progress) -> None:
        self._stream = stream
        self._progress = progress

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._progress.bytes += len(data)
        return data


def _count(names: Counter[str], name: str, number: int = 1) -> None:
    names[name if name in names or len(names) < _NAMES else OTHERS] += number


def by_count(names: Counter[str]) -> list[tuple[str, int]]:
    """Names and numbers, the most frequent first."""
    return sorted(names.items(), key=lambda item: (-item[1], item[0]))
