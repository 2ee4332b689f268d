from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from detectors.base import clopper_pearson
from detectors.clustered import (
    auroc_interval,
    bootstrap_interval,
    cluster_draws,
    clustered_share,
)


def correlated_hits(
    random: np.random.Generator, rate: float, correlation: float, clusters: int
) -> tuple[np.ndarray, np.ndarray]:
    """Beta-binomial hits in clusters of 1 to 9 texts."""
    cluster = np.repeat(np.arange(clusters), random.integers(1, 10, clusters))
    strength = 1 / correlation - 1
    chance = random.beta(rate * strength, (1 - rate) * strength, clusters)[cluster]
    return random.random(len(cluster)) < chance, cluster


def test_texts_that_stand_alone_get_clopper_pearson() -> None:
    for hits in (0, 1, 7, 40):
        share = clustered_share(np.arange(40) < hits, np.arange(40))
        assert share is not None
        assert (share.low, share.high) == clopper_pearson(hits, 40)
    assert clustered_share(np.zeros(0, bool), np.zeros(0)) is None


@pytest.mark.parametrize(("rate", "correlation"), [(0.003, 0.5), (0.01, 0.5), (0.05, 0.3), (0.3, 0.9)])
@pytest.mark.parametrize("clusters", [60, 300])
def test_clustered_shares_cover_where_naive_ones_do_not(rate: float, correlation: float, clusters: int) -> None:
    random = np.random.default_rng(11)
    runs, clustered, naive = 600, 0, 0
    for _ in range(runs):
        hits, cluster = correlated_hits(random, rate, correlation, clusters)
        share = clustered_share(hits, cluster)
        assert share is not None
        clustered += share.low <= rate <= share.high
        low, high = clopper_pearson(int(hits.sum()), len(hits))
        naive += low <= rate <= high
    assert clustered / runs >= 0.93
    if clusters == 300 and rate >= 0.01:
        assert naive / runs < 0.9


def test_no_hit_still_has_an_upper_limit_and_it_counts_clusters() -> None:
    cluster = np.repeat(np.arange(20), 5)
    share = clustered_share(np.zeros(100, bool), cluster)
    assert share is not None
    assert share.effective == pytest.approx(20)
    assert (share.low, share.high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 20)))
    everything = clustered_share(np.ones(100, bool), cluster)
    assert everything is not None
    assert (everything.low, everything.high) == (pytest.approx(0.025 ** (1 / 20)), 1.0)
    one = clustered_share(np.arange(100) < 40, np.zeros(100))
    assert one is not None
    assert (one.low, one.high) == (pytest.approx(0, abs=0.02), pytest.approx(1, abs=0.02))


def test_weighted_share_ignores_the_scale_of_the_weights() -> None:
    random = np.random.default_rng(2)
    hits, cluster = correlated_hits(random, 0.3, 0.3, 80)
    weights = random.random(len(hits))
    one, other = clustered_share(hits, cluster, weights), clustered_share(hits, cluster, 7 * weights)
    assert one is not None
    assert one == pytest.approx(other)
    assert one.estimate == pytest.approx(weights @ hits / weights.sum())
    alike = clustered_share(hits, cluster, np.ones(len(hits)))
    assert alike == pytest.approx(clustered_share(hits, cluster))


def brute_force_variance(score: np.ndarray, machine: np.ndarray, cluster: np.ndarray) -> tuple[float, float]:
    """Obuchowski's estimator by loops over all pairs."""
    positive, human = np.flatnonzero(machine), np.flatnonzero(~machine)

    def kernel(i: int, j: int) -> float:
        return float(score[i] > score[j]) + 0.5 * float(score[i] == score[j])

    area = np.mean([kernel(i, j) for i in positive for j in human])
    above = {i: np.mean([kernel(i, j) for j in human]) for i in positive}
    below = {j: np.mean([kernel(i, j) for i in positive]) for j in human}
    names = np.unique(cluster)
    s10 = s01 = s11 = 0.0
    m, n = len(positive), len(human)
    of_machine = [c for c in names if any(cluster[i] == c for i in positive)]
    of_human = [c for c in names if any(cluster[j] == c for j in human)]
    for c in names:
        x = sum(above[i] - area for i in positive if cluster[i] == c)
        y = sum(below[j] - area for j in human if cluster[j] == c)
        s10, s01, s11 = s10 + x * x, s01 + y * y, s11 + x * y
    s10 *= len(of_machine) / (len(of_machine) - 1) / m
    s01 *= len(of_human) / (len(of_human) - 1) / n
    s11 *= len(names) / (len(names) - 1)
    return float(area), float(s10 / m + s01 / n + 2 * s11 / (m * n))


@pytest.mark.parametrize("alone", [True, False])
def test_auroc_interval_is_that_of_all_pairs_counted_by_hand(alone: bool) -> None:
    random = np.random.default_rng(4)
    machine = random.random(60) < 0.5
    score = np.round(random.normal(size=60) + machine, 1)
    cluster = np.arange(60) if alone else random.integers(0, 15, 60)
    area, variance = brute_force_variance(score, machine, cluster)
    if alone:  # DeLong, with numpy's own variances
        table = (score[machine][:, None] > score[~machine]) + 0.5 * (score[machine][:, None] == score[~machine])
        delong = np.var(table.mean(1), ddof=1) / machine.sum() + np.var(table.mean(0), ddof=1) / (~machine).sum()
        assert variance == pytest.approx(delong)
        assert area == pytest.approx(
            stats.mannwhitneyu(score[machine], score[~machine]).statistic / machine.sum() / (~machine).sum()
        )
    fewest = min(len(np.unique(cluster[machine])), len(np.unique(cluster[~machine])))
    half = stats.t.ppf(0.975, fewest - 1) * np.sqrt(variance) / (area * (1 - area))
    found = auroc_interval(score, machine, cluster)
    assert found is not None
    assert np.log(np.array(found) / (1 - np.array(found))) == pytest.approx(
        [np.log(area / (1 - area)) - half, np.log(area / (1 - area)) + half]
    )


def test_auroc_interval_covers_under_clustering() -> None:
    random, runs = np.random.default_rng(9), 500
    truth = stats.norm.cdf(1.5 / np.sqrt(2))
    clustered = naive = 0
    for _ in range(runs):
        # Each source wrote either human or machine texts, and its texts score alike.
        cluster = np.repeat(np.arange(80), 6)
        machine = cluster % 2 == 1
        shared = random.normal(size=80)[cluster] * np.sqrt(0.6)
        score = shared + random.normal(size=480) * np.sqrt(0.4) + 1.5 * machine
        low, high = auroc_interval(score, machine, cluster) or (1.0, 0.0)
        clustered += low <= truth <= high
        low, high = auroc_interval(score, machine, np.arange(480)) or (1.0, 0.0)
        naive += low <= truth <= high
    assert clustered / runs >= 0.93
    assert naive / runs < 0.8


def test_auroc_interval_without_variance_or_without_a_label() -> None:
    machine = np.arange(40) % 2 == 1
    assert auroc_interval(machine.astype(float), machine, np.arange(40)) == clopper_pearson(20, 20)
    assert auroc_interval(-machine.astype(float), machine, np.arange(40)) == clopper_pearson(0, 20)
    assert auroc_interval(np.zeros(40), np.zeros(40, bool), np.arange(40)) is None
    assert auroc_interval(np.zeros(40), machine, np.where(machine, 1, 2)) is None
    level = auroc_interval(np.zeros(40), machine, np.arange(40))
    assert level is not None
    assert level[0] < 0.5 < level[1]


def test_draws_take_whole_clusters_and_repeat_with_the_seed() -> None:
    cluster = np.array(["b", "a", "b", "c", "a", "d"])
    drawn = np.array(list(cluster_draws(cluster, 4000, 3)))
    assert (drawn[:, 0] == drawn[:, 2]).all()
    assert (drawn[:, 1] == drawn[:, 4]).all()
    assert (drawn[:, [0, 1, 3, 5]].sum(1) == 4).all()
    assert drawn.mean(0) == pytest.approx(np.ones(6), abs=0.06)
    assert (drawn == np.array(list(cluster_draws(cluster, 4000, 3)))).all()
    assert (drawn != np.array(list(cluster_draws(cluster, 4000, 4)))).any()


def test_bootstrap_interval_is_close_to_that_of_scipy() -> None:
    values = np.random.default_rng(6).exponential(size=300)
    draws = [float(weights @ values / weights.sum()) for weights in cluster_draws(np.arange(300), 4000, 1)]
    theirs = stats.bootstrap((values,), np.mean, n_resamples=4000, random_state=1).confidence_interval
    assert bootstrap_interval(float(values.mean()), draws) == pytest.approx((theirs.low, theirs.high), abs=0.012)
    assert np.isnan(bootstrap_interval(0.5, [np.nan, np.nan, 0.5])).all()
