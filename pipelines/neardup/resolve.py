"""From the members of candidate blocks to the rows of the cluster files.

Documents that say the same, byte for byte, are compared as one. What is found holds for each of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.neardup.bands import parameters
from pipelines.neardup.components import starts
from pipelines.neardup.keep import keep_order
from pipelines.neardup.members import KEYED, NO_SETS, Members, Packed, TextSets
from pipelines.neardup.options import NearDup
from pipelines.neardup.verify import (
    SET_BYTES,
    Compared,
    Index,
    Sets,
    compare,
    decide,
    similarities,
    zone,
)
from pipelines.records import CLUSTERS, DOC_ID, TIMESTAMP

# A row of a cluster file, with the unit that it goes to. Where `has_older` is false the three that follow are null.
FOUND = np.dtype(
    [
        ("handle", "<u8"),
        ("cluster_id", "u1", 16),
        ("cluster_size", "<i4"),
        ("kept", "?"),
        ("kept_unit", "<i4"),
        ("bears_text", "?"),
        ("jaccard", "<f4"),
        ("has_older", "?"),
        ("older_doc_id", "u1", 16),
        ("older_captured_at", "<i8"),
        ("older_jaccard", "<f4"),
    ]
)


class Resolved(NamedTuple):
    """What became of the blocks of some members.

    ``found`` are rows of :data:`FOUND`, by handle. Where sets are needed first, ``waiting`` are the members of such
    blocks and ``wanted`` the documents whose sets they need (:data:`KEYED`; key: block).
    """

    found: Packed
    waiting: Members
    wanted: Packed
    unchecked: int
    estimated: int


class _Texts(NamedTuple):
    """The distinct texts of blocks: one after the other, block by block, the earliest capture first.

    ``of`` is the text of each member; ``first`` the member that was captured first; ``source`` the handle of the one
    whose signature counts, the first unit's. ``blocks`` are the borders.
    """

    of: Index
    first: Index
    source: npt.NDArray[np.uint64]
    signatures: npt.NDArray[np.uint32]
    blocks: Index


def resolve(members: Members, sets: TextSets | None, options: NearDup) -> Resolved:
    """Resolves whole blocks. Without ``sets``, blocks that need some wait for them.

    Raises RuntimeError if ``sets`` lacks one that was wanted.
    """
    members = members.take(keep_order(members.rows, ("captured_at",)))
    rows = members.rows
    texts = _distinct(members)
    exact = options.verify == "exact"
    limits = zone(options.threshold, options.permutations, exact)
    compared = compare(texts.signatures, texts.blocks, limits, parameters(options.threshold, options.permutations))
    wanted, waits = _in_doubt(rows, texts, compared, exact)
    unchecked, too_many = compared.unchecked, compared.estimated
    if sets is not None:
        missing = np.setdiff1d(texts.source[wanted], sets.handles)
        if len(missing):
            raise RuntimeError(f"{len(missing)} shingle sets were lost on the way; run again")
        wanted, waits = wanted[:0], np.zeros_like(waits)
        unchecked = too_many = 0  # counted when the block came first
    known = (sets or NO_SETS).at(texts.source)
    final, estimated = decide(
        compared._replace(doubts=compared.doubts[~waits[compared.doubts[:, 0]]]),
        texts.signatures,
        known,
        options.threshold,
        limits.needed,
    )
    waiting = waits[texts.of]
    found = _found(rows, texts, final, known, options)[~waiting]
    found = found[found["cluster_size"] > 1]
    needed = np.empty(len(wanted), KEYED)
    needed["key"], needed["handle"] = rows["block"][texts.first[wanted]], texts.source[wanted]
    return Resolved(
        found[np.argsort(found["handle"])],
        members.take(np.flatnonzero(waiting)),
        needed[np.argsort(needed["handle"])],
        unchecked,
        estimated + too_many,
    )


def _distinct(members: Members) -> _Texts:
    """The distinct texts of members that stand block by block, the earliest capture first."""
    rows = members.rows
    n = len(rows)
    keys = (rows["text"][:, 1], rows["text"][:, 0], rows["block"])
    order = np.lexsort((np.arange(n), *keys))
    new = np.any([starts(key[order]) for key in keys], axis=0)
    first = np.empty(n, np.int64)
    first[order] = order[np.maximum.accumulate(np.where(new, np.arange(n), 0))]
    texts, of = np.unique(first, return_inverse=True)
    borders = np.flatnonzero(np.diff(rows["block"][texts])) + 1
    blocks = np.concatenate([[0], borders, [len(texts)]]).astype(np.int64)

    signed = np.flatnonzero(rows["signed"])
    signed = signed[np.argsort(rows["handle"][signed])]
    has, chosen = np.unique(of[signed], return_index=True)
    place = np.cumsum(rows["signed"]) - 1
    # A text may come unsigned, from an output that says that an earlier one has it. It then stands alone in its block.
    source, signatures = texts.copy(), np.zeros((len(texts), members.signatures.shape[1]), np.uint32)
    source[has], signatures[has] = signed[chosen], members.signatures[place[signed[chosen]]]
    return _Texts(of.astype(np.int64), texts, rows["handle"][source], signatures, blocks)


def _in_doubt(rows: Packed, texts: _Texts, compared: Compared, exact: bool) -> tuple[Index, npt.NDArray[np.bool_]]:
    """The texts whose sets are wanted, and for each text whether its block waits for any.

    Those are the texts in doubt, and those that are like another, so that their similarity is told exactly.
    """
    alike = np.bincount(compared.parent, minlength=len(texts.first))[compared.parent] > 1
    wanted = np.union1d(compared.doubts, np.flatnonzero(alike)) if exact else np.empty(0, np.int64)
    block = np.repeat(np.arange(len(texts.blocks) - 1), np.diff(texts.blocks))
    size = 4 * rows["shingles"][texts.first[wanted]].astype(np.int64)
    held = np.bincount(block[wanted], weights=size, minlength=len(texts.blocks) - 1)
    waits = (held > 0) & (held <= SET_BYTES)
    return wanted[waits[block[wanted]]], waits[block]


def _found(rows: Packed, texts: _Texts, compared: Compared, known: Sets, options: NearDup) -> Packed:
    """A row for each member."""
    n = len(rows)
    everyone = np.arange(n)
    cluster = compared.parent[texts.of]
    order = keep_order(rows, options.keep)
    rank = np.empty(n, np.int64)
    rank[order] = everyone
    best = np.full(len(texts.first), n, np.int64)
    np.minimum.at(best, cluster, rank)
    kept = order[best[cluster]]

    no_text = len(texts.first)
    like = compared.earliest[texts.of]
    older_text = np.where(like < no_text, like, texts.of)
    older = texts.first[older_text]
    has_older = (older != everyone) & (rows["captured_at"][older] < rows["captured_at"])

    found = np.zeros(n, FOUND)
    found["handle"] = rows["handle"]
    found["cluster_id"] = rows["doc_id"][kept]
    found["cluster_size"] = np.bincount(cluster, minlength=no_text)[cluster]
    found["kept"] = kept == everyone
    found["kept_unit"] = rows["handle"][kept] >> np.uint64(32)
    same = texts.of == texts.of[kept]
    found["bears_text"] = found["kept"] | (~same & (texts.first[texts.of] == everyone))
    found["jaccard"] = _similarities(texts, known, texts.of, texts.of[kept])
    found["has_older"] = has_older
    found["older_doc_id"] = rows["doc_id"][older]
    found["older_captured_at"] = rows["captured_at"][older]
    found["older_jaccard"] = _similarities(texts, known, texts.of, older_text)
    return found


def _similarities(texts: _Texts, known: Sets, left: Index, right: Index) -> npt.NDArray[np.float64]:
    values = np.ones(len(left))
    unlike = np.flatnonzero(left != right)
    values[unlike] = similarities(texts.signatures, known, left[unlike], right[unlike])
    return values


def cluster_table(found: Packed) -> pa.Table:
    """Rows of one unit as :data:`pipelines.records.CLUSTERS`, by row."""
    found = found[np.argsort(found["handle"])]
    absent = pa.array(~found["has_older"])

    def present(column: pa.Array) -> pa.Array:
        return pc.if_else(absent, pa.scalar(None, column.type), column)

    columns = {
        "row": (found["handle"] & np.uint64(0xFFFFFFFF)).astype(np.int32),
        "cluster_id": _doc_ids(found["cluster_id"]),
        "cluster_size": found["cluster_size"],
        "kept": found["kept"],
        "kept_unit": found["kept_unit"],
        "bears_text": found["bears_text"],
        "jaccard": found["jaccard"],
        "older_doc_id": present(_doc_ids(found["older_doc_id"])),
        "older_captured_at": present(pa.array(found["older_captured_at"]).cast(TIMESTAMP)),
        "older_jaccard": present(pa.array(found["older_jaccard"])),
    }
    return pa.table(columns, schema=CLUSTERS)


def _doc_ids(values: npt.NDArray[np.uint8]) -> pa.FixedSizeBinaryArray:
    return pa.Array.from_buffers(DOC_ID, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])
