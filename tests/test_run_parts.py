"""A job that divides its shards gives what one that does not gives, also after it was killed."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.ingest.account import Read
from pipelines.job import Job, load_job
from pipelines.run import run
from tests.crawls import column, conversion, digests, rows, write_jsonl, write_parquet
from tests.ingest.building import gz, html, http, join, record, segmented

SPLIT = 5000  # bytes
PLACES = ("reserve", "quarantine", "review")
NAMES = [
    "doc_id",
    "url",
    "text",
    "text_sha256",
    "verdict",
    "evidence",
    "shard",
    "record_offset",
    "cluster_id",
    "because",
]


def page(row: dict[str, str], number: int) -> bytes:
    return record(http(html(row["text"])), number)


def write(folder: Path) -> str:
    folder.mkdir()
    write_jsonl(folder, shards=1, count=40)
    write_parquet(folder, shards=1, count=40)
    (folder / "lines.jsonl").write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows(40)[:20]))
    pages = [page(row, number) for number, row in enumerate(rows(90)[40:])]
    (folder / "texts.warc.wet.gz").write_bytes(b"".join(gz(conversion(row)) for row in rows(90)[40:60]))
    (folder / "plain.warc").write_bytes(b"".join(pages[20:30]))
    # Parts begin in captured shards, whose records are not the crawl's own.
    captured = record(http(b"".join(pages[:16]), "Content-Type: text/plain"), 800)
    (folder / "captured.warc").write_bytes(b"".join([pages[30], captured, pages[31], captured, *pages[32:34]]))
    stored = gzip.compress(
        record(http(b"".join(map(gz, pages[4:20])), "Content-Type: application/gzip"), 801), 0, mtime=0
    )
    (folder / "captured.warc.gz").write_bytes(b"".join([gz(pages[34]), stored, gz(pages[35]), stored, gz(pages[36])]))
    damaged = bytearray(join([gz(one) for one in pages[36:48]]).data)
    damaged[3000:3500] = bytes(500)
    (folder / "damaged.warc.gz").write_bytes(bytes(damaged))
    segments = [gz(part) for number in range(20) for part in segmented(number, 4)]
    (folder / "segments.warc.gz").write_bytes(b"".join(segments))
    (folder / "empty.warc.gz").touch()
    return str(folder / "*")


def job(crawl: str, output: Path, split: int, workers: int = 1) -> Job:
    settings = {"input": [crawl], "output": str(output), "workers": workers, "inspect": {"detector": "none"}}
    return load_job(None, {"statistics": {"panel": False}, **settings, "ingest": {"split_bytes": split}})


def found(output: Path) -> tuple[list[tuple[object, ...]], ...]:
    """The documents, the copies and the rejects of an output."""
    return (
        sorted(column(output, PLACES, NAMES), key=str),
        sorted(
            column(output, ("duplicates",), ["doc_id", "kept_doc_id", "shard", "record_offset", "jaccard"]), key=str
        ),
        sorted(column(output, ("rejects",), ["shard", "record_offset", "url", "reason", "detail"]), key=str),
    )


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp("crawl") / "shards")


@pytest.fixture(scope="module")
def divided(crawl: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("divided") / "out"
    run(job(crawl, output, SPLIT))
    return output


def test_the_same_documents_as_of_whole_shards(crawl: str, divided: Path, tmp_path: Path) -> None:
    run(job(crawl, tmp_path / "out", 64 << 20))
    assert found(divided) == found(tmp_path / "out")
    records = json.loads((divided / "summary.json").read_text())["records"]
    assert records == json.loads((tmp_path / "out" / "summary.json").read_text())["records"]
    assert all(records[place] for place in ("reserve", "duplicates", "rejects"))


def test_parts_were_read_again(crawl: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for shard in ("captured.warc", "captured.warc.gz"):
        run(job(crawl.replace("*", shard), tmp_path / shard, SPLIT))
        assert "begin inside a record of the part before, and are read again" in capsys.readouterr().err


@pytest.mark.slow
def test_the_same_bytes_with_two_workers_killed_on_the_way(crawl: str, divided: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "pipelines.cli", "run", "--input", crawl, "--output", str(out), "--workers", "2"]
    command += ["--set", f"ingest.split_bytes={SPLIT}", "--set", "inspect.detector=none"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while process.poll() is None and len(list(out.glob(".work/staging/*/whole.json"))) < 5:
        time.sleep(0.01)
    process.kill()
    assert process.wait() in (-signal.SIGKILL, 0)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert digests(out) == digests(divided)
    assert "already whole" in done.stdout or "not read again" in done.stderr


class StoppedError(Exception):
    """The job ends here."""


@pytest.mark.slow
def test_a_job_that_stopped_before_it_looked_at_what_was_misplaced(
    crawl: str, divided: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(parts: list[Read]) -> None:
        raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.run.misplaced", stop)
        with pytest.raises(StoppedError):
            run(job(crawl, tmp_path / "out", SPLIT))
    run(job(crawl, tmp_path / "out", SPLIT))
    assert digests(tmp_path / "out") == digests(divided)
