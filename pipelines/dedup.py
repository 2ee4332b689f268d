"""Near-duplicates of Parquet files of text, without the rest of the job: signatures, clusters, the list to drop.

The result is ``duplicates.parquet``: a row for each document that has an earlier copy, with the copy that stays. A
document is a row of a file::

    found = dedup(load_job(None, {"input": ["texts/*.parquet"], "output": "out"}), Columns("text"))
    found.duplicates, found.documents
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines import files
from pipelines.beam import execute, worker_count
from pipelines.errors import JobError, UsageError, naming
from pipelines.ingest.shards import Shard, find_shards
from pipelines.ingest.timestamps import parse_time
from pipelines.job import Job
from pipelines.neardup.candidates import ShardSignatures
from pipelines.neardup.minhash import sign, warm_up
from pipelines.neardup.options import NearDup
from pipelines.neardup.search import find_clusters
from pipelines.neardup.texts import TextColumn
from pipelines.progress import Watch, warn_unverified
from pipelines.records import DOC_ID, TIMESTAMP, signatures_schema

DUPLICATES = "duplicates.parquet"
SCHEMA = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("kept_file", pa.string(), nullable=False),
        pa.field("kept_row", pa.int64(), nullable=False),
        pa.field("jaccard", pa.float32(), nullable=False),  # similarity to the copy that stays
        pa.field("cluster_size", pa.int32(), nullable=False),
    ]
)

_WORK = ".dedup"  # not that of a run, whose staged documents may lie in the same folder
_UNIT_BYTES = 32 << 20  # of text, uncompressed, that one task signs
_BATCH_ROWS = 1024
_WORTH_BYTES = 1 << 30  # of text that keep one worker busy for longer than it takes to start


class Columns(NamedTuple):
    """The columns that are read: the text, and the capture time where there is one."""

    text: str = "text"
    captured_at: str | None = None


class Deduplicated(NamedTuple):
    """What was found: the list's path, and how many documents were read, are copies, and stand in how many clusters."""

    path: str
    documents: int
    duplicates: int
    clusters: int


class Unit(NamedTuple):
    """Some row groups of one file: what is signed at once."""

    ordinal: int  # of the file, by name
    first_row: int
    rows: int
    text_bytes: int  # as the file's footer has them
    texts: TextColumn
    shard: ShardSignatures


def dedup(job: Job, columns: Columns, overwrite: bool = False) -> Deduplicated:
    """Finds the near-duplicates in the job's input and writes ``duplicates.parquet`` into its output folder.

    Raises UsageError if a file lacks a column, or a list is there already.
    """
    path = files.join(job.output, DUPLICATES)
    if files.listing(path) and not overwrite:
        raise UsageError(f"output: {path} is there already; name another --output, or replace it with --overwrite")
    shards = find_shards(job.input, job.input_base)
    work = files.join(job.output, _WORK)
    units = [unit for ordinal, shard in enumerate(shards) for unit in _units(ordinal, shard, columns, work)]
    worth = sum(unit.text_bytes for unit in units) / _WORTH_BYTES
    threads = max(1, (os.cpu_count() or 1) // worker_count(job, len(units), worth)) if job.workers != 1 else 1
    start = functools.partial(execute, job, len(units), worth)
    files.write_bytes(files.join(work, "started"), b"")
    try:
        with Watch("sign", "parts", len(units), 0, _counter(work, "*.signatures.parquet")):
            start(SignTexts(units, columns, job.neardup, threads))
        with Watch("cluster", "parts", len(units), 0, _counter(work, "*.clusters.parquet")):
            documents = sum(unit.rows for unit in units)
            between = files.join(work, "blocks")
            counters = find_clusters([unit.shard for unit in units], job.neardup, documents, between, start)
        warn_unverified(counters)
        found = _write(path, shards, units)
    finally:
        files.delete([work])
    return found


def _counter(folder: str, pattern: str) -> Callable[[], int]:
    return lambda: len(files.listing(files.join(folder, pattern)))


class SignTexts(beam.PTransform):  # type: ignore[misc]
    """Writes the signature file of each unit; gives the number of its documents. ``threads``: in each process."""

    def __init__(self, units: Sequence[Unit], columns: Columns, options: NearDup, threads: int = 1) -> None:
        super().__init__()
        self._units = list(units)
        self._do = _Sign(columns, options, threads)

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """Wires the steps."""
        return (
            pipeline
            | "units" >> beam.Create(list(enumerate(self._units)))
            | "one unit, one worker" >> beam.GroupByKey()
            | "sign" >> beam.ParDo(self._do)
        )


class _Sign(beam.DoFn):  # type: ignore[misc]
    def __init__(self, columns: Columns, options: NearDup, threads: int) -> None:
        self._columns = columns
        self._options = options
        self._threads = threads

    def setup(self) -> None:
        warm_up()
        self._pool = ThreadPoolExecutor(self._threads)  # kernels and SHA-256 let other threads run

    def teardown(self) -> None:
        self._pool.shutdown()

    def process(self, numbered: tuple[int, Iterable[Unit]]) -> Iterator[int]:
        (unit,) = numbered[1]
        schema = signatures_schema(self._options.permutations)
        jobs: deque[Future[pa.RecordBatch]] = deque()
        rows = 0
        with (
            naming(unit.texts.path),
            files.open_write(unit.shard.signatures) as out,
            pq.ParquetWriter(out, schema, compression="none", use_dictionary=False) as writer,
        ):
            for batch in _read(unit.texts, self._columns):
                first = unit.first_row + rows
                jobs.append(self._pool.submit(_signatures, batch, unit.ordinal, first, self._columns, self._options))
                rows += batch.num_rows
                if len(jobs) > self._threads:
                    writer.write_batch(jobs.popleft().result())
            for job in jobs:
                writer.write_batch(job.result())
        yield rows


def _read(texts: TextColumn, columns: Columns) -> Iterator[pa.RecordBatch]:
    wanted = [columns.text, *([columns.captured_at] if columns.captured_at else [])]
    with files.open_read(texts.path) as stream, pq.ParquetFile(stream) as file:
        groups = range(texts.first, file.num_row_groups if texts.last is None else texts.last)
        yield from file.iter_batches(_BATCH_ROWS, row_groups=list(groups), columns=wanted, use_threads=False)


def _signatures(
    batch: pa.RecordBatch, ordinal: int, first_row: int, columns: Columns, options: NearDup
) -> pa.RecordBatch:
    texts = pc.fill_null(batch.column(columns.text).cast(pa.large_string()), "")
    signed = sign(texts, options)
    found = {
        "doc_id": _places(ordinal, first_row, len(texts)),
        "captured_at": _times(batch, columns),
        "text_sha256": _digests(texts),
        "shingles": pa.array(signed.shingles),
        "length": pc.binary_length(texts).cast(pa.uint32()),
        "findings": pa.repeat(pa.scalar(0, pa.uint16()), len(texts)),
        "signature": signed.column(),
    }
    schema = signatures_schema(options.permutations)
    return pa.RecordBatch.from_arrays([found[name] for name in schema.names], schema=schema)


def _places(ordinal: int, first_row: int, rows: int) -> pa.FixedSizeBinaryArray:
    """File and row as an identity: among copies of one time, the first place stays."""
    places = np.empty((rows, 2), ">u8")
    places[:, 0], places[:, 1] = ordinal, np.arange(first_row, first_row + rows)
    return pa.Array.from_buffers(DOC_ID, rows, [None, pa.py_buffer(places)])


def _times(batch: pa.RecordBatch, columns: Columns) -> pa.Array:
    if columns.captured_at is None:
        return pa.nulls(batch.num_rows, TIMESTAMP)
    values = batch.column(columns.captured_at)
    if pa.types.is_timestamp(values.type):
        return values.cast(TIMESTAMP, safe=False)
    return pa.array([parse_time(value) for value in values.to_pylist()], TIMESTAMP)


def _digests(texts: pa.LargeStringArray) -> pa.Array:
    _, offsets, data = texts.buffers()
    at = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1].tolist()
    view = memoryview(data if data is not None else b"")
    digests = b"".join(hashlib.sha256(view[at[i] : at[i + 1]]).digest() for i in range(len(texts)))
    return pa.Array.from_buffers(pa.binary(32), len(texts), [None, pa.py_buffer(digests)])


def _units(ordinal: int, shard: Shard, columns: Columns, work: str) -> Iterator[Unit]:
    """The units of one file."""
    try:
        with files.open_read(shard.path) as stream, pq.ParquetFile(stream) as file:
            _check(shard.path, file.schema_arrow, columns)
            groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
            sizes = [_column_bytes(group, columns.text) for group in groups]
            rows = [group.num_rows for group in groups]
    except pa.ArrowException as error:
        raise JobError(f"{shard.path}: cannot be read as Parquet: {error}; `reserve survey` says more") from None
    first = 0
    while first < len(groups):
        last, held = first, 0
        while last < len(groups) and (last == first or held + sizes[last] <= _UNIT_BYTES):
            held += sizes[last]
            last += 1
        stem = files.join(work, f"{ordinal:06d}-{first:06d}")
        name = f"{shard.name}\0{first:020d}"
        texts = TextColumn(shard.path, columns.text, first, last)
        signatures = ShardSignatures(name, f"{stem}.signatures.parquet", f"{stem}.clusters.parquet", texts)
        yield Unit(ordinal, sum(rows[:first]), sum(rows[first:last]), held, texts, signatures)
        first = last


def _column_bytes(group: pq.RowGroupMetaData, name: str) -> int:
    columns = [group.column(i) for i in range(group.num_columns)]
    return sum(column.total_uncompressed_size for column in columns if column.path_in_schema == name)


def _check(path: str, schema: pa.Schema, columns: Columns) -> None:
    for option, name in (("--text", columns.text), ("--time", columns.captured_at)):
        if name is not None and name not in schema.names:
            raise UsageError(f"{option} {name}: {path} has no such column; it has {', '.join(schema.names)}")
    kind = schema.field(columns.text).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise UsageError(f"--text {columns.text}: in {path} this column is {kind}, not text")


def _write(path: str, shards: Sequence[Shard], units: Sequence[Unit]) -> Deduplicated:
    """Gathers the cluster files of all units in the list of documents to drop."""
    names = pa.array([shard.name for shard in shards], pa.string())
    duplicates = clusters = 0
    with files.open_write(path) as out, pq.ParquetWriter(out, SCHEMA, compression="zstd") as writer:
        for unit in units:
            found = files.read_parquet(unit.shard.clusters)
            clusters += int(pc.sum(found["kept"]).as_py() or 0)
            removed = found.filter(pc.invert(found["kept"])).combine_chunks()
            duplicates += removed.num_rows
            writer.write_table(_rows(unit, removed, names))
    return Deduplicated(path, sum(unit.rows for unit in units), duplicates, clusters)


def _rows(unit: Unit, removed: pa.Table, names: pa.StringArray) -> pa.Table:
    kept = _placed(removed["cluster_id"])
    columns = {
        "file": names.take(pa.array(np.full(removed.num_rows, unit.ordinal))),
        "row": removed["row"].cast(pa.int64()).to_numpy() + unit.first_row,
        "kept_file": names.take(pa.array(kept[:, 0].astype(np.int64))),
        "kept_row": kept[:, 1].astype(np.int64),
        "jaccard": removed["jaccard"],
        "cluster_size": removed["cluster_size"],
    }
    return pa.table(columns, schema=SCHEMA)


def _placed(doc_ids: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    return np.frombuffer(b"".join(doc_ids.to_pylist()), ">u8").reshape(-1, 2)
