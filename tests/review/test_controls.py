"""Controls: which are drawn, that they look like any task, and files that cannot be used."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import UsageError
from pipelines.review.controls import read_made
from pipelines.review.make import Request, make_review
from pipelines.review.records import Folder, Stream, Truth
from tests.review.outputs import rows, write_output


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_output(tmp_path_factory.mktemp("out") / "out", rows())


def made_file(folder: Path, texts: list[str]) -> str:
    path = folder / "made.jsonl"
    path.write_text(
        "".join(json.dumps({"text": text, "model": "ours"}, ensure_ascii=False) + "\r\n\n" for text in texts)
    )
    return str(path)


def test_human_controls_are_older_than_the_cut_off_and_machine_ones_were_made(output: str, tmp_path: Path) -> None:
    texts = [f"text number {number}\u2028of a machine" for number in range(20)]
    request = Request(labels=40, minimum=4, controls=13, active=20, made=made_file(tmp_path, texts))
    plan = make_review(output, request, str(tmp_path / "review"))
    folder = Folder(str(tmp_path / "review"))
    truths = folder.read_controls()
    assert sorted(truth.value for truth in truths.values()) == ["human"] * 7 + ["machine"] * 6
    assert plan["warnings"] == []
    tasks = [task for stream in Stream for task in folder.read_tasks(stream).to_pylist()]
    assert len({task["task_id"] for task in tasks}) == len(tasks) == 40 + 20 + 13
    for task in tasks:
        truth = truths.get(task["task_id"])
        if truth is Truth.MACHINE:
            digest = hashlib.sha256(task["text"].encode()).hexdigest()
            assert task["text"] in texts
            assert task["text_sha256"] == digest
            assert task["task_id"] not in digest  # its name does not give it away to whoever hashes the text
            kept = {"task_id", "text", "text_sha256", "annotators", "position"}
            assert all(value is None for name, value in task.items() if name not in kept)
        elif truth is Truth.HUMAN:
            assert task["captured_at"] < datetime(2022, 11, 30, tzinfo=UTC)
            assert (task["verdict"], task["place"], task["stratum"]) == ("dated", "reserve", None)
    for stream, name in ((Stream.AUDIT, "audit"), (Stream.ACTIVE, "active")):
        mine = [truths[i] for i in folder.read_tasks(stream)["task_id"].to_pylist() if i in truths]
        assert set(mine) == set(Truth)
        assert len(mine) == plan[name]["controls"]


def test_controls_stand_anywhere_and_change_nothing_of_the_audit(output: str, tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(30)]
    rank = []
    for seed in range(3):
        drawn = []
        for controls in (0, 30):
            made = made_file(tmp_path, texts) if controls else None
            request = Request(labels=45, minimum=4, controls=controls, made=made, seed=str(seed))
            folder = Folder(str(tmp_path / f"{seed}-{controls}"))
            make_review(output, request, folder.path)
            tasks, truths = folder.read_tasks(Stream.AUDIT).to_pylist(), folder.read_controls()
            audited = [t for t in tasks if t["task_id"] not in truths]
            drawn.append({(t["task_id"], t["stratum"], t["inclusion_probability"]) for t in audited})
            rank += [t["position"] / len(tasks) for t in tasks if t["task_id"] in truths]
        assert drawn[0] == drawn[1]
    assert np.mean(rank) == pytest.approx(0.5, abs=0.1)
    assert min(rank) < 0.1 < 0.9 < max(rank)


def test_without_a_file_pages_that_say_so_stand_in_and_the_user_is_told(output: str, tmp_path: Path) -> None:
    plan = make_review(output, Request(labels=40, minimum=4, controls=10), str(tmp_path / "review"))
    folder = Folder(str(tmp_path / "review"))
    truths = folder.read_controls()
    tasks = {task["task_id"]: task for task in folder.read_tasks(Stream.AUDIT).to_pylist()}
    machine = [tasks[task] for task, truth in truths.items() if truth is Truth.MACHINE]
    assert len(machine) == 5
    assert {(task["verdict"], task["place"]) for task in machine} == {("declared", "quarantine")}
    assert any("easy ones" in warning and "--made" in warning for warning in plan["warnings"])


def test_where_all_is_audited_none_is_left_for_controls(output: str, tmp_path: Path) -> None:
    plan = make_review(output, Request(labels=90, minimum=4, controls=10), str(tmp_path / "review"))
    assert plan["audit"]["controls"] == 0
    assert any("5 human controls wanted, 0 to be had" in warning for warning in plan["warnings"])


def test_texts_are_drawn_by_their_hash_from_jsonl_and_parquet_alike(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(12)]
    first = read_made(made_file(tmp_path, texts), 5, "s")
    pq.write_table(pa.table({"text": [*texts[::-1], None]}), tmp_path / "made.parquet")
    assert read_made(str(tmp_path / "made.parquet"), 5, "s") == first
    assert read_made(made_file(tmp_path, texts), 5, "t") != first
    known = first["text_sha256"].to_pylist()
    others = read_made(made_file(tmp_path, texts * 2), 7, "s", known)
    assert not set(others["task_id"].to_pylist()) & set(first["task_id"].to_pylist())


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b'{"text": "a"}\n{"text": 3}\n', "line 2: expected a JSON object"),
        (b'{"words": "a"}\n', "line 1"),
        (b"[1]\n", "line 1"),
        (b"no json\n", "line 1: expected a JSON object such as"),
        (b'{"text": "\\ud800"}\n', "line 1"),
        (b"\xff\xfe\x00", "not UTF-8 text"),
        (b'{"text": "a"}\n{"text": "a"}\n{"text": " "}\n', "1 different texts .* --controls 2"),
        (b"", "0 different texts"),
        (b"PAR1 and no more", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_line(tmp_path: Path, content: bytes, match: str) -> None:
    path = tmp_path / "made.jsonl"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=rf"--made .*made\.jsonl: .*{match}"):
        read_made(str(path), 2, "0")


def test_other_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--made .*absent: cannot be read"):
        read_made(str(tmp_path / "absent"), 1, "0")
    pq.write_table(pa.table({"words": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match="no column 'text' of strings; it has words"):
        read_made(str(tmp_path / "a.parquet"), 1, "0")
