"""The cluster pipeline: signature files in, cluster files out, never any text.

::

    signatures ─▶ bands ─▶ buckets ─▶ blocks ─▶ members ─▶ clusters ─▶ one file a shard

1. **Bands**: each shard hashes its signatures band by band. The exact hash of the text is one more band; rows that
   repeat an earlier row's text in the same shard go there only.
2. **Buckets**: documents that share a key are joined to the smallest of them.
3. **Blocks**: connected components of these candidate pairs, in one reducer over spanning forests that every worker
   has shrunk beforehand. It holds 16 bytes for each edge, twice while pieces are joined, and 90 more while it works
   (measured on 5 million edges). By that, 40 million edges need about 5 GB.
4. **Members**: each shard is read once more, in order, and sends each candidate's signature to its block.
5. **Clusters**: all pairs of a block are verified (:mod:`pipelines.neardup.verify`), which gives the clusters, the
   copy that stays and each document's older twin.
6. **Write**: rows go back to the shard that holds the document.

What is shuffled are integers and packed bytes, thousands of rows to an element::

    shards = [ShardSignatures("a.warc.gz", "work/a.signatures.parquet", "work/a.clusters.parquet")]
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        pipeline | FindClusters(shards, NearDup()) | beam.Map(print)

The result depends on the shards' contents and names alone, not on their order, on ``ranges`` or on the workers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics

from pipelines import files
from pipelines.errors import JobError
from pipelines.neardup.bands import band_hashes, hash_range, mix64, parameters
from pipelines.neardup.components import forest, stars
from pipelines.neardup.options import NearDup
from pipelines.neardup.resolve import (
    FOUND,
    KEYED,
    Packed,
    by_shard,
    cluster_table,
    fixed_width,
    member_dtype,
    members_of,
    resolve,
)

_NAMESPACE = "neardup"
_BATCH_ROWS = 1 << 16
_SHRINK_BYTES = 64 << 20  # a worker shrinks the edges that it holds to a forest at this size


class ShardSignatures(NamedTuple):
    """One shard: its name, the signature file to read and the cluster file to write."""

    name: str
    signatures: str
    clusters: str


class ShardClusters(NamedTuple):
    """What became of one shard: rows in its cluster file, and how many of these documents are removed."""

    name: str
    rows: int
    removed: int


class FindClusters(beam.PTransform):  # type: ignore[misc]
    """Finds near-duplicates over all shards and writes one file of :data:`pipelines.records.CLUSTERS` for each.

    A shard without near-duplicates gets an empty file, so a missing file is always an error; with ``enabled: false``
    all are empty. Gives a PCollection of :class:`ShardClusters`. The metric ``neardup/pairs_unchecked`` counts
    candidate pairs beyond the bound of :mod:`pipelines.neardup.verify`. Raises ValueError if two shards share a name.
    """

    def __init__(self, shards: Sequence[ShardSignatures], options: NearDup) -> None:
        super().__init__()
        self._shards = sorted(shards)
        self._options = options
        names = [shard.name for shard in self._shards]
        if len(set(names)) < len(names):
            raise ValueError("two shards have the same name; a document's place would not be unique")

    def expand(self, pbegin: Any) -> beam.PCollection[ShardClusters]:
        """Wires the six steps."""
        everywhere = pbegin | "EveryShard" >> beam.Create([(i, b"") for i in range(len(self._shards))])
        found = [everywhere]
        if self._options.enabled:
            found.append(everywhere | "Find" >> _Find(self._shards, self._options))
        return (
            found
            | "All" >> beam.Flatten()
            | "ByShard" >> beam.GroupByKey()
            | "Write" >> beam.ParDo(_Write(self._shards)).with_output_types(ShardClusters)
        )


class _Find(beam.PTransform):  # type: ignore[misc]
    def __init__(self, shards: Sequence[ShardSignatures], options: NearDup) -> None:
        super().__init__()
        self._paths = [shard.signatures for shard in shards]
        self._options = options

    def expand(self, shards: beam.PCollection[tuple[int, bytes]]) -> beam.PCollection[tuple[int, bytes]]:
        return (
            shards
            | "Spread" >> beam.Reshuffle()
            | "Bands" >> beam.ParDo(_Bands(self._paths, self._options))
            | "ByBand" >> beam.GroupByKey()
            | "Buckets" >> beam.FlatMapTuple(_buckets).with_output_types(bytes)
            | "Blocks" >> beam.CombineGlobally(_Forest())
            | "Candidates" >> beam.FlatMap(_candidates).with_output_types(tuple[int, bytes])
            | "SpreadCandidates" >> beam.Reshuffle()
            | "Members" >> beam.ParDo(_Members(self._paths, self._options))
            | "ByBlock" >> beam.GroupByKey()
            | "Clusters" >> beam.ParDo(_Clusters(self._options))
        )


class _Bands(beam.DoFn):  # type: ignore[misc]
    """Shard to (band and hash range, packed keys and handles)."""

    def __init__(self, paths: Sequence[str], options: NearDup) -> None:
        self._paths = paths
        self._options = options

    def process(self, shard: tuple[int, bytes]) -> Iterator[tuple[int, bytes]]:
        options = self._options
        banding = parameters(options.threshold, options.permutations)
        texts, bands = [np.empty(0, np.uint64)], [np.empty((banding.bands, 0), np.uint64)]
        for _, batch in _read(self._paths[shard[0]], ["text_sha256", "signature"], options.permutations):
            texts.append(fixed_width(batch.column("text_sha256"), np.dtype("<u8"))[:, 0])
            bands.append(band_hashes(fixed_width(batch.column("signature"), np.dtype("<u4")), banding))
        exact = np.concatenate(texts)
        handles = np.arange(len(exact), dtype=np.uint64) | np.uint64(shard[0] << 32)
        _, first = np.unique(exact, return_index=True)
        yield from _by_range(0, exact, handles, options.ranges)
        for band, hashes in enumerate(np.concatenate(bands, axis=1), start=1):
            yield from _by_range(band, hashes[first], handles[first], options.ranges)


def _by_range(band: int, keys: Any, handles: Any, ranges: int) -> Iterator[tuple[int, bytes]]:
    packed = np.empty(len(keys), KEYED)
    packed["key"], packed["handle"] = keys, handles
    at = hash_range(keys, ranges)
    yield from ((band * ranges + i, piece) for i, piece in _pieces(packed, at))


def _pieces(packed: Packed, at: Any) -> Iterator[tuple[int, bytes]]:
    order = np.argsort(at, kind="stable")
    packed, at = packed[order], at[order]
    borders = np.flatnonzero(np.diff(at)) + 1
    for begin, end in zip([0, *borders], [*borders, len(at)], strict=True):
        if end > begin:
            yield int(at[begin]), packed[begin:end].tobytes()


def _buckets(_: int, pieces: Iterable[bytes]) -> Iterator[bytes]:
    packed = np.frombuffer(b"".join(pieces), KEYED)
    edges = stars(packed["key"], packed["handle"])
    if len(edges):
        yield edges.tobytes()


class _Forest(beam.CombineFn):  # type: ignore[misc]
    """Packed edges to the packed spanning forest of all."""

    def create_accumulator(self) -> list[bytes]:
        return []

    def add_input(self, accumulator: list[bytes], edges: bytes) -> list[bytes]:
        accumulator.append(edges)
        return self.compact(accumulator) if sum(map(len, accumulator)) > _SHRINK_BYTES else accumulator

    def merge_accumulators(self, accumulators: Iterable[list[bytes]]) -> list[bytes]:
        return self.compact([edges for accumulator in accumulators for edges in accumulator])

    def compact(self, accumulator: list[bytes]) -> list[bytes]:
        return [self.extract_output(accumulator)]

    def extract_output(self, accumulator: list[bytes]) -> bytes:
        return forest(np.frombuffer(b"".join(accumulator), np.uint64).reshape(-1, 2)).tobytes()


def _candidates(packed: bytes) -> Iterator[tuple[int, bytes]]:
    """The forest to (shard, packed blocks and handles)."""
    edges = np.frombuffer(packed, np.uint64).reshape(-1, 2)
    roots = np.unique(edges[:, 0])
    members = np.empty(len(roots) + len(edges), KEYED)
    members["key"] = np.concatenate([roots, edges[:, 0]])
    members["handle"] = np.concatenate([roots, edges[:, 1]])
    members = members[np.argsort(members["handle"])]
    yield from ((shard, piece.tobytes()) for shard, piece in by_shard(members))


class _Members(beam.DoFn):  # type: ignore[misc]
    """(Shard, packed blocks and handles) to (stretch of blocks, packed members)."""

    def __init__(self, paths: Sequence[str], options: NearDup) -> None:
        self._paths = paths
        self._options = options

    def process(self, wanted: tuple[int, bytes]) -> Iterator[tuple[int, bytes]]:
        shard, permutations = wanted[0], self._options.permutations
        blocks = np.frombuffer(wanted[1], KEYED)
        rows = (blocks["handle"] & np.uint64(0xFFFFFFFF)).astype(np.int64)
        stretches = self._options.ranges * (parameters(self._options.threshold, permutations).bands + 1)
        for first, batch in _read(self._paths[shard], ["doc_id", "captured_at", "signature"], permutations):
            begin, end = np.searchsorted(rows, [first, first + batch.num_rows])
            members = members_of(batch, blocks[begin:end], first, permutations)
            yield from _pieces(members, hash_range(mix64(members["block"]), stretches))


class _Clusters(beam.DoFn):  # type: ignore[misc]
    """(Stretch of blocks, packed members) to (shard, packed rows of its cluster file)."""

    def __init__(self, options: NearDup) -> None:
        self._options = options
        self._unchecked = Metrics.counter(_NAMESPACE, "pairs_unchecked")

    def process(self, group: tuple[int, Iterable[bytes]]) -> Iterator[tuple[int, bytes]]:
        members = np.frombuffer(b"".join(group[1]), member_dtype(self._options.permutations))
        found, unchecked = resolve(members, self._options)
        self._unchecked.inc(unchecked)
        yield from ((shard, piece.tobytes()) for shard, piece in by_shard(found))


class _Write(beam.DoFn):  # type: ignore[misc]
    """(Shard, packed rows) to its cluster file."""

    def __init__(self, shards: Sequence[ShardSignatures]) -> None:
        self._shards = shards

    def process(self, group: tuple[int, Iterable[bytes]]) -> Iterator[ShardClusters]:
        shard = self._shards[group[0]]
        found = np.frombuffer(b"".join(group[1]), FOUND)
        files.write_parquet(shard.clusters, cluster_table(found))
        yield ShardClusters(shard.name, len(found), int((~found["kept"]).sum()))


def _read(path: str, columns: list[str], permutations: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The batches of a signature file, each with the row that it begins at."""
    with files.open_read(path) as stream, pq.ParquetFile(stream) as file:
        width = file.schema_arrow.field("signature").type
        if width != pa.binary(4 * permutations):
            raise JobError(
                f"{path}: signatures are {width}, but the job asks for {permutations} permutations; run again"
            )
        row = 0
        for batch in file.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
            yield row, batch
            row += batch.num_rows
