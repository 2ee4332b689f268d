"""The answers, in one SQLite file that several people may write at once and that no crash can tear.

Every answer is kept: one that is replaced or taken back stays in the file, with the time at which that happened::

    with Store(folder.labels) as store:
        store.add([Answer("3fa9…", "ada", Label.HUMAN, datetime.now(UTC), tool="serve")])
        store.labels()  # of LABELS: the answers that stand

Write-ahead logging with full synchronisation: what ``add`` returned from is on the disk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import pyarrow as pa

from pipelines.errors import UsageError
from pipelines.review.records import LABELS, Answer, Label

_TABLE = """
create table if not exists answers (
    id integer primary key,
    task_id text not null,
    annotator text not null,
    label text not null check (label in ('human', 'machine', 'edited', 'cannot_tell')),
    at text not null,
    seconds real,
    comment text,
    tool text not null,
    replaced_at text
) strict
"""
_ONE_STANDS = "create unique index if not exists one_stands on answers (task_id, annotator) where replaced_at is null"
_COLUMNS = ", ".join(LABELS.names)


class Store:
    """The answers of one review. A connection is for one thread; open one for each."""

    def __init__(self, path: str, wait: float = 30) -> None:
        """Opens or makes the file; ``wait`` is how many seconds to wait for another writer.

        Raises UsageError where it is no such file.
        """
        try:
            self._database = sqlite3.connect(path, timeout=wait, isolation_level=None)
            self._database.execute("pragma journal_mode = wal")
            self._database.execute("pragma synchronous = full")
            self._database.execute(_TABLE)
            self._database.execute(_ONE_STANDS)
        except sqlite3.Error as error:
            raise UsageError(f"{path}: labels cannot be kept here: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the file."""
        self._database.close()

    def add(self, answers: Iterable[Answer]) -> int:
        """Keeps the answers, all or none; gives how many are new.

        One that stands already in the same words is not kept twice, so that a file can be imported again. One of the
        same annotator on the same task that is older than what stands is kept as replaced.
        """
        new = 0
        with self._transaction():
            for answer in answers:
                new += self._add(answer)
        return new

    def undo(self, annotator: str) -> str | None:
        """Takes back the annotator's latest answer that stands; gives its task, None where there is none."""
        with self._transaction():
            row = self._database.execute(
                "select id, task_id from answers where annotator = ? and replaced_at is null order by at desc, id desc",
                (annotator,),
            ).fetchone()
            if row is None:
                return None
            self._database.execute("update answers set replaced_at = ? where id = ?", (_written(_now()), row[0]))
            return str(row[1])

    def labels(self) -> pa.Table:
        """The answers that stand, of :data:`pipelines.review.records.LABELS`, by task and annotator."""
        rows = self._database.execute(
            f"select {_COLUMNS} from answers where replaced_at is null order by task_id, annotator"
        ).fetchall()
        columns = dict(zip(LABELS.names, zip(*rows, strict=True), strict=True)) if rows else {}
        if not columns:
            return LABELS.empty_table()
        columns["at"] = tuple(datetime.fromisoformat(at) for at in columns["at"])
        return pa.table({name: pa.array(columns[name], LABELS.field(name).type) for name in LABELS.names}, LABELS)

    def answered(self, annotator: str) -> set[str]:
        """The tasks on which the annotator's answer stands."""
        rows = self._database.execute(
            "select task_id from answers where annotator = ? and replaced_at is null", (annotator,)
        )
        return {str(row[0]) for row in rows}

    def _add(self, answer: Answer) -> bool:
        row = (
            answer.task_id,
            answer.annotator,
            Label(answer.label).value,
            _written(answer.at),
            answer.seconds,
            answer.comment,
            answer.tool,
        )
        same = (
            "task_id is ? and annotator is ? and label is ? and at is ? and seconds is ? and comment is ? and tool is ?"
        )
        if self._database.execute(f"select 1 from answers where {same}", row).fetchone():
            return False
        stands = self._database.execute(
            "select id, at from answers where task_id = ? and annotator = ? and replaced_at is null", row[:2]
        ).fetchone()
        replaced = None
        if stands and stands[1] > row[3]:
            replaced = stands[1]
        elif stands:
            self._database.execute("update answers set replaced_at = ? where id = ?", (row[3], stands[0]))
        self._database.execute(
            f"insert into answers ({_COLUMNS}, replaced_at) values (?, ?, ?, ?, ?, ?, ?, ?)", (*row, replaced)
        )
        return True

    def _transaction(self) -> _Transaction:
        return _Transaction(self._database)


class _Transaction:
    """All or nothing; waits for other writers at its beginning, not in its middle."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.execute("begin immediate")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._database.execute("rollback" if kind else "commit")


def _written(when: datetime) -> str:
    """In UTC and of one width, so that the order of strings is that of time."""
    if when.tzinfo is None:
        raise ValueError(f"{when}: a time without its zone")
    return when.astimezone(UTC).isoformat(timespec="microseconds")


def _now() -> datetime:
    return datetime.now(UTC)
