"""How fast WARC records are read: ours, FastWARC and warcio on the same files, interleaved, on one core."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import lz4.frame
import zstandard
from fastwarc.warc import ArchiveIterator as FastIterator
from warcio.archiveiterator import ArchiveIterator as WarcioIterator  # type: ignore[import-untyped]

from pipelines.ingest.account import WHOLE
from pipelines.ingest.digests import check_block
from pipelines.ingest.formats import HEAD_BYTES, recognise
from pipelines.ingest.options import Ingest
from pipelines.ingest.record_shards import read_source
from pipelines.ingest.source import Source
from pipelines.ingest.warc import Record

_DATE = "2023-03-20T12:34:56Z"
_PAGE = 30_000  # bytes of HTML, on average


class Work(NamedTuple):
    """What is done with each record; its block is read in any case."""

    name: str
    headers: bool = False  # all of them as a dict
    digests: bool = False  # that of the block is verified


WORKS = (
    Work("blocks read"),
    Work("and all headers as a dict", headers=True),
    Work("and block digests verified", digests=True),
)


class Sums(NamedTuple):
    """Over all files: records, bytes in their blocks, and how many digests were verified."""

    records: int
    bytes: int
    verified: int


def _ours(path: Path, work: Work) -> Sums:
    records = size = verified = 0
    with path.open("rb") as stream:
        source = Source(stream)
        options = Ingest()
        shape = recognise(source.peek(HEAD_BYTES), path.name, options)
        for record in read_source(source, shape, options, WHOLE):
            if not isinstance(record, Record):
                continue
            records += 1
            if work.headers:
                dict(record.headers)
            if work.digests:
                check = check_block(record.headers, record.block)
                verified += check is not None and check.outcome.value == "verified"
            size += len(record.block)
    return Sums(records, size, verified)


def _fastwarc(path: Path, work: Work) -> Sums:
    records = size = verified = 0
    with path.open("rb") as stream:
        for record in FastIterator(stream, parse_http=False):
            records += 1
            if work.headers:
                dict(record.headers)
            if work.digests:
                verified += record.verify_block_digest()
            size += len(record.reader.read())
    return Sums(records, size, verified)


def _warcio(path: Path, work: Work) -> Sums:
    records = size = verified = 0
    with path.open("rb") as stream:
        # It verifies the digests of block and payload together, and needs the HTTP head parsed for that.
        for record in WarcioIterator(stream, no_record_parse=not work.digests, check_digests=work.digests):
            records += 1
            if work.headers:
                dict(record.rec_headers.headers)
            length = int(record.rec_headers.get_header("Content-Length") or 0)
            # With its default of 16 kB a call, most of the time would go into joining.
            record.raw_stream.read(length)
            size += length
            if work.digests:
                verified += bool(record.digest_checker.passed)
    return Sums(records, size, verified)


def _warcio_as_documented(path: Path, work: Work) -> Sums:
    """As its own documentation reads records, HTTP heads parsed and content decoded."""
    records = size = verified = 0
    with path.open("rb") as stream:
        for record in WarcioIterator(stream, check_digests=work.digests):
            records += 1
            if work.headers:
                dict(record.rec_headers.headers)
            record.content_stream().read()
            size += int(record.rec_headers.get_header("Content-Length") or 0)
            if work.digests:
                verified += bool(record.digest_checker.passed)
    return Sums(records, size, verified)


READERS: dict[str, Callable[[Path, Work], Sums]] = {
    "ours": _ours,
    "FastWARC": _fastwarc,
    "warcio": _warcio,
    "warcio, as documented": _warcio_as_documented,
}


def report(paths: Sequence[Path], passes: int) -> str:
    """What each reader needed over all the files: median and best of the passes, and the ratios of the medians."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    name = paths[0].name if len(paths) == 1 else f"{len(paths)} files"
    lines = [f"{name}: {sum(path.stat().st_size for path in paths) / 1e6:.1f} MB"]
    for work in WORKS:
        lines += _measure(paths, work, passes)
    return "\n".join(lines)


def _measure(paths: Sequence[Path], work: Work, passes: int) -> Iterator[str]:
    sums: dict[str, list[Sums]] = {}
    seconds: dict[str, list[float]] = {}
    failed = {}
    for _ in range(passes):
        for name, reader in READERS.items():
            if name in failed:
                continue
            began = time.process_time()
            try:
                found = [reader(path, work) for path in paths]
            except Exception as error:
                failed[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:60]}"
                continue
            seconds.setdefault(name, []).append(time.process_time() - began)
            sums[name] = found
    ours = statistics.median(seconds["ours"])
    yield f"  {work.name}"
    for name in READERS:
        if name in failed:
            yield f"    {name:<21} {failed[name]}"
            continue
        records, size, verified = (sum(values) for values in zip(*sums[name], strict=True))
        median, best = statistics.median(seconds[name]), min(seconds[name])
        ratio = "" if name == "ours" else f", ours is {median / ours:.2f} times as fast"
        checked = f", {verified:,} verified" if work.digests else ""
        yield (
            f"    {name:<21} {records / median:>8,.0f} records/s, {size / median / 1e6:>7,.1f} MB/s "
            f"(best {size / best / 1e6:,.1f}); {records:,} records, {size / 1e6:,.1f} MB{checked}{ratio}"
        )


def write_crawl(folder: Path, pages: int) -> Iterator[Path]:
    """Writes one crawl as Common Crawl does, a member for each record, in each compression; gives the files' paths."""
    compress: dict[str, Callable[[bytes], bytes]] = {
        "crawl.warc.gz": lambda data: gzip.compress(data, 6, mtime=0),
        "crawl.warc.zst": zstandard.ZstdCompressor().compress,
        "crawl.warc.lz4": lambda data: bytes(lz4.frame.compress(data)),
        "crawl.warc": bytes,
    }
    for name, encode in compress.items():
        with (folder / name).open("wb") as out:
            for record in crawl(pages):
                out.write(encode(record))
        yield folder / name


def crawl(pages: int) -> Iterator[bytes]:
    """The records of a crawl: warcinfo, then request, response and metadata of each page."""
    draw = random.Random(1)
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    words = ["".join(draw.choices(letters, range(26, 0, -1), k=draw.randint(2, 10))) for _ in range(8000)]
    weights = [1 / (rank + 5) for rank in range(len(words))]
    info = b"isPartOf: CC-MAIN-2023-14\r\npublisher: a benchmark\r\nformat: WARC File Format 1.1\r\n"
    yield _record(draw, "warcinfo", "application/warc-fields", info, ["WARC-Filename: crawl.warc.gz"])
    for number in range(pages):
        url = f"https://www.site{number % 397}.example/{'/'.join(draw.choices(words, k=3))}?id={number}"
        page = _page(draw, words, weights)
        yield from _capture(draw, url, page)


def _page(draw: random.Random, words: list[str], weights: list[float]) -> bytes:
    """HTML that compresses to about a quarter: menus and cards around some text."""
    classes = draw.sample(words, 6)
    parts = ["<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8><title>page</title></head><body>\n"]
    size, wanted = 0, draw.lognormvariate(0, 0.7) * _PAGE * 0.78
    while size < wanted:
        chosen = draw.choices(words, weights, k=18)
        kind = draw.choice(classes)
        parts.append(
            f'<div class="{kind} {kind}__item col-sm-12 col-md-4"><a class="{kind}__link" rel="nofollow" '
            f'href="/{chosen[0]}/{chosen[1]}.html"><span class="{kind}__title">{chosen[2]} {chosen[3]}</span></a>\n'
            f'  <p class="{kind}__text">{" ".join(chosen[4:])}</p>\n</div>\n'
        )
        size += len(parts[-1])
    return "".join([*parts, "</body></html>\n"]).encode()


def _capture(draw: random.Random, url: str, page: bytes) -> Iterator[bytes]:
    host = url.split("/")[2]
    identity = _identity(draw)
    common = [f"WARC-Concurrent-To: {identity}", f"WARC-Target-URI: {url}", "WARC-IP-Address: 192.0.2.7"]
    request = (
        f"GET {url.partition(host)[2]} HTTP/1.1\r\nUser-Agent: CCBot/2.0 (https://commoncrawl.org/faq/)\r\nAccept: "
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\n"
        f"If-Modified-Since: Mon, 30 Jan 2023 11:47:53 GMT\r\nAccept-Encoding: br,gzip\r\nHost: {host}\r\n"
        "Connection: Keep-Alive\r\n\r\n"
    )
    yield _record(draw, "request", "application/http; msgtype=request", request.encode(), common)
    head = (
        "HTTP/1.1 200 OK\r\nDate: Mon, 20 Mar 2023 12:34:56 GMT\r\nServer: nginx\r\nContent-Type: text/html; "
        "charset=UTF-8\r\nX-Crawler-Transfer-Encoding: chunked\r\nConnection: keep-alive\r\nVary: Accept-Encoding\r\n"
        f"X-Crawler-Content-Encoding: gzip\r\nContent-Length: {len(page)}\r\n\r\n"
    )
    fields = [*common[1:], f"WARC-Payload-Digest: {_sha1(page)}", "WARC-Identified-Payload-Type: text/html"]
    block = head.encode() + page
    yield _record(draw, "response", "application/http; msgtype=response", block, fields, identity)
    found = b'fetchTimeMs: 340\r\ncharset-detected: UTF-8\r\nlanguages-cld2: {"reliable":true,"text-bytes":3300}\r\n'
    yield _record(draw, "metadata", "application/warc-fields", found, common[:2])


def _record(
    draw: random.Random, kind: str, content_type: str, block: bytes, fields: list[str], identity: str = ""
) -> bytes:
    head = [
        "WARC/1.0",
        f"WARC-Type: {kind}",
        f"WARC-Date: {_DATE}",
        f"WARC-Record-ID: {identity or _identity(draw)}",
        f"Content-Length: {len(block)}",
        f"Content-Type: {content_type}",
        *fields,
        f"WARC-Block-Digest: {_sha1(block)}",
    ]
    return "\r\n".join([*head, "", ""]).encode() + block + b"\r\n\r\n"


def _identity(draw: random.Random) -> str:
    digits = f"{draw.getrandbits(128):032x}"
    return f"<urn:uuid:{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}>"


def _sha1(data: bytes) -> str:
    return f"sha1:{base64.b32encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()}"
