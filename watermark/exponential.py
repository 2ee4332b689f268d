"""Exponential-minimum sampling ("Gumbel" marks): the sampled token is the one with the largest r^(1/p).

The key and the tokens before it give each token of the vocabulary a number r in [0, 1); among tokens of probability p
the one with the largest r^(1/p) is sampled, so that the text keeps the model's distribution and the sampled tokens have
large r. The statistic is the sum of -log(1 - r), which for unmarked text is a sum of Exp(1) numbers: a Gamma(n) number.
This file is the variant of three_bricks' ``OpenaiGenerator`` and ``OpenaiDetector`` with ``seeding="hash"``::

    >>> from watermark.windows import windows
    >>> keys = [Key(vocab_size=1000, ngram=1, key=7), Key(vocab_size=1000, ngram=1, key=8)]
    >>> context = [3]
    >>> for _ in range(40):
    ...     context.append(int(uniforms_for(context[-1:], keys[0])[:200].argmax()))
    >>> tally = score(windows(np.array(context, np.int32), np.array([0, 41]), width(keys[0])), keys)
    >>> [bool(p < -20) for p in log_p_value(tally.statistic, tally.scored, keys)[0]]
    [True, False]

Its seed is (… (key·salt + t₁)·salt + t₂ …) mod 2⁶⁴ - 1 over the tokens before, oldest first; r is what ``torch.rand``
draws on the CPU from a Mersenne Twister with the low 32 bits of that seed: 24 bits of its t-th number for token t.
With ``key=0`` and a context of one token, which is the program's default, the seed is that token: there is no secret.
The other seedings of the program look up a permutation that it draws from torch's global generator; text marked with
them cannot be scored without that permutation, so they are not here.

Sources: Aaronson and Kirchner, "Watermarking GPT outputs" (2022); Fernandez et al., "Three Bricks to Consolidate
Watermarks for Large Language Models" (2023), section II and https://github.com/facebookresearch/three_bricks;
Matsumoto and Nishimura, "Mersenne Twister" (1998).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from scipy import special

from watermark.windows import Batch, Floats, Ints, Tally

Words = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]

MODULUS = 2**64 - 1
_LEVELS = 1 << 24  # r is a multiple of 2⁻²⁴
_LANES = 32  # Twisters that run side by side
_UNDERFLOW = 1e-280


@dataclass(frozen=True)
class Key:
    """The parameters of one key, as three_bricks names them where it has a name.

    Attributes:
        vocab_size: the tokenizer's ``vocab_size``; tokens at or above it are not scored.
        ngram: how many tokens before the sampled one decide r.
        payload: the message; it turns the vocabulary by that many tokens.
        key: ``seed``, from 0 to 2⁶³ - 1.
        salt: ``salt_key``, from 1 to 2⁶³ - 1. It may differ between keys that are scored together.
    """

    vocab_size: int
    key: int = field(repr=False)
    ngram: int = 1
    payload: int = 0
    salt: int = field(default=35317, repr=False)

    def __post_init__(self) -> None:
        """Refuse what the program could not run with."""
        if not 0 < self.vocab_size < 2**31:
            raise ValueError(f"vocab_size is {self.vocab_size}; it must lie between 1 and 2³¹ - 1")
        if not 1 <= self.ngram <= 64:
            raise ValueError(f"ngram is {self.ngram}; it must lie between 1 and 64")
        if not 0 <= self.payload < self.vocab_size:
            raise ValueError(f"payload is {self.payload}; it must lie between 0 and the vocabulary's size")
        if not 0 <= self.key < 2**63 or not 0 < self.salt < 2**63:
            raise ValueError("the key must lie between 0 and 2⁶³ - 1, the salt between 1 and 2⁶³ - 1")


def width(key: Key) -> int:
    """How many tokens before the scored one decide its mark."""
    return key.ngram


def null_mean(keys: Sequence[Key]) -> Floats:
    """float64[k]: the mean of -log(m / 2²⁴) over m = 1 … 2²⁴, which is 1 - 5·10⁻⁷."""
    return np.full(len(keys), mean_of_levels(_LEVELS))


def null_deviation(keys: Sequence[Key]) -> Floats:
    """float64[k]: that of an Exp(1) number."""
    return np.ones(len(keys))


def log_p_value(statistic: Floats, scored: Ints, keys: Sequence[Key]) -> Floats:
    """Natural logarithm of the chance that ``scored`` unmarked tokens sum to ``statistic`` or more, shape [..., k].

    1 - r is m / 2²⁴ with m from 1 to 2²⁴, which is a uniform number rounded up, so the statistic is at most a sum of
    Exp(1) numbers: their Gamma tail can only err upwards.
    """
    del keys
    return log_gamma_tail(statistic, scored)


def score(batch: Batch, keys: Sequence[Key]) -> Tally:
    """The sum of -log(1 - r) over the tokens of each block, for each key.

    Args:
        batch: positions with at least ``ngram`` tokens before them.
        keys: keys that share everything but ``key`` and ``salt``.

    Returns:
        The tally; both arrays have the shape [b, k].

    Raises:
        ValueError: keys that do not belong together.
    """
    one = alike(keys)
    statistic = np.zeros((len(batch.blocks) - 1, len(keys)))
    scored = np.zeros(statistic.shape, np.int64)
    blocks = np.repeat(np.arange(len(statistic)), np.diff(batch.blocks))
    for salt in sorted({key.salt for key in keys}):
        contexts = np.zeros(len(batch.positions), np.uint64)
        counts = np.zeros(len(batch.positions), np.bool_)
        documents = batch.blocks[batch.documents]
        _contexts(
            batch.tokens, batch.positions, documents, one.vocab_size, one.ngram, np.uint64(salt), contexts, counts
        )
        columns = [column for column, key in enumerate(keys) if key.salt == salt]
        scored[:, columns] = np.bincount(blocks[counts], minlength=len(scored))[:, None]
        draws = (batch.tokens[batch.positions[counts]] + one.payload) % one.vocab_size
        pairs, which = _distinct(contexts[counts], draws)
        contexts, draws = contexts[counts][pairs], draws[pairs]
        for column in columns:
            start = keys[column].key * pow(salt, one.ngram, MODULUS) % MODULUS
            scores = -np.log(1.0 - _draw(_seeds(contexts, np.uint64(start)), draws))[which]
            statistic[:, column] = np.bincount(blocks[counts], weights=scores, minlength=len(scored))
    return Tally(statistic, scored)


def seed_for(context: Sequence[int], key: Key) -> int:
    """The seed that the last ``ngram`` tokens of ``context`` give, below 2⁶⁴ - 1."""
    if len(context) < key.ngram:
        raise ValueError(f"the context has {len(context)} tokens; {key.ngram} are needed")
    seed = key.key
    for token in context[len(context) - key.ngram :]:
        seed = (seed * key.salt + int(token)) % MODULUS
    return seed


def uniforms_for(context: Sequence[int], key: Key) -> npt.NDArray[np.float32]:
    """float32[vocabulary]: r of each token that may follow ``context``, oldest token first."""
    draws = np.arange(key.vocab_size, dtype=np.int32)
    drawn = np.empty(key.vocab_size)
    _stream(np.uint32(seed_for(context, key) & 0xFFFFFFFF), drawn)
    return drawn[(draws + key.payload) % key.vocab_size].astype(np.float32)


def alike(keys: Sequence[Any]) -> Any:
    """The first of ``keys``, after making sure that they share all fields but the secret ones."""
    if not keys:
        raise ValueError("at least one key is needed")
    if len({repr(key) for key in keys}) != 1:
        raise ValueError("keys that are scored together must share everything but the key")
    return keys[0]


def mean_of_levels(levels: int) -> float:
    """The mean of -log(m / levels) over m = 1 … levels."""
    return float(np.log(levels) - special.gammaln(levels + 1.0) / levels)


def log_gamma_tail(statistic: Floats, scored: Ints) -> Floats:
    """Natural logarithm of P(X >= statistic) for X ~ Gamma(scored), element by element; 0 where ``scored`` is 0.

    The regularised incomplete gamma function as far as it can be told from 0, and its continued fraction beyond
    (NIST Digital Library of Mathematical Functions, 8.9.2).
    """
    statistic, scored = np.broadcast_arrays(np.asarray(statistic, np.float64), np.asarray(scored, np.int64))
    shape = np.maximum(scored, 1).astype(np.float64)
    x = np.where(scored > 0, np.maximum(statistic, 0.0), 0.0)
    tail = np.asarray(special.gammaincc(shape, x))
    small = tail < _UNDERFLOW
    result = np.asarray(np.log(np.where(small, 1.0, tail)))
    result[small] = _continued_fraction(shape[small], x[small])
    return result


def _first_occurrences(batch: Batch, key: Key, salt: int) -> tuple[Words, Bools]:
    contexts, counts = np.zeros(len(batch.positions), np.uint64), np.zeros(len(batch.positions), np.bool_)
    documents = batch.blocks[batch.documents]
    _contexts(batch.tokens, batch.positions, documents, key.vocab_size, key.ngram, np.uint64(salt), contexts, counts)
    return contexts, counts


def _distinct(contexts: Words, draws: npt.NDArray[np.int32]) -> tuple[Ints, Ints]:
    """One place of each (context, draw), ordered by draw, and which of them each pair is."""
    order = np.lexsort((contexts, draws))
    new = np.ones(len(order), np.bool_)
    new[1:] = (contexts[order[1:]] != contexts[order[:-1]]) | (draws[order[1:]] != draws[order[:-1]])
    which = np.empty(len(order), np.int64)
    which[order] = np.cumsum(new) - 1
    return order[new], which


def _draw(seeds: npt.NDArray[np.uint32], draws: npt.NDArray[np.int32]) -> Floats:
    drawn = np.empty(len(seeds))
    _draws(seeds, draws, drawn)
    return drawn


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _multiply(a: Any, b: Any) -> Any:
    """a·b mod 2⁶⁴ - 1 of two uint64 below it: the high and the low half of the product count alike."""
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    a0, a1, b0, b1 = a & low, a >> half, b & low, b >> half
    middle = a1 * b0 + ((a0 * b0) >> half)
    other = a0 * b1 + (middle & low)
    high = a1 * b1 + (middle >> half) + (other >> half)
    return _add(high, a * b)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _add(a: Any, b: Any) -> Any:
    """a + b mod 2⁶⁴ - 1 of two uint64."""
    total = a + b
    if total < a:
        total += np.uint64(1)
    return total if total != np.uint64(0xFFFFFFFFFFFFFFFF) else np.uint64(0)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _contexts(
    tokens: Any, positions: Any, documents: Any, vocabulary: Any, ngram: Any, salt: Any, contexts: Any, counts: Any
) -> None:
    """The part of the seed that the tokens make, and whether the position counts: valid, and not seen before."""
    longest = np.int64(1)
    for d in range(len(documents) - 1):
        longest = max(longest, documents[d + 1] - documents[d])
    size = np.int64(4)
    while size < 2 * longest:
        size *= 2
    seen, seen_token = np.empty(size, np.uint64), np.empty(size, np.int32)
    stamp = np.full(size, -1, np.int64)
    for d in range(len(documents) - 1):
        slots = np.int64(4)
        while slots < 2 * (documents[d + 1] - documents[d]):
            slots *= 2
        mask = np.uint64(slots - 1)
        for i in range(documents[d], documents[d + 1]):
            position = positions[i]
            seed, valid = np.uint64(0), True
            for j in range(position - ngram, position + 1):
                valid &= (tokens[j] >= 0) & (tokens[j] < vocabulary)
            if not valid:
                continue
            for j in range(position - ngram, position):
                seed = _add(_multiply(seed, salt), np.uint64(tokens[j]))
            contexts[i] = seed
            mixed = (seed ^ (np.uint64(tokens[position]) << np.uint64(40))) * np.uint64(0x9E3779B97F4A7C15)
            slot = (mixed >> np.uint64(32)) & mask
            while stamp[slot] == d and not (seen[slot] == seed and seen_token[slot] == tokens[position]):
                slot = (slot + np.uint64(1)) & mask
            if stamp[slot] != d:
                stamp[slot], seen[slot], seen_token[slot] = d, seed, tokens[position]
                counts[i] = True


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _seeds(contexts: Any, start: Any) -> Any:
    """The low 32 bits of contexts + start mod 2⁶⁴ - 1; ``start`` is the part of the seed that the key makes."""
    seeds = np.empty(len(contexts), np.uint32)
    for i in range(len(contexts)):
        seeds[i] = np.uint32(_add(contexts[i], start) & np.uint64(0xFFFFFFFF))
    return seeds


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _draws(seeds: Any, draws: Any, drawn: Any) -> None:
    """For each seed the number of place ``draws`` in its stream; ``draws`` ascends, so that few numbers are in vain."""
    state = np.empty(624 * _LANES, np.uint32)
    for first in range(0, len(seeds), _LANES):
        last = min(first + _LANES, len(seeds)) - 1
        for lane in range(_LANES):
            state[lane] = seeds[min(first + lane, last)]
        _spread(state)
        job = first
        for turn in range(draws[last] // 624 + 1):
            _twist(state, min(624, draws[last] + 1 - 624 * turn))
            while job <= last and draws[job] < 624 * (turn + 1):
                drawn[job] = _unit(state[(draws[job] - 624 * turn) * _LANES + job - first])
                job += 1


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _spread(state: Any) -> None:
    """The states that the seeds in the first row make, row by row; a column is a Twister."""
    for row in range(np.uint64(1), np.uint64(624)):
        for i in range(row * np.uint64(_LANES), (row + np.uint64(1)) * np.uint64(_LANES)):
            before = state[i - np.uint64(_LANES)]
            state[i] = np.uint32(1812433253) * (before ^ (before >> np.uint32(30))) + np.uint32(row)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _twist(state: Any, rows: Any) -> None:
    """The next 624 words of each Twister, or as many as ``rows``; unsigned places keep the loops free of branches."""
    far, near, one = np.uint64(397 * _LANES), np.uint64(227 * _LANES), np.uint64(_LANES)
    for i in range(np.uint64(0), np.uint64(min(rows, 227) * _LANES)):
        state[i] = state[i + far] ^ _mix(state[i], state[i + one])
    for i in range(near, np.uint64(min(rows, 623) * _LANES)):
        state[i] = state[i - near] ^ _mix(state[i], state[i + one])
    if rows == 624:
        for lane in range(np.uint64(0), one):
            last = np.uint64(623 * _LANES) + lane
            state[last] = state[last - near] ^ _mix(state[last], state[lane])


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _mix(here: Any, follows: Any) -> Any:
    y = (here & np.uint32(0x80000000)) | (follows & np.uint32(0x7FFFFFFF))
    return (y >> np.uint32(1)) ^ ((np.uint32(0) - (y & np.uint32(1))) & np.uint32(0x9908B0DF))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _stream(seed: Any, drawn: Any) -> None:
    """The first numbers of one seed's stream."""
    state = np.empty(624, np.uint32)
    state[0] = seed
    for i in range(1, 624):
        state[i] = np.uint32(1812433253) * (state[i - 1] ^ (state[i - 1] >> np.uint32(30))) + np.uint32(i)
    for n in range(len(drawn)):
        here = n % 624
        y = (state[here] & np.uint32(0x80000000)) | (state[(here + 1) % 624] & np.uint32(0x7FFFFFFF))
        odd = np.uint32(0) - (y & np.uint32(1))
        state[here] = state[(here + 397) % 624] ^ (y >> np.uint32(1)) ^ (odd & np.uint32(0x9908B0DF))
        drawn[n] = _unit(state[here])


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _unit(y: Any) -> Any:
    """What torch makes of one word for a float32: tempered, and the low 24 bits of it over 2²⁴."""
    y ^= y >> np.uint32(11)
    y ^= (y << np.uint32(7)) & np.uint32(0x9D2C5680)
    y ^= (y << np.uint32(15)) & np.uint32(0xEFC60000)
    y ^= y >> np.uint32(18)
    return (y & np.uint32(0xFFFFFF)) * (1.0 / 16777216.0)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _continued_fraction(shape: Any, x: Any) -> Any:
    """log Q(shape, x) by Lentz's method, for x well above shape."""
    result = np.empty(len(x))
    for i in range(len(x)):
        a, s = shape[i], x[i]
        b = s + 1.0 - a
        c, d = 1e300, 1.0 / b
        fraction = d
        for j in range(1, 100_000):
            b += 2.0
            term = -j * (j - a)
            d = 1.0 / (term * d + b)
            c = b + term / c
            fraction *= c * d
            if abs(c * d - 1.0) < 1e-15:
                break
        result[i] = a * np.log(s) - s - math.lgamma(a) + np.log(fraction)
    return result
