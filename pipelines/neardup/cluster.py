"""The cluster pipeline: signature files in, cluster files out.

::

    signatures ─▶ bands ─▶ buckets ─▶ blocks ─▶ members ─▶ clusters ─▶ one file a unit
                                                  ▲            │
                                                  └── sets ◀───┘ of the few texts that signatures leave in doubt

1. **Bands**: each unit hashes its signatures band by band. The exact hash of the text is one more band; rows that
   repeat an earlier row's text in the same unit go there only.
2. **Buckets**: documents that share a key are joined to the smallest of them.
3. **Blocks**: connected components of these candidate pairs, in one reducer over spanning forests that every worker
   has shrunk beforehand. It holds 16 bytes for each edge, twice while pieces are joined, and 90 more while it works
   (measured on 5 million edges). By that, 40 million edges need about 5 GB.
4. **Members**: each unit is read once more, in order, and sends each candidate's signature to its block.
5. **Clusters**: all pairs of a block are compared (:mod:`pipelines.neardup.verify`), which gives the clusters, the
   copy that stays and each document's older twin.
6. **Sets**: where signatures leave a doubt, the shingle sets of the texts in question are computed, unit by unit, and
   their blocks are resolved again. With ``verify: estimate`` no text is read.
7. **Write**: rows go back to the unit that holds the document.

What is shuffled are integers and packed bytes, thousands of rows to an element::

    shards = [ShardSignatures("a.warc.gz", "a.signatures.parquet", "a.clusters.parquet", TextColumn("a.parquet"))]
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        pipeline | FindClusters(shards, NearDup()) | beam.Map(print)

The result depends on the units' contents and names alone, not on their order, on ``ranges`` or on the workers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput

from pipelines import files
from pipelines.errors import JobError
from pipelines.neardup.bands import band_hashes, hash_range, mix64, parameters
from pipelines.neardup.components import forest, stars
from pipelines.neardup.members import (
    KEYED,
    MEMBER_COLUMNS,
    Members,
    Packed,
    TextSets,
    by_unit,
    fixed_width,
    joined,
    members_of,
    once_signed,
    pack_members,
    pack_sets,
    unpack,
)
from pipelines.neardup.options import NearDup
from pipelines.neardup.resolve import FOUND, cluster_table, resolve
from pipelines.neardup.sets import shingle_sets
from pipelines.neardup.texts import Texts

_NAMESPACE = "neardup"
_BATCH_ROWS = 1 << 16
_RESOLVED, _WAITING, _WANTED = "resolved", "waiting", "wanted"
_NONE = np.empty(0, np.uint32)
_SHRINK_BYTES = 64 << 20  # a worker shrinks the edges that it holds to a forest at this size


class ShardSignatures(NamedTuple):
    """One unit: its name, the signature file to read, the cluster file to write, and where the texts lie."""

    name: str
    signatures: str
    clusters: str
    texts: Texts


class ShardClusters(NamedTuple):
    """What became of one unit: rows in its cluster file, and how many of these documents are removed."""

    name: str
    rows: int
    removed: int


class FindClusters(beam.PTransform):  # type: ignore[misc]
    """Finds near-duplicates over all units and writes one file of :data:`pipelines.records.CLUSTERS` for each.

    A unit without near-duplicates gets an empty file, so a missing file is always an error; with ``enabled: false``
    all are empty. Gives a PCollection of :class:`ShardClusters`. Of what lies beyond the bounds of
    :mod:`pipelines.neardup.verify`, the metric ``neardup/pairs_unchecked`` bounds the candidate pairs that were not
    compared, and ``neardup/pairs_estimated`` counts those that were decided without their sets. Raises ValueError if
    two units share a name.
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
        self._shards = shards
        self._options = options

    def expand(self, shards: beam.PCollection[tuple[int, bytes]]) -> beam.PCollection[tuple[int, bytes]]:
        candidates = (
            shards
            | "Spread" >> beam.Reshuffle()
            | "Bands" >> beam.ParDo(_Bands(self._shards, self._options))
            | "ByBand" >> beam.GroupByKey()
            | "Buckets" >> beam.FlatMapTuple(_buckets).with_output_types(bytes)
            | "Blocks" >> beam.CombineGlobally(_Forest())
            | "Candidates" >> beam.FlatMap(_candidates).with_output_types(tuple[int, bytes])
        )
        return candidates | "Resolve" >> Resolve(self._shards, self._options)


class Resolve(beam.PTransform):  # type: ignore[misc]
    """(Unit, packed blocks and handles, ascending) to (unit, packed rows of its cluster file)."""

    def __init__(self, shards: Sequence[ShardSignatures], options: NearDup) -> None:
        super().__init__()
        self._shards = shards
        self._options = options

    def expand(self, candidates: beam.PCollection[tuple[int, bytes]]) -> beam.PCollection[tuple[int, bytes]]:
        """Wires members, clusters and, where signatures are to be checked, sets."""
        clusters = (
            candidates
            | "SpreadCandidates" >> beam.Reshuffle()
            | "Members" >> beam.ParDo(_Members(self._shards, self._options))
            | "ByBlock" >> beam.GroupByKey()
            | "Clusters" >> beam.ParDo(_Clusters(self._options, False)).with_outputs(_WAITING, _WANTED, main=_RESOLVED)
        )
        if self._options.verify == "estimate":
            return clusters[_RESOLVED]
        sets = (
            clusters[_WANTED]
            | "ByUnit" >> beam.GroupByKey()
            | "Sets" >> beam.ParDo(_Sets(self._shards, self._options)).with_output_types(tuple[int, bytes])
        )
        decided = (
            (clusters[_WAITING], sets)
            | "WithSets" >> beam.Flatten()
            | "ByWaitingBlock" >> beam.GroupByKey()
            | "Decided" >> beam.ParDo(_Clusters(self._options, True)).with_outputs(main=_RESOLVED)
        )
        return (clusters[_RESOLVED], decided[_RESOLVED]) | "AllResolved" >> beam.Flatten()


class _Bands(beam.DoFn):  # type: ignore[misc]
    """Unit to (band and hash range, packed keys and handles)."""

    def __init__(self, shards: Sequence[ShardSignatures], options: NearDup) -> None:
        self._paths = [shard.signatures for shard in shards]
        self._options = options

    def process(self, shard: tuple[int, bytes]) -> Iterator[tuple[int, bytes]]:
        options = self._options
        banding = parameters(options.threshold, options.permutations)
        texts, bands = [np.empty(0, np.uint64)], [np.empty((banding.bands, 0), np.uint64)]
        signed = [np.empty(0, bool)]
        for _, batch in _read(self._paths[shard[0]], ["text_sha256", "signature"], options.permutations):
            texts.append(fixed_width(batch.column("text_sha256"), np.dtype("<u8"))[:, 0])
            bands.append(band_hashes(fixed_width(batch.column("signature"), np.dtype("<u4")), banding))
            signed.append(batch.column("signature").is_valid().to_numpy(zero_copy_only=False))
        exact = np.concatenate(texts)
        handles = np.arange(len(exact), dtype=np.uint64) | np.uint64(shard[0] << 32)
        yield from _by_range(0, exact, handles, options.ranges)
        alone = np.flatnonzero(np.concatenate(signed))
        alone = alone[np.unique(exact[alone], return_index=True)[1]]
        for band, hashes in enumerate(np.concatenate(bands, axis=1), start=1):
            yield from _by_range(band, hashes[alone], handles[alone], options.ranges)


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
    """The forest to (unit, packed blocks and handles)."""
    edges = np.frombuffer(packed, np.uint64).reshape(-1, 2)
    roots = np.unique(edges[:, 0])
    members = np.empty(len(roots) + len(edges), KEYED)
    members["key"] = np.concatenate([roots, edges[:, 0]])
    members["handle"] = np.concatenate([roots, edges[:, 1]])
    members = members[np.argsort(members["handle"])]
    yield from ((shard, piece.tobytes()) for shard, piece in by_unit(members))


class _Members(beam.DoFn):  # type: ignore[misc]
    """(Unit, packed blocks and handles) to (stretch of blocks, packed members)."""

    def __init__(self, shards: Sequence[ShardSignatures], options: NearDup) -> None:
        self._paths = [shard.signatures for shard in shards]
        self._options = options

    def process(self, wanted: tuple[int, bytes]) -> Iterator[tuple[int, bytes]]:
        permutations = self._options.permutations
        blocks = np.frombuffer(wanted[1], KEYED)
        rows = (blocks["handle"] & np.uint64(0xFFFFFFFF)).astype(np.int64)
        pieces = []
        for first, batch in _read(self._paths[wanted[0]], MEMBER_COLUMNS, permutations):
            begin, end = np.searchsorted(rows, [first, first + batch.num_rows])
            pieces.append(once_signed(members_of(batch, blocks[begin:end], first, permutations)))
        members = once_signed(joined(pieces, permutations))
        yield from _by_stretch(members, self._options)


def _by_stretch(members: Members, options: NearDup) -> Iterator[tuple[int, bytes]]:
    stretches = _stretches(members.rows["block"], options)
    for stretch in np.unique(stretches):
        yield int(stretch), pack_members(members.take(np.flatnonzero(stretches == stretch)))


def _stretches(blocks: npt.NDArray[np.uint64], options: NearDup) -> npt.NDArray[np.int64]:
    """Which group of blocks each one is resolved in."""
    count = options.ranges * (parameters(options.threshold, options.permutations).bands + 1)
    return hash_range(mix64(blocks), count)


class _Clusters(beam.DoFn):  # type: ignore[misc]
    """(Stretch of blocks, packed members and sets) to (unit, packed rows of its cluster file).

    Before sets are there, members of blocks that need some come out as ``waiting``, by stretch, and the documents in
    question as ``wanted``, by unit.
    """

    def __init__(self, options: NearDup, sets: bool) -> None:
        self._options = options
        self._sets = sets
        self._unchecked = Metrics.counter(_NAMESPACE, "pairs_unchecked")
        self._estimated = Metrics.counter(_NAMESPACE, "pairs_estimated")

    def process(self, group: tuple[int, Iterable[bytes]]) -> Iterator[Any]:
        members, sets = unpack(group[1], self._options.permutations)
        resolved = resolve(members, sets if self._sets else None, self._options)
        self._unchecked.inc(resolved.unchecked)
        self._estimated.inc(resolved.estimated)
        yield from ((unit, piece.tobytes()) for unit, piece in by_unit(resolved.found))
        if len(resolved.wanted):
            yield TaggedOutput(_WAITING, (group[0], pack_members(resolved.waiting)))
        yield from (TaggedOutput(_WANTED, (unit, piece.tobytes())) for unit, piece in by_unit(resolved.wanted))


class _Sets(beam.DoFn):  # type: ignore[misc]
    """(Unit, packed blocks and handles) to (stretch of blocks, packed shingle sets)."""

    def __init__(self, shards: Sequence[ShardSignatures], options: NearDup) -> None:
        self._texts = [shard.texts for shard in shards]
        self._options = options

    def process(self, group: tuple[int, Iterable[bytes]]) -> Iterator[tuple[int, bytes]]:
        wanted = np.frombuffer(b"".join(group[1]), KEYED)
        wanted = wanted[np.argsort(wanted["handle"])]
        rows = (wanted["handle"] & np.uint64(0xFFFFFFFF)).astype(np.int64)
        texts = self._texts[group[0]].read(rows)
        hashes, offsets = shingle_sets(texts, self._options.shingle)
        sizes = np.where(texts.is_valid().to_numpy(zero_copy_only=False), np.diff(offsets), 0)
        stretches = _stretches(wanted["key"], self._options)
        for stretch in np.unique(stretches):
            at = np.flatnonzero((stretches == stretch) & (sizes > 0))
            held = [hashes[offsets[i] : offsets[i + 1]] for i in at]
            yield int(stretch), pack_sets(TextSets(wanted["handle"][at], sizes[at], np.concatenate([_NONE, *held])))


class _Write(beam.DoFn):  # type: ignore[misc]
    """(Unit, packed rows) to its cluster file."""

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
