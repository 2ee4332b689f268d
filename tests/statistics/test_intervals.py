import numpy as np
import pytest
from scipy import special, stats

from pipelines.statistics.intervals import (
    DRAWS,
    adjusted_interval,
    adjusted_share,
    binomial_rate,
    clopper_pearson,
    lower_bound,
    stratified,
)
from pipelines.statistics.rates import DetectorRates, RateSlice, fit_groups

PREVALENCES = (0.0, 0.005, 0.02, 0.1, 0.5)


def known(value):
    return np.full(DRAWS, float(value))


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_clopper_pearson_is_that_of_scipy(level):
    for n in (1, 7, 200, 30_000):
        for x in sorted({0, 1, n // 3, n - 1, n}):
            expected = stats.binomtest(x, n).proportion_ci(level, method="exact")
            low, high = clopper_pearson(x, n, level)
            assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)
            one_sided = stats.binomtest(x, n, alternative="greater").proportion_ci(level, method="exact")
            assert lower_bound(x, n, level) == pytest.approx(one_sided.low, abs=1e-9)
    assert [float(v) for v in clopper_pearson(0, 0)] == [0, 1]


def test_estimate_is_rogan_and_gladen():
    assert adjusted_share(30, 100, 0.1, 0.9) == pytest.approx((0.3 - 0.1) / 0.8)
    assert adjusted_share([0, 100], 100, 0.1, 0.9).tolist() == [0, 1]
    assert np.isnan(adjusted_share([1, 5, 0], [10, 10, 0], [0.5, 0.6, 0.1], [0.5, 0.5, 0.9])).all()


def test_a_perfect_detector_gives_clopper_pearson():
    x, n = np.array([0, 1, 5, 10, 3, 400, 0]), np.array([10, 10, 10, 10, 3000, 1000, 100_000])
    low, high = adjusted_interval(x, n, np.zeros((len(x), DRAWS)), known(1))
    expected_low, expected_high = clopper_pearson(x, n)
    np.testing.assert_allclose(low, expected_low, rtol=0.01)
    np.testing.assert_allclose(high, expected_high, rtol=0.01)


def test_known_rates_shift_clopper_pearson():
    x, n = np.array([30, 200, 300]), np.array([400, 1000, 400])
    low, high = adjusted_interval(x, n, np.full((3, DRAWS), 0.02), known(0.8))
    expected_low, expected_high = clopper_pearson(x, n)
    np.testing.assert_allclose(low, (expected_low - 0.02) / 0.78, rtol=0.01)
    np.testing.assert_allclose(high, np.minimum((expected_high - 0.02) / 0.78, 1), rtol=0.01)


def lang_reiczigel(x, n, human_flagged, human, machine_flagged, machine):
    """Prev. Vet. Med. 113, 2014, equations 1 to 4: adjusted counts of the survey and of both validation samples."""
    z = special.ndtri(0.975)
    sensitivity = (machine_flagged + 1) / (machine + 2)
    specificity = (human - human_flagged + 1) / (human + 2)
    q = (n * (x / n) + z * z / 2) / (n + z * z)
    size = n + z * z
    p = (q + specificity - 1) / (sensitivity + specificity - 1)
    shift = (
        2
        * z
        * z
        * (
            p * sensitivity * (1 - sensitivity) / (machine + 2)
            - (1 - p) * specificity * (1 - specificity) / (human + 2)
        )
    )
    variance = (
        q * (1 - q) / size
        + sensitivity * (1 - sensitivity) * p**2 / (machine + 2)
        + specificity * (1 - specificity) * (1 - p) ** 2 / (human + 2)
    ) / (sensitivity + specificity - 1) ** 2
    return np.clip(p + shift - z * np.sqrt(variance), 0, 1), np.clip(p + shift + z * np.sqrt(variance), 0, 1)


@pytest.mark.parametrize(
    "counts",
    [
        (120, 1000, 20, 1000, 800, 1000),
        (400, 1000, 5, 500, 450, 500),
        (60, 400, 40, 2000, 270, 300),
        (2000, 20_000, 30, 3000, 700, 1000),
    ],
)
def test_agrees_with_lang_and_reiczigel_for_pooled_counts(counts):
    x, n, human_flagged, human, machine_flagged, machine = counts
    fpr = binomial_rate(human_flagged, human, "fpr")
    low, high = adjusted_interval([x], [n], fpr[None], binomial_rate(machine_flagged, machine, "tpr"))
    expected_low, expected_high = lang_reiczigel(*counts)
    width = expected_high - expected_low
    assert low[0] == pytest.approx(expected_low, abs=0.08 * width)
    assert high[0] == pytest.approx(expected_high, abs=0.08 * width)


def test_nothing_flagged_reaches_zero_and_is_no_point():
    fpr = binomial_rate(80, 4000, "fpr")[None]
    for n in (1, 20, 500, 5000, 100_000):  # up to where 2 % false positives are wholly against the counts
        low, high = adjusted_interval([0], [n], fpr, binomial_rate(80, 100, "tpr"))
        assert low[0] == 0
        assert 0 < high[0] <= 1
    assert high[0] < 0.001


def test_more_flagged_than_the_true_positive_rate_allows():
    low, high = adjusted_interval([990], [1000], np.full((1, DRAWS), 0.01), known(0.6))
    assert 0.9 < low[0] < high[0] == 1


def test_a_detector_that_tells_nothing_apart_says_nothing():
    fpr = np.full((4, DRAWS), 0.3)
    for tpr in (known(0.3), known(0.2)):
        low, high = adjusted_interval([0, 3, 30, 100], [100] * 4, fpr, tpr)
        assert low[:3].tolist() == [0] * 3
        assert high.tolist() == [1] * 4
        # All 100 flagged is more than 30 % of false positives explain: then the rates are wrong, and the text is not.
        assert low[3] > 0.9


def test_what_false_positives_cannot_explain_bounds_the_share_from_below():
    """No true positive rate exceeds 1, so the excess over the false positives is machine text at the least."""
    fpr, vague = np.full((1, DRAWS), 0.01), (np.arange(DRAWS) + 0.5) / DRAWS
    low, _ = adjusted_interval([190], [1000], fpr, vague)
    least, _ = adjusted_interval([190], [1000], fpr, known(1.0))
    assert least[0] == pytest.approx(0.18, abs=0.03)
    assert low[0] >= least[0] - 0.005


def test_draws_do_not_hang_on_their_neighbours():
    fpr = np.stack([binomial_rate(5 + i, 900, "fpr") for i in range(60)] * 10)
    x, n = np.arange(600) % 50, np.full(600, 80)
    tpr = binomial_rate(70, 100, "tpr")
    low, high = adjusted_interval(x, n, fpr, tpr)
    for i in (0, 49, 511, 512, 599):
        assert adjusted_interval(x[i : i + 1], n[i : i + 1], fpr[i : i + 1], tpr) == (low[i], high[i])
    assert np.array_equal(np.sort(stratified("a")), (np.arange(DRAWS) + 0.5) / DRAWS)
    assert not np.array_equal(stratified("a"), stratified("b"))


def coverage(prevalence, low, high):
    return np.mean((low <= prevalence) & (prevalence <= high))


@pytest.mark.parametrize("prevalence", PREVALENCES)
def test_coverage_with_a_known_true_positive_rate(prevalence):
    rng = np.random.default_rng(11)
    rounds, n, human, true_fpr, true_tpr = 1500, 1000, 1000, 0.015, 0.7
    human_flagged = rng.binomial(human, true_fpr, rounds)
    flagged = rng.binomial(n, true_fpr + prevalence * (true_tpr - true_fpr), rounds)
    fpr = np.stack([binomial_rate(x, human, "fpr") for x in range(human_flagged.max() + 1)])
    pairs, back = np.unique(np.stack([flagged, human_flagged], 1), axis=0, return_inverse=True)
    low, high = adjusted_interval(pairs[:, 0], np.full(len(pairs), n), fpr[pairs[:, 1]], known(true_tpr))
    reached = coverage(prevalence, low[back.ravel()], high[back.ravel()])
    assert reached >= 0.93
    if prevalence >= 0.1:
        assert reached <= 0.985  # honest, but not by saying nothing


@pytest.mark.slow
@pytest.mark.parametrize("spread", [8.0, 40.0])
def test_coverage_with_a_true_positive_rate_that_differs_between_sets(spread):
    rng = np.random.default_rng(12)
    worlds, crawls, n, human, true_fpr, mean = 80, 6, 1000, 2000, 0.015, 0.7
    reached = {p: [] for p in PREVALENCES}
    for _ in range(worlds):
        sizes = rng.integers(50, 500, 10)
        seen = rng.binomial(sizes, rng.beta(mean * spread, (1 - mean) * spread, 10))
        tpr = fit_groups(seen, sizes).unseen("tpr")
        fpr = binomial_rate(rng.binomial(human, true_fpr), human, "fpr")
        truth = np.repeat(PREVALENCES, crawls)
        unseen = rng.beta(mean * spread, (1 - mean) * spread, len(truth))
        flagged = rng.binomial(n, true_fpr + truth * (unseen - true_fpr))
        low, high = adjusted_interval(flagged, np.full(len(truth), n), np.tile(fpr, (len(truth), 1)), tpr)
        for p in PREVALENCES:
            reached[p].append(coverage(p, low[truth == p], high[truth == p]))
    assert {p: np.mean(r) for p, r in reached.items() if np.mean(r) < 0.93} == {}


@pytest.mark.slow
@pytest.mark.parametrize("sources", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (4, 8))])
def test_coverage_when_a_crawl_mixes_several_unseen_sets(sources):
    rng = np.random.default_rng(14)
    mean, spread, n, fpr = 0.6, 3.0, 2000, np.full((1, DRAWS), 0.015)
    reached = {0.02: [], 0.1: [], 0.5: []}
    widths = []
    for _ in range(250):
        sizes = rng.integers(50, 2000, 10)
        model = fit_groups(rng.binomial(sizes, rng.beta(mean * spread, (1 - mean) * spread, 10)), sizes)
        truth = np.array(list(reached))
        mixed = rng.beta(mean * spread, (1 - mean) * spread, (len(truth), sources)).mean(axis=1)
        flagged = rng.binomial(n, 0.015 + truth * (mixed - 0.015))
        low, high = adjusted_interval(flagged, np.full(3, n), np.tile(fpr, (3, 1)), model.mixture(sources, "tpr"))
        for at, p in enumerate(reached):
            reached[p].append(low[at] <= p <= high[at])
        widths.append(high[1] - low[1])
    assert {p: np.mean(r) for p, r in reached.items() if np.mean(r) < 0.93} == {}
    assert sources == 1 or np.mean(widths) < 0.3  # a mixture is known better than one set


def test_pooled_counts_alone_would_be_too_narrow():
    """Why sets are not pooled: with the same worlds as above, a pooled binomial true positive rate misses often."""
    rng = np.random.default_rng(13)
    hits = []
    for _ in range(150):
        seen = rng.binomial(300, rng.beta(5.6, 2.4, 10))
        pooled = binomial_rate(seen.sum(), 3000, "tpr")
        flagged = rng.binomial(1000, 0.5 * rng.beta(5.6, 2.4))
        low, high = adjusted_interval([flagged], [1000], np.zeros((1, DRAWS)), pooled)
        hits.append(low[0] <= 0.5 <= high[0])
    assert np.mean(hits) < 0.6


def test_groups_match_a_posterior_by_brute_force():
    x, n = np.array([8, 15, 4]), np.array([10, 30, 12])
    model = fit_groups(x, n)
    means = (np.arange(400) + 0.5)[:, None] / 400
    correlations = np.linspace(0.001, 0.95, 1500)[None, :]
    a, b = means * (1 / correlations - 1), (1 - means) * (1 / correlations - 1)
    log = sum(special.betaln(a + s, b + m - s) - special.betaln(a, b) for s, m in zip(x, n, strict=True))
    weight = np.exp(log - log.max()) / np.sqrt(means * (1 - means)) / np.sqrt(correlations)
    expected = (weight * means).sum() / weight.sum()
    draws = model.unseen("any")
    assert draws.mean() == pytest.approx(expected, abs=0.004)
    for limit in (0.1, 0.5, 0.9):
        below = (weight * special.betainc(a, b, limit)).sum() / weight.sum()
        assert np.mean(draws < limit) == pytest.approx(below, abs=0.012)
    member = (weight * (a + 15) / (a + b + 30)).sum() / weight.sum()
    assert model.member(15, 30, "any").mean() == pytest.approx(member, abs=0.004)


def test_groups_narrow_with_counts_and_stay_wide_without():
    width = {}
    for sets in (0, 1, 3, 12, 60):
        low, high = np.quantile(fit_groups([400] * sets, [500] * sets).unseen("x"), [0.025, 0.975])
        width[sets] = high - low
    assert sorted(width.values(), reverse=True) == list(width.values())
    assert width[0] > 0.95
    assert width[60] < 0.15
    exact = fit_groups([40_000, 400], [4_000_000, 40_000]).member(40_000, 4_000_000, "x")
    assert np.quantile(exact, [0.025, 0.975]) == pytest.approx([0.0099027, 0.010098], rel=0.01)


def test_slices_held_out_come_first():
    rates = DetectorRates("d", 0.9, (RateSlice("a", 10, 1, 10, 9), RateSlice("b", 20, 1, 0, 0, held_out=True)))
    assert [s.name for s in rates.human()] == ["b"]
    assert [s.name for s in rates.machine()] == ["a"]
    with pytest.raises(ValueError, match="slice 'c'"):
        RateSlice("c", 5, 6)
