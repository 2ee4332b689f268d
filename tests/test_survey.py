"""What `reserve survey` says of shards that are whole and of broken ones."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import survey as kernel
from pipelines.cli import main
from pipelines.ingest.options import Ingest
from pipelines.ingest.shards import Shard
from pipelines.survey import Survey, survey
from pipelines.survey_text import headline, render
from tests.ingest.building import gz, html, http, join, page_record, prose, record, wet_record

CORRUPT = Path(__file__).parent / "assets" / "corrupt"


def look(data: bytes, name: str = "x.warc.gz", quick: bool = False, **options: object) -> Survey:
    shard = Shard(name, name, len(data), 0.0)
    return survey(io.BytesIO(data), shard, Ingest.model_validate(options), quick)


def digest(block: bytes) -> str:
    return f"WARC-Block-Digest: sha1:{hashlib.sha1(block).hexdigest()}"


def mixed() -> list[bytes]:
    """A crawl of five records: a page, its request, a page that is gone, a revisit, and a document as text."""
    page, gone = http(html(prose(1))), http(b"gone", "Content-Type: text/plain", status="HTTP/1.1 404 Not Found")
    return [
        record(page, 1, extra=[digest(page)]),
        record(b"GET / HTTP/1.1\r\n\r\n", 1, kind="request", content_type="application/http; msgtype=request"),
        record(gone, 2, extra=[digest(b"something else")]),
        record(http(b"", "Content-Type: text/html"), 3, kind="revisit"),
        wet_record(4),
    ]


@pytest.mark.parametrize("quick", [False, True])
def test_a_whole_shard(quick: bool) -> None:
    found = look(b"".join(map(gz, mixed())), quick=quick, mismatches="keep")
    assert (found.format, found.codec) == ("warc", "gzip")
    assert found.types == {"response": 2, "request": 1, "revisit": 1, "conversion": 1}
    assert (found.records, found.read, found.damages) == (5, 5, 0)
    assert found.statuses == {"200": 2, "404": 1}
    assert found.content_types == {"text/html": 2, "text/plain": 2}
    assert found.hosts == {f"site{n}.example": 1 for n in (1, 2, 3, 4)}
    assert str(found.first_capture) == "2020-01-02 03:04:01+00:00"
    assert str(found.last_capture) == "2020-01-02 03:04:04+00:00"
    assert found.digests == {"verified": 1, "mismatch": 1}
    assert (found.unfit, found.undigested) == (1, 3)
    assert not found.is_whole, "a digest does not fit"
    assert found.documents == (0 if quick else 2)
    assert found.languages.total() == found.documents


def test_a_digest_that_does_not_fit_loses_its_record_unless_told_to_keep_it() -> None:
    data = join(list(map(gz, mixed())))
    found = look(data.data)
    assert (found.records, found.read, found.documents) == (5, 4, 2)
    assert [(one.offset, one.length, one.reason) for one in found.damage] == [
        (data.offsets[2], data.offsets[3] - data.offsets[2], "digest_mismatch")
    ]


@pytest.mark.parametrize("quick", [False, True])
def test_damage_is_told_with_its_place_and_length(quick: bool) -> None:
    parts = [gz(page_record(number)) for number in range(6)]
    parts[2] = parts[2][:200] + b"\0" * 60 + parts[2][260:]
    shard = join([*parts[:5], b"no gzip here" * 9, parts[5]])
    found = look(shard.data, quick=quick)
    assert (found.records, found.read) == (6, 5)
    assert found.types == {"response": 5}
    assert found.unread_types == {"response": 1}
    assert [(one.offset, one.length) for one in found.damage] == [
        (shard.offsets[2], len(parts[2])),
        (shard.offsets[5], 108),
    ]
    assert (found.lost_bytes, found.damages, found.at_most) == (len(parts[2]) + 108, 2, False)
    assert headline(found) == f"5 of 6 records can be read; {len(parts[2]) + 108:,} bytes in 2 stretches are lost"


def test_losses_in_one_member_are_not_counted_twice() -> None:
    # Two records that cannot be believed, and one that can, share a member.
    data = gz(record(b"a", 1) + record(b"x" * 99, 2, length=5000) + page_record(3) + record(b"y", 4, length=80)[:-9])
    found = look(data)
    assert found.damages > 1
    assert found.lost_bytes <= len(data)
    assert found.at_most
    assert "at most" in headline(found)


def test_records_over_the_cap_are_not_read_and_said_to_be_lost() -> None:
    block = http(html("long " * 1000))
    shard = join([page_record(0), record(block, 1), page_record(2)])
    found = look(shard.data, "x.warc", maximum_record_bytes=2048)
    assert (found.records, found.read) == (3, 2)
    assert [(one.offset, one.length, one.reason) for one in found.damage] == [
        (shard.offsets[1], shard.offsets[2] - shard.offsets[1] - len(b"\r\n\r\n"), "too_large")
    ]


def test_a_long_list_of_damage_is_cut_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_LISTED", 25)
    monkeypatch.setattr(kernel, "_NAMES", 3)
    parts = [gz(page_record(n)) if n % 2 else b"rubbish" * 3 for n in range(1, 80)]
    found = look(b"".join(parts))
    assert (found.read, found.damages, len(found.damage), found.lost_bytes) == (40, 39, 25, 39 * 21)
    assert len(found.hosts) == 4
    assert found.hosts[kernel.OTHERS] == 37
    text = render(found)
    assert "and 19 more" in text
    assert max(map(len, text.splitlines())) <= 100


def test_rows_and_lines(tmp_path: Path) -> None:
    rows = [{"url": f"https://a{n}.example/", "timestamp": f"2020-01-0{n}", "text": prose(n)} for n in (1, 2, 3)]
    lines = "".join(json.dumps(row) + "\n" for row in rows) + "{not json\n"
    found = look(lines.encode(), "x.jsonl")
    assert (found.format, found.records, found.read, found.documents) == ("jsonl", 4, 4, 3)
    assert found.rejects == {"bad_record": 1}
    assert found.hosts.total() == 3
    assert str(found.last_capture)[:10] == "2020-01-03"
    assert "4 of 4 lines can be read; nothing is lost" in render(found)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    found = look((tmp_path / "x.parquet").read_bytes(), "x.parquet")
    assert (found.format, found.records, found.characters) == ("parquet", 3, sum(len(row["text"]) for row in rows))


def test_a_stream_that_fails_is_read_as_far_as_it_goes() -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() >= 1 << 20:
                raise OSError("the server\nhas gone")
            return super().read(size)

    data = b"".join(page_record(n) for n in range(3000))
    found = survey(Failing(data), Shard("x.warc", "x.warc", len(data), 0.0), Ingest())
    assert 0 < found.types["response"] < 3000
    assert found.unread == "the server has gone"
    assert not found.is_whole
    assert headline(found).endswith("reading stopped early: the server has gone")


def test_command_tells_broken_shards_by_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.warc.gz").write_bytes(b"".join(gz(page_record(n)) for n in range(3)))
    assert main(["survey", str(tmp_path / "*.gz")]) == 0
    assert "3 of 3 records can be read; nothing is lost" in capsys.readouterr().out
    (tmp_path / "b.warc.gz").write_bytes((tmp_path / "a.warc.gz").read_bytes()[:-40])
    (tmp_path / "c.warc.gz").write_bytes(b"")
    assert main(["survey", str(tmp_path / "*.gz"), "--quick"]) == 1
    printed = capsys.readouterr().out
    assert "2 of 3 records can be read" in printed
    assert "3 shards, 2 of them damaged or not read" in printed
    assert "b.warc.gz, c.warc.gz" in printed
    assert "5 of 6 records can be read" in printed
    assert main(["survey", str(tmp_path / "*.gz"), "--json"]) == 1
    read = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["shard"], one["read"], one["whole"]) for one in read] == [
        ("a.warc.gz", 3, True),
        ("b.warc.gz", 2, False),
        ("c.warc.gz", 0, False),
    ]
    assert read[1]["damage"][0]["offset"] == read[1]["size"] - read[1]["damage"][0]["length"]


def test_command_takes_the_options_of_ingest_and_no_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.warc"
    path.write_bytes(page_record(1))
    assert main(["survey", str(path), "--set", "ingest.minimum_characters=100000", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rejects"] == {"no_text": 1}
    assert main(["survey", str(path), "--set", "workers=3"]) == 2
    assert "ingest." in capsys.readouterr().err
    assert main(["survey", str(tmp_path / "none*")]) == 2
    assert "matches no file" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted(CORRUPT.iterdir()), ids=lambda path: path.name)
def test_each_broken_file_is_surveyed_alike_with_and_without_text(path: Path) -> None:
    data = path.read_bytes()
    found, quick = look(data, path.name), look(data, path.name, quick=True)
    for name in ("types", "unread_types", "records", "read", "damage", "lost_bytes", "is_whole", "digests", "hosts"):
        assert getattr(found, name) == getattr(quick, name), name
    assert found.lost_bytes <= len(data)
    assert bool(found.damage) == bool({"damaged", "truncated", "digest_mismatch"} & set(found.rejects)) or (
        "too_large" in found.rejects
    )
    assert max(map(len, render(found).splitlines())) <= 100
    json.dumps(found.to_dict())
