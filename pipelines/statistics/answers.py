"""How many effectively different answers stand behind repeated samples: Hill numbers, with intervals.

One prompt is answered n times, and ``counts`` says how often each different answer came. The Hill number of order q is
the number of equally frequent answers that would be as diverse (Hill, Ecology 54, 1973): order 0 counts answers
whatever their frequency, order 1 is exp(entropy), order 2 is 1 / (probability that two samples are the same answer)::

    >>> found = estimate(np.array([400, 300, 200, 100]))
    >>> round(found.same.value, 2), round(found.effective[2].value, 1)
    (0.3, 3.3)
    >>> estimate(np.ones(500, int)).effective[2].high     # no answer came twice: no upper limit is known
    inf

Two kinds of number are given, and must not be mixed:

``effective``: of all answers that the source would ever give (Chao & Jost, Methods Ecol. Evol. 6, 2015). Order 0 is
    Chao's lower bound and has no upper limit. The upper limit of order 1 is infinite too where the samples cover less
    than :data:`ENOUGH` of the answers: unseen answers may be split ever finer, and no sample tells.
``at(m)``: expected among m samples (rarefaction; Chao et al., Ecol. Monogr. 84, 2014). It is finite, and sources are
    compared by it at equal m, or at equal coverage (:func:`size_for_coverage`).

Errors are analytic: order 2 inverts a gamma approximation to the U-statistic of equal pairs; the others use the
delete-one jackknife (Zahl, Ecology 58, 1977, for the entropy). Nothing is drawn at random.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

Counts = npt.NDArray[np.int64]

ENOUGH = 0.8  # sample coverage below which no finite upper limit for order 1 is claimed; see the coverage tests
FEW = 5  # repeats below which a jackknife sees too little, and the limits come from the equal pairs

UNSEEN = 1e6  # unseen answers at the most, for the upper limit of order 1

_PRIOR = 36.0  # equal triples of one frequent answer, since few repeats could all be of one


class Interval(NamedTuple):
    """A number with its limits; ``high`` is infinite where nothing bounds it. ``se``: on the scale of the method."""

    value: float
    low: float
    high: float


class Found(NamedTuple):
    """What is known of the answers to one prompt."""

    samples: int
    answers: int  # different ones among the samples
    coverage: float  # Good-Turing: the probability that one more sample is an answer already seen
    same: Interval  # probability that two samples are the same answer
    effective: tuple[Interval, Interval, Interval]  # Hill numbers of order 0, 1, 2


def estimate(counts: npt.ArrayLike, level: float = 0.95) -> Found:
    """Estimates and intervals from how often each answer came; zeros are passed over.

    Raises ValueError for fewer than two samples.
    """
    x = checked(counts)
    same = same_interval(x, level)
    richness = chao1(x)
    orders = (
        Interval(richness, float(len(x)) if richness == len(x) else _chao1_low(x, level), math.inf),
        _order_1(x, level),
        Interval(*(_inverse(value) for value in (same.value, same.high, same.low))),
    )
    return Found(int(x.sum()), len(x), coverage(x), same, orders)


def coverage(counts: npt.ArrayLike) -> float:
    """The share of future samples that would be answers already seen (Chao & Jost, Ecology 93, 2012, equation 4a)."""
    x = checked(counts)
    n, once, twice = int(x.sum()), int((x == 1).sum()), int((x == 2).sum())
    if not once:
        return 1.0
    if twice:
        return 1 - once / n * ((n - 1) * once / ((n - 1) * once + 2 * twice))
    return 1 - once / n * ((n - 1) * (once - 1) / ((n - 1) * (once - 1) + 2))


def chao1(counts: npt.ArrayLike) -> float:
    """Chao's lower bound for the number of answers (Scand. J. Stat. 11, 1984; bias-corrected where none came twice)."""
    x = checked(counts)
    n, once, twice = int(x.sum()), int((x == 1).sum()), int((x == 2).sum())
    unseen = once * once / (2 * twice) if twice else once * (once - 1) / 2
    return len(x) + (n - 1) / n * unseen


def entropy(counts: npt.ArrayLike, twice: float | None = None) -> float:
    """Shannon's entropy in nats (Chao, Wang & Jost, Methods Ecol. Evol. 4, 2013, equation 7).

    ``twice``: how many answers came exactly twice, where another number than the observed one is to be tried. It
    decides how finely the unseen part is split; that is never finer than into :data:`UNSEEN` answers.
    """
    x = checked(counts, 1)
    n, once = int(x.sum()), int((x == 1).sum())
    seen = float(np.sum(x / n * (special.digamma(n) - special.digamma(x))))
    if not once or n == 1:
        return seen
    tried = int((x == 2).sum()) if twice is None else twice
    if tried or twice is not None:
        a = 2 * tried / ((n - 1) * once + 2 * tried)
    else:
        a = 2 / ((n - 1) * (once - 1) + 2)
    return seen + once / n * _unseen_entropy(n, max(a, once / n / UNSEEN))


def _unseen_entropy(n: int, a: float) -> float:
    """(1 - a)^(1-n) (-log a - Σ_{r<n} (1 - a)^r / r), which is Σ_{j≥1} (1 - a)^j / (n - 1 + j)."""
    if a >= 1:
        return 0.0
    if a * n > 5:
        j = np.arange(1, int(40 / a) + 2)
        return float(np.sum(np.exp(j * math.log1p(-a)) / (n - 1 + j)))
    r = np.arange(1, n)
    inner = -math.log(a) - float(np.sum(np.exp(r * math.log1p(-a)) / r))
    return math.exp((1 - n) * math.log1p(-a)) * inner


def same_probability(counts: npt.ArrayLike) -> float:
    """The share of equal pairs among all pairs of samples: unbiased (Simpson, Nature 163, 1949)."""
    x = checked(counts)
    n = int(x.sum())
    return float((x * (x - 1)).sum()) / (n * (n - 1))


def same_interval(counts: npt.ArrayLike, level: float = 0.95) -> Interval:
    """The probability that two samples are the same answer, with limits.

    The share of equal pairs is a U-statistic with variance 2 [2 (n - 2) (s3 - s2²) + s2 - s2²] / (n (n - 1)), where s2
    and s3 are the sums of squares and cubes of the probabilities (Hoeffding, Ann. Math. Stat. 19, 1948). A gamma
    distribution of that mean and variance, for equal pairs or, where most pairs are equal, for unequal ones, is
    inverted at both ends. s3 follows s2 as s3 = ρ s2^(3/2), ρ <= 1 being estimated and drawn towards 1, a single
    frequent answer among unique ones, where there are few repeats. Limits so err on the wide side there.
    """
    x = checked(counts)
    n = int(x.sum())
    pairs = n * (n - 1)
    equal = float((x * (x - 1)).sum())
    tail = (1 - level) / 2
    mostly = equal > pairs / 2
    seen, step = (pairs - equal, n - 1) if mostly else (equal, 1)
    down, up = _skewness(x) if not mostly else _skewness(x)[::-1]

    def below(share: float, at: float, rho: float) -> float:
        """P(statistic <= at) where this is the expected share of pairs."""
        s2 = 1 - share if mostly else share
        s3 = min(max(rho * s2**1.5, s2 * s2), s2)
        variance = 2 * (2 * (n - 2) * (s3 - s2 * s2) + s2 - s2 * s2) / pairs
        mean = share
        if variance <= 0 or at <= 0:
            return float(at >= mean * pairs)
        shape = mean * mean / variance
        return float(special.gammainc(shape, at / pairs * mean / variance))

    tiny = 1e-3 / pairs
    high = _root(lambda share: below(share, seen + step, up) - tail, tiny, 1 - 1e-12, 1.0)
    low = _root(lambda share: below(share, seen - step, down) - (1 - tail), tiny, 1 - 1e-12, 0.0) if seen else 0.0
    if (
        not mostly
    ):  # what the most frequent answer may come to alone (Clopper & Pearson), which is exact without repeats
        high = max(high, float(special.betaincinv(x.max() + 1, n - x.max(), 1 - tail)) ** 2)
    value = seen / pairs
    low, high = min(low, value), max(high, value)
    return Interval(1 - value, 1 - high, 1 - low) if mostly else Interval(value, low, high)


def _skewness(x: Counts) -> tuple[float, float]:
    """ρ in s3 = ρ s2^(3/2): as estimated, and with one standard error of the equal triples on top; 1 at the most."""
    n = int(x.sum())
    falling = [float(np.prod([x - i for i in range(order)], axis=0, dtype=np.float64).sum()) for order in range(6)]
    error = math.sqrt(6 * falling[3] + 18 * falling[4] + 9 * falling[5])  # of Poisson counts
    squares = ((falling[2] + _PRIOR ** (2 / 3)) / (n * (n - 1))) ** 1.5
    cubes = max(n * (n - 1) * (n - 2), 1)
    plain, high = ((falling[3] + more + _PRIOR) / cubes / squares for more in (0.0, error))
    return min(plain, 1.0), min(high, 1.0)


def _root(of: Callable[[float], float], low: float, high: float, otherwise: float) -> float:
    """Where a falling function crosses 0, looked for on the logarithm."""
    if of(low) <= 0 or of(high) >= 0:
        return otherwise if of(low) > 0 else low
    return math.exp(optimize.brentq(lambda t: of(math.exp(t)), math.log(low), math.log(high), xtol=1e-7))


def _order_1(x: Counts, level: float) -> Interval:
    """Order 1: the jackknife's error, and how far the entropy of unseen answers moves within the limits for doubles.

    The latter leans on how many answers came exactly twice, and this number has Poisson limits of its own.
    """
    z = stats.norm.ppf((1 + level) / 2)
    tail = (1 - level) / 2
    n, twice = int(x.sum()), int((x == 2).sum())
    value = entropy(x)
    # At equal frequencies the first-order variance is 0, and the second-order one is that of a chi-square.
    error = z * math.hypot(jackknife(x, entropy), math.sqrt((len(x) - 1) / 2) / n)
    fewest, most = stats.gamma.ppf(tail, twice) if twice else 0.0, stats.gamma.ppf(1 - tail, twice + 1)
    down = math.hypot(error, value - entropy(x, most))
    finest = z * jackknife(x, lambda counts: entropy(counts, fewest))
    up = max(error, finest) + entropy(x, fewest) - value
    low = math.exp(value - down)
    if n - len(x) < FEW:
        low = min(low, 1 / same_interval(x, level).high)  # order 2 is never above order 1
    high = math.exp(value + up) if coverage(x) >= ENOUGH else math.inf
    return Interval(math.exp(value), max(1.0, low), high)


def _chao1_low(x: Counts, level: float) -> float:
    """The lower limit of the log-normal interval for Chao's bound (Chao, Biometrics 43, 1987)."""
    n, seen = int(x.sum()), len(x)
    once, twice = int((x == 1).sum()), int((x == 2).sum())
    unseen = chao1(x) - seen
    k = (n - 1) / n
    if twice:
        r = once / twice
        variance = twice * (k * r**2 / 2 + k**2 * r**3 + k**2 * r**4 / 4)
    else:
        total = seen + unseen
        variance = k * once * (once - 1) / 2 + k**2 * once * (2 * once - 1) ** 2 / 4 - k**2 * once**4 / (4 * total)
    z = stats.norm.ppf((1 + level) / 2)
    spread = math.exp(z * math.sqrt(math.log1p(max(variance, 0.0) / unseen**2)))
    return seen + unseen / spread


def jackknife(counts: Counts, statistic: Callable[[Counts], float]) -> float:
    """The delete-one standard error of a statistic of the counts; samples of equally frequent answers are alike."""
    n = int(counts.sum())
    values, weights = [], []
    for times in np.unique(counts):
        less = counts.copy()
        at = int(np.argmax(counts == times))
        less[at] -= 1
        values.append(statistic(less[less > 0]))
        weights.append(int(times) * int((counts == times).sum()))
    left = np.array(values)
    mean = np.average(left, weights=weights)
    return math.sqrt((n - 1) / n * float(np.sum(np.array(weights) * (left - mean) ** 2)))


def checked(counts: npt.ArrayLike, least: int = 2) -> Counts:
    """The counts that are not 0; raises ValueError for fewer than so many samples."""
    x = np.asarray(counts, np.int64)
    x = x[x > 0]
    if x.sum() < least:
        raise ValueError("at least two samples are needed to say how different answers are")
    return x


def _inverse(value: float) -> float:
    return 1 / value if value > 0 else math.inf
