"""The plots of an evaluation as inline SVG: no script, no network, the same bytes each time.

Colours come from CSS classes: ``raw`` and ``levelled`` are the two views. Labels are escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import log10

from markupsafe import Markup, escape

from detectors.evaluation_result import AtRate, Interval, ReliabilityBin

_WIDTH, _HEIGHT = 640, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 68, 12, 12, 44
_SCALES = (0.01, 0.02, 0.04, 0.08, 0.2, 0.4, 0.8, 1.0)
Points = Sequence[tuple[float, float]]
Place = Callable[[float], float]


def roc_plot(curves: Sequence[tuple[str, Points]], rates: Sequence[AtRate], humans: int) -> Markup:
    """True against false positive rate, the latter on a log axis that ends where one human text is flagged.

    ``curves`` are (view, points); ``rates`` are drawn as crosses with their intervals.
    """
    decades = max(1, min(6, round(0.5 + log10(max(humans, 10)))))
    x = _log_axis(decades)
    y = _linear(1.0)
    parts = [_y_grid(1.0, y, "True positive rate")]
    for decade in range(-decades, 1):
        parts.append(_x_tick(x(10.0**decade), f"{100 * 10.0**decade:g}\u202f%"))
    parts.append(_x_title("False positive rate (log scale)"))
    chance = [(10 ** (-decades * (1 - step / 40)),) * 2 for step in range(41)]
    parts.append(_line("diagonal", chance, x, y))
    for view, points in curves:
        parts.append(_line(view, [(max(a, 10.0**-decades), b) for a, b in points], x, y))
    for at in rates:
        if at.true_positive_rate is None or not at.false_positive_rate or at.true_positive_interval is None:
            continue
        here, (low, high) = x(max(at.false_positive_rate, 10.0**-decades)), at.true_positive_interval
        name = f"threshold frozen for {at.rate:.2%}: FPR {at.false_positive_rate:.2%}, TPR {at.true_positive_rate:.2%}"
        parts.append(_bar("whisker", here, y(low), y(high)) + _dot("frozen", here, y(at.true_positive_rate), 4, name))
    return _figure(parts, "ROC curve, false positive rate on a log axis")


def reliability_plot(series: Sequence[tuple[str, Sequence[ReliabilityBin]]]) -> Markup:
    """Observed share of machine text against probability, in bins with intervals; the diagonal is perfect."""
    x, y = _linear_x(), _linear(1.0)
    parts = [_y_grid(1.0, y, "Observed share of machine text"), *_x_shares(x, "Probability of machine origin")]
    parts.append(_line("diagonal", [(0.0, 0.0), (1.0, 1.0)], x, y))
    for view, bins in series:
        parts.append(_line(view, [(part.probability, part.observed) for part in bins], x, y))
        for part in bins:
            name = f"{part.probability:.1%}: observed {part.observed:.1%} ({part.low:.1%} to {part.high:.1%}), {view}"
            here = x(part.probability)
            parts.append(_bar(f"whisker {view}", here, y(part.low), y(part.high)))
            parts.append(_dot(view, here, y(part.observed), 3, name))
    return _figure(parts, "Reliability plot")


def risk_plot(curves: Sequence[tuple[str, Points]]) -> Markup:
    """Share of misjudged texts among those kept, against the share kept."""
    greatest = max((risk for _, points in curves for _, risk in points), default=1.0)
    top = next((scale for scale in _SCALES if scale >= greatest), 1.0)
    x, y = _linear_x(), _linear(top)
    parts = [_y_grid(top, y, "Misjudged among those kept"), *_x_shares(x, "Coverage: share of judged texts kept")]
    parts += [_line(view, points, x, y) for view, points in curves]
    return _figure(parts, "Risk by coverage")


def rate_rows(rows: Sequence[tuple[str, float, Interval]], label: str) -> Markup:
    """One line a slice: its name, the interval as a bar, the rate as a point, on one scale."""
    left, line, right = 230, 22, 70
    top = next((s for s in _SCALES if s >= max((rate for _, rate, _ in rows), default=1.0) * 1.5), 1.0)
    width, bottom = _WIDTH - left - right, 8 + line * len(rows)
    parts = []
    for tick in range(5):
        x = left + width * tick / 4
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{bottom}"/>')
        parts.append(_text("tick", x, bottom + 16, "middle", _percent(top * tick / 4, top)))
    for number, (name, rate, (low, high)) in enumerate(rows):
        y = 8 + line * (number + 0.5)
        short = name if len(name) <= 34 else name[:16] + "…" + name[-17:]
        start, end = (left + width * min(limit, top) / top for limit in (low, high))
        parts.append(_text("name", left - 8, y + 4, "end", short))
        title = escape(f"{name}: {rate:.2%} ({low:.2%} to {high:.2%})")
        parts.append(
            f'<rect class="band" x="{start:.1f}" y="{y - 5:.1f}" width="{max(end - start, 1):.1f}" height="10">'
            f"<title>{title}</title></rect>"
        )
        if high > top:
            parts.append(_text("tick", left + width + 1, y + 4, "start", "›"))
        parts.append(_dot("raw", left + width * min(rate, top) / top, y, 4, f"{name}: {rate:.2%}"))
        parts.append(_text("name", left + width + 12, y + 4, "start", f"{rate:.1%}"))
    return _figure(parts, label, bottom + 24)


def _log_axis(decades: int) -> Place:
    return lambda value: _LEFT + (_WIDTH - _LEFT - _RIGHT) * (1 + log10(value) / decades)


def _linear_x() -> Place:
    return lambda value: _LEFT + (_WIDTH - _LEFT - _RIGHT) * value


def _linear(top: float) -> Place:
    return lambda value: _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * min(value / top, 1.0)


def _y_grid(top: float, y: Place, title: str) -> str:
    parts = []
    for tick in range(5):
        at = y(top * tick / 4)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(_text("tick", _LEFT - 6, at + 4, "end", _percent(top * tick / 4, top)))
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    turned = f'<text class="tick" transform="translate(12 {middle:.1f}) rotate(-90)" text-anchor="middle">'
    return "".join(parts) + turned + f"{escape(title)}</text>"


def _x_shares(x: Place, title: str) -> Iterable[str]:
    return [*(_x_tick(x(tick / 5), _percent(tick / 5, 1.0)) for tick in range(6)), _x_title(title)]


def _x_tick(x: float, label: str) -> str:
    line = f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>'
    return line + _text("tick", x, _HEIGHT - _BOTTOM + 16, "middle" if x < _WIDTH - 30 else "end", label)


def _x_title(title: str) -> str:
    return _text("tick", (_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, "middle", title)


def _line(kind: str, points: Points, x: Place, y: Place) -> str:
    at = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
    return f'<polyline class="line {escape(kind)}" points="{at}"/>'


def _bar(kind: str, x: float, low: float, high: float) -> str:
    return f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'


def _dot(kind: str, x: float, y: float, radius: int, title: str) -> str:
    return f'<circle class="dot {kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"><title>{escape(title)}</title></circle>'


def _text(kind: str, x: float, y: float, anchor: str, text: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _figure(parts: Sequence[str], label: str, height: int = _HEIGHT) -> Markup:
    name = escape(label)
    head = f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{name}"><title>{name}</title>'
    return Markup(head + "".join(parts) + "</svg>")


def _percent(value: float, top: float) -> str:
    return f"{100 * value:.{2 if top < 0.04 else 1 if top < 0.4 else 0}f}\u202f%"
