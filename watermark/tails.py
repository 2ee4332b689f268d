"""Exact upper tails of the binomial and the hypergeometric distribution, as logarithms that do not underflow.

    >>> float(binomial_log_sf(np.array([50]), np.array([100]), 0.25)[0])  # P(X >= 50) = 6.638e-08
    -16.527...
    >>> round(float(binomial_log_sf(np.array([100_000]), np.array([100_000]), 0.25)[0]), 3)
    -138629.436
    >>> round(float(np.exp(hypergeometric_log_sf(np.array([4]), 10, 5, np.array([4]))[0])), 6)  # 5 / 210
    0.02381

The probability of the boundary value is taken in the deviance form of Loader ("Fast and accurate computation of
binomial probabilities", 2000), free of cancellation; the rest of the tail follows by the ratios of neighbouring terms.
Above the mean the upper tail is summed, below it the lower one and its complement taken.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
_SMALL = 16
# log(n!) minus Stirling's approximation of it; from 16 on a series gives it.
_STIRLING_ERRORS = np.array(
    [0.0] + [math.log(math.factorial(n)) - (n + 0.5) * math.log(n) + n - _HALF_LOG_2PI for n in range(1, _SMALL)],
)


def binomial_log_sf(k: npt.ArrayLike, n: npt.ArrayLike, p: float) -> Floats:
    """float64[...]: log P(X >= k) for X ~ Binomial(n, p); k and n are integers that broadcast.

    0 where k <= 0, minus infinity where k > n. Relative error below 1e-9.

    Raises:
        ValueError: p is not strictly between 0 and 1, or an n is negative.
    """
    if not 0.0 < p < 1.0:
        raise ValueError(f"p: {p}, allowed is 0 < p < 1")
    k, n = np.broadcast_arrays(np.asarray(k, np.int64), np.asarray(n, np.int64))
    if np.any(n < 0):
        raise ValueError(f"n: {n.min()}, allowed are numbers from 0")
    tails = np.empty(k.shape)
    _binomial_tails(np.ascontiguousarray(k).ravel(), np.ascontiguousarray(n).ravel(), p, tails.reshape(-1))
    return tails


def hypergeometric_log_sf(k: npt.ArrayLike, population: int, successes: int, n: npt.ArrayLike) -> Floats:
    """float64[...]: log P(X >= k), X the successes among n draws without replacement; k and n broadcast.

    0 where k is at most the least possible value, minus infinity where it is above the greatest; relative error below
    1e-9.

    Raises:
        ValueError: the successes are not in 0 … population, or an n is not.
    """
    if not 0 <= successes <= population:
        raise ValueError(f"successes: {successes}, allowed are 0 to {population}")
    k, n = np.broadcast_arrays(np.asarray(k, np.int64), np.asarray(n, np.int64))
    if np.any((n < 0) | (n > population)):
        raise ValueError(f"n: {n.min()} to {n.max()}, allowed are 0 to {population}")
    tails = np.empty(k.shape)
    draws = np.ascontiguousarray(n).ravel()
    _hypergeometric_tails(np.ascontiguousarray(k).ravel(), population, successes, draws, tails.reshape(-1))
    return tails


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _stirling_error(n: float) -> float:
    if n < _SMALL:
        return _STIRLING_ERRORS[int(n)]  # type: ignore[no-any-return]
    m = n * n
    return (1 / 12 - (1 / 360 - (1 / 1260 - (1 / 1680 - 1 / 1188 / m) / m) / m) / m) / n


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _deviance(x: float, mean: float) -> float:
    """x log(x / mean) + mean - x, without cancellation where the two are close."""
    if x == 0.0:
        return mean
    if abs(x - mean) >= 0.1 * (x + mean):
        return x * math.log(x / mean) + mean - x
    v = (x - mean) / (x + mean)
    total = (x - mean) * v
    term = 2.0 * x * v
    for j in range(1, 1000):
        term *= v * v
        added = total + term / (2 * j + 1)
        if added == total:
            break
        total = added
    return total


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _binomial_log_pmf(x: float, n: float, p: float, q: float) -> float:
    if x == 0.0:
        return n * (math.log1p(-p) if p < 0.5 else math.log(q))
    if x == n:
        return n * (math.log(p) if p < 0.5 else math.log1p(-q))
    errors = _stirling_error(n) - _stirling_error(x) - _stirling_error(n - x)
    deviances = _deviance(x, n * p) + _deviance(n - x, n * q)
    return errors - deviances - _HALF_LOG_2PI - 0.5 * (math.log(x) + math.log1p(-x / n))  # type: ignore[no-any-return]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _complement(log_p: float) -> float:
    """log(1 - exp(log_p))."""
    if log_p >= 0.0:
        return -math.inf
    return math.log1p(-math.exp(log_p)) if log_p < -0.7 else math.log(-math.expm1(log_p))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _binomial_tail(k: int, n: int, p: float) -> float:
    if k <= 0:
        return 0.0
    if k > n:
        return -math.inf
    q = 1.0 - p
    upper = k > n * p
    x = k if upper else k - 1
    log_pmf = _binomial_log_pmf(float(x), float(n), p, q)
    term, total = 1.0, 1.0
    odds = p / q
    while term > 1e-17 * total:
        if upper:
            term *= (n - x) / (x + 1.0) * odds
            x += 1
        else:
            term *= x / (n - x + 1.0) / odds
            x -= 1
        total += term
    log_tail = log_pmf + math.log(total)
    return log_tail if upper else _complement(log_tail)  # type: ignore[no-any-return]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _hypergeometric_log_pmf(x: float, population: float, successes: float, n: float) -> float:
    failures = population - successes
    if n == 0.0 or n == population or successes == 0.0 or failures == 0.0:
        return 0.0
    p, q = n / population, (population - n) / population
    # A hypergeometric probability is one of two binomials given their sum; the p of the binomials is free.
    among = _binomial_log_pmf(x, successes, p, q) + _binomial_log_pmf(n - x, failures, p, q)
    return among - _binomial_log_pmf(n, population, p, q)  # type: ignore[no-any-return]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _hypergeometric_tail(k: int, population: int, successes: int, n: int) -> float:
    failures = population - successes
    if k <= max(0, n - failures):
        return 0.0
    if k > min(n, successes):
        return -math.inf
    upper = k * float(population) > n * float(successes)
    x = k if upper else k - 1
    log_pmf = _hypergeometric_log_pmf(float(x), float(population), float(successes), float(n))
    term, total = 1.0, 1.0
    while term > 1e-17 * total:
        if upper:
            term *= (successes - x) / (x + 1.0) * ((n - x) / (failures - n + x + 1.0))
            x += 1
        else:
            term *= x / (successes - x + 1.0) * ((failures - n + x) / (n - x + 1.0))
            x -= 1
        total += term
    log_tail = log_pmf + math.log(total)
    return log_tail if upper else _complement(log_tail)  # type: ignore[no-any-return]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _binomial_tails(k: Ints, n: Ints, p: float, tails: Floats) -> None:
    for i in range(len(k)):
        tails[i] = min(_binomial_tail(k[i], n[i], p), 0.0)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _hypergeometric_tails(k: Ints, population: int, successes: int, n: Ints, tails: Floats) -> None:
    for i in range(len(k)):
        tails[i] = min(_hypergeometric_tail(k[i], population, successes, n[i]), 0.0)
