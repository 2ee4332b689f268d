"""A slice against its reference: the months of its language before the cut-off, or another corpus.

Months of human text differ among themselves, by season, by topic and by what the crawler met, and far more than draws
of documents would. What is asked is therefore not whether a slice differs from the months before the cut-off, but
whether it lies further out than another month like those would, in the direction that is bad::

    months = [comparable(state) for state in before]
    reference = reference_of([one["mattr"] for one in months], measure("mattr"))
    p = p_value(comparable(state)["mattr"], reference, measure("mattr"))
    alarm = benjamini_hochberg(all_p_values) <= 1 - level

The months follow a random-effects model (Higgins, Thompson & Spiegelhalter, J. R. Stat. Soc. A 172, 2009): month i has
the value m + u_i, with u_i of variance τ², and is known with its own standard error. τ² is that of Paule & Mandel
(1982; DerSimonian & Kacker, Contemp. Clin. Trials 28, 2007): where all months are known alike, and differ more than
their errors explain, the prediction is then exactly that of Student's t from the months alone, even of two. The months
are taken to be exchangeable: a trend that was there before the cut-off widens the band, but is not continued.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from pipelines.statistics.panel.drift import two_sample
from pipelines.statistics.panel.equal import DOCUMENTS, without
from pipelines.statistics.panel.estimators import (
    LOG,
    NOTHING,
    Estimate,
    Float,
    Int,
    estimate,
    off_scale,
    on_scale,
)
from pipelines.statistics.panel.measures import HIGHER, NEITHER, Measure, comparable, measure, pooled
from pipelines.statistics.panel.sketches import MAX_THETA
from pipelines.statistics.panel.state import GROUPS, State

DRIFT = "surprisal_drift"
_TRIGRAMS = 148  # of a document of the equal sample
_LEAST_TYPES = 20  # n-grams under the common theta, for an overlap to be told
_KOLMOGOROV_SQUARE = math.pi**2 / 12  # the mean of the square of Kolmogorov's distribution
_KOLMOGOROV_SD = 0.2603  # its standard deviation
_CHANCE = math.sqrt(_KOLMOGOROV_SQUARE / 2048)  # the distance that chance alone gives so many documents


class Reference(NamedTuple):
    """What a slice is compared with. ``value``, ``low`` and ``high``: the mean, and where a month like those before the
    cut-off is expected (of a single corpus, its own interval). On the measure's scale: ``mean``, the ``variance`` of
    the mean, ``between`` (τ²) and ``within`` (the mean of the months' own). ``freedom``: degrees of freedom.
    """  # fmt: skip

    value: float
    low: float
    high: float
    mean: float
    variance: float
    between: float
    within: float
    freedom: float


class Comparison(NamedTuple):
    """``difference`` is the value less the reference's, ``p_value`` for the direction that is worse."""

    value: Estimate
    reference: Reference | None
    difference: float
    p_value: float


def compare(state: State, references: Sequence[State], level: float = 0.95) -> dict[str, Comparison]:
    """A corpus against others, measure by measure; p-values are NaN where nothing can be said.

    Args:
        state: of the corpus in question.
        references: with two or more, such as months of human text, the corpus is asked to lie outside of what they
            show among themselves. With one, the question is only whether the two differ by more than the draw of
            their documents: any two corpora of different origin do, if they are large.
        level: of the intervals.
    """
    value = comparable(state, level) | relative(state, references, level)
    others = [
        comparable(one, level) | of_it for one, of_it in zip(references, relatives(references, level), strict=True)
    ]
    result = {}
    for name, found in value.items():
        kind = measure(name)
        of_others = [one.get(name, NOTHING) for one in others]
        reference = single(of_others[0], kind) if len(references) == 1 else reference_of(of_others, kind, level)
        difference = found.value - (reference.value if reference else math.nan)
        result[name] = Comparison(found, reference, difference, p_value(found, reference, kind))
    if len(references) == 1:
        result[DRIFT] = _drift_from_one(state, references[0], level)
    return result


def _drift_from_one(state: State, other: State, level: float) -> Comparison:
    """There are no distances between months to hold the distance against; the test of Kolmogorov and Smirnov asks for
    any distance.
    """  # fmt: skip
    found = drift(state.surprisal, other.surprisal, level)
    test = two_sample(state.surprisal.sum(axis=0), other.surprisal.sum(axis=0))
    return Comparison(found, None, found.value, test.p_value)


def reference_of(months: Sequence[Estimate], kind: Measure, level: float = 0.95) -> Reference | None:
    """The random-effects mean of the months and the band of a further one; None with fewer than two that are known."""
    known = [one for one in months if math.isfinite(one.se) and math.isfinite(float(on_scale(one.value, kind.scale)))]
    k = len(known)
    if k < 2:
        return None
    values = on_scale([one.value for one in known], kind.scale)
    squares = np.maximum(np.array([one.se for one in known]) ** 2, 1e-18)
    between = paule_mandel(values, squares)
    weights = 1 / (squares + between)
    mean = float((weights * values).sum() / weights.sum())
    variance, within = float(1 / weights.sum()), float(squares.mean())
    reach = math.sqrt(between + within + variance) * float(special.stdtrit(k - 1, (1 + level) / 2))
    low, value, high = (off_scale(mean + step, kind.scale) for step in (-reach, 0.0, reach))
    return Reference(value, low, high, mean, variance, between, within, k - 1)


def single(other: Estimate, kind: Measure) -> Reference:
    """A single corpus as a reference: nothing is known of others like it."""
    centre = float(on_scale(other.value, kind.scale))
    return Reference(other.value, other.low, other.high, centre, other.se**2, 0.0, other.se**2, GROUPS - 1)


def paule_mandel(values: Float, squares: Float) -> float:
    """The variance between values, beyond their squared standard errors: Σ (y − m)² / (s² + τ²) = k − 1, or 0."""

    def excess(between: float) -> float:
        weights = 1 / (squares + between)
        mean = (weights * values).sum() / weights.sum()
        return float((weights * (values - mean) ** 2).sum()) - (len(values) - 1)

    if excess(0.0) <= 0:
        return 0.0
    most = float(values.var() * len(values))
    return float(optimize.brentq(excess, 0.0, most, xtol=1e-12 * most, rtol=1e-10))


def p_value(found: Estimate, reference: Reference | None, kind: Measure) -> float:
    """How likely a month like those of the reference would lie as far out, in the direction that is worse; or NaN.

    Where neither direction is worse, in either of them.

    Student's t with the variances of the slice, of the reference's mean and between months. Degrees of freedom are
    those of Satterthwaite, but at most those of the reference: the number of its months less one.
    """
    centre = float(on_scale(found.value, kind.scale))
    if reference is None or not math.isfinite(centre) or not math.isfinite(found.se):
        return math.nan
    own, other = found.se**2, reference.variance + reference.between
    total = own + other
    if not math.isfinite(total) or total <= 0:
        return math.nan
    satterthwaite = total**2 / (own**2 / (GROUPS - 1) + other**2 / reference.freedom)
    freedom = min(satterthwaite, reference.freedom)
    distance = (centre - reference.mean) / math.sqrt(total)
    if kind.worse == NEITHER:
        return 2 * float(special.stdtr(freedom, -abs(distance)))
    return float(special.stdtr(freedom, -distance if kind.worse == HIGHER else distance))


def benjamini_hochberg(p_values: Sequence[float]) -> Float:
    """p-values adjusted so that those up to q are false in at most a share q of cases, on average; NaN stays NaN.

    Benjamini & Hochberg (J. R. Stat. Soc. B 57, 1995); it holds for the positive dependence that a common reference
    brings (Benjamini & Yekutieli, Ann. Statist. 29, 2001). On a crawl where nothing changed it is also the chance of
    any alarm at all; where many months or measures change at once it finds more of them than Holm's would.
    """
    found = np.asarray(p_values, np.float64)
    adjusted = np.full(len(found), np.nan)
    known = np.flatnonzero(np.isfinite(found))
    order = known[np.argsort(found[known], kind="stable")]
    ranked = found[order] * len(order) / np.arange(1, len(order) + 1)
    adjusted[order] = np.minimum(np.minimum.accumulate(ranked[::-1])[::-1], 1.0)
    return adjusted


def relative(
    state: State, references: Sequence[State], level: float = 0.95, known: Known | None = None
) -> dict[str, Estimate]:
    """Overlap and drift against the references, as they may be compared with :func:`relatives` of these; ``known`` is
    made of the references, where the caller has it.
    """  # fmt: skip
    known = known or Known(references)
    histogram = np.sum([one.surprisal for one in references], axis=0) if references else np.zeros_like(state.surprisal)
    return {
        "overlap": known.thinned(state, None, level),
        DRIFT: drift(state.surprisal, histogram, level, standard=True),
    }


def relatives(
    references: Sequence[State], level: float = 0.95, known: Known | None = None
) -> list[dict[str, Estimate]]:
    """The same of each reference against all the others; of one alone, which has no others, nothing."""
    if len(references) < 2:
        return [{} for _ in references]
    known = known or Known(references)
    total = np.sum([one.surprisal for one in references], axis=0)
    return [
        {
            "overlap": known.thinned(one, at, level),
            DRIFT: drift(one.surprisal, total - one.surprisal, level, standard=True),
        }
        for at, one in enumerate(references)
    ]


class Known:
    """The three-word phrases of the references under their common theta: in how many of them, and in which groups.

    Overlaps that are to be compared are thinned to the phrases of ``size`` documents of an equal sample.
    """

    def __init__(self, references: Sequence[State], size: int = DOCUMENTS) -> None:
        self.phrases = size * _TRIGRAMS
        parts = [pooled(one, 3) for one in references]
        self.theta = min((int(sample.theta) for sample, _ in parts), default=MAX_THETA)
        keys = np.concatenate([np.empty(0, np.uint64), *(sample.keys for sample, _ in parts)])
        counts = np.concatenate([np.empty((0, GROUPS), np.int64), *(part for _, part in parts)])
        inside = keys < np.uint64(self.theta)
        self.keys, at = np.unique(keys[inside], return_inverse=True)
        self.members = np.bincount(at, minlength=len(self.keys))  # how many references have it
        self.counts = np.zeros((len(self.keys), GROUPS), np.int64)
        np.add.at(self.counts, at, counts[inside])
        self.references = len(references)

    def overlap(self, state: State, level: float = 0.95) -> Estimate:
        """The share of the distinct phrases of a state that any reference has; of the whole state.

        A ratio of the sizes of Theta sketches (Dasgupta et al. 2016). Its error is that of the documents drawn, here
        and there, and of the phrases looked at.
        """
        counts, at, theta = self._common(state)
        if len(counts) < _LEAST_TYPES:
            return NOTHING
        here = without(counts)
        there = without(self.counts)[:, 1:]
        known = self._among(at, self.members > 0)
        shares = ((here > 0) * known[:, None]).sum(axis=0) / np.maximum((here > 0).sum(axis=0), 1)
        others = np.stack([self._among(at, column > 0) for column in there.T]).mean(axis=1)
        twice = (GROUPS - 1) / GROUPS * float(((others - others.mean()) ** 2).sum())
        q = (known.sum() + 1) / (len(known) + 2)
        variance = twice + (1 - theta / MAX_THETA) * q * (1 - q) / len(known)
        return estimate(shares[0], shares[1:], state.documents, "share", level, variance)

    def thinned(self, state: State, own: int | None, level: float = 0.95) -> Estimate:
        """The overlap that a sample of so many phrases would have, with all references but one.

        Small corpora hold more of the common phrases, and large references know more: both sides are brought to one
        size. Of c occurrences a share r leaves one with probability 1 − (1 − r)^c (Hurlbert, Ecology 52, 1971).

        Args:
            state: of which the phrases are.
            own: its place among the references, where it is one of them: it is asked what the others know. Any other
                state is asked what all but one know, in the mean over which one is left out.
            level: of the interval.
        """
        counts, at, theta = self._common(state)
        # Of a single reference nothing can be left out, and the phrases of the reference itself are all known.
        if len(counts) < _LEAST_TYPES or not self.references or (own is not None and self.references < 2):
            return NOTHING
        if own is not None:
            weight = (self.members > 1).astype(np.float64)
        elif self.references == 1:
            weight = (self.members > 0).astype(np.float64)
        else:
            weight = np.where(self.members > 1, 1.0, np.where(self.members > 0, 1 - 1 / self.references, 0.0))
        known = self._among(at, weight)
        total = np.maximum(state.words - 2 * state.documents, 1)
        sizes = without(total[None])[0]
        left = without(counts)
        held = -np.expm1(left * np.log1p(-np.minimum(self.phrases / np.maximum(sizes, 1), 1 - 1e-12)))
        shares = (held * known[:, None]).sum(axis=0) / np.maximum(held.sum(axis=0), 1e-12)
        spread = held[:, 0] * (known - shares[0])
        variance = (1 - theta / MAX_THETA) * float((spread**2).sum()) / float(held[:, 0].sum()) ** 2
        return estimate(shares[0], shares[1:], state.documents, "share", level, variance)

    def _common(self, state: State) -> tuple[Int, Int, int]:
        """Counts by group of a state's phrases under the common theta, their places among the known ones, and it."""
        sample, counts = pooled(state, 3)
        theta = min(self.theta, int(sample.theta))
        inside = sample.keys < np.uint64(theta)
        keys = sample.keys[inside]
        at = np.searchsorted(self.keys, keys)
        there = np.minimum(at, max(len(self.keys) - 1, 0))
        same = self.keys[there] == keys if len(self.keys) else np.zeros(len(keys), bool)
        return counts[inside], np.where(same, there, -1), theta

    def _among(self, at: Int, weight: npt.NDArray[Any]) -> Float:
        return np.where(at >= 0, np.concatenate([weight, [0]]).astype(np.float64)[at], 0.0)


def drift(here: Int, there: Int, level: float = 0.95, standard: bool = False) -> Estimate:
    """Kolmogorov's and Smirnov's distance of two histograms of surprisal, (G, bins) each; NaN where either is empty.

    The interval is that of Kolmogorov's distribution, which holds for any distance. The standard error, of the
    logarithm, is that of the jackknife over the groups of ``here``, but not less than Kolmogorov's for samples of one
    distribution.

    Args:
        here: of the corpus in question.
        there: of the reference.
        level: of the interval.
        standard: give what is expected of 2,048 documents and a reference without end: d² less what chance alone gives
            here, or 0, and with what it gives there. It does not fall with the number of documents.
    """
    mine, other = here.sum(axis=0), there.sum(axis=0)
    n, m = float(mine.sum()), float(other.sum())
    if n == 0 or m == 0:
        return NOTHING
    chance = 1 / n + 1 / m

    def distance(histogram: Int) -> float:
        n = max(float(histogram.sum()), 1.0)
        d = float(np.abs(np.cumsum(histogram) / n - np.cumsum(other) / m).max())
        return math.sqrt(max(d * d - _KOLMOGOROV_SQUARE * (1 / n + 1 / m), 0.0) + _CHANCE**2) if standard else d

    value = distance(mine)
    by_groups = estimate(value, [distance(mine - part) for part in here], here.sum(axis=1), LOG, level)
    reach = float(special.kolmogi(1 - level)) * math.sqrt(chance)
    se = float(np.fmax(by_groups.se, _KOLMOGOROV_SD * math.sqrt(chance) / max(value, 1e-9)))
    return Estimate(value, max(value - reach, 0.0), min(value + reach, 1.0), se)
