"""Many samples at once, as they are stored: their Theta sketches, and their unions.

theta_blobs(samples).array()                    # theta_bytes of each
union_parts(thetas, counts, rows, edges, 8, 512)
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from pipelines.statistics.panel.packing import Blobs, add_blob
from pipelines.statistics.panel.sketches import MAX_THETA, SEED_HASH, Samples


def theta_blobs(samples: Samples) -> Blobs:
    """:func:`pipelines.statistics.panel.sketches.theta_bytes` of each sample."""
    lengths = np.diff(samples.edges)
    exact = samples.thetas == MAX_THETA
    longs = np.where(exact, np.where(lengths == 0, 1, 2), 3)
    offsets = np.concatenate([[0], np.cumsum(8 * (longs + lengths))]).astype(np.int64)
    data = np.zeros(int(offsets[-1]) // 8, "<u8")
    flags = np.where(exact & (lengths == 0), 0x1E, 0x1A)
    at = offsets[:-1] // 8
    head = np.uint64(SEED_HASH << 48 | 0x30300)
    data[at] = head | longs.astype(np.uint64) | flags.astype(np.uint64) << np.uint64(40)
    more, most = longs > 1, longs > 2
    data[at[more] + 1] = lengths[more]
    data[at[most] + 2] = samples.thetas[most]
    inside = np.arange(len(samples.keys)) + np.repeat(at + longs - samples.edges[:-1], lengths)
    data[inside] = samples.keys
    return Blobs(data.view(np.uint8), offsets)


def union_parts(
    thetas: Blobs,
    counts: Blobs,
    rows: npt.NDArray[np.int64],
    edges: npt.NDArray[np.int64],
    groups: int,
    k: int,
) -> Samples:
    """As ``sketches.union``, of many samples that are stored as ``sketches.theta_bytes`` and packed counts.

    Args:
        thetas, counts: of the samples, ``groups`` a row.
        rows: int64, the rows that belong together: union u is of ``rows[edges[u] : edges[u + 1]]``, group by group.
        edges: int64 (u + 1,).
        groups: of each row and each union.
        k: how many keys to keep at most.
    """
    unions = (len(edges) - 1) * groups
    room = int(np.maximum(np.diff(thetas.offsets) - 8, 0).sum() // 8)
    found = Samples(
        np.empty(room, np.uint64),
        np.empty(room, np.int64),
        np.zeros(unions + 1, np.int64),
        np.empty(unions, np.uint64),
    )
    _union_parts(*thetas, *counts, rows, edges, groups, k, *found)
    return found._replace(keys=found.keys[: found.edges[-1]], counts=found.counts[: found.edges[-1]])


@numba.njit(inline="always")
def _long(data, at):  # type: ignore[no-untyped-def]
    value = np.uint64(0)
    for byte in range(8):
        value |= np.uint64(data[at + byte]) << np.uint64(8 * byte)
    return value


@numba.njit(cache=True, nogil=True)
def _union_parts(data, starts, packed, packed_starts, rows, edges, groups, k, keys, counts, ends, thetas):  # type: ignore[no-untyped-def]
    """Fills the last four. Samples are joined one by one, which makes no difference to what is left."""
    had, had_counts = np.empty(k, np.uint64), np.empty(k, np.int64)
    joined, joined_counts = np.empty(k, np.uint64), np.empty(k, np.int64)
    for part in range(len(thetas)):
        union, group = part // groups, part % groups
        size, theta = 0, np.uint64(MAX_THETA)
        for row in rows[edges[union] : edges[union + 1]]:
            one = row * groups + group
            begin, longs = starts[one], np.int64(data[starts[one]])
            length = (starts[one + 1] - begin) // 8 - longs
            if longs > 2:
                theta = min(theta, _long(data, begin + 16))
            begin += 8 * longs
            own = np.zeros(length, np.int64)
            add_blob(packed, packed_starts[one], packed_starts[one + 1], own, False)
            i, j, number = 0, 0, 0
            while i < size or j < length:
                there = _long(data, begin + 8 * j) if j < length else np.uint64(MAX_THETA)
                key = min(had[i], there) if i < size else there
                if key >= theta:
                    break
                if number == k:
                    theta = key
                    break
                joined[number], joined_counts[number] = key, 0
                if i < size and had[i] == key:
                    joined_counts[number] += had_counts[i]
                    i += 1
                if j < length and there == key:
                    joined_counts[number] += own[j]
                    j += 1
                number += 1
            had, joined, had_counts, joined_counts = joined, had, joined_counts, had_counts
            size = number
        first = ends[part]
        keys[first : first + size] = had[:size]
        counts[first : first + size] = had_counts[:size]
        ends[part + 1] = first + size
        thetas[part] = theta
