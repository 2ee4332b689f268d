"""Argilla 2: records as its ``to_datasets`` lays them out, for ``datasets`` to read, and its settings beside them.

A row is a record: ``id``, the field ``text``, the metadata, and for the question ``label`` the columns
``label.suggestion``, ``label.suggestion.score`` and ``label.suggestion.agent``; on the way back ``label.responses``,
``label.responses.users`` and ``label.responses.status``. What ``records.to_json`` writes is refused: it does not say
which responses are drafts or discarded.
"""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa

from pipelines import files
from pipelines.review.exchange.common import CHOICES, QUESTION, About, Reading, Row, beside, passes, short
from pipelines.review.exchange.jsonl import lines
from pipelines.review.records import Label

LABEL: Final = "label"  # the questions
COMMENT: Final = "comment"

_LEFT_OUT: Final = {"discarded": "skipped", "draft": "drafts"}


def write(rows: list[Row], path: str, about: About) -> list[str]:
    """Writes the records, as Parquet or JSONL by the path's ending, and the settings; gives the files."""
    written = passes(path, rows)
    for name, part in written.items():
        table = _table(part, about)
        if name.endswith(".parquet"):
            files.write_parquet(name, table)
        else:
            files.write_bytes(name, lines(table.to_pylist()))
    described = beside(path, ".settings.json")
    files.write_json(described, settings(rows, about))
    return [*written, described]


def settings(rows: list[Row], about: About) -> dict[str, Any]:
    """What ``argilla.Settings.from_json`` reads: one text, one label, one comment."""
    options = [{"value": label.value, "text": CHOICES[label], "description": None} for label in Label]
    return {
        "guidelines": f"{QUESTION} Judge the text alone; take your time rather than look for its source.",
        "questions": [
            _question(LABEL, QUESTION, True, {"type": "label_selection", "options": options, "visible_options": 4}),
            _question(COMMENT, "Comment", False, {"type": "text", "use_markdown": False}),
        ],
        "fields": [
            {
                "name": "text",
                "title": "Text",
                "required": True,
                # Markdown would render what a crawled page says; this way it stands as it is.
                "settings": {"type": "text", "use_markdown": False},
            }
        ],
        "vectors": [],
        "metadata": [_metadata(name) for name in _metadata_names(rows, about)],
        "allow_extra_metadata": False,
        "distribution": {"strategy": "overlap", "min_submitted": 1},
        "mapping": None,
    }


def read(records: list[dict[str, Any]], into: Reading) -> None:
    """Answers of the rows of ``to_datasets``."""
    for number, record in enumerate(records, 1):
        where = f"record {number}"
        if "responses" in record:
            into.fail(where, "records.to_json leaves out which responses are drafts; use records.to_datasets")
        responses = _responses(where, record, LABEL, into)
        comments = _responses(where, record, COMMENT, into)
        said = {user: value for value, user, status in comments if status == "submitted"}
        if not responses:
            into.left_out["not answered"] += 1
        for value, user, status in responses:
            if status == "submitted":
                into.add(where, record.get("id"), user, value, None, None, said.get(user))
            elif status in _LEFT_OUT:
                into.left_out[_LEFT_OUT[status]] += 1
            else:
                into.fail(where, f"status {short(status)} is none of submitted, discarded, draft")


def _table(rows: list[Row], about: About) -> pa.Table:
    columns: dict[str, pa.Array] = {
        "id": pa.array([row.task_id for row in rows], pa.string()),
        "text": pa.array([row.text for row in rows], pa.large_string()),
    }
    for name in rows[0].shown if rows else ():
        columns[name] = pa.array([row.shown[name] for row in rows], pa.string())
    if about.predicts:
        chances = [row.machine_probability for row in rows]
        likely = [None if p is None else (Label.MACHINE if p >= 0.5 else Label.HUMAN).value for p in chances]
        columns["machine_probability"] = pa.array(chances, pa.float64())
        columns["label.suggestion"] = pa.array(likely, pa.string())
        columns["label.suggestion.score"] = pa.array(
            [None if p is None else max(p, 1 - p) for p in chances], pa.float64()
        )
        columns["label.suggestion.agent"] = pa.array(
            [None if p is None else about.detector for p in chances], pa.string()
        )
    return pa.table(columns)


def _metadata_names(rows: list[Row], about: About) -> list[str]:
    return [*(rows[0].shown if rows else ()), *(["machine_probability"] if about.predicts else [])]


def _metadata(name: str) -> dict[str, Any]:
    kind = {"type": "float", "min": None, "max": None} if name == "machine_probability" else {"type": "terms"}
    return {"name": name, "title": name, "settings": kind, "visible_for_annotators": True}


def _question(name: str, title: str, required: bool, kind: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "title": title, "description": None, "required": required, "settings": kind}


def _responses(where: str, record: dict[str, Any], question: str, into: Reading) -> list[tuple[Any, Any, Any]]:
    """Value, user and status of each response to a question."""
    name = f"{question}.responses"
    columns: list[list[Any]] = []
    for key in (name, f"{name}.users", f"{name}.status"):
        column = record.get(key)
        if column is None and not columns:
            return []
        if not isinstance(column, list) or (columns and len(column) != len(columns[0])):
            into.fail(where, f"{name}, {name}.users and {name}.status are not lists of one length")
        columns.append(column)
    if not all(isinstance(word, str) for word in (*columns[1], *columns[2])):
        into.fail(where, f"{name}.users and {name}.status are not all texts")
    return list(zip(*columns, strict=True))
