"""The share of machine text behind a histogram of scores: maximum likelihood on a fixed grid, EM, and matching.

The scores of a slice are counted in fixed bins (:mod:`detectors.histograms`). If human text falls into bin b with
probability h_b and machine text with m_b, a slice with a share p of machine text has q_b = (1 - p) h_b + p m_b, and the
log-likelihood of counts c is the sum of c_b log q_b(p). On a fixed grid of shares that is a vector which is linear in
c: those of disjoint slices add up. The histogram holds all of it, for any h and m, and whole numbers add up exactly::

    counts = sum(histogram(probability) for probability in packs)  # (64,): the state that merges in one pass
    share = likelihood_share(counts, human, machine)
    low, high = mixture_interval(counts, human_draws, machine_draws)  # draws: pipelines.statistics.references

With two bins this is the adjusted count of :mod:`pipelines.statistics.intervals`. Other estimates of the same share
stand beside it, to be compared:

- :func:`posterior_share`: Saerens, Latinne & Decaestecker (Neural Computation 14, 2002), "EMQ". It needs no reference,
  but takes every calibrated probability at its word.
- :func:`hellinger_share`: the share at which the mixture is nearest to the counts in Hellinger distance
  (González-Castro, Alaiz-Rodríguez & Alegre, Information Sciences 218, 2013), "HDy" on one set of bins.
- :func:`mean_share`: the probabilistic adjusted count (Bella et al., ICDM 2010), "PACC".
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from detectors.histograms import CENTRES, Float
from pipelines.statistics.grid import LEAST, averaged

# Even in arcsin(sqrt(p)), on which scale a share is known equally well everywhere: the first step is 0.004 %.
SHARES: Float = np.sin(np.linspace(0, np.pi / 2, 257)) ** 2
SHARES[-1] = 1.0
_STEPS = ((4, 40), (2, 160))  # every so manieth share of the grid for up to so many texts
_GOLDEN = (np.sqrt(5.0) - 1) / 2


def pooled(counts: npt.ArrayLike, starts: npt.ArrayLike) -> Float:
    """Counts (..., bins) of adjacent bins added up; a new bin begins at each of ``starts``, the first of which is 0."""
    return np.asarray(np.add.reduceat(np.asarray(counts, np.float64), np.asarray(starts), axis=-1), np.float64)


def log_likelihood(counts: npt.ArrayLike, human: Float, machine: Float) -> Float:
    """(cells, 257) of the log-likelihood at :data:`SHARES`, up to a constant: linear in ``counts``, so it merges.

    Args:
        counts: (cells, bins); may be fractional.
        human: (bins,) probability of each bin for human text, or any multiple of it by bin that ``machine`` shares.
        machine: (bins,) the same for machine text.
    """
    return np.asarray(np.atleast_2d(counts) @ _log_mixture(human, machine).T, np.float64)


def likelihood_share(counts: npt.ArrayLike, human: Float, machine: Float) -> Float:
    """(cells,) the share of :data:`SHARES` with the greatest likelihood, moved to the top of a parabola through it and
    its neighbours (in arcsin(sqrt(p))); NaN where nothing was counted. Arguments as in :func:`log_likelihood`.
    """  # fmt: skip
    counts = np.atleast_2d(np.asarray(counts, np.float64))
    place, _ = _peak(log_likelihood(counts, human, machine))
    return np.where(counts.sum(axis=1) > 0, _share_at(place), np.nan)


def posterior_share(
    counts: npt.ArrayLike, log_odds: Float = CENTRES, tolerance: float = 1e-9, most: int = 20_000
) -> Float:
    """(cells,) the share by expectation and maximisation (EMQ), from calibrated log-odds at prior 0.5 alone.

    Each step turns the probabilities to the prior of the last estimate and takes their mean. The likelihood is concave
    in the share, so that the steps end at its maximum whatever they start from.

    Args:
        counts: (cells, bins).
        log_odds: (bins,) what the calibrated detector says of a text in each bin.
        tolerance: a cell is done when a step changes it by less.
        most: steps at the most.
    """
    counts = np.atleast_2d(np.asarray(counts, np.float64))
    total = counts.sum(axis=1)
    share, ratio = np.full(len(counts), 0.5), np.exp(log_odds)
    left = np.flatnonzero(total > 0)
    for _ in range(most):
        if not len(left):
            break
        prior = share[left, None]
        machine = prior * ratio / (1 - prior + prior * ratio)
        new = (counts[left] * machine).sum(axis=1) / total[left]
        moved = np.abs(new - share[left])
        share[left] = new
        left = left[moved >= tolerance]
    return np.where(total > 0, share, np.nan)


def hellinger_share(counts: npt.ArrayLike, human: Float, machine: Float) -> Float:
    """(cells,) the share at which the mixture is nearest to the counts in Hellinger distance; NaN without counts.

    The distance is convex in the share; the search is by golden section, to 1e-9.

    Args:
        counts: (cells, bins).
        human: (bins,) or (cells, bins) probabilities.
        machine: the same for machine text.
    """
    root = np.sqrt(np.atleast_2d(np.asarray(counts, np.float64)))

    def affinity(share: Float) -> Float:
        mixed = (1 - share)[:, None] * human + share[:, None] * machine
        return np.asarray((root * np.sqrt(np.maximum(mixed, 0))).sum(axis=1), np.float64)

    low, high = np.zeros(len(root)), np.ones(len(root))
    for _ in range(44):
        inner_low, inner_high = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        rising = affinity(inner_low) < affinity(inner_high)
        low, high = np.where(rising, inner_low, low), np.where(rising, high, inner_high)
    middle = (low + high) / 2
    ends = np.stack([np.zeros(len(root)), middle, np.ones(len(root))])
    best = np.stack([affinity(share) for share in ends]).argmax(axis=0)
    return np.where(root.any(axis=1), ends[best, np.arange(len(root))], np.nan)


def mean_share(counts: npt.ArrayLike, human: Float, machine: Float, log_odds: Float = CENTRES) -> Float:
    """(cells,) the share from the mean probability, adjusted by those of the references; clipped to [0, 1], NaN without
    counts or where the references do not differ. Arguments as in :func:`hellinger_share`.
    """  # fmt: skip
    counts = np.atleast_2d(np.asarray(counts, np.float64))
    probability = special.expit(log_odds)
    of_human, of_machine = human @ probability / human.sum(), machine @ probability / machine.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.clip((counts @ probability / counts.sum(axis=1) - of_human) / (of_machine - of_human), 0, 1)
    return np.where(of_machine > of_human, share, np.nan)


def mixture_interval(counts: npt.ArrayLike, human: Float, machine: Float, level: float = 0.95) -> tuple[Float, Float]:
    """The two-sided interval for the share, over what is not known of the references; (cells,) low and high.

    For each draw of the references the likelihood gives a confidence distribution of the share, Φ(r) with the signed
    root r of the likelihood ratio, and a flat prior gives a posterior. Both are averaged over the draws; the draws are
    *not* weighted by how well they fit the slice (see docs/quantification.md). Each limit is the outer one of both: the
    first reaches 0 where the likelihood is greatest there, the second is right for a handful of machine texts. With a
    perfect detector the limits are close to those of Clopper and Pearson. On a likelihood much narrower than the grid
    the second may lie outwards by up to a step: 0.006 at a share of 0.5, 0.0009 at 0.005.

    Args:
        counts: (cells, bins); scaled to an effective number of documents where they are not independent. Cells without
            counts get [0, 1].
        human: (draws, bins) of the reference distribution of human text, or (1, bins) where it is known.
        machine: the same for machine text; as many draws, or one.
        level: of the interval.
    """
    counts = np.atleast_2d(np.asarray(counts, np.float64))
    draws = max(len(human), len(machine))
    human, machine = (np.broadcast_to(np.atleast_2d(part), (draws, counts.shape[1])) for part in (human, machine))
    human, machine = np.ascontiguousarray(human), np.ascontiguousarray(machine)
    low, high = np.zeros(len(counts)), np.ones(len(counts))
    tail = (1 - level) / 2
    for cell, count in enumerate(counts):
        # A likelihood of n texts is no narrower than 1 / (2 sqrt(n)): every step of the grid for few would be waste.
        step = next((step for step, most in _STEPS if count.sum() <= most), 1)
        both = averaged(np.ascontiguousarray(count), human, machine, np.ascontiguousarray(SHARES[::step]))
        low[cell] = min(_crossing(rising, tail, step) for rising in both)
        high[cell] = max(_crossing(rising, 1 - tail, step) for rising in both)
    some = counts.sum(axis=1) > 0
    return np.where(some, low, 0.0), np.where(some, high, 1.0)


def mixed_shares(
    counts: npt.ArrayLike, mix: Float, humans: Float, machines: Float, level: float = 0.95
) -> tuple[Float, Float, Float]:
    """Estimate, low and high for cells that differ in their languages; (cells,) each.

    Args:
        counts: (cells, bins), as in :func:`mixture_interval`.
        mix: (cells, languages) of the share of each language in a cell, rows summing to 1.
        humans: (languages, draws, bins) of the reference distribution of human text in each.
        machines: the same of machine text, whose languages are taken to be those of the cell.
        level: of the interval.
    """
    counts = np.atleast_2d(np.asarray(counts, np.float64))
    found = np.full((3, len(counts)), np.nan)
    kinds, kind = np.unique(mix, axis=0, return_inverse=True)
    for at, shares in enumerate(kinds):
        here = np.flatnonzero(kind.ravel() == at)
        human, machine = (np.tensordot(shares, part, axes=1) for part in (humans, machines))
        estimate = likelihood_share(counts[here], human.mean(axis=0), machine.mean(axis=0))
        low, high = mixture_interval(counts[here], human, machine, level)
        found[:, here] = estimate, np.fmin(low, estimate), np.fmax(high, estimate)
    return found[0], found[1], found[2]


def hellinger_interval(
    counts: npt.ArrayLike, human: Float, machine: Float, level: float = 0.95, seed: int = 0
) -> tuple[Float, Float]:
    """The percentile bootstrap interval of :func:`hellinger_share`: one resample of the counts a draw; (cells,) each.

    Arguments as in :func:`mixture_interval`; ``human`` and ``machine`` are (draws, bins) both, and counts are rounded.
    """
    random = np.random.default_rng(seed)
    counts = np.atleast_2d(np.asarray(counts, np.float64))
    limits = np.repeat([[0.0], [1.0]], len(counts), axis=1)
    for cell, count in enumerate(counts):
        if count.sum() > 0:
            again = random.multinomial(max(1, round(count.sum())), count / count.sum(), len(human))
            found = hellinger_share(again, human, machine)
            limits[:, cell] = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return limits[0], limits[1]


def _log_mixture(human: Float, machine: Float) -> Float:
    """(257, bins) of log q."""
    return np.asarray(np.log(np.maximum(np.outer(1 - SHARES, human) + np.outer(SHARES, machine), LEAST)), np.float64)


def _peak(values: Float) -> tuple[Float, Float]:
    """Where on the grid a likelihood is greatest, in steps, and its value there: the top of a parabola through the
    greatest of ``values`` (..., 257) and its neighbours; at either end of the grid, the end unless it rises inwards.
    """  # fmt: skip
    best = values.argmax(axis=-1)[..., None]
    at = np.clip(best, 1, len(SHARES) - 2)
    left, middle, right = (np.take_along_axis(values, at + step, -1)[..., 0] for step in (-1, 0, 1))
    slope, bend = (right - left) / 2, left - 2 * middle + right
    shift = np.clip(-slope / np.minimum(bend, -LEAST), -1, 1)
    # Where the likelihood is flat there is nothing to move to.
    shift = np.where(bend < -1e-9, shift, (best - at)[..., 0])
    height = middle + slope * shift + bend * shift**2 / 2
    return at[..., 0] + shift, np.maximum(height, values.max(axis=-1))


def _share_at(place: Float) -> Float:
    return np.asarray(np.sin(place * np.pi / 2 / (len(SHARES) - 1)) ** 2, np.float64)


def _crossing(rising: Float, level: float, step: int) -> float:
    """The share at which a rising function on the grid reaches ``level``: 0 if it starts above, 1 if it never does.

    Between two points it is interpolated as a normal quantile, which is nearly straight there.
    """
    at = int(np.searchsorted(rising, level))
    if at == 0:
        return 0.0
    if at == len(rising):
        return 1.0
    below, wanted, above = special.ndtri(np.clip([rising[at - 1], level, rising[at]], 1e-300, 1 - 1e-16))
    return float(_share_at(step * (at - 1 + (wanted - below) / (above - below))))
