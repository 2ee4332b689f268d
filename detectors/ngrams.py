"""The kernels of the embedded detector: a linear model over the distinct word n-grams of levelled text, hashed.

A text's score is the sum of the weights of its distinct n-grams, divided by a power of their number, plus a bias. It is
fitted as logistic regression with AdaGrad (Duchi et al., 2011, JMLR 12), over crops of the texts, each seen once or a
few times. Hashing replaces the vocabulary (Weinberger et al., 2009, arXiv:0902.2206).

    tokens = tokenise([b"a levelled text ."])
    scores(tokens, NGrams(words=2, bits=22), weights, power=0.5)

Each source of text has an offset of its own while the model is fitted, and it is dropped afterwards: that a source
holds more machine text than another is then not laid to the words of its topic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

_OFFSET, _PRIME = 0xCBF29CE484222325, 0x100000001B3  # FNV-1a, 64 bits
UNUSED = -128  # in place of a weight: the bucket is no feature
_ODD, _MIX = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93


class Tokens(NamedTuple):
    """The tokens of n texts: 64-bit hashes, those of text i at ``starts[i]:starts[i + 1]``."""

    hashes: npt.NDArray[np.uint64]
    starts: Int


class Crops(NamedTuple):
    """m runs of tokens to learn from: ``first`` and ``last`` (exclusive) count tokens of all texts; shapes (m,)."""

    first: Int
    last: Int
    machine: npt.NDArray[np.bool_]
    source: Int  # from 0; the offset that it learns with


class NGrams(NamedTuple):
    """Which n-grams are features: runs of up to ``words`` tokens, hashed to ``bits`` bits."""

    words: int
    bits: int

    @property
    def buckets(self) -> int:
        """The number of different features."""
        return 1 << self.bits


def tokenise(levelled: Sequence[bytes]) -> Tokens:
    """Splits levelled texts at their spaces and hashes the tokens."""
    data = np.frombuffer(b"".join(levelled), np.uint8)
    ends = np.cumsum([len(text) for text in levelled], dtype=np.int64)
    counts = np.array([text.count(b" ") + 1 if text else 0 for text in levelled], np.int64)
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    hashes = np.zeros(int(starts[-1]), np.uint64)
    _hash_tokens(data, ends, starts, hashes)
    return Tokens(hashes, starts)


@numba.njit(cache=True, nogil=True)
def _hash_tokens(data, ends, starts, hashes):  # type: ignore[no-untyped-def]
    begin = 0
    for text in range(len(ends)):
        at = starts[text]
        value = np.uint64(_OFFSET)
        for index in range(begin, ends[text]):
            byte = data[index]
            if byte == 32:
                hashes[at] = value
                at += 1
                value = np.uint64(_OFFSET)
            else:
                value = (value ^ np.uint64(byte)) * np.uint64(_PRIME)
        if ends[text] > begin:
            hashes[at] = value
        begin = ends[text]


@numba.njit(cache=True, nogil=True)
def _distinct(hashes, first, last, words, bits, table, stamps, stamp, found):  # type: ignore[no-untyped-def]
    """Writes the distinct buckets of hashes[first:last] into ``found``; returns how many. ``table`` is a hash set."""
    size = 64
    while size < 2 * words * (last - first):
        size *= 2
    slots = size - 1
    mask = np.uint64((1 << bits) - 1)
    count = 0
    for start in range(first, last):
        value = np.uint64(0)
        for length in range(min(words, last - start)):
            value = value * np.uint64(_ODD) + hashes[start + length] + np.uint64(length + 1)
            mixed = (value ^ (value >> np.uint64(32))) * np.uint64(_MIX)
            bucket = np.int64((mixed ^ (mixed >> np.uint64(32))) & mask)
            slot = (bucket ^ (bucket >> 9)) & slots
            while stamps[slot] == stamp and table[slot] != bucket:
                slot = (slot + 1) & slots
            if stamps[slot] != stamp:
                stamps[slot] = stamp
                table[slot] = bucket
                found[count] = bucket
                count += 1
    return count


@numba.njit(cache=True, nogil=True)
def _scores(hashes, starts, words, bits, weights, power, room):  # type: ignore[no-untyped-def]
    table, stamps, found = np.zeros(room, np.int64), np.zeros(room, np.int64), np.zeros(room, np.int64)
    result = np.zeros(len(starts) - 1)
    for text in range(len(result)):
        count = _distinct(hashes, starts[text], starts[text + 1], words, bits, table, stamps, text + 1, found)
        total, features = 0.0, 0
        for index in range(count):
            weight = weights[found[index]]
            if weight != UNUSED:
                total += weight
                features += 1
        if features:
            result[text] = total / features**power
    return result


@numba.njit(cache=True, nogil=True)
def _learn(hashes, first, last, machine, source, words, bits, used, rate, offset_rate, power, room):  # type: ignore[no-untyped-def]
    table, stamps, found = np.zeros(room, np.int64), np.zeros(room, np.int64), np.zeros(room, np.int64)
    weights, squares = np.zeros(1 << bits, np.float32), np.zeros(1 << bits, np.float32)
    sources = source.max() + 1
    offsets, offset_squares = np.zeros(sources + 1), np.zeros(sources + 1)
    for crop in range(len(first)):
        count = _distinct(hashes, first[crop], last[crop], words, bits, table, stamps, crop + 1, found)
        features = 0
        for index in range(count):
            if used[found[index]]:
                found[features] = found[index]
                features += 1
        if features == 0:
            continue
        value = 1.0 / features**power
        odds = offsets[0] + offsets[1 + source[crop]]
        for index in range(features):
            odds += weights[found[index]] * value
        error = 1.0 / (1.0 + np.exp(-odds)) - machine[crop]
        for place in (0, 1 + source[crop]):
            offset_squares[place] += error * error
            offsets[place] -= offset_rate * error / np.sqrt(1e-8 + offset_squares[place])
        gradient = error * value
        for index in range(features):
            bucket = found[index]
            squares[bucket] += gradient * gradient
            weights[bucket] -= rate * gradient / (1e-6 + np.sqrt(squares[bucket]))
    return weights, offsets[0]


@numba.njit(cache=True, nogil=True)
def _count_sets(hashes, starts, sets, words, bits, room):  # type: ignore[no-untyped-def]
    table, stamps, found = np.zeros(room, np.int64), np.zeros(room, np.int64), np.zeros(room, np.int64)
    last_seen, counts = np.full(1 << bits, -1, np.int32), np.zeros(1 << bits, np.int32)
    for text in range(len(sets)):
        count = _distinct(hashes, starts[text], starts[text + 1], words, bits, table, stamps, text + 1, found)
        for index in range(count):
            bucket = found[index]
            if last_seen[bucket] != sets[text]:
                last_seen[bucket] = sets[text]
                counts[bucket] += 1
    return counts


def scores(tokens: Tokens, table: NGrams, weights: npt.NDArray[np.int8], power: float) -> Float:
    """The scores of n texts, without scale and bias: (n,). ``weights``: (buckets,), UNUSED where there is no feature.

    A text without a feature scores 0.
    """
    return np.asarray(
        _scores(tokens.hashes, tokens.starts, table.words, table.bits, weights, power, _room(tokens, table))
    )


@numba.njit(cache=True, nogil=True)
def _features(hashes, starts, words, bits, used, room, out, ends):  # type: ignore[no-untyped-def]
    table, stamps, found = np.zeros(room, np.int64), np.zeros(room, np.int64), np.zeros(room, np.int64)
    at = 0
    for text in range(len(starts) - 1):
        count = _distinct(hashes, starts[text], starts[text + 1], words, bits, table, stamps, text + 1, found)
        for index in range(count):
            if used[found[index]]:
                out[at] = found[index]
                at += 1
        ends[text + 1] = at


def features(tokens: Tokens, table: NGrams, used: npt.NDArray[np.bool_]) -> tuple[Int, Int]:
    """The distinct buckets of each text that are ``used``, (buckets,): those of text i at ``ends[i]:ends[i + 1]``."""
    out = np.zeros(table.words * len(tokens.hashes), np.int64)
    ends = np.zeros(len(tokens.starts), np.int64)
    _features(tokens.hashes, tokens.starts, table.words, table.bits, used, _room(tokens, table), out, ends)
    return out[: ends[-1]], ends


def learn(
    tokens: Tokens,
    crops: Crops,
    table: NGrams,
    used: npt.NDArray[np.bool_],
    rate: float,
    power: float,
    offset_rate: float = 0.1,
) -> tuple[npt.NDArray[np.float32], float]:
    """Fits weights, (buckets,), and bias in one pass over the crops, in their order."""
    weights, bias = _learn(
        tokens.hashes,
        crops.first,
        crops.last,
        crops.machine,
        crops.source,
        table.words,
        table.bits,
        used,
        rate,
        offset_rate,
        power,
        _room(tokens, table),
    )
    return weights, float(bias)


def sets_of_features(tokens: Tokens, sets: Int, table: NGrams) -> npt.NDArray[np.int32]:
    """In how many different sets each bucket occurs: (buckets,). ``sets``: (n,) numbers of sets, in ascending order."""
    return np.asarray(
        _count_sets(tokens.hashes, tokens.starts, sets, table.words, table.bits, _room(tokens, table)), np.int32
    )


def _room(tokens: Tokens, table: NGrams) -> int:
    longest = int(np.diff(tokens.starts).max(initial=1))
    return 1 << max(6, int(2 * table.words * longest - 1).bit_length())
