"""How far people who label the same documents agree: Krippendorff's α, with its interval.

    >>> answers = np.array([[0, 0], [1, 1], [1, 0], [0, 0], [1, 1], [0, -1]])  # documents × people; -1: did not label
    >>> counts = counts_by_unit(answers, 2)
    >>> round(krippendorff_alpha(counts), 3)
    0.7
    >>> alpha_interval(counts, draws=500)[0] < 0.7
    True

α is 1 where all agree and 0 where they agree as often as by chance (Krippendorff, Content Analysis, 4th ed. 2019,
chapter 12). Any number of people, any number of them on a document; documents that one person labelled count for
nothing. Where few documents are machine text, chance agreement is high and α is low though people rarely disagree.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.review.records import Label
from pipelines.statistics.intervals import clopper_pearson

Codes = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

RELIABLE: Final = 0.8  # Krippendorff (2019), section 12.4: what conclusions may rest on
TENTATIVE: Final = 2 / 3  # and what no conclusion at all should rest on, below
DRAWS: Final = 2000
_RARE: Final = 0.95  # people who agree on so many documents, and have a low α, label few of one kind

# What an answer says of the share of machine text.
MEANING: Final = {Label.HUMAN: 0, Label.MACHINE: 1, Label.EDITED: 1, Label.CANNOT_TELL: 2}


class Agreement(NamedTuple):
    """How far people agree.

    Attributes:
        documents: that two people or more have labelled.
        same: of these, on which all of them say the same.
        pairs: the share of pairs of answers to one document that are the same; None without such documents.
        alpha: Krippendorff's, of human / machine or edited / cannot tell; None where it is not defined, since all
            answers are the same or no document has two.
        low: and high: its interval; None with it.
        high: see there.
        labels_alpha: α of the four labels as they are, where machine and edited are not the same.
        kappas: Cohen's κ of each two people with documents in common.
        level: of the interval.
    """

    documents: int
    same: int
    pairs: float | None
    alpha: float | None
    low: float | None
    high: float | None
    labels_alpha: float | None
    kappas: tuple[Kappa, ...]
    level: float


class Kappa(NamedTuple):
    """Cohen's κ of two people; None where all their answers are the same."""

    first: str
    second: str
    documents: int
    kappa: float | None


def agreement(answers: pa.Table, level: float = 0.95) -> Agreement:
    """How far the answers agree, of :data:`pipelines.review.records.LABELS`; one of each person to each task."""
    people = sorted(set(answers["annotator"].to_pylist()))
    labels = [Label(label) for label in answers["label"].to_pylist()]
    codes = _matrix(answers, people, [MEANING[label] for label in labels])
    counts = counts_by_unit(codes, 3)
    counts = counts[counts.sum(axis=1) > 1]
    alpha = krippendorff_alpha(counts)
    low, high = alpha_interval(counts, level)
    every = counts_by_unit(_matrix(answers, people, [list(Label).index(label) for label in labels]), len(Label))
    return Agreement(
        documents=len(counts),
        same=int(np.count_nonzero(_disagreement(counts) == 0)),
        pairs=_known(raw_agreement(counts)),
        alpha=_known(alpha),
        low=_known(low),
        high=_known(high),
        labels_alpha=_known(krippendorff_alpha(every)),
        kappas=tuple(_kappas(codes, people)),
        level=level,
    )


def counts_by_unit(codes: Codes, categories: int) -> Codes:
    """How many people gave each answer to each unit: int64 (units, categories).

    Args:
        codes: (units, people); from 0 to ``categories`` - 1, and -1 where a person did not answer.
        categories: how many answers there are.
    """
    return np.stack([np.count_nonzero(codes == value, axis=1) for value in range(categories)], axis=1)


def krippendorff_alpha(counts: Codes) -> float:
    """α of nominal data; NaN where all answers that can be compared are the same, or where there are none.

    Args:
        counts: (units, categories), of :func:`counts_by_unit`.

    Krippendorff (2019), section 12.2: α = 1 - D_o / D_e, with all values of units of two or more.
    """
    paired = counts[counts.sum(axis=1) > 1]
    return float(_alphas(_unit_disagreement(paired).sum()[None], paired.sum(axis=0)[None].astype(np.float64))[0])


def raw_agreement(counts: Codes) -> float:
    """The share of pairs of answers to one unit that are the same, units alike; NaN without pairs."""
    paired = counts[counts.sum(axis=1) > 1]
    return float(1 - _disagreement(paired).mean()) if len(paired) else float("nan")


def alpha_interval(counts: Codes, level: float = 0.95, draws: int = DRAWS, seed: int = 20260501) -> tuple[float, float]:
    """An interval for α; NaN where α is not defined. The order of units does not matter.

    Percentiles over resampled units (Zapf, Castell, Morawietz and Karch, BMC Medical Research Methodology 16 (2016) 93,
    who find its coverage near nominal). Hayes and Krippendorff (Communication Methods and Measures 1, 2007) resample
    pairs instead and keep the disagreement by chance, D_e, as it is; but pairs of one unit are not independent, and D_e
    is uncertain where an answer is rare. Resamples without variation count as α = 0, as in Krippendorff (2019).

    Where few units are in disagreement, or agree on a rare answer, resamples know too little. So it also holds
    what α would be at both Clopper-Pearson limits of the share of units in disagreement, with D_e as it is.

    Args:
        counts: (units, categories).
        level: of the interval, two-sided.
        draws: resamples.
        seed: of them.
    """
    paired = counts[counts.sum(axis=1) > 1]
    alpha = krippendorff_alpha(paired)
    if np.isnan(alpha):
        return float("nan"), float("nan")
    patterns, repeats = np.unique(paired, axis=0, return_counts=True)
    weights = np.random.default_rng(seed).multinomial(len(paired), repeats / len(paired), draws)
    drawn = np.nan_to_num(_alphas(weights @ _unit_disagreement(patterns), (weights @ patterns).astype(np.float64)))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    least, most = _by_disagreement(paired, alpha, level)
    return min(float(low), least), max(float(high), most)


def cohen_kappa(first: Codes, second: Codes) -> float:
    """κ of two people's answers to the same units, (units,) each (Cohen, Educ. Psychol. Meas. 20 (1960) 37).

    NaN where both give one and the same answer throughout, or without units.
    """
    if not len(first):
        return float("nan")
    values = np.union1d(first, second)
    by_chance = sum(float((first == value).mean() * (second == value).mean()) for value in values)
    return float(((first == second).mean() - by_chance) / (1 - by_chance)) if by_chance < 1 else float("nan")


def judgement(found: Agreement) -> str:
    """What the agreement means for those who would rely on the labels: a sentence or two."""
    if not found.documents:
        return "Nobody's answers can be compared with another's: let two people label 10 to 20 % of the documents."
    if found.alpha is None or found.low is None or found.pairs is None:
        return (
            f"All answers to the {found.documents:,} documents of two people are the same, and of one kind: that says "
            "little about how well they tell one kind from the other; the controls do."
        )
    if found.low >= RELIABLE:
        return "People agree: the labels can be relied on."
    if found.alpha < TENTATIVE and found.pairs >= _RARE:
        return (
            f"People agree on {found.pairs:.1%} of the answers, yet hardly more than by chance, since few documents "
            "are of the one kind. What they take for machine text is doubtful: look at these documents together, and "
            "at the errors on controls."
        )
    if found.alpha < TENTATIVE:
        return (
            "People agree too little for their labels to be taken at their word: the share holds only as far as the "
            "errors on controls, which are carried in, are those on documents too. Look at the documents on which "
            "people differ, sharpen the guideline, and label these again."
        )
    if found.alpha < RELIABLE:
        return "People agree in part: the share is tentative. Look at the documents on which they differ."
    return "People agree, as far as so few documents of two people can tell; more of these would make it certain."


def as_dict(found: Agreement) -> dict[str, Any]:
    """For JSON, with the judgement."""
    kappas = [kappa._asdict() for kappa in found.kappas]
    return {**found._asdict(), "kappas": kappas, "judgement": judgement(found)}


def _matrix(answers: pa.Table, people: list[str], codes: list[int]) -> Codes:
    """(tasks, people), -1 where there is no answer."""
    tasks = {task: row for row, task in enumerate(sorted(set(answers["task_id"].to_pylist())))}
    found = np.full((len(tasks), len(people)), -1, np.int64)
    rows = [tasks[task] for task in answers["task_id"].to_pylist()]
    found[rows, [people.index(person) for person in answers["annotator"].to_pylist()]] = codes
    return found


def _kappas(codes: Codes, people: list[str]) -> list[Kappa]:
    found = []
    for first, second in combinations(range(len(people)), 2):
        both = (codes[:, [first, second]] >= 0).all(axis=1)
        if both.any():
            kappa = _known(cohen_kappa(codes[both, first], codes[both, second]))
            found.append(Kappa(people[first], people[second], int(both.sum()), kappa))
    return found


def _unit_disagreement(counts: Codes) -> FloatArray:
    """(units,): a unit's pairs of unlike answers, in both orders, over its answers less one."""
    held = counts.sum(axis=1)
    return np.asarray((held**2 - (counts**2).sum(axis=1)) / (held - 1), np.float64)


def _disagreement(counts: Codes) -> FloatArray:
    """(units,): the share of a unit's pairs that are unlike."""
    return np.asarray(_unit_disagreement(counts) / counts.sum(axis=1), np.float64)


def _alphas(observed: FloatArray, values: FloatArray) -> FloatArray:
    """α of sums over units: ``observed`` (n,) of their disagreement, ``values`` (n, categories) of their answers."""
    total = values.sum(axis=1)
    expected = total**2 - (values**2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(expected > 0, 1 - (total - 1) * observed / expected, np.nan), np.float64)


def _by_disagreement(paired: Codes, alpha: float, level: float) -> tuple[float, float]:
    """What α would be at the exact limits of the share of units in disagreement, at most and at least, D_e the same."""
    shares = _disagreement(paired)
    unlike = shares > 0
    fewest, most = (float(limit) for limit in clopper_pearson(unlike.sum(), len(paired), level))
    if not unlike.any():
        values = paired.sum(axis=0)
        by_chance = 1 - float((values**2).sum()) / float(values.sum()) ** 2
        return max(1 - most / by_chance, -1.0), 1.0
    observed = float(unlike.mean())
    return max(1 - (1 - alpha) * most / observed, -1.0), 1 - (1 - alpha) * fewest / observed


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
