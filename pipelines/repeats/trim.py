"""Texts without the paragraphs that recur across hosts.

::

    found = paragraphs(texts, options.letters)
    trimmed = trim(texts, found, recurring(found, hashes))

A text whose every paragraph (of those that were looked at) recurs stays whole: it is a licence, a psalm or a news
story that many carry, and what would be left of it is its byline.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.neardup.shingles import text_buffers
from pipelines.repeats.lines import cut_lines
from pipelines.repeats.paragraphs import Paragraphs


class Trimmed(NamedTuple):
    """What became of n texts.

    ``texts`` large_string[n]; ``paragraphs`` int64[n] and ``bytes`` int64[n] say how many were cut from each, line
    breaks included in the bytes; ``whole`` bool[n] where recurring paragraphs stayed since nothing else would have.
    """

    texts: pa.LargeStringArray
    paragraphs: npt.NDArray[np.int64]
    bytes: npt.NDArray[np.int64]
    whole: npt.NDArray[np.bool_]


def recurring(found: Paragraphs, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Which paragraphs are among ``hashes`` (uint64, ascending): bool[p]."""
    if not len(hashes):
        return np.zeros(len(found.hash), bool)
    at = np.minimum(np.searchsorted(hashes, found.hash), len(hashes) - 1)
    return np.asarray(hashes[at] == found.hash, bool)


def trim(texts: pa.LargeStringArray, found: Paragraphs, repeated: npt.NDArray[np.bool_]) -> Trimmed:
    """Cuts the repeated paragraphs out.

    A paragraph goes with the blank lines that follow it, and at the end of a text with those before it. All other
    bytes stay as they are. Nulls are read as empty texts.

    Args:
        texts: large_string[n].
        found: what :func:`~pipelines.repeats.paragraphs.paragraphs` gave for these texts.
        repeated: bool[p], which of them to cut.
    """
    rows = len(texts)
    some = np.bincount(found.row[repeated], minlength=rows) > 0
    others = np.bincount(found.row[~repeated], minlength=rows) > 0
    whole = some & ~others
    cut = repeated & ~whole[found.row]
    counts = np.bincount(found.row[cut], minlength=rows)
    starts, ends, data = text_buffers(texts)
    first = np.concatenate([[0], np.cumsum(counts)])
    out = np.empty(int((ends - starts).sum()), np.uint8)
    offsets = np.zeros(rows + 1, np.int64)
    cut_lines(data, starts, ends, first, found.begin[cut], found.end[cut], out, offsets)
    kept = pa.Array.from_buffers(
        pa.large_string(), rows, [None, pa.py_buffer(offsets), pa.py_buffer(out[: offsets[-1]].copy())]
    )
    return Trimmed(kept, counts, (ends - starts) - np.diff(offsets), whole)


def warm_up() -> None:
    """Compiles the kernel, or loads it from numba's cache."""
    one = np.zeros(1, np.int64)
    found = Paragraphs(one, one.astype(np.uint64), one, one)
    trim(pa.array(["a"], pa.large_string()), found, np.ones(1, bool))
