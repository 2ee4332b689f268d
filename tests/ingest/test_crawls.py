"""Files of the WARC libraries' test data and of Common Crawl: nothing that warcio sees is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ingest.building import Pipe, read, warcio_count

CRAWL = Path(__file__).parents[2].parent / "shared" / "crawl"
FILES = sorted(path for folder in ("valid", "odd") for path in (CRAWL / folder).glob("*"))


@pytest.mark.parametrize(
    "path", FILES or [pytest.param(CRAWL, marks=pytest.mark.skip("no shared/crawl"))], ids=lambda p: p.name
)
def test_every_record_is_accounted_for(path):
    data = path.read_bytes()
    found = read(data, path.name)
    rows = len(found.documents) + len(found.rejects)
    assert len(set(found.offsets)) == rows
    assert all(0 <= offset <= len(data) for offset in found.offsets)
    if path.suffix != ".wacz":  # read from its end, where the ZIP directory is
        assert found == read(Pipe(data), path.name)
    if found.reasons["unsupported"]:
        assert rows == 1
    else:
        assert rows >= max(warcio_count(path), 1)
    if "damaged" not in found.reasons and "truncated" not in found.reasons:
        assert found.reasons["encoding"] == 0
