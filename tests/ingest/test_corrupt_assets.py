"""The broken shards under tests/assets/corrupt/ are read as make_corrupt.py says that they should be."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.assets.make_corrupt import EXPECTED, FOLDER
from tests.ingest.building import read


def test_each_broken_shard_has_an_expectation():
    assert {path.name for path in FOLDER.iterdir()} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_broken_shard(name):
    found = read((FOLDER / name).read_bytes(), name)
    documents, reasons = EXPECTED[name]
    assert (len(found.documents), found.reasons) == (documents, Counter(reasons)), found.rejects
    assert len(set(found.offsets)) == len(found.offsets)
    assert all(row["detail"] for row in found.rejects if row["reason"] != "no_text")
