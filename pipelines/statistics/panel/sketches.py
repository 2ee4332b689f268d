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

_BASE = 0xD6E8FEB86659FD93  # of the polynomial that an n-gram's key is
SEED_HASH = 0x93CC  # the low 16 bits of MurmurHash3 of the seed itself, by which readers know it


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


class Samples(NamedTuple):
    """Several samples: number i has the keys and counts ``[edges[i] : edges[i + 1]]`` and ``thetas[i]``."""

    keys: npt.NDArray[np.uint64]
    counts: npt.NDArray[np.int64]
    edges: npt.NDArray[np.int64]
    thetas: npt.NDArray[np.uint64]


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

    Arguments are as for :func:`sample_parts`.
    """
    edges = np.array([0, len(rows)], np.int64)
    raised = None if registers is None else registers[None]
    added = None if buckets is None else buckets[None]
    found = sample_parts(words, offsets, rows, edges, order, k, raised, added)
    return Sample(found.keys, found.counts, found.thetas[0])


def sample_parts(
    words: npt.NDArray[np.uint64],
    offsets: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    edges: npt.NDArray[np.int64],
    order: int,
    k: int,
    registers: npt.NDArray[np.uint8] | None = None,
    buckets: npt.NDArray[np.int64] | None = None,
) -> Samples:
    """The bottom-k samples of the n-grams of several parts of a corpus; n-grams do not cross documents.

    Args:
        words: uint64 (n,) the word hashes of all documents.
        offsets: int64 (d + 1,) document i has ``words[offsets[i] : offsets[i + 1]]``.
        rows: int64 (r,) documents, part after part; part p has ``rows[edges[p] : edges[p + 1]]``.
        edges: int64 (p + 1,).
        order: words an n-gram; the key is that of :func:`pipelines.statistics.panel.words.ngram_keys`.
        k: how many keys to keep of a part.
        registers: uint8 (c, 4096) HyperLogLog registers to raise, the first for the first p / c parts, and so on.
        buckets: int64 (p, 512) signed count sketches to add to. A key adds +1 or −1, by a bit of its hash, to one
            bucket (Charikar et al., "Finding frequent items in data streams", 2002), and the sum of the squares has
            the second frequency moment as its mean (Thorup and Zhang, "Tabulation based 4-universal hashing with
            applications to second moment estimation", 2004).
    """
    ngrams = np.concatenate([[0], np.cumsum(np.maximum(offsets[rows + 1] - offsets[rows] - order + 1, 0))])
    ngrams = np.diff(ngrams[edges]).astype(np.int64)
    keys = np.empty(int(np.minimum(ngrams, k).sum()), np.uint64)
    counts, thetas = np.empty(len(keys), np.int64), np.empty(len(ngrams), np.uint64)
    ends = np.zeros(len(edges), np.int64)
    raised = np.empty((0, 0), np.uint8) if registers is None else registers
    added = np.empty((0, 0), np.int64) if buckets is None else buckets
    _sample_parts(words, offsets, rows, edges, ngrams, order, k, raised, added, keys, counts, ends, thetas)
    return Samples(keys[: ends[-1]], counts[: ends[-1]], ends, thetas)


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
    add_registers(keys, np.zeros(len(keys), np.int64), registers[None])
    return registers


def theta_bytes(sample: Sample) -> bytes:
    """The sample's keys, without their counts, as an ordered compact Theta sketch of Apache DataSketches.

    Layout: serial version 3 of the Java and C++ ``CompactThetaSketch``. An empty sample is written as the empty sketch.
    """
    exact, count = int(sample.theta) == MAX_THETA, len(sample.keys)
    read_only, empty, compact, ordered = 2, 4, 8, 16
    flags = read_only | compact | ordered | (empty if exact and not count else 0)
    longs = (1 if not count else 2) if exact else 3
    head = bytes([longs, 3, 3, 0, 0, flags]) + SEED_HASH.to_bytes(2, "little")
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
def add_registers(keys, at, registers):  # type: ignore[no-untyped-def]
    """Adds each key to the registers of its row: uint64 (n,), int64 (n,) and uint8 (rows, 4096)."""
    for i in range(len(keys)):
        h1, h2 = _murmur(keys[i])
        _add_register(registers[at[i]], h1, h2)


@numba.njit(inline="always")
def _slot(table, mask, scale, hash63):  # type: ignore[no-untyped-def]
    """Where a hash is in an open-addressing table, or would be; 0 marks an empty slot.

    Larger hashes have later slots, but for collisions, so that the table is all but sorted.
    """
    at = min(np.int64(np.float64(np.int64(hash63)) * scale), mask)
    while table[at] != 0 and table[at] != hash63:
        at = (at + 1) & mask
    return at


@numba.njit(inline="always")
def _sorted(table, tallies, slots, keys, counts):  # type: ignore[no-untyped-def]
    """Moves the table's hashes to ``keys``, ascending, and how often each was seen; gives their number."""
    size = 0
    for at in range(slots):
        key = table[at]
        if key != 0:
            place = size
            while place > 0 and keys[place - 1] > key:
                keys[place], counts[place] = keys[place - 1], counts[place - 1]
                place -= 1
            keys[place], counts[place] = key, tallies[at]
            table[at] = 0
            size += 1
    return size


@numba.njit(cache=True, nogil=True)
def _sample_parts(words, offsets, rows, edges, ngrams, order, k, registers, buckets, keys, counts, ends, thetas):  # type: ignore[no-untyped-def]
    """Fills ``keys``, ``counts``, ``ends`` and ``thetas``."""
    most = 16
    while most < 8 * k:
        most *= 2
    table, tallies = np.zeros(most, np.uint64), np.empty(most, np.int64)
    found, often = np.empty(most // 2, np.uint64), np.empty(most // 2, np.int64)
    parts_a_row = len(ngrams) // max(len(registers), 1)
    for part in range(len(ngrams)):
        # A guess at theta, so that few n-grams need a slot: as if all were distinct, and single words one in eight.
        share = (k + 6 * math.sqrt(k)) * (8 if order == 1 else 1) / max(ngrams[part], 1)
        bound = np.uint64(MAX_THETA)
        if share < 1:
            bound = np.uint64(share * MAX_THETA)
        part_rows = rows[edges[part] : edges[part + 1]]
        raised = registers[part // parts_a_row] if len(registers) else np.empty(0, np.uint8)
        added = buckets[part] if len(buckets) else np.empty(0, np.int64)
        slots = 16
        while slots < most and slots <= 2 * ngrams[part]:
            slots *= 2
        while True:
            size, theta = _least(
                words, offsets, part_rows, order, k, raised, added, bound, table, tallies, slots, found, often
            )
            if theta < bound or bound == np.uint64(MAX_THETA):
                break
            raised, added = np.empty(0, np.uint8), np.empty(0, np.int64)
            bound = bound * np.uint64(8) if bound < np.uint64(MAX_THETA // 8) else np.uint64(MAX_THETA)
        first = ends[part]
        keys[first : first + size] = found[:size]
        counts[first : first + size] = often[:size]
        ends[part + 1] = first + size
        thetas[part] = theta


@numba.njit(cache=True, nogil=True)
def _least(words, offsets, rows, order, k, registers, buckets, bound, table, tallies, slots, found, often):  # type: ignore[no-untyped-def]
    """The k least hashes under ``bound``, in ``found``, and how often they occur; gives their number and theta."""
    base = np.uint64(_BASE)
    mask = slots - 1
    theta: Any = bound
    scale = slots / np.float64(np.int64(theta))
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
            at = _slot(table, mask, scale, hash63)
            if table[at] == hash63:
                tallies[at] += 1
                continue
            table[at], tallies[at] = hash63, 1
            size += 1
            if 2 * size == slots:
                _sorted(table, tallies, slots, found, often)
                theta = found[k]
                scale = slots / np.float64(np.int64(theta))
                size = k
                for j in range(k):
                    at = _slot(table, mask, scale, found[j])
                    table[at], tallies[at] = found[j], often[j]
    size = _sorted(table, tallies, slots, found, often)
    if size > k:
        return k, found[k]
    return size, theta


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
