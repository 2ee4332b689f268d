"""Our reader beside warcio and FastWARC: nowhere do we give fewer rows than one of them gives records."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from benchmarks.reader_speed import READERS, WORKS, crawl, write_crawl
from benchmarks.reader_table import compare, markdown, plain, why, without_reasons
from benchmarks.readers import main

ROOT = Path(__file__).parents[1]
CORRUPT = ROOT / "tests" / "assets" / "corrupt"
CRAWL = ROOT.parent / "shared" / "crawl"
OURS = sorted(CORRUPT.glob("*.warc*"))
SHARED = sorted(path for folder in ("valid", "odd") for path in (CRAWL / folder).glob("*"))


@pytest.mark.parametrize(
    "path",
    [*OURS, *(SHARED or [pytest.param(CRAWL, marks=pytest.mark.skip("no shared/crawl"))])],
    ids=lambda path: path.name,
)
def test_no_peer_finds_more(path: Path) -> None:
    row = compare(path)
    assert not row.is_fewer, why(row)
    if any(peer.records != row.read for peer in row.peers.values()):
        assert why(row), "a difference has a reason"


def test_the_table_tells_what_each_reader_does_with_damage(tmp_path: Path) -> None:
    members = [gzip.compress(record, mtime=0) for record in crawl(3)]
    path = tmp_path / "hurt.warc.gz"
    path.write_bytes(b"".join([*members[:4], members[4][:60] + bytes(40) + members[4][100:], *members[5:]]))
    row = compare(path)
    assert (row.read, row.refused, row.stretches + row.partial) == (len(members) - 1, 0, 1)
    assert all(peer.records < len(members) for peer in row.peers.values())
    assert row.damage[0].offset == sum(map(len, members[:4]))
    reasons = "\n".join(why(row))
    assert f"ours at {row.damage[0].offset:,}, {len(members[4]):,} bytes, damaged" in reasons
    for name in row.peers:
        assert f"{name} ends after record" in reasons
    for table in (plain([row]), markdown([row])):
        assert "hurt.warc.gz" in table
        assert "damaged" in table
    assert "damaged:" not in without_reasons([row])


def test_the_command_fails_where_a_peer_finds_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "whole.warc").write_bytes(b"".join(crawl(2)))
    monkeypatch.setattr("sys.argv", ["readers", "--table", str(tmp_path), "--write", str(tmp_path / "table.md")])
    assert main() == 0
    assert "1 files; records: warcio 7, FastWARC 7, ours 7 and 0 in part" in capsys.readouterr().out
    assert "| whole.warc | 7 | 7 | 7 |" in (tmp_path / "table.md").read_text()
    row = compare(tmp_path / "whole.warc")
    assert not row.is_fewer
    assert row._replace(read=6).is_fewer


def test_what_is_timed_reads_the_same_records_and_bytes(tmp_path: Path) -> None:
    paths = list(write_crawl(tmp_path, 5))
    assert [path.name for path in paths] == ["crawl.warc.gz", "crawl.warc.zst", "crawl.warc.lz4", "crawl.warc"]
    for path in paths:
        for work in WORKS:
            warcio_reads_it = path.suffix in (".gz", ".warc")
            sums = {name: read(path, work) for name, read in READERS.items() if warcio_reads_it or "warcio" not in name}
            assert len(set(sums.values())) == 1, (path.name, work, sums)
            assert sums["ours"].records == 16
            assert sums["ours"].verified == (16 if work.digests else 0)
