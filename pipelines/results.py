"""The counts of all parts, merged, as the tables of ``statistics/`` and what the summary says of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from detectors.base import ASSISTANTS, HELD_OUT, LEFT_OUT, Detector
from detectors.histograms import SetHistograms
from pipelines import files
from pipelines.against import Archive
from pipelines.counting import PANEL, PANEL_TALLY, SKETCHES, Basis, other_tally
from pipelines.ingest.shards import Shard
from pipelines.job import Job
from pipelines.layout import Layout
from pipelines.marks.apply import Findings
from pipelines.marks.summary import merge_marks, sites_table
from pipelines.provenance.policy import Policy
from pipelines.repeats.count import PARAGRAPHS_KEY
from pipelines.repeats.tally import merge_samples as merge_paragraphs
from pipelines.repeats.tally import merge_shares, repeats_table
from pipelines.reserve.seal import Sealing
from pipelines.settle import MARK_TALLY, REPEAT_TALLIES
from pipelines.statistics.false_positives import Measured, false_positives, summary_of
from pipelines.statistics.options import PrevalenceOptions
from pipelines.statistics.panel.copies import copies_by_class
from pipelines.statistics.panel.table import panel_table
from pipelines.statistics.panel.tally import merge_panel, without_texts
from pipelines.statistics.rates import DetectorRates, RateSlice
from pipelines.statistics.recalibrate import Dated, held_out
from pipelines.statistics.tables import Tallies, statistics_tables
from pipelines.statistics.tally import merge

REPEATS, REPEATED = "repeats", "repeated"
MARKS, MARKED_SITES = "watermarks", "watermark_sites"
FALSE_POSITIVES = "false_positives"

_ALARMS = 50  # that the summary lists; the table has all


class Ending(NamedTuple):
    """What a run knows when all parts are written."""

    job: Job
    layout: Layout
    shards: Sequence[Shard]
    archives: Sequence[Archive]
    policy: Policy
    detector: Detector | None
    basis: Basis
    cascade: Mapping[str, Any] | None  # what it saved, where the detector is a cascade and read a document
    findings: Findings | None
    dated: Dated | None
    sealing: Sealing | None
    digest: str


class Results(NamedTuple):
    """The tables of ``statistics/`` by name, the merged tally of documents, and what the summary says beside shares."""

    tables: dict[str, pa.Table]
    documents: pa.Table
    said: dict[str, Any]


def results(ending: Ending, parts: range) -> Results:
    """Merges the tallies of all parts; deletes tables of an earlier job that this one does not make."""
    merged = {kind: merge(read_tallies(ending.layout, kind, parts)) for kind in Tallies.__dataclass_fields__}
    further = [
        (merge(read_tallies(ending.layout, other_tally(number), parts)), detector_rates(detector, name))
        for number, (name, detector) in enumerate(ending.basis.others.items())
    ]
    options = PrevalenceOptions(level=ending.job.statistics.level)
    rates = detector_rates(ending.detector)
    # Shares and panel know nothing of each other, and what takes long in both lets go of Python's lock.
    with ThreadPoolExecutor(1) as other:
        measured = other.submit(_panel, ending, parts, merged["documents"])
        tables = statistics_tables(Tallies(**merged), rates, options, further, ending.basis.classes)
        of_panel, about_panel = measured.result()
    tables |= of_panel
    said = {
        "repeats": _repeats(ending, parts, tables),
        "watermarks": _marks(ending, parts, tables),
        "panel": about_panel,
        "detector": _dated(ending, tables),
    }
    return Results(tables, merged["documents"], said)


def read_tallies(layout: Layout, kind: str, parts: range) -> list[pa.Table]:
    """The tallies of one kind, of all parts."""
    return [files.read_parquet(layout.tally(kind, number)) for number in parts]


def detector_rates(detector: Detector | None, name: str | None = None) -> DetectorRates:
    """What the detector's own measurements say of its errors; ``name`` is that of outputs, where it is another."""
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
    return DetectorRates(name or detector.name, point.threshold, slices, tuple(histograms))


def _panel(ending: Ending, parts: range, documents: pa.Table) -> tuple[dict[str, pa.Table], dict[str, Any] | None]:
    """The collapse panel and its sketches, and its alarms; none, and None, where the job does without."""
    layout, basis = ending.layout, ending.basis
    if not ending.job.statistics.panel:
        _forget(layout, PANEL, SKETCHES)
        return {}, None
    cells = merge_panel(files.read_parquet(layout.tally(PANEL_TALLY, number)) for number in parts)
    copies = copies_by_class(documents, basis.classes)
    table = panel_table(cells, copies, ending.job.statistics.level, basis.past)
    alarms = table.filter(table["alarm"])
    names = ["measure", "language", "month", "host_class", "p_value"]
    about = {
        "slices": cells.num_rows,
        "reference": basis.digest["reference"],
        "alarms": alarms.num_rows,
        "first_alarms": alarms.select(names).slice(0, _ALARMS).to_pylist(),
    }
    return {PANEL: table, SKETCHES: without_texts(cells)}, about


def _forget(layout: Layout, *names: str) -> None:
    files.delete([m.path for name in names for m in files.listing(layout.statistics(name))])


def _repeats(ending: Ending, numbers: range, tables: dict[str, pa.Table]) -> dict[str, Any] | None:
    """Adds the tables of repeated paragraphs, and gives their totals; None where the job does not look for them."""
    layout, options = ending.layout, ending.job.repeats
    if options.mode == "off":
        _forget(layout, REPEATS, REPEATED)
        return None
    largest = files.read_parquet(layout.repeats_largest)
    shares, texts = (read_tallies(layout, kind, numbers) for kind in REPEAT_TALLIES)
    tables[REPEATS], tables[REPEATED] = repeats_table(largest, merge_paragraphs(texts)), merge_shares(shares)
    columns = tables[REPEATED].drop_columns(["place", "language"])
    sums = {name: pc.sum(columns[name]).as_py() or 0 for name in columns.column_names}
    sums["documents_cut"] = sums["documents_repeating"] - sums["documents_whole"] if options.mode == "trim" else 0
    recurring = int(largest.schema.metadata[PARAGRAPHS_KEY.encode()])
    return {**options.model_dump(mode="json"), "recurring": recurring, **sums}


def _marks(ending: Ending, numbers: range, tables: dict[str, pa.Table]) -> dict[str, Any] | None:
    """Adds the tables of watermark tests, and gives their totals; None where the job looks for no keys."""
    findings = ending.findings
    if findings is None:
        _forget(ending.layout, MARKS, MARKED_SITES)
        return None
    tables[MARKS] = merge_marks(read_tallies(ending.layout, MARK_TALLY, numbers), findings)
    tables[MARKED_SITES] = sites_table(findings)
    return {
        "level": findings.level,
        "keys": [dict(key) for key in findings.keys],
        "documents_tested": findings.documents,
        "documents_found": pc.sum(tables[MARKS]["found"]).as_py() or 0,
        "sites_tested": findings.sites_tested,
        "sites_found": len(tables[MARKED_SITES].group_by(["host", "section"]).aggregate([])),
    }


def _dated(ending: Ending, tables: dict[str, pa.Table]) -> dict[str, Any]:
    """Adds the table of false positives by date; gives the threshold that decided, and the rates at it."""
    detector, dated, options = ending.detector, ending.dated, ending.job.recalibrate
    if detector is None or dated is None:
        _forget(ending.layout, FALSE_POSITIVES)
        return {}
    own, threshold, level = detector.error_rates(), dated.choice.threshold, ending.job.statistics.level
    limits = (options.target, options.min_documents, level)
    about = Measured(detector.name, threshold, own.quantification.threshold, *limits)
    tables[FALSE_POSITIVES] = false_positives(dated.counts, dated.edges, about)
    recalibration = {
        "mode": options.mode,
        "detector_threshold": own.decision.threshold,
        "threshold": threshold,
        "reason": dated.choice.reason,
        "held_out": held_out(dated.counts, dated.edges, own.decision.threshold, options, level),
    }
    rates = summary_of(tables[FALSE_POSITIVES], about) | {"recalibration": recalibration}
    return {"threshold": threshold, "false_positives_by_date": rates}
