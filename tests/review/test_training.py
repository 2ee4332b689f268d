"""Training with labels: which labels train, which decide, and what becomes of the folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from detectors import load_detector
from detectors.embedded import Embedded
from detectors.training import train
from pipelines.cli import main
from pipelines.errors import JobError, UsageError
from pipelines.review.make import Request, make_review
from pipelines.review.records import Answer, Folder, Label, Stream, Truth
from pipelines.review.store import Store
from pipelines.review.training import (
    GATE_FILE,
    REFUSED,
    audited_documents,
    labelled_documents,
    train_with_labels,
)
from tests.detectors.conftest import OPTIONS
from tests.detectors.generated import shifted_texts, write_sets
from tests.review.outputs import row, write_output

QUICK = replace(OPTIONS, leave_one_out=False, false_positive_rate=0.05, fit=replace(OPTIONS.fit, least_sets=1))
THEN = datetime(2026, 5, 1, tzinfo=UTC)
Person = Callable[[str, bool], Label]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output, the detector that is to be replaced, and a review without answers."""
    room = tmp_path_factory.mktemp("training")
    write_sets(room / "sets")
    train(room / "sets", room / "old", QUICK)
    texts, machine = shifted_texts(3, 420)
    documents = [
        row(number, "quarantine" if flag and number % 3 else "reserve", text=text, language="en")
        for number, (text, flag) in enumerate(zip(texts, machine, strict=True))
    ]
    write_output(room / "out", documents)
    made, _ = shifted_texts(4, 60)
    (room / "made.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in made[1::2]))
    (room / "truth.json").write_text(json.dumps(dict(zip(texts, machine, strict=True))))
    _review(room, "review", labels=160, active=140, controls=24)
    return room


def _review(room: Path, name: str, **wanted: int) -> Folder:
    make_review(str(room / "out"), Request(made=str(room / "made.jsonl"), seed=name, **wanted), str(room / name))
    return Folder(str(room / name))


def _answer(
    room: Path, folder: Folder, person: Person, name: str = "ada", of: tuple[Stream, ...] = tuple(Stream)
) -> None:
    truth = json.loads((room / "truth.json").read_text())
    with Store(folder.labels) as store:
        for stream in of:
            store.add(
                Answer(task["task_id"], name, person(task["text"], truth.get(task["text"], True)), _at(number))
                for number, task in enumerate(folder.read_tasks(stream).to_pylist())
            )


def _at(number: int) -> datetime:
    return THEN + timedelta(seconds=number)


def _right(text: str, machine: bool) -> Label:
    return Label.MACHINE if machine else Label.HUMAN


def _wrong(text: str, machine: bool) -> Label:
    return Label.HUMAN if machine else Label.MACHINE


@pytest.fixture
def answered(room: Path, tmp_path: Path) -> Folder:
    """The review, every task of both streams answered rightly."""
    folder = _copy(room, tmp_path)
    _answer(room, folder, _right)
    return folder


def _copy(room: Path, target: Path) -> Folder:
    shutil.copytree(room / "review", target / "review")
    return Folder(str(target / "review"))


def test_audit_and_controls_never_train(room: Path, answered: Folder) -> None:
    found = labelled_documents([answered.path])
    active, audit = answered.read_tasks(Stream.ACTIVE), answered.read_tasks(Stream.AUDIT)
    controls = answered.read_controls()
    assert controls.keys() & set(active["task_id"].to_pylist())  # else the test says nothing
    assert controls.keys() & set(audit["task_id"].to_pylist())
    wanted = {task["text"] for task in active.to_pylist() if task["task_id"] not in controls}
    assert set(found.documents["text"].to_pylist()) == wanted
    assert not wanted & set(audit["text"].to_pylist())
    truth = json.loads((room / "truth.json").read_text())
    for one in found.documents.to_pylist():
        assert one["label"] == ("machine" if truth[one["text"]] else "human")
        assert one["group"].startswith("h")


def test_what_one_review_audits_another_does_not_train_on(room: Path, answered: Folder) -> None:
    other = _review(room, "other", labels=300, active=20)
    audited = set(other.read_tasks(Stream.AUDIT)["task_id"].to_pylist())
    controls = answered.read_controls()
    active = set(answered.read_tasks(Stream.ACTIVE)["task_id"].to_pylist()) - controls.keys()
    assert active & audited
    found = labelled_documents([answered.path, other.path])
    assert found.documents.num_rows == len(active - audited)
    assert found.left_out == {"measure in an audit": len(active & audited)}


def test_edited_differing_and_unknown(room: Path, tmp_path: Path) -> None:
    folder = _copy(room, tmp_path)
    controls = folder.read_controls()
    tasks = [task for task in folder.read_tasks(Stream.ACTIVE)["task_id"].to_pylist() if task not in controls]
    said = [
        (tasks[0], "ada", Label.EDITED),
        (tasks[1], "ada", Label.MACHINE),
        (tasks[1], "bob", Label.HUMAN),
        (tasks[2], "ada", Label.CANNOT_TELL),
        (tasks[3], "ada", Label.CANNOT_TELL),
        (tasks[3], "bob", Label.HUMAN),
        (tasks[4], "ada", Label.MACHINE),
        (tasks[4], "bob", Label.EDITED),
    ]
    with Store(folder.labels) as store:
        store.add(Answer(task, name, label, THEN) for task, name, label in said)
    found = labelled_documents([folder.path])
    assert found.left_out == {"people differ": 1, "cannot tell": 1}
    assert sorted(zip(found.documents["label"].to_pylist(), found.documents["attack"].to_pylist(), strict=True)) == [
        ("human", ""),
        ("machine", "edited"),
        ("machine", "edited"),
    ]


def test_audit_weighs_by_the_chance_and_takes_controls_where_few(room: Path, answered: Folder) -> None:
    found = audited_documents([answered.path])
    audit, controls = answered.read_tasks(Stream.AUDIT), answered.read_controls()
    chances = {one["text"]: one["inclusion_probability"] for one in audit.to_pylist()}
    documents = len(found.texts) - found.controls
    assert found.controls == 0
    np.testing.assert_allclose(found.weights, [1 / chances[text] for text in found.texts])
    # Nothing was called machine text: its controls, and they alone, come in.
    _answer(room, answered, lambda text, machine: Label.HUMAN, of=(Stream.AUDIT,))
    again = audited_documents([answered.path])
    shown = set(audit["task_id"].to_pylist())
    assert again.controls == sum(task in shown for task, truth in controls.items() if truth is Truth.MACHINE) > 0
    assert again.machine[documents:].all()
    assert not again.machine[:documents].any()


def test_labels_that_teach_are_accepted(room: Path, answered: Folder, tmp_path: Path) -> None:
    outcome = train_with_labels([answered.path], tmp_path / "new", replaces=str(room / "old"))
    assert outcome.decision.accepted, outcome.decision.reason
    assert outcome.folder == tmp_path / "new"
    assert not (tmp_path / "new" / REFUSED).exists()
    detector = load_detector(str(tmp_path / "new"))
    assert detector.digest != Embedded(room / "old").digest
    record = json.loads((tmp_path / "new" / GATE_FILE).read_text())
    assert record["accepted"] is True
    assert record["new"]["digest"] == detector.digest
    assert len(record["audit"]["labels_sha256"][answered.path]) == 64


def test_training_anew_with_the_text(room: Path, answered: Folder, tmp_path: Path) -> None:
    outcome = train_with_labels([answered.path], tmp_path / "new", [room / "sets"], str(room / "old"), QUICK)
    assert outcome.decision.accepted, outcome.decision.reason
    data = {one["set"]: one for one in json.loads((tmp_path / "new/detector.json").read_text())["data"]}
    assert data["labels"]["human"] + data["labels"]["machine"] == outcome.labelled.documents.num_rows


def test_text_that_is_in_the_audit_does_not_decide(room: Path, answered: Folder, tmp_path: Path) -> None:
    audited = audited_documents([answered.path])
    labels = ["machine" if flag else "human" for flag in audited.machine]
    pq.write_table(pa.table({"text": audited.texts, "label": labels}), tmp_path / "leak.parquet")
    texts = [room / "sets", tmp_path / "leak.parquet"]
    outcome = train_with_labels([answered.path], tmp_path / "new", texts, str(room / "old"), QUICK)
    assert outcome.known > len(audited.texts) / 2
    assert outcome.decision.human + outcome.decision.machine == len(audited.texts) - outcome.known


def test_wrong_batch_is_refused_and_leaves_the_old_model(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _copy(room, tmp_path)
    _answer(room, folder, _right, of=(Stream.AUDIT,))
    _answer(room, folder, _wrong, of=(Stream.ACTIVE,))
    shutil.copytree(room / "old", tmp_path / "mine")
    before = {file.name: file.read_bytes() for file in (tmp_path / "mine").iterdir()}
    mine = str(tmp_path / "mine")
    assert main(["train", "--labels", folder.path, "--output", mine, "--replaces", mine]) == 1
    said = capsys.readouterr().err
    assert "refused: surely worse" in said
    assert {file.name: file.read_bytes() for file in (tmp_path / "mine").iterdir() if file.is_file()} == before
    assert json.loads((tmp_path / "mine" / REFUSED / GATE_FILE).read_text())["accepted"] is False


def test_command_accepts_in_place(
    room: Path, answered: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = str(tmp_path / "new")
    assert main(["train", "--labels", answered.path, "--output", target, "--replaces", str(room / "old")]) == 0
    said = capsys.readouterr().out
    assert "the gate    accepted" in said
    assert f"inspect.detector={target}" in said


def test_without_labels_nothing_is_trained(room: Path, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="no label of the active stream"):
        train_with_labels([str(room / "review")], tmp_path / "new", replaces=str(room / "old"))


def test_old_model_that_is_none(answered: Folder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--replaces"):
        train_with_labels([answered.path], tmp_path / "new", replaces=str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ([], "--labels"),
        (["--text", "x", "--replaces", "embedded"], "--replaces"),
        (["--labels", "x", "--seed", "3"], "--seed"),
        (["--labels", "x", "--collection", "a"], "--collection"),
        (["--labels", "x"], "no review here"),
    ],
)
def test_options_that_mean_nothing(
    given: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *given, "--output", str(tmp_path / "new")]) == 2
    assert named in capsys.readouterr().err
