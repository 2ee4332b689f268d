"""The share of machine text by maximum likelihood, for the cells of a crawl.

The tally counts the scores of each cell in eight bins. What human text scores like is measured on the crawl, on its
documents that are human by date, by language, with the same care as the false positive rate
(:mod:`pipelines.statistics.fpr`); what machine text scores like is measured on sets that the detector was trained
without. :mod:`pipelines.statistics.mixture` makes a share of the three::

    known = Likelihood(tally, rates, options)
    shares = known.of(cells, sources)  # of the documents of which only the detector can say anything

An interval costs some milliseconds, so that not every cell gets one: see :func:`wanted`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from detectors.histograms import Float, SetHistograms
from pipelines.statistics.cells import Cells
from pipelines.statistics.fpr import human_by_date
from pipelines.statistics.mixture import mixed_shares
from pipelines.statistics.options import PrevalenceOptions
from pipelines.statistics.references import fit_histograms, reference_counts, sampled
from pipelines.statistics.tally import SCORE_BINS

METHOD = "likelihood"
CRAWL, LEFT_OUT_SETS = "crawl", "left-out sets"
_ALWAYS: tuple[tuple[str, ...], ...] = ((), ("language",))
_MOST_HOSTS = 500  # from which the spread between hosts is learnt, the largest


class Answer(NamedTuple):
    """Of the documents without direct evidence: (cells,) each; NaN where nothing was computed."""

    estimate: Float
    low: Float
    high: Float


class Likelihood:
    """The references of one crawl, and what they say of its cells."""

    def __init__(self, tally: pa.Table, histograms: tuple[SetHistograms, ...], options: PrevalenceOptions) -> None:
        self._options = options
        self._machine = MachineScores(histograms)
        self._human = HumanScores(tally, histograms, options.min_human)
        self.known = bool(self._machine.sets) and self._human.known

    def about(self) -> dict[str, Any]:
        """What the estimates rest on, for people."""
        human = self._human
        return {
            "human": CRAWL if human.on_crawl else LEFT_OUT_SETS,
            "human_documents": human.documents,
            "human_sets": None if human.on_crawl else human.sets,
            "machine_sets": self._machine.sets,
        }

    def of(self, cells: Cells, sources: npt.NDArray[np.int32]) -> Answer:
        """Estimate and limits of the cells that :func:`wanted` names, of documents that only the detector can judge.

        Args:
            cells: of any margin.
            sources: (cells,) of how many sets the machine text is taken for a mixture of.
        """
        found = np.full((3, cells.size), np.nan)
        at = wanted(cells, self._options)
        if self.known and len(at):
            total = cells.histogram[at].sum(axis=1)
            counts = np.round(cells.histogram[at] * (cells.effective[at] / total)[:, None], 3)
            mix = cells.mix[at]
            if "language" in cells.margin:
                mix = np.eye(len(cells.languages))[mix[:, 0].astype(np.int64)]
            # Most languages of a crawl are none that the detector speaks.
            spoken = np.flatnonzero(mix.any(axis=0))
            languages = [cells.languages[number] for number in spoken]
            rows = np.column_stack([sources[at], mix[:, spoken], counts])
            cases, back = np.unique(rows, axis=0, return_inverse=True)
            found[:, at] = self._solve(cases, languages, "host" in cells.margin)[:, back.ravel()]
        return Answer(*found)

    def _solve(self, cases: Float, languages: list[str], of_hosts: bool) -> Float:
        """(3, cases) of (cases, 1 + languages + bins): sources, mix, counts."""
        humans = np.stack([self._human.draws(language) for language in languages])
        if of_hosts:
            humans = self._human.for_host(humans)
        solved = np.empty((3, len(cases)))
        for sources in np.unique(cases[:, 0]):
            here = np.flatnonzero(cases[:, 0] == sources)
            machines = np.stack([self._machine.draws(language, int(sources)) for language in languages])
            parts = cases[here, 1 : -len(SCORE_BINS)], humans, machines
            solved[:, here] = mixed_shares(cases[here, -len(SCORE_BINS) :], *parts, self._options.level)
        return solved


def wanted(cells: Cells, options: PrevalenceOptions) -> npt.NDArray[np.int64]:
    """The cells to compute, those of no host first of all.

    All of them and each language always. Margins of one or two other dimensions, but the host's: by document, from
    ``min_judged`` documents on. With a host, or of three dimensions: only documents as they were crawled, from
    ``min_host`` documents on, and of those the ``most_hosts`` largest.
    """
    documents = cells.count["rest_documents"]
    if cells.margin in _ALWAYS:
        return np.flatnonzero(documents > 0)
    if "host" not in cells.margin and len(cells.margin) < 3:
        return np.flatnonzero((cells.unit == "documents") & (documents >= max(1, options.min_judged)))
    if (cells.unit, cells.population) != ("documents", "crawled"):
        return np.zeros(0, np.int64)
    largest = np.argsort(-documents, kind="stable")[: options.most_hosts]
    return np.sort(largest[documents[largest] >= max(1, options.min_host)])


class MachineScores:
    """Draws of the scores of machine text that nobody has tested, by language."""

    def __init__(self, histograms: tuple[SetHistograms, ...]) -> None:
        self._histograms = histograms
        self.sets = len(reference_counts(histograms, "machine"))
        self._drawn: dict[str, Float] = {}
        self._of_sets: dict[bytes, Float] = {}  # languages that rest on the same sets share their draws

    def draws(self, language: str, sources: int) -> Float:
        """(512, 8) for a mixture of this many sets, but of no more than the language has."""
        if language not in self._drawn:
            counts = reference_counts(self._histograms, "machine", _code(language))
            known = counts.tobytes()
            if known not in self._of_sets:
                self._of_sets[known] = fit_histograms(counts).mixtures(len(counts), "machine")
            self._drawn[language] = self._of_sets[known]
        drawn = self._drawn[language]
        return np.asarray(drawn[min(sources, len(drawn)) - 1], np.float64)


class HumanScores:
    """Draws of the scores of human text for each language, and of how far a single host strays from them."""

    def __init__(self, tally: pa.Table, histograms: tuple[SetHistograms, ...], min_human: int) -> None:
        human = human_by_date(tally)
        self._histograms = histograms
        self._languages = _histograms_by(human, "language")
        dated = int(sum(counts.sum() for counts in self._languages.values()))
        self.on_crawl = dated >= min_human
        left_out = [part for part in histograms if sum(part.human)]
        self.sets = len(left_out)
        self.documents = dated if self.on_crawl else sum(sum(part.human) for part in left_out)
        self.known = self.on_crawl or bool(left_out)
        self._hosts = _histograms_by(human, "host") if self.on_crawl else {}
        self._model = fit_histograms(np.stack(list(self._languages.values()))) if self.on_crawl else None
        self._spread: Float | None = None
        self._drawn: dict[str, Float] = {}

    def draws(self, language: str) -> Float:
        """(512, 8) for one language."""
        if language not in self._drawn:
            self._drawn[language] = self._draws(language)
        return self._drawn[language]

    def _draws(self, language: str) -> Float:
        if self._model is None:
            return fit_histograms(reference_counts(self._histograms, "human", _code(language))).unseen("human")
        own = self._languages.get(language)
        if len(self._languages) == 1 and own is not None:
            return sampled(own, "human", language)
        return self._model.member(np.zeros(len(SCORE_BINS)) if own is None else own, "human", language)

    def for_host(self, humans: Float) -> Float:
        """(languages, 512, 8) as they may be on one host: pages of one make score higher than those of another."""
        if not self.on_crawl:
            return humans  # the spread between left-out sets holds that between hosts
        if self._spread is None:
            largest = sorted(self._hosts.items(), key=lambda item: (-item[1].sum(), item[0]))[:_MOST_HOSTS]
            spread = fit_histograms(np.stack([counts for _, counts in largest])).unseen("host")
            self._spread = spread / spread.mean(axis=0)
        strayed = humans * self._spread
        return np.asarray(strayed / strayed.sum(axis=-1, keepdims=True), np.float64)


def _histograms_by(human: pa.Table, by: str) -> dict[str, Float]:
    """(8,) counts of documents in each bin, by language or host, in sorted order."""
    sums = human.group_by([by, "bin"], use_threads=False).aggregate([("documents", "sum")])
    names, rows = np.unique(np.array(sums[by].to_pylist(), object), return_inverse=True)
    counts = np.zeros((len(names), len(SCORE_BINS)))
    bins = pc.index_in(sums["bin"], pa.array(SCORE_BINS, pa.string())).to_numpy()
    np.add.at(counts, (rows, bins), sums["documents_sum"].to_numpy())
    return dict(zip(names.tolist(), counts, strict=True))


def _code(language: str) -> str:
    """ISO 639-1 of a language tag, as detectors name languages."""
    return language.replace("_", "-").split("-")[0].lower()
