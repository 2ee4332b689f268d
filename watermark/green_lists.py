"""Green lists of many seeds: which tokens they hold, each distinct (seed, token) pair asked for once.

    >>> lists = Lists(vocab_size=50257, green=12564)
    >>> green_pairs(pack(np.array([42, 42], np.uint32), np.array([0, 1])), lists).tolist()
    [False, False]

A pair is one word, the seed in its upper 32 bits and the token in the lower ones. A pair that repeats in a document is
no new evidence: its colour is the same each time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numba
import numpy as np
import numpy.typing as npt

from watermark.mersenne import Bytes, Seeds, among_first, first_of_permutations
from watermark.windows import Batch, Floats, Ints, Offsets, Tokens

Pairs = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]

CACHE_BYTES = 256 << 20
_OFTEN = 8  # pairs of one seed in a batch from which on its whole list is worth keeping
_AT_ONCE = 1 << 24  # bytes of bitmaps that are made in one go


@dataclass(frozen=True)
class Lists:
    """What all green lists of a scheme share.

    Attributes:
        vocab_size: length of the permutation.
        green: how many tokens are green.
        last: whether they are the last of the permutation instead of the first.
    """

    vocab_size: int
    green: int
    last: bool = False

    @property
    def settled(self) -> int:
        """How many elements of the permutation decide the list."""
        return self.vocab_size - self.green if self.last else self.green


class Cache:
    """Bitmaps of green lists that were asked for often, kept between batches.

    It takes what comes first, which is mostly what comes often, and stops where it is full. Lists are found by their
    seeds: one cache serves all keys that share :class:`Lists`.
    """

    def __init__(self, lists: Lists, limit: int = CACHE_BYTES) -> None:
        self.lists = lists
        width = (lists.vocab_size + 7) // 8
        self._bitmaps: Bytes = np.empty((max(limit // width, 1), width), np.uint8)
        self._seeds: Seeds = np.empty(0, np.uint32)  # ascending
        self._rows: Ints = np.empty(0, np.int64)

    def rows(self, seeds: Seeds) -> Ints:
        """int64[s]: where the lists of the seeds are kept, -1 for those that are not."""
        if not len(self._seeds):
            return np.full(len(seeds), -1)
        at = np.minimum(np.searchsorted(self._seeds, seeds), len(self._seeds) - 1)
        return np.where(self._seeds[at] == seeds, self._rows[at], -1)

    def keep(self, seeds: Seeds) -> None:
        """Makes and keeps the lists of as many of these distinct, absent seeds as there is room for."""
        used = len(self._seeds)
        seeds = seeds[: len(self._bitmaps) - used]
        step = max(_AT_ONCE // self._bitmaps.shape[1], 1)
        for first in range(0, len(seeds), step):
            some = seeds[first : first + step]
            self._bitmaps[used + first : used + first + len(some)] = bitmaps(some, self.lists)
        rows = np.concatenate([self._rows, np.arange(used, used + len(seeds))])
        seeds = np.concatenate([self._seeds, seeds])
        order = np.argsort(seeds)
        self._seeds, self._rows = seeds[order], rows[order]

    def look_up(self, rows: Ints, tokens: Tokens) -> Flags:
        """bool[p]: whether each token is on the list kept in its row."""
        bits = self._bitmaps[rows, tokens >> 3] >> (tokens & 7).astype(np.uint8) & 1
        return np.asarray(bits, np.bool_)


def pack(seeds: Seeds, tokens: npt.NDArray[np.integer]) -> Pairs:
    """uint64[p]: the pairs of seeds and tokens."""
    return seeds.astype(np.uint64) << np.uint64(32) | tokens.astype(np.uint64)


def bitmaps(seeds: Seeds, lists: Lists) -> Bytes:
    """uint8[s, ceil(vocabulary / 8)]: the green lists as bits, the lowest first; past the vocabulary they are zero."""
    found = first_of_permutations(seeds, lists.vocab_size, lists.settled)
    if lists.last:
        np.invert(found, out=found)
        if lists.vocab_size % 8:
            found[:, -1] &= (1 << lists.vocab_size % 8) - 1
    return found


def green_pairs(pairs: Pairs, lists: Lists, cache: Cache | None = None) -> Flags:
    """bool[p]: whether each pair is green.

    Raises:
        ValueError: the cache is of other lists.
    """
    if cache is not None and cache.lists != lists:
        raise ValueError("cache: it holds lists of another vocabulary or share of green tokens")
    distinct, inverse = np.unique(pairs, return_inverse=True)
    seeds = (distinct >> np.uint64(32)).astype(np.uint32)
    tokens = (distinct & np.uint64(0xFFFFFFFF)).astype(np.int32)
    rows = _kept(seeds, cache) if cache else np.full(len(seeds), -1)
    found, absent = np.empty(len(seeds), np.bool_), rows < 0
    found[absent] = among_first(seeds[absent], tokens[absent], lists.vocab_size, lists.settled) ^ lists.last
    if cache:
        found[~absent] = cache.look_up(rows[~absent], tokens[~absent])
    return found[inverse]


def _kept(seeds: Seeds, cache: Cache) -> Ints:
    distinct, counts = np.unique(seeds, return_counts=True)
    cache.keep(distinct[(cache.rows(distinct) < 0) & (counts > _OFTEN)])
    return np.repeat(cache.rows(distinct), counts)


def scorable(batch: Batch, vocab_size: int, width: int) -> Batch:
    """The batch without the positions whose window holds a token outside the vocabulary."""
    if not len(batch.tokens) or (batch.tokens.min() >= 0 and batch.tokens.max() < vocab_size):
        return batch
    return only(batch, usable_positions(batch, vocab_size, width))


def only(batch: Batch, flags: Flags) -> Batch:
    """The batch without the positions that are not flagged; blocks and documents stay, if empty."""
    kept = np.concatenate([[0], np.cumsum(flags)])
    return replace(batch, positions=batch.positions[flags], blocks=kept[batch.blocks])


def usable_positions(batch: Batch, vocab_size: int, width: int) -> Flags:
    """bool[p]: whether the scored token and the ``width`` tokens before it are all in the vocabulary."""
    outside = (batch.tokens < 0) | (batch.tokens >= vocab_size)
    before = np.concatenate([[0], np.cumsum(outside)])
    return before[batch.positions + 1] == before[batch.positions - width]  # type: ignore[no-any-return]


def first_occurrences(words: Pairs, batch: Batch) -> Flags:
    """bool[p]: whether the word of each position is the first of its kind in its document."""
    found = np.empty(len(words), np.bool_)
    _first_occurrences(words, batch.blocks[batch.documents], found)
    return found


def block_sums(flags: Flags, batch: Batch) -> Ints:
    """int64[b]: how many positions of each block are flagged."""
    running = np.concatenate([[0], np.cumsum(flags)])
    return running[batch.blocks[1:]] - running[batch.blocks[:-1]]  # type: ignore[no-any-return]


def count_green(words: Pairs, batch: Batch, lists: Lists, cache: Cache | None = None) -> tuple[Floats, Ints]:
    """For each block, float64[b] green and int64[b] scored pairs; what repeats in a document counts once."""
    first = first_occurrences(words, batch)
    green = np.zeros(len(words), np.bool_)
    green[first] = green_pairs(words[first], lists, cache)
    return block_sums(green, batch).astype(np.float64), block_sums(first, batch)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _first_occurrences(words: Pairs, documents: Offsets, found: Flags) -> None:
    longest = 1
    for d in range(len(documents) - 1):
        longest = max(longest, documents[d + 1] - documents[d])
    bits = 4
    while (1 << bits) < 2 * longest:
        bits += 1
    mask = (1 << bits) - 1
    # A slot is taken if it bears the number of the document: nothing has to be emptied in between.
    slots, owners = np.empty(1 << bits, np.uint64), np.zeros(1 << bits, np.int64)
    for d in range(len(documents) - 1):
        for i in range(documents[d], documents[d + 1]):
            word = words[i]
            at = np.int64((word * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - bits))
            while owners[at] == d + 1 and slots[at] != word:
                at = (at + 1) & mask
            found[i] = owners[at] != d + 1
            slots[at], owners[at] = word, d + 1
