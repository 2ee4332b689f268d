"""The inputs to begin with: shards and pages, generated, broken on purpose, and real where they are at hand."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from pipelines.ingest.options import Ingest
from pipelines.ingest.reader import read_shard
from tests.crawls import SHARED
from tests.fuzz.mutation import MOST
from tests.ingest.building import HTML_FORMS, SHARD_FORMS, shard_of

ASSETS = Path(__file__).parents[1] / "assets" / "corrupt"
_LARGEST = MOST // 2


def seeds(target: str) -> list[bytes]:
    found = sorted({*(_shards() if target == "reader" else _pages())}, key=lambda one: (len(one), one))
    return [one for one in found if len(one) <= _LARGEST]


def _files() -> Iterator[bytes]:
    for folder in (ASSETS, SHARED / "crawl" / "valid", SHARED / "crawl" / "odd"):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.stat().st_size <= _LARGEST:
                yield path.read_bytes()


def _shards() -> Iterator[bytes]:
    yield from _files()
    for number, form in enumerate(SHARD_FORMS):
        yield shard_of(form, 5, random.Random(number))


def _pages() -> Iterator[bytes]:
    found: list[bytes] = [page("", {}), *(page(html, headers) for html, headers in HTML_FORMS)]

    def keep(html: str, headers: dict[str, str]) -> list[object]:
        found.append(page(html, headers))
        return []

    for data in _files():
        for _ in read_shard(BytesIO(data), "x", Ingest(), keep):  # type: ignore[arg-type]
            pass
    return iter(found)


def page(html: str, headers: dict[str, str]) -> bytes:
    """An input of the target for pages: the HTTP headers as one line of JSON, then the HTML."""
    return json.dumps(dict(headers)).encode() + b"\n" + html.encode("utf-8", "replace")
