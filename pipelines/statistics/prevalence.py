"""The synthetic share of every month, host and language, and of all together, with its interval.

Of the documents after the cut-off that could be judged, those with direct evidence (declared, marked) are machine text.
Of the others some are flagged by the detector, and :mod:`pipelines.statistics.intervals` makes a share of that::

    rates = DetectorRates("stylometry", 0.9, (RateSlice("news", 1000, 9, 800, 610, held_out=True), ...))
    table = prevalence(merge(tallies), rates)
    headline = summary_share(table)

Beside it stands the share by maximum likelihood on all scores (:mod:`pipelines.statistics.likelihood`), where the
detector has counted those of sets that it was not trained on. The two are never averaged.

The false positive rate is measured on the crawl: documents from before the cut-off are human by date, and come from the
same web. A language with few of them leans on the others; a crawl with few of them falls back on the detector's own
validation sets. The true positive rate is that of sets of text which the detector has not seen, since what wrote the
text of a crawl is not known. One host is taken for one such set. A cell of many hosts is taken for a mixture: of as
many sets as it has hosts of equal weight, but of no more than were measured, in parts that are not known. Both rates
are those of the cell's languages.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.statistics.cells import Cells
from pipelines.statistics.fpr import FalsePositives
from pipelines.statistics.intervals import FloatArray, adjusted_interval, adjusted_share, lower_bound
from pipelines.statistics.likelihood import METHOD as LIKELIHOOD
from pipelines.statistics.likelihood import Likelihood
from pipelines.statistics.options import PrevalenceOptions
from pipelines.statistics.rates import DetectorRates, fit_groups

METHOD = "rogan-gladen"
DIRECT_ONLY = "direct-evidence"
_CHUNK = 2048
_ABOUT = b"likelihood"  # of the schema's metadata: what the likelihood rests on, as JSON
DIMENSIONS = ("month", "host", "language")
MARGINS = (
    (),
    ("month",),
    ("language",),
    ("host",),
    ("month", "language"),
    ("month", "host"),
    ("host", "language"),
    ("month", "host", "language"),
)
COUNTS = ("documents", "after_cutoff", "scored", "judged", "direct", "older_copy", "flagged")
UNITS = ("documents", "characters")
POPULATIONS = ("crawled", "deduplicated")

PREVALENCE = pa.schema(
    [
        pa.field("margin", pa.string(), nullable=False),  # the columns that are fixed, joined by "×"; "all" for none
        pa.field("month", pa.string()),  # null: all
        pa.field("host", pa.string()),
        pa.field("language", pa.string()),
        pa.field("unit", pa.string(), nullable=False),  # what the counts and shares are of: documents or characters
        pa.field("population", pa.string(), nullable=False),  # crawled: every copy counts; deduplicated: kept copies
        pa.field("documents", pa.int64(), nullable=False),  # all, from before the cut-off too
        pa.field("after_cutoff", pa.int64(), nullable=False),
        pa.field("scored", pa.int64(), nullable=False),  # after the cut-off, and the detector spoke
        pa.field("judged", pa.int64(), nullable=False),  # after the cut-off, scored, direct or older_copy
        pa.field("direct", pa.int64(), nullable=False),  # after the cut-off, with direct evidence
        # After the cut-off, but human by date: a verified older copy was captured before it.
        pa.field("older_copy", pa.int64(), nullable=False),
        pa.field("flagged", pa.int64(), nullable=False),  # after the cut-off, neither direct nor older_copy, flagged
        pa.field("observed_rate", pa.float64()),  # (direct + flagged) / judged
        pa.field("estimate", pa.float64()),  # the share of machine text in `judged`
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("lower_bound_direct", pa.float64()),  # one-sided, of `after_cutoff`, by direct evidence alone
        pa.field("level", pa.float64(), nullable=False),
        pa.field("method", pa.string()),
        pa.field("fpr", pa.float64()),
        pa.field("fpr_basis", pa.string()),
        pa.field("tpr", pa.float64()),
        pa.field("sources", pa.int32()),  # sets of unseen text that the machine text is taken to be a mixture of
        pa.field("too_few", pa.bool_(), nullable=False),  # too few judged to say anything; the interval still holds
        # The same share by maximum likelihood on the scores in eight bins. Null where the detector has no counts of its
        # scores of left-out sets, where it spoke on nothing, and where a cell is too small for what an interval costs:
        # months and months by language under PrevalenceOptions.min_judged, hosts under min_host, hosts beyond the
        # most_hosts largest of a margin, and hosts by character or deduplicated.
        pa.field("estimate_likelihood", pa.float64()),
        pa.field("low_likelihood", pa.float64()),
        pa.field("high_likelihood", pa.float64()),
    ]
)


def prevalence(tally: pa.Table, rates: DetectorRates, options: PrevalenceOptions | None = None) -> pa.Table:
    """The synthetic share by month × host × language and every margin, of schema :data:`PREVALENCE`.

    Shares by character are given for the margins without a host, and for hosts as a whole. Rows are sorted by margin
    (in the order of :data:`MARGINS`), unit, population, then month, host and language.

    Args:
        tally: merged, of ``tally.TALLY``.
        rates: the detector's counts at the threshold with which ``flagged`` was tallied.
        options: level and minima.
    """
    options = options or PrevalenceOptions()
    model = FalsePositives(tally, rates, options.min_human)
    tpr = _TruePositives(rates)
    likelihood = Likelihood(tally, rates.histograms, options)
    parts = []
    for margin in MARGINS:
        for unit in UNITS if "host" not in margin or len(margin) == 1 else UNITS[:1]:
            for population in POPULATIONS:
                cells = Cells(tally, margin, unit, population)
                if cells.size:
                    parts.append(_rows(cells, model, tpr, likelihood, options))
    table = pa.concat_tables(parts).combine_chunks() if parts else PREVALENCE.empty_table()
    about = likelihood.about() if likelihood.known else None
    return table.replace_schema_metadata({_ABOUT: json.dumps(about)})


def summary_share(table: pa.Table, unit: str = "documents", population: str = "crawled") -> dict[str, Any]:
    """The headline of ``summary.json``: ``estimate``, ``low``, ``high``, ``level``, ``method``, and what they rest on.

    These are by ``method``. ``methods`` has ``estimate``, ``low`` and ``high`` by each method, None where it was not
    applied; those by likelihood with what they rest on.

    ``estimate`` is None where no document could be judged but by direct evidence; ``low`` and ``high`` then say what
    is known all the same, in the worst case 0 and 1.

    Args:
        table: of :func:`prevalence`.
        unit: share of "documents" or "characters".
        population: "crawled" or "deduplicated".
    """
    wanted = {"margin": "all", "unit": unit, "population": population}
    for name, value in wanted.items():
        table = table.filter(pc.equal(table[name], pa.scalar(value)))
    names = ("estimate", "low", "high", "level", "method", "lower_bound_direct", "fpr", "fpr_basis", "tpr", "too_few")
    row = table.to_pylist()[0] if table.num_rows else {"level": 0.95, "too_few": True} | dict.fromkeys(COUNTS, 0)
    share = {name: row.get(name) for name in (*names, *COUNTS)}
    share |= {"low": share["low"] or 0.0, "high": 1.0 if share["high"] is None else share["high"]}
    return share | {"methods": _methods(row, table)}


def _methods(row: dict[str, Any], table: pa.Table) -> dict[str, Any]:
    limits = ("estimate", "low", "high")
    by_rates = {name: row[name] for name in limits} if row.get("method") == METHOD else None
    found = {name: row.get(f"{name}_likelihood") for name in limits}
    about = json.loads((table.schema.metadata or {}).get(_ABOUT, b"null"))
    return {METHOD: by_rates, LIKELIHOOD: None if found["estimate"] is None else found | about}


class _TruePositives:
    """Draws of the true positive rate over a mixture of sets that the detector has not seen."""

    def __init__(self, rates: DetectorRates) -> None:
        self._rates = rates
        self.known = bool(rates.machine())
        self._drawn: dict[tuple[str, ...], FloatArray] = {}

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
        machine = self._rates.machine(language)
        key = tuple(s.name for s in machine)
        if key not in self._drawn:
            model = fit_groups([s.machine_flagged for s in machine], [s.machine_n for s in machine])
            self._drawn[key] = model.mixtures(max(1, len(machine)), "tpr")
        return self._drawn[key]


@dataclass(frozen=True)
class _Shares:
    """Of the documents without direct evidence: (cells,) each; NaN where nothing is known."""

    estimate: FloatArray
    low: FloatArray
    high: FloatArray
    fpr: FloatArray
    tpr: FloatArray


def _rows(
    cells: Cells, model: FalsePositives, tpr: _TruePositives, likelihood: Likelihood, options: PrevalenceOptions
) -> pa.Table:
    count = cells.count
    rest, judged = count["rest"] > 0, np.maximum(count["judged"], 1)
    shares = _of_rest(cells, model, tpr, options.level)
    bound = lower_bound(count["direct_documents"], count["after_documents"], options.level)
    estimate, low, high = _of_judged(cells, shares.estimate, shares.low, shares.high, bound)
    sources = tpr.sources(cells)
    answer = likelihood.of(cells, sources)
    told = ~np.isnan(answer.estimate)
    by_likelihood = zip(("estimate", "low", "high"), _of_judged(cells, *answer, bound), strict=True)
    after = count["after_documents"] > 0
    usable = rest & ~np.isnan(shares.estimate)
    columns: dict[str, Any] = {name: pa.nulls(cells.size, pa.string()) for name in DIMENSIONS} | dict(cells.keys)
    columns |= {name: count[name] for name in COUNTS}
    columns |= {
        "margin": pa.array(["×".join(cells.margin) or "all"] * cells.size),
        "unit": pa.array([cells.unit] * cells.size),
        "population": pa.array([cells.population] * cells.size),
        "observed_rate": _where(count["judged"] > 0, (count["direct"] + count["flagged"]) / judged),
        "estimate": _where(rest, estimate),
        "low": _where(after, low),
        "high": _where(after, high),
        "lower_bound_direct": _where(after, bound),
        "level": np.full(cells.size, options.level),
        "method": _where(after, np.where(usable, METHOD, DIRECT_ONLY)),
        "fpr": _where(rest & model.known, shares.fpr),
        "fpr_basis": pa.array([b if r else None for b, r in zip(_basis(cells, model), rest, strict=True)], pa.string()),
        "tpr": _where(rest & tpr.known, shares.tpr),
        "sources": _where(rest & tpr.known, sources),
        "too_few": count["rest_documents"] < options.min_judged,
        **{f"{name}_likelihood": _where(told, values) for name, values in by_likelihood},
    }
    return pa.table({name: columns[name] for name in PREVALENCE.names}).cast(PREVALENCE)


def _of_judged(
    cells: Cells, estimate: FloatArray, low: FloatArray, high: FloatArray, bound: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Estimate, low and high over all that was judged, from those of the rest: direct evidence counts in full."""
    rest, direct, judged = (cells.count[n].astype(np.float64) for n in ("rest", "direct", "judged"))
    if cells.unit == "documents":  # no share lies between two whole numbers of documents
        low = np.floor(low * rest + 1e-9) / np.maximum(rest, 1)
        high = np.ceil(high * rest - 1e-9) / np.maximum(rest, 1)
    total = np.maximum(judged, 1)
    estimate = (direct + rest * np.nan_to_num(estimate)) / total
    # Where the detector spoke on nothing, the judged documents are those with direct evidence: no sample at all.
    low = np.where(rest > 0, np.minimum((direct + rest * low) / total, estimate), bound)
    high = np.where(rest > 0, np.maximum((direct + rest * high) / total, estimate), 1.0)
    return estimate, low, np.minimum(high, 1.0)


def _of_rest(cells: Cells, model: FalsePositives, tpr: _TruePositives, level: float) -> _Shares:
    blank = np.full(cells.size, np.nan)
    shares = _Shares(blank, np.zeros(cells.size), np.ones(cells.size), blank.copy(), blank.copy())
    wanted = np.flatnonzero(cells.count["rest"] > 0)
    if not len(wanted) or not model.known:
        return shares
    n = np.round(cells.effective[wanted], 3)
    x = np.round(n * cells.count["flagged"][wanted] / cells.count["rest"][wanted], 3)
    # Most cells of a large crawl are small: the same counts come up again and again.
    parts = [tpr.sources(cells)[wanted], x, n, cells.mix[wanted]]
    cases, back = np.unique(np.column_stack(parts), axis=0, return_inverse=True)
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
    cases: FloatArray, cells: Cells, model: FalsePositives, true: _TruePositives, sources: int, level: float
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


def _basis(cells: Cells, model: FalsePositives) -> list[str | None]:
    if "language" not in cells.margin:
        return [model.basis(None)] * cells.size
    bases = {language: model.basis(language) for language in cells.languages}
    return [bases[language] for language in cells.keys["language"].to_pylist()]


def _where(mask: npt.NDArray[np.bool_], values: npt.NDArray[Any]) -> pa.Array:
    return pa.array(values, mask=~mask)
