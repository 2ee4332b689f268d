"""Runs in sequence, each against the earlier ones, keep what one run over everything keeps."""

from __future__ import annotations

import gzip
import json
import random
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.cli import main
from pipelines.explain import explain
from pipelines.job import load_job
from pipelines.reserve.card import headline
from pipelines.run import Result, run
from tests.crawls import column, digests, rows

PLACES = ("reserve", "quarantine", "review")


def crawl() -> list[dict[str, str]]:
    """Pages over three years: originals, copies with few to many edits at any time, and links between unlike copies."""
    rng = random.Random(3)
    pages: list[dict[str, str]] = []
    for number, row in enumerate(row for row in rows(150) if len(row["text"].split(" ")) > 60):
        words = row["text"].split(" ")
        for copy in range(rng.choice([1, 1, 2, 5])):
            changed = list(words)
            for at in rng.sample(range(len(words)), round(len(words) * copy * rng.choice([0, 0.004, 0.01, 0.02]))):
                changed[at] = f"other{rng.randrange(10**6)}"
            when = f"{rng.randint(2020, 2022)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}T00:00:00Z"
            pages.append({"url": f"https://a{number}.example/{copy}", "timestamp": when, "text": " ".join(changed)})
    # Two pages of 2020 that are unlike, and one of 2022 that is like both.
    words = [f"word{i}" for i in range(400)]
    for name, text, when in (
        ("first", words[:340], "2020-02-01"),
        ("second", words[60:], "2020-03-01"),
        ("between", words[30:370], "2022-04-01"),
    ):
        pages.append({"url": f"https://{name}.example/", "timestamp": f"{when}T00:00:00Z", "text": " ".join(text)})
    rng.shuffle(pages)
    return pages


def write(folder: Path, pages: list[dict[str, str]]) -> str:
    folder.mkdir(parents=True)
    for shard in range(2):
        lines = "".join(json.dumps(page) + "\n" for page in pages[shard::2])
        (folder / f"{shard}.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
    return str(folder / "*.jsonl.gz")


def settle(shards: str, output: Path, *against: Path, workers: int = 1, **neardup: object) -> Result:
    settings = {"inspect": {"detector": "none"}, "neardup": neardup, "part_bytes": 1 << 20}
    named = {"input": [shards], "output": str(output), "against": [str(a) for a in against], "workers": workers}
    return run(load_job(None, {"statistics": {"panel": False}, **named, **settings}))


def kept(*outputs: Path) -> dict[object, tuple[object, ...]]:
    columns = ["doc_id", "url", "text_sha256"]
    return {row[0]: row for output in outputs for row in column(output, PLACES, columns)}


def superseded(output: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = pq.read_table(output / "superseded.parquet").to_pylist()
    return found


@pytest.fixture(scope="module")
def years(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("crawl")
    pages = crawl()
    by_year = {year: [p for p in pages if p["timestamp"].startswith(year)] for year in ("2020", "2021", "2022")}
    return {name: write(folder / name, part) for name, part in {**by_year, "all": pages}.items()}


@pytest.fixture(scope="module")
def outputs(years: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("out")
    settle(years["all"], out / "all")
    settle(years["2020"], out / "2020")
    settle(years["2021"], out / "2021", out / "2020")
    settle(years["2022"], out / "2022", out / "2021", out / "2020")
    return {path.name: path for path in out.iterdir()}


def test_dumps_in_sequence_keep_what_one_run_keeps(outputs: dict[str, Path]) -> None:
    one, sequence = kept(outputs["all"]), kept(outputs["2020"], outputs["2021"], outputs["2022"])
    lost = {row["doc_id"] for year in ("2021", "2022") for row in superseded(outputs[year])}
    assert {key: row for key, row in sequence.items() if key not in lost} == one
    # Only a chain can join what an earlier run has kept, since the earlier captures came first.
    assert "https://second.example/" in {sequence[doc_id][1] for doc_id in lost}


def test_copies_name_the_document_and_the_output_that_keeps_it(outputs: dict[str, Path]) -> None:
    names = ["doc_id", "kept_doc_id", "jaccard", "verdict"]
    one = {row[0]: row for row in column(outputs["all"], ("duplicates",), names)}
    digest = {json.loads((path / "summary.json").read_text())["job"]["digest"]: kept(path) for path in outputs.values()}
    elsewhere = 0
    for year in ("2020", "2021", "2022"):
        for row in column(outputs[year], ("duplicates",), [*names, "kept_in"]):
            assert row[:4] == one.get(row[0], row[:4])
            holder = kept(outputs[year]) if row[4] is None else digest[str(row[4])]
            assert row[1] in holder
            elsewhere += row[4] is not None
    assert elsewhere > 20


def test_each_distinct_text_stands_in_the_outputs_once_or_more(outputs: dict[str, Path]) -> None:
    wanted = {row[0] for row in column(outputs["all"], (*PLACES, "duplicates"), ["text_sha256"])}
    names = ["text_sha256", "text"]
    held = [row for year in ("2020", "2021", "2022") for row in column(outputs[year], (*PLACES, "duplicates"), names)]
    assert {digest for digest, text in held if text is not None} == wanted
    inside = [digest for digest, text in column(outputs["all"], (*PLACES, "duplicates"), names) if text is not None]
    assert len(inside) == len(set(inside)) == len(wanted)


def test_people_are_told_where_the_kept_copy_is(outputs: dict[str, Path]) -> None:
    rows = column(outputs["2022"], ("duplicates",), ["doc_id", "kept_doc_id", "kept_in"])
    doc_id, kept_doc_id, _ = next(row for row in rows if row[2] is not None)
    told = explain(str(outputs["2022"]), str(doc_id))
    assert f"copy of      {kept_doc_id}" in told
    assert any(f"kept in      {outputs[year]} (" in told for year in ("2020", "2021"))
    summary = json.loads((outputs["2022"] / "summary.json").read_text())
    assert f"compared with 2 earlier outputs; {summary['superseded']} of their" in headline("out", summary)
    assert summary["superseded"] == len(superseded(outputs["2022"])) > 0


@pytest.mark.slow
def test_the_order_of_the_outputs_and_the_workers_do_not_matter(
    years: dict[str, str], outputs: dict[str, Path], tmp_path: Path
) -> None:
    settle(years["2022"], tmp_path / "out", outputs["2020"], outputs["2021"], outputs["2020"], workers=2)
    found, expected = digests(tmp_path / "out"), digests(outputs["2022"])
    assert {name for name in found if found[name] != expected.get(name)} <= {"summary.json", "report.html"}
    assert set(found) == set(expected)


def test_without_the_texts_the_estimate_decides_and_says_so(
    years: dict[str, str], outputs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without = tmp_path / "2020"
    shutil.copytree(outputs["2020"], without, copy_function=shutil.copyfile)
    for place in (*PLACES, "duplicates"):
        for part in (without / place).glob("*.parquet"):
            table = pq.read_table(part)
            pq.write_table(table.slice(0, 0), part)
    settle(years["2021"], tmp_path / "out", without)
    assert "pairs near the threshold were decided by their signatures alone" in " ".join(
        capsys.readouterr().err.split()
    )


def refusal(capsys: pytest.CaptureFixture[str], shards: str, output: Path, *more: str) -> str:
    assert main(["run", "--input", shards, "--output", str(output), "--set", "inspect.detector=none", *more]) == 2
    return capsys.readouterr().err


def test_what_cannot_be_compared_is_refused(
    years: dict[str, str], outputs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards, old = years["2021"], str(outputs["2020"])
    said = refusal(capsys, shards, tmp_path / "a", "--against", str(tmp_path / "nothing"))
    assert "nothing: no finished run here (no summary.json)" in said
    said = refusal(capsys, shards, outputs["2020"], "--against", old, "--overwrite")
    assert "is the folder that this job writes to" in said
    said = refusal(capsys, shards, tmp_path / "a", "--against", old, "--set", "neardup.shingle=4")
    assert f"against: {old}: signed with neardup.shingle 5, and this job with 4" in said
    said = refusal(capsys, shards, tmp_path / "a", "--against", old, "--set", "neardup.enabled=false")
    assert "neardup.enabled is false" in said
    settle(years["2020"], tmp_path / "bare", index=False)
    assert not (tmp_path / "bare" / "index").exists()
    said = refusal(capsys, shards, tmp_path / "a", "--against", str(tmp_path / "bare"))
    assert "this run left no index" in said
