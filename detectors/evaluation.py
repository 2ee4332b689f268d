"""Measures a detector on labelled text: how well it ranks, how often it flags human text, and where it is worst.

    from detectors.evaluation import evaluate, render

    result = evaluate(Embedded(), read_corpus(Path("sets/")))
    print(render(result))

By default only texts that training did not use are measured: the model folder keeps a key of each. No threshold is
chosen on the text that it is measured on: for a given false positive rate it is frozen on one half of the human text
and applied to the other, which shares no source and no run of 13 words with it, and the other way round. Intervals take
a source as one draw.
:mod:`detectors.evaluation_report` makes a page of the result.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from detectors.base import Detector, Scores
from detectors.clustered import Bool, Clusters, Float
from detectors.corpus import SCORED_CHARACTERS, Corpus, components, text_key
from detectors.evaluation_result import LEAST_TEXTS, Evaluation, Measured, View
from detectors.evaluation_slices import Sliced, beyond_chance
from detectors.evaluation_text import render
from detectors.evaluation_views import EvaluationOptions, Judged, halves, measure_view, refusal
from detectors.layout import layout_auroc
from detectors.levelling import level
from detectors.measures import cross_frozen

__all__ = ["Evaluation", "EvaluationOptions", "Measured", "evaluate", "layout_auroc", "render"]

MIXED_ATTACKS = ("human_llm_fusion",)  # sentences of both kinds: such text has no single author
_NO_THRESHOLD = 0.5
_NOT_FINITE = "no_probability"


class Seen(Protocol):
    """Tells which 64-bit keys belong to texts or groups that training used."""

    def contains(self, keys: list[int]) -> Any:
        """Booleans of shape (n,)."""


def evaluate(
    detector: Detector,
    corpus: Corpus,
    split: str = "test",
    seen: Seen | None = None,
    options: EvaluationOptions | None = None,
) -> Evaluation:
    """Scores the corpus and measures. ``split`` ``test`` leaves out what training used; ``all`` warns of it.

    ``seen`` tells what training used; by default the detector's own, where it has one. Raises ValueError for another
    split, or where no text is left, or where the detector abstains on every text.
    """
    if split not in ("test", "all"):
        raise ValueError(f"split {split!r} is neither 'test' nor 'all'")
    options = options or EvaluationOptions()
    if seen is None and callable(getattr(detector, "seen", None)):
        seen = detector.seen()  # type: ignore[attr-defined]
    used = _used(corpus, seen)
    kept = np.flatnonzero(~used) if split == "test" else np.arange(len(corpus))
    if not len(corpus):
        raise ValueError("there is no text to evaluate")
    if not len(kept):
        raise ValueError(
            f"all {len(corpus)} texts were used in training; evaluate other text, or everything with split 'all'"
        )
    run = _run(detector, corpus.take(kept), options)
    known = sorted(set(corpus.sets[used].tolist()) & set(run.corpus.sets.tolist()))
    raw = run.view("raw", run.raw)
    levelled = run.view("levelled", run.levelled) if run.levelled else None
    sliced = run.sliced()
    slices = sliced.slices()
    ranked = layout_auroc(run.corpus.take(np.flatnonzero(run.judged)))
    by_rate = [part.true_positive_rate for part in raw.at_rates]
    result = Evaluation(
        detector=detector.name,
        digest=detector.digest,
        text_digest=_text_digest(run.corpus),
        split=split,
        texts=raw.texts,
        seen_in_training=int(used.sum()),
        skipped=len(corpus) - len(kept),
        mixed=int((~run.counted & run.raw.spoken).sum()),
        abstained=run.raw.reasons,
        threshold=run.threshold,
        auroc=raw.auroc,
        tpr_at_1_percent_fpr=by_rate[0],
        tpr_at_0_1_percent_fpr=by_rate[1],
        tpr_at_0_01_percent_fpr=by_rate[2],
        expected_calibration_error=raw.calibration[0].equal_width_error if raw.calibration else None,
        layout_only_auroc=None if np.isnan(ranked) else ranked,
        largest_change_by_layout=run.layout_change(),
        cluster=options.cluster,
        clusters=len(np.unique(run.clusters[run.judged])),
        draws=options.draws,
        seed=options.seed,
        raw=raw,
        levelled=levelled,
        overall=sliced.overall(),
        slices=slices,
        warnings=(),
    )
    first = _of_training(split, int(used.sum()), seen, known, len(np.unique(run.corpus.sets)))
    return replace(result, warnings=(*first, *_warnings(result, run, beyond_chance(slices, sliced, 0.01))))


@dataclass(frozen=True)
class _Scored:
    """Probabilities of one view of n texts, NaN where the detector does not speak."""

    probability: Float
    spoken: Bool
    reasons: dict[str, int]


@dataclass(frozen=True)
class _Run:
    """The texts that are measured, how they were scored, and what ties them. Shapes (n,)."""

    corpus: Corpus
    raw: _Scored
    levelled: _Scored | None
    counted: Bool
    clusters: Clusters
    half: Bool
    threshold: float
    ships_threshold: bool
    options: EvaluationOptions

    @property
    def judged(self) -> Bool:
        """Texts that enter overall figures."""
        return np.asarray(self.raw.spoken & self.counted, np.bool_)

    def data(self, scored: _Scored) -> Judged:
        whole = Judged(scored.probability, self.corpus.machine, self.corpus.sets, self.clusters, self.half)
        return whole.take(scored.spoken & self.counted)

    def view(self, name: str, scored: _Scored) -> View:
        abstained = int((~scored.spoken & self.counted).sum())
        spoken = int((scored.spoken & self.counted).sum())
        return measure_view(name, self.data(scored), self.threshold, (spoken, abstained), self.options)

    def sliced(self) -> Sliced:
        data = self.data(self.raw)
        frozen: Bool | None = None
        if refusal(0.01, data.machine, data.half) is None:
            # Mixed text is in no overall figure, so it takes the threshold that its half has anyway.
            _, thresholds = cross_frozen(data.probability, data.machine, data.half, 0.01)
            frozen = np.asarray(self.raw.probability >= np.where(self.half, thresholds[1], thresholds[0]), np.bool_)
        flagged = np.asarray(self.raw.probability >= self.threshold, np.bool_)
        rows = (self.raw.spoken, self.counted)
        return Sliced(self.corpus, self.raw.probability, (flagged, frozen), rows, self.clusters)

    def layout_change(self) -> float | None:
        """Largest change of a probability when the text is replaced by its levelled view; None if none was compared.

        On texts of which both views fit into the characters that are levelled: beyond, a window may end elsewhere.
        """
        if self.levelled is None:
            return None
        whole = [
            len(text) <= SCORED_CHARACTERS and len(view.decode()) <= SCORED_CHARACTERS
            for text, view in zip(self.corpus.texts, self.corpus.levelled, strict=True)
        ]
        rows = self.raw.spoken & self.levelled.spoken & np.array(whole, np.bool_)
        change = np.abs(self.raw.probability[rows] - self.levelled.probability[rows])
        return float(change.max()) if len(change) else None


def _run(detector: Detector, corpus: Corpus, options: EvaluationOptions) -> _Run:
    raw = _score(detector, corpus, corpus.texts)
    if not raw.spoken.any():
        raise ValueError(f"the detector abstained on all {len(corpus)} texts")
    counted = ~np.isin(corpus.attacks, MIXED_ATTACKS)
    if not (raw.spoken & counted).any():
        raise ValueError(
            f"all texts that were judged are of mixed authorship (attack {', '.join(MIXED_ATTACKS)}); "
            "error rates need text by one author"
        )
    levelled = _score(detector, corpus, [level(text).decode() for text in corpus.texts]) if options.levelled else None
    if levelled is not None and not (levelled.spoken & counted).any():
        levelled = None
    component = components(corpus)
    threshold = _shipped_threshold(detector)
    return _Run(
        corpus=corpus,
        raw=raw,
        levelled=levelled,
        counted=np.asarray(counted, np.bool_),
        clusters={"source": corpus.groups, "overlap": component, "set": corpus.sets}[options.cluster],
        half=halves(corpus, component, options.seed),
        threshold=_NO_THRESHOLD if threshold is None else threshold,
        ships_threshold=threshold is not None,
        options=options,
    )


def _score(detector: Detector, corpus: Corpus, texts: list[str]) -> _Scored:
    scores: Scores = detector.score(texts, corpus.languages.tolist())
    probability = np.asarray(scores.probability, np.float64)
    reasons = [
        reason if reason or np.isfinite(value) else _NOT_FINITE
        for reason, value in zip(scores.abstained, probability.tolist(), strict=True)
    ]
    spoken = np.array([reason is None for reason in reasons], np.bool_)
    counts = {reason: reasons.count(reason) for reason in sorted({reason for reason in reasons if reason})}
    return _Scored(np.where(spoken, probability, np.nan), spoken, counts)


def _shipped_threshold(detector: Detector) -> float | None:
    """The detector's own threshold for verdicts; None where it was never measured."""
    try:
        threshold = float(detector.error_rates().decision.threshold)
    except (ValueError, LookupError, NotImplementedError):
        return None
    return None if np.isnan(threshold) else threshold


def _used(corpus: Corpus, seen: Seen | None) -> Bool:
    if seen is None:
        return np.zeros(len(corpus), np.bool_)
    texts = seen.contains([text_key(text) for text in corpus.levelled])
    groups = seen.contains([text_key(group) for group in corpus.groups.tolist()])
    return np.asarray(texts | groups, np.bool_)


def _text_digest(corpus: Corpus) -> str:
    """SHA-256 (hex) of the measured texts with their labels, whatever their order."""
    keys = sorted(
        hashlib.sha256((b"machine\0" if machine else b"human\0") + text.encode("utf-8", "surrogatepass")).digest()
        for text, machine in zip(corpus.texts, corpus.machine.tolist(), strict=True)
    )
    return hashlib.sha256(b"".join(keys)).hexdigest()


def _of_training(split: str, used: int, seen: Seen | None, known: list[str], sets: int) -> list[str]:
    if seen is None:
        return ["what this detector was trained on is not recorded: the figures may be too good"]
    if split == "all" and used:
        return [f"{used} of these texts were used in training: the figures are too good; split 'test' leaves them out"]
    if known:
        named = f"all {sets}" if len(known) == sets else ", ".join(known)
        return [
            f"training knew other texts of these sets: {named}; text from a source that it never saw is "
            "judged worse, as the detector's leave-one-set-out rates show"
        ]
    return []


def _warnings(result: Evaluation, run: _Run, beyond: list[Measured]) -> list[str]:
    found = []
    if not run.ships_threshold:
        found.append(f"the detector ships no threshold of its own: {_NO_THRESHOLD} stands in for it")
    for part in beyond:
        found.append(f"{part.by} {part.value}: more than 1 % of human text is flagged, beyond chance")
    silent = [part.value for part in result.slices if part.by == "language" and not part.human + part.machine]
    if silent:
        found.append(f"no text in {', '.join(silent)} was judged: the detector abstained")
    if result.raw.human == 0 or result.raw.machine == 0:
        missing = "human" if result.raw.human == 0 else "machine"
        found.append(f"no {missing} text was judged: whatever needs both labels is left open")
    elif min(result.overall.human_clusters, result.overall.machine_clusters) < LEAST_TEXTS:
        unit = "sets" if result.cluster == "set" else "sources"
        fewest = min(result.overall.human_clusters, result.overall.machine_clusters)
        found.append(f"a label comes from only {fewest} {unit}: the bootstrap intervals are too narrow")
    if result.mixed:
        found.append(
            f"{result.mixed} texts mix sentences of people and machines: they are counted by attack and nowhere else"
        )
    if (result.layout_only_auroc or 0) > 0.7:
        found.append(
            f"layout alone tells the labels apart (AUROC {result.layout_only_auroc:.3f}): figures of a detector that "
            "sees layout say little here"
        )
    if (result.largest_change_by_layout or 0) > 0.1:
        found.append(f"layout alone moves a probability by up to {result.largest_change_by_layout:.2f}")
    return found
