"""A marked paragraph inside a human page: all stretches of a document are tested, and the p-value pays for it.

The sums of a scheme's blocks make the statistic of any stretch. Looked at are stretches of 1, 2, 4, 8, … blocks, half
overlapping, so that any passage has one inside it that is at least a third as long::

    >>> from scipy.stats import norm
    >>> hits, scored = np.full((40, 1), 16.0), np.full((40, 1), 64)  # 40 blocks of 64 tokens, a quarter of them green
    >>> hits[12:16] = 40  # but for 4 blocks
    >>> def log_p(tally):
    ...     return norm.logsf((tally.statistic - 0.25 * tally.scored) / np.sqrt(0.1875 * tally.scored))
    >>> found = scan_stretches(Tally(hits, scored), np.array([0, 40]), np.array([0.25]), log_p)
    >>> int(found.first[0, 0]), int(found.blocks[0, 0]), bool(found.log_p[0, 0] < -80)
    (12, 4, True)
    >>> bool(log_p(Tally(hits.sum(), scored.sum())) > -14)  # the whole document says far less
    True
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np

from watermark.windows import Floats, Ints, Offsets, Tally

_FAR = 3.0  # standard deviations


class Scan(NamedTuple):
    """For each document and key, the p-value over all its stretches and where the strongest evidence stands."""

    log_p: Floats  # float64[d, k], natural logarithm, corrected for all that was looked at
    first: Ints  # int64[d, k], the first block of the best stretch, counted from the document's first
    blocks: Ints  # int64[d, k], its number of blocks; all of the document's where the whole is the strongest


def scan_stretches(
    tally: Tally,
    documents: Offsets,
    null_mean: Floats,
    log_p_function: Callable[[Tally], Floats],
    null_deviation: Floats | None = None,
) -> Scan:
    """Tests whole documents and their stretches.

    The p-value is 2 · min(p of the whole, W · p of the best stretch) with W the number of stretches: Bonferroni's,
    valid for any dependence, with half of the weight on the whole document, which is the commonest case. For each
    length only the stretch with the largest (statistic - mean) / √scored gets a p-value; that is at least the smallest
    of all, so the bound holds however it is chosen. A document of one block has no stretches and pays nothing. With
    ``null_deviation`` a stretch that lies less than three of them above the mean counts as p = 1, which is never too
    small, tells of hardly anything that the whole would not, and saves most of the p-values.

    Args:
        tally: float64[b, k] and int64[b, k], sums over blocks (``windows`` with a ``block`` of 64, say).
        documents: int64[d + 1], offsets into the blocks.
        null_mean: float64[k], what an unmarked token adds to the statistic.
        log_p_function: natural logarithms of the p-values, [n, k], of a tally of any n stretches; 0 where nothing was
            scored.
        null_deviation: float64[k], the standard deviation of what an unmarked token adds.

    Returns:
        Log p-values of 0 and no blocks for a document that has no blocks.
    """
    sums = Tally(_running(tally.statistic, documents), _running(tally.scored, documents))
    origin = documents[:-1] + np.arange(len(documents) - 1)  # the row of each document that is before its first block
    columns = np.arange(sums.statistic.shape[1])
    lengths = np.diff(documents)
    log_p = np.array(log_p_function(_between(sums, origin[:, None], (origin + lengths)[:, None], columns)), np.float64)
    first = np.zeros(log_p.shape, np.int64)
    blocks = np.repeat(lengths[:, None], log_p.shape[1], axis=1)
    scales = np.ceil(np.log2(np.maximum(lengths, 1))).astype(np.int64)  # 1, 2, 4, … below the number of blocks
    rows = np.concatenate([[0], np.cumsum(scales)])
    starts = np.zeros((rows[-1], log_p.shape[1]), np.int64)
    looked_at = np.zeros(len(lengths), np.int64)
    _best(sums.statistic, sums.scored, np.asarray(null_mean, np.float64), origin, lengths, rows, starts, looked_at)
    if not rows[-1]:
        return Scan(log_p, first, blocks)
    size = 1 << (np.arange(rows[-1]) - np.repeat(rows[:-1], scales))
    begin = starts + np.repeat(origin, scales)[:, None]
    stretches = _between(sums, begin, begin + size[:, None], columns)
    if null_deviation is not None:
        stretches = _outstanding(stretches, null_mean, null_deviation)
    each = log_p_function(stretches)
    several = np.flatnonzero(scales)
    best = np.minimum.reduceat(each, rows[several], axis=0)
    row = _first_equal(each, best, rows[several], scales[several])
    corrected = best + np.log(looked_at[several])[:, None]
    stretch = corrected < log_p[several]
    log_p[several] = np.minimum(0.0, np.minimum(log_p[several], corrected) + np.log(2.0))
    first[several] = np.where(stretch, starts[row, columns], 0)
    blocks[several] = np.where(stretch, size[row], blocks[several])
    return Scan(log_p, first, blocks)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _running(values: Any, documents: Any) -> Any:
    """Sums from the start of each document, with a row of zeros before it: rounding knows no other document."""
    out = np.zeros((len(values) + len(documents) - 1, values.shape[1]), values.dtype)
    for d in range(len(documents) - 1):
        for b in range(documents[d], documents[d + 1]):
            for k in range(values.shape[1]):
                out[b + d + 1, k] = out[b + d, k] + values[b, k]
    return out


def _between(sums: Tally, begin: Ints, end: Ints, columns: Ints) -> Tally:
    """The tallies of stretches, from running sums."""
    statistic, scored = sums.statistic[end, columns], sums.scored[end, columns]
    return Tally(statistic - sums.statistic[begin, columns], scored - sums.scored[begin, columns])


def _outstanding(tally: Tally, null_mean: Floats, null_deviation: Floats) -> Tally:
    """The tally, emptied where it is not far above the mean."""
    excess = tally.statistic - null_mean * tally.scored
    far = excess >= _FAR * null_deviation * np.sqrt(tally.scored)
    return Tally(np.where(far, tally.statistic, 0.0), np.where(far, tally.scored, 0))


def _first_equal(each: Floats, best: Floats, starts: Ints, counts: Ints) -> Ints:
    """int64[d, k]: the first row of each segment that holds its minimum."""
    number = np.arange(len(each))[:, None]
    where = np.where(each == np.repeat(best, counts, axis=0), number, len(each))
    return np.asarray(np.minimum.reduceat(where, starts, axis=0))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _best(
    statistic: Any, scored: Any, null_mean: Any, origin: Any, lengths: Any, rows: Any, starts: Any, looked_at: Any
) -> None:
    """For each document, length and key the start of the stretch with the largest standard score."""
    keys = statistic.shape[1]
    largest = np.empty(keys)
    for d in range(len(lengths)):
        begin, blocks = origin[d], lengths[d]
        for scale in range(rows[d + 1] - rows[d]):
            size = 1 << scale
            step = max(1, size // 2)
            largest[:] = -np.inf
            start, last = 0, blocks - size
            while True:
                looked_at[d] += 1
                for k in range(keys):
                    n = scored[begin + start + size, k] - scored[begin + start, k]
                    if n > 0:
                        excess = statistic[begin + start + size, k] - statistic[begin + start, k] - null_mean[k] * n
                        z = excess / np.sqrt(n)
                        if z > largest[k]:
                            largest[k] = z
                            starts[rows[d] + scale, k] = start
                if start == last:
                    break
                start = min(start + step, last)
