"""From blocks of candidates to verified pairs: who is like whom, and who has an older twin.

A block is a connected component of candidate pairs, so no verified pair crosses its border. Its documents stand in the
order of capture, the earliest first. All pairs in a block are compared by their whole signatures,
except that a pair is passed over where it can change nothing: both are joined already and the later one is
known to resemble one at least as early. So a block of like documents takes one pass, and only a block of unlike ones
takes a quadratic number of comparisons.

The number of equal values says of most pairs whether their similarity reaches the threshold. Between
:attr:`Zone.low` and :attr:`Zone.high` it leaves a doubt; :func:`decide` ends it by the shingle sets themselves.

Work is bounded. After :data:`PAIRS` pairs (all of a block of 5,793) a block falls back to comparing
only pairs that share a band, with the same bound on each bucket. A bucket beyond the bound is split by each other
band in turn, which finds all pairs but those that share this band alone. Their number is reported from above, never
passed over in silence.
"""

from __future__ import annotations

import functools
import logging
import math
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, bdtrc

from pipelines.neardup.bands import Banding, band_hashes

PAIRS = 1 << 24  # of a block or bucket that are compared: half a second
DOUBTS = 1 << 22  # pairs of a block that are left to shingle sets
SET_BYTES = 512 << 20  # of shingle sets for one block

# How seldom a pair at the threshold is turned away, and how seldom one below it is let in, without a look at its sets.
_MISSED, _WRONG = 1e-3, 1e-5

_log = logging.getLogger(__name__)

Index = npt.NDArray[np.int64]


class Zone(NamedTuple):
    """What a number of equal values says: below ``low`` unlike, from ``high`` on alike, ``needed`` where it decides."""

    low: int
    needed: int
    high: int


class Compared(NamedTuple):
    """What signatures say of n documents that stand block by block, the earliest first.

    ``parent`` int64[n] is a forest of what is joined for certain, each root the earliest of its tree; ``earliest``
    int64[n] the earliest document that is directly like it (n where there is none before it); ``doubts``
    int64[p, 2] the pairs in doubt that could change either; ``unchecked`` bounds the number of pairs that share a band
    and were not compared; ``estimated`` the pairs in doubt that were too many, so that the estimate decided.
    """

    parent: Index
    earliest: Index
    doubts: Index
    unchecked: int
    estimated: int


class Sets(NamedTuple):
    """Sorted distinct shingle hashes (uint32): set i is ``hashes[begin[i] : end[i]]``, empty where it is not known."""

    hashes: npt.NDArray[np.uint32]
    begin: Index
    end: Index


def matches_needed(threshold: float, permutations: int) -> int:
    """The fewest equal values whose share reaches the threshold."""
    return max(1, math.ceil(threshold * permutations - 1e-9))


@functools.cache
def zone(threshold: float, permutations: int, exact: bool) -> Zone:
    """The numbers of equal values that leave a doubt; none if the estimate is to decide.

    Equal values are binomial in the similarity (Broder 1997), so the borders are quantiles at the threshold: a pair
    just at it is turned away once in a thousand times, one just below let in once in a hundred thousand.
    """
    needed = matches_needed(threshold, permutations)
    if not exact:
        return Zone(needed, needed, needed)
    counts = np.arange(permutations + 1)
    low = int(np.argmax(bdtr(counts, permutations, threshold) >= _MISSED))
    high = int(np.argmax(bdtrc(counts, permutations, threshold) <= _WRONG)) + 1
    return Zone(max(1, min(low, needed)), needed, max(high, needed))


def compare(
    signatures: npt.NDArray[np.uint32], blocks: Index, limits: Zone, banding: Banding, budget: int = PAIRS
) -> Compared:
    """Compares the signatures (uint32[n, permutations]) inside blocks; block i is ``[blocks[i] : blocks[i + 1]]``."""
    n = len(signatures)
    state = _State(np.arange(n), np.full(n, n), [], [0])
    left = _compare_groups(signatures, np.arange(n), blocks, limits, budget, state)
    unchecked = 0
    for block in np.flatnonzero(left):
        begin, end = int(blocks[block]), int(blocks[block + 1])
        unchecked += _compare_bands(signatures, begin, end, limits, banding, budget, state)
    _flatten(state.parent)
    alike = matches(signatures, np.arange(n), state.parent) >= limits.high
    earliest = np.where(alike & (state.parent < np.arange(n)), np.minimum(state.earliest, state.parent), state.earliest)
    doubts = np.unique(np.concatenate([np.empty((0, 2), np.int64), *state.doubts]), axis=0)
    useful = (state.parent[doubts[:, 0]] != state.parent[doubts[:, 1]]) | (earliest[doubts[:, 1]] > doubts[:, 0])
    return Compared(state.parent, earliest, doubts[useful], unchecked, state.estimated[0])


def decide(
    found: Compared, signatures: npt.NDArray[np.uint32], sets: Sets, threshold: float, needed: int
) -> tuple[Compared, int]:
    """Ends the doubts by shingle sets, and by the estimate where a set is not at hand; gives the number of the latter.

    The result does not depend on the order of the doubts.
    """
    parent, earliest = found.parent.copy(), found.earliest.copy()
    estimated = int(_decide(found.doubts, signatures, *sets, threshold, needed, parent, earliest))
    _flatten(parent)
    return found._replace(parent=parent, earliest=earliest, doubts=np.empty((0, 2), np.int64)), estimated


def matches(signatures: npt.NDArray[np.uint32], left: Index, right: Index) -> Index:
    """The number of equal values in signatures ``left[i]`` and ``right[i]``."""
    counts = np.empty(len(left), np.int64)
    _matches(signatures, left, right, counts)
    return counts


def similarities(signatures: npt.NDArray[np.uint32], sets: Sets, left: Index, right: Index) -> npt.NDArray[np.float64]:
    """The similarity of documents ``left[i]`` and ``right[i]``: exact where both sets are at hand, else estimated."""
    values = np.asarray(matches(signatures, left, right) / signatures.shape[1], np.float64)
    _exact(*sets, left, right, values)
    return values


class _State(NamedTuple):
    """What comparisons change, group after group; the lists take what they add."""

    parent: Index
    earliest: Index
    doubts: list[Index]
    estimated: list[int]


def _compare_groups(
    signatures: npt.NDArray[np.uint32], members: Index, groups: Index, limits: Zone, budget: int, state: _State
) -> Index:
    """Compares inside groups of members; gives the number of pairs of each group that lie beyond the budget."""
    left = np.zeros(len(groups) - 1, np.int64)
    buffer = np.empty((2 * DOUBTS, 2), np.int32)
    at = 0
    while at < len(groups) - 1:
        at, held, estimated = _compare(
            signatures, members, groups, at, *limits, budget, state.parent, state.earliest, left, buffer, DOUBTS
        )
        state.doubts.append(buffer[:held].astype(np.int64))
        state.estimated[0] += estimated
    return left


def _compare_bands(
    signatures: npt.NDArray[np.uint32],
    begin: int,
    end: int,
    limits: Zone,
    banding: Banding,
    budget: int,
    state: _State,
) -> int:
    """Compares the pairs of one large block that share a band, and in large buckets those that share two."""
    hashes = band_hashes(signatures[begin:end], banding)
    rest = 0
    for band, keys in enumerate(hashes):
        members, groups = _grouped(np.arange(begin, end), keys)
        left = _compare_groups(signatures, members, groups, limits, budget, state)
        for group in np.flatnonzero(left):
            bucket = members[groups[group] : groups[group + 1]]
            for other in np.delete(hashes, band, axis=0):
                split = _grouped(bucket, other[bucket - begin])
                _compare_groups(signatures, *split, limits, budget, state)
        rest += int(left.sum())
    if rest:
        _log.warning(
            "%d candidates form one block: up to %d pairs that share one band were not compared", end - begin, rest
        )
    return rest


def _grouped(members: Index, keys: npt.NDArray[np.uint64]) -> tuple[Index, Index]:
    """Members sorted by key, ascending in each, and where the groups begin and end."""
    order = np.argsort(keys, kind="stable")
    changes = np.flatnonzero(np.diff(keys[order])) + 1
    return members[order], np.concatenate([[0], changes, [len(members)]]).astype(np.int64)


@numba.njit(cache=True, nogil=True)
def _matches(signatures, left, right, counts):  # type: ignore[no-untyped-def]
    for i in range(len(left)):
        counts[i] = _agreeing(signatures, left[i], right[i])


@numba.njit(cache=True, nogil=True)
def _agreeing(signatures, i, j):  # type: ignore[no-untyped-def]
    """The number of equal values of two signatures."""
    # All of them, with no way out early: so the compiler makes vector instructions of it, 15 times as fast.
    left, right = signatures[i], signatures[j]
    count = np.int32(0)
    for k in range(len(left)):
        count += np.int32(left[k] == right[k])
    return np.int64(count)


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
def _join(parent, earliest, i, j):  # type: ignore[no-untyped-def]
    """Notes that i, the earlier, and j are alike."""
    earliest[j] = min(earliest[j], i)
    left, right = _find(parent, i), _find(parent, j)
    parent[max(left, right)] = min(left, right)


@numba.njit(cache=True, nogil=True)
def _compare(signatures, members, groups, first, low, needed, high, budget, parent, earliest, left, doubts, cap):  # type: ignore[no-untyped-def]
    """Compares all pairs inside the groups from ``first`` on that could still change ``parent`` or ``earliest``.

    Within a group members ascend. Roots are the smallest members of their components. ``left`` takes the pairs of each
    group that lie beyond the budget, ``doubts`` the pairs in doubt, ``cap`` of a group at the most. Gives the first
    group for which ``doubts`` has no room, the doubts in it, and the pairs that the estimate decided for want of room.
    """
    held = estimated = 0
    for group in range(first, len(groups) - 1):
        begin, end = groups[group], groups[group + 1]
        size = end - begin
        room = min(cap, size * (size - 1) // 2)
        if held + room > len(doubts):
            return group, held, estimated
        visited = own = 0
        for at in range(begin, end - 1):
            if _settled(members, at, end, parent, earliest):
                break
            if visited >= budget:
                rest = end - at
                left[group] = rest * (rest - 1) // 2
                break
            visited += end - at - 1
            i = members[at]
            for other in range(at + 1, end):
                j = members[other]
                if earliest[j] <= i and _find(parent, j) == _find(parent, i):
                    continue
                agreeing = _agreeing(signatures, i, j)
                if agreeing < low:
                    continue
                if agreeing < high and own < room:
                    doubts[held, 0], doubts[held, 1] = i, j
                    held += 1
                    own += 1
                    continue
                estimated += agreeing < high
                if agreeing >= min(needed, high):
                    _join(parent, earliest, i, j)
    return len(groups) - 1, held, estimated


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


@numba.njit(cache=True, nogil=True)
def _decide(doubts, signatures, hashes, begin, end, threshold, needed, parent, earliest):  # type: ignore[no-untyped-def]
    estimated = 0
    for pair in range(len(doubts)):
        i, j = doubts[pair]
        if earliest[j] <= i and _find(parent, j) == _find(parent, i):
            continue
        if begin[i] < end[i] and begin[j] < end[j]:
            alike = _jaccard(hashes[begin[i] : end[i]], hashes[begin[j] : end[j]]) >= threshold - 1e-9
        else:
            estimated += 1
            alike = _agreeing(signatures, i, j) >= needed
        if alike:
            _join(parent, earliest, i, j)
    return estimated


@numba.njit(cache=True, nogil=True)
def _exact(hashes, begin, end, left, right, values):  # type: ignore[no-untyped-def]
    for pair in range(len(left)):
        i, j = left[pair], right[pair]
        if begin[i] < end[i] and begin[j] < end[j]:
            values[pair] = _jaccard(hashes[begin[i] : end[i]], hashes[begin[j] : end[j]])


@numba.njit(cache=True, nogil=True)
def _jaccard(a, b):  # type: ignore[no-untyped-def]
    """The Jaccard similarity of two sorted sets."""
    i = j = common = 0
    while i < len(a) and j < len(b):
        first, second = a[i], b[j]
        common += first == second
        i += first <= second
        j += second <= first
    return common / (len(a) + len(b) - common)
