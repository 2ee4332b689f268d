"""Answers that come back: round trips of each form, and every way in which a file can be wrong."""

import contextlib
import copy
import json
import os
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.errors import UsageError
from pipelines.review.exchange import Form, read, read_answers
from pipelines.review.exchange.jsonl import answer_line, lines
from pipelines.review.records import Answer, Label
from pipelines.review.store import Store
from tests.review.exchange_tasks import THEN, answers, task_id

KNOWN = [task_id(number) for number in range(5)]
ONE = KNOWN[0]
TOOLS = ("serve", "label-studio", "argilla", "jsonl")
ANY_FILE = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def put(folder: Path, name: str, value: Any) -> str:
    path = folder / name
    path.write_bytes(lines(value) if name.endswith(".jsonl") else json.dumps(value).encode())
    return str(path)


def annotation(label: str | None = "human", **more: Any) -> dict[str, Any]:
    """As Label Studio exports it."""
    choice = {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [label]}}
    found: dict[str, Any] = {
        "id": 1,
        "completed_by": 7,
        "result": [] if label is None else [choice],
        "was_cancelled": False,
        "lead_time": 4.25,
        "created_at": "2026-05-01T12:00:00.000000Z",
        "updated_at": "2026-05-01T12:30:00.000000Z",
    }
    return {**found, **more}


def label_studio(*annotations: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    return [{"id": 1, "data": {"task_id": ONE, "text": "…"}, "annotations": list(annotations), **more}]


@ANY_FILE
@given(found=answers(5, TOOLS))
def test_our_own_form_loses_nothing(found: list[Answer], tmp_path: Path) -> None:
    path = put(tmp_path, "answers.jsonl", [answer_line(answer) for answer in found])
    assert read_answers(path, "jsonl", KNOWN, None) == found


@ANY_FILE
@given(found=answers(5))
def test_what_came_back_can_be_kept(found: list[Answer], tmp_path: Path) -> None:
    path = put(tmp_path, "answers.jsonl", [answer_line(answer) for answer in found])
    with Store(":memory:") as store:
        store.add(read_answers(path, "jsonl", KNOWN, None))
        kept = {(row["task_id"], row["annotator"]): row for row in store.labels().to_pylist()}
    latest = {(a.task_id, a.annotator): a for a in sorted(found, key=lambda answer: answer.at)}
    assert {key: (row["label"], row["at"]) for key, row in kept.items()}.keys() == latest.keys()
    assert all(kept[key]["at"] == answer.at for key, answer in latest.items())


@ANY_FILE
@given(found=answers(5))
@pytest.mark.parametrize("ending", [".parquet", ".jsonl"])
def test_argillas_flat_records_keep_all_that_they_can_bear(ending: str, found: list[Answer], tmp_path: Path) -> None:
    """Argilla has neither times nor seconds, and one response a person on a record."""
    once = {(answer.task_id, answer.annotator): answer for answer in found}
    users = {name: str(uuid.uuid5(uuid.NAMESPACE_OID, name)) for _, name in once}
    rows = [_record(task, [a for a in once.values() if a.task_id == task], users) for task in KNOWN]
    path = str(tmp_path / f"records{ending}")
    if ending == ".parquet":
        texts, status = pa.list_(pa.string()), pa.list_(pa.string())
        names = {name: texts if "responses" in name else status for name in rows[0] if name != "id"}
        pq.write_table(pa.Table.from_pylist(rows, pa.schema({"id": pa.string(), **names})), path)
    else:
        path = put(tmp_path, f"records{ending}", rows)
    back = read_answers(path, None, KNOWN, None)
    expected = {(a.task_id, users[a.annotator], a.label, a.comment) for a in once.values()}
    assert {(a.task_id, a.annotator, a.label, a.comment) for a in back} == expected
    assert len(back) == len(once)


def _record(task: str, found: list[Answer], users: dict[str, str]) -> dict[str, Any]:
    said = [answer for answer in found if answer.comment is not None]
    return {
        "id": task,
        "label.responses": [answer.label.value for answer in found],
        "label.responses.users": [users[answer.annotator] for answer in found],
        "label.responses.status": ["submitted"] * len(found),
        "comment.responses": [answer.comment for answer in said],
        "comment.responses.users": [users[answer.annotator] for answer in said],
        "comment.responses.status": ["submitted"] * len(said),
    }


def test_label_studio_json(tmp_path: Path) -> None:
    comment = {"from_name": "comment", "to_name": "text", "type": "textarea", "value": {"text": ["two", "lines"]}}
    second = annotation("edited", completed_by={"id": 9, "email": "bob@example.org"}, lead_time=None)
    second["result"].append(comment)
    path = put(
        tmp_path,
        "export.json",
        [
            *label_studio(annotation(), second, annotation(was_cancelled=True), annotation(None), drafts=[{"id": 1}]),
            {"id": 2, "data": {"task_id": KNOWN[1]}, "annotations": []},
        ],
    )
    found = read(path, None, KNOWN)
    at = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)
    assert found.answers == [
        Answer(ONE, "7", Label.HUMAN, at, 4.25, None, "label-studio"),
        Answer(ONE, "bob@example.org", Label.EDITED, at, None, "two\nlines", "label-studio"),
    ]
    assert found.form is Form.LABEL_STUDIO
    assert found.left_out == {"skipped": 1, "drafts": 1, "not answered": 2}


def test_label_studio_json_min(tmp_path: Path) -> None:
    row = {"task_id": ONE, "text": "…", "id": 1, "annotator": "ada@example.org", "annotation_id": 3, "lead_time": 2}
    times = {"created_at": "2026-05-01T14:00:00+02:00", "updated_at": None}
    path = put(tmp_path, "min.json", [{**row, **times, "label": "cannot_tell", "comment": "why"}])
    [found] = read_answers(path, None, KNOWN, None)
    assert found == Answer(ONE, "ada@example.org", Label.CANNOT_TELL, THEN, 2.0, "why", "label-studio")


def test_prodigy(tmp_path: Path) -> None:
    line = {"text": "…", "task_id": ONE, "options": [], "_input_hash": -1, "_task_hash": 2, "_view_id": "choice"}
    ada = {"_annotator_id": "review-ada", "_session_id": "review-ada", "_timestamp": 1777636800}
    path = put(
        tmp_path,
        "db-out.jsonl",
        [
            {**line, **ada, "accept": ["machine"], "answer": "accept"},
            {**line, **ada, "accept": ["human"], "answer": "ignore"},
            {**line, **ada, "accept": [], "answer": "reject"},
            {**line, **ada, "accept": [], "answer": "accept"},
        ],
    )
    found = read(path, None, KNOWN)
    assert found.answers == [Answer(ONE, "review-ada", Label.MACHINE, THEN, None, None, "jsonl")]
    assert found.left_out == {"skipped": 2, "not answered": 1}


def test_a_session_of_prodigy_that_nobody_named_wants_a_name(tmp_path: Path) -> None:
    line = {"task_id": ONE, "accept": ["human"], "answer": "accept", "_annotator_id": "review-2026-05-01_12-00-00"}
    path = put(tmp_path, "db-out.jsonl", [line])
    with pytest.raises(UsageError, match="--annotator NAME"):
        read_answers(path, None, KNOWN, None)
    assert read_answers(path, None, KNOWN, "ada")[0].annotator == "ada"


def test_argilla_takes_what_was_submitted_and_no_file_that_does_not_say(tmp_path: Path) -> None:
    flat = {
        "id": ONE,
        "label.responses": ["human", None, "machine"],
        "label.responses.users": ["u1", "u2", "u3"],
        "label.responses.status": ["submitted", "discarded", "draft"],
    }
    found = read(put(tmp_path, "flat.jsonl", [flat]), None, KNOWN)
    assert [(a.annotator, a.label, a.tool) for a in found.answers] == [("u1", Label.HUMAN, "argilla")]
    assert found.left_out == {"skipped": 1, "drafts": 1}
    responses = {"label": [{"value": "edited", "user_id": "u1"}]}
    nested = {"id": ONE, "fields": {"text": "…"}, "metadata": {}, "suggestions": {}, "responses": responses}
    with pytest.raises(UsageError, match=r"record 1: .*to_datasets"):
        read(put(tmp_path, "records.json", [nested]), None, KNOWN)


def test_labels_written_into_exported_lines(tmp_path: Path) -> None:
    path = put(tmp_path, "tasks.jsonl", [{"task_id": ONE, "label": "human", "text": "…"}, {"task_id": KNOWN[1]}])
    os.utime(path, (THEN.timestamp(), THEN.timestamp()))
    found = read(path, None, KNOWN, "ada")
    assert found.answers == [Answer(ONE, "ada", Label.HUMAN, THEN)]
    assert found.left_out == {"not answered": 1}


def test_a_time_without_zone_is_utc_and_any_zone_is_kept(tmp_path: Path) -> None:
    own = {"task_id": ONE, "annotator": "ada", "label": "human"}
    times = ["2026-05-01T12:00:00", "2026-05-01T21:30:00+09:30", "2026-05-01", 1777636800.0, "2026-05-01T12:00:00Z"]
    path = put(tmp_path, "answers.jsonl", [{**own, "at": at} for at in times])
    assert [a.at - THEN for a in read_answers(path, None, KNOWN, None)] == [
        timedelta(hours=h) for h in (0, 0, -12, 0, 0)
    ]


def test_a_comment_with_half_an_emoji_can_be_kept(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(f'{{"task_id": "{ONE}", "annotator": "a", "label": "human", "comment": "\\ud83d \\ud83d\\ude00"}}')
    [answer] = read_answers(str(path), None, KNOWN, None)
    assert answer.comment == "\ufffd \U0001f600"


def test_a_byte_order_mark_and_windows_lines_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    own = {"task_id": ONE, "annotator": "ada", "label": "human"}
    path.write_bytes(b"\xef\xbb\xbf" + lines([own]).replace(b"\n", b"\r\n") * 2)
    assert len(read_answers(str(path), None, KNOWN, None)) == 2


def test_a_name_for_one_person_and_never_for_two(tmp_path: Path) -> None:
    path = put(tmp_path, "one.json", label_studio(annotation()))
    assert read_answers(path, None, KNOWN, "ada")[0].annotator == "ada"
    path = put(tmp_path, "two.json", label_studio(annotation(), annotation(completed_by=8)))
    with pytest.raises(UsageError, match="2 annotators \\(7, 8\\)"):
        read_answers(path, None, KNOWN, "ada")


SUBMITTED = {"": "human", ".users": "u1", ".status": "submitted"}
SENT = {**SUBMITTED, ".status": "sent"}
OWN = {"task_id": ONE, "annotator": "ada", "label": "human"}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (
            "a.jsonl",
            [OWN, {**OWN, "label": "robot"}],
            "line 2: label 'robot' is none of human, machine, edited, cannot",
        ),
        ("a.jsonl", [{**OWN, "task_id": "f" * 32}], "line 1: task 'f+' is none of this review"),
        ("a.jsonl", [{**OWN, "task_id": None}], "line 1: no task_id"),
        ("a.jsonl", [{"task_id": ONE, "label": "human"}], "--annotator NAME"),
        ("a.jsonl", [{**OWN, "annotator": True}], "line 1: annotator True"),
        ("a.jsonl", [{**OWN, "annotator": "  "}], "--annotator NAME"),
        ("a.jsonl", [{**OWN, "at": "yesterday"}], "line 1: time 'yesterday' is neither ISO 8601"),
        ("a.jsonl", [{**OWN, "at": 1777636800000}], "line 1: time 1777636800000 is neither"),
        ("a.jsonl", [{**OWN, "at": "0001-01-01T00:00:00+12:00"}], "line 1: time"),
        ("a.jsonl", [{**OWN, "at": True}], "line 1: time True"),
        ("a.jsonl", [{**OWN, "seconds": -1}], "line 1: seconds -1 is no length of time"),
        ("a.jsonl", [{**OWN, "seconds": "1"}], "line 1: seconds '1' is no number"),
        ("a.jsonl", [{**OWN, "comment": 3}], "line 1: comment 3 is no text"),
        ("a.jsonl", [{**OWN, "tool": "pen"}], "line 1: tool 'pen' is none of serve"),
        ("a.jsonl", [{"task_id": ONE, "accept": ["human", "machine"], "answer": "accept"}], "not one choice"),
        ("a.jsonl", [{"task_id": ONE, "label": "human", "answer": "reject"}], "does not say which is right"),
        (
            "a.jsonl",
            [{"task_id": ONE, "accept": [], "answer": "yes"}],
            "answer 'yes' is none of accept, reject, ignore",
        ),
        ("a.jsonl", [{"id": ONE, "label.responses": ["human"], "label.responses.users": []}], "lists of one length"),
        ("a.jsonl", [{"id": ONE, **{f"label.responses{k}": [v] for k, v in SENT.items()}}], "status 'sent'"),
        ("a.json", label_studio(annotation("Human")), "record 1, annotation 1: label 'Human' is none of"),
        ("a.json", label_studio(annotation(lead_time=float("inf"))), "seconds inf is no length"),
        ("a.json", label_studio({**annotation(), "completed_by": None}), "--annotator NAME"),
        ("a.json", [{"id": 1, "data": {"text": "…"}, "annotations": [annotation()]}], "no task_id"),
        ("a.json", [{"id": 1, "data": {"task_id": ONE}, "annotations": [4]}], "export as JSON with annotations"),
        ("a.json", label_studio(annotation(result=[{"from_name": "x", "value": {}}])), "no choice of 'label'"),
        ("a.json", label_studio(annotation(result=["x"])), "'x' is no result"),
        ("a.json", [OWN], "say --format"),
        ("a.json", [1, 2], "say --format"),
        ("a.json", 3, "neither JSON, JSONL nor Parquet"),
    ],
)
def test_what_is_wrong_is_named(name: str, value: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words) as failure:
        read_answers(put(tmp_path, name, value), None, KNOWN, None)
    assert name in str(failure.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b'{"task_id": "a"', "not JSON"),
        (b'{"task_id": "a"}\n{"task', "line 2: not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"PAR1 and no more", "cannot be read as Parquet"),
        ('{"task_id": "ä"}'.encode("latin-1"), "byte 13 is not UTF-8"),
        ('{"task_id": "a"}'.encode("utf-16"), "byte 0 is not UTF-8"),
        (b"task_id,label\n", "neither JSON, JSONL nor Parquet"),
    ],
)
def test_a_file_that_is_none_is_named(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "answers"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=words):
        read_answers(str(path), None, KNOWN, None)


def test_a_file_that_is_not_there_and_a_form_that_is_not_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_answers(str(tmp_path / "none.json"), None, KNOWN, None)
    path = put(tmp_path, "a.jsonl", [OWN])
    with pytest.raises(UsageError, match="--format csv: one of"):
        read_answers(path, "csv", KNOWN, None)
    with pytest.raises(UsageError, match=r"a\.jsonl: .*'data' \(JSON\)|is JSONL"):
        read_answers(path, "label-studio", KNOWN, None)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["label", "text"]), inner, max_size=2),
)
WHOLE: list[list[dict[str, Any]]] = [
    [OWN, {**OWN, "at": 1.5, "seconds": 3, "comment": "c", "tool": "serve"}],
    [{"task_id": ONE, "accept": ["human"], "answer": "accept", "_annotator_id": "a", "_timestamp": 1}],
    [{"id": ONE, **{f"{q}.responses{k}": [v] for q in ("label", "comment") for k, v in SUBMITTED.items()}}],
    label_studio(annotation(), annotation(completed_by={"id": 3, "email": "a"}), drafts=[{}]),
    [
        {
            "task_id": ONE,
            "annotator": 3,
            "annotation_id": 3,
            "label": "human",
            "lead_time": 2,
            "updated_at": "2026-05-01",
        }
    ],
]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Each container and key within."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    return [found for key in keys for found in [(value, key), *places(value[key])]]


@settings(max_examples=100, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data(), whole=st.sampled_from(WHOLE), put_in=ANYTHING, by_content=st.booleans())
def test_a_file_with_one_thing_wrong_is_read_or_refused(
    data: st.DataObject, whole: list[Any], put_in: Any, by_content: bool, tmp_path: Path
) -> None:
    records = copy.deepcopy(whole)
    container, key = data.draw(st.sampled_from(places(records)))
    container[key] = put_in
    form = None if by_content else (Form.JSONL, Form.JSONL, Form.ARGILLA, *[Form.LABEL_STUDIO] * 2)[WHOLE.index(whole)]
    path = tmp_path / "any"
    as_lines = WHOLE.index(whole) < 3
    path.write_text("\n".join(json.dumps(record) for record in records) if as_lines else json.dumps(records))
    with contextlib.suppress(UsageError):
        for answer in read_answers(str(path), form, KNOWN, None):
            assert answer.task_id in KNOWN
            assert answer.annotator
            assert answer.at.tzinfo is UTC


@pytest.mark.parametrize("build", [list, lambda values: values[0]])
def test_one_task_alone_is_read_as_a_list_of_one(build: Callable[[list[Any]], Any], tmp_path: Path) -> None:
    path = tmp_path / "task.json"
    path.write_text(json.dumps(build(label_studio(annotation())), indent=1))
    assert len(read_answers(str(path), None, KNOWN, None)) == 1
