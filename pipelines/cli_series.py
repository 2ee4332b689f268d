"""`reserve series`: a part of :mod:`pipelines.cli`, and as thin."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any

Add = Callable[..., argparse.ArgumentParser]

_EPILOG = """\
examples:
  reserve series out-2025-01 out-2025-05 out-2025-09         the share by capture month, with a trend and its band
  reserve series releases/*/out --by language --output share   one line a language; share/series.html shows them
  reserve series out --json                                   for programs

The folder holds series.parquet (every run's figures and the trend), series.svg and series.html.
"""


def add_series(commands: Any, command: Add) -> None:
    """Adds the command; ``command`` makes one as :mod:`pipelines.cli` makes its own."""
    parser = command(
        commands, "series", _series, "join finished runs into one series of the synthetic share", epilog=_EPILOG
    )
    parser.add_argument("outputs", nargs="+", metavar="OUT", help="folders of finished runs, in any order")
    parser.add_argument(
        "--by",
        choices=("month", "language", "host_class"),
        default="month",
        help="month: one line (default); language or host_class: a line of each",
    )
    parser.add_argument("--output", dest="folder", metavar="DIR", help="folder to write tables and pictures to")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def _series(options: argparse.Namespace) -> int:
    from pipelines import files
    from pipelines.statistics.series import read_run, series, series_table
    from pipelines.statistics.series_page import series_html, series_svg

    lines = series([read_run(output) for output in options.outputs], options.by)
    if options.folder:
        files.write_parquet(files.join(options.folder, "series.parquet"), series_table(lines))
        files.write_bytes(files.join(options.folder, "series.svg"), series_svg(lines).encode())
        files.write_bytes(files.join(options.folder, "series.html"), series_html(lines).encode())
    if options.json:
        print(json.dumps([_as_json(line) for line in lines], indent=2, ensure_ascii=False))
        return 0
    print(_told(lines))
    if options.folder:
        print(f"\ntable       {options.folder}/series.parquet\npage        {options.folder}/series.html")
    return 0


def _as_json(line: Any) -> dict[str, Any]:
    from pipelines.statistics.series import month_name, series_table
    from pipelines.statistics.trend import YEAR

    found = line.trend
    about = {
        **line.key._asdict(),
        "by": line.by,
        "slice": line.slice,
        "method": line.method,
        "change": None,
        "slope": None,
        "monthly_step": None,
    }
    if found is not None:
        last = found.first + len(found.mean) - 1
        span = {"from": month_name(found.first), "to": month_name(last)}
        about["change"] = span | found.change(found.first, last)._asdict()
        about["slope"] = {"months": min(YEAR, len(found.mean))} | found.slope()._asdict()
        about["monthly_step"] = found.sigma
    constant = ("detector", "detector_digest", "by", "slice", "method", "level")
    rows = series_table([line]).drop_columns(list(constant)).to_pylist()
    return about | {"rows": [{name: value for name, value in row.items() if value is not None} for row in rows]}


def _told(lines: Sequence[Any]) -> str:
    from pipelines.statistics.series_page import headline, letter, outputs, sentences, title

    if not lines:
        return "no month after the cut-off with documents that the detector scored: there is nothing to show"
    runs = outputs(lines)
    parts = [headline(lines), *(f"  {letter(at)}  {run}" for at, run in enumerate(runs))]
    if lines[0].by == "month":
        for key in dict.fromkeys(line.key for line in lines):
            parts += ["", *_months([line for line in lines if line.key == key], runs)]
    for line in lines:
        parts += ["", title(line)]
        if line.trend is None:
            parts.append("  too few months for a trend: three are needed")
        else:
            parts += [f"  {sentence}" for sentence in (_now(line), *sentences(line.trend))]
    return "\n".join(parts)


def _now(line: Any) -> str:
    from pipelines.statistics.series import month_name

    found = line.trend
    return (
        f"in {month_name(found.first + len(found.mean) - 1)}: {_share(found.mean[-1], found.low[-1], found.high[-1])}"
    )


def _months(lines: Sequence[Any], runs: Sequence[str]) -> list[str]:
    """A row for every run and month, with the trend at each month's first."""
    from pipelines.statistics.series import METHODS, limits, month_name
    from pipelines.statistics.series_page import METHOD_NAMES, letter

    names = [METHOD_NAMES.get(method, method) for method in METHODS]
    heads = ("month", "run", "judged", *(f"{name}{what}" for name in names for what in ("", ": trend")))
    trends = {line.method: line.trend for line in lines}
    found = {
        (point.month, runs.index(point.run.output), method): (point, limits(point, method))
        for line in lines
        for method in (line.method,)
        for point in line.points
    }
    spans = [range(t.first, t.first + len(t.mean)) for t in trends.values() if t]
    months = sorted({month for month, _, _ in found} | {month for span in spans for month in span})
    rows: list[Sequence[str]] = []
    for month in months:
        here = sorted({run for at, run, _ in found if at == month})
        for run in here or (None,):
            points = [None if run is None else found.get((month, run, method)) for method in METHODS]
            judged = next((f"{point[0].row['judged']:,}" for point in points if point), "")
            cells = [month_name(month), "" if run is None else letter(run), judged]
            for method, point in zip(METHODS, points, strict=True):
                cells.append(_share(*point[1]) if point and point[1] else "")
                cells.append(_trend_cell(trends.get(method), month) if run is None or run == here[0] else "")
            rows.append(cells)
    widths = [max(len(row[at]) for row in (heads, *rows)) for at in range(len(heads))]
    right = (2,)  # numbers

    def aligned(row: Sequence[str]) -> str:
        cells = (c.rjust(w) if at in right else c.ljust(w) for at, (c, w) in enumerate(zip(row, widths, strict=True)))
        return "  ".join(cells).rstrip()

    return [aligned(heads), *(aligned(row) for row in rows)]


def _trend_cell(found: Any, month: int) -> str:
    if found is None or not found.first <= month < found.first + len(found.mean):
        return ""
    at = month - found.first
    between = "" if found.observed[at] else " between"
    return _share(found.mean[at], found.low[at], found.high[at]) + between


def _share(estimate: float, low: float, high: float) -> str:
    from pipelines.statistics.series_page import percent

    return f"{percent(estimate)} ({percent(low)} to {percent(high)})"
