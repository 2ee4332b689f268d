"""Whether two distributions differ, and quantiles, from histograms of whole counts that merge by addition.

    before, after = state_before.surprisal, state_after.surprisal      # (groups, bins)
    two_sample(before.sum(axis=0), after.sum(axis=0))                  # documents are independent of each other
    two_sample_by_group(before, after)                                 # only the groups are
    quantiles(after.sum(axis=0), [0.1, 0.5, 0.9]) / BINS_PER_BIT

Values within a bin count as equal. The Kolmogorov-Smirnov statistic of binned values is at most that of the values, so
the p-value is conservative; with bins far narrower than the distribution the loss is slight.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from scipy import stats

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float64]

MOST_GROUPS = 8  # a side: 12,870 ways to share out 16 groups
_EXACT = 2000  # values on the larger side
_ROUNDING = 1e-12


class Drift(NamedTuple):
    """The largest distance between two cumulative distributions, 0 to 1, and how likely it is without a difference."""

    statistic: float
    p_value: float


def two_sample(first: Int, second: Int) -> Drift:
    """The two-sided Kolmogorov-Smirnov test of two histograms, whose values are independent of each other.

    The p-value is exact for values without ties, hence conservative here, up to 2,000 values a side, and beyond that
    the one of Kolmogorov's distribution for ``n m / (n + m)`` values (Hodges, Ark. Mat. 3, 1958), as in
    ``scipy.stats.ks_2samp``. NaN where a side is empty.

    Args:
        first, second: (bins,) counts in the same bins.

    Raises ValueError where the bins differ in number or a count is negative.
    """
    first, second = _checked(first[None]), _checked(second[None])
    if first.shape != second.shape:
        raise ValueError(f"the histograms have {first.size} and {second.size} bins; they must be the same ones")
    n, m = int(first.sum()), int(second.sum())
    if not n or not m:
        return Drift(float("nan"), float("nan"))
    distance = float(np.abs(np.cumsum(first) / n - np.cumsum(second) / m).max())
    if max(n, m) <= _EXACT:
        bins = np.arange(first.size)
        exact = stats.ks_2samp(np.repeat(bins, first[0]), np.repeat(bins, second[0]), method="exact")
        return Drift(distance, float(exact.pvalue))
    return Drift(distance, float(np.clip(stats.kstwo.sf(distance, np.round(n / (n + m) * m)), 0, 1)))


def two_sample_by_group(first: Int, second: Int) -> Drift:
    """A permutation test of two corpora in groups, which holds where documents of one group resemble each other.

    The statistic is the largest distance between the two means of the groups' cumulative distributions, each group
    with the same weight; the p-value is the share of all ways to share out the groups between two sides of these sizes
    that give at least this distance. It is exact where groups of both sides are exchangeable without a difference, and,
    with equally many groups a side, nearly so where those of one side vary more, such as by being smaller (Romano, JASA
    85, 1990). It can be no smaller than 2 / 12,870 with 8 groups a side.

    It guards against what groups have in common and no more. Documents of one host resemble each other: only groups
    that hold whole hosts allow for that; groups by a hash of the document do not.

    Args:
        first, second: (groups, bins) counts in the same bins, at most 8 groups each. Empty groups are left out.

    Returns NaN as p-value where a side has fewer than two groups, and as statistic where it has none.
    Raises ValueError where the bins differ in number, a count is negative or there are more groups.
    """
    first, second = _checked(first), _checked(second)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"the histograms have {first.shape[1]} and {second.shape[1]} bins; they must be the same ones")
    if max(len(first), len(second)) > MOST_GROUPS:
        raise ValueError(f"{max(len(first), len(second))} groups; at most {MOST_GROUPS} a side")
    first, second = first[first.sum(axis=1) > 0], second[second.sum(axis=1) > 0]
    if not len(first) or not len(second):
        return Drift(float("nan"), float("nan"))
    groups = np.concatenate([first, second])
    cumulative = np.cumsum(groups, axis=1) / groups.sum(axis=1, keepdims=True)
    cumulative = cumulative[:, groups.any(axis=0)]
    distances = np.empty(comb(len(groups), len(first)))
    _distances(np.ascontiguousarray(cumulative), len(first), distances)
    p_value = float((distances >= distances[0] - _ROUNDING).mean()) if min(len(first), len(second)) > 1 else np.nan
    return Drift(float(distances[0]), p_value)


@numba.njit(cache=True, nogil=True)
def _distances(cumulative, first, distances):  # type: ignore[no-untyped-def]
    """The distance for each way to choose ``first`` groups as one side; the way that they are is the first one."""
    groups, bins = cumulative.shape
    # Half-sums of all subsets of either half of the groups: a way is then one addition a bin.
    low = np.zeros((1 << (groups // 2), bins))
    high = np.zeros((1 << (groups - groups // 2), bins))
    _subset_sums(cumulative[: groups // 2], low)
    _subset_sums(cumulative[groups // 2 :], high)
    at = 0
    for way in range(1 << groups):
        members, rest = 0, way
        while rest:
            rest &= rest - 1
            members += 1
        if members != first:
            continue
        one, other = way & (len(low) - 1), way >> (groups // 2)
        largest = 0.0
        for bin_ in range(bins):
            chosen = low[one, bin_] + high[other, bin_]
            rest_of = low[-1, bin_] + high[-1, bin_] - chosen
            largest = max(largest, abs(chosen / first - rest_of / max(groups - first, 1)))
        distances[at] = largest
        at += 1


@numba.njit(cache=True, nogil=True)
def _subset_sums(rows, sums):  # type: ignore[no-untyped-def]
    for subset in range(1, len(sums)):
        last = 0
        while not subset >> last & 1:
            last += 1
        for bin_ in range(rows.shape[1]):
            sums[subset, bin_] = sums[subset & (subset - 1), bin_] + rows[last, bin_]


def quantiles(histogram: Int, probabilities: Sequence[float]) -> Float:
    """Quantiles in units of bins: linear within the bin that holds the value of rank ``probability · n``.

    The quantile of the values themselves lies in the same bin, so the error is below one bin at any number of values,
    and merging adds none. NaN without a value.

    Args:
        histogram: (bins,) counts.
        probabilities: (q,) from 0 to 1.

    Returns: (q,) float64, from 0 to the number of bins.
    Raises ValueError for a probability beyond 0 and 1 or a negative count.
    """
    counts = _checked(histogram[None])[0]
    wanted = np.asarray(probabilities, np.float64)
    if not ((wanted >= 0) & (wanted <= 1)).all():
        raise ValueError(f"probabilities {wanted.tolist()} are not all between 0 and 1")
    total = int(counts.sum())
    if not total:
        return np.full(len(wanted), np.nan)
    ranks = wanted * total
    upto = np.cumsum(counts)
    at = np.minimum(np.searchsorted(upto, np.maximum(np.ceil(ranks), 1)), len(counts) - 1)
    within: Float = np.clip((ranks - (upto[at] - counts[at])) / counts[at], 0, 1)
    return at + within


def _checked(counts: Int) -> Int:
    if counts.ndim != 2 or (counts < 0).any():
        raise ValueError(f"a histogram holds counts from 0, one a bin; this one is of shape {counts.shape[1:]}")
    return counts
