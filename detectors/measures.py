"""Measures of a scorer with weights on the texts: error rates at frozen thresholds, calibration, risk by coverage.

``weights`` of shape (n,) are how much each text counts, so that a label can weigh as a prior wants it, and so that a
bootstrap can draw texts. No function needs both labels unless it says so::

    flagged, thresholds = cross_frozen(probability, machine, half, 0.01)
    calibration_errors(probability, machine, at_prior(machine, 0.5))
    risk_by_coverage(probability, machine, weights).area
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Int = npt.NDArray[np.int64]

BINS = 15


def frozen_threshold(human: Float, rate: float, weights: Float | None = None) -> float:
    """The least threshold at which a further human text is flagged (probability ≥ it) at most as often as ``rate``.

    What is flagged of these n human probabilities, and one more, is at most rate · (n + 1): the split conformal
    quantile (Vovk, Gammerman and Shafer, 2005), which holds in expectation for exchangeable text. Infinite where n is
    too small.
    """
    if not len(human):
        return float("inf")
    order = np.argsort(-human, kind="stable")
    values = human[order]
    weight = np.ones(len(human)) if weights is None else weights[order]
    above = np.cumsum(weight)
    last = np.r_[values[1:] != values[:-1], True]
    if rate * (above[-1] + 1) < 1:
        return float("inf")
    # The highest value that must not be flagged.
    over = np.flatnonzero(last & (above + 1 > rate * (above[-1] + 1) * (1 + 1e-12)))
    return float(np.nextafter(np.float32(values[over[0]]), np.float32(np.inf))) if len(over) else float("-inf")


def cross_frozen(
    probability: Float, machine: Bool, half: Bool, rate: float, weights: Float | None = None
) -> tuple[Bool, tuple[float, float]]:
    """Which texts are flagged at the threshold frozen on the human texts of the *other* half; and the two thresholds.

    ``half`` of shape (n,) tells which half a text is in; the first threshold is the one applied to half 0.
    """
    flagged = np.zeros(len(probability), np.bool_)
    thresholds = []
    for here in (False, True):
        other = (half != here) & ~machine
        threshold = frozen_threshold(probability[other], rate, None if weights is None else weights[other])
        flagged |= (half == here) & (probability >= threshold)
        thresholds.append(threshold)
    return flagged, (thresholds[0], thresholds[1])


def at_prior(machine: Bool, prior: float, weights: Float | None = None) -> Float:
    """The weights (1 each by default) scaled so that machine texts together weigh ``prior`` and human ones the rest."""
    scaled = np.ones(len(machine)) if weights is None else weights.astype(np.float64)
    of_machine = float((scaled * machine).sum())
    of_human = float(scaled.sum()) - of_machine
    factors = (prior / of_machine if of_machine > 0 else 0.0, (1 - prior) / of_human if of_human > 0 else 0.0)
    return np.asarray(scaled * np.where(machine, *factors), np.float64)


def shifted(probability: Float, prior: float) -> Float:
    """Probabilities at prior 0.5 moved to another prior π, strictly between 0 and 1: log(π / (1 − π)) more log-odds."""
    p = probability
    return np.asarray(p * prior / (p * prior + (1 - p) * (1 - prior)), np.float64)


class Bin(NamedTuple):
    """One bin of the reliability plot: its rows, their mean probability, observed share and share of the weight."""

    rows: Int
    probability: float
    observed: float
    weight: float


def reliability_bins(probability: Float, machine: Bool, weights: Float, bins: int = 10) -> list[Bin]:
    """Bins of about equal weight, in ascending order; equal probabilities are never parted."""
    at = _equal_mass(probability, weights, bins)
    found = []
    for number in range(bins):
        rows = np.flatnonzero((at == number) & (weights > 0))
        total = weights[rows].sum()
        if total > 0:
            mean, observed = weights[rows] @ probability[rows] / total, weights[rows] @ machine[rows] / total
            found.append(Bin(rows, float(mean), float(observed), float(total / weights.sum())))
    return found


def _equal_mass(probability: Float, weights: Float, bins: int) -> Int:
    order = np.argsort(probability, kind="stable")
    value, weight = probability[order], weights[order]
    before = np.r_[0.0, np.cumsum(weight)]
    first = np.flatnonzero(np.r_[True, value[1:] != value[:-1]])
    last = np.r_[first[1:], len(value)]
    middle = (before[first] + before[last]) / 2 / max(before[-1], 1e-300)
    at = np.empty(len(value), np.int64)
    at[order] = np.repeat(np.minimum((middle * bins).astype(np.int64), bins - 1), last - first)
    return at


class CalibrationErrors(NamedTuple):
    """Expected calibration error in bins of equal width and of equal mass, and the Brier score."""

    equal_width: float
    equal_mass: float
    brier: float


def calibration_errors(probability: Float, machine: Bool, weights: Float, bins: int = BINS) -> CalibrationErrors:
    """The weighted mean gap between probability and observed share (Guo et al., 2017), and the Brier score."""
    weights = weights / weights.sum()
    gap = weights * (probability - machine)
    width = np.minimum((probability * bins).astype(np.int64), bins - 1)
    mass = _equal_mass(probability, weights, bins)
    return CalibrationErrors(
        float(np.abs(np.bincount(width, gap, bins)).sum()),
        float(np.abs(np.bincount(mass, gap, bins)).sum()),
        float((weights * (probability - machine) ** 2).sum()),
    )


class BrierParts(NamedTuple):
    """Brier score = reliability − resolution + uncertainty, exactly."""

    reliability: float
    resolution: float
    uncertainty: float


def brier_parts(probability: Float, machine: Bool, weights: Float) -> BrierParts:
    """The decomposition without bins of Dimitriadis, Gneiting and Jordan (2021, PNAS 118(8)).

    Reliability is what recalibrating by isotonic regression would save (0 is perfect), resolution what the recalibrated
    probabilities gain over always saying the share of machine text, uncertainty the score of always saying that.
    """
    rows = weights > 0
    p, y, w = probability[rows], machine[rows].astype(np.float64), weights[rows] / weights[rows].sum()
    value, inverse = np.unique(p, return_inverse=True)
    weight = np.bincount(inverse, w, len(value))
    observed = np.bincount(inverse, w * y, len(value)) / weight
    recalibrated = isotonic_regression(observed, weights=weight).x[inverse]
    mean = float(w @ y)
    brier, best, constant = (float(w @ (guess - y) ** 2) for guess in (p, recalibrated, mean))
    return BrierParts(brier - best, constant - best, constant)


class RiskCoverage(NamedTuple):
    """Share of the texts kept and share of the kept ones misjudged, from the most certain on; and the area under it."""

    coverage: Float
    risk: Float
    area: float


def risk_by_coverage(probability: Float, machine: Bool, weights: Float) -> RiskCoverage:
    """The risk–coverage curve (Geifman and El-Yaniv, 2017): judged at 0.5, the least certain left out first.

    Certainty is the distance from 0.5; texts of the same certainty are left out together. ``area`` (AURC) is the
    mean of the risk over the coverage.
    """
    certainty = np.abs(probability - 0.5)
    order = np.argsort(-certainty, kind="stable")
    weight = weights[order] / weights.sum()
    wrong = weight * ((probability >= 0.5) != machine)[order]
    ends = np.flatnonzero(np.r_[np.diff(certainty[order]) != 0, True])
    coverage = np.cumsum(weight)[ends]
    risk = np.divide(np.cumsum(wrong)[ends], coverage, out=np.zeros(len(ends)), where=coverage > 0)
    return RiskCoverage(coverage, risk, float((np.diff(np.r_[0.0, coverage]) * risk).sum()))


def roc_points(probability: Float, machine: Bool, most: int = 120) -> list[tuple[float, float]]:
    """False and true positive rates of the ROC, at most about ``most`` points, spaced evenly in the log of the former.

    Needs both labels.
    """
    order = np.argsort(-probability, kind="stable")
    last = np.r_[np.diff(probability[order]) != 0, True]
    positive = machine[order]
    false = (np.cumsum(~positive) / max((~machine).sum(), 1))[last]
    true = (np.cumsum(positive) / max(machine.sum(), 1))[last]
    steps = np.geomspace(1 / max((~machine).sum(), 1), 1, most)
    # The last point at or below each step, so that every drawn point is one that the sample has.
    at = np.unique(np.searchsorted(false, steps * (1 + 1e-9), "right") - 1)
    return [(float(false[i]), float(true[i])) for i in at if i >= 0]
