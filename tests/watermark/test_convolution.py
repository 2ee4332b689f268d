from fractions import Fraction
from math import comb, log
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from watermark.convolution import EXACT_BELOW, Null, log_upper_tail
from watermark.synthid_ngrams import Statistic, depth_weights

COIN = Null.of(np.array([0.5, 0.5]))


def sum_of_fair_bits(weights: Any) -> Null:
    frequencies = np.ones(1)
    for weight in weights.tolist():
        longer = np.zeros(len(frequencies) + weight)
        longer[: len(frequencies)] += frequencies / 2
        longer[weight:] += frequencies / 2
        frequencies = longer
    return Null.of(frequencies)


def log_of(value: Fraction) -> float:
    """log of a fraction far below the smallest float."""
    bits = value.denominator.bit_length() - value.numerator.bit_length()
    return log(value * 2**bits) - bits * log(2)


def tails(counts: list[int], terms: int) -> list[Fraction]:
    """P(sum ≥ 0), P(sum ≥ 1), … by multiplying out whole numbers."""
    total = [1]
    for _ in range(terms):
        longer = [0] * (len(total) + len(counts) - 1)
        for place, value in enumerate(total):
            for step, count in enumerate(counts):
                longer[place + step] += value * count
        total = longer
    above = np.cumsum(np.array(total[::-1], dtype=object))[::-1]
    return [Fraction(int(value), sum(counts) ** terms) for value in above]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(lambda counts: counts[-1] > 0),
    st.integers(1, 12),
)
def test_small_sums_by_multiplying_out(counts: list[int], terms: int) -> None:
    expected = tails(counts, terms)
    found = log_upper_tail(Null.of(np.array(counts, float)), np.arange(len(expected)), np.full(len(expected), terms))
    for have, want in zip(found, expected, strict=True):
        assert log_of(want) - 2e-9 <= have <= log_of(want) + (1e-6 if have > -1e-6 else 2e-9)


@pytest.mark.parametrize("terms", [40, 150])
def test_a_lumpy_term_needs_the_convolution(terms: int) -> None:
    counts = [1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1]
    null = Null.of(np.array(counts, float))
    assert null.fewest_for_series > terms
    expected = tails(counts, terms)
    totals = np.arange(terms * 11 + 1)
    found = log_upper_tail(null, totals, np.full(len(totals), terms))
    assert np.allclose(found, [log_of(p) for p in expected], rtol=0, atol=2e-9)


@pytest.mark.parametrize(("depth", "terms"), [(1, 2000), (30, 200), (30, 1000)])
def test_bits_of_equal_weight_are_a_binomial_however_far_out(depth: int, terms: int) -> None:
    bits = depth * terms
    null = sum_of_fair_bits(depth_weights(depth, "mean"))
    totals = np.unique(np.linspace(0.4 * bits, bits, 60).astype(int))
    weight, above, exact = 1, 0, {}
    for ones in range(bits, int(totals[0]) - 1, -1):
        above += weight
        weight = weight * ones // (bits - ones + 1)
        exact[ones] = above
    expected = np.array([log_of(Fraction(exact[int(total)], 2**bits)) for total in totals])
    found = log_upper_tail(null, totals, np.full(len(totals), terms))
    assert expected.min() < -1380
    far = expected < EXACT_BELOW
    assert np.allclose(found[far], expected[far], rtol=1e-12, atol=1e-8)
    assert np.all(found[~far] >= expected[~far])
    assert np.all(found[~far] <= expected[~far] + 0.005)
    scipys = stats.binom.logsf(totals - 1, bits, 0.5)
    near = expected > -30
    assert np.allclose(found[near], scipys[near], rtol=0, atol=0.005)


def nulls() -> list[Null]:
    weighted = [sum_of_fair_bits(depth_weights(depth, "weighted_mean")) for depth in (2, 3, 9, 30)]
    plain = [sum_of_fair_bits(depth_weights(depth, "mean")) for depth in (1, 2, 5, 30)]
    skewed = Null.of(stats.binom.pmf(np.arange(31), 30, 0.4))
    return [*weighted, *plain, skewed, Null.of(np.array([0.502, 0.498])), Null.of(np.array([0.3, 0.3, 0.1, 0.3]))]


@pytest.mark.parametrize("null", nulls(), ids=lambda null: f"{len(null.frequencies)}")
def test_the_series_is_never_too_low_and_hardly_too_high(null: Null, monkeypatch: pytest.MonkeyPatch) -> None:
    deviation = np.sqrt(null.cumulants[1])
    for terms in {null.fewest_for_series, null.fewest_for_series + 1, 3 * null.fewest_for_series}:
        totals = np.unique(np.rint(terms * null.mean + np.linspace(-3, 2.4, 25) * deviation * np.sqrt(terms)))
        counts = np.full(len(totals), terms)
        found = log_upper_tail(null, totals, counts)
        with monkeypatch.context() as without_series:
            without_series.setattr(
                "watermark.convolution._series", lambda null, sums, terms: np.full(len(sums), -np.inf)
            )
            exact = log_upper_tail(null, totals, counts)
        assert np.any(found != exact)
        assert np.all(found >= exact)
        assert np.all(found <= exact + 0.005)


def test_numbers_below_zero_and_a_mean_that_is_set() -> None:
    shifted = log_upper_tail(Null(COIN.frequencies, -3), np.array([-150.0, -110.0, -100.0]), np.full(3, 50))
    assert np.array_equal(shifted, log_upper_tail(COIN, np.array([0.0, 40.0, 50.0]), np.full(3, 50)))
    tilted = Null.of(stats.binom.pmf(np.arange(31), 30, 0.45)).tilted_to(15.0)
    assert tilted.mean == pytest.approx(15.0, abs=1e-12)
    assert np.allclose(tilted.frequencies, stats.binom.pmf(np.arange(31), 30, 0.5), rtol=1e-10, atol=0)


def test_edges() -> None:
    assert log_upper_tail(COIN, np.array([5.0, -3.0]), np.array([0, 10])).tolist() == [0.0, 0.0]
    assert log_upper_tail(COIN, np.array([11.0, 10.0, 9.9]), np.array([10])) == pytest.approx(
        [-10 * log(2), -10 * log(2), log((comb(10, 10) + comb(10, 9)) / 1024)]
    )
    fixed = Null.of(np.array([0.0, 0.0, 1.0]))
    assert log_upper_tail(fixed, np.array([[80.0], [100.0]]), np.array([[40], [40]])).tolist() == [[0.0], [0.0]]
    assert fixed.mean == 2.0


def test_never_falls_as_the_sum_falls() -> None:
    null = sum_of_fair_bits(depth_weights(30, "mean"))
    logs = log_upper_tail(null, np.arange(0, 3001), np.full(3001, 100))
    assert np.all(np.diff(logs) <= 0)


@pytest.mark.slow
@pytest.mark.parametrize("statistic", ["mean", "weighted_mean"])
@pytest.mark.parametrize("terms", [20, 60])
def test_ten_million_draws(statistic: Statistic, terms: int) -> None:
    weights = depth_weights(30, statistic)
    rng = np.random.default_rng(terms)
    draws = np.zeros(10_000_000, np.int64)
    for weight, depths in zip(*np.unique(weights, return_counts=True), strict=True):
        draws += weight * rng.binomial(int(depths) * terms, 0.5, len(draws))
    limits = np.quantile(draws, [0.3, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999]).astype(int)
    rates = np.exp(log_upper_tail(sum_of_fair_bits(weights), limits, np.full(len(limits), terms)))
    for limit, rate in zip(limits, rates, strict=True):
        seen = stats.binomtest(int((draws >= limit).sum()), len(draws)).proportion_ci(0.9999)
        assert seen.low <= rate
        assert rate <= seen.high * 1.005
