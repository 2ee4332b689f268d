"""What every text detector offers: scores, calibrated probabilities, reasons to abstain, and its measured error rates.

A detector is written against :class:`Detector` and knows nothing of pipelines::

    from detectors.embedded import Embedded

    scores = Embedded().score(["some text …"], ["en"])
    scores.probability[0], scores.abstained[0]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

TOO_SHORT = "too_short"
LANGUAGE = "language"

LEFT_OUT = "leave_one_set_out"  # model, and what else was fitted, never saw the set
ASSISTANTS = "leave_one_set_out_assistants"  # the same, without the machine text of base models
HELD_OUT = "test"  # texts of known sets that training did not see


class Scores(NamedTuple):
    """What a detector says of n texts."""

    score: npt.NDArray[np.float32]  # shape (n,), log-odds before calibration; NaN where the detector abstains
    probability: npt.NDArray[
        np.float32
    ]  # shape (n,), calibrated, of machine origin at prior 0.5; NaN where it abstains
    abstained: list[str | None]  # TOO_SHORT, LANGUAGE, or None where it speaks
    decided: list[str] | None = None  # of a detector made of others: in words, which of them spoke or abstained


@dataclass(frozen=True)
class SliceRates:
    """Counts at one threshold on one slice of labelled texts. Empty strings mean: all of them."""

    kind: str  # LEFT_OUT, ASSISTANTS or HELD_OUT
    set: str
    domain: str
    length: str  # "short", "medium", "long": see LENGTHS
    language: str
    human: int
    human_flagged: int
    machine: int
    machine_flagged: int

    @property
    def name(self) -> str:
        """The slice's parts, joined by a slash."""
        return "/".join(part for part in (self.set, self.domain, self.length, self.language) if part)

    @property
    def false_positive_rate(self) -> float:
        """Flagged share of the human texts; NaN where there is none."""
        return self.human_flagged / self.human if self.human else float("nan")

    @property
    def true_positive_rate(self) -> float:
        """Flagged share of the machine texts; NaN where there is none."""
        return self.machine_flagged / self.machine if self.machine else float("nan")


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold on the probability (flagged: probability ≥ threshold) and what was measured at it."""

    threshold: float
    slices: tuple[SliceRates, ...]

    def of_kind(self, kind: str) -> tuple[SliceRates, ...]:
        """The slices of one kind: LEFT_OUT, ASSISTANTS or HELD_OUT."""
        return tuple(part for part in self.slices if part.kind == kind)


@dataclass(frozen=True)
class ErrorRates:
    """Measured error rates of a detector, as statistics need them.

    ``decision`` is for verdicts on single documents: few false positives in the worst slice. ``quantification`` is for
    estimating a share: it maximises the true minus the false positive rate. The LEFT_OUT slices tell how far the rates
    vary between sources, one slice a set and language; only they say what to expect of a source that is new. The
    ASSISTANTS slices are the same without text that base models continued: what the web is written with are assistants,
    and hardly anything finds continuations. The HELD_OUT slices are set × domain × length × language, and for each
    language one over all of it (empty set).
    """

    detector: str
    decision: OperatingPoint
    quantification: OperatingPoint

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ErrorRates:
        """The inverse of :meth:`to_dict`. Raises KeyError or TypeError where the data has another shape."""

        def point(part: Mapping[str, Any]) -> OperatingPoint:
            return OperatingPoint(float(part["threshold"]), tuple(SliceRates(**one) for one in part["slices"]))

        return cls(data["detector"], point(data["decision"]), point(data["quantification"]))


class Detector(Protocol):
    """Text in, score out. Implementations are picklable and load their model on first use."""

    name: str

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the model and its calibration: the same digest gives the same scores."""

    def score(self, texts: Sequence[str], languages: Sequence[str | None]) -> Scores:
        """Scores n texts; ``languages`` are ISO 639-1 codes, None where unknown. Never raises on odd text."""

    def error_rates(self) -> ErrorRates:
        """The error rates measured when the detector was trained."""


# Lower bounds on the number of tokens of the levelled view.
LENGTHS: tuple[tuple[str, int], ...] = (("short", 0), ("medium", 150), ("long", 400))


def length_bucket(tokens: int) -> str:
    """The name of the length bucket of a text of that many tokens."""
    return next(name for name, least in reversed(LENGTHS) if tokens >= least)


def clopper_pearson(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """The exact two-sided interval of a binomial proportion (Clopper and Pearson, 1934); (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    tail = (1 - level) / 2
    low = betaincinv(successes, trials - successes + 1, tail) if successes else 0.0
    high = betaincinv(successes + 1, trials - successes, 1 - tail) if successes < trials else 1.0
    return float(low), float(high)
