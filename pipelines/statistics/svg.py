"""Small plots as inline SVG: no script, no network, the same bytes each time.

Colours come from CSS classes, so that a page's dark mode and its print style apply. Labels are escaped. Shares are
drawn on a scale from 0 to a round number::

    svg = share_line(["2024-01", "2024-02"], [Share(0.1, 0.05, 0.2), None], mark=0.5, label="Synthetic share by month")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

WIDTH, HEIGHT = 720, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 8, 12, 30
_SCALES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)


class Share(NamedTuple):
    """An estimate and its interval; ``estimate`` is None where only the interval is known."""

    estimate: float | None
    low: float
    high: float


def share_line(
    categories: Sequence[str], shares: Sequence[Share | None], mark: float | None, label: str, mark_label: str = ""
) -> Markup:
    """Estimates as a line with points, intervals as a band; gaps where there is none.

    Args:
        categories: what stands on the x axis, in order, such as months.
        shares: one a category.
        mark: where to draw a vertical line, in categories from the left (0.5 is the middle of the first).
        label: what the plot shows, for those who do not see it.
        mark_label: written beside the vertical line.
    """
    top = _scale(max((s.high for s in shares if s), default=1.0))
    step = (WIDTH - _LEFT - _RIGHT) / max(len(categories), 1)
    parts = [_grid(top), _x_labels(categories, step)]
    for run in _runs(shares):
        middles = [(_LEFT + (i + 0.5) * step, s) for i, s in run]
        if len(run) == 1:  # a band needs a width
            x, only = middles[0]
            middles = [(x - step * 0.3, only), (x + step * 0.3, only)]
        edge = [f"{x:.1f},{_y(s.high, top):.1f}" for x, s in middles]
        edge += [f"{x:.1f},{_y(s.low, top):.1f}" for x, s in reversed(middles)]
        parts.append(f'<polygon class="band" points="{" ".join(edge)}"/>')
        line = [f"{x:.1f},{_y(s.estimate, top):.1f}" for x, s in middles if s.estimate is not None]
        parts.append(f'<polyline class="line" points="{" ".join(line)}"/>')
    for i, s in enumerate(shares):
        if s and s.estimate is not None:
            name = f"{categories[i]}: {s.estimate:.1%} ({s.low:.1%} to {s.high:.1%})"
            x, y = _LEFT + (i + 0.5) * step, _y(s.estimate, top)
            title = escape(name)
            parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="2.5"><title>{title}</title></circle>')
    parts.append(_mark(mark, step, mark_label))
    return _figure(parts, label, HEIGHT, "time")


def stacked_bars(
    categories: Sequence[str],
    series: Mapping[str, Sequence[int]],
    mark: float | None,
    label: str,
    mark_label: str = "",
) -> Markup:
    """Shares of the whole of each category, one colour a series (CSS classes ``s-NAME``), as bars of full height."""
    step = (WIDTH - _LEFT - _RIGHT) / max(len(categories), 1)
    parts = [_grid(1.0), _x_labels(categories, step)]
    for i, category in enumerate(categories):
        total, below = sum(values[i] for values in series.values()), 0
        for name, values in series.items():
            if not values[i]:
                continue
            y, bottom = _y((below + values[i]) / total, 1.0), _y(below / total, 1.0)
            below += values[i]
            title = escape(f"{category}, {name}: {values[i]:,} of {total:,}")
            x, width = _LEFT + i * step + step * 0.06, step * 0.88
            parts.append(
                f'<rect class="s-{escape(name)}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
                f'height="{bottom - y:.1f}"><title>{title}</title></rect>'
            )
    parts.append(_mark(mark, step, mark_label))
    return _figure(parts, label, HEIGHT, "time")


def share_rows(rows: Sequence[tuple[str, Share]], label: str) -> Markup:
    """One line a row: its name, the interval as a bar and the estimate as a point, on one scale."""
    top = _scale(max((s.high for _, s in rows), default=1.0))
    left, line = 190, 22
    width, bottom = WIDTH - left - 70, 8 + line * len(rows)
    parts = []
    for tick in range(5):
        x = left + width * tick / 4
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{bottom}"/>')
        text = _percent(top * tick / 4, top)
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{text}</text>')
    for i, (name, s) in enumerate(rows):
        y = 8 + line * (i + 0.5)
        low, high = left + width * s.low / top, left + width * s.high / top
        short = name if len(name) <= 28 else name[:13] + "…" + name[-14:]
        text = escape(short)
        parts.append(f'<text class="name" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
        span = max(high - low, 1.0)
        parts.append(f'<rect class="band" x="{low:.1f}" y="{y - 5:.1f}" width="{span:.1f}" height="10"/>')
        if s.estimate is not None:
            at = left + width * s.estimate / top
            parts.append(f'<circle class="dot" cx="{at:.1f}" cy="{y:.1f}" r="4"/>')
            percent = _percent(s.estimate, top)
            parts.append(f'<text class="name" x="{left + width + 8}" y="{y + 4:.1f}">{percent}</text>')
    return _figure(parts, label, bottom + 24, "rows")


def _figure(parts: Sequence[str], label: str, height: int, kind: str) -> Markup:
    text = escape(label)
    head = f'<svg class="{kind}" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{text}"><title>{text}</title>'
    return Markup(head + "".join(parts) + "</svg>")


def _runs(shares: Sequence[Share | None]) -> list[list[tuple[int, Share]]]:
    runs: list[list[tuple[int, Share]]] = [[]]
    for i, share in enumerate(shares):
        if share is None:
            runs.append([])
        else:
            runs[-1].append((i, share))
    return [run for run in runs if run]


def _grid(top: float) -> str:
    parts = []
    for tick in range(5):
        value = top * tick / 4
        y = _y(value, top)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        text = _percent(value, top)
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    return "".join(parts)


def _x_labels(categories: Sequence[str], step: float) -> str:
    """As many as fit; years where the axis is long."""
    parts = []
    years = len(categories) > 24
    wanted = [i for i, c in enumerate(categories) if not years or c.endswith("-01")] or list(range(len(categories)))
    every = max(1, -(-len(wanted) * 56 // (WIDTH - _LEFT - _RIGHT)))
    for i in wanted[::every]:
        x = _LEFT + (i + (0.0 if years else 0.5)) * step
        text = escape(categories[i][:4] if years else categories[i])
        anchor = "start" if years else "middle"
        parts.append(f'<text class="tick" x="{x:.1f}" y="{HEIGHT - 10}" text-anchor="{anchor}">{text}</text>')
        if years:
            y = HEIGHT - _BOTTOM
            parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{y + 6}"/>')
    return "".join(parts)


def _mark(mark: float | None, step: float, label: str) -> str:
    if mark is None:
        return ""
    x = _LEFT + mark * step
    right = x < WIDTH * 0.8
    anchor, at, text = ("start", x + 5, escape(label)) if right else ("end", x - 5, escape(label))
    line = f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{HEIGHT - _BOTTOM}"/>'
    return line + f'<text class="marked" x="{at:.1f}" y="{_TOP + 6}" text-anchor="{anchor}">{text}</text>'


def _y(value: float, top: float) -> float:
    return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * min(value / top, 1.0)


def _scale(greatest: float) -> float:
    return next((s for s in _SCALES if s >= greatest), 1.0)


def _percent(value: float, top: float) -> str:
    return f"{100 * value:.{2 if top < 0.04 else 1 if top < 0.4 else 0}f}\u202f%"
