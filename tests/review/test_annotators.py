"""People's errors: from controls, weighed together, and by Dawid and Skene's model against its likelihood spelt out."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import product

import numpy as np
import pyarrow as pa
import pytest
from scipy import optimize, stats

from pipelines.review.annotators import (
    Calls,
    Confusion,
    Counts,
    Doubt,
    as_dict,
    control_errors,
    dawid_skene,
    pool,
    values,
)
from pipelines.review.records import LABELS, Truth

MACHINE, HUMAN = Truth.MACHINE, Truth.HUMAN
THEN = datetime(2026, 5, 1, tzinfo=UTC)


def answers(rows: Sequence[tuple[str, str, str]]) -> pa.Table:
    """In the order in which they were given."""
    names = ("task_id", "annotator", "label", "at", "seconds", "comment", "tool")
    times = (THEN + timedelta(minutes=at) for at in range(len(rows)))
    whole = [(*row, when, None, None, "jsonl") for row, when in zip(rows, times, strict=True)]
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in whole], LABELS)


def test_answers_to_controls() -> None:
    controls = {**{f"m{at}": MACHINE for at in range(4)}, **{f"h{at}": HUMAN for at in range(3)}}
    said = {"m0": "machine", "m1": "edited", "m2": "human", "m3": "cannot_tell", "h0": "human", "h1": "edited"}
    found = control_errors(
        answers([(task, "ada", label) for task, label in said.items()] + [("d", "bob", "human")]), controls
    )
    ada = found["ada"]
    assert ada.on_machine == Calls(human=1, machine=2, cannot_tell=1)
    assert ada.on_human == Calls(human=1, machine=1, cannot_tell=0)
    assert ada.counts(Doubt.APART) == Counts(3, 2, 2, 1)
    assert ada.counts(Doubt.MACHINE) == Counts(4, 3, 2, 1)
    assert ada.counts(Doubt.HUMAN) == Counts(4, 2, 2, 1)
    exact = stats.binomtest(2, 3).proportion_ci(0.95, "exact")
    assert ada.sensitivity == pytest.approx((2 / 3, exact.low, exact.high, 2, 3))
    assert found["bob"].specificity == (None, 0.0, 1.0, 0, 0)
    assert as_dict(ada)["on_machine"] == {"human": 1, "machine": 2, "cannot_tell": 1}


def test_pooled_in_like_proportions_is_the_sum() -> None:
    ada, bob = Confusion(Calls(2, 17, 1), Calls(19, 1, 0)), Confusion(Calls(4, 36, 0), Calls(38, 0, 2))
    found = pool({"ada": ada, "bob": bob}, {"ada": 100, "bob": 200})
    assert found.on_machine == pytest.approx(Calls(6, 53, 1))
    assert found.on_human == pytest.approx(Calls(57, 1, 2))


def test_pooled_by_what_each_contributes() -> None:
    sure, careless = Confusion(Calls(0, 50, 0), Calls(50, 0, 0)), Confusion(Calls(25, 25, 0), Calls(50, 0, 0))
    found = pool({"ada": sure, "bob": careless, "cyd": Confusion(Calls(), Calls())}, {"ada": 300, "bob": 100, "cyd": 9})
    assert found.sensitivity.share == pytest.approx(0.75 * 1 + 0.25 * 0.5)
    # 1 / (0.75² / 50 + 0.25² / 50): fewer than the hundred that answered.
    assert found.sensitivity.trials == pytest.approx(80)
    assert pool({}, {}).counts(Doubt.APART) == Counts(0, 0, 0, 0)


def test_two_who_differ_count_half_each() -> None:
    table = answers([("1", "ada", "human"), ("1", "bob", "edited"), ("2", "ada", "cannot_tell"), ("x", "ada", "human")])
    found = values(table, {"1": 2, "2": 1, "3": 1})
    assert found == {"1": (0.5, 0.5, 0, 0.5, 2), "2": (0, 0, 1, 0, 1)}


def test_a_third_who_is_asked_since_two_differ_does_not_count() -> None:
    rows = [("1", "ada", "human"), ("1", "bob", "machine"), ("1", "cyd", "machine")]
    assert values(answers(rows), {"1": 2})["1"].machine == 0.5
    assert values(answers(rows), {"1": 3})["1"].machine == pytest.approx(2 / 3)


@pytest.mark.parametrize("share", [0.1, 0.35])
def test_the_mean_of_answers_is_what_one_answer_would_be_on_average(share: float) -> None:
    """Over all answers of two people, exactly; with a third in case of doubt it would be another."""
    mean = third = 0.0
    for first, second, last in product((0, 1), repeat=3):
        chance = math.prod(share if said else 1 - share for said in (first, second, last))
        words = ["machine" if said else "human" for said in (first, second, last)]
        rows = [("1", who, word) for who, word in zip(("ada", "bob", "cyd"), words, strict=True)]
        mean += chance * values(answers(rows), {"1": 2})["1"].machine
        third += chance * (values(answers(rows), {"1": 3})["1"].machine if first != second else (first + second) / 2)
    assert mean == pytest.approx(share)
    assert abs(third - share) > 0.01


def log_likelihood(
    rows: Sequence[tuple[str, str, str]],
    controls: Mapping[str, Truth],
    share: float,
    missed: Mapping[str, float],
    accused: Mapping[str, float],
) -> float:
    """Of answers that are human or machine: the sum over both truths of each document."""
    total = 0.0
    for task in {task for task, _, _ in rows}:
        chances = {}
        for truth, prior in ((MACHINE, share), (HUMAN, 1 - share)):
            wrong = missed if truth is MACHINE else accused
            said = [(who, label == truth.value) for one, who, label in rows if one == task]
            chances[truth] = math.prod([wrong[who] if not right else 1 - wrong[who] for who, right in said])
            chances[truth] *= 1 if task in controls else prior
        total += math.log(chances[controls[task]] if task in controls else sum(chances.values()))
    return total


def test_the_model_is_the_maximum_of_the_likelihood() -> None:
    random_numbers = np.random.default_rng(3)
    truth = {f"{at:02}": random_numbers.random() < 0.4 for at in range(40)}
    controls = {task: MACHINE if truth[task] else HUMAN for task in list(truth)[:12]}
    wrong = {"ada": 0.15, "bob": 0.3}
    rows = [
        (task, who, "machine" if machine ^ (random_numbers.random() < error) else "human")
        for task, machine in truth.items()
        for who, error in wrong.items()
    ]
    found = dawid_skene(answers(rows), controls)

    def cost(parameters: np.ndarray) -> float:
        share, *errors = (1 / (1 + np.exp(-parameters))).tolist()
        names = ("ada", "bob")
        return -log_likelihood(
            rows, controls, share, dict(zip(names, errors[:2], strict=True)), dict(zip(names, errors[2:], strict=True))
        )

    best = optimize.minimize(cost, np.array([0.0, -1, -1, -1, -1]), method="BFGS")
    share, *errors = (1 / (1 + np.exp(-best.x))).tolist()
    assert found.log_likelihood == pytest.approx(-best.fun, abs=1e-5)
    assert found.share == pytest.approx(share, abs=2e-3)
    mine = [1 - found.sensitivity["ada"], 1 - found.sensitivity["bob"]]
    mine += [1 - found.specificity["ada"], 1 - found.specificity["bob"]]
    assert mine == pytest.approx(errors, abs=2e-3)
    assert all(found.machine[task] == (one is MACHINE) for task, one in controls.items())


def test_the_model_recovers_errors_and_share() -> None:
    random_numbers = np.random.default_rng(11)
    truth = random_numbers.random(2000) < 0.2
    wrong = {"ada": (0.05, 0.02), "bob": (0.25, 0.1)}  # missed, accused
    rows = []
    for at, machine in enumerate(truth.tolist()):
        for who, (missed, accused) in wrong.items():
            unsure, err = random_numbers.random() < 0.1, random_numbers.random() < (missed if machine else accused)
            rows.append((f"{at}", who, "cannot_tell" if unsure else "machine" if machine ^ err else "human"))
    controls = {f"{at}": MACHINE if truth[at] else HUMAN for at in range(200)}
    found = dawid_skene(answers(rows), controls)
    for who, (missed, accused) in wrong.items():
        assert found.sensitivity[who] == pytest.approx(1 - missed, abs=0.04)
        assert found.specificity[who] == pytest.approx(1 - accused, abs=0.02)
    assert found.share == pytest.approx(float(truth[200:].mean()), abs=0.015)


def test_the_model_wants_controls_of_both_kinds() -> None:
    with pytest.raises(ValueError, match="both kinds"):
        dawid_skene(answers([("1", "ada", "human"), ("2", "ada", "machine")]), {"1": HUMAN})


def test_the_model_bears_with_people_who_saw_one_kind() -> None:
    rows = [("m", "ada", "machine"), ("h", "ada", "human"), ("m", "bob", "machine"), ("d", "ada", "human")]
    found = dawid_skene(answers(rows), {"m": MACHINE, "h": HUMAN})
    assert found.sensitivity == {"ada": 1.0, "bob": 1.0}
    assert found.specificity["ada"] == 1.0
    assert math.isnan(found.specificity["bob"])
    assert found.machine["d"] < 0.5


def test_limits_of_pooled_rates_hold_the_truth() -> None:
    """Two people of unlike care, in unlike proportions: the interval of their weighed sensitivity covers."""
    random_numbers, hits, runs = np.random.default_rng(5), 0, 800
    truth = 0.8 * 0.95 + 0.2 * 0.8
    for _ in range(runs):
        ada, bob = random_numbers.binomial([60, 40], [0.95, 0.8]).tolist()
        errors = {"ada": Confusion(Calls(60 - ada, ada), Calls()), "bob": Confusion(Calls(40 - bob, bob), Calls())}
        rate = pool(errors, {"ada": 400, "bob": 100}).sensitivity
        hits += rate.low <= truth <= rate.high
    assert hits / runs >= 0.94
