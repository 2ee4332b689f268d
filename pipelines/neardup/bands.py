"""Locality-sensitive hashing: signatures that agree on all rows of some band become candidates.

With b bands of r rows, two documents of similarity s share a band with probability ``1 - (1 - s^r)^b`` (Leskovec,
Rajaraman, Ullman, *Mining of Massive Datasets*, 3.4)::

    >>> parameters(0.8, 128)
    Banding(bands=16, rows=8)
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from datasketch import MinHashLSH

# Weights of false positives and false negatives in datasketch's search for b and r. A false candidate costs one
# comparison, since candidates are verified; a missed one stays in the reserve as a copy. With equal weights and the
# default options a pair of similarity 0.85 would be missed with probability 0.31, with these 0.006.
WEIGHTS = (0.05, 0.95)


class Banding(NamedTuple):
    """How a signature is cut: ``bands`` of ``rows`` values each; values left over are not used for candidates."""

    bands: int
    rows: int


@functools.cache
def parameters(threshold: float, permutations: int) -> Banding:
    """The bands and rows that datasketch holds optimal for a threshold under :data:`WEIGHTS`.

    Near a threshold of 1 that is a single band, which datasketch refuses; two halves then find all that it would.
    """
    try:
        lsh = MinHashLSH(threshold=threshold, num_perm=permutations, weights=WEIGHTS)
    except ValueError:
        return Banding(2, permutations // 2)
    return Banding(lsh.b, lsh.r)


def band_hashes(signatures: npt.NDArray[np.uint32], banding: Banding) -> npt.NDArray[np.uint64]:
    """The hash of each band of each signature: uint32[n, permutations] to uint64[bands, n]."""
    hashes = np.empty((banding.bands, len(signatures)), np.uint64)
    _band_hashes(np.ascontiguousarray(signatures), banding.rows, hashes)
    return hashes


def mix64(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """A bijection that spreads values evenly: the 64-bit finalizer of MurmurHash3 (Appleby)."""
    h = (values ^ (values >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    h = (h ^ (h >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return np.asarray(h ^ (h >> np.uint64(33)), np.uint64)


def hash_range(hashes: npt.NDArray[np.uint64], ranges: int) -> npt.NDArray[np.int64]:
    """Which of ``ranges`` equal stretches of [0, 2^64) each hash lies in."""
    return ((hashes >> np.uint64(32)) * np.uint64(ranges) >> np.uint64(32)).astype(np.int64)


@numba.njit(cache=True, nogil=True)
def _band_hashes(signatures, rows, hashes):  # type: ignore[no-untyped-def]
    prime = np.uint64(0x9E3779B97F4A7C15)
    for document in range(len(signatures)):
        for band in range(len(hashes)):
            h = np.uint64(band + 1) * prime
            for k in range(band * rows, (band + 1) * rows):
                h = (h ^ np.uint64(signatures[document, k])) * prime
                h ^= h >> np.uint64(32)
            h = (h ^ (h >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
            hashes[band, document] = h ^ (h >> np.uint64(33))
