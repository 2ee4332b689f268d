"""Error rates slice by slice, the worst first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from detectors.base import length_bucket
from detectors.calibration import auroc
from detectors.clustered import Bool, Clusters, Float, Share, auroc_interval, clustered_share
from detectors.corpus import Corpus
from detectors.evaluation_result import LEAST_TEXTS, Interval, Measured

BY = ("set", "domain", "length", "language", "generator", "attack")
_OF_MACHINE = ("generator", "attack")  # columns that only machine text has


class Sliced:
    """Texts with verdicts, to be counted by slice.

    Shapes are (n,) over all texts that were scored. ``spoken`` marks those that were judged, ``counted`` those that
    enter overall figures: what has no single author is counted only by attack. ``frozen`` are verdicts at 1 % false
    positives, None where the sample does not allow them.
    """

    def __init__(
        self,
        corpus: Corpus,
        probability: Float,
        verdicts: tuple[Bool, Bool | None],
        rows: tuple[Bool, Bool],
        clusters: Clusters,
    ):
        self.corpus = corpus
        self.probability = probability
        self.flagged, self.frozen = verdicts
        self.spoken, self.counted = rows
        self.clusters = clusters
        self.columns = {
            "set": corpus.sets,
            "domain": np.array([f"{one}/{two}" for one, two in zip(corpus.sets, corpus.domains, strict=True)]),
            "length": np.array([length_bucket(text.count(b" ") + 1) for text in corpus.levelled]),
            "language": corpus.languages,
            "generator": np.where(corpus.machine, corpus.generators, ""),
            "attack": np.where(corpus.machine, corpus.attacks, ""),
        }

    def overall(self) -> Measured:
        """All counted texts as one slice."""
        return self._measure("all", "", np.ones(len(self.corpus), np.bool_))

    def slices(self) -> tuple[Measured, ...]:
        """All slices: those with enough human text by false positive rate, then the rest by what they miss."""
        found = []
        for by in BY:
            for value in np.unique(self.columns[by]):
                if value or by not in _OF_MACHINE:
                    found.append(self._measure(by, str(value), self.columns[by] == value))
        return tuple(sorted((part for part in found if part.human + part.machine + part.abstained), key=_worst_first))

    def _measure(self, by: str, value: str, here: Bool) -> Measured:
        machine = self.corpus.machine
        counted = self.counted if by != "attack" else np.ones(len(machine), np.bool_)
        judged = here & self.spoken & counted
        human, positive = judged & ~machine, judged & machine
        area, interval, against = self._auroc(by, human, positive)
        return Measured(
            by=by,
            value=value,
            human=int(human.sum()),
            human_flagged=int((self.flagged & human).sum()),
            machine=int(positive.sum()),
            machine_flagged=int((self.flagged & positive).sum()),
            auroc=area,
            auroc_interval=interval,
            auroc_humans=against,
            human_clusters=len(np.unique(self.clusters[human])),
            machine_clusters=len(np.unique(self.clusters[positive])),
            too_few_human=len(np.unique(self.clusters[human])) < LEAST_TEXTS,
            too_few_machine=len(np.unique(self.clusters[positive])) < LEAST_TEXTS,
            abstained=int((here & ~self.spoken & counted).sum()),
            **self._rates(human, positive),
        )

    def _rates(self, human: Bool, positive: Bool) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for prefix, flagged in (("", self.flagged), ("frozen_", self.frozen)):
            for kind, rows in (("false_positive", human), ("true_positive", positive)):
                share = None if flagged is None else clustered_share(flagged[rows], self.clusters[rows])
                found[f"{prefix}{kind}_rate"] = share.estimate if share else None
                found[f"{prefix}{kind}_interval"] = _limits(share)
        return found

    def _auroc(self, by: str, human: Bool, positive: Bool) -> tuple[float | None, Interval | None, str]:
        """Machine text of one generator or attack is ranked against the human text of the sets that it is from."""
        against = "slice"
        if by in _OF_MACHINE:
            of_set = np.isin(self.corpus.sets, np.unique(self.corpus.sets[positive]))
            human, against = self.spoken & self.counted & of_set & ~self.corpus.machine, "same sets"
        rows = human | positive
        if not human.any() or not positive.any():
            return None, None, against
        score, machine = self.probability[rows], self.corpus.machine[rows]
        return auroc(score, machine), auroc_interval(score, machine, self.clusters[rows]), against


def _limits(share: Share | None) -> Interval:
    return (share.low, share.high) if share else (0.0, 1.0)


def _worst_first(part: Measured) -> tuple[Any, ...]:
    few = part.human < LEAST_TEXTS
    if not few:
        return few, -(part.false_positive_rate or 0), -(part.frozen_false_positive_rate or 0), part.by, part.value
    found = part.frozen_true_positive_rate if part.frozen_true_positive_rate is not None else part.true_positive_rate
    return few, part.too_few_machine, 1.0 if found is None else found, part.by, part.value


def beyond_chance(slices: Sequence[Measured], sliced: Sliced, rate: float) -> list[Measured]:
    """The slices in which more than ``rate`` of the human text is flagged, at 95 % over all slices (Bonferroni)."""
    tried = [part for part in slices if part.human >= LEAST_TEXTS]
    found = []
    for part in tried:
        here = sliced.spoken & sliced.counted & (sliced.columns[part.by] == part.value) & ~sliced.corpus.machine
        share = clustered_share(sliced.flagged[here], sliced.clusters[here], level=1 - 0.05 / len(tried))
        if share is not None and share.low > rate:
            found.append(part)
    return found
