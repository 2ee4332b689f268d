"""What both variants of SynthID-Text share: the hash of an n-gram, counting it once, the published masks, the weights.

The hash runs ``h = (h + token) * 6364136223846793005 + 1`` modulo 2^64 over the tokens of an n-gram, and once more over
each depth's key. It is affine, so that two n-grams meet in one hash for every key or for none: repetitions are found
once for all keys. Sources: Dathathri et al., Nature 634 (2024), 818-823; google-deepmind/synthid-text and transformers
for the constants::

    >>> ngram_hashes(np.array([5, 6, 7], np.int32), 2, start=1)[0] == np.uint64(
    ...     ((1 + 5) * MULTIPLIER + 1 + 6) * MULTIPLIER + 1 & MASK
    ... )
    np.True_
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numba
import numpy as np
import numpy.typing as npt

from watermark.windows import Batch, Ints, Tokens

Hashes = npt.NDArray[np.uint64]
Statistic = Literal["mean", "weighted_mean"]

MASK = (1 << 64) - 1
MULTIPLIER = 6364136223846793005
_MULTIPLIER = np.uint64(MULTIPLIER)
_ONE = np.uint64(1)

# The depth keys in the examples of both published implementations; the first nine alone in transformers' documentation.
PUBLISHED_KEYS = (
    *(654, 400, 836, 123, 340, 443, 597, 160, 57, 29, 590, 639, 13, 715, 468),
    *(990, 966, 226, 324, 585, 118, 504, 421, 521, 129, 669, 732, 225, 90, 960),
)


def check_parameters(keys: tuple[int, ...], ngram_len: int, vocab_size: int, history: int, statistic: str) -> None:
    """Raises ValueError for parameters that no generator accepts; the message never holds a key."""
    if not keys or not all(-(1 << 63) <= key < 1 << 63 for key in keys):
        raise ValueError("keys: one or more depth keys that fit 64 signed bits are needed")
    if ngram_len < 2:
        raise ValueError(f"ngram_len: {ngram_len}; it must be 2 or more")
    if vocab_size < 1 or history < 1:
        raise ValueError(f"vocab_size: {vocab_size}, context_history_size: {history}; both must be 1 or more")
    if statistic not in ("mean", "weighted_mean"):
        raise ValueError(f"statistic: {statistic!r}; it must be 'mean' or 'weighted_mean'")


def as_unsigned(values: Sequence[int]) -> Hashes:
    """uint64[n]: signed 64-bit integers modulo 2^64."""
    return np.array([value & MASK for value in values], np.uint64)


def depth_weights(depth: int, statistic: Statistic) -> Ints:
    """int64[depth]: what a g value of one adds to the statistic.

    ``mean`` counts all depths alike. ``weighted_mean`` weighs them 10 … 1, falling linearly (synthid-text,
    detector_mean.py), here times ``depth - 1`` and divided by the common divisor, which makes them integers and sums of
    them exact. The published score is the statistic divided by ``scored * depth_weights(…).sum()``.

    >>> depth_weights(4, "weighted_mean").tolist()
    [10, 7, 4, 1]
    """
    if statistic == "mean" or depth == 1:
        return np.ones(depth, np.int64)
    weights = 10 * (depth - 1) - 9 * np.arange(depth)
    return np.asarray(weights // np.gcd.reduce(weights), np.int64)


def ngram_hashes(tokens: Tokens, length: int, start: int) -> Hashes:
    """uint64[n - length + 1]: the hash of every run of ``length`` tokens, from the state ``start``."""
    count = max(len(tokens) - length + 1, 0)
    values = tokens.astype(np.int64).view(np.uint64)
    hashes = np.full(count, start & MASK, np.uint64)
    for offset in range(length):
        hashes += values[offset : offset + count]
        hashes *= _MULTIPLIER
        hashes += _ONE
    return hashes


def first_contexts(tokens: Tokens, ngram_len: int, history: int, start: int) -> npt.NDArray[np.bool_]:
    """bool[n - ngram_len + 1]: whether the context before each token is new among the last ``history`` contexts.

    As in ``compute_context_repetition_mask`` of both published processors, the history starts filled with zeros: a
    context whose hash is 0 is never new before ``history`` others have passed.
    """
    hashes = ngram_hashes(tokens[:-1], ngram_len - 1, start)
    hashes = np.concatenate([np.zeros(1, np.uint64), hashes])
    order = np.argsort(hashes, kind="stable")
    repeated = np.zeros(len(hashes), np.bool_)
    repeated[order[1:]] = (hashes[order[1:]] == hashes[order[:-1]]) & (np.diff(order) <= history)
    return ~repeated[1:]


def before_eos(tokens: Tokens, eos_token_id: int) -> npt.NDArray[np.bool_]:
    """bool[n]: False from the first end-of-sequence token on, as the published ``compute_eos_token_mask``."""
    return np.asarray(np.cumsum(tokens == eos_token_id) == 0)


def distinct_ngrams(batch: Batch, ngram_len: int, vocab_size: int) -> tuple[Hashes, Ints]:
    """The hashes, from state 0, of the n-grams that count, and where each block's begin.

    An n-gram counts where it stands first in its document, and only if all its tokens are in the vocabulary. Two
    n-grams with the same 64-bit hash have the same g values under every key, so equal hashes are what repetition means.

    Returns:
        uint64[m], hashes in the order of the positions; int64[b + 1], offsets of the blocks into them.
    """
    return _distinct(batch.tokens, batch.positions, batch.blocks, batch.documents, ngram_len, vocab_size)  # type: ignore[no-any-return]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _distinct(tokens: Any, positions: Any, blocks: Any, documents: Any, length: int, vocabulary: int) -> Any:
    hashes = np.empty(len(positions), np.uint64)
    offsets = np.zeros(len(blocks), np.int64)
    seen = np.zeros(1024, np.uint64)
    limit = np.uint32(vocabulary)
    count = 0
    for document in range(len(documents) - 1):
        first, last = documents[document], documents[document + 1]
        size, bits = 16, 4
        while size < 2 * (blocks[last] - blocks[first]):
            size, bits = 2 * size, bits + 1
        if size > len(seen):
            seen = np.zeros(size, np.uint64)
        seen[:size] = 0
        zero_seen = False
        shift, wrap = np.uint64(64 - bits), size - 1
        for block in range(first, last):
            for place in range(blocks[block], blocks[block + 1]):
                end = positions[place]
                value = np.uint64(0)
                known = True
                for token in tokens[end - length + 1 : end + 1]:
                    known = known and bool(np.uint32(token) < limit)
                    value = (value + np.uint64(token)) * _MULTIPLIER + _ONE
                if not known:
                    continue
                if value == 0:  # 0 marks a free slot
                    fresh = not zero_seen
                    zero_seen = True
                else:
                    slot = np.int64((value * np.uint64(0x9E3779B97F4A7C15)) >> shift)
                    while seen[slot] != 0 and seen[slot] != value:
                        slot = (slot + 1) & wrap
                    fresh = bool(seen[slot] == 0)
                    seen[slot] = value
                hashes[count] = value
                count += fresh
            offsets[block + 1] = count
    return hashes[:count].copy(), offsets
