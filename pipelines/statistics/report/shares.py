"""The synthetic share's part of the page: the headline in words, methods, months, host classes, hosts, languages."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from pipelines.statistics.adjusted import METHOD
from pipelines.statistics.likelihood import CRAWL
from pipelines.statistics.likelihood import METHOD as LIKELIHOOD
from pipelines.statistics.prevalence import DIRECT_ONLY
from pipelines.statistics.report.axis import MOST_MONTHS, Row, by_size, months_between, most_documents, with_margin
from pipelines.statistics.report.heat import heat_map
from pipelines.statistics.report.svg import Share, for_all_widths, share_line, share_rows
from pipelines.statistics.report.words import between, count, of_hundred, percent, plain
from pipelines.statistics.tally import UNKNOWN

SHARE_HEAD = ("Documents", "Judged", "Estimate", "Interval", "By likelihood", "Direct", "")
METHODS = {
    METHOD: "documents over one threshold (Rogan–Gladen)",
    LIKELIHOOD: "all scores (maximum likelihood)",
    DIRECT_ONLY: "direct evidence alone",
}
NO_SHARE = {"estimate": None, "low": 0.0, "high": 1.0, "level": 0.95, "too_few": False}
MOST_HOSTS = 20
MOST_LANGUAGES = 50
MOST_CLASSES = 24
MOST_HEAT_MONTHS = 120
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_UNITS = {"documents": "by document", "characters": "by character", "tokens": "by token", "hosts": "by host"}
_POPULATIONS = {"crawled": "as crawled", "deduplicated": "after removal of copies"}
_NEEDED = [
    *("documents", "judged", "direct", "estimate", "low", "high", "too_few", "after_cutoff"),
    *("estimate_likelihood", "low_likelihood", "high_likelihood"),
]


def documents(prevalence: pa.Table) -> pa.Table:
    """The shares by document and as crawled, of the detector that decides."""
    prevalence = of_first(prevalence)
    return prevalence.filter(
        pc.and_(pc.equal(prevalence["unit"], "documents"), pc.equal(prevalence["population"], "crawled"))
    )


def of_first(prevalence: pa.Table) -> pa.Table:
    """The rows of the first detector, which is the one that decides; several stand one below the other."""
    if "detector" not in prevalence.schema.names or not prevalence.num_rows:
        return prevalence
    first = prevalence["detector"][0]
    if not first.is_valid:
        return prevalence.filter(pc.is_null(prevalence["detector"]))
    return prevalence.filter(pc.equal(prevalence["detector"], first))


def rows_of(table: pa.Table, margin: str, *keys: str) -> list[Row]:
    """The rows of a margin with their keys and what the page shows of them."""
    rows: list[Row] = with_margin(table, margin).select([*keys, *_NEEDED]).to_pylist()
    return rows


def after_words(cutoff: date | None) -> str:
    """Which documents a share is of."""
    return f"captured on or after {day_words(cutoff)}" if cutoff else "captured after the cut-off"


def day_words(day: date) -> str:
    """The day in words, such as "30 November 2022", whatever the locale."""
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


def sentence(share: Mapping[str, Any], after: str) -> str:
    """The headline as one sentence; no number in it is more exact than the interval."""
    if share["estimate"] is None:
        known = f"from direct evidence alone, it lies between {percent(share['low'])} and {percent(share['high'])}"
        return f"How much of the text {after} is machine text is not known: no detector could judge it; {known}."
    about, low, high, base = of_hundred(share["estimate"], share["low"], share["high"])
    if about == low == high == "0":
        return f"Of the documents {after}, fewer than 1 in {base} are estimated to be machine text."
    return (
        f"About {about} of every {base} documents {after} are machine text, as far as they can be judged; "
        f"anything from {low} to {high} of {base} would fit what was seen."
    )


def by_method(summary: Mapping[str, Any]) -> Row | None:
    """Each detector's share by each method, side by side; None where there is one figure only."""
    share = summary.get("synthetic_share") or {}
    deciding = str((summary.get("detector") or {}).get("name") or "detector")
    by_detector = share.get("detectors") or {deciding: share}
    found = {str(name): about.get("methods") or {} for name, about in by_detector.items()}
    flat = [
        (detector, METHODS.get(method, method), Share(about["estimate"], about["low"], about["high"]))
        for detector, methods in found.items()
        for method, about in methods.items()
        if about and about.get("low") is not None and about.get("high") is not None
    ]
    if len(flat) < 2:
        return None
    short = dict(zip(METHODS.values(), ("one threshold", "all scores", "direct"), strict=True))
    drawn = [(plain(f"{detector}, {short.get(method, method)}"), s) for detector, method, s in flat]
    basis = (share.get("methods") or {}).get(LIKELIHOOD)
    return {
        "plot": for_all_widths(lambda frame: share_rows(drawn, "The share by each method and detector", frame)),
        "rows": [
            (detector, method, "–" if s.estimate is None else percent(s.estimate), between(s.low, s.high))
            for detector, method, s in flat
        ],
        "human": _human(basis) if basis else None,
        "machine_sets": basis["machine_sets"] if basis else None,
        "detectors": len(found),
    }


def other_counts(prevalence: pa.Table) -> list[tuple[str, ...]]:
    """The share of the whole crawl by other units, as crawled and deduplicated."""
    columns = ["unit", "population", "estimate", "low", "high", "judged"]
    rows = with_margin(of_first(prevalence), "all").select(columns).to_pylist()
    return [
        (
            f"{_UNITS.get(r['unit'], r['unit'])}, {_POPULATIONS.get(r['population'], r['population'])}",
            "–" if r["estimate"] is None else percent(r["estimate"]),
            between(r["low"], r["high"]),
        )
        for r in rows
        if r["low"] is not None and r["judged"]
    ]


def month_shares(months: list[Row], axis: list[str], mark: float | None) -> Row:
    """Months from the cut-off on, with a few before it, so that it shows."""
    start = max(0, int(mark) - 6) if mark is not None else 0
    shares = {r["month"]: share_of(r) for r in months if not r["too_few"]}
    drawn = axis[start:]
    at = None if mark is None else mark - start
    plot: Markup | None = None
    if any(shares.get(m) for m in drawn):
        values = [shares.get(m) for m in drawn]
        title = "Synthetic share by month"
        plot = for_all_widths(lambda frame: share_line(drawn, values, at, title, "cut-off", frame))
    return {"plot": plot, "rows": [share_row(r, "month") for r in months if share_of(r)]}


def class_shares(table: pa.Table, cutoff_month: str | None) -> Row | None:
    """The heat map of host classes by month, and the classes' shares; None where hosts have no classes."""
    if "host_class" not in table.schema.names:
        return None
    classes = sorted(rows_of(table, "host_class", "host_class"), key=lambda r: (-r["documents"], r["host_class"]))
    classes = classes[:MOST_CLASSES]
    cells = rows_of(table, "month×host_class", "month", "host_class")
    later = [r for r in cells if r["month"] != UNKNOWN and r["after_cutoff"]]
    axis = months_between(r["month"] for r in later)[-MOST_HEAT_MONTHS:]
    names = [r["host_class"] for r in classes]
    shown = {(r["host_class"], r["month"]): None if r["too_few"] else share_of(r) for r in later}
    mark = float(axis.index(cutoff_month)) if cutoff_month in axis else None
    label = "Synthetic share by host class and month"
    plot = heat_map([plain(n) for n in names], axis, _named(shown), mark, label) if axis and names else None
    body = [(month, *(_cell(shown.get((name, month), ...)) for name in names)) for month in axis if plot]
    return {
        "plot": plot,
        "rows": [share_row(r, "host_class") for r in classes],
        "month_head": ("Month", *names),
        "month_rows": body,
    }


def host_shares(table: pa.Table) -> Row:
    """The hosts with the highest lower limit."""
    hosts = with_margin(table, "host").select(["host", *_NEEDED])
    enough = pc.or_(pc.invert(hosts["too_few"]), pc.greater(hosts["direct"], 0))
    hosts = hosts.filter(pc.and_(enough, pc.is_valid(hosts["low"])))
    machine = pc.multiply(pc.fill_null(hosts["estimate"], 0), hosts["judged"])
    above = hosts.filter(pc.or_(pc.greater(hosts["low"], 0), pc.greater_equal(machine, 0.5)))  # half a document
    order = [("low", "descending"), ("estimate", "descending"), ("host", "ascending")]
    top = above.sort_by(order).slice(0, MOST_HOSTS).to_pylist()
    drawn = [(plain(r["host"]), Share(r["estimate"], r["low"], r["high"])) for r in top]
    label = "Synthetic share of the hosts with the highest lower limit"
    plot = for_all_widths(lambda frame: share_rows(drawn, label, frame)) if drawn else None
    rows = [share_row(r, "host") for r in top]
    return {"plot": plot, "rows": rows, "among": hosts.num_rows, "above": above.num_rows}


def language_shares(table: pa.Table) -> Row:
    """By language, those with the most documents first."""
    rows = rows_of(table, "language", "language")
    found = {r["language"]: r for r in rows if r["judged"]}
    names = [name for name, _ in by_size((r["language"], r["documents"]) for r in found.values())]
    shown = [share_row(found[name], "language") for name in names[:MOST_LANGUAGES]]
    return {"rows": shown, "more": max(len(names) - MOST_LANGUAGES, 0), "unjudged": len(rows) - len(found)}


def month_rows(table: pa.Table) -> list[Row]:
    """By month, in time; the months with the most documents, where wrong dates make too many."""
    rows = rows_of(table, "month", "month")
    known = most_documents([r for r in rows if r["month"] != UNKNOWN], MOST_MONTHS)
    return known + [r for r in rows if r["month"] == UNKNOWN]


def share_of(row: Row) -> Share | None:
    """A row's share; None where nothing was judged."""
    return Share(row["estimate"], row["low"], row["high"]) if row["low"] is not None and row["judged"] else None


def share_row(row: Row, key: str) -> tuple[str, ...]:
    """A row's cells, under its key and :data:`SHARE_HEAD`."""
    share = share_of(row)
    estimate = percent(share.estimate) if share and share.estimate is not None else "–"
    interval = between(share.low, share.high) if share else "–"
    note = "too few" if share and row["too_few"] else ""
    of = row["estimate_likelihood"], row["low_likelihood"], row["high_likelihood"]
    likelihood = "–" if of[0] is None else f"{percent(of[0])} ({between(of[1], of[2])})"
    counted = count(row["documents"]), count(row["judged"])
    return row[key], *counted, estimate, interval, likelihood, count(row["direct"]), note


def _human(basis: Mapping[str, Any]) -> str:
    if basis["human"] == CRAWL:
        return f"{count(basis['human_documents'])} documents of this crawl from before the cut-off"
    return f"{count(basis['human_documents'])} documents of {basis['human_sets']} sets"


def _named(shown: Mapping[tuple[str, str], Share | None]) -> dict[tuple[str, str], Share | None]:
    return {(plain(name), month): share for (name, month), share in shown.items()}


def _cell(share: Any) -> str:
    if share is ...:
        return ""
    return "too few" if share is None or share.estimate is None else percent(share.estimate)
