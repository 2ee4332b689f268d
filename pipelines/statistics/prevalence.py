"""The synthetic share of every month, host, host class and language, and of all together, with its interval.

Of the documents after the cut-off that could be judged, those with direct evidence (declared, marked) are machine text.
Of the others some are flagged by the detector, and :mod:`pipelines.statistics.intervals` makes a share of that::

    rates = DetectorRates("stylometry", 0.9, (RateSlice("news", 1000, 9, 800, 610, held_out=True), ...))
    table = prevalence(merge(tallies), rates)
    headline = summary_share(table)

Beside it stands the share by maximum likelihood on all scores (:mod:`pipelines.statistics.likelihood`), where the
detector has counted those of sets that it was not trained on. The two are never averaged. Nor are several detectors:
each has its own tally and its own rows, and the headline is that of the first::

    table = prevalences([(tally, rates), (tally_of_another, its_rates)])

A share is of documents, of tokens (words), or of hosts: the mean over hosts of the share of each, so that a host with a
million pages weighs no more than one with ten. It is estimated with weights, one over the host's judged documents, and
its interval from the effective number of documents (Kish, Survey Sampling, 1965). It says what share of the documents
of a host is machine text, for a host drawn by chance from those of the cell; not what share of hosts has any.

The false positive rate is measured on the crawl: documents from before the cut-off are human by date, and come from the
same web. A language with few of them leans on the others; a crawl with few of them falls back on the detector's own
validation sets. The true positive rate is that of sets of text which the detector has not seen, since what wrote the
text of a crawl is not known. One host is taken for one such set. A cell of many hosts is taken for a mixture: of as
many sets as it has hosts of equal weight, but of no more than were measured, in parts that are not known. Both rates
are those of the cell's languages.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.statistics.adjusted import METHOD, TruePositives, adjusted_shares
from pipelines.statistics.cells import COUNTS, DIMENSIONS, POPULATIONS, UNITS, Cells, Rows
from pipelines.statistics.fpr import FalsePositives
from pipelines.statistics.host_class import HostClasses
from pipelines.statistics.intervals import FloatArray
from pipelines.statistics.likelihood import METHOD as LIKELIHOOD
from pipelines.statistics.likelihood import Likelihood
from pipelines.statistics.options import PrevalenceOptions
from pipelines.statistics.rates import DetectorRates

DIRECT_ONLY = "direct-evidence"
_ABOUT = b"likelihood"  # of the schema's metadata: what the likelihood of each detector rests on, as JSON
_SUMMARY_MARGINS = ("all", "host_class")
_CLASSES = ("host_class", "documents")
_SHORT = ("estimate", "low", "high", "lower_bound_direct", "judged", "too_few")
MARGINS = (
    (),
    ("month",),
    ("language",),
    ("host_class",),
    ("host",),
    ("month", "language"),
    ("month", "host_class"),
    ("host_class", "language"),
    ("month", "host"),
    ("host", "language"),
    ("month", "host_class", "language"),
    ("month", "host", "language"),
)

PREVALENCE = pa.schema(
    [
        pa.field("margin", pa.string(), nullable=False),  # the columns that are fixed, joined by "×"; "all" for none
        pa.field("month", pa.string()),  # null: all
        pa.field("host", pa.string()),
        pa.field("host_class", pa.string()),  # of the host, too, in margins with a host
        pa.field("language", pa.string()),
        pa.field("detector", pa.string()),  # its name; null for none
        pa.field("unit", pa.string(), nullable=False),  # what the shares are of: documents, tokens or hosts
        pa.field("population", pa.string(), nullable=False),  # crawled: every copy counts; deduplicated: kept copies
        # The counts are of documents or tokens; for "hosts", of hosts with at least one such document.
        pa.field("documents", pa.int64(), nullable=False),  # all, from before the cut-off too
        pa.field("after_cutoff", pa.int64(), nullable=False),
        pa.field("scored", pa.int64(), nullable=False),  # after the cut-off, and the detector spoke
        pa.field("judged", pa.int64(), nullable=False),  # after the cut-off, scored, direct or older_copy
        pa.field("direct", pa.int64(), nullable=False),  # after the cut-off, with direct evidence
        # After the cut-off, but human by date: a verified older copy was captured before it.
        pa.field("older_copy", pa.int64(), nullable=False),
        pa.field("flagged", pa.int64(), nullable=False),  # after the cut-off, neither direct nor older_copy, flagged
        pa.field("observed_rate", pa.float64()),  # (direct + flagged) / judged; for "hosts" the mean over hosts
        pa.field("estimate", pa.float64()),  # the share of machine text in `judged`
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        # One-sided, of `after_cutoff`, by direct evidence alone: no detector is believed.
        pa.field("lower_bound_direct", pa.float64()),
        pa.field("level", pa.float64(), nullable=False),
        pa.field("method", pa.string()),
        pa.field("fpr", pa.float64()),
        pa.field("fpr_basis", pa.string()),
        pa.field("tpr", pa.float64()),
        pa.field("sources", pa.int32()),  # sets of unseen text that the machine text is taken to be a mixture of
        # Too few were scored to say anything, or one long document or a few hosts weigh nearly all; the interval holds.
        pa.field("too_few", pa.bool_(), nullable=False),
        # The same share by maximum likelihood on the scores in eight bins. Null where the detector has no counts of its
        # scores of left-out sets, where it spoke on nothing, and where it is not worth what an interval costs: cells
        # under PrevalenceOptions.min_judged documents, those by token or by host but of all together and of languages,
        # and those with a host or of three dimensions deduplicated, under min_host, or beyond the most_hosts largest.
        pa.field("estimate_likelihood", pa.float64()),
        pa.field("low_likelihood", pa.float64()),
        pa.field("high_likelihood", pa.float64()),
    ]
)


def prevalence(
    tally: pa.Table,
    rates: DetectorRates,
    options: PrevalenceOptions | None = None,
    classes: HostClasses | None = None,
) -> pa.Table:
    """The synthetic share by month × host × host class × language and every margin, of schema :data:`PREVALENCE`.

    Shares by token are given for the margins without a host, and for hosts as a whole; shares by host for the margins
    without one. Rows are sorted by margin (in the order of :data:`MARGINS`), unit, population, then month, host, host
    class and language.

    Args:
        tally: merged, of ``tally.TALLY``.
        rates: the detector's counts at the threshold with which ``flagged`` was tallied.
        options: level and minima.
        classes: which host is of which class; by default by the package's rules.
    """
    options = options or PrevalenceOptions()
    rows = Rows(tally, classes)
    model = FalsePositives(tally, rates, options.min_human)
    tpr = TruePositives(rates)
    likelihood = Likelihood(tally, rates.histograms, options)
    parts = []
    for margin in MARGINS:
        for unit in _units(margin):
            for population in POPULATIONS:
                cells = Cells(rows, margin, unit, population)
                if cells.size:
                    found = _rows(cells, model, tpr, likelihood, options)
                    parts.append(_named(found, cells, rows, None if rates.name == "none" else rates.name))
    table = pa.concat_tables(parts).combine_chunks() if parts else PREVALENCE.empty_table()
    about = {rates.name: likelihood.about()} if likelihood.known else {}
    return table.replace_schema_metadata({_ABOUT: json.dumps(about)})


def prevalences(
    detectors: Sequence[tuple[pa.Table, DetectorRates]],
    options: PrevalenceOptions | None = None,
    classes: HostClasses | None = None,
) -> pa.Table:
    """:func:`prevalence` of several detectors, one below the other: a merged tally and the rates of each.

    The first is the one of the headline. Raises ValueError for none, and where two have one name.
    """
    names = [rates.name for _, rates in detectors]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"each detector needs a name of its own, and there has to be one; got {names}")
    tables = [prevalence(tally, rates, options, classes) for tally, rates in detectors]
    about: dict[str, Any] = {}
    for table in tables:
        about |= json.loads(table.schema.metadata[_ABOUT])
    return pa.concat_tables(table.replace_schema_metadata() for table in tables).replace_schema_metadata(
        {_ABOUT: json.dumps(about)}
    )


def summary_share(table: pa.Table, unit: str = "documents", population: str = "crawled") -> dict[str, Any]:
    """The headline of ``summary.json``: ``estimate``, ``low``, ``high``, ``level``, ``method``, and what they rest on.

    These are of the first detector, by ``method``. ``methods`` has ``estimate``, ``low`` and ``high`` by each method,
    None where it was not applied; those by likelihood with what they rest on. ``detectors`` has all this for each
    detector, ``units`` the shares by document, by token and by host, and ``host_classes`` those by class.

    ``estimate`` is None where no document could be judged but by direct evidence; ``low`` and ``high`` then say what
    is known all the same, in the worst case 0 and 1. ``lower_bound_direct`` needs no detector at all.

    Args:
        table: of :func:`prevalence` or :func:`prevalences`.
        unit: share of "documents", "tokens" or "hosts".
        population: "crawled" or "deduplicated".
    """
    about = json.loads((table.schema.metadata or {}).get(_ABOUT, b"{}"))
    wanted = pc.and_(pc.equal(table["population"], population), pc.is_in(table["margin"], pa.array(_SUMMARY_MARGINS)))
    found: dict[str | None, list[dict[str, Any]]] = {}
    for row in table.filter(wanted).to_pylist():
        found.setdefault(row["detector"], []).append(row)
    shares = {name: _headline(rows, unit, about.get(name)) for name, rows in found.items()}
    first = next(iter(found), None)
    rows = found.get(first, [])
    return (shares[first] if found else _headline([], unit, None)) | {
        "units": {row["unit"]: _short(row) for row in rows if row["margin"] == "all"},
        "host_classes": {row["host_class"]: _short(row) for row in rows if (row["margin"], row["unit"]) == _CLASSES},
        "detectors": {name: share for name, share in shares.items() if name is not None},
    }


def _headline(rows: list[dict[str, Any]], unit: str, about: dict[str, Any] | None) -> dict[str, Any]:
    whole = [row for row in rows if (row["margin"], row["unit"]) == ("all", unit)]
    names = ("estimate", "low", "high", "level", "method", "lower_bound_direct", "fpr", "fpr_basis", "tpr", "too_few")
    row = whole[0] if whole else {"level": 0.95, "too_few": True} | dict.fromkeys(COUNTS, 0)
    share = {name: row.get(name) for name in (*names, *COUNTS)} | _worst(row)
    limits = ("estimate", "low", "high")
    by_rates = {name: row[name] for name in limits} if row.get("method") == METHOD else None
    found = {name: row.get(f"{name}_likelihood") for name in limits}
    likelihood = None if found["estimate"] is None else found | (about or {})
    return share | {"methods": {METHOD: by_rates, LIKELIHOOD: likelihood}}


def _short(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in _SHORT} | _worst(row)


def _worst(row: dict[str, Any]) -> dict[str, float]:
    """The limits, those of knowing nothing where there are none."""
    low, high = row.get("low"), row.get("high")
    return {"low": low or 0.0, "high": 1.0 if high is None else high}


def _units(margin: tuple[str, ...]) -> tuple[str, ...]:
    """Of one host a share by host says nothing, and its months are too many for shares by token."""
    if "host" not in margin:
        return UNITS
    return UNITS[:2] if len(margin) == 1 else UNITS[:1]


def _rows(
    cells: Cells, model: FalsePositives, tpr: TruePositives, likelihood: Likelihood, options: PrevalenceOptions
) -> dict[str, Any]:
    """The columns of what is known of the cells."""
    count, amount = cells.count, cells.amount
    rest = count["rest"] > 0
    shares = adjusted_shares(cells, model, tpr, options.level)
    bound = cells.direct_bound(options.level)
    estimate, low, high = _of_judged(cells, shares.estimate, shares.low, shares.high, bound)
    sources = tpr.sources(cells)
    answer = likelihood.of(cells, sources)
    told = ~np.isnan(answer.estimate)
    by_likelihood = zip(("estimate", "low", "high"), _of_judged(cells, *answer, bound), strict=True)
    after = count["after_documents"] > 0
    usable = rest & ~np.isnan(shares.estimate)
    columns: dict[str, Any] = {name: count[name] for name in COUNTS}
    columns |= {
        "observed_rate": _where(
            count["judged"] > 0,
            (amount["direct"] + amount["flagged"]) / np.where(amount["judged"], amount["judged"], 1),
        ),
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
        "too_few": _too_few(cells, options),
        **{f"{name}_likelihood": _where(told, values) for name, values in by_likelihood},
    }
    return columns


def _named(columns: dict[str, Any], cells: Cells, rows: Rows, detector: str | None) -> pa.Table:
    """The columns of :data:`PREVALENCE`, with those that say what each row is of."""
    size = cells.size
    columns |= {name: pa.nulls(size, pa.string()) for name in DIMENSIONS} | dict(cells.keys)
    if "host" in cells.keys:
        columns["host_class"] = rows.classes_of(cells.keys["host"])
    same = {"margin": "×".join(cells.margin) or "all", "unit": cells.unit, "population": cells.population}
    columns |= {name: pa.repeat(pa.scalar(value), size) for name, value in same.items()}
    columns["detector"] = pa.repeat(pa.scalar(detector, pa.string()), size)
    return pa.table({name: columns[name] for name in PREVALENCE.names}).cast(PREVALENCE)


def _too_few(cells: Cells, options: PrevalenceOptions) -> npt.NDArray[np.bool_]:
    """Where fewer documents of equal weight than ``min_judged`` were scored, or of fewer hosts than ``min_hosts``."""
    few = np.round(cells.kish) < options.min_judged
    return few | (cells.judged_hosts() < options.min_hosts) if cells.unit == "hosts" else few


def _of_judged(
    cells: Cells, estimate: FloatArray, low: FloatArray, high: FloatArray, bound: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Estimate, low and high over all that was judged, from those of the rest: direct evidence counts in full."""
    rest, direct, judged = (cells.amount[name] for name in ("rest", "direct", "judged"))
    if cells.unit == "documents":  # no share lies between two whole numbers of documents
        low = np.floor(low * rest + 1e-9) / np.maximum(rest, 1)
        high = np.ceil(high * rest - 1e-9) / np.maximum(rest, 1)
    total = np.where(judged > 0, judged, 1)
    estimate = (direct + rest * np.nan_to_num(estimate)) / total
    # Where the detector spoke on nothing, the judged documents are those with direct evidence: no sample at all.
    low = np.where(rest > 0, np.minimum((direct + rest * low) / total, estimate), bound)
    high = np.where(rest > 0, np.maximum((direct + rest * high) / total, estimate), 1.0)
    return estimate, low, np.minimum(high, 1.0)


def _basis(cells: Cells, model: FalsePositives) -> list[str | None]:
    if "language" not in cells.margin:
        return [model.basis(None)] * cells.size
    bases = {language: model.basis(language) for language in cells.languages}
    return [bases[language] for language in cells.keys["language"].to_pylist()]


def _where(mask: npt.NDArray[np.bool_], values: npt.NDArray[Any]) -> pa.Array:
    return pa.array(values, mask=~mask)
