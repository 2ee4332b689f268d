"""What the forms share: which fields of a task leave the review, and how an answer that comes back is checked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple, NoReturn

import pyarrow as pa

from pipelines import files
from pipelines.errors import UsageError
from pipelines.review.records import Answer, Label, Stream

QUESTION: Final = "Who wrote this text?"
CHOICES: Final = {
    Label.HUMAN: "A person wrote it",
    Label.MACHINE: "A machine wrote it",
    Label.EDITED: "A machine wrote or rewrote part of it",
    Label.CANNOT_TELL: "Cannot tell",
}

_SOURCE: Final = ("url", "host", "captured_at")
_YEAR: Final = 366 * 86_400  # seconds
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class Form(StrEnum):
    """The tools and their files."""

    LABEL_STUDIO = "label-studio"
    ARGILLA = "argilla"
    JSONL = "jsonl"


@dataclass(frozen=True, slots=True)
class About:
    """What an export shows beside the text.

    ``predictions`` is the detector's opinion; None: shown for the active stream, hidden for the audit, where it would
    pull the answers towards the detector that they are to measure. ``show_source`` adds address and capture time.
    """

    stream: Stream
    predictions: bool | None = None
    show_source: bool = False
    detector: str = "human-reserve"  # and its version: what the tools show as the model of a prediction

    @property
    def predicts(self) -> bool:
        """Whether predictions are shown."""
        return self.stream is Stream.ACTIVE if self.predictions is None else self.predictions


class Row(NamedTuple):
    """One task as it leaves: ``shown`` is what every tool may put before the annotator."""

    task_id: str
    text: str
    shown: dict[str, str | None]
    machine_probability: float | None
    annotators: int


def rows(tasks: pa.Table, about: About) -> list[Row]:
    """The tasks in the order of asking, with the fields that may leave.

    A field leaves for all tasks or for none: a made control lacks what a crawled document has, and a gap would tell
    it apart. Raises UsageError where what is asked for would do so.
    """
    ordered = tasks.sort_by("position")
    made = [place is None for place in ordered["place"].to_pylist()]
    if about.predicts:
        _refuse_gaps(ordered, made, "predictions", ("machine_probability",))
    if about.show_source:
        _refuse_gaps(ordered, made, "show-source", _SOURCE)
    shown = list(_SOURCE) if about.show_source else []
    if not _gaps(ordered, made, "language"):
        shown = ["language", *shown]
    return [
        Row(
            task["task_id"],
            task["text"],
            {name: _plain(task[name]) for name in shown},
            task["machine_probability"] if about.predicts else None,
            task["annotators"],
        )
        for task in ordered.select(["task_id", "text", *shown, "machine_probability", "annotators"]).to_pylist()
    ]


def passes(path: str, found: list[Row]) -> dict[str, list[Row]]:
    """The files to write: one for each time that documents are to be labelled, by people who differ.

    No tool says for single tasks how many people are to see them; so those that a second person is to label stand
    once more in a file of their own, ``tasks-2.json`` beside ``tasks.json``. An export without rows is one empty file.
    """
    stem, dot, suffix = path.rpartition(".")
    most = max((row.annotators for row in found), default=1)
    names = [path, *(f"{stem}-{number}{dot}{suffix}" for number in range(2, most + 1))]
    return {name: [row for row in found if row.annotators >= number] for number, name in enumerate(names, 1)}


def beside(path: str, suffix: str) -> str:
    """The name of a file that goes with the one at ``path``."""
    return path.rpartition(".")[0] + suffix


@dataclass(slots=True)
class Reading:
    """Answers as they are read from one file, and a count of what is no answer, by why."""

    path: str
    tasks: Collection[str]
    changed: datetime  # when the file was written; the time of answers that bear none
    tool: str
    answers: list[Answer] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def fail(self, where: str, problem: str) -> NoReturn:
        """Names the file and the place."""
        raise UsageError(f"{self.path}: {where}: {problem}")

    def add(
        self,
        where: str,
        task: Any,
        annotator: Any,
        label: Any,
        at: Any,
        seconds: Any = None,
        comment: Any = None,
        tool: str | None = None,
    ) -> None:
        """Checks one answer and keeps it; an absent annotator is empty for now (see :meth:`named`)."""
        self.answers.append(
            Answer(
                self._task(where, task),
                self._annotator(where, annotator),
                self._label(where, label),
                self._time(where, at),
                self._seconds(where, seconds),
                self._comment(where, comment),
                tool or self.tool,
            )
        )

    def named(self, annotator: str | None) -> list[Answer]:
        """The answers with the annotator that the caller names; raises UsageError where that would mix people."""
        inside = sorted({answer.annotator for answer in self.answers} - {""})
        if annotator is None:
            if any(not answer.annotator for answer in self.answers):
                raise UsageError(f"{self.path}: does not say who answered; say it with --annotator NAME")
            return self.answers
        if not annotator.strip():
            raise UsageError("--annotator: empty; give the name of the person who answered")
        if len(inside) > 1:
            raise UsageError(
                f"{self.path}: holds answers of {len(inside)} annotators ({', '.join(inside[:5])}"
                f"{', …' if len(inside) > 5 else ''}), which --annotator {annotator} would make one; leave it out"
            )
        return [answer._replace(annotator=annotator.strip()) for answer in self.answers]

    def _task(self, where: str, task: Any) -> str:
        if not isinstance(task, str) or not task:
            self.fail(where, f"no task_id but {short(task)}; it comes with the exported tasks and must stay with them")
        if task not in self.tasks:
            self.fail(where, f"task {short(task)} is none of this review; was it exported from another one?")
        return task

    def _annotator(self, where: str, annotator: Any) -> str:
        if annotator is None:
            return ""
        if isinstance(annotator, bool) or not isinstance(annotator, str | int):
            self.fail(where, f"annotator {short(annotator)} is neither a name nor a number")
        return whole(str(annotator)).strip()

    def _label(self, where: str, label: Any) -> Label:
        try:
            return Label(label)
        except ValueError:
            allowed = ", ".join(choice.value for choice in Label)
            self.fail(where, f"label {short(label)} is none of {allowed}")

    def _time(self, where: str, at: Any) -> datetime:
        try:
            if at is None:
                return self.changed
            if isinstance(at, int | float) and not isinstance(at, bool):
                return datetime.fromtimestamp(at, UTC)
            when = at if isinstance(at, datetime) else datetime.fromisoformat(at)
            return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
        except (ValueError, TypeError, OverflowError, OSError):
            self.fail(where, f"time {short(at)} is neither ISO 8601 (2026-05-01T12:00:00Z) nor seconds since 1970")

    def _seconds(self, where: str, seconds: Any) -> float | None:
        if seconds is None:
            return None
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            self.fail(where, f"seconds {short(seconds)} is no number")
        if not 0 <= seconds <= _YEAR:
            self.fail(where, f"seconds {short(seconds)} is no length of time that a label takes")
        return float(seconds)

    def _comment(self, where: str, comment: Any) -> str | None:
        if isinstance(comment, list) and all(isinstance(part, str) for part in comment):
            comment = "\n".join(comment)
        if comment is not None and not isinstance(comment, str):
            self.fail(where, f"comment {short(comment)} is no text")
        return whole(comment) if comment else None


def reading(path: str, tasks: Collection[str], tool: str) -> Reading:
    """An empty reading of a file that is there."""
    stamp = files.stat(path).last_updated_in_seconds
    changed = datetime.fromtimestamp(stamp, UTC) if stamp else datetime.now(UTC)
    return Reading(path, frozenset(tasks), changed, tool)


def short(value: Any) -> str:
    """A value as an error names it."""
    written = repr(value)
    return written if len(written) <= 80 else written[:80] + "…"


def whole(text: str) -> str:
    """The text with lone surrogates, which JSON can bear and no database can, replaced by U+FFFD."""
    return _LONE_SURROGATE.sub("\ufffd", text)


def _refuse_gaps(tasks: pa.Table, made: list[bool], option: str, names: tuple[str, ...]) -> None:
    gaps = [name for name in names if _gaps(tasks, made, name)]
    if gaps:
        raise UsageError(
            f"--{option}: the review holds controls that have no {', '.join(gaps)} and would stand out; leave it out"
        )


def _gaps(tasks: pa.Table, made: list[bool], name: str) -> bool:
    present = tasks[name].is_valid().to_pylist()
    return any(control and not valid for control, valid in zip(made, present, strict=True))


def _plain(value: Any) -> str | None:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return None if value is None else str(value)
