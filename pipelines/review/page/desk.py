"""Who is asked what: which task a person gets next, what was answered, and what is taken back.

A task goes to ``annotators`` people. While one has it on the screen it counts as theirs for half an hour, so that two
at work at once do not both answer what one should; an answer that comes later is kept all the same.
"""

from __future__ import annotations

import os
import threading
import time
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pipelines.errors import UsageError
from pipelines.review.records import Answer, Folder, Label, Stream
from pipelines.review.store import Store

TOOL = "serve"
HELD = 30 * 60.0  # seconds for which a task on someone's screen is theirs
_TICK = 100_000_000  # nanoseconds; file systems' clocks tick at least every 10 ms
LONGEST_NAME = 60
LONGEST_COMMENT = 4_000

_KNOWN = (
    "url",
    "host",
    "captured_at",
    "language",
    "place",
    "verdict",
    "machine_probability",
    "evidence",
    "cluster_size",
)


class Progress(NamedTuple):
    """Answers of one person, and of all: those that stand, and how many are wanted."""

    own: int
    done: int
    wanted: int


class _Hold(NamedTuple):
    since: float  # when the person first saw the task
    latest: float  # and when last


class Desk:
    """The tasks of one stream. Safe to use from several threads; several processes may share the folder.

    Raises UsageError where the review has no task of the stream, or its answers cannot be kept.
    """

    def __init__(self, folder: Folder, stream: Stream, clock: Callable[[], float] = time.monotonic) -> None:
        table = folder.read_tasks(stream)
        if not table.num_rows:
            raise UsageError(f"{folder.tasks(stream)}: no {stream.value} tasks; 'reserve review plan' draws them")
        self.stream = stream
        self._path = folder.labels
        self._clock = clock
        self._lock = threading.Lock()
        self._wanted: dict[str, int] = dict(
            zip(table["task_id"].to_pylist(), table["annotators"].to_pylist(), strict=True)
        )
        self._row = {task: row for row, task in enumerate(self._wanted)}
        self._texts = table["text"]
        self._known = table.select(_KNOWN)
        self._held: defaultdict[str, dict[str, _Hold]] = defaultdict(dict)
        self._read: tuple[tuple[tuple[int, int], ...], list[dict[str, Any]]] | None = None
        Store(self._path).close()

    @property
    def tasks(self) -> int:
        """How many tasks the stream has, controls among them."""
        return len(self._wanted)

    def has(self, task: str) -> bool:
        """Whether the stream has this task."""
        return task in self._wanted

    def text(self, task: str) -> str:
        """What the document says, whole."""
        return str(self._texts[self._row[task]].as_py())

    def language(self, task: str) -> str | None:
        """The document's language, ISO 639-1."""
        found: str | None = self._known["language"][self._row[task]].as_py()
        return found

    def known(self, task: str) -> Mapping[str, Any]:
        """What the pipeline made of the document: for those alone who have answered."""
        found: Mapping[str, Any] = self._known.slice(self._row[task], 1).to_pylist()[0]
        return found

    def person(self, name: str) -> str | None:
        """The name in the spelling under which it has answers, in any case of letters; None where it is no name."""
        name = " ".join(unicodedata.normalize("NFC", name).split())
        if not name.isprintable() or len(name) > LONGEST_NAME or "/" in name or not any(map(str.isalnum, name)):
            return None
        known = {row["annotator"] for row in self._answers()}
        alike = sorted(other for other in known if other.casefold() == name.casefold())
        return name if name in alike or not alike else alike[0]

    def next(self, person: str) -> str | None:
        """The task that the person is to answer now; the same until it is answered."""
        with self._lock:
            answered = self._answered()
            held = [task for task in self._held if self._holds(task, person)]
            for task in (*held, *self._wanted):
                taken = answered[task] | {other for other in self._held.get(task, ()) if self._holds(task, other)}
                if person not in answered[task] and len(taken - {person}) < self._wanted[task]:
                    self._hold(task, person)
                    return task
        return None

    def show(self, person: str, task: str) -> bool:
        """Whether the task is the person's to answer now; if so, it stays theirs for another while."""
        with self._lock:
            if self._holds(task, person):
                self._hold(task, person)
                return True
        return False

    def answer(self, person: str, task: str, label: Label, seconds: float | None, comment: str) -> bool:
        """Keeps the answer on the disk; false, and nothing changes, where one of the person's stands.

        ``seconds`` is what the browser measured; it cannot be more than what passed since the task was first shown.
        """
        with self._lock:
            if any(row["annotator"] == person and row["task_id"] == task for row in self._answers()):
                return False
            held = self._held[task].get(person)
            passed = self._clock() - held.since if held else None
            measured = [s for s in (seconds, passed) if s is not None]
            said = comment.replace("\r\n", "\n").strip()[:LONGEST_COMMENT] or None
            took = round(min(measured), 1) if measured else None
            with Store(self._path) as store:
                store.add([Answer(task, person, label, datetime.now(UTC), took, said, TOOL)])
            self._held[task].pop(person, None)
        return True

    def undo(self, person: str, task: str) -> bool:
        """Takes the person's answer back where it is their latest, and gives them the task again."""
        with self._lock:
            if self._latest(person) != task:
                return False
            with Store(self._path) as store:
                store.undo(person)
            self._hold(task, person)
        return True

    def latest(self, person: str) -> str | None:
        """The task of the person's latest answer; None where that was not given here: then it is not taken back."""
        with self._lock:
            return self._latest(person)

    def answer_of(self, person: str, task: str) -> Answer | None:
        """The person's answer that stands."""
        for row in self._answers():
            if row["annotator"] == person and row["task_id"] == task:
                return Answer(**{**row, "label": Label(row["label"])})
        return None

    def progress(self, person: str) -> Progress:
        """How far the person is, and all are."""
        answered = self._answered()
        done = sum(min(len(answered[task]), wanted) for task, wanted in self._wanted.items())
        own = sum(person in answered[task] for task in self._wanted)
        return Progress(own, done, sum(self._wanted.values()))

    def _answers(self) -> list[dict[str, Any]]:
        """Of both streams, read anew whenever the file has changed: other processes add to it."""
        stamp, now = self._stamp(), time.time_ns()
        if self._read is not None and self._read[0] == stamp:
            return self._read[1]
        with Store(self._path) as store:
            rows: list[dict[str, Any]] = store.labels().to_pylist()
        # Two changes within one tick of the file system's clock look like one: what is so young is read again.
        self._read = (stamp, rows) if now - max(when for when, _ in stamp) > _TICK else None
        return rows

    def _stamp(self) -> tuple[tuple[int, int], ...]:
        """When the file and its log were last written, and their lengths."""
        found = []
        for path in (self._path, f"{self._path}-wal"):
            try:
                stat = os.stat(path)
                found.append((stat.st_mtime_ns, stat.st_size))
            except FileNotFoundError:
                found.append((0, -1))
        return tuple(found)

    def _answered(self) -> defaultdict[str, set[str]]:
        found: defaultdict[str, set[str]] = defaultdict(set)
        for row in self._answers():
            found[row["task_id"]].add(row["annotator"])
        return found

    def _latest(self, person: str) -> str | None:
        own = [row for row in self._answers() if row["annotator"] == person]
        last = max(own, key=lambda row: row["at"], default=None)
        return str(last["task_id"]) if last and last["tool"] == TOOL and self.has(last["task_id"]) else None

    def _holds(self, task: str, person: str) -> bool:
        held = self._held.get(task, {}).get(person)
        return held is not None and self._clock() - held.latest < HELD

    def _hold(self, task: str, person: str) -> None:
        now = self._clock()
        held = self._held[task].get(person)
        self._held[task][person] = _Hold(held.since if held else now, now)
