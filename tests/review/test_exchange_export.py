"""What leaves the review: nothing is lost of a text, and nothing tells a control from another task."""

import json
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from pipelines.errors import UsageError
from pipelines.review.exchange import About, Form, export, read_answers
from pipelines.review.records import Label, Stream
from tests.review.exchange_tasks import HOSTILE, task_id, tasks, texts

AUDIT = About(Stream.AUDIT)
ACTIVE = About(Stream.ACTIVE, detector="embedded 1.2")
ENDINGS = {"label-studio": [".json"], "argilla": [".parquet", ".jsonl"], "jsonl": [".jsonl"]}
FORMS = [(form, ending) for form, endings in ENDINGS.items() for ending in endings]


def items(path: str) -> list[dict[str, Any]]:
    if path.endswith(".parquet"):
        found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return found
    data = Path(path).read_bytes()
    if path.endswith(".jsonl"):
        return [json.loads(line) for line in data.splitlines()]  # of bytes: breaks at \n, \r and \r\n alone
    return [item["data"] for item in json.loads(data)]


def identity(item: dict[str, Any]) -> str:
    return str(item.get("task_id") or item["id"])


def exported(table: pa.Table, form: str, ending: str, folder: Path, about: About = AUDIT) -> list[dict[str, Any]]:
    path = folder / f"tasks{ending}"
    path.unlink(missing_ok=True)
    return items(export(table, form, str(path), about)[0])


@pytest.mark.parametrize(("form", "ending"), FORMS)
def test_hostile_texts_come_out_as_they_are_in_the_order_of_asking(form: str, ending: str, tmp_path: Path) -> None:
    found = exported(tasks(HOSTILE), form, ending, tmp_path)
    assert [identity(item) for item in found] == [task_id(n) for n in reversed(range(len(HOSTILE)))]
    expected = [text.replace("\0", "\ufffd") if form == "label-studio" else text for text in reversed(HOSTILE)]
    assert [item["text"] for item in found] == expected


@pytest.mark.parametrize(("form", "ending"), [f for f in FORMS if f[0] != "label-studio"])
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(found=texts)
def test_any_text_comes_out_as_it_is(form: str, ending: str, found: list[str], tmp_path: Path) -> None:
    assert [item["text"] for item in exported(tasks(found), form, ending, tmp_path)] == found[::-1]


@pytest.mark.parametrize("separator", ["\x85", "\u2028", "\u2029", "\x0b", "\x0c", "\x1c"])
def test_no_reader_of_lines_finds_two_where_there_is_one(separator: str, tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    export(tasks([f"a{separator}b", "c"]), "jsonl", str(path), AUDIT)
    assert [json.loads(line)["text"] for line in path.read_text("utf-8").splitlines()] == ["c", f"a{separator}b"]


@pytest.mark.parametrize(("form", "ending"), FORMS)
def test_a_made_control_looks_like_any_other_task(form: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"tasks{ending}"
    table = tasks(["same length"] * 6, made=[1, 4], twice=[0, 1, 5])
    export(table, form, str(path), AUDIT)
    content = json.loads(path.read_bytes()) if ending == ".json" else items(str(path))
    shapes = Counter(json.dumps(_without(item, task_id), default=str, sort_keys=True) for item in content)
    assert list(shapes.values()) == [6]
    everything = "".join(file.read_text("utf-8", "replace") for file in tmp_path.iterdir() if file.suffix != ".parquet")
    assert not any(word in everything for word in ("stratum", "inclusion", "verdict", "evidence", "site0", "sha256"))
    if ending == ".parquet":
        assert set(pq.read_schema(path).names) == {"id", "text", "language"}


def _without(value: Any, made: Any) -> Any:
    """The value with all identities made equal."""
    known = {made(n) for n in range(6)}
    if isinstance(value, dict):
        return {key: _without(inner, made) for key, inner in value.items()}
    return "id" if value in [*known] else value


@pytest.mark.parametrize(("form", "ending"), FORMS)
def test_the_language_is_left_out_where_a_made_control_has_none(form: str, ending: str, tmp_path: Path) -> None:
    table = tasks(["a", "b"], made=[0], language=[None, "en"])
    assert all("language" not in json.dumps(item) for item in exported(table, form, ending, tmp_path))


@pytest.mark.parametrize(
    ("about", "option"),
    [
        (About(Stream.AUDIT, show_source=True), "--show-source"),
        (About(Stream.AUDIT, predictions=True), "--predictions"),
    ],
)
def test_what_would_give_controls_away_is_refused(about: About, option: str, tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    with pytest.raises(UsageError, match=f"{option}: .*controls"):
        export(tasks(["a", "b"], made=[0]), "jsonl", str(path), about)
    assert not path.exists()
    export(tasks(["a", "b"]), "jsonl", str(path), about)


@pytest.mark.parametrize(("form", "ending"), FORMS)
def test_the_audit_hides_the_detector_and_the_active_stream_shows_it(form: str, ending: str, tmp_path: Path) -> None:
    table = tasks(["a"] * 10)
    path = tmp_path / f"tasks{ending}"
    export(table, form, str(path), AUDIT)
    assert "probability" not in str(items(str(path))) + "".join(
        file.read_text() for file in tmp_path.iterdir() if file.suffix != ".parquet"
    )
    [first, *_] = exported(table, form, ending, tmp_path, ACTIVE)
    flat = {**first, **first.get("meta", {})}
    assert pytest.approx(flat["score"] if form == "jsonl" else flat["machine_probability"], abs=1e-6) == 0.9


def test_label_studio_gets_predictions_with_score_and_model(tmp_path: Path) -> None:
    path = tmp_path / "tasks.json"
    table = tasks(["a", "b", "c"], machine_probability=[0.125, 0.75, None])
    export(table, "label-studio", str(path), ACTIVE)
    [none, machine, human] = json.loads(path.read_text())
    assert "predictions" not in none
    for item, label, score in [(machine, "machine", 0.75), (human, "human", 0.875)]:
        [prediction] = item["predictions"]
        assert prediction["model_version"] == "embedded 1.2"
        assert prediction["score"] == score
        assert prediction["result"][0]["value"] == {"choices": [label]}


def test_argilla_gets_suggestions_with_score_and_agent(tmp_path: Path) -> None:
    table = tasks(["a", "b", "c"], machine_probability=[0.125, 0.75, None])
    [none, machine, human] = exported(table, "argilla", ".parquet", tmp_path, ACTIVE)
    names = ["label.suggestion", "label.suggestion.score", "label.suggestion.agent"]
    assert [none[name] for name in names] == [None] * 3
    assert [machine[name] for name in names] == ["machine", 0.75, "embedded 1.2"]
    assert [human[name] for name in names] == ["human", 0.875, "embedded 1.2"]


def test_the_configuration_offers_each_label_by_a_key_and_names_what_the_tasks_hold(tmp_path: Path) -> None:
    about = About(Stream.AUDIT, show_source=True)
    [path, config] = export(tasks(["a"], url=[None]), "label-studio", str(tmp_path / "tasks.json"), about)
    tree = ElementTree.parse(config)
    choices = {choice.get("value"): choice.get("hotkey") for choice in tree.iter("Choice")}
    assert choices == {label.value: str(key) for key, label in enumerate(Label, 1)}
    variables = {value[1:] for tag in tree.iter() for value in tag.attrib.values() if value.startswith("$")}
    assert variables == {"text", "url", "captured_at"}
    assert all(variables <= set(item) and None not in item.values() for item in items(path))


@pytest.mark.parametrize(("form", "ending"), FORMS)
def test_what_two_people_are_to_label_stands_in_a_second_file(form: str, ending: str, tmp_path: Path) -> None:
    written = export(tasks(["a", "b", "c"], twice=[0, 2]), form, str(tmp_path / f"tasks{ending}"), AUDIT)
    assert [Path(name).name for name in written[:2]] == [f"tasks{ending}", f"tasks-2{ending}"]
    assert [identity(item) for item in items(written[1])] == [task_id(2), task_id(0)]
    assert all(Path(name).exists() for name in written)


@pytest.mark.parametrize(("form", "ending"), FORMS)
def test_no_tasks_make_an_empty_file(form: str, ending: str, tmp_path: Path) -> None:
    assert exported(tasks([]), form, ending, tmp_path) == []


@pytest.mark.parametrize(("form", "ending"), FORMS)
def test_an_export_that_nobody_answered_gives_no_answers(form: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"tasks{ending}"
    export(tasks(["a", "b"]), form, str(path), ACTIVE)
    assert read_answers(str(path), None, [task_id(0), task_id(1)], None) == []


@pytest.mark.parametrize("there", ["tasks.jsonl", "tasks-2.jsonl"])
def test_a_file_that_is_there_is_not_written_over(there: str, tmp_path: Path) -> None:
    (tmp_path / there).write_text("answers")
    with pytest.raises(UsageError, match=f"{there}: is there already"):
        export(tasks(["a"], twice=[0]), "jsonl", str(tmp_path / "tasks.jsonl"), AUDIT)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["answers"]


@pytest.mark.parametrize(
    ("form", "name", "words"),
    [
        ("csv", "tasks.csv", "--format csv: one of label-studio, argilla, jsonl"),
        *[(form, "tasks.txt", "the name ends in") for form in Form],
    ],
)
def test_a_wrong_form_or_ending_is_refused(form: str, name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        export(tasks(["a"]), form, str(tmp_path / name), AUDIT)
