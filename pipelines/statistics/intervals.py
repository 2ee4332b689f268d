"""Intervals for shares: of a count seen directly, and of one seen through an imperfect detector.

The second is the test-inversion interval for the prevalence p when x of n documents are flagged, each with probability
q = f + p (t - f), where f is the false positive rate and t the true positive rate (Rogan & Gladen, Am. J. Epidemiol.
107, 1978). f and t are themselves uncertain and come as draws from :mod:`pipelines.statistics.rates`. The limits invert
the tail probabilities averaged over those draws (Cousins & Highland, Nucl. Instrum. Methods A 320, 1992)::

    fpr, tpr = binomial_rate(12, 4000, "fpr"), binomial_rate(930, 1000, "tpr")
    low, high = adjusted_interval(flagged=[40], judged=[1000], fpr=fpr[None], tpr=tpr, level=0.95)

Since P(Bin(n, q) >= x) = P(Beta(x, n - x + 1) <= q), the lower limit is a quantile of (Q - f) / (t - f) with Q from
that beta distribution; the upper limit likewise with Beta(x + 1, n - x). With f = 0 and t = 1 known, this is the
Clopper-Pearson interval. Where fewer documents are flagged than false positives alone would explain, a plain inversion
gives an empty interval; the upper tail is therefore taken relative to that at p = 0, and the lower relative to that at
p = 1 (the CLs rule: Read, J. Phys. G 28, 2002), which never is empty and errs on the wide side.

All draws are stratified and their order is fixed by a name: the same counts give the same interval everywhere.
"""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt
from scipy import special

FloatArray = npt.NDArray[np.float64]

DRAWS = 4096
# Below this share of draws inside [0, 1] the rates contradict the counts, and the limit stops leaning on them.
_CONTRADICTION = 0.01
_CHUNK = 512
_NODES = np.linspace(-4.0, 4.0, 65)
_SCORES = special.ndtri((np.arange(DRAWS) + 0.5) / DRAWS)
_CELL = np.clip(np.searchsorted(_NODES, _SCORES) - 1, 0, len(_NODES) - 2)
_WEIGHT = (_SCORES - _NODES[_CELL]) / (_NODES[_CELL + 1] - _NODES[_CELL])


def clopper_pearson(
    successes: npt.ArrayLike, trials: npt.ArrayLike, level: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """The exact two-sided interval for a binomial share (Clopper & Pearson, Biometrika 26, 1934); [0, 1] for 0 trials.

    Counts may be fractional (an effective number of trials), and are broadcast against each other.
    """
    x, n = np.broadcast_arrays(np.asarray(successes, np.float64), np.asarray(trials, np.float64))
    tail = (1 - level) / 2
    low = np.where(x > 0, special.betaincinv(np.maximum(x, 1e-12), n - x + 1, tail), 0.0)
    high = np.where(x < n, special.betaincinv(x + 1, np.maximum(n - x, 1e-12), 1 - tail), 1.0)
    return low, high


def lower_bound(successes: npt.ArrayLike, trials: npt.ArrayLike, level: float = 0.95) -> FloatArray:
    """The exact one-sided lower limit for a binomial share (Clopper & Pearson); 0 for 0 successes."""
    return clopper_pearson(successes, trials, 2 * level - 1)[0]


def stratified(*name: str | int) -> FloatArray:
    """(DRAWS,) midpoints of equal strata of (0, 1), in an order fixed by ``name``: a margin of a Latin hypercube."""
    seed = zlib.crc32("\0".join(map(str, name)).encode())
    return (np.random.default_rng(seed).permutation(DRAWS) + 0.5) / DRAWS


def binomial_rate(successes: float, trials: float, *name: str | int) -> FloatArray:
    """(DRAWS,) draws of a rate given binomial counts, under Jeffreys' prior."""
    return np.asarray(special.betaincinv(successes + 0.5, trials - successes + 0.5, stratified(*name)), np.float64)


def adjusted_share(flagged: npt.ArrayLike, judged: npt.ArrayLike, fpr: npt.ArrayLike, tpr: npt.ArrayLike) -> FloatArray:
    """The Rogan-Gladen estimate (x/n - f) / (t - f), clipped to [0, 1]; NaN where n is 0 or t does not exceed f."""
    x, n = np.asarray(flagged, np.float64), np.asarray(judged, np.float64)
    f, t = np.asarray(fpr, np.float64), np.asarray(tpr, np.float64)
    usable = (n > 0) & (t > f)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.clip((x / n - f) / (t - f), 0, 1)
    return np.where(usable, share, np.nan)


def adjusted_interval(
    flagged: npt.ArrayLike, judged: npt.ArrayLike, fpr: FloatArray, tpr: FloatArray, level: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """The interval for the prevalence behind ``flagged`` of ``judged`` documents; see the module.

    Args:
        flagged: (cells,) x; may be fractional, with ``judged`` an effective number of documents.
        judged: (cells,) n; where it is 0 the interval is [0, 1].
        fpr: (cells, DRAWS) draws of the false positive rate.
        tpr: (DRAWS,) or (cells, DRAWS) draws of the true positive rate. A draw at or below that of ``fpr`` counts for 1
            at the upper limit. At the lower it counts for 0, unless more is flagged than such rates could explain
            at any prevalence.
        level: of the two-sided interval.

    Returns:
        low and high, (cells,) each.
    """
    x = np.atleast_1d(np.asarray(flagged, np.float64))
    n = np.atleast_1d(np.asarray(judged, np.float64))
    tail = (1 - level) / 2
    low, high = np.zeros(len(x)), np.ones(len(x))
    tpr = np.broadcast_to(tpr, (len(x), np.shape(tpr)[-1]))
    for start in range(0, len(x), _CHUNK):
        part = slice(start, start + _CHUNK)
        low[part] = _lower(x[part], n[part], fpr[part], tpr[part], tail)
        high[part] = _upper(x[part], n[part], fpr[part], tpr[part], tail)
    return np.where(n > 0, low, 0.0), np.where(n > 0, high, 1.0)


def _lower(x: FloatArray, n: FloatArray, fpr: FloatArray, tpr: FloatArray, tail: float) -> FloatArray:
    drawn = _beta_draws(np.maximum(x, 1e-9), n - x + 1)
    share = _unmix(drawn, fpr, tpr, uninformed=np.where(drawn > fpr, np.inf, 0.0))
    inside = np.count_nonzero(share <= 1, axis=1)
    # More is flagged than any draw of the true positive rate allows: take it to be 1, which asks for the least share.
    contradicted = inside < _CONTRADICTION * DRAWS
    share[contradicted] = _unmix(drawn[contradicted], fpr[contradicted], np.ones(1), 0.0)
    inside[contradicted] = DRAWS
    share.sort(axis=1)
    limit = share[np.arange(len(x)), np.floor(tail * inside).astype(np.int64)]
    return np.where(x > 0, np.clip(limit, 0, 1), 0.0)


def _upper(x: FloatArray, n: FloatArray, fpr: FloatArray, tpr: FloatArray, tail: float) -> FloatArray:
    drawn = _beta_draws(x + 1, np.maximum(n - x, 1e-9))
    share = _unmix(drawn, fpr, tpr, uninformed=1.0)
    inside = np.count_nonzero(share >= 0, axis=1)
    # Less is flagged than any draw of the false positive rate allows: take it to be 0, which allows the greatest share.
    contradicted = inside < _CONTRADICTION * DRAWS
    share[contradicted] = _unmix(drawn[contradicted], np.zeros(1), tpr[contradicted], uninformed=1.0)
    inside[contradicted] = DRAWS
    share.sort(axis=1)
    limit = share[np.arange(len(x)), DRAWS - 1 - np.floor(tail * inside).astype(np.int64)]
    return np.where(x < n, np.clip(limit, 0, 1), 1.0)


def _unmix(share: FloatArray, fpr: FloatArray, tpr: FloatArray, uninformed: float | FloatArray) -> FloatArray:
    gap = tpr - fpr
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(gap > 0, (share - fpr) / gap, uninformed), np.float64)


def _beta_draws(a: FloatArray, b: FloatArray) -> FloatArray:
    """(cells, DRAWS) ascending stratified draws of Beta(a, b), interpolated between exact quantiles."""
    quantiles = special.betaincinv(a[:, None], b[:, None], special.ndtr(_NODES)[None])
    return np.asarray(quantiles[:, _CELL] * (1 - _WEIGHT) + quantiles[:, _CELL + 1] * _WEIGHT, np.float64)
