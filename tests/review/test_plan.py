"""How many labels: against sums over all outcomes, and against simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from pipelines.errors import UsageError
from pipelines.review.plan import (
    Errors,
    Method,
    Stratum,
    control_limits,
    design_effect,
    expected_half_width,
    half_width,
    labels_for_bound,
    labels_needed,
)
from pipelines.review.planning import describe, expected_share, plan_labels

SUMMARY = {
    "records": {"reserve": 90_000, "quarantine": 9_000, "review": 1_000},
    "synthetic_share": {"estimate": 0.05, "low": 0.02, "high": 0.1, "too_few": False},
}


def brute_half_width(documents: int, share: float, level: float) -> float:
    total = 0.0
    for found in range(documents + 1):
        low, high = stats.binomtest(found, documents).proportion_ci(level, "exact")
        total += stats.binom.pmf(found, documents, share) * (high - low) / 2
    return total


@pytest.mark.parametrize(("documents", "share", "level"), [(1, 0.5, 0.95), (17, 0.03, 0.9), (60, 0.4, 0.99)])
def test_the_width_is_the_mean_over_all_outcomes(documents: int, share: float, level: float) -> None:
    assert half_width(documents, share, level) == pytest.approx(brute_half_width(documents, share, level), rel=1e-9)


def test_between_whole_numbers_the_width_is_in_proportion() -> None:
    assert half_width(20.25, 0.1, 0.95) == pytest.approx(
        0.75 * half_width(20, 0.1, 0.95) + 0.25 * half_width(21, 0.1, 0.95)
    )


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 0.97])
def test_no_smaller_number_is_enough(share: float) -> None:
    needed = labels_needed(0.1, 0.95, share).documents
    widths = [half_width(n, share, 0.95) for n in range(1, needed + 30)]
    assert all(width > 0.1 for width in widths[: needed - 1])
    assert all(width <= 0.1 for width in widths[needed - 1 :])


def test_more_is_needed_for_less_margin_more_confidence_and_shares_nearer_to_a_half() -> None:
    by_margin = [labels_needed(margin, 0.95, 0.1).documents for margin in (0.1, 0.05, 0.02, 0.01)]
    by_level = [labels_needed(0.05, level, 0.1).documents for level in (0.8, 0.9, 0.95, 0.99)]
    by_share = [labels_needed(0.05, 0.95, share).documents for share in (0.0, 0.01, 0.05, 0.2, 0.5)]
    for numbers in (by_margin, by_level, by_share):
        assert numbers == sorted(set(numbers))


def test_the_normal_method_is_the_text_books_and_takes_less() -> None:
    assert labels_needed(0.05, 0.95, 0.5, Method.NORMAL).documents == 385
    assert labels_needed(0.05, 0.95, 0.5).documents > 385


def test_none_found_of_299_says_at_most_one_per_cent() -> None:
    assert labels_for_bound(0.01, 0.95) == 299 == math.ceil(math.log(0.05) / math.log(0.99))
    assert labels_for_bound(0.01, 0.95, missed=0.1) == math.ceil(math.log(0.05) / math.log(1 - 0.009))


@pytest.mark.parametrize("found", [0, 1, 2, 5])
@pytest.mark.parametrize("bound", [0.01, 0.07, 0.5])
def test_a_bound_is_clopper_pearsons(found: int, bound: float) -> None:
    needed = labels_for_bound(bound, 0.9, found)
    limits = [float(stats.beta.ppf(0.9, found + 1, n - found)) for n in (needed - 1, needed) if n > found]
    assert limits[-1] <= bound
    assert len(limits) == 1 or limits[0] > bound


def test_the_design_effect_is_that_of_simulated_samples() -> None:
    strata = [Stratum(0.7, 0.02, 0.5), Stratum(0.2, 0.5, 0.3), Stratum(0.1, 0.9, 0.2)]
    random = np.random.default_rng(4)
    n, rounds = 400, 20_000
    means = sum(
        one.weight * random.binomial(round(n * (one.sampled or 0)), one.share, rounds) / round(n * (one.sampled or 0))
        for one in strata
    )
    share = sum(one.weight * one.share for one in strata)
    assert np.var(means) / (share * (1 - share) / n) == pytest.approx(design_effect(strata), rel=0.05)


def test_strata_that_differ_take_fewer_labels() -> None:
    strata = [Stratum(0.9, 0.02), Stratum(0.1, 0.8)]
    effect = design_effect(strata)
    assert effect < 1
    plain = labels_needed(0.02, 0.95, 0.098).documents
    assert labels_needed(0.02, 0.95, strata).documents == pytest.approx(effect * plain, rel=0.01)
    assert labels_needed(0.02, 0.95, [Stratum(1.0, 0.098)]).documents == plain
    with pytest.raises(ValueError, match="sum to"):
        design_effect([Stratum(0.5, 0.1)])


@pytest.mark.parametrize("errors", [Errors(0.05, 0.05), Errors(0.2, 0.02)])
def test_with_errors_carried_in_simulated_estimates_stay_within_the_margin(errors: Errors) -> None:
    share, margin = 0.1, 0.03
    needed = labels_needed(margin, 0.95, share, errors=errors)
    random, rounds = np.random.default_rng(8), 20_000
    pairs = needed.controls // 2
    missed = random.binomial(pairs, errors.missed, rounds) / pairs
    accused = random.binomial(pairs, errors.accused, rounds) / pairs
    seen = share * (1 - errors.missed) + (1 - share) * errors.accused
    shares = (random.binomial(needed.documents, seen, rounds) / needed.documents - accused) / (1 - missed - accused)
    off = float(np.quantile(np.abs(shares - share), 0.95))
    assert 0.85 * margin < off <= margin * 1.01
    assert needed.half_width == pytest.approx(margin, rel=0.01)


def test_controls_and_labels_together_are_fewest() -> None:
    errors = Errors(0.05, 0.02)
    best = labels_needed(0.03, 0.95, 0.1, errors=errors)
    for factor in (0.7, 1.5):
        other = labels_needed(0.03, 0.95, 0.1, errors=errors, controls=round(best.controls * factor))
        assert other.documents + other.controls >= best.documents + best.controls - 5
    with pytest.raises(UsageError, match=r"--controls 20: at least [0-9]+ for ±0.03"):
        labels_needed(0.03, 0.95, 0.1, errors=errors, controls=20)


def test_more_controls_leave_less_open() -> None:
    few, many = (control_limits(0.1, Errors(0.1, 0.0), pairs, 0.95) for pairs in (20, 200))
    assert all(a > b > 0 for a, b in zip(few, many, strict=True))
    assert control_limits(0.0, Errors(), 50, 0.95)[1] == 0  # nobody was accused: the share is no higher for that
    widths = [expected_half_width(500, controls, 0.1, 0.95, Errors()) for controls in (40, 400, 4000)]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] > expected_half_width(500, 0, 0.1, 0.95, Errors())


@pytest.mark.parametrize(
    ("margin", "level", "errors", "match"),
    [
        (0.0, 0.95, None, "--margin 0"),
        (0.5, 0.95, None, "--margin 0.5"),
        (float("nan"), 0.95, None, "--margin nan"),
        (0.01, 1.0, None, "--level 1"),
        (1e-6, 0.95, None, "ask for less"),
        (0.01, 0.95, Errors(0.6, 0.4), "below 1"),
        (0.01, 0.95, Errors(-0.1, 0.4), "below 0"),
    ],
)
def test_what_cannot_be_had(margin: float, level: float, errors: Errors | None, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        labels_needed(margin, level, 0.1, errors=errors)


def test_the_share_to_plan_with_is_the_one_with_the_widest_interval() -> None:
    assert expected_share(SUMMARY)[0] == 0.1
    assert expected_share({})[0] == 0.5
    assert expected_share({"synthetic_share": {"high": 0.8}})[0] == 0.5
    assert expected_share({"synthetic_share": {"high": 0.1, "too_few": True}})[0] == 0.5


def test_a_plan_for_an_output() -> None:
    plan = plan_labels(SUMMARY, 0.02)
    needed = labels_needed(0.02, 0.95, 0.1, errors=Errors())
    assert (plan.audited, plan.controls) == (needed.documents, needed.controls)
    assert plan.half_width == pytest.approx(0.02, rel=0.01)
    assert plan.if_right == labels_needed(0.02, 0.95, 0.1).documents < plan.audited
    assert plan.reserve_expected == round(0.9 * plan.audited)
    assert plan.reserve_bound == pytest.approx(1 - 0.05 ** (1 / plan.reserve_expected))
    assert plan.by_bound["0.01"][0] == 299
    assert plan.judgements == plan.audited + round(0.15 * plan.audited) + plan.controls
    assert any(f"{plan.audited:,} labels" in line for line in describe(plan))

    assert plan_labels(SUMMARY, 0.02, labels=300).audited == 300
    assert plan_labels(SUMMARY, 0.02, labels=300).controls == 30
    assert plan_labels(SUMMARY, 0.02, controls=0).audited == plan.if_right
    small = plan_labels({**SUMMARY, "records": {"reserve": 50, "quarantine": 1, "review": 0}}, 0.02)
    assert small.audited == 51
    assert any("all that are kept" in line for line in describe(small))
    with pytest.raises(UsageError, match="--labels 100001"):
        plan_labels(SUMMARY, 0.02, labels=100_001)
