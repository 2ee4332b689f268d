"""A cheap detector for the clear cases and an expensive one for the rest.

    cascade = Cascade(Embedded(), load_detector("binoculars/"), Band(0.08, 0.97))
    scores = cascade.score(texts, languages)
    cascade.counts.sent, cascade.counts.seen       # how many texts the expensive one has read
    scores.decided[0]                              # "the cheap detector, embedded"

Where the cheap detector's probability lies outside the band, its verdict stands; inside, and where it abstains, the
expensive one is asked. The band is chosen so that the verdicts are the expensive detector's own on a given share of
texts while as few as possible are sent: :func:`choose_band`, which :mod:`detectors.cascade_fitting` applies to text.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.base import Detector, ErrorRates, Scores, clopper_pearson

CHEAP = "the cheap detector, "  # how Scores.decided begins where the expensive one was not asked
EXPENSIVE = "the expensive detector, "
_NEVER = 2.0  # an edge that no probability reaches

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


class Band(NamedTuple):
    """Cheap probabilities p with low ≤ p < high go to the expensive detector; below is clear, above is flagged."""

    low: float
    high: float

    def holds(self, probability: Float) -> Bool:
        """Which probabilities are inside, bool[n]."""
        return np.asarray((probability >= self.low) & (probability < self.high), np.bool_)


@dataclass
class Counts:
    """What a cascade has done since it was made; the counters only rise."""

    seen: int = 0  # texts
    sent: int = 0  # texts that the expensive detector was given
    seen_characters: int = 0
    sent_characters: int = 0
    cheap_seconds: float = 0.0
    expensive_seconds: float = 0.0


@dataclass
class Cascade:
    """Two detectors as one. Picklable; the counters start anew in a copy.

    The probability is the expensive detector's where it was asked. Elsewhere it is the cheap one's, moved where needed
    to the side of the expensive detector's decision threshold on which its verdict falls. ``score`` is the log-odds of
    the probability.
    """

    cheap: Detector
    expensive: Detector
    band: Band
    rates: ErrorRates | None = None  # None: those of the expensive detector
    counts: Counts = field(default_factory=Counts)
    name: str = "cascade"

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "counts": Counts()}

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of both detectors' digests and the band."""
        parts = f"{self.cheap.digest} {self.expensive.digest} {self.band.low!r} {self.band.high!r} {self.rates!r}"
        return hashlib.sha256(parts.encode()).hexdigest()

    def error_rates(self) -> ErrorRates:
        """The error rates measured for the cascade; where none were, those of the expensive detector."""
        return self.rates or self.expensive.error_rates()

    def load(self) -> None:
        """Loads both models now rather than at the first text."""
        for part in (self.cheap, self.expensive):
            if callable(getattr(part, "load", None)):
                part.load()  # type: ignore[attr-defined]

    def score(self, texts: Sequence[str], languages: Sequence[str | None]) -> Scores:
        """Scores n texts; see :class:`detectors.base.Detector`. Raises ValueError where the lengths differ."""
        began = time.perf_counter()
        first = self.cheap.score(texts, languages)
        between = time.perf_counter()
        cheap = first.probability.astype(np.float64)
        sent = np.flatnonzero(np.isnan(cheap) | self.band.holds(cheap)).tolist()
        threshold = self.expensive.error_rates().decision.threshold
        probability = beside(first.probability, self.band, threshold)
        abstained = list(first.abstained)
        second = self.expensive.score([texts[row] for row in sent], [languages[row] for row in sent])
        probability[sent] = second.probability
        for row, reason in zip(sent, second.abstained, strict=True):
            abstained[row] = reason
        decided = [CHEAP + self.cheap.name] * len(texts)
        for row in sent:
            decided[row] = EXPENSIVE + self.expensive.name
        self._count(texts, sent, between - began, time.perf_counter() - between)
        return Scores(_log_odds(probability), probability, abstained, decided)

    def _count(self, texts: Sequence[str], sent: Sequence[int], cheap: float, expensive: float) -> None:
        self.counts.seen += len(texts)
        self.counts.sent += len(sent)
        self.counts.seen_characters += sum(map(len, texts))
        self.counts.sent_characters += sum(len(texts[row]) for row in sent)
        self.counts.cheap_seconds += cheap
        self.counts.expensive_seconds += expensive


def beside(probability: npt.NDArray[np.float32], band: Band, threshold: float) -> npt.NDArray[np.float32]:
    """The cheap probabilities outside the band, each on the side of the threshold where its verdict falls.

    float32[n] → float32[n]; NaN stays NaN.
    """
    least = np.float32(threshold)
    if float(least) < threshold:
        least = np.nextafter(least, np.float32(2))
    below = np.nextafter(least, np.float32(-1))
    with np.errstate(invalid="ignore"):
        flagged = probability.astype(np.float64) >= band.high
        moved = np.where(flagged, np.maximum(probability, least), np.minimum(probability, below))
    return np.where(np.isnan(probability), probability, moved).astype(np.float32)


def _log_odds(probability: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    p = np.clip(probability.astype(np.float64), 1e-9, 1 - 1e-9)
    return np.asarray(np.log(p) - np.log1p(-p), np.float32)


def choose_band(
    cheap: Float, flagged: Bool, agreement: float = 0.95, level: float = 0.95, flagged_agreement: float | None = None
) -> Band:
    """The band that sends fewest texts while the cascade's verdicts are the expensive detector's own.

    On all texts, and on those alone that the expensive one flags: where these are few, calling everything clear would
    agree nearly always.

    Args:
        cheap: the cheap detector's probabilities, float64[n], without NaN.
        flagged: the expensive detector's verdicts on the same texts, bool[n].
        agreement: share of the texts on which the verdicts are to be the same.
        level: how sure that is to be: the one-sided Clopper-Pearson bound of the share holds at this level. Texts
            must be many enough: n ≥ 59 for 95 % at 95 %. Where they are too few all are sent.
        flagged_agreement: the share of the flagged texts that the cascade is to flag too; None: ``agreement``. It holds
            at the same level; where the flagged texts are too few for that, none of them may be missed.

    Both edges are searched, exactly: for each low edge the least high edge that the errors left over allow; of bands
    that send equally many, the one with fewest errors.
    """
    if len(cheap) != len(flagged):
        raise ValueError(f"{len(cheap)} probabilities but {len(flagged)} verdicts")
    if np.isnan(cheap).any():
        raise ValueError("a band is chosen on texts on which the cheap detector speaks; a probability is NaN")
    allowed = _allowed_errors(len(cheap), agreement, level)
    if allowed < 0:
        return Band(0.0, _NEVER)
    of_flagged = agreement if flagged_agreement is None else flagged_agreement
    may_miss = max(0, _allowed_errors(int(flagged.sum()), of_flagged, level))
    values, inverse = np.unique(cheap, return_inverse=True)
    size = np.bincount(inverse, minlength=len(values))
    hits = np.bincount(inverse, flagged, len(values)).astype(np.int64)
    # An edge at place i lies before the i-th value: texts below it are clear, texts from it on are flagged.
    missed = np.r_[0, np.cumsum(hits)]
    false = np.r_[0, np.cumsum((size - hits)[::-1])][::-1]
    before = np.r_[0, np.cumsum(size)]
    best, cost = (0, len(values)), (int(before[-1]), 0)
    for low in range(len(values) + 1):
        left = allowed - int(missed[low])
        if left < 0 or missed[low] > may_miss:
            break
        high = max(low, int(np.searchsorted(-false, -left)))
        here = int(before[high] - before[low]), int(missed[low] + false[high])
        if here < cost:
            best, cost = (low, high), here
    edges = np.r_[0.0, (values[1:] + values[:-1]) / 2, _NEVER]
    return Band(float(edges[best[0]]), float(edges[best[1]]))


def _allowed_errors(texts: int, agreement: float, level: float) -> int:
    """The most differing verdicts of so many at which the share that agrees is still surely large enough; -1: none."""
    low, high = -1, int(texts * (1 - agreement))
    while low < high:
        middle = (low + high + 1) // 2
        if clopper_pearson(texts - middle, texts, 2 * level - 1)[0] >= agreement:
            low = middle
        else:
            high = middle - 1
    return low
