"""The tests of published programs, as rules over what single tokens add to our scores.

That these scores equal the programs' is tested with each scheme. A rule says which tokens count, and what p-value the
program makes of their sum; where it gives none (SynthID's mean score), the normal approximation stands in. Sources:
transformers' WatermarkDetector, ``ignore_repeated_ngrams`` False and True; lm-watermarking's WatermarkDetector, the
same; Unigram-Watermark's ``detect``; synthid-text's ``mean_score`` and context repetition mask; ``get_pvalue`` of
three_bricks' OpenaiDetector and of textseal's detector, with the scoring method ``none``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from watermark.green_lists import first_occurrences
from watermark.synthid_ngrams import ngram_hashes
from watermark.windows import Batch, Floats, Ints, Offsets, Scheme, Tokens, windows

_HISTORY = 1024  # contexts that SynthID's mask remembers

Flags = npt.NDArray[np.bool_]


class Rule(NamedTuple):
    """A published test: its name, which positions it counts, and log p-values of sums over n of them."""

    name: str
    counts: Callable[[Batch, int], Flags]
    log_p: Callable[[Floats, Floats], Floats]


def every(batch: Batch, width: int) -> Flags:
    """All positions, repeated or not."""
    return np.ones(len(batch.positions), np.bool_)


def new_ngrams(batch: Batch, width: int) -> Flags:
    """Positions whose context and token are not in the document before."""
    return first_occurrences(ngram_hashes(batch.tokens, width + 1, 1)[batch.positions - width], batch)


def new_contexts(batch: Batch, width: int) -> Flags:
    """Positions whose context is not among the document's last ones, as SynthID's mask has it."""
    hashes = ngram_hashes(batch.tokens, width, 1)[batch.positions - width]
    found = np.ones(len(hashes), np.bool_)
    starts = batch.blocks[batch.documents]
    for first, last in pairwise(starts):
        order = first + np.argsort(hashes[first:last], kind="stable")
        found[order[1:]] = (hashes[order[1:]] != hashes[order[:-1]]) | (np.diff(order) > _HISTORY)
    return found


def z_test(mean: float, variance: float) -> Callable[[Floats, Floats], Floats]:
    """The normal approximation for tokens of this mean and variance."""
    return lambda total, n: np.asarray(special.log_ndtr((n * mean - total) / np.sqrt(n * variance)), np.float64)


def gamma_test(total: Floats, n: Floats) -> Floats:
    """The tail of n exponential numbers."""
    return np.asarray(np.log(np.maximum(special.gammaincc(n, total), 1e-300)))


_QUARTER, _FAIR, _BITS = z_test(0.25, 0.1875), z_test(0.5, 0.25), z_test(15.0, 7.5)
NONE = Rule("no deduplication", every, _QUARTER)
NGRAMS = Rule("n-gram deduplication", new_ngrams, _QUARTER)
MEAN = Rule("mean score, contexts deduplicated, normal", new_contexts, _BITS)
HALF = Rule("no deduplication", every, _FAIR)
BITS = Rule("mean score, no deduplication, normal", every, _BITS)
EXPONENTIAL = Rule("no deduplication", every, gamma_test)


def published(
    rules: Sequence[Rule], scheme: Scheme, keys: Sequence[Any], tokens: Tokens, offsets: Offsets, least: int
) -> Iterator[tuple[str, Floats]]:
    """Each rule's name and log p-values of documents, [d, k]; NaN for those of which it counts fewer than ``least``.

    A position that is a document of its own has nothing to be a repeat of: so our score gives what single tokens add.
    """
    width = scheme.width(keys[0])
    batch = windows(tokens, offsets, width)
    alone = np.arange(len(batch.positions) + 1)
    single = Batch(batch.tokens, batch.positions, alone, alone)
    values = scheme.score(single, keys)
    ends = batch.blocks[batch.documents]
    for rule in rules:
        counts = rule.counts(batch, width)[:, None]
        total, n = (sums_between(np.where(counts, part, 0), ends).astype(np.float64) for part in values)
        log_p = rule.log_p(total, np.maximum(n, 1.0))
        yield rule.name, np.where(n >= least, log_p, np.nan)


def sums_between(values: npt.NDArray[Any], ends: Ints) -> npt.NDArray[Any]:
    """Sums of rows between offsets; an empty stretch gives zero."""
    running = np.concatenate([np.zeros((1, values.shape[1]), values.dtype), np.cumsum(values, axis=0)])
    return np.asarray(running[ends[1:]] - running[ends[:-1]])
