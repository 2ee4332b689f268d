"""Label Studio: tasks with predictions out, its JSON and JSON_MIN exports back.

Beside the tasks (``tasks.json``, a list of ``{"data": …, "predictions": …}``) stands the labelling configuration of the
project (``tasks.xml``). Formats: https://labelstud.io/guide/task_format and https://labelstud.io/guide/predictions.
"""

from __future__ import annotations

from typing import Any, Final
from xml.sax.saxutils import quoteattr

from pipelines import files
from pipelines.review.exchange.common import CHOICES, QUESTION, About, Reading, Row, beside, passes, short
from pipelines.review.records import Label

LABEL: Final = "label"  # names of the controls in the configuration, and so of the columns of JSON_MIN
COMMENT: Final = "comment"
_TEXT: Final = "text"


def write(rows: list[Row], path: str, about: About) -> list[str]:
    """Writes the tasks and the configuration; gives the files."""
    written = {name: [_task(row, about) for row in part] for name, part in passes(path, rows).items()}
    for name, tasks in written.items():
        files.write_json(name, tasks)
    config = beside(path, ".xml")
    files.write_bytes(config, configuration(about).encode())
    return [*written, config]


def configuration(about: About) -> str:
    """The labelling configuration: one choice, by keys 1 to 4, and a comment."""
    source = ['  <Header value="$url" size="5"/>', '  <Header value="$captured_at" size="5"/>']
    choices = [
        f"    <Choice value={quoteattr(label.value)} hotkey={quoteattr(str(key))} hint={quoteattr(CHOICES[label])}/>"
        for key, label in enumerate(Label, 1)
    ]
    lines = [
        "<View>",
        f"  <Header value={quoteattr(QUESTION)}/>",
        *(source if about.show_source else []),
        f'  <Choices name="{LABEL}" toName="{_TEXT}" choice="single" required="true" showInline="true">',
        *choices,
        "  </Choices>",
        f'  <TextArea name="{COMMENT}" toName="{_TEXT}" rows="1" maxSubmissions="1" placeholder="Comment, if any"/>',
        f'  <Text name="{_TEXT}" value="$text" valueType="text" saveTextResult="no"/>',
        "</View>",
    ]
    return "\n".join(lines) + "\n"


def read(records: list[Any], into: Reading) -> None:
    """Answers of an export: JSON where a record holds ``annotations``, JSON_MIN where it is one annotation itself."""
    for number, record in enumerate(records, 1):
        where = f"record {number}"
        if not isinstance(record, dict):
            into.fail(where, f"is {type(record).__name__}, not a task; export as JSON or JSON_MIN")
        if isinstance(record.get("data"), dict):
            _read_task(where, record, into)
        else:
            _read_flat(where, record, into)


def _task(row: Row, about: About) -> dict[str, Any]:
    # A configuration that names $url wants it in every task. PostgreSQL, under Label Studio, takes no NUL in JSON.
    shown = {name: value or "" for name, value in row.shown.items()}
    data: dict[str, Any] = {"task_id": row.task_id, "text": row.text.replace("\0", "\ufffd"), **shown}
    task: dict[str, Any] = {"data": data}
    if row.machine_probability is not None:
        data["machine_probability"] = row.machine_probability
        task["predictions"] = [_prediction(row.machine_probability, about.detector)]
    return task


def _prediction(probability: float, detector: str) -> dict[str, Any]:
    likely = Label.MACHINE if probability >= 0.5 else Label.HUMAN
    choice = {"from_name": LABEL, "to_name": _TEXT, "type": "choices", "value": {"choices": [likely.value]}}
    return {"model_version": detector, "score": max(probability, 1 - probability), "result": [choice]}


def _read_task(where: str, record: dict[str, Any], into: Reading) -> None:
    annotations = record.get("annotations") or []
    if not isinstance(annotations, list):
        into.fail(where, "annotations are no list")
    drafts = record.get("drafts")
    into.left_out["drafts"] += len(drafts) if isinstance(drafts, list) else 0
    if not annotations:
        into.left_out["not answered"] += 1
    for number, annotation in enumerate(annotations, 1):
        place = f"{where}, annotation {number}"
        if not isinstance(annotation, dict):
            into.fail(place, "is no annotation (the export has them as numbers); export as JSON with annotations")
        _read_annotation(place, record["data"].get("task_id"), annotation, into)


def _read_annotation(where: str, task: Any, annotation: dict[str, Any], into: Reading) -> None:
    if annotation.get("was_cancelled") or annotation.get("skipped"):
        into.left_out["skipped"] += 1
        return
    result = annotation.get("result") or []
    if not result:
        into.left_out["not answered"] += 1
        return
    if not isinstance(result, list):
        into.fail(where, "result is no list")
    labels: list[Any] = []
    comments: list[Any] = []
    for region in result:
        value = region.get("value") if isinstance(region, dict) else None
        if not isinstance(value, dict):
            into.fail(where, f"{short(region)} is no result")
        if region.get("from_name") == LABEL:
            labels += _listed(value.get("choices"))
        elif region.get("from_name") == COMMENT:
            comments += _listed(value.get("text"))
    into.add(
        where,
        task,
        _person(annotation.get("completed_by")),
        _one(where, labels, into),
        annotation.get("updated_at") or annotation.get("created_at"),
        annotation.get("lead_time"),
        comments or None,
    )


def _read_flat(where: str, record: dict[str, Any], into: Reading) -> None:
    if "annotation_id" not in record:
        into.fail(where, "neither 'data' (JSON) nor 'annotation_id' (JSON_MIN); export as one of these")
    if record.get(LABEL) is None and record["annotation_id"] is None:
        into.left_out["not answered"] += 1
        return
    into.add(
        where,
        record.get("task_id"),
        _person(record.get("annotator")),
        _one(where, _listed(record.get(LABEL)), into),
        record.get("updated_at") or record.get("created_at"),
        record.get("lead_time"),
        _listed(record.get(COMMENT)) or None,
    )


def _one(where: str, labels: list[Any], into: Reading) -> Any:
    if len(labels) != 1:
        said = f"{len(labels)} choices" if labels else "no choice"
        into.fail(where, f"{said} of '{LABEL}', not one; label with the configuration that came with the tasks")
    return labels[0]


def _person(completed_by: Any) -> Any:
    """A number or, where the export expands it, a person with an email."""
    if isinstance(completed_by, dict):
        return completed_by.get("email") or completed_by.get("id")
    return completed_by


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
