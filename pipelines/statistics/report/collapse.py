"""The collapse panel's part of the page: which plots to draw, and what to say of each measure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.statistics.report.axis import Row, by_size, months_between
from pipelines.statistics.report.multiples import Point, Reference, small_plot
from pipelines.statistics.report.words import cut, figure
from pipelines.statistics.tally import UNKNOWN

MOST_LANGUAGES = 6
MOST_MONTHS = 120  # of a small plot: more are closer than its dots
MOST_CLASSES = 16
WORSE = {"lower": "Lower is worse.", "higher": "Higher is worse.", "neither": "A change either way is worth a look."}
_COLUMNS = [
    *("month", "host_class", "language", "period", "measure", "documents", "value", "low", "high"),
    *(
        "equal",
        "equal_low",
        "equal_high",
        "reference",
        "reference_low",
        "reference_high",
        "p_value",
        "alarm",
        "too_few",
    ),
]


class Axis(NamedTuple):
    """The months of the small plots, and where among them the cut-off lies."""

    months: Sequence[str]
    mark: float | None


def collapse(panel: pa.Table | None, mark_month: str | None) -> Row | None:
    """What the page says of the panel; None without a panel.

    Args:
        panel: ``panel.parquet``.
        mark_month: the month of the cut-off.
    """
    if panel is None or not panel.num_rows:
        return None
    measures = _catalogue(panel)
    sizes = _languages(panel)
    languages = [_language(panel, name, n, measures, mark_month) for name, n in sizes[:MOST_LANGUAGES]]
    return {
        "languages": languages,
        "others": len(sizes) - len(languages),
        "alarms": len(alarm_rows(panel)),
        "compared": panel["reference"].null_count < panel.num_rows,
        "worse": WORSE,
    }


def alarm_rows(panel: pa.Table) -> list[Row]:
    """The slices with an alarm, languages first, then classes and months, with ``slice`` as what they are in words."""
    found = panel.filter(pc.fill_null(panel["alarm"], False))
    order = {"language": 0, "host_class×language": 1}
    ordered = found.sort_by([("month", "descending"), ("language", "ascending"), ("measure", "ascending")])
    rows: list[Row] = ordered.select(["margin", *_COLUMNS]).to_pylist()
    for row in rows:
        row["slice"] = row["month"] or row["host_class"] or "all after the cut-off"
    return sorted(rows, key=lambda row: order.get(row["margin"], 2))


def measure_titles(panel: pa.Table) -> dict[str, str]:
    """Name → title of the measures in the panel, in the catalogue's order."""
    return {m["name"]: m["title"] for m in _catalogue(panel)}


def compared(row: Row) -> tuple[float | None, float | None, float | None]:
    """What is compared with the reference: of the equal sample, where the measure depends on size."""
    if row["equal"] is not None:
        return row["equal"], row["equal_low"], row["equal_high"]
    return row["value"], row["low"], row["high"]


def _catalogue(panel: pa.Table) -> list[dict[str, str]]:
    from pipelines.statistics.panel.measures import MEASURES  # loads its models: only where there is a panel

    there = set(pc.unique(panel["measure"]).to_pylist())
    return [
        {"name": m.name, "title": m.title, "meaning": m.meaning, "worse": str(m.worse)}
        for m in MEASURES
        if m.name in there
    ]


def _languages(panel: pa.Table) -> list[tuple[str, int]]:
    """By documents, the most first."""
    rows = panel.filter(pc.equal(panel["margin"], "language")).select(["language", "period", "documents"])
    sizes: dict[tuple[str, str], int] = {}
    for row in rows.to_pylist():
        key = row["language"], row["period"]
        sizes[key] = max(sizes.get(key, 0), row["documents"] or 0)
    return by_size(((language, n) for (language, _), n in sizes.items()))


def _language(
    panel: pa.Table, language: str, documents: int, measures: Sequence[dict[str, str]], mark_month: str | None
) -> Row:
    own = panel.filter(pc.equal(panel["language"], language)).select(["margin", *_COLUMNS])
    by_margin: dict[str, list[Row]] = {}
    for row in own.to_pylist():
        by_margin.setdefault(row["margin"], []).append(row)
    monthly = [r for r in by_margin.get("month×language", []) if r["month"] != UNKNOWN]
    axis = months_between(r["month"] for r in monthly)[-MOST_MONTHS:]
    drawn = Axis(axis, float(axis.index(mark_month)) if mark_month in axis else None)
    after = [r for r in by_margin.get("language", []) if r["period"] == "after"]
    enough = {r["month"] for r in monthly if not r["too_few"]}
    return {
        "name": language,
        "documents": documents,
        "plots": [_measure(m, language, monthly, drawn, after) for m in measures],
        "months": len(axis),
        "enough": len(enough.intersection(axis)),
        "classes": _classes(by_margin.get("host_class×language", []), measures),
    }


def _measure(about: dict[str, str], language: str, monthly: Sequence[Row], axis: Axis, after: Sequence[Row]) -> Row:
    at = {month: i for i, month in enumerate(axis.months)}
    rows = [r for r in monthly if r["measure"] == about["name"] and r["month"] in at and not r["too_few"]]
    points = sorted(p for p in (_point(r, at[r["month"]]) for r in rows) if p is not None)
    points.sort(key=lambda p: (p.at, not p.before))
    reference = next((_reference(r) for r in reversed(rows) if r["reference"] is not None), None)
    alarms = [p.month for p in points if p.alarm]
    label = f"{about['title']}, {language}, by month"
    last = points[-1] if points else None
    whole = next((r for r in after if r["measure"] == about["name"] and r["alarm"]), None)
    return {
        **about,
        "whole": f"{figure(compared(whole)[0])}, p {figure(whole['p_value'])}" if whole else None,
        "plot": small_plot(points, reference, axis.months, axis.mark, label) if points else None,
        "alarms": alarms,
        "compared": reference is not None,
        "reference": _interval(reference) if reference else "–",
        "last": f"{last.month}: {_interval(Reference(last.value, last.low, last.high))}" if last else "–",
    }


def _point(row: Row, at: int) -> Point | None:
    value, low, high = compared(row)
    if value is None or value != value:
        return None
    low, high = (value if end is None or end != end else end for end in (low, high))
    return Point(row["month"], at, value, low, high, bool(row["alarm"]), row["period"] == "before")


def _reference(row: Row) -> Reference:
    value = row["reference"]
    ends = (value if end is None or end != end else end for end in (row["reference_low"], row["reference_high"]))
    return Reference(value, *ends)


def _interval(of: Reference) -> str:
    return f"{figure(of.value)} ({figure(of.low)} to {figure(of.high)})"


def _classes(rows: Sequence[Row], measures: Sequence[dict[str, str]]) -> Row:
    """The measures after the cut-off by host class, alarms marked."""
    later = [r for r in rows if r["period"] == "after" and not r["too_few"]]
    cells = {(r["measure"], r["host_class"]): r for r in later}
    names = [name for name, _ in by_size((r["host_class"], r["documents"]) for r in later)][:MOST_CLASSES]
    body = []
    for m in measures:
        found = [cells.get((m["name"], name)) for name in names]
        body.append((m["title"], *(_class_cell(r) for r in found)))
    return {"head": ("Measure", *(cut(n, 40) for n in names)), "rows": body if names else []}


def _class_cell(row: Row | None) -> str:
    if row is None:
        return "–"
    return figure(compared(row)[0]) + (" ▲ alarm" if row["alarm"] else "")
