"""False positives on the crawl's own documents from before the cut-off, from shards to output."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from detectors.embedded import Embedded
from pipelines.errors import UsageError
from pipelines.job import Job, load_job
from pipelines.reserve.card import data_card
from pipelines.run import run
from pipelines.statistics.dated import LENGTHS
from tests.crawls import digests, write_jsonl

FIT = {"mode": "fit", "target": 0.4, "min_documents": 10, "floor": 0.0}
CUTOFF = datetime(2022, 11, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_jsonl(tmp_path_factory.mktemp("crawl"), count=300)


@pytest.fixture(scope="module")
def fitted(crawl: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("fitted") / "out"
    run(job(crawl, output, recalibrate=FIT))
    return output


def job(crawl: str, output: Path, **settings: object) -> Job:
    return load_job(
        None,
        {
            "input": [crawl],
            "output": str(output),
            "workers": 1,
            "part_bytes": 1 << 20,
            "statistics": {"panel": False},
            **settings,
        },
    )


def summary(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "summary.json").read_text())
    return found


def written(output: Path) -> Iterator[dict[str, Any]]:
    for place in ("reserve", "quarantine", "review"):
        for part in sorted((output / place).glob("part-*.parquet")):
            yield from pq.read_table(part).to_pylist()


def length(text: str) -> str:
    return [name for name, least in LENGTHS if len(text.encode()) >= least][-1]


def test_the_table_is_what_the_output_s_documents_give(fitted: Path) -> None:
    dated = [row for row in written(fitted) if row["verdict"] == "dated"]
    assert len(dated) > 50
    about = summary(fitted)["detector"]
    levels = {"": about["threshold"], "quantification_": Embedded().error_rates().quantification.threshold}
    expected: Counter[tuple[Any, ...]] = Counter()
    for row in dated:
        when = row["captured_at"]
        keys = (row["language"] or "und", length(row["text"]), f"{when:%Y}" if when else "unknown")
        p = row["machine_probability"]
        expected[(*keys, "documents")] += 1
        expected[(*keys, "scored")] += p is not None
        for prefix, threshold in levels.items():
            expected[(*keys, f"{prefix}flagged")] += p is not None and np.float32(p) >= np.float32(threshold)
    table = pq.read_table(fitted / "statistics" / "false_positives.parquet").to_pylist()
    found: Counter[tuple[Any, ...]] = Counter()
    for row in table:
        if row["margin"] == "language×length×year":
            for name in ("documents", "scored", "flagged", "quantification_flagged"):
                found[row["language"], row["length"], row["year"], name] += row[name]
    assert found == expected
    (everything,) = [row for row in table if row["margin"] == "all"]
    assert everything["documents"] == len(dated)
    assert everything["scored"] == about["false_positives_by_date"]["scored"]


def test_verdicts_follow_the_threshold_that_the_summary_names(fitted: Path) -> None:
    about = summary(fitted)["detector"]
    recalibration = about["false_positives_by_date"]["recalibration"]
    assert recalibration["threshold"] == about["threshold"] < recalibration["detector_threshold"]
    assert recalibration["reason"].startswith("lowered from")
    least = np.float32(about["threshold"])
    seen = Counter()
    for row in written(fitted):
        p = row["machine_probability"]
        if row["verdict"] == "suspected":
            assert p >= least
        elif row["verdict"] in ("clear", "undetermined"):
            assert p is None or p < least or row["evidence"]
        seen[row["verdict"]] += 1
    assert seen["suspected"]
    assert seen["clear"]


@pytest.mark.slow
def test_without_the_option_the_detector_s_own_threshold_decides(crawl: str, fitted: Path, tmp_path: Path) -> None:
    run(job(crawl, tmp_path / "out"))
    about = summary(tmp_path / "out")["detector"]
    assert about["threshold"] == Embedded().error_rates().decision.threshold
    assert about["false_positives_by_date"]["recalibration"]["held_out"] is None
    other = summary(fitted)["detector"]["false_positives_by_date"]
    for name in ("documents", "scored", "quantification", "level"):
        assert about["false_positives_by_date"][name] == other[name]


@pytest.mark.slow  # test_run.py compares whole outputs of one and two workers as well, with the option off
def test_same_bytes_for_two_workers(crawl: str, fitted: Path, tmp_path: Path) -> None:
    run(job(crawl, tmp_path / "out", recalibrate=FIT, workers=2))
    assert digests(tmp_path / "out") == digests(fitted)


@pytest.mark.slow
def test_a_run_that_stopped_goes_on_and_counts_anew_what_changed(
    crawl: str, fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    run(job(crawl, output, keep_work=True))
    capsys.readouterr()
    # Another threshold from the same counts, as far as floor and cut-off are the same.
    run(job(crawl, output, keep_work=True, recalibrate={"mode": "raise"}), overwrite=True)
    assert "dated    counted by an earlier run" in capsys.readouterr().err
    assert summary(output)["detector"]["threshold"] >= Embedded().error_rates().decision.threshold
    (output / "summary.json").unlink()
    (output / ".work" / "dated" / "whole.json").unlink()  # as if killed before the count was whole
    run(job(crawl, output, recalibrate=FIT))
    assert "dated    counted by an earlier run" not in capsys.readouterr().err
    assert digests(output) == digests(fitted)


def test_report_and_card_say_it_in_words(fitted: Path) -> None:
    found = summary(fitted)
    scored = found["detector"]["false_positives_by_date"]["scored"]
    assert f"False positives by date: of {scored:,} documents" in (fitted / "README.md").read_text()
    assert (fitted / "README.md").read_text() == data_card(found)
    report = (fitted / "report.html").read_text()
    assert "<h2>False positives by date</h2>" in report
    assert "lowered from" in report


def test_without_a_detector_nothing_is_measured(crawl: str, tmp_path: Path) -> None:
    run(job(crawl, tmp_path / "out", inspect={"detector": "none"}))
    assert summary(tmp_path / "out")["detector"] is None
    assert not (tmp_path / "out" / "statistics" / "false_positives.parquet").exists()
    assert "False positives by date" not in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"recalibrate": {"mode": "lower"}}, r"recalibrate\.mode: 'lower' is not allowed.*'off', 'raise' or 'fit'"),
        ({"recalibrate": {"target": 0}}, r"recalibrate\.target: 0 is not allowed.*greater than 0"),
        ({"recalibrate": {"floor": 1.5}}, r"recalibrate\.floor: 1\.5 is not allowed"),
        ({"recalibrate": {"min_document": 5}}, r"recalibrate\.min_document: unknown key; did you mean"),
        (
            {"recalibrate": {"mode": "fit"}, "inspect": {"detector": "none"}},
            r"recalibrate: .* is not allowed: it moves the threshold",
        ),
    ],
)
def test_what_is_not_allowed(crawl: str, tmp_path: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run(job(crawl, tmp_path / "out", **settings))


def test_off_may_be_written_as_yaml_reads_it(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("recalibrate:\n  mode: off\n")
    assert load_job(str(tmp_path / "job.yaml")).recalibrate.mode == "off"
