"""Reads one shard: an open binary stream → batches of documents and rejects. Each record ends in exactly one of them.

with open("crawl-00000.warc.gz", "rb") as stream:
    for documents, rejects in read_shard(stream, "crawl-00000.warc.gz", Ingest()):
        ...
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple, cast

from pipelines.ingest.batches import BatchBuilder, Ingested
from pipelines.ingest.jsonl import read_jsonl, starts_line
from pipelines.ingest.options import Ingest
from pipelines.ingest.pages import InspectPage, add_record
from pipelines.ingest.parquet import read_parquet
from pipelines.ingest.streams import (
    Codec,
    Source,
    codec_of,
    compressed_pieces,
    find_member,
    first_bytes,
    gzip_codec,
    plain_pieces,
    zstd_codec,
)
from pipelines.ingest.warc import Loss, read_warc, starts_record
from pipelines.records import Reason

_HEAD = 1 << 17
_FOREIGN = (
    (b"PK\x03\x04", "a ZIP archive (WACZ?): unpack it and read the WARC files in it"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\x04\x22\x4d\x18", "LZ4: decompress it, or compress it with gzip or zstd"),
    (b"BZh", "bzip2: decompress it, or compress it with gzip or zstd"),
    (b"\xfd7zXZ\x00", "xz: decompress it, or compress it with gzip or zstd"),
    (b"filedesc:", "ARC, the format before WARC: convert it, for example with `warcio recompress`"),
    (b"ARROW1", "Arrow IPC: write it as Parquet"),
    (b"Obj\x01", "Avro: write it as Parquet"),
    (b"[", "a JSON array: write one object a line (JSON Lines)"),
    (b"<", "markup, not a WARC file"),
)


class _Shard(NamedTuple):
    """What the first bytes and the name say of a shard."""

    format: str  # warc, parquet, jsonl; empty: not known
    codec: Codec | None
    head: bytes  # the first decoded bytes


def read_shard(
    stream: BinaryIO, name: str, options: Ingest, inspect_page: InspectPage | None = None
) -> Iterator[Ingested]:
    """Yields the documents and rejects of a shard in its order, in batches of about ``options.batch_bytes`` of text.

    ``stream`` stands at the start of the shard; only Parquet needs it to seek. ``name`` goes into the rejects and
    decides the format where the first bytes do not. ``inspect_page`` gets the HTML and the HTTP headers (lower-case
    names) of each WARC page before its text is extracted; what it returns becomes the document's evidence.

    Damage never raises: it becomes rejects. Errors of the stream itself and of ``inspect_page`` do. Raises
    ``ValueError`` for Parquet in a stream that cannot seek.
    """
    batch = BatchBuilder(name, options.batch_bytes)
    anything = False
    for full in _read(stream, name, options, inspect_page, batch):
        anything = True
        yield full
    if not anything and batch.empty:
        batch.reject(0, None, Reason.EMPTY_SHARD, "the shard holds no record")
    if not batch.empty:
        yield batch.take()


def _read(
    stream: BinaryIO, name: str, options: Ingest, inspect_page: InspectPage | None, batch: BatchBuilder
) -> Iterator[Ingested]:
    source = Source(stream)
    raw = source.peek(_HEAD)
    if not raw:
        batch.reject(0, None, Reason.EMPTY_SHARD, "the shard holds no byte")
        return
    shard = _recognise(raw, name, options)
    if shard.format == "parquet":
        if not stream.seekable():
            raise ValueError(f"{name}: Parquet can only be read from a stream that can seek")
        stream.seek(0)
        yield from read_parquet(stream, options, batch)
        return
    if not shard.format:
        batch.reject(0, None, *_unsupported(shard, raw))
        return
    starts: Callable[[bytes], bool] = starts_record if shard.format == "warc" else starts_line
    pieces = compressed_pieces(source, shard.codec, starts) if shard.codec else plain_pieces(source)
    if shard.format == "jsonl":
        yield from read_jsonl(pieces, options, batch)
        return
    for found in read_warc(pieces, options.maximum_record_bytes, plain=shard.codec is None):
        if isinstance(found, Loss):
            batch.reject(found.offset, found.url, found.reason, found.detail)
        else:
            add_record(found, options, inspect_page, batch)
        if batch.full:
            yield batch.take()


def _recognise(raw: bytes, name: str, options: Ingest) -> _Shard:
    codec = codec_of(raw)
    head = raw if codec is None else _decoded_head(raw, codec)
    if options.format != "auto":
        return _Shard("warc" if options.format == "wet" else options.format, codec, head)
    if raw.startswith(b"PAR1"):
        return _Shard("parquet", None, head)
    if starts_record(head):
        return _Shard("warc", codec, head)
    if starts_line(head):
        return _Shard("jsonl", codec, head)
    if head.lstrip(b"\r\n").startswith(tuple(mark for mark, _ in _FOREIGN)):
        return _Shard("", codec, head)
    return _look_further(raw, name, _Shard(_by_name(name), codec, head))


def _look_further(raw: bytes, name: str, shard: _Shard) -> _Shard:
    """For a shard that does not start as it should: a record further on tells what it is, else the name does."""
    if b"\nWARC/1." in shard.head:
        return _Shard("warc", shard.codec, shard.head)
    for codec in [shard.codec] if shard.codec else [gzip_codec(), zstd_codec()]:
        for kind, starts in (("warc", starts_record), ("jsonl", starts_line)):
            if find_member(Source(cast(BinaryIO, io.BytesIO(raw))), codec, starts):
                return _Shard(kind, codec, shard.head)
    if shard.codec is None:
        return shard
    # Either it decodes, and to something else, or there is nothing to go by but the damage itself.
    return _Shard("" if shard.head else shard.format or "warc", shard.codec, shard.head)


def _decoded_head(raw: bytes, codec: Codec) -> bytes:
    source = Source(cast(BinaryIO, io.BytesIO(raw)))
    for piece in compressed_pieces(source, codec_of(raw) or codec, lambda _: True):
        if data := getattr(piece, "data", b""):
            return bytes(data[:_HEAD])
    return first_bytes(raw, codec)


def _by_name(name: str) -> str:
    parts = name.lower().rpartition("/")[2].split(".")[1:]
    for part, kind in (("warc", "warc"), ("wet", "warc"), ("wat", "warc"), ("jsonl", "jsonl"), ("ndjson", "jsonl")):
        if part in parts:
            return kind
    return ""


def _unsupported(shard: _Shard, raw: bytes) -> tuple[Reason, str]:
    for mark, what in _FOREIGN:
        if shard.head.lstrip(b"\r\n").startswith(mark) or raw.startswith(mark):
            return Reason.UNSUPPORTED, what
    return Reason.UNSUPPORTED, f"neither WARC, Parquet nor JSON Lines: it starts with {shard.head[:16]!r}"
