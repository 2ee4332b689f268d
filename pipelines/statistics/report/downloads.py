"""Tables to take along: small ones inside the page as CSV, all of them as links to the Parquet files beside it.

A spreadsheet takes a cell that begins with ``=``, ``+``, ``-`` or ``@`` for a formula, and a host's name may begin so.
Such text gets an apostrophe before it; numbers are left as they are (OWASP, CSV Injection).
"""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from pipelines.statistics.report.words import plain

MOST_ROWS = 2000
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


class Download(NamedTuple):
    """A link: ``href`` is relative or a data URL, ``name`` what the file is called."""

    title: str
    name: str
    href: str
    rows: int


def inline_csv(title: str, name: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Download:
    """A table as a data URL; no more than :data:`MOST_ROWS` rows."""
    content = csv_text(head, rows[:MOST_ROWS])
    data = base64.b64encode(content.encode("utf-8", "replace")).decode()
    return Download(title, name, f"data:text/csv;charset=utf-8;base64,{data}", min(len(rows), MOST_ROWS))


def table_csv(title: str, name: str, table: pa.Table) -> Download:
    """An Arrow table of plain columns."""
    rows = [tuple(r.values()) for r in table.slice(0, MOST_ROWS).to_pylist()]
    return inline_csv(title, name, table.schema.names, rows)


def csv_text(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """CSV (RFC 4180) whose text no spreadsheet takes for a formula; null is an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerows([[_safe(cell) for cell in row] for row in [head, *rows]])
    return out.getvalue()


def _safe(cell: Any) -> Any:
    if cell is None or isinstance(cell, (bool, int, float)):
        return cell
    text = plain(str(cell))
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) or text.startswith("\ufffd") else text
