"""Which copy stays: the earliest capture, since it bounds when the text came to be.

Captures at the same time, or without any, are decided by ``doc_id``, and rows of the same ``doc_id`` by where they lie,
so the choice is the same in every run.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# An unknown capture time comes after all known ones.
UNKNOWN = np.int64(np.iinfo(np.int64).max)


def keep_order(
    group: npt.NDArray[np.uint64],
    captured_at: npt.NDArray[np.int64],
    doc_id: npt.NDArray[np.uint8],
    handle: npt.NDArray[np.uint64],
) -> npt.NDArray[np.int64]:
    """The permutation that sorts documents by group and, within one, puts the copy that stays first.

    ``captured_at`` is in microseconds since 1970, :data:`UNKNOWN` where unknown; ``doc_id`` is uint8[n, 16], compared
    as bytes; ``handle`` is shard ordinal and row.
    """
    identity = np.ascontiguousarray(doc_id).view(">u8").reshape(-1, 2)
    return np.lexsort((handle, identity[:, 1], identity[:, 0], captured_at, group))
