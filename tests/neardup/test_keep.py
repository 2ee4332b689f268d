from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import get_args

import numpy as np
import pytest

from pipelines.neardup.keep import UNKNOWN, keep_order
from pipelines.neardup.members import MEMBER
from pipelines.neardup.options import Preference

ORDERS = [order for n in range(4) for order in itertools.permutations(get_args(Preference), n)]


@pytest.mark.parametrize("keep", ORDERS, ids="-".join)
def test_documents_stand_by_block_then_by_preference_then_by_identity(keep: Sequence[Preference]) -> None:
    rng = random.Random(4)
    documents = np.zeros(300, MEMBER)
    for handle, row in enumerate(documents):
        row["handle"] = handle
        row["block"] = rng.randrange(2)
        row["captured_at"] = rng.choice([5, -7, int(UNKNOWN)])
        row["findings"] = rng.choice([0, 1, 65535])
        row["length"] = rng.choice([0, 9, 2**32 - 1])
        row["doc_id"] = np.frombuffer(rng.choice([b"\x01", b"\x80", b"\xff"]) * 16, np.uint8)
    documents = np.random.default_rng(5).permutation(documents)

    def rank(row: np.void) -> tuple:
        by_name = {
            "captured_at": int(row["captured_at"]),
            "findings": -int(row["findings"]),
            "length": -int(row["length"]),
        }
        return (int(row["block"]), *(by_name[name] for name in keep), bytes(row["doc_id"]), int(row["handle"]))

    found = [rank(documents[i]) for i in keep_order(documents, keep)]
    assert found == sorted(map(rank, documents))
