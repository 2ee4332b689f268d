"""WARC and ARC shards → documents: which records a part owns, whether their bytes are vouched for, what they become."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import BinaryIO, NamedTuple

from pipelines.ingest import arc
from pipelines.ingest.account import Account, Part
from pipelines.ingest.batches import BatchBuilder, Ingested
from pipelines.ingest.formats import GRAMMARS, Shape
from pipelines.ingest.grammar import ARC, Grammar, target_uri
from pipelines.ingest.options import Ingest
from pipelines.ingest.pages import InspectPage, add_record
from pipelines.ingest.segments import Segments, Unjoined
from pipelines.ingest.source import Source
from pipelines.ingest.streams import compressed_pieces, find_member, plain_pieces
from pipelines.ingest.vouching import vouch
from pipelines.ingest.warc import Limits, Loss, Record, Stop, read_records
from pipelines.records import Reason

_AHEAD = 1 << 20  # bytes looked at together where a part of a plain shard begins

Found = Generator[Record | Loss, None, Stop]


class Reading(NamedTuple):
    """What reading a part of a shard needs, whatever its format."""

    name: str
    options: Ingest
    inspect_page: InspectPage | None
    batch: BatchBuilder
    part: Part
    account: Account


def read_record_shard(stream: BinaryIO, source: Source, shape: Shape, reading: Reading) -> Iterator[Ingested]:
    """Adds the documents and rejects of a part. ``source`` stands at the start of the shard, over ``stream``."""
    part, account = reading.part, reading.account
    account.chained = part.begin > 0
    begin = _begin(source, shape, part)
    if begin is None:
        return
    if account.start is None:
        account.start = begin
    if begin and begin != source.offset:
        source.move(begin)
    grammar = GRAMMARS[shape.format]
    segments = Segments(reading.options.maximum_record_bytes)
    stop = yield from _add_all(read_source(source, shape, reading.options, part), grammar, segments, reading)
    account.stop, account.floor = stop
    if segments.is_waiting() and stop.position is not None:
        # Only for the segments of records that begin in this part; whatever else follows is another part's.
        for one in read_source(Source(stream, stop.position), shape, reading.options, Part(floor=stop.floor)):
            _join(segments, one, reading)
            if not segments.is_waiting():
                break
    for given_up in segments.end():
        _finish(given_up, reading)


def _begin(source: Source, shape: Shape, part: Part) -> int | None:
    """Where the part's first record begins: known, or the first place that looks so; None: it holds none."""
    begin, end = part.begin, part.end
    if end is not None and begin >= end:
        return None
    if begin == 0 or part.exact:
        return begin
    grammar = GRAMMARS[shape.format]
    if shape.codec is None:
        return _find_plain(source, grammar, begin, end)
    source.move(begin)
    found = find_member(source, shape.codec, grammar.opens, end)
    return source.offset if found and (end is None or source.offset < end) else None


def _find_plain(source: Source, grammar: Grammar, begin: int, end: int | None) -> int | None:
    at = begin - 1  # the byte before shows whether a line begins
    while end is None or at < end:
        source.move(at)
        data = source.peek(_AHEAD)
        found = grammar.find(data, 1)
        if found is not None and found < len(data) - grammar.start_bytes:
            return at + found if end is None or at + found < end else None
        if len(data) < _AHEAD:
            return at + found if found is not None and (end is None or at + found < end) else None
        at += len(data) - 2 * grammar.start_bytes
    return None


def _add_all(found: Found, grammar: Grammar, segments: Segments, reading: Reading) -> Generator[Ingested, None, Stop]:
    while True:
        try:
            one = next(found)
        except StopIteration as end:
            stop: Stop = end.value
            return stop
        if segments.is_waiting():
            _join(segments, one, reading)
        if isinstance(one, Loss):
            _lose(one, reading)
        else:
            reading.account.saw(one)
            if "warc-segment-number" not in one.headers or not segments.begin(one):
                _add(one, grammar, reading)
        if reading.batch.full:
            yield reading.batch.take()


def _add(record: Record, grammar: Grammar, reading: Reading) -> None:
    if grammar is ARC:
        record = record._replace(headers=arc.with_page_type(dict(record.headers), record.block))
    record, faults = vouch(record, reading.options.maximum_record_bytes, reading.account.digests)
    reading.account.unfit += bool(faults)
    if faults and reading.options.mismatches == "reject":
        reason = Reason.DAMAGED if record.fault else Reason.DIGEST_MISMATCH
        detail = "; ".join(fault.detail or fault.kind for fault in faults)
        reading.batch.reject(record.offset, target_uri(record.headers), reason, detail, record.length)
    elif reading.account.wants_text:
        add_record(record, reading.options, reading.inspect_page, reading.batch, faults)


def _lose(loss: Loss, reading: Reading) -> None:
    reading.account.missed(loss)
    reading.batch.reject(loss.offset, loss.url, loss.reason, loss.detail, loss.length)


def _join(segments: Segments, one: Record | Loss, reading: Reading) -> None:
    for done in segments.go_on(one if isinstance(one, Record) else None):
        _finish(done, reading)


def _finish(done: Record | Unjoined, reading: Reading) -> None:
    if isinstance(done, Record):
        if reading.account.wants_text:
            add_record(done, reading.options, reading.inspect_page, reading.batch)
        return
    record = done.record
    url = target_uri(record.headers)
    reading.batch.reject(record.offset, url, Reason.BAD_RECORD, done.detail, record.length)


def read_source(source: Source, shape: Shape, options: Ingest, part: Part) -> Found:
    """The records and losses from the cursor on that begin before the part's end."""
    grammar = GRAMMARS[shape.format]
    jump = None
    if shape.codec is None:
        pieces = plain_pieces(source)
        if source.seekable:
            jump = _jump(source)
    else:
        pieces = compressed_pieces(source, shape.codec, grammar.opens)
    limits = Limits(options.maximum_record_bytes, shape.codec is None, part.end, part.floor, jump)
    return read_records(pieces, grammar, limits)


def _jump(source: Source) -> Callable[[int, Callable[[bytes], bool]], bool]:
    def jump(offset: int, accept: Callable[[bytes], bool]) -> bool:
        before = source.offset
        source.move(offset - 1)  # the byte before shows whether the shard is that long
        head = source.peek(_AHEAD)
        accepted = bool(head) and accept(head[1:])
        source.move(offset if accepted else before)
        return accepted

    return jump
