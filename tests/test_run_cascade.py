"""A job whose detector is a cascade over a model of transformers: the same bytes however it runs, and what it saved."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

pytest.importorskip("torch", reason="needs the torch extra")

from detectors import load_detector
from detectors.base import Detector
from detectors.calibrate import calibrate
from detectors.cascade import Band, Cascade
from detectors.cascade_fitting import FittedCascade
from detectors.model_fitting import CalibrationOptions
from detectors.model_folder import write_cascade
from detectors.models import ModelOptions
from pipelines import inspect
from pipelines.cli import main
from pipelines.errors import JobError
from pipelines.job import load_job
from pipelines.run import run
from tests.crawls import column, digests, rows, write_jsonl
from tests.detectors import generated, small_models

PAGES = 20
COUNT = len(rows(PAGES))  # with the pages that were planted
PLACES = ("reserve", "quarantine", "review")
READING = ModelOptions(minimum_tokens=40, device="cpu")
LOOSE = CalibrationOptions(least=20, false_positive_rate=0.1)


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_jsonl(tmp_path_factory.mktemp("crawl"), shards=3, count=PAGES)


@pytest.fixture(scope="module")
def cascade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classifiers with random weights; the band begins at the median of what the cheap one says of the crawl."""
    folder = tmp_path_factory.mktemp("cascade")
    sets = generated.write_sets(folder / "sets", sets=1, rows=120)
    parts = []
    for seed, name in enumerate(("cheap", "expensive")):
        model = small_models.roberta(folder / f"{name}-model", {0: "human", 1: "machine"}, seed)
        calibrate("sequence-classifier", [model], sets, folder / name, reading=READING, options=LOOSE)
        parts.append(load_detector(str(folder / name)))
    cheap, expensive = parts
    texts = [row["text"] for row in rows(PAGES)]
    middle = float(np.nanmedian(cheap.score(texts, ["en"] * len(texts)).probability))
    fitted = FittedCascade(Cascade(cheap, expensive, Band(middle, 2.0)), {})
    write_cascade(fitted, str(folder / "cheap"), str(folder / "expensive"), folder / "cascade")
    return folder / "cascade"


@pytest.fixture(scope="module")
def undisturbed(crawl: str, cascade: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    assert main(command(crawl, cascade, output)) == 0
    return output


def command(crawl: str, cascade: Path, output: Path, workers: int = 1) -> list[str]:
    more = ["--set", f"inspect.detector={cascade}", "--set", "neardup.enabled=false"]
    return ["run", "--input", crawl, "--output", str(output), "--workers", str(workers), *more]


def saving(output: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads((output / "summary.json").read_text())["detector"]["cascade"]
    return found


def test_evidence_says_which_detector_decided_and_summary_counts_it(undisturbed: Path, cascade: Path) -> None:
    detector = load_detector(str(cascade))
    assert isinstance(detector, Cascade)
    found: list[tuple[Any, ...]] = column(undisturbed, PLACES, ["text", "language", "evidence", "machine_probability"])
    texts, languages = [row[0] for row in found], [row[1] for row in found]
    cheap, expensive = (part.score(texts, languages).probability for part in (detector.cheap, detector.expensive))
    sent = characters = 0
    for place, (text, _, evidence, probability) in enumerate(found):
        (own,) = [item for item in evidence if item["source"] == "cascade"]
        asked = bool(np.isnan(cheap[place]) or cheap[place] >= detector.band.low)
        if probability is not None:
            assert own["detail"] == f"decided by the {'expensive' if asked else 'cheap'} detector, sequence-classifier"
            assert own["probability"] == probability
            assert not asked or probability == expensive[place]
        else:
            assert own["kind"] == "abstained"
            assert own["detail"] in ("too_short", "language")
            assert asked
        sent, characters = sent + asked, characters + asked * len(text)
    assert 0.2 * COUNT < sent < 0.9 * COUNT
    total = sum(len(row["text"]) for row in rows(PAGES))
    assert saving(undisturbed) == {
        "seen": COUNT,
        "sent": sent,
        "seen_characters": total,
        "sent_characters": characters,
    }


def test_people_are_told_what_was_sent(
    undisturbed: Path, capsys: pytest.CaptureFixture[str], crawl: str, tmp_path: Path
) -> None:
    counts = saving(undisturbed)
    words = f"{counts['sent']} of {COUNT} documents"
    assert words in (undisturbed / "README.md").read_text()
    report = (undisturbed / "report.html").read_text()
    assert f"Of {COUNT} documents, {counts['sent']} went" in report
    assert main(["report", str(undisturbed), "--out", str(tmp_path / "again.html")]) == 0
    assert (tmp_path / "again.html").read_text() == report
    detector = json.loads((undisturbed / "summary.json").read_text())["job"]["settings"]["inspect"]["detector"]
    capsys.readouterr()
    assert main(command(crawl, Path(detector), undisturbed)) == 0
    assert words in capsys.readouterr().out


@pytest.mark.slow
def test_two_workers_write_the_same_bytes(
    undisturbed: Path, crawl: str, cascade: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(crawl, cascade, tmp_path / "out", workers=2)) == 0
    assert digests(undisturbed) == digests(tmp_path / "out")
    assert saving(tmp_path / "out") == saving(undisturbed)
    assert "s in the expensive one, all workers together" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_goes_on_has_the_counts_of_both(
    undisturbed: Path,
    crawl: str,
    cascade: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The first run dies at the last shard; the second reads that alone."""
    job = load_job(None, {"input": [crawl], "output": str(tmp_path / "out"), "workers": 1},
                   [f"inspect.detector={cascade}", "neardup.enabled=false"])  # fmt: skip
    read: list[str] = []
    real = inspect.inspect_shard

    def counted(task: inspect.Task, looks: inspect.Looks) -> inspect.Inspected:
        if len(read) == 2:
            raise OSError("the disk is gone")
        read.append(task.shard.name)
        return real(task, looks)

    monkeypatch.setattr(inspect, "inspect_shard", counted)
    with pytest.raises(JobError, match="the disk is gone"):
        run(job)
    monkeypatch.setattr(inspect, "inspect_shard", real)
    result = run(job)
    assert "inspect  2 of 3 shards were read by an earlier run" in capsys.readouterr().err
    assert result.summary["detector"]["cascade"] == saving(undisturbed)


def test_a_model_that_is_gone_or_changed_is_said_in_one_line(
    crawl: str, cascade: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = json.loads((cascade / "detector.json").read_text())
    part = json.loads((cascade.parent / "cheap" / "detector.json").read_text())
    part["models"]["model"] = str(tmp_path / "nowhere")
    (tmp_path / "cheap").mkdir()
    (tmp_path / "cheap" / "detector.json").write_text(json.dumps(part))
    (tmp_path / "detector.json").write_text(json.dumps({**data, "cheap": str(tmp_path / "cheap")}))
    assert main(command(crawl, tmp_path, tmp_path / "out")) == 2
    error = capsys.readouterr().err
    assert "inspect.detector" in error
    assert "nowhere" in error
    assert error.count("\n") == 1


def test_a_worker_keeps_torch_to_one_thread(cascade: Path) -> None:
    import torch

    torch.set_num_threads(2)
    detector: Detector = inspect._loaded(str(cascade))
    assert detector.name == "cascade"
    assert torch.get_num_threads() == 1


def test_parts_without_documents_count_nothing(cascade: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text('{"url": "http://a.example/", "text": ""}\n')
    assert main(command(str(tmp_path / "empty.jsonl"), cascade, tmp_path / "out")) == 1
    assert saving(tmp_path / "out") == {"seen": 0, "sent": 0, "seen_characters": 0, "sent_characters": 0}
    assert pq.read_table(next((tmp_path / "out" / "rejects").glob("*.parquet"))).num_rows == 1
