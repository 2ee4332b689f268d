"""Measures the nulls of all keys of a scanner on text that is known to be human.

In two passes: the first measures how far each key leans (:func:`lean`), the second ranks the p-values that a scan gives
once that is taken off, stretches and all (:func:`rank`), so that new documents are ranked among their like. What a key
leans in samples of sites is measured by itself (:func:`measure_site_shifts`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from watermark import sites
from watermark.calibration import Null, Options, fit_buckets, longest_of, measure_shift
from watermark.scan import Scanner
from watermark.windows import Floats, Ints

_TEXTS = 1024
_DOCUMENTS_A_SITE = 20


class Fit(NamedTuple):
    """A key's null, and the share of the corpus' documents that it would have found at 1 % without one."""

    null: Null
    exact_rate: float


def fit_nulls(scanner: Scanner, texts: Sequence[str], groups: Sequence[str], options: Options) -> list[Fit]:
    """One null for each key, in their order.

    Args:
        scanner: without nulls.
        texts: known to be written by people, and of the languages and kinds that are to be scanned.
        groups: what ties texts together (a host, a source), one name a text.
        options: sizes and confidences.

    Raises ValueError if a key could be scored in too few of them.
    """
    parts = [scanner.tallies(texts[at]) for at in _slices(len(texts))]
    statistic = np.concatenate([part.statistic for part in parts])
    scored = np.concatenate([part.scored for part in parts])
    means = scanner.null_means()
    leaning: list[Null | None] = []
    for key, mark in enumerate(scanner.marks):
        try:
            leaning.append(lean(statistic[:, key], scored[:, key], groups, float(means[key]), options))
        except ValueError as error:
            raise ValueError(f"{mark.entry.id}: {error}") from None
    exact = _scan(scanner, texts)[0]
    log_p, scored = _scan(scanner.with_nulls(leaning), texts)
    site_shifts = measure_site_shifts(scanner, texts, groups, options)
    fits = []
    for key, null in enumerate(leaning):
        assert null is not None
        rate = float(np.mean(exact[scored[:, key] > 0, key] <= math.log(0.01)))
        ranked = rank(null, log_p[:, key], scored[:, key], options)
        fits.append(Fit(dataclasses.replace(ranked, site_shift=float(site_shifts[key])), rate))
    return fits


def measure_site_shifts(scanner: Scanner, texts: Sequence[str], groups: Sequence[str], options: Options) -> Floats:
    """float64[k]: how far each key leans in samples of sites, each made of some texts of like groups."""
    order = sorted(range(len(texts)), key=lambda at: (str(groups[at]), at))
    members = [order[at : at + _DOCUMENTS_A_SITE] for at in range(0, len(order), _DOCUMENTS_A_SITE)]
    means, shifts = scanner.null_means(), np.zeros(len(scanner.marks))
    for number, family in enumerate(scanner.families):
        samples = []
        for name, rows in enumerate(members):
            salt = sites.salt(str(name))
            encoded = family.tokenizer.encode([texts[at] for at in rows])
            found, _ = sites.sample_documents(*encoded, family.width, np.full(len(rows), salt, np.uint64))
            samples.append(sites.merge(found, salt))
        statistic, scored = scanner.site_tallies(number, samples)
        every = np.arange(len(samples))
        for key in family.columns.tolist():
            shifts[key] = measure_shift(statistic[:, key], scored[:, key], every, means[key], options.confidence)
    return shifts


def lean(statistic: Floats, scored: Ints, groups: ArrayLike, null_mean: float, options: Options) -> Null:
    """How far one key leans: a null without ranks.

    Args:
        statistic: float64[d], of whole documents.
        scored: int64[d], the tokens that it is over; documents without any are left out.
        groups: [d], names or numbers.
        null_mean: what an unmarked token adds to the statistic.
        options: sizes and confidences.

    Raises ValueError for too few documents, or a single group.
    """
    rows = scored > 0
    if rows.sum() < options.documents:
        raise ValueError(
            f"{int(rows.sum())} texts with scored tokens are too few to measure a null; "
            f"at least {options.documents} are needed"
        )
    # As strings: names of mixed types do not sort.
    _, group = np.unique(np.asarray(groups, object).astype(str), return_inverse=True)
    shift = measure_shift(statistic[rows], scored[rows], group[rows], null_mean, options.confidence)
    return Null(shift, longest_of(scored[rows]), ())


def rank(null: Null, log_p: Floats, scored: Ints, options: Options) -> Null:
    """The null with the ranks of the corpus' p-values, float64[d], which were made with its shift taken off."""
    rows = scored > 0
    return dataclasses.replace(null, buckets=fit_buckets(log_p[rows], scored[rows], options))


def _scan(scanner: Scanner, texts: Sequence[str]) -> tuple[Floats, Ints]:
    found = [scanner.scan(texts[at]) for at in _slices(len(texts))]
    return np.concatenate([part.log_p for part in found]), np.concatenate([part.scored for part in found])


def _slices(count: int) -> Iterator[slice]:
    return (slice(at, at + _TEXTS) for at in range(0, count, _TEXTS))
