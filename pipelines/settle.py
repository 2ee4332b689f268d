"""Staged documents and clusters to the output folders: the last of the three pipelines.

The unit of work is a pack: one shard, or several small ones in the order of their names. A pack writes one part into
each output folder and the counts that merge into the statistics; its marker comes last, so that a run that was killed
goes on with the packs that have none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines import files
from pipelines.counting import Counting, tallies
from pipelines.errors import naming
from pipelines.layout import DOCUMENT_PLACES, Layout, Staged
from pipelines.marks.apply import TALLIED, Findings, tally_marks, with_marks
from pipelines.neardup.options import NearDup
from pipelines.provenance.fusion import Model, with_posterior
from pipelines.records import Place
from pipelines.repeats.apply import repeat_part
from pipelines.repeats.options import Repeats
from pipelines.reserve.entries import document_entries
from pipelines.reserve.index import index_part
from pipelines.reserve.manifest import FileDigest, write_parquet
from pipelines.reserve.unsealed import write_entries
from pipelines.reserve.writer import Rules, StagedShard, gather, judge, output_part, rejects_part

REPEAT_TALLIES = ("repeat_shares", "repeat_samples")
MARK_TALLY = "watermarks"

_ROW_GROUP = 20_000  # rows; some 50 MB of text, so that a reader need not hold a whole part


class StagedName(NamedTuple):
    """A shard's name and where its staged files lie."""

    name: str
    staged: Staged


class Pack(NamedTuple):
    """The shards that share one output part."""

    number: int
    shards: tuple[StagedName, ...]
    digest: str  # of everything that decides the part's bytes


class Settled(NamedTuple):
    """How many records of a pack went where."""

    number: int
    records: dict[str, int]


class Packing(NamedTuple):
    """A shard and the bytes of text (UTF-8) that it staged."""

    shard: StagedName
    text_bytes: int
    digest: str


def pack(shards: Iterable[Packing], part_bytes: int) -> Iterator[tuple[Packing, ...]]:
    """Groups shards, in the order given, into parts of about `part_bytes` of text; a larger shard stands alone."""
    group: list[Packing] = []
    held = 0
    for shard in shards:
        if group and held + shard.text_bytes > part_bytes:
            yield tuple(group)
            group, held = [], 0
        group.append(shard)
        held += shard.text_bytes
    if group:
        yield tuple(group)


class How(NamedTuple):
    """What settling needs to know."""

    layout: Layout
    rules: Rules
    counting: Counting
    signing: NearDup | None  # of the index, if there is to be one
    repeats: Repeats
    findings: Findings | None  # of watermark tests, where the job looks for keys
    fusion: Model | None = None  # of the posterior, where the job wants one
    context: bytes | None = None  # of the seal's entries, where there is to be a seal


class SettlePacks(beam.PTransform):  # type: ignore[misc]
    """Writes the output parts of the packs; gives one :class:`Settled` each."""

    def __init__(self, packs: Sequence[Pack], how: How) -> None:
        super().__init__()
        self._packs = list(packs)
        self._do = SettlePack(how)

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """Wires the steps."""
        return (
            pipeline
            | "packs" >> beam.Create(self._packs)
            | "one pack, one worker" >> beam.Reshuffle()
            | "judge, route and write" >> beam.ParDo(self._do)
        )


class SettlePack(beam.DoFn):  # type: ignore[misc]
    """One pack → its parts and counts."""

    def __init__(self, how: How) -> None:
        self._how = how

    def process(self, pack: Pack) -> Iterator[Settled]:
        """One pack."""
        with naming(", ".join(shard.name for shard in pack.shards)):
            settled = settle_pack(pack, self._how)
        yield settled


def settle_pack(pack: Pack, how: How) -> Settled:
    """Judges and writes one pack; the marker appears last."""
    layout, repeats, index = how.layout, how.repeats, how.signing
    shards = [_read(shard, how.findings) for shard in pack.shards]
    judged = judge(gather(shards), how.rules)
    written: list[FileDigest] = []
    # Before anything is cut: later runs compare whole texts.
    if index is not None:
        path = layout.index_part(pack.number)
        written.append(write_parquet(path, layout.name(path), index_part(judged, index), use_dictionary=False))
    counts: dict[str, pa.Table] = {}
    if how.findings is not None:
        marks = pa.concat_tables([files.read_parquet(shard.staged.marks, TALLIED) for shard in pack.shards])
        counts[MARK_TALLY] = tally_marks(marks, how.findings)
    if repeats.mode != "off":
        largest = files.read_parquet(layout.repeats_largest, ["paragraph"])["paragraph"].to_numpy()
        judged, *tables = repeat_part(judged, repeats, _recurring(pack), largest)
        counts |= dict(zip(REPEAT_TALLIES, tables, strict=True))
    # Beside what is judged and counted: the posterior is no finding, and no verdict or count may come of it.
    told = judged if how.fusion is None else with_posterior(judged, how.fusion, how.rules.cutoff)
    records, entries = {}, []
    for place in (*DOCUMENT_PLACES, Place.DUPLICATES):
        part, path = output_part(told, place), layout.part(place, pack.number)
        written.append(write_parquet(path, layout.name(path), part, row_group_size=_ROW_GROUP))
        records[place.value] = part.num_rows
        if how.context is not None:
            entries.append(document_entries(part, place, how.context))
        del part
    rejects, path = rejects_part(shards), layout.part(Place.REJECTS, pack.number)
    written.append(write_parquet(path, layout.name(path), rejects))
    records[Place.REJECTS.value] = rejects.num_rows
    marker: dict[str, Any] = {"digest": pack.digest, "records": records, "files": [asdict(one) for one in written]}
    if how.context is not None:
        marker["entries"] = write_entries(layout.entries(pack.number), entries)
    for kind, table in (tallies(judged, rejects, how.counting) | counts).items():
        files.write_parquet(layout.tally(kind, pack.number), table)
    files.write_json(layout.settled(pack.number), marker)
    return Settled(pack.number, records)


def _recurring(pack: Pack) -> npt.NDArray[np.uint64]:
    """The paragraphs of the pack's shards that recur, ascending."""
    columns = [files.read_parquet(shard.staged.recurring, ["paragraph"])["paragraph"] for shard in pack.shards]
    return np.unique(np.concatenate([column.to_numpy() for column in columns]))


def _read(shard: StagedName, findings: Findings | None) -> StagedShard:
    paths = shard.staged
    read = files.read_parquet
    documents = read(paths.documents)
    if findings is not None:
        documents = with_marks(documents, read(paths.marks, TALLIED), findings)
    return StagedShard(shard.name, documents, read(paths.signatures), read(paths.clusters), read(paths.rejects))
