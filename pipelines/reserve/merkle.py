"""Merkle trees as in RFC 6962, section 2.1 (the same trees as in RFC 9162, section 2.1), over SHA-256.

A tree is told by the hashes of its leaves, a numpy array of shape (n, 32) and dtype uint8, or grows in memory of
O(log n) by a :class:`CompactRange`, which can go on from the right edge of an earlier tree::

    >>> import numpy as np
    >>> data, offsets = b"onetwothree", np.array([0, 3, 6, 11])
    >>> leaves = leaf_hashes(data, offsets)
    >>> leaves.shape, bytes(leaves[0]) == leaf_hash(b"one")
    ((3, 32), True)
    >>> grown = CompactRange()
    >>> grown.extend(leaves[:2])
    >>> later = CompactRange(grown.size, grown.nodes)
    >>> later.append(leaf_hash(b"three"))
    >>> later.root() == root(leaves) == node_hash(node_hash(*map(bytes, leaves[:2])), bytes(leaves[2]))
    True

Proofs are in :mod:`pipelines.reserve.proofs`, the tree on disk in :mod:`pipelines.reserve.tiles`.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint8]  # shape (n, 32)
Offsets = npt.NDArray[np.int64]  # shape (n + 1,): item i is data[offsets[i] : offsets[i + 1]]
Buffer = bytes | bytearray | memoryview | npt.NDArray[np.uint8]

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()

_LEAF = b"\x00"
_NODE = b"\x01"
_BLOCK = 1 << 14  # hashes that are worked on at a time: half a megabyte


def leaf_hash(entry: bytes) -> bytes:
    """The hash of a leaf: SHA-256(0x00 ‖ entry)."""
    return sha256(_LEAF + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node: SHA-256(0x01 ‖ left ‖ right)."""
    return sha256(_NODE + left + right).digest()


def leaf_hashes(data: Buffer, offsets: Offsets) -> Hashes:
    """The leaf hashes of entries that lie in one buffer, as Arrow keeps binary values; uint8 of shape (n, 32)."""
    out = np.empty((len(offsets) - 1, HASH_BYTES), np.uint8)
    for begin in range(0, len(out), _BLOCK):
        entries = slices(data, offsets[begin : begin + _BLOCK + 1])
        out[begin : begin + _BLOCK] = as_hashes(hash_entries(entries))
    return out


def hash_entries(entries: Sequence[bytes]) -> bytes:
    """The leaf hashes of entries, one after the other."""
    return b"".join([sha256(_LEAF + entry).digest() for entry in entries])


def slices(data: Buffer, offsets: Offsets) -> list[bytes]:
    """The items of a buffer, by their offsets."""
    if not len(offsets):
        return []
    first = int(offsets[0])
    held = bytes(data[first : int(offsets[-1])])
    return [held[begin:end] for begin, end in pairwise((offsets - first).tolist())]


def as_hashes(row: bytes) -> Hashes:
    """Hashes one after the other as an array of shape (n, 32), which cannot be written to."""
    return np.frombuffer(row, np.uint8).reshape(-1, HASH_BYTES)


def hash_pairs(row: bytes) -> bytes:
    """One level of a tree to the level above: hashes one after the other, an even number of them, to half as many."""
    return b"".join([sha256(_NODE + row[at : at + 64]).digest() for at in range(0, len(row), 2 * HASH_BYTES)])


def perfect_root(row: bytes) -> bytes:
    """The root over hashes one after the other, whose number is a power of two."""
    while len(row) > HASH_BYTES:
        row = hash_pairs(row)
    return row


def root(hashes: Hashes) -> bytes:
    """MTH of RFC 6962, section 2.1, over leaf hashes of shape (n, 32); of no leaf, SHA-256 of nothing."""
    whole = CompactRange()
    whole.extend(hashes)
    return whole.root()


def split(size: int) -> int:
    """The largest power of two below a size of at least two: how many leaves the left branch has."""
    return 1 << ((size - 1).bit_length() - 1)


class CompactRange:
    """What is needed of a tree to append to it and to tell its root: the roots of its largest perfect subtrees.

    There is one for each bit that is set in the size, so that memory is O(log n).
    """

    def __init__(self, size: int = 0, nodes: Sequence[bytes] = ()) -> None:
        """A tree of ``size`` leaves; ``nodes`` as :attr:`nodes` gives them. Raises ValueError where they do not fit."""
        if size < 0 or len(nodes) != size.bit_count() or any(len(node) != HASH_BYTES for node in nodes):
            raise ValueError(f"a tree of {size} leaves has {max(size, 0).bit_count()} nodes of {HASH_BYTES} bytes")
        self.size = size
        levels = [level for level in range(size.bit_length()) if size >> level & 1]
        self._nodes = dict(zip(reversed(levels), nodes, strict=True))  # by the logarithm of their leaves

    @property
    def nodes(self) -> list[bytes]:
        """The roots of the largest perfect subtrees, from left to right, that is from the largest to the smallest."""
        return [self._nodes[level] for level in sorted(self._nodes, reverse=True)]

    def append(self, leaf: bytes) -> None:
        """Adds the hash of one leaf."""
        self._extend(leaf)

    def extend(self, hashes: Hashes) -> None:
        """Adds leaf hashes of shape (n, 32) and dtype uint8."""
        if hashes.ndim != 2 or hashes.shape[1] != HASH_BYTES or hashes.dtype != np.uint8:
            raise ValueError(f"leaf hashes are uint8 of shape (n, 32), not {hashes.dtype} of {hashes.shape}")
        for begin in range(0, len(hashes), _BLOCK):
            self._extend(hashes[begin : begin + _BLOCK].tobytes())

    def _extend(self, row: bytes) -> None:
        if len(row) % HASH_BYTES:
            raise ValueError(f"a hash has {HASH_BYTES} bytes")
        at, level = self.size, 0
        self.size += len(row) // HASH_BYTES
        while row:
            if at >> level & 1:  # what was left over waits for its right sibling
                row = self._nodes.pop(level) + row
            if len(row) // HASH_BYTES % 2:
                self._nodes[level] = row[-HASH_BYTES:]
                row = row[:-HASH_BYTES]
            row = hash_pairs(row)
            level += 1

    def root(self) -> bytes:
        """The root over all leaves so far."""
        right = b""
        for level in sorted(self._nodes):
            right = node_hash(self._nodes[level], right) if right else self._nodes[level]
        return right or EMPTY_ROOT
