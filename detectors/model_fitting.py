"""Calibrates a detector over models of `transformers` on labelled text, and counts its errors on what was left out.

    fitted = fit(FastDetectGPT("/models/gpt2"), read_corpus(Path("sets/")))
    fitted.detector.score(texts, ["en"] * len(texts)).probability

The models stay as they are: what is fitted is the map from score to probability, one a language, and two thresholds.
For the leave-one-set-out counts both are fitted without the set, so that they say what a new source would meet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.base import HELD_OUT, LEFT_OUT, ErrorRates, OperatingPoint, SliceRates, length_bucket
from detectors.calibration import (
    Calibration,
    Float,
    auroc,
    balanced_weights,
    decision_threshold,
    fit_calibration,
    quantification_threshold,
)
from detectors.corpus import TRAIN, Bool, Corpus, Int, components, split, text_key
from detectors.model_detector import Fitted, ModelDetector

Progress = Callable[[str], None]
Names = npt.NDArray[np.str_]
_BLOCK = 256  # texts between two lines of progress


@dataclass(frozen=True)
class CalibrationOptions:
    """How to calibrate.

    Attributes:
        texts: texts of each set, label and language at most, drawn by their hash; None: all.
        least: texts of each label that a language needs; below it the detector abstains there.
        false_positive_rate: share of human text that the decision threshold lets through in the worst source.
        excluded_attacks: kinds of altered text that have no single author and are left out.
        least_fold: a domain of a set of human text only is left out by itself from so many texts on.
        seed: of the split into text that is calibrated on (three quarters) and text that is only counted.
    """

    texts: int | None = 1000
    least: int = 100
    false_positive_rate: float = 0.01
    excluded_attacks: tuple[str, ...] = ("human_llm_fusion",)
    least_fold: int = 80
    seed: int = 19_690_101  # not that of training: what training left over lies on one side of its own split


class Calibrated(NamedTuple):
    """A calibrated detector and what to keep of how it came about."""

    detector: ModelDetector
    used: list[int]  # 64-bit keys of the texts and groups that calibration used
    record: dict[str, Any]  # plain JSON types


@dataclass(frozen=True)
class _View:
    """The scored texts, as parallel columns of length n."""

    score: Float  # standardised
    tokens: Int
    machine: Bool
    fold: Names
    set: Names
    domain: Names
    length: Names
    language: Names

    def take(self, kept: Bool) -> _View:
        return _View(*(getattr(self, name)[kept] for name in self.__dataclass_fields__))


class _Chosen(NamedTuple):
    calibrations: dict[str, Calibration]
    decision: float
    quantification: float

    def probability(self, view: _View) -> Float:
        found = np.full(len(view.score), np.nan)
        for code, calibration in self.calibrations.items():
            here = view.language == code
            found[here] = calibration.probability(view.score[here], view.tokens[here])
        return found.astype(np.float32).astype(np.float64)


def fit(
    detector: ModelDetector,
    corpus: Corpus,
    options: CalibrationOptions | None = None,
    progress: Progress | None = None,
) -> Calibrated:
    """Scores the texts, fits the maps and the thresholds on three quarters of them, and counts errors.

    Raises ValueError where no language has enough text of both labels, or no source enough human text to hold a
    threshold to ``false_positive_rate`` (100 texts for 1 %).
    """
    options = options or CalibrationOptions()
    say = progress or (lambda line: None)
    corpus = corpus.take(sample(corpus, options))
    raw, tokens = _scores(detector, corpus, say)
    kept = np.flatnonzero(np.isfinite(raw) & np.isin(corpus.languages, _languages(corpus, np.isfinite(raw), options)))
    corpus, raw, tokens = corpus.take(kept), raw[kept], tokens[kept]
    centre, scale = float(np.median(raw)), detector.sign * max(float(np.std(raw)), 1e-6)
    view = _view(corpus, (raw - centre) / scale, tokens, options)
    known = split(corpus, components(corpus), options.seed, (0.75, 0.0)) == TRAIN
    try:
        chosen = _choose(view.take(known), options)
    except ValueError as error:
        _, sizes = np.unique(view.fold[known & ~view.machine], return_counts=True)
        raise ValueError(
            f"{error}; of the texts that are calibrated on, three quarters, the largest has {max(sizes, default=0)}"
        ) from error
    left_out, nested = _left_out(view, chosen, options)

    def point(name: str, threshold: float) -> OperatingPoint:
        return OperatingPoint(threshold, tuple(left_out[name] + _held_out(view.take(~known), chosen, threshold)))

    rates = ErrorRates(
        detector.name, point("decision", chosen.decision), point("quantification", chosen.quantification)
    )
    fitted = Fitted(centre, scale, chosen.calibrations, rates, detector.model_digest)
    used = [text_key(corpus.levelled[row]) for row in np.flatnonzero(known)]
    used += [text_key(group) for group in np.unique(corpus.groups[known]).tolist()]
    record = {
        "nested": nested,
        "auroc": {str(name): auroc(view.score[here], view.machine[here]) for name, here in _both_labels(view)},
        "texts": {"calibration": int(known.sum()), "counted": int((~known).sum())},
        "options": asdict(options),
    }
    return Calibrated(_with(detector, fitted), used, record)


def sample(corpus: Corpus, options: CalibrationOptions) -> Int:
    """The rows that are looked at: of each set, label and language ``texts`` at most, those with the least hash."""
    rows = np.flatnonzero(~np.isin(corpus.attacks, options.excluded_attacks))
    if options.texts is None:
        return rows.astype(np.int64)
    taken: dict[tuple[str, bool, str], int] = {}
    found = []
    for row in sorted(rows.tolist(), key=lambda row: (text_key(corpus.levelled[row]), row)):
        cell = (str(corpus.sets[row]), bool(corpus.machine[row]), str(corpus.languages[row]))
        taken[cell] = taken.get(cell, 0) + 1
        if taken[cell] <= options.texts:
            found.append(row)
    return np.array(sorted(found), np.int64)


def _with(detector: ModelDetector, fitted: Fitted) -> ModelDetector:
    made: ModelDetector = type(detector)(
        **detector.models, **detector.settings, options=detector.options, fitted=fitted
    )
    return made


def _scores(detector: ModelDetector, corpus: Corpus, say: Progress) -> tuple[Float, Int]:
    parts = []
    for start in range(0, len(corpus), _BLOCK):
        parts.append(detector.raw(corpus.texts[start : start + _BLOCK]))
        say(f"scored {min(start + _BLOCK, len(corpus))} of {len(corpus)} texts")
    if not parts:
        raise ValueError("there is no text to calibrate on")
    return np.concatenate([part.value for part in parts]), np.concatenate([part.tokens for part in parts])


def _languages(corpus: Corpus, scored: Bool, options: CalibrationOptions) -> list[str]:
    counts = {
        str(code): [int((scored & (corpus.languages == code) & (corpus.machine == label)).sum()) for label in (0, 1)]
        for code in np.unique(corpus.languages)
    }
    found = [code for code, both in counts.items() if min(both) >= options.least]
    if not found:
        numbers = ", ".join(f"{code}: {human} human, {machine} machine" for code, (human, machine) in counts.items())
        raise ValueError(
            f"no language has {options.least} human and {options.least} machine texts that are long enough ({numbers})"
        )
    return found


def _view(corpus: Corpus, score: Float, tokens: Int, options: CalibrationOptions) -> _View:
    lengths = [length_bucket(text.count(b" ") + 1) for text in corpus.levelled]
    return _View(
        score,
        tokens,
        corpus.machine,
        _folds(corpus, options.least_fold),
        corpus.sets,
        corpus.domains,
        np.array(lengths, dtype=np.str_),
        corpus.languages,
    )


def _folds(corpus: Corpus, least: int) -> Names:
    """What is left out together: a set; of a set of human text only, a domain."""
    folds = corpus.sets.astype(object)
    for name in np.unique(corpus.sets):
        rows = corpus.sets == name
        if not corpus.machine[rows].any():
            for domain in np.unique(corpus.domains[rows]):
                here = rows & (corpus.domains == domain)
                folds[here] = f"{name}/{domain}" if here.sum() >= least else f"{name}/other"
    return folds.astype(np.str_)


def _choose(view: _View, options: CalibrationOptions) -> _Chosen:
    calibrations = {}
    for code in np.unique(view.language).tolist():
        part = view.take(view.language == code)
        if part.machine.any() and not part.machine.all():
            weights = balanced_weights(part.machine, part.fold)
            calibrations[code] = fit_calibration(part.score, part.tokens, part.machine, weights)
    view = view.take(np.isin(view.language, list(calibrations)))
    chosen = _Chosen(calibrations, 1.0, 1.0)
    probability = chosen.probability(view)
    human = ~view.machine
    slices = [
        probability[human & (view.fold == fold) & (view.language == code)]
        for fold in np.unique(view.fold)
        for code in calibrations
    ]
    decision = decision_threshold(slices, options.false_positive_rate)
    weights = balanced_weights(view.machine, view.fold)
    return chosen._replace(
        decision=decision, quantification=quantification_threshold(probability, view.machine, weights)
    )


def _left_out(
    view: _View, chosen: _Chosen, options: CalibrationOptions
) -> tuple[dict[str, list[SliceRates]], list[dict[str, Any]]]:
    """Counts of each fold at what is chosen without it, at both thresholds; and those thresholds."""
    slices: dict[str, list[SliceRates]] = {"decision": [], "quantification": []}
    nested = []
    for fold in np.unique(view.fold):
        held = view.take(view.fold == fold)
        try:
            own = _choose(view.take(view.fold != fold), options)
        except ValueError:
            continue  # what is left does not suffice, so nothing can be said of this fold
        held = held.take(np.isin(held.language, list(own.calibrations)))
        keys = [(str(fold), "", "", code) for code in held.language.tolist()]
        probability = own.probability(held)
        for name, found in slices.items():
            found += _counted(LEFT_OUT, keys, held.machine, probability >= getattr(own, name))
        nested.append({"set": str(fold), "decision": own.decision, "quantification": own.quantification})
    return slices, nested


def _held_out(view: _View, chosen: _Chosen, threshold: float) -> list[SliceRates]:
    flagged = chosen.probability(view) >= threshold
    fine = list(zip(view.set, view.domain, view.length, view.language, strict=True))
    whole = [("", "", "", code) for code in view.language]
    return [part for keys in (whole, fine) for part in _counted(HELD_OUT, keys, view.machine, flagged)]


def _counted(kind: str, keys: list[tuple[str, str, str, str]], machine: Bool, flagged: Bool) -> list[SliceRates]:
    counts: dict[tuple[str, str, str, str], list[int]] = {}
    for key, is_machine, is_flagged in zip(keys, machine.tolist(), flagged.tolist(), strict=True):
        count = counts.setdefault((str(key[0]), str(key[1]), str(key[2]), str(key[3])), [0, 0, 0, 0])
        count[2 * is_machine] += 1
        count[2 * is_machine + 1] += is_flagged
    return [SliceRates(kind, *key, *count) for key, count in sorted(counts.items())]


def _both_labels(view: _View) -> list[tuple[str, Bool]]:
    parts = [("", np.ones(len(view.score), np.bool_))]
    parts += [(str(name), view.set == name) for name in np.unique(view.set)]
    return [(name, here) for name, here in parts if len(set(view.machine[here].tolist())) == 2]
