import math

import numpy as np
import pytest
from scipy import special, stats

from pipelines.statistics.panel.estimators import (
    LOG,
    NATURAL,
    SHARE,
    collision_entropy,
    collision_error,
    entropy_chao_shen,
    entropy_miller_madow,
    estimate,
    grown,
    hapax_share,
    hll_count,
    hll_error,
    jackknife_variance,
    missing_mass,
    missing_mass_error,
    off_scale,
    on_scale,
    zipf_error,
    zipf_exponent,
)
from pipelines.statistics.panel.sketches import BUCKETS, registers_of, sample


def zipf(random, words, size, power=1.1):
    share = 1 / np.arange(1, words + 1) ** power
    return random.multinomial(size, share / share.sum()), share / share.sum()


def test_good_turing_within_its_stated_error_over_random_corpora():
    random = np.random.default_rng(1)
    within = []
    for _ in range(600):
        counts, share = zipf(random, int(random.integers(500, 5000)), int(random.integers(1000, 5000)))
        truth = share[counts == 0].sum()
        once, twice = (counts == 1).sum(), (counts == 2).sum()
        found = missing_mass(once, counts.sum())
        within.append(abs(found - truth) <= 1.96 * missing_mass_error(once, twice, counts.sum()))
    assert 0.93 <= np.mean(within) <= 0.975


def test_hapax_share_ignores_words_that_do_not_occur():
    assert hapax_share(np.array([[1, 1], [1, 0], [3, 1], [2, 0]])).tolist() == [0.5, 1.0]


def test_entropies_are_their_published_formulas():
    counts, _ = zipf(np.random.default_rng(2), 400, 700)
    seen = counts[counts > 0].astype(float)
    n = seen.sum()
    plug_in = stats.entropy(seen)
    assert entropy_miller_madow(counts) == pytest.approx((plug_in + (len(seen) - 1) / (2 * n)) / math.log(2))
    # Term by term, as in Chao & Shen 2003, formula 6.
    total = 0.0
    for c in seen:
        p = (1 - (seen == 1).sum() / n) * c / n
        total -= p * math.log(p) / (1 - (1 - p) ** n)
    assert entropy_chao_shen(counts) == pytest.approx(total / math.log(2))


def test_entropy_of_words_that_all_occur_once_is_finite():
    assert math.isfinite(entropy_chao_shen(np.ones(50, np.int64)))


def test_entropies_come_nearer_to_the_truth_than_the_plug_in():
    random = np.random.default_rng(3)
    share = zipf(random, 2000, 1)[1]
    truth = stats.entropy(share, base=2)
    draws = random.multinomial(1000, share, 200).T
    plug_in = np.mean([stats.entropy(column, base=2) for column in draws.T])
    corrected, shrunk = entropy_miller_madow(draws).mean(), entropy_chao_shen(draws).mean()
    assert plug_in < corrected < truth
    assert abs(shrunk - truth) < 0.3 * (truth - plug_in)


@pytest.mark.parametrize("least", [1, 2, 5])
def test_zipf_exponent_maximises_the_likelihood_on_a_grid(least):
    counts = stats.zipf(1.9).rvs(3000, random_state=4)
    tail = counts[counts >= least]
    grid = np.arange(1.2, 3.5, 0.0005)
    likelihood = -len(tail) * np.log(special.zeta(grid, least)) - grid * np.log(tail).sum()
    assert zipf_exponent(counts, least) == pytest.approx(grid[likelihood.argmax()], abs=0.0006)


def test_zipf_exponent_is_within_its_error():
    found = zipf_exponent(stats.zipf(2.0).rvs((2000, 200), random_state=5), least=2)
    tail = 2000 * (1 - 1 / special.zeta(2.0))
    assert found.mean() == pytest.approx(2.0, abs=0.02)
    assert found.std() == pytest.approx(zipf_error(2.0, tail), rel=0.15)


def test_zipf_exponent_of_too_little_is_unknown():
    assert np.isnan(zipf_exponent(np.array([1, 2, 3])))
    assert np.isnan(zipf_exponent(np.full(50, 2)))


@pytest.mark.parametrize("size", [0, 10, 300, 5000, 100_000])
def test_hll_count_is_within_its_error(size):
    random = np.random.default_rng(size)
    counts = [hll_count(registers_of(random.integers(0, 2**63, size, dtype=np.uint64))) for _ in range(40)]
    error = hll_error(size, 4096)
    assert np.mean(counts) == pytest.approx(size, rel=4 * error / math.sqrt(40) + 1e-9)
    assert np.std(counts) <= 1.35 * error * size + 1e-9


def sketched(words, groups, random):
    """Signed count sketches of words drawn for each group, with fresh signs and buckets."""
    vocabulary = words.max() + 1
    sign, bucket = random.choice([-1, 1], vocabulary), random.integers(0, BUCKETS, vocabulary)
    signed = np.zeros((groups.max() + 1, BUCKETS), np.int64)
    np.add.at(signed, (groups, bucket[words]), sign[words])
    return signed


def test_collision_entropy_has_no_bias_and_its_stated_error():
    random = np.random.default_rng(6)
    counts, _ = zipf(random, 3000, 40_000)
    words = random.permutation(np.repeat(np.arange(3000), counts))
    groups = np.arange(len(words)) % 8
    by_group = np.stack([np.bincount(words[groups == g], minlength=3000) for g in range(8)]).astype(float)
    sizes = by_group.sum(axis=1)
    exact = (by_group.sum(axis=0) ** 2).sum() - (by_group**2).sum()
    truth = -math.log2(exact / (sizes.sum() ** 2 - (sizes**2).sum()))
    sketches = [sketched(words, groups, random) for _ in range(150)]
    found = np.array([collision_entropy(one, sizes.astype(np.int64)) for one in sketches])
    errors = np.array([collision_error(one) for one in sketches])
    assert found.mean() == pytest.approx(truth, abs=4 * found.std() / math.sqrt(150))
    assert found.std() == pytest.approx(np.sqrt((errors**2).mean()), rel=0.25)


def test_jackknife_of_a_mean_is_its_textbook_variance():
    groups = np.random.default_rng(7).normal(size=8)
    left_out = (groups.sum() - groups) / 7
    assert jackknife_variance(groups.mean(), left_out, np.full(8, 5)) == pytest.approx(groups.var(ddof=1) / 8)


def test_jackknife_does_not_count_the_chance_of_the_grouping():
    # The value hangs on nothing but the number of documents: it has no error at all.
    sizes = np.array([20, 30, 35, 28, 40, 33, 31, 39])
    value = lambda n: 3 * np.log(n) + 1  # noqa: E731
    total = sizes.sum()
    naive = 7 / 8 * ((value(total - sizes) - value(total - sizes).mean()) ** 2).sum()
    assert jackknife_variance(value(total), value(total - sizes), sizes) < 0.01 * naive
    assert grown(value(total), value(total - sizes), sizes, 280) == pytest.approx(value(280), abs=0.01)


def test_estimate_covers_a_clustered_mean():
    random = np.random.default_rng(8)
    covered = []
    for _ in range(800):
        rates = random.beta(2, 6, 160)  # documents differ in their rate
        hits, group = random.binomial(30, rates), random.integers(0, 8, 160)
        sums, sizes = np.bincount(group, hits, 8), np.bincount(group, minlength=8)
        found = estimate(hits.sum() / 4800, (hits.sum() - sums) / (30 * (160 - sizes)), sizes, SHARE)
        covered.append(found.low <= 0.25 <= found.high)
    assert 0.93 <= np.mean(covered) <= 0.97


def test_estimate_says_nothing_of_one_group_or_an_unknown_value():
    assert math.isnan(estimate(3.0, [2.0], [10]).se)
    assert math.isnan(estimate(math.nan, [2.0, 3.0], [10, 10]).low)
    assert math.isnan(estimate(0.0, [1.0, 0.0], [10, 10], LOG).low)


@pytest.mark.parametrize("scale", [NATURAL, SHARE, LOG, "root"])
def test_scales_can_be_undone(scale):
    assert off_scale(float(on_scale(0.3, scale)), scale) == pytest.approx(0.3)


def test_share_stays_a_share():
    found = estimate(0.99, [0.9, 0.99, 1.0, 1.0], [5, 5, 5, 5], SHARE)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_bottom_k_samples_estimate_hapax_share_within_the_error_of_their_choice():
    random = np.random.default_rng(9)
    counts, _ = zipf(random, 30_000, 40_000)
    truth = hapax_share(counts)
    found, errors = [], []
    for _ in range(60):
        names = random.integers(0, 2**63, 30_000, dtype=np.uint64)
        drawn = sample(np.repeat(names, counts), 512)
        share = float(hapax_share(drawn.counts))
        found.append(share)
        errors.append(math.sqrt(share * (1 - share) / 512))
    assert abs(np.mean(found) - truth) < 4 * np.mean(errors) / math.sqrt(60)
    assert np.std(found) == pytest.approx(np.mean(errors), rel=0.3)
