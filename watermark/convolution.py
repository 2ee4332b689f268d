"""The upper tail of a sum of independent whole numbers of one known distribution, exact into the far tail.

A token adds a whole number to a statistic, of a known distribution under the null; the sum over n tokens then has the
n-fold convolution. A convolution by plain FFT loses everything under 1e-16. Here the distribution is first tilted
(weighted by exp(θ x)) so that the observed sum becomes the expected one; the convolution of that is well scaled where
it is read, and weighting back gives the tail to nine digits, be it 1e-2 or 1e-3000::

    >>> coin = Null.of(np.array([0.5, 0.5]))
    >>> log_upper_tail(coin, np.array([2000.0]), np.array([2000])) / np.log(2)
    array([-2000.])

Nearly all texts that are tested are not marked. Where p is above 1e-2, and the distribution of the sum is smooth, an
Edgeworth series of the fourth order takes the place of the convolution, raised by more than its error: such values are
never too low, and too high by 0.5 % at most.

Sources: exponential tilting, Cramér 1938; the series, Kolassa, Series Approximation Methods in Statistics, ch. 3; the
bound on the part left out, Chernoff 1952.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numba
import numpy as np
import scipy.fft
from scipy.special import ndtr

from watermark.windows import Floats, Ints

EXACT_BELOW = np.log(1e-2)
RAISE = np.log1p(2e-3)  # on log p: above the error of the series wherever it is used
_FEWEST = 32  # terms, below which the series is not trusted for any distribution
_LUMPS = np.log(1e-5)  # how large its characteristic function may be, away from 0, at the power n
_LEFT_OUT = 32.0  # -log of the probability that may lie outside the part of the convolution that is computed


@dataclass(frozen=True, eq=False)
class Null:
    """The distribution of one term, on ``lowest``, ``lowest`` + 1, …

    Attributes:
        frequencies: float64[w], probabilities; neither the first nor the last is 0.
        lowest: the smallest value.
    """

    frequencies: Floats
    lowest: int

    @staticmethod
    def of(frequencies: Floats, lowest: int = 0) -> Null:
        """From float64[w]: how often ``lowest``, ``lowest`` + 1, … occurs, in any unit."""
        present = np.flatnonzero(frequencies)
        frequencies = frequencies[present[0] : present[-1] + 1] / frequencies.sum()
        return Null(frequencies, lowest + int(present[0]))

    def tilted_to(self, mean: float) -> Null:
        """The nearest distribution (in relative entropy) on the same numbers that has this mean."""
        values = np.arange(len(self.frequencies)) + self.lowest - mean
        frequencies, theta = self.frequencies, 0.0
        for _ in range(20):
            gap = float(frequencies @ values)
            theta -= gap / float(frequencies @ values**2) if gap else 0.0
            frequencies = self.frequencies * np.exp(theta * values)
            frequencies /= frequencies.sum()
        return Null(frequencies, self.lowest)

    @cached_property
    def mean(self) -> float:
        """The expectation of a term."""
        return self.lowest + float(self.frequencies @ np.arange(len(self.frequencies)))

    @cached_property
    def cumulants(self) -> Floats:
        """float64[5]: the second to the fifth cumulant of a term, behind its mean."""
        away = np.arange(len(self.frequencies)) + self.lowest - self.mean
        m2, m3, m4, m5 = (float(self.frequencies @ away**power) for power in (2, 3, 4, 5))
        return np.array([self.mean, m2, m3, m4 - 3 * m2**2, m5 - 10 * m3 * m2])

    @cached_property
    def fewest_for_series(self) -> int:
        """How many terms it takes until the sum has no lumps that a smooth density would miss."""
        if len(self.frequencies) == 1:
            return 1 << 62
        size = scipy.fft.next_fast_len(8 * len(self.frequencies), real=True)
        spectrum = np.abs(scipy.fft.rfft(self.frequencies, size))
        beyond = int(size / (2 * np.pi) / np.sqrt(self.cumulants[1]))
        largest = spectrum[beyond:].max(initial=0.0)
        return max(_FEWEST, int(min(_LUMPS / np.log(min(largest, 1 - 1e-12)), 1 << 62))) if largest > 0 else _FEWEST


def log_upper_tail(null: Null, totals: Floats, counts: Ints) -> Floats:
    """Natural logarithm of P(sum of ``counts`` terms ≥ ``totals``), element by element.

    Args:
        null: the distribution of a term.
        totals: observed sums; between two whole numbers the lower counts, and above the largest possible sum that.
        counts: how many terms each sum has; the result is 0 where there is none.
    """
    shape = np.broadcast_shapes(np.shape(totals), np.shape(counts))
    terms = np.broadcast_to(np.asarray(counts, np.int64), shape).reshape(-1)
    highest = terms * (null.lowest + len(null.frequencies) - 1)
    sums = np.minimum(np.floor(np.broadcast_to(totals, shape).reshape(-1)), highest).astype(np.int64)
    logs = np.full(len(sums), -np.inf)
    smooth = terms >= null.fewest_for_series
    logs[smooth] = _series(null, sums[smooth], terms[smooth])
    rest = np.flatnonzero(logs < EXACT_BELOW)
    if len(rest):
        pairs, back = np.unique(np.stack([sums[rest], terms[rest]], axis=1), axis=0, return_inverse=True)
        logs[rest] = np.array([_exact(null, total, count) for total, count in pairs.tolist()])[back.reshape(-1)]
    return logs.reshape(shape)


def _series(null: Null, sums: Ints, terms: Ints) -> Floats:
    """An upper bound on log P(sum ≥ sums) where that is not small: the Edgeworth series with all terms to 1/n^(3/2).

    Of a smooth density that gives the sum's probabilities at whole numbers, the integral from ``sums - 1/2`` and the
    sum from ``sums`` on differ as if a uniform variable on (-1/2, 1/2) were taken away: Sheppard's corrections.
    """
    mean, k2, k3, k4, k5 = null.cumulants
    deviation = np.sqrt(terms * k2 - 1 / 12)
    z = (sums - 0.5 - terms * mean) / deviation
    l3, l4, l5 = terms * k3 / deviation**3, (terms * k4 + 1 / 120) / deviation**4, terms * k5 / deviation**5
    he: list[Floats] = [np.ones_like(z), z]
    for order in range(1, 8):
        he.append(z * he[-1] - order * he[-2])
    tail = l3 / 6 * he[2] + l4 / 24 * he[3] + l3**2 / 72 * he[5]
    tail += l5 / 120 * he[4] + l3 * l4 / 144 * he[6] + l3**3 / 1296 * he[8]
    p = ndtr(-z) + np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * tail
    return np.asarray(np.minimum(np.log(np.maximum(p, 1e-300)) + RAISE, 0.0))


def _exact(null: Null, total: int, count: int) -> float:
    """log P(sum of ``count`` terms ≥ ``total``) by tilting and FFT, to about 1e-9 of the probability."""
    largest = len(null.frequencies) - 1
    total -= count * null.lowest
    if total <= 0:
        return 0.0
    if total >= count * largest:
        return count * float(np.log(null.frequencies[-1]))
    mean, k2 = null.mean - null.lowest, null.cumulants[1]
    if total < count * mean - 6 * np.sqrt(count * k2):
        return 0.0
    theta = max(_tilt(null.frequencies, total / count, k2), 1 / np.sqrt(count * k2))
    log_scale, tilted, variance = _tilted(null.frequencies, theta)
    # Chernoff's bound with these exponents is near its best; the tilt away from theta can be any number above 0.
    away = np.sqrt(2 * _LEFT_OUT / (count * variance))
    upper = (count * (_tilted(null.frequencies, theta + away)[0] - log_scale) + _LEFT_OUT) / away
    lower = -(count * (_tilted(null.frequencies, theta - away)[0] - log_scale) + _LEFT_OUT) / away
    first = min(max(int(np.floor(lower)), 0), total)
    last = max(min(int(np.ceil(upper)), count * largest), total)
    size = scipy.fft.next_fast_len(last - first + 1, real=True)
    folded = np.zeros(-(-len(tilted) // size) * size)
    folded[: len(tilted)] = tilted
    spectrum = scipy.fft.rfft(folded.reshape(-1, size).sum(axis=0))
    _raise(spectrum, count)
    density = scipy.fft.irfft(spectrum, size)
    sums = np.arange(total, last + 1)
    reached = float(density[sums % size] @ np.exp(-theta * (sums - total)))
    return float(min(count * log_scale - theta * total + np.log(max(reached, 1e-300)), 0.0))


def _tilted(frequencies: Floats, theta: float) -> tuple[float, Floats, float]:
    """log E exp(θ X), the distribution with the weight exp(θ x), and its variance."""
    values = np.arange(len(frequencies))
    pivot = len(frequencies) - 1 if theta > 0 else 0
    weighted = frequencies * np.exp(theta * (values - pivot))
    total = float(weighted.sum())
    weighted /= total
    mean = float(weighted @ values)
    return theta * pivot + float(np.log(total)), weighted, float(weighted @ (values - mean) ** 2)


def _tilt(frequencies: Floats, target: float, variance: float) -> float:
    """θ under which the mean is near ``target``: Newton's steps inside a bracket that bisection keeps shrinking."""
    values = np.arange(len(frequencies))
    mean = float(frequencies @ values)
    low, high, theta = 0.0, np.inf, max((target - mean) / variance, 0.0)
    for _ in range(60):
        _, weighted, spread = _tilted(frequencies, theta)
        gap = target - float(weighted @ values)
        if gap**2 <= 1e-4 * spread or theta == 0.0:
            break
        low, high = (theta, high) if gap > 0 else (low, theta)
        step = theta + gap / spread if spread > 0 else np.inf
        theta = (
            step
            if low < step < min(high, 2 * theta + 1 / len(values))
            else ((low + high) / 2 if high < np.inf else 2 * theta)
        )
    return theta


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _raise(spectrum: Any, power: int) -> None:
    """Each number to ``power``, in place; what vanishes against 1 is set to 0 without being computed."""
    least = np.exp(-90.0 / power)
    for place in range(len(spectrum)):
        value = spectrum[place]
        if value.real * value.real + value.imag * value.imag < least:
            spectrum[place] = 0.0
            continue
        result = complex(1.0, 0.0)
        exponent = power
        while exponent:
            if exponent & 1:
                result *= value
            value *= value
            exponent >>= 1
        spectrum[place] = result
