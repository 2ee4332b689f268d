"""The report of an evaluation: one HTML file that needs no network, for reading and for print.

    from detectors.evaluation_report import report

    Path("report.html").write_text(report(evaluate(detector, corpus)), "utf-8")

The same evaluation gives the same bytes. Whatever comes from data is escaped.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from detectors.evaluation_result import LEAST_TEXTS, Evaluation, Interval, Measured, View
from detectors.evaluation_slices import BY
from detectors.evaluation_svg import rate_rows, reliability_plot, risk_plot, roc_plot
from detectors.evaluation_text import headline, value
from detectors.evaluation_text import percent as _percent
from detectors.evaluation_text import share as _share

_MOST_DRAWN = 15
_VIEWS = {"raw": "Text as it is", "levelled": "Levelled layout"}
_COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
SLICE_HEAD = (
    "Slice",
    "Human",
    "FPR, own threshold",
    "FPR, frozen 1\u00a0%",
    "Machine",
    "TPR, own threshold",
    "TPR, frozen 1\u00a0%",
    "AUROC",
    "Abstained",
)


def report(evaluation: Evaluation, title: str = "How well a detector tells machine text") -> str:
    """The evaluation as one HTML document."""
    e = evaluation
    views = [e.raw] + ([e.levelled] if e.levelled else [])
    return (
        _environment()
        .get_template("evaluation.html")
        .render(
            title=title,
            e=e,
            views=[_VIEWS[view.name] for view in views],
            side_by_side=[(label.strip(), *(_spaced(cell(view)) for view in views)) for label, cell in headline(e)],
            refused=[part for part in e.raw.at_rates if part.reason],
            roc=_roc(views),
            reliability=_reliability(views),
            risk=_risk(views),
            worst=_worst(e.slices),
            missed=_missed(e.slices),
            slice_head=SLICE_HEAD,
            overall=_slice_row(e.overall),
            by=[(by, [_slice_row(part) for part in e.slices if part.by == by]) for by in BY],
            least=LEAST_TEXTS,
            unit={"source": "source", "overlap": "group of overlapping texts", "set": "set"}[e.cluster],
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("detectors", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        finalize=lambda value: _plain(value) if type(value) is str else value,
    )
    environment.filters |= {"percent": percent}
    return environment


def _spaced(text: str) -> str:
    return text.replace("%", "\u202f%")


def percent(number: float | None) -> str:
    """A rate in per cent, with a thin space; a dash for None."""
    return _spaced(_percent(number))


def share(estimate: float | None, interval: Interval | None) -> str:
    """A rate and its interval in per cent, with thin spaces."""
    return _spaced(_share(estimate, interval))


def _plain(text: str) -> str:
    """``text`` without characters that act instead of showing: control, direction, and lone surrogates."""
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c not in "\n\t" else c for c in text)


def _roc(views: Sequence[View]) -> dict[str, Any]:
    curves = [(view.name, view.roc) for view in views if view.roc]
    rows = [
        (
            f"{100 * at.rate:g} %",
            "–" if at.thresholds is None else f"{at.thresholds[0]:.6g}, {at.thresholds[1]:.6g}",
            share(at.false_positive_rate, at.false_positive_interval),
            share(at.true_positive_rate, at.true_positive_interval),
            at.reason or "",
        )
        for at in views[0].at_rates
    ]
    return {"plot": roc_plot(curves, views[0].at_rates, views[0].human) if curves else None, "rows": rows}


def _reliability(views: Sequence[View]) -> dict[str, Any]:
    series = [(view.name, view.calibration[0].bins) for view in views if view.calibration]
    raw = views[0].calibration
    bins = [
        (
            percent(part.probability),
            percent(part.observed),
            f"{percent(part.low)} to {percent(part.high)}",
            percent(part.weight),
            str(part.texts),
        )
        for part in (raw[0].bins if raw else ())
    ]
    rows = [
        (
            part.name,
            value(part.equal_width_error, part.equal_width_interval),
            value(part.equal_mass_error, part.equal_mass_interval),
            value(part.brier, part.brier_interval),
            f"{part.reliability:.4f}",
            f"{part.resolution:.4f}",
            f"{part.uncertainty:.4f}",
        )
        for part in raw
    ]
    weightings = [(part.name, part.weighting) for part in raw]
    return {
        "plot": reliability_plot(series) if series else None,
        "bins": bins,
        "rows": rows,
        "weightings": weightings,
    }


def _risk(views: Sequence[View]) -> dict[str, Any]:
    known = [(view.name, view.selective) for view in views if view.selective]
    curves = [(name, selective.points) for name, selective in known]
    rows = []
    for coverage in _COVERAGES:
        cells = []
        for _, selective in known:
            kept = [risk for at, risk in selective.points if at <= coverage + 1e-9]
            cells.append(percent(kept[-1] if kept else None))
        rows.append((_spaced(f"{coverage:.0%}"), *cells))
    return {
        "plot": risk_plot(curves) if curves else None,
        "head": ["Coverage", *(_VIEWS[name] for name, _ in known)],
        "rows": rows if known else [],
    }


def _worst(slices: Sequence[Measured]) -> dict[str, Any]:
    """Where human text is flagged most: by the frozen threshold, since the detector's own may flag next to nothing."""
    large = [part for part in slices if part.human >= LEAST_TEXTS]
    if any(part.frozen_false_positive_rate is None for part in large):
        rows = [(_name(p), p.false_positive_rate or 0.0, p.false_positive_interval) for p in large]
        at = "at the detector’s own threshold"
    else:
        rows = [(_name(p), p.frozen_false_positive_rate or 0.0, p.frozen_false_positive_interval) for p in large]
        at = "at the threshold for 1 % false positives, frozen on other text"
    rows = sorted(rows, key=lambda row: (-row[1], -row[2][0], row[0]))[:_MOST_DRAWN]
    return {"plot": rate_rows(rows, "False positive rate of the worst slices") if rows else None, "at": at}


def _missed(slices: Sequence[Measured]) -> Any:
    rows = []
    for part in slices:
        if part.machine < LEAST_TEXTS:
            continue
        if part.frozen_true_positive_rate is not None:
            rows.append((_name(part), part.frozen_true_positive_rate, part.frozen_true_positive_interval))
        elif part.true_positive_rate is not None:
            rows.append((_name(part), part.true_positive_rate, part.true_positive_interval))
    rows = sorted(rows, key=lambda row: (row[1], row[2][1], row[0]))[:_MOST_DRAWN]
    return rate_rows(rows, "True positive rate of the slices that are found least") if rows else None


def _name(part: Measured) -> str:
    return _plain(f"{part.by} {part.value or '(none)'}").strip()


def _slice_row(part: Measured) -> tuple[str, ...]:
    human, machine = part.human > 0, part.machine > 0
    auroc = "–" if part.auroc is None else f"{part.auroc:.3f}"
    if part.auroc_interval:
        auroc += f"\n{part.auroc_interval[0]:.3f}–{part.auroc_interval[1]:.3f}"
    return (
        part.value or "all",
        _counted(part.human, part.too_few_human),
        _cell(part.false_positive_rate, part.false_positive_interval if human else None),
        _cell(part.frozen_false_positive_rate, part.frozen_false_positive_interval if human else None),
        _counted(part.machine, part.too_few_machine),
        _cell(part.true_positive_rate, part.true_positive_interval if machine else None),
        _cell(part.frozen_true_positive_rate, part.frozen_true_positive_interval if machine else None),
        auroc,
        str(part.abstained or ""),
    )


def _counted(texts: int, too_few: bool) -> str:
    return f"{texts}\ntoo few" if texts and too_few else str(texts)


def _cell(estimate: float | None, interval: Interval | None) -> str:
    """A rate, and its interval in per cent on a line of its own."""
    if estimate is None or interval is None:
        return "–"
    return f"{percent(estimate)}\n{100 * interval[0]:.2f}–{100 * interval[1]:.2f}"
