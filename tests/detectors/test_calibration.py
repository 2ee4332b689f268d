from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from detectors.base import ErrorRates, OperatingPoint, SliceRates, clopper_pearson, length_bucket
from detectors.calibration import (
    Calibration,
    auroc,
    balanced_weights,
    decision_threshold,
    expected_calibration_error,
    fit_calibration,
    quantification_threshold,
    true_positive_rate_at,
)


def test_calibration_recovers_the_truth_and_is_monotone() -> None:
    random = np.random.default_rng(1)
    score = random.normal(0, 3, 40_000)
    tokens = np.full(len(score), 200)
    truth = 1 / (1 + np.exp(-(0.7 * score)))
    machine = random.random(len(score)) < truth
    fitted = fit_calibration(score, tokens, machine, balanced_weights(machine, np.full(len(score), "one")))
    assert np.abs(fitted.probability(score, tokens) - truth).max() < 0.03
    assert expected_calibration_error(fitted.probability(score, tokens), machine, np.ones(len(score))) < 0.01
    line = np.linspace(-14, 14, 500)
    for count in (1, 60, 200, 5000):
        assert (np.diff(fitted.probability(line, np.full(500, count))) > 0).all()
    assert Calibration.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted


def test_calibration_stays_monotone_where_the_data_point_the_wrong_way() -> None:
    score = np.linspace(-3, 3, 200)
    fitted = fit_calibration(score, np.full(200, 100), score < 0, np.ones(200))
    assert (np.diff(fitted.probability(score, np.full(200, 3000))) > 0).all()


def test_prior_is_one_half_whatever_the_balance() -> None:
    random = np.random.default_rng(2)
    score = np.r_[random.normal(-1, 1, 9000), random.normal(1, 1, 1000)]
    machine = np.arange(10_000) >= 9000
    weights = balanced_weights(machine, np.full(10_000, "one"))
    assert weights[machine].sum() == pytest.approx(0.5)
    fitted = fit_calibration(score, np.full(10_000, 200), machine, weights)
    assert fitted.probability(np.zeros(1), np.array([200]))[0] == pytest.approx(0.5, abs=0.03)


def test_one_label_is_refused() -> None:
    with pytest.raises(ValueError, match="one label is missing"):
        fit_calibration(np.zeros(3), np.ones(3, np.int64), np.ones(3, bool), np.ones(3))


def test_auroc_is_the_share_of_ordered_pairs() -> None:
    random = np.random.default_rng(3)
    for _ in range(20):
        score = random.integers(0, 8, 40).astype(float)
        machine = random.random(40) < 0.5
        pairs = [
            1.0 if one > other else 0.5 if one == other else 0.0
            for one, other in itertools.product(score[machine], score[~machine])
        ]
        assert auroc(score, machine) == pytest.approx(np.mean(pairs))


def test_true_positive_rate_against_all_thresholds() -> None:
    random = np.random.default_rng(4)
    score = random.integers(0, 50, 400).astype(float)
    machine = random.random(400) < 0.5
    for rate in (0.1, 0.01):
        best = max(
            (score[machine] >= threshold).mean()
            for threshold in np.r_[score, score.max() + 1]
            if (score[~machine] >= threshold).mean() <= rate
        )
        assert true_positive_rate_at(score, machine, rate) == pytest.approx(best)


def test_decision_threshold_is_the_least_that_holds_in_each_slice() -> None:
    random = np.random.default_rng(5)
    slices = [random.random(n).astype(np.float32).astype(float) for n in (100, 250, 999)] + [np.array([0.99999])]
    threshold = decision_threshold(slices, 0.01)
    assert all((part >= threshold).mean() <= 0.01 for part in slices[:3])
    lower = float(np.nextafter(np.float32(threshold), np.float32(0)))
    assert any((part >= lower).mean() > 0.01 for part in slices[:3])
    with pytest.raises(ValueError, match="no slice"):
        decision_threshold([np.zeros(99)], 0.01)


def test_quantification_threshold_maximises_the_difference() -> None:
    random = np.random.default_rng(6)
    probability = np.round(random.random(300), 2)
    machine = random.random(300) < probability
    found = quantification_threshold(probability, machine, np.ones(300))

    def difference(threshold: float) -> float:
        flagged = probability.astype(np.float32) >= np.float32(threshold)
        return float(flagged[machine].mean() - flagged[~machine].mean())

    assert difference(found) == pytest.approx(max(difference(threshold) for threshold in probability))


def test_clopper_pearson_covers_by_exact_enumeration() -> None:
    for trials, rate in itertools.product((5, 20, 100), (0.005, 0.01, 0.3, 0.5)):
        covered = sum(
            binom.pmf(hits, trials, rate)
            for hits in range(trials + 1)
            if clopper_pearson(hits, trials)[0] <= rate <= clopper_pearson(hits, trials)[1]
        )
        assert covered >= 0.95 - 1e-9
    assert clopper_pearson(0, 0) == (0.0, 1.0)


def test_error_rates_survive_json() -> None:
    part = SliceRates("leave_one_set_out", "essays", "", "", "en", 100, 1, 50, 20)
    rates = ErrorRates("embedded", OperatingPoint(0.9, (part,)), OperatingPoint(0.4, ()))
    assert ErrorRates.from_dict(json.loads(json.dumps(rates.to_dict()))) == rates
    assert (part.name, part.false_positive_rate, part.true_positive_rate) == ("essays/en", 0.01, 0.4)
    assert rates.decision.of_kind("test") == ()


def test_length_buckets() -> None:
    assert [length_bucket(count) for count in (0, 149, 150, 399, 400)] == ["short", "short", "medium", "medium", "long"]


def test_heavy_tails_are_calibrated_where_a_logistic_map_is_not() -> None:
    random = np.random.default_rng(11)
    machine = random.random(60_000) < 0.5
    # A fifth of the machine text looks like any person's, as with sets that a model has not seen.
    score = np.where(machine & (random.random(60_000) < 0.8), random.normal(3, 1, 60_000), random.normal(-1, 1, 60_000))
    tokens, ones = np.full(len(score), 200), np.ones(len(score))
    fitted, fresh = np.arange(len(score)) < 30_000, np.arange(len(score)) >= 30_000
    found = fit_calibration(score[fitted], tokens[fitted], machine[fitted], ones[fitted])
    logistic = replace(found, knots=(), seen=())
    errors = [
        expected_calibration_error(one.probability(score[fresh], tokens[fresh]), machine[fresh], ones[fresh])
        for one in (found, logistic)
    ]
    assert errors[0] < 0.02
    assert errors[1] > 2 * errors[0]
