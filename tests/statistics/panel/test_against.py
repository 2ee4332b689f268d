import math

import numpy as np
import pytest
from scipy import stats

from pipelines.statistics.panel.against import (
    Known,
    benjamini_hochberg,
    compare,
    drift,
    p_value,
    paule_mandel,
    reference_of,
    relatives,
    single,
)
from pipelines.statistics.panel.estimators import Estimate
from pipelines.statistics.panel.measures import HIGHER, LOWER, Measure, measure
from pipelines.statistics.panel.state import state_of
from tests.statistics.panel.bursty import draw, keys, month_mix

RISING, FALLING = Measure("x", "", "", HIGHER, False), Measure("x", "", "", LOWER, False)


def a_month(random, between, own):
    """A value with the standard error that eight groups give."""
    value = random.normal(0, between) + random.normal(0, own)
    return Estimate(value, math.nan, math.nan, own * math.sqrt(random.chisquare(7) / 7))


@pytest.mark.parametrize("months", [2, 5])
@pytest.mark.parametrize("between", [0.0, 2.0])
@pytest.mark.parametrize("own", [1.0, 3.0])
def test_p_values_are_uniform_or_conservative_without_a_difference(months, between, own):
    random = np.random.default_rng([months, int(between), int(own)])
    p = []
    for _ in range(500):
        reference = reference_of([a_month(random, between, 1.0) for _ in range(months)], RISING)
        p.append(p_value(a_month(random, between, own), reference, RISING))
    for level in (0.01, 0.05, 0.2):
        assert np.mean(np.array(p) <= level) <= level + 2.6 * math.sqrt(level * (1 - level) / 500)


def test_p_values_are_uniform_where_months_differ():
    random = np.random.default_rng(1)
    p = [
        p_value(a_month(random, 3, 1), reference_of([a_month(random, 3, 1) for _ in range(12)], FALLING), FALLING)
        for _ in range(500)
    ]
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_equally_known_months_give_the_prediction_of_student():
    values = np.array([1.0, 2.5, 3.0, 4.2])
    months = [Estimate(value, 0, 0, 0.3) for value in values]
    expected = stats.t.sf((6 - values.mean()) / math.sqrt(values.var(ddof=1) * (1 + 1 / 4)), 3)
    found = p_value(Estimate(6.0, 0, 0, 0.3), reference_of(months, RISING), RISING)
    assert found == pytest.approx(expected)
    reference = reference_of(months, RISING)
    assert reference.value == pytest.approx(values.mean())
    assert p_value(Estimate(6.0, 0, 0, 0.3), reference, FALLING) == pytest.approx(1 - expected)


def test_paule_mandel_solves_its_equation():
    random = np.random.default_rng(2)
    values, squares = random.normal(0, 3, 9), random.uniform(0.2, 2, 9)
    weights = 1 / (squares + paule_mandel(values, squares))
    mean = (weights * values).sum() / weights.sum()
    assert (weights * (values - mean) ** 2).sum() == pytest.approx(8)
    assert paule_mandel(np.array([1.0, 1.01]), np.array([1.0, 1.0])) == 0


def test_nothing_is_said_with_fewer_than_two_months():
    assert reference_of([Estimate(1, 0, 2, 0.1)], RISING) is None
    assert math.isnan(p_value(Estimate(1, 0, 2, 0.1), None, RISING))
    assert reference_of([Estimate(1, 0, 2, 0.1), Estimate(1, math.nan, math.nan, math.nan)], RISING) is None


def test_benjamini_hochberg_is_scipys():
    p = np.random.default_rng(3).uniform(size=40) ** 2
    assert benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p))
    found = benjamini_hochberg([math.nan, 0.02, 0.01])
    assert math.isnan(found[0])
    assert found[1:] == pytest.approx([0.02, 0.02])


def test_single_reference_asks_only_for_a_difference():
    reference = single(Estimate(2.0, 1.5, 2.5, 0.2), RISING)
    assert p_value(Estimate(2.0, 1.5, 2.5, 0.2), reference, RISING) == pytest.approx(0.5)
    assert p_value(Estimate(4.0, 3.5, 4.5, 0.2), reference, RISING) < 0.001


def histogram(random, mean, spread, count):
    bins = np.clip(random.normal(mean, spread, count) * 16, 0, 511).astype(int)
    return np.stack([np.bincount(bins[g::8], minlength=512) for g in range(8)])


def test_drift_holds_the_true_distance():
    random = np.random.default_rng(4)
    truth = 2 * stats.norm.cdf(0.25) - 1  # of normal distributions half a standard deviation apart
    found = [drift(histogram(random, 9.5, 1, 300), histogram(random, 9, 1, 900)) for _ in range(300)]
    assert np.mean([one.low <= truth <= one.high for one in found]) >= 0.93
    assert math.isnan(drift(np.zeros((8, 512), np.int64), histogram(random, 9, 1, 10)).value)


def test_drift_is_not_taken_for_more_in_small_months():
    random = np.random.default_rng(5)
    p = []
    for _ in range(60):
        months = [histogram(random, 9 + random.normal(0, 0.1), 1, 2000) for _ in range(6)]
        total = np.sum(months, axis=0)
        reference = reference_of([drift(one, total - one, standard=True) for one in months], measure("surprisal_drift"))
        later = histogram(random, 9 + random.normal(0, 0.1), 1, 300)
        p.append(p_value(drift(later, total, standard=True), reference, measure("surprisal_drift")))
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 2.6 * math.sqrt(0.05 * 0.95 / 60)
    moved = drift(histogram(random, 7, 1, 300), total, standard=True)
    assert p_value(moved, reference, measure("surprisal_drift")) < 0.01


@pytest.fixture(scope="module")
def months():
    return [state_of(draw(i, 260, month_mix(i), words=60), keys(i, 260)) for i in range(4)]


def trigrams(texts):
    words = [text.split() for text in texts]
    return {tuple(one[i : i + 3]) for one in words for i in range(len(one) - 2)}


def test_overlap_holds_the_share_counted_by_brute_force(months):
    mine = draw(9, 260, words=60)
    reference = set.union(*(trigrams(draw(i, 260, month_mix(i), words=60)) for i in range(4)))
    truth = len(trigrams(mine) & reference) / len(trigrams(mine))
    found = Known(months).overlap(state_of(mine, keys(9, 260)))
    assert 0 < truth < 1
    assert found.low <= truth <= found.high


def test_thinned_overlap_of_a_small_month_is_that_of_a_large_one(months):
    known = Known(months)
    whole = [known.thinned(state_of(draw(9, size), keys(9, size)), None) for size in (400, 3000)]
    assert max(one.low for one in whole) <= min(one.high for one in whole)


def test_months_are_held_against_each_other(months):
    found = relatives(months)
    assert len(found) == 4
    assert all(0 < one["overlap"].value < 1 for one in found)
    assert relatives(months[:1]) == [{}]


def test_compare_finds_templates_and_cold_text_and_nothing_else(months):
    source = {"mix": month_mix(20), "words": 60}
    clean = compare(state_of(draw(20, 260, **source), keys(20, 260)), months)
    assert min(one.p_value for one in clean.values() if not math.isnan(one.p_value)) > 0.001
    templates = compare(state_of(draw(21, 260, template=0.3, **source), keys(21, 260)), months)
    assert templates["template_rate"].p_value < 0.01
    assert templates["template_rate"].difference > 0
    cold = compare(state_of(draw(22, 260, temperature=0.7, **source), keys(22, 260)), months)
    assert max(cold[name].p_value for name in ("entropy", "missing_mass", "renyi2")) < 0.01
    alone = compare(state_of(draw(22, 260, temperature=0.7, **source), keys(22, 260)), months[:1])
    assert alone["entropy"].p_value < 0.001
    assert alone["surprisal_drift"].p_value < 0.001
    assert alone["entropy"].reference.value > alone["entropy"].value.value
