"""One pack of staged shards to its output parts: the kernel of `settle`. No Beam.

A pack is one shard, or several small ones; its rows leave sorted by `doc_id`, so that the files do not depend on who
wrote them or in what order.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.provenance.policy import Policy, reasons
from pipelines.provenance.verdict import decide
from pipelines.records import (
    CLUSTERS,
    DUPLICATES,
    EVIDENCE,
    OUTPUT,
    REJECTS,
    SHA256,
    TIMESTAMP,
    Evidence,
    EvidenceBuilder,
    Place,
    canonical_time,
)
from pipelines.reserve.index import hex_digits, kept_in

_SAMPLES = 3  # documents of each verdict that the report shows
_SAMPLE_CHARACTERS = 600


class Rules(NamedTuple):
    """What decides a verdict."""

    policy: Policy
    cutoff: datetime
    threshold: float  # probability from which the detector calls a text machine-made
    archived: tuple[str, ...] = ()  # of each unit of an earlier output, in their order: the digest of its job


class StagedShard(NamedTuple):
    """The tables of one shard: `records.STAGED`, signatures, `records.CLUSTERS` and `records.REJECTS`."""

    name: str
    documents: pa.Table
    signatures: pa.Table
    clusters: pa.Table
    rejects: pa.Table


def gather(shards: Sequence[StagedShard]) -> pa.Table:
    """One table of all documents of a pack, in the order of the shards, with what clustering found on each row."""
    return pa.concat_tables([_widen(shard) for shard in shards]).combine_chunks()


def judge(documents: pa.Table, rules: Rules) -> pa.Table:
    """Adds `verdict`, `place` and the evidence of older copies; rows leave sorted by `doc_id`."""
    documents = documents.set_column(
        documents.schema.get_field_index("evidence"),
        pa.field("evidence", EVIDENCE, False),
        _with_older(documents, rules),
    )
    decisions = decide(
        rules.policy,
        _whole(documents["evidence"]),
        _whole(documents["captured_at"]),
        _whole(documents["older_captured_at"]),
        _whole(documents["machine_probability"]),
        cutoff=rules.cutoff,
        threshold=rules.threshold,
    )
    removed = pc.invert(pc.fill_null(documents["kept"], True))
    place = pc.if_else(removed, Place.DUPLICATES.value, decisions.place)
    because = pa.array(reasons(rules.policy), pa.string()).take(decisions.rule)
    elsewhere = kept_in(documents["kept_unit"], rules.archived)
    added = {"verdict": decisions.verdict, "place": place, "because": because, "kept_in": elsewhere}
    added["whole_text_sha256"] = pa.nulls(documents.num_rows, SHA256)
    added["posterior"] = pa.nulls(documents.num_rows, pa.float32())
    for name, column in added.items():
        documents = documents.append_column(name, column)
    # Stable: two captures with one doc_id keep the order of their shards.
    return documents.take(pc.sort_indices(documents["doc_id"]))


def output_part(judged: pa.Table, place: Place) -> pa.Table:
    """The rows of one place, as `records.OUTPUT` or `records.DUPLICATES`."""
    rows = judged.filter(pc.equal(judged["place"], place.value))
    columns = DUPLICATES if place is Place.DUPLICATES else OUTPUT
    if place is Place.DUPLICATES:
        own = pc.if_else(rows["bears_text"], rows["text"], pa.scalar(None, pa.large_string()))
        rows = rows.set_column(rows.schema.get_field_index("text"), "text", own)
    return pa.table([_output_column(rows, name) for name in columns.names], schema=columns).combine_chunks()


def _output_column(rows: pa.Table, name: str) -> pa.Array | pa.ChunkedArray:
    if name == "kept_doc_id":
        name = "cluster_id"  # a cluster is called by the copy that is kept
    if name in ("doc_id", "text_sha256", "payload_sha256", "cluster_id", "whole_text_sha256"):
        return hex_digits(rows[name])
    return pc.fill_null(rows[name], 1) if name == "cluster_size" else rows[name]


def rejects_part(shards: Sequence[StagedShard]) -> pa.Table:
    """The rejects of a pack, by shard and offset."""
    rows = pa.concat_tables([shard.rejects for shard in shards]).combine_chunks()
    return rows.take(pc.sort_indices(rows, [("shard", "ascending"), ("record_offset", "ascending")])).cast(REJECTS)


def samples(judged: pa.Table) -> pa.Table:
    """A few documents of each verdict. The smallest `doc_id`s: a hash, so a uniform sample, and one that merges."""
    kept = judged.filter(pc.not_equal(judged["place"], Place.DUPLICATES.value))
    rows = [
        np.flatnonzero(pc.equal(kept["verdict"], v).to_numpy())[:_SAMPLES]
        for v in pc.unique(kept["verdict"]).to_pylist()
    ]
    few = kept.take(np.sort(np.concatenate([np.empty(0, np.int64), *rows])))
    text = pc.utf8_slice_codeunits(few["text"], 0, _SAMPLE_CHARACTERS)
    names = ["url", "captured_at", "language", "verdict", "place", "machine_probability", "evidence"]
    return pa.table({"doc_id": hex_digits(few["doc_id"]), **{n: few[n] for n in names}, "text": text})


def merge_samples(tables: Sequence[pa.Table]) -> pa.Table:
    """Samples of several packs → samples of all of them, by verdict."""
    rows = pa.concat_tables(tables).sort_by("doc_id")
    parts = [
        rows.filter(pc.equal(rows["verdict"], verdict)).slice(0, _SAMPLES)
        for verdict in sorted(pc.unique(rows["verdict"]).to_pylist())
    ]
    return pa.concat_tables([rows.slice(0, 0), *parts])


def _widen(shard: StagedShard) -> pa.Table:
    rows = shard.documents.num_rows
    at = shard.clusters["row"].to_numpy()
    index = np.full(rows, -1, np.int64)
    index[at] = np.arange(len(at))
    take = pa.array(index, mask=index < 0)
    table = shard.documents
    for field in CLUSTERS:
        if field.name != "row":
            table = table.append_column(field.name, shard.clusters[field.name].take(take))
    for name in ("shingles", "length", "findings", "signature"):
        table = table.append_column(name, shard.signatures[name])
    return table.append_column("shard", pa.repeat(pa.scalar(shard.name, pa.string()), rows))


def _with_older(documents: pa.Table, rules: Rules) -> pa.ListArray:
    evidence = EvidenceBuilder(documents.num_rows)
    evidence.add_column(_whole(documents["evidence"]))
    before = pc.less(documents["older_captured_at"], pa.scalar(rules.cutoff, TIMESTAMP))
    rows = np.flatnonzero(pc.fill_null(before, False).to_numpy(zero_copy_only=False))
    older = documents.select(["older_doc_id", "older_captured_at", "older_jaccard"]).take(rows).to_pylist()
    found = [
        Evidence(
            "near_duplicate",
            "older_copy",
            score=row["older_jaccard"],
            detail=f"{row['older_doc_id'].hex()} captured {canonical_time(row['older_captured_at'])}",
        )
        for row in older
    ]
    if found:
        evidence.add_many(rows.tolist(), found)
    return evidence.finish()


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array."""
    whole = column.combine_chunks()
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) and whole.num_chunks else whole
