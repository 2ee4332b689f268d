"""Scores counted in fixed bins: what estimates of a share need of a set of texts, in 64 whole numbers.

The bins are a quarter wide on the log-odds of the calibrated probability at prior 0.5, from -8 to 8; the first and the
last hold what lies beyond. Counts of the same bins add up exactly, in any order, so that a histogram of any slice can
be merged from those of its parts::

    counts = histogram(detector.score(texts, languages).probability)  # (64,) int64; abstentions are not counted
    merged = counts + histogram(others)

What is known of a detector from *left-out* text (sets that model and calibration never saw) is one pair of histograms a
set and language, :class:`SetHistograms`, made by :func:`set_histograms` from a table of scores that
:func:`score_table` builds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from detectors.base import ASSISTANTS, LEFT_OUT

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

BINS = 64
EDGES: Float = np.linspace(-8.0, 8.0, BINS + 1)
CENTRES: Float = (EDGES[:-1] + EDGES[1:]) / 2
# Probabilities are compared, in float32, with these: no logarithm whose last bit differs between machines decides.
_INNER = (1 / (1 + np.exp(-EDGES[1:-1]))).astype(np.float32)

SCORES = pa.schema(
    [
        pa.field("set", pa.string(), nullable=False),  # what was left out together
        pa.field("domain", pa.string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),  # human or machine
        pa.field("group", pa.string(), nullable=False),  # texts of one group are no independent evidence
        pa.field("assistant", pa.bool_(), nullable=False),  # false: machine text that a base model continued
        pa.field("log_odds", pa.float32(), nullable=False),  # calibrated without this set, at prior 0.5
        pa.field("tokens", pa.int32(), nullable=False),
    ]
)


@dataclass(frozen=True)
class SetHistograms:
    """The scores of one left-out set in one language, counted in the 64 bins.

    ``human_groups`` and ``machine_groups`` are how many independent texts the counts are worth: many versions of one
    original err together. ``kind`` is LEFT_OUT, or ASSISTANTS for the same without the text of base models.
    """

    kind: str
    set: str
    language: str
    human: tuple[int, ...]
    machine: tuple[int, ...]
    human_groups: int
    machine_groups: int

    def __post_init__(self) -> None:
        for name, counts in (("human", self.human), ("machine", self.machine)):
            if len(counts) != BINS or min(counts) < 0:
                raise ValueError(f"histogram {self.set!r}: {name} must hold {BINS} counts, none below 0")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self) | {"human": list(self.human), "machine": list(self.machine)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SetHistograms:
        """The inverse of :meth:`to_dict`. Raises TypeError or ValueError where the data has another shape."""
        return cls(**{**data, "human": tuple(data["human"]), "machine": tuple(data["machine"])})


def bin_of(probability: npt.ArrayLike) -> Int:
    """The bin of each calibrated probability, 0 to 63; any shape. NaN is not allowed."""
    return np.searchsorted(_INNER, np.asarray(probability, np.float32), side="right").astype(np.int64)


def histogram(probability: npt.ArrayLike) -> Int:
    """(64,) counts of probabilities of shape (n,); NaN, where the detector abstained, is left out."""
    values = np.asarray(probability, np.float32)
    return np.bincount(bin_of(values[~np.isnan(values)]), minlength=BINS)


def probability_of(log_odds: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """The probability at prior 0.5 of log-odds, float32; the same shape."""
    return (1 / (1 + np.exp(-np.clip(np.asarray(log_odds, np.float64), -30, 30)))).astype(np.float32)


def score_table(columns: Mapping[str, Sequence[Any] | npt.NDArray[Any]]) -> pa.Table:
    """A table of :data:`SCORES` from columns of one length, one row a left-out text.

    Raises ValueError where a column is missing, a label is neither ``human`` nor ``machine``, or log-odds are NaN.
    """
    missing = [name for name in SCORES.names if name not in columns]
    if missing:
        raise ValueError(f"scores: no column {missing[0]!r}; needed are {', '.join(SCORES.names)}")
    table = pa.table({name: pa.array(columns[name]) for name in SCORES.names}).cast(SCORES)
    odd = sorted(set(table["label"].unique().to_pylist()) - {"human", "machine"})
    if odd:
        raise ValueError(f"scores: label {odd[0]!r} is neither 'human' nor 'machine'")
    if np.isnan(table["log_odds"].to_numpy()).any():
        raise ValueError("scores: log_odds holds NaN; leave out the texts on which the detector abstains")
    return table


def set_histograms(scores: pa.Table, kinds: Sequence[str] = (ASSISTANTS, LEFT_OUT)) -> tuple[SetHistograms, ...]:
    """One :class:`SetHistograms` for each kind, set and language of a table of :data:`SCORES`, in sorted order."""
    columns = {name: scores[name].to_numpy() for name in ("set", "language", "label", "group", "assistant")}
    bins, machine = bin_of(probability_of(scores["log_odds"].to_numpy())), columns["label"] == "machine"
    found = []
    for kind in sorted(kinds):
        counted = ~machine | columns["assistant"] if kind == ASSISTANTS else np.ones(len(machine), np.bool_)
        for name, language in sorted(set(zip(columns["set"], columns["language"], strict=True))):
            here = counted & (columns["set"] == name) & (columns["language"] == language)
            human, of_machine = (
                tuple(np.bincount(bins[here & of], minlength=BINS).tolist()) for of in (~machine, machine)
            )
            groups = [len(np.unique(columns["group"][here & of])) for of in (~machine, machine)]
            found.append(SetHistograms(kind, str(name), str(language), human, of_machine, groups[0], groups[1]))
    return tuple(found)
