"""Which format a shard is of: by its first bytes, then by a record further on, and only then by its name."""

from __future__ import annotations

import io
from itertools import islice
from typing import BinaryIO, NamedTuple, cast

from pipelines.ingest.compression import Codec, Gzip, Lz4, Zstd, codec_of
from pipelines.ingest.grammar import ARC, WARC, Grammar
from pipelines.ingest.jsonl import starts_line
from pipelines.ingest.options import Ingest
from pipelines.ingest.source import Source
from pipelines.ingest.streams import compressed_pieces, find_member, first_bytes
from pipelines.records import Reason

HEAD_BYTES = 1 << 17
_TRIALS = 100  # members without content at the start of a shard, such as noise that looks like members
GRAMMARS: dict[str, Grammar] = {"warc": WARC, "arc": ARC}

_FOREIGN = (
    (b"BZh", "bzip2: decompress it, or compress it with gzip or zstd"),
    (b"\xfd7zXZ\x00", "xz: decompress it, or compress it with gzip or zstd"),
    (b"ARROW1", "Arrow IPC: write it as Parquet"),
    (b"Obj\x01", "Avro: write it as Parquet"),
    (b"[", "a JSON array: write one object a line (JSON Lines)"),
    (b"<", "markup, not a WARC file"),
)
_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06")
_STARTS = (("warc", WARC.opens), ("jsonl", starts_line), ("arc", ARC.opens))


class Shape(NamedTuple):
    """What the first bytes and the name say of a shard."""

    format: str  # warc, arc, wacz, parquet, jsonl; empty: not known
    codec: Codec | None
    head: bytes  # the first decoded bytes


def recognise(raw: bytes, name: str, options: Ingest) -> Shape:
    """The shape of a shard that starts with ``raw``, which is :data:`HEAD_BYTES` long where the shard is."""
    codec = codec_of(raw)
    if codec is not None:
        codec.learn(raw)
    head = raw if codec is None else _decoded_head(raw, codec)
    if options.format != "auto":
        return Shape("warc" if options.format == "wet" else options.format, codec, head)
    if raw.startswith((b"PAR1", b"PARE")):  # PARE: with an encrypted footer
        return Shape("parquet", None, head)
    if raw.startswith(_ZIP):
        return Shape("wacz", None, head)
    for kind, starts in _STARTS:
        if starts(head):
            return Shape(kind, codec, head)
    if head.lstrip(b"\r\n").startswith(tuple(mark for mark, _ in _FOREIGN)):
        return Shape("", codec, head)
    return _look_further(raw, name, Shape(_by_name(name), codec, head))


def unsupported(shape: Shape, raw: bytes) -> tuple[Reason, str]:
    """The reason and the detail of a shard whose format is not read."""
    for mark, what in _FOREIGN:
        if shape.head.lstrip(b"\r\n").startswith(mark) or raw.startswith(mark):
            return Reason.UNSUPPORTED, what
    return Reason.UNSUPPORTED, f"neither WARC, ARC, WACZ, Parquet nor JSON Lines: it starts with {shape.head[:16]!r}"


def _look_further(raw: bytes, name: str, shape: Shape) -> Shape:
    """For a shard that does not start as it should: a record further on tells what it is, else the name does."""
    for kind, grammar in GRAMMARS.items():
        if grammar.find(shape.head, 0) is not None:
            return shape._replace(format=kind)
    for codec in [shape.codec] if shape.codec else [Gzip(), Zstd(), Lz4()]:
        for kind, starts in _STARTS:
            if find_member(Source(cast(BinaryIO, io.BytesIO(raw))), codec, starts):
                return Shape(kind, codec, shape.head)
    if shape.codec is None:
        return shape
    # Either it decodes, and to something else, or there is nothing to go by but the damage itself.
    return Shape("" if shape.head else shape.format or "warc", shape.codec, shape.head)


def _decoded_head(raw: bytes, codec: Codec) -> bytes:
    source = Source(cast(BinaryIO, io.BytesIO(raw)))
    for piece in islice(compressed_pieces(source, codec, lambda _: True), _TRIALS):
        if data := getattr(piece, "data", b""):
            return bytes(data[:HEAD_BYTES])
    return first_bytes(raw, codec)


def _by_name(name: str) -> str:
    parts = name.lower().rpartition("/")[2].split(".")[1:]
    kinds = {"warc": "warc", "wet": "warc", "wat": "warc", "jsonl": "jsonl", "ndjson": "jsonl", "arc": "arc"}
    return next((kinds[part] for part in parts if part in kinds), "")
