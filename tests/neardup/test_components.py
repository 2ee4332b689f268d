from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.neardup.components import components, forest, stars

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
