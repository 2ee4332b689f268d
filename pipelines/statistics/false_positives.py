"""How often the detector flags documents that are human by date: by language, length and year, and by host.

The crawl's own pages from before the cut-off, and later copies of them, are a human set that is free and of the same
web as what is judged::

    table = false_positives(counts, edges, Measured("embedded", 0.93, 0.6))
    about = summary_of(table, Measured("embedded", 0.93, 0.6))

The date is the crawl's own word: where it is wrong, or a text was changed since, machine text counts here as human, and
the rates come out too high.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.statistics.dated import Edges
from pipelines.statistics.slices import DatedSlice, dated_slices, grouped_share, host_slices

FALSE_POSITIVES = pa.schema(
    [
        pa.field("detector", pa.string(), nullable=False),
        pa.field("margin", pa.string(), nullable=False),  # the columns that are fixed, joined by "×"; "all" for none
        pa.field("language", pa.string()),  # null: all
        pa.field("length", pa.string()),
        pa.field("year", pa.string()),
        pa.field("host", pa.string()),
        pa.field("documents", pa.int64(), nullable=False),  # human by date, one for each cluster of copies
        pa.field("scored", pa.int64(), nullable=False),  # of these, the detector spoke
        pa.field("hosts", pa.int64(), nullable=False),  # with scored documents
        pa.field("threshold", pa.float64(), nullable=False),  # that verdicts were decided by
        pa.field("flagged", pa.int64(), nullable=False),  # at or over it
        pa.field("rate", pa.float64()),  # flagged / scored
        pa.field("low", pa.float64(), nullable=False),
        pa.field("high", pa.float64(), nullable=False),
        pa.field("quantification_threshold", pa.float64(), nullable=False),  # that shares are estimated by
        pa.field("quantification_flagged", pa.int64(), nullable=False),
        pa.field("quantification_rate", pa.float64()),
        pa.field("quantification_low", pa.float64(), nullable=False),
        pa.field("quantification_high", pa.float64(), nullable=False),
        pa.field("threshold_at_target", pa.float64()),  # the least edge of a bin that no more than `target` reach
        pa.field("target", pa.float64(), nullable=False),
        pa.field("level", pa.float64(), nullable=False),
        pa.field("too_few", pa.bool_(), nullable=False),  # fewer scored documents than decide about a threshold
    ]
)


@dataclass(frozen=True)
class Measured:
    """What the rates are of: a detector at two thresholds, with the target and what is enough of a slice."""

    detector: str
    threshold: float
    quantification: float
    target: float = 0.01
    min_documents: int = 300
    level: float = 0.95


def false_positives(counts: pa.Table, edges: Edges, about: Measured) -> pa.Table:
    """The rates by slice, of schema :data:`FALSE_POSITIVES`.

    First the margins of language × length × year, then hosts with enough documents. Intervals are clustered by host;
    that of a single host takes its documents as independent.

    Args:
        counts: merged, of ``dated.DATED``.
        edges: with which they were counted; both thresholds are among them.
        about: detector, thresholds and options.
    """
    at, quantified = (_place(edges, t) for t in (about.threshold, about.quantification))
    slices = itertools.chain(dated_slices(counts, edges), host_slices(counts, edges, about.min_documents))
    rows = [_row(part, edges, about, at, quantified) for part in slices]
    return pa.Table.from_pylist(rows, schema=FALSE_POSITIVES)


def summary_of(table: pa.Table, about: Measured) -> dict[str, Any]:
    """The rate over all, the slices with enough documents that exceed the target, and the worst of them.

    Args:
        table: of :func:`false_positives`.
        about: as it was made with.
    """
    whole = next(row for row in table.to_pylist() if row["margin"] == "all")
    names = ("documents", "scored", "hosts", "threshold", "flagged", "rate", "low", "high", "threshold_at_target")
    slices = worst_first(table)
    hosts = worst_first(table, hosts=True)
    return {
        **{name: whole[name] for name in names},
        "quantification": {
            "threshold": whole["quantification_threshold"],
            **{name: whole[f"quantification_{name}"] for name in ("flagged", "rate", "low", "high")},
        },
        "level": about.level,
        "target": about.target,
        "min_documents": about.min_documents,
        "slices": len(slices),
        "slices_over_target": sum(_exceeds(row) for row in slices),
        "worst": _brief(slices[0]) if slices else None,
        "hosts_measured": len(hosts),
        "hosts_over_target": sum(_exceeds(row) for row in hosts),
        "worst_host": _brief(hosts[0]) if hosts else None,
    }


def worst_first(table: pa.Table, hosts: bool = False) -> list[dict[str, Any]]:
    """The slices, or the hosts, with enough documents, by falling rate."""
    rows = [row for row in table.to_pylist() if not row["too_few"] and (row["margin"] == "host") == hosts]
    order = ("language", "length", "year", "host")
    return sorted(rows, key=lambda row: (-row["rate"], -row["low"], *(row[name] or "" for name in order)))


def slice_words(row: Mapping[str, Any]) -> str:
    """A slice for people: "en, short, 2019"."""
    return ", ".join(row[name] for name in ("host", "language", "length", "year") if row[name] is not None) or "all"


def sentence(found: Mapping[str, Any] | None, share: Any) -> str:
    """What the summary says, in plain words; empty where no detector was measured.

    Args:
        found: ``false_positives_by_date`` of ``summary.json``.
        share: how to write a share, for instance ``report.percent``.
    """
    if not found:
        return ""
    if not found["scored"]:
        return (
            "False positives by date: not measured, since the detector spoke on no document from before the cut-off "
            "(or a copy of one)."
        )
    level = f"{100 * found['level']:g} % interval {share(found['low'])} to {share(found['high'])}, clustered by host"
    first = (
        f"False positives by date: of {found['scored']:,} documents from before the cut-off (copies once) the detector "
        f"flags {found['flagged']:,}, {share(found['rate'])} ({level}), at the decision threshold "
        f"{found['threshold']:.4f}"
    )
    recalibrated = found.get("recalibration") or {"mode": "off"}
    first += "." if recalibrated["mode"] == "off" else _fitted(recalibrated["held_out"], share)
    worst = found["worst"]
    if worst is None:
        return f"{first} No slice has {found['min_documents']:,} of them."
    if not worst["flagged"]:
        return (
            f"{first} No document of the {found['slices']:,} slices of at least {found['min_documents']:,} is flagged."
        )
    over = f"{found['slices_over_target']:,} of {found['slices']:,} slices" if found["slices_over_target"] else "None"
    return (
        f"{first} The worst slice of at least {found['min_documents']:,} is {slice_words(worst)}: "
        f"{share(worst['rate'])} ({share(worst['low'])} to {share(worst['high'])}) of {worst['scored']:,}. "
        f"{over} {'exceeds' if over == 'None' else 'exceed'} {share(found['target'])}."
    )


def _fitted(other: Mapping[str, Any], share: Any) -> str:
    """What else to know where the threshold was chosen on the documents that it is measured on."""
    return (
        "; these very documents had a say in the threshold. Where each half of the hosts is measured at a threshold "
        f"that the other half chose, {share(other['rate'])} ({share(other['low'])} to {share(other['high'])}) are "
        "flagged."
    )


def _row(part: DatedSlice, edges: Edges, about: Measured, at: int, quantified: int) -> dict[str, Any]:
    keys: dict[str, str | None] = dict.fromkeys(("language", "length", "year", "host")) | part.keys
    row: dict[str, Any] = {"detector": about.detector, "margin": "×".join(part.keys) or "all", **keys}
    row |= {"documents": part.documents, "scored": part.scored, "hosts": len(np.unique(part.host))}
    for prefix, edge, threshold in (("", at, about.threshold), ("quantification_", quantified, about.quantification)):
        share = grouped_share(*part.by_host(edge), about.level)
        row |= {f"{prefix}threshold": threshold, f"{prefix}flagged": part.flagged(edge)}
        row |= {f"{prefix}rate": share.estimate if part.scored else None}
        row |= {f"{prefix}low": share.low, f"{prefix}high": share.high}
    reached = float(edges[part.edge_at(about.target)]) if part.scored else None
    row |= {"threshold_at_target": reached, "target": about.target, "level": about.level}
    return row | {"too_few": part.scored < about.min_documents}


def _place(edges: Edges, threshold: float) -> int:
    """The edge that is the threshold. Raises ValueError where there is none."""
    at = int(np.searchsorted(edges, np.float32(threshold)))
    if at == len(edges) or edges[at] != np.float32(threshold):
        raise ValueError(f"threshold {threshold}: not among the edges that the probabilities were counted with")
    return at


def _exceeds(row: Mapping[str, Any]) -> bool:
    return bool(row["flagged"] > row["target"] * row["scored"] + 1e-9)


def _brief(row: Mapping[str, Any]) -> dict[str, Any]:
    names = ("language", "length", "year", "host", "scored", "hosts", "flagged", "rate", "low", "high")
    return {name: row[name] for name in (*names, "threshold_at_target")}
