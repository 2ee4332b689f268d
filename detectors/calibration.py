"""From a raw score to a probability, and from probabilities to thresholds.

First Platt's logistic map (1999, "Probabilistic outputs for support vector machines") with slope and offset that depend
on the length of the text, since the same score says less of a short text::

    log-odds = (a + b·t) · score + (c + d·t)        t = log2(tokens / 200), clipped to ±2

then a monotone one from these log-odds to those that were seen: isotonic regression (Zadrozny and Elkan, 2002) over
bins of equal weight, its steps joined by lines. The tails of sets that a model has not seen are heavier than a logistic
map's: some machine text looks like any person's. One map a language, fitted with both labels weighing the same: **the
prior is 0.5**. For another prior π, add log(π / (1 − π)) to the log-odds. At every length the map is strictly
increasing in the score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

Float = npt.NDArray[np.float64]
_LEAST_SLOPE = 0.05
_REFERENCE_TOKENS = 200
_BINS = 20  # at most; with few texts fewer, of some 200 of the rarer label
_LEAST_RISE = 0.05  # of the second map: equal steps of an isotonic fit would make different scores alike
_DOUBT = 0.002  # weight of each label that a bin is given beforehand, in bins: none of them holds one label only


@dataclass(frozen=True)
class Calibration:
    """The map of one language. ``slope_by_length`` never makes the slope fall below 0.05.

    ``knots`` are the log-odds of the logistic map at which ``seen`` are the log-odds that were seen, both ascending;
    between them lines, beyond them the logistic map's own slope. Without knots the logistic map is all.
    """

    slope: float
    slope_by_length: float
    offset: float
    offset_by_length: float
    knots: tuple[float, ...] = ()
    seen: tuple[float, ...] = ()

    def probability(self, score: Float, tokens: npt.NDArray[np.int64]) -> Float:
        """Probability of machine origin at prior 0.5; shapes (n,), (n,) → (n,)."""
        odds = self.logistic(score, tokens)
        if self.knots:
            beyond = odds - np.clip(odds, self.knots[0], self.knots[-1])
            odds = np.interp(odds, self.knots, self.seen) + beyond
        return np.asarray(1 / (1 + np.exp(-np.clip(odds, -30, 30))), np.float64)

    def logistic(self, score: Float, tokens: npt.NDArray[np.int64]) -> Float:
        """The log-odds of the logistic map alone; shapes (n,), (n,) → (n,)."""
        length = _length(tokens)
        slope = np.maximum(self.slope + self.slope_by_length * length, _LEAST_SLOPE)
        return np.asarray(slope * score + self.offset + self.offset_by_length * length, np.float64)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Calibration:
        """The inverse of :meth:`to_dict`."""
        knots, seen = tuple(data.get("knots", ())), tuple(data.get("seen", ()))
        return cls(**{**data, "knots": knots, "seen": seen})


def _length(tokens: npt.NDArray[np.int64]) -> Float:
    return np.asarray(np.clip(np.log2(np.maximum(tokens, 1) / _REFERENCE_TOKENS), -2, 2), np.float64)


def logistic_regression(features: Float, positive: npt.NDArray[np.bool_], weights: Float, ridge: float = 1e-3) -> Float:
    """Weighted logistic regression by damped Newton steps; features (n, k) → coefficients (k,).

    ``weights`` are scaled to mean 1. The ridge penalty is per observation, so that separable data stay finite.
    """
    weights = weights / weights.mean()
    coefficients = np.zeros(features.shape[1])
    penalty = ridge * len(features) * np.eye(features.shape[1])
    for _ in range(100):
        fitted = 1 / (1 + np.exp(-np.clip(features @ coefficients, -30, 30)))
        gradient = features.T @ (weights * (positive - fitted)) - penalty @ coefficients
        curvature = features.T @ (features * (weights * np.maximum(fitted * (1 - fitted), 1e-6))[:, None]) + penalty
        step = np.linalg.solve(curvature, gradient)
        coefficients += np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-9:
            break
    return coefficients


def fit_calibration(
    score: Float, tokens: npt.NDArray[np.int64], machine: npt.NDArray[np.bool_], weights: Float
) -> Calibration:
    """Fits the map. Raises ValueError where one of the labels is missing."""
    if not machine.any() or machine.all():
        raise ValueError("calibration needs human and machine texts; one label is missing")
    length = _length(tokens)
    features = np.stack([score, score * length, np.ones(len(score)), length], axis=1)
    a, b, c, d = logistic_regression(features, machine, weights).tolist()
    logistic = Calibration(max(a, _LEAST_SLOPE), b, c, d)
    knots, seen = _isotonic(logistic.logistic(score, tokens), machine, weights)
    return replace(logistic, knots=knots, seen=seen)


def _isotonic(
    odds: Float, machine: npt.NDArray[np.bool_], weights: Float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean log-odds of bins of equal weight, and the log-odds that were seen in them, made strictly increasing."""
    order = np.argsort(odds, kind="stable")
    odds, machine, weights = odds[order], machine[order], weights[order] / weights.sum()
    bins = int(np.clip(min(machine.sum(), (~machine).sum()) / 200, 4, _BINS))
    at = np.minimum((np.cumsum(weights) * bins).astype(np.int64), bins - 1)
    weight = np.bincount(at, weights, bins)
    kept = weight > 0
    knots = np.bincount(at, weights * odds, bins)[kept] / weight[kept]
    doubt = _DOUBT / bins
    of_machine = (np.bincount(at, weights * machine, bins)[kept] + doubt) / (weight[kept] + 2 * doubt)
    fitted = isotonic_regression(of_machine, weights=weight[kept]).x
    seen = np.log(fitted) - np.log1p(-fitted)
    steps = np.diff(knots)
    distinct = np.concatenate([[True], steps > 1e-6])
    knots, seen = knots[distinct], seen[distinct]
    rise = np.concatenate([[0.0], _LEAST_RISE * np.cumsum(np.diff(knots))])
    # The largest sequence below which every knot keeps the least rise from the one before it.
    seen = np.maximum.accumulate(seen - rise) + rise
    return tuple(knots.tolist()), tuple(seen.tolist())


def balanced_weights(machine: npt.NDArray[np.bool_], sources: npt.NDArray[np.str_] | npt.NDArray[np.int64]) -> Float:
    """Weights by which both labels weigh the same, and a source of n texts √n within its label. Sum 1."""
    weights = np.zeros(len(machine))
    for label in (False, True):
        rows = np.flatnonzero(machine == label)
        _, inverse, counts = np.unique(sources[rows], return_inverse=True, return_counts=True)
        weights[rows] = 1 / np.sqrt(counts[inverse])
        if len(rows):
            weights[rows] /= 2 * weights[rows].sum()
    return weights


def decision_threshold(human_slices: Sequence[Float], rate: float = 0.01) -> float:
    """The least threshold at which no slice of human probabilities has more than ``rate`` flagged (probability ≥ it).

    Slices too small to tell (fewer than 1 / rate texts) are left out. Raises ValueError where none is left.
    """
    large = [np.sort(part) for part in human_slices if len(part) * rate >= 1]
    if not large:
        raise ValueError(f"no slice of human text has the {round(1 / rate)} texts that a rate of {rate} needs")
    highest = max(float(part[len(part) - 1 - int(len(part) * rate)]) for part in large)
    return float(np.nextafter(np.float32(highest), np.float32(2)))


def quantification_threshold(probability: Float, machine: npt.NDArray[np.bool_], weights: Float) -> float:
    """The threshold that maximises the weighted true minus false positive rate (Youden's J)."""
    order = np.argsort(-probability, kind="stable")
    signed = np.where(machine, weights / weights[machine].sum(), -weights / weights[~machine].sum())
    gain = np.cumsum(signed[order])
    last_of_tie = np.r_[np.diff(probability[order]) != 0, True]
    best = int(np.argmax(np.where(last_of_tie, gain, -np.inf)))
    return float(np.float32(probability[order][best]))


def auroc(score: Float, machine: npt.NDArray[np.bool_]) -> float:
    """The chance that a machine text scores above a human one, ties counting half; NaN where a label is missing."""
    human = np.sort(score[~machine])
    of_machine = score[machine]
    if not len(human) or not len(of_machine):
        return float("nan")
    below = np.searchsorted(human, of_machine, "left") + np.searchsorted(human, of_machine, "right")
    return float(below.mean() / 2 / len(human))


def true_positive_rate_at(score: Float, machine: npt.NDArray[np.bool_], rate: float) -> float:
    """The true positive rate where at most ``rate`` of the human texts score higher; NaN where a label is missing."""
    human = np.sort(score[~machine])
    if not len(human) or not machine.any():
        return float("nan")
    return float((score[machine] > human[len(human) - 1 - int(len(human) * rate)]).mean())


def expected_calibration_error(
    probability: Float, machine: npt.NDArray[np.bool_], weights: Float, bins: int = 15
) -> float:
    """Weighted mean gap between probability and observed share in equal-width bins (Guo et al., 2017)."""
    weights = weights / weights.sum()
    at = np.minimum((probability * bins).astype(np.int64), bins - 1)
    gap = np.bincount(at, weights * (probability - machine), bins)
    return float(np.abs(gap).sum())
