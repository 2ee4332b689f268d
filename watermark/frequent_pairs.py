"""Colours of frequent pairs of tokens under many keys in one table: a quick first look at green lists.

    >>> from watermark import kgw
    >>> from watermark.windows import windows
    >>> keys = [kgw.Key(number, vocab_size=1000) for number in (15485863, 99991)]
    >>> table = build_table(keys, tokens=np.arange(50))
    >>> batch = windows(np.array([3, 9, 999, 4, 3, 9], np.int32), np.array([0, 6]), kgw.width(keys[0]))
    >>> screen(batch, keys, table)  # 3 9 twice, and 4 3; the pairs with 999 are not in the table
    Tally(statistic=array([[2., 1.]]), scored=array([[2, 2]]))

Where one token of the context decides the seed, alone or with the scored token, the colour is a function of that pair.
A table holds one word a pair, whose bit j is the colour under key j: one look-up serves up to 64 keys. Whether a pair
is in it depends on the pair and never on its colour, so the null of what is counted is the exact one of
:mod:`watermark.kgw`.

A table tells the green lists: keep its files as secret as the keys.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numba
import numpy as np
import numpy.typing as npt

from watermark import kgw
from watermark.green_lists import bitmaps, only, scorable
from watermark.mersenne import among_first
from watermark.prf import decided_alike, decided_by_one, deciding, seeds
from watermark.windows import Batch, Ints, Offsets, Tally, Tokens

Words = npt.NDArray[Any]  # uint8, uint16, uint32 or uint64

TABLE_BYTES = 256 << 20
MOST_KEYS = 64
_SALTED_TOKENS = 1024  # without a list of tokens; each pair of a self-salted key costs as much as its permutation
_ROWS = 256  # contexts whose lists are made in one go
_PLANES = 8


@dataclass(frozen=True)
class PairTable:
    """The colours of the pairs of some contexts and some tokens.

    Attributes:
        words: [contexts, tokens], bit j is set where the pair is green under key j; maybe memory-mapped.
        rows: int32[V], each token's row as a context, -1 for none.
        columns: int32[V], each token's column as a scored token, -1 for none.
        keys: what the table was made for, as a hash.
    """

    words: Words
    rows: Tokens
    columns: Tokens
    keys: str


def can_screen(key: kgw.Key) -> bool:
    """Whether pairs decide the colours under keys of this kind."""
    how = kgw.reading(key)
    return decided_by_one(how.name, how.length, how.salted)


def build_table(
    keys: Sequence[kgw.Key],
    tokens: npt.NDArray[np.integer] | None = None,
    contexts: npt.NDArray[np.integer] | None = None,
    limit: int = TABLE_BYTES,
) -> PairTable:
    """The table of at most 64 keys that differ in the key only.

    Args:
        keys: in the order in which :func:`screen` gets them.
        tokens: the scored tokens; as many of the lowest ids as the limit allows (of self-salted keys 1,024) where None.
            The ids of byte-pair encodings rise as the frequency falls, roughly.
        contexts: the tokens that decide the seed; the same where None.
        limit: bytes.

    Raises:
        ValueError: there are too many keys, they are not alike, more than a pair decides the seed, the tokens are not
            distinct tokens of the vocabulary, or the table would be larger than allowed.
    """
    if not 1 <= len(keys) <= MOST_KEYS:
        raise ValueError(f"keys: {len(keys)}, allowed are 1 to {MOST_KEYS}; build a table for each part")
    if not can_screen(keys[0]):
        raise ValueError(f"seeding: {keys[0].seeding} reads more than one token of context; it has no table of pairs")
    kgw.check_alike(keys)
    size, dtype = keys[0].vocab_size, _dtype(len(keys))
    if tokens is None:
        room = min(size, math.isqrt(limit // dtype.itemsize))
        tokens = np.arange(min(room, _SALTED_TOKENS) if kgw.self_salted(keys[0]) else room)
    columns = _distinct("tokens", tokens, size)
    rows = columns if contexts is None else _distinct("contexts", contexts, size)
    if len(rows) * len(columns) * dtype.itemsize > limit:
        raise ValueError(f"limit: {limit} bytes, {len(rows)} x {len(columns)} pairs of {len(keys)} keys need more")
    salted = kgw.self_salted(keys[0])
    rows, columns = (rows, _apart(keys, rows, columns)) if salted else (_apart_contexts(keys, rows), columns)
    words = np.zeros((len(rows), len(columns)), dtype)
    for bit, key in enumerate(keys):
        for first in range(0, len(rows), _ROWS):
            some = rows[first : first + _ROWS]
            green = _green_salted(key, some, columns) if salted else _green(key, some, columns)
            words[first : first + _ROWS] |= green.astype(dtype) << dtype.type(bit)
    return PairTable(words, _index(rows, size), _index(columns, size), _digest(keys))


def save_table(table: PairTable, path: str | Path) -> None:
    """Writes ``PATH.npy``, which can be memory-mapped, and ``PATH.index.npz``; only their owner may read them."""
    with _private(f"{path}.npy") as stream:
        np.save(stream, table.words)
    with _private(f"{path}.index.npz") as stream:
        np.savez(stream, rows=table.rows, columns=table.columns, keys=np.array(table.keys))


@contextmanager
def _private(path: str) -> Iterator[BinaryIO]:
    """A file that only its owner may read, there once it is whole."""
    part = f"{path}.part"
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        yield stream
    os.replace(part, path)


def load_table(path: str | Path, keys: Sequence[kgw.Key]) -> PairTable:
    """The table written at ``path``, memory-mapped, so that processes share it.

    Raises:
        ValueError: it was made for other keys or is damaged.
        OSError: it cannot be read.
    """
    words = np.load(f"{path}.npy", mmap_mode="r")
    with np.load(f"{path}.index.npz") as index:
        table = PairTable(words, index["rows"], index["columns"], str(index["keys"]))
    if table.keys != _digest(keys):
        raise ValueError(f"{path}: the table was made for other keys")
    if words.dtype != _dtype(len(keys)) or words.shape != (table.rows.max() + 1, table.columns.max() + 1):
        raise ValueError(f"{path}: words and index do not fit together; build the table again")
    return table


def screen(batch: Batch, keys: Sequence[kgw.Key], table: PairTable) -> Tally:
    """Green and all distinct pairs of each block that are in the table, for the keys that it was made for.

    Raises:
        ValueError: the table was made for other keys.
    """
    if table.keys != _digest(keys):
        raise ValueError("table: it was made for other keys")
    batch = scorable(batch, keys[0].vocab_size, kgw.width(keys[0]))
    batch = only(batch, table.columns[batch.tokens[batch.positions]] >= 0)
    after = batch.tokens[batch.positions]
    count = (len(batch.blocks) - 1, len(keys))
    green, scored = np.zeros(count, np.int64), np.zeros(count, np.int64)
    how = kgw.reading(keys[0])
    alike = decided_alike(how.name, how.length)
    for bit, key in enumerate(keys[:1] if alike else keys):
        before = deciding(kgw.function(key), batch.tokens, batch.positions + how.salted, how.length)
        into = slice(None) if alike else slice(bit, bit + 1)
        _screen(
            before,
            after,
            batch.blocks,
            batch.documents,
            table.rows,
            table.columns,
            table.words,
            bit,
            green[:, into],
            scored[:, into],
        )
    return Tally(green.astype(np.float64), scored)


def _dtype(keys: int) -> np.dtype[Any]:
    return np.dtype(next(f"uint{bits}" for bits in (8, 16, 32, 64) if keys <= bits))


def _digest(keys: Sequence[kgw.Key]) -> str:
    return hashlib.sha256(repr([(key, key.key) for key in keys]).encode()).hexdigest()


def _distinct(name: str, tokens: npt.NDArray[np.integer], vocab_size: int) -> Tokens:
    distinct = np.unique(tokens)
    if not len(distinct) or len(distinct) != len(tokens) or distinct[0] < 0 or distinct[-1] >= vocab_size:
        raise ValueError(f"{name}: they must be distinct and below {vocab_size}, at least one")
    return np.asarray(tokens, np.int32)


def _index(tokens: Tokens, vocab_size: int) -> Tokens:
    index = np.full(vocab_size, -1, np.int32)
    index[tokens] = np.arange(len(tokens))
    return index


def _pair_seeds(key: kgw.Key, before: Tokens, after: Tokens) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.bool_]]:
    """The seed of each pair, by a window that holds nothing else, and whether it is the first of the two that decides.

    Where a minimum decides, it may be the scored token's: such windows are looked up as that token with itself.
    """
    how = kgw.reading(key)
    window = np.repeat(before[:, None], how.length, axis=1)
    if how.salted:
        window[:, -1] = after
    ends = np.arange(1, len(before) + 1, dtype=np.int64) * how.length
    found = seeds(kgw.function(key), window.ravel(), ends, how.length)
    return found, deciding(kgw.function(key), window.ravel(), ends, how.length) == before


def _apart_contexts(keys: Sequence[kgw.Key], contexts: Tokens) -> Tokens:
    """The contexts of which no two share a seed under any key: equal lists would be counted twice as evidence."""
    kept = np.ones(len(contexts), np.bool_)
    for key in keys:
        _, first = np.unique(_pair_seeds(key, contexts, contexts)[0], return_index=True)
        alone = np.zeros(len(contexts), np.bool_)
        alone[first] = True
        kept &= alone
    return contexts[kept]


def _apart(keys: Sequence[kgw.Key], contexts: Tokens, tokens: Tokens) -> Tokens:
    """The scored tokens for which no two contexts share a seed under any key."""
    kept = np.ones(len(tokens), np.bool_)
    for key in keys:
        for i, token in enumerate(tokens):
            found, reached = _pair_seeds(key, contexts, np.full_like(contexts, token))
            kept[i] &= len(np.unique(found[reached])) == reached.sum()
    return tokens[kept]


def _green(key: kgw.Key, contexts: Tokens, tokens: Tokens) -> npt.NDArray[np.bool_]:
    found = bitmaps(_pair_seeds(key, contexts, contexts)[0], kgw.lists(key))
    bits = found[:, tokens >> 3] >> (tokens & 7).astype(np.uint8) & 1
    return np.asarray(bits, np.bool_)


def _green_salted(key: kgw.Key, contexts: Tokens, tokens: Tokens) -> npt.NDArray[np.bool_]:
    before, after = np.repeat(contexts, len(tokens)), np.tile(tokens, len(contexts))
    shape, found = kgw.lists(key), np.zeros(len(before), np.bool_)
    drawn, reached = _pair_seeds(key, before, after)
    found[reached] = among_first(drawn[reached], after[reached], shape.vocab_size, shape.settled) ^ shape.last
    return found.reshape(len(contexts), len(tokens))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _screen(
    before: Tokens,
    after: Tokens,
    blocks: Offsets,
    documents: Offsets,
    rows: Tokens,
    columns: Tokens,
    words: Words,
    bit: int,
    green: Ints,
    scored: Ints,
) -> None:
    """Adds the bits of new pairs to ``green`` [blocks, keys], the first key's being bit ``bit``."""
    longest = 1
    for d in range(len(documents) - 1):
        longest = max(longest, blocks[documents[d + 1]] - blocks[documents[d]])
    bits = 4
    while (1 << bits) < 2 * longest:
        bits += 1
    # The number of the document in a slot says that it is taken: nothing has to be emptied in between.
    slots = np.zeros(1 << bits, np.uint64)
    planes = np.zeros(_PLANES, np.uint64)
    for d in range(len(documents) - 1):
        owner = np.uint64(d + 1) << np.uint64(32)
        for b in range(documents[d], documents[d + 1]):
            count, held = 0, 0
            for i in range(blocks[b], blocks[b + 1]):
                row, column = rows[before[i]], columns[after[i]]
                if row < 0 or column < 0 or not _insert(slots, bits, owner, row * words.shape[1] + column):
                    continue
                count += 1
                held += 1
                _add(planes, np.uint64(words[row, column]))
                if held == (1 << _PLANES) - 1:
                    _unload(planes, bit, green[b])
                    held = 0
            _unload(planes, bit, green[b])
            scored[b] += count


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _insert(slots: npt.NDArray[np.uint64], bits: int, owner: np.uint64, pair: int) -> bool:
    """Puts a pair into the set of a document; False where it is there already."""
    entry = owner | np.uint64(pair)
    at = np.int64((np.uint64(pair) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - bits))
    high = np.uint64(0xFFFFFFFF00000000)
    while (slots[at] & high) == owner:
        if slots[at] == entry:
            return False
        at = (at + 1) & ((1 << bits) - 1)
    slots[at] = entry
    return True


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _add(planes: npt.NDArray[np.uint64], word: np.uint64) -> None:
    """Adds one bit to each of 64 counters, whose binary digits are the planes."""
    plane = 0
    while word != 0:
        carry = planes[plane] & word
        planes[plane] ^= word
        word = carry
        plane += 1


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _unload(planes: npt.NDArray[np.uint64], bit: int, green: Ints) -> None:
    for j in range(len(green)):
        shift = np.uint64(bit + j)
        for plane in range(_PLANES):
            green[j] += np.int64((planes[plane] >> shift) & np.uint64(1)) << plane
    planes[:] = 0
