"""Measures a detector on labelled text: how well it ranks, how often it flags human text, and where it is worst.

    from detectors.evaluation import evaluate, render

    result = evaluate(Embedded(), read_corpus(Path("sets/")))
    print(render(result))

By default only texts that training did not use are measured: the model folder keeps a key of each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from detectors.base import Detector, Scores, clopper_pearson, length_bucket
from detectors.calibration import (
    Float,
    auroc,
    balanced_weights,
    expected_calibration_error,
    logistic_regression,
    true_positive_rate_at,
)
from detectors.corpus import SCORED_CHARACTERS, Bool, Corpus, text_key
from detectors.fitting import token_counts

_LEAST_HUMANS = 20
_BY = ("set", "domain", "length", "language", "attack")


class Seen(Protocol):
    """Tells which 64-bit keys belong to texts or groups that training used."""

    def contains(self, keys: list[int]) -> Any:
        """Booleans of shape (n,)."""


@dataclass(frozen=True)
class Measured:
    """One slice: ``by`` names the column, ``value`` its value; intervals are Clopper–Pearson, 95 %."""

    by: str
    value: str
    human: int
    human_flagged: int
    false_positive_rate: float | None
    false_positive_interval: tuple[float, float]
    machine: int
    machine_flagged: int
    true_positive_rate: float | None
    auroc: float | None


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` measured. Rates are None where a label is missing."""

    detector: str
    digest: str
    split: str
    texts: int
    seen_in_training: int
    skipped: int
    abstained: dict[str, int]
    threshold: float
    auroc: float | None
    tpr_at_1_percent_fpr: float | None
    tpr_at_0_1_percent_fpr: float | None
    expected_calibration_error: float | None
    layout_only_auroc: float | None
    largest_change_by_layout: float
    overall: Measured
    slices: tuple[Measured, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def evaluate(detector: Detector, corpus: Corpus, split: str = "test", seen: Seen | None = None) -> Evaluation:
    """Scores the corpus and measures. ``split`` ``test`` leaves out what training used; ``all`` warns of it.

    ``seen`` tells what training used; by default the detector's own, where it has one. Raises ValueError for another
    split, or where no text is left.
    """
    if split not in ("test", "all"):
        raise ValueError(f"split {split!r} is neither 'test' nor 'all'")
    if seen is None and callable(getattr(detector, "seen", None)):
        seen = detector.seen()  # type: ignore[attr-defined]
    used = _used(corpus, seen)
    kept = np.flatnonzero(~used) if split == "test" else np.arange(len(corpus))
    if not len(kept):
        raise ValueError(
            f"all {len(corpus)} texts were used in training; evaluate other text, or everything with split 'all'"
        )
    part = corpus.take(kept)
    scores = detector.score(part.texts, part.languages.tolist())
    spoken = np.array([reason is None for reason in scores.abstained])
    if not spoken.any():
        raise ValueError(f"the detector abstained on all {len(part)} texts")
    judged = part.take(np.flatnonzero(spoken))
    probability = scores.probability[spoken].astype(np.float64)
    threshold = detector.error_rates().decision.threshold
    slices = _slices(judged, probability, threshold)
    machine = judged.machine
    weights = balanced_weights(machine, judged.sets)
    both = bool(machine.any() and not machine.all())
    return Evaluation(
        detector=detector.name,
        digest=detector.digest,
        split=split,
        texts=len(judged),
        seen_in_training=int(used.sum()),
        skipped=len(corpus) - len(kept),
        abstained=_reasons(scores),
        threshold=threshold,
        auroc=_known(auroc(probability, machine)),
        tpr_at_1_percent_fpr=_known(true_positive_rate_at(probability, machine, 0.01)),
        tpr_at_0_1_percent_fpr=_known(true_positive_rate_at(probability, machine, 0.001)),
        expected_calibration_error=expected_calibration_error(probability, machine, weights) if both else None,
        layout_only_auroc=_known(layout_auroc(judged)),
        largest_change_by_layout=_layout_change(detector, judged, probability),
        overall=_measure("all", "", machine, probability, threshold),
        slices=slices,
        warnings=_warnings(split, int(used.sum()), seen, slices, threshold),
    )


def _used(corpus: Corpus, seen: Seen | None) -> Bool:
    if seen is None:
        return np.zeros(len(corpus), np.bool_)
    texts = seen.contains([text_key(text) for text in corpus.levelled])
    groups = seen.contains([text_key(group) for group in corpus.groups.tolist()])
    return np.asarray(texts | groups, np.bool_)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _reasons(scores: Scores) -> dict[str, int]:
    reasons = [reason for reason in scores.abstained if reason]
    return {reason: reasons.count(reason) for reason in sorted(set(reasons))}


def _measure(by: str, value: str, machine: Bool, probability: Float, threshold: float) -> Measured:
    flagged = probability >= threshold
    human, hits = int((~machine).sum()), int((flagged & ~machine).sum())
    positives, found = int(machine.sum()), int((flagged & machine).sum())
    return Measured(
        by,
        value,
        human,
        hits,
        hits / human if human else None,
        clopper_pearson(hits, human),
        positives,
        found,
        found / positives if positives else None,
        _known(auroc(probability, machine)),
    )


def _slices(corpus: Corpus, probability: Float, threshold: float) -> tuple[Measured, ...]:
    """All slices, the one with the highest false positive rate first, those with too few human texts last."""
    columns = {
        "set": corpus.sets,
        "domain": np.array([f"{one}/{two}" for one, two in zip(corpus.sets, corpus.domains, strict=True)]),
        "length": np.array([length_bucket(int(count)) for count in token_counts(corpus.levelled)]),
        "language": corpus.languages,
        "attack": np.where(corpus.machine, corpus.attacks, ""),
    }
    found = []
    for by in _BY:
        for value in np.unique(columns[by]):
            here = columns[by] == value
            if by != "attack" or value:
                found.append(_measure(by, str(value), corpus.machine[here], probability[here], threshold))

    def worst_first(part: Measured) -> tuple[bool, float, str, str]:
        return part.human < _LEAST_HUMANS, -(part.false_positive_rate or 0.0), part.by, part.value

    return tuple(sorted(found, key=worst_first))


def _layout_change(detector: Detector, corpus: Corpus, probability: Float) -> float:
    """Largest change of a probability when the text is replaced by its levelled view: 0 if layout does not matter."""
    rows = np.arange(0, len(corpus), max(1, len(corpus) // 500))
    short = [row for row in rows if len(corpus.levelled[row].decode()) <= SCORED_CHARACTERS]
    again = detector.score([corpus.levelled[row].decode() for row in short], corpus.languages[short].tolist())
    change = np.abs(again.probability - probability[short])
    return float(np.nanmax(change, initial=0.0))


_LAYOUT = (
    re.compile(r"\n"),
    re.compile(r"\n\s*\n"),
    re.compile(r"[*#_`|]"),
    re.compile(r"[“”‘’]"),
    re.compile(r"[—–]"),
    re.compile(r"  "),
    re.compile(r"\n\s*(?:[-•*]|\d+[.)])\s"),
)


def layout_auroc(corpus: Corpus) -> float:
    """AUROC of a classifier that sees layout only, two-fold by group: what a corpus gives away without any wording.

    Read it beside the detector's own AUROC. NaN where a label is missing in a fold.
    """
    features = np.array([_layout(text) for text in corpus.texts])
    features = np.c_[(features - features.mean(0)) / (features.std(0) + 1e-9), np.ones(len(features))]
    fold = np.array([text_key(group) % 2 for group in corpus.groups.tolist()])
    score = np.zeros(len(features))
    for number in (0, 1):
        fitted, held = fold != number, fold == number
        if len(set(corpus.machine[fitted].tolist())) < 2:
            return float("nan")
        weights = balanced_weights(corpus.machine[fitted], corpus.sets[fitted])
        score[held] = features[held] @ logistic_regression(features[fitted], corpus.machine[fitted], weights)
    return float(np.mean([auroc(score[fold == number], corpus.machine[fold == number]) for number in (0, 1)]))


def _layout(text: str) -> list[float]:
    length = len(text) + 1
    counted = [np.log1p(1000 * len(pattern.findall(text)) / length) for pattern in _LAYOUT]
    ending = text.rstrip()[-1:] in set(".!?\"'”’。！？")
    return [*counted, float(ending), float(text[:1].isspace()), float(text[-1:].isspace()), float(np.log(length))]


def _warnings(
    split: str, used: int, seen: Seen | None, slices: Iterable[Measured], threshold: float
) -> tuple[str, ...]:
    found = []
    if seen is None:
        found.append("what this detector was trained on is not recorded: the figures may be too good")
    elif split == "all" and used:
        found.append(
            f"{used} of these texts were used in training: the figures are too good; split 'test' leaves them out"
        )
    for part in slices:
        if part.human >= _LEAST_HUMANS and part.false_positive_interval[0] > 0.01:
            found.append(f"{part.by} {part.value}: more than 1 % of human text is flagged, beyond chance")
    return tuple(found)


def render(evaluation: Evaluation) -> str:
    """The evaluation as a plain text table, the worst slice first."""

    def percent(value: float | None) -> str:
        return "–" if value is None else f"{value:.2%}"

    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    e = evaluation
    reasons = ", ".join(f"{reason} {count}" for reason, count in e.abstained.items()) or "none"
    lines = [f"warning: {warning}" for warning in e.warnings]
    lines += [
        f"detector {e.detector} {e.digest[:12]}, split {e.split}: {e.texts} texts judged; left out as used in training"
        f" {e.skipped}; abstained: {reasons}",
        f"AUROC {number(e.auroc)} (layout alone {number(e.layout_only_auroc)}; largest change by layout"
        f" {e.largest_change_by_layout:.4f})",
        f"TPR at 1 % FPR {percent(e.tpr_at_1_percent_fpr)}, at 0.1 % FPR {percent(e.tpr_at_0_1_percent_fpr)};"
        f" ECE {number(e.expected_calibration_error)} (both labels and all sets weighted alike)",
        f"at the decision threshold {e.threshold:.4f}:",
        f"{'slice':<40} {'human':>7} {'FPR':>8} {'95 % interval':>18} {'machine':>8} {'TPR':>8} {'AUROC':>6}",
    ]
    for part in (e.overall, *e.slices):
        interval = f"{part.false_positive_interval[0]:.2%}–{part.false_positive_interval[1]:.2%}" if part.human else "–"
        lines.append(
            f"{(part.by + ' ' + part.value).strip():<40} {part.human:>7} {percent(part.false_positive_rate):>8}"
            f" {interval:>18} {part.machine:>8} {percent(part.true_positive_rate):>8} {number(part.auroc):>6}"
        )
    return "\n".join(lines) + "\n"
