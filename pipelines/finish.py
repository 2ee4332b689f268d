"""The end of a run: the counts of all parts become statistics, report, data card and, last of all, `summary.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import pyarrow as pa

from detectors.base import Detector
from pipelines import files
from pipelines.against import archived_parts, write_superseded
from pipelines.counting import PANEL, SKETCHES
from pipelines.descriptions import write_descriptions
from pipelines.errors import JobError, UsageError
from pipelines.layout import Layout
from pipelines.records import Place
from pipelines.reserve.audits import FOLDER as AUDITS
from pipelines.reserve.audits import audit_sentence
from pipelines.reserve.card import data_card
from pipelines.reserve.writer import merge_samples
from pipelines.results import (
    FALSE_POSITIVES,
    MARKED_SITES,
    MARKS,
    REPEATS,
    Ending,
    read_tallies,
    results,
)
from pipelines.sealing import Sealer
from pipelines.statistics import openlineage, prometheus
from pipelines.statistics.prevalence import summary_share
from pipelines.statistics.report import render, render_markdown
from pipelines.versions import versions

_SAMPLES = "samples"


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
    parts = range(len(markers))
    found = results(ending, parts)
    superseded = 0
    files.delete([m.path for m in files.listing(ending.layout.superseded)])
    if ending.archives:
        superseded = write_superseded(ending.layout.superseded, archived_parts(ending.archives, ending.layout))
    samples = merge_samples(read_tallies(ending.layout, _SAMPLES, parts))
    for name, table in {**found.tables, _SAMPLES: samples}.items():
        files.write_parquet(ending.layout.statistics(name), table)
    summary = _summary(ending, {"in": records_in, **records}, found.tables, found.documents)
    summary |= found.said | {"detector": summary["detector"] and summary["detector"] | found.said["detector"]}
    summary["detectors"] = [{"name": name, "digest": one.digest} for name, one in ending.basis.others.items()]
    summary["superseded"] = superseded
    files.delete([ending.layout.seal, files.join(ending.layout.output, AUDITS)])
    sealer = Sealer(ending.layout, ending.sealing, markers) if ending.sealing else None
    summary["seal"] = sealer.documents() if sealer else None
    shown = {name: table for name, table in found.tables.items() if name != SKETCHES}
    files.write_bytes(ending.layout.report, _report(summary, shown, samples).encode())
    files.write_bytes(ending.layout.card, data_card(summary).encode())
    _write_for_machines(ending, summary, shown)
    content = files.json_bytes(summary)
    write_descriptions(ending.layout, summary, content, markers)
    if sealer:
        sealer.close(content, records)
    files.write_bytes(ending.layout.summary, content)
    return summary


def rewrite_report(output: str, path: str | None = None, form: str = "html") -> str:
    """The report of a finished run again, from its statistics, as "html" or Markdown ("md").

    Gives the path that was written, by default `report.html` in the output; Markdown without a path is given itself.
    """
    layout = Layout(output)
    summary = files.read_json(layout.summary)
    if summary is None:
        raise UsageError(f"{output}: no finished run here (no summary.json)")
    names: tuple[str, ...] = ("prevalence", "diversity", "signals", "accounting", _SAMPLES)
    names += (REPEATS,) if summary.get("repeats") else ()
    names += (MARKS, MARKED_SITES) if summary.get("watermarks") else ()
    names += (FALSE_POSITIVES,) if (summary.get("detector") or {}).get("false_positives_by_date") else ()
    names += (PANEL,) if summary.get("panel") else ()
    tables = {name: files.read_parquet(layout.statistics(name)) for name in names}
    samples = tables.pop(_SAMPLES)
    if form == "html":
        text = _report(summary, tables, samples)
    else:
        text = render_markdown(summary, tables, samples.to_pylist(), _audited(summary))
        if path is None:
            return text
    files.write_bytes(path or layout.report, text.encode())
    return path or layout.report


def _write_for_machines(ending: Ending, summary: Mapping[str, Any], tables: Mapping[str, pa.Table]) -> None:
    options, output = ending.job.statistics, ending.layout.output
    for name in (openlineage.NAME, prometheus.NAME):
        files.delete([m.path for m in files.listing(files.join(output, name))])
    if options.openlineage:
        event = openlineage.openlineage_event(summary, tables)
        files.write_bytes(files.join(output, openlineage.NAME), files.json_bytes(event))
    if options.prometheus:
        text = prometheus.prometheus_text(summary, tables)
        files.write_bytes(files.join(output, prometheus.NAME), text.encode())


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
    return render(summary, tables, samples.to_pylist(), "Human reserve", cutoff, audit=_audited(summary))


def _audited(summary: dict[str, Any]) -> str | None:
    return audit_sentence(summary["audit"]) if summary.get("audit") else None
