"""Shares by kind and month as a map of coloured cells, with the share in each cell where there is room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from pipelines.statistics.report.palette import heat_step
from pipelines.statistics.report.svg import Share, picture, shortened

_LEFT, _TOP, _ROW, _BOTTOM = 104, 20, 26, 24
_WIDTH = 720
_ROOM_FOR_NUMBERS = 25


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Mapping[tuple[str, str], Share | None],
    mark: float | None,
    label: str,
) -> Markup:
    """A cell for each row and column.

    Args:
        rows: names, such as host classes.
        columns: months in order.
        cells: by (row, column): a share; None where too little was judged; no key where there is no document.
        mark: where to draw the cut-off, in columns from the left.
        label: what it shows.
    """
    step = (_WIDTH - _LEFT - 4) / max(len(columns), 1)
    parts = []
    for i, row in enumerate(rows):
        y = _TOP + i * _ROW
        name = escape(shortened(row, 16))
        parts.append(f'<text class="name" x="{_LEFT - 8}" y="{y + 17}" text-anchor="end">{name}</text>')
        for j, column in enumerate(columns):
            if (row, column) in cells:
                parts.append(_cell(f"{row}, {column}", cells[row, column], _LEFT + j * step, y, step))
    bottom = _TOP + _ROW * len(rows)
    parts += _labels(columns, step, bottom + 15)
    if mark is not None:
        x = _LEFT + mark * step
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{bottom}"/>')
        anchor, at = ("start", x + 5) if mark < len(columns) * 0.8 else ("end", x - 5)
        parts.append(
            f'<text class="marked" paint-order="stroke" x="{at:.1f}" y="14" text-anchor="{anchor}">cut-off</text>'
        )
    about = f"{len(rows)} rows and {len(columns)} months. The numbers are in the table below."
    return picture(parts, label, about, _WIDTH, bottom + _BOTTOM)


def _cell(name: str, share: Share | None, x: float, y: float, step: float) -> str:
    width = max(step - 1, 0.6)
    box = f'x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_ROW - 2}"'
    middle = f'x="{x + width / 2:.1f}" y="{y + 16}" text-anchor="middle"'
    if share is None or share.estimate is None:
        text = f'<text class="tick" {middle}>·</text>' if step > 6 else ""
        return f'<rect class="few" {box}><title>{escape(name)}: too few</title></rect>{text}'
    number = heat_step(share.estimate)
    title = escape(f"{name}: {share.estimate:.1%} ({share.low:.1%} to {share.high:.1%})")
    text = ""
    if step >= _ROOM_FOR_NUMBERS:
        text = f'<text class="in{number}" {middle}>{100 * share.estimate:.0f}</text>'
    return f'<rect class="h{number}" {box}><title>{title}</title></rect>{text}'


def _labels(columns: Sequence[str], step: float, y: float) -> list[str]:
    """Years where they begin, or every month where there are few."""
    years = len(columns) > 10
    starts = [j for j, c in enumerate(columns) if not years or j == 0 or c[:4] != columns[j - 1][:4]]
    parts, free = [], 0.0
    for j in starts:
        x = _LEFT + j * step
        if x < free:
            continue
        text = escape(columns[j][:4] if years else columns[j])
        parts.append(f'<text class="tick" x="{x:.1f}" y="{y:.1f}">{text}</text>')
        free = x + (34 if years else 54)
    return parts
