"""The share behind the flagged documents of each cell (Rogan & Gladen 1978), with the rates of its languages.

    tpr = TruePositives(rates)
    shares = adjusted_shares(cells, FalsePositives(tally, rates, min_human=200), tpr, level=0.95)

:mod:`pipelines.statistics.intervals` has the estimate and its interval; here is which rates each cell gets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.statistics.cells import Cells
from pipelines.statistics.fpr import FalsePositives
from pipelines.statistics.intervals import FloatArray, adjusted_interval, adjusted_share
from pipelines.statistics.rates import DetectorRates, fit_groups

METHOD = "rogan-gladen"
_CHUNK = 2048


class TruePositives:
    """Draws of the true positive rate over a mixture of sets that the detector has not seen."""

    def __init__(self, rates: DetectorRates) -> None:
        self._rates = rates
        self.known = bool(rates.machine())
        self._drawn: dict[tuple[str, ...], FloatArray] = {}
        self._by_language: dict[str, FloatArray] = {}

    def draws(self, language: str, sources: int) -> FloatArray:
        """(DRAWS,) for a mixture of this many sets, but of no more than the language has."""
        drawn = self._mixtures(language)
        return np.asarray(drawn[min(sources, len(drawn)) - 1], np.float64)

    def sources(self, cells: Cells) -> npt.NDArray[np.int32]:
        """(cells,) of how many sets each is taken for a mixture of: no more than its richest language has."""
        most = np.array([len(self._mixtures(language)) for language in cells.languages], np.int64)
        if not len(most):
            return np.ones(cells.size, np.int32)
        own = most[cells.mix[:, 0].astype(np.int64)] if "language" in cells.margin else (cells.mix > 0) @ np.diag(most)
        own = own if own.ndim == 1 else own.max(axis=1)
        return np.clip(np.floor(cells.hosts), 1, np.maximum(own, 1)).astype(np.int32)

    def _mixtures(self, language: str) -> FloatArray:
        """(sets, DRAWS); languages that rest on the same sets share the same draws."""
        if language not in self._by_language:
            machine = self._rates.machine(language)
            key = tuple(s.name for s in machine)
            if key not in self._drawn:
                model = fit_groups([s.machine_flagged for s in machine], [s.machine_n for s in machine])
                self._drawn[key] = model.mixtures(max(1, len(machine)), "tpr")
            self._by_language[language] = self._drawn[key]
        return self._by_language[language]


@dataclass(frozen=True)
class Shares:
    """Of the documents without direct evidence: (cells,) each; NaN where nothing is known."""

    estimate: FloatArray
    low: FloatArray
    high: FloatArray
    fpr: FloatArray
    tpr: FloatArray


def adjusted_shares(cells: Cells, model: FalsePositives, tpr: TruePositives, level: float) -> Shares:
    """Estimate, limits and mean rates of all cells in which the detector spoke."""
    blank = np.full(cells.size, np.nan)
    shares = Shares(blank, np.zeros(cells.size), np.ones(cells.size), blank.copy(), blank.copy())
    wanted = np.flatnonzero(cells.count["rest"] > 0)
    if not len(wanted) or not model.known:
        return shares
    n = np.round(cells.effective[wanted], 3)
    flagged, rest = (cells.amount[name][wanted] for name in ("flagged", "rest"))
    x = np.round(n * np.minimum(flagged / rest, 1.0), 3)
    # Most cells of a large crawl are small: the same counts come up again and again.
    parts: FloatArray = np.column_stack([tpr.sources(cells)[wanted].astype(np.float64), x, n, cells.mix[wanted]])
    cases, back = np.unique(parts, axis=0, return_inverse=True)
    back = back.ravel()
    solved = np.full((5, len(cases)), np.nan)
    # Sorted by their first column, so that cases of one mixture stand together.
    for mixture in np.split(np.arange(len(cases)), np.flatnonzero(np.diff(cases[:, 0])) + 1):
        for start in range(0, len(mixture), _CHUNK):
            part = mixture[start : start + _CHUNK]
            solved[:, part] = _solve(cases[part, 1:], cells, model, tpr, int(cases[part[0], 0]), level)
    for name, values in zip(("estimate", "low", "high", "fpr", "tpr"), solved, strict=True):
        getattr(shares, name)[wanted] = values[back]
    return shares


def _solve(
    cases: FloatArray, cells: Cells, model: FalsePositives, true: TruePositives, sources: int, level: float
) -> tuple[FloatArray, ...]:
    """Estimate, low, high, mean false and true positive rate of (cases, 2 + mix): flagged, judged, languages."""
    x, n, mix = cases[:, 0], cases[:, 1], cases[:, 2:]

    def mixed(by_language: list[FloatArray]) -> FloatArray:
        drawn = np.stack(by_language)
        return drawn[mix[:, 0].astype(np.int64)] if "language" in cells.margin else mix @ drawn

    fpr = mixed([model.draws(language) for language in cells.languages])
    if "host" in cells.margin:
        fpr = model.for_host(fpr)
    rate = fpr.mean(axis=1)
    if not true.known:
        return np.full(len(x), np.nan), np.zeros(len(x)), np.ones(len(x)), rate, np.full(len(x), np.nan)
    tpr = mixed([true.draws(language, sources) for language in cells.languages])
    hit = tpr.mean(axis=1)
    return adjusted_share(x, n, rate, hit), *adjusted_interval(x, n, fpr, tpr, level), rate, hit
