"""Texts as sequences of word hashes, which all parts of the panel share.

Words are the tokens of :mod:`pipelines.neardup.shingles`: folded runs of letters and digits, and in scripts that are
written without spaces one character a word. No Python object is made for any of them::

    >>> words = word_hashes(pa.array(["A rose is a ROSE.", "Rose!"], pa.large_string()))
    >>> words.offsets.tolist(), bool(words.keys[1] == words.keys[5])
    ([0, 5, 6], True)
    >>> ngram_keys(words, 3).offsets.tolist()
    [0, 3, 3]
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.neardup.shingles import tables, text_buffers, token_room, tokenise

_BASE = 0xD6E8FEB86659FD93


class Words(NamedTuple):
    """Of d texts: ``keys`` uint64 (n,), a hash a word in the order of the texts; ``offsets`` int64 (d + 1,).

    Text i has ``keys[offsets[i] : offsets[i + 1]]``.
    """

    keys: npt.NDArray[np.uint64]
    offsets: npt.NDArray[np.int64]

    def take(self, rows: npt.NDArray[np.int64]) -> Words:
        """The words of some of the texts; a view where they lie together."""
        if not len(rows):
            return Words(self.keys[:0], np.zeros(1, np.int64))
        if rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
            offsets = self.offsets[rows[0] : rows[-1] + 2]
            return Words(self.keys[offsets[0] : offsets[-1]], offsets - offsets[0])
        counts = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        at = np.repeat(self.offsets[rows] - offsets[:-1], counts) + np.arange(offsets[-1])
        return Words(self.keys[at], offsets)


def word_hashes(texts: pa.LargeStringArray) -> Words:
    """The words of each text. Nulls are read as empty texts; the same word has the same hash in every text and run."""
    starts, ends, data = text_buffers(texts)
    # No code point gives more than two words for each of its bytes; pages that are never written take no memory.
    keys = np.empty(2 * int((ends - starts).sum()), np.uint64)
    offsets = np.zeros(len(texts) + 1, np.int64)
    _word_hashes(data, starts, ends, *tables(), token_room(starts, ends), keys, offsets)
    return Words(keys[: offsets[-1]].copy(), offsets)


def ngram_keys(words: Words, order: int) -> Words:
    """One key for each run of ``order`` words within a text; a text with fewer has none. Order 1: the words."""
    if order == 1:
        return words
    counts = np.maximum(np.diff(words.offsets) - (order - 1), 0)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    keys = np.empty(int(offsets[-1]), np.uint64)
    _ngram_keys(words.keys, words.offsets, order, keys)
    return Words(keys, offsets)


@numba.njit(cache=True, nogil=True)
def _word_hashes(data, starts, ends, start, folded, kind, ascii_letter, tokens, keys, offsets):  # type: ignore[no-untyped-def]
    """Fills ``keys`` and ``offsets``."""
    at = 0
    for row in range(len(starts)):
        count = tokenise(data, starts[row], ends[row], start, folded, kind, ascii_letter, tokens)
        keys[at : at + count] = tokens[:count]
        at += count
        offsets[row + 1] = at


@numba.njit(cache=True, nogil=True)
def _ngram_keys(words, offsets, order, keys):  # type: ignore[no-untyped-def]
    """Fills ``keys``: a polynomial in the word hashes modulo 2^64."""
    at = 0
    for row in range(len(offsets) - 1):
        for i in range(offsets[row], offsets[row + 1] - order + 1):
            key = np.uint64(0)
            for j in range(order):
                key = key * np.uint64(_BASE) + words[i + j]
            keys[at] = key
            at += 1
