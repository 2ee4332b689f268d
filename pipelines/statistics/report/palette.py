"""The report's colours, light and dark: one place, so that their contrast can be computed.

Text meets WCAG 2.2 AA (1.4.3: 4.5 to 1) on what it stands on; lines, marks and areas meet 1.4.11 (3 to 1) on the paper.
"""

from __future__ import annotations

from collections.abc import Mapping

HEAT_STEPS = (0.01, 0.05, 0.1, 0.2, 0.4, 0.6)  # upper ends; the last step is open
HEAT = tuple(f"h{i}" for i in range(len(HEAT_STEPS) + 1))
HEAT_INK = tuple(f"h{i}-ink" for i in range(len(HEAT_STEPS) + 1))

LIGHT: Mapping[str, str] = {
    "paper": "#ffffff",
    "panel": "#f4f6f8",
    "ink": "#1c2024",
    "soft": "#525c66",
    "rule": "#d9dee3",
    "main": "#1558c0",
    "mark": "#b3261e",
    "human": "#1b7a4b",
    "dated": "#1b7a4b",
    "clear": "#4a9870",
    "undetermined": "#7a848e",
    "suspected": "#b5740c",
    "marked": "#bf4a25",
    "declared": "#8c2f39",
    "none": "#6a7179",
    **dict(zip(HEAT, ("#fff7e6", "#fde3b5", "#f9c078", "#ec8f3f", "#b9521a", "#93350f", "#5c1c08"), strict=True)),
    **dict(zip(HEAT_INK, ("#1c2024",) * 4 + ("#ffffff",) * 3, strict=True)),
}
DARK: Mapping[str, str] = {
    "paper": "#14181c",
    "panel": "#1d2329",
    "ink": "#e6e9ec",
    "soft": "#a3aeb8",
    "rule": "#343c44",
    "main": "#74b4ff",
    "mark": "#ff8f85",
    "human": "#4cc08a",
    "dated": "#3aa673",
    "clear": "#3f8f68",
    "undetermined": "#7d8892",
    "suspected": "#e0a040",
    "marked": "#e0764a",
    "declared": "#d9606c",
    "none": "#88929b",
    **dict(zip(HEAT, ("#241d14", "#3d2a14", "#613a12", "#8f4d12", "#c96f1f", "#f0a04b", "#ffd9a0"), strict=True)),
    **dict(zip(HEAT_INK, ("#e6e9ec",) * 4 + ("#14181c",) * 3, strict=True)),
}


def variables(colours: Mapping[str, str]) -> str:
    """The colours as declarations of CSS custom properties."""
    return ";".join(f"--{name}:{value}" for name, value in colours.items())


def heat_step(share: float) -> int:
    """Which of :data:`HEAT` a share is drawn in."""
    return sum(share >= end for end in HEAT_STEPS)


def luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb`` (WCAG 2.2, definition)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, 1 to 21 (WCAG 2.2, definition)."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)
