"""The forms against the tools' own code, where it is installed: ``pip install label-studio-sdk datasets``."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from pipelines.review.exchange import About, export, read, read_answers
from pipelines.review.records import Answer, Label, Stream
from tests.review.exchange_tasks import HOSTILE, answers, task_id, tasks

ACTIVE = About(Stream.ACTIVE, show_source=True, detector="embedded 1.2")
KNOWN = [task_id(number) for number in range(5)]


@pytest.fixture
def interface() -> Any:
    return pytest.importorskip("label_studio_sdk.label_interface").LabelInterface


@pytest.fixture
def converter() -> Any:
    return pytest.importorskip("label_studio_sdk.converter").Converter


def annotation(answer: Answer, number: int) -> dict[str, Any]:
    """As Label Studio keeps what was chosen and typed."""
    result: list[dict[str, Any]] = [_region("label", "choices", {"choices": [answer.label.value]})]
    if answer.comment is not None:
        result.append(_region("comment", "textarea", {"text": [answer.comment]}))
    return {
        "id": number,
        "completed_by": {"id": number, "email": answer.annotator},
        "result": result,
        "was_cancelled": False,
        "created_at": answer.at.isoformat().replace("+00:00", "Z"),
        "updated_at": answer.at.isoformat().replace("+00:00", "Z"),
        "lead_time": answer.seconds,
    }


def _region(name: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"from_name": name, "to_name": "text", "type": kind, "value": value}


def test_label_studios_validators_accept_configuration_tasks_and_predictions(interface: Any, tmp_path: Path) -> None:
    [path, config] = export(tasks(HOSTILE), "label-studio", str(tmp_path / "tasks.json"), ACTIVE)
    project = interface(Path(config).read_text())
    project.validate()
    control = project.get_control("label")
    assert list(control.labels) == [label.value for label in Label]
    for task in json.loads(Path(path).read_text()):
        assert project.validate_task({"data": task["data"]})
        assert [project.validate_prediction(made, return_errors=True) for made in task["predictions"]] == [[]]
    assert not project.validate_prediction({"result": [_region("label", "choices", {"choices": ["robot"]})]})


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(found=answers(5))
def test_label_studios_converter_loses_nothing(
    found: list[Answer], interface: Any, converter: Any, tmp_path: Path
) -> None:
    for old in tmp_path.rglob("*.*"):
        old.unlink()
    [path, config] = export(tasks(["text"] * 5), "label-studio", str(tmp_path / "tasks.json"), ACTIVE)
    project = interface(Path(config).read_text())
    content = json.loads(Path(path).read_text())
    for number, task in enumerate(content, 1):
        mine = [answer for answer in found if answer.task_id == task["data"]["task_id"]]
        task |= {"id": number, "annotations": [annotation(answer, place) for place, answer in enumerate(mine)]}
        assert all(project.validate_annotation(made) for made in task["annotations"])
        task["annotations"].append({**annotation(found[0], 99), "was_cancelled": True})
    Path(path).write_text(json.dumps(content))
    expected = sorted(answer._replace(tool="label-studio") for answer in found)
    for form in ("JSON", "JSON_MIN"):
        converter(config, str(tmp_path)).convert(path, str(tmp_path / form), form, is_dir=False)
        back = read(str(tmp_path / form / "result.json"), None, KNOWN)
        assert sorted(back.answers) == expected
    assert read(path, None, KNOWN).left_out == {"skipped": 5}


@pytest.mark.parametrize(("ending", "builder"), [(".parquet", "parquet"), (".jsonl", "json")])
def test_datasets_reads_what_was_exported(ending: str, builder: str, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    [path, *_] = export(tasks(HOSTILE), "argilla", str(tmp_path / f"tasks{ending}"), ACTIVE)
    loaded = datasets.load_dataset(builder, data_files=path, split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded["text"][:] == HOSTILE[::-1]
    assert {"id", "text", "label.suggestion", "label.suggestion.score", "label.suggestion.agent"} <= set(
        loaded.features
    )
    for column, values in {
        "label.responses": ["human", "edited"],
        "label.responses.users": ["ada", "bob"],
        "label.responses.status": ["submitted", "draft"],
    }.items():
        loaded = loaded.add_column(column, [values] * len(loaded))
    answered = str(tmp_path / f"answered{ending}")
    loaded.to_parquet(answered) if ending == ".parquet" else loaded.to_json(answered)
    back = read_answers(answered, None, loaded["id"][:], None)
    assert [(a.task_id, a.annotator, a.label) for a in back] == [(n, "ada", Label.HUMAN) for n in loaded["id"]]
