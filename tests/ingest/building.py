"""Builds small shards out of generated text, so that a test knows each byte's place."""

from __future__ import annotations

import gzip
import random
from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from typing import Any, NamedTuple

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
    stream = BytesIO(data) if isinstance(data, bytes) else data
    documents, rejects = [], []
    for batch in read_shard(stream, name, Ingest(**options), inspect_page):
        documents += batch.documents.to_pylist()
        rejects += batch.rejects.to_pylist()
    return Outcome(documents, rejects)


def hosts(*numbers: int) -> list[str]:
    return [f"site{number}.example" for number in numbers]
