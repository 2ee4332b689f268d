"""Counting the documents that are human by date: what is staged of each shard in, one small table out. No text is read.

The pass comes before `settle`, which may take its decision threshold from it::

    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        pipeline | CountDated(shards, how, "work/dated/counts.parquet")
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import apache_beam as beam
import pyarrow as pa

from detectors.base import ErrorRates
from pipelines import files
from pipelines.beam import execute
from pipelines.errors import naming
from pipelines.job import Job, digest
from pipelines.layout import Layout
from pipelines.marks.apply import TALLIED, Findings, with_marks
from pipelines.progress import Watch, say
from pipelines.reserve.writer import Rules, StagedShard
from pipelines.settle import StagedName
from pipelines.statistics.dated import (
    DATED,
    SIGNATURE_COLUMNS,
    STAGED_COLUMNS,
    Edges,
    dated_counts,
    probability_edges,
)
from pipelines.statistics.recalibrate import Dated, Recalibrate, recalibrated
from pipelines.statistics.tally import merge

_DOCUMENTS = 2_000_000  # that keep one worker process busy for a few times as long as it takes to start


class HowDated(NamedTuple):
    """What the count needs to know."""

    rules: Rules
    edges: Edges
    findings: Findings | None  # of watermark tests, where the job looks for keys
    threshold: float  # the detector's own, one of the edges


def how_dated(own: ErrorRates, options: Recalibrate, rules: Rules, findings: Findings | None) -> HowDated:
    """How to count the probabilities of a detector, with its thresholds and the floor among the edges."""
    edges = probability_edges(own.decision.threshold, own.quantification.threshold, options.floor)
    return HowDated(rules, edges, findings, own.decision.threshold)


def dated_documents(job: Job, shards: Sequence[StagedName], how: HowDated, staged: str, documents: int) -> Dated:
    """Counts them, or takes what an earlier run counted, and chooses the decision threshold.

    Args:
        job: the job; its output has the work folder.
        shards: all of the run.
        how: of :func:`how_dated`.
        staged: the digest of what is staged and clustered.
        documents: about how many there are.
    """
    layout = Layout(job.output)
    policy, marks = how.rules.policy.model_dump(mode="json"), how.findings.level if how.findings else None
    wanted = digest([staged, policy, how.rules.cutoff.isoformat(), how.edges.tolist(), marks])
    if (files.read_json(layout.dated_counted) or {}).get("digest") == wanted:
        say("dated    counted by an earlier run")
    else:
        # The marker first: what is written next may be of another digest than it says.
        files.delete([layout.dated_counted])
        with Watch("dated", "tables", 1, 0, lambda: int(files.exists(layout.dated_counts))):
            execute(job, len(shards), documents / _DOCUMENTS, CountDated(shards, how, layout.dated_counts))
        files.write_json(layout.dated_counted, {"digest": wanted})
    counts = files.read_parquet(layout.dated_counts)
    choice = recalibrated(counts, how.edges, how.threshold, job.recalibrate, job.statistics.level)
    if choice.threshold != how.threshold:
        say(f"dated    decision threshold {choice.threshold:.4f}, {choice.reason}")
    return Dated(counts, how.edges, choice)


class CountDated(beam.PTransform):  # type: ignore[misc]
    """Writes to ``path`` the merged counts of all shards, of ``statistics.dated.DATED``."""

    def __init__(self, shards: Sequence[StagedName], how: HowDated, path: str) -> None:
        super().__init__()
        self._shards = sorted(shards)
        self._how = how
        self._path = path

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """Wires the steps."""
        return (
            pipeline
            | "shards" >> beam.Create(self._shards)
            | "spread" >> beam.Reshuffle()
            | "human by date" >> beam.ParDo(_Count(self._how))
            | "over the crawl" >> beam.CombineGlobally(_merged)
            | "write" >> beam.Map(_write, self._path)
        )


class _Count(beam.DoFn):  # type: ignore[misc]
    """A shard → its counts, as Arrow IPC."""

    def __init__(self, how: HowDated) -> None:
        self._how = how

    def process(self, shard: StagedName) -> Iterator[bytes]:
        with naming(shard.name):
            counts = dated_counts(_read(shard, self._how.findings), self._how.rules, self._how.edges)
        yield _pack(counts)


def _read(shard: StagedName, findings: Findings | None) -> StagedShard:
    paths, read = shard.staged, files.read_parquet
    documents = read(paths.documents, STAGED_COLUMNS)
    if findings is not None:
        documents = with_marks(documents, read(paths.marks, TALLIED), findings)
    signatures = read(paths.signatures, SIGNATURE_COLUMNS)
    return StagedShard(shard.name, documents, signatures, read(paths.clusters), pa.table({}))


def _merged(parts: Iterable[bytes]) -> bytes:
    return _pack(merge([DATED.empty_table(), *map(_unpack, parts)]))


def _write(counts: bytes, path: str) -> None:
    files.write_parquet(path, _unpack(counts))


def _pack(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


def _unpack(data: bytes) -> pa.Table:
    return pa.ipc.open_stream(pa.py_buffer(data)).read_all()
