"""What a scheme scores: positions of tokens in documents, cut into blocks; and what it gives back.

Every scheme marks a token by a pseudorandom function of the key, a few tokens before it, and the token itself. A batch
lays all documents' tokens out in one array and lists the positions whose whole context is inside their document::

    >>> batch = windows(np.array([5, 6, 7, 8, 9], np.int32), np.array([0, 3, 5]), width=1, block=64)
    >>> batch.positions.tolist(), batch.blocks.tolist(), batch.documents.tolist()
    ([1, 2, 4], [0, 2, 3], [0, 1, 2])

Blocks are the unit of summing, so that any stretch of a document can be tested from its blocks; documents are the unit
within which a repeated (seed, token) pair counts once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numba
import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

WHOLE = 1 << 62  # a block longer than any document


@dataclass(frozen=True)
class Batch:
    """Positions to score. All offsets start at 0, ascend, and end at the length of what they cut.

    Attributes:
        tokens: int32[t], the token ids of the model's tokenizer.
        positions: int64[p], where in ``tokens`` the scored tokens stand; the context is what stands before each.
        blocks: int64[b + 1], offsets into ``positions``.
        documents: int64[d + 1], offsets into ``blocks``.
    """

    tokens: Tokens
    positions: Offsets
    blocks: Offsets
    documents: Offsets


class Tally(NamedTuple):
    """For each block and key, the sum of the scheme's statistic and the number of tokens that it is over."""

    statistic: Floats  # float64[b, k]
    scored: Ints  # int64[b, k]


class Scheme(Protocol):
    """What a scheme's module gives; ``keys`` differ in the key only and share everything else (see each module)."""

    def width(self, key: Any) -> int:
        """How many tokens before the scored one decide its mark."""

    def score(self, batch: Batch, keys: Sequence[Any]) -> Tally:
        """The tally of every block under every key; a (seed, token) pair that repeats in a document counts once."""

    def null_mean(self, keys: Sequence[Any]) -> Floats:
        """float64[k]: what an unmarked token adds to the statistic, on average over keys or texts."""

    def null_deviation(self, keys: Sequence[Any]) -> Floats:
        """float64[k]: the standard deviation of what an unmarked token adds."""

    def log_p_value(self, statistic: Floats, scored: Ints, keys: Sequence[Any]) -> Floats:
        """Natural logarithm of the exact p-value, shape [..., k]; 0 where nothing was scored."""


def windows(tokens: Tokens, offsets: Offsets, width: int, block: int = WHOLE) -> Batch:
    """The positions of all tokens that have ``width`` tokens of their own document before them.

    Args:
        tokens: int32[t], documents one after the other.
        offsets: int64[d + 1], where documents start.
        width: tokens of context.
        block: positions to a block; the last of a document may be shorter. A document without a position has no block.
    """
    lengths = np.maximum(np.diff(offsets) - width, 0)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    positions = _positions(offsets, width, ends)
    counts = -(-lengths // block)
    documents = np.concatenate([[0], np.cumsum(counts)])
    number = np.arange(documents[-1]) - np.repeat(documents[:-1], counts)
    starts = np.repeat(ends[:-1], counts) + (number * block if block < WHOLE else 0)
    blocks = np.concatenate([starts, ends[-1:]])
    return Batch(tokens, positions, blocks.astype(np.int64), documents.astype(np.int64))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _positions(offsets: Offsets, width: int, ends: Offsets) -> Offsets:
    out = np.empty(ends[-1], np.int64)
    for document in range(len(offsets) - 1):
        first = offsets[document] + width
        for i in range(ends[document], ends[document + 1]):
            out[i] = first + i - ends[document]
    return out
