"""SynthID-Text as in `transformers`: a hash of five tokens picks one bit a depth out of a random table.

The published class is ``SynthIDTextWatermarkLogitsProcessor``. A key is the tuple of its depth keys. Bit ``d`` of a
token is ``table[hash(n-gram, keys[d]) % table size]``; marked text has more ones than the table. If the table size is a
power of two, the low bits of the n-gram's hash decide all bits of a token, so that scoring is one look-up a token and
key, and the null distribution of a token is the table's own, state by state::

    >>> key = Key(keys=PUBLISHED_KEYS, vocab_size=50257)
    >>> tokens = np.random.default_rng(0).integers(0, 50257, 400).astype(np.int32)
    >>> tally = score(windows(tokens, np.array([0, 400]), width(key)), [key])
    >>> tally.statistic.tolist(), tally.scored.tolist()
    ([[6006.0]], [[396]])
    >>> log_p_value(tally.statistic, tally.scored, [key]).round(4).tolist()
    [[-2.3132]]

The table comes from torch's generator of the device that wrote the text: on a CPU a Mersenne twister, on a CUDA device
Philox, and these differ. A text is tested once a document and (context, token) pair. The published mask leaves out
repeated contexts but forgets them after ``context_history_size`` tokens, so that the g values of one n-gram can enter a
mean many times; here they never enter twice, which is what the null distribution asks for. A token that continues a
repeated context differently does count: its g values are new, though the generator left it unmarked.

The published Bayesian detector needs weights trained on marked text of one key and model, and has no null distribution;
it is not here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal

import numba
import numpy as np
import numpy.typing as npt

from watermark.convolution import Null, log_upper_tail
from watermark.synthid_ngrams import (
    MASK,
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
    "sampling_table",
    "score",
    "width",
    "windows",
]

Bits = npt.NDArray[np.uint8]

START = 1  # the hash state before the first token
LARGEST_LOOKUP = 1 << 20  # states, above which a table for every key would not stay in the cache
_MULTIPLIER = np.uint64(MULTIPLIER)


@dataclass(frozen=True)
class Key:
    """All that decides the marks, with the statistic to test. Keys of one batch differ in ``keys`` only.

    Attributes:
        keys: one signed 64-bit integer a depth.
        vocab_size: token ids of the model; others are not scored.
        ngram_len: tokens that are hashed, the scored one included.
        sampling_table_size: bits in the table; a power of two is fast.
        sampling_table_seed: seed of the table.
        context_history_size: contexts that the generator remembers.
        statistic: ``mean`` or ``weighted_mean``, the published scores times ``scored`` and the sum of the weights.
        generator: ``mt19937`` for text written on a CPU, ``philox`` on a CUDA device.
        generator_threads: with ``philox``, how many threads the device fills the table with; 0 for as many as
            the table has entries, right where multiprocessors times resident threads reach the table's size.
    """

    keys: tuple[int, ...] = field(repr=False)
    vocab_size: int
    ngram_len: int = 5
    sampling_table_size: int = 1 << 16
    sampling_table_seed: int = 0
    context_history_size: int = 1024
    statistic: Statistic = "mean"
    generator: Literal["mt19937", "philox"] = "mt19937"
    generator_threads: int = 0

    def __post_init__(self) -> None:
        check_parameters(self.keys, self.ngram_len, self.vocab_size, self.context_history_size, self.statistic)
        if self.sampling_table_size < 1:
            raise ValueError(f"sampling_table_size: {self.sampling_table_size}; it must be 1 or more")
        if self.generator not in ("mt19937", "philox"):
            raise ValueError(f"generator: {self.generator!r}; it must be 'mt19937' or 'philox'")
        if self.generator_threads < 0 or (self.generator == "mt19937" and self.generator_threads):
            raise ValueError(f"generator_threads: {self.generator_threads}; it must be 0, or more with 'philox'")


def width(key: Key) -> int:
    """How many tokens before the scored one decide its mark."""
    return key.ngram_len - 1


def score(batch: Batch, keys: Sequence[Key]) -> Tally:
    """For each block and key the weighted sum of g values (whole numbers) and the number of n-grams it is over."""
    hashes, offsets = distinct_ngrams(batch, keys[0].ngram_len, keys[0].vocab_size)
    hashes += np.uint64(START * pow(MULTIPLIER, keys[0].ngram_len, 1 << 64) & MASK)
    size = keys[0].sampling_table_size
    if _has_states(size):
        sums = _sum_looked_up(hashes, offsets, _lookup(tuple(keys)), np.uint64(size - 1))
    else:
        depth_keys = np.stack([as_unsigned(key.keys) for key in keys])
        weights = depth_weights(len(keys[0].keys), keys[0].statistic)
        sums = _sum_hashed(hashes, offsets, depth_keys, weights, _table_of(keys[0]))
    scored = np.repeat(np.diff(offsets)[:, None], len(keys), axis=1)
    return Tally(sums.astype(np.float64), scored)


def null_mean(keys: Sequence[Key]) -> Floats:
    """float64[k]: the weights' sum times the share of ones in the table."""
    return np.array([_null(key).mean for key in keys])


def null_deviation(keys: Sequence[Key]) -> Floats:
    """float64[k]: the standard deviation over all states."""
    return np.array([math.sqrt(_null(key).cumulants[1]) for key in keys])


def log_p_value(statistic: Floats, scored: Ints, keys: Sequence[Key]) -> Floats:
    """Natural logarithm of P(sum of ``scored`` independent tokens ≥ ``statistic``), float64[..., k].

    Exact below 1e-2, at most 0.5 % too high above (see ``watermark.convolution``). A statistic between two whole
    numbers counts as the lower.
    """
    columns = [log_upper_tail(_null(key), statistic[..., k], scored[..., k]) for k, key in enumerate(keys)]
    return np.stack(columns, axis=-1)


def g_values(tokens: Tokens, key: Key) -> Bits:
    """uint8[n - ngram_len + 1, depth]: the bits of every token with a whole context, as ``compute_g_values``."""
    return _bits(ngram_hashes(tokens, key.ngram_len, START), as_unsigned(key.keys), _table_of(key))  # type: ignore[no-any-return]


def g_values_for(context: Tokens, key: Key) -> Bits:
    """uint8[vocab_size, depth]: the bits of every token of the vocabulary behind a context, int32[ngram_len - 1]."""
    if context.shape != (width(key),):
        raise ValueError(f"a context of {width(key)} tokens is needed, not of shape {context.shape}")
    state = ngram_hashes(context, width(key), START)
    hashes = (state + np.arange(key.vocab_size, dtype=np.uint64)) * _MULTIPLIER + np.uint64(1)
    return _bits(hashes, as_unsigned(key.keys), _table_of(key))  # type: ignore[no-any-return]


def context_repetition_mask(tokens: Tokens, key: Key) -> npt.NDArray[np.bool_]:
    """bool[n - ngram_len + 1]: False where the context repeats, as ``compute_context_repetition_mask``."""
    return first_contexts(tokens, key.ngram_len, key.context_history_size, START)


@lru_cache(maxsize=16)
def sampling_table(size: int, seed: int, generator: str = "mt19937", threads: int = 0) -> Bits:
    """uint8[size]: ``torch.randint(0, 2, (size,))`` after ``manual_seed(seed)``, on a CPU or a CUDA device."""
    if generator == "mt19937":
        words = np.random.RandomState(seed & 0xFFFFFFFF).randint(0, 1 << 32, size, np.uint32)
    else:
        words = _philox(size, seed & MASK, threads or size)
    table = (words & 1).astype(np.uint8)
    table.setflags(write=False)
    return table


def _philox(size: int, seed: int, threads: int) -> npt.NDArray[np.uint32]:
    """The 32-bit words with which a CUDA tensor is filled: Philox4x32-10 (Salmon et al., SC 2011).

    Thread ``t`` draws four words a step, from the counter (step, t); word ``i`` of step ``s`` goes to place
    ``t + (4 s + i) * threads``, as in the loop of PyTorch's ``distribution_elementwise_grid_stride_kernel``. Threads
    come in groups of 256.
    """
    threads = -(-threads // 256) * 256
    steps = -(-size // (4 * threads))
    step, thread = np.divmod(np.arange(steps * threads, dtype=np.uint64), np.uint64(threads))
    low, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    c0, c1, c2, c3 = step & low, step >> shift, thread & low, thread >> shift
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for turn in range(10):
        product0, product1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        key0, key1 = (k0 + turn * 0x9E3779B9) & 0xFFFFFFFF, (k1 + turn * 0xBB67AE85) & 0xFFFFFFFF
        c0, c2 = (product1 >> shift) ^ c1 ^ np.uint64(key0), (product0 >> shift) ^ c3 ^ np.uint64(key1)
        c1, c3 = product1 & low, product0 & low
    words = np.stack([c0, c1, c2, c3]).reshape(4, steps, threads).transpose(1, 0, 2)
    return words.reshape(-1)[:size].astype(np.uint32)


def _table_of(key: Key) -> Bits:
    return sampling_table(key.sampling_table_size, key.sampling_table_seed, key.generator, key.generator_threads)


def _has_states(size: int) -> bool:
    """Whether the low bits of an n-gram's hash decide all its g values, and are few enough for a look-up table."""
    return size & (size - 1) == 0 and size <= LARGEST_LOOKUP


@lru_cache(maxsize=8)
def _lookup(keys: tuple[Key, ...]) -> npt.NDArray[Any]:
    """uint[table size, k]: the statistic of a token under each key, by the low bits of its n-gram's hash."""
    states = np.arange(keys[0].sampling_table_size, dtype=np.uint64)
    weights = depth_weights(len(keys[0].keys), keys[0].statistic)
    lookup = np.empty((len(states), len(keys)), np.min_scalar_type(weights.sum()))
    for number, key in enumerate(keys):
        lookup[:, number] = _bits(states, as_unsigned(key.keys), _table_of(key)) @ weights
    return lookup


@lru_cache(maxsize=1024)
def _null(key: Key) -> Null:
    """What a token with a uniformly distributed hash adds to the statistic: all states of the hash, enumerated."""
    table = _table_of(key)
    weights = depth_weights(len(key.keys), key.statistic)
    frequencies = np.zeros(int(weights.sum()) + 1)
    for shifts, share in _segments(key):
        sums = np.zeros(len(table), np.int64)
        for shift, weight in zip(shifts, weights, strict=True):
            sums += weight * np.roll(table, -shift)
        frequencies += share / len(table) * np.bincount(sums, minlength=len(frequencies))
    return Null.of(frequencies)


def _segments(key: Key) -> Iterator[tuple[tuple[int, ...], float]]:
    """Where in the table, counted from one place that is uniformly distributed, each depth's bit lies; and how often.

    A depth's place is a signed 64-bit sum of the hash and a constant, modulo the table's size. The sum of each depth
    wraps around at another hash, which moves its place by 2^64 modulo that size: not at all if it is a power of two.
    """
    size = key.sampling_table_size
    constants = [(value * MULTIPLIER + 1 + (1 << 63) & MASK) - (1 << 63) for value in key.keys]
    wraps = [(1 << 63) - c if c > 0 else -(1 << 63) - c for c in constants]
    edges = sorted({-(1 << 63), *(wrap for wrap in wraps if wrap < 1 << 63), 1 << 63})
    shares: dict[tuple[int, ...], float] = {}
    for low, high in pairwise(edges):
        shifts = tuple(((low + c + (1 << 63) & MASK) - (1 << 63) - low) % size for c in constants)
        shares[shifts] = shares.get(shifts, 0.0) + (high - low) / 2.0**64
    yield from shares.items()


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _bits(hashes: Any, depth_keys: Any, table: Any) -> Any:
    bits = np.empty((len(hashes), len(depth_keys)), np.uint8)
    size = np.int64(len(table))
    mask = np.uint64(len(table) - 1)
    power = size & (size - 1) == 0
    for place in range(len(hashes)):
        for depth in range(len(depth_keys)):
            value = (hashes[place] + depth_keys[depth]) * _MULTIPLIER + np.uint64(1)
            bits[place, depth] = table[value & mask] if power else table[np.int64(value) % size]
    return bits


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _sum_looked_up(hashes: Any, offsets: Any, lookup: Any, mask: Any) -> Any:
    sums = np.zeros((len(offsets) - 1, lookup.shape[1]), np.int64)
    for block in range(len(sums)):
        if lookup.shape[1] == 1:
            total = 0
            for place in range(offsets[block], offsets[block + 1]):
                total += lookup[hashes[place] & mask, 0]
            sums[block, 0] = total
            continue
        for place in range(offsets[block], offsets[block + 1]):
            row = lookup[hashes[place] & mask]
            for key in range(len(row)):
                sums[block, key] += row[key]
    return sums


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _sum_hashed(hashes: Any, offsets: Any, depth_keys: Any, weights: Any, table: Any) -> Any:
    sums = np.zeros((len(offsets) - 1, len(depth_keys)), np.int64)
    size = np.int64(len(table))
    for block in range(len(sums)):
        for place in range(offsets[block], offsets[block + 1]):
            for key in range(len(depth_keys)):
                for depth in range(len(weights)):
                    value = np.int64((hashes[place] + depth_keys[key, depth]) * _MULTIPLIER + np.uint64(1))
                    sums[block, key] += weights[depth] * table[value % size]
    return sums
