"""The equal sample of a slice: up to 256 documents by chance, of each its first 150 words.

Most measures of variety rise or fall with the size of a corpus, so that a month of a million documents and one of a
thousand cannot be compared by them. On samples of one size they can, and on so small a sample all counts are exact::

    equal = equal_sample(state)
    entropy_chao_shen(equal.words.sum(axis=1))

Which documents are in it is decided by their keys, and so the same for any sharding.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.statistics.panel.embedding import DIMENSIONS, embed
from pipelines.statistics.panel.state import EXCERPT_BYTES, EXCERPTS, GROUPS, Excerpts, State
from pipelines.statistics.panel.words import Words, ngram_keys, word_hashes

Int = npt.NDArray[np.int64]

DOCUMENTS = GROUPS * EXCERPTS
SIZES = (DOCUMENTS, 128, 64, 32)  # documents of an equal sample
WORDS = 150
SIMILAR = 0.3  # of the MinHash positions
_LEVEL = 6  # of zlib
_NONE = np.uint32(2**32 - 1)  # a signature of nothing


class EqualSample(NamedTuple):
    """What is counted in an equal sample, by group; G = ``state.GROUPS``.

    ``words`` and ``trigrams`` int64 (distinct, G): how often each occurs; ``texts`` int64 (distinct, G): documents by
    text; ``documents`` int64 (G,); ``raw`` and ``packed`` int64 (G,): bytes of the texts before and after zlib;
    ``similar`` and ``pairs`` int64 (G, G): pairs of documents of two groups (symmetric; within a group on the
    diagonal) that share :data:`SIMILAR` of their MinHash positions or more, and all pairs with signatures;
    ``outer`` int64 (G, 64, 64): summed outer products of the embeddings; ``size``: documents that were asked for.
    """

    words: Int
    trigrams: Int
    texts: Int
    documents: Int
    raw: Int
    packed: Int
    similar: Int
    pairs: Int
    outer: Int
    size: int


def equal_sample(state: State, size: int = DOCUMENTS) -> EqualSample:
    """Counts the equal sample of a state; some 30 ms.

    Args:
        state: of a slice; one with fewer documents gives a smaller sample.
        size: documents of the sample, one of :data:`SIZES`. A smaller one is part of every larger one.
    """
    excerpts = [_first(part, size // GROUPS) for part in state.excerpts]
    groups = [_cut(part) for part in excerpts]
    words = [group[0] for group in groups]
    texts = [group[1] for group in groups]
    joined = [b"\n".join(part) for part in texts]
    similar, pairs = _similar(excerpts)
    vectors = [embed(part.keys, part.offsets).astype(np.int64) for part in words]
    return EqualSample(
        _counts([part.keys for part in words]),
        _counts([ngram_keys(part, 3).keys for part in words]),
        _counts([np.array([_hash(text) for text in part], np.uint64) for part in texts]),
        np.array([len(part) for part in texts], np.int64),
        np.array([len(part) for part in joined], np.int64),
        np.array([len(zlib.compress(part, _LEVEL)) if part else 0 for part in joined], np.int64),
        similar,
        pairs,
        np.stack([part.T @ part for part in vectors]).reshape(GROUPS, DIMENSIONS, DIMENSIONS),
        size,
    )


def without(counts: Int) -> Int:
    """(n, 1 + G): the sums of (n, G) counts over all groups, and over all but each."""
    total = counts.sum(axis=1, keepdims=True)
    return np.concatenate([total, total - counts], axis=1)


def _first(excerpts: Excerpts, most: int) -> Excerpts:
    """The first excerpts by their keys: a smaller random sample."""
    return Excerpts(excerpts.keys[:most], excerpts.texts[:most], excerpts.signatures[:most])


def _cut(excerpts: Excerpts) -> tuple[Words, list[bytes]]:
    """The first :data:`WORDS` words of each excerpt, and its bytes up to about there.

    The last word of an excerpt that was itself cut may be half a word, and is left out. Bytes are cut in proportion to
    the words: where a word ends in the text is not known here, and a word more or less is nothing to a compressor.
    """
    words = word_hashes(pa.array(excerpts.texts, pa.large_binary()).cast(pa.large_string()))
    counts = np.diff(words.offsets)
    whole = np.array([len(text) < EXCERPT_BYTES - 3 for text in excerpts.texts], bool)
    taken = np.minimum(counts - np.where(whole, 0, np.minimum(counts, 1)), WORDS)
    offsets = np.concatenate([[0], np.cumsum(taken)]).astype(np.int64)
    at = np.arange(offsets[-1]) + np.repeat(words.offsets[:-1] - offsets[:-1], taken)
    texts = [
        text[: len(text) * int(some) // max(int(all_words), 1)]
        for text, some, all_words in zip(excerpts.texts, taken, counts, strict=True)
    ]
    return Words(words.keys[at], offsets), texts


def _counts(keys: list[npt.NDArray[np.uint64]]) -> Int:
    """(distinct, G) of the keys of each group."""
    group = np.repeat(np.arange(len(keys)), [len(part) for part in keys])
    distinct, at = np.unique(np.concatenate(keys), return_inverse=True)
    counts = np.bincount(at * len(keys) + group, minlength=len(distinct) * len(keys))
    return counts.reshape(len(distinct), len(keys)).astype(np.int64)


def _hash(text: bytes) -> int:
    return zlib.crc32(text) << 32 | zlib.adler32(text)


def _similar(excerpts: list[Excerpts]) -> tuple[Int, Int]:
    """Pairs by their documents' groups: similar ones, and all."""
    groups = len(excerpts)
    width = max(part.signatures.shape[1] for part in excerpts)
    some = [part.signatures for part in excerpts if len(part.keys)]
    signatures = np.concatenate([np.empty((0, width), np.uint32), *some])
    group = np.repeat(np.arange(groups), [len(part.keys) for part in excerpts])
    signed = (signatures != _NONE).any(axis=1)
    signatures, group = signatures[signed], group[signed]
    similar = np.zeros((groups, groups), np.int64)
    for row in range(len(signatures) - 1):
        close = (signatures[row + 1 :] == signatures[row]).sum(axis=1) >= SIMILAR * width
        np.add.at(similar, (group[row], group[row + 1 :][close]), 1)
    size = np.bincount(group, minlength=groups).astype(np.int64)
    pairs = np.outer(size, size)
    np.fill_diagonal(pairs, size * (size - 1) // 2)
    return similar + np.triu(similar, 1).T, pairs
