"""Several finished runs over time as one series: the synthetic share by capture month, with a trend and its band.

A working example::

    runs = [read_run("out-spring"), read_run("out-summer")]
    for one in series(runs):
        print(one.detector, one.method, one.trend.slope())
    table = series_table(series(runs))

Runs are joined where one detector judged them with one cut-off and one level; others make a series of their own, since
two detectors differ by more than a year's change. A month that several runs hold is as many observations.

The interval of each month holds two kinds of error. That of sampling differs between months: binomial, of the flagged
documents, over (TPR - FPR)². That of the detector's rates is common to all. The interval that known rates would give is
computed beside the run's own, and what the run's is wider by is the common part (:func:`trend.fit_common`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import files
from pipelines.errors import UsageError
from pipelines.layout import Layout
from pipelines.statistics.adjusted import METHOD as ADJUSTED
from pipelines.statistics.intervals import DRAWS, FloatArray, adjusted_interval, clopper_pearson
from pipelines.statistics.likelihood import CRAWL
from pipelines.statistics.likelihood import METHOD as LIKELIHOOD
from pipelines.statistics.tally import UNKNOWN
from pipelines.statistics.trend import Observation, Trend, Width, fit_common, trend

METHODS = (ADJUSTED, LIKELIHOOD)
BY = ("month", "language", "host_class")
LEAST_MONTHS = 3  # of a trend
_ROUNDS = 3  # the variance of a month is that at its smoothed share, which hangs on the variances

SERIES = pa.schema(
    [
        pa.field("row", pa.string(), nullable=False),  # run: one run's estimate of one month; trend: of the band
        pa.field("detector", pa.string(), nullable=False),
        pa.field("detector_digest", pa.string(), nullable=False),
        pa.field("by", pa.string(), nullable=False),  # month, language or host_class
        pa.field("slice", pa.string()),  # the language or host class; null: all
        pa.field("method", pa.string(), nullable=False),
        pa.field("month", pa.string(), nullable=False),
        pa.field("run", pa.string()),  # the output's folder; null for the trend
        pa.field("job_digest", pa.string()),
        pa.field("judged", pa.int64()),
        pa.field("estimate", pa.float64(), nullable=False),
        pa.field("low", pa.float64(), nullable=False),
        pa.field("high", pa.float64(), nullable=False),
        pa.field("low_sampling", pa.float64()),  # of the trend, if the detector's rates were known
        pa.field("high_sampling", pa.float64()),
        pa.field("level", pa.float64(), nullable=False),
        pa.field("interpolated", pa.bool_()),  # of the trend: no run has the month
        pa.field("too_few", pa.bool_()),  # of a run: too few documents were scored to say anything alone
    ]
)


class Run(NamedTuple):
    """What a series reads of one finished run."""

    output: str
    job_digest: str
    cutoff: str  # YYYY-MM-DD
    detectors: Mapping[str, str | None]  # digests by name, the deciding one first; None where none is known
    prevalence: pa.Table


class Key(NamedTuple):
    """Runs that agree in all of these make one series."""

    detector: str
    digest: str
    cutoff: str
    level: float


class Point(NamedTuple):
    """One run's estimates of one month (a whole run has no month), by method; None where a method gave none."""

    run: Run
    month: int | None  # months since year 0
    row: Mapping[str, Any]  # of the table
    effective: float  # scored documents without direct evidence, copies counted once


@dataclass(frozen=True)
class Series:
    """One line over time."""

    key: Key
    by: str
    slice: str | None
    method: str
    points: tuple[Point, ...]  # by month, then by output
    trend: Trend | None  # None: fewer than LEAST_MONTHS months

    @property
    def detector(self) -> str:
        """The name of the detector that judged."""
        return self.key.detector


def read_run(output: str) -> Run:
    """A finished run's identity and prevalence table.

    Raises:
        UsageError: where there is no finished run, or one whose share rests on no detector.
    """
    layout = Layout(output)
    summary = files.read_json(layout.summary)
    if summary is None:
        raise UsageError(f"{output}: no finished run here (no summary.json)")
    named = [summary["detector"]] if summary.get("detector") else []
    named += summary.get("detectors") or []
    if not named:
        raise UsageError(f"{output}: was run without a detector; a trend needs one (inspect.detector)")
    path = layout.statistics("prevalence")
    if not files.exists(path):
        raise UsageError(f"{path}: is missing; a series is made of the statistics of whole outputs")
    return Run(
        output,
        summary["job"]["digest"],
        summary["job"]["settings"]["cutoff"],
        {one["name"]: one.get("digest") for one in named},
        files.read_parquet(path),
    )


def series(runs: Sequence[Run], by: str = "month") -> list[Series]:
    """The lines of these runs, by detector, slice and method.

    Args:
        runs: at least one; each once, in any order.
        by: "month" for all documents together, or "language" or "host_class" for a line of each.

    Raises:
        UsageError: where a run is named twice, or has no such slices.
    """
    seen: dict[str, str] = {}
    for run in runs:
        if run.job_digest in seen:
            raise UsageError(
                f"{seen[run.job_digest]} and {run.output} are the same run (job {run.job_digest[:12]}): "
                "name it once, or it counts twice"
            )
        seen[run.job_digest] = run.output
    found = []
    ordered = sorted(runs, key=lambda run: run.output)
    points = sorted(
        (one for run in ordered for one in _points(run, by)), key=lambda one: (one[0], one[1] or "", one[2].month or 0)
    )
    for (key, part), group in groupby(points, key=lambda one: (one[0], one[1])):
        members = [point for _, _, point in group]
        for method in METHODS:
            line = _line(key, by, part, method, members)
            if line.points:
                found.append(line)
    return found


def series_table(lines: Sequence[Series]) -> pa.Table:
    """All rows of these lines, of schema :data:`SERIES`."""
    rows: list[dict[str, Any]] = []
    for line in lines:
        about = {
            "detector": line.detector,
            "detector_digest": line.key.digest,
            "by": line.by,
            "slice": line.slice,
            "method": line.method,
            "level": line.key.level,
        }
        rows += [about | _run_row(point, line.method) for point in line.points]
        rows += [about | row for row in _trend_rows(line.trend)]
    return pa.Table.from_pylist(rows, schema=SERIES)


def limits(point: Point, method: str) -> tuple[float, float, float] | None:
    """Estimate, low and high of a point by a method, of all judged documents; None where it gave none."""
    suffix = "" if method == ADJUSTED else "_likelihood"
    estimate, low, high = (point.row.get(f"{name}{suffix}") for name in ("estimate", "low", "high"))
    return None if estimate is None or low is None or high is None else (estimate, low, high)


def month_name(month: int) -> str:
    """``YYYY-MM`` of a month since year 0."""
    return f"{month // 12:04d}-{month % 12 + 1:02d}"


def month_number(name: str) -> int:
    """Months since year 0 of ``YYYY-MM`` or of a date."""
    return int(name[:4]) * 12 + int(name[5:7]) - 1


def _points(run: Run, by: str) -> Iterator[tuple[Key, str | None, Point]]:
    """The run's months, and each slice as a whole, which says most of what the months have in common."""
    table = run.prevalence
    if by not in table.schema.names:
        raise UsageError(f"{run.output}: has no shares by {by}; run it again with this version to have them")
    table = table.filter(pc.and_(pc.equal(table["unit"], "documents"), pc.equal(table["method"], ADJUSTED)))
    wanted = {frozenset({"month", by}), frozenset({by} - {"month"} or {"all"})}
    rows = [row for row in table.to_pylist() if frozenset(row["margin"].split("×")) in wanted]
    deciding = next(iter(run.detectors))

    def identity(row: Mapping[str, Any]) -> tuple[Any, ...]:
        return row.get("detector"), row["month"], row[by]

    kept = {identity(row): _scored(row) for row in rows if row["population"] == "deduplicated"}
    for row in rows:
        if row["population"] != "crawled" or row["month"] == UNKNOWN or row["estimate"] is None or not _scored(row):
            continue
        detector = row.get("detector") or deciding
        # Without a digest nothing shows that it is the detector of another run.
        digest = run.detectors.get(detector) or f"unknown, of {run.output}"
        effective = float(min(_scored(row), kept.get(identity(row)) or _scored(row)))
        month = None if row["month"] is None else month_number(row["month"])
        key = Key(detector, digest, run.cutoff, row["level"])
        yield key, None if by == "month" else row[by], Point(run, month, row, effective)


def _scored(row: Mapping[str, Any]) -> int:
    """Documents of which only the detector can say anything."""
    return int(row["judged"] - row["direct"] - row["older_copy"])


def _line(key: Key, by: str, part: str | None, method: str, members: Sequence[Point]) -> Series:
    told = [point for point in members if limits(point, method) and point.row["tpr"] > point.row["fpr"]]
    points = tuple(point for point in told if point.month is not None)
    found = None
    if len({point.month for point in points}) >= LEAST_MONTHS:
        found = _smoothed(points, told, method, key.level)
    return Series(key, by, part, method, points, found)


def _smoothed(points: Sequence[Point], told: Sequence[Point], method: str, level: float) -> Trend:
    whole, months = _Rates(told, method, level), _Rates(points, method, level)
    common = fit_common(whole.widths(), whole.false_positives())
    shares, found = None, None
    for _ in range(_ROUNDS):
        variances = months.variances(shares)
        seen = [
            Observation(point.month or 0, float(value), float(variance))
            for point, value, variance in zip(points, months.values(), variances, strict=True)
        ]
        found = trend(seen, common, level)
        shares = found.mean[[one.month - found.first for one in seen]]
    assert found is not None
    return found


class _Rates:
    """Some points as arrays, and what their intervals would be if the detector's rates were known."""

    def __init__(self, points: Sequence[Point], method: str, level: float) -> None:
        self._points = points
        names = ("judged", "direct", "flagged", "fpr", "tpr")
        self._of = {name: np.array([point.row[name] for point in points], np.float64) for name in names}
        self._scored = np.array([_scored(point.row) for point in points], np.float64)
        self._n = np.array([point.effective for point in points])
        self._level, self._adjusted = level, method == ADJUSTED
        self._limits = np.array([limits(point, method) for point in points], np.float64).reshape(-1, 3)
        by_count = np.array([limits(point, ADJUSTED) for point in points], np.float64).reshape(-1, 3)
        # The likelihood's interval is taken to consist of the two errors in the same parts as the adjusted count's.
        widths = [np.maximum(of[:, 2] - of[:, 1], 1e-9) for of in (self._limits, by_count)]
        self._scale = np.minimum(widths[0] / widths[1], 1.0)

    def values(self) -> FloatArray:
        """(points,) estimates; of the adjusted count before it is clipped, since clipping would bias the trend."""
        if not self._adjusted:
            return np.asarray(self._limits[:, 0], np.float64)
        of = self._of
        share = (of["flagged"] / self._scored - of["fpr"]) / (of["tpr"] - of["fpr"])
        return np.asarray((of["direct"] + self._scored * share) / of["judged"], np.float64)

    def variances(self, shares: FloatArray | None) -> FloatArray:
        """(points,) of sampling, at these shares; at the observed rates where there are none yet."""
        of = self._of
        if shares is None:
            rate = of["flagged"] / self._scored
        else:
            of_scored = np.clip((shares * of["judged"] - of["direct"]) / self._scored, 0, 1)
            rate = of["fpr"] + of_scored * (of["tpr"] - of["fpr"])
        rate = (self._n * rate + 0.5) / (self._n + 1)  # no rate is known to be 0 or 1
        factor = self._scale * self._scored / of["judged"] / (of["tpr"] - of["fpr"])
        return np.asarray(rate * (1 - rate) / self._n * factor**2, np.float64)

    def widths(self) -> list[Width]:
        """Of each interval, for :func:`fit_common`."""
        of, (estimate, low, high) = self._of, self._limits.T
        flagged = self._n * of["flagged"] / self._scored
        fpr, tpr = (np.repeat(of[name][:, None], DRAWS, axis=1) for name in ("fpr", "tpr"))
        low_known, high_known = adjusted_interval(flagged, self._n, fpr, tpr, self._level)
        # As the table has them: no share lies between two whole numbers of documents.
        low_known = np.floor(low_known * self._scored + 1e-9) / self._scored
        high_known = np.ceil(high_known * self._scored - 1e-9) / self._scored
        share = np.clip((of["flagged"] / self._scored - of["fpr"]) / (of["tpr"] - of["fpr"]), 0, 1)
        part = self._scale * self._scored / of["judged"]
        down, up = np.where(low > 0, estimate - low, np.nan), np.where(high < 1, high - estimate, np.nan)
        known = np.maximum((share - low_known) * part, 0), np.maximum((high_known - share) * part, 0)
        columns = (estimate, down, up, *known, self._n)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return [Width(p, (d, u), (kd, ku), n) for p, d, u, kd, ku, n in rows]

    def false_positives(self) -> float | None:
        """Half-width of the FPR over TPR - FPR, the widest of the runs; None where one is not from its own crawl.

        By the documents from before the cut-off, of which as many are taken to be scored as of those after it.
        """
        wholes = [point for point in self._points if point.month is None]
        if not wholes or any(point.row["fpr_basis"] != CRAWL for point in wholes):
            return None
        widest = 0.0
        for row in (point.row for point in wholes):
            human = (row["documents"] - row["after_cutoff"]) * row["scored"] / max(row["after_cutoff"], 1)
            low, high = clopper_pearson(row["fpr"] * human, human, self._level)
            widest = max(widest, float(high - low) / 2 / (row["tpr"] - row["fpr"]))
        return widest


def _run_row(point: Point, method: str) -> dict[str, Any]:
    estimate, low, high = limits(point, method) or (None, None, None)
    return {
        "row": "run",
        "month": month_name(point.month or 0),
        "run": point.run.output,
        "job_digest": point.run.job_digest,
        "judged": point.row["judged"],
        "estimate": estimate,
        "low": low,
        "high": high,
        "too_few": point.row["too_few"],
    }


def _trend_rows(found: Trend | None) -> Iterator[dict[str, Any]]:
    if found is None:
        return
    columns = ("low", "high", "low_sampling", "high_sampling")
    for at, estimate in enumerate(found.mean.tolist()):
        yield {
            "row": "trend",
            "month": month_name(found.first + at),
            "estimate": estimate,
            **{name: float(getattr(found, name)[at]) for name in columns},
            "interpolated": found.observed[at] == 0,
        }
