"""Detectors that stand beside the one that decides: what each says of a document is noted, and its share estimated.

Several detectors are never averaged. One decides verdicts; of each other one every document carries the probability
as an item of evidence of its own kind, for which no policy asks and of which no posterior comes::

    others = named([load_detector("fast-detect/")], deciding=load_detector("embedded"))
    opinion(documents["evidence"], "fast-detect")  # float32, null where it abstained
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from detectors.base import Detector

OPINION = "opinion"


def named(detectors: Sequence[Detector], deciding: Detector | None) -> dict[str, Detector]:
    """The detectors by the name that outputs give them: their own, with digits of their digest where two share it.

    Raises ValueError where a detector is there twice.
    """
    found = [*([deciding] if deciding else []), *detectors]
    if len({detector.digest for detector in found}) < len(found):
        raise ValueError("one detector is named twice; the one that decides (inspect.detector) counts in any case")
    shared = Counter(detector.name for detector in found)
    names = [d.name if shared[d.name] == 1 else f"{d.name}-{d.digest[:8]}" for d in detectors]
    return dict(zip(names, detectors, strict=True))


def opinion(evidence: pa.ListArray, name: str) -> pa.Array:
    """The probability (rows,) float32 that the detector of this name noted; null where it has none."""
    found = evidence.flatten()
    mask = pc.and_(pc.equal(found.field("source"), name), pc.equal(found.field("kind"), OPINION))
    at = evidence.value_parent_indices().filter(mask).to_numpy()
    rows = np.full(len(evidence), -1, np.int64)
    rows[at] = np.arange(len(at))
    return found.field("probability").filter(mask).take(pa.array(rows, mask=rows < 0))
