"""Many tests at once: e-values that merge, and the false discovery rate.

An e-value is a non-negative number that is at most 1 on average where nothing is marked; large ones are evidence.
Unlike p-values, e-values of tests that depend on each other may be averaged, and the false discovery rate holds under
any dependence (e-BH). Everything is in natural logarithms::

    >>> log_p = np.array([-60.0, -45.0, -0.4, -1.2])
    >>> candidates = Candidates.of(log_e_value(log_p), level=0.01)
    >>> threshold = candidates.merge(Candidates.of(log_e_value(np.full(10_000, -0.5)), level=0.01)).threshold()
    >>> (log_e_value(log_p) >= threshold).tolist()
    [True, True, False, False]

Sources: Vovk and Wang, "E-values: calibration, combination and applications" (Annals of Statistics, 2021), sections 2
to 4; Wang and Ramdas, "False discovery rate control with e-values" (JRSS B, 2022); Benjamini and Hochberg (1995).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from watermark.windows import Floats

_NEAR = 1.0  # below it the closed form loses digits, and 17 terms of the series are exact
_TERMS = 1.0 / special.factorial(np.arange(2, 19))


def log_e_value(log_p: ArrayLike) -> Floats:
    """Natural logarithm of the e-value ∫₀¹ κ p^(κ-1) dκ = (1 - p + p ln p) / (p ln² p), the shape of ``log_p``.

    It needs no choice of a power, falls in p, is 1/2 at p = 1, and averages 1 over a uniform p.

    Raises:
        ValueError: a logarithm above 0, or one that is not a number.
    """
    x = -np.asarray(log_p, np.float64)
    if not np.all(x >= 0):
        raise ValueError("log p-values must be numbers and at most 0")
    near = np.minimum(x, _NEAR)
    series = np.log(np.polynomial.polynomial.polyval(near, _TERMS))  # (eˣ - 1 - x) / x²
    far = np.maximum(x, _NEAR)
    closed = far + np.log1p(-(1.0 + far) * np.exp(-far)) - 2.0 * np.log(far)
    return np.asarray(np.where(x < _NEAR, series, closed))


def merge(log_e: ArrayLike, axis: int | None = None) -> Floats:
    """Natural logarithm of the mean of e-values: an e-value whatever the dependence (over keys, say)."""
    log_e = np.asarray(log_e, np.float64)
    count = log_e.size if axis is None else log_e.shape[axis]
    if not count:
        raise ValueError("there is no e-value to merge")
    return np.asarray(special.logsumexp(log_e, axis=axis) - np.log(count))


def product(log_e: ArrayLike, axis: int | None = None) -> Floats:
    """Natural logarithm of the product of e-values: an e-value where the tests are independent, and nowhere else.

    Many documents of one host, none of them significant, add up here and not in the mean. Documents that share text are
    not independent under a fixed key: keep one of each group of near-duplicates.
    """
    return np.asarray(np.sum(np.asarray(log_e, np.float64), axis=axis))


def e_bh(log_e: ArrayLike, level: float, tests: int | None = None) -> float:
    """The e-BH procedure: tests with a log e-value at or above the returned threshold are discoveries.

    Args:
        log_e: natural logarithms; those below ``-log(level)`` may be left out.
        level: the false discovery rate to hold, under any dependence between the tests.
        tests: how many tests there were in all; the number of ``log_e`` by default.

    Returns:
        log(tests / (level · k)) for the largest k of which k e-values reach it; ``inf`` where there is none.

    Raises:
        ValueError: a level outside (0, 1), or more e-values than tests.
    """
    ordered = np.sort(np.ravel(np.asarray(log_e, np.float64)))[::-1]
    number = _check(ordered, level, tests)
    thresholds = np.log(number) - np.log(level) - np.log(np.arange(1, len(ordered) + 1))
    passed = np.flatnonzero(ordered >= thresholds)
    return float(thresholds[passed[-1]]) if len(passed) else np.inf


def benjamini_hochberg(log_p: ArrayLike, level: float, tests: int | None = None) -> float:
    """The Benjamini-Hochberg procedure: tests with a log p-value at or below the returned one are discoveries.

    It holds the rate for tests that are independent or positively dependent; ``e_bh`` for all.

    Args:
        log_p: natural logarithms; those above ``log(level)`` may be left out.
        level: the false discovery rate to hold.
        tests: how many tests there were in all; the number of ``log_p`` by default.

    Returns:
        log(level · k / tests) for the largest k of which k p-values reach it; ``-inf`` where there is none.

    Raises:
        ValueError: a level outside (0, 1), or more p-values than tests.
    """
    return -e_bh(-np.asarray(log_p, np.float64), level, tests)


@dataclass(frozen=True, eq=False)
class Candidates:
    """What e-BH needs to know of any number of tests; the merge of two is commutative and associative.

    Only e-values of at least 1/level are kept, since no other can be a discovery. Where nothing is marked that is a
    share of at most ``level`` of all tests, and far less for p-values that were turned into e-values.

    Attributes:
        level: the false discovery rate to hold.
        log_e: float64[c], ascending.
        tests: how many tests were seen.
    """

    level: float
    log_e: Floats
    tests: int

    @classmethod
    def of(cls, log_e: ArrayLike, level: float) -> Candidates:
        """Those among the e-values of all of some tests."""
        log_e = np.ravel(np.asarray(log_e, np.float64))
        _check(log_e, level, None)
        return cls(level, np.sort(log_e[log_e >= _floor(level)]), len(log_e))

    def add(self, log_e: ArrayLike) -> Candidates:
        """These and those among the e-values of further tests."""
        return self.merge(Candidates.of(log_e, self.level))

    def merge(self, *others: Candidates) -> Candidates:
        """All tests of several accumulators; one call with many is one sort."""
        parts = (self, *others)
        if any(part.level != self.level for part in parts):
            raise ValueError("candidates for different levels do not merge")
        log_e = np.sort(np.concatenate([part.log_e for part in parts]), kind="stable")
        return Candidates(self.level, log_e, sum(part.tests for part in parts))

    def threshold(self) -> float:
        """The log e-value from which on tests are discoveries (``e_bh``)."""
        return e_bh(self.log_e, self.level, self.tests)


def _floor(level: float) -> float:
    """1/level, less what rounding may take: a candidate too many does no harm."""
    return float(-np.log(level) - 1e-9)


def _check(values: Floats, level: float, tests: int | None) -> int:
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1")
    if np.any(np.isnan(values)):
        raise ValueError("a p-value or e-value is not a number")
    number = len(values) if tests is None else tests
    if number < len(values):
        raise ValueError(f"{len(values)} values were given for {number} tests")
    return max(number, 1)
