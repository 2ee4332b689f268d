"""The main job with repeated paragraphs: what is counted, what is cut, and that nothing else changes."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.explain import explain
from pipelines.job import load_job
from pipelines.run import Result, run
from tests.crawls import column, digests, rows
from tests.neardup.support import tokens
from tests.repeats.support import Doc, counted, hash_of, without

PLACES = ("reserve", "quarantine", "review")
HOSTS, LETTERS = 10, 30
NOTICES = [
    "We and our partners store and read <b>cookies</b> on this device.",
    "Mit der Nutzung dieser Seite stimmen Sie den Nutzungsbedingungen zu.",
    "<script>alert('All rights reserved, in all countries')</script>",
]
RARE = "This line stands on some pages of a few hosts, and recurs nowhere else."
Rows = dict[str, dict[str, object]]
Reference = tuple[list[Doc], dict[tuple[str, ...], tuple[int, int, int]]]


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Pages of twelve hosts with notices above and below, in three shards; some are nothing but a notice."""
    folder = tmp_path_factory.mktemp("crawl")
    pages = []
    for number, row in enumerate(rows(40)):
        planted = [notice for i, notice in enumerate(NOTICES) if (number // 12 + i) % 3]
        rare = [RARE] if number % 12 < HOSTS - 1 else []
        text = "\n\n".join([planted[0].upper(), row["text"], *rare, *planted[1:]])
        pages.append({**row, "url": f"https://site{number % 12}.example/{number}", "text": text})
    for number, notice in enumerate(NOTICES):
        pages.append({**pages[0], "url": f"https://site{number}.example/alone", "text": f"{notice}\nby A. Writer"})
    for shard in range(3):
        lines = "\n".join(json.dumps(page) for page in pages[shard::3])
        (folder / f"crawl-{shard}.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
    return str(folder / "*.jsonl.gz")


def start(crawl: str, output: Path, mode: object, overwrite: bool = False, **settings: object) -> Result:
    settings = {"workers": 1, "keep_work": True, "part_bytes": 1 << 20, **settings}
    return run(
        load_job(None, {"input": [crawl], "output": str(output), "repeats": {"mode": mode}, **settings}), overwrite
    )


@pytest.fixture(scope="module")
def count(crawl: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("count") / "out"
    start(crawl, output, "count")
    return output


@pytest.fixture(scope="module")
def trim(crawl: str, count: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made of the work that `count` kept."""
    output = tmp_path_factory.mktemp("trim") / "out"
    shutil.copytree(count, output)
    start(crawl, output, "trim", overwrite=True)
    return output


@pytest.fixture(scope="module")
def off(crawl: str, count: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Over an output that has tables of repeated paragraphs; YAML reads a bare `off` as false."""
    output = tmp_path_factory.mktemp("off") / "out"
    shutil.copytree(count, output)
    start(crawl, output, False, overwrite=True)
    return output


def finished(output: Path) -> dict[str, str]:
    return {name: value for name, value in digests(output).items() if not name.startswith(".work")}


def written(output: Path) -> Rows:
    """All documents that stay, by doc_id."""
    parts = [part for place in PLACES for part in sorted((output / place).glob("part-*.parquet"))]
    return {
        row["doc_id"]: {**row, "place": part.parent.name} for part in parts for row in pq.read_table(part).to_pylist()
    }


@pytest.fixture(scope="module")
def reference(count: Path) -> Reference:
    """The documents that stay, and what recurs in them by plain Python."""
    docs = [Doc(str(row["host"]), str(row["text"])) for row in written(count).values()]
    return docs, counted(docs, HOSTS, LETTERS)


def test_counting_changes_no_document(off: Path, count: Path) -> None:
    before, after = finished(off), finished(count)
    names = {name for name in before if name.split("/")[0] in (*PLACES, "duplicates", "rejects", "index")}
    assert len(names) >= 6
    assert {name: after[name] for name in names} == {name: before[name] for name in names}
    assert sum(1 for _ in column(count, ("duplicates",), ["doc_id"])) > 0


def test_off_leaves_no_trace(off: Path) -> None:
    assert json.loads((off / "summary.json").read_text())["repeats"] is None
    assert not {"repeats.parquet", "repeated.parquet"} & {path.name for path in (off / "statistics").iterdir()}
    assert "epeated paragraphs" not in (off / "report.html").read_text()
    assert set(column(off, PLACES, ["whole_text_sha256"])) == {(None,)}


def test_the_tables_agree_with_plain_python(count: Path, reference: Reference) -> None:
    docs, recurring = reference
    assert set(recurring) == {tuple(tokens(notice)) for notice in NOTICES}
    table = pq.read_table(count / "statistics" / "repeats.parquet").to_pylist()
    found = {row["paragraph"]: (row["hosts"], row["documents"], row["bytes"]) for row in table}
    assert found == {f"{hash_of(notice):016x}": recurring[tuple(tokens(notice))] for notice in NOTICES}
    assert {str(row["text"]).lower() for row in table} == {notice.lower() for notice in NOTICES}
    shares = pq.read_table(count / "statistics" / "repeated.parquet").to_pylist()
    assert sum(row["documents"] for row in shares) == len(docs)
    assert sum(row["text_bytes"] for row in shares) == sum(len(doc.text.encode()) for doc in docs)
    summary = json.loads((count / "summary.json").read_text())["repeats"]
    assert (summary["mode"], summary["recurring"]) == ("count", len(NOTICES))
    assert summary["bytes"] == sum(row["bytes"] for row in shares) == sum(size for _, _, size in recurring.values())
    assert (summary["paragraphs_cut"], summary["bytes_cut"], summary["documents_cut"]) == (0, 0, 0)


def test_trimming_changes_texts_and_nothing_else(count: Path, trim: Path, reference: Reference) -> None:
    _, recurring = reference
    before, after = written(count), written(trim)
    assert list(before) == list(after)
    changed = 0
    for doc_id, old in before.items():
        new = dict(after[doc_id])
        text = str(new["text"])
        assert text == without(str(old["text"]), set(recurring), LETTERS)
        assert new["text_sha256"] == hashlib.sha256(text.encode()).hexdigest()
        assert new["whole_text_sha256"] == (old["text_sha256"] if text != old["text"] else None)
        changed += text != old["text"]
        texts = ("text", "text_sha256", "whole_text_sha256")
        assert {k: v for k, v in new.items() if k not in texts} == {k: v for k, v in old.items() if k not in texts}
    summary = json.loads((trim / "summary.json").read_text())["repeats"]
    sizes = [sum(len(str(row["text"]).encode()) for row in rows.values()) for rows in (before, after)]
    assert summary["bytes_cut"] == sizes[0] - sizes[1]
    assert summary["documents_cut"] == changed > 30
    assert summary["documents_whole"] == len(NOTICES)
    same = ("duplicates", "rejects", "index")
    old, new = ({k: v for k, v in finished(o).items() if k.split("/")[0] in same} for o in (count, trim))
    assert old == new


def test_going_from_count_to_trim_reads_no_shard_again(count: Path, trim: Path) -> None:
    kept = [
        path for kind in ("staging", "clusters", "repeats") for path in sorted((trim / ".work" / kind).rglob("*.*"))
    ]
    assert {path.suffix for path in kept} == {".json", ".parquet"}
    for path in kept:
        # The copy of a folder keeps the times of its files.
        assert path.stat().st_mtime_ns == (count / path.relative_to(trim)).stat().st_mtime_ns


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_same_bytes_in_one_go_for_any_number_of_workers(crawl: str, trim: Path, tmp_path: Path, workers: int) -> None:
    start(crawl, tmp_path / "out", "trim", workers=workers, keep_work=False)
    assert finished(tmp_path / "out") == digests(tmp_path / "out") == finished(trim)


def test_a_run_that_stopped_while_it_counted_goes_on(crawl: str, trim: Path, tmp_path: Path) -> None:
    shutil.copytree(trim, tmp_path / "out")
    (tmp_path / "out" / "summary.json").unlink()
    shutil.rmtree(tmp_path / "out" / "reserve")
    work = tmp_path / "out" / ".work"
    shutil.rmtree(work / "settled")
    (work / "repeats" / "whole.json").unlink()
    min((work / "repeats").glob("*.parquet")).write_bytes(b"half")
    before = {path: path.stat().st_mtime_ns for path in (work / "staging").rglob("*")}
    start(crawl, tmp_path / "out", "trim")
    assert finished(tmp_path / "out") == finished(trim)
    assert {path: path.stat().st_mtime_ns for path in (work / "staging").rglob("*")} == before


def test_people_are_told(count: Path, trim: Path) -> None:
    report = (trim / "report.html").read_text()
    assert "<h2>Repeated paragraphs</h2>" in report
    assert "<script" not in report.lower()
    assert "&lt;script&gt;alert(" in report.lower()
    assert "**Texts are not as they were captured.**" in (trim / "README.md").read_text()
    assert "none was cut" in (count / "README.md").read_text()
    cut = next(row for row in written(trim).values() if row["whole_text_sha256"])
    assert str(cut["whole_text_sha256"]) in explain(str(trim), str(cut["doc_id"]))
