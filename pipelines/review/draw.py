"""The audit: a stratified random sample of all that an output keeps, which anyone can draw again.

    population = read_population(kept_parts("out"), stratifiers(["month"]), seed, cutoff)
    drawn = draw(population, 400)
    drawn.sampled / drawn.sizes  # the inclusion probability of each document, by stratum

Strata are the values of some columns, the place first. One that would give fewer documents than a minimum is pooled
with others like it: first those that differ in the last column alone, then in the last two, and so on, never over
places. So every stratum gives two documents or more, or all that it has; every document may be drawn, and its chance is
exactly n / N of its stratum: for a given output and number of labels no lot decides how many a stratum gives. Inside a
stratum the documents whose SHA-256(seed ‖ doc_id) is smallest are drawn.

How many each stratum gives is the best whole number, given the minimum and no more than it has: those with the greatest
``N S / √(n (n + 1))`` get one more, where n is what they have (Wright, The American Statistician 66 (2012) 217). S is
the same in all strata for a proportional sample, or the standard deviation that is expected (Neyman, Journal of the
Royal Statistical Society 97 (1934) 558).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines.errors import UsageError
from pipelines.review.population import Population

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

POOLED: Final = "*"  # in a stratum's label: every value that no stratum of its own has
MINIMUM: Final = 10  # documents of a stratum
FLOOR: Final = 0.1  # the least standard deviation that is expected: that of a share of 1 %

_UNKNOWN: Final = 0.25  # the variance where nothing is known


class Allocation(StrEnum):
    """How strata share the labels."""

    PROPORTIONAL = "proportional"  # to their number of documents
    NEYMAN = "neyman"  # to that and to the standard deviation that the output's own probabilities let expect


class Drawn(NamedTuple):
    """A stratified sample.

    Attributes:
        rows: of the population, int64 (n,), by stratum and in it in the order of drawing.
        stratum: of each of these, int64 (n,).
        strata: of each document of the population, int64 (N,).
        labels: of each stratum, its values by column; :data:`POOLED` for the rest, None where unknown.
        sizes: documents of each stratum, int64 (h,).
        sampled: of these, int64 (h,).
    """

    rows: Counts
    stratum: Counts
    strata: Counts
    labels: list[tuple[str | None, ...]]
    sizes: Counts
    sampled: Counts

    @property
    def probabilities(self) -> Floats:
        """Of inclusion, by stratum."""
        return self.sampled / self.sizes


def draw(
    population: Population, labels: int, allocation: Allocation = Allocation.PROPORTIONAL, minimum: int = MINIMUM
) -> Drawn:
    """Draws so many documents.

    Raises UsageError where there are not as many, or too few are asked for to draw from every place.
    """
    if minimum < 2:
        raise UsageError(f"at least {minimum} documents of a stratum: it takes 2 for a variance")
    if not 1 <= labels <= population.size:
        raise UsageError(f"--labels {labels}: from 1 to {population.size:,}, the documents that are kept")
    strata, names = pooled(population, labels, minimum)
    sizes = np.bincount(strata, minlength=len(names))
    least = int(np.minimum(sizes, minimum).sum())
    if labels < least:
        raise UsageError(
            f"--labels {labels}: at least {least}, {minimum} or all of each of {len(names)} strata; "
            "give more labels or stratify by less"
        )
    spreads = np.ones(len(sizes)) if allocation is Allocation.PROPORTIONAL else expected_spread(population, strata)
    sampled = allocate(sizes, spreads, labels, minimum)
    order = np.argsort(strata, kind="stable")
    starts = np.cumsum(sizes) - sizes
    own = np.repeat(np.arange(len(sizes)), sampled)
    nth = np.arange(labels) - np.repeat(np.cumsum(sampled) - sampled, sampled)
    return Drawn(order[starts[own] + nth], own, strata, names, sizes, sampled)


def pooled(population: Population, labels: int, minimum: int) -> tuple[Counts, list[tuple[str | None, ...]]]:
    """The stratum of each document, int64 (N,), and the labels of strata, sorted; see the module."""
    cells, at, sizes = np.unique(population.strata.T, axis=0, return_inverse=True, return_counts=True)
    columns = cells.shape[1]
    smallest = minimum * population.size / labels
    keys = [tuple(cell) for cell in cells.tolist()]
    counts: dict[tuple[int, ...], int] = dict(zip(keys, sizes.tolist(), strict=True))
    goes_to = {key: key for key in keys}
    for level in range(columns - 1, 0, -1):
        small = {key for key, count in counts.items() if count < smallest}
        target = {key: key[:level] + (-1,) * (columns - level) for key in small}
        for key in sorted(small):
            count = counts.pop(key)
            counts[target[key]] = counts.get(target[key], 0) + count
        goes_to = {cell: target.get(key, key) for cell, key in goes_to.items()}
    order = {key: number for number, key in enumerate(sorted(counts))}
    strata = np.array([order[goes_to[key]] for key in keys], np.int64)[at.reshape(-1)]
    names = population.names
    labelled = [
        tuple(POOLED if value < 0 else names[column][value] for column, value in enumerate(key)) for key in order
    ]
    return strata, labelled


def allocate(sizes: Counts, spreads: Floats, total: int, minimum: int) -> Counts:
    """How many documents each stratum gives, int64 (h,): the variance of the stratified mean is the least there is.

    Args:
        sizes: documents of each stratum, int64 (h,), none of them 0.
        spreads: the standard deviation of each, (h,), above 0.
        total: documents of the sample, from the sum of the minima to ``sizes.sum()``.
        minimum: of a stratum, unless it has fewer documents; at least 1.

    Raises ValueError for a total that cannot be had. A greater total gives no stratum less.
    """
    given = np.minimum(sizes, minimum).astype(np.int64)
    if not int(given.sum()) <= total <= int(sizes.sum()) or minimum < 1:
        raise ValueError(f"{total} of {int(sizes.sum())} documents, at least {minimum} of a stratum")

    def worth(at: int, had: int) -> float:
        return -float(sizes[at] * spreads[at]) / math.sqrt(had * (had + 1))

    waiting = [(worth(at, int(given[at])), at) for at in range(len(sizes)) if given[at] < sizes[at]]
    heapq.heapify(waiting)
    for _ in range(total - int(given.sum())):
        at = waiting[0][1]
        given[at] += 1
        if given[at] < sizes[at]:
            heapq.heapreplace(waiting, (worth(at, int(given[at])), at))
        else:
            heapq.heappop(waiting)
    return given


def expected_spread(population: Population, strata: Counts) -> Floats:
    """The standard deviation that is expected in each stratum: √ of the mean of p (1 - p), at least :data:`FLOOR`.

    p is the posterior, or the detector's probability where there is none; one half where there is neither. That is what
    remains of the variance once an estimate makes use of p, if p is calibrated.
    """
    expected = np.where(np.isnan(population.posterior), population.probability, population.posterior)
    variance = np.where(np.isnan(expected), _UNKNOWN, expected * (1 - expected.astype(np.float64)))
    means = [math.fsum(variance[rows].tolist()) / len(rows) for rows in _members(strata)]
    return np.maximum(FLOOR, np.sqrt(means))


def stratum_table(population: Population, drawn: Drawn, columns: Sequence[str]) -> list[dict[str, Any]]:
    """What estimates need to know of the whole of each stratum, for `plan.json`.

    ``documents`` and ``sampled``; ``captures`` and ``captures_squares``, the sum of cluster sizes c and of c²; of the
    documents for which the detector spoke with a probability p: ``scored``, their number, ``scored_captures``,
    ``scored_captures_squares``, ``probability`` (Σ p), ``probability_squares`` (Σ p²), ``weighted_probability``
    (Σ c p), ``weighted_probability_squares`` (Σ c² p²) and ``weighted_probability_captures`` (Σ c² p).
    """
    table = []
    for number, (labels, rows) in enumerate(zip(drawn.labels, _members(drawn.strata), strict=True)):
        everything = population.captures[rows].astype(np.float64)
        scored = ~np.isnan(population.probability[rows])
        c, p = everything[scored], population.probability[rows][scored].astype(np.float64)
        sums = {
            "captures": everything,
            "captures_squares": everything**2,
            "scored_captures": c,
            "scored_captures_squares": c**2,
            "probability": p,
            "probability_squares": p**2,
            "weighted_probability": c * p,
            "weighted_probability_squares": (c * p) ** 2,
            "weighted_probability_captures": c**2 * p,
        }
        table.append(
            {
                "stratum": number,
                **dict(zip(columns, labels, strict=True)),
                "documents": int(drawn.sizes[number]),
                "sampled": int(drawn.sampled[number]),
                "inclusion_probability": float(drawn.probabilities[number]),
                "scored": int(scored.sum()),
                # Exact sums: the same on every machine.
                **{name: _number(math.fsum(values.tolist())) for name, values in sums.items()},
            }
        )
    return table


def _members(strata: Counts) -> list[Counts]:
    """The documents of each stratum, in the order of drawing."""
    return np.split(np.argsort(strata, kind="stable"), np.cumsum(np.bincount(strata))[:-1])


def _number(value: float) -> float | int:
    return int(value) if value.is_integer() else value
