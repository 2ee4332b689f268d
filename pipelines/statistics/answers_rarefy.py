"""Hill numbers expected among fewer samples than were drawn, by which sources of unequal sizes are compared.

    >>> counts = np.array([400, 300, 200, 100])
    >>> [round(rarefied(counts, order, 10), 2) for order in (0, 1, 2)]
    [3.51, 3.03, 2.71]

Rarefaction takes the expected number of answers that come k times among m samples drawn without replacement, and the
Hill number of these (Chao et al., Ecol. Monogr. 84, 2014, equations 5 to 7). Two sources are comparable at equal m, or
at the m at which samples cover as much of what each would ever say (Chao & Jost, Ecology 93, 2012).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from pipelines.statistics.answers import FEW, Counts, Interval, checked, jackknife, same_interval, same_probability


def rarefied(counts: npt.ArrayLike, order: int, size: int) -> float:
    """The Hill number of order 0, 1 or 2 expected among ``size`` of the samples.

    Raises ValueError where ``size`` is not between 1 and the number of samples.
    """
    x = checked(counts, 1)
    n = int(x.sum())
    if not 1 <= size <= n:
        raise ValueError(f"size {size}: must be between 1 and the {n} samples")
    if size == 1:
        return 1.0
    if order == 2:
        return 1 / (1 / size + (size - 1) / size * same_probability(x))
    times, answers = np.unique(x, return_counts=True)
    if order == 0:
        return float(np.sum(answers * (1 - _absent(times, n, size))))
    return math.exp(sum(int(a) * _entropy_of(n, int(t), size) for t, a in zip(times, answers, strict=True)))


@lru_cache(maxsize=1 << 16)
def _entropy_of(n: int, times: int, size: int) -> float:
    """What an answer that came so many times in n is expected to add to the entropy of ``size`` samples."""
    k = np.arange(1, min(size, times) + 1)
    share = k / size
    return -float(np.sum(stats.hypergeom.pmf(k, n, times, size) * share * np.log(share)))


def at(counts: npt.ArrayLike, order: int, size: int, level: float = 0.95) -> Interval:
    """The same with limits, which stand for other samples of the source as well."""
    x = checked(counts)
    same = same_interval(x, level)
    floor, value, top = (1 / (1 / size + (size - 1) / size * s) for s in (same.high, same.value, same.low))
    if order == 2:
        return Interval(value, floor, top)
    value = rarefied(x, order, size)
    error = jackknife(x, lambda less: rarefied(less, order, min(size, int(less.sum()))))
    spread = float(stats.norm.ppf((1 + level) / 2)) * error
    low = value - spread
    if int(x.sum()) - len(x) < FEW:  # the jackknife sees too little
        low = min(low, floor)
    return Interval(value, max(1.0, low), min(float(size), value + spread))


def coverage_at(counts: npt.ArrayLike, size: int) -> float:
    """The coverage expected of ``size`` samples, fewer than there are (Chao & Jost 2012, equation 4b)."""
    x = checked(counts)
    n = int(x.sum())
    if not 0 <= size < n:
        raise ValueError(f"size {size}: must be less than the {n} samples")
    return 1 - float(np.sum(x / n * _absent(x - 1, n - 1, size)))


def size_for_coverage(counts: npt.ArrayLike, wanted: float) -> int:
    """The fewest samples that are expected to cover so much; one less than there are where none cover it."""
    x = checked(counts)
    low, high = 1, int(x.sum()) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if coverage_at(x, middle) >= wanted else (middle + 1, high)
    return low


def _absent(times: Counts, n: int, size: int) -> npt.NDArray[np.float64]:
    """C(n - times, size) / C(n, size): the probability that none of an answer's samples is among those drawn."""
    rest = n - np.asarray(times, np.float64)
    with np.errstate(invalid="ignore"):
        log = (
            special.gammaln(rest + 1)
            - special.gammaln(rest - size + 1)
            - special.gammaln(n + 1)
            + special.gammaln(n - size + 1)
        )
    return np.asarray(np.where(rest >= size, np.exp(log), 0.0), np.float64)
