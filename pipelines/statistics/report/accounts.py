"""Where the records went: the flow, the tables behind it, the verdicts by month and the kinds of evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.records import Place, Verdict
from pipelines.statistics.report.axis import MOST_MONTHS, Row
from pipelines.statistics.report.flow import Link, Node, flow
from pipelines.statistics.report.svg import for_all_widths, stacked_bars
from pipelines.statistics.report.words import count, percent

# From what a capture date shows to what a page says of itself: neighbours in the plot are neighbours in meaning.
VERDICTS = [str(v) for v in (Verdict.DATED, Verdict.CLEAR, Verdict.UNDETERMINED)]
VERDICTS += [str(v) for v in (Verdict.SUSPECTED, Verdict.MARKED, Verdict.DECLARED)]
PLACES = [str(place) for place in Place]
MOST_REASONS = 60
MOST_SIGNALS = 60
_NO_DOCUMENT = "no document"


def places(summary: Mapping[str, Any], accounting: pa.Table) -> list[tuple[str, str, str]]:
    """Records by place: their number and share."""
    counts: Counter[str] = Counter()
    for (place, _), n in _causes(accounting).items():
        counts[place] += n
    records = summary.get("records") or {}
    found = {place: int(records.get(place, counts[place])) for place in PLACES}
    total = max(sum(found.values()), 1)
    rows = [(place, count(n), percent(n / total)) for place, n in found.items()]
    return [*rows, ("all", count(sum(found.values())), "")]


def accounts(accounting: pa.Table) -> list[tuple[str, str, str]]:
    """Records by place, and by verdict or reason."""
    order = {place: i for i, place in enumerate(PLACES)}
    ordered = sorted(_causes(accounting).items(), key=lambda item: (order.get(item[0][0], 9), -item[1], item[0][1]))
    return [(place, cause, count(n)) for (place, cause), n in ordered[:MOST_REASONS]]


def flow_plot(accounting: pa.Table) -> Any:
    """Records in → verdicts → places; None without a record."""
    verdicts: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    both: Counter[tuple[str, str]] = Counter()
    for (place, cause), n in _causes(accounting).items():
        verdict = cause if place != Place.REJECTS else _NO_DOCUMENT
        verdicts[verdict] += n
        ends[place] += n
        both[verdict, place] += n
    total = sum(ends.values())
    if not total:
        return None
    names = [*VERDICTS, _NO_DOCUMENT]
    styles = {v: f"s-{v}" for v in VERDICTS}
    columns = [
        [Node("records in", "records in", total)],
        [Node(v, v, verdicts[v], styles.get(v, "s-none")) for v in names],
        [Node(f"place {p}", p, ends[p], "s-place") for p in PLACES],
    ]
    links = [Link("records in", v, verdicts[v], styles.get(v, "s-none")) for v in names]
    links += [Link(v, f"place {p}", both[v, p], styles.get(v, "s-none")) for v in names for p in PLACES]
    return for_all_widths(lambda frame: flow(columns, links, "Where the records went", frame))


def verdicts_by_month(accounting: pa.Table, mark: float | None, axis: list[str]) -> Row:
    """The stacked bars, and their table."""
    known = accounting.filter(pc.is_valid(accounting["month"]))
    counts: Counter[tuple[str, str]] = Counter()
    for row in _sums(known, ["month", "verdict"]):
        counts[row["month"], row["verdict"]] += row["records_sum"]
    sizes: Counter[str] = Counter()
    for (month, _), n in counts.items():
        sizes[month] += n
    months = sorted(sorted(sizes, key=lambda m: (-sizes[m], m))[: MOST_MONTHS + 1])
    rows = [(month, *(count(counts[month, v]) for v in VERDICTS)) for month in months]
    series = {v: [counts[month, v] for month in axis] for v in VERDICTS}
    label = "Verdicts by month"
    plot = for_all_widths(lambda frame: stacked_bars(axis, series, mark, label, "cut-off", frame)) if axis else None
    return {"verdict_plot": plot, "verdict_rows": rows}


def signal_rows(signals: pa.Table) -> list[tuple[str, str, str]]:
    """Documents with each kind of finding, the most first."""
    rows = _sums(signals, ["source", "kind"], "documents")
    ordered = sorted(rows, key=lambda r: (-r["documents_sum"], r["source"], r["kind"]))
    return [(r["source"], r["kind"], count(r["documents_sum"])) for r in ordered[:MOST_SIGNALS]]


def _causes(accounting: pa.Table) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for row in _sums(accounting, ["place", "verdict", "reason"]):
        counts[row["place"], row["verdict"] or row["reason"] or ""] += row["records_sum"]
    return counts


def _sums(table: pa.Table, keys: list[str], value: str = "records") -> list[Row]:
    rows: list[Row] = table.group_by(keys, use_threads=False).aggregate([(value, "sum")]).to_pylist()
    return rows
