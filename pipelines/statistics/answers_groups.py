"""Which repeated samples are the same answer, for the counts that :mod:`pipelines.statistics.answers` works on.

    >>> texts = pa.array(["Why? Because it was there!", "why -- because it was there", "To sleep."], pa.large_string())
    >>> group_answers(texts, np.zeros(3, np.int64)).tolist()
    [0, 0, 2]

Two samples for one prompt are the same answer where

- their words are the same, in number and order: case, punctuation, spacing and Unicode forms make no difference; or
- both have :data:`LONG` words or more, and their sets of runs of five words have a Jaccard similarity of at least 0.8:
  the near-duplicates of the rest of the project; or
- both have :data:`LEAST` words or more and fewer than :data:`SHORT`, and their sets of single words have that
  similarity. One word in ten may be another then. Runs of five words would part a joke of 20 words from itself with
  one word changed;

and where a chain of such pairs leads from one to the other. Below :data:`LEAST` words only the first rule counts: a
word more or less makes another answer of "the capital is Paris". Whether two answers *mean* the same is not looked at:
the same joke told in new words is another answer here, so that the number of different answers is an upper one.
"""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.neardup.bands import parameters
from pipelines.neardup.components import components
from pipelines.neardup.minhash import minhash
from pipelines.neardup.options import NearDup
from pipelines.neardup.sets import shingle_sets
from pipelines.neardup.shingles import sequence_hashes, shingle_hashes, text_buffers
from pipelines.neardup.verify import Sets, compare, decide, zone

LONG = 50  # words; in scripts without spaces characters
SHORT = 63  # so that two texts of which one has fewer than LONG words, and which may be alike, both have fewer
LEAST = 9

Index = npt.NDArray[np.int64]


def group_answers(texts: pa.LargeStringArray, prompts: Index, near: bool = True) -> Index:
    """For each sample the row of the first sample that is the same answer: int64[n].

    Args:
        texts: the samples; nulls are read as empty ones.
        prompts: int64[n], a number for each prompt; samples for different prompts are never the same answer.
        near: False leaves it at the same words.
    """
    first = _exact(texts, prompts)
    if not near or not len(first):
        return first
    distinct = np.unique(first)
    distinct = distinct[np.argsort(prompts[distinct], kind="stable")]
    chosen = texts.take(pa.array(distinct))
    words = np.diff(shingle_hashes(chosen, 1)[1])
    edges = []
    for rows, size in ((words >= LONG, NearDup().shingle), ((words >= LEAST) & (words < SHORT), 1)):
        at = np.flatnonzero(rows)
        if len(at) > 1:
            parent = _alike(chosen.take(pa.array(at)), prompts[distinct[at]], size)
            pairs = np.stack([at[parent], at], axis=1)
            edges.append(distinct[pairs[parent != np.arange(len(at))]])
    joined = np.concatenate([np.empty((0, 2), np.int64), *edges])
    if len(joined):
        nodes, roots = components(joined.astype(np.uint64))
        root = np.arange(len(first))
        root[nodes.astype(np.int64)] = roots.astype(np.int64)
        first = root[first]
    return first


def _exact(texts: pa.LargeStringArray, prompts: Index) -> Index:
    starts, ends, data = text_buffers(texts)
    hashes = sequence_hashes(data, starts, ends)
    # Without any word (an emoji, a line of dots) the bytes themselves.
    for row in np.flatnonzero(hashes == 0):
        hashes[row] = zlib.crc32(data[starts[row] : ends[row]].tobytes()) + 1
    order = np.lexsort((np.arange(len(hashes)), hashes, prompts))
    new = np.ones(len(order), bool)
    new[1:] = (hashes[order][1:] != hashes[order][:-1]) | (prompts[order][1:] != prompts[order][:-1])
    first = np.empty(len(order), np.int64)
    first[order] = order[np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))]
    return first


def _alike(texts: pa.LargeStringArray, prompts: Index, size: int) -> Index:
    """The forest of near-duplicates among texts that stand prompt by prompt: int64[n], the root of each."""
    options = NearDup(shingle=size)
    hashes, offsets = shingle_sets(texts, size)
    signatures = minhash(hashes, offsets, options.permutations, options.seed)
    blocks = np.concatenate([[0], np.flatnonzero(np.diff(prompts)) + 1, [len(prompts)]]).astype(np.int64)
    limits = zone(options.threshold, options.permutations, exact=True)
    found = compare(signatures, blocks, limits, parameters(options.threshold, options.permutations))
    sets = Sets(hashes, offsets[:-1].copy(), offsets[1:].copy())
    return decide(found, signatures, sets, options.threshold, limits.needed)[0].parent
