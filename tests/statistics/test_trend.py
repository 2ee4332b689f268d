"""The trend against dense Gaussian algebra and statsmodels, and its band against simulated truth."""

import numpy as np
import pytest

from pipelines.statistics.trend import Common, Observation, Width, fit_common, smooth, trend

# Seen as in `statsmodels` below.
SEEN = [(0, 0.02, 4e-4), (1, 0.06, 9e-4), (3, 0.05, 2e-4), (4, 0.11, 5e-4), (4, 0.16, 6e-4), (7, 0.2, 3e-4)]


def observations(rng, months=9, most=3):
    counts = rng.integers(0, most, months)
    counts[[0, -1]] = 1
    return [
        Observation(month + 5, float(rng.random()), float(rng.uniform(1e-4, 1e-2)))
        for month in range(months)
        for _ in range(counts[month])
    ]


def dense(seen, sigma):
    """Posterior mean and covariance, and the restricted log-likelihood, by matrices of the whole path."""
    first = min(one.month for one in seen)
    months = max(one.month for one in seen) - first + 1
    steps = np.diff(np.eye(months), axis=0)
    look = np.eye(months)[[one.month - first for one in seen]]
    y, v = np.array([one.value for one in seen]), np.array([one.variance for one in seen])
    precision = steps.T @ steps / sigma**2 + look.T @ np.diag(1 / v) @ look
    covariance = np.linalg.inv(precision)
    walk = sigma**2 * np.minimum.outer(np.arange(months), np.arange(months))
    whole = look @ walk @ look.T + np.diag(v)
    inverse, ones = np.linalg.inv(whole), np.ones(len(y))
    residual = y - ones @ inverse @ y / (ones @ inverse @ ones)
    likelihood = -0.5 * (np.linalg.slogdet(whole)[1] + np.log(ones @ inverse @ ones) + residual @ inverse @ residual)
    return covariance @ look.T @ (y / v), covariance, likelihood


@pytest.mark.parametrize("seed", range(6))
def test_the_smoother_is_the_gaussian_posterior(seed):
    seen = observations(np.random.default_rng(seed))
    sigmas = np.array([0.003, 0.05, 0.2])
    found = smooth(seen, sigmas)
    expected = [dense(seen, sigma) for sigma in sigmas]
    for at, (mean, covariance, _) in enumerate(expected):
        np.testing.assert_allclose(found.mean[at], mean, rtol=1e-7)
        np.testing.assert_allclose(found.covariance[at], covariance, rtol=1e-6)
    np.testing.assert_allclose(np.diff(found.log_likelihood), np.diff([one[2] for one in expected]), rtol=1e-6)


def test_a_share_that_does_not_move_is_the_weighted_mean():
    seen = observations(np.random.default_rng(1))
    weights = 1 / np.array([one.variance for one in seen])
    found = smooth(seen, np.zeros(1))
    np.testing.assert_allclose(found.mean[0], weights @ [one.value for one in seen] / weights.sum())
    np.testing.assert_allclose(found.covariance[0], 1 / weights.sum())


def test_statsmodels_finds_the_same():
    # KalmanSmoother of statsmodels 0.15.0, exact diffuse initialisation, two slots a month (the second mostly empty).
    mean = [0.03084317, 0.04778563, 0.05624588, 0.06470613, 0.11912303, 0.14236354, 0.16560405, 0.18884456]
    variance = [2.984e-4, 3.5782e-4, 4.5968e-4, 1.4856e-4, 1.8623e-4, 5.3998e-4, 5.6529e-4, 2.6216e-4]
    seen = [Observation(*one) for one in SEEN]
    found = smooth(seen, np.array([0.01, 0.025, 0.05]))
    np.testing.assert_allclose(found.mean[1], mean, atol=1e-8)
    np.testing.assert_allclose(np.diagonal(found.covariance[1]), variance, atol=1e-8)
    np.testing.assert_allclose(np.diff(found.log_likelihood), [9.92457640443896, 1.6007466727497919])
    assert trend(seen).sigma == pytest.approx(0.047499614949306684, abs=1e-5)


def test_the_order_of_observations_is_nothing_and_gaps_are_marked():
    seen = [Observation(*one) for one in SEEN]
    found, other = trend(seen), trend(seen[::-1])
    np.testing.assert_array_equal(found.low, other.low)
    assert found.observed == (1, 1, 0, 1, 2, 0, 0, 1)
    widths = found.high - found.low
    assert widths[5] > widths[4]
    assert widths[6] > widths[7]


def test_the_band_holds_the_common_error_in_full_and_a_change_only_its_multiple():
    seen = [Observation(month, 0.2 + 0.002 * (-1) ** month, 1e-4) for month in range(24)]
    alone, both = trend(seen), trend(seen, Common(0.3, 0.5, 0.01, 0.01))
    np.testing.assert_array_equal(alone.low, both.low_sampling)
    # However many months: no less than the common error.
    assert np.all(both.high - both.mean >= 0.5 * both.mean)
    assert np.all(both.mean - both.low >= 0.3 * both.mean)
    free, held = alone.change(0, 23), both.change(0, 23)
    assert held.high - held.low == pytest.approx(free.high - free.low, rel=0.05)
    risen = [Observation(month, 0.02 * month, 1e-6) for month in range(20)]
    change = trend(risen, Common(0.3, 0.5)).change(0, 19)
    assert change.high - change.estimate == pytest.approx(0.5 * 0.38, rel=0.02)
    assert change.estimate - change.low == pytest.approx(0.3 * 0.38, rel=0.02)
    back = trend([Observation(19 - one.month, one.value, one.variance) for one in risen], Common(0.3, 0.5))
    assert back.change(0, 19).low == pytest.approx(-change.high, rel=1e-6)


def test_the_slope_of_a_line_is_its_slope():
    line = trend([Observation(month, 0.1 + 0.01 * month, 1e-8) for month in range(30)])
    assert line.slope(12).estimate == pytest.approx(0.01, rel=1e-3)
    assert line.slope(1000).estimate == pytest.approx(0.01, rel=1e-3)
    with pytest.raises(ValueError, match="two months"):
        trend([Observation(0, 0.1, 1e-4)]).slope()


def test_what_cannot_be_smoothed_is_refused():
    with pytest.raises(ValueError, match="no observation"):
        trend([])
    with pytest.raises(ValueError, match="variance over 0"):
        trend([Observation(0, 0.1, 0.0)])


def truth(kind, months, rng):
    if kind == "walk":
        return np.clip(0.25 + np.cumsum(rng.normal(0, 0.02, months)), 0, 1)
    if kind == "constant":
        return np.full(months, 0.15)
    return 0.45 / (1 + np.exp(-8 * (np.arange(months) / months - 0.5)))


def coverage(kind, months, spread, runs, seed=0):
    """Of the band, of the change over all months and of the slope; with rates off by a multiple that all share."""
    rng = np.random.default_rng(seed)
    # Of an interval for p when (1 + spread × z) p is seen: its sides differ, as those of the tables do.
    reach = 1.96 * spread
    common = Common(reach / (1 + reach), reach / (1 - reach), reach / 10, reach / 10)
    hits = np.zeros(3)
    for _ in range(runs):
        share = truth(kind, months, rng)
        wrong = share * (1 + spread * rng.normal()) + (1 - share) * spread / 10 * rng.normal()
        variance = rng.uniform(0.02, 0.05, months) ** 2
        seen = [
            Observation(month, float(rng.normal(wrong[month], variance[month] ** 0.5)), float(variance[month]))
            for month in range(months)
        ]
        found = trend(seen, common)
        steps = np.arange(min(12, months)) - (min(12, months) - 1) / 2
        pairs = (
            (found.change(0, months - 1), share[-1] - share[0]),
            (found.slope(12), share[-len(steps) :] @ steps / (steps @ steps)),
        )
        inside = np.mean((found.low <= share) & (share <= found.high))
        hits += [inside, *(change.low <= value <= change.high for change, value in pairs)]
    return hits / runs


KINDS = ("walk", "constant", "logistic")


@pytest.mark.parametrize("spread", [0.0, 0.15])
@pytest.mark.parametrize("months", [6, 14])
def test_the_band_holds_the_truth_as_often_as_it_says(months, spread):
    found = np.array([coverage(kind, months, spread, 20) for kind in KINDS])
    assert np.all(found[:, 0] >= 0.93)
    assert np.all(found.mean(axis=0) >= 0.93)


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, 0.15])
@pytest.mark.parametrize("months", [6, 12, 24, 60])
@pytest.mark.parametrize("kind", KINDS)
def test_the_band_holds_the_truth_from_half_a_year_to_five(kind, months, spread):
    band, change, slope = coverage(kind, months, spread, 300, seed=1)
    print(kind, months, spread, round(band, 3), round(change, 3), round(slope, 3))
    assert band >= 0.93
    assert min(change, slope) >= 0.93 - 2 * np.sqrt(0.93 * 0.07 / 300)  # one look a run, so that chance has its part


def test_the_common_error_is_found_behind_intervals():
    shares = np.linspace(0.02, 0.5, 12)

    def width(p, cut=False):
        whole = tuple(
            float(np.sqrt((a * p) ** 2 + (b * (1 - p)) ** 2 + 0.02**2)) for a, b in ((0.2, 0.03), (0.4, 0.03))
        )
        return Width(float(p), (float("nan") if cut else whole[0], whole[1]), (0.02, 0.02), 1000.0)

    fitted = fit_common([width(p) for p in shares])
    np.testing.assert_allclose(fitted, [0.2, 0.4, 0.03, 0.03], rtol=1e-6)
    given = fit_common([width(0.3)], fpr=0.03)
    np.testing.assert_allclose(given, [0.2, 0.4, 0.03, 0.03], rtol=1e-6)
    # Lower limits of 0 say nothing of that side.
    np.testing.assert_allclose(fit_common([width(p, cut=True) for p in shares]), [0.4, 0.4, 0.03, 0.03], rtol=1e-6)
    assert fit_common([]) == Common(0, 0, 0, 0)
