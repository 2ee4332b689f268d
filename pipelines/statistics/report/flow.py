"""Where records went, as a Sankey diagram: nodes in columns, bands whose widths are numbers of records.

The numbers of a column add up to those of the one before it, since each record goes one way::

    svg = flow([[Node("in", "records", 10)], [Node("clear", "clear", 7), Node("none", "no document", 3)]],
               [Link("in", "clear", 7), Link("in", "none", 3)], "Where records went", WIDE)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from pipelines.statistics.report.svg import WIDE, Frame, picture
from pipelines.statistics.report.words import count, percent

_BAR = 12


class Node(NamedTuple):
    """A box: ``key`` is unique over all columns; ``style`` is the CSS class of its colour."""

    key: str
    title: str
    value: int
    style: str = "s-none"


class Link(NamedTuple):
    """Records that go from one node to one of the next column."""

    source: str
    target: str
    value: int
    style: str = "s-none"


class _Box(NamedTuple):
    x: float
    y: float
    height: float


def flow(columns: Sequence[Sequence[Node]], links: Sequence[Link], label: str, frame: Frame = WIDE) -> Markup:
    """The diagram; nodes and links without records are not drawn."""
    columns = [[n for n in nodes if n.value] for nodes in columns]
    total = max((sum(n.value for n in nodes) for nodes in columns), default=0)
    scale = frame.height / max(total, 1)
    boxes, height = _place(columns, scale, frame)
    parts = [*_bands(columns, [link for link in links if link.value], boxes, scale)]
    for i, nodes in enumerate(columns):
        for node in nodes:
            parts += _node(node, boxes[node.key], total, i, frame)
    about = ". ".join(", ".join(f"{n.title} {n.value:,}" for n in nodes) for nodes in columns)
    return picture(parts, label, about, frame.width, height)


def _place(columns: Sequence[Sequence[Node]], scale: float, frame: Frame) -> tuple[dict[str, _Box], float]:
    """Each node's box, with room for its label, and the height of all."""
    wide = frame.width >= WIDE.width
    room = 24 if wide else 34
    ends = (2, 150, 520) if wide else (2, 66, 236)
    boxes: dict[str, _Box] = {}
    lowest = 0.0
    for x, nodes in zip(ends, columns, strict=False):
        y = 6.0 if x > 2 or wide else 40.0
        for node in nodes:
            height = max(node.value * scale, 1.5)
            boxes[node.key] = _Box(x, y, height)
            y += max(height + 6, room)
        lowest = max(lowest, y)
    return boxes, lowest + 6


def _bands(
    columns: Sequence[Sequence[Node]], links: Sequence[Link], boxes: Mapping[str, _Box], scale: float
) -> list[str]:
    order = {node.key: i for i, node in enumerate(node for nodes in columns for node in nodes)}
    used = dict.fromkeys(boxes, 0.0)
    taken = dict.fromkeys(boxes, 0.0)
    parts = []
    for link in sorted(links, key=lambda one: (order[one.source], order[one.target])):
        source, target, width = boxes[link.source], boxes[link.target], link.value * scale
        a, b = source.y + used[link.source], target.y + taken[link.target]
        used[link.source] += width
        taken[link.target] += width
        x, end, w = source.x + _BAR, target.x, max(width, 0.8)
        mid = (x + end) / 2
        path = f"M{x:.1f} {a:.1f}C{mid:.1f} {a:.1f} {mid:.1f} {b:.1f} {end:.1f} {b:.1f}V{b + w:.1f}"
        path += f"C{mid:.1f} {b + w:.1f} {mid:.1f} {a + w:.1f} {x:.1f} {a + w:.1f}Z"
        title = escape(f"{link.source} to {link.target}: {link.value:,}")
        parts.append(f'<path class="{link.style} flows" d="{path}"><title>{title}</title></path>')
    return parts


def _node(node: Node, box: _Box, total: int, column: int, frame: Frame) -> list[str]:
    wide = frame.width >= WIDE.width
    x, y = box.x + _BAR + 6, box.y + 12
    rect = f'<rect class="{node.style}" x="{box.x}" y="{box.y:.1f}" width="{_BAR}" height="{box.height:.1f}"/>'
    number = count(node.value)
    share = f" ({percent(node.value / total)})" if column else ""
    if not wide and not column:  # no room beside it: above
        words = f'<text class="over" paint-order="stroke" x="2" y="14">{escape(node.title)}</text>'
        return [rect, f'{words}<text class="over strong" paint-order="stroke" x="2" y="30">{number}</text>']
    if wide:
        words = f'{escape(node.title)} <tspan class="strong">{number}</tspan>{share}'
        return [rect, f'<text class="over" paint-order="stroke" x="{x:.1f}" y="{y:.1f}">{words}</text>']
    words = f'<text class="over" paint-order="stroke" x="{x:.1f}" y="{y:.1f}">{escape(node.title)}</text>'
    return [rect, f'{words}<text class="over strong" paint-order="stroke" x="{x:.1f}" y="{y + 14:.1f}">{number}</text>']
