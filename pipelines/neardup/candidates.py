"""Candidate pairs: the part of the cluster pipeline that looks at whole signatures' bands, and compares nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import files
from pipelines.errors import JobError
from pipelines.neardup.bands import band_hashes, hash_range, parameters
from pipelines.neardup.components import forest, stars
from pipelines.neardup.members import KEYED, Packed, by_unit, fixed_width
from pipelines.neardup.options import NearDup
from pipelines.neardup.texts import Texts

_BATCH_ROWS = 1 << 16
_SHRINK_BYTES = 64 << 20  # a worker shrinks the edges that it holds to a forest at this size


class ShardSignatures(NamedTuple):
    """One unit: its name, the signature file to read, the cluster file to write, and where the texts lie."""

    name: str
    signatures: str
    clusters: str
    texts: Texts


class FindEdges(beam.PTransform):  # type: ignore[misc]
    """(Ordinal of a unit, nothing) to (band and hash range, packed candidate edges of it)."""

    def __init__(self, shards: Sequence[ShardSignatures], options: NearDup) -> None:
        super().__init__()
        self._shards = shards
        self._options = options

    def expand(self, shards: beam.PCollection[tuple[int, bytes]]) -> beam.PCollection[tuple[int, bytes]]:
        """Wires bands and buckets."""
        return (
            shards
            | "Spread" >> beam.GroupByKey()
            | "Bands" >> beam.ParDo(_Bands(self._shards, self._options))
            | "ByBand" >> beam.GroupByKey()
            | "Buckets" >> beam.FlatMapTuple(_buckets).with_output_types(tuple[int, bytes])
        )


class _Bands(beam.DoFn):  # type: ignore[misc]
    """Unit to (band and hash range, packed keys and handles)."""

    def __init__(self, shards: Sequence[ShardSignatures], options: NearDup) -> None:
        self._paths = [shard.signatures for shard in shards]
        self._options = options

    def process(self, shard: tuple[int, Iterable[bytes]]) -> Iterator[tuple[int, bytes]]:
        options = self._options
        banding = parameters(options.threshold, options.permutations)
        texts, bands = [np.empty(0, np.uint64)], [np.empty((banding.bands, 0), np.uint64)]
        signed = [np.empty(0, bool)]
        for _, batch in read_signatures(self._paths[shard[0]], ["text_sha256", "signature"], options.permutations):
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
    yield from ((band * ranges + i, piece) for i, piece in pieces_of(packed, at))


def pieces_of(packed: Packed, at: Any) -> Iterator[tuple[int, bytes]]:
    """Records by the group that each belongs to, as packed bytes."""
    order = np.argsort(at, kind="stable")
    packed, at = packed[order], at[order]
    borders = np.flatnonzero(np.diff(at)) + 1
    for begin, end in zip([0, *borders], [*borders, len(at)], strict=True):
        if end > begin:
            yield int(at[begin]), packed[begin:end].tobytes()


def _buckets(key: int, pieces: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    packed = np.frombuffer(b"".join(pieces), KEYED)
    edges = stars(packed["key"], packed["handle"])
    if len(edges):
        yield key, edges.tobytes()


class JoinEdges(beam.PTransform):  # type: ignore[misc]
    """(Any key, packed edges) to the packed spanning forest of all, in one process."""

    def expand(self, edges: beam.PCollection[tuple[int, bytes]]) -> beam.PCollection[bytes]:
        """Wires the steps."""
        return edges | "Packed" >> beam.Values() | "Forest" >> beam.CombineGlobally(_Forest())


class _Forest(beam.CombineFn):  # type: ignore[misc]
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


def candidates(packed: bytes) -> Iterator[tuple[int, bytes]]:
    """A forest, or some edges of one, to (unit, packed blocks and handles)."""
    edges = np.frombuffer(packed, np.uint64).reshape(-1, 2)
    roots = np.unique(edges[:, 0])
    members = np.empty(len(roots) + len(edges), KEYED)
    members["key"] = np.concatenate([roots, edges[:, 0]])
    members["handle"] = np.concatenate([roots, edges[:, 1]])
    members = members[np.argsort(members["handle"])]
    yield from ((unit, piece.tobytes()) for unit, piece in by_unit(members))


def read_signatures(path: str, columns: list[str], permutations: int) -> Iterator[tuple[int, pa.RecordBatch]]:
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
