"""The gate: its interval covers, it refuses what is worse or no better, and lets through what is better."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from detectors.corpus import SCORED_CHARACTERS, text_key
from detectors.embedded import CARD_FILE, Embedded
from detectors.gate import GateOptions, gate, loss_difference, recall_difference
from detectors.levelling import level
from detectors.updating import Texts, UpdateOptions, fit_update, prepare, update
from tests.detectors.generated import shifted_texts

Float = npt.NDArray[np.float64]
FAST = GateOptions(draws=400)


def _models(
    random: np.random.Generator, human: int, machine: int, old: float, new: float
) -> tuple[Float, Float, npt.NDArray[np.bool_]]:
    """Calibrated probabilities of two models whose evidence is shared in part; log-odds d of N(±d/2, d) are so."""
    label = np.arange(human + machine) < machine
    shared = random.normal(size=len(label))
    sign = np.where(label, 1.0, -1.0)

    def model(strength: float) -> Float:
        noise = 0.8 * shared + 0.6 * random.normal(size=len(label))
        return np.asarray(1 / (1 + np.exp(-(sign * strength / 2 + np.sqrt(strength) * noise))))

    return model(old), model(new), label


def test_equal_models_are_refused() -> None:
    old, _, label = _models(np.random.default_rng(1), 300, 60, 3, 3)
    decision = gate(old, old, label, options=FAST)
    assert not decision.accepted
    assert "no better" in decision.reason
    assert (decision.difference, decision.low, decision.high) == (0, 0, 0)


def test_better_model_is_accepted_and_the_worse_refused() -> None:
    old, new, label = _models(np.random.default_rng(2), 500, 80, 2, 8)
    there, back = gate(old, new, label, options=FAST), gate(new, old, label, options=FAST)
    assert there.accepted
    assert there.low > 0
    assert there.recall.new > there.recall.old
    assert not back.accepted
    assert "surely worse" in back.reason
    assert back.difference == pytest.approx(-there.difference)


def test_seldom_lets_through_what_is_worse() -> None:
    """A model whose loss is higher by just the margin passes in some 2.5 % of audits, the interval's tail."""
    passed, rule = 0, replace(FAST, draws=10)
    for seed in range(300):
        change = rule.margin + np.random.default_rng(seed).normal(0, 0.1, 300)
        label = np.arange(300) < 40
        right = 0.5 * np.exp(-change)
        passed += gate(np.full(300, 0.5), np.where(label, right, 1 - right), label, options=rule).accepted
    assert passed <= 15


def test_interval_of_the_loss_covers() -> None:
    """Rare machine text, unequal weights: at least 93 % of 95 % intervals hold the true difference."""
    truth, held = _true_difference(), 0
    for seed in range(400):
        random = np.random.default_rng(seed)
        old, new, label = _models(random, 200, 25, 2.0, 4.0)
        # Weights that have to do with nothing leave the truth as it is.
        weights = random.choice([1.0, 3.0], len(label))
        found = loss_difference(old, new, label, weights, FAST)
        held += found.low <= truth <= found.high
    assert held / 400 >= 0.93


def _true_difference() -> float:
    old, new, label = _models(np.random.default_rng(99), 400_000, 400_000, 2.0, 4.0)
    inside = [np.clip(part, FAST.certain, 1 - FAST.certain) for part in (old, new)]
    losses = [-np.log(np.where(label, part, 1 - part)) for part in inside]
    return float((losses[1] - losses[0]).mean())


def test_recall_may_not_fall_for_a_better_loss() -> None:
    """A few human documents far up cost little loss and all of the recall."""
    label = np.arange(400) < 100
    old = np.where(label, 0.8, 0.3) + np.random.default_rng(1).normal(0, 0.01, 400)
    new = np.where(label, 0.9, 0.1)
    new[390:] = 0.95
    decision = gate(old, new, label, options=FAST)
    assert decision.low > 0
    assert not decision.accepted
    assert "recall at 1% false positives falls" in decision.reason


def test_weights_undo_unequal_chances() -> None:
    """Documents of a kind that is drawn ten times as often do not count ten times."""
    random = np.random.default_rng(7)
    old, new, label = _models(random, 20_000, 4_000, 2, 5)
    chance = np.where(np.arange(len(label)) % 2, 0.5, 0.05)
    new = np.where(np.arange(len(label)) % 2, new, old)  # better on the kind that is drawn often, and only there
    drawn = random.random(len(label)) < chance
    whole = loss_difference(old, new, label, np.ones(len(label)), FAST)
    part = loss_difference(old[drawn], new[drawn], label[drawn], 1 / chance[drawn], FAST)
    plain = loss_difference(old[drawn], new[drawn], label[drawn], np.ones(int(drawn.sum())), FAST)
    assert part.low <= whole.difference <= part.high
    assert abs(part.difference - whole.difference) < abs(plain.difference - whole.difference)


def test_recall_is_that_at_the_rate() -> None:
    random = np.random.default_rng(3)
    old, new, label = _models(random, 1000, 200, 3, 6)
    found = recall_difference(old, new, label, np.ones(len(label)), FAST)
    for score, recall in ((old, found.old), (new, found.new)):
        best = max(
            (float((score[label] > t).mean()) for t in score[~label] if (score[~label] > t).mean() <= 0.01), default=0
        )
        assert recall == pytest.approx(best)


def test_weights_of_the_recall_are_repeats() -> None:
    random = np.random.default_rng(4)
    old, new, label = _models(random, 300, 50, 3, 6)
    times = random.integers(1, 4, len(label))
    repeated = [np.repeat(part, times) for part in (old, new, label)]
    one = recall_difference(old, new, label, times.astype(np.float64), FAST)
    other = recall_difference(*repeated, np.ones(int(times.sum())), FAST)
    assert (one.old, one.new) == pytest.approx((other.old, other.new))


def test_too_few_documents_decide_nothing() -> None:
    old, new, label = _models(np.random.default_rng(5), 300, 19, 2, 9)
    decision = gate(old, new, label)
    assert not decision.accepted
    assert "19 machine documents" in decision.reason


def test_abstaining_counts_as_a_half() -> None:
    old, new, label = _models(np.random.default_rng(6), 200, 50, 2, 9)
    silent = np.full(len(label), np.nan)
    assert gate(silent, new, label, options=FAST).loss.old == pytest.approx(np.log(2))
    assert not gate(old, silent, label, options=FAST).accepted


@pytest.mark.parametrize("weights", [[0.0] * 250, [1.0] * 3])
def test_bad_input_is_refused(weights: list[float]) -> None:
    old, new, label = _models(np.random.default_rng(6), 200, 50, 2, 9)
    with pytest.raises(ValueError, match=r"shapes|weights"):
        gate(old, new, label, weights)


def _labelled(seed: int, rows: int = 120) -> Texts:
    texts, machine = shifted_texts(seed, rows)
    return Texts(texts, np.array(machine), [str(row) for row in range(rows)], ["en"] * rows)


def test_update_teaches_and_the_gate_tells_wrong_labels(trained: Path, tmp_path: Path) -> None:
    labels, audit = _labelled(1), _labelled(2, 200)
    flipped = labels._replace(machine=~labels.machine)
    update(trained, labels, tmp_path / "right")
    update(trained, flipped, tmp_path / "wrong")
    old, right, wrong = (
        Embedded(folder).score(audit.texts, audit.languages).probability
        for folder in (trained, tmp_path / "right", tmp_path / "wrong")
    )
    assert gate(old, right, audit.machine).accepted
    refused = gate(old, wrong, audit.machine)
    assert not refused.accepted
    assert "surely worse" in refused.reason


def test_updated_folder_is_a_detector_that_knows_what_it_learned_from(trained: Path, tmp_path: Path) -> None:
    labels = _labelled(1)
    settings = update(trained, labels, tmp_path / "one")
    update(trained, labels, tmp_path / "two")
    for file in sorted((tmp_path / "one").iterdir()):
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
    keys = [text_key(level(text[:SCORED_CHARACTERS])) for text in labels.texts]
    updated = Embedded(tmp_path / "one")
    assert updated.seen().contains(keys).all()
    assert not Embedded(trained).seen().contains(keys).any()
    assert updated.error_rates() == Embedded(trained).error_rates()
    assert settings["updates"][0]["from"] == Embedded(trained).digest
    assert "Updates with labels" in (tmp_path / "one" / CARD_FILE).read_text("utf-8")


def test_labels_by_lot_leave_the_model(trained: Path) -> None:
    """Where the old model can say nothing, and a penalty lets the new one learn lots by heart."""
    options = UpdateOptions(penalties=(1e-4,))
    data = prepare(Embedded(trained), _labelled(1), options)
    data = data._replace(odds=np.zeros_like(data.odds))
    lots = [np.random.default_rng(seed).random(len(data.odds)) < 0.5 for seed in range(8)]
    fitted = [fit_update(data._replace(machine=one), options) for one in lots]
    assert np.mean([one.losses[1e-4] for one in fitted]) > np.mean([one.old_loss for one in fitted]) + 0.1
    kept = [one for one in fitted if one.penalty == np.inf]
    assert len(kept) >= 6
    assert not any(one.alpha.any() for one in kept)


def test_labels_that_teach_too_little_are_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="teach the model nothing"):
        update(trained, _labelled(1), tmp_path / "new", UpdateOptions(gain=50.0))
    assert not (tmp_path / "new").exists()


def test_update_minimises_the_penalised_loss(trained: Path) -> None:
    """The dual solution is that of gradient descent on the weights themselves."""
    from scipy import optimize

    options = UpdateOptions(penalties=(0.3,), gain=-np.inf)
    data = prepare(Embedded(trained), _labelled(3, 40), options)
    fitted = fit_update(data, options)
    scaled = np.asarray(data.vectors.todense()) * data.slope[:, None]
    used = np.flatnonzero(scaled.any(axis=0))
    scaled = scaled[:, used]

    def objective(point: Float) -> tuple[float, Float]:
        odds = data.odds + scaled @ point[1:] + point[0]
        sign = np.where(data.machine, 1.0, -1.0)
        slope = -sign / (1 + np.exp(sign * odds))
        value = np.logaddexp(0, -sign * odds).sum() + 0.15 * (point[1:] ** 2).sum()
        return float(value), np.concatenate([[slope.sum()], scaled.T @ slope + 0.3 * point[1:]])

    best = optimize.minimize(
        objective, np.zeros(1 + len(used)), jac=True, method="L-BFGS-B", options={"maxiter": 5000, "ftol": 1e-14}
    )
    np.testing.assert_allclose(scaled.T @ fitted.alpha, best.x[1:], atol=2e-3)
