"""The recursion experiment as a table in Markdown, and as small plots over generations in one SVG of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import escape

from benchmarks.recursion_watch import (
    FIRST_MODELS,
    HUMAN_TEXT,
    TAILS,
    VARIANCE,
    WORSE,
    alarms,
    first_alarms,
    first_of,
    worse_by,
)
from pipelines.statistics.panel.measures import measure

Runs = Sequence[Mapping[str, Any]]

_SHOWN = ("hapax_share", "missing_mass", "zipf_exponent", "renyi2", "entropy", "vendi", "compression_ratio")
_ARMS = {"replace": "a", "anchored 20%": "b", "anchored 50%": "c", "human": "d"}
_COLUMNS, _WIDE, _HIGH, _GAP, _LEFT = 4, 132, 92, 56, 44
_STYLE = """
svg{color-scheme:light dark;font:10px system-ui,sans-serif;--ink:#1c2024;--soft:#5b6570;--rule:#d9dee3;--paper:#fff}
svg{--a:#b3261e;--b:#1f6feb;--c:#2b8a5b;--d:#8a6d00}
@media (prefers-color-scheme:dark){
svg{--ink:#e6e9ec;--soft:#9aa5b0;--rule:#343c44;--paper:#14181c;--a:#ff8a80;--b:#6cb0ff;--c:#5fce98;--d:#e0c060}
}
.paper{fill:var(--paper)}text{fill:var(--ink)}.tick,.soft{fill:var(--soft)}.head{font-size:13px;font-weight:600}
.frame{fill:none;stroke:var(--rule)}.band{fill:var(--soft);opacity:.16}.line{fill:none;stroke-width:1.6}
.area{opacity:.18}.five{stroke:var(--ink);stroke-dasharray:4 3}.phase{stroke:var(--soft);stroke-dasharray:1 2}
.la{stroke:var(--a)}.lb{stroke:var(--b)}.lc{stroke:var(--c)}.ld{stroke:var(--d)}
.fa{fill:var(--a)}.fb{fill:var(--b)}.fc{fill:var(--c)}.fd{fill:var(--d)}
"""


def table(runs: Runs) -> str:
    """One row an arm; figures of the seeds stand side by side."""
    lines = [
        "| arm | T | seeds | perplexity, last over first | worse by 5 % at | first alarm | which | tails first at |"
        " variance first at | generations with an alarm | first alarm against human text |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for arm, temperature in dict.fromkeys((run["arm"], run["temperature"]) for run in runs):
        same = [run for run in runs if (run["arm"], run["temperature"]) == (arm, temperature)]
        rise = ", ".join(f"{run['perplexity'][-1] / run['perplexity'][0]:.3f}" for run in same)
        first = [first_of(run) for run in same]
        found = [first_alarms(run)[FIRST_MODELS] for run in same]
        which = sorted({name for one, at in zip(found, first, strict=True) for name in one if one[name] == at})
        share = [f"{np.any(list(alarms(run, FIRST_MODELS).values()), axis=0).sum()}/{_length(run)}" for run in same]
        cells = (
            arm.replace("%", " %"),
            f"{temperature:g}",
            ", ".join(str(run["seed"]) for run in same),
            rise,
            _each([worse_by(run) for run in same]),
            _each(first),
            ", ".join(which) or "–",
            _each([first_of(run, TAILS) for run in same]),
            _each([first_of(run, VARIANCE) for run in same]),
            ", ".join(share),
            _each([first_of(run, against=HUMAN_TEXT) for run in same]),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _length(run: Mapping[str, Any]) -> int:
    return len(run["perplexity"])


def _each(values: Sequence[int | None]) -> str:
    return ", ".join("never" if value is None else str(value) for value in values)


def plot(runs: Runs) -> str:
    """Perplexity and seven measures over generations, one set of plots a temperature."""
    parts, y = [], 40
    for temperature in sorted({run["temperature"] for run in runs}, reverse=True):
        here = [run for run in runs if run["temperature"] == temperature and run["arm"] in _ARMS]
        title = "Sampled as the model is" if temperature == 1 else f"Sampled at temperature {temperature:g}"
        parts.append(f'<text class="head" x="{_LEFT - 32}" y="{y}">{title}</text>')
        y += 26
        for at, name in enumerate(("perplexity", *_SHOWN)):
            x = _LEFT + at % _COLUMNS * (_WIDE + _GAP)
            parts.append(_panel(here, name, x, y + at // _COLUMNS * (_HIGH + _GAP)))
        y += 2 * (_HIGH + _GAP) + 8
    parts.append(_legend(y, {run["arm"] for run in runs}))
    width = _LEFT + _COLUMNS * (_WIDE + _GAP) - _GAP + 12
    label = "Held-out perplexity and measures of the collapse panel over generations, by arm"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y + 56}" role="img" aria-label="{label}">'
    paper = f'<rect class="paper" width="{width}" height="{y + 56}"/>'
    return f"{head}<title>{label}</title><style>{_STYLE}</style>{paper}{''.join(parts)}</svg>\n"


def _panel(runs: Runs, name: str, x: float, y: float) -> str:
    """One plot: a line an arm (mean of seeds), its range over the seeds, the reference's band, and the alarms."""
    perplexity = name == "perplexity"
    series = {arm: _series(runs, arm, name) for arm in _ARMS}
    series = {arm: values for arm, values in series.items() if values.size and np.isfinite(values).all()}
    if not series:
        return ""
    bands = [run["against"][FIRST_MODELS][name]["band"] for run in runs] if not perplexity else []
    band = np.mean([b for b in bands if b], axis=0) if any(bands) else None
    every = np.concatenate([v.ravel() for v in series.values()] + ([band] if band is not None else [np.array([WORSE])]))
    log = perplexity and np.nanmax(every) > 4 * np.nanmin(every)
    scale = np.log if log else np.asarray
    low, high = float(scale(np.nanmin(every))), float(scale(np.nanmax(every)))
    low, high = low - 0.06 * (high - low), high + 0.06 * (high - low)

    def up(value: float) -> float:
        return float(y + _HIGH - _HIGH * (float(scale(value)) - low) / (high - low))

    last = max(values.shape[1] for values in series.values()) - 1

    def along(generation: float) -> float:
        return float(x + 4 + (_WIDE - 8) * generation / last)

    phase = " (tail)" if name in TAILS else " (variance)"
    title = "Perplexity, relative" if perplexity else measure(name).title + phase
    parts = [f'<text x="{x - 30}" y="{y - 8}">{escape(title)}</text>']
    if band is not None:
        height = up(band[0]) - up(band[2])
        parts.append(f'<rect class="band" x="{x}" y="{up(band[2]):.1f}" width="{_WIDE}" height="{height:.1f}"/>')
    parts.append(f'<rect class="frame" x="{x}" y="{y}" width="{_WIDE}" height="{_HIGH}"/>')
    for value in (np.nanmin(every), np.nanmax(every)):
        parts.append(f'<text class="tick" x="{x - 4}" y="{up(value) + 3:.1f}" text-anchor="end">{_short(value)}</text>')
    for generation in (0, last // 2, last):
        at = along(generation)
        parts.append(f'<text class="tick" x="{at:.1f}" y="{y + _HIGH + 12}" text-anchor="middle">{generation}</text>')
    if perplexity:
        limit = up(WORSE)
        parts.append(f'<line class="five" x1="{x}" x2="{x + _WIDE}" y1="{limit:.1f}" y2="{limit:.1f}"/>')
        for row, (phase, at) in enumerate(_phases(runs).items()):
            parts.append(f'<line class="phase" x1="{along(at):.1f}" x2="{along(at):.1f}" y1="{y}" y2="{y + _HIGH}"/>')
            side, anchor = (-3, "end") if at > last / 2 else (3, "start")
            place = f'x="{along(at) + side:.1f}" y="{y + 10 + 11 * row}" text-anchor="{anchor}"'
            parts.append(f'<text class="tick" {place}>{phase}</text>')
    for arm, values in series.items():
        letter, steps = _ARMS[arm], range(values.shape[1])
        edge = [f"{along(g):.1f},{up(values[:, g].max()):.1f}" for g in steps]
        edge += [f"{along(g):.1f},{up(values[:, g].min()):.1f}" for g in reversed(steps)]
        middle = [f"{along(g):.1f},{up(values[:, g].mean()):.1f}" for g in steps]
        parts.append(f'<polygon class="area f{letter}" points="{" ".join(edge)}"/>')
        parts.append(f'<polyline class="line l{letter}" points="{" ".join(middle)}"/>')
        for g in [] if perplexity else _alarmed(runs, arm, name):
            at = f'cx="{along(g):.1f}" cy="{up(values[:, g].mean()):.1f}"'
            parts.append(f'<circle class="f{letter}" {at} r="3"><title>{escape(arm)}: alarm at {g}</title></circle>')
    return "".join(parts)


def _series(runs: Runs, arm: str, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(seeds, generations) values of an arm."""
    same = [run for run in runs if run["arm"] == arm]
    if name == "perplexity":
        return np.array([np.divide(run["perplexity"], run["perplexity"][0]) for run in same])
    return np.array([run["against"][FIRST_MODELS][name]["value"] for run in same])


def _alarmed(runs: Runs, arm: str, name: str) -> list[int]:
    """Generations at which at least half of the seeds alarm against the first models."""
    flags = [alarms(run, FIRST_MODELS)[name] for run in runs if run["arm"] == arm]
    return np.flatnonzero(np.mean(flags, axis=0) >= 0.5).tolist()


def _phases(runs: Runs) -> dict[str, float]:
    """Where the tails and where the variance first alarm in the arm `replace`: the median of the seeds that have it."""
    same = [run for run in runs if run["arm"] == "replace"]
    found = {"tails": [first_of(run, TAILS) for run in same], "variance": [first_of(run, VARIANCE) for run in same]}
    known = {name: [at for at in each if at is not None] for name, each in found.items()}
    return {name: float(np.median(each)) for name, each in known.items() if each}


def _legend(y: float, arms: set[str]) -> str:
    parts, x = [], _LEFT - 32
    for arm, letter in _ARMS.items():
        if arm not in arms:
            continue
        parts.append(f'<line class="line l{letter}" x1="{x}" x2="{x + 18}" y1="{y}" y2="{y}"/>')
        name = "fresh first models" if arm == "human" else arm.replace("%", " %")
        parts.append(f'<text x="{x + 23}" y="{y + 3}">{name}</text>')
        x += 130
    notes = (
        "Lines: mean of the seeds, shaded their range. Grey: where the panel expects a further first model. Dots: "
        "alarm, in half of the seeds or more.",
        "Perplexity is that of held-out human text over that of generation 0. Dashed: 5 % worse. Upright: the first "
        "alarm of a tail and of a variance, replace.",
    )
    for at, note in enumerate(notes):
        parts.append(f'<text class="soft" x="{_LEFT - 32}" y="{y + 22 + 14 * at}">{note}</text>')
    return "".join(parts)


def _short(value: float) -> str:
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:.{min(digits, 4)}f}"
