"""Earlier outputs that a run removes near-duplicates against: their indexes of signatures, and what they now lose.

A finished run leaves an index beside its documents: who they are, when they were captured, and the signature of each
distinct text. A later run clusters its own documents together with those of the indexes, so that the outputs in
sequence keep exactly what one run over all shards would keep. Earlier outputs are never written to: a document of
theirs that one run would have removed is listed in ``superseded.parquet`` of the later one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines import files
from pipelines.errors import UsageError
from pipelines.layout import DOCUMENT_PLACES, Layout
from pipelines.neardup.candidates import ShardSignatures
from pipelines.neardup.options import NearDup
from pipelines.neardup.texts import ArchivedTexts
from pipelines.records import Place
from pipelines.reserve.index import difference, hex_digits, kept_in

SUPERSEDED = pa.schema(
    [
        pa.field("output", pa.string(), nullable=False),  # digest of the job that wrote the earlier output
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("kept_doc_id", pa.string(), nullable=False),  # the copy that one run over all would keep
        pa.field("kept_in", pa.string()),  # digest of the job that wrote its output; null: this one
        pa.field("jaccard", pa.float32(), nullable=False),  # similarity of the two
    ]
)


class Archive(NamedTuple):
    """An earlier output: where it lies, the digest of its job, its documents, and its parts' numbers."""

    output: str
    digest: str
    documents: int
    parts: tuple[int, ...]


class ArchivedPart(NamedTuple):
    """One part of an earlier output, as a unit of clustering."""

    archive: Archive
    unit: ShardSignatures


def find_archives(outputs: Sequence[str], own: str, options: NearDup) -> tuple[Archive, ...]:
    """The earlier outputs, in an order that does not depend on how they were named.

    Raises UsageError if one is not a finished run, has no index, or was signed otherwise than this job asks for.
    """
    if outputs and not options.enabled:
        raise UsageError("against: neardup.enabled is false, so nothing would be compared")
    archives = {archive.digest: archive for archive in (_archive(output, own, options) for output in outputs)}
    return tuple(archives[digest] for digest in sorted(archives))


def archived_parts(archives: Sequence[Archive], layout: Layout) -> list[ArchivedPart]:
    """The units of earlier outputs, in the order in which they stand before all units of the run itself."""
    found = []
    for archive in archives:
        for number in archive.parts:
            theirs = Layout(archive.output)
            holders = tuple(theirs.part(place, number) for place in (*DOCUMENT_PLACES, Place.DUPLICATES))
            index = theirs.index_part(number)
            clusters = layout.archived(archive.digest, number)
            name = f"\0{archive.digest}\0{number:020d}"  # before the name of any shard
            unit = ShardSignatures(name, index, clusters, ArchivedTexts(index, holders))
            found.append(ArchivedPart(archive, unit))
    return found


def write_superseded(path: str, parts: Sequence[ArchivedPart]) -> int:
    """Lists the documents that earlier outputs keep and one run over all would not; gives their number."""
    count = 0
    digests = [part.archive.digest for part in parts]
    with files.open_write(path) as out, pq.ParquetWriter(out, SUPERSEDED, compression="zstd") as writer:
        for part in parts:
            clusters = files.read_parquet(part.unit.clusters)
            index = files.read_parquet(part.unit.signatures, ["doc_id", "kept"]).take(clusters["row"])
            lost = pc.and_(index["kept"], pc.invert(clusters["kept"]))
            clusters, index = clusters.filter(lost).combine_chunks(), index.filter(lost)
            columns = {
                "output": pa.repeat(pa.scalar(part.archive.digest), len(clusters)),
                "doc_id": hex_digits(index["doc_id"]),
                "kept_doc_id": hex_digits(clusters["cluster_id"]),
                "kept_in": kept_in(clusters["kept_unit"], digests),
                "jaccard": clusters["jaccard"],
            }
            writer.write_table(pa.table(columns, schema=SUPERSEDED))
            count += len(clusters)
    return count


def _archive(output: str, own: str, options: NearDup) -> Archive:
    layout = Layout(output)
    summary = files.read_json(layout.summary)
    if summary is None:
        raise UsageError(f"against: {output}: no finished run here (no summary.json)")
    if files.join(output, "x") == files.join(own, "x"):
        raise UsageError(f"against: {output} is the folder that this job writes to; name another --output")
    numbers = sorted(layout.index_number(found.path) for found in files.listing(layout.index_glob))
    if not numbers:
        raise UsageError(
            f"against: {output}: this run left no index; run it again with neardup.enabled and neardup.index"
        )
    with files.open_read(layout.index_part(numbers[0])) as stream:
        unlike = difference(pq.read_schema(stream), options)
    if unlike is not None:
        raise UsageError(
            f"against: {output}: signed with {unlike[0]} {unlike[1]}, and this job with {unlike[2]}; "
            "such signatures cannot be compared: use the same settings and version for both"
        )
    documents = sum(summary["records"][place.value] for place in (*DOCUMENT_PLACES, Place.DUPLICATES))
    return Archive(output, str(summary["job"]["digest"]), documents, tuple(numbers))
