"""From blocks of candidates to verified clusters: who is like whom, which copy stays, who has an older twin.

A block is a connected component of candidate pairs, so no verified pair crosses its border. Its documents stand in the
order of :mod:`pipelines.neardup.keep`, the earliest first. All pairs in a block are compared by their whole signatures,
except that a pair is passed over where it can change nothing: both are joined already and the later one is
known to resemble one at least as early. So a block of like documents takes one pass, and only a block of unlike ones
takes a quadratic number of comparisons.

That number is bounded. After :data:`PAIRS` pairs (all of a block of 23,170) a block falls back to comparing
only pairs that share a band, with the same bound on each bucket; what a bucket leaves is counted and
reported, never passed over in silence.
"""

from __future__ import annotations

import logging
import math
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from pipelines.neardup.bands import Banding, band_hashes

PAIRS = 1 << 28
_log = logging.getLogger(__name__)

Index = npt.NDArray[np.int64]


class Verified(NamedTuple):
    """What verification found on n documents that stand block by block, the earliest first.

    ``kept`` int64[n] is the index of the copy that stays in the document's cluster, ``earliest`` int64[n] that of the
    earliest document that is directly like it (n where there is none before it), ``unchecked`` the number of pairs
    that share a band and were not compared.
    """

    kept: Index
    earliest: Index
    unchecked: int


def verify(
    signatures: npt.NDArray[np.uint32], blocks: Index, threshold: float, banding: Banding, budget: int = PAIRS
) -> Verified:
    """Finds the verified clusters inside blocks.

    ``signatures`` is uint32[n, permutations]; block i is ``signatures[blocks[i] : blocks[i + 1]]``. A pair counts if
    its estimated Jaccard similarity reaches the threshold; clusters are the connected components of such pairs.
    """
    n, permutations = signatures.shape
    needed = matches_needed(threshold, permutations)
    parent, earliest = np.arange(n), np.full(n, n)
    left = np.zeros(len(blocks) - 1, np.int64)
    everyone = np.arange(n)
    _compare(signatures, everyone, blocks, needed, budget, parent, earliest, left)
    unchecked = 0
    for block in np.flatnonzero(left):
        begin, end = int(blocks[block]), int(blocks[block + 1])
        rest = 0
        for hashes in band_hashes(signatures[begin:end], banding):
            order = np.argsort(hashes, kind="stable")
            changes = np.flatnonzero(np.diff(hashes[order])) + 1
            buckets = np.concatenate([[0], changes, [end - begin]])
            beyond = np.zeros(len(buckets) - 1, np.int64)
            _compare(signatures, order + begin, buckets, needed, budget, parent, earliest, beyond)
            rest += int(beyond.sum())
        if rest:
            _log.warning(
                "%d candidates form one block: %d pairs that share a band were not compared", end - begin, rest
            )
        unchecked += rest
    _flatten(parent)
    resembling = matches(signatures, everyone, parent) >= needed
    earliest = np.where(resembling & (parent < everyone), np.minimum(earliest, parent), earliest)
    return Verified(parent, earliest, unchecked)


def matches_needed(threshold: float, permutations: int) -> int:
    """The fewest equal values whose share reaches the threshold."""
    return max(1, math.ceil(threshold * permutations - 1e-9))


def matches(signatures: npt.NDArray[np.uint32], left: Index, right: Index) -> Index:
    """The number of equal values in signatures ``left[i]`` and ``right[i]``."""
    counts = np.empty(len(left), np.int64)
    _matches(signatures, left, right, counts)
    return counts


@numba.njit(cache=True, nogil=True)
def _matches(signatures, left, right, counts):  # type: ignore[no-untyped-def]
    for i in range(len(left)):
        counts[i] = np.sum(signatures[left[i]] == signatures[right[i]])


@numba.njit(cache=True, nogil=True)
def _alike(a, b, needed):  # type: ignore[no-untyped-def]
    """Whether two signatures agree often enough; stops as soon as they no longer can."""
    spare = len(a) - needed
    for begin in range(0, len(a), 32):
        differing = 0
        for k in range(begin, min(begin + 32, len(a))):
            differing += a[k] != b[k]
        spare -= differing
        if spare < 0:
            return False
    return True


@numba.njit(cache=True, nogil=True)
def _find(parent, i):  # type: ignore[no-untyped-def]
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@numba.njit(cache=True, nogil=True)
def _flatten(parent):  # type: ignore[no-untyped-def]
    for i in range(len(parent)):
        parent[i] = _find(parent, i)


@numba.njit(cache=True, nogil=True)
def _compare(signatures, members, groups, needed, budget, parent, earliest, left):  # type: ignore[no-untyped-def]
    """Compares all pairs inside each group of ``members`` that could still change ``parent`` or ``earliest``.

    Within a group members ascend. Roots are the smallest members of their components. ``left`` takes the pairs of each
    group that lie beyond the budget.
    """
    for group in range(len(groups) - 1):
        begin, end = groups[group], groups[group + 1]
        visited = 0
        for at in range(begin, end - 1):
            if _settled(members, at, end, parent, earliest):
                break
            if visited >= budget:
                rest = end - at
                left[group] = rest * (rest - 1) // 2
                break
            visited += end - at - 1
            i = members[at]
            root = _find(parent, i)
            for other in range(at + 1, end):
                j = members[other]
                theirs = _find(parent, j)
                if (theirs == root and earliest[j] <= i) or not _alike(signatures[i], signatures[j], needed):
                    continue
                earliest[j] = min(earliest[j], i)
                parent[max(root, theirs)] = min(root, theirs)
                root = min(root, theirs)


@numba.njit(cache=True, nogil=True)
def _settled(members, at, end, parent, earliest):  # type: ignore[no-untyped-def]
    """Whether no pair of the members from ``at`` on could change anything."""
    i = members[at]
    root = _find(parent, i)
    for other in range(at + 1, end):
        j = members[other]
        if earliest[j] > i or _find(parent, j) != root:
            return False
    return True
