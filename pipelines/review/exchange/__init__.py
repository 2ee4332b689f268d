"""Tasks out to the tools in which teams label, answers back: Label Studio, Argilla, plain JSONL with Prodigy's fields.

::

    tasks = folder.read_tasks(Stream.AUDIT)
    export(tasks, "label-studio", "tasks.json", About(Stream.AUDIT))  # ["tasks.json", "tasks-2.json", "tasks.xml"]
    answers = read_answers("project-1-at-2026-05-01.json", None, tasks["task_id"].to_pylist(), None)

An export tells a control from no other task: by default it shows the text alone, and the language where every made
control has one. What a tool cannot carry is in ``docs/review-tools.md``.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import files
from pipelines.errors import UsageError
from pipelines.review.exchange import argilla, jsonl, label_studio
from pipelines.review.exchange.common import About, Form, passes, reading, rows
from pipelines.review.records import Answer

__all__ = ["About", "Form", "Found", "export", "read", "read_answers"]

_WRITERS: Final = {
    Form.LABEL_STUDIO: (label_studio.write, (".json",)),
    Form.ARGILLA: (argilla.write, (".parquet", ".jsonl")),
    Form.JSONL: (jsonl.write, (".jsonl",)),
}
_FORMS: Final = ", ".join(Form)


class Found(NamedTuple):
    """What a file held: answers, and how many of its records are none, by why (skipped, drafts, not answered)."""

    form: Form
    answers: list[Answer]
    left_out: dict[str, int]


class _Content(NamedTuple):
    """A file's records, and where each stands: line or ordinal."""

    records: list[tuple[int, Any]]
    kind: str  # "parquet", "lines" or "json"


def export(tasks: pa.Table, form: str, path: str, about: About) -> list[str]:
    """Writes tasks, of :data:`pipelines.review.records.TASKS`, for a tool; gives the files written.

    Documents that several people are to label stand again in further files, ``…-2`` and so on: one for each person.
    Raises UsageError for an unknown form, an ending that is not the form's, a file that is there already, and an
    option that would give the controls away.
    """
    write, endings = _WRITERS[_form(form)]
    if not path.endswith(endings):
        raise UsageError(f"--output {path}: for --format {form} the name ends in {' or '.join(endings)}")
    found = rows(tasks, about)
    for name in passes(path, found):
        if files.exists(name):
            raise UsageError(f"--output {name}: is there already, and may hold answers; name another file or remove it")
    try:
        return write(found, path, about)
    except files.FAILURES as error:
        raise UsageError(f"--output {path}: cannot be written: {error}") from None


def read_answers(path: str, form: str | None, tasks: Sequence[str], annotator: str | None) -> list[Answer]:
    """The answers of :func:`read`."""
    return read(path, form, tasks, annotator).answers


def read(path: str, form: str | None, tasks: Sequence[str], annotator: str | None = None) -> Found:
    """The answers of a tool's file on the known ``tasks``, each checked; with ``form`` None it tells by the content.

    ``annotator`` names the one who answered, where the file names nobody or one person. Times without a zone are
    UTC; answers without a time have that of the file. Raises UsageError that names the file and the record.
    """
    content = _content(path)
    chosen = _recognised(path, content) if form is None else _form(form)
    into = reading(path, tasks, chosen.value)
    match chosen:
        case Form.LABEL_STUDIO:
            _refuse(path, content, chosen, "json")
            label_studio.read([record for _, record in content.records], into)
        case Form.ARGILLA:
            argilla.read(_objects(path, content), into)
        case Form.JSONL:
            _refuse(path, content, chosen, "lines")
            jsonl.read(list(zip([n for n, _ in content.records], _objects(path, content), strict=True)), into)
    return Found(chosen, into.named(annotator), dict(+Counter(into.left_out)))


def _form(form: str) -> Form:
    try:
        return Form(form)
    except ValueError:
        raise UsageError(f"--format {form}: one of {_FORMS}") from None


def _content(path: str) -> _Content:
    try:
        data = files.read_bytes(path)
    except files.FAILURES as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None
    if data[:4] == b"PAR1":
        return _parquet(path, data)
    if not data.strip():
        raise UsageError(f"{path}: is empty")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: byte {error.start} is not UTF-8; save it as UTF-8 JSON, JSONL or Parquet") from None
    return _json(path, text)


def _parquet(path: str, data: bytes) -> _Content:
    try:
        table = pq.read_table(io.BytesIO(data), use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{path}: cannot be read as Parquet: {error}") from None
    return _Content(list(enumerate(table.to_pylist(), 1)), "parquet")


def _json(path: str, text: str) -> _Content:
    """A list, one object, or an object a line."""
    start = text.lstrip()[0]
    if start == "[":
        return _Content(list(enumerate(_parsed(path, text, ""), 1)), "json")
    if start != "{":
        raise UsageError(f"{path}: neither JSON, JSONL nor Parquet; --format is one of {_FORMS}")
    numbered = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if len(numbered) > 1 and not numbered[0][1].rstrip().endswith("}"):
        return _Content([(1, _parsed(path, text, ""))], "json")  # one object over several lines
    records = [(number, _parsed(path, line, f" line {number}:")) for number, line in numbered]
    alone = records[0][1] if len(records) == 1 else None
    return _Content(records, "json" if isinstance(alone, dict) and "annotations" in alone else "lines")


def _parsed(path: str, text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}:{where} not JSON: {error}") from None


def _recognised(path: str, content: _Content) -> Form:
    if content.kind == "json" and not content.records:
        return Form.LABEL_STUDIO
    keys = {key for _, record in content.records[:100] if isinstance(record, dict) for key in record}
    if any(key.endswith(".responses") for key in keys) or {"fields", "responses"} <= keys:
        return Form.ARGILLA
    if content.kind == "json" and keys & {"data", "annotation_id"}:
        return Form.LABEL_STUDIO
    if content.kind == "lines" and "task_id" in keys:
        return Form.JSONL
    if "id" in keys and "text" in keys and content.kind != "json":
        return Form.ARGILLA  # exported, and not answered
    raise UsageError(f"{path}: not known for a file of Label Studio, Argilla or JSONL; say --format, one of {_FORMS}")


def _refuse(path: str, content: _Content, form: Form, kind: str) -> None:
    if content.kind != kind and not (kind == "json" and content.kind == "lines" and len(content.records) == 1):
        held = {"parquet": "Parquet", "lines": "JSONL", "json": "JSON"}[content.kind]
        raise UsageError(f"{path}: is {held}, which {form.value} does not write; leave --format out to have it found")


def _objects(path: str, content: _Content) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number, record in content.records:
        if not isinstance(record, dict):
            raise UsageError(f"{path}: record {number}: is {type(record).__name__}, not an object")
        found.append(record)
    return found
