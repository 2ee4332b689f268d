"""Estimators of variety, and the error of each: pure functions on counts and sketches.

Errors come from the delete-a-group jackknife over the random groups of a state (Wolter, "Introduction to Variance
Estimation", 2007, section 4.2): what is estimated without each group in turn shows how it would differ between draws of
documents, bursts and templates included, for no document is in two groups. What is read off a bottom-k sample has
the error of the choice of its n-grams on top, which all groups share::

    left_out = hapax_share(counts.sum(axis=1, keepdims=True) - counts)  # (G,), from (n-grams, G)
    hapax = estimate(hapax_share(counts.sum(axis=1)), left_out, documents, SHARE, level=0.95)

Counts are arrays (n-grams,) or (n-grams, replicates); zeros count for nothing.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

ZIPF_FROM = 2  # the least count of a word whose count is taken for part of the tail
_LEAST_EXPONENT, _MOST_EXPONENT = 1.0001, 20.0
_FIRST = np.array([1, -8, 0, 8, -1]) / 12  # central differences
_SECOND = np.array([-1, 16, -30, 16, -1]) / 12
NATURAL, SHARE, LOG, ROOT = "natural", "share", "log", "root"
_TRANSFORMS: dict[str, Any] = {
    NATURAL: (lambda x: x, lambda x: x),
    SHARE: (lambda x: x, lambda x: min(max(x, 0.0), 1.0)),
    LOG: (np.log, np.exp),
    ROOT: (lambda x: np.sqrt(np.maximum(x, 0)), lambda x: min(max(x, 0.0), 1.0) ** 2),
}


class Estimate(NamedTuple):
    """A value and its two-sided interval; ``se`` is the standard error on the measure's scale (its logarithm or root,
    where :func:`on_scale` says so). NaN where nothing can be said.
    """  # fmt: skip

    value: float
    low: float
    high: float
    se: float


NOTHING = Estimate(math.nan, math.nan, math.nan, math.nan)


def on_scale(value: npt.ArrayLike, scale: str) -> Float:
    """Values on the scale on which their errors are about normal: natural (also of a share), log, or square root."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(_TRANSFORMS[scale][0](np.asarray(value, np.float64)), np.float64)


def off_scale(value: float, scale: str) -> float:
    """The inverse of :func:`on_scale`; a share is kept within [0, 1]."""
    return float(_TRANSFORMS[scale][1](value))


def estimate(
    value: npt.ArrayLike,
    left_out: npt.ArrayLike,
    sizes: npt.ArrayLike,
    scale: str = NATURAL,
    level: float = 0.95,
    variance: float = 0.0,
) -> Estimate:
    """The estimate with the interval of Student's t; NaN with fewer than two groups, or where a replicate is unknown.

    Args:
        value: of all groups.
        left_out: (G,) the same without each group.
        sizes: (G,) documents of each group. Empty groups are no groups.
        scale: the interval is taken on this scale.
        level: of the interval.
        variance: what the jackknife does not see, on the scale; it is added.
    """
    used = np.asarray(sizes, np.float64)
    centre = float(on_scale(value, scale))
    found = jackknife_variance(centre, on_scale(left_out, scale)[used > 0], used[used > 0])
    se = math.sqrt(found + variance) if found + variance >= 0 else math.nan
    if not math.isfinite(se) or not math.isfinite(centre):
        return Estimate(float(np.asarray(value)), math.nan, math.nan, math.nan)
    reach = se * float(special.stdtrit(np.count_nonzero(used) - 1, (1 + level) / 2))
    return Estimate(float(np.asarray(value)), off_scale(centre - reach, scale), off_scale(centre + reach, scale), se)


def jackknife_variance(value: float, left_out: Float, sizes: npt.NDArray[Any]) -> float:
    """The delete-a-group variance (Wolter 2007, section 4.2); NaN with fewer than two groups or an unknown value.

    Groups drawn at random differ in size, and most measures of variety change with the size of a corpus. How much, the
    replicates tell: from their mean to the value for all groups the corpus grows by a group. Replicates are brought
    to one size by that slope over the logarithm of the size, or the chance of the grouping would count as an error.
    """
    # Of so few groups that lists are several times faster than arrays.
    left, size = left_out.tolist(), sizes.tolist()
    groups = len(left)
    if groups < 2 or not (math.isfinite(value) and all(map(math.isfinite, left))):
        return math.nan
    total = sum(size)
    remaining = [total - own for own in size]
    middle = sum(remaining) / groups
    slope = (value - sum(left) / groups) / math.log(total / middle)
    same_size = [one - slope * math.log(rest / middle) for one, rest in zip(left, remaining, strict=True)]
    mean = sum(same_size) / groups
    return float((groups - 1) / groups * sum((one - mean) ** 2 for one in same_size))


def grown(value: npt.ArrayLike, left_out: Float, sizes: npt.ArrayLike, size: float) -> float:
    """The value brought to a corpus of ``size`` documents by the slope that the replicates show; for small steps."""
    sizes = np.asarray(sizes, np.float64)
    used = sizes > 0
    value = float(np.asarray(value))
    if np.count_nonzero(used) < 2 or sizes.sum() == size:
        return value
    total = sizes.sum()
    slope = (value - left_out[used].mean()) / math.log(total / (total - sizes[used]).mean())
    return value + float(slope) * math.log(size / total)


def hapax_share(counts: Int) -> Float:
    """The share of distinct n-grams that occur once."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((counts == 1).sum(axis=0) / (counts > 0).sum(axis=0), np.float64)


def missing_mass(singletons: npt.ArrayLike, total: npt.ArrayLike) -> Float:
    """How likely the next n-gram is a new one: n-grams that occur once over all (Good, Biometrika 40, 1953)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.asarray(singletons, np.float64) / np.asarray(total, np.float64), np.float64)


def missing_mass_error(singletons: float, doubletons: float, total: float) -> float:
    """The standard error of the Good-Turing missing mass against the mass that *is* missing, for independent words.

    (f1 (1 − f1/n) + 2 f2) / n² (Esty, Ann. Statist. 11, 1983, theorem 1); of a corpus whose words come in documents it
    is too small, and the jackknife is to be used.
    """
    return math.sqrt(max(singletons * (1 - singletons / total) + 2 * doubletons, 0.0)) / total


def entropy_miller_madow(counts: Int) -> Float:
    """Bits a word: the plug-in entropy, and (V − 1) / 2n for its bias (Miller 1955; V distinct of n words)."""
    n = counts.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = counts / n
        plug_in = -np.where(counts > 0, share * np.log(np.where(counts > 0, share, 1.0)), 0.0).sum(axis=0)
        return np.asarray((plug_in + ((counts > 0).sum(axis=0) - 1) / (2 * n)) / math.log(2), np.float64)


def entropy_chao_shen(counts: Int) -> Float:
    """Bits a word, words that were not seen allowed for (Chao & Shen, Environ. Ecol. Stat. 10, 2003, formula 6).

    Probabilities are shrunk by the coverage C = 1 − f1/n, and each word weighted by the chance that n draws hold it.
    Where every word occurs once, f1 is taken for n − 1, or the coverage would be nothing.
    """
    n = counts.sum(axis=0).astype(np.float64)
    once = (counts == 1).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (1 - np.where(once == n, n - 1, once) / n) * counts / n
        share = np.where(counts > 0, share, 1.0)
        seen = -np.expm1(n * np.log1p(-np.minimum(share, 1 - 1e-15)))
        return np.asarray(-(share * np.log(share) / seen).sum(axis=0) / math.log(2), np.float64)


def zipf_exponent(counts: Int, least: int = ZIPF_FROM) -> Float:
    """The exponent a of P(count = c) ∝ c^−a over counts of ``least`` and more, by maximum likelihood.

    The discrete power law of Clauset, Shalizi & Newman (SIAM Review 51, 2009, formula 3.4), for 1 < a < 20; NaN with
    fewer than ten counts that high, or where all of them are ``least``. Words of rank r that occur as r^−s give
    a = 1 + 1/s.
    """
    columns = counts[:, None] if counts.ndim == 1 else counts
    inside = columns >= least
    number = inside.sum(axis=0)
    told = np.flatnonzero((number >= 10) & (columns.max(axis=0, initial=0) > least))
    logs = np.log(np.where(inside, columns, 1)).sum(axis=0)
    found = np.full(columns.shape[1], np.nan)
    found[told] = _zipf_of_mean(logs[told] / number[told], least)
    return found.reshape(counts.shape[1:])


def _zipf_of_mean(means: Float, least: int) -> Float:
    """The minimum of log ζ(a, least) + a · mean for each mean logarithm, by Newton's method.

    The slope is concave and rises, so that from any start the second step is left of the root and no later one is
    right of it. Derivatives are differences of the fourth order, in steps that shrink towards the pole at 1.
    """
    a: Float = 1 + 1 / np.maximum(means - math.log(least - 0.5), 0.06)  # Clauset et al., formula 3.7
    for _ in range(100):
        step = 1e-3 * (a - 1)
        at = np.log(special.zeta(a[:, None] + step[:, None] * np.arange(-2, 3), least))
        slope = (at @ _FIRST) / step + means
        curve = (at @ _SECOND) / step**2
        following = np.clip(a - slope / np.maximum(curve, 1e-12), 1 + (a - 1) / 8, 1 + (a - 1) * 8)
        following = np.clip(following, _LEAST_EXPONENT, _MOST_EXPONENT)
        done = np.abs(following - a) <= 1e-9 * a
        a = following
        if done.all():
            break
    return a


def zipf_error(exponent: float, tail: float, least: int = ZIPF_FROM) -> float:
    """The standard error of :func:`zipf_exponent` for ``tail`` independent counts, from Fisher's information."""
    step = 1e-3
    at = np.log(special.zeta(exponent + np.array([-step, 0.0, step]), least))
    information = (at[0] - 2 * at[1] + at[2]) / step**2
    return float(1 / math.sqrt(max(tail * information, 1e-300)))


def hll_count(registers: npt.NDArray[np.uint8]) -> float:
    """The number of distinct elements behind HyperLogLog registers, without bias at any size.

    The improved raw estimator of Ertl, "New cardinality estimation algorithms for HyperLogLog sketches", 2017
    (arXiv:1702.01284), algorithm 6, with 64-bit hashes: no tables, no switch between ranges.
    """
    m = len(registers)
    most = 64 - int(math.log2(m))
    number = np.bincount(registers, minlength=most + 2).astype(np.float64)
    z = m * _tau(1 - number[most + 1] / m)
    for k in range(most, 0, -1):
        z = 0.5 * (z + number[k])
    z += m * _sigma(number[0] / m)
    return float(m * m / (2 * math.log(2)) / z) if math.isfinite(z) else 0.0


def hll_error(count: float, registers: int) -> float:
    """The relative standard error of :func:`hll_count`.

    1.04/√m of Flajolet et al. 2007, and for few elements that of linear counting, √(m (e^t − t − 1)) / n with t = n/m
    (Whang et al., ACM TODS 15, 1990, formula 9), whichever is less.
    """
    if count <= 0:
        return 0.0
    t = count / registers
    linear = math.sqrt(registers * (math.expm1(t) - t)) / count if t < 20 else math.inf
    return min(linear, 1.04 / math.sqrt(registers))


def _sigma(x: float) -> float:
    if x == 1:
        return math.inf
    y, z = 1.0, x
    while True:
        x *= x
        before = z
        z += x * y
        y += y
        if z == before:
            return z


def _tau(x: float) -> float:
    if x in (0, 1):
        return 0.0
    y, z = 1.0, 1 - x
    while True:
        x = math.sqrt(x)
        before = z
        y *= 0.5
        z -= (1 - x) ** 2 * y
        if z == before:
            return z / 3


def collision_entropy(signed: Int, words: Int) -> float:
    """Rényi's entropy of order 2 in bits: −log2 of the probability that words of two different groups are the same.

    Products of the groups' signed count sketches have the inner products of their word counts as their mean (Alon,
    Matias & Szegedy 1999; Charikar, Chen & Farach-Colton 2002). Pairs within a group are left out: with them a word
    would collide with itself, and with its own repetitions in the document. NaN where there is nothing to compare.

    Args:
        signed: (G, buckets) signed counts.
        words: (G,) words of each group.
    """
    total, own = signed.sum(axis=0).astype(np.float64), signed.astype(np.float64)
    pairs = float(words.sum()) ** 2 - float((words.astype(np.float64) ** 2).sum())
    same = float((total**2).sum() - (own**2).sum())
    return -math.log2(same / pairs) if pairs > 0 and same > 0 else math.nan


def collision_error(signed: Int) -> float:
    """The standard error in bits of :func:`collision_entropy` for the choice of signs and buckets.

    The relative variance of F2 is 2 (1 − F4/F2²) over the number of buckets; F4 comes from the fourth powers of the
    buckets, of which F4 + 3 (F2² − F4) / buckets is expected.
    """
    total = signed.sum(axis=0).astype(np.float64)
    squares = total**2
    f2, buckets = squares.sum(), len(total)
    if f2 <= 0:
        return math.nan
    of_one_word = ((squares**2).sum() / f2**2 - 3 / buckets) / (1 - 3 / buckets)
    return math.sqrt(2 / buckets * (1 - min(max(of_one_word, 0.0), 1.0))) / math.log(2)
