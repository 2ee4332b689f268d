"""Chooses the band of a cascade on labelled text, and measures on other text what the cascade keeps and saves.

    fitted = fit_cascade(Embedded(), load_detector("binoculars/"), read_corpus(Path("sets/")))
    fitted.record["agreement"], fitted.record["sent"]

Text that either detector was trained or calibrated on is left out. What remains is halved by group: the band is chosen
on one half, everything that is reported is counted on the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from detectors.base import HELD_OUT, Detector, ErrorRates, OperatingPoint, Scores, SliceRates, clopper_pearson
from detectors.cascade import Cascade, choose_band
from detectors.corpus import TRAIN, Bool, Corpus, Int, components, split, text_key

Progress = Callable[[str], None]
_LEVEL = 0.95
_BLOCK = 256
_FEW = 30  # flagged texts below which a share of them says next to nothing


@dataclass(frozen=True)
class CascadeOptions:
    """How to choose the band.

    Attributes:
        agreement: share of verdicts that are to be the expensive detector's own.
        flagged_agreement: the same among the texts that the expensive detector flags; None: as ``agreement``.
        texts: texts of each set and label at most, drawn by their hash; None: all.
        seed: of the halves.
    """

    agreement: float = 0.95
    texts: int | None = 500
    seed: int = 19_501_001  # not that of training: what training left over lies on one side of its own split
    flagged_agreement: float | None = None

    def __post_init__(self) -> None:
        for name in ("agreement", "flagged_agreement"):
            share = getattr(self, name)
            if share is not None and not 0 < share < 1:
                raise ValueError(f"{name} is {share}; it lies between 0 and 1")


class FittedCascade(NamedTuple):
    """A cascade and what was measured of it."""

    cascade: Cascade
    record: dict[str, Any]  # plain JSON types


def fit_cascade(
    cheap: Detector,
    expensive: Detector,
    corpus: Corpus,
    options: CascadeOptions | None = None,
    progress: Progress | None = None,
) -> FittedCascade:
    """Chooses the band and measures the cascade. Raises ValueError where the text does not suffice."""
    options = options or CascadeOptions()
    say = progress or (lambda line: None)
    threshold = expensive.error_rates().decision.threshold
    corpus = corpus.take(_sample(corpus, unseen(corpus, cheap, expensive), options))
    half = split(corpus, components(corpus), options.seed, (0.5, 0.0)) == TRAIN
    chosen, counted = corpus.take(np.flatnonzero(half)), corpus.take(np.flatnonzero(~half))
    if not len(chosen) or not len(counted):
        raise ValueError("too little text that neither detector was trained or calibrated on; give other sets")
    first, _ = _timed(cheap, chosen, say, "choosing, cheap")
    second, _ = _timed(expensive, chosen, say, "choosing, expensive")
    both = ~np.isnan(first.probability) & ~np.isnan(second.probability)
    flagged = second.probability[both].astype(np.float64) >= threshold
    probability = first.probability[both].astype(np.float64)
    band = choose_band(probability, flagged, options.agreement, _LEVEL, options.flagged_agreement)
    cascade = Cascade(cheap, expensive, band)
    record, own = _measure(cascade, counted, threshold, say)
    rates = _rates(own, counted, expensive.error_rates())
    record |= {"chosen_on": int(both.sum()), "chosen_on_flagged": int(flagged.sum())}
    record |= {"band": list(band), "options": asdict(options), "warnings": _warnings(record)}
    return FittedCascade(Cascade(cheap, expensive, band, rates), record)


def _warnings(record: dict[str, Any]) -> list[str]:
    halves = {"chosen": record["chosen_on_flagged"], "measured": record["flagged"]}
    few = [f"{count} of the texts on which the cascade was {what}" for what, count in halves.items() if count < _FEW]
    return (
        [f"the expensive detector flags only {' and '.join(few)}: agreement on flagged text is uncertain"]
        if few
        else []
    )


def unseen(corpus: Corpus, *detectors: Detector) -> Bool:
    """The rows that none of the detectors says it was trained or calibrated on, by text or by group; bool[n]."""
    kept = np.ones(len(corpus), np.bool_)
    texts = [text_key(text) for text in corpus.levelled]
    groups = [text_key(group) for group in corpus.groups.tolist()]
    for detector in detectors:
        if callable(getattr(detector, "seen", None)):
            seen = detector.seen()  # type: ignore[attr-defined]
            kept &= ~(seen.contains(texts) | seen.contains(groups))
    return kept


def _sample(corpus: Corpus, kept: Bool, options: CascadeOptions) -> Int:
    rows = np.flatnonzero(kept).tolist()
    if options.texts is None:
        return np.array(rows, np.int64)
    taken: dict[tuple[str, bool], int] = {}
    found = []
    for row in sorted(rows, key=lambda row: (text_key(corpus.levelled[row]), row)):
        cell = (str(corpus.sets[row]), bool(corpus.machine[row]))
        taken[cell] = taken.get(cell, 0) + 1
        if taken[cell] <= options.texts:
            found.append(row)
    return np.array(sorted(found), np.int64)


def _timed(detector: Detector, corpus: Corpus, say: Progress, what: str) -> tuple[Scores, float]:
    detector.score(corpus.texts[:1], corpus.languages[:1].tolist())  # loads the model, which is no part of the time
    parts = []
    seconds = 0.0
    for start in range(0, len(corpus), _BLOCK):
        began = time.perf_counter()
        here = slice(start, start + _BLOCK)
        parts.append(detector.score(corpus.texts[here], corpus.languages[here].tolist()))
        seconds += time.perf_counter() - began
        say(f"{what}: {min(start + _BLOCK, len(corpus))} of {len(corpus)} texts")
    return (
        Scores(
            np.concatenate([part.score for part in parts]),
            np.concatenate([part.probability for part in parts]),
            [reason for part in parts for reason in part.abstained],
        ),
        seconds,
    )


def _measure(cascade: Cascade, corpus: Corpus, threshold: float, say: Progress) -> tuple[dict[str, Any], Scores]:
    """Scores a corpus by the expensive detector and by the cascade, in seconds and verdicts."""
    alone, alone_seconds = _timed(cascade.expensive, corpus, say, "measuring, expensive")
    own, seconds = _timed(cascade, corpus, say, "measuring, cascade")
    cheap = cascade.cheap.score(corpus.texts, corpus.languages.tolist()).probability.astype(np.float64)
    sent = np.isnan(cheap) | cascade.band.holds(cheap)
    judged = ~np.isnan(alone.probability)
    flagged = _verdicts(alone, threshold) == 1
    same = _verdicts(own, threshold) == _verdicts(alone, threshold)
    characters = np.array([len(text) for text in corpus.texts])
    agreeing, texts = int(same[judged].sum()), int(judged.sum())
    found, flags = int(same[flagged].sum()), int(flagged.sum())
    record = {
        "texts": len(corpus),
        "judged": texts,  # by the expensive detector
        "flagged": flags,  # by the expensive detector
        "same_verdict": agreeing,
        "agreement": agreeing / texts if texts else None,
        "agreement_interval": list(clopper_pearson(agreeing, texts, _LEVEL)),
        "flagged_by_both": found,
        "flagged_agreement": found / flags if flags else None,
        "flagged_agreement_interval": list(clopper_pearson(found, flags, _LEVEL)),
        "sent": int(sent.sum()),
        "sent_share": float(sent.mean()),
        "sent_share_of_characters": float(characters[sent].sum() / characters.sum()),
        "seconds": round(seconds, 3),
        "expensive_seconds": round(alone_seconds, 3),
        "time_share": round(seconds / alone_seconds, 4),
    }
    return record, own


def _verdicts(scores: Scores, threshold: float) -> Int:
    """1 flagged, 0 not, -1 abstained; int64[n]."""
    probability = scores.probability.astype(np.float64)
    flagged = np.where(np.isnan(probability), 0.0, probability) >= threshold
    return np.where(np.isnan(probability), -1, flagged).astype(np.int64)


def _rates(own: Scores, corpus: Corpus, expensive: ErrorRates) -> ErrorRates:
    """The cascade's own counts, at the expensive detector's thresholds; only on held-out text of whatever set."""

    def point(threshold: float) -> OperatingPoint:
        verdicts = _verdicts(own, threshold)
        slices = []
        whole = [("", str(code)) for code in np.unique(corpus.languages[verdicts >= 0])]
        fine = sorted({(str(name), str(code)) for name, code in zip(corpus.sets, corpus.languages, strict=True)})
        for name, code in [*whole, *fine]:
            here = (verdicts >= 0) & (corpus.languages == code) & ((corpus.sets == name) | (name == ""))
            human, machine = verdicts[here & ~corpus.machine], verdicts[here & corpus.machine]
            counts = (len(human), int(human.sum()), len(machine), int(machine.sum()))
            if here.any():
                slices.append(SliceRates(HELD_OUT, name, "", "", code, *counts))
        return OperatingPoint(threshold, tuple(slices))

    return ErrorRates("cascade", point(expensive.decision.threshold), point(expensive.quantification.threshold))
