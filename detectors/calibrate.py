"""Makes a detector folder out of models and labelled text: what the command `reserve calibrate` does.

calibrate("binoculars", ["/models/observer", "/models/performer"], [Path("sets/")], Path("binoculars/"))
calibrate("cascade", ["embedded", "binoculars/"], [Path("more sets/")], Path("cascade/"))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from detectors.base import LEFT_OUT, ErrorRates, SliceRates, clopper_pearson
from detectors.cascade_fitting import CascadeOptions, fit_cascade
from detectors.corpus import read_corpus
from detectors.model_fitting import CalibrationOptions, fit
from detectors.model_folder import CASCADE, make_detector, write_cascade, write_detector
from detectors.models import ModelOptions

Progress = Callable[[str], None]


def calibrate(
    kind: str,
    models: Sequence[str],
    text: Path | Iterable[Path],
    output: Path,
    *,
    machine_labels: Sequence[str] = (),
    reading: ModelOptions | None = None,
    options: CalibrationOptions | None = None,
    cascade: CascadeOptions | None = None,
    open_detector: Callable[[str], Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Calibrates a detector, or chooses the band of a cascade, and writes its folder.

    Args:
        kind: one of :data:`detectors.model_folder.KINDS`.
        models: paths or hub names, in the order (model), (scoring, reference) or (observer, performer); for a cascade
            (cheap, expensive), as ``open_detector`` takes them: ``embedded`` or folders that this function wrote.
        text: Parquet sets (:mod:`detectors.corpus`).
        output: the folder to write.
        machine_labels: the labels of a sequence classifier that mean a machine, where their names do not say so.
        reading: how the models read texts.
        options: how to calibrate.
        cascade: how to choose a cascade's band.
        open_detector: opens the parts of a cascade: :func:`detectors.load_detector`.
        progress: is given lines of text.

    Returns the content of ``detector.json``. Raises FileNotFoundError for missing models or text, ValueError where the
    call is wrong or the text does not suffice.
    """
    if kind == CASCADE:
        if len(models) != 2 or open_detector is None:
            raise ValueError("a cascade takes two detectors, the cheap one and the expensive one")
        cheap, expensive = (open_detector(name) for name in models)
        fitted = fit_cascade(cheap, expensive, read_corpus(text), cascade, progress)
        return write_cascade(fitted, models[0], models[1], output)
    detector = make_detector(kind, models, machine_labels, (reading or ModelOptions()).resolved())
    detector.load()
    return write_detector(fit(detector, read_corpus(text), options, progress), output)


def render(content: Mapping[str, Any]) -> str:
    """What a person should know of a folder that :func:`calibrate` wrote, as a few lines of text."""
    rates = ErrorRates.from_dict(content["error_rates"])
    lines = [f"{content['kind']}, decision threshold {rates.decision.threshold:.4f}"]
    measured = content["measured"]
    if content["kind"] == CASCADE:
        (low, high), (first, last) = measured["agreement_interval"], measured["flagged_agreement_interval"]
        lines += [
            f"band of the cheap detector's probability: {content['band'][0]:.4f} to {content['band'][1]:.4f}",
            f"same verdict as the expensive detector alone: {_share(measured['agreement'])} of {measured['judged']}"
            f" texts (95 % interval {low:.2%} to {high:.2%})",
            f"of the {measured['flagged']} texts that it flags, the cascade flags"
            f" {_share(measured['flagged_agreement'])}"
            f" (95 % interval {first:.2%} to {last:.2%})",
            f"sent: {measured['sent_share']:.1%} of the texts, {measured['sent_share_of_characters']:.1%} of the"
            f" characters; time {measured['time_share']:.1%} of the expensive detector's",
            *(f"warning: {warning}" for warning in measured["warnings"]),
        ]
    else:
        lines.append(f"languages: {', '.join(sorted(content['calibration']))}")
        lines += [f"AUROC {name or 'all sets'}: {value:.3f}" for name, value in measured["auroc"].items()]
    left_out = rates.decision.of_kind(LEFT_OUT)
    shown = left_out or tuple(part for part in rates.decision.slices if part.set)
    title = "left out of calibration and threshold" if left_out else "text that the choice did not see"
    lines += ["", f"{title:<40} {'human':>6} {'FPR':>8} {'95 % interval':>18} {'machine':>8} {'TPR':>8}"]
    lines += [_line(part) for part in sorted(shown, key=lambda part: -_zero(part.false_positive_rate))]
    return "\n".join(lines) + "\n"


def _share(share: float | None) -> str:
    return "none" if share is None else f"{share:.2%}"


def _zero(rate: float) -> float:
    return rate if rate == rate else -1.0


def _line(part: SliceRates) -> str:
    low, high = clopper_pearson(part.human_flagged, part.human)
    false = f"{part.false_positive_rate:.2%}" if part.human else "–"
    interval = f"{low:.2%}–{high:.2%}" if part.human else "–"
    true = f"{part.true_positive_rate:.2%}" if part.machine else "–"
    return f"{part.name:<40} {part.human:>6} {false:>8} {interval:>18} {part.machine:>8} {true:>8}"
