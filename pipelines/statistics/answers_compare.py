"""Effective numbers of answers over several prompts, and of one source against another.

    model = over_prompts([counts_a, counts_b])
    found = ratio([counts_a, counts_b], [people_a, people_b])
    print(model.effective[2], found.value, found.p_value)

Over prompts, effective numbers are averaged as alpha diversities of equally weighted communities (Jost, Ecology 88,
2007): order 0 by the mean, order 1 by the mean entropy, order 2 by the mean probability that two samples are the same.
With fewer than :data:`CLUSTERS` prompts, limits are those for these very prompts: the limits of each combined by the
squares of their distances (MOVER: Zou & Donner, Stat. Med. 27, 2008). With more they also have to hold
for other prompts like these: limits from Student's t over prompts, or the former where these are wider.

The ratio of two effective numbers of order 2 is that of two probabilities, with limits from theirs (Donner & Zou, Stat.
Methods Med. Res. 21, 2012); a source without any repeat has no upper limit, and neither has the ratio. Over many
prompts it is taken prompt by prompt, so that what makes a prompt easy or hard for both does not count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from pipelines.statistics.answers import Counts, Found, Interval, estimate, same_interval, same_probability
from pipelines.statistics.answers_rarefy import at

CLUSTERS = 5  # prompts from which on they count as a sample of prompts
LEAST_P = 1e-9

Float = npt.NDArray[np.float64]


class Ratio(NamedTuple):
    """An effective number against another's, with limits; ``p_value``: two-sided, of a ratio of 1."""

    value: float
    low: float
    high: float
    p_value: float


def over_prompts(counts: Sequence[Counts], level: float = 0.95) -> Found:
    """What is known of the answers to one or several prompts; ``samples`` and ``answers`` are sums, the rest means.

    Raises ValueError for no prompt, or one with fewer than two samples.
    """
    if not counts:
        raise ValueError("no prompt to look at")
    each = [estimate(x, level) for x in counts]
    if len(each) == 1:
        return each[0]
    same = _mean([found.same for found in each], level)
    zero = _mean([found.effective[0] for found in each], level)
    one = _mean([_mapped(found.effective[1], math.log) for found in each], level)
    return Found(
        sum(found.samples for found in each),
        sum(found.answers for found in each),
        float(np.mean([found.coverage for found in each])),
        same,
        (zero, _mapped(one, math.exp), Interval(*map(_inverse, (same.value, same.high, same.low)))),
    )


def at_sizes(counts: Sequence[Counts], order: int, sizes: Sequence[int], level: float = 0.95) -> Interval:
    """The effective number expected among ``sizes[i]`` of the samples for prompt i, averaged over prompts."""
    there, back = _SCALES[order]
    each = [at(x, order, size, level) for x, size in zip(counts, sizes, strict=True)]
    if len(each) == 1:
        return each[0]
    return _mapped(_mean([_mapped(found, there) for found in each], level), back)


def ratio(counts: Sequence[Counts], reference: Sequence[Counts], level: float = 0.95) -> Ratio:
    """The effective number of order 2 as a multiple of the reference's; prompts stand in the same order in both.

    ``high`` is infinite where the reference may be without repeats only by chance of few samples, and ``value`` too
    where the counts have no repeat; where the reference has none, ``value`` and ``low`` are 0.
    """
    if len(counts) != len(reference) or not counts:
        raise ValueError("a ratio needs the same prompts in both, and at least one")
    a, b = (np.array([same_probability(x) for x in side]) for side in (counts, reference))
    low, high = _limits(counts, reference, a, b, level)
    value = b.mean() / a.mean() if a.mean() else (math.nan if not b.mean() else math.inf)
    return Ratio(float(value), low, high, _p_value(counts, reference, a, b))


def _limits(
    counts: Sequence[Counts], reference: Sequence[Counts], a: Float, b: Float, level: float
) -> tuple[float, float]:
    below, above = (_fixed([same_interval(x, level) for x in side]) for side in (counts, reference))
    low, high = _quotient(above, below)
    if len(a) >= CLUSTERS and a.mean() and b.mean():
        error = _left_out(a, b)
        spread = float(stats.t.ppf((1 + level) / 2, len(a) - 1) * error)
        centre = math.log(b.mean() / a.mean())
        low, high = (
            min(low, math.exp(centre - spread)),
            max(high, math.exp(centre + spread) if centre + spread < 700 else math.inf),
        )
    return low, high


def _left_out(a: Float, b: Float) -> float:
    """The jackknife error over prompts of log(mean(b) / mean(a)); infinite where one prompt has all repeats."""
    with np.errstate(divide="ignore"):
        logs = np.log(b.sum() - b) - np.log(a.sum() - a)
    if not np.isfinite(logs).all():
        return math.inf
    return math.sqrt((len(a) - 1) * float(np.var(logs)))


def _p_value(counts: Sequence[Counts], reference: Sequence[Counts], a: Float, b: Float) -> float:
    """The largest p at which the limits of level 1 - p leave out 1; never less than :data:`LEAST_P`."""
    low, high = math.log(LEAST_P), 0.0
    for _ in range(14):
        middle = (low + high) / 2
        least, most = _limits(counts, reference, a, b, 1 - math.exp(middle))
        low, high = (low, middle) if not least <= 1 <= most else (middle, high)
    return math.exp(high)


def _quotient(top: Interval, bottom: Interval) -> tuple[float, float]:
    """The limits of top / bottom, both not below 0 (Donner & Zou 2012, equation 9)."""
    product = top.value * bottom.value
    # In the square of a distance the limits count as no further than twice the estimate, as for symmetric ones.
    low, high = 0.0, math.inf
    if top.low > 0 and bottom.high > 0:
        high_b = bottom.high
        inner = product**2 - top.low * high_b * (2 * top.value - top.low) * (2 * bottom.value - high_b)
        divisor = high_b * (2 * bottom.value - high_b)
        low = (product - math.sqrt(max(inner, 0.0))) / divisor if abs(divisor) > 1e-300 else 0.0
        low = max(low, 0.0)
    if bottom.low > 0:
        inner = product**2 - top.high * bottom.low * (2 * top.value - top.high) * (2 * bottom.value - bottom.low)
        high = (product + math.sqrt(max(inner, 0.0))) / (bottom.low * (2 * bottom.value - bottom.low))
    return low, high


def _mean(each: Sequence[Interval], level: float) -> Interval:
    """The mean over prompts; see the module."""
    fixed = _fixed(each)
    if len(each) < CLUSTERS:
        return fixed
    values = np.array([found.value for found in each])
    spread = stats.t.ppf((1 + level) / 2, len(each) - 1) * values.std(ddof=1) / math.sqrt(len(each))
    # Values that cannot be negative and differ by orders of magnitude are nearer to normal on the logarithm.
    low, high = fixed.value - spread, fixed.value + spread
    if (values >= 0).all() and fixed.value > 0:
        factor = math.exp(min(spread / fixed.value, 700))
        low, high = fixed.value / factor, fixed.value * factor
    return Interval(fixed.value, min(fixed.low, float(low)), max(fixed.high, float(high)))


def _fixed(each: Sequence[Interval]) -> Interval:
    values, lows, highs = (np.array(side, np.float64) for side in zip(*each, strict=True))
    size = len(each)
    down, up = math.sqrt(float(np.sum((values - lows) ** 2))), math.sqrt(float(np.sum((highs - values) ** 2)))
    return Interval(float(values.mean()), float(values.mean()) - down / size, float(values.mean()) + up / size)


def _mapped(found: Interval, through: Callable[[float], float]) -> Interval:
    ends = [through(found.low), through(found.high)]
    return Interval(through(found.value), min(ends), max(ends))


def _inverse(value: float) -> float:
    return 1 / value if value > 0 else math.inf


def _same(value: float) -> float:
    return value


_SCALES: dict[int, tuple[Callable[[float], float], Callable[[float], float]]] = {
    0: (_same, _same),
    1: (math.log, math.exp),
    2: (_inverse, _inverse),
}
