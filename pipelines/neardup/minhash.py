"""MinHash signatures, bit for bit those of datasketch 2.0 with ``MinHash(scheme="affine32")``.

A signature holds, for each permutation ``h -> a·h + b mod 2³²``, the smallest permuted hash of a document's shingles;
the share of equal values in two signatures estimates the Jaccard similarity of their shingle sets (Broder, "On the
resemblance and containment of documents", 1997)::

    >>> from pipelines.neardup.options import NearDup
    >>> options = NearDup()
    >>> signed = sign(pa.array(["the quick brown fox jumps over the lazy dog"] * 2, pa.large_string()), options)
    >>> signed.values.shape, signed.shingles.tolist()
    ((2, 128), [5, 5])
    >>> float((signed.values[0] == signed.values[1]).mean())
    1.0
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasketch import MinHash

from pipelines.neardup.options import NearDup
from pipelines.neardup.shingles import shingle_hashes

# Of the way from a text to its signature; raised whenever that changes, since signatures are compared across runs.
VERSION = 1


class Signatures(NamedTuple):
    """Signatures of n documents: ``values`` uint32[n, permutations]; ``shingles`` int32[n], repeats counted."""

    values: npt.NDArray[np.uint32]
    shingles: npt.NDArray[np.int32]

    def column(self) -> pa.FixedSizeBinaryArray:
        """The ``signature`` column of :func:`pipelines.records.signatures_schema`."""
        rows, permutations = self.values.shape
        width = pa.binary(4 * permutations)
        return pa.Array.from_buffers(width, rows, [None, pa.py_buffer(np.ascontiguousarray(self.values, "<u4"))])


def sign(texts: pa.LargeStringArray, options: NearDup) -> Signatures:
    """Signs each text; nulls are read as empty texts."""
    hashes, offsets = shingle_hashes(texts, options.shingle)
    values = minhash(hashes, offsets, options.permutations, options.seed)
    return Signatures(values, np.diff(offsets).astype(np.int32))


def minhash(
    hashes: npt.NDArray[np.uint32], offsets: npt.NDArray[np.int64], permutations: int, seed: int
) -> npt.NDArray[np.uint32]:
    """The signatures (uint32[n, permutations]) of n sets of hashes; set i is ``hashes[offsets[i] : offsets[i + 1]]``.

    An empty set has the largest value everywhere, as in datasketch.
    """
    values = np.empty((len(offsets) - 1, permutations), np.uint32)
    _minhash(hashes, offsets, *_coefficients(permutations, seed), values)
    return values


def warm_up() -> None:
    """Compiles the kernels, or loads them from numba's cache, before work is timed or forked."""
    sign(pa.array(["warm up", None], pa.large_string()), NearDup())


@functools.cache
def _coefficients(permutations: int, seed: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    a, b = MinHash(num_perm=permutations, seed=seed, scheme="affine32").permutations
    return np.ascontiguousarray(a, np.uint32), np.ascontiguousarray(b, np.uint32)


@numba.njit(cache=True, nogil=True)
def _minhash(hashes, offsets, a, b, values):  # type: ignore[no-untyped-def]
    block = 4096  # hashes that stay in the first-level cache while every permutation passes over them
    mixed = np.empty(block, np.uint32)
    for row in range(len(offsets) - 1):
        values[row, :] = np.uint32(0xFFFFFFFF)
        for begin in range(offsets[row], offsets[row + 1], block):
            count = min(block, offsets[row + 1] - begin)
            for i in range(count):
                h = hashes[begin + i]
                h = np.uint32((h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B))
                h = np.uint32((h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35))
                mixed[i] = np.uint32(h ^ (h >> np.uint32(16)))
            for k in range(len(a)):
                smallest, slope, shift = values[row, k], a[k], b[k]
                for i in range(count):
                    smallest = min(smallest, np.uint32(slope * mixed[i] + shift))
                values[row, k] = smallest
