"""textseal's marks: a hash of the key, the tokens before and the token itself, as a number r or as a colour.

Two statistics on one pseudorandom function. ``exponential`` is Gumbel-max sampling (``watermark_type="gumbelmax"``, see
``watermark.exponential``); ``green`` counts tokens whose number lies below γ, which is how text made with
``greenlist``, ``dipmark`` and ``morphmark`` is tested::

    >>> from watermark.windows import windows
    >>> keys = [Key(vocab_size=1000, ngram=1, key=7), Key(vocab_size=1000, ngram=1, key=8)]
    >>> context = [3]
    >>> for _ in range(40):
    ...     context.append(int(uniforms_for(context[-1:], keys[0])[:200].argmax()))
    >>> tally = score(windows(np.array(context, np.int32), np.array([0, 41]), width(keys[0])), keys)
    >>> [bool(p < -20) for p in log_p_value(tally.statistic, tally.scored, keys)[0]]
    [True, False]

The function is linear up to its last step, so that what the tokens contribute is one number for all keys, and two
places of a document with that number have the same mark under every key: this number is what counts once.

Source: https://github.com/facebookresearch/textseal, ``apps/common/watermark/pseudorandom.py`` and ``core.py``,
``apps/posthoc/detector.py``. Differences: the program leaves the first token with a whole context out, and halves the
chance of the observed count ("mid-p"), which gives p-values that are too small; both are not done here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numba
import numpy as np
import numpy.typing as npt
from scipy import special

from watermark.exponential import alike, log_gamma_tail, mean_of_levels
from watermark.windows import Batch, Floats, Ints, Tally

LEVELS = 8191  # r is a multiple of 1/8191
_PRIMES = (10000019, 10000247, 10000439, 10000643, 10000747, 10000867, 10000993, 10001213, 10001357, 10001501)
_TOKEN = 100000007
_KEY = 500001713
_MULTIPLIER = 15485863 * 40499
_UNDERFLOW = 1e-280


@dataclass(frozen=True)
class Key:
    """The parameters of one key.

    Attributes:
        vocab_size: the model's vocabulary size; tokens at or above it are not scored.
        ngram: how many tokens before the scored one decide its mark, up to 10.
        statistic: ``exponential`` or ``green``.
        gamma: the share of green tokens; of no effect on ``exponential``.
        key: ``secret_key``, a signed 64-bit number.
    """

    vocab_size: int
    key: int = field(repr=False)
    ngram: int = 1
    statistic: Literal["exponential", "green"] = "exponential"
    gamma: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what the program could not run with."""
        if not 0 < self.vocab_size < 2**31:
            raise ValueError(f"vocab_size is {self.vocab_size}; it must lie between 1 and 2³¹ - 1")
        if not 1 <= self.ngram <= len(_PRIMES):
            raise ValueError(f"ngram is {self.ngram}; it must lie between 1 and {len(_PRIMES)}")
        if self.statistic not in ("exponential", "green"):
            raise ValueError(f"statistic is {self.statistic!r}; it must be 'exponential' or 'green'")
        if not 0 < _green_levels(self.gamma) < LEVELS:
            raise ValueError(f"gamma is {self.gamma}; it must lie between 1/{LEVELS} and 1")
        if not -(2**63) <= self.key < 2**63:
            raise ValueError("the key must be a signed 64-bit number")


def width(key: Key) -> int:
    """How many tokens before the scored one decide its mark."""
    return key.ngram


def null_mean(keys: Sequence[Key]) -> Floats:
    """float64[k]: the mean over all 8191 values of the hash."""
    one = alike(keys)
    mean = mean_of_levels(LEVELS) if one.statistic == "exponential" else _green_levels(one.gamma) / LEVELS
    return np.full(len(keys), mean)


def null_deviation(keys: Sequence[Key]) -> Floats:
    """float64[k]: that of an Exp(1) number, or of a token's colour."""
    one = alike(keys)
    green = _green_levels(one.gamma) / LEVELS
    return np.full(len(keys), 1.0 if one.statistic == "exponential" else math.sqrt(green * (1.0 - green)))


def log_p_value(statistic: Floats, scored: Ints, keys: Sequence[Key]) -> Floats:
    """Natural logarithm of the chance of ``statistic`` or more over ``scored`` unmarked tokens, shape [..., k].

    ``exponential``: the Gamma tail; 1 - r is m / 8191 with m from 1 to 8191, a uniform number rounded up, so it errs
    upwards (the mean is 1 - 7·10⁻⁴). ``green``: the binomial tail with the exact share of green values.
    """
    one = alike(keys)
    if one.statistic == "exponential":
        return log_gamma_tail(statistic, scored)
    return log_binomial_tail(statistic, scored, _green_levels(one.gamma) / LEVELS)


def score(batch: Batch, keys: Sequence[Key]) -> Tally:
    """The tally of each block under each key.

    Args:
        batch: positions with at least ``ngram`` tokens before them.
        keys: keys that share everything but ``key``.

    Returns:
        float64[b, k] and int64[b, k].

    Raises:
        ValueError: keys that do not belong together.
    """
    one = alike(keys)
    sums = np.zeros(len(batch.positions), np.int64)
    counts = np.zeros(len(batch.positions), np.bool_)
    primes = np.array(_PRIMES[: one.ngram])
    documents = batch.blocks[batch.documents]
    _contexts(batch.tokens, batch.positions, documents, one.vocab_size, primes, sums, counts)
    starts = np.array([_signed(_KEY * key.key * _MULTIPLIER) for key in keys])
    statistic = np.zeros((len(batch.blocks) - 1, len(keys)))
    scored = np.zeros(len(statistic), np.int64)
    _sum(sums, counts, batch.blocks, starts, _table(one), statistic, scored)
    return Tally(statistic, np.repeat(scored[:, None], len(keys), axis=1))


def uniforms_for(context: Sequence[int], key: Key) -> npt.NDArray[np.float32]:
    """float32[vocabulary]: r of each token that may follow ``context``, oldest token first."""
    if len(context) < key.ngram:
        raise ValueError(f"the context has {len(context)} tokens; {key.ngram} are needed")
    before = context[len(context) - key.ngram :]
    start = sum(prime * int(token) for prime, token in zip(_PRIMES, before, strict=False)) + _KEY * key.key
    mixed = (np.int64(_signed(start)) + _TOKEN * np.arange(key.vocab_size)) * _MULTIPLIER
    return ((mixed ^ (mixed >> 13)) % LEVELS).astype(np.float32) / np.float32(LEVELS)


def green_list(context: Sequence[int], key: Key) -> npt.NDArray[np.bool_]:
    """bool[vocabulary]: which tokens are green after ``context``."""
    return uniforms_for(context, key) < np.float32(key.gamma)


def log_binomial_tail(statistic: Floats, scored: Ints, share: float) -> Floats:
    """Natural logarithm of P(X >= floor(statistic)) for X ~ Binomial(scored, share), element by element."""
    statistic, scored = np.broadcast_arrays(np.asarray(statistic, np.float64), np.asarray(scored, np.int64))
    hits = np.floor(statistic + 1e-9)  # what a sum of blocks minus a bias may have lost by rounding
    inside = (hits >= 1) & (scored > 0)
    n, k = np.where(inside, scored, 1).astype(np.float64), np.where(inside, np.minimum(hits, scored), 1.0)
    tail = np.asarray(special.betainc(k, n - k + 1.0, share))
    small = tail < _UNDERFLOW
    result = np.asarray(np.where(inside, np.log(np.where(small, 1.0, tail)), 0.0))
    small &= inside
    result[small] = _far_binomial(k[small], n[small], share)
    return result


def _far_binomial(k: Floats, n: Floats, share: float) -> Floats:
    """The tail from its largest term and the ratios of those that follow, for k well above n·share."""
    first = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    first += k * np.log(share) + (n - k) * np.log1p(-share)
    total, term = np.ones_like(k), np.ones_like(k)
    for step in range(10_000):
        term = term * np.maximum(n - k - step, 0.0) / (k + 1 + step) * (share / (1 - share))
        total += term
        if np.all(term < total * 1e-16):
            break
    return np.asarray(first + np.log(total))


def _green_levels(gamma: float) -> int:
    """How many of the hash's values are green; the program compares in float32."""
    return int(np.count_nonzero(np.arange(LEVELS, dtype=np.float32) / np.float32(LEVELS) < np.float32(gamma)))


def _table(key: Key) -> Floats:
    """float64[8191]: what each value of the hash adds to the statistic."""
    if key.statistic == "exponential":
        return -np.log((LEVELS - np.arange(LEVELS)) / LEVELS)
    return (np.arange(LEVELS) < _green_levels(key.gamma)).astype(np.float64)


def _signed(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _contexts(
    tokens: Any, positions: Any, documents: Any, vocabulary: Any, primes: Any, sums: Any, counts: Any
) -> None:
    """What the tokens contribute to the hash, and whether the position counts: valid, and not seen before."""
    longest = np.int64(1)
    for d in range(len(documents) - 1):
        longest = max(longest, documents[d + 1] - documents[d])
    size = np.int64(4)
    while size < 2 * longest:
        size *= 2
    seen, stamp = np.empty(size, np.int64), np.full(size, -1, np.int64)
    ngram = len(primes)
    for d in range(len(documents) - 1):
        slots = np.int64(4)
        while slots < 2 * (documents[d + 1] - documents[d]):
            slots *= 2
        mask = np.uint64(slots - 1)
        for i in range(documents[d], documents[d + 1]):
            token = np.int64(tokens[positions[i]])
            total, valid = _TOKEN * token, (token >= 0) & (token < vocabulary)
            for j in range(ngram):
                before = np.int64(tokens[positions[i] - ngram + j])
                valid &= (before >= 0) & (before < vocabulary)
                total += primes[j] * before
            if not valid:
                continue
            slot = ((np.uint64(total) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & mask
            while stamp[slot] == d and seen[slot] != total:
                slot = (slot + np.uint64(1)) & mask
            if stamp[slot] != d:
                stamp[slot], seen[slot] = d, total
                sums[i], counts[i] = total * np.int64(_MULTIPLIER), True


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _sum(sums: Any, counts: Any, blocks: Any, starts: Any, table: Any, statistic: Any, scored: Any) -> None:
    for b in range(len(blocks) - 1):
        for i in range(blocks[b], blocks[b + 1]):
            if counts[i]:
                scored[b] += 1
                for k in range(len(starts)):
                    mixed = sums[i] + starts[k]
                    statistic[b, k] += table[(mixed ^ (mixed >> 13)) % LEVELS]
