"""The documents of candidate blocks as packed records: what crosses a shuffle as plain bytes.

A *handle* names a document inside one run: ordinal of the unit that it lies in in the upper 32 bits, row in the lower.
Of the documents of one unit that say the same, byte for byte, only the first brings its signature along.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.neardup.keep import UNKNOWN
from pipelines.neardup.verify import Sets

Packed = npt.NDArray[Any]  # a structured array

# A key that documents meet under, and the document.
KEYED = np.dtype([("key", "<u8"), ("handle", "<u8")])

# A document of a candidate block: all that decides its cluster but the signature. `block` is the smallest handle in the
# block, `text` half of the text's SHA-256; `signed` says that a signature comes along.
MEMBER = np.dtype(
    [
        ("block", "<u8"),
        ("handle", "<u8"),
        ("captured_at", "<i8"),
        ("doc_id", "u1", 16),
        ("text", "<u8", 2),
        ("length", "<u4"),
        ("shingles", "<i4"),
        ("findings", "<u2"),
        ("signed", "?"),
    ]
)

_MEMBERS, _SETS = b"M", b"S"

# The columns of a signature file that make a member.
MEMBER_COLUMNS = ["doc_id", "captured_at", "text_sha256", "shingles", "length", "findings", "signature"]


class Members(NamedTuple):
    """``rows`` are of :data:`MEMBER`; ``signatures`` (uint32[k, permutations]) belong to the signed ones, in order."""

    rows: Packed
    signatures: npt.NDArray[np.uint32]

    def take(self, at: npt.NDArray[np.int64]) -> Members:
        """The members at these places."""
        place = np.cumsum(self.rows["signed"]) - 1
        return Members(self.rows[at], self.signatures[place[at[self.rows["signed"][at]]]])


class TextSets(NamedTuple):
    """The sorted distinct shingle hashes of documents: set i, of ``sizes[i]`` of the ``hashes``, is of handle i.

    A set is empty where the text is gone.
    """

    handles: npt.NDArray[np.uint64]
    sizes: npt.NDArray[np.int64]
    hashes: npt.NDArray[np.uint32]

    def at(self, handles: npt.NDArray[np.uint64]) -> Sets:
        """The sets of these documents, in their order; empty for those that have none here."""
        if not len(self.handles):
            nothing = np.zeros(len(handles), np.int64)
            return Sets(self.hashes, nothing, nothing)
        order = np.argsort(self.handles)
        place = np.minimum(np.searchsorted(self.handles, handles, sorter=order), len(order) - 1)
        end = np.cumsum(self.sizes)[order[place]]
        begin = np.where(self.handles[order[place]] == handles, end - self.sizes[order[place]], end)
        return Sets(self.hashes, begin, end)


NO_SETS = TextSets(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.uint32))


def members_of(batch: pa.RecordBatch, blocks: Packed, first_row: int, permutations: int) -> Members:
    """The members of blocks in one batch of a signature file.

    ``blocks`` is a :data:`KEYED` array (key: block) of the documents wanted, all inside the batch, whose first row is
    row ``first_row`` of the unit.
    """
    at = (blocks["handle"] & np.uint64(0xFFFFFFFF)).astype(np.int64) - first_row
    rows = np.empty(len(at), MEMBER)
    rows["block"], rows["handle"] = blocks["key"], blocks["handle"]
    captured = batch.column("captured_at").cast(pa.int64()).fill_null(int(UNKNOWN))
    rows["captured_at"] = captured.to_numpy(zero_copy_only=False)[at]
    rows["doc_id"] = fixed_width(batch.column("doc_id"), np.dtype("u1"))[at]
    rows["text"] = fixed_width(batch.column("text_sha256"), np.dtype("<u8"))[at, :2]
    for name in ("length", "shingles", "findings"):
        rows[name] = batch.column(name).to_numpy()[at]
    rows["signed"] = batch.column("signature").is_valid().to_numpy(zero_copy_only=False)[at]
    signatures = fixed_width(batch.column("signature"), np.dtype("<u4"))[at[rows["signed"]]]
    return Members(rows, signatures.reshape(-1, permutations))


def once_signed(members: Members) -> Members:
    """The same members, where of the signed ones with one text only the first keeps its signature."""
    signed = np.flatnonzero(members.rows["signed"])
    _, first = np.unique(members.rows["text"][signed], axis=0, return_index=True)
    rows = members.rows.copy()
    rows["signed"] = False
    rows["signed"][signed[first]] = True
    return Members(rows, members.signatures[np.sort(first)])


def joined(pieces: Iterable[Members], permutations: int) -> Members:
    """All members of several pieces."""
    held = [Members(np.empty(0, MEMBER), np.empty((0, permutations), np.uint32)), *pieces]
    return Members(np.concatenate([m.rows for m in held]), np.concatenate([m.signatures for m in held]))


def pack_members(members: Members) -> bytes:
    """Members as bytes that :func:`unpack` reads."""
    return b"".join([_MEMBERS, _count(len(members.rows)), members.rows.tobytes(), members.signatures.tobytes()])


def pack_sets(sets: TextSets) -> bytes:
    """Sets as bytes that :func:`unpack` reads."""
    counted = _count(len(sets.handles))
    return b"".join([_SETS, counted, sets.handles.tobytes(), sets.sizes.tobytes(), sets.hashes.tobytes()])


def unpack(pieces: Iterable[bytes], permutations: int) -> tuple[Members, TextSets]:
    """All members, and all sets, of packed pieces."""
    members: list[Members] = []
    sets = [NO_SETS]
    for piece in pieces:
        count = int.from_bytes(piece[1:9], "little")
        if piece[:1] == _MEMBERS:
            rows = np.frombuffer(piece, MEMBER, count, 9)
            signatures = np.frombuffer(piece, "<u4", offset=9 + rows.nbytes).reshape(-1, permutations)
            members.append(Members(rows, signatures))
        else:
            handles = np.frombuffer(piece, "<u8", count, 9)
            sizes = np.frombuffer(piece, "<i8", count, 9 + 8 * count)
            sets.append(TextSets(handles, sizes, np.frombuffer(piece, "<u4", offset=9 + 16 * count)))
    columns = (np.concatenate(column) for column in zip(*sets, strict=True))
    return joined(members, permutations), TextSets(*columns)


def fixed_width(column: pa.FixedSizeBinaryArray, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """A fixed-width binary column of n rows as ``dtype[n, width / itemsize]``, anything where null; copies nothing."""
    width = column.type.byte_width
    data = np.frombuffer(column.buffers()[1], np.uint8)[column.offset * width : (column.offset + len(column)) * width]
    return data.view(dtype).reshape(len(column), -1)


def by_unit(packed: Packed) -> Iterator[tuple[int, Packed]]:
    """Cuts an array with a ``handle`` field, ascending, into the stretches of one unit each."""
    ordinals = packed["handle"] >> np.uint64(32)
    borders = np.flatnonzero(np.diff(ordinals)) + 1
    for piece in np.split(packed, borders):
        if len(piece):
            yield int(piece["handle"][0] >> np.uint64(32)), piece


def _count(number: int) -> bytes:
    return number.to_bytes(8, "little")
