"""Shards to staged documents with evidence: the first of the three pipelines.

Each part of a shard is read by one worker, in batches of a few MB, and ends as a set of Parquet files with a marker
that is written last. A part whose marker carries the digest of (shard, part, job, code) is not read again, unless the
part before it shows that it began at the wrong place.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from detectors import load_detector
from detectors.base import Detector
from detectors.cascade import Cascade
from pipelines import files
from pipelines.cascades import NONE, cascade_counts, summed
from pipelines.checks import Checks
from pipelines.errors import naming
from pipelines.ingest.account import Account, Part
from pipelines.ingest.reader import read_shard
from pipelines.ingest.shards import Shard
from pipelines.job import Job
from pipelines.layout import Staged
from pipelines.marks.staged import marks_schema, staged_marks
from pipelines.neardup.minhash import warm_up
from pipelines.opinions import named
from pipelines.records import REJECTS, STAGED, signatures_schema
from pipelines.repeats import paragraphs as repeated
from pipelines.repeats.options import Repeats
from pipelines.repeats.pairs import PARAGRAPHS, staged_paragraphs
from watermark.registry import Registry
from watermark.scan import Scanner
from watermark.tables import Tables

_SHARD_REASONS_KEPT = 5  # reasons for damage that the marker repeats, for the log


class Task(NamedTuple):
    """One part of a shard to read, where its files go, and the digest that its marker will carry."""

    shard: Shard
    part: Part
    staged: Staged
    digest: str


class Inspected(NamedTuple):
    """What one part of a shard held."""

    shard: str
    documents: int
    rejects: int
    text_bytes: int


class Looks(NamedTuple):
    """Everything that looks at a shard's documents."""

    job: Job
    checks: Checks
    scanner: Scanner | None  # of watermarks, where the job names keys
    cascade: Cascade | None  # the detector, where it is one whose saving is to be told


class InspectShards(beam.PTransform):  # type: ignore[misc]
    """Reads the parts that the tasks name and stages their documents; gives one :class:`Inspected` each."""

    def __init__(self, tasks: Sequence[Task], job: Job, registry: Registry | None, tables: Tables) -> None:
        super().__init__()
        self._tasks = list(tasks)
        self._do = InspectShard(job, registry, tables)

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """Wires the steps."""
        return (
            pipeline
            | "shards" >> beam.Create(self._tasks)
            | "one part, one worker" >> beam.Reshuffle()
            | "ingest and inspect" >> beam.ParDo(self._do)
        )


class InspectShard(beam.DoFn):  # type: ignore[misc]
    """One part of a shard → its staged files."""

    def __init__(self, job: Job, registry: Registry | None, tables: Tables) -> None:
        self._job = job
        self._registry = registry
        self._tables = tables

    def setup(self) -> None:
        """Loads the detector, the tokenizers and the kernels, once a worker."""
        options = self._job.inspect
        # One thread a worker, as everywhere; read by the tokenizers library.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        detector = None if options.detector == "none" else _loaded(options.detector)
        scanner = Scanner(self._registry, self._tables) if self._registry else None
        cascade = detector if isinstance(detector, Cascade) else None
        others = named([_loaded(name) for name in self._job.statistics.detectors], detector)
        self._looks = Looks(self._job, Checks(options, detector, self._job.neardup, others), scanner, cascade)
        warm_up()
        if self._job.repeats.mode != "off":
            repeated.warm_up()

    def process(self, task: Task) -> Iterator[Inspected]:
        """One part."""
        with naming(task.shard.path):
            inspected = inspect_shard(task, self._looks)
        yield inspected


def _loaded(name: str) -> Detector:
    """The detector with its model read; torch, where it came along, keeps to this worker's one thread."""
    detector = load_detector(name)
    if callable(getattr(detector, "load", None)):
        detector.load()  # type: ignore[attr-defined]
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    return detector


def inspect_shard(task: Task, looks: Looks) -> Inspected:
    """Reads one part of a shard and stages it; the marker appears last."""
    job, checks = looks.job, looks.checks
    count = {"documents": 0, "rejects": 0, "text_bytes": 0}
    reasons: dict[str, list[str]] = {}
    account = Account()
    saving = [NONE]
    seconds = _seconds(looks.cascade)
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(files.open_read(task.shard.path))
        documents = _writer(stack, task.staged.documents, STAGED)
        signatures = _writer(stack, task.staged.signatures, signatures_schema(job.neardup.permutations))
        rejects = _writer(stack, task.staged.rejects, REJECTS)
        lines = _writer(stack, task.staged.paragraphs, PARAGRAPHS) if job.repeats.mode != "off" else None
        marks = _marks_writer(stack, task, looks.scanner)
        for part in read_shard(stream, task.shard.name, job.ingest, checks.page, task.part, account):
            if part.documents.num_rows:
                staged, signed = checks.documents(part.documents)
                documents.write_batch(staged)
                signatures.write_batch(signed)
                if lines is not None:
                    lines.write_batch(_paragraphs(staged, job.repeats, count["documents"]))
                if marks is not None and looks.scanner is not None:
                    marks.write_batch(staged_marks(looks.scanner, staged, job.watermarks.sites))
                if looks.cascade is not None:
                    saving.append(cascade_counts(staged, looks.cascade.name))
                count["documents"] += staged.num_rows
                count["text_bytes"] += pc.sum(pc.binary_length(staged.column("text"))).as_py()
            if part.rejects.num_rows:
                rejects.write_batch(part.rejects)
                count["rejects"] += part.rejects.num_rows
                _note_damage(part.rejects, reasons)
    marker = {"digest": task.digest, "shard": task.shard.name, **count, "damage": reasons}
    if looks.cascade is not None:
        spent = {name: now - seconds[name] for name, now in _seconds(looks.cascade).items()}
        marker["cascade"] = summed([*saving, spent])
    files.write_json(task.staged.marker, {**marker, "part": list(task.part), "account": vars(account)})
    return Inspected(task.shard.name, **count)


def _seconds(cascade: Cascade | None) -> dict[str, float]:
    counts = asdict(cascade.counts) if cascade else {}
    return {name: value for name, value in counts.items() if name.endswith("_seconds")}


def _marks_writer(stack: contextlib.ExitStack, task: Task, scanner: Scanner | None) -> Any:
    return _writer(stack, task.staged.marks, marks_schema(len(scanner.families))) if scanner else None


def _paragraphs(staged: pa.RecordBatch, repeats: Repeats, first_row: int) -> pa.RecordBatch:
    found = repeated.paragraphs(staged.column("text"), repeats.letters)
    return staged_paragraphs(found, repeated.host_hashes(staged.column("host")), first_row)


def _writer(stack: contextlib.ExitStack, path: str, schema: pa.Schema) -> Any:
    out = stack.enter_context(files.open_write(path))
    # lz4: staged files are read once and deleted, so speed counts, not size.
    return stack.enter_context(pq.ParquetWriter(out, schema, compression="lz4"))


def _note_damage(rejects: pa.RecordBatch, reasons: dict[str, list[str]]) -> None:
    """Keeps what a person should hear about a shard; records of other kinds are the normal case."""
    loud = {"damaged", "truncated", "digest_mismatch", "unsupported", "empty_shard", "missing_column"}
    for row in rejects.to_pylist():
        if row["reason"] in loud:
            known = reasons.setdefault(row["reason"], [])
            if len(known) < _SHARD_REASONS_KEPT:
                known.append(f"at {row['record_offset']}: {row['detail'] or row['reason']}")
