"""The equal sample of a slice: up to 256 documents by chance, of each its first 150 words.

Most measures of variety rise or fall with the size of a corpus, so that a month of a million documents and one of a
thousand cannot be compared by them. On samples of one size they can, and on so small a sample all counts are exact::

    equal = equal_sample(state)
    entropy_chao_shen(equal.words.sum(axis=1))

Which documents are in it is decided by their keys, and so the same for any sharding.
"""

from __future__ import annotations

import itertools
import zlib
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.statistics.panel.embedding import embed
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
    documents = np.array([len(part.keys) for part in excerpts], np.int64)
    group = np.repeat(np.arange(GROUPS), documents)
    words, texts = _cut([text for part in excerpts for text in part.texts])
    trigrams = ngram_keys(words, 3)
    edges = np.concatenate([[0], np.cumsum(documents)]).tolist()
    spans = list(itertools.pairwise(edges))
    joined = [b"\n".join(texts[a:b]) for a, b in spans]
    similar, pairs = _similar(excerpts)
    # In float64 for the sake of BLAS: whole numbers, and exact.
    vectors = embed(*words).astype(np.float64)
    return EqualSample(
        _counts(words.keys, np.repeat(group, np.diff(words.offsets))),
        _counts(trigrams.keys, np.repeat(group, np.diff(trigrams.offsets))),
        _counts(np.array([_hash(text) for text in texts], np.uint64), group),
        documents,
        np.array([len(part) for part in joined], np.int64),
        np.array([len(zlib.compress(part, _LEVEL)) if part else 0 for part in joined], np.int64),
        similar,
        pairs,
        np.stack([vectors[a:b].T @ vectors[a:b] for a, b in spans]).astype(np.int64),
        size,
    )


def without(counts: Int) -> Int:
    """(n, 1 + G): the sums of (n, G) counts over all groups, and over all but each."""
    total = np.ascontiguousarray(counts.T).sum(axis=0)[:, None]  # several times faster than along so short an axis
    return np.concatenate([total, total - counts], axis=1)


def _first(excerpts: Excerpts, most: int) -> Excerpts:
    """The first excerpts by their keys: a smaller random sample."""
    return Excerpts(excerpts.keys[:most], excerpts.texts[:most], excerpts.signatures[:most])


def _cut(excerpts: list[bytes]) -> tuple[Words, list[bytes]]:
    """The first :data:`WORDS` words of each excerpt, and its bytes up to about there.

    The last word of an excerpt that was itself cut may be half a word, and is left out. Bytes are cut in proportion to
    the words: where a word ends in the text is not known here, and a word more or less is nothing to a compressor.
    """
    words = word_hashes(pa.array(excerpts, pa.large_binary()).cast(pa.large_string()))
    counts, lengths = np.diff(words.offsets), np.array([len(text) for text in excerpts], np.int64)
    whole = lengths < EXCERPT_BYTES - 3
    taken = np.minimum(counts - np.where(whole, 0, np.minimum(counts, 1)), WORDS)
    offsets = np.concatenate([[0], np.cumsum(taken)]).astype(np.int64)
    at = np.arange(offsets[-1]) + np.repeat(words.offsets[:-1] - offsets[:-1], taken)
    ends = lengths * taken // np.maximum(counts, 1)
    texts = [text[:end] for text, end in zip(excerpts, ends.tolist(), strict=True)]
    return Words(words.keys[at], offsets), texts


def _counts(keys: npt.NDArray[np.uint64], group: Int) -> Int:
    """(distinct, G) of keys, each of a group."""
    distinct, at = np.unique(keys, return_inverse=True)
    counts = np.bincount(at * GROUPS + group, minlength=len(distinct) * GROUPS)
    return counts.reshape(len(distinct), GROUPS).astype(np.int64)


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
    _add_similar(np.ascontiguousarray(signatures), group, SIMILAR * width, similar)
    size = np.bincount(group, minlength=groups).astype(np.int64)
    pairs = np.outer(size, size)
    np.fill_diagonal(pairs, size * (size - 1) // 2)
    return similar + np.triu(similar, 1).T, pairs


@numba.njit(cache=True, nogil=True)
def _add_similar(signatures, group, least, similar):  # type: ignore[no-untyped-def]
    """Counts the pairs of rows that are the same in so many places, by the groups of the two."""
    for row in range(len(signatures)):
        for other in range(row + 1, len(signatures)):
            same = 0
            for i in range(signatures.shape[1]):
                same += signatures[row, i] == signatures[other, i]
            if same >= least:
                similar[group[row], group[other]] += 1
