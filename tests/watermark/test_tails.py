"""Tails against exact rational arithmetic, and against scipy where that is finite."""

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from watermark.tails import binomial_log_sf, hypergeometric_log_sf


def log(ratio: Fraction) -> float:
    with localcontext(prec=400):
        return float((Decimal(ratio.numerator) / Decimal(ratio.denominator)).ln())


def exact_binomial(k: int, n: int, green: int, vocab_size: int) -> float:
    tail = sum(math.comb(n, j) * green**j * (vocab_size - green) ** (n - j) for j in range(k, n + 1))
    return log(Fraction(tail, vocab_size**n))


def exact_hypergeometric(k: int, population: int, successes: int, n: int) -> float:
    tail = sum(math.comb(successes, j) * math.comb(population - successes, n - j) for j in range(k, n + 1))
    return log(Fraction(tail, math.comb(population, n)))


@pytest.mark.parametrize(("green", "vocab_size"), [(1, 4), (12564, 50257), (9, 10), (1, 1000)])
def test_binomial_tails_are_exact(green: int, vocab_size: int) -> None:
    for n in (1, 2, 3, 15, 16, 17, 40, 333):
        for k in sorted({1, 2, n // 4, n // 2, n - 1, n} - {0}):
            expected = exact_binomial(k, n, green, vocab_size)
            assert float(binomial_log_sf(k, n, green / vocab_size)) == pytest.approx(expected, rel=1e-11, abs=1e-300)


@pytest.mark.parametrize(("k", "n"), [(900, 1000), (700, 1000), (251, 1000), (3000, 3000)])
def test_far_binomial_tails_are_exact(k: int, n: int) -> None:
    assert float(binomial_log_sf(k, n, 12564 / 50257)) == pytest.approx(exact_binomial(k, n, 12564, 50257), rel=1e-11)


@pytest.mark.parametrize("p", [0.001, 0.25, 0.5, 0.9])
def test_binomial_tails_are_those_of_scipy(p: float) -> None:
    rng = np.random.default_rng(1)
    n = rng.integers(1, 100_000, 3000)
    k = np.clip((n * p + rng.normal(size=len(n)) * 6 * np.sqrt(n * p * (1 - p))).astype(int), 0, n)
    theirs = stats.binom.logsf(k - 1, n, p)
    compared = np.isfinite(theirs) & (theirs < -1e-6)
    assert compared.sum() > 1000
    np.testing.assert_allclose(binomial_log_sf(k, n, p)[compared], theirs[compared], rtol=1e-9)


@pytest.mark.parametrize(
    ("population", "successes"), [(10, 5), (40, 13), (1000, 250), (50257, 25128), (20, 0), (20, 20)]
)
def test_hypergeometric_tails_are_exact(population: int, successes: int) -> None:
    for n in {0, 1, 2, 7, min(population, 300), population} - ({population} if population > 1000 else set()):
        least, most = max(0, n - population + successes), min(n, successes)
        for k in sorted({least + 1, (least + most) // 2, n * successes // population, most}):
            if not least < k <= most:
                continue
            expected = exact_hypergeometric(k, population, successes, n)
            found = float(hypergeometric_log_sf(k, population, successes, n))
            assert found == pytest.approx(expected, rel=1e-10, abs=1e-300), (k, n)


def test_beyond_the_ends() -> None:
    assert binomial_log_sf([-1, 0, 4], [3, 3, 3], 0.5).tolist() == [0.0, 0.0, -math.inf]
    assert hypergeometric_log_sf([0, 1, 2, 3, 4], 10, 9, 3).tolist()[:3] == [0.0, 0.0, 0.0]
    assert hypergeometric_log_sf(4, 10, 9, 3) == -math.inf
    assert binomial_log_sf(np.zeros((2, 0)), np.zeros((2, 0)), 0.5).shape == (2, 0)
    assert float(binomial_log_sf(10**6, 10**6, 0.25)) == pytest.approx(10**6 * math.log(0.25), rel=1e-14)


def test_the_binomial_is_conservative_for_lists_without_replacement() -> None:
    """The sum of hypergeometrics over the seeds of a document, enumerated, from one above the mean on."""
    vocab_size, green = 60, 15
    for draws in ([1] * 20, [5, 5, 5, 5], [20], [30, 1, 1], [60, 60], [2, 9, 40]):
        pmf = np.ones(1)
        for n in draws:
            pmf = np.convolve(pmf, stats.hypergeom(vocab_size, green, n).pmf(np.arange(n + 1)))
        total, mean = sum(draws), sum(draws) * green / vocab_size
        for k in range(math.ceil(mean + 1), total + 1):
            assert pmf[k:].sum() <= math.exp(binomial_log_sf(k, total, green / vocab_size)) * (1 + 1e-9) + 1e-15


def test_what_makes_no_sense_is_refused() -> None:
    for p in (0.0, 1.0, -0.1):
        with pytest.raises(ValueError, match=r"^p:"):
            binomial_log_sf(1, 2, p)
    with pytest.raises(ValueError, match=r"^n:"):
        binomial_log_sf(1, -2, 0.5)
    with pytest.raises(ValueError, match=r"^successes:"):
        hypergeometric_log_sf(1, 5, 6, 2)
    with pytest.raises(ValueError, match=r"^n:"):
        hypergeometric_log_sf(1, 5, 3, 6)
