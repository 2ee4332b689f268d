from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from watermark.calibration import Null, Options, apply, calibrate, fit, fit_buckets, measure_shift, without_shift
from watermark.exponential import log_gamma_tail
from watermark.textseal import log_binomial_tail

GAMMA = 0.25
LEVELS = (1e-2, 1e-3, 1e-4)


def exact(statistic: np.ndarray, scored: np.ndarray) -> np.ndarray:
    return log_binomial_tail(statistic, scored, GAMMA)


def population(
    rng: np.random.Generator, documents: int, bias: float = 0.0, spread: float = 0.0, longest: int = 1500
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Green counts of documents in groups of four; a document's share of green tokens is Beta-distributed."""
    scored = np.exp(rng.uniform(np.log(60), np.log(longest), documents)).astype(np.int64)
    mean = GAMMA + bias
    if spread:
        both = mean * (1 - mean) / spread**2 - 1
        share = rng.beta(mean * both, (1 - mean) * both, documents)
    else:
        share = np.full(documents, mean)
    return rng.binomial(scored, share).astype(float), scored, np.arange(documents) // 4


def exceeds(hits: int, tests: int, level: float) -> bool:
    """Whether the Clopper-Pearson interval (99.9 %) lies above the level."""
    return bool(stats.binomtest(hits, tests, level, alternative="greater").pvalue < 1e-3)


@cache
def null_of(bias: float, spread: float, documents: int = 20_000, seed: int = 0) -> Null:
    return fit(*population(np.random.default_rng(seed), documents, bias, spread), exact, GAMMA)


@pytest.mark.parametrize(("bias", "spread"), [(0.012, 0.0), (0.0, 0.02), (0.012, 0.02), (-0.01, 0.03)])
def test_rates_on_fresh_documents_hold_after_calibration_and_do_not_before(bias: float, spread: float) -> None:
    statistic, scored, _ = population(np.random.default_rng(1), 200_000, bias, spread)
    raw, log_p = exact(statistic, scored), apply(null_of(bias, spread), statistic, scored, exact)
    for level in LEVELS:
        assert exceeds(int(np.sum(raw <= np.log(level))), len(raw), level)
        assert not exceeds(int(np.sum(log_p <= np.log(level))), len(raw), level)
    assert np.sum(log_p <= np.log(1e-2)) > 0.4e-2 * len(raw)


@pytest.mark.parametrize("length", [80, 300, 1200])
def test_rates_hold_for_documents_of_one_length(length: int) -> None:
    """The corpus has all lengths; a bias or a spread weighs most in the long ones."""
    rng = np.random.default_rng(2)
    both = GAMMA * (1 - GAMMA) / 0.02**2 - 1
    scored = np.full(100_000, length)
    statistic = rng.binomial(scored, rng.beta(GAMMA * both, (1 - GAMMA) * both, scored.shape)).astype(float)
    log_p = apply(null_of(0.0, 0.02), statistic, scored, exact)
    for level in LEVELS[1:]:
        assert not exceeds(int(np.sum(log_p <= np.log(level))), len(log_p), 1.5 * level)


def test_rates_hold_for_documents_longer_than_any_of_the_corpus() -> None:
    """Their own deviation does not shrink with length; the exact p-value takes it for a mark."""
    rng = np.random.default_rng(3)
    both = GAMMA * (1 - GAMMA) / 0.02**2 - 1
    scored = np.full(50_000, 20_000)
    statistic = rng.binomial(scored, rng.beta(GAMMA * both, (1 - GAMMA) * both, scored.shape)).astype(float)
    assert np.mean(exact(statistic, scored) <= np.log(1e-4)) > 0.1
    log_p = apply(null_of(0.0, 0.02), statistic, scored, exact)
    for level in LEVELS:
        assert not exceeds(int(np.sum(log_p <= np.log(level))), len(log_p), level)


def test_rates_hold_for_a_sum_of_exponentials() -> None:
    rng = np.random.default_rng(4)

    def draw(documents: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        scored = rng.integers(60, 800, documents)
        return rng.gamma(scored) * (1.02 + 0.03 * rng.normal(size=documents)), scored, np.arange(documents) // 4

    null = fit(*draw(20_000), log_gamma_tail, 1.0)
    statistic, scored, _ = draw(100_000)
    raw, log_p = log_gamma_tail(statistic, scored), apply(null, statistic, scored, log_gamma_tail)
    for level in LEVELS:
        assert exceeds(int(np.sum(raw <= np.log(level))), len(raw), level)
        assert not exceeds(int(np.sum(log_p <= np.log(level))), len(raw), level)


def test_rates_hold_on_average_over_corpora_and_for_most_of_them() -> None:
    rng = np.random.default_rng(5)
    hits = []
    for _ in range(40):
        null = fit(*population(rng, 2000, 0.01, 0.02), exact, GAMMA)
        statistic, scored, _ = population(rng, 20_000, 0.01, 0.02)
        log_p = apply(null, statistic, scored, exact)
        hits.append([np.sum(log_p <= np.log(level)) for level in LEVELS])
    for column, level in enumerate(LEVELS):
        counts = np.array(hits)[:, column]
        assert not exceeds(int(counts.sum()), 40 * 20_000, level)
        assert np.mean([exceeds(int(c), 20_000, level) for c in counts]) <= 0.15


def test_without_a_bias_little_power_is_lost() -> None:
    """400 tokens, a green share of 0.34 instead of 0.25: what is found at a level of 10^-3, and how far p moves."""
    rng = np.random.default_rng(6)
    scored = np.full(20_000, 400)
    statistic = rng.binomial(scored, 0.34).astype(float)
    raw, log_p = exact(statistic, scored), apply(null_of(0.0, 0.0), statistic, scored, exact)
    found, found_raw = np.mean(log_p <= np.log(1e-3)), np.mean(raw <= np.log(1e-3))
    assert found_raw > 0.8
    assert found > found_raw - 0.12
    strong = np.arange(200.0, 401.0, 10)
    ratio = apply(null_of(0.0, 0.0), strong, np.full(strong.shape, 400), exact) / exact(
        strong, np.full(strong.shape, 400)
    )
    assert np.all(ratio > 0.8)
    assert apply(null_of(0.0, 0.0), 1400.0, 1400, exact) < np.log(1e-300)


@given(st.floats(0, 3000), st.integers(0, 3000))
def test_never_below_the_exact_p_value_and_monotone(statistic: float, scored: int) -> None:
    null = null_of(0.012, 0.02)
    statistic = min(statistic, float(scored))
    log_p = apply(null, statistic, scored, exact)
    assert exact(np.array(statistic), np.array(scored)) <= log_p <= 0
    more = apply(null, min(statistic + 1, float(scored)), scored, exact)
    assert more <= log_p


def test_the_whole_range_of_p_values_falls_in_the_evidence_even_beyond_an_outlier() -> None:
    statistic, scored, groups = population(np.random.default_rng(7), 5000)
    statistic[100] = scored[100] * 0.6
    null = fit(statistic, scored, groups, exact, GAMMA)
    assert null.largest > 10
    grid = -np.linspace(0, 900, 100_000)
    for length in (60, 1000):
        log_p = calibrate(null, grid, np.full(grid.shape, length))
        assert np.all(np.diff(log_p) <= 0)
        assert np.all(log_p >= grid)
        assert log_p[-1] < -50  # an outlier costs power: without it this is below -600


def test_the_kept_values_stand_for_all_of_them() -> None:
    """Against the bound computed from every document of the corpus."""
    x = np.random.default_rng(8).exponential(size=9000)
    (bucket,) = fit_buckets(-x, np.full(9000, 100), Options())
    null = Null(0.0, 100, (bucket,))
    assert len(bucket.values) <= 601
    points = np.random.default_rng(9).uniform(0, x.max(), 3000)
    reach = np.array([np.sum(x >= point) for point in points])
    want = np.log(stats.beta.ppf(0.95, reach + 1, 9000 - reach))
    got = calibrate(null, -points, np.full(3000, 100))
    assert np.all(got >= np.minimum(want, 0) - 1e-9)
    few = reach < 500
    np.testing.assert_allclose(got[few], np.maximum(want, -points)[few], rtol=1e-9)
    assert np.max(got[~few] - np.maximum(want, -points)[~few]) < 0.07


def test_the_shift_is_that_of_the_population_and_its_bound_covers_groups() -> None:
    rng = np.random.default_rng(10)
    covered = []
    for _ in range(300):
        scored = rng.integers(50, 500, 800)
        groups = np.arange(800) // 8
        share = GAMMA + 0.01 + 0.02 * rng.normal(size=100)[groups]
        statistic = rng.binomial(scored, share).astype(float)
        covered.append(measure_shift(statistic, scored, groups, GAMMA, 0.95) >= 0.01)
    assert 0.90 < np.mean(covered) < 0.99
    assert measure_shift(np.full(10, 20.0), np.full(10, 100), np.arange(10), GAMMA, 0.95) == 0


def test_many_keys_lose_their_shifts_at_once_and_documents_keep_their_own_mean() -> None:
    statistic, scored = np.array([[30.0, 30.0], [600.0, 600.0]]), np.array([[100, 100], [2000, 2000]])
    excess, kept = without_shift(statistic, scored, np.array([0.0, 0.02]), np.array([10**9, 500]))
    assert kept.tolist() == [[100, 100], [2000, 500]]
    np.testing.assert_allclose(excess, [[30, 28], [600, 140]])


def test_buckets_go_by_length_where_there_are_enough_documents() -> None:
    null = null_of(0.0, 0.02)
    shortest = [bucket.shortest for bucket in null.buckets]
    assert shortest[0] == 0
    assert shortest == sorted(set(shortest))
    assert len(shortest) >= 3
    assert all(bucket.documents >= Options().in_bucket for bucket in null.buckets)
    assert null.documents == 20_000
    assert len(null_of(0.0, 0.02, 5000).buckets) == 1


def test_a_null_survives_json() -> None:
    null = null_of(0.012, 0.02)
    text = json.dumps(null.to_dict())
    assert Null.from_dict(json.loads(text)) == null
    assert len(text) < 60_000 * len(null.buckets)
    with pytest.raises(ValueError, match="version 0"):
        Null.from_dict({**null.to_dict(), "version": 0})


def test_too_small_a_corpus_says_what_is_needed() -> None:
    statistic, scored, groups = population(np.random.default_rng(11), 1200)
    scored[:300] = 0
    with pytest.raises(ValueError, match=r"900 documents .* at least 1000 are needed, and 4000"):
        fit(statistic, scored, groups, exact, GAMMA)
    with pytest.raises(ValueError, match="single group"):
        fit(statistic, np.maximum(scored, 1), np.zeros(1200), exact, GAMMA)


def test_documents_without_scored_tokens_say_nothing() -> None:
    assert apply(null_of(0.0, 0.0), np.zeros(3), np.zeros(3, np.int64), exact).tolist() == [0, 0, 0]
