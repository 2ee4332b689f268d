"""What a cascade of detectors did in a run: how many documents its expensive detector was given.

Each part of a shard counts its own documents from their evidence and keeps the counts in its marker, so that a run that
goes on where an earlier one stopped has them all::

    counts = cascade_counts(staged, "cascade")        # of one batch
    total = summed([counts, …])
    print(cascade_sentence(total))

The seconds stand in the markers alone: what a run writes does not depend on how fast it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from detectors.cascade import CHEAP

DECIDED = "decided by "  # how the detail of a detector's evidence begins where one of several spoke

Counts = dict[str, int]
NONE: Counts = {"seen": 0, "sent": 0, "seen_characters": 0, "sent_characters": 0}


def cascade_counts(staged: pa.RecordBatch, name: str) -> Counts:
    """Documents and characters that the cascade of this name saw, and those that it sent to its expensive detector.

    Args:
        staged: a batch of ``records.STAGED`` whose evidence holds one finding of the cascade for each document.
        name: the source of that finding. Where it abstains, both detectors were asked.
    """
    evidence = staged.column("evidence")
    found = evidence.flatten()
    sent = pc.and_(
        pc.equal(found.field("source"), name),
        pc.invert(pc.starts_with(pc.fill_null(found.field("detail"), ""), DECIDED + CHEAP)),
    )
    characters = pc.utf8_length(staged.column("text"))
    of_sent = characters.take(evidence.value_parent_indices().filter(sent))
    return {
        "seen": staged.num_rows,
        "sent": len(of_sent),
        "seen_characters": pc.sum(characters).as_py() or 0,
        "sent_characters": pc.sum(of_sent).as_py() or 0,
    }


def summed(parts: Iterable[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """The sums of all keys; None where no part has counts."""
    total: dict[str, Any] = {}
    for part in parts:
        for key, value in (part or {}).items():
            total[key] = total.get(key, 0) + value
    return total or None


def cascade_sentence(counts: Mapping[str, int]) -> str:
    """What was sent, in one sentence."""
    return (
        f"Cascade: {counts['sent']:,} of {counts['seen']:,} documents ({_share(counts, '')}) and "
        f"{_share(counts, '_characters')} of their characters went to the expensive detector."
    )


def timing(counts: Mapping[str, Any]) -> str:
    """The time of both detectors, summed over the workers."""
    cheap, expensive = counts["cheap_seconds"], counts["expensive_seconds"]
    return f"cascade  {cheap:.1f} s in the cheap detector, {expensive:.1f} s in the expensive one, all workers together"


def _share(counts: Mapping[str, int], what: str) -> str:
    return f"{counts[f'sent{what}'] / max(counts[f'seen{what}'], 1):.1%}".replace("%", " %")
