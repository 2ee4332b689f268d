"""Small plots as inline SVG: no script, no network, the same bytes each time.

Colours come from CSS classes, so that a page's dark mode and its print style apply. Labels are escaped. Shares are
drawn on a scale from 0 to a round number::

    svg = share_line(["2024-01", "2024-02"], [Share(0.1, 0.05, 0.2), None], mark=0.5, label="Synthetic share by month")

Each plot takes a frame: :data:`WIDE` for a desk, :data:`NARROW` for a telephone, where a wide one shrinks its letters
beyond reading. :func:`for_all_widths` has both, of which CSS shows one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from pipelines.statistics.report.words import plain

_SCALES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)


class Frame(NamedTuple):
    """A plot's size and what its axes need, in the units of its view box."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int


WIDE = Frame(720, 260, 56, 8, 12, 30)
NARROW = Frame(340, 230, 46, 6, 12, 28)


class Share(NamedTuple):
    """An estimate and its interval; ``estimate`` is None where only the interval is known."""

    estimate: float | None
    low: float
    high: float


def for_all_widths(draw: Callable[[Frame], Markup]) -> Markup:
    """A plot in both frames."""
    return Markup('<div class="wide">{}</div><div class="narrow">{}</div>').format(draw(WIDE), draw(NARROW))


def share_line(
    categories: Sequence[str],
    shares: Sequence[Share | None],
    mark: float | None,
    label: str,
    mark_label: str = "",
    frame: Frame = WIDE,
) -> Markup:
    """Estimates as a line with points, intervals as a band; gaps where there is none.

    Args:
        categories: what stands on the x axis, in order, such as months.
        shares: one a category.
        mark: where to draw a vertical line, in categories from the left (0.5 is the middle of the first).
        label: what the plot shows, for those who do not see it.
        mark_label: written beside the vertical line.
        frame: its size.
    """
    top = _scale(max((s.high for s in shares if s), default=1.0))
    step = _step(categories, frame)
    parts = [_grid(top, frame), _x_labels(categories, step, frame)]
    for run in _runs(shares):
        parts += _band(run, step, top, frame)
    for i, s in enumerate(shares):
        if s and s.estimate is not None:
            name = escape(f"{categories[i]}: {s.estimate:.1%} ({s.low:.1%} to {s.high:.1%})")
            x, y = frame.left + (i + 0.5) * step, _y(s.estimate, top, frame)
            parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="2.5"><title>{name}</title></circle>')
    parts.append(_mark(mark, step, mark_label, frame))
    known = [s.estimate for s in shares if s and s.estimate is not None]
    spread = f" from {min(known):.1%} to {max(known):.1%}" if known else ""
    about = f"{len(known)} points{spread}, {_range(categories)}. The numbers are in the table below."
    return picture(parts, label, about, frame.width, frame.height)


def stacked_bars(
    categories: Sequence[str],
    series: Mapping[str, Sequence[int]],
    mark: float | None,
    label: str,
    mark_label: str = "",
    frame: Frame = WIDE,
) -> Markup:
    """Shares of the whole of each category, one colour a series (CSS classes ``s-NAME``), as bars of full height."""
    step = _step(categories, frame)
    parts = [_grid(1.0, frame), _x_labels(categories, step, frame)]
    for i, category in enumerate(categories):
        total, below = sum(values[i] for values in series.values()), 0
        for name, values in series.items():
            if not values[i]:
                continue
            y, bottom = _y((below + values[i]) / total, 1.0, frame), _y(below / total, 1.0, frame)
            below += values[i]
            title = escape(f"{category}, {name}: {values[i]:,} of {total:,}")
            x, width = frame.left + i * step + step * 0.06, step * 0.88
            parts.append(
                f'<rect class="s-{escape(name)}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
                f'height="{bottom - y:.1f}"><title>{title}</title></rect>'
            )
    parts.append(_mark(mark, step, mark_label, frame))
    about = (
        f"Bars of {', '.join(series)}, from bottom to top, {_range(categories)}. The numbers are in the table below."
    )
    return picture(parts, label, about, frame.width, frame.height)


def share_rows(rows: Sequence[tuple[str, Share]], label: str, frame: Frame = WIDE) -> Markup:
    """One line a row: its name, the interval as a bar and the estimate as a point, on one scale.

    In the narrow frame the name stands above its bar.
    """
    top = _scale(max((s.high for _, s in rows), default=1.0))
    above = frame.width < WIDE.width
    left, line = (8, 38) if above else (200, 24)
    width, bottom = frame.width - left - 58, 8 + line * len(rows)
    parts = []
    for tick in range(0, 5, 2 if above else 1):
        x = left + width * tick / 4
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{bottom}"/>')
        text = _percent(top * tick / 4, top)
        anchor = "start" if above and not tick else "middle"
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 16}" text-anchor="{anchor}">{text}</text>')
    for i, (name, s) in enumerate(rows):
        y = 8 + line * (i + (0.7 if above else 0.5))
        low, high = left + width * s.low / top, left + width * s.high / top
        text = escape(shortened(name, 40 if above else 30))
        at_x, at_y, anchor = (left, y - 11, "start") if above else (left - 8, y + 4, "end")
        parts.append(f'<text class="name" x="{at_x}" y="{at_y:.1f}" text-anchor="{anchor}">{text}</text>')
        span = max(high - low, 1.0)
        parts.append(f'<rect class="band" x="{low:.1f}" y="{y - 5:.1f}" width="{span:.1f}" height="10"/>')
        if s.estimate is not None:
            at = left + width * s.estimate / top
            parts.append(f'<circle class="dot" cx="{at:.1f}" cy="{y:.1f}" r="4"/>')
            percent = _percent(s.estimate, top)
            parts.append(f'<text class="name" x="{left + width + 8}" y="{y + 4:.1f}">{percent}</text>')
    return picture(parts, label, "The numbers are in the table below.", frame.width, bottom + 24)


def shortened(name: str, most: int) -> str:
    """A name without its middle: hosts tell apart by both ends."""
    half = (most - 1) // 2
    return name if len(name) <= most else name[:half] + "…" + name[-half:]


def picture(parts: Sequence[str], label: str, about: str, width: int, height: float, kind: str = "") -> Markup:
    """The parts as one SVG image, with what it shows in words for those who do not see it."""
    title, text = escape(plain(label)), escape(plain(about))
    head = f'<svg{f" class={kind!r}" if kind else ""} viewBox="0 0 {width} {height:.0f}" role="img" '
    head += f'aria-label="{title}. {text}"><title>{title}</title><desc>{text}</desc>'
    return Markup(head + "".join(parts) + "</svg>")


def _band(run: Sequence[tuple[int, Share]], step: float, top: float, frame: Frame) -> list[str]:
    middles = [(frame.left + (i + 0.5) * step, s) for i, s in run]
    if len(run) == 1:  # a band needs a width
        x, only = middles[0]
        middles = [(x - step * 0.3, only), (x + step * 0.3, only)]
    edge = [f"{x:.1f},{_y(s.high, top, frame):.1f}" for x, s in middles]
    edge += [f"{x:.1f},{_y(s.low, top, frame):.1f}" for x, s in reversed(middles)]
    line = [f"{x:.1f},{_y(s.estimate, top, frame):.1f}" for x, s in middles if s.estimate is not None]
    return [
        f'<polygon class="band" points="{" ".join(edge)}"/>',
        f'<polyline class="line" points="{" ".join(line)}"/>',
    ]


def _runs(shares: Sequence[Share | None]) -> list[list[tuple[int, Share]]]:
    runs: list[list[tuple[int, Share]]] = [[]]
    for i, share in enumerate(shares):
        if share is None:
            runs.append([])
        else:
            runs[-1].append((i, share))
    return [run for run in runs if run]


def _grid(top: float, frame: Frame) -> str:
    parts = []
    for tick in range(5):
        value = top * tick / 4
        y = _y(value, top, frame)
        parts.append(
            f'<line class="grid" x1="{frame.left}" x2="{frame.width - frame.right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        text = _percent(value, top)
        parts.append(f'<text class="tick" x="{frame.left - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    return "".join(parts)


def _x_labels(categories: Sequence[str], step: float, frame: Frame) -> str:
    """As many as fit; years where the axis is long."""
    parts = []
    years = len(categories) > (24 if frame.width >= WIDE.width else 12)
    wanted = [i for i, c in enumerate(categories) if not years or c.endswith("-01")] or list(range(len(categories)))
    every = max(1, -(-len(wanted) * 58 // (frame.width - frame.left - frame.right)))
    for i in wanted[::every]:
        x = frame.left + (i + (0.0 if years else 0.5)) * step
        text = escape(categories[i][:4] if years else categories[i])
        anchor = "start" if years else "middle"
        parts.append(f'<text class="tick" x="{x:.1f}" y="{frame.height - 10}" text-anchor="{anchor}">{text}</text>')
        if years:
            y = frame.height - frame.bottom
            parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{y + 6}"/>')
    return "".join(parts)


def _mark(mark: float | None, step: float, label: str, frame: Frame) -> str:
    if mark is None:
        return ""
    x = frame.left + mark * step
    right = x < frame.width * 0.75
    anchor, at = ("start", x + 5) if right else ("end", x - 5)
    line = f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{frame.height - frame.bottom}"/>'
    place = f'x="{at:.1f}" y="{frame.top + 6}" text-anchor="{anchor}"'
    return f'{line}<text class="marked" paint-order="stroke" {place}>{escape(label)}</text>'


def _step(categories: Sequence[str], frame: Frame) -> float:
    return (frame.width - frame.left - frame.right) / max(len(categories), 1)


def _range(categories: Sequence[str]) -> str:
    return f"{categories[0]} to {categories[-1]}" if categories else "no months"


def _y(value: float, top: float, frame: Frame) -> float:
    return frame.height - frame.bottom - (frame.height - frame.top - frame.bottom) * min(value / top, 1.0)


def _scale(greatest: float) -> float:
    return next((s for s in _SCALES if s >= greatest), 1.0)


def _percent(value: float, top: float) -> str:
    return f"{100 * value:.{2 if top < 0.04 else 1 if top < 0.4 else 0}f}\u202f%"
