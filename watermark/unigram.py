"""One green list for every token (Zhao et al. 2023, "Provable Robust Watermarking for AI-Generated Text").

    >>> from watermark.windows import windows
    >>> key = Key(key=0, vocab_size=50257)
    >>> batch = windows(np.array([464, 3290, 318, 3290], np.int32), np.array([0, 4]), width(key))
    >>> score(batch, [key])  # 3290 counts once
    Tally(statistic=array([[1.]]), scored=array([[3]]))

As in XuandongZhao/Unigram-Watermark: the key's SHA-256 seeds numpy's default generator, which shuffles the mask. Each
distinct token of a document counts once (its `unidetect`), so that under a random key the count is hypergeometric: as
many draws without replacement from the vocabulary as there are distinct tokens.

A fixed key's list is the same for all text: it favours some frequent words by chance, and only a null measured on known
human text shows how much.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from watermark.green_lists import Flags, block_sums, first_occurrences, only, scorable
from watermark.tails import hypergeometric_log_sf
from watermark.windows import Batch, Floats, Ints, Tally


@dataclass(frozen=True)
class Key:
    """Everything that decides which tokens are green.

    Attributes:
        key: the key, a signed 64-bit integer.
        vocab_size: length of the mask.
        gamma: share of the vocabulary that is green (``fraction``).
    """

    key: int = field(repr=False)
    vocab_size: int
    gamma: float = 0.5

    def __post_init__(self) -> None:
        if not -(2**63) <= self.key < 2**63:
            raise ValueError("key: it must fit in 64 bits with its sign")
        if self.vocab_size < 2:
            raise ValueError(f"vocab_size: {self.vocab_size}, allowed are numbers from 2")
        if not (0.0 < self.gamma < 1.0 and int(self.gamma * self.vocab_size)):
            raise ValueError(f"gamma: {self.gamma}, allowed is 0 < gamma < 1 with at least one green token")


def width(key: Key) -> int:
    """No token before the scored one decides its mark."""
    del key
    return 0


@lru_cache(maxsize=128)
def green_mask(key: Key) -> Flags:
    """bool[V]: the green list, read-only."""
    digest = hashlib.sha256(key.key.to_bytes(8, "little", signed=True)).digest()
    mask = np.arange(key.vocab_size) < _green(key)
    np.random.default_rng(int.from_bytes(digest[:4], "little")).shuffle(mask)
    mask.setflags(write=False)
    return mask


def score(batch: Batch, keys: Sequence[Key]) -> Tally:
    """Green and all distinct tokens of each block under each key; each counts where it first stands in a document."""
    _check_alike(keys)
    batch = scorable(batch, keys[0].vocab_size, 0)
    tokens = batch.tokens[batch.positions]
    first = first_occurrences(tokens.astype(np.uint64), batch)
    once, distinct = only(batch, first), tokens[first]
    statistic = np.stack([block_sums(green_mask(key)[distinct], once) for key in keys], axis=1)
    scored = np.repeat(np.diff(once.blocks)[:, None], len(keys), axis=1)
    return Tally(statistic.astype(np.float64), scored)


def null_mean(keys: Sequence[Key]) -> Floats:
    """float64[k]: the share of tokens that is green, G / V."""
    return np.array([_green(key) / key.vocab_size for key in keys])


def null_deviation(keys: Sequence[Key]) -> Floats:
    """float64[k]: the standard deviation of a token's colour."""
    green = null_mean(keys)
    return np.asarray(np.sqrt(green * (1.0 - green)))


def log_p_value(statistic: Floats, scored: Ints, keys: Sequence[Key]) -> Floats:
    """float64[..., k]: log P(X >= floor(statistic)), X hypergeometric; 0 where nothing was scored."""
    _check_alike(keys)
    count = np.floor(statistic).astype(np.int64)
    return hypergeometric_log_sf(count, keys[0].vocab_size, _green(keys[0]), scored)


def _green(key: Key) -> int:
    return int(key.gamma * key.vocab_size)


def _check_alike(keys: Sequence[Key]) -> None:
    if len({(key.vocab_size, key.gamma) for key in keys}) != 1:
        raise ValueError("keys: vocab_size and gamma differ; keys may differ in the key only")
