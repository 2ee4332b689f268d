"""Intervals for measures of text that comes in clusters: documents that share an original, a prompt or a source.

Such documents err together, so intervals that take each for an independent draw are too narrow. Here a cluster is the
unit of sampling::

    share = clustered_share(flagged, component)      # a rate, with an interval that also holds for no hit at all
    auroc_interval(score, machine, component)        # of the area under the ROC curve
    for weights in cluster_draws(component, 1000):   # bootstrap weights, for any other measure
        ...
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, ndtr, ndtri, stdtrit

from detectors.base import clopper_pearson

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Clusters = npt.NDArray[Any]

LEVEL = 0.95
_ENOUGH_HITS = 5  # with one cluster more than that among the rarer outcome, the variance between clusters is believed


class Share(NamedTuple):
    """A share with its interval. ``effective`` is the number of independent texts that would tell as much."""

    estimate: float
    low: float
    high: float
    effective: float


def clustered_share(hits: Bool, clusters: Clusters, weights: Float | None = None, level: float = LEVEL) -> Share | None:
    """The (weighted) share of hits, shapes (n,), with an interval that takes a cluster as the unit; None for no text.

    The Clopper–Pearson interval at the effective sample size p(1 − p)/v, where v is the variance between clusters of
    the ratio estimator, corrected for its own degrees of freedom (Korn and Graubard, 1998, Survey Methodology 24(2)).
    With few hits v cannot be estimated: with none, each cluster is taken to err as one text, so that the effective size
    is that of Kish, (Σ W)² / Σ W² over the clusters' weights W, and with few the size lies between the two. Texts that
    each stand alone, equally weighted, get the plain Clopper–Pearson interval.
    """
    n = len(hits)
    if n == 0:
        return None
    _, cluster = np.unique(clusters, return_inverse=True)
    count = int(cluster.max()) + 1
    if count == n and weights is None:
        x = int(hits.sum())
        return Share(x / n, *clopper_pearson(x, n, level), n)
    w = np.ones(n) if weights is None else weights / weights.mean()
    size = np.bincount(cluster, w)
    of_hits = np.bincount(cluster, w * hits)
    total = size.sum()
    p = float(np.clip(of_hits.sum() / total, 0, 1))
    kish = float(total**2 / (size**2).sum())
    effective = kish
    rarer = min(int(np.count_nonzero(of_hits)), int(np.count_nonzero(of_hits < size * (1 - 1e-12))))
    if rarer and count > 1:
        variance = count / (count - 1) * float(((of_hits - p * size) ** 2).sum()) / total**2
        independent = float(total**2 / (w**2).sum())
        known = min(p * (1 - p) / variance, independent) if variance > 0 else kish
        trust = min(1.0, (rarer - 1) / _ENOUGH_HITS)
        effective = known * trust + min(kish, known) * (1 - trust)
        effective *= (_quantile(independent - 1, level) / _quantile(count - 1, level)) ** 2
    return Share(p, *_binomial(p, max(effective, 1e-9), level), effective)


def _quantile(freedom: float, level: float) -> float:
    return float(stdtrit(max(freedom, 1.0), 1 - (1 - level) / 2))


def _binomial(p: float, n: float, level: float) -> tuple[float, float]:
    """Clopper–Pearson for a share p of n, which may be fractional."""
    tail, x = (1 - level) / 2, p * n
    low = float(betaincinv(x, n - x + 1, tail)) if p > 0 else 0.0
    high = float(betaincinv(x + 1, n - x, 1 - tail)) if p < 1 else 1.0
    return low, high


def auroc_interval(score: Float, machine: Bool, clusters: Clusters, level: float = LEVEL) -> tuple[float, float] | None:
    """The interval of the AUROC; None where a label is missing or has a single cluster.

    The variance is that of Obuchowski (1997, Biometrics 53, 567–578): DeLong's structural components summed by cluster,
    which may hold both labels. Without clusters it is DeLong's. The interval is symmetric in the log-odds of the AUROC.
    Where every pair is in order (AUROC 0 or 1) there is no variance: then the interval is that of a share without a
    failure among as many texts as the rarer label has clusters.
    """
    if machine.all() or not machine.any():
        return None
    _, cluster = np.unique(clusters, return_inverse=True)
    of_machine, of_human = np.unique(cluster[machine]).size, np.unique(cluster[~machine]).size
    fewest = min(of_machine, of_human)
    if fewest < 2:
        return None
    area, variance = _auroc_variance(score, machine, cluster, (of_machine, of_human))
    if variance <= 0 or area in (0.0, 1.0):
        return clopper_pearson(round(area * fewest), fewest, level)
    odds = np.log(area / (1 - area))
    half = _quantile(fewest - 1, level) * np.sqrt(variance) / (area * (1 - area))
    low, high = 1 / (1 + np.exp(-np.clip([odds - half, odds + half], -700, 700)))
    return float(low), float(high)


def _auroc_variance(score: Float, machine: Bool, cluster: Clusters, counts: tuple[int, int]) -> tuple[float, float]:
    above, below = placements(score, machine)
    area = float(above.mean())
    number = int(cluster.max()) + 1
    by_machine = np.bincount(cluster[machine], above - area, number)
    by_human = np.bincount(cluster[~machine], below - area, number)
    m, n = len(above), len(below)
    present = np.unique(cluster).size
    variance = counts[0] / (counts[0] - 1) * float((by_machine**2).sum()) / m**2
    variance += counts[1] / (counts[1] - 1) * float((by_human**2).sum()) / n**2
    variance += 2 * present / (present - 1) * float((by_machine * by_human).sum()) / (m * n)
    return area, variance


def placements(score: Float, machine: Bool) -> tuple[Float, Float]:
    """For each machine text the share of human texts below it, for each human text that of machine texts above it."""
    human, positive = score[~machine], score[machine]
    ordered_human, ordered_machine = np.sort(human), np.sort(positive)
    under = np.searchsorted(ordered_human, positive, "left") + np.searchsorted(ordered_human, positive, "right")
    over = np.searchsorted(ordered_machine, human, "left") + np.searchsorted(ordered_machine, human, "right")
    return under / 2 / len(human), 1 - over / 2 / len(positive)


def cluster_draws(clusters: Clusters, draws: int, seed: int = 1) -> Iterator[Float]:
    """Bootstrap weights, shape (n,): how often each text's cluster was drawn. Same seed and clusters, same draws."""
    _, cluster = np.unique(clusters, return_inverse=True)
    count = int(cluster.max(initial=-1)) + 1
    random = np.random.default_rng(seed)
    for _ in range(draws):
        drawn = np.bincount(random.integers(0, count, count), minlength=count).astype(np.float64)
        yield drawn[cluster]


def bootstrap_interval(estimate: float, drawn: Sequence[float] | Float, level: float = LEVEL) -> tuple[float, float]:
    """The bias-corrected percentile interval (Efron, 1981, Canadian Journal of Statistics 9) of the finite draws.

    (NaN, NaN) where fewer than half of them are finite.
    """
    values = np.asarray(drawn, np.float64)
    finite = np.sort(values[np.isfinite(values)])
    if not len(finite) or 2 * len(finite) < len(values):
        return float("nan"), float("nan")
    below = (np.count_nonzero(finite < estimate) + np.count_nonzero(finite <= estimate)) / 2 / len(finite)
    bias = float(ndtri(np.clip(below, 1 / (len(finite) + 1), 1 - 1 / (len(finite) + 1))))
    tail = float(ndtri((1 - level) / 2))
    low, high = np.quantile(finite, [ndtr(2 * bias + tail), ndtr(2 * bias - tail)])
    return float(low), float(high)
