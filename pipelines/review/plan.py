"""How many labels it takes, before any is given: for the share of machine text, and for a bound on what remains.

    labels_needed(0.01, 0.95, share=0.1).documents     # 3,554: a half-width of 0.01 on average
    labels_for_bound(0.01, 0.95)                       # 299: none found of these says at most 1 %

For the share the yardstick is the two-sided interval of Clopper and Pearson (Biometrika 26 (1934) 404), half of its
width on average over all outcomes of the sample at the expected share. What strata and the detector's own probabilities
take off an interval is left to the estimate, unless the shares of strata are given; neither is the archive's finite
size counted on, but that no more labels are needed than it has documents. So the number is a little too high.

Annotators err, and how often is only known from controls. With errors carried in, the share comes of a division by
1 - (both rates) (Rogan and Gladen, American Journal of Epidemiology 107 (1978) 71), and at each end of its interval the
distances of the labels' and of the controls' limits are added in squares (Zou and Donner, Statistics in Medicine 27
(2008) 1693). Controls without any error leave the rates uncertain, too: a narrow interval takes many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from scipy import special, stats

from pipelines.errors import UsageError
from pipelines.statistics.intervals import clopper_pearson

MOST: Final = 10_000_000  # labels; nobody plans for more
UNCERTAIN: Final = 0.5  # the share with the widest interval: where nothing is known of it

_TAIL = 1e-12  # of outcomes that are left out of a mean


class Method(StrEnum):
    """By what the width of an interval is foreseen."""

    EXACT = "exact"  # Clopper-Pearson, on average over all outcomes
    NORMAL = "normal"  # z √(p (1 - p) / n): too short where few are found


class Stratum(NamedTuple):
    """The part ``weight`` of all documents lies in this stratum, and ``share`` of them are expected to be machine text.

    ``sampled`` is its part of the labels; None: the same as ``weight``.
    """

    weight: float
    share: float
    sampled: float | None = None


class Errors(NamedTuple):
    """What annotators are expected to get wrong: the part of machine texts, and that of human texts."""

    missed: float = 0.0
    accused: float = 0.0


class Needed(NamedTuple):
    """Labels for one interval.

    Attributes:
        documents: to draw; each needs one label at least.
        controls: documents of known origin, half of each kind; 0 where labels are taken to be right.
        half_width: that is expected of so many.
    """

    documents: int
    controls: int
    half_width: float


def half_width(documents: float, share: float, level: float, method: Method = Method.EXACT) -> float:
    """Half of the width that the two-sided interval for a share has on average, at ``documents`` labels.

    ``documents`` may be fractional, for an effective number of labels: then of the outcomes of the next lower whole
    number of labels and of the next higher one, in proportion.
    """
    if method is Method.NORMAL:
        return _z(level) * math.sqrt(share * (1 - share) / documents)
    below = math.floor(documents)
    part = documents - below
    width = _exact(below, share, level) if part < 1 else 0.0
    return width if not part else (1 - part) * width + part * _exact(below + 1, share, level)


def design_effect(strata: Sequence[Stratum]) -> float:
    """The variance of the stratified share over that of a simple random sample of the same size.

    Σ W² p (1 - p) / a over p̄ (1 - p̄), with the weights W and the parts a of the labels (Cochran, Sampling Techniques,
    3rd ed. (1977), section 5.5). 1 where nothing varies. Raises ValueError for weights or parts that do not sum to 1.
    """
    weights = [one.weight for one in strata]
    parts = [one.weight if one.sampled is None else one.sampled for one in strata]
    if not math.isclose(sum(weights), 1, abs_tol=1e-9) or not math.isclose(sum(parts), 1, abs_tol=1e-9):
        raise ValueError(f"weights sum to {sum(weights)}, parts of the labels to {sum(parts)}; both must to 1")
    if any(part <= 0 < weight for weight, part in zip(weights, parts, strict=True)):
        raise ValueError("a stratum with documents has no part of the labels")
    mean = mean_share(strata)
    within = sum(
        weight**2 * one.share * (1 - one.share) / part
        for one, weight, part in zip(strata, weights, parts, strict=True)
        if weight
    )
    return within / (mean * (1 - mean)) if 0 < mean < 1 else 1.0


def mean_share(strata: Sequence[Stratum]) -> float:
    """The share that is expected of all documents."""
    return sum(one.weight * one.share for one in strata)


def labels_needed(
    margin: float,
    level: float,
    share: float | Sequence[Stratum] = UNCERTAIN,
    method: Method = Method.EXACT,
    errors: Errors | None = None,
    controls: int | None = None,
) -> Needed:
    """The fewest labels whose interval for the share is ±``margin`` on average.

    Args:
        margin: half of the width, of 1.
        level: of the two-sided interval.
        share: that is expected: of all documents, or stratum by stratum, which lowers the number by
            :func:`design_effect` (an effective sample size: Korn and Graubard, Survey Methodology 24 (1998) 193).
        method: by what the width is foreseen.
        errors: of the annotators, to be carried in; None: labels are taken to be right.
        controls: that measure these, half of each kind; None: as many as make the sum of both the smallest.

    Raises UsageError for a margin or level that cannot be had, also not with so many controls.
    """
    check_margin(margin, level)
    strata = [Stratum(1.0, share)] if isinstance(share, int | float) else list(share)
    effect, mean = design_effect(strata), mean_share(strata)
    if errors is None:
        found = _documents(margin, level, mean, effect, method)
        return Needed(found, 0, half_width(max(1.0, found / effect), mean, level, method))
    gap, observed = 1 - sum(errors), _observed(mean, errors)
    pairs = controls // 2 if controls is not None else _pairs(margin, level, mean, effect, errors)
    left = _left(margin, control_limits(mean, errors, pairs, level))
    if left <= 0:
        least = 2 * _smallest(lambda one: _left(margin, control_limits(mean, errors, one, level)) > 0)
        raise UsageError(f"--controls {controls}: at least {least:,} for ±{margin:g}, however many labels there are")
    found = _documents(left * gap, level, observed, effect, method)
    own = half_width(max(1.0, found / effect), observed, level, method) / gap
    return Needed(found, 2 * pairs, _added(own, control_limits(mean, errors, pairs, level)))


def control_limits(share: float, errors: Errors, pairs: int, level: float) -> tuple[float, float]:
    """By how much the share may lie lower, and higher, for what ``pairs`` controls of each kind leave uncertain."""
    if min(errors) < 0 or sum(errors) >= 1:
        raise UsageError(f"annotators' errors {errors.missed:g} and {errors.accused:g}: together below 1, none below 0")
    rates = np.array(errors)
    low, high = clopper_pearson(rates * pairs, pairs, level)
    less, more = (rates - low).tolist(), (high - rates).tolist()
    gap = 1 - sum(errors)
    # More texts missed than thought: a larger share. More people accused: a smaller one.
    return (
        math.hypot(share * less[0], (1 - share) * more[1]) / gap,
        math.hypot(share * more[0], (1 - share) * less[1]) / gap,
    )


def expected_half_width(labels: int, controls: int, share: float, level: float, errors: Errors) -> float:
    """Half of the width that comes of so many labels and controls; without controls, as if labels were right."""
    if not controls:
        return half_width(labels, share, level)
    own = half_width(labels, _observed(share, errors), level) / (1 - sum(errors))
    return min(0.5, _added(own, control_limits(share, errors, controls // 2, level)))


def _added(own: float, limits: tuple[float, float]) -> float:
    return sum(math.hypot(own, one) for one in limits) / 2


def _left(margin: float, limits: tuple[float, float]) -> float:
    """The half-width that labels may have; 0 where there is none."""
    if sum(limits) / 2 >= margin:
        return 0.0
    # √(x² + a²) + √(x² + b²) = 2 m, solved for x.
    first, second = limits
    root = margin + (first**2 - second**2) / (4 * margin)
    return math.sqrt(max(0.0, root**2 - first**2))


@lru_cache(maxsize=256)
def _pairs(margin: float, level: float, mean: float, effect: float, errors: Errors) -> int:
    """Controls of each kind with which labels and controls are fewest, to within a few."""
    gap, observed = 1 - sum(errors), _observed(mean, errors)
    pairs = _smallest(lambda one: _left(margin, control_limits(mean, errors, one, level)) > margin / 10)
    best = (math.inf, pairs)
    while 2 * pairs < best[0]:
        left = _left(margin, control_limits(mean, errors, pairs, level))
        labels = effect * (_z(level) / (left * gap)) ** 2 * observed * (1 - observed)
        best = min(best, (labels + 2 * pairs, pairs))
        pairs = math.ceil(pairs * 1.1)
    return best[1]


def _documents(margin: float, level: float, share: float, effect: float, method: Method) -> int:
    def enough(labels: int) -> bool:
        return half_width(labels, share, level, method) <= margin

    # The normal approximation takes fewer, and says where to begin.
    first = 0.8 * (_z(level) / margin) ** 2 * share * (1 - share)
    if first > MOST:
        raise _too_many()
    effective = _smallest(enough, int(first) if first >= 2 and not enough(int(first)) else 1)
    return max(1, math.ceil(effective * effect - 1e-9))


def _observed(share: float, errors: Errors) -> float:
    """The share that annotators see."""
    return share * (1 - errors.missed) + (1 - share) * errors.accused


def labels_for_bound(bound: float, level: float, found: int = 0, missed: float = 0.0) -> int:
    """The fewest labels whose one-sided upper limit is at most ``bound``, where ``found`` of them are machine text.

    Clopper-Pearson: the smallest n with P(X ≤ found) ≤ 1 - level at the share ``bound``; for ``found`` = 0 it is
    ``ceil(log(1 - level) / log(1 - bound))``. Annotators who miss a part ``missed`` of machine texts see a share of
    ``bound * (1 - missed)`` where it is ``bound``.
    """
    if not 0 < bound < 1 or not 0 < level < 1:
        raise UsageError(f"a bound of {bound:g} at level {level:g}: both between 0 and 1")
    seen = bound * (1 - missed)
    if seen <= 0:
        raise UsageError(f"annotators who miss {missed:g} of machine texts: below 1")
    return _smallest(lambda n: n > found and special.bdtr(found, n, seen) <= 1 - level, found + 1)


def check_margin(margin: float, level: float) -> None:
    """Raises UsageError for what no number of labels gives."""
    if not 0 < margin < 0.5:
        raise UsageError(f"--margin {margin:g}: between 0 and 0.5, such as 0.01 for ±1 percentage point")
    if not 0.5 < level < 1:
        raise UsageError(f"--level {level:g}: between 0.5 and 1, such as 0.95")


def _z(level: float) -> float:
    return float(special.ndtri((1 + level) / 2))


@lru_cache(maxsize=4096)
def _exact(documents: int, share: float, level: float) -> float:
    if documents < 1:
        return 0.5
    law = stats.binom(documents, share)
    found = np.arange(max(0, int(law.ppf(_TAIL)) - 1), min(documents, int(law.isf(_TAIL)) + 1) + 1)
    low, high = clopper_pearson(found, documents, level)
    chance = law.pmf(found)
    return float(chance @ (high - low) / 2 / chance.sum())


def _smallest(enough: Callable[[int], bool], first: int = 1) -> int:
    """The smallest whole number that is enough, where all greater ones are."""
    high = first
    while not enough(high):
        high *= 2
        if high > MOST:
            raise _too_many()
    low = max(first, high // 2)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


def _too_many() -> UsageError:
    return UsageError(f"that takes more than {MOST:,} labels; ask for less")
