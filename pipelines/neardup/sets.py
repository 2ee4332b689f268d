"""The shingle sets of texts: what two documents are compared by where signatures leave a doubt.

>>> hashes, offsets = shingle_sets(pa.array(["a b a b a b", "a"], pa.large_string()), 2)
>>> np.diff(offsets).tolist()
[2, 1]
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.neardup.shingles import shingle_hashes


def shingle_sets(texts: pa.LargeStringArray, size: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    """The distinct shingle hashes of each text, ascending.

    Row i has ``hashes[offsets[i] : offsets[i + 1]]`` and at least one; nulls are read as empty texts.
    """
    hashes, offsets = shingle_hashes(texts, size)
    distinct = np.zeros(len(offsets), np.int64)
    _make_sets(hashes, offsets, distinct)
    return hashes[: distinct[-1]].copy(), distinct


@numba.njit(cache=True, nogil=True)
def _make_sets(hashes, offsets, distinct):  # type: ignore[no-untyped-def]
    """Sorts each row's hashes and moves the distinct ones to the front; ``distinct`` takes where they then lie."""
    at = 0
    for row in range(len(offsets) - 1):
        own = np.sort(hashes[offsets[row] : offsets[row + 1]])
        for i in range(len(own)):
            if i == 0 or own[i] != own[i - 1]:
                hashes[at] = own[i]
                at += 1
        distinct[row + 1] = at
