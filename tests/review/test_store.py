"""The answers: several writers, replacing, taking back, and a process that is killed."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines.errors import UsageError
from pipelines.review.records import LABELS, Answer, Label
from pipelines.review.store import Store

THEN = datetime(2026, 5, 1, 12, tzinfo=UTC)


def answer(task: str = "a", annotator: str = "ada", label: Label = Label.HUMAN, minutes: int = 0) -> Answer:
    return Answer(task, annotator, label, THEN + timedelta(minutes=minutes), 3.5, None, "serve")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "labels.sqlite")


def test_answers_come_back_by_task_and_annotator(path: str) -> None:
    with Store(path) as store:
        assert store.add([answer("b"), answer("a", "bob"), answer("a")]) == 3
        found = store.labels()
    assert found.schema == LABELS
    assert found.select(["task_id", "annotator"]).to_pylist() == [
        {"task_id": "a", "annotator": "ada"},
        {"task_id": "a", "annotator": "bob"},
        {"task_id": "b", "annotator": "ada"},
    ]
    assert found["at"][0].as_py() == THEN
    assert found["seconds"].to_pylist() == [3.5] * 3


def test_a_later_answer_replaces_an_earlier_one_in_any_order_of_import(path: str) -> None:
    with Store(path) as store:
        store.add([answer(label=Label.MACHINE, minutes=5)])
        store.add([answer(label=Label.HUMAN, minutes=1)])
        assert store.labels()["label"].to_pylist() == ["machine"]
        store.add([answer(label=Label.EDITED, minutes=9)])
        assert store.labels()["label"].to_pylist() == ["edited"]


def test_the_same_answers_again_are_not_kept_twice(path: str) -> None:
    with Store(path) as store:
        assert store.add([answer(), answer("b")]) == 2
        assert store.add([answer(), answer("b")]) == 0


def test_undo_takes_back_the_latest_of_the_annotator_alone(path: str) -> None:
    with Store(path) as store:
        store.add([answer("a"), answer("b", minutes=1), answer("c", "bob", minutes=2)])
        assert store.undo("ada") == "b"
        assert store.answered("ada") == {"a"}
        assert store.undo("ada") == "a"
        assert store.undo("ada") is None
        assert store.answered("bob") == {"c"}


def test_all_or_none(path: str) -> None:
    with Store(path) as store:
        with pytest.raises(ValueError, match="zone"):
            store.add([answer(), answer("b")._replace(at=datetime(2026, 1, 1))])
        assert store.labels().num_rows == 0


def test_two_writers_at_once_lose_nothing(path: str) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(write_many, [(path, "ada"), (path, "bob")])
    with Store(path) as store:
        assert len(store.answered("ada")) == len(store.answered("bob")) == 50


def write_many(path: str, annotator: str) -> None:
    for number in range(50):
        with Store(path) as store:
            store.add([answer(str(number), annotator)])


def test_what_was_kept_before_a_kill_is_there_after_it(path: str) -> None:
    script = textwrap.dedent(
        f"""
        import os, signal
        from tests.review.test_store import answer
        from pipelines.review.store import Store
        store = Store({path!r})
        store.add([answer("a")])
        store._database.execute("begin immediate")
        store._add(answer("b"))
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    run = subprocess.run([sys.executable, "-c", script], env=os.environ, check=False)
    assert run.returncode == -signal.SIGKILL
    with Store(path) as store:
        assert store.answered("ada") == {"a"}


def test_a_file_that_is_no_database_is_named(path: str) -> None:
    Path(path).write_text("not a database, and longer than its header" * 40)
    with pytest.raises(UsageError, match=r"labels\.sqlite"):
        Store(path)
