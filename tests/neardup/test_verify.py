from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from pipelines.neardup.bands import band_hashes, parameters
from pipelines.neardup.minhash import minhash
from pipelines.neardup.verify import (
    PAIRS,
    Compared,
    Sets,
    compare,
    decide,
    matches_needed,
    similarities,
    zone,
)
from tests.neardup.test_components import union_find

BANDING = parameters(0.8, 128)
ROWS = BANDING.rows


def family(rng: np.random.Generator, size: int, noise: float, permutations: int = 128) -> np.ndarray:
    """Signatures that each differ from a common one in about this share of values."""
    common = rng.integers(0, 2**32, permutations, dtype=np.uint32)
    changed = rng.integers(0, 2**32, (size, permutations), dtype=np.uint32)
    return np.where(rng.random((size, permutations)) < noise, changed, common).astype(np.uint32)


def compared(signatures: np.ndarray, blocks: list[int], budget: int = PAIRS) -> Compared:
    """What signatures alone say at a threshold of 0.8."""
    return compare(signatures, np.array(blocks), zone(0.8, 128, exact=False), BANDING, budget)


def brute_force(signatures: np.ndarray, blocks: list[int], threshold: float) -> tuple[list[int], list[int]]:
    alike = (signatures[:, None, :] == signatures[None, :, :]).sum(axis=2) >= threshold * signatures.shape[1]
    return joined(alike, blocks)


def joined(alike: np.ndarray, blocks: list[int]) -> tuple[list[int], list[int]]:
    n = len(alike)
    edges = [(i, i) for i in range(n)]
    for begin, end in itertools.pairwise(blocks):
        edges += [(i, j) for i in range(begin, end) for j in range(begin, i) if alike[i, j]]
    roots = union_find(edges)
    earliest = [min((j for i, j in edges if i == at and j < i), default=n) for at in range(n)]
    return [roots[i] for i in range(n)], earliest


@pytest.mark.parametrize("seed", range(8))
def test_verification_is_complete_inside_blocks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    families = [family(rng, 12, noise) for noise in (0.02, 0.08, 0.1, 0.11, 0.13, 0.3)]
    signatures = rng.permutation(np.concatenate(families))
    blocks = [0, 1, 3, 40, 72]
    found = compared(signatures, blocks)
    roots, earliest = brute_force(signatures, blocks, 0.8)
    assert found.parent.tolist() == roots
    # A pair that is passed over joins nothing, and the first of a cluster is compared with all.
    assert found.earliest.tolist() == earliest
    assert found.unchecked == 0


def test_a_pair_that_the_first_of_a_bucket_rejects_is_not_lost() -> None:
    rng = np.random.default_rng(1)
    base = rng.integers(0, 2**32, 128, dtype=np.uint32)
    fresh = rng.integers(0, 2**32, (3, 128), dtype=np.uint32)
    anchor, left, right = base.copy(), base.copy(), base.copy()
    anchor[40:], left[110:], right[119:] = fresh[0, 40:], fresh[1, 110:], fresh[2, 119:]
    found = compared(np.stack([anchor, left, right]), [0, 3])
    assert found.parent.tolist() == [0, 1, 1]
    assert found.earliest.tolist() == [3, 3, 1]


def test_beyond_the_budget_buckets_take_over_and_what_they_leave_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(3)
    signatures = rng.permutation(np.concatenate([family(rng, 60, 0.02) for _ in range(5)]))
    everyone = [0, len(signatures)]
    whole = compared(signatures, everyone)
    bounded = compared(signatures, everyone, budget=2000)
    np.testing.assert_array_equal(whole.parent, bounded.parent)
    assert bounded.unchecked == 0
    assert len(set(whole.parent.tolist())) == 5

    caplog.set_level("WARNING")  # which the command, run by another test, may have raised
    mixed = rng.integers(0, 2**32, (200, 128), dtype=np.uint32)
    mixed[:, :ROWS] = mixed[0, :ROWS]  # all share the first band, no two are alike
    starved = compared(mixed, [0, 200], budget=1000)
    assert len(np.unique(band_hashes(mixed, BANDING)[0])) == 1
    rows_done = 6  # 199 + 198 + … reaches 1000 with the sixth
    assert starved.unchecked == (200 - rows_done) * (199 - rows_done) // 2
    assert "were not compared" in caplog.text


def test_a_bucket_beyond_the_budget_is_split_by_further_bands() -> None:
    rng = np.random.default_rng(8)
    crowd = rng.integers(0, 2**32, (400, 128), dtype=np.uint32)
    for i in range(0, 400, 2):
        crowd[i + 1, 20:] = crowd[i, 20:]  # pairs of neighbours are alike and share further bands
    crowd[:, :ROWS] = crowd[0, :ROWS]  # and all share the first
    crowd = rng.permutation(crowd)
    whole = compared(crowd, [0, 400])
    starved = compared(crowd, [0, 400], budget=1000)
    np.testing.assert_array_equal(whole.parent, starved.parent)
    np.testing.assert_array_equal(whole.earliest, starved.earliest)
    assert len(set(whole.parent.tolist())) == 200


def test_twenty_thousand_identical_signatures_take_one_pass() -> None:
    rng = np.random.default_rng(6)
    same = np.tile(family(rng, 1, 0), (20000, 1))
    found = compared(same, [0, 20000], budget=20000)
    assert found.unchecked == 0
    assert not found.parent.any()
    assert found.earliest[1:].max() == 0
    assert found.earliest[0] == 20000


def test_the_zone_of_doubt_is_that_of_the_binomial() -> None:
    for threshold, permutations in ((0.8, 128), (0.5, 64), (0.9, 256), (0.8, 16), (1.0, 128)):
        limits = zone(threshold, permutations, exact=True)
        chance = [
            math.comb(permutations, k) * threshold**k * (1 - threshold) ** (permutations - k)
            for k in range(permutations + 1)
        ]
        assert sum(chance[: limits.low]) <= 1e-3 + 1e-12
        assert sum(chance[limits.high :]) <= 1e-5 + 1e-12
        assert limits.low <= limits.needed <= limits.high
        assert zone(threshold, permutations, exact=False) == (limits.needed,) * 3
    assert zone(0.8, 128, exact=True) == (88, 103, 121)


@pytest.mark.parametrize("seed", range(6))
def test_pairs_in_doubt_are_decided_by_their_sets(seed: int) -> None:
    rng = np.random.default_rng(seed)
    base = rng.choice(2**32, 300, replace=False).astype(np.uint32)
    sets = []
    for _ in range(60):
        changed = base.copy()
        at = rng.choice(300, rng.integers(0, 60), replace=False)
        changed[at] = rng.integers(0, 2**32, len(at))
        sets.append(np.unique(changed[: rng.integers(240, 301)]))
    offsets = np.cumsum([0, *map(len, sets)])
    signatures = minhash(np.concatenate(sets), offsets, 128, 1)
    blocks = [0, 25, 60]
    limits = zone(0.8, 128, exact=True)
    doubtful = compare(signatures, np.array(blocks), limits, BANDING)
    assert len(doubtful.doubts) > 100
    found, estimated = decide(
        doubtful, signatures, Sets(np.concatenate(sets), offsets[:-1], offsets[1:]), 0.8, limits.needed
    )
    assert estimated == 0
    exact = np.array([[len(np.intersect1d(a, b)) / len(np.union1d(a, b)) for b in sets] for a in sets])
    agreeing = (signatures[:, None, :] == signatures[None, :, :]).sum(axis=2)
    alike = ((exact >= 0.8) & (agreeing >= limits.low)) | (agreeing >= limits.high)
    roots, earliest = joined(alike, blocks)
    assert found.parent.tolist() == roots
    assert found.earliest.tolist() == earliest
    left, right = np.array([0, 3, 7]), np.array([5, 3, 9])
    told = similarities(signatures, Sets(np.concatenate(sets), offsets[:-1], offsets[1:]), left, right)
    assert told.tolist() == exact[left, right].tolist()

    # Without the sets of some, the estimate decides for them, and says so.
    some = np.where(np.arange(60) % 3 == 0, offsets[:-1], offsets[1:])
    found, estimated = decide(doubtful, signatures, Sets(np.concatenate(sets), offsets[:-1], some), 0.8, limits.needed)
    assert estimated > 0
    known = (np.arange(60) % 3 != 0)[:, None] & (np.arange(60) % 3 != 0)[None, :]
    roots, earliest = joined(np.where(known, alike, agreeing >= limits.needed), blocks)
    assert found.parent.tolist() == roots
    assert found.earliest.tolist() == earliest


def test_the_threshold_is_met_at_equality() -> None:
    assert matches_needed(0.5, 128) == 64
    assert matches_needed(0.8, 128) == 103
    assert matches_needed(0.7, 10) == 7
    assert matches_needed(1.0, 128) == 128
