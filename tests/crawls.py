"""Small crawls for tests: real English (docstrings of the standard library) in every format that is read."""

import gzip
import hashlib
import json
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.demo import Page, embedded_crawl
from pipelines.job import Job, load_job

SHARED = Path(__file__).parents[2] / "shared"


@cache
def pages(count: int = 150) -> tuple[Page, ...]:
    return tuple(embedded_crawl(count, site=False))  # tests must not hang on what else is installed


def rows(count: int = 150) -> list[dict[str, str]]:
    """url, timestamp and text of the pages, with their paragraphs as lines."""
    return [
        {
            "url": page.url,
            "timestamp": page.captured_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "text": page.body.replace("</p><p>", "\n").removeprefix("<p>").removesuffix("</p>"),
        }
        for page in pages(count)
    ]


def job(crawl: str, output: Path, **settings: object) -> Job:
    """A job of one worker that writes small parts, and takes no time over a panel."""
    usual = {"workers": 1, "part_bytes": 1 << 20, "statistics": {"panel": False}}
    return load_job(None, {"input": [crawl], "output": str(output), **usual, **settings})


def write_jsonl(folder: Path, shards: int = 3, count: int = 150) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(shards):
        lines = [json.dumps(row) for row in rows(count)[number::shards]]
        (folder / f"crawl-{number}.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))
    return str(folder / "*.jsonl.gz")


def write_parquet(folder: Path, shards: int = 3, count: int = 150) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(shards):
        pq.write_table(pa.Table.from_pylist(rows(count)[number::shards]), folder / f"crawl-{number}.parquet")
    return str(folder / "*.parquet")


def write_wet(folder: Path, shards: int = 3, count: int = 150) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(shards):
        part = rows(count)[number::shards]
        (folder / f"crawl-{number}.warc.wet.gz").write_bytes(
            b"".join(gzip.compress(conversion(r), mtime=0) for r in part)
        )
    return str(folder / "*.wet.gz")


def conversion(row: dict[str, str]) -> bytes:
    text = row["text"].encode()
    head = (
        f"WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: {row['url']}\r\nWARC-Date: {row['timestamp']}\r\n"
        f"Content-Type: text/plain\r\nContent-Length: {len(text)}\r\n\r\n"
    )
    return head.encode() + text + b"\r\n\r\n"


def digests(output: Path) -> dict[str, str]:
    """The SHA-256 of every file of an output."""
    files = sorted(path for path in output.rglob("*") if path.is_file())
    return {str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def column(output: Path, places: tuple[str, ...], names: list[str]) -> list[tuple[object, ...]]:
    """The rows of some columns over the parts of some places."""
    found: list[tuple[object, ...]] = []
    for place in places:
        for part in sorted((output / place).glob("part-*.parquet")):
            table = pq.read_table(part, columns=names)
            found += zip(*(table[name].to_pylist() for name in names), strict=True)
    return found
