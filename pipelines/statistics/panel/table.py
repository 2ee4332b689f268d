"""The table ``statistics/panel.parquet``: every measure of every slice, beside its reference, and the alarms.

    table = panel_table(merge_panel(packs), merge(diversity_tallies))
    table.filter(table["alarm"])

Slices are compared within a language. Months, and a language as a whole, are compared with the months of the language
before the cut-off; a class of hosts with the same class before the cut-off, since news and forums differ by more than
any collapse, allowing for how much months differ. (Overlap and drift are not compared by class: a class before the
cut-off is part of what it would be held against.) An alarm is raised where the p-value, adjusted over all slices and
measures (``against.benjamini_hochberg``), is at most 1 − level; measures of which neither way is worse raise none.
Nothing is compared with fewer than two months of enough documents: what one month differs from another by is then not
known.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import special

from pipelines.statistics.intervals import clopper_pearson
from pipelines.statistics.panel.against import (
    DRIFT,
    Known,
    Reference,
    benjamini_hochberg,
    drift,
    p_value,
    reference_of,
    relative,
    relatives,
)
from pipelines.statistics.panel.equal import SIZES, equal_sample
from pipelines.statistics.panel.estimators import NOTHING, Estimate, on_scale
from pipelines.statistics.panel.measures import MEASURES, NEITHER, both, measure
from pipelines.statistics.panel.state import GROUPS, State
from pipelines.statistics.panel.tally import AFTER, BEFORE, Cell, cells_of, merge_cells, rows_of, states

LEAST_DOCUMENTS = SIZES[-1]  # of a slice; with fewer nothing is said of it
MARGINS = ("language", "month×language", "host_class×language")

PANEL_TABLE = pa.schema(
    [
        pa.field("margin", pa.string(), nullable=False),  # one of MARGINS
        pa.field("month", pa.string()),  # YYYY-MM or "unknown"; null: all
        pa.field("host_class", pa.string()),  # null: all
        pa.field("language", pa.string(), nullable=False),
        pa.field("period", pa.string(), nullable=False),  # "before" or "after" the cut-off
        pa.field("measure", pa.string(), nullable=False),  # a name of measures.MEASURES
        pa.field("documents", pa.int64(), nullable=False),  # kept ones
        pa.field("words", pa.int64(), nullable=False),
        pa.field("value", pa.float64()),  # of the whole slice, or where only that has it, of the equal sample
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        # Documents of the language's equal samples; a slice with fewer is too small to say anything.
        pa.field("equal_documents", pa.int32(), nullable=False),
        pa.field("equal", pa.float64()),  # of the equal sample; null where the measure does not change with size
        pa.field("equal_low", pa.float64()),
        pa.field("equal_high", pa.float64()),
        # The mean of the months before the cut-off, and where a further such month is expected; for a class of hosts,
        # the class before the cut-off and its interval. Of `equal` where that is given, else of `value`.
        pa.field("reference", pa.float64()),
        pa.field("reference_low", pa.float64()),
        pa.field("reference_high", pa.float64()),
        pa.field("p_value", pa.float64()),  # for the worse direction, or both where neither is worse; not adjusted
        pa.field("alarm", pa.bool_(), nullable=False),
        pa.field("too_few", pa.bool_(), nullable=False),
        pa.field("level", pa.float64(), nullable=False),
    ]
)


_UNKNOWN = {one.name: math.nan for one in PANEL_TABLE if one.type == pa.float64() and one.nullable}


class External(NamedTuple):
    """An earlier output as the reference of a crawl without documents from before the cut-off in a language.

    ``cells``: its states (``tally.PANEL``, or ``tally.without_texts``); ``table``: its :data:`PANEL_TABLE`, which has
    what was measured on the excerpts.
    """

    cells: pa.Table
    table: pa.Table


@dataclass
class _Slice:
    """A slice and what was measured on it: ``whole``, ``equal`` and what is ``compared``."""

    margin: str
    cell: Cell
    documents: int
    words: int
    size: int  # of the language's equal samples
    state: State | None  # None where there are too few documents
    whole: dict[str, Estimate] = field(default_factory=dict)
    equal: dict[str, Estimate] = field(default_factory=dict)
    compared: dict[str, Estimate] = field(default_factory=dict)

    @property
    def enough(self) -> bool:
        return self.state is not None


def panel_table(
    cells: pa.Table, diversity_tally: pa.Table | None = None, level: float = 0.95, reference: External | None = None
) -> pa.Table:
    """All measures of all slices, of schema :data:`PANEL_TABLE`, sorted by margin, language, month, host class, period
    and then in the order of ``measures.MEASURES``.

    Args:
        cells: merged states, of ``tally.PANEL``.
        diversity_tally: merged, of ``tally.diversity_schema``, for the rate of near-duplicates; a column
            ``host_class`` is used where there is one. A month on both sides of the cut-off counts for the side on which
            it has more documents.
        level: of the intervals; 1 − level is the share of false alarms.
        reference: an earlier output, for the languages of which it has months from before the cut-off; for others the
            crawl's own months serve.
    """  # fmt: skip
    rows: list[dict[str, Any]] = []
    earlier = _by_language(reference)
    copies = _near_duplicates(cells, diversity_tally, level)
    # What belongs together is then read where it stands.
    cells = cells.combine_chunks()
    cells = cells.take(pc.sort_indices(cells, [("language", "ascending"), ("family", "ascending")]))
    for language in sorted(set(cells["language"].to_pylist())):
        # One language at a time: thousands of states would not fit in memory.
        found = _of_language(cells, language)
        months = earlier[language]() if language in earlier else []
        size = months[0].size if months else equal_size(found)
        slices = _slices(found, size)
        for one in slices:
            if one.enough:
                _measure(one, copies, level)
        months = months or [one for one in slices if _is_month_before(one)]
        rows += _language_rows(slices, months, level)
    return _with_alarms(rows, level)


def equal_size(cells: pa.Table) -> int:
    """How many documents the equal samples of a language have: as many as half of its months, on either side of the
    cut-off, can give.
    """  # fmt: skip
    sides: dict[str, list[int]] = {BEFORE: [], AFTER: []}
    for row in cells.select(["family", "period", "documents"]).to_pylist():
        if row["family"] == "month":
            sides[row["period"]].append(sum(row["documents"]))
    typical = min((statistics.median(side) for side in sides.values() if side), default=0)
    return next((size for size in SIZES if size <= typical), SIZES[-1])


def _slices(cells: pa.Table, size: int) -> list[_Slice]:
    """The slices of a language, in the order of the table; states are read of those with enough documents only."""
    found = [one for name in ("month", "host_class") for one in _of_family(_where(cells, "family", name), size)]
    months = _where(cells, "family", "month")
    for period in (BEFORE, AFTER):
        whole = _where(months, "period", period)
        if whole.num_rows:
            found += _of_family(merge_cells(whole, Cell("language", None, None, found[0].cell.language, period)), size)
    order = {margin: at for at, margin in enumerate(MARGINS)}
    return sorted(
        found,
        key=lambda one: (order[one.margin], one.cell.month or "", one.cell.host_class or "", one.cell.period == AFTER),
    )


def _of_family(cells: pa.Table, size: int) -> Iterator[_Slice]:
    documents, words = (_totals(cells, name) for name in ("documents", "words"))
    enough = documents >= size
    read = (state for _, state in states(rows_of(cells, np.flatnonzero(enough))))
    for at, cell in enumerate(cells_of(cells)):
        margin = cell.family if cell.family == "language" else f"{cell.family}×language"
        yield _Slice(margin, cell, int(documents[at]), int(words[at]), size, next(read) if enough[at] else None)


def _totals(cells: pa.Table, name: str) -> npt.NDArray[np.int64]:
    """Of a column with one number a group."""
    groups = [chunk.flatten().to_numpy() for chunk in cells[name].chunks]
    by_group = np.concatenate([np.empty(0, np.int64), *groups]).reshape(-1, GROUPS)
    totals: npt.NDArray[np.int64] = by_group.sum(axis=1)
    return totals


def _where(cells: pa.Table, name: str, value: str) -> pa.Table:
    return rows_of(cells, np.flatnonzero(pc.equal(cells[name], value).to_numpy()))


def _of_language(cells: pa.Table, language: str) -> pa.Table:
    return _where(cells, "language", language)


def _is_month_before(one: _Slice) -> bool:
    return one.margin == "month×language" and one.cell.period == BEFORE and one.enough


def _measure(one: _Slice, copies: Mapping[tuple[Any, ...], Estimate], level: float) -> None:
    assert one.state is not None
    one.whole, one.equal = both(one.state, level, equal_sample(one.state, one.size))
    key = (one.margin, one.cell.month, one.cell.host_class, one.cell.language, one.cell.period)
    if key in copies:
        one.whole["near_duplicate_rate"] = copies[key]
    one.compared = one.whole | one.equal


def _language_rows(slices: Sequence[_Slice], months: Sequence[_Slice], level: float) -> list[dict[str, Any]]:
    _relate(slices, months, level)
    references = {
        kind.name: reference_of([one.compared.get(kind.name, NOTHING) for one in months], kind, level)
        for kind in MEASURES
    }
    # What is compared of the drift is brought to one size; shown is the distance itself.
    shown = reference_of([one.whole.get(DRIFT, NOTHING) for one in months], measure(DRIFT), level)
    classes = {one.cell.host_class: one for one in slices if one.cell.host_class and one.cell.period == BEFORE}
    rows = []
    for one in slices:
        for kind in MEASURES:
            against = references[kind.name]
            if one.cell.host_class is not None:
                against = _of_class(classes.get(one.cell.host_class), against, kind.name)
            row = _row(one, kind.name, against, level)
            if kind.name == DRIFT:
                row |= _band(shown if against and one.enough else None)
            rows.append(row)
    return rows


def _relate(slices: Sequence[_Slice], months: Sequence[_Slice], level: float) -> None:
    """Overlap and drift against the months before the cut-off: of each of these, against all others; of what came
    after, against all of them. Other slices from before are part of what they would be held against.
    """  # fmt: skip
    before = [one.state for one in months if one.state is not None]
    if not before:
        return
    histogram = np.sum([one.surprisal for one in before], axis=0)
    known = Known(before, months[0].size)
    for one, state, found in zip(months, before, relatives(before, level, known), strict=True):
        one.compared |= found
        one.equal["overlap"] = found.get("overlap", NOTHING)
        one.whole[DRIFT] = drift(state.surprisal, histogram - state.surprisal, level)
    for one in slices:
        if one.state is not None and one.cell.period == AFTER:
            one.compared |= relative(one.state, before, level, known)
            one.equal["overlap"] = one.compared["overlap"]
            one.whole["overlap"] = known.overlap(one.state, level)
            one.whole[DRIFT] = drift(one.state.surprisal, histogram, level)


def _of_class(before: _Slice | None, months: Reference | None, name: str) -> Reference | None:
    """A class of hosts before the cut-off as the reference of the same class, with the variance between months."""
    kind = measure(name)
    if before is None or months is None or not before.enough or name in ("overlap", DRIFT):
        return None
    found = before.compared.get(name, NOTHING)
    mean = float(on_scale(found.value, kind.scale))
    if not (math.isfinite(mean) and math.isfinite(found.se)):
        return None
    variance = found.se**2 + months.between / (months.freedom + 1)
    return months._replace(value=found.value, low=found.low, high=found.high, mean=mean, variance=variance)


def _row(one: _Slice, name: str, against: Reference | None, level: float) -> dict[str, Any]:
    row: dict[str, Any] = {
        "margin": one.margin,
        "month": one.cell.month,
        "host_class": one.cell.host_class,
        "language": one.cell.language,
        "period": one.cell.period,
        "measure": name,
        "documents": one.documents,
        "words": one.words,
        **_UNKNOWN,
        "equal_documents": one.size,
        "alarm": False,
        "too_few": not one.enough,
        "level": level,
    }
    if not one.enough:
        return row
    kind = measure(name)
    whole = one.whole.get(name, NOTHING)
    equal = one.equal.get(name, NOTHING) if kind.by_size else NOTHING
    row |= {"value": whole.value, "low": whole.low, "high": whole.high}
    row |= {"equal": equal.value, "equal_low": equal.low, "equal_high": equal.high}
    row |= _band(against)
    if one.cell.period == AFTER:
        row["p_value"] = p_value(one.compared.get(name, NOTHING), against, kind)
    return row


def _band(reference: Reference | None) -> dict[str, float]:
    found = (reference.value, reference.low, reference.high) if reference else (math.nan,) * 3
    return dict(zip(("reference", "reference_low", "reference_high"), found, strict=True))


def _with_alarms(rows: list[dict[str, Any]], level: float) -> pa.Table:
    worse = [row for row in rows if measure(row["measure"]).worse != NEITHER]
    for row, p in zip(worse, benjamini_hochberg([row["p_value"] for row in worse]), strict=True):
        row["alarm"] = bool(p <= 1 - level)
    order = {margin: at for at, margin in enumerate(MARGINS)}
    rows.sort(key=lambda row: order[row["margin"]])  # stable: languages and slices stay in their order
    return pa.Table.from_arrays(
        [_column([row[one.name] for row in rows], one) for one in PANEL_TABLE], schema=PANEL_TABLE
    )


def _column(values: list[Any], of: pa.Field) -> pa.Array:
    """What is not finite is null."""
    if of.type != pa.float64():
        return pa.array(values, of.type)
    numbers = np.array(values, np.float64)
    return pa.array(numbers, mask=~np.isfinite(numbers))


def _near_duplicates(
    cells: pa.Table, tally: pa.Table | None, level: float
) -> dict[tuple[str, str | None, str | None, str, str], Estimate]:
    """The rate of near-duplicates of each slice, by margin, month, host class, language and period."""
    if tally is None:
        return {}
    kept: dict[tuple[str, str], dict[str, int]] = {}
    for row in cells.select(["family", "month", "language", "period", "documents"]).to_pylist():
        if row["family"] == "month":
            kept.setdefault((row["month"], row["language"]), {})[row["period"]] = sum(row["documents"])
    counts: dict[tuple[str, str | None, str | None, str, str], list[int]] = {}
    classes = "host_class" in tally.schema.names
    wanted = ["month", "language", "documents", "removed", *(["host_class"] if classes else [])]
    for row in tally.select(wanted).to_pylist():
        periods = kept.get((row["month"], row["language"]))
        if periods is None:
            continue
        period = BEFORE if periods.get(BEFORE, 0) > periods.get(AFTER, 0) else AFTER
        keys = [("month×language", row["month"], None), ("language", None, None)]
        if classes:
            keys.append(("host_class×language", None, row["host_class"]))
        for margin, month, host_class in keys:
            total = counts.setdefault((margin, month, host_class, row["language"], period), [0, 0])
            total[0] += row["removed"]
            total[1] += row["documents"]
    return {key: _rate(removed, documents, level) for key, (removed, documents) in counts.items()}


def _rate(removed: int, documents: int, level: float) -> Estimate:
    if not documents:
        return NOTHING
    low, high = clopper_pearson(removed, documents, level)
    smoothed = (removed + 1) / (documents + 2)
    return Estimate(removed / documents, float(low), float(high), math.sqrt(smoothed * (1 - smoothed) / documents))


def _by_language(reference: External | None) -> dict[str, Callable[[], list[_Slice]]]:
    """For each language of an earlier output, how to get its months before the cut-off."""
    if reference is None:
        return {}
    languages = sorted(set(reference.cells["language"].to_pylist()))
    return {language: lambda language=language: _months_of(reference, language) for language in languages}  # type: ignore[misc]


def _months_of(reference: External, language: str) -> list[_Slice]:
    rows: dict[str | None, list[dict[str, Any]]] = {}
    for row in reference.table.to_pylist():
        if (row["margin"], row["language"], row["period"]) == ("month×language", language, BEFORE):
            rows.setdefault(row["month"], []).append(row)
    cells = _where(_of_language(reference.cells, language), "family", "month")
    sizes = [found[0]["equal_documents"] for found in rows.values()]
    found = []
    for one in _of_family(cells, sizes[0]) if sizes else ():
        if _is_month_before(one) and one.cell.month in rows:
            one.compared = {row["measure"]: _estimate_of(row) for row in rows[one.cell.month]}
            found.append(one)
    return found


def _estimate_of(row: Mapping[str, Any]) -> Estimate:
    """What was compared in a row of an earlier table; the standard error out of the interval."""
    kind = measure(row["measure"])
    names = ("equal", "equal_low", "equal_high") if kind.by_size else ("value", "low", "high")
    value, low, high = (math.nan if row[name] is None else float(row[name]) for name in names)
    reach = float(special.stdtrit(GROUPS - 1, (1 + row["level"]) / 2))
    ends = on_scale([low, high], kind.scale)
    return Estimate(value, low, high, float(ends[1] - ends[0]) / (2 * reach))
