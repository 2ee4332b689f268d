"""Builds small shards out of generated text, so that a test knows each byte's place."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import random
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import lz4.frame
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from warcio.archiveiterator import ArchiveIterator
from warcio.exceptions import ArchiveLoadFailed

from pipelines.ingest.account import Account, Part, Read, misplaced, parts_of
from pipelines.ingest.options import Ingest
from pipelines.ingest.reader import read_shard

WORDS = ["river", "stone", "quiet", "letter", "morning", "harbour", "window", "garden", "winter", "paper", "bridge"]


def prose(number: int, words: int = 60) -> str:
    draw = random.Random(number)
    return f"Text {number}. " + " ".join(draw.choice(WORDS) for _ in range(words)) + "."


def html(text: str) -> bytes:
    return f"<!doctype html><html><body><main><p>{text}</p></main></body></html>".encode()


def http(body: bytes, *headers: str, status: str = "HTTP/1.1 200 OK") -> bytes:
    return "\r\n".join([status, *(headers or ("Content-Type: text/html; charset=utf-8",)), "", ""]).encode() + body


def record(
    block: bytes,
    number: int = 0,
    kind: str = "response",
    length: int | None = None,
    content_type: str = "application/http; msgtype=response",
    extra: Sequence[str] = (),
) -> bytes:
    lines = [
        "WARC/1.0",
        f"WARC-Type: {kind}",
        f"WARC-Target-URI: https://site{number}.example/page",
        f"WARC-Date: 2020-01-02T03:04:{number % 60:02d}Z",
        f"WARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-{number:012d}>",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(block) if length is None else length}",
        *extra,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + block + b"\r\n\r\n"


def page_record(number: int, **options: Any) -> bytes:
    return record(http(html(prose(number))), number, **options)


def wet_record(number: int) -> bytes:
    return record(prose(number).encode(), number, kind="conversion", content_type="text/plain")


def gz(data: bytes) -> bytes:
    return gzip.compress(data, 6, mtime=0)


def zst(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def lz(data: bytes) -> bytes:
    return bytes(lz4.frame.compress(data, content_checksum=True))


def plain(data: bytes) -> bytes:
    return data


PACKINGS: dict[str, Callable[[bytes], bytes]] = {"gzip": gz, "zstd": zst, "lz4": lz, "plain": plain}


def digest_of(block: bytes) -> str:
    return "WARC-Block-Digest: sha1:" + base64.b32encode(hashlib.sha1(block).digest()).decode()


def crawled(number: int, digests: bool = False) -> list[tuple[bytes, bytes]]:
    """Request, response and metadata of one page, as Common Crawl writes them: the block and the record of each."""
    blocks = [
        ("request", f"GET /page HTTP/1.1\r\nHost: site{number}.example\r\n\r\n".encode()),
        ("response", http(html(prose(number)))),
        ("metadata", f"fetchTimeMs: {number}\r\ncharset-detected: UTF-8\r\n".encode()),
    ]
    return [(b, record(b, number, kind=kind, extra=[digest_of(b)] if digests else ())) for kind, b in blocks]


def arc_record(number: int, block: bytes | None = None, length: int | None = None) -> bytes:
    block = http(html(prose(number))) if block is None else block
    line = f"http://site{number}.example/page 192.0.2.7 200401020304{number % 60:02d} text/html"
    return f"{line} {len(block) if length is None else length}\n".encode() + block + b"\n"


def arc_version() -> bytes:
    block = b"1 0 Tests\nURL IP-address Archive-date Content-type Archive-length\n"
    return b"filedesc://x.arc 0.0.0.0 20040102030405 text/plain %d\n" % len(block) + block + b"\n"


@cache
def _trained() -> zstandard.ZstdCompressionDict:
    return zstandard.train_dictionary(2048, [page_record(n) for n in range(400)])


def with_dictionary(parts: Sequence[bytes]) -> bytes:
    """A ``.warc.zst`` whose first frame holds the dictionary of the others."""
    trained = _trained()
    stored = zstandard.ZstdCompressor().compress(trained.as_bytes())
    frames = zstandard.ZstdCompressor(dict_data=trained, write_checksum=True)
    head = b"\x5d\x2a\x4d\x18" + len(stored).to_bytes(4, "little") + stored
    return head + b"".join(frames.compress(part) for part in parts)


def zipped(files: dict[str, bytes]) -> bytes:
    target = BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return target.getvalue()


def lines_of(numbers: Sequence[int]) -> bytes:
    rows = ({"url": f"https://site{n}.example/page", "text": prose(n)} for n in numbers)
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def parquet_of(numbers: Sequence[int], group: int) -> bytes:
    sink = BytesIO()
    rows = {"url": [f"https://site{n}.example/page" for n in numbers], "text": [prose(n) for n in numbers]}
    pq.write_table(pa.table(rows), sink, row_group_size=group, compression="zstd")
    return sink.getvalue()


def nesting(number: int, depth: int = 2) -> bytes:
    """A page whose body is a WARC file as text."""
    inner = b"".join(page_record(1000 + number * 10 + n) for n in range(depth))
    return record(http(inner, "Content-Type: text/plain"), number)


def nesting_members(number: int, depth: int = 2) -> bytes:
    """A captured ``.warc.gz``, stored as it is in the gzip member around it, as a compressor that gives up does."""
    noise = random.Random(number).randbytes(50)
    inner = b"".join(gz(page_record(1000 + number * 10 + n)) for n in range(depth)) + noise
    return gzip.compress(record(http(inner, "Content-Type: application/gzip"), number), 0, mtime=0)


def shard_of(form: str, count: int, rng: random.Random) -> bytes:
    """A shard of one of :data:`SHARD_FORMS`, of about ``count`` pages."""
    numbers = rng.sample(range(900), count)
    records = [one for n in numbers for _, one in crawled(n, rng.random() < 0.5)]
    pages = [page_record(n) for n in numbers]
    match form:
        case "warc":
            return b"".join(records)
        case "warc.gz" | "warc.zst" | "warc.lz4":
            return b"".join(PACKINGS[{"gz": "gzip", "zst": "zstd", "lz4": "lz4"}[form[5:]]](one) for one in records)
        case "dictionary.warc.zst":
            return with_dictionary(records)
        case "one-member.warc.gz":
            return gz(b"".join(records))
        case "crossing.warc.gz":
            whole = b"".join(records)
            return b"".join(gz(whole[at : at + 700]) for at in range(0, len(whole), 700))
        case "arc":
            return b"".join([arc_version(), *(arc_record(n) for n in numbers)])
        case "arc.gz":
            return b"".join(gz(one) for one in [arc_version(), *(arc_record(n) for n in numbers)])
        case "jsonl":
            return lines_of(numbers)
        case "jsonl.gz":
            return gz(lines_of(numbers))
        case "parquet":
            return parquet_of(numbers, rng.randint(1, 4))
        case "wacz":
            files = {"archive/a.warc.gz": b"".join(map(gz, pages)), "archive/b.warc": b"".join(records)}
            return zipped(files)
        case "empty":
            return b""
        case "nested.warc":
            return b"".join(nesting(n, rng.randint(1, 6)) if rng.random() < 0.5 else page_record(n) for n in numbers)
        case "nested.warc.gz":
            return b"".join(
                nesting_members(n, rng.randint(1, 6)) if rng.random() < 0.5 else gz(page_record(n)) for n in numbers
            )
        case _:
            assert form == "segments.warc.gz"
            return b"".join(gz(one) for n in numbers for one in segmented(n, rng.randint(1, 4)))


SHARD_FORMS = [
    "warc",
    "warc.gz",
    "warc.zst",
    "warc.lz4",
    "dictionary.warc.zst",
    "one-member.warc.gz",
    "crossing.warc.gz",
    "arc",
    "arc.gz",
    "jsonl",
    "jsonl.gz",
    "parquet",
    "wacz",
    "empty",
    "nested.warc",
    "nested.warc.gz",
    "segments.warc.gz",
]

HTML_FORMS: list[tuple[str, dict[str, str]]] = [
    (
        '<html ai-disclosure="ai-generated"><head><meta name="generator" content="KoalaWriter 2.1">'
        '<meta name="ai-disclosure" content="mode=none"><link rel="c2pa-manifest" href="/a.c2pa">'
        '<script type="application/ld+json">{"@type": "NewsArticle", "digitalSourceType": '
        '"http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"}</script></head>'
        "<body><article><p>As an AI language model, I cannot do that.</p></article></body></html>",
        {"content-type": "text/html", "ai-disclosure": "mode=machine-generated", "link": '</a>; rel="c2pa-manifest"'},
    ),
    (
        "<!-- x --><style>.a{display:none}</style><div style='display:none'>hidden</div><p>\u200b\u2063 a\U000e0041"
        "</p><textarea>oaicite:0 turn0search1 citeturn0</textarea><blockquote>Regenerate response</blockquote>",
        {"x-robots-tag": "noai", "tdm-reservation": "1"},
    ),
]


def segmented(number: int, segments: int) -> list[bytes]:
    """The page as a record in that many segments."""
    block = http(html(prose(number)))
    step = -(-len(block) // segments)
    parts = [block[at : at + step] for at in range(0, len(block), step)]
    identity = f"<urn:uuid:00000000-0000-0000-0000-{number:012d}>"
    records = [record(parts[0], number, extra=["WARC-Segment-Number: 1"])]
    for place, part in enumerate(parts[1:], 2):
        extra = [f"WARC-Segment-Number: {place}", f"WARC-Segment-Origin-ID: {identity}"]
        extra += [f"WARC-Segment-Total-Length: {len(block)}"] if place == len(parts) else []
        records.append(record(part, 10_000 + number * 10 + place, kind="continuation", extra=extra))
    return records if len(parts) > 1 else [page_record(number)]


class Shard(NamedTuple):
    data: bytes
    offsets: list[int]


def join(parts: Sequence[bytes]) -> Shard:
    offsets, data = [], b""
    for part in parts:
        offsets.append(len(data))
        data += part
    return Shard(data, offsets)


class Pipe:
    """A stream that cannot seek and gives few bytes at a time."""

    def __init__(self, data: bytes, step: int = 777) -> None:
        self._inner = BytesIO(data)
        self._step = step

    def read(self, size: int = -1) -> bytes:
        return self._inner.read(min(size, self._step) if size > 0 else self._step)

    def seekable(self) -> bool:
        return False


class Outcome(NamedTuple):
    documents: list[dict[str, Any]]
    rejects: list[dict[str, Any]]

    @property
    def reasons(self) -> Counter[str]:
        return Counter(row["reason"] for row in self.rejects)

    @property
    def losses(self) -> list[tuple[int, str]]:
        return [(row["record_offset"], row["reason"]) for row in self.rejects]

    @property
    def hosts(self) -> list[str]:
        return [row["host"] for row in self.documents]

    @property
    def offsets(self) -> list[int]:
        return [row["record_offset"] for row in (*self.documents, *self.rejects)]


def read(data: bytes | Any, name: str = "x.warc.gz", inspect_page: Any = None, **options: Any) -> Outcome:
    return _read(data, name, Ingest(**options), inspect_page, Part(), Account())


def _read(data: bytes | Any, name: str, options: Ingest, inspect_page: Any, part: Part, account: Account) -> Outcome:
    stream = BytesIO(data) if isinstance(data, bytes) else data
    documents, rejects = [], []
    for batch in read_shard(stream, name, options, inspect_page, part, account):
        documents += batch.documents.to_pylist()
        rejects += batch.rejects.to_pylist()
    return Outcome(documents, rejects)


class Divided(NamedTuple):
    outcome: Outcome
    parts: int
    again: int  # parts that were read again


def read_parts(data: bytes, part_bytes: int, name: str = "x.warc.gz", **options: Any) -> Divided:
    """Reads a shard in parts as a job does: all at once, then again those that began at the wrong place."""
    wanted = Ingest(**options)
    divided = list(parts_of(len(data), part_bytes))
    given = list(divided)
    accounts = [Account() for _ in divided]
    found = [_read(data, name, wanted, None, part, account) for part, account in zip(given, accounts, strict=True)]
    again = 0
    while wrong := list(misplaced(list(map(Read, divided, given, accounts)))):
        for index, part in wrong:
            given[index], accounts[index] = part, Account()
            found[index] = _read(data, name, wanted, None, part, accounts[index])
            again += 1
        assert again < 20 * len(divided) + 20
    documents = [row for one in found for row in one.documents]
    rejects = [row for one in found for row in one.rejects]
    return Divided(Outcome(documents, rejects), len(divided), again)


def hosts(*numbers: int) -> list[str]:
    return [f"site{number}.example" for number in numbers]


def warcio_count(path: Path) -> int:
    """How many records warcio gives of a file, up to where it stops."""
    count = 0
    with path.open("rb") as stream:
        try:
            for _ in ArchiveIterator(stream):
                count += 1
        except ArchiveLoadFailed:
            pass
    return count
