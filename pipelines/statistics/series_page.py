"""A series as a picture and as a page: inline SVG, light and dark, no script and no network, the same bytes each time.

A working example::

    lines = series([read_run("out-spring"), read_run("out-summer")])
    write_bytes("series.svg", series_svg(lines).encode())
    write_bytes("series.html", series_html(lines).encode())
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

from pipelines.statistics.adjusted import METHOD as ADJUSTED
from pipelines.statistics.series import Point, Series, limits, month_name, month_number
from pipelines.statistics.trend import YEAR, Change, Trend

WIDTH, HEIGHT = 760, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 34, 34
_TOPS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
_SHAPES = 4
METHOD_NAMES = {ADJUSTED: "adjusted count"}

_STYLE = """
.series{--ink:#1c1f23;--soft:#5b636d;--grid:#d9dde2;--line:#1f5fa8;--paper:#fff;font:13px system-ui,sans-serif}
@media(prefers-color-scheme:dark){.series{--ink:#e8eaed;--soft:#a3abb5;--grid:#3a4048;--line:#7db4f0;--paper:#15181c}}
.series text{fill:var(--soft)}.series .title{fill:var(--ink);font-weight:600}
.series .paper{fill:var(--paper)}.series .grid{stroke:var(--grid)}.series .mark{stroke:var(--soft);stroke-dasharray:2 3}
.series .band{fill:var(--line);opacity:.16}.series .sampling{fill:var(--line);opacity:.2}
.series .line{fill:none;stroke:var(--line);stroke-width:2}.series .between{stroke-dasharray:3 4}
.series .run{fill:var(--paper);stroke:var(--ink);stroke-width:1.2}.series .whisker{stroke:var(--ink);opacity:.22}
"""
_PAGE = """
:root{color-scheme:light dark}body{margin:0 auto;max-width:820px;padding:24px 16px;background:#fff;color:#1c1f23;
font:15px/1.5 system-ui,sans-serif}@media(prefers-color-scheme:dark){body{background:#15181c;color:#e8eaed}}
h1{font-size:1.5rem;margin:0 0 .3rem}h2{font-size:1.1rem;margin:1.8rem 0 .4rem}svg{max-width:100%;height:auto}
.scroll{overflow-x:auto}.scroll svg{max-width:none;width:100%;min-width:600px}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.2rem .8rem .2rem 0;text-align:left;border-bottom:1px solid #8884;white-space:nowrap}
.soft{opacity:.75}details{margin:.5rem 0}
"""


def series_svg(lines: Sequence[Series]) -> str:
    """One picture, a panel a line, from top to bottom."""
    runs = outputs(lines)
    panels = [f'<g transform="translate(0 {at * HEIGHT})">{_panel(line, runs)}</g>' for at, line in enumerate(lines)]
    return f"{_svg(''.join(panels), 'Synthetic share by capture month', max(len(lines), 1) * HEIGHT)}\n"


def series_html(lines: Sequence[Series]) -> str:
    """The page: a picture and what it says in words for every line, then the figures of every run."""
    runs = outputs(lines)
    legend = "".join(
        f"<li>{_svg(_dot(at, 10.0, 8.0), f'mark of run {letter(at)}', 16, 20)} <b>{letter(at)}</b> {escape(run)}</li>"
        for at, run in enumerate(runs)
    )
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><title>Synthetic share by capture month</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{_PAGE}</style></head><body><main>",
        "<h1>Synthetic share by capture month</h1>",
        f"<p>{escape(headline(lines))}</p><ul>{legend}</ul>",
        "<p>The dark band is the error of sampling, the light one adds that of the detector’s rates, which all months"
        " share. Dashed: months that no run holds. Marks with whiskers: what each run found by itself.</p>",
    ]
    parts += [_section(line, runs) for line in lines]
    return "\n".join([*parts, "</main></body></html>\n"])


def title(line: Series) -> str:
    """What a line is of, in a few words."""
    part = [line.slice] if line.slice is not None else []
    return ", ".join([*part, METHOD_NAMES.get(line.method, line.method), f"detector {line.detector}"])


def headline(lines: Sequence[Series]) -> str:
    """How many runs and lines there are, and why these are not one."""
    runs, keys = outputs(lines), sorted({line.key for line in lines})
    said = f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}"
    if len(keys) < 2:
        return said
    names = "; ".join(
        f"{key.detector} {key.digest[:12]} (cut-off {key.cutoff}, level {key.level:g}): "
        + ", ".join(letter(runs.index(run)) for run in outputs([line for line in lines if line.key == key]))
        for key in keys
    )
    return (
        f"{said} in {len(keys)} series, which are not joined, since they differ in detector, cut-off or level. {names}"
    )


def sentences(found: Trend) -> tuple[str, str]:
    """Change since the first month, and slope of the last year, with their intervals."""
    last = found.first + len(found.mean) - 1
    since = found.change(found.first, last)
    months = min(YEAR, len(found.mean))
    return (
        f"from {month_name(found.first)} to {month_name(last)}: {_points(since)}",
        f"last {months} months: {_points(found.slope())} a month",
    )


def letter(number: int) -> str:
    """What a run is called in tables: A to Z, then A1 and so on."""
    return chr(65 + number % 26) + (str(number // 26) if number >= 26 else "")


def percent(share: float) -> str:
    """With a digit below ten per cent."""
    return f"{share:.1%}" if share < 0.0995 else f"{share:.0%}"


def _points(change: Change) -> str:
    """In percentage points."""
    return f"{100 * change.estimate:+.1f} points ({100 * change.low:+.1f} to {100 * change.high:+.1f})"


def outputs(lines: Sequence[Series]) -> list[str]:
    """The outputs in the order of their first month, then of their names."""
    begun: dict[str, int] = {}
    for point in (point for line in lines for point in line.points):
        begun[point.run.output] = min(begun.get(point.run.output, point.month or 0), point.month or 0)
    return sorted(begun, key=lambda output: (begun[output], output))


def _section(line: Series, runs: Sequence[str]) -> str:
    said = sentences(line.trend) if line.trend else ("too few months for a trend", "")
    rows = "".join(_row(point, line.method, runs) for point in line.points)
    return (
        f'<h2>{escape(title(line))}</h2><div class="scroll">{_svg(_panel(line, runs), title(line), HEIGHT)}</div>'
        f"<p>{escape(said[0])}<br>{escape(said[1])}</p>"
        f'<details><summary>What each run found</summary><div class="scroll"><table><thead><tr><th>Month</th>'
        f"<th>Run</th><th>Judged</th><th>Share</th><th>Interval</th></tr></thead><tbody>{rows}</tbody></table></div>"
        "</details>"
    )


def _row(point: Point, method: str, runs: Sequence[str]) -> str:
    estimate, low, high = limits(point, method) or (0.0, 0.0, 0.0)
    few = ' <span class="soft">too few</span>' if point.row["too_few"] else ""
    return (
        f"<tr><td>{month_name(point.month or 0)}</td><td>{letter(runs.index(point.run.output))}</td>"
        f"<td>{point.row['judged']:,}</td><td>{percent(estimate)}</td>"
        f"<td>{percent(low)} to {percent(high)}{few}</td></tr>"
    )


def _svg(content: str, label: str, height: int, width: int = WIDTH) -> Markup:
    return Markup(
        f'<svg xmlns="http://www.w3.org/2000/svg" class="series" role="img" aria-label="{escape(label)}" '
        f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"><style>{_STYLE}</style>'
        f'<rect class="paper" width="{width}" height="{height}"/>{content}</svg>'
    )


def _panel(line: Series, runs: Sequence[str]) -> str:
    months = [point.month or 0 for point in line.points]
    cut = month_number(line.key.cutoff)
    first, last = min([*months, cut]), max([*months, cut])
    step = (WIDTH - _LEFT - _RIGHT) / (last - first + 1)
    shown = [limits(point, line.method) or (0.0, 0.0, 0.0) for point in line.points]
    peak = max([*(float(v) for v in (line.trend.high if line.trend else ())), *(e for e, _, _ in shown)], default=1.0)
    top = next(t for t in _TOPS if t >= min(peak, 1.0))

    def x(month: float) -> float:
        return _LEFT + (month - first + 0.5) * step

    def y(share: float) -> float:
        return HEIGHT - _BOTTOM - min(max(share / top, 0.0), 1.0) * (HEIGHT - _TOP - _BOTTOM)

    parts = [f'<text class="title" x="{_LEFT}" y="18">{escape(title(line))}</text>']
    for tick in range(5):
        at = y(top * tick / 4)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{100 * top * tick / 4:g} %</text>')
    every = next(n for n in (1, 2, 3, 6, 12, 24, 60, 120, 1200) if n * step >= 62)
    parts += [
        f'<text x="{x(month):.1f}" y="{HEIGHT - 12}" text-anchor="middle">{month_name(month)}</text>'
        for month in range(first, last + 1)
        if month % every == 0
    ]
    parts.append(f'<line class="mark" x1="{x(cut):.1f}" x2="{x(cut):.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>')
    parts.append(f'<text x="{x(cut) + 4:.1f}" y="{_TOP + 10}">cut-off</text>')
    if line.trend:
        parts += _trend(line.trend, x, y)
    for point, (estimate, low, high) in zip(line.points, shown, strict=True):
        number = runs.index(point.run.output)
        at = x((point.month or 0) + (number - (len(runs) - 1) / 2) * 0.6 / len(runs))
        parts.append(f'<line class="whisker" x1="{at:.1f}" x2="{at:.1f}" y1="{y(low):.1f}" y2="{y(high):.1f}"/>')
        name = f"{month_name(point.month or 0)}, run {letter(number)}: {percent(estimate)} ({percent(low)} to "
        parts.append(_dot(number, at, y(estimate), f"{name}{percent(high)})"))
    return "".join(parts)


def _trend(found: Trend, x: Callable[[float], float], y: Callable[[float], float]) -> list[str]:
    months = range(found.first, found.first + len(found.mean))
    parts = []
    for name, low, high in (("band", found.low, found.high), ("sampling", found.low_sampling, found.high_sampling)):
        edge = [f"{x(m):.1f},{y(v):.1f}" for m, v in zip(months, high, strict=True)]
        edge += [f"{x(m):.1f},{y(v):.1f}" for m, v in reversed(list(zip(months, low, strict=True)))]
        parts.append(f'<polygon class="{name}" points="{" ".join(edge)}"/>')
    for at, month in enumerate(months[:-1]):
        between = "" if found.observed[at] and found.observed[at + 1] else " between"
        ends = f'x1="{x(month):.1f}" x2="{x(month + 1):.1f}" y1="{y(found.mean[at]):.1f}"'
        parts.append(f'<line class="line{between}" {ends} y2="{y(found.mean[at + 1]):.1f}"/>')
    return parts


def _dot(number: int, x: float, y: float, label: str = "") -> str:
    told = f"<title>{escape(label)}</title>" if label else ""
    r = 3.2
    shape = (
        f'circle class="run" cx="{x:.1f}" cy="{y:.1f}" r="{r}"',
        f'rect class="run" x="{x - r:.1f}" y="{y - r:.1f}" width="{2 * r}" height="{2 * r}"',
        f'path class="run" d="M{x:.1f} {y - 4:.1f}l4 7h-8z"',
        f'path class="run" d="M{x:.1f} {y - 4.5:.1f}l4.5 4.5-4.5 4.5-4.5-4.5z"',
    )[number % _SHAPES]
    return f"<{shape}>{told}</{shape.split(' ')[0]}>"
