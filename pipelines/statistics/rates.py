"""How often a detector errs, with what is not known about it.

Rates differ between sets of text (other generators, other kinds of page) by more than counting noise. The counts of
several sets are therefore described by a beta-binomial model: the rate of a set is drawn from Beta(mu k, (1 - mu) k).
Its two parameters are integrated over on a grid, and what comes out is the predictive distribution of the rate in a set
that nobody has seen, or of one set's own rate given its counts and those of the others (partial pooling; Gelman et al.,
Bayesian Data Analysis, 3rd ed., section 5.3)::

    model = fit_groups([45, 80, 61], [50, 100, 75])
    tpr = model.unseen("tpr")  # (DRAWS,) of the rate in a new set
    fpr = fit_groups([9, 1], [900, 40]).member(1, 40, "fpr", "de")  # of the set with 1 of 40, pulled to the others

Prior: Jeffreys' for the mean; flat on the square root of the intraclass correlation 1 / (1 + k), which is the spread
between sets on its own scale (Gelman, Bayesian Analysis 1, 2006).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from detectors.histograms import SetHistograms
from pipelines.statistics.intervals import FloatArray, stratified

# The spread between sets is never taken to be less than this: no two sets of web text are the same to a detector.
_LEAST_CORRELATION = 0.001
_CORRELATIONS = np.geomspace(_LEAST_CORRELATION, 0.95, 32)
_MEANS = 48


@dataclass(frozen=True)
class RateSlice:
    """The counts on one set of labelled text, at the quantification threshold.

    ``held_out``: the detector that was counted was trained without this whole set (leave one set out), so that the
    counts speak for a set that it has not seen.
    """

    name: str
    human_n: int = 0
    human_flagged: int = 0
    machine_n: int = 0
    machine_flagged: int = 0
    language: str | None = None
    held_out: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.human_flagged <= self.human_n and 0 <= self.machine_flagged <= self.machine_n):
            raise ValueError(f"slice {self.name!r}: flagged must lie between 0 and the number of texts; got {self}")


@dataclass(frozen=True)
class DetectorRates:
    """What is known of a detector's errors at its quantification threshold."""

    name: str
    threshold: float
    slices: tuple[RateSlice, ...] = ()
    histograms: tuple[SetHistograms, ...] = ()  # the scores of left-out sets; empty where nobody counted them

    def machine(self, language: str | None = None) -> list[RateSlice]:
        """The slices with machine text to estimate the true positive rate from: those held out, if there are any.

        With a language, only those in it or of no one language, if there are any.
        """
        found = _held_out([s for s in self.slices if s.machine_n])
        return [s for s in found if s.language in (None, language)] or found

    def human(self) -> list[RateSlice]:
        """The slices with human text to estimate the false positive rate from: those held out, if there are any."""
        return _held_out([s for s in self.slices if s.human_n])


@dataclass(frozen=True)
class GroupModel:
    """The posterior on a grid: ``a`` and ``b`` of the beta distribution, and ``weight``, (points,) each."""

    a: FloatArray
    b: FloatArray
    weight: FloatArray

    def unseen(self, *name: str | int) -> FloatArray:
        """(DRAWS,) of the rate in a set that was not seen."""
        return self.member(0, 0, *name)

    def mixture(self, sources: int, *name: str | int) -> FloatArray:
        """(DRAWS,) of the rate over text of several sets that were not seen, in equal parts."""
        return np.asarray(np.mean(self._unseen(sources, *name), axis=0), np.float64)

    def mixtures(self, most: int, *name: str | int) -> FloatArray:
        """(most, DRAWS): row k - 1 is the rate over text of k sets that were not seen, in parts that are not known."""
        return mixed_in_unknown_parts(self._unseen(most, *name), *name)

    def member(self, successes: float, trials: float, *name: str | int) -> FloatArray:
        """(DRAWS,) of the rate in one of the fitted sets, given its own counts."""
        a, b = self._drawn(*name)
        drawn = special.betaincinv(a + successes, b + trials - successes, stratified("rate", *name))
        return np.asarray(np.clip(drawn, 0, 1), np.float64)

    def _unseen(self, sources: int, *name: str | int) -> FloatArray:
        a, b = self._drawn(*name)
        rates = [special.betaincinv(a, b, stratified("rate", i, *name)) for i in range(sources)]
        return np.asarray(np.clip(rates, 0, 1), np.float64)

    def _drawn(self, *name: str | int) -> tuple[FloatArray, FloatArray]:
        total = np.cumsum(self.weight)
        at = np.searchsorted(total, stratified("grid", *name) * total[-1])
        return self.a[at], self.b[at]


def mixed_in_unknown_parts(parts: FloatArray, *name: str | int) -> FloatArray:
    """Running mixtures of ``parts`` (sources, draws, ...), of the first, of the first two, and so on; the same shape.

    Every division of the text among the sources is equally likely (Dirichlet with all parameters 1, as exponential
    variates over their sum). Equal parts would be the one division that averages the most out: k sources in unknown
    parts are worth (k + 1) / 2 in equal ones.
    """
    draws = parts.shape[1]
    weights = np.stack([-np.log(stratified("part", i, *name)[:draws]) for i in range(len(parts))])
    weights = weights.reshape(*weights.shape, *([1] * (parts.ndim - 2)))
    return np.asarray(np.cumsum(weights * parts, axis=0) / np.cumsum(weights, axis=0), np.float64)


def fit_groups(successes: Sequence[int], trials: Sequence[int]) -> GroupModel:
    """Fits the beta-binomial model to the counts of several sets; with no set, the prior comes back.

    Time and memory go with the number of different pairs of counts, not with the number of sets.
    """
    counts = np.stack([np.asarray(successes, np.int64), np.asarray(trials, np.int64)], axis=1)
    counts, times = np.unique(counts[counts[:, 1] > 0], axis=0, return_counts=True)
    logits, width = np.linspace(-9, 9, _MEANS), 18.0
    # The grid closes in on the posterior: large counts make it much narrower than the first grid's steps.
    for _ in range(4):
        model, marginal = _on_grid(logits, counts, times)
        inside = np.flatnonzero(marginal > 1e-7 * marginal.max())
        step = logits[1] - logits[0]
        low, high = logits[inside[0]] - step, logits[inside[-1]] + step
        if high - low > 0.8 * width:
            break
        logits, width = np.linspace(low, high, _MEANS), high - low
    return model


def _on_grid(logits: FloatArray, counts: np.ndarray, times: np.ndarray) -> tuple[GroupModel, FloatArray]:
    mean = special.expit(logits)[:, None]
    strength = (1 / _CORRELATIONS - 1)[None, :]
    a, b = mean * strength, (1 - mean) * strength
    # Grid steps are even in logit(mean) and in log(correlation); the Jacobians turn the priors to those scales.
    log_weight = 0.5 * np.log(mean * (1 - mean)) + 0.5 * np.log(_CORRELATIONS)[None, :]
    for (x, n), repeat in zip(counts, times, strict=True):
        log_weight = log_weight + repeat * (special.betaln(a + x, b + n - x) - special.betaln(a, b))
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    return GroupModel(a.ravel(), b.ravel(), weight.ravel()), weight.sum(axis=1)


def _held_out(slices: list[RateSlice]) -> list[RateSlice]:
    return [s for s in slices if s.held_out] or slices
