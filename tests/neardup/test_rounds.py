from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from hypothesis import given
from hypothesis import strategies as st

from pipelines.beam import execute as execute_job
from pipelines.errors import JobError
from pipelines.job import Job
from pipelines.neardup import rounds
from pipelines.neardup.bands import hash_range, mix64
from pipelines.neardup.components import distinct, forest, large_star, look_up, smallest_neighbours
from pipelines.neardup.rounds import find_components

NODES = st.integers(0, 12) | st.sampled_from([2**32, 2**63 + 5, 2**64 - 1])
EDGES = st.lists(st.tuples(NODES, NODES).filter(lambda e: e[0] != e[1]).map(lambda e: (min(e), max(e))), max_size=30)


def packed(edges: Iterable[tuple[int, int]]) -> np.ndarray:
    return np.array(list(edges), np.uint64).reshape(-1, 2)


def roots(edges: np.ndarray) -> dict[int, int]:
    """Each node's smallest connected node, by union-find with path halving."""
    parent: dict[int, int] = {}

    def find(node: int) -> int:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = node = parent[parent[node]]
        return node

    for a, b in edges.tolist():
        low, high = sorted((find(a), find(b)))
        parent[high] = low
    return {node: find(node) for node in list(parent)}


def execute(transform: beam.PTransform) -> None:
    pipeline = beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions(direct_num_workers=1))
    _ = pipeline | transform
    pipeline.run().wait_until_finish()


def write(folder: Path, edges: np.ndarray, count: int) -> list[str]:
    """Deals edges out to so many files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i}.edges" for i in range(count)]
    for i, path in enumerate(paths):
        path.write_bytes(edges[i::count].astype("<u8").tobytes())
    return [str(path) for path in paths]


def read(path: str) -> np.ndarray:
    return np.fromfile(path, "<u8").reshape(-1, 2)


def found(
    folder: Path, edges: np.ndarray, count: int = 4, ranges: int = 4, run: Callable[[beam.PTransform], object] = execute
) -> list[bytes]:
    """The bytes of the result, after a check that they are the forest, each edge in its place."""
    paths = write(folder / "edges", edges, count)
    result = find_components(paths, str(folder / "rounds"), ranges, run)
    pieces = [read(path) for path in result]
    assert len(pieces) == ranges
    for i, piece in enumerate(pieces):
        assert (hash_range(mix64(piece[:, 1]), ranges) == i).all()
        assert (piece[1:, 1] > piece[:-1, 1]).all()
    union = np.concatenate(pieces)
    np.testing.assert_array_equal(union[np.argsort(union[:, 1])], forest(edges))
    assert dict(zip(union[:, 1].tolist(), union[:, 0].tolist(), strict=True)) == {
        node: root for node, root in roots(edges).items() if node != root
    }
    assert len(list((folder / "rounds").iterdir())) == 1, "the rounds before the last are deleted"
    return [Path(path).read_bytes() for path in result]


def random_graph(seed: int, nodes: int, edges: int) -> np.ndarray:
    """Random edges, self-loops and repeats among them, between handles spread over all 64 bits."""
    rng = np.random.default_rng(seed)
    handles = np.unique(rng.integers(0, 2**64, nodes, dtype=np.uint64, endpoint=False))
    handles[-1] = 2**64 - 1
    return handles[rng.integers(0, len(handles), (edges, 2))]


def chain(length: int) -> np.ndarray:
    rng = np.random.default_rng(length)
    labels = rng.permutation(length).astype(np.uint64) << np.uint64(32)
    return rng.permutation(np.stack([labels[:-1], labels[1:]], axis=1))


@given(EDGES)
def test_large_star_is_that_of_the_paper(edges: list[tuple[int, int]]) -> None:
    given_edges = distinct(packed(edges))
    assert given_edges.tolist() == [list(e) for e in sorted(set(edges), key=lambda e: e[::-1])]
    expected, neighbours = set(), {}
    for a, b in edges:
        neighbours.setdefault(a, {a}).add(b)
        neighbours.setdefault(b, {b}).add(a)
    for node, others in neighbours.items():
        expected |= {(min(others), v) for v in others if v > node}
    moved, changed = large_star(given_edges, *smallest_neighbours(given_edges))
    assert moved.tolist() == [list(e) for e in sorted(expected, key=lambda e: e[::-1])]
    assert changed == sum(min(neighbours[a]) < a for a, _ in set(edges))


@given(EDGES)
def test_shrinking_a_range_does_all_that_small_star_does(edges: list[tuple[int, int]]) -> None:
    smaller: dict[int, set[int]] = {}
    for a, b in edges:
        smaller.setdefault(b, {b}).add(a)
    star = {(min(group), v) for group in smaller.values() for v in group if v != min(group)}
    np.testing.assert_array_equal(forest(packed(star)), forest(packed(edges)))
    assert {v for _, v in star} <= set(forest(packed(edges))[:, 1].tolist())


def test_looking_up_in_nothing_and_past_the_end() -> None:
    nodes, values = np.array([3, 9], np.uint64), np.array([1, 2], np.uint64)
    wanted = np.array([10, 9, 0, 2**64 - 1, 3], np.uint64)
    assert [a.tolist() for a in look_up(wanted, nodes, values)] == [[False, True, False, False, True], [2, 1]]
    assert [a.tolist() for a in look_up(wanted, nodes[:0], values[:0])] == [[False] * 5, []]


@pytest.mark.parametrize(("nodes", "edges"), [(2000, 300), (2000, 1100), (2000, 4000), (60, 3000)])
def test_random_graphs(tmp_path: Path, nodes: int, edges: int) -> None:
    found(tmp_path, random_graph(edges, nodes, edges))


def test_no_edges_at_all(tmp_path: Path) -> None:
    assert found(tmp_path, packed([]), ranges=3) == [b""] * 3
    none = find_components([], str(tmp_path / "rounds"), 2, execute)
    assert [Path(path).read_bytes() for path in none] == [b"", b""]
    loops = packed([(5, 5), (2**64 - 1, 2**64 - 1)])
    assert found(tmp_path, loops, count=1, ranges=3) == [b""] * 3


@pytest.mark.slow
def test_a_long_chain_takes_a_logarithmic_number_of_rounds(tmp_path: Path) -> None:
    jobs = []

    def counting(transform: beam.PTransform) -> None:
        jobs.append(transform)
        execute(transform)

    found(tmp_path, chain(10_000), count=40, ranges=16, run=counting)
    assert 5 < len(jobs) < 14, "no more than the binary logarithm, 13.3, and not by the files alone"


@pytest.mark.parametrize("centre", [0, 2**64 - 1])
def test_no_file_of_any_round_is_heavier_for_a_node_with_many_neighbours(tmp_path: Path, centre: int) -> None:
    sizes = []
    leaves = np.arange(1, 100_001, dtype=np.uint64)
    star = np.stack([np.full_like(leaves, centre), leaves], axis=1)

    def measuring(transform: beam.PTransform) -> None:
        execute(transform)
        sizes.extend(path.stat().st_size // 16 for path in (tmp_path / "rounds").glob("*/*/*.edges"))

    found(tmp_path, star, count=8, ranges=8, run=measuring)
    assert len(sizes) >= 16
    assert max(sizes) < 1.1 * 100_000 / 8


def test_many_small_components(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    groups = rng.permutation(60_000).astype(np.uint64).reshape(-1, 3) << np.uint64(30)
    edges = np.concatenate([groups[:, :2], groups[:, 1:], groups[::2, ::2]])
    found(tmp_path, rng.permutation(edges), count=9)


@pytest.mark.slow
def test_the_bytes_depend_on_the_components_and_the_ranges_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edges = random_graph(3, 1500, 400)
    expected = found(tmp_path / "a", edges, count=3, ranges=5)
    rng = np.random.default_rng(1)
    other = np.concatenate([edges[:, ::-1], edges[:500], forest(edges)])
    assert found(tmp_path / "b", rng.permutation(other), count=11, ranges=5) == expected
    monkeypatch.setattr(rounds, "_PIECE_BYTES", 16 * 100)
    monkeypatch.setattr(rounds, "_ELEMENT_ROWS", 7)
    assert found(tmp_path / "c", edges, count=1, ranges=5) == expected
    found(tmp_path / "one", edges, ranges=1)
    found(tmp_path / "nine", edges, ranges=9)


@pytest.mark.slow
def test_two_workers_give_the_same_bytes(tmp_path: Path) -> None:
    edges = chain(12)
    expected = found(tmp_path / "one", edges, count=2, ranges=2)
    jobs = []

    def two_workers(transform: beam.PTransform) -> None:
        jobs.append(transform)
        execute_job(Job(workers=2), 2, 2, transform)

    assert found(tmp_path / "two", edges, count=2, ranges=2, run=two_workers) == expected
    assert len(jobs) > 1


@pytest.mark.parametrize("survived", [1, 2])
def test_a_run_after_a_killed_one_meets_nothing_of_it(tmp_path: Path, survived: int) -> None:
    left = [survived]

    def dying(transform: beam.PTransform) -> None:
        execute(transform)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        found(tmp_path, random_graph(4, 400, 500), run=dying)
    assert list((tmp_path / "rounds").glob("*/*/*.edges"))
    write(tmp_path / "rounds" / "round-040" / "large", packed([(1, 2)]), 4)
    found(tmp_path, random_graph(5, 300, 200))


def test_a_round_that_has_not_ended_is_not_taken_for_whole(tmp_path: Path) -> None:
    paths = write(tmp_path / "edges", packed([(1, 2)]), 1)
    with pytest.raises(JobError, match="has not ended"):
        find_components(paths, str(tmp_path / "rounds"), 2, lambda transform: None)

    def unfinished(transform: beam.PTransform) -> None:
        execute(transform)
        (done,) = (tmp_path / "rounds").glob("*/*/done.json")
        assert json.loads(done.read_text())["edges"] == 1
        done.write_text("{")

    with pytest.raises(JobError, match="has not ended"):
        find_components(paths, str(tmp_path / "rounds"), 2, unfinished)


def test_errors_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "half.edges").write_bytes(bytes(24))
    with pytest.raises(JobError, match=r"half\.edges: 24 bytes are no whole number of edges"):
        find_components([str(tmp_path / "half.edges")], str(tmp_path / "rounds"), 2, execute)
    inside = write(tmp_path / "rounds", packed([(1, 2)]), 1)
    with pytest.raises(ValueError, match="emptied"):
        find_components(inside, str(tmp_path / "rounds"), 2, execute)
    assert Path(inside[0]).exists()
    with pytest.raises(FileNotFoundError):
        find_components([str(tmp_path / "absent")], str(tmp_path / "rounds"), 2, execute)
