"""The posterior through the main job: beside the verdict, and with no hand in it."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines.cli import main
from pipelines.job import load_job
from pipelines.provenance.fusion import read_terms
from pipelines.run import run
from tests.crawls import digests, rows, write_jsonl

PLACES = ("reserve", "quarantine", "review")
LEAK = "As an AI language model, I cannot taste wine, but I can tell you about its history.\n"
PRIOR = {"2023-01": 0.05, "2025-01": 0.4}


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("crawl")
    pattern = write_jsonl(folder)
    plain = [row for row in rows() if row["text"].isascii()]  # some of the others hold planted characters
    leaked = [
        {**row, "url": f"https://leaks.example/{number}", "text": LEAK + row["text"][::-1]}
        for number, row in enumerate(plain[:12])
    ]
    for row, year in zip(leaked, [2016, 2019, 2023, 2024, 2025, 2026] * 2, strict=True):
        row["timestamp"] = f"{year}-06-01T00:00:00Z"
    del leaked[-1]["timestamp"]
    lines = "\n".join(json.dumps(row) for row in leaked)
    (folder / "crawl-leaked.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
    return pattern


def finished(crawl: str, output: Path, **settings: Any) -> Path:
    fixed = {"input": [crawl], "output": str(output), "workers": 1, "inspect": {"detector": "none"}}
    run(load_job(None, {"statistics": {"panel": False}, **fixed, "part_bytes": 1 << 20, **settings}))
    return output


@pytest.fixture(scope="module")
def output(crawl: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(crawl, tmp_path_factory.mktemp("fused") / "out", fusion={"prior": PRIOR})


def documents(output: Path) -> dict[str, dict[str, Any]]:
    parts = [part for place in PLACES for part in sorted((output / place).glob("part-*.parquet"))]
    return {
        row["doc_id"]: row | {"part": part.parent.name} for part in parts for row in pq.read_table(part).to_pylist()
    }


def test_each_document_has_a_posterior_and_its_terms(output: Path) -> None:
    found = documents(output).values()
    leaked = [row for row in found if any(item["kind"] == "chatbot_phrase" for item in row["evidence"])]
    assert len(leaked) >= 10
    for row in found:
        items = [item for item in row["evidence"] if item["source"] == "fusion"]
        assert (row["posterior"] is None) == (row["captured_at"] is None and not items)
        assert len(items) <= 1
        assert items == row["evidence"][len(row["evidence"]) - len(items) :]
        if items:
            assert items[0]["probability"] == row["posterior"]
            assert read_terms(items[0]["detail"])
    for row in leaked:
        captured = row["captured_at"]
        if captured and captured.year >= 2023:
            assert row["posterior"] > 0.5
        elif captured:
            assert row["posterior"] < 0.1


def test_nothing_else_of_the_output_changes(crawl: str, output: Path, tmp_path: Path) -> None:
    without = finished(crawl, tmp_path / "out", fusion={"enabled": False})
    off, on = documents(without), documents(output)
    for row in (*off.values(), *on.values()):
        assert row["posterior"] is None or row["doc_id"] in on
        row["posterior"] = None
        row["evidence"] = [item for item in row["evidence"] if item["source"] != "fusion"]
    assert off == on
    mine, other = digests(output), digests(without)
    same = [name for name in mine if name.split("/")[0] in ("statistics", "duplicates", "rejects", "index")]
    assert len(same) > 5
    assert {name: mine[name] for name in same} == {name: other[name] for name in same}
    counts = [json.loads((folder / "summary.json").read_text()) for folder in (output, without)]
    assert counts[0]["records"] == counts[1]["records"]
    assert counts[0]["verdicts"] == counts[1]["verdicts"]
    assert counts[0]["job"]["settings"]["fusion"]["prior"] == PRIOR


def test_another_prior_reads_no_shard_again(
    crawl: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], output: Path
) -> None:
    kept = finished(crawl, tmp_path / "out", keep_work=True)
    job = {"input": [crawl], "output": str(kept), "workers": 1, "inspect": {"detector": "none"}}
    capsys.readouterr()
    run(
        load_job(None, {"statistics": {"panel": False}, **job, "part_bytes": 1 << 20, "fusion": {"prior": PRIOR}}),
        overwrite=True,
    )
    assert "4 of 4 shards were read by an earlier run" in capsys.readouterr().err
    assert documents(kept) == documents(output)


def test_explain_shows_terms_that_add_up(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leaked = [row for row in documents(output).values() if "leaks.example" in row["url"] and row["captured_at"]]
    row = max(leaked, key=lambda row: row["captured_at"])
    assert main(["explain", str(output), row["doc_id"]]) == 0
    printed = capsys.readouterr().out.splitlines()
    at = next(number for number, line in enumerate(printed) if line.startswith("posterior"))
    assert f"{row['posterior']:.4f}" in printed[at]
    *terms, total = [line.split() for line in printed[at + 1 :]]
    assert [term[0] for term in terms] == ["prior", "chatbot_phrase"]
    assert total[0] == "="
    assert abs(sum(float(term[1]) for term in terms) - float(total[1])) < 1e-9
    assert len({line.index(line.split()[1]) + len(line.split()[1]) for line in printed[at + 1 :]}) == 1  # aligned


def test_explain_says_where_there_is_nothing_but_a_date(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = next(row for row in documents(output).values() if not row["evidence"] and row["posterior"] is not None)
    assert main(["explain", str(output), row["doc_id"]]) == 0
    printed = capsys.readouterr().out
    assert "none of the signals that were looked for" in printed
    assert "the prior of its capture date alone" in printed
