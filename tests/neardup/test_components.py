from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.neardup.bands import Banding, band_hashes, parameters
from pipelines.neardup.components import components, forest, stars
from pipelines.neardup.keep import UNKNOWN, keep_order
from pipelines.neardup.verify import matches_needed, verify

NODES = st.integers(0, 12) | st.sampled_from([2**32, 2**32 + 1, 2**63 + 5])
EDGES = st.lists(st.tuples(NODES, NODES), max_size=20)


def packed(edges: list[tuple[int, int]]) -> np.ndarray:
    return np.array(edges, np.uint64).reshape(-1, 2)


def union_find(edges: list[tuple[int, int]]) -> dict[int, int]:
    """Each node's smallest connected node, by merging sets."""
    sets = {node: {node} for edge in edges for node in edge}
    for a, b in edges:
        merged = sets[a] | sets[b]
        for node in merged:
            sets[node] = merged
    return {node: min(group) for node, group in sets.items()}


@given(EDGES)
def test_components_are_those_of_union_find(edges: list[tuple[int, int]]) -> None:
    nodes, roots = components(packed(edges))
    assert dict(zip(nodes.tolist(), roots.tolist(), strict=True)) == union_find(edges)
    assert nodes.tolist() == sorted(set(nodes.tolist()))


@given(EDGES, st.integers(0, 20))
def test_forests_of_pieces_make_the_forest_of_all(edges: list[tuple[int, int]], cut: int) -> None:
    pieces = np.concatenate([forest(packed(edges[:cut])), forest(packed(edges[cut:]))])
    np.testing.assert_array_equal(forest(pieces), forest(packed(edges)))
    assert len(forest(packed(edges))) <= max(0, len({n for e in edges for n in e}) - 1)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30)), max_size=30, unique_by=lambda p: p[1]))
def test_stars_join_exactly_those_that_share_a_key(rows: list[tuple[int, int]]) -> None:
    keys, nodes = (np.array([r[i] for r in rows], np.uint64) for i in (0, 1))
    edges = [tuple(edge) for edge in stars(keys, nodes).tolist()]
    groups: dict[int, list[int]] = {}
    for key, node in rows:
        groups.setdefault(key, []).append(node)
    assert sorted(edges) == sorted((min(g), n) for g in groups.values() for n in g if n != min(g))


def test_the_earliest_capture_stays_then_doc_id_then_place() -> None:
    rng = random.Random(4)
    documents = [
        (rng.randrange(2), rng.choice([5, 6, -7, int(UNKNOWN)]), rng.choice([b"\x01", b"\x80", b"\xff"]) * 16, handle)
        for handle in range(200)
    ]
    rng.shuffle(documents)
    group, captured, doc_id, handle = zip(*documents, strict=True)
    order = keep_order(
        np.array(group, np.uint64),
        np.array(captured, np.int64),
        np.frombuffer(b"".join(doc_id), np.uint8).reshape(-1, 16),
        np.array(handle, np.uint64),
    )
    assert [documents[i] for i in order] == sorted(documents)


def family(rng: np.random.Generator, size: int, noise: float, permutations: int = 128) -> np.ndarray:
    """Signatures that each differ from a common one in about this share of values."""
    common = rng.integers(0, 2**32, permutations, dtype=np.uint32)
    changed = rng.integers(0, 2**32, (size, permutations), dtype=np.uint32)
    return np.where(rng.random((size, permutations)) < noise, changed, common).astype(np.uint32)


def brute_force(signatures: np.ndarray, blocks: list[int], threshold: float) -> tuple[list[int], list[int]]:
    n = len(signatures)
    alike = (signatures[:, None, :] == signatures[None, :, :]).sum(axis=2) >= threshold * signatures.shape[1]
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
    found = verify(signatures, np.array(blocks), 0.8, parameters(0.8, 128))
    kept, earliest = brute_force(signatures, blocks, 0.8)
    assert found.kept.tolist() == kept
    # A pair that is passed over joins nothing, and the kept copy is compared with all.
    assert found.earliest.tolist() == earliest
    assert found.unchecked == 0


def test_a_pair_that_the_first_of_a_bucket_rejects_is_not_lost() -> None:
    rng = np.random.default_rng(1)
    base = rng.integers(0, 2**32, 128, dtype=np.uint32)
    fresh = rng.integers(0, 2**32, (3, 128), dtype=np.uint32)
    anchor, left, right = base.copy(), base.copy(), base.copy()
    anchor[40:], left[110:], right[119:] = fresh[0, 40:], fresh[1, 110:], fresh[2, 119:]
    found = verify(np.stack([anchor, left, right]), np.array([0, 3]), 0.8, Banding(14, 9))
    assert found.kept.tolist() == [0, 1, 1]
    assert found.earliest.tolist() == [3, 3, 1]


def test_beyond_the_budget_buckets_take_over_and_what_they_leave_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(3)
    signatures = rng.permutation(np.concatenate([family(rng, 60, 0.02) for _ in range(5)]))
    everyone = np.array([0, len(signatures)])
    banding = parameters(0.8, 128)
    whole = verify(signatures, everyone, 0.8, banding)
    bounded = verify(signatures, everyone, 0.8, banding, budget=2000)
    np.testing.assert_array_equal(whole.kept, bounded.kept)
    assert bounded.unchecked == 0
    assert len(set(whole.kept.tolist())) == 5

    mixed = rng.integers(0, 2**32, (200, 128), dtype=np.uint32)
    mixed[:, :9] = mixed[0, :9]  # all share the first band, no two are alike
    starved = verify(mixed, np.array([0, 200]), 0.8, banding, budget=1000)
    assert len(np.unique(band_hashes(mixed, banding)[0])) == 1
    rows_done = 6  # 199 + 198 + … reaches 1000 with the sixth
    assert starved.unchecked == (200 - rows_done) * (199 - rows_done) // 2
    assert "were not compared" in caplog.text


def test_twenty_thousand_identical_documents_take_one_pass() -> None:
    rng = np.random.default_rng(6)
    same = np.tile(family(rng, 1, 0), (20000, 1))
    found = verify(same, np.array([0, 20000]), 0.8, parameters(0.8, 128), budget=20000)
    assert found.unchecked == 0
    assert not found.kept.any()
    assert found.earliest[1:].max() == 0
    assert found.earliest[0] == 20000


def test_the_threshold_is_met_at_equality() -> None:
    assert matches_needed(0.5, 128) == 64
    assert matches_needed(0.8, 128) == 103
    assert matches_needed(0.7, 10) == 7
    assert matches_needed(1.0, 128) == 128
