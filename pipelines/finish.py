"""The end of a run: the counts of all parts become statistics, report, data card and, last of all, `summary.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from detectors.base import ASSISTANTS, HELD_OUT, LEFT_OUT, Detector
from detectors.histograms import SetHistograms
from pipelines import files
from pipelines.against import Archive, archived_parts, write_superseded
from pipelines.descriptions import write_descriptions
from pipelines.errors import JobError, UsageError
from pipelines.ingest.shards import Shard
from pipelines.job import Job
from pipelines.layout import Layout
from pipelines.marks.apply import Findings
from pipelines.marks.summary import merge_marks, sites_table
from pipelines.provenance.policy import Policy
from pipelines.records import Place
from pipelines.repeats.count import PARAGRAPHS_KEY
from pipelines.repeats.tally import merge_samples as merge_paragraphs
from pipelines.repeats.tally import merge_shares, repeats_table
from pipelines.reserve.card import data_card
from pipelines.reserve.seal import Sealing
from pipelines.reserve.writer import merge_samples
from pipelines.sealing import Sealer
from pipelines.settle import MARK_TALLY, REPEAT_TALLIES
from pipelines.statistics.false_positives import Measured, false_positives, summary_of
from pipelines.statistics.options import PrevalenceOptions
from pipelines.statistics.prevalence import summary_share
from pipelines.statistics.rates import DetectorRates, RateSlice
from pipelines.statistics.recalibrate import Dated, held_out
from pipelines.statistics.report import render
from pipelines.statistics.tables import Tallies, statistics_tables
from pipelines.statistics.tally import merge
from pipelines.versions import versions

_SAMPLES = "samples"
_REPEATS, _REPEATED = "repeats", "repeated"
_MARKS, _MARKED_SITES = "watermarks", "watermark_sites"
_FALSE_POSITIVES = "false_positives"


class Ending(NamedTuple):
    """What a run knows when all parts are written."""

    job: Job
    layout: Layout
    shards: Sequence[Shard]
    archives: Sequence[Archive]
    policy: Policy
    detector: Detector | None
    cascade: Mapping[str, Any] | None  # what it saved, where the detector is a cascade and read a document
    findings: Findings | None
    dated: Dated | None
    sealing: Sealing | None
    digest: str


def finish(ending: Ending, markers: Sequence[dict[str, Any]], records_in: int) -> dict[str, Any]:
    """Writes everything that needs all parts; gives the summary.

    Args:
        ending: the run.
        markers: of the parts that settle wrote, in their order.
        records_in: the records that were read, counted by `inspect`.

    Raises JobError if the books do not balance.
    """
    records = {place.value: sum(marker["records"][place.value] for marker in markers) for place in Place}
    if sum(records.values()) != records_in:
        raise JobError(
            f"{records_in} records were read and {sum(records.values())} written: the work folder of "
            f"{ending.layout.output} is not whole; delete it and run again"
        )
    numbers = range(len(markers))
    merged = {kind: merge(_read(ending.layout, kind, numbers)) for kind in Tallies.__dataclass_fields__}
    tables = statistics_tables(
        Tallies(**merged), detector_rates(ending.detector), PrevalenceOptions(level=ending.job.statistics.level)
    )
    superseded = 0
    files.delete([m.path for m in files.listing(ending.layout.superseded)])
    if ending.archives:
        superseded = write_superseded(ending.layout.superseded, archived_parts(ending.archives, ending.layout))
    samples = merge_samples(_read(ending.layout, _SAMPLES, numbers))
    counts = _repeats(ending, numbers, tables)
    marks = _marks(ending, numbers, tables)
    dated = _dated(ending, tables)
    for name, table in {**tables, _SAMPLES: samples}.items():
        files.write_parquet(ending.layout.statistics(name), table)
    summary = _summary(ending, {"in": records_in, **records}, tables, merged["documents"])
    summary["detector"] = summary["detector"] and summary["detector"] | dated
    summary["superseded"] = superseded
    summary["repeats"] = counts
    summary["watermarks"] = marks
    files.delete([ending.layout.seal])
    sealer = Sealer(ending.layout, ending.sealing, markers) if ending.sealing else None
    summary["seal"] = sealer.documents() if sealer else None
    files.write_bytes(ending.layout.report, _report(summary, tables, samples).encode())
    files.write_bytes(ending.layout.card, data_card(summary).encode())
    content = files.json_bytes(summary)
    write_descriptions(ending.layout, summary, content, markers)
    if sealer:
        sealer.close(content, records)
    files.write_bytes(ending.layout.summary, content)
    return summary


def rewrite_report(output: str, path: str | None = None) -> str:
    """Writes the report of a finished run again, from its statistics; gives its path, by default `report.html`."""
    layout = Layout(output)
    summary = files.read_json(layout.summary)
    if summary is None:
        raise UsageError(f"{output}: no finished run here (no summary.json)")
    names: tuple[str, ...] = ("prevalence", "diversity", "signals", "accounting", _SAMPLES)
    names += (_REPEATS,) if summary.get("repeats") else ()
    names += (_MARKS, _MARKED_SITES) if summary.get("watermarks") else ()
    names += (_FALSE_POSITIVES,) if (summary.get("detector") or {}).get("false_positives_by_date") else ()
    tables = {name: files.read_parquet(layout.statistics(name)) for name in names}
    samples = tables.pop(_SAMPLES)
    files.write_bytes(path or layout.report, _report(summary, tables, samples).encode())
    return path or layout.report


def detector_rates(detector: Detector | None) -> DetectorRates:
    """What the detector's own measurements say of its errors, in the words of the statistics."""
    if detector is None:
        return DetectorRates("none", float("inf"))
    point = detector.error_rates().quantification
    # Sets that a model never saw say what to expect of a crawl. Without them: each language's held-out texts.
    held_out = tuple(s for s in point.of_kind(HELD_OUT) if not s.set)
    known = point.of_kind(ASSISTANTS) or point.of_kind(LEFT_OUT) or held_out
    slices = tuple(
        RateSlice(
            s.name, s.human, s.human_flagged, s.machine, s.machine_flagged, s.language or None, s.kind != HELD_OUT
        )
        for s in known
    )
    # Only some detectors have counts of their scores.
    counted: tuple[SetHistograms, ...] = getattr(detector, "histograms", tuple)()
    histograms = [h for h in counted if h.kind == ASSISTANTS] or [h for h in counted if h.kind == LEFT_OUT]
    return DetectorRates(detector.name, point.threshold, slices, tuple(histograms))


def _repeats(ending: Ending, numbers: range, tables: dict[str, pa.Table]) -> dict[str, Any] | None:
    """Adds the tables of repeated paragraphs, and gives their totals; None where the job does not look for them."""
    layout, options = ending.layout, ending.job.repeats
    if options.mode == "off":
        stale = [layout.statistics(name) for name in (_REPEATS, _REPEATED)]
        files.delete([m.path for path in stale for m in files.listing(path)])
        return None
    largest = files.read_parquet(layout.repeats_largest)
    shares, texts = (_read(layout, kind, numbers) for kind in REPEAT_TALLIES)
    tables[_REPEATS], tables[_REPEATED] = repeats_table(largest, merge_paragraphs(texts)), merge_shares(shares)
    columns = tables[_REPEATED].drop_columns(["place", "language"])
    sums = {name: pc.sum(columns[name]).as_py() or 0 for name in columns.column_names}
    sums["documents_cut"] = sums["documents_repeating"] - sums["documents_whole"] if options.mode == "trim" else 0
    recurring = int(largest.schema.metadata[PARAGRAPHS_KEY.encode()])
    return {**options.model_dump(mode="json"), "recurring": recurring, **sums}


def _marks(ending: Ending, numbers: range, tables: dict[str, pa.Table]) -> dict[str, Any] | None:
    """Adds the tables of watermark tests, and gives their totals; None where the job looks for no keys."""
    findings = ending.findings
    if findings is None:
        stale = [ending.layout.statistics(name) for name in (_MARKS, _MARKED_SITES)]
        files.delete([m.path for path in stale for m in files.listing(path)])
        return None
    tables[_MARKS] = merge_marks(_read(ending.layout, MARK_TALLY, numbers), findings)
    tables[_MARKED_SITES] = sites_table(findings)
    return {
        "level": findings.level,
        "keys": [dict(key) for key in findings.keys],
        "documents_tested": findings.documents,
        "documents_found": pc.sum(tables[_MARKS]["found"]).as_py() or 0,
        "sites_tested": findings.sites_tested,
        "sites_found": len(tables[_MARKED_SITES].group_by(["host", "section"]).aggregate([])),
    }


def _dated(ending: Ending, tables: dict[str, pa.Table]) -> dict[str, Any]:
    """Adds the table of false positives by date; gives the threshold that decided, and the rates at it."""
    detector, dated, options = ending.detector, ending.dated, ending.job.recalibrate
    if detector is None or dated is None:
        files.delete([m.path for m in files.listing(ending.layout.statistics(_FALSE_POSITIVES))])
        return {}
    own, threshold, level = detector.error_rates(), dated.choice.threshold, ending.job.statistics.level
    limits = (options.target, options.min_documents, level)
    about = Measured(detector.name, threshold, own.quantification.threshold, *limits)
    tables[_FALSE_POSITIVES] = false_positives(dated.counts, dated.edges, about)
    recalibration = {
        "mode": options.mode,
        "detector_threshold": own.decision.threshold,
        "threshold": threshold,
        "reason": dated.choice.reason,
        "held_out": held_out(dated.counts, dated.edges, own.decision.threshold, options, level),
    }
    rates = summary_of(tables[_FALSE_POSITIVES], about) | {"recalibration": recalibration}
    return {"threshold": threshold, "false_positives_by_date": rates}


def _summary(
    ending: Ending, records: dict[str, int], tables: dict[str, pa.Table], documents: pa.Table
) -> dict[str, Any]:
    verdicts = documents.group_by("verdict", use_threads=False).aggregate([("documents", "sum")]).sort_by("verdict")
    return {
        "records": records,
        "synthetic_share": summary_share(tables["prevalence"]),
        "verdicts": dict(zip(verdicts["verdict"].to_pylist(), verdicts["documents_sum"].to_pylist(), strict=True)),
        "seal": None,
        "detector": _about(ending.detector, ending.cascade),
        "job": {
            "digest": ending.digest,
            "inputs": [{"name": shard.name, "bytes": shard.size} for shard in ending.shards],
            "against": [{"output": archive.output, "digest": archive.digest} for archive in ending.archives],
            "settings": ending.job.settings(),
            "policy": ending.policy.model_dump(mode="json", exclude_none=True),
        },
        "versions": versions(),
    }


def _about(detector: Detector | None, cascade: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if detector is None:
        return None
    about: dict[str, Any] = {"name": detector.name, "digest": detector.digest}
    if cascade is not None:
        # No seconds: the same input gives the same bytes.
        about["cascade"] = {name: count for name, count in cascade.items() if isinstance(count, int)}
    return about


def _report(summary: dict[str, Any], tables: dict[str, pa.Table], samples: pa.Table) -> str:
    cutoff = date.fromisoformat(summary["job"]["settings"]["cutoff"])
    return render(summary, tables, samples.to_pylist(), "Human reserve", cutoff)


def _read(layout: Layout, kind: str, numbers: range) -> list[pa.Table]:
    return [files.read_parquet(layout.tally(kind, number)) for number in numbers]
