"""The command: what it prints, and where."""

import contextlib
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.cli import main
from pipelines.job import Job, describe, load_job
from pipelines.records import Verdict


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("demo") / "demo"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(["demo", "--output", str(folder), "--pages", "300", "--workers", "1"]) == 0
    return folder, printed.getvalue()


def planted_line(printed: str, kind: str) -> dict[str, int]:
    """The numbers of one line of the demo's table."""
    line = next(line for line in printed.splitlines() if line.startswith(kind))
    numbers = [int(word) for word in line[len(kind) :].split()[:6]]
    return dict(zip(("pages", "reserve", "quarantine", "review", "duplicates", "rejects"), numbers, strict=True))


@pytest.mark.parametrize("kind", ["C2PA text manifest", "chatbot leak", "declared by JSON-LD", "declared by meta"])
def test_demo_finds_the_pages_that_give_themselves_away(demo: tuple[Path, str], kind: str) -> None:
    found = planted_line(demo[1], kind)
    assert found["pages"] == 25
    assert found["reserve"] == found["review"] == found["rejects"] == 0
    # Pages made from one text can be near-duplicates of one another.
    assert found["quarantine"] + found["duplicates"] == 25
    assert found["quarantine"] >= 18


def test_demo_removes_the_copies_and_keeps_the_documentation(demo: tuple[Path, str]) -> None:
    copies, pages = planted_line(demo[1], "near copy"), planted_line(demo[1], "documentation")
    assert copies["duplicates"] >= 0.9 * copies["pages"] > 0
    assert pages["reserve"] >= 0.9 * pages["pages"] > 0


def test_demo_says_where_things_are(demo: tuple[Path, str]) -> None:
    folder, printed = demo
    for path in ("out/reserve", "out/statistics", "out/report.html", "out/README.md"):
        assert str(folder / path) in printed
        assert (folder / path).exists()


def test_demo_does_not_write_over_what_is_not_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "crawl" / "mine.warc.gz"
    mine.parent.mkdir()
    mine.write_text("mine")
    assert main(["demo", "--output", str(tmp_path), "--overwrite"]) == 2
    assert "no earlier demo" in capsys.readouterr().err
    assert mine.exists()


def test_explain_names_verdict_rule_and_evidence(demo: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    out = demo[0] / "out"
    row = next(
        row
        for part in sorted((out / "quarantine").glob("*.parquet"))
        for row in pq.read_table(part).to_pylist()
        if any(item["kind"] == "ai_disclosure" for item in row["evidence"])
    )
    assert main(["explain", str(out), row["doc_id"][:12]]) == 0
    printed = capsys.readouterr().out
    for word in (row["doc_id"], row["url"], "quarantine", "declared: the page says so itself", "ai_disclosure"):
        assert word in printed
    assert main(["explain", str(out), row["doc_id"], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["text_sha256"] == row["text_sha256"]


def test_explain_names_the_kept_copy_of_a_duplicate(demo: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    out = demo[0] / "out"
    row = next(r for p in sorted((out / "duplicates").glob("*.parquet")) for r in pq.read_table(p).to_pylist())
    assert main(["explain", str(out), row["doc_id"]]) == 0
    assert row["kept_doc_id"] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["explain", "{out}", "xyz"], 2, "32 hex digits"),
        (["explain", "{out}", "0123456789abcdef0123456789abcdef"], 1, "no document"),
        (["explain", "/nowhere", "0123"], 2, "no finished run"),
        (["report", "/nowhere"], 2, "no finished run"),
        (["evaluate", "--text", "/nowhere"], 2, "no Parquet file"),
        (["train", "--text", "/nowhere", "--output", "/tmp/x"], 2, "no Parquet file"),
    ],
)
def test_wrong_calls_say_what_is_wrong(
    demo: tuple[Path, str], capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, word: str
) -> None:
    assert main([argument.format(out=demo[0] / "out") for argument in arguments]) == code
    assert word in capsys.readouterr().err


def test_report_is_written_again_in_the_same_bytes(demo: tuple[Path, str], tmp_path: Path) -> None:
    report = demo[0] / "out" / "report.html"
    assert main(["report", str(demo[0] / "out"), "--out", str(tmp_path / "again.html")]) == 0
    assert (tmp_path / "again.html").read_bytes() == report.read_bytes()


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["run", "--help"])
    printed = capsys.readouterr().out
    for key in ("neardup.threshold: 0.8", "cutoff", "ingest.columns.text", "--overwrite"):
        assert key in printed


def test_every_key_of_a_job_has_a_meaning() -> None:
    lines = describe().splitlines()
    keys = [i for i, line in enumerate(lines) if not line.startswith("      ")]
    missing = [lines[i].strip() for i in keys if i + 1 >= len(lines) or not lines[i + 1].startswith("      ")]
    assert not missing


def test_an_empty_job_file_is_valid_and_later_words_win(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("")
    assert load_job(str(path)) == Job()
    path.write_text("workers: 1\nneardup: {threshold: 0.7, shingle: 4}\n")
    job = load_job(str(path), {"workers": 3}, ["neardup.threshold=0.9"])
    assert (job.workers, job.neardup.threshold, job.neardup.shingle) == (3, 0.9, 4)


def test_settings_leave_out_what_decides_no_byte() -> None:
    one = load_job(None, {"input": ["a"], "output": "x", "workers": 1, "keep_work": True})
    two = load_job(None, {"input": ["b"], "output": "y", "workers": 2})
    assert one.settings() == two.settings()
    assert load_job(None, {"cutoff": "2020-01-01"}).settings() != one.settings()


def test_the_data_card_explains_every_verdict(demo: tuple[Path, str]) -> None:
    card = (demo[0] / "out" / "README.md").read_text()
    for verdict in Verdict:
        assert f"`{verdict}`" in card
    assert "No document here is certified human" in card
