"""From a context to a seed: the pseudorandom functions of Kirchenbauer et al., as their programs compute them.

    >>> prf = make_prf("additive_prf", 15485863, vocab_size=50257)
    >>> seed_of(prf, [5, 7])  # 15485863 · 12
    185830356

The functions are those of `lm-watermarking` (alternative_prf_schemes.py; "On the Reliability of Watermarks for Large
Language Models", 2023) and ``selfhash`` of `transformers`, which is ``anchored_minhash_prf`` but for the table: that
program permutes its table by the key, where the authors' table is the same for all keys. Products of tensors wrap
around at 64 bits; those of Python integers do not. All are reduced modulo 2^64 - 1, and of that MT19937 takes the low
32 bits: they are what a seed is here.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple, get_args

import numba
import numpy as np
import numpy.typing as npt

from watermark.mersenne import permutation
from watermark.windows import Offsets, Tokens

Prf = Literal[
    "multiplicative_prf",
    "additive_prf",
    "minfunc_prf",
    "simple_skip_prf",
    "skipgram_prf",
    "anchored_skipgram_prf",
    "minhash_prf",
    "anchored_minhash_prf",
    "minskipgram_prf",
    "noncomm_prf",
    "position_prf",
]
PRFS: tuple[Prf, ...] = get_args(Prf)
Hashes = npt.NDArray[np.int32]

TABLE_SIZE = 1_000_003
TABLE_SEED = 2_971_215_073  # of the authors' table
_MODULUS = 2**64 - 1

_MULTIPLICATIVE, _ADDITIVE, _MINFUNC, _SIMPLE_SKIP, _SKIPGRAM, _ANCHORED_SKIPGRAM = range(6)
_MINHASH, _ANCHORED_MINHASH, _MINSKIPGRAM, _NONCOMM, _POSITION = range(6, 11)
_PYTHON_INTEGERS = {"multiplicative_prf", "additive_prf", "minfunc_prf"}
_NO_HASH = {*_PYTHON_INTEGERS, "position_prf"}


class Function(NamedTuple):
    """A pseudorandom function under one key.

    Attributes:
        code: its place in ``PRFS``.
        key: the key, for arithmetic that wraps around at 64 bits.
        folded: the key modulo 2^64 - 1, for arithmetic that does not.
        hashes: int32[vocabulary], the hash of each token, 1 to 1000003; a single zero where none is used.
        table: int32[1000003], that of all numbers; a single zero where none is used.
    """

    code: int
    key: np.int64
    folded: np.uint64
    hashes: Hashes
    table: Hashes


def check_key(name: Prf, key: int) -> None:
    """Raises ValueError where there is no such function, or the key is too large for it: tensors hold 64 bits."""
    if name not in PRFS:
        raise ValueError(f"seeding: {name}, allowed are {', '.join(PRFS)}")
    if name not in _PYTHON_INTEGERS and not -(2**63) <= key < 2**63:
        raise ValueError(f"key: {name} needs one that fits in 64 bits with its sign")


@lru_cache(maxsize=128)
def make_prf(name: Prf, key: int, vocab_size: int, table_seed: int = TABLE_SEED) -> Function:
    """The function of this name under a key, for tokens below the vocabulary's size; ValueError as of `check_key`."""
    check_key(name, key)
    wrapped = np.uint64(key % 2**64).astype(np.int64)
    none = np.zeros(1, np.int32)
    hashes = none if name in _NO_HASH else _token_hashes(name, wrapped, vocab_size, table_seed)
    table = _table(table_seed) if name == "noncomm_prf" else none
    return Function(PRFS.index(name), wrapped, np.uint64(key % _MODULUS), hashes, table)


@lru_cache(maxsize=2)
def _table(seed: int) -> Hashes:
    return permutation(seed, TABLE_SIZE) + np.int32(1)


def _token_hashes(name: Prf, key: np.int64, vocab_size: int, table_seed: int) -> Hashes:
    tokens = np.arange(vocab_size, dtype=np.int64)
    if name != "anchored_minhash_prf":
        return np.asarray(_table(table_seed)[key * tokens % TABLE_SIZE])
    # The anchored minimum hashes the tokens themselves: the table's beginning is enough, which has a seed for each key.
    start = permutation(table_seed, TABLE_SIZE, min(vocab_size, TABLE_SIZE)) + np.int32(1)
    return np.resize(start, vocab_size)


def seed_of(prf: Function, window: npt.ArrayLike) -> int:
    """The seed of one window of tokens, in the order of the text."""
    tokens = np.ascontiguousarray(window, np.int32)
    return int(_seeds(*prf, tokens, np.array([len(tokens)]), len(tokens))[0])


def seeds(prf: Function, tokens: Tokens, ends: Offsets, length: int) -> npt.NDArray[np.uint32]:
    """uint32[p]: the seeds of the windows of ``length`` tokens that end before ``ends``."""
    return _seeds(*prf, tokens, ends, length)  # type: ignore[no-any-return]


def deciding(prf: Function, tokens: Tokens, ends: Offsets, length: int) -> Tokens:
    """int32[p]: the token of each window that decides its seed (with the last, where that is hashed too).

    For functions of which :func:`decided_by_one` is true.
    """
    return _deciding(prf.code, prf.key, prf.hashes, tokens, ends, length)  # type: ignore[no-any-return]


def decided_by_one(name: Prf, length: int, self_salt: bool) -> bool:
    """Whether one token of a window decides its seed, or one and the scored token where that is in the window."""
    if length <= 1 + self_salt:
        return True
    if name in ("minfunc_prf", "skipgram_prf", "minhash_prf"):
        return True
    return self_salt and name in ("anchored_minhash_prf", "anchored_skipgram_prf")


def decided_alike(name: Prf, length: int) -> bool:
    """Whether the deciding token is the same under every key."""
    return length == 1 or name not in ("minhash_prf", "anchored_minhash_prf")


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _fold(key: np.uint64, value: np.int64) -> np.uint32:
    """The low 32 bits of key · value modulo 2^64 - 1, in which 2^64 counts as 1."""
    x = np.uint64(value) - np.uint64(value < 0)
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    low = (key & mask) * (x & mask)
    cross = (key >> half) * (x & mask) + (low >> half)
    other = (key & mask) * (x >> half) + (cross & mask)
    high = (key >> half) * (x >> half) + (cross >> half) + (other >> half)
    low = (other << half) | (low & mask)
    total = high + low
    if total < low:
        total += np.uint64(1)
    return np.uint32(0) if total == np.uint64(_MODULUS) else np.uint32(total & mask)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _product(code: int, key: np.int64, hashes: Hashes, table: Hashes, window: Tokens) -> np.int64:
    """The functions that multiply without looking for a minimum."""
    product = np.int64(1)
    if code == _MULTIPLICATIVE:
        for token in window:
            product *= np.int64(token)
    elif code == _SIMPLE_SKIP:
        for token in window[::2]:
            product *= np.int64(hashes[token])
    elif code == _SKIPGRAM:
        product = np.int64(hashes[window[0]])
    elif code == _ANCHORED_SKIPGRAM:
        product = np.int64(hashes[window[0]]) * np.int64(hashes[window[-1]])
    else:
        product = key
        for token in window:
            product = product * np.int64(table[product * np.int64(token) % np.int64(TABLE_SIZE)]) % np.int64(2**32)
    return product


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _least(code: int, key: np.int64, hashes: Hashes, window: Tokens) -> tuple[np.int64, int]:
    """The functions that take a minimum: its value and its place in the window."""
    best, place = np.int64(2**63 - 1), 0
    last = np.int64(hashes[window[-1]]) if code == _ANCHORED_MINHASH else np.int64(1)
    for i in range(len(window)):
        value = np.int64(window[i])
        if code == _MINHASH:
            value = np.int64(hashes[value])
        elif code == _ANCHORED_MINHASH:
            value = key * np.int64(hashes[value]) * last
        if value < best:
            best, place = value, i
    return best, place


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _least_pair(hashes: Hashes, window: Tokens) -> np.int64:
    best = np.int64(2**63 - 1)
    for i in range(len(window)):
        for j in range(i + 1, len(window)):
            best = min(best, np.int64(hashes[window[i]]) * np.int64(hashes[window[j]]))
    return best


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _value(code: int, key: np.int64, hashes: Hashes, table: Hashes, window: Tokens) -> np.int64:
    total = np.int64(0)
    if code == _ADDITIVE:
        for token in window:
            total += np.int64(token)
    elif code == _POSITION:
        for i in range(len(window)):
            total += key * np.int64(window[i]) * np.int64(i + 1)
    elif code in (_MINFUNC, _MINHASH, _ANCHORED_MINHASH):
        total = _least(code, key, hashes, window)[0]
    elif code == _MINSKIPGRAM:
        total = _least_pair(hashes, window)
    else:
        total = _product(code, key, hashes, table, window)
    return total


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _seeds(
    code: int,
    key: np.int64,
    folded: np.uint64,
    hashes: Hashes,
    table: Hashes,
    tokens: Tokens,
    ends: Offsets,
    length: int,
) -> npt.NDArray[np.uint32]:
    found = np.empty(len(ends), np.uint32)
    for i in range(len(ends)):
        value = _value(code, key, hashes, table, tokens[ends[i] - length : ends[i]])
        if code in (_MULTIPLICATIVE, _ADDITIVE, _MINFUNC):
            found[i] = _fold(folded, value)
        else:
            found[i] = np.uint32((np.uint64(value) - np.uint64(value < 0)) & np.uint64(0xFFFFFFFF))
    return found


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _deciding(code: int, key: np.int64, hashes: Hashes, tokens: Tokens, ends: Offsets, length: int) -> Tokens:
    found = np.empty(len(ends), np.int32)
    minimum = code in (_MINFUNC, _MINHASH, _ANCHORED_MINHASH)
    for i in range(len(ends)):
        window = tokens[ends[i] - length : ends[i]]
        found[i] = window[_least(code, key, hashes, window)[1]] if minimum else window[0]
    return found
