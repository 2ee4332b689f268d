"""Trains a detector with people's labels, and lets it replace the old one only if the audit says that it is better.

    outcome = train_with_labels(["review"], Path("my-model"))
    outcome.decision.accepted, outcome.decision.reason

Labels of the active stream train: those of the audit, and of controls, never do, nor does a document that is a task of
the audit of any of the reviews. The audit stream decides: see :mod:`detectors.gate`. Where the text that the old model
was trained on is at hand, training begins anew with the labelled documents as one more set (:mod:`detectors.training`);
where it is not, the old model is updated (:mod:`detectors.updating`).

The new model is written to ``refused/`` within the output's folder and moved out of it once it is accepted. So the
folder may be that of the old model: it changes only where the new one is better.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from detectors import load_detector
from detectors.base import Detector
from detectors.corpus import SCORED_CHARACTERS, text_key
from detectors.gate import Decision, GateOptions, gate
from detectors.levelling import level
from detectors.model_folder import kind_of
from detectors.training import TrainOptions, train
from detectors.updating import Texts, UpdateOptions, update
from pipelines.errors import JobError, UsageError
from pipelines.review.certify import sealed_labels
from pipelines.review.progress import read_review
from pipelines.review.records import Folder, Label, Stream, Truth
from pipelines.review.store import Store

EMBEDDED: Final = "embedded"
REFUSED: Final = "refused"
GATE_FILE: Final = "gate.json"
FEW: Final = 30  # documents of a label in the audit; with fewer, controls of that label are added

LABELLED: Final = pa.schema(
    [
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),  # human or machine
        pa.field("group", pa.string(), nullable=False),  # the host: its pages stay on one side of every split
        pa.field("language", pa.string()),
        pa.field("attack", pa.string(), nullable=False),  # "edited" where a machine wrote or rewrote part; or ""
        pa.field("source", pa.string(), nullable=False),  # the URL
    ]
)


class Labelled(NamedTuple):
    """Documents to train on, of :data:`LABELLED`, and why others that have answers are not among them."""

    documents: pa.Table
    left_out: dict[str, int]


class Audited(NamedTuple):
    """Documents to decide by, n rows.

    Attributes:
        texts: as crawled.
        languages: ISO 639-1.
        machine: (n,).
        weights: 1 / the chance of being drawn, (n,).
        controls: how many of them are controls, the last ones.
        digests: of the audits' labels, SHA-256 in hex, by review.
    """

    texts: list[str]
    languages: list[str | None]
    machine: npt.NDArray[np.bool_]
    weights: npt.NDArray[np.float64]
    controls: int
    digests: dict[str, str]


class Outcome(NamedTuple):
    """What became of the new model, and where it lies."""

    decision: Decision
    folder: Path
    labelled: Labelled
    controls: int  # among the documents that decided
    known: int  # documents of the audit that did not count, since one of the models has learned from their text


def labelled_documents(folders: Sequence[str]) -> Labelled:
    """The documents of the active streams on which those who could tell agree.

    Edited text is machine text here. Where people differ, or none could tell, a document is left out: what people
    cannot tell apart would teach their guesses. Raises UsageError where a folder holds no review.
    """
    tasks: dict[str, dict[str, Any]] = {}
    said: dict[str, list[Label]] = {}
    measuring: set[str] = set()
    for name in folders:
        folder = Folder(name)
        controls = folder.read_controls()
        for row in folder.read_tasks(Stream.AUDIT).select(["task_id", "text_sha256"]).to_pylist():
            measuring |= {row["task_id"], row["text_sha256"]}
        active = {row["task_id"]: row for row in folder.read_tasks(Stream.ACTIVE).to_pylist()}
        tasks |= {task: row for task, row in active.items() if task not in controls}
        with Store(folder.labels) as store:
            answers = store.labels().select(["task_id", "label"]).to_pylist()
        for answer in answers:
            if answer["task_id"] in active and answer["task_id"] not in controls:
                said.setdefault(answer["task_id"], []).append(Label(answer["label"]))
    rows: list[dict[str, Any]] = []
    left_out: Counter[str] = Counter()
    for task, labels in sorted(said.items()):
        row = tasks[task]
        told = {label is not Label.HUMAN for label in labels if label is not Label.CANNOT_TELL}
        if measuring & {task, row["text_sha256"]}:
            left_out["measure in an audit"] += 1
        elif len(told) != 1:
            left_out["people differ" if told else "cannot tell"] += 1
        else:
            rows.append(_row(row, told == {True}, Label.EDITED in labels))
    return Labelled(pa.Table.from_pylist(rows, LABELLED), dict(left_out))


def _row(task: dict[str, Any], machine: bool, edited: bool) -> dict[str, Any]:
    return {
        "text": task["text"],
        "label": "machine" if machine else "human",
        "group": task["host"] or task["task_id"],
        "language": task["language"],
        "attack": Label.EDITED.value if edited else "",
        "source": task["url"] or "",
    }


def audited_documents(folders: Sequence[str]) -> Audited:
    """The documents of the audits whose answers lean one way; and controls where there are few of a label.

    A control weighs as much as the mean document of its label. Raises UsageError where a folder holds no review.
    """
    rows: dict[str, tuple[str, str | None, bool, float]] = {}
    known: dict[str, tuple[str, str | None, bool]] = {}
    digests: dict[str, str] = {}
    for name in folders:
        review = read_review(name)
        digests[name] = hashlib.sha256(sealed_labels(Folder(name))).hexdigest()
        for row in review.documents.to_pylist():
            value = review.values.get(row["task_id"])
            if value is not None and max(value.human, value.machine) > 0.5:
                weight = 1 / row["inclusion_probability"]
                rows.setdefault(row["task_id"], (row["text"], row["language"], value.machine > 0.5, weight))
        for row in review.tasks.to_pylist():
            if row["task_id"] in review.controls:
                truth = review.controls[row["task_id"]] is Truth.MACHINE
                known.setdefault(row["task_id"], (row["text"], row["language"], truth))
    found = list(rows.values())
    controls: list[tuple[str, str | None, bool, float]] = []
    for label in (False, True):
        weights = [row[3] for row in found if row[2] is label]
        if len(weights) < FEW:
            mean = float(np.mean(weights)) if weights else 1.0
            controls += [(*row, mean) for row in known.values() if row[2] is label]
    every = found + controls
    return Audited(
        [row[0] for row in every],
        [row[1] for row in every],
        np.array([row[2] for row in every], bool),
        np.array([row[3] for row in every], np.float64),
        len(controls),
        digests,
    )


def train_with_labels(
    folders: Sequence[str],
    output: Path,
    texts: Sequence[Path] = (),
    replaces: str = EMBEDDED,
    options: TrainOptions | None = None,
    progress: Callable[[str], None] | None = None,
    rule: GateOptions | None = None,
    how: UpdateOptions | None = None,
) -> Outcome:
    """Trains with the labels of some reviews and lets the gate decide.

    Args:
        folders: of reviews.
        output: for the new model, where it is accepted.
        texts: Parquet files of labelled text, or folders of them, to train on anew; none: the old model is updated.
        replaces: the old model: "embedded", or a folder with a detector.
        options: of training anew.
        progress: told what is going on.
        rule: of the gate.
        how: to update.

    Raises UsageError where a folder is not what it should be, JobError where the labels do not suffice to train.
    """
    say = progress or (lambda line: None)
    labelled, audited = labelled_documents(folders), audited_documents(folders)
    say(f"{labelled.documents.num_rows} labelled documents to train on{_why(labelled.left_out)}")
    if not labelled.documents.num_rows:
        raise JobError(f"{', '.join(folders)}: no label of the active stream to train on{_why(labelled.left_out)}")
    old = _open(replaces)
    made = output / REFUSED
    shutil.rmtree(made, ignore_errors=True)
    try:
        if texts:
            _anew(labelled, texts, made, options, say)
        else:
            _updated(labelled, replaces, made, how, say)
    except ValueError as error:
        raise JobError(f"{', '.join(folders)}: {error}") from None
    new = load_detector(str(made))
    unseen = ~(_seen(old, audited.texts) | _seen(new, audited.texts))
    say(f"the gate: {int(unseen.sum())} documents of the audit, {audited.controls} of them controls")
    decision = _decide(old, new, audited, unseen, rule)
    record = {
        **asdict(decision),
        "old": {"detector": replaces, "digest": old.digest},
        "new": {"digest": new.digest},
        "labelled": {"documents": labelled.documents.num_rows, "left_out": labelled.left_out},
        "audit": {"labels_sha256": audited.digests, "controls": audited.controls, "known": int((~unseen).sum())},
        "rule": asdict(rule or GateOptions()),
    }
    (made / GATE_FILE).write_text(json.dumps(_plain(record), indent=2) + "\n", "utf-8")
    if decision.accepted:
        for file in sorted(made.iterdir()):
            file.replace(output / file.name)
        made.rmdir()
    folder = output if decision.accepted else made
    return Outcome(decision, folder, labelled, audited.controls, int((~unseen).sum()))


def _open(name: str) -> Detector:
    try:
        return load_detector(name)
    except (FileNotFoundError, ValueError) as error:
        raise UsageError(f"--replaces: {error}") from None


def _anew(
    labelled: Labelled, texts: Sequence[Path], made: Path, options: TrainOptions | None, say: Callable[[str], None]
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "labels.parquet"
        pq.write_table(labelled.documents, file)
        try:
            train([*texts, file], made, options, say)
        except FileNotFoundError as error:
            raise UsageError(f"--text: {error}") from None


def _updated(
    labelled: Labelled, replaces: str, made: Path, how: UpdateOptions | None, say: Callable[[str], None]
) -> None:
    if replaces != EMBEDDED and kind_of(Path(replaces)):
        raise UsageError(
            f"--replaces {replaces}: only a detector that 'reserve train' wrote can be updated; give --text to train "
            "one anew"
        )
    rows = labelled.documents
    machine = np.array([label == "machine" for label in rows["label"].to_pylist()], bool)
    say(f"updating {replaces}")
    given = Texts(rows["text"].to_pylist(), machine, rows["group"].to_pylist(), rows["language"].to_pylist())
    update(None if replaces == EMBEDDED else Path(replaces), given, made, how)


def _decide(
    old: Detector, new: Detector, audited: Audited, unseen: npt.NDArray[np.bool_], rule: GateOptions | None
) -> Decision:
    rows = np.flatnonzero(unseen)
    texts, languages = [audited.texts[row] for row in rows], [audited.languages[row] for row in rows]
    before, after = (detector.score(texts, languages).probability for detector in (old, new))
    return gate(before, after, audited.machine[rows], audited.weights[rows], rule)


def _seen(detector: Detector, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which texts the detector says it has learned from; none where it cannot say."""
    if not hasattr(detector, "seen"):
        return np.zeros(len(texts), bool)
    try:
        seen = detector.seen()
    except FileNotFoundError:
        return np.zeros(len(texts), bool)
    return np.asarray(seen.contains([text_key(level(text[:SCORED_CHARACTERS])) for text in texts]), bool)


def _why(left_out: dict[str, int]) -> str:
    return f" (left out: {', '.join(f'{why} {n}' for why, n in sorted(left_out.items()))})" if left_out else ""


def _plain(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value
