from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from watermark.many_tests import Candidates, benjamini_hochberg, e_bh, log_e_value, merge, product

LOGS = st.lists(st.floats(-5, 40), max_size=60)
LEVELS = st.sampled_from([0.01, 0.05, 0.1, 0.3])


@pytest.mark.parametrize("p", [1e-300, 1e-100, 1e-8, 0.001, 0.05, 0.3679, 0.5, 0.9, 0.999])
def test_the_e_value_is_the_mixture_of_power_calibrators(p: float) -> None:
    """∫ κ p^(κ-1) dκ by quadrature; p is divided out so that it does not overflow."""
    mixture, _ = integrate.quad(lambda kappa: kappa * np.exp(kappa * np.log(p)), 0, 1, epsabs=0, epsrel=1e-12)
    assert log_e_value(np.log(p)) == pytest.approx(np.log(mixture) - np.log(p), rel=1e-10, abs=1e-10)


def test_the_e_value_from_certainty_to_the_far_tail() -> None:
    assert log_e_value(0.0) == pytest.approx(np.log(0.5), rel=1e-15)
    assert log_e_value(-1e-12) == pytest.approx(np.log(0.5), rel=1e-10)
    assert log_e_value(-1e6) == pytest.approx(1e6 - 2 * np.log(1e6), rel=1e-15)
    points = np.concatenate([-np.geomspace(1e-9, 1e6, 20_000), -np.linspace(0.99, 1.01, 2001)])
    assert np.all(np.diff(log_e_value(np.sort(points))) <= 0)
    for wrong in (0.1, np.nan):
        with pytest.raises(ValueError, match="at most 0"):
            log_e_value([wrong])


def test_the_e_value_averages_one_over_a_uniform_p() -> None:
    # With x = -log p the integrand is e(x) exp(-x), which far out is 1/x²: 1/X is added for what lies beyond X.
    inside, _ = integrate.quad(lambda x: np.exp(log_e_value(-x) - x), 0, 200, limit=500, epsabs=1e-12)
    assert inside + 1 / 200 == pytest.approx(1, abs=1e-8)
    e = np.exp(log_e_value(np.log(np.random.default_rng(0).uniform(size=2_000_000))))
    # The mean has no variance, so it is taken up to p = 1e-4: 1 less what the rest of the integral holds.
    x = -np.log(1e-4)
    rest, _ = integrate.quad(lambda x: np.exp(log_e_value(-x) - x), x, 200, limit=500)
    below = np.where(e < np.exp(log_e_value(-x)), e, 0)
    assert below.mean() == pytest.approx(1 - rest - 1 / 200, abs=4 * below.std() / np.sqrt(below.size))
    for level in (0.1, 0.01, 0.001):
        assert np.mean(e >= 1 / level) <= level  # Markov's inequality, with much to spare


def test_merging_is_the_mean_and_the_product() -> None:
    rng = np.random.default_rng(1)
    log_e = rng.normal(size=(4, 5, 6))
    for axis in (0, 1, -1, None):
        np.testing.assert_allclose(merge(log_e, axis), np.log(np.mean(np.exp(log_e), axis)), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(product(log_e, axis), np.log(np.prod(np.exp(log_e), axis)), rtol=1e-11, atol=1e-12)
    assert merge([1e6, 0.0]) == pytest.approx(1e6 - np.log(2))
    with pytest.raises(ValueError, match="no e-value"):
        merge([])


def test_weak_documents_of_a_host_add_up_in_the_product() -> None:
    log_e = log_e_value(np.full(20, np.log(0.02)))
    assert merge(log_e) < np.log(4)
    assert product(log_e) > np.log(1e6)


def e_bh_by_hand(log_e: list[float], level: float, tests: int) -> set[int]:
    best: set[int] = set()
    for k in range(1, len(log_e) + 1):
        reach = {i for i, value in enumerate(log_e) if value >= np.log(tests) - np.log(level) - np.log(k)}
        if len(reach) >= k:
            best = reach
    return best


@given(LOGS, LEVELS, st.integers(0, 100))
def test_e_bh_is_its_definition(log_e: list[float], level: float, more: int) -> None:
    tests = len(log_e) + more
    threshold = e_bh(log_e, level, tests)
    assert {i for i, value in enumerate(log_e) if value >= threshold} == e_bh_by_hand(log_e, level, tests)


@given(LOGS, LEVELS, st.lists(st.integers(0, 60), max_size=4), st.randoms())
def test_candidates_in_any_order_give_the_threshold_of_all(log_e: list[float], level: float, cuts, random) -> None:
    parts = [Candidates.of(part, level) for part in np.split(np.array(log_e), sorted(min(c, len(log_e)) for c in cuts))]
    random.shuffle(parts)
    one = parts[0]
    for part in parts[1:]:
        one = one.merge(part)
    at_once = Candidates.of([], level).merge(*parts)
    added = Candidates.of([], level).add(log_e)
    for candidates in (one, at_once, added):
        assert candidates.tests == len(log_e)
        assert candidates.threshold() == e_bh(log_e, level)
        assert len(candidates.log_e) == np.sum(np.array(log_e) >= -np.log(level) - 1e-9)
    assert np.all(np.diff(one.log_e) >= 0)


def test_candidates_stay_few_where_nothing_is_marked() -> None:
    log_p = np.log(np.random.default_rng(2).uniform(size=1_000_000))
    assert len(Candidates.of(log_e_value(log_p), 0.01).log_e) < 1000


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), LEVELS)
def test_benjamini_hochberg_is_that_of_scipy(p: list[float], level: float) -> None:
    p = [max(x, 1e-300) for x in p]
    adjusted = stats.false_discovery_control(p)
    got = np.log(p) <= benjamini_hochberg(np.log(p), level)
    clear = np.abs(adjusted - level) > 1e-12
    assert np.array_equal(got[clear], (adjusted <= level)[clear])


def test_wrong_calls_are_refused() -> None:
    for level in (0.0, 1.0):
        with pytest.raises(ValueError, match="level"):
            e_bh([1.0], level)
    with pytest.raises(ValueError, match="2 values"):
        e_bh([1.0, 2.0], 0.1, 1)
    with pytest.raises(ValueError, match="not a number"):
        Candidates.of([np.nan], 0.1)
    with pytest.raises(ValueError, match="different levels"):
        Candidates.of([1.0], 0.1).merge(Candidates.of([1.0], 0.2))
    assert e_bh([], 0.1) == np.inf
    assert benjamini_hochberg([], 0.1) == -np.inf


@pytest.mark.parametrize("share", [0.0, 0.9], ids=["independent", "dependent"])
def test_e_bh_holds_its_rate_in_simulation(share: float) -> None:
    """Normal scores, ``share`` of whose variance all tests have in common; a twentieth are marked by 5 deviations."""
    rng, level, rounds = np.random.default_rng(3), 0.1, 400
    marked = np.arange(1000) < 50
    proportions, found = [], []
    for _ in range(rounds):
        z = np.sqrt(share) * rng.normal() + np.sqrt(1 - share) * rng.normal(size=1000) + 5 * marked
        log_e = log_e_value(stats.norm.logsf(z))
        hits = log_e >= e_bh(log_e, level)
        proportions.append(np.sum(hits & ~marked) / max(1, np.sum(hits)))
        found.append(np.sum(hits & marked))
    assert np.mean(proportions) <= level
    assert np.mean(found) > 15


def test_e_bh_holds_its_rate_where_every_test_of_a_round_errs_together() -> None:
    """No marks at all and one p-value for all tests: the rate is the chance of any discovery."""
    p = np.random.default_rng(4).uniform(size=20_000)
    discoveries = np.array([np.isfinite(e_bh(np.full(50, log_e), 0.05)) for log_e in log_e_value(np.log(p))])
    assert stats.binomtest(int(discoveries.sum()), len(p), 0.05, alternative="greater").pvalue > 1e-3
