"""The share by maximum likelihood in the output of a run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from detectors.embedded import Embedded
from detectors.histograms import histogram
from pipelines.job import load_job
from pipelines.results import detector_rates
from pipelines.run import run
from pipelines.statistics.mixture import likelihood_share, pooled
from pipelines.statistics.options import PrevalenceOptions
from pipelines.statistics.references import STARTS, fit_histograms, reference_counts
from tests.crawls import digests, write_jsonl

COLUMNS = ("estimate_likelihood", "low_likelihood", "high_likelihood")


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_jsonl(tmp_path_factory.mktemp("crawl"), shards=4, count=300)


@pytest.fixture(scope="module")
def finished(crawl: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ran(crawl, tmp_path_factory.mktemp("finished") / "out", workers=1)


def ran(crawl: str, output: Path, **settings: object) -> Path:
    run(load_job(None, {"input": [crawl], "output": str(output), "statistics": {"panel": False}, **settings}))
    return output


def share(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "summary.json").read_text())["synthetic_share"]
    return found


def rows(output: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(output / "statistics" / "prevalence.parquet").to_pylist()
    return found


def test_the_table_and_the_summary_agree(finished: Path) -> None:
    told = [row for row in rows(finished) if row["estimate_likelihood"] is not None]
    assert {row["margin"] for row in told} >= {"all", "language"}
    for row in told:
        assert 0 <= row["low_likelihood"] <= row["estimate_likelihood"] <= row["high_likelihood"] <= 1
    (whole,) = [r for r in told if (r["margin"], r["unit"], r["population"]) == ("all", "documents", "crawled")]
    methods = share(finished)["methods"]
    assert [methods["likelihood"][name] for name in ("estimate", "low", "high")] == [whole[name] for name in COLUMNS]
    assert methods["rogan-gladen"] == {name: whole[name] for name in ("estimate", "low", "high")}
    few = [row for row in rows(finished) if row["host"] is not None and row["scored"] < PrevalenceOptions().min_host]
    assert few
    assert all(row[name] is None for row in few for name in COLUMNS)


def test_the_estimate_is_that_of_the_documents_written(finished: Path) -> None:
    """From the output's own documents: everything that was captured before is human, the rest is the slice."""
    documents = [
        row
        for place in ("reserve", "quarantine", "review", "duplicates")
        for part in (finished / place).glob("part-*.parquet")
        for row in pq.read_table(part).to_pylist()
    ]
    assert {row["language"] for row in documents if row["machine_probability"] is not None} == {"en"}
    cutoff = load_job(None, {"input": ["x"]}).cutoff_at
    late = [row for row in documents if row["captured_at"] >= cutoff]
    rest = [r for r in late if r["verdict"] not in ("declared", "marked", "dated") and r["machine_probability"]]
    direct = sum(row["verdict"] in ("declared", "marked") for row in late)
    counts = pooled(histogram([row["machine_probability"] for row in rest]), STARTS)
    sets = detector_rates(Embedded()).histograms
    (whole,) = [
        r for r in rows(finished) if (r["margin"], r["unit"], r["population"]) == ("all", "documents", "crawled")
    ]
    machine = reference_counts(sets, "machine", "en")
    drawn = fit_histograms(machine).mixtures(len(machine), "machine")[whole["sources"] - 1]
    # Too few documents before the cut-off to be the reference: left-out sets are.
    assert share(finished)["methods"]["likelihood"]["human"] == "left-out sets"
    human = fit_histograms(reference_counts(sets, "human", "en")).unseen("human")
    estimate = likelihood_share(counts, human.mean(axis=0), drawn.mean(axis=0))[0]
    expected = (direct + len(rest) * estimate) / whole["judged"]
    assert whole["estimate_likelihood"] == pytest.approx(expected, abs=0.02)  # copies weigh less in the counts


@pytest.mark.slow
def test_workers_change_no_bit(crawl: str, finished: Path, tmp_path: Path) -> None:
    again = ran(crawl, tmp_path / "out", workers=2)
    name = "statistics/prevalence.parquet"
    assert digests(again)[name] == digests(finished)[name]
    assert share(again) == share(finished)


def test_without_a_detector_there_is_none(crawl: str, tmp_path: Path) -> None:
    output = ran(crawl, tmp_path / "out", workers=1, inspect={"detector": "none"})
    assert share(output)["methods"] == {"rogan-gladen": None, "likelihood": None}
    assert all(np.all([row[name] is None for name in COLUMNS]) for row in rows(output))
