"""One small plot a measure: the months as a line with its band, and the reference as a level band across.

Alarms are triangles where months are a line, so that they tell without colour; the page says their months in words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from pipelines.statistics.report.svg import picture
from pipelines.statistics.report.words import figure

_WIDTH, _HEIGHT = 340, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 16, 22


class Point(NamedTuple):
    """A measure of one month; ``at`` is the month's place on the axis, ``before`` is of the cut-off."""

    month: str
    at: int
    value: float
    low: float
    high: float
    alarm: bool
    before: bool


class Reference(NamedTuple):
    """The same measure of the documents from before the cut-off."""

    value: float
    low: float
    high: float


def small_plot(
    points: Sequence[Point], reference: Reference | None, axis: Sequence[str], mark: float | None, label: str
) -> Markup:
    """The plot.

    Args:
        points: in time; a month that the cut-off divides has two.
        reference: drawn across the plot; None where there is nothing to compare with.
        axis: the months.
        mark: where to draw the cut-off, in months from the left.
        label: what it shows.
    """
    low, high = _limits(points, reference)
    step = (_WIDTH - _LEFT - _RIGHT) / max(len(axis), 1)

    def y(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * share

    def x(point: Point) -> float:
        return _LEFT + (point.at + 0.5) * step

    parts = _frame(low, high, axis)
    if reference is not None:
        top, bottom = y(reference.high), y(reference.low)
        size = f'width="{_WIDTH - _LEFT - _RIGHT}" height="{max(bottom - top, 1.0):.1f}"'
        parts.append(f'<rect class="refband" x="{_LEFT}" y="{top:.1f}" {size}/>')
        level = y(reference.value)
        ends = f'x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{level:.1f}" y2="{level:.1f}"'
        parts.append(f'<line class="ref" {ends}/>')
    for period in (True, False):
        for run in _runs([p for p in points if p.before == period]):
            parts += _line([(x(p), y(p.value), y(p.low), y(p.high)) for p in run], step, "old" if period else "")
    if mark is not None:
        at = _LEFT + mark * step
        parts.append(f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP - 8}" y2="{_HEIGHT - _BOTTOM}"/>')
    alarms = [p for p in points if p.alarm]
    parts += [_triangle(x(p), y(p.value), p) for p in alarms]
    return picture(parts, label, _about(points, reference, alarms), _WIDTH, _HEIGHT, "small")


def _limits(points: Sequence[Point], reference: Reference | None) -> tuple[float, float]:
    """Of the values and the reference; bands may go beyond and are cut there."""
    values = [p.value for p in points] + ([reference.low, reference.value, reference.high] if reference else [])
    values = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
    low, high = min(values), max(values)
    room = (high - low) * 0.25 or abs(high) * 0.1 or 1.0
    return low - room, high + room


def _frame(low: float, high: float, axis: Sequence[str]) -> list[str]:
    bottom = _HEIGHT - _BOTTOM
    parts = [f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{bottom}" y2="{bottom}"/>']
    for value, at in ((high, _TOP), ((low + high) / 2, (_TOP + bottom) / 2), (low, bottom)):
        parts.append(f'<text class="tick" x="{_LEFT - 5}" y="{at + 4:.0f}" text-anchor="end">{figure(value)}</text>')
    if axis:
        parts.append(f'<text class="tick" x="{_LEFT}" y="{_HEIGHT - 6}">{escape(axis[0])}</text>')
    if len(axis) > 1:
        end = f'x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 6}" text-anchor="end"'
        parts.append(f'<text class="tick" {end}>{escape(axis[-1])}</text>')
    return parts


def _runs(points: Sequence[Point]) -> list[list[Point]]:
    """Neighbouring months together; a month without a point parts them."""
    runs: list[list[Point]] = []
    for point in points:
        if runs and point.at == runs[-1][-1].at + 1:
            runs[-1].append(point)
        else:
            runs.append([point])
    return runs


def _line(run: Sequence[tuple[float, float, float, float]], step: float, kind: str) -> list[str]:
    if len(run) == 1:
        x, middle, low, high = run[0]
        whisker = f'<line class="line {kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
        return [whisker, f'<circle class="dot {kind}" cx="{x:.1f}" cy="{middle:.1f}" r="2.5"/>']
    edge = [f"{x:.1f},{high:.1f}" for x, _, _, high in run] + [f"{x:.1f},{low:.1f}" for x, _, low, _ in reversed(run)]
    line = " ".join(f"{x:.1f},{middle:.1f}" for x, middle, _, _ in run)
    return [
        f'<polygon class="band {kind}" points="{" ".join(edge)}"/>',
        f'<polyline class="line {kind}" points="{line}"/>',
    ]


def _triangle(x: float, y: float, point: Point) -> str:
    corners = f"{x:.1f},{y - 6:.1f} {x - 5.5:.1f},{y + 4:.1f} {x + 5.5:.1f},{y + 4:.1f}"
    title = escape(f"alarm in {point.month}: {figure(point.value)}")
    return f'<polygon class="alarm" points="{corners}"><title>{title}</title></polygon>'


def _about(points: Sequence[Point], reference: Reference | None, alarms: Sequence[Point]) -> str:
    if not points:
        return "No month has enough documents."
    last = points[-1]
    words = f"{len(points)} months; {last.month}: {figure(last.value)}"
    if reference is not None:
        words += f"; before the cut-off: {figure(reference.value)}"
    if alarms:
        return f"{words}; alarms in {', '.join(p.month for p in alarms[:12])}"
    return f"{words}; no alarm" if reference is not None else f"{words}; nothing to compare with"
