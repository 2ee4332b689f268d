"""Document entries on their way into the seal: sorted within a part, merged over all parts in memory that is bounded.

A part's file holds its entries (:mod:`pipelines.reserve.entries`), sorted, and nothing else. Its marker keeps how many
have each first byte of the `doc_id`, which is that of a hash: with 256 ranges of about the same size, what has to be
sorted at once is small, and each part's share of a range lies in one stretch of its file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from pipelines import files
from pipelines.reserve.encoding import Bytes
from pipelines.reserve.entries import DOC_ID, DOCUMENT_BYTES, sorted_entries

_RANGES: Final = 256
_AT_ONCE: Final = 500_000  # entries; 94 MB


class PartEntries(NamedTuple):
    """The file of one part, and how many of its entries have each first byte."""

    path: str
    counts: Sequence[int]


def write_entries(path: str, entries: Sequence[Bytes]) -> list[int]:
    """Writes the entries (n, 188) of one part, sorted; gives how many have each of the 256 first bytes."""
    whole = sorted_entries(np.concatenate([np.empty((0, DOCUMENT_BYTES), np.uint8), *entries]))
    files.write_bytes(path, whole.tobytes())
    return [int(count) for count in np.bincount(whole[:, DOC_ID.start], minlength=_RANGES)]


def merged(parts: Sequence[PartEntries], at_once: int = _AT_ONCE) -> Iterator[Bytes]:
    """(n, 188) of all parts' entries in the order of their bytes, some at a time.

    Args:
        parts: in any order.
        at_once: how many entries are sorted at a time, if no single first byte has more.
    """
    counts = np.array([part.counts for part in parts], np.int64).reshape(-1, _RANGES)
    ends = np.cumsum(counts, axis=1)
    begin = 0
    while begin < _RANGES:
        held = np.cumsum(counts[:, begin:].sum(axis=0))
        end = begin + max(1, int(np.searchsorted(held, at_once, side="right")))
        found = [np.empty((0, DOCUMENT_BYTES), np.uint8)]
        for part, own in zip(parts, ends, strict=True):
            found.append(_stretch(part.path, int(own[begin - 1]) if begin else 0, int(own[end - 1])))
        yield sorted_entries(np.concatenate(found))
        begin = end


def _stretch(path: str, first: int, last: int) -> Bytes:
    if first == last:
        return np.empty((0, DOCUMENT_BYTES), np.uint8)
    with files.open_read(path) as stream:
        stream.seek(first * DOCUMENT_BYTES)
        data = stream.read((last - first) * DOCUMENT_BYTES)
    if len(data) != (last - first) * DOCUMENT_BYTES:
        raise OSError(f"{path}: shorter than its marker says; delete the work folder and run again")
    return np.frombuffer(data, np.uint8).reshape(-1, DOCUMENT_BYTES)
