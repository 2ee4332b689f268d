"""An evaluation as plain text, for a terminal: the worst slice first."""

from __future__ import annotations

from collections.abc import Callable

from detectors.evaluation_result import LEAST_TEXTS, Calibrated, Evaluation, Interval, Measured, View


def render(evaluation: Evaluation) -> str:
    """The evaluation as plain text tables: warnings, both views side by side, then the slices, the worst first."""
    e = evaluation
    reasons = ", ".join(f"{reason} {count}" for reason, count in e.abstained.items()) or "none"
    lines = [f"warning: {warning}" for warning in e.warnings]
    lines += [
        f"detector {e.detector} {e.digest[:12]}, split {e.split}: {e.texts} texts judged; left out as used in training"
        f" {e.skipped}; abstained: {reasons}; mixed authorship: {e.mixed}",
        f"text {e.text_digest[:12]}; intervals: 95 %, clustered by {e.cluster} ({e.clusters}); worst first",
        "",
        *_side_by_side(e),
        f"layout alone: AUROC {_number(e.layout_only_auroc)}; largest change of a probability by layout:"
        f" {_number(e.largest_change_by_layout, 4)}",
        "",
        f"own: at the detector's own threshold {e.threshold:.4f}; frozen: at the threshold for FPR 1 %, frozen on other"
        f" text; * fewer than {LEAST_TEXTS} {'sets' if e.cluster == 'set' else 'sources'}",
        f"{'slice':<38} {'human':>6} {'FPR own':>8} {'95 % interval':>16} {'frozen':>7} {'machine':>8} {'TPR own':>8}"
        f" {'frozen':>7} {'AUROC':>6} {'abst.':>6}",
    ]
    large = [_slice(part) for part in e.slices if part.human >= LEAST_TEXTS]
    rest = [_slice(part) for part in e.slices if part.human < LEAST_TEXTS]
    if rest:
        rest.insert(0, f"slices with fewer than {LEAST_TEXTS} human texts, by how little is found:")
    return "\n".join([*lines, _slice(e.overall), *large, *rest]) + "\n"


def _side_by_side(e: Evaluation) -> list[str]:
    views = [e.raw] + ([e.levelled] if e.levelled else [])
    names = {"raw": "text as it is", "levelled": "levelled layout"}
    lines = [f"{'':<38}" + "".join(f"{names[view.name]:<32}" for view in views)]
    for label, cell in headline(e):
        lines.append((f"{label:<38}" + "".join(f"{cell(view):<32}" for view in views)).rstrip())
    refused = [f"TPR at FPR {100 * rate.rate:g} %: {rate.reason}" for rate in e.raw.at_rates if rate.reason]
    return [*lines, *refused]


def headline(e: Evaluation) -> list[tuple[str, Callable[[View], str]]]:
    """The rows of the table that sets both views side by side: a label, and what makes a view's cell."""
    rows: list[tuple[str, Callable[[View], str]]] = [
        ("texts judged (abstained)", lambda view: f"{view.texts} ({view.abstained})"),
        ("AUROC", lambda view: value(view.auroc, view.auroc_interval)),
    ]
    for number, at in enumerate(e.raw.at_rates):
        name = f"FPR {100 * at.rate:g} %"

        def true(view: View, number: int = number) -> str:
            return share(view.at_rates[number].true_positive_rate, view.at_rates[number].true_positive_interval)

        def false(view: View, number: int = number) -> str:
            return share(view.at_rates[number].false_positive_rate, view.at_rates[number].false_positive_interval)

        rows.append((f"TPR at {name}, threshold frozen", true))
        if at.false_positive_rate is not None:
            rows.append(("  and the FPR there", false))
    rows += [
        (
            f"TPR at own threshold {e.threshold:.4f}",
            lambda view: share(view.true_positive_rate, view.true_positive_interval if view.machine else None),
        ),
        (
            "  and the FPR there",
            lambda view: share(view.false_positive_rate, view.false_positive_interval if view.human else None),
        ),
    ]
    for number, part in enumerate(e.raw.calibration):
        rows.append((f"ECE, {part.name}", _of_calibration(number, _ece)))
        if not number:
            rows.append(("  in bins of equal mass", _of_calibration(number, _mass)))
            rows.append(("Brier score", _of_calibration(number, _brier)))
    rows.append(
        ("AURC", lambda view: value(view.selective.area, view.selective.area_interval) if view.selective else "–")
    )
    return rows


def _of_calibration(number: int, cell: Callable[[Calibrated], str]) -> Callable[[View], str]:
    return lambda view: cell(view.calibration[number]) if number < len(view.calibration) else "–"


def _ece(part: Calibrated) -> str:
    return value(part.equal_width_error, part.equal_width_interval)


def _mass(part: Calibrated) -> str:
    return value(part.equal_mass_error, part.equal_mass_interval)


def _brier(part: Calibrated) -> str:
    return value(part.brier, part.brier_interval)


def percent(number: float | None) -> str:
    """A rate in per cent, with digits that tell small ones apart; a dash for None."""
    return "–" if number is None else f"{number:.2%}"


def share(estimate: float | None, interval: Interval | None) -> str:
    """A rate and its interval in per cent."""
    if estimate is None:
        return "–"
    return percent(estimate) + (f" ({interval[0]:.2%} to {interval[1]:.2%})" if interval else "")


def value(estimate: float | None, interval: Interval | None) -> str:
    """A number and its interval, three decimals."""
    if estimate is None:
        return "–"
    return f"{estimate:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")


def _number(number: float | None, digits: int = 3) -> str:
    return "–" if number is None else f"{number:.{digits}f}"


def _slice(part: Measured) -> str:
    low, high = part.false_positive_interval
    interval = f"{low:.2%}–{high:.2%}" if part.human else "–"
    human = f"{part.human}{'*' if part.human and part.too_few_human else ''}"
    machine = f"{part.machine}{'*' if part.machine and part.too_few_machine else ''}"
    return (
        f"{(part.by + ' ' + part.value).strip():<38} {human:>6} {percent(part.false_positive_rate):>8} {interval:>16}"
        f" {percent(part.frozen_false_positive_rate):>7} {machine:>8} {percent(part.true_positive_rate):>8}"
        f" {percent(part.frozen_true_positive_rate):>7} {_number(part.auroc):>6} {part.abstained or '':>6}"
    )
