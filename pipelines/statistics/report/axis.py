"""Months as an axis, and the few rows of a large table that a page can show."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.statistics.tally import UNKNOWN

Row = dict[str, Any]
MOST_MONTHS = 480  # more come from wrong dates: then the months with the most documents are shown


def with_margin(table: pa.Table, margin: str) -> pa.Table:
    """The rows of one margin."""
    return table.filter(pc.equal(table["margin"], pa.scalar(margin)))


def months_between(names: Iterable[str]) -> list[str]:
    """All months from the first to the last, so that the axis is in time; those named, where that is too many."""
    known = sorted({n for n in names if n != UNKNOWN})
    if not known:
        return []
    first, last = (int(n[:4]) * 12 + int(n[5:]) - 1 for n in (known[0], known[-1]))
    if last - first >= MOST_MONTHS:
        return known
    return [f"{m // 12:04d}-{m % 12 + 1:02d}" for m in range(first, last + 1)]


def most_documents(rows: list[Row], most: int = MOST_MONTHS) -> list[Row]:
    """The months with the most documents, in time."""
    if len(rows) <= most:
        return rows
    largest = sorted(rows, key=lambda r: (-r["documents"], r["month"]))[:most]
    return sorted(largest, key=lambda r: str(r["month"]))


def cutoff_mark(months: list[Row], axis: list[str], cutoff: date | None) -> tuple[float | None, str | None]:
    """Where the cut-off stands on the axis, and its month; by the rows where its day is not given."""
    if cutoff is not None:
        month = f"{cutoff:%Y-%m}"
        return (axis.index(month) + (cutoff.day - 1) / 31 if month in axis else None), month
    after = [r["month"] for r in months if r["after_cutoff"] and r["month"] != UNKNOWN]
    return (float(axis.index(after[0])), after[0]) if after else (None, None)


def by_size(pairs: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Names with the sum of their sizes, the largest first."""
    sizes: dict[str, int] = {}
    for name, size in pairs:
        sizes[name] = sizes.get(name, 0) + size
    return sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
