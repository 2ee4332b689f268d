"""The report: ``summary.json`` and ``statistics/`` for people, as one HTML file that needs no network.

The same summary and tables give the same bytes. All text from the crawl is escaped, and is never made a link::

    html = render(summary, tables, samples, title="Human reserve: spring crawl", cutoff=date(2022, 11, 30))
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipelines.records import Place, Verdict
from pipelines.statistics.diversity import MEASURES
from pipelines.statistics.false_positives import sentence, slice_words, worst_first
from pipelines.statistics.likelihood import CRAWL
from pipelines.statistics.likelihood import METHOD as LIKELIHOOD
from pipelines.statistics.prevalence import METHOD
from pipelines.statistics.svg import Share, share_line, share_rows, stacked_bars
from pipelines.statistics.tally import UNKNOWN

Row = dict[str, Any]

# From what a capture date shows to what a page says of itself: neighbours in the plot are neighbours in meaning.
VERDICTS = [str(v) for v in (Verdict.DATED, Verdict.CLEAR, Verdict.UNDETERMINED)]
VERDICTS += [str(v) for v in (Verdict.SUSPECTED, Verdict.MARKED, Verdict.DECLARED)]
SHARE_HEAD = ("Documents", "Judged", "Estimate", "Interval", "By likelihood", "Direct", "")
_METHODS = {METHOD: "Documents over one threshold (Rogan–Gladen)", LIKELIHOOD: "All scores (maximum likelihood)"}
_MOST_HOSTS = 20
_MOST_MONTHS = 480  # a longer axis comes from wrong dates: then only months with documents are drawn
_EXCERPT = 400
_MOST_REPEATS = 20
_MOST_SITES = 50
_MOST_SLICES = 20
_REPEAT_EXCERPT = 160


def render(
    summary: Mapping[str, Any],
    tables: Mapping[str, pa.Table],
    samples: Sequence[Mapping[str, Any]] = (),
    title: str = "Human reserve",
    cutoff: date | None = None,
) -> str:
    """The report as one HTML document.

    Args:
        summary: ``summary.json``, ``synthetic_share`` as ``prevalence.summary_share`` gives it; any key may lack.
        tables: ``prevalence``, ``diversity``, ``signals``, ``accounting``, as ``tables.statistics_tables`` gives them;
            ``repeats`` where the summary has counts of repeated paragraphs, and ``watermarks`` and
            ``watermark_sites`` where it has those of watermark tests, and ``false_positives`` where its detector has
            ``false_positives_by_date``.
        samples: documents to show: ``url``, ``captured_at``, ``verdict``, ``machine_probability``, ``evidence``,
            ``text`` (cut to 400 characters) and ``doc_id``; a key may lack.
        title: of the page.
        cutoff: the day of the cut-off; without it, the first month with a later document is marked.
    """
    prevalence = _documents(tables["prevalence"])
    months = _with_margin(prevalence, "month")
    axis = _months([r["month"] for r in months])
    mark, after_words = _cutoff(months, axis, cutoff)
    share = {"estimate": None, "low": 0.0, "high": 1.0, "level": 0.95, "too_few": False}
    template = _environment().get_template("report.html")
    return template.render(
        title=title,
        share=share | dict(summary.get("synthetic_share") or {}),
        methods=_methods((summary.get("synthetic_share") or {}).get("methods")),
        records=dict(summary.get("records") or {}),
        seal=dict(summary.get("seal") or {}),
        job=_flat(summary.get("job")),
        versions=_flat(summary.get("versions")),
        after_words=after_words,
        places=_places(summary, tables["accounting"]),
        accounts=_accounts(tables["accounting"]),
        cascade=(summary.get("detector") or {}).get("cascade"),
        share_head=("", *SHARE_HEAD),
        months=_month_shares(months, axis, mark),
        undated=sum(r["documents"] for r in months if r["month"] == UNKNOWN),
        verdicts=VERDICTS,
        **_verdicts(tables["accounting"], mark, axis),
        hosts=_hosts(_with_margin(prevalence, "host")),
        languages=[_share_row(r, "language") for r in _by_size(_with_margin(prevalence, "language"))],
        signals=_signals(tables["signals"]),
        measures=MEASURES,
        diversity=_diversity(tables["diversity"], axis, mark),
        repeats=_repeats(summary["repeats"], tables["repeats"]) if summary.get("repeats") else None,
        false_positives=_false_positives(summary.get("detector") or {}, tables),
        watermarks=_watermarks(summary["watermarks"], tables) if summary.get("watermarks") else None,
        samples=[_sample(s) for s in samples],
    )


def percent(value: float) -> str:
    """A share in per cent, with two digits that mean something: ``0.0312`` is "3.1 %"."""
    value = 100 * value
    digits = 0 if value in (0, 100) else 2 if value < 1 or 99 < value < 100 else 1
    if 0 < value < 0.01:
        return "under 0.01\u202f%"
    text = f"{value:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text}\u202f%"


def count(value: float) -> str:
    """A number with thin spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\u202f")


def plain(text: str) -> str:
    """``text`` without characters that act instead of showing: control, direction, and lone surrogates."""
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c not in "\n\t" else c for c in text)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pipelines.statistics", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        finalize=lambda value: plain(value) if type(value) is str else value,
    )
    environment.filters |= {"percent": percent, "count": count}
    return environment


def _documents(prevalence: pa.Table) -> pa.Table:
    wanted = pc.and_(pc.equal(prevalence["unit"], "documents"), pc.equal(prevalence["population"], "crawled"))
    return prevalence.filter(wanted)


def _with_margin(table: pa.Table, margin: str) -> list[Row]:
    rows: list[Row] = table.filter(pc.equal(table["margin"], pa.scalar(margin))).to_pylist()
    return rows


def _months(names: Iterable[str]) -> list[str]:
    """All months from the first to the last, so that the axis is in time."""
    known = sorted({n for n in names if n != UNKNOWN})
    if not known:
        return []
    first, last = (int(n[:4]) * 12 + int(n[5:]) - 1 for n in (known[0], known[-1]))
    if last - first >= _MOST_MONTHS:
        return known
    return [f"{m // 12:04d}-{m % 12 + 1:02d}" for m in range(first, last + 1)]


def _cutoff(months: list[Row], axis: list[str], cutoff: date | None) -> tuple[float | None, str]:
    if cutoff is not None:
        month = f"{cutoff:%Y-%m}"
        at = axis.index(month) + (cutoff.day - 1) / 31 if month in axis else None
        return at, f"captured on or after {cutoff:%Y-%m-%d}"
    after = [r["month"] for r in months if r["after_cutoff"] and r["month"] != UNKNOWN]
    return (float(axis.index(after[0])) if after else None), "captured after the cut-off"


def _places(summary: Mapping[str, Any], accounting: pa.Table) -> list[tuple[str, str, str]]:
    counts: Counter[str] = Counter()
    for row in accounting.to_pylist():
        counts[row["place"]] += row["records"]
    records = summary.get("records") or {}
    found = {str(place): int(records.get(place, counts[place])) for place in Place}
    total = max(sum(found.values()), 1)
    rows = [(place, count(n), percent(n / total)) for place, n in found.items()]
    return [*rows, ("all", count(sum(found.values())), "")]


def _accounts(accounting: pa.Table) -> list[tuple[str, str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for row in accounting.to_pylist():
        counts[row["place"], row["verdict"] or row["reason"]] += row["records"]
    order = {str(place): i for i, place in enumerate(Place)}
    ordered = sorted(counts.items(), key=lambda item: (order.get(item[0][0], 9), -item[1], item[0][1]))
    return [(place, cause, count(n)) for (place, cause), n in ordered]


def _share(row: Row) -> Share | None:
    return Share(row["estimate"], row["low"], row["high"]) if row["low"] is not None and row["judged"] else None


def _share_row(row: Row, key: str) -> tuple[str, ...]:
    share = _share(row)
    estimate = percent(share.estimate) if share and share.estimate is not None else "–"
    interval = f"{percent(share.low)} to {percent(share.high)}" if share else "–"
    note = "too few" if share and row["too_few"] else ""
    of = row["estimate_likelihood"], row["low_likelihood"], row["high_likelihood"]
    likelihood = "–" if of[0] is None else f"{percent(of[0])} ({percent(of[1])} to {percent(of[2])})"
    counted = count(row["documents"]), count(row["judged"])
    return row[key], *counted, estimate, interval, likelihood, count(row["direct"]), note


def _methods(methods: Mapping[str, Any] | None) -> Row | None:
    """The estimates side by side, where there are two."""
    found = {name: about for name, about in (methods or {}).items() if about}
    if len(found) < 2:
        return None
    rows = [
        (_METHODS[name], percent(about["estimate"]), f"{percent(about['low'])} to {percent(about['high'])}")
        for name, about in found.items()
    ]
    basis = found[LIKELIHOOD]
    if basis["human"] == CRAWL:
        human = f"{count(basis['human_documents'])} documents of this crawl from before the cut-off"
    else:
        human = f"{count(basis['human_documents'])} documents of {basis['human_sets']} sets"
    return {"rows": rows, "human": human, "machine_sets": basis["machine_sets"]}


def _month_shares(months: list[Row], axis: list[str], mark: float | None) -> Row:
    """Months from the cut-off on, with a few before it, so that it shows."""
    start = max(0, int(mark) - 6) if mark is not None else 0
    shares = {r["month"]: _share(r) for r in months if not r["too_few"]}
    drawn = axis[start:]
    plot: Markup | None = None
    if any(shares.get(m) for m in drawn):
        at = None if mark is None else mark - start
        plot = share_line(drawn, [shares.get(m) for m in drawn], at, "Synthetic share by month", "cut-off")
    return {"plot": plot, "rows": [_share_row(r, "month") for r in months if _share(r)]}


def _verdicts(accounting: pa.Table, mark: float | None, axis: list[str]) -> Row:
    counts: Counter[tuple[str, str]] = Counter()
    for row in accounting.to_pylist():
        if row["month"] is not None:
            counts[row["month"], row["verdict"]] += row["records"]
    months = sorted({month for month, _ in counts})
    rows = [(month, *(count(counts[month, v]) for v in VERDICTS)) for month in months]
    series = {v: [counts[month, v] for month in axis] for v in VERDICTS}
    plot = stacked_bars(axis, series, mark, "Verdicts by month", "cut-off") if axis else None
    return {"verdict_plot": plot, "verdict_rows": rows}


def _hosts(hosts: list[Row]) -> Row:
    enough = [r for r in hosts if r["estimate"] is not None and not r["too_few"]]
    top = sorted(enough, key=lambda r: (-r["low"], -r["estimate"], r["host"]))[:_MOST_HOSTS]
    drawn = [(plain(r["host"]), Share(r["estimate"], r["low"], r["high"])) for r in top]
    plot = share_rows(drawn, "Synthetic share of the hosts with the highest lower limit") if drawn else None
    return {"plot": plot, "rows": [_share_row(r, "host") for r in top], "among": len(enough)}


def _by_size(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda r: (-r["documents"], r["language"]))


def _signals(signals: pa.Table) -> list[tuple[str, str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for row in signals.to_pylist():
        counts[row["source"], row["kind"]] += row["documents"]
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(source, kind, count(n)) for (source, kind), n in ordered]


def _diversity(table: pa.Table, axis: list[str], mark: float | None) -> Row:
    rows = _with_margin(table, "month")
    shares = {
        r["month"]: Share(r["distinct_ratio"], r["distinct_ratio_low"], r["distinct_ratio_high"])
        for r in rows
        if r["distinct_ratio"] is not None and r["distinct_ratio_high"] is not None
    }
    drawn = [shares.get(month) for month in axis]
    plot = share_line(axis, drawn, mark, "Distinct shingles by month", "cut-off") if any(drawn) else None
    cells = [
        (
            r["month"],
            count(r["documents"]),
            "–" if r["distinct_shingles"] is None else count(r["distinct_shingles"]),
            "–" if r["distinct_ratio"] is None else percent(r["distinct_ratio"]),
            percent(r["near_duplicate_rate"]),
        )
        for r in rows
    ]
    return {"plot": plot, "rows": cells}


def _repeats(counts: Mapping[str, Any], repeats: pa.Table) -> Row:
    shown = [
        (
            _cut(row["text"] or "–", _REPEAT_EXCERPT),
            count(row["hosts"]),
            count(row["documents"]),
            count(row["bytes"]),
        )
        for row in repeats.slice(0, _MOST_REPEATS).to_pylist()
    ]
    return {**counts, "share": counts["bytes"] / max(counts["text_bytes"], 1), "rows": shown}


def _false_positives(detector: Mapping[str, Any], tables: Mapping[str, pa.Table]) -> Row | None:
    found = detector.get("false_positives_by_date")
    if not found:
        return None
    table = tables["false_positives"]
    rows = [_rate_row(row) for row in worst_first(table)[:_MOST_SLICES]]
    hosts = [_rate_row(row) for row in worst_first(table, hosts=True)[:_MOST_SLICES]]
    reason = found["recalibration"]["reason"]
    return {**found, "sentence": sentence(found, percent), "reason": reason, "rows": rows, "host_rows": hosts}


def _rate_row(row: Row) -> tuple[str, ...]:
    return (
        slice_words(row),
        count(row["scored"]),
        count(row["hosts"]),
        count(row["flagged"]),
        percent(row["rate"]),
        f"{percent(row['low'])} to {percent(row['high'])}",
        percent(row["quantification_rate"]),
        f"{row['threshold_at_target']:.4f}",
    )


def _watermarks(about: Mapping[str, Any], tables: Mapping[str, pa.Table]) -> Row:
    keys = tables["watermarks"].to_pylist()
    rows = [
        (
            row["key"],
            f"{row['scheme']} {row['variant']}",
            count(row["tested"]),
            *(percent(row[name] / row["tested"]) if row["tested"] else "–" for name in row if name.startswith("p_")),
            count(row["found"]),
            count(row["sites"]),
        )
        for row in keys
    ]
    nominal = [f"p ≤ {name.removeprefix('p_')}" for name in (keys[0] if keys else {}) if name.startswith("p_")]
    sites = [
        (
            row["host"] + (f"/{row['section']}" if row["section"] is not None else ""),
            row["key"],
            count(row["documents"]),
            count(row["tokens"]),
            f"{row['log10_p']:.1f}",
            f"{row['log10_e']:.1f}",
        )
        for row in tables["watermark_sites"].sort_by([("log10_e", "descending")]).slice(0, _MOST_SITES).to_pylist()
    ]
    head = ["Key", "Scheme", "Documents tested", *nominal, "Found", "Sites"]
    return {**about, "head": head, "rows": rows, "sites": sites}


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + " …"


def _sample(sample: Mapping[str, Any]) -> Row:
    text, when = str(sample.get("text") or ""), sample.get("captured_at")
    findings = [f"{e['source']}: {e['kind']}" for e in sample.get("evidence") or []]
    return {
        "url": sample.get("url"),
        "captured_at": f"{when:%Y-%m-%d}" if isinstance(when, datetime) else when,
        "verdict": sample.get("verdict") or "",
        "probability": sample.get("machine_probability"),
        "text": _cut(text, _EXCERPT),
        "evidence": ", ".join(findings),
        "doc_id": sample.get("doc_id"),
    }


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as (dotted key, value), in the order given."""
    if not isinstance(value, Mapping):
        return [] if value is None else [(prefix, str(value))]
    return [pair for key, inner in value.items() for pair in _flat(inner, f"{prefix}.{key}" if prefix else str(key))]
