"""The verdict on every row of a batch: the policy, evaluated on Arrow columns with numpy masks.

>>> from datetime import UTC, datetime
>>> from pipelines.records import EVIDENCE, TIMESTAMP
>>> at = pa.array([datetime(2020, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)], TIMESTAMP)
>>> decide(
...     load_policy(None), pa.array([[], []], EVIDENCE), at, pa.nulls(2, TIMESTAMP),
...     pa.array([None, 0.2], pa.float32()), cutoff=datetime(2022, 11, 30, tzinfo=UTC), threshold=0.9,
... ).verdict.to_pylist()
['dated', 'clear']
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.provenance.policy import Conditions, Policy, load_policy
from pipelines.records import TIMESTAMP

__all__ = ["Decisions", "decide", "load_policy"]

Mask = npt.NDArray[np.bool_]


class Decisions(NamedTuple):
    """One decision a row: the verdict, the place it leads to, and the index of the rule that gave it."""

    verdict: pa.StringArray
    place: pa.StringArray
    rule: pa.Int32Array


@dataclass(frozen=True)
class _Facts:
    """What rules ask of the rows."""

    captured_before_cutoff: Mask
    older_copy_before_cutoff: Mask
    probability: npt.NDArray[np.float32]  # NaN where no detector spoke
    abstained: Mask
    evidence: _EvidenceIndex
    threshold: float

    def hold(self, when: Conditions) -> Mask:
        """The rows on which all conditions hold."""
        mask = np.ones(len(self.probability), bool)
        for wanted, fact in (
            (when.captured_before_cutoff, self.captured_before_cutoff),
            (when.older_copy_before_cutoff, self.older_copy_before_cutoff),
            (when.detector_abstained, self.abstained),
        ):
            if wanted is not None:
                mask &= fact if wanted else ~fact
        if when.evidence_any is not None:
            mask &= self.evidence.any_of(when.evidence_any)
        if when.evidence_none is not None:
            mask &= ~self.evidence.any_of(when.evidence_none)
        if when.machine_probability_at_least is not None:
            mask &= self.probability >= self._bound(when.machine_probability_at_least)
        if when.machine_probability_below is not None:
            mask &= self.probability < self._bound(when.machine_probability_below)
        return mask

    def _bound(self, bound: float | str) -> np.float32:
        # Probabilities are stored as float32: 0.9 has to be compared as the number that 0.9 is stored as.
        return np.float32(self.threshold if isinstance(bound, str) else bound)


class _EvidenceIndex:
    """Which rows hold a finding of a kind."""

    def __init__(self, column: pa.ListArray) -> None:
        kinds = pc.struct_field(column.flatten(), "kind").dictionary_encode()
        self._rows = len(column)
        self._names = {name: code for code, name in enumerate(kinds.dictionary.to_pylist())}
        self._codes = kinds.indices.to_numpy(zero_copy_only=False)
        self._parents = column.value_parent_indices().to_numpy(zero_copy_only=False)

    def any_of(self, kinds: tuple[str, ...]) -> Mask:
        mask = np.zeros(self._rows, bool)
        wanted = np.zeros(len(self._names) + 1, bool)
        wanted[[self._names[kind] for kind in kinds if kind in self._names]] = True
        mask[self._parents[wanted[self._codes]]] = True
        return mask


def decide(
    policy: Policy,
    evidence: pa.ListArray,
    captured_at: pa.Array,
    older_captured_at: pa.Array,
    machine_probability: pa.Array,
    cutoff: datetime,
    threshold: float,
) -> Decisions:
    """The verdict, place and rule for each row.

    Args:
        policy: the rules and routes.
        evidence: type ``records.EVIDENCE``.
        captured_at: timestamps with time zone; null where unknown. Captured at the cut-off itself counts as after.
        older_captured_at: when the oldest verified near-duplicate was captured; null where there is none.
        machine_probability: float32, calibrated; null or NaN where no detector spoke.
        cutoff: with time zone.
        threshold: the detector's decision threshold, as ``threshold`` in the policy.

    Raises:
        ValueError: the columns differ in length, or the cut-off has no time zone.
    """
    rows = len(evidence)
    lengths = {len(captured_at), len(older_captured_at), len(machine_probability)}
    if lengths != {rows}:
        raise ValueError(f"the columns differ in length: {sorted(lengths | {rows})}")
    if cutoff.tzinfo is None:
        raise ValueError(f"cutoff: {cutoff} has no time zone")
    probability = np.asarray(machine_probability.cast(pa.float32()).fill_null(np.nan))
    facts = _Facts(
        captured_before_cutoff=_before(captured_at, cutoff),
        older_copy_before_cutoff=_before(older_captured_at, cutoff),
        probability=probability,
        abstained=np.isnan(probability),
        evidence=_EvidenceIndex(evidence),
        threshold=threshold,
    )
    rule = np.zeros(rows, np.int32)
    # From the last rule to the first, so that the first that holds has the last word.
    for at in reversed(range(len(policy.rules))):
        rule[facts.hold(policy.rules[at].when)] = at
    verdicts = pa.array([r.verdict.value for r in policy.rules])
    places = pa.array([policy.routes[r.verdict].value for r in policy.rules])
    index = pa.array(rule)
    return Decisions(verdicts.take(index), places.take(index), index)


def _before(times: pa.Array, cutoff: datetime) -> Mask:
    before = pc.less(times.cast(TIMESTAMP), pa.scalar(cutoff.astimezone(UTC), TIMESTAMP))
    return np.asarray(before.fill_null(False).to_numpy(zero_copy_only=False), bool)
