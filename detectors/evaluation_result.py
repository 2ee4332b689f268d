"""What an evaluation found, as plain data. Rates lie between 0 and 1, intervals are 95 %, None: cannot be told."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

Interval = tuple[float, float]
LEAST_TEXTS = 20  # with fewer texts, or sources of them, a rate says little


@dataclass(frozen=True)
class Measured:
    """One slice: ``by`` names the column, ``value`` its value; its texts are judged at the detector's own threshold.

    ``frozen_…`` are the rates at the thresholds for 1 % false positives, each frozen on text disjoint from what it is
    applied to. Intervals are clustered (:func:`detectors.clustered.clustered_share`). ``auroc_humans`` is ``slice``
    where the slice has human text of its own, and ``same sets`` where its machine text is ranked against the human text
    of the sets that it comes from.
    """

    by: str
    value: str
    human: int
    human_flagged: int
    false_positive_rate: float | None
    false_positive_interval: Interval
    machine: int
    machine_flagged: int
    true_positive_rate: float | None
    auroc: float | None
    true_positive_interval: Interval
    auroc_interval: Interval | None
    auroc_humans: str
    frozen_false_positive_rate: float | None
    frozen_false_positive_interval: Interval
    frozen_true_positive_rate: float | None
    frozen_true_positive_interval: Interval
    human_clusters: int
    machine_clusters: int
    too_few_human: bool
    too_few_machine: bool
    abstained: int


@dataclass(frozen=True)
class AtRate:
    """True and realised false positive rate at the two thresholds that allow ``rate`` on the other half's human text.

    All but ``rate`` and ``reason`` are None where the sample does not allow the rate.
    """

    rate: float
    thresholds: tuple[float, float] | None = None
    true_positive_rate: float | None = None
    true_positive_interval: Interval | None = None
    false_positive_rate: float | None = None
    false_positive_interval: Interval | None = None
    reason: str | None = None


@dataclass(frozen=True)
class ReliabilityBin:
    """Texts of like probability: the mean of it, and the share that are machine text."""

    probability: float
    observed: float
    low: float
    high: float
    weight: float
    texts: int


@dataclass(frozen=True)
class Calibrated:
    """Calibration at one prior; ``weighting`` says in words how much each text counts."""

    name: str
    prior: float
    weighting: str
    equal_width_error: float
    equal_width_interval: Interval | None
    equal_mass_error: float
    equal_mass_interval: Interval | None
    brier: float
    brier_interval: Interval | None
    reliability: float
    resolution: float
    uncertainty: float
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True)
class Selective:
    """Risk by coverage: ``points`` of (coverage, risk) among judged texts, and the area under them (AURC)."""

    points: tuple[tuple[float, float], ...]
    area: float
    area_interval: Interval | None
    judged_share: float  # of all texts, those on which the detector did not abstain of itself


@dataclass(frozen=True)
class View:
    """All headline figures on one view of the text: ``raw`` as it is, or ``levelled`` without layout."""

    name: str
    texts: int
    human: int
    machine: int
    abstained: int
    auroc: float | None
    auroc_interval: Interval | None
    at_rates: tuple[AtRate, ...]
    false_positive_rate: float | None
    false_positive_interval: Interval
    true_positive_rate: float | None
    true_positive_interval: Interval
    calibration: tuple[Calibrated, ...]
    selective: Selective | None
    roc: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Evaluation:
    """What :func:`detectors.evaluation.evaluate` measured. Rates are None where a label is missing.

    ``tpr_at_…`` are those of ``raw.at_rates``; ``expected_calibration_error`` is that in bins of equal width at prior
    0.5 with the sets weighted alike.
    """

    detector: str
    digest: str
    text_digest: str
    split: str
    texts: int
    seen_in_training: int
    skipped: int
    mixed: int
    abstained: dict[str, int]
    threshold: float
    auroc: float | None
    tpr_at_1_percent_fpr: float | None
    tpr_at_0_1_percent_fpr: float | None
    tpr_at_0_01_percent_fpr: float | None
    expected_calibration_error: float | None
    layout_only_auroc: float | None
    largest_change_by_layout: float | None
    cluster: str
    clusters: int
    draws: int
    seed: int
    raw: View
    levelled: View | None
    overall: Measured
    slices: tuple[Measured, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)
