"""Counting the hosts of paragraphs: one file of hashes a shard in, the recurring ones of that shard out, never text.

::

    paragraphs ─▶ pairs of a shard ─▶ hosts of each paragraph ─▶ one file a shard
                                                  └─▶ one table of the largest

What is shuffled are packed pairs of paragraph and host, 24 bytes each and distinct inside a shard; an element carries
all of a shard in one range of hashes. The number of ranges grows with the root of the number of shards, so that
neither the elements nor a reducer's share run away. A reducer takes some 80 bytes for each pair in its range (measured
on 10 million), and a recurring paragraph has one pair for each host in each shard::

    shards = [ShardParagraphs("a", "work/a.paragraphs.parquet", "work/a.clusters.parquet", "work/a.recurring.parquet")]
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        pipeline | CountRepeats(shards, Repeats(mode="count"), "work/largest.parquet") | beam.Map(print)

The counts are exact, and the same for any order of shards and any number of workers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow.compute as pc

from pipelines import files
from pipelines.repeats.options import Repeats
from pipelines.repeats.pairs import COUNTED, PAIR, by_range, largest, pairs_of, recurring_of, recurring_table

LARGEST = 1000  # paragraphs in the table for people
PARAGRAPHS_KEY = "paragraphs"  # in that table's metadata: how many paragraphs recur in all

_BACK, _TOP = "back", "top"
_LEAST_RANGES, _MOST_RANGES = 16, 4096


class ShardParagraphs(NamedTuple):
    """One shard: its name, the paragraph and cluster files to read and the file to write."""

    name: str
    paragraphs: str
    clusters: str
    recurring: str


class ShardRecurring(NamedTuple):
    """How many different paragraphs of a shard recur."""

    name: str
    paragraphs: int


class CountRepeats(beam.PTransform):  # type: ignore[misc]
    """Finds the paragraphs on at least ``hosts`` different hosts and writes one file of ``RECURRING`` for each shard.

    Documents that clustering removes do not count. A shard without recurring paragraphs gets an empty file, so a
    missing file is always an error. ``table`` takes the :data:`LARGEST` ones by bytes, of all shards. Gives a
    PCollection of :class:`ShardRecurring`. Raises ValueError if two shards share a name.
    """

    def __init__(self, shards: Sequence[ShardParagraphs], options: Repeats, table: str) -> None:
        super().__init__()
        self._shards = sorted(shards)
        self._options = options
        self._table = table
        if len({shard.name for shard in shards}) < len(shards):
            raise ValueError("two shards have the same name")

    def expand(self, pbegin: Any) -> beam.PCollection[ShardRecurring]:
        """Wires the steps."""
        everywhere = pbegin | "EveryShard" >> beam.Create([(i, b"") for i in range(len(self._shards))])
        counted = (
            everywhere
            | "Spread" >> beam.Reshuffle()
            | "Pairs" >> beam.ParDo(_Pairs(self._shards))
            | "ByHash" >> beam.GroupByKey()
            | "Hosts" >> beam.ParDo(_Hosts(self._options.hosts)).with_outputs(_TOP, main=_BACK)
        )
        _ = (
            counted[_TOP]
            | "Largest" >> beam.CombineGlobally(_Largest())
            | "WriteLargest" >> beam.Map(_write_largest, self._table)
        )
        return (
            (everywhere, counted[_BACK])
            | "All" >> beam.Flatten()
            | "ByShard" >> beam.GroupByKey()
            | "Write" >> beam.ParDo(_Write(self._shards)).with_output_types(ShardRecurring)
        )


def ranges_for(shards: int) -> int:
    """Into how many ranges of hashes the work on so many shards is cut; does not change results."""
    return min(max(_LEAST_RANGES, 16 * math.isqrt(shards)), _MOST_RANGES)


class _Pairs(beam.DoFn):  # type: ignore[misc]
    """Shard to (hash range, (shard, packed pairs))."""

    def __init__(self, shards: Sequence[ShardParagraphs]) -> None:
        self._shards = shards

    def process(self, shard: tuple[int, bytes]) -> Iterator[tuple[int, tuple[int, bytes]]]:
        paths = self._shards[shard[0]]
        clusters = files.read_parquet(paths.clusters, ["row", "kept"])
        removed = clusters.filter(pc.invert(clusters["kept"]))["row"].to_numpy()
        pairs = pairs_of(files.read_parquet(paths.paragraphs), removed)
        for number, piece in by_range(pairs, ranges_for(len(self._shards))):
            yield number, (shard[0], piece.tobytes())


class _Hosts(beam.DoFn):  # type: ignore[misc]
    """(Hash range, pieces) to (shard, packed counts of its recurring paragraphs), and the largest of the range."""

    def __init__(self, hosts: int) -> None:
        self._hosts = hosts

    def process(self, group: tuple[int, Iterable[tuple[int, bytes]]]) -> Iterator[Any]:
        pieces = list(group[1])
        counted = recurring_of(np.frombuffer(b"".join(piece for _, piece in pieces), PAIR), self._hosts)
        if not len(counted):
            return
        for shard, piece in pieces:
            here = np.isin(counted["paragraph"], np.frombuffer(piece, PAIR)["paragraph"])
            if here.any():
                yield shard, counted[here].tobytes()
        yield beam.pvalue.TaggedOutput(_TOP, (len(counted), largest(counted, LARGEST).tobytes()))


class _Largest(beam.CombineFn):  # type: ignore[misc]
    """(Number, packed counts) to the number of all and the largest of all."""

    def create_accumulator(self) -> tuple[int, bytes]:
        return 0, b""

    def add_input(self, accumulator: tuple[int, bytes], part: tuple[int, bytes]) -> tuple[int, bytes]:
        return self.merge_accumulators([accumulator, part])

    def merge_accumulators(self, accumulators: Iterable[tuple[int, bytes]]) -> tuple[int, bytes]:
        numbers, parts = zip(*accumulators, strict=True)
        return sum(numbers), largest(np.frombuffer(b"".join(parts), COUNTED), LARGEST).tobytes()

    def extract_output(self, accumulator: tuple[int, bytes]) -> tuple[int, bytes]:
        return accumulator


def _write_largest(found: tuple[int, bytes], path: str) -> None:
    table = recurring_table(np.frombuffer(found[1], COUNTED))
    files.write_parquet(path, table.replace_schema_metadata({PARAGRAPHS_KEY: str(found[0])}))


class _Write(beam.DoFn):  # type: ignore[misc]
    """(Shard, packed counts) to its file."""

    def __init__(self, shards: Sequence[ShardParagraphs]) -> None:
        self._shards = shards

    def process(self, group: tuple[int, Iterable[bytes]]) -> Iterator[ShardRecurring]:
        shard = self._shards[group[0]]
        counted = np.frombuffer(b"".join(group[1]), COUNTED)
        counted = counted[np.argsort(counted["paragraph"])]
        files.write_parquet(shard.recurring, recurring_table(counted))
        yield ShardRecurring(shard.name, len(counted))
