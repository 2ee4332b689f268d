"""The headline figures of one set of probabilities, each with an interval clustered by source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detectors.calibration import auroc, balanced_weights
from detectors.clustered import (
    Bool,
    Clusters,
    Float,
    auroc_interval,
    bootstrap_interval,
    cluster_draws,
    clustered_share,
)
from detectors.corpus import Corpus, text_key
from detectors.evaluation_result import AtRate, Calibrated, Interval, ReliabilityBin, Selective, View
from detectors.measures import (
    RiskCoverage,
    at_prior,
    brier_parts,
    calibration_errors,
    cross_frozen,
    reliability_bins,
    risk_by_coverage,
    roc_points,
    shifted,
)

RATES = (0.01, 0.001, 0.0001)
CLUSTERS = ("source", "overlap", "set")
_HUMANS_A_FALSE_POSITIVE = 3  # so many human texts for each that a rate allows, half of them on either side
_CURVE_POINTS = 100


@dataclass(frozen=True)
class EvaluationOptions:
    """How to measure.

    ``cluster`` is the unit of sampling. ``source``: texts of one group, that is of one original or prompt. ``overlap``:
    also what shares a run of 13 words with it, and what shares one with that; chains make this wide. ``set``: each set
    is one draw, which says what to expect of another set. ``draws`` is the number of bootstrap draws. ``prior`` adds
    calibration at another share of machine text. ``levelled`` scores the levelled view too, which doubles the time.
    """

    cluster: str = "source"
    draws: int = 500
    seed: int = 1
    prior: float | None = None
    levelled: bool = True

    def __post_init__(self) -> None:
        """Raises ValueError for a value that makes no sense."""
        if self.cluster not in CLUSTERS:
            raise ValueError(f"cluster {self.cluster!r} is none of {', '.join(CLUSTERS)}")
        if self.draws < 1:
            raise ValueError(f"draws {self.draws}: at least 1 is needed")
        if self.prior is not None and not 0 < self.prior < 1:
            raise ValueError(f"prior {self.prior} is not between 0 and 1")


@dataclass(frozen=True)
class Judged:
    """Texts on which the detector spoke: its probabilities (n,) beside the labels, and what ties the texts."""

    probability: Float
    machine: Bool
    sets: Clusters
    clusters: Clusters
    half: Bool  # which of two halves with no source in common

    def take(self, rows: Bool | npt.NDArray[np.int64]) -> Judged:
        """The rows that are marked, or at these positions."""
        return Judged(self.probability[rows], self.machine[rows], self.sets[rows], self.clusters[rows], self.half[rows])


def halves(corpus: Corpus, component: Clusters, seed: int) -> Bool:
    """Which half each text is in: whole components, about as many human texts on either side, for any order of rows."""
    keys: dict[int, int] = {}
    for number, group in zip(component.tolist(), corpus.groups.tolist(), strict=True):
        keys[number] = min(keys.get(number, 1 << 64), text_key(f"{seed}\0{group}"))
    numbers, inverse = np.unique(component, return_inverse=True)
    key = np.array([keys[number] for number in numbers.tolist()], np.uint64)
    order = np.argsort(key, kind="stable")
    human = np.bincount(inverse[~corpus.machine], minlength=len(numbers))
    sides = np.zeros(len(numbers), np.bool_)
    counts = [0, 0]
    for at in order.tolist():
        # Components without human text are dealt out by their key, the others to the side that has fewer.
        side = counts[1] < counts[0] if human[at] and counts[0] != counts[1] else bool(key[at] % np.uint64(2))
        sides[at] = side
        counts[side] += int(human[at])
    return np.asarray(sides[inverse], np.bool_)


def refusal(rate: float, machine: Bool, half: Bool) -> str | None:
    """Why a threshold for this false positive rate cannot be frozen on the sample; None where it can."""
    needed = round(_HUMANS_A_FALSE_POSITIVE / rate)
    human = ~machine
    if int(human.sum()) < needed:
        return f"a rate of {100 * rate:g} % needs {needed} human texts, and {int(human.sum())} were judged"
    fewest = min(int((human & half).sum()), int((human & ~half).sum()))
    if fewest * rate < 1:
        return f"a rate of {100 * rate:g} % needs {round(1 / rate)} human texts in each half, and one has {fewest}"
    return None


def measure_view(
    name: str, data: Judged, threshold: float, shares: tuple[int, int], options: EvaluationOptions
) -> View:
    """All figures of one view. ``shares``: texts on which the detector spoke, and on which it abstained."""
    data = data.take(np.argsort(data.probability, kind="stable"))  # what is drawn below sorts faster
    machine = data.machine
    both = bool(machine.any() and not machine.all())
    area = auroc(data.probability, machine)
    flagged = data.probability >= threshold
    of_human, of_machine = (clustered_share(flagged[rows], data.clusters[rows]) for rows in (~machine, machine))
    priors = _priors(data, options)
    return View(
        name=name,
        texts=len(machine),
        human=int((~machine).sum()),
        machine=int(machine.sum()),
        abstained=shares[1],
        auroc=area if both else None,
        auroc_interval=auroc_interval(data.probability, machine, data.clusters),
        at_rates=tuple(frozen_rates(data, rate, options) for rate in RATES),
        false_positive_rate=of_human.estimate if of_human else None,
        false_positive_interval=(of_human.low, of_human.high) if of_human else (0.0, 1.0),
        true_positive_rate=of_machine.estimate if of_machine else None,
        true_positive_interval=(of_machine.low, of_machine.high) if of_machine else (0.0, 1.0),
        calibration=tuple(_calibrated(prior, data, options) for prior in priors),
        selective=_selective(data, priors[0], shares, options) if priors else None,
        roc=tuple(roc_points(data.probability, machine)) if both else (),
    )


@dataclass(frozen=True)
class _Prior:
    name: str
    prior: float
    weighting: str
    base: Float

    def weights(self, machine: Bool, drawn: Float) -> Float:
        return at_prior(machine, self.prior, self.base * drawn)


def _priors(data: Judged, options: EvaluationOptions) -> list[_Prior]:
    """At which priors calibration is measured; none where a label is missing."""
    machine = data.machine
    if machine.all() or not machine.any():
        return []
    ones, by_set = np.ones(len(machine)), balanced_weights(machine, data.sets)
    found = [
        _Prior("prior 0.5, sets weighted", 0.5, "labels alike; within a label, a set of n texts counts √n", by_set),
        _Prior("prior 0.5", 0.5, "labels alike; within a label, each text alike", ones),
        _Prior("prior of the sample", float(machine.mean()), "each text alike; probabilities moved to the prior", ones),
    ]
    if options.prior is not None:
        words = "labels weighted to the prior, each text alike within; probabilities moved to the prior"
        found.append(_Prior(f"prior {options.prior:g}", options.prior, words, ones))
    return found


def _drawn(
    data: Judged, options: EvaluationOptions, measure: Callable[[Float], tuple[float, ...]], values: tuple[float, ...]
) -> list[Interval | None]:
    """Bootstrap intervals of measures of weights (n,), whose values on the sample are given."""
    both = bool(data.machine.any() and not data.machine.all())
    found = []
    for drawn in cluster_draws(data.clusters, options.draws, options.seed):
        whole = not both or (drawn[data.machine].any() and drawn[~data.machine].any())
        found.append(measure(drawn) if whole else (np.nan,) * len(values))
    intervals = []
    for value, draws in zip(values, np.array(found).T, strict=True):
        low, high = bootstrap_interval(value, draws)
        intervals.append(None if np.isnan(low) else (low, high))
    return intervals


def frozen_rates(data: Judged, rate: float, options: EvaluationOptions) -> AtRate:
    """Rates at the thresholds for a false positive rate, each half judged by the threshold of the other."""
    reason = refusal(rate, data.machine, data.half)
    if reason:
        return AtRate(rate, reason=reason)

    def measure(drawn: Float) -> tuple[float, ...]:
        found, _ = cross_frozen(data.probability, data.machine, data.half, rate, drawn)
        return tuple(
            float((drawn * found)[rows].sum() / drawn[rows].sum()) if drawn[rows].any() else float("nan")
            for rows in (data.machine, ~data.machine)
        )

    flagged, thresholds = cross_frozen(data.probability, data.machine, data.half, rate)
    drawn = _drawn(data, options, measure, measure(np.ones(len(flagged))))
    figures: list[tuple[float, Interval] | tuple[None, None]] = []
    for rows, interval in zip((data.machine, ~data.machine), drawn, strict=True):
        share = clustered_share(flagged[rows], data.clusters[rows])
        if share is None:
            figures.append((None, None))
            continue
        # The bootstrap holds the uncertainty of the threshold, but has no width where nothing is flagged.
        low, high = interval or (share.low, share.high)
        figures.append((share.estimate, (min(low, share.low), max(high, share.high))))
    (true, true_interval), (false, false_interval) = figures
    reason = "there is no machine text" if true is None else None
    return AtRate(rate, thresholds, true, true_interval, false, false_interval, reason)


def _calibrated(prior: _Prior, data: Judged, options: EvaluationOptions) -> Calibrated:
    machine, probability = data.machine, shifted(data.probability, prior.prior)
    weights = prior.weights(machine, np.ones(len(machine)))
    errors = calibration_errors(probability, machine, weights)
    drawn = _drawn(
        data, options, lambda drawn: calibration_errors(probability, machine, prior.weights(machine, drawn)), errors
    )
    bins = []
    for part in reliability_bins(probability, machine, weights):
        share = clustered_share(machine[part.rows], data.clusters[part.rows], weights[part.rows])
        assert share is not None  # no bin is empty
        bins.append(ReliabilityBin(part.probability, part.observed, share.low, share.high, part.weight, len(part.rows)))
    return Calibrated(
        name=prior.name,
        prior=prior.prior,
        weighting=prior.weighting,
        equal_width_error=errors.equal_width,
        equal_width_interval=drawn[0],
        equal_mass_error=errors.equal_mass,
        equal_mass_interval=drawn[1],
        brier=errors.brier,
        brier_interval=drawn[2],
        **brier_parts(probability, machine, weights)._asdict(),
        bins=tuple(bins),
    )


def _selective(data: Judged, prior: _Prior, shares: tuple[int, int], options: EvaluationOptions) -> Selective:
    def curve_of(drawn: Float) -> RiskCoverage:
        return risk_by_coverage(data.probability, data.machine, prior.weights(data.machine, drawn))

    curve = curve_of(np.ones(len(data.machine)))
    interval = _drawn(data, options, lambda drawn: (curve_of(drawn).area,), (curve.area,))[0]
    at = np.searchsorted(curve.coverage, np.arange(1, _CURVE_POINTS + 1) / _CURVE_POINTS - 1e-9)
    kept = np.unique(np.minimum(at, len(curve.coverage) - 1))
    points = tuple((min(float(curve.coverage[i]), 1.0), float(curve.risk[i])) for i in kept)
    return Selective(points, curve.area, interval, shares[0] / sum(shares))
