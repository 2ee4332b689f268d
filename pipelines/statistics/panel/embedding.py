"""Small embeddings of documents: signed feature hashing of their words, for measures of variety between documents.

    vectors = embed(keys, offsets)                  # (documents, 64) int8
    outer = vectors.T.astype(np.int64) @ vectors    # mergeable by addition; see vendi.py

Each word adds its weight, with a sign, to one of 64 dimensions; dimension and sign come from its hash, so that the
inner product of two documents estimates that of their weighted word vectors without bias (Weinberger et al., ICML 2009,
section 2). The weight of a word is like an inverse document frequency: its surprisal under the commonest use that any
of the reference models knows of (:mod:`pipelines.statistics.panel.surprisal`), less 4 bits, at most 15 bits; words that
no model knows have the most. A word counts once in a document, as far as a small table remembers it, so that in
languages without a model as well the function words do not dominate.

Everything up to the last division is whole numbers, and the square root and the division are those of IEEE 754: the
result is the same on every machine, and a document's vector depends on nothing but its words.
"""

from __future__ import annotations

from functools import lru_cache

import numba
import numpy as np
import numpy.typing as npt

from pipelines.statistics.panel.surprisal import CODES_PER_BIT, Int, Keys, hash_table, languages, mix, stored

DIMENSIONS = 64
SCALE = 127  # the length of a vector, before it is rounded

_FREE_BITS, _MOST_BITS = 4, 15
_REMEMBERED = 4096  # words of a document


def embed(keys: Keys, offsets: Int) -> npt.NDArray[np.int8]:
    """The embedding of each document.

    Args:
        keys: (n,) uint64 hashes of the words of all documents, see ``words.py``.
        offsets: (d + 1,) int64; the words of document i are ``keys[offsets[i]:offsets[i + 1]]``.

    Returns: (d, 64) int8 of Euclidean length 127, but for rounding; zeros where a document has no word of any weight.
    """
    vectors = np.empty((len(offsets) - 1, DIMENSIONS), np.int8)
    _embed(keys, offsets, word_weights(), _MOST_BITS * CODES_PER_BIT, vectors)
    return vectors


@lru_cache(maxsize=1)
def word_weights() -> npt.NDArray[np.uint32]:
    """A hash table with linear probing of the words that any reference model knows: 24 bits of the hash, weight + 1."""
    models = [model for model in map(stored, languages()) if model is not None]
    hashes = np.concatenate([np.empty(0, np.uint32), *(model.words for model in models)])
    codes = np.concatenate([np.empty(0, np.uint8), *(model.word_codes for model in models)])
    order = np.lexsort((codes, hashes))
    hashes, codes = hashes[order], codes[order]
    commonest = np.diff(hashes.astype(np.int64), prepend=-1) != 0
    hashes, codes = hashes[commonest], codes[commonest].astype(np.int64)
    weights = np.clip(codes - _FREE_BITS * CODES_PER_BIT, 0, _MOST_BITS * CODES_PER_BIT).astype(np.uint32)
    tags = (hashes & np.uint32(0xFFFFFF)) << np.uint32(8)
    return hash_table(hashes.astype(np.uint64) << np.uint64(32), tags | (weights + np.uint32(1)))


@numba.njit(cache=True, nogil=True)
def _embed(keys, offsets, table, unknown, vectors):  # type: ignore[no-untyped-def]
    bits = 0
    while 1 << bits < len(table):
        bits += 1
    shift, mask = np.uint64(64 - bits), len(table) - 1
    sums = np.empty(DIMENSIONS, np.int64)
    seen = np.empty(_REMEMBERED, np.uint64)
    for document in range(len(offsets) - 1):
        start, end = offsets[document], offsets[document + 1]
        slots = 64
        while slots < _REMEMBERED and slots < 2 * (end - start):
            slots *= 2
        # Slot 0 holds a word that does not belong there, so that no word is taken for seen.
        seen[:slots] = 0
        seen[0] = 128
        sums[:] = 0
        for index in range(start, end):
            mixed = mix(keys[index])
            at = np.int64((mixed >> np.uint64(7)) & np.uint64(slots - 1))
            if seen[at] == mixed:
                continue
            seen[at] = mixed
            tag = np.uint32((mixed >> np.uint64(32)) & np.uint64(0xFFFFFF))
            slot = np.int64(mixed >> shift)
            while table[slot] != 0 and table[slot] >> np.uint32(8) != tag:
                slot = (slot + 1) & mask
            weight = np.int64(unknown)
            if table[slot] != 0:
                weight = np.int64(table[slot] & np.uint32(0xFF)) - np.int64(1)
            dimension = np.int64(mixed & np.uint64(DIMENSIONS - 1))
            if mixed & np.uint64(DIMENSIONS):
                sums[dimension] -= weight
            else:
                sums[dimension] += weight
        squares = np.int64(0)
        for axis in range(DIMENSIONS):
            squares += sums[axis] * sums[axis]
        length = np.sqrt(np.float64(squares))
        for axis in range(DIMENSIONS):
            if squares == 0:
                vectors[document, axis] = 0
            else:
                vectors[document, axis] = np.int8(np.rint(SCALE * sums[axis] / length))
