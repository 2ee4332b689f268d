"""The trend of a share over months: a random walk seen with known errors, smoothed, with a band.

The state is the share itself, not its logit: an adjusted count is linear in the share, so that its error is the same
at a share of 0 as beside it, while a logit sends every month without a flagged document to minus infinity::

    found = trend([Observation(0, 0.02, 1e-4), Observation(1, 0.05, 1e-4), Observation(3, 0.06, 1e-4)])
    found.mean, found.low, found.high      # months 0 to 3; month 2 is interpolated
    found.change(0, 3), found.slope(12)

x_t = x_{t-1} + w_t with w_t ~ N(0, σ²) is the local level model, y_i = x_{t(i)} + e_i with e_i ~ N(0, v_i) and v_i
known. The first month has a flat prior (Durbin & Koopman, Time Series Analysis by State Space Methods, 2nd ed. 2012,
sections 2.2 to 2.9 and 5.2). σ maximises the diffuse likelihood; as that is often 0 for a short series, however much
the truth moves, the band averages over σ on a grid, with a flat prior (Gelman, Bayesian Analysis 1, 2006, section 4).

What is known of the detector's rates is the same in all months, and no number of months averages it out. With
p = (q - f) / (t - f), an error of the true positive rate t moves p by a multiple of p, and one of the false positive
rate f by a multiple of 1 - p: :class:`Common` has both multiples. The band at a share p holds both in full; a
difference d of two months holds the same multiples of d.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import optimize, special

from pipelines.statistics.intervals import FloatArray

YEAR = 12
# σ of a month, in units of the share: 0, and evenly in its logarithm.
_SIGMAS: FloatArray = np.concatenate([[0.0], np.geomspace(1e-4, 0.3, 32)])


class Observation(NamedTuple):
    """One run's estimate of one month. ``variance`` is that of sampling alone, and must be over 0."""

    month: int  # any origin
    value: float  # may lie outside [0, 1]: an adjusted count that is clipped would not be unbiased
    variance: float


class Common(NamedTuple):
    """How far a limit at the level moves with the rates' error: ``tpr`` × p and ``fpr`` × (1 - p), on either side."""

    tpr_down: float = 0.0
    tpr_up: float = 0.0
    fpr_down: float = 0.0
    fpr_up: float = 0.0

    def at(self, share: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Downwards and upwards, of the band at ``share``."""
        p = np.clip(share, 0, 1)
        return (
            np.hypot(self.tpr_down * p, self.fpr_down * (1 - p)),
            np.hypot(self.tpr_up * p, self.fpr_up * (1 - p)),
        )

    def of_difference(self, difference: float) -> tuple[float, float]:
        """Downwards and upwards, of a difference between months; more share means more difference, either way."""
        down, up = (math.hypot(*sides) * abs(difference) for sides in (self[::2], self[1::2]))
        return (down, up) if difference >= 0 else (up, down)


class Smoothed(NamedTuple):
    """By σ: (σ, months) means, (σ, months, months) covariances, (σ,) diffuse log-likelihoods up to a constant."""

    mean: FloatArray
    covariance: FloatArray
    log_likelihood: FloatArray


class Change(NamedTuple):
    """A difference of shares with its interval."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Trend:
    """The band from ``first`` to ``first + len(mean) - 1``; ``*_sampling`` leave the common error out."""

    first: int
    mean: FloatArray
    low: FloatArray
    high: FloatArray
    low_sampling: FloatArray
    high_sampling: FloatArray
    observed: tuple[int, ...]  # observations of each month; 0: interpolated
    level: float
    common: Common
    paths: Smoothed  # of the grid's σ
    weights: FloatArray
    observations: tuple[Observation, ...]

    @functools.cached_property
    def sigma(self) -> float:
        """The standard deviation of a month's step, by maximum likelihood; the band does not rest on it alone."""
        return _most_likely(self.observations, self.paths.log_likelihood)

    def change(self, begin: int, end: int) -> Change:
        """From one month to another, both of the band."""
        at = np.zeros(len(self.mean))
        at[end - self.first] += 1
        at[begin - self.first] -= 1
        return self._linear(at)

    def slope(self, months: int = YEAR) -> Change:
        """By month, of the least-squares line through the last ``months`` of the path (or all, where it is shorter).

        Raises:
            ValueError: for a band of fewer than two months.
        """
        count = min(months, len(self.mean))
        if count < 2:
            raise ValueError("a slope needs a band of two months or more")
        steps = np.arange(count) - (count - 1) / 2
        at = np.zeros(len(self.mean))
        at[-count:] = steps / (steps @ steps)
        return self._linear(at)

    def _linear(self, at: FloatArray) -> Change:
        means = self.paths.mean @ at
        sds = np.sqrt(np.maximum(self.paths.covariance @ at @ at, 0))
        low, middle, high = _mixed(means[:, None], sds[:, None], self.weights, self.level)
        down, up = self.common.of_difference(middle[0])
        return Change(
            float(middle[0]),
            float(middle[0] - math.hypot(middle[0] - low[0], down)),
            float(middle[0] + math.hypot(high[0] - middle[0], up)),
        )


def trend(observations: Sequence[Observation], common: Common | None = None, level: float = 0.95) -> Trend:
    """The smoothed path of the share and its band.

    Args:
        observations: in any order; several of one month are as many looks at the same share.
        common: error that all months have in common, as half-widths at ``level``.
        level: of the band, month by month.

    Raises:
        ValueError: without an observation, or where a variance is not over 0.
    """
    if not observations:
        raise ValueError("there is no observation to draw a trend through")
    if any(not one.variance > 0 for one in observations):
        raise ValueError("an observation needs a variance over 0")
    common = common or Common()
    first, last = min(one.month for one in observations), max(one.month for one in observations)
    ordered = sorted(observations)
    paths = smooth(ordered, _SIGMAS)
    weights = _weights(paths.log_likelihood)
    sds = np.sqrt(np.diagonal(paths.covariance, axis1=1, axis2=2))
    low, middle, high = _mixed(paths.mean, sds, weights, level)
    down, up = common.at(middle)
    counts = np.bincount([one.month - first for one in observations], minlength=last - first + 1)
    return Trend(
        first,
        np.clip(middle, 0, 1),
        np.clip(middle - np.hypot(middle - low, down), 0, 1),
        np.clip(middle + np.hypot(high - middle, up), 0, 1),
        np.clip(low, 0, 1),
        np.clip(high, 0, 1),
        tuple(counts.tolist()),
        level,
        common,
        paths,
        weights,
        tuple(ordered),
    )


def smooth(observations: Sequence[Observation], sigmas: FloatArray) -> Smoothed:
    """The Kalman filter and the fixed-interval smoother, for several σ side by side.

    The covariances between months come from the smoother's gains (de Jong & Mackinnon, Biometrika 75, 1988).

    Args:
        observations: sorted by month, from whose first to whose last the path goes.
        sigmas: (σ,) standard deviations of a month's step.
    """
    first, months = observations[0].month, observations[-1].month - observations[0].month + 1
    mean, variance, predicted = (np.empty((months, len(sigmas))) for _ in range(3))
    by_month: list[list[Observation]] = [[] for _ in range(months)]
    for one in observations[1:]:
        by_month[one.month - first].append(one)
    # The first observation alone, under a flat prior, is where the path begins.
    level = np.full(len(sigmas), observations[0].value)
    spread = np.full(len(sigmas), observations[0].variance)
    log_likelihood = np.zeros(len(sigmas))
    for month, seen in enumerate(by_month):
        spread = spread + (sigmas**2 if month else 0.0)
        predicted[month] = spread
        for one in seen:
            total, error = spread + one.variance, one.value - level
            log_likelihood -= 0.5 * (np.log(total) + error**2 / total)
            level, spread = level + spread / total * error, spread * one.variance / total
        mean[month], variance[month] = level, spread
    gains = variance[:-1] / predicted[1:]
    for month in range(months - 2, -1, -1):
        variance[month] += gains[month] ** 2 * (variance[month + 1] - predicted[month + 1])
        mean[month] += gains[month] * (mean[month + 1] - mean[month])
    # Between months i < j: the gains of i to j - 1, times the variance of j.
    chained = np.vstack([np.zeros(len(sigmas)), np.cumsum(np.log(gains), axis=0)]).T
    early, later = (pick.outer(np.arange(months), np.arange(months)) for pick in (np.minimum, np.maximum))
    covariance = np.exp(chained[:, later] - chained[:, early]) * variance.T[:, later]
    return Smoothed(mean.T, covariance, log_likelihood)


class Width(NamedTuple):
    """One interval that holds both errors, as (downwards, upwards) half-widths; NaN where it ends at 0 or at 1."""

    share: float
    whole: tuple[float, float]
    sampling: tuple[float, float]  # of the interval that known rates would give
    documents: float


def fit_common(widths: Sequence[Width], fpr: float | None = None) -> Common:
    """The common error behind intervals that hold it beside sampling error.

    Of each interval the squared half-width, less that of sampling alone, is taken for (tpr × p)² + (fpr × (1 - p))²;
    both by least squares without negative parts (Lawson & Hanson 1974, chapter 23), weighted by documents: the whole
    of a run says most, since sampling counts for least in it.

    Args:
        widths: at least one; a side of which all intervals are cut off is taken from the other.
        fpr: half-width of the false positive rate over TPR - FPR, where it is known; else it is fitted as well.
    """
    sides = [_fit_side(widths, side, fpr) for side in (0, 1)]
    known = [side for side in sides if side is not None]
    lower, upper = (side or (known[0] if known else (0.0, fpr or 0.0)) for side in sides)
    return Common(lower[0], upper[0], lower[1], upper[1])


def _fit_side(widths: Sequence[Width], side: int, fpr: float | None) -> tuple[float, float] | None:
    used = [one for one in widths if math.isfinite(one.whole[side]) and math.isfinite(one.sampling[side])]
    if not used:
        return None
    p, weight = (np.array([getattr(one, name) for one in used]) for name in ("share", "documents"))
    squared = np.array([max(one.whole[side] ** 2 - one.sampling[side] ** 2, 0.0) for one in used])
    if fpr is None:
        parts, _ = optimize.nnls(np.column_stack([p**2, (1 - p) ** 2]) * weight[:, None], squared * weight)
        return math.sqrt(parts[0]), math.sqrt(parts[1])
    rest = np.maximum(squared - (fpr * (1 - p)) ** 2, 0)
    total = float(weight**2 @ p**4)
    return math.sqrt(float(weight**2 @ (rest * p**2)) / total) if total > 0 else 0.0, fpr


def _weights(log_likelihood: FloatArray) -> FloatArray:
    """Of the grid's σ under a flat prior: likelihood times the width of the step (trapezoid)."""
    steps = np.diff(_SIGMAS)
    widths = np.append(steps, 0) / 2 + np.insert(steps, 0, 0) / 2
    weights = np.exp(log_likelihood - log_likelihood.max()) * widths
    return np.asarray(weights / weights.sum(), np.float64)


def _most_likely(ordered: Sequence[Observation], on_grid: FloatArray) -> float:
    def badness(sigma: float) -> float:
        return -float(smooth(ordered, np.array([sigma])).log_likelihood[0])

    best = int(np.argmax(on_grid))
    bounds = _SIGMAS[max(best - 1, 0)], _SIGMAS[min(best + 1, len(_SIGMAS) - 1)]
    found = optimize.minimize_scalar(badness, bounds=bounds, method="bounded", options={"xatol": 1e-7})
    return float(found.x) if -found.fun > on_grid[best] else float(_SIGMAS[best])


def _mixed(means: FloatArray, sds: FloatArray, weights: FloatArray, level: float) -> tuple[FloatArray, ...]:
    """Lower limit, mean and upper limit of mixtures of normal distributions, by bisection.

    Args:
        means: (components, quantities).
        sds: (components, quantities).
        weights: (components,).
        level: two-sided.
    """
    tail = (1 - level) / 2
    limits = []
    reach = 9 * sds.max(axis=0)
    for wanted in (tail, 1 - tail):
        low, high = means.min(axis=0) - reach, means.max(axis=0) + reach
        for _ in range(28):
            middle = (low + high) / 2
            with np.errstate(divide="ignore", invalid="ignore"):
                scores = np.where(sds > 0, (middle - means) / sds, np.sign(middle - means) * np.inf)
            below = weights @ special.ndtr(np.nan_to_num(scores, nan=0.0)) < wanted
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        limits.append((low + high) / 2)
    return limits[0], np.asarray(weights @ means, np.float64), limits[1]
