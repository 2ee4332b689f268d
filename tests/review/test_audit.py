"""The audit put together: simulated people on a small output, drawn and labelled as in earnest."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import JobError, UsageError
from pipelines.records import OUTPUT, Verdict
from pipelines.review.audit import audit
from pipelines.review.audit_text import render
from pipelines.review.certify import sealed_labels, sealed_plan
from pipelines.review.make import Request, make_review
from pipelines.review.records import TASKS, Answer, Folder, Label, Stream, Truth
from pipelines.review.store import Store

THEN = datetime(2026, 5, 1, tzinfo=UTC)
DOCUMENTS = 1200
Person = Callable[[bool], Label]


def write_output(folder: Path, share: float, seed: int = 1) -> dict[str, bool]:
    """A finished output of documents about which a detector is right now and then; gives which are machine text."""
    random_numbers = np.random.default_rng(seed)
    machine = random_numbers.random(DOCUMENTS) < share
    probability = np.clip(np.where(machine, 0.7, 0.15) + random_numbers.normal(0, 0.2, DOCUMENTS), 0.01, 0.99)
    dated = (np.arange(DOCUMENTS) % 10 == 0) & ~machine
    place = np.select([dated, probability > 0.8, probability > 0.6], ["reserve", "quarantine", "review"], "reserve")
    truth = {}
    rows: dict[str, list[dict[str, Any]]] = {"reserve": [], "quarantine": [], "review": []}
    for at in range(DOCUMENTS):
        text = f"document {seed} {at}"
        digest = hashlib.sha256(text.encode()).hexdigest()
        truth[digest[:32]] = bool(machine[at])
        year = 2021 if dated[at] else 2023 + at % 2
        rows[str(place[at])].append(
            {
                "doc_id": digest[:32],
                "url": f"https://example.org/{at}",
                "host": "example.org",
                "captured_at": datetime(year, 3, 1, tzinfo=UTC),
                "language": "en" if at % 3 else "de",
                "text": text,
                "text_sha256": digest,
                "verdict": (Verdict.DATED if dated[at] else Verdict.CLEAR).value,
                "machine_probability": float(probability[at]) if at % 20 else None,
                "evidence": [],
                "shard": "a",
                "record_offset": at,
                "cluster_size": 1 + at % 3,
                "because": "",
                "payload_sha256": digest,
            }
        )
    for name, own in rows.items():
        (folder / name).mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(own, OUTPUT), folder / name / "part-0.parquet")
    records = {"in": DOCUMENTS, "duplicates": 0, "rejects": 0, **{name: len(own) for name, own in rows.items()}}
    told = {"estimate": 0.3, "low": 0.2, "high": 0.4, "level": 0.95, "method": "adjusted"}
    summary = {"records": records, "synthetic_share": told, "job": {"digest": "0" * 64}}
    (folder / "summary.json").write_text(json.dumps(summary))
    return truth


def write_made(path: Path, count: int = 40) -> str:
    path.write_text("".join(json.dumps({"text": f"made {at}"}) + "\n" for at in range(count)))
    return str(path)


def erring(missed: float, accused: float, seed: int) -> Person:
    random_numbers = np.random.default_rng(seed)
    return lambda machine: (
        Label.MACHINE if machine ^ (random_numbers.random() < (missed if machine else accused)) else Label.HUMAN
    )


def label(folder: str, truth: Mapping[str, bool], people: Mapping[str, Person], part: float = 1.0) -> None:
    """Lets people answer the audit's tasks in turn, the first part of them."""
    review = Folder(folder)
    controls = review.read_controls()
    tasks = review.read_tasks(Stream.AUDIT).to_pylist()
    names = list(people)
    answers = []
    for row in tasks[: round(part * len(tasks))]:
        task = row["task_id"]
        machine = controls[task] is Truth.MACHINE if task in controls else truth[task]
        for turn in range(row["annotators"]):
            who = names[(row["position"] + turn) % len(names)]
            answers.append(Answer(task, who, people[who](machine), THEN + timedelta(seconds=len(answers))))
    with Store(review.labels) as store:
        store.add(answers)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, bool]]:
    folder = tmp_path_factory.mktemp("crawl") / "out"
    return str(folder), write_output(folder, 0.2)


@pytest.fixture(scope="module")
def humans(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, bool]]:
    folder = tmp_path_factory.mktemp("humans") / "out"
    return str(folder), write_output(folder, 0.0, seed=2)


def true_shares(output: str, truth: Mapping[str, bool]) -> tuple[float, float, float]:
    """Of all documents, of all captures, and of the documents in the reserve."""
    places = {place: pq.read_table(f"{output}/{place}").to_pylist() for place in ("reserve", "quarantine", "review")}
    rows = [row for own in places.values() for row in own]
    machine = np.array([truth[row["doc_id"]] for row in rows])
    weights = np.array([row["cluster_size"] for row in rows])
    reserve = np.mean([truth[row["doc_id"]] for row in places["reserve"]])
    return float(machine.mean()), float(machine @ weights / weights.sum()), float(reserve)


def exact(tmp_path: Path, output: tuple[str, dict[str, bool]]) -> dict[str, Any]:
    """300 labels by one person who does not err, and no controls."""
    make_review(output[0], Request(labels=300, controls=0, stratify=("language",)), str(tmp_path / "r"))
    label(str(tmp_path / "r"), output[1], {"ada": erring(0, 0, 1)})
    return audit(str(tmp_path / "r"))


def test_none_of_all_that_were_labelled_gives_the_exact_figure(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    truth = write_output(folder, 0.0, seed=3)
    # A reserve of one stratum, with nothing beside it.
    for place in ("quarantine", "review"):
        (folder / place / "part-0.parquet").unlink()
    table = pq.read_table(folder / "reserve" / "part-0.parquet")
    at = table.schema.get_field_index("language")
    table = table.set_column(at, OUTPUT.field(at), pa.array(["en"] * table.num_rows))
    pq.write_table(table, folder / "reserve" / "part-0.parquet")
    summary = json.loads((folder / "summary.json").read_text())
    summary["records"] |= {"reserve": table.num_rows, "quarantine": 0, "review": 0}
    (folder / "summary.json").write_text(json.dumps(summary))
    found = exact(tmp_path, (str(folder), truth))
    bound = found["reserve_bound"]
    assert (bound["machine"], bound["drawn"]) == (0, 300)
    assert bound["share"] == pytest.approx(1 - 0.05 ** (1 / 300))
    assert found["bounds"]["slices"]["language"]["en"]["share"] == pytest.approx(1 - 0.05 ** (1 / 300))
    assert (found["share"]["estimate"], found["share"]["low"]) == (0, 0)
    assert "at most 1.00 % of it is machine text (95 % bound; 0 of 300" in render(found)


def test_by_slice_the_bound_is_that_of_the_slice_alone(tmp_path: Path, humans: tuple[str, dict[str, bool]]) -> None:
    found = exact(tmp_path, humans)
    for one in found["bounds"]["slices"]["language"].values():
        assert one["share"] == pytest.approx(1 - 0.05 ** (1 / one["drawn"]))
    assert {one["place"] for one in found["strata"]} >= {"reserve"}
    assert found["reserve_bound"]["share"] < min(s["share"] for s in found["bounds"]["slices"]["language"].values())


@pytest.mark.parametrize("seed", range(2))
def test_intervals_hold_the_truth_with_people_who_err(
    tmp_path: Path, output: tuple[str, dict[str, bool]], seed: int
) -> None:
    documents, captures, reserve = true_shares(*output)
    request = Request(
        labels=400, double=0.2, controls=60, made=write_made(tmp_path / "made"), stratify=("language",), seed=str(seed)
    )
    make_review(output[0], request, str(tmp_path / "r"))
    label(str(tmp_path / "r"), output[1], {"ada": erring(0.05, 0.05, seed), "bob": erring(0.1, 0.05, seed + 100)})
    found = audit(str(tmp_path / "r"))
    json.dumps(found, allow_nan=False)
    for truth, name in ((documents, "documents"), (captures, "captures")):
        for one in (found["shares"][name], found["shares"][name]["horvitz_thompson"], found["shares"][name]["ppi"]):
            assert one["low"] <= truth <= one["high"], (seed, name, one)
    assert reserve <= found["reserve_bound"]["share"]
    assert found["share"]["estimate"] == found["shares"]["documents"]["estimate"]
    for person, missed, accused in (("ada", 0.05, 0.05), ("bob", 0.1, 0.05)):
        errors = found["annotators"]["by_annotator"][person]
        assert errors["sensitivity"]["low"] <= 1 - missed <= errors["sensitivity"]["high"]
        assert errors["specificity"]["low"] <= 1 - accused <= errors["specificity"]["high"]
    assert found["agreement"]["low"] <= found["agreement"]["alpha"] <= found["agreement"]["high"]
    assert found["annotators"]["latent"]["by_annotator"]["ada"]["sensitivity"] > 0.7
    assert found["shares"]["run"]["estimate"] == 0.3


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory, output: tuple[str, dict[str, bool]]) -> Path:
    """A review of the output without a label, with a document to train on."""
    folder = tmp_path_factory.mktemp("drawn")
    made = write_made(folder / "made")
    review = Folder(str(folder / "r"))
    make_review(output[0], Request(labels=120, controls=10, made=made, stratify=("language",)), review.path)
    row = review.read_tasks(Stream.AUDIT).slice(0, 1).to_pylist()[0]
    rows = [{**row, "task_id": "e" * 32, "stratum": None, "inclusion_probability": None}]
    pq.write_table(pa.Table.from_pylist(rows, TASKS), review.tasks(Stream.ACTIVE))
    return folder / "r"


@pytest.fixture
def review(tmp_path: Path, drawn: Path) -> str:
    return str(shutil.copytree(drawn, tmp_path / "r"))


def test_digests_are_of_what_is_sealed_and_of_nothing_else(review: str, output: tuple[str, dict[str, bool]]) -> None:
    label(review, output[1], {"ada": erring(0, 0, 1)})
    before = audit(review)
    assert before["labels_sha256"] == hashlib.sha256(sealed_labels(Folder(review))).hexdigest()
    assert before["plan_sha256"] == hashlib.sha256(sealed_plan(Folder(review))).hexdigest()
    active = Folder(review).read_tasks(Stream.ACTIVE)["task_id"][0].as_py()
    with Store(Folder(review).labels) as store:
        store.add([Answer(active, "ada", Label.MACHINE, THEN), Answer("f" * 32, "eve", Label.MACHINE, THEN)])
    assert audit(review) == before
    task = Folder(review).read_tasks(Stream.AUDIT)["task_id"][0].as_py()
    with Store(Folder(review).labels) as store:
        store.add([Answer(task, "ada", Label.CANNOT_TELL, THEN + timedelta(days=1))])
    assert audit(review)["labels_sha256"] != before["labels_sha256"]


def test_half_of_the_labels(review: str, output: tuple[str, dict[str, bool]]) -> None:
    label(review, output[1], {"ada": erring(0, 0, 1), "bob": erring(0, 0, 1)}, part=0.5)
    found = audit(review)
    done = found["progress"]["documents"]["done"]
    assert 0 < done < found["progress"]["documents"]["wanted"] == 120
    assert found["labels"] == done == sum(one["labelled"] for one in found["strata"])
    assert any(f"{120 - done} of 120 documents have no label" in one for one in found["missing"])
    assert found["share"]["low"] <= true_shares(*output)[0] <= found["share"]["high"]
    assert f"labels      {done} of 120 documents; two people" in render(found)


def test_without_labels_nothing_is_claimed(review: str) -> None:
    found = audit(review)
    assert found["share"] == {"estimate": None, "low": 0.0, "high": 1.0, "method": None}
    assert found["reserve_bound"]["share"] == 1
    assert any("count as machine text" in one for one in found["missing"])
    assert any("No machine control has an answer" in one for one in found["missing"])
    assert "at most 100.00 % of it" in render(found)
    json.dumps(found, allow_nan=False)


def test_strata_without_labels_count_as_machine_text(review: str, output: tuple[str, dict[str, bool]]) -> None:
    """The German documents of the reserve are left out."""
    label(review, output[1], {"ada": erring(0, 0, 1)})
    rows = Folder(review).read_tasks(Stream.AUDIT).to_pylist()
    left = {row["task_id"] for row in rows if (row["place"], row["language"]) == ("reserve", "de")}
    with Store(Folder(review).labels) as store:
        store._database.executemany("delete from answers where task_id = ?", [(task,) for task in left])
    found = audit(review)
    german = next(s for s in found["strata"] if (s["place"], s["language"]) == ("reserve", "de"))
    assert (german["labelled"], german["bound"]) == (0, 1)
    assert found["reserve_bound"]["unseen"] == pytest.approx(german["documents"] / found["reserve_bound"]["sizes"])
    assert found["reserve_bound"]["share"] >= found["reserve_bound"]["unseen"]
    assert any(f"strata of the reserve, with {german['documents']:,} documents" in one for one in found["missing"])
    assert any("If they were passed over because they are hard" in one for one in found["missing"])


def test_doubt_and_disagreement_count_in_the_bound(tmp_path: Path, humans: tuple[str, dict[str, bool]]) -> None:
    folder = str(tmp_path / "r")
    make_review(humans[0], Request(labels=100, controls=0, double=0.3, stratify=("language",)), folder)
    label(folder, humans[1], {"ada": erring(0, 0, 1), "bob": erring(0, 0, 1)})
    clean = audit(folder)
    rows = Folder(folder).read_tasks(Stream.AUDIT).to_pylist()
    twice = next(row["task_id"] for row in rows if row["annotators"] == 2 and row["place"] == "reserve")
    once = next(row for row in rows if row["annotators"] == 1 and row["place"] == "reserve")
    alone = ("ada", "bob")[once["position"] % 2]
    later = THEN + timedelta(days=1)
    with Store(Folder(folder).labels) as store:
        store.add([Answer(twice, "ada", Label.EDITED, later), Answer(once["task_id"], alone, Label.CANNOT_TELL, later)])
    found = audit(folder)
    assert (clean["reserve_bound"]["machine"], found["reserve_bound"]["machine"]) == (0, 2)
    assert sum(one["machine"] for one in found["strata"]) == 0.5
    assert sum(one["edited"] for one in found["strata"]) == 0.5
    assert sum(one["cannot_tell"] for one in found["strata"]) == 1
    assert found["shares"]["documents"]["edited"]["estimate"] > 0
    assert found["agreement"]["same"] == found["agreement"]["documents"] - 1


def test_if_nobody_can_tell_there_is_no_estimate(review: str, output: tuple[str, dict[str, bool]]) -> None:
    label(review, output[1], {"ada": lambda _: Label.CANNOT_TELL})
    found = audit(review)
    assert found["share"]["estimate"] is None
    assert found["share"]["low"] < 0.05
    assert found["share"]["high"] == found["reserve_bound"]["share"] == 1
    json.dumps(found, allow_nan=False)
    assert "no share of machine text can be given" in render(found)


def test_words_hold_the_figures_and_no_control_characters(review: str, output: tuple[str, dict[str, bool]]) -> None:
    label(review, output[1], {"a\x1b[2J\u202eda": erring(0, 0, 1), "bob": erring(0.1, 0, 2)})
    found = audit(review)
    words = render(found)
    assert all(letter.isprintable() or letter == "\n" for letter in words)
    assert max(map(len, words.splitlines())) <= 130
    assert words.splitlines()[0].startswith("reserve     at most ")
    assert f"{100 * found['shares']['detector']['documents']:.1f} %" in words
    assert "the run's own estimate       30.0 %  [20.0 %, 40.0 %]" in words


def test_what_is_no_review(tmp_path: Path, review: str) -> None:
    with pytest.raises(UsageError, match="no review here"):
        audit(str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match="--level 95"):
        audit(review, 95)
    plan = Path(Folder(review).plan)
    plan.write_text(json.dumps({**json.loads(plan.read_text()), "strata": []}))
    with pytest.raises(JobError, match=r"plan\.json: has 0 strata"):
        audit(review)
    plan.write_text("{}")
    with pytest.raises(JobError, match=r"plan\.json: no strata"):
        audit(review)
