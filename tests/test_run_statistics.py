"""A run's statistics as a whole: the panel, further detectors, classes of hosts, an earlier output as the reference."""

import json
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from detectors import load_detector
from detectors.embedded import SETTINGS_FILE, Embedded
from pipelines.errors import UsageError
from pipelines.job import load_job
from pipelines.opinions import OPINION, named
from pipelines.run import run
from tests.crawls import column, digests, job, write_jsonl

DOCUMENTS = ("reserve", "quarantine", "review")


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_jsonl(tmp_path_factory.mktemp("crawl"), shards=4, count=300)


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with the package's model under another name, and so of another digest."""
    folder = tmp_path_factory.mktemp("second") / "stricter"
    shutil.copytree(str(resources.files("detectors") / "models"), folder)
    settings = json.loads((folder / SETTINGS_FILE).read_text())
    (folder / SETTINGS_FILE).write_text(json.dumps(settings | {"name": "stricter"}))
    return str(folder)


@pytest.fixture(scope="module")
def finished(crawl: str, second: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("finished") / "out"
    run(job(crawl, output, statistics={"detectors": [second], "openlineage": True, "prometheus": True}))
    return output


def rows(output: Path, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(output / "statistics" / f"{table}.parquet").to_pylist()
    return found


def test_each_detector_has_its_own_rows_and_they_are_not_averaged(finished: Path, second: str) -> None:
    name = f"embedded-{load_detector(second).digest[:8]}"  # two of one name are told apart by their digests
    found = {(row["detector"], row["margin"]) for row in rows(finished, "prevalence")}
    assert {detector for detector, _ in found} == {"embedded", name}
    summary = json.loads((finished / "summary.json").read_text())
    assert set(summary["synthetic_share"]["detectors"]) == {"embedded", name}
    assert summary["synthetic_share"]["estimate"] == summary["synthetic_share"]["detectors"]["embedded"]["estimate"]


def test_the_other_detector_is_noted_on_each_document_and_decides_nothing(
    finished: Path, crawl: str, second: str, tmp_path: Path
) -> None:
    name = f"embedded-{load_detector(second).digest[:8]}"
    noted = 0
    for identity, evidence, _ in column(finished, DOCUMENTS, ["doc_id", "evidence", "verdict"]):
        (found,) = [item for item in evidence if item["kind"] == OPINION]  # type: ignore[attr-defined]
        assert found["source"] == name, identity
        noted += found["probability"] is not None
    assert noted
    run(job(crawl, tmp_path / "alone"))
    decided = ["doc_id", "verdict", "because", "posterior"]
    assert column(finished, DOCUMENTS, decided) == column(tmp_path / "alone", DOCUMENTS, decided)


def test_a_detector_named_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="named twice"):
        named([Embedded()], Embedded())


def test_a_further_detector_that_is_not_there_is_named(crawl: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"statistics\.detectors: no-such"):
        run(job(crawl, tmp_path / "out", statistics={"detectors": ["no-such"]}))


def test_the_panel_and_its_sketches_hold_no_text(finished: Path) -> None:
    panel = rows(finished, "panel")
    assert panel
    assert {row["language"] for row in panel} >= {"en"}
    sketches = pq.read_table(finished / "statistics" / "sketches.parquet")
    assert sketches.num_rows
    blob = b"".join(path.read_bytes() for path in (finished / "statistics").glob("s*tches.parquet"))
    texts = [text for (text,) in column(finished, DOCUMENTS, ["text"])]
    assert not any(str(text)[:60].encode() in blob for text in texts)
    assert not any(name.startswith("excerpt") for name in sketches.schema.names)


def test_without_a_panel_there_is_none(crawl: str, tmp_path: Path) -> None:
    run(job(crawl, tmp_path / "out", statistics={"panel": False}))
    assert not (tmp_path / "out" / "statistics" / "panel.parquet").exists()
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["panel"] is None


@pytest.mark.slow
def test_workers_and_parts_change_no_statistics(crawl: str, finished: Path, second: str, tmp_path: Path) -> None:
    other = tmp_path / "out"
    settings = {"detectors": [second], "openlineage": True, "prometheus": True}
    run(load_job(None, {"input": [crawl], "output": str(other), "workers": 2, "statistics": settings}))
    ours, theirs = digests(finished / "statistics"), digests(other / "statistics")
    assert ours == theirs


def test_hosts_are_of_the_classes_of_a_file(crawl: str, tmp_path: Path) -> None:
    rules = tmp_path / "classes.yaml"
    rules.write_text("manuals: ['docs*', '*']\n".replace(", '*'", ""))
    run(job(crawl, tmp_path / "out", statistics={"host_classes": str(rules), "panel": False}))
    hosts = {row["host"] for row in rows(tmp_path / "out", "prevalence") if row["host"]}
    classes = {row["host_class"] for row in rows(tmp_path / "out", "prevalence") if row["margin"] == "host_class"}
    assert ("manuals" in classes) == any(label.startswith("docs") for host in hosts for label in host.split("."))


def test_an_earlier_output_serves_as_the_reference(crawl: str, finished: Path, tmp_path: Path) -> None:
    run(job(crawl, tmp_path / "out", cutoff="1990-01-01", statistics={"reference": str(finished)}))
    found = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert found["panel"]["reference"] == json.loads((finished / "summary.json").read_text())["job"]["digest"]
    with pytest.raises(UsageError, match=r"statistics\.reference: .*no finished run"):
        run(job(crawl, tmp_path / "other", statistics={"reference": str(tmp_path)}))


def test_figures_for_machines(finished: Path) -> None:
    event = json.loads((finished / "openlineage.json").read_text())
    assert event["eventType"] == "COMPLETE"
    lines = (finished / "metrics.prom").read_text().splitlines()
    records = json.loads((finished / "summary.json").read_text())["records"]["in"]
    assert f'human_reserve_records{{place="in"}} {records}' in lines
