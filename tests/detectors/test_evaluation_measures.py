from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.measures import (
    at_prior,
    brier_parts,
    calibration_errors,
    cross_frozen,
    frozen_threshold,
    reliability_bins,
    risk_by_coverage,
    roc_points,
    shifted,
)

TENTHS = st.lists(st.integers(0, 10), min_size=1, max_size=40)


def sample(size: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    probability = np.float64(np.round(random.random(size), 2).astype(np.float32))
    return probability, random.random(size) < probability**2


@given(TENTHS, st.sampled_from([0.01, 0.1, 0.25, 0.5]))
def test_frozen_threshold_is_the_least_that_keeps_its_promise(tenths: list[int], rate: float) -> None:
    human = np.array(tenths, np.float32).astype(np.float64) / 10
    threshold = frozen_threshold(human, rate)

    def promised(at: float) -> bool:
        return (human >= at).sum() + 1 <= rate * (len(human) + 1) * (1 + 1e-9)

    if np.isinf(threshold):
        assert not promised(np.inf)
        return
    assert promised(threshold)
    lower = human[human < threshold]
    assert not len(lower) or not promised(lower.max())


def test_frozen_thresholds_flag_new_text_as_often_as_they_say() -> None:
    random = np.random.default_rng(1)
    for size, rate in ((150, 0.01), (300, 0.01), (60, 0.05)):
        chances = [1 - frozen_threshold(random.random(size), rate) for _ in range(3000)]
        expected = np.floor(rate * (size + 1)) / (size + 1)
        assert np.mean(chances) == pytest.approx(expected, abs=4 * np.std(chances) / np.sqrt(3000))
        assert expected <= rate


@given(st.lists(st.tuples(st.integers(0, 10), st.integers(0, 3)), min_size=1, max_size=30))
def test_weights_are_repeated_texts(rows: list[tuple[int, int]]) -> None:
    value = np.array([row[0] for row in rows]) / 10
    times = np.array([row[1] for row in rows])
    if times.sum():
        repeated = frozen_threshold(np.repeat(value, times), 0.3)
        assert frozen_threshold(value, 0.3, times.astype(float)) == repeated


def test_each_half_is_judged_by_the_threshold_of_the_other() -> None:
    probability, machine = sample(2000)
    half = np.arange(2000) % 2 == 1
    flagged, (first, second) = cross_frozen(probability, machine, half, 0.05)
    assert first == frozen_threshold(probability[half & ~machine], 0.05)
    assert second == frozen_threshold(probability[~half & ~machine], 0.05)
    assert (flagged == np.where(half, probability >= second, probability >= first)).all()


def test_calibration_errors_agree_with_loops() -> None:
    probability, machine = sample()
    weights = np.random.default_rng(3).random(400)
    weights /= weights.sum()
    gaps = []
    for number in range(15):
        here = [i for i in range(400) if min(int(probability[i] * 15), 14) == number]
        gaps.append(abs(sum(weights[i] * (probability[i] - machine[i]) for i in here)))
    found = calibration_errors(probability, machine, weights)
    assert found.equal_width == pytest.approx(sum(gaps))
    assert found.brier == pytest.approx(sum(weights[i] * (probability[i] - machine[i]) ** 2 for i in range(400)))
    assert calibration_errors(probability, machine, weights * 5) == pytest.approx(found)


def test_equal_mass_bins_part_no_equal_probabilities() -> None:
    probability, machine = sample()
    weights = np.ones(400)
    bins = reliability_bins(probability, machine, weights)
    assert np.sort(np.concatenate([part.rows for part in bins])).tolist() == list(range(400))
    values = [set(probability[part.rows].tolist()) for part in bins]
    assert sum(map(len, values)) == len(set(probability.tolist()))
    assert sum(part.weight for part in bins) == pytest.approx(1)
    assert all(0.05 < part.weight < 0.15 for part in bins)
    gap = sum(
        abs(part.weight * (part.probability - part.observed))
        for part in reliability_bins(probability, machine, weights, 15)
    )
    assert calibration_errors(probability, machine, weights).equal_mass == pytest.approx(gap)


def test_brier_score_is_the_sum_of_its_parts() -> None:
    probability, machine = sample()
    weights = at_prior(machine, 0.5)
    parts = brier_parts(probability, machine, weights)
    brier = calibration_errors(probability, machine, weights).brier
    assert parts.reliability - parts.resolution + parts.uncertainty == pytest.approx(brier)
    assert parts.uncertainty == pytest.approx(0.25)
    assert min(parts) > 0
    constant = brier_parts(np.full(400, 0.7), machine, weights)
    assert constant.resolution == pytest.approx(0)
    assert constant.reliability == pytest.approx(0.04)
    # Recalibrated once, nothing is left to gain.
    step = np.where(probability < 0.5, machine[probability < 0.5].mean(), machine[probability >= 0.5].mean())
    assert brier_parts(step, machine, np.ones(400)).reliability == pytest.approx(0)


def test_another_prior_adds_its_log_odds() -> None:
    probability = np.array([0.1, 0.5, 0.9])
    moved = shifted(probability, 0.05)
    odds = np.log(moved / (1 - moved)) - np.log(probability / (1 - probability))
    assert odds == pytest.approx(np.full(3, np.log(0.05 / 0.95)))
    assert at_prior(np.array([True, False, False]), 0.2).tolist() == pytest.approx([0.2, 0.4, 0.4])


def test_risk_by_coverage_agrees_with_leaving_out_by_hand() -> None:
    probability, machine = sample(120)
    certainty = np.abs(probability - 0.5)
    curve = risk_by_coverage(probability, machine, np.ones(120))
    area, last = 0.0, 0.0
    for number, least in enumerate(sorted(set(certainty.tolist()), reverse=True)):
        kept = certainty >= least
        wrong = (probability[kept] >= 0.5) != machine[kept]
        assert curve.coverage[number] == pytest.approx(kept.mean())
        assert curve.risk[number] == pytest.approx(wrong.mean())
        area, last = area + (kept.mean() - last) * wrong.mean(), kept.mean()
    assert curve.area == pytest.approx(area)
    times = np.random.default_rng(5).integers(0, 3, 120)
    repeated = risk_by_coverage(np.repeat(probability, times), np.repeat(machine, times), np.ones(times.sum()))
    assert risk_by_coverage(probability, machine, times.astype(float)).area == pytest.approx(repeated.area)


def test_roc_points_lie_on_the_curve() -> None:
    probability, machine = sample(600)
    points = roc_points(probability, machine, 40)
    curve = {
        ((probability[~machine] >= at).mean(), (probability[machine] >= at).mean()) for at in set(probability.tolist())
    }
    for point in points:
        assert min(abs(point[0] - x) + abs(point[1] - y) for x, y in curve) < 1e-12
    assert points == sorted(points)
    assert points[-1] == (1.0, 1.0)
