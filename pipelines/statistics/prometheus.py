"""A finished run's figures as Prometheus text, for a node exporter's folder of text files or a push gateway.

A working example::

    write_bytes("out/metrics.prom", prometheus_text(summary, tables).encode())

All metrics are gauges: they say how one run ended. Shares are ratios from 0 to 1; ``bound`` is estimate, low or high.
No metric has a time stamp and their order is fixed: the same input gives the same bytes.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/, text format version 0.0.4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.statistics.adjusted import METHOD as ADJUSTED
from pipelines.statistics.likelihood import METHOD as LIKELIHOOD

NAME: Final = "metrics.prom"
PREFIX: Final = "human_reserve"
BOUNDS: Final = ("estimate", "low", "high")
_SUFFIXES: Final = {ADJUSTED: "", LIKELIHOOD: "_likelihood"}
_SLICES: Final = ("month", "language", "host_class")  # each alone; hosts would be too many for a time series

Sample = tuple[Mapping[str, str], float | int | None]


class Metric(NamedTuple):
    """One gauge: its name without the prefix, what it says, and its samples; those of None are left out."""

    name: str
    help: str
    samples: Sequence[Sample]


def prometheus_text(summary: Mapping[str, Any], tables: Mapping[str, pa.Table]) -> str:
    """The exposition of a run.

    Args:
        summary: as ``summary.json`` holds it.
        tables: of ``statistics/``, by name; ``prevalence`` at least.
    """
    return "".join(_written(metric) for metric in _metrics(summary, tables))


def _metrics(summary: Mapping[str, Any], tables: Mapping[str, pa.Table]) -> Iterator[Metric]:
    share, inputs = summary["synthetic_share"], summary["job"]["inputs"]
    yield Metric("run_info", "The run: 1, with its names as labels.", [(_about(summary), 1)])
    yield Metric("input_shards", "Shards that were read.", [({}, len(inputs))])
    yield Metric("input_bytes", "Size of these shards.", [({}, sum(shard["bytes"] for shard in inputs))])
    records = [({"place": place}, count) for place, count in summary["records"].items()]
    yield Metric("records", "Records by where they ended; place in is the sum of the others.", records)
    verdicts = [({"verdict": verdict}, count) for verdict, count in sorted(summary["verdicts"].items())]
    yield Metric("documents", "Documents by verdict, copies included.", verdicts)
    counts = ("after_cutoff", "scored", "judged", "direct", "older_copy", "flagged")
    yield Metric(
        "synthetic_share_documents",
        "Documents behind the synthetic share, by what is counted.",
        [({"count": name}, share.get(name)) for name in counts],
    )
    yield Metric(
        "synthetic_share_ratio",
        "Share of machine text in the documents that could be judged, with its interval.",
        [
            ({"method": method, "bound": bound}, (found or {}).get(bound))
            for method, found in sorted(share["methods"].items())
            for bound in BOUNDS
        ],
    )
    yield Metric(
        "synthetic_share_lower_bound_ratio",
        "One-sided lower limit of the share by declared and watermarked documents alone.",
        [({}, share.get("lower_bound_direct"))],
    )
    yield from _slices(tables["prevalence"])
    yield from _false_positives(summary)
    yield from _others(tables)


def _about(summary: Mapping[str, Any]) -> dict[str, str]:
    detector, seal = summary.get("detector") or {}, summary.get("seal") or {}
    return {
        "version": summary["versions"]["human-reserve"],
        "job": summary["job"]["digest"],
        "root": seal.get("root", ""),
        "detector": detector.get("name", ""),
        "detector_digest": detector.get("digest", ""),
    }


def _slices(prevalence: pa.Table) -> Iterator[Metric]:
    """The share of documents as they were crawled, by month, by language and by class of host."""
    for name in _SLICES:
        if name not in prevalence.schema.names:
            continue
        wanted = {"margin": name, "unit": "documents", "population": "crawled"}
        table = prevalence
        for column, value in wanted.items():
            table = table.filter(pc.equal(table[column], value))
        rows = table.to_pylist()
        samples: list[Sample] = [
            (
                {name: row[name], "detector": row.get("detector") or "", "method": method, "bound": bound},
                row.get(f"{bound}{suffix}"),
            )
            for row in rows
            for method, suffix in _SUFFIXES.items()
            # Of a slice without an estimate the limits would be 0 and 1, or of another method.
            if row.get(f"estimate{suffix}") is not None
            for bound in BOUNDS
        ]
        help_ = f"Share of machine text in the judged documents by {name.replace('_', ' ')}."
        yield Metric(f"{name}_synthetic_share_ratio", help_, samples)


def _false_positives(summary: Mapping[str, Any]) -> Iterator[Metric]:
    found = (summary.get("detector") or {}).get("false_positives_by_date")
    if found:
        names = zip(BOUNDS, ("rate", "low", "high"), strict=True)
        yield Metric(
            "false_positive_rate_ratio",
            "Share of documents that are human by date which the detector flags at the threshold of verdicts.",
            [({"bound": bound}, found.get(name)) for bound, name in names],
        )


def _others(tables: Mapping[str, pa.Table]) -> Iterator[Metric]:
    if "accounting" in tables:
        gone = tables["accounting"].filter(pc.is_valid(tables["accounting"]["reason"]))
        sums = gone.group_by("reason", use_threads=False).aggregate([("records", "sum")]).sort_by("reason")
        samples: list[Sample] = [({"reason": row["reason"]}, row["records_sum"]) for row in sums.to_pylist()]
        yield Metric("reject_records", "Records that gave no document, by reason.", samples)
    if "diversity" in tables:
        whole = tables["diversity"].filter(pc.equal(tables["diversity"]["margin"], "all")).to_pylist()
        names = {"estimate": "near_duplicate_rate", "low": "near_duplicate_low", "high": "near_duplicate_high"}
        yield Metric(
            "near_duplicate_ratio",
            "Share of documents that were removed as copies of another.",
            [({"bound": bound}, row[name]) for row in whole for bound, name in names.items()],
        )
    if "panel" in tables:
        panel = tables["panel"].append_column("raised", pc.fill_null(tables["panel"]["alarm"], False).cast(pa.int64()))
        sums = panel.group_by("measure", use_threads=False).aggregate([("raised", "sum")]).sort_by("measure")
        yield Metric(
            "panel_alarms",
            "Slices in which a measure of variety is worse than before the cut-off by more than chance.",
            [({"measure": row["measure"]}, row["raised_sum"]) for row in sums.to_pylist()],
        )


def _written(metric: Metric) -> str:
    samples = [(labels, value) for labels, value in metric.samples if value is not None and math.isfinite(value)]
    if not samples:
        return ""
    name = f"{PREFIX}_{metric.name}"
    lines = [f"# HELP {name} {metric.help}", f"# TYPE {name} gauge"]
    for labels, value in samples:
        pairs = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        lines.append(f"{name}{{{pairs}}} {value!r}" if pairs else f"{name} {value!r}")
    return "".join(f"{line}\n" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
