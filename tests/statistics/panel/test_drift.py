import numpy as np
import pytest
from scipy import stats

from pipelines.statistics.panel.drift import quantiles, two_sample, two_sample_by_group
from pipelines.statistics.panel.surprisal import bin_of

BINS = 512


def histogram(values):
    return np.bincount(bin_of(np.asarray(values, np.float64)), minlength=BINS)


@pytest.mark.parametrize(("n", "m", "shift"), [(1, 1, 0), (7, 300, 0.2), (900, 1200, 0), (1500, 40, 1), (300, 300, 9)])
def test_small_histograms_give_what_scipy_gives_of_the_binned_values(n, m, shift):
    random = np.random.default_rng(n)
    first, second = random.normal(9, 1.2, n), random.normal(9 + shift, 1.2, m)
    expected = stats.ks_2samp(bin_of(first), bin_of(second), method="exact")
    found = two_sample(histogram(first), histogram(second))
    assert found.statistic == pytest.approx(expected.statistic, abs=1e-12)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.statistic <= stats.ks_2samp(first, second).statistic + 1e-12


@pytest.mark.parametrize(("n", "m", "shift"), [(2500, 3000, 0), (2500, 90_000, 0.05), (40_000, 30_000, 0.01)])
def test_large_histograms_give_what_scipy_gives_of_the_binned_values(n, m, shift):
    random = np.random.default_rng(n)
    first, second = random.normal(9, 1.2, n), random.normal(9 + shift, 1.2, m)
    expected = stats.ks_2samp(bin_of(first), bin_of(second), method="asymp")
    found = two_sample(histogram(first), histogram(second))
    assert found.statistic == pytest.approx(expected.statistic, abs=1e-12)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-6)


def test_p_values_of_independent_documents_are_conservative_and_not_by_much():
    random = np.random.default_rng(1)
    p = np.array(
        [
            two_sample(histogram(random.normal(9, 1, 200)), histogram(random.normal(9, 1, 300))).p_value
            for _ in range(400)
        ]
    )
    for level in (0.01, 0.05, 0.2):
        assert (p <= level).mean() <= level + 3 * np.sqrt(level * (1 - level) / 400)
    assert (p <= 0.2).mean() > 0.1


def grouped(random, documents, between, shift=0.0):
    """Eight groups, each with an offset of its own."""
    return np.stack([histogram(random.normal(9 + shift + random.normal(0, between), 1, documents)) for _ in range(8)])


@pytest.mark.parametrize(("first", "second"), [(60, 60), (40, 400)])
@pytest.mark.parametrize("between", [0.0, 0.5])
def test_p_values_by_group_keep_their_level_where_documents_of_a_group_are_alike(first, second, between):
    random = np.random.default_rng(2)
    times = 150
    p = np.array(
        [
            two_sample_by_group(grouped(random, first, between), grouped(random, second, between)).p_value
            for _ in range(times)
        ]
    )
    for level in (0.02, 0.05, 0.2):
        assert (p <= level).mean() <= level + 3 * np.sqrt(level * (1 - level) / times)
    assert (p <= 0.2).mean() > 0.1


def test_the_test_of_independent_documents_does_not_hold_there():
    random = np.random.default_rng(3)
    p = [
        two_sample(grouped(random, 60, 0.5).sum(axis=0), grouped(random, 60, 0.5).sum(axis=0)).p_value
        for _ in range(100)
    ]
    assert np.mean(np.array(p) <= 0.05) > 0.3


def test_a_shift_is_seen_by_group():
    random = np.random.default_rng(4)
    found = two_sample_by_group(grouped(random, 100, 0.1), grouped(random, 100, 0.1, shift=1))
    assert found.p_value == pytest.approx(2 / 12_870)
    assert found.statistic > 0.3


def test_the_permutation_of_groups_equals_its_definition():
    random = np.random.default_rng(5)
    first, second = (np.stack([histogram(random.normal(9, 1, 20)) for _ in range(k)]) for k in (3, 2))
    found = two_sample_by_group(first, second)

    def distance(one, other):
        means = [np.mean([np.cumsum(h) / h.sum() for h in side], axis=0) for side in (one, other)]
        return np.abs(means[0] - means[1]).max()

    groups = [*first, *second]
    ways = [(i, j) for i in range(5) for j in range(i)]
    distances = [distance([groups[k] for k in range(5) if k not in pair], [groups[k] for k in pair]) for pair in ways]
    actual = distance(first, second)
    assert found.statistic == pytest.approx(actual, abs=1e-12)
    assert found.p_value == pytest.approx(np.mean(np.array(distances) >= actual - 1e-12))


def test_empty_sides_and_groups():
    none, some = np.zeros(BINS, np.int64), histogram([9.0, 8.0, 7.5])
    assert np.isnan(two_sample(none, some)).all()
    assert np.isnan(two_sample_by_group(none[None], some[None])).all()
    alone = two_sample_by_group(np.stack([some, none]), np.stack([some, some]))
    assert alone.statistic == pytest.approx(0, abs=1e-12)
    assert np.isnan(alone.p_value)


def test_bad_histograms_are_refused():
    with pytest.raises(ValueError, match="3 and 4 bins"):
        two_sample(np.ones(3, np.int64), np.ones(4, np.int64))
    with pytest.raises(ValueError, match="9 groups; at most 8"):
        two_sample_by_group(np.ones((9, 4), np.int64), np.ones((2, 4), np.int64))
    with pytest.raises(ValueError, match="counts from 0"):
        quantiles(np.array([1, -1]), [0.5])
    with pytest.raises(ValueError, match="not all between 0 and 1"):
        quantiles(np.array([1, 1]), [1.5])


PROBABILITIES = (0.0, 0.01, 0.1, 0.25, 0.5, 0.9, 0.99, 1.0)


@pytest.mark.parametrize("size", [1, 2, 9, 1000])
def test_quantiles_lie_in_the_bin_of_the_sample_quantile(size):
    values = np.random.default_rng(size).gamma(40, 0.25, size)
    found = quantiles(histogram(values), PROBABILITIES)
    expected = np.quantile(values, PROBABILITIES, method="inverted_cdf") * 16
    assert (np.abs(found - (np.floor(expected) + 0.5)) <= 0.5 + 1e-9).all()
    assert (np.diff(found) >= 0).all()
    assert np.isnan(quantiles(np.zeros(BINS, np.int64), [0.5])).all()


def test_quantiles_agree_with_those_of_datasketches_within_its_stated_error():
    datasketches = pytest.importorskip("datasketches")
    values = np.random.default_rng(7).gamma(40, 0.25, 30_000)
    sketch = datasketches.kll_floats_sketch(200)
    sketch.update(values.astype(np.float32))
    error = sketch.normalized_rank_error(False)
    for probability in (0.05, 0.25, 0.5, 0.75, 0.95):
        theirs = sketch.get_quantile(probability)
        low, high = quantiles(histogram(values), [max(probability - error, 0), min(probability + error, 1)]) / 16
        assert low - 1 / 16 <= theirs <= high + 1 / 16
