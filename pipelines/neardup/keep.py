"""Orders of documents: by capture, which dates a text, and by preference, which says the copy that stays.

Ties are decided by ``doc_id``, and rows of the same ``doc_id`` by where they lie, so the choice is the same in every
run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.neardup.options import Preference

# An unknown capture time comes after all known ones.
UNKNOWN = np.int64(np.iinfo(np.int64).max)


def keep_order(documents: npt.NDArray[Any], keep: Sequence[Preference]) -> npt.NDArray[np.int64]:
    """The permutation that sorts documents by block and, within one, by preference, the copy that stays first.

    ``documents`` is a structured array with ``block``, ``captured_at`` (microseconds since 1970, :data:`UNKNOWN` where
    unknown), ``findings``, ``length``, ``doc_id`` (uint8[16], compared as bytes) and ``handle``. The earliest capture
    comes first, and the most findings: what is known of a text must not go with the copy that goes. So does the
    longest text.
    """
    identity = np.ascontiguousarray(documents["doc_id"]).view(">u8").reshape(-1, 2)
    columns = {
        "captured_at": documents["captured_at"],
        "findings": -documents["findings"].astype(np.int64),
        "length": -documents["length"].astype(np.int64),
    }
    preferences = [columns[name] for name in reversed(keep)]
    return np.lexsort((documents["handle"], identity[:, 1], identity[:, 0], *preferences, documents["block"]))
