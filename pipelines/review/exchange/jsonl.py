"""Plain JSONL: tasks with Prodigy's fields out; back what Prodigy keeps, or our own simple form.

Our own: one answer a line, ``{"task_id", "annotator", "label", "at", "seconds", "comment"}``, of which only task and
label must be there. Whoever has no tool writes ``"label"`` into the exported lines; lines without are not answered.

Prodigy (https://prodi.gy/docs/api-interfaces#choice): ``options``, and back ``accept``, ``answer``, ``_annotator_id``
and ``_timestamp``. Its hashes are not written: it computes them itself, in a way that its documentation does not fix.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pipelines import files
from pipelines.review.exchange.common import CHOICES, About, Reading, Row, passes, short
from pipelines.review.records import Answer, Label

OPTIONS: Final = [{"id": label.value, "text": CHOICES[label]} for label in Label]
TOOLS: Final = ("serve", "label-studio", "argilla", "jsonl")

# What readers of lines other than ours may take for the end of one; JSON escapes those below U+0020 itself.
_BREAKS: Final = re.compile("[\x7f-\x9f\u2028\u2029]")
# Prodigy's name for a session that nobody named: the time at which it began.
_UNNAMED: Final = re.compile(r"(^|-)\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d$")


def lines(values: Iterable[Mapping[str, Any]]) -> bytes:
    """JSONL in UTF-8, of which no text breaks a line."""
    written = (json.dumps(value, ensure_ascii=False, allow_nan=False) for value in values)
    return "".join(_BREAKS.sub(_escape, line) + "\n" for line in written).encode()


def write(rows: list[Row], path: str, about: About) -> list[str]:
    """Writes the tasks; gives the files."""
    written = passes(path, rows)
    for name, part in written.items():
        files.write_bytes(name, lines(_task(row, about) for row in part))
    return list(written)


def answer_line(answer: Answer) -> dict[str, Any]:
    """An answer in our own form."""
    return {**answer._asdict(), "label": answer.label.value, "at": answer.at.isoformat()}


def read(records: list[tuple[int, dict[str, Any]]], into: Reading) -> None:
    """Answers of lines, each with its number; Prodigy's and our own may stand in one file."""
    for number, record in records:
        where = f"line {number}"
        if "answer" in record or "accept" in record:
            _read_prodigy(where, record, into)
        elif record.get("label") is None:
            into.left_out["not answered"] += 1
        else:
            _read_own(where, record, into)


def _task(row: Row, about: About) -> dict[str, Any]:
    meta: dict[str, Any] = {name: value for name, value in row.shown.items() if value is not None}
    if row.machine_probability is not None:  # Prodigy shows what is in `meta` below the text
        meta |= {"model": about.detector, "score": row.machine_probability}
    return {"text": row.text, "meta": meta, "task_id": row.task_id, "options": OPTIONS}


def _read_own(where: str, record: dict[str, Any], into: Reading) -> None:
    tool = record.get("tool")
    if tool is not None and tool not in TOOLS:
        into.fail(where, f"tool {short(tool)} is none of {', '.join(TOOLS)}")
    into.add(
        where,
        record.get("task_id"),
        record.get("annotator"),
        record["label"],
        record.get("at"),
        record.get("seconds"),
        record.get("comment"),
        tool,
    )


def _read_prodigy(where: str, record: dict[str, Any], into: Reading) -> None:
    answer = record.get("answer", "accept")
    if answer not in ("accept", "reject", "ignore"):
        into.fail(where, f"answer {short(answer)} is none of accept, reject, ignore")
    accepted = record.get("accept", [record["label"]] if record.get("label") is not None else [])
    if answer == "reject" and "options" not in record and accepted:
        into.fail(where, "a rejected label does not say which is right; ask with --view-id choice")
    if answer != "accept":
        into.left_out["skipped"] += 1
        return
    if not isinstance(accepted, list) or len(accepted) > 1:
        into.fail(where, f"accept {short(accepted)} is not one choice; set choice_style to single")
    if not accepted:
        into.left_out["not answered"] += 1
        return
    into.add(
        where,
        record.get("task_id"),
        _person(record),
        accepted[0],
        record.get("_timestamp"),
        None,
        record.get("comment"),
    )


def _person(record: dict[str, Any]) -> Any:
    """Who answered; nobody, where Prodigy names the session by its time."""
    person = record.get("_annotator_id") or record.get("_session_id")
    return None if isinstance(person, str) and _UNNAMED.search(person) else person


def _escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found.group()):04x}"
