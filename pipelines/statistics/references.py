"""How scores of human and of machine text are distributed, with what is not known of it: draws for a mixture.

Score distributions differ between sets of text by more than counting noise, as error rates do
(:mod:`pipelines.statistics.rates`). The bins are therefore split in halves again and again, and at each split the
share of the upper half follows the beta-binomial model of the rates, over sets: a Pólya tree (Lavine, Ann. Statist. 20,
1992) whose splits are hierarchical. Its first split is the true or false positive rate at the middle of the bins. A set
that scores high does so at every split, so that a draw takes the same quantile at all of them; drawn one by one they
come out too much alike (docs/quantification.md)::

    model = fit_histograms(counts)  # (sets, bins)
    machine = model.unseen("machine")  # (512, bins): the distribution in a set that nobody has seen
    mixed = model.mixture(4, "machine")  # over text of four such sets in equal parts
    human = sampled(own, "human")  # of one set that is itself at hand, such as the crawl's documents human by date
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from detectors.histograms import BINS, Float, SetHistograms
from pipelines.statistics.intervals import stratified
from pipelines.statistics.mixture import pooled
from pipelines.statistics.rates import GroupModel, fit_groups, mixed_in_unknown_parts

REFERENCE_DRAWS = 512
# The stored bins in eights: 8 bins, two units of log-odds each.
STARTS = np.arange(0, BINS, 8)


@dataclass(frozen=True)
class HistogramModel:
    """One :class:`GroupModel` a split: ``levels[k]`` holds the 2^k splits of depth k from the lowest bins up."""

    levels: tuple[tuple[GroupModel, ...], ...]

    def unseen(self, *name: str | int) -> Float:
        """(512, bins) of the distribution in a set that was not seen."""
        return self.mixture(1, *name)

    def mixture(self, sources: int, *name: str | int) -> Float:
        """(512, bins) over text of several sets that were not seen, in equal parts.

        All of them are drawn with the same parameters of the model: what is not known of those does not average out.
        """
        parts = [self._drawn(None, source, name) for source in range(sources)]
        return np.asarray(np.mean(parts, axis=0), np.float64)

    def mixtures(self, most: int, *name: str | int) -> Float:
        """(most, 512, bins): entry k - 1 is over text of k sets that were not seen, in parts that are not known."""
        return mixed_in_unknown_parts(np.stack([self._drawn(None, at, name) for at in range(most)]), *name)

    def member(self, counts: npt.ArrayLike, *name: str | int) -> Float:
        """(512, bins) of one of the fitted sets, given its own counts (bins,)."""
        return self._drawn(_splits(np.asarray(counts, np.float64)[None]), 0, name)

    def _drawn(self, own: list[Float] | None, source: int, name: tuple[str | int, ...]) -> Float:
        parts = np.ones((REFERENCE_DRAWS, 1))
        for depth, models in enumerate(self.levels):
            upper = np.empty((REFERENCE_DRAWS, len(models)))
            for node, model in enumerate(models):
                x, n = own[depth][0, node] if own else (0.0, 0.0)
                a, b = _parameters(model, *name)
                at = stratified("split", source, *name)[:REFERENCE_DRAWS]
                upper[:, node] = special.betaincinv(a + x, b + n - x, at)
            parts = np.stack([parts * (1 - upper), parts * upper], axis=2).reshape(REFERENCE_DRAWS, -1)
        return parts


def fit_histograms(counts: npt.ArrayLike) -> HistogramModel:
    """Fits the model to the histograms of several sets.

    Args:
        counts: (sets, bins), of as many independent texts as they are worth; bins a power of 2.
    """
    splits = _splits(np.asarray(np.round(np.atleast_2d(np.asarray(counts, np.float64))), np.float64))
    return HistogramModel(
        tuple(
            tuple(
                fit_groups(level[:, node, 0].astype(int).tolist(), level[:, node, 1].astype(int).tolist())
                for node in range(level.shape[1])
            )
            for level in splits
        )
    )


def sampled(counts: npt.ArrayLike, *name: str | int) -> Float:
    """(512, bins) draws of the distribution that one histogram (bins,) is a sample of: Dirichlet, Jeffreys' prior."""
    counts = np.asarray(counts, np.float64)
    levels = [stratified("bin", at, *name)[:REFERENCE_DRAWS] for at in range(len(counts))]
    drawn = np.maximum(special.gammaincinv(counts + 0.5, np.stack(levels, axis=1)), 1e-300)
    return np.asarray(drawn / drawn.sum(axis=1, keepdims=True), np.float64)


def reference_counts(
    sets: Iterable[SetHistograms], label: str, language: str | None = None, starts: npt.ArrayLike = STARTS
) -> Float:
    """(sets, bins) of the human or machine texts, scaled to their number of groups; sets without any are left out.

    Args:
        sets: of one kind.
        label: "human" or "machine".
        language: only of this one, if it has such text at all.
        starts: where the bins begin (see ``mixture.pooled``): 8 bins by default.
    """
    found = [(part.language, getattr(part, label), getattr(part, f"{label}_groups")) for part in sets]
    found = [part for part in found if sum(part[1])]
    found = [part for part in found if part[0] == language] or found
    if not found:
        return np.zeros((0, np.size(starts)))
    return pooled([np.array(counts) * groups / sum(counts) for _, counts, groups in found], starts)


def _parameters(model: GroupModel, *name: str | int) -> tuple[Float, Float]:
    """(512,) draws of both parameters of the beta distribution of a split."""
    total = np.cumsum(model.weight)
    at = np.searchsorted(total, stratified("grid", *name)[:REFERENCE_DRAWS] * total[-1])
    return model.a[at], model.b[at]


def _splits(counts: Float) -> list[Float]:
    """For each depth, (sets, splits, 2): texts in the upper half, and in both."""
    levels = []
    while counts.shape[1] > 1:
        pairs = counts.reshape(len(counts), -1, 2)
        levels.append(np.stack([pairs[:, :, 1], pairs.sum(axis=2)], axis=2))
        counts = pairs.sum(axis=2)
    return levels[::-1]
