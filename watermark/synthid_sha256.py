"""SynthID-Text as google-deepmind/synthid-text has it today: SHA-256 of the keys, then a chain of hashes; no table.

The published class is ``SynthIDLogitsProcessor`` of the repository's ``logits_processing.py``. Its earlier form, which
`transformers` keeps, took the bits out of a table (``watermark.synthid``); neither reads the other's text. The hash of
an n-gram starts from the SHA-256 of all depth keys, takes in one depth's key, and runs through twelve more rounds of
the same congruential generator, each followed by a shift of five bits; one bit of what remains is the g value::

    >>> key = Key(keys=PUBLISHED_KEYS, vocab_size=50257)
    >>> tokens = np.random.default_rng(0).integers(0, 50257, 400).astype(np.int32)
    >>> tally = score(windows(tokens, np.array([0, 400]), width(key)), [key])
    >>> tally.scored.tolist(), null_mean([key]).tolist()
    ([[396]], [15.0])

Each bit is fair, but the bits of a token are not independent: the twelve rounds are nearly linear, so that two depths
differ almost as their keys do. Pairs of depths correlate by 0.03 (root mean square; up to 0.1) with signs that hang on
the keys, and the sum of 30 bits has 0.94 to 1.14 times the variance of fair coins: 1.07 under the published keys. So
the null of each key is measured on half a million fixed random hashes, its mean set to the known one, and its variance
raised by four standard errors of the measurement.

What counts, the masks and the statistics are as in ``watermark.synthid``. The Bayesian detector needs trained weights
and is not here.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from watermark.convolution import Null, log_upper_tail
from watermark.synthid_ngrams import (
    MULTIPLIER,
    PUBLISHED_KEYS,
    Statistic,
    as_unsigned,
    before_eos,
    check_parameters,
    depth_weights,
    distinct_ngrams,
    first_contexts,
    ngram_hashes,
)
from watermark.windows import Batch, Floats, Ints, Tally, Tokens, windows

__all__ = [
    "PUBLISHED_KEYS",
    "Key",
    "before_eos",
    "context_repetition_mask",
    "g_values",
    "g_values_for",
    "log_p_value",
    "null_deviation",
    "null_mean",
    "score",
    "start",
    "width",
    "windows",
]

Bits = npt.NDArray[np.uint8]

DRAWS = 1 << 19  # hashes on which a key's null is measured; a multiple of 512
_MULTIPLIER = np.uint64(MULTIPLIER)
_TWO_STEPS = np.uint64(MULTIPLIER + 1)  # (x + 1) * MULTIPLIER + 1 = x * MULTIPLIER + this


@dataclass(frozen=True)
class Key:
    """All that decides the marks, with the statistic to test. Keys of one batch differ in ``keys`` only.

    Attributes:
        keys: one signed 64-bit integer a depth.
        vocab_size: token ids of the model; others are not scored.
        ngram_len: tokens that are hashed, the scored one included.
        context_history_size: contexts that the generator remembers.
        statistic: ``mean`` or ``weighted_mean``, the published scores times ``scored`` and the sum of the weights.
    """

    keys: tuple[int, ...] = field(repr=False)
    vocab_size: int
    ngram_len: int = 5
    context_history_size: int = 1024
    statistic: Statistic = "mean"

    def __post_init__(self) -> None:
        check_parameters(self.keys, self.ngram_len, self.vocab_size, self.context_history_size, self.statistic)


def width(key: Key) -> int:
    """How many tokens before the scored one decide its mark."""
    return key.ngram_len - 1


def score(batch: Batch, keys: Sequence[Key]) -> Tally:
    """For each block and key the weighted sum of g values (whole numbers) and the number of n-grams it is over."""
    hashes, offsets = distinct_ngrams(batch, keys[0].ngram_len, keys[0].vocab_size)
    factor = pow(MULTIPLIER, keys[0].ngram_len, 1 << 64)
    firsts = np.stack([as_unsigned([start(key.keys) * factor + depth for depth in key.keys]) for key in keys])
    sums = _sum_chains(hashes, offsets, firsts, depth_weights(len(keys[0].keys), keys[0].statistic))
    return Tally(sums.astype(np.float64), np.repeat(np.diff(offsets)[:, None], len(keys), axis=1))


def null_mean(keys: Sequence[Key]) -> Floats:
    """float64[k]: half the sum of the weights."""
    return np.array([depth_weights(len(key.keys), key.statistic).sum() / 2 for key in keys])


def null_deviation(keys: Sequence[Key]) -> Floats:
    """float64[k]: the standard deviation of the measured distribution."""
    return np.array([math.sqrt(_null(key).cumulants[1]) for key in keys])


def log_p_value(statistic: Floats, scored: Ints, keys: Sequence[Key]) -> Floats:
    """Natural logarithm of P(sum of ``scored`` independent tokens ≥ ``statistic``), float64[..., k].

    Of the key's measured null (above) and the tail as in ``watermark.convolution``. A statistic between two whole
    numbers counts as the lower.
    """
    columns = [log_upper_tail(_null(key), statistic[..., k], scored[..., k]) for k, key in enumerate(keys)]
    return np.stack(columns, axis=-1)


@lru_cache(maxsize=1024)
def start(keys: tuple[int, ...]) -> int:
    """The hash state before the first token: SHA-256 of the keys as little-endian int64, modulo 2^63 - 1."""
    digest = hashlib.sha256(np.array(keys, "<i8").tobytes()).digest()
    return int.from_bytes(digest, "big") % ((1 << 63) - 1)


def g_values(tokens: Tokens, key: Key) -> Bits:
    """uint8[n - ngram_len + 1, depth]: the bits of every token with a whole context, as ``compute_g_values``."""
    return _bits(ngram_hashes(tokens, key.ngram_len, start(key.keys)), as_unsigned(key.keys))  # type: ignore[no-any-return]


def g_values_for(context: Tokens, key: Key) -> Bits:
    """uint8[vocab_size, depth]: the bits of every token of the vocabulary behind a context, int32[ngram_len - 1]."""
    if context.shape != (width(key),):
        raise ValueError(f"a context of {width(key)} tokens is needed, not of shape {context.shape}")
    state = ngram_hashes(context, width(key), start(key.keys))
    hashes = (state + np.arange(key.vocab_size, dtype=np.uint64)) * _MULTIPLIER + np.uint64(1)
    return _bits(hashes, as_unsigned(key.keys))  # type: ignore[no-any-return]


def context_repetition_mask(tokens: Tokens, key: Key) -> npt.NDArray[np.bool_]:
    """bool[n - ngram_len + 1]: False where the context repeats, as ``compute_context_repetition_mask``."""
    return first_contexts(tokens, key.ngram_len, key.context_history_size, start(key.keys))


@lru_cache(maxsize=1024)
def _null(key: Key) -> Null:
    """What a token with a uniformly distributed hash adds to the statistic, over the same hashes for every key."""
    hashes = np.random.PCG64(0).random_raw(DRAWS)
    weights = depth_weights(len(key.keys), key.statistic)
    sums = _sum_depths(hashes, as_unsigned(key.keys), weights)
    measured = Null.of(np.bincount(sums).astype(np.float64)).tilted_to(float(weights.sum() / 2))
    # Half of the extra variance to either side, one deviation away: the fourth moment hardly changes.
    step = max(round(float(np.sqrt(measured.cumulants[1]))), 1)
    aside = 4 * np.sqrt(2 / DRAWS) * measured.cumulants[1] / step**2 / 2
    spread = np.zeros(2 * step + 1)
    spread[[0, step, 2 * step]] = aside, 1 - 2 * aside, aside
    return Null.of(np.convolve(measured.frequencies, spread), measured.lowest - step)


@numba.njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator]
def _round(value: Any) -> Any:
    return np.uint64(np.int64(value * _MULTIPLIER + _TWO_STEPS) >> np.int64(5))


@numba.njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator]
def _bit(value: Any) -> Any:
    """The g value of an n-gram's hash plus a depth's key; written out, since loops are not vectorised."""
    value = value * _MULTIPLIER + np.uint64(1)
    value = _round(_round(_round(_round(_round(_round(value))))))
    value = _round(_round(_round(_round(_round(_round(value))))))
    return (value >> np.uint64(30)) & np.uint64(1)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _bits(hashes: Any, depth_keys: Any) -> Any:
    bits = np.empty((len(hashes), len(depth_keys)), np.uint8)
    for place in range(len(hashes)):
        for depth in range(len(depth_keys)):
            bits[place, depth] = _bit(hashes[place] + depth_keys[depth])
    return bits


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _sum_chains(hashes: Any, offsets: Any, firsts: Any, weights: Any) -> Any:
    sums = np.zeros((len(offsets) - 1, len(firsts)), np.int64)
    for block in range(len(sums)):
        ngrams = hashes[offsets[block] : offsets[block + 1]]
        for key in range(len(firsts)):
            for depth in range(len(weights)):
                first = firsts[key, depth]
                ones = np.uint64(0)
                for place in range(len(ngrams)):
                    ones += _bit(ngrams[place] + first)
                sums[block, key] += np.int64(ones) * weights[depth]
    return sums


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _sum_depths(hashes: Any, depth_keys: Any, weights: Any) -> Any:
    """int64[n] for a multiple of 512 hashes; two at a time, since one chain alone waits for products."""
    sums = np.zeros(len(hashes), np.uint64)
    for first in range(0, len(hashes), 512):
        some, out = hashes[first : first + 512], sums[first : first + 512]
        low, high, out_low, out_high = some[:256], some[256:], out[:256], out[256:]
        for depth in range(len(weights)):
            key, weight = depth_keys[depth], np.uint64(weights[depth])
            for place in range(256):
                out_low[place] += _bit(low[place] + key) * weight
                out_high[place] += _bit(high[place] + key) * weight
    return sums.view(np.int64)
