"""The false positive rate on the crawl at hand, from its documents that are human by date.

Documents from before the cut-off, and later copies of them, come from the same web as those that are judged. What this
cannot show is drift: if the human web has changed since the cut-off in a way that fools the detector, the rate is off.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.records import Place
from pipelines.statistics.intervals import DRAWS, FloatArray, binomial_rate
from pipelines.statistics.rates import DetectorRates, fit_groups


class FalsePositives:
    """Draws of the false positive rate for each language, and of how far a single host strays from it."""

    def __init__(self, tally: pa.Table, rates: DetectorRates, min_human: int) -> None:
        human = human_by_date(tally)
        self._languages = _human_counts(human, "language")
        self.on_crawl = sum(n for _, n in self._languages.values()) >= min_human
        validation = rates.human()
        self.known = self.on_crawl or bool(validation)
        if self.on_crawl:
            counts, hosts = list(self._languages.values()), list(_human_counts(human, "host").values())
            self._model = fit_groups([x for x, _ in counts], [n for _, n in counts])
            spread = fit_groups([x for x, _ in hosts], [n for _, n in hosts]).unseen("host")
        else:
            self._model = fit_groups([s.human_flagged for s in validation], [s.human_n for s in validation])
            self._unseen = self._model.unseen("fpr")
            spread = np.ones(DRAWS)  # the spread between validation sets holds that between hosts
        self._host = spread / spread.mean()
        self._min_human = min_human
        self._draws: dict[str, FloatArray] = {}

    def draws(self, language: str) -> FloatArray:
        """(DRAWS,) for one language."""
        if language not in self._draws:
            self._draws[language] = self._drawn(language)
        return self._draws[language]

    def _drawn(self, language: str) -> FloatArray:
        if not self.on_crawl:
            return self._unseen
        flagged, seen = self._languages.get(language, (0, 0))
        if len(self._languages) == 1 and seen:
            return binomial_rate(flagged, seen, "fpr", language)
        return self._model.member(flagged, seen, "fpr", language)

    def for_host(self, fpr: FloatArray) -> FloatArray:
        """``fpr`` as it may be on one host: pages of one make are flagged more often than those of another."""
        return np.asarray(np.minimum(fpr * self._host, 1.0), np.float64)

    def basis(self, language: str | None) -> str | None:
        """What the rate rests on: "crawl", "crawl, other languages", or "validation"; None for nothing."""
        if not self.on_crawl:
            return "validation" if self.known else None
        if language is None or self._languages.get(language, (0, 0))[1] >= self._min_human:
            return "crawl"
        return "crawl, other languages"


def human_by_date(tally: pa.Table) -> pa.Table:
    """The rows of kept documents from before the cut-off, or with an older copy, on which the detector spoke."""
    by_date = pc.or_(pc.invert(tally["after_cutoff"]), tally["older_copy"])
    kept = pc.and_(pc.greater(tally["scored"], 0), pc.not_equal(tally["place"], str(Place.DUPLICATES)))
    return tally.filter(pc.and_(pc.and_(by_date, pc.invert(tally["direct"])), kept))


def _human_counts(human: pa.Table, by: str) -> dict[str, tuple[int, int]]:
    """(flagged, all) documents that are human by date, by language or host, in sorted order."""
    flagged = pc.if_else(human["flagged"], human["documents"], 0)
    table = pa.table({"by": human[by], "flagged": flagged, "all": human["documents"]})
    sums = table.group_by("by", use_threads=False).aggregate([("flagged", "sum"), ("all", "sum")]).sort_by("by")
    return {row["by"]: (row["flagged_sum"], row["all_sum"]) for row in sums.to_pylist()}
