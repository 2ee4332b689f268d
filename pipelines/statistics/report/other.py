"""The page's other parts: diversity, repeated paragraphs, false positives by date, watermarks, sample documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa

from pipelines.statistics.false_positives import sentence, slice_words, worst_first
from pipelines.statistics.report.accounts import VERDICTS
from pipelines.statistics.report.axis import Row, most_documents, with_margin
from pipelines.statistics.report.svg import Share, for_all_widths, share_line
from pipelines.statistics.report.words import between, count, cut, percent

EXCERPT = 400
MOST_SAMPLES = 5  # of each verdict
MOST_FINDINGS = 12
_MOST_REPEATS = 20
_MOST_SITES = 50
_MOST_KEYS = 50
_MOST_SLICES = 20
_REPEAT_EXCERPT = 160
VERDICT_WORDS = {
    "dated": "Captured before the cut-off, or a verified near-duplicate of a page that was.",
    "clear": "Captured later, and no known signal of machine text was found. That does not say that a person wrote it.",
    "undetermined": "Too short, in a language without a detector, or the checks disagree.",
    "suspected": "A calibrated detector says that it is machine text.",
    "marked": "A watermark test says so, after correction for the number of tests.",
    "declared": "The page says so itself.",
}


def diversity(table: pa.Table, axis: list[str], mark: float | None) -> Row:
    """Distinct shingles by month: the plot and the table."""
    rows = most_documents(with_margin(table, "month").to_pylist())
    shares = {
        r["month"]: Share(r["distinct_ratio"], r["distinct_ratio_low"], r["distinct_ratio_high"])
        for r in rows
        if r["distinct_ratio"] is not None and r["distinct_ratio_high"] is not None
    }
    drawn = [shares.get(month) for month in axis]
    label = "Distinct shingles by month"
    plot = for_all_widths(lambda frame: share_line(axis, drawn, mark, label, "cut-off", frame)) if any(drawn) else None
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


def repeats(counts: Mapping[str, Any], table: pa.Table) -> Row:
    """The totals of repeated paragraphs, and those with the most bytes."""
    shown = [
        (cut(row["text"] or "–", _REPEAT_EXCERPT), count(row["hosts"]), count(row["documents"]), count(row["bytes"]))
        for row in table.slice(0, _MOST_REPEATS).to_pylist()
    ]
    return {**counts, "share": counts["bytes"] / max(counts["text_bytes"], 1), "rows": shown}


def false_positives(detector: Mapping[str, Any], tables: Mapping[str, pa.Table]) -> Row | None:
    """How often the detector flags what is human by date; None where that was not measured."""
    found = detector.get("false_positives_by_date")
    if not found:
        return None
    table = tables["false_positives"]
    rows = [_rate_row(row) for row in worst_first(table)[:_MOST_SLICES]]
    hosts = [_rate_row(row) for row in worst_first(table, hosts=True)[:_MOST_SLICES]]
    reason = found["recalibration"]["reason"]
    return {**found, "sentence": sentence(found, percent), "reason": reason, "rows": rows, "host_rows": hosts}


def watermarks(about: Mapping[str, Any], tables: Mapping[str, pa.Table]) -> Row:
    """The tests by key, and the sites that carry a mark."""
    keys = tables["watermarks"].slice(0, _MOST_KEYS).to_pylist()
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


def sample_groups(samples: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The samples by verdict, in the order of the plots; no more than :data:`MOST_SAMPLES` of each."""
    groups: dict[str, list[Row]] = {verdict: [] for verdict in VERDICTS}
    for sample in samples:
        found = groups.setdefault(str(sample.get("verdict") or ""), [])
        if len(found) < MOST_SAMPLES:
            found.append(_sample(sample))
    return [
        {"verdict": verdict, "meaning": VERDICT_WORDS.get(verdict, ""), "documents": found}
        for verdict, found in groups.items()
        if found
    ][: 2 * len(VERDICTS)]


def _sample(sample: Mapping[str, Any]) -> Row:
    text, when = str(sample.get("text") or ""), sample.get("captured_at")
    findings = list(sample.get("evidence") or [])
    return {
        "url": cut(str(sample.get("url") or "no URL"), EXCERPT),
        "captured_at": f"{when:%Y-%m-%d}" if isinstance(when, datetime) else when,
        "place": sample.get("place"),
        "language": sample.get("language"),
        "probability": sample.get("machine_probability"),
        "text": cut(text, EXCERPT),
        "evidence": [_finding(e) for e in findings[:MOST_FINDINGS]],
        "more": max(len(findings) - MOST_FINDINGS, 0),
        "doc_id": sample.get("doc_id"),
    }


def _finding(item: Mapping[str, Any]) -> str:
    words = f"{item['source']}: {str(item['kind']).replace('_', ' ')}"
    values: Iterable[str] = (
        f"{title} {value:.3g}"
        for title, value in (("probability", item.get("probability")), ("p-value", item.get("p_value")))
        if value is not None
    )
    words = ", ".join([words, *values])
    return cut(f"{words} ({item['detail']})" if item.get("detail") else words)


def _rate_row(row: Row) -> tuple[str, ...]:
    return (
        slice_words(row),
        count(row["scored"]),
        count(row["hosts"]),
        count(row["flagged"]),
        percent(row["rate"]),
        between(row["low"], row["high"]),
        percent(row["quantification_rate"]),
        f"{row['threshold_at_target']:.4f}",
    )
