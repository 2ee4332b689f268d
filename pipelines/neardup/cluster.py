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

    units = [ShardSignatures("a.warc.gz", "a.signatures.parquet", "a.clusters.parquet", TextColumn("a.parquet"))]
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        pipeline | FindClusters(units, NearDup()) | beam.Map(print)

The result depends on the units' contents and names alone, not on their order, on ``ranges`` or on the workers.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import numpy.typing as npt
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput

from pipelines import files
from pipelines.neardup.bands import hash_range, mix64
from pipelines.neardup.candidates import FindEdges, JoinEdges, ShardSignatures, candidates, read_signatures
from pipelines.neardup.members import (
    KEYED,
    MEMBER_COLUMNS,
    Members,
    TextSets,
    by_unit,
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

_NAMESPACE = "neardup"
_STRETCHES = 4  # groups of blocks for each hash range of a band: members are wider than keys
_RESOLVED, _WAITING, _WANTED = "resolved", "waiting", "wanted"
_NONE = np.empty(0, np.uint32)


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
    compared, and ``neardup/pairs_estimated`` counts those that were decided without their sets. Units come by name,
    as :func:`pipelines.neardup.search.find_clusters` puts them.
    """

    def __init__(self, shards: Sequence[ShardSignatures], options: NearDup) -> None:
        super().__init__()
        self._shards = shards
        self._options = options

    def expand(self, pbegin: Any) -> beam.PCollection[ShardClusters]:
        """Wires the steps."""
        everywhere = pbegin | "EveryShard" >> beam.Create([(i, b"") for i in range(len(self._shards))])
        if not self._options.enabled:
            return everywhere | "Nothing" >> _Write(self._shards)
        blocks = (
            everywhere
            | "Edges" >> FindEdges(self._shards, self._options)
            | "Blocks" >> JoinEdges()
            | "Candidates" >> beam.FlatMap(candidates).with_output_types(tuple[int, bytes])
        )
        found = blocks | "Resolve" >> Resolve(self._shards, self._options)
        return (everywhere, found) | "All" >> beam.Flatten() | "Results" >> _Write(self._shards)


class WriteEdges(beam.PTransform):  # type: ignore[misc]
    """The first half of :class:`FindClusters` for more edges than one process holds: candidate edges to files."""

    def __init__(self, shards: Sequence[ShardSignatures], options: NearDup, folder: str) -> None:
        super().__init__()
        self._shards = shards
        self._options = options
        self._folder = folder

    def expand(self, pbegin: Any) -> beam.PCollection[str]:
        """Wires the steps."""
        return (
            pbegin
            | "EveryShard" >> beam.Create([(i, b"") for i in range(len(self._shards))])
            | "Edges" >> FindEdges(self._shards, self._options)
            | "Save" >> beam.MapTuple(functools.partial(_save, self._folder)).with_output_types(str)
        )


class ResolveComponents(beam.PTransform):  # type: ignore[misc]
    """The second half: files that together are the forest of all edges to cluster files."""

    def __init__(self, shards: Sequence[ShardSignatures], options: NearDup, components: Sequence[str]) -> None:
        super().__init__()
        self._shards = shards
        self._options = options
        self._components = components

    def expand(self, pbegin: Any) -> beam.PCollection[ShardClusters]:
        """Wires the steps."""
        everywhere = pbegin | "EveryShard" >> beam.Create([(i, b"") for i in range(len(self._shards))])
        blocks = (
            pbegin
            | "Components" >> beam.Create(self._components)
            | "SpreadComponents" >> beam.Reshuffle()
            | "Load" >> beam.Map(files.read_bytes)
            | "Candidates" >> beam.FlatMap(candidates).with_output_types(tuple[int, bytes])
        )
        found = blocks | "Resolve" >> Resolve(self._shards, self._options)
        return (everywhere, found) | "All" >> beam.Flatten() | "Results" >> _Write(self._shards)


def _save(folder: str, key: int, edges: bytes) -> str:
    path = files.join(folder, f"{key:08}.edges")
    files.write_bytes(path, edges)
    return path


class Resolve(beam.PTransform):  # type: ignore[misc]
    """(Unit, packed blocks and handles) to (unit, packed rows of its cluster file)."""

    def __init__(self, shards: Sequence[ShardSignatures], options: NearDup) -> None:
        super().__init__()
        self._shards = shards
        self._options = options

    def expand(self, candidates: beam.PCollection[tuple[int, bytes]]) -> beam.PCollection[tuple[int, bytes]]:
        """Wires members, clusters and, where signatures are to be checked, sets."""
        clusters = (
            candidates
            | "ByCandidateUnit" >> beam.GroupByKey()
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


class _Members(beam.DoFn):  # type: ignore[misc]
    """(Unit, packed blocks and handles) to (stretch of blocks, packed members)."""

    def __init__(self, shards: Sequence[ShardSignatures], options: NearDup) -> None:
        self._paths = [shard.signatures for shard in shards]
        self._options = options

    def process(self, wanted: tuple[int, Iterable[bytes]]) -> Iterator[tuple[int, bytes]]:
        permutations = self._options.permutations
        blocks = np.frombuffer(b"".join(wanted[1]), KEYED)
        # The first document of a block comes with every piece that holds others of it.
        blocks = blocks[np.unique(blocks["handle"], return_index=True)[1]]
        rows = (blocks["handle"] & np.uint64(0xFFFFFFFF)).astype(np.int64)
        pieces = []
        for first, batch in read_signatures(self._paths[wanted[0]], MEMBER_COLUMNS, permutations):
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
    return hash_range(mix64(blocks), _STRETCHES * options.ranges)


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
            at = np.flatnonzero(stretches == stretch)
            held = [hashes[offsets[i] : offsets[i] + sizes[i]] for i in at]
            yield int(stretch), pack_sets(TextSets(wanted["handle"][at], sizes[at], np.concatenate([_NONE, *held])))


class _Write(beam.PTransform):  # type: ignore[misc]
    """(Unit, packed rows or nothing) to the cluster files of all units."""

    def __init__(self, shards: Sequence[ShardSignatures]) -> None:
        super().__init__()
        self._shards = shards

    def expand(self, found: beam.PCollection[tuple[int, bytes]]) -> beam.PCollection[ShardClusters]:
        return (
            found
            | "ByShard" >> beam.GroupByKey()
            | "Write" >> beam.ParDo(_WriteUnit(self._shards)).with_output_types(ShardClusters)
        )


class _WriteUnit(beam.DoFn):  # type: ignore[misc]
    """(Unit, packed rows) to its cluster file."""

    def __init__(self, shards: Sequence[ShardSignatures]) -> None:
        self._shards = shards

    def process(self, group: tuple[int, Iterable[bytes]]) -> Iterator[ShardClusters]:
        shard = self._shards[group[0]]
        found = np.frombuffer(b"".join(group[1]), FOUND)
        files.write_parquet(shard.clusters, cluster_table(found))
        yield ShardClusters(shard.name, len(found), int((~found["kept"]).sum()))
