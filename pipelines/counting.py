"""What a run counts of each pack of documents, and what its statistics rest on beside the crawl itself.

Before the first shard is read, :func:`basis` loads what the job names: further detectors, classes of hosts, an earlier
output to compare with. In each pack `settle` then calls :func:`tallies`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from detectors import load_detector
from detectors.base import Detector
from pipelines import files
from pipelines.errors import UsageError
from pipelines.job import Job, Statistics
from pipelines.layout import Layout
from pipelines.opinions import named, opinion
from pipelines.reserve.writer import samples
from pipelines.statistics.host_class import HostClasses, host_classes, load_host_classes
from pipelines.statistics.panel.table import External
from pipelines.statistics.panel.tally import PanelRules, tally_panel
from pipelines.statistics.panel.words import word_hashes
from pipelines.statistics.tally import (
    TallyRules,
    tally_diversity,
    tally_documents,
    tally_rejects,
    tally_signals,
)

PANEL_TALLY = "panel"
PANEL, SKETCHES = "panel", "sketches"  # tables of an output: the measures, and the states that they come of


class Basis(NamedTuple):
    """What the statistics rest on beside the crawl."""

    others: Mapping[str, Detector]  # further detectors, by the names that outputs give them
    classes: HostClasses
    past: External | None  # the earlier output that the panel compares with
    digest: dict[str, Any]  # of all that


class Counting(NamedTuple):
    """What is counted of each pack. The keys of ``others`` are the detectors' names, in the order of the job."""

    rules: TallyRules
    others: Mapping[str, TallyRules]
    panel: PanelRules | None


def basis(job: Job, deciding: Detector | None) -> Basis:
    """Loads it. Raises UsageError, which names the key of the job, where something is not there or is damaged."""
    options = job.statistics
    classes = load_host_classes(options.host_classes)
    past, of_past = _past(options.reference) if options.reference and options.panel else (None, None)
    others = _others(options, deciding)
    digest = {
        "detectors": [[name, detector.digest] for name, detector in others.items()],
        "classes": _rules_of(classes) if options.host_classes else None,
        "reference": of_past,
    }
    return Basis(others, classes, past, digest)


def counting(job: Job, deciding: Detector | None, basis: Basis) -> Counting:
    """What to count by: the thresholds are those of the detectors' own error rates."""
    cutoff = job.cutoff_at
    others = {name: _rules(cutoff, detector) for name, detector in basis.others.items()}
    panel = PanelRules(cutoff, partial(host_classes, rules=basis.classes)) if job.statistics.panel else None
    return Counting(_rules(cutoff, deciding), others, panel)


def other_tally(number: int) -> str:
    """The kind of the tally of the further detector with this number."""
    return f"documents_{number}"


def tallies(judged: pa.Table, rejects: pa.Table, how: Counting) -> dict[str, pa.Table]:
    """All counts of one pack, by the kind of tally, out of its judged documents and its rejects."""
    texts = judged["text"].combine_chunks()
    characters = pc.utf8_length(texts).cast(pa.int64())
    size = pc.fill_null(judged["cluster_size"], 1)
    counted = judged.drop_columns(["text", "cluster_size"])
    counted = counted.append_column("tokens", pa.array(np.diff(word_hashes(texts).offsets)))
    counted = counted.append_column("characters", characters).append_column("cluster_size", size)
    found = {
        "documents": tally_documents(counted, how.rules),
        "signals": tally_signals(counted),
        "diversity": tally_diversity(counted),
        "rejects": tally_rejects(rejects),
        "samples": samples(judged),
    }
    evidence = counted["evidence"].combine_chunks() if how.others else None
    for number, (name, rules) in enumerate(how.others.items()):
        said = counted.append_column("opinion", opinion(evidence, name))
        found[other_tally(number)] = tally_documents(said, rules, probability="opinion")
    if how.panel is not None:
        found[PANEL_TALLY] = tally_panel(judged, how.panel)
    return found


def _rules(cutoff: datetime, detector: Detector | None) -> TallyRules:
    return TallyRules(cutoff, detector.error_rates().quantification.threshold if detector else float("inf"))


def _others(options: Statistics, deciding: Detector | None) -> dict[str, Detector]:
    try:
        return named([load_detector(name) for name in options.detectors], deciding)
    except (OSError, ValueError, ImportError) as error:
        raise UsageError(f"statistics.detectors: {error}") from None


def _rules_of(classes: HostClasses) -> list[list[tuple[str, str]]]:
    return [sorted(part.items()) for part in (classes.domains, classes.words)]


def _past(output: str) -> tuple[External, str]:
    """The panel of an earlier output, and the digest of its job."""
    layout = Layout(output)
    summary = files.read_json(layout.summary)
    if summary is None:
        raise UsageError(f"statistics.reference: {output}: no finished run here (no summary.json)")
    paths = [layout.statistics(name) for name in (SKETCHES, PANEL)]
    if not all(map(files.exists, paths)):
        raise UsageError(
            f"statistics.reference: {output}: was run without its panel; run it with statistics.panel=true"
        )
    return External(*(files.read_parquet(path) for path in paths)), summary["job"]["digest"]
