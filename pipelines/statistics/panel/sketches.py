"""Sketches that merge exactly: bottom-k samples with counts, HyperLogLog registers, a signed count sketch.

All hash their 8-byte keys as Apache DataSketches does (MurmurHash3 x64 128, seed 9001), so that DataSketches reads
what :func:`theta_bytes` and :func:`hll_bytes` write and can go on from there. None depends on the order of its input,
nor on how it was cut up: the sketch of a union is the merge of the sketches, bit for bit::

    >>> keys = np.arange(5000, dtype=np.uint64)
    >>> whole, parts = sample(keys, 512), union([sample(keys[:2000], 512), sample(keys[2000:], 512)], 512)
    >>> bool((whole.keys == parts.keys).all() and whole.theta == parts.theta)
    True
    >>> abs(len(whole.keys) * MAX_THETA / int(whole.theta) - 5000) < 5000 * 3 / 510**0.5  # distinct keys, estimated
    True
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

SEED = 9001  # DataSketches' default, which its readers expect
MAX_THETA = (1 << 63) - 1  # of a sample that holds all keys: hashes have 63 bits
REGISTERS = 1 << 12
BUCKETS = 512  # of the signed count sketch

_SEED_HASH = 0x93CC  # the low 16 bits of MurmurHash3 of the seed itself, by which readers know it


class Sample(NamedTuple):
    """The n-grams with the least hashes, and how often each occurs: a theta sketch with counts.

    ``keys`` uint64 (k,) are 63-bit hashes, ascending, all under ``theta``; ``counts`` int64 (k,) are exact, whatever
    was merged, since a key under the final theta was never dropped anywhere. ``theta`` (uint64) is the least hash
    that did not fit, or :data:`MAX_THETA`; a share ``theta / MAX_THETA`` of all distinct n-grams is in the sample, and
    which are is independent of how often they occur (Bar-Yossef et al., "Counting distinct elements in a data stream",
    2002, algorithm 2; Dasgupta et al., "A framework for estimating stream expression cardinalities", 2016).
    """

    keys: npt.NDArray[np.uint64]
    counts: npt.NDArray[np.int64]
    theta: np.uint64


def empty_sample() -> Sample:
    """Of no key at all."""
    return Sample(np.empty(0, np.uint64), np.empty(0, np.int64), np.uint64(MAX_THETA))


def sample(keys: npt.NDArray[np.uint64], k: int) -> Sample:
    """The bottom-k sample of a multiset of 64-bit keys."""
    offsets = np.array([0, len(keys)], np.int64)
    return sample_ngrams(keys, offsets, np.zeros(1, np.int64), 1, k)


def sample_ngrams(
    words: npt.NDArray[np.uint64],
    offsets: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    order: int,
    k: int,
    registers: npt.NDArray[np.uint8] | None = None,
    buckets: npt.NDArray[np.int64] | None = None,
) -> Sample:
    """The bottom-k sample of the n-grams of some documents, counted into registers and buckets if there are any.

    Arguments are as for :func:`add_ngrams`.
    """
    none, no_buckets = np.empty(0, np.uint8), np.empty(0, np.int64)
    ngrams = int(np.maximum(offsets[rows + 1] - offsets[rows] - order + 1, 0).sum())
    # A guess at theta, so that few n-grams need sorting: as if all were distinct, and single words one in eight.
    share = (k + 6 * math.sqrt(k)) * (8 if order == 1 else 1) / max(ngrams, 1)
    bound = np.uint64(min(share, 1) * MAX_THETA)
    counted = registers if registers is not None else none, buckets if buckets is not None else no_buckets
    found = Sample(*add_ngrams(words, offsets, rows, order, k, *counted, bound))
    while found.theta == bound and bound < MAX_THETA:
        bound = np.uint64(min(int(bound) * 8, MAX_THETA))
        found = Sample(*add_ngrams(words, offsets, rows, order, k, none, no_buckets, bound))
    return found


def union(samples: Sequence[Sample], k: int | None = None) -> Sample:
    """One sample of all that the samples were drawn from: the least theta, the keys under it, their counts summed.

    It keeps at most ``k`` keys; without ``k`` all, so that the union of a slice's groups is as exact as it can be.
    """
    samples = [one for one in samples if len(one.keys) or one.theta < MAX_THETA]
    if not samples:
        return empty_sample()
    theta = min(one.theta for one in samples)
    keys = np.concatenate([one.keys for one in samples])
    under = np.flatnonzero(keys < theta)
    under = under[np.argsort(keys[under], kind="stable")]
    keys, counts = keys[under], np.concatenate([one.counts for one in samples])[under]
    first = np.flatnonzero(np.concatenate([keys[:1] == keys[:1], keys[1:] != keys[:-1]]))
    distinct, summed = keys[first], np.add.reduceat(counts, first) if len(first) else counts
    if k is not None and len(distinct) > k:
        return Sample(distinct[:k], summed[:k], distinct[k])
    return Sample(distinct, summed, theta)


def registers_of(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """The HyperLogLog registers (uint8 (4096,)) of a set of 64-bit keys (Flajolet et al. 2007, figure 3).

    Registers merge by :func:`numpy.maximum`.
    """
    registers = np.zeros(REGISTERS, np.uint8)
    _add_registers(keys, registers)
    return registers


def theta_bytes(sample: Sample) -> bytes:
    """The sample's keys, without their counts, as an ordered compact Theta sketch of Apache DataSketches.

    Layout: serial version 3 of the Java and C++ ``CompactThetaSketch``. An empty sample is written as the empty sketch.
    """
    exact, count = int(sample.theta) == MAX_THETA, len(sample.keys)
    read_only, empty, compact, ordered = 2, 4, 8, 16
    flags = read_only | compact | ordered | (empty if exact and not count else 0)
    longs = (1 if not count else 2) if exact else 3
    head = bytes([longs, 3, 3, 0, 0, flags]) + _SEED_HASH.to_bytes(2, "little")
    if longs > 1:
        head += count.to_bytes(4, "little") + bytes(4)
    if longs > 2:
        head += int(sample.theta).to_bytes(8, "little")
    return head + sample.keys.astype("<u8").tobytes()


def sample_of_bytes(data: bytes) -> tuple[npt.NDArray[np.uint64], np.uint64]:
    """The keys and the theta of what :func:`theta_bytes` wrote."""
    longs = data[0]
    theta = np.uint64(int.from_bytes(data[16:24], "little") if longs > 2 else MAX_THETA)
    return np.frombuffer(data, "<u8", offset=8 * longs).astype(np.uint64), theta


def hll_bytes(registers: npt.NDArray[np.uint8]) -> bytes:
    """HyperLogLog registers as an updatable HLL_8 sketch of Apache DataSketches (its ``HllArray`` image).

    It is marked as out of order, as every merged sketch is: readers then do not trust the running (HIP) estimate.
    """
    mode_hll, target_hll8 = 2, 2
    empty, out_of_order = 4, 16
    flags = out_of_order | (0 if registers.any() else empty)
    lg_k = int(math.log2(len(registers)))
    powers = np.exp2(-registers.astype(np.float64))
    low = registers < 32  # the sums of 2^-register are kept apart here, so that no small term is lost
    head = bytes([10, 1, 7, lg_k, 0, flags, 0, mode_hll | target_hll8 << 2])
    sums = np.array([0.0, powers[low].sum(), powers[~low].sum()], "<f8").tobytes()
    zeros = np.array([np.count_nonzero(registers == 0), 0], "<i4").tobytes()
    return head + sums + zeros + registers.astype(np.uint8).tobytes()


@numba.njit(inline="always")
def _fmix(h):  # type: ignore[no-untyped-def]
    h = (h ^ (h >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    h = (h ^ (h >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return h ^ (h >> np.uint64(33))


@numba.njit(inline="always")
def _murmur(key):  # type: ignore[no-untyped-def]
    """Both halves of MurmurHash3 x64 128 (Appleby) of the key's 8 bytes, little-endian, with DataSketches' seed."""
    k = key * np.uint64(0x87C37B91114253D5)
    k = ((k << np.uint64(31)) | (k >> np.uint64(33))) * np.uint64(0x4CF5AD432745937F)
    h1 = (np.uint64(SEED) ^ k) ^ np.uint64(8)
    h2 = np.uint64(SEED) ^ np.uint64(8)
    h1 += h2
    h2 += h1
    h1, h2 = _fmix(h1), _fmix(h2)
    h1 += h2
    return h1, h2 + h1


@numba.njit(inline="always")
def _add_register(registers, h1, h2):  # type: ignore[no-untyped-def]
    """The slot is the low bits of the first half, the value one more than the leading zeros of the second."""
    slot = np.int64(h1 & np.uint64(len(registers) - 1))
    value = np.int64(registers[slot])
    # Most keys raise nothing, which one shift tells.
    if value == 0 or (value < 63 and h2 >> np.uint64(64 - value) == 0):
        while value < 62 and not (h2 >> np.uint64(63 - value)) & np.uint64(1):
            value += 1
        registers[slot] = np.uint8(value + 1)


@numba.njit(cache=True, nogil=True)
def _add_registers(keys, registers):  # type: ignore[no-untyped-def]
    for key in keys:
        h1, h2 = _murmur(key)
        _add_register(registers, h1, h2)


@numba.njit(inline="always")
def _slot(table, hash63):  # type: ignore[no-untyped-def]
    """Where a hash is in an open-addressing table, or would be; 0 marks an empty slot."""
    mask = len(table) - 1
    at = np.int64((hash63 * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20)) & mask
    while table[at] != 0 and table[at] != hash63:
        at = (at + 1) & mask
    return at


@numba.njit(cache=True, nogil=True)
def _least(table, tallies, size, k):  # type: ignore[no-untyped-def]
    """The k least of the table's ``size`` hashes, ascending, and how often each was seen; and the next one, if any."""
    keys = table[table != 0]
    keys.sort()
    kept = min(size, k)
    counts = np.empty(kept, np.int64)
    for i in range(kept):
        counts[i] = tallies[_slot(table, keys[i])]
    return keys[:kept].copy(), counts, keys[k] if size > k else np.uint64(0)


@numba.njit(cache=True, nogil=True)
def add_ngrams(words, offsets, rows, order, k, registers, buckets, bound):  # type: ignore[no-untyped-def]
    """The bottom-k sample of the n-grams of some documents; counts them into the other sketches on the way.

    Args:
        words: uint64 (n,) the word hashes of all documents.
        offsets: int64 (d + 1,) document i has ``words[offsets[i] : offsets[i + 1]]``.
        rows: int64 (r,) the documents meant.
        order: words an n-gram; the key is that of :func:`pipelines.statistics.panel.words.ngram_keys`.
        k: how many keys to keep.
        registers: uint8 HyperLogLog registers to raise; empty for none.
        buckets: int64 buckets of a signed count sketch to add to; empty for none. A key adds +1 or −1, by a bit of
            its hash, to one bucket (Charikar et al., "Finding frequent items in data streams", 2002), and the sum of
            the squares has the second frequency moment as its mean (Thorup and Zhang, "Tabulation based 4-universal
            hashing with applications to second moment estimation", 2004).
        bound: uint64 hashes from here on are not sampled.

    Returns:
        keys, counts, theta of a :class:`Sample`; of theta ``bound`` if no more than k hashes are under it.
    """
    base = np.uint64(0xD6E8FEB86659FD93)
    slots = 16
    while slots < 8 * k:
        slots *= 2
    table, tallies = np.zeros(slots, np.uint64), np.zeros(slots, np.int64)
    theta: Any = bound
    size = 0
    for row in rows:
        for i in range(offsets[row], offsets[row + 1] - order + 1):
            key = words[i]
            for j in range(1, order):
                key = key * base + words[i + j]
            h1, h2 = _murmur(key)
            if len(registers):
                _add_register(registers, h1, h2)
            if len(buckets):
                at = np.int64((h2 >> np.uint64(1)) & np.uint64(len(buckets) - 1))
                buckets[at] += 1 - 2 * np.int64(h2 & np.uint64(1))
            hash63 = h1 >> np.uint64(1)
            if hash63 >= theta or hash63 == 0:
                continue
            at = _slot(table, hash63)
            tallies[at] += 1
            if table[at] == 0:
                table[at] = hash63
                size += 1
                if 2 * size == slots:
                    keys, counts, theta = _least(table, tallies, size, k)
                    table[:], tallies[:] = 0, 0
                    size = k
                    for j in range(k):
                        at = _slot(table, keys[j])
                        table[at], tallies[at] = keys[j], counts[j]
    keys, counts, following = _least(table, tallies, size, k)
    return keys, counts, following if following > 0 else theta


@numba.njit(cache=True, nogil=True)
def distinct_in_windows(words, offsets, width):  # type: ignore[no-untyped-def]
    """Distinct words summed over all windows of ``width`` words in a row within a document, by document.

    Their ratio over ``width`` and the number of windows is the moving-average type-token ratio (Covington and McFall,
    "Cutting the Gordian knot", 2010). A word counts in each window that holds it but not the same word before it.
    """
    types = np.zeros(len(offsets) - 1, np.int64)
    longest = 0
    for row in range(len(types)):
        longest = max(longest, offsets[row + 1] - offsets[row])
    slots = 16
    while slots < 2 * longest:
        slots *= 2
    seen = np.full(slots, -1, np.int64)  # where a word stood last; what is before the document counts as empty
    for row in range(len(types)):
        first, last = offsets[row], offsets[row + 1]
        if last - first < width:
            continue
        slots = 16
        while slots < 2 * (last - first):
            slots *= 2
        for i in range(first, last):
            at = np.int64(words[i] >> np.uint64(20)) & (slots - 1)
            while seen[at] >= first and words[seen[at]] != words[i]:
                at = (at + 1) & (slots - 1)
            low = max(first, i - width + 1, seen[at] + 1)
            types[row] += max(0, min(i, last - width) - low + 1)
            seen[at] = i
    return types
