"""Counts that merge: what each pack of documents adds to the statistics.

Four tallies are taken of a pack. Each is a small Arrow table in a canonical row order, and :func:`merge` of any
sharding of the same documents, in any order, gives the same bytes::

    rules = TallyRules(cutoff=datetime(2022, 11, 30, tzinfo=UTC), threshold=0.9)
    packs = [tally_documents(pack, rules) for pack in documents]  # one table a pack
    tally = merge(packs)

All sums are integers, so that no order of addition can change them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from detectors.histograms import BINS, bin_of
from pipelines.records import Place, Verdict

UNKNOWN = "unknown"  # the month of a page without a capture date, the host of a page without a URL
UNDETERMINED_LANGUAGE = "und"  # BCP 47
SCORE_BINS = tuple("01234567")  # the bins of `detectors.histograms`, pooled in eights: two units of log-odds each
_POOLED = BINS // len(SCORE_BINS)
SQUARE_UNIT = 64  # squared tokens are counted in this unit, so that 64 bits last for 10^12 documents


@dataclass(frozen=True)
class TallyRules:
    """What the counts hang on. ``threshold`` is the quantification threshold of the detector, not the policy's."""

    cutoff: datetime
    threshold: float
    direct_verdicts: tuple[str, ...] = (Verdict.DECLARED, Verdict.MARKED)


DOCUMENT_KEYS = (
    "month",
    "host",
    "language",
    "place",
    "verdict",
    "after_cutoff",
    "older_copy",
    "judged",
    "flagged",
    "direct",
    "bin",
)
TALLY = pa.schema(
    [
        pa.field("month", pa.string(), nullable=False),  # YYYY-MM, or "unknown"
        pa.field("host", pa.string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("place", pa.string(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("after_cutoff", pa.bool_(), nullable=False),  # captured then, or at an unknown time
        # Human by date all the same: a verified older copy was captured before the cut-off.
        pa.field("older_copy", pa.bool_(), nullable=False),
        pa.field("judged", pa.bool_(), nullable=False),  # the detector spoke, direct evidence, or an older copy
        pa.field("flagged", pa.bool_(), nullable=False),  # probability at or over the threshold
        pa.field("direct", pa.bool_(), nullable=False),  # declared or marked
        # Of the probability, one of SCORE_BINS; "" where the detector did not speak.
        # A key rather than eight counts: one document makes one row of most cells, and tokens come with it.
        pa.field("bin", pa.string(), nullable=False),
        pa.field("documents", pa.int64(), nullable=False),
        pa.field("scored", pa.int64(), nullable=False),  # documents on which the detector spoke
        pa.field("tokens", pa.int64(), nullable=False),  # words: runs of letters and digits; a CJK character is one
        pa.field("tokens_squared", pa.int64(), nullable=False),  # in units of SQUARE_UNIT, rounded up by document
        pa.field("clustered", pa.int64(), nullable=False),  # documents that share a cluster with another
        pa.field("copies", pa.int64(), nullable=False),  # the sizes of their clusters, summed over these documents
    ]
)
SIGNALS = pa.schema(
    [
        pa.field("month", pa.string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("documents", pa.int64(), nullable=False),  # a document with several such findings counts once
    ]
)
REJECTED = pa.schema(
    [
        pa.field("shard", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("records", pa.int64(), nullable=False),
    ]
)


def diversity_schema(signature: pa.DataType) -> pa.Schema:
    """Of :func:`tally_diversity`; ``signature`` is ``binary(4 * permutations)``."""
    return pa.schema(
        [
            pa.field("month", pa.string(), nullable=False),
            pa.field("language", pa.string(), nullable=False),
            pa.field("documents", pa.int64(), nullable=False),
            pa.field("kept", pa.int64(), nullable=False),
            pa.field("removed", pa.int64(), nullable=False),  # near-duplicates of a kept document
            pa.field("characters", pa.int64(), nullable=False),
            pa.field("shingles", pa.int64(), nullable=False),  # repeats counted
            pa.field("signature", signature, nullable=False),  # MinHash of the union of the documents' shingles
        ]
    )


def tally_documents(table: pa.Table, rules: TallyRules, probability: str = "machine_probability") -> pa.Table:
    """Documents and tokens by :data:`DOCUMENT_KEYS`, of schema :data:`TALLY`: what one detector makes of them.

    Several detectors stand side by side, each with a tally of its own, at its own threshold::

        tally_documents(pack, TallyRules(cutoff, threshold=0.9))
        tally_documents(pack, TallyRules(cutoff, threshold=0.7), probability="probability_of_the_other")

    Args:
        table: one row a document of the crawl, duplicates included, with ``captured_at``, ``host``, ``language``,
            ``place``, ``verdict``, ``older_captured_at``, ``tokens``, ``cluster_size`` and the column ``probability``.
        rules: the cut-off, the detector's threshold, and the verdicts that count as direct evidence.
        probability: names the column of float32 in which the detector's calibrated probability of each document
            stands, null where it did not speak.
    """
    spoken = table[probability]
    after, scored = pc.invert(_before(table["captured_at"], rules.cutoff)), pc.is_valid(spoken)
    direct = pc.is_in(table["verdict"], pa.array([str(v) for v in rules.direct_verdicts], pa.string()))
    older = pc.and_(after, pc.and_(_before(table["older_captured_at"], rules.cutoff), pc.invert(direct)))
    flagged = pc.fill_null(pc.greater_equal(spoken, pa.scalar(rules.threshold, pa.float32())), False)
    tokens = table["tokens"].to_numpy().astype(np.int64)
    size = table["cluster_size"].to_numpy().astype(np.int64)
    columns = {
        **_keys(table, "month", "host", "language", "place", "verdict"),
        "after_cutoff": after,
        "older_copy": older,
        "judged": pc.or_(pc.or_(scored, direct), older),
        "flagged": flagged,
        "direct": direct,
        "bin": _score_bins(spoken),
        "documents": np.ones(table.num_rows, np.int64),
        "scored": scored.cast(pa.int64()),
        "tokens": tokens,
        "tokens_squared": _squared(tokens),
        "clustered": (size > 1).astype(np.int64),
        "copies": np.where(size > 1, size, 0),
    }
    return merge([pa.table(columns).cast(TALLY)])


def tally_signals(table: pa.Table) -> pa.Table:
    """Documents with each kind of evidence, of schema :data:`SIGNALS`.

    Args:
        table: ``captured_at``, ``language`` and ``evidence`` of the documents.
    """
    evidence = one_chunk(table["evidence"])
    items = evidence.flatten()
    found = pa.table(
        {"row": evidence.value_parent_indices(), "source": items.field("source"), "kind": items.field("kind")}
    )
    found = found.group_by(["row", "source", "kind"], use_threads=False).aggregate([])
    rows = found["row"]
    keys = {name: column.take(rows) for name, column in _keys(table, "month", "language").items()}
    ones = np.ones(found.num_rows, np.int64)
    counted = pa.table({**keys, "source": found["source"], "kind": found["kind"], "documents": ones})
    return merge([counted.cast(SIGNALS)])


def tally_diversity(table: pa.Table) -> pa.Table:
    """Documents, characters, shingles and the MinHash signature of their union, of :func:`diversity_schema`.

    Args:
        table: ``captured_at``, ``language``, ``place``, ``characters``, ``shingles`` and ``signature``.
    """
    removed = pc.equal(table["place"], pa.scalar(str(Place.DUPLICATES))).cast(pa.int64())
    ones = pa.array(np.ones(table.num_rows, np.int64))
    columns = {
        **_keys(table, "month", "language"),
        "documents": ones,
        "kept": pc.subtract(ones, removed),
        "removed": removed,
        "characters": table["characters"],
        "shingles": table["shingles"],
        "signature": table["signature"],
    }
    return merge([pa.table(columns).cast(diversity_schema(table.schema.field("signature").type))])


def tally_rejects(table: pa.Table) -> pa.Table:
    """Records by shard and reason, of schema :data:`REJECTED`; ``table`` is of ``records.REJECTS``."""
    columns = {"shard": table["shard"], "reason": table["reason"], "records": np.ones(table.num_rows, np.int64)}
    return merge([pa.table(columns).cast(REJECTED)])


def merge(tallies: Sequence[pa.Table]) -> pa.Table:
    """One tally out of several of one schema: counts are summed, signatures take the least value of each permutation.

    Associative and commutative, and rows come out sorted by their keys: the bytes depend on the documents alone.

    Raises:
        ValueError: if there is no tally.
    """
    if not tallies:
        raise ValueError("there is no tally to merge; pass at least one, an empty table of the right schema will do")
    table = pa.concat_tables(tallies)
    schema = tallies[0].schema
    keys = [f.name for f in schema if pa.types.is_string(f.type) or pa.types.is_boolean(f.type)]
    counts = [f.name for f in schema if pa.types.is_integer(f.type)]
    grouped = table.append_column("at", pa.array(np.arange(table.num_rows))).group_by(keys, use_threads=False)
    lists = [("at", "list")] if "signature" in schema.names else []
    merged = grouped.aggregate([*((name, "sum") for name in counts), *lists])
    columns = {name: merged[name] for name in keys} | {name: merged[f"{name}_sum"] for name in counts}
    if lists:
        columns["signature"] = _least(table["signature"], one_chunk(merged["at_list"]))
    result = pa.table(columns).select(schema.names).cast(schema)
    return result.take(pc.sort_indices(result, [(name, "ascending") for name in keys])).combine_chunks()


def signature_matrix(column: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.uint32]:
    """The signatures of a ``binary(4 * permutations)`` column as (rows, permutations) uint32, without a copy."""
    column = one_chunk(column)
    width = column.type.byte_width // 4
    if not len(column):
        return np.empty((0, width), np.uint32)
    flat = np.frombuffer(column.buffers()[1], "<u4", count=len(column) * width, offset=column.offset * width * 4)
    return flat.reshape(len(column), width)


def signature_column(matrix: npt.NDArray[np.uint32]) -> pa.FixedSizeBinaryArray:
    """The inverse of :func:`signature_matrix`."""
    data = pa.py_buffer(np.ascontiguousarray(matrix, "<u4"))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(4 * matrix.shape[1]), len(matrix), [None, data])


def month_of(captured_at: pa.ChunkedArray | pa.Array) -> pa.Array:
    """``YYYY-MM`` in UTC of each time stamp, or "unknown" where it is null."""
    months = one_chunk(captured_at).cast(pa.timestamp("us", tz="UTC"))
    values = months.fill_null(0).cast(pa.int64()).to_numpy().view("datetime64[us]").astype("datetime64[M]")
    unique, codes = np.unique(values, return_inverse=True)
    names = pa.array([str(m) for m in unique], pa.string()).take(pa.array(codes))
    return pc.if_else(months.is_valid(), names, pa.scalar(UNKNOWN))


def _keys(table: pa.Table, *names: str) -> dict[str, pa.Array]:
    """The key columns; null becomes a word, since null stands for "all" in the statistics."""
    missing = {"host": UNKNOWN, "language": UNDETERMINED_LANGUAGE}
    return {
        name: month_of(table["captured_at"])
        if name == "month"
        else pc.fill_null(table[name].cast(pa.string()), missing.get(name, UNKNOWN))
        for name in names
    }


def _before(when: pa.ChunkedArray | pa.Array, cutoff: datetime) -> pa.Array:
    """Whether each time is known and before the cut-off."""
    return pc.fill_null(pc.less(when, pa.scalar(cutoff.astimezone(UTC), pa.timestamp("us", tz="UTC"))), False)


def _score_bins(probability: pa.ChunkedArray | pa.Array) -> pa.Array:
    """The name of the bin of each probability, "" where it is null."""
    bins = bin_of(pc.fill_null(probability, 0).to_numpy()) // _POOLED
    names = pa.array(SCORE_BINS, pa.string()).take(pa.array(bins))
    return pc.if_else(one_chunk(pc.is_valid(probability)), names, "")


def _squared(tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return (tokens * tokens + SQUARE_UNIT - 1) // SQUARE_UNIT


def _least(column: pa.ChunkedArray, groups: pa.ListArray) -> pa.FixedSizeBinaryArray:
    """The least of each group of signatures, permutation by permutation; no group is empty."""
    matrix = signature_matrix(column)
    if not len(groups):
        return signature_column(matrix)
    starts = groups.offsets.to_numpy()[:-1]
    return signature_column(np.minimum.reduceat(matrix[groups.flatten().to_numpy()], starts - starts[0], axis=0))


def one_chunk(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column as one array; without a copy where it is one already."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    return (
        column.chunk(0)
        if column.num_chunks == 1
        else pa.concat_arrays(column.chunks)
        if column.num_chunks
        else (pa.array([], column.type))
    )
