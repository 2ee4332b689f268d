"""From the members of candidate blocks to the rows of the cluster files, by way of packed records.

Everything here is a structured numpy array, since that is what crosses a shuffle as plain bytes. A *handle* names a
document inside one run: shard ordinal (by sorted shard name) in the upper 32 bits, row in the lower.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.neardup.bands import parameters
from pipelines.neardup.keep import UNKNOWN, keep_order
from pipelines.neardup.options import NearDup
from pipelines.neardup.verify import matches, verify
from pipelines.records import CLUSTERS, DOC_ID, TIMESTAMP

Packed = npt.NDArray[Any]  # a structured array

# A key that documents meet under, and the document.
KEYED = np.dtype([("key", "<u8"), ("handle", "<u8")])

# A row of a cluster file, with the shard that it goes to. Where `has_older` is false the three that follow are null.
FOUND = np.dtype(
    [
        ("handle", "<u8"),
        ("cluster_id", "u1", 16),
        ("cluster_size", "<i4"),
        ("kept", "?"),
        ("jaccard", "<f4"),
        ("has_older", "?"),
        ("older_doc_id", "u1", 16),
        ("older_captured_at", "<i8"),
        ("older_jaccard", "<f4"),
    ]
)


def member_dtype(permutations: int) -> np.dtype[Any]:
    """A document of a candidate block: all that decides its cluster. ``block`` is the smallest handle in the block."""
    return np.dtype(
        [
            ("block", "<u8"),
            ("handle", "<u8"),
            ("captured_at", "<i8"),
            ("doc_id", "u1", 16),
            ("signature", "<u4", permutations),
        ]
    )


def members_of(batch: pa.RecordBatch, blocks: Packed, first_row: int, permutations: int) -> Packed:
    """The members of blocks in one batch of a signature file.

    ``blocks`` is a :data:`KEYED` array (key: block) of the documents wanted, all inside the batch, whose first row is
    row ``first_row`` of the shard.
    """
    rows = (blocks["handle"] & np.uint64(0xFFFFFFFF)).astype(np.int64) - first_row
    members = np.empty(len(rows), member_dtype(permutations))
    members["block"], members["handle"] = blocks["key"], blocks["handle"]
    captured = batch.column("captured_at").cast(pa.int64()).fill_null(int(UNKNOWN))
    members["captured_at"] = captured.to_numpy(zero_copy_only=False)[rows]
    members["doc_id"] = fixed_width(batch.column("doc_id"), np.dtype("u1"))[rows]
    members["signature"] = fixed_width(batch.column("signature"), np.dtype("<u4"))[rows]
    return members


def fixed_width(column: pa.FixedSizeBinaryArray, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """A fixed-width binary column of n rows, without nulls, as ``dtype[n, width / itemsize]``; copies nothing."""
    width = column.type.byte_width
    data = np.frombuffer(column.buffers()[1], np.uint8)[column.offset * width : (column.offset + len(column)) * width]
    return data.view(dtype).reshape(len(column), -1)


def resolve(members: Packed, options: NearDup) -> tuple[Packed, int]:
    """The cluster rows (:data:`FOUND`, by handle) of whole blocks, and the number of candidate pairs left unchecked."""
    members = members[keep_order(members["block"], members["captured_at"], members["doc_id"], members["handle"])]
    signatures = np.ascontiguousarray(members["signature"])
    n = len(members)
    borders = np.flatnonzero(np.diff(members["block"])) + 1
    blocks = np.concatenate([[0], borders, [n]]).astype(np.int64)
    banding = parameters(options.threshold, options.permutations)
    kept, earliest, unchecked = verify(signatures, blocks, options.threshold, banding)

    size = np.bincount(kept, minlength=n)[kept]
    older = np.minimum(earliest, n - 1)
    has_older = (earliest < n) & (members["captured_at"][older] < members["captured_at"])
    everyone = np.arange(n)
    found = np.zeros(n, FOUND)
    found["handle"] = members["handle"]
    found["cluster_id"] = members["doc_id"][kept]
    found["cluster_size"] = size
    found["kept"] = kept == everyone
    found["jaccard"] = matches(signatures, everyone, kept) / options.permutations
    found["has_older"] = has_older
    found["older_doc_id"] = members["doc_id"][older]
    found["older_captured_at"] = members["captured_at"][older]
    found["older_jaccard"] = matches(signatures, everyone, older) / options.permutations
    found = found[size > 1]
    return found[np.argsort(found["handle"])], unchecked


def by_shard(packed: Packed) -> Iterator[tuple[int, Packed]]:
    """Cuts an array with a ``handle`` field, ascending, into the stretches of one shard each."""
    ordinals = packed["handle"] >> np.uint64(32)
    borders = np.flatnonzero(np.diff(ordinals)) + 1
    for piece in np.split(packed, borders):
        if len(piece):
            yield int(piece["handle"][0] >> np.uint64(32)), piece


def cluster_table(found: Packed) -> pa.Table:
    """Rows of one shard as :data:`pipelines.records.CLUSTERS`, by row."""
    found = found[np.argsort(found["handle"])]
    absent = pa.array(~found["has_older"])

    def present(column: pa.Array) -> pa.Array:
        return pc.if_else(absent, pa.scalar(None, column.type), column)

    columns = {
        "row": (found["handle"] & np.uint64(0xFFFFFFFF)).astype(np.int32),
        "cluster_id": _doc_ids(found["cluster_id"]),
        "cluster_size": found["cluster_size"],
        "kept": found["kept"],
        "jaccard": found["jaccard"],
        "older_doc_id": present(_doc_ids(found["older_doc_id"])),
        "older_captured_at": present(pa.array(found["older_captured_at"]).cast(TIMESTAMP)),
        "older_jaccard": present(pa.array(found["older_jaccard"])),
    }
    return pa.table(columns, schema=CLUSTERS)


def _doc_ids(values: npt.NDArray[np.uint8]) -> pa.FixedSizeBinaryArray:
    return pa.Array.from_buffers(DOC_ID, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])
