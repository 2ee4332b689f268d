"""Entries of many parts become one sorted sequence, however they lie in the parts."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.reserve.entries import DOCUMENT_BYTES
from pipelines.reserve.unsealed import PartEntries, merged, write_entries


@pytest.mark.parametrize("at_once", [1, 100, 10**6])
@pytest.mark.parametrize("sizes", [[], [0], [1], [700, 0, 1, 299], [50] * 20])
def test_merged_is_sorted(tmp_path: Path, sizes: list[int], at_once: int) -> None:
    random = np.random.default_rng(1)
    whole = random.integers(0, 256, (sum(sizes), DOCUMENT_BYTES), np.uint8)
    whole[:, :2] = 1
    whole[::3, 2] = 7  # a first byte that many share
    whole[1::5, 2:150] = 0
    parts, at = [], 0
    for number, size in enumerate(sizes):
        path = str(tmp_path / str(number))
        both = [whole[at : at + size // 2], whole[at + size // 2 : at + size]]
        parts.append(PartEntries(path, write_entries(path, both)))
        at += size
    expected = sorted(row.tobytes() for row in whole)
    for order in (parts, parts[::-1]):
        chunks = list(merged(order, at_once))
        assert [row.tobytes() for chunk in chunks for row in chunk] == expected
        assert max((len(chunk) for chunk in chunks), default=0) <= max(at_once, np.bincount(whole[:, 2]).max(initial=0))


def test_a_file_cut_short_is_named(tmp_path: Path) -> None:
    path = tmp_path / "part"
    counts = write_entries(str(path), [np.zeros((3, DOCUMENT_BYTES), np.uint8)])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(OSError, match="shorter than its marker says"):
        list(merged([PartEntries(str(path), counts)]))
