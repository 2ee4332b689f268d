"""Folders that hold a calibrated detector over models of `transformers`, or a cascade: written, and opened again.

    write_detector(fitted, Path("binoculars/"))
    open_detector(Path("binoculars/"), load_detector)

A folder has a ``detector.json`` whose ``kind`` says what it is: ``sequence-classifier``, ``fast-detectgpt``,
``binoculars`` or ``cascade``. The models stay where they are, and are named by their path or name; a path that exists
inside the folder is taken from there, so that a folder with its models in it can be moved.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from detectors.base import Detector, ErrorRates
from detectors.binoculars import Binoculars
from detectors.cascade import Band, Cascade
from detectors.cascade_fitting import FittedCascade
from detectors.curvature import FastDetectGPT
from detectors.embedded import SEEN_FILE, SETTINGS_FILE, SeenTexts
from detectors.model_detector import Fitted, ModelDetector
from detectors.model_fitting import Calibrated
from detectors.models import ModelOptions
from detectors.transformer import SequenceClassifier

CLASSES: dict[str, Callable[..., ModelDetector]] = {
    SequenceClassifier.kind: SequenceClassifier,
    FastDetectGPT.kind: FastDetectGPT,
    Binoculars.kind: Binoculars,
}
CASCADE = "cascade"
KINDS = (*CLASSES, CASCADE)


def kind_of(folder: Path) -> str | None:
    """The kind of the detector in a folder; None for the embedded detector, whose ``detector.json`` names none.

    Raises ValueError where the kind is none of those known, or the file is not JSON.
    """
    kind = _read(folder).get("kind")
    if kind is not None and kind not in KINDS:
        raise ValueError(f"{folder / SETTINGS_FILE}: kind {kind!r} is none of {', '.join(KINDS)}")
    return kind


def write_detector(calibrated: Calibrated, folder: Path) -> dict[str, Any]:
    """Writes a calibrated detector. Gives the content of ``detector.json``."""
    detector = calibrated.detector
    if detector.fitted is None:
        raise ValueError(f"this {detector.kind} detector is not calibrated")
    content = {
        "format": 1,
        "kind": detector.kind,
        "models": {key: _absolute(name) for key, name in detector.models.items()},
        "settings": detector.settings,
        "options": detector.options.resolved().to_dict(),
        **detector.fitted.to_dict(),
        "measured": calibrated.record,
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers")},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SEEN_FILE).write_bytes(SeenTexts.from_keys(calibrated.used).to_bytes())
    return _write(folder, content)


def write_cascade(fitted: FittedCascade, cheap: str, expensive: str, folder: Path) -> dict[str, Any]:
    """Writes a cascade of two detectors by the names under which they are opened. Gives its ``detector.json``."""
    cascade = fitted.cascade
    content = {
        "format": 1,
        "kind": CASCADE,
        "cheap": _absolute(cheap),
        "expensive": _absolute(expensive),
        "digests": [cascade.cheap.digest, cascade.expensive.digest],
        "band": list(cascade.band),
        "error_rates": cascade.error_rates().to_dict(),
        "measured": fitted.record,
    }
    return _write(folder, content)


def open_detector(folder: Path, open_part: Callable[[str], Detector]) -> Detector:
    """The detector in a folder; ``open_part`` opens those that a cascade is made of, by name or folder.

    The models are not loaded yet. Raises FileNotFoundError without a ``detector.json``; ValueError where it is damaged,
    or where a cascade's parts are not those on which its band was chosen.
    """
    data = _read(folder)
    kind = kind_of(folder)
    try:
        if kind == CASCADE:
            return _open_cascade(folder, data, open_part)
        if kind is None:
            raise ValueError(f"{folder / SETTINGS_FILE} names no kind")
        detector = CLASSES[kind](
            **{key: _inside(folder, name) for key, name in data["models"].items()},
            **data["settings"],
            options=ModelOptions.from_dict(data["options"]),
            fitted=Fitted.from_dict(data),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / SETTINGS_FILE} is damaged or of another version: {error!r}") from error
    detector.folder = folder
    return detector


def _open_cascade(folder: Path, data: dict[str, Any], open_part: Callable[[str], Detector]) -> Cascade:
    cheap, expensive = (open_part(_inside(folder, data[key])) for key in ("cheap", "expensive"))
    for name, part, digest in zip(("cheap", "expensive"), (cheap, expensive), data["digests"], strict=True):
        if part.digest != digest:
            raise ValueError(f"{folder}: the {name} detector is not the one on which the band was chosen: choose again")
    low, high = data["band"]
    return Cascade(cheap, expensive, Band(float(low), float(high)), ErrorRates.from_dict(data["error_rates"]))


def _absolute(name: str) -> str:
    return str(Path(name).resolve()) if Path(name).is_dir() else name


def _inside(folder: Path, name: str) -> str:
    return str(folder / name) if (folder / name).is_dir() else name


def _read(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS_FILE
    if not path.is_file():
        raise FileNotFoundError(f"no {SETTINGS_FILE} in {folder}; `reserve calibrate` writes one")
    try:
        data = json.loads(path.read_text("utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path} holds no JSON object")
    return data


def _write(folder: Path, content: dict[str, Any]) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1, ensure_ascii=False)
    (folder / SETTINGS_FILE).write_text(text + "\n", "utf-8")
    written: dict[str, Any] = json.loads(text)
    return written


def make_detector(
    kind: str, models: Sequence[str], machine_labels: Sequence[str], options: ModelOptions
) -> ModelDetector:
    """An uncalibrated detector of a kind over one or two models, in the order of the constructor.

    Raises ValueError where the number of models does not fit the kind.
    """
    fits = {SequenceClassifier.kind: (1,), FastDetectGPT.kind: (1, 2), Binoculars.kind: (2,)}
    if kind not in fits:
        raise ValueError(f"kind {kind!r} is none of {', '.join(fits)}")
    if len(models) not in fits[kind]:
        raise ValueError(f"{kind} takes {' or '.join(map(str, fits[kind]))} models; {len(models)} are given")
    if machine_labels and kind != SequenceClassifier.kind:
        raise ValueError(f"only a sequence classifier has labels; {kind} takes no machine label")
    if kind == SequenceClassifier.kind:
        return SequenceClassifier(models[0], machine_labels, options=options)
    return CLASSES[kind](*models, options=options)
