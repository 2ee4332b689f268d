"""Reads one shard, or a part of it: an open binary stream → batches of documents and rejects, each record in one.

with open("crawl-00000.warc.gz", "rb") as stream:
    for documents, rejects in read_shard(stream, "crawl-00000.warc.gz", Ingest()):
        ...
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, cast

from pipelines.ingest.account import WHOLE, Account, Part
from pipelines.ingest.batches import BatchBuilder, Ingested
from pipelines.ingest.compression import dictionary_bytes
from pipelines.ingest.formats import GRAMMARS, HEAD_BYTES, Shape, recognise, unsupported
from pipelines.ingest.jsonl import read_jsonl, starts_line
from pipelines.ingest.options import Ingest
from pipelines.ingest.pages import InspectPage
from pipelines.ingest.parquet import read_parquet
from pipelines.ingest.record_shards import Reading, read_record_shard
from pipelines.ingest.source import Source
from pipelines.ingest.streams import compressed_pieces, plain_pieces
from pipelines.ingest.wacz import EntryStream, list_entries
from pipelines.records import Reason


def read_shard(
    stream: BinaryIO,
    name: str,
    options: Ingest,
    inspect_page: InspectPage | None = None,
    part: Part = WHOLE,
    account: Account | None = None,
) -> Iterator[Ingested]:
    """Yields the documents and rejects of a shard in its order, in batches of about ``options.batch_bytes`` of text.

    ``stream`` stands at the start of the shard; only Parquet, WACZ and parts of a shard need it to seek. ``name`` goes
    into the rejects and decides the format where the first bytes do not. ``inspect_page`` gets the HTML and the HTTP
    headers (lower-case names) of each page before its text is extracted; what it returns becomes the document's
    evidence. ``part``: only the records that begin in it. ``account``: filled in.

    Damage never raises: it becomes rejects. Errors of the stream itself and of ``inspect_page`` do. Raises
    ``ValueError`` for Parquet and WACZ in a stream that cannot seek.
    """
    batch = BatchBuilder(name, options.batch_bytes)
    reading = Reading(name, options, inspect_page, batch, part, account if account is not None else Account())
    anything = False
    for full in _read(stream, reading):
        anything = True
        yield full
    told = reading.account
    if not anything and batch.empty and part.begin == 0 and told.stop is None and not told.types:
        batch.reject(0, None, Reason.EMPTY_SHARD, "the shard holds no record", 0)
    if not batch.empty:
        yield batch.take()


def _read(stream: BinaryIO, reading: Reading) -> Iterator[Ingested]:
    source = Source(stream)
    raw = source.peek(HEAD_BYTES)
    if not raw:
        reading.batch.reject(0, None, Reason.EMPTY_SHARD, "the shard holds no byte", 0)
        return
    if more := dictionary_bytes(raw):
        raw = source.peek(max(more, HEAD_BYTES))
    shape = recognise(raw, reading.name, reading.options)
    reading.account.format = shape.format
    reading.account.codec = shape.codec.name if shape.codec else ""
    if shape.format in GRAMMARS:
        yield from read_record_shard(stream, source, shape, reading)
    elif shape.format == "parquet":
        yield from _read_parquet(stream, reading)
    elif shape.format == "jsonl":
        yield from _read_jsonl(source, shape, reading)
    elif shape.format == "wacz":
        if reading.part.begin == 0:
            yield from _read_wacz(stream, reading)
    elif reading.part.begin == 0:
        reading.batch.reject(0, None, *unsupported(shape, raw))


def _read_parquet(stream: BinaryIO, reading: Reading) -> Iterator[Ingested]:
    if not stream.seekable():
        raise ValueError(f"{reading.name}: Parquet can only be read from a stream that can seek")
    stream.seek(0)
    part = reading.part
    yield from read_parquet(stream, reading.options, reading.batch, part.begin, part.end)


def _read_jsonl(source: Source, shape: Shape, reading: Reading) -> Iterator[Ingested]:
    part = reading.part
    if shape.codec is None:
        # The byte before the part tells whether a line begins with it.
        source.move(max(part.begin - 1, 0))
        lines = read_jsonl(plain_pieces(source), reading.options, reading.batch, part.begin, part.end)
        reading.account.stop = yield from lines
    elif part.begin == 0:  # offsets are those of the decoded text, which only reading all of it tells
        pieces = compressed_pieces(source, shape.codec, starts_line)
        yield from read_jsonl(pieces, reading.options, reading.batch)


def _read_wacz(stream: BinaryIO, reading: Reading) -> Iterator[Ingested]:
    listing = list_entries(stream)
    for problem in listing.problems:
        reading.batch.reject(problem.offset, None, Reason.DAMAGED, problem.detail)
    for entry in listing.entries:
        content = EntryStream(stream, entry)
        source = Source(cast(BinaryIO, content), origin=entry.offset)
        raw = source.peek(HEAD_BYTES)
        shape = recognise(raw, entry.name, reading.options.model_copy(update={"format": "auto"}))
        length = entry.end - entry.offset
        if shape.format in GRAMMARS:
            inner = reading._replace(part=Part(floor=reading.account.floor))
            yield from read_record_shard(stream, source, shape, inner)
        elif raw:
            reason, detail = unsupported(shape, raw)
            reading.batch.reject(entry.offset, None, reason, f"{entry.name}: {detail}", length)
        while source.peek(1):
            source.skip(len(source.peek(HEAD_BYTES)))
        if content.fault:
            reading.batch.reject(entry.offset, None, Reason.DAMAGED, f"{entry.name}: {content.fault}", length)
