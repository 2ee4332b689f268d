"""What is chosen to train on: each wish against brute force, and nothing of what measures."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.review.active import (
    SAME,
    TURNS,
    Candidates,
    Wish,
    candidate_pool,
    choose,
    choose_because,
    embedded,
    uncertainty,
)
from pipelines.review.make import Request, make_review
from pipelines.review.population import kept_parts, read_population
from pipelines.review.records import Folder, Stream
from tests.review.outputs import WORDS, row, rows, write_output


def some(n: int = 40, seed: int = 0) -> Candidates:
    random = np.random.default_rng(seed)
    texts = [" ".join(random.choice(WORDS, 25)) for _ in range(n)]
    probability = random.random(n)
    probability[::9] = np.nan
    return Candidates(
        embedded(pa.array(texts, pa.large_string())), probability, random.random(n), random.integers(0, 6, n)
    )


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a.astype(np.int64) @ b.astype(np.int64).T / 127**2


def test_the_uncertain_ones_are_nearest_in_log_odds() -> None:
    candidates = some()
    chosen = choose(candidates, 10, turns=[Wish.UNCERTAINTY])
    with np.errstate(invalid="ignore"):
        odds = np.log(candidates.probability / (1 - candidates.probability))
    assert chosen.tolist() == np.argsort(np.where(np.isnan(odds), np.inf, np.abs(odds)), kind="stable")[:10].tolist()
    at_both = uncertainty(candidates.probability, (0.5, 0.9))
    expected = np.minimum(np.abs(odds), np.abs(odds - np.log(9)))
    assert np.allclose(at_both[np.isfinite(at_both)], expected[~np.isnan(odds)])
    assert uncertainty(np.array([0.0, 1.0]), (0.5,)).tolist() == pytest.approx([13.8, 13.8], abs=0.1)


def test_those_on_which_detectors_differ_most_come_first() -> None:
    candidates = some()
    candidates.spread[5] = np.nan
    chosen = choose(candidates, 8, turns=[Wish.DISAGREEMENT])
    assert chosen.tolist() == np.argsort(-np.nan_to_num(candidates.spread, nan=-1), kind="stable")[:8].tolist()


def test_hosts_take_turns_those_with_labels_last() -> None:
    candidates = some(60)
    labelled = np.array([0, 0, 1])
    chosen = candidates.host[choose(candidates, 15, labelled_hosts=labelled, turns=[Wish.HOST])]
    counts = np.bincount(np.concatenate([labelled, chosen]), minlength=6)
    assert counts.tolist() == [3] * 6
    assert set(chosen[:4].tolist()) == {2, 3, 4, 5}


def test_coverage_is_farthest_first() -> None:
    candidates, labelled = some(50), some(3, seed=9).vectors
    chosen = choose(candidates, 12, labelled=labelled, turns=[Wish.COVERAGE])
    taken = list(labelled)
    for row_ in chosen.tolist():
        nearest = cosines(candidates.vectors, np.array(taken)).max(axis=1)
        assert nearest[row_] == nearest.min()
        taken.append(candidates.vectors[row_])


def test_the_wishes_take_turns_and_say_why() -> None:
    candidates = some(80)
    found = choose_because(candidates, 20)
    assert found.because == [*TURNS] * 4
    assert len(set(found.rows.tolist())) == 20
    assert found.rows.tolist() == choose(candidates, 20).tolist()
    assert choose(candidates, 20)[:7].tolist() == choose(candidates, 7).tolist()


def test_a_wish_that_asks_for_nothing_loses_its_turn() -> None:
    candidates = some()._replace(spread=np.full(40, np.nan), probability=np.full(40, np.nan))
    assert set(choose_because(candidates, 10).because) == {Wish.COVERAGE, Wish.HOST}


def test_what_is_almost_the_same_is_passed_over_while_there_are_others() -> None:
    candidates = some(10)
    double = Candidates(*(np.concatenate([column, column]) for column in candidates))
    assert sorted(choose(double, 10, turns=[Wish.UNCERTAINTY, Wish.COVERAGE]) % 10) == list(range(10))
    labelled = choose(double, 10, labelled=candidates.vectors[:3])
    assert set((labelled[:7] % 10).tolist()) == set(range(3, 10))
    assert sorted(choose(double, 50).tolist()) == list(range(20))  # all there are


def test_texts_without_words_come_last_and_no_candidates_are_none() -> None:
    vectors = embedded(pa.array(["...", "one two three", "four five six"], pa.large_string()))
    nothing = np.full(3, np.nan)
    assert choose(Candidates(vectors, nothing, nothing, np.zeros(3, int)), 3, turns=[Wish.COVERAGE]).tolist() == [
        1,
        2,
        0,
    ]
    empty = Candidates(vectors[:0], nothing[:0], nothing[:0], np.empty(0, np.int64))
    assert choose(empty, 5).tolist() == []
    with pytest.raises(ValueError, match="turn"):
        choose(empty, 5, turns=[])


def test_a_pool_holds_the_most_uncertain_the_most_disputed_and_any(tmp_path: Path) -> None:
    output = write_output(tmp_path / "out", rows(200, 0, 0), sealed=False)
    population = read_population(kept_parts(output), ("place",), "1", "2022-11-30", opinions=True)
    allowed = np.ones(200, bool)
    allowed[:20] = False
    pool = candidate_pool(population, allowed, (0.5,), most=40)
    assert len(pool) == 40
    assert pool.min() >= 20
    distance = uncertainty(population.probability, (0.5,))
    assert set(np.argsort(np.where(allowed, distance, np.inf), kind="stable")[:20].tolist()) <= set(pool.tolist())
    spread = np.where(allowed & ~np.isnan(population.spread), population.spread, -1)
    assert set(np.argsort(-spread, kind="stable")[:10].tolist()) <= set(pool.tolist())
    documents = {one["doc_id"]: one for one in rows(200, 0, 0)}
    own = documents[population.ids[7].tobytes().hex()]
    both = [own["machine_probability"], own["evidence"][0]["probability"]]
    expected = abs(both[0] - both[1]) if both[0] is not None else np.nan
    assert population.spread[7] == pytest.approx(expected, nan_ok=True)


def test_nothing_that_measures_is_chosen_nor_anything_like_it(tmp_path: Path) -> None:
    documents = rows(60, 10, 4)
    # Every third document has another copy of its words, and every fifth is in one cluster with the one before it.
    documents += [row(500 + at, text=documents[at]["text"] + " more") for at in range(0, 60, 3)]
    for at in range(5, 60, 5):
        documents[at]["cluster_id"] = documents[at - 1]["cluster_id"] = f"{at:032x}"
    output = write_output(tmp_path / "out", documents, sealed=False)
    plan = make_review(output, Request(labels=30, minimum=3, active=60, controls=6), str(tmp_path / "review"))
    folder = Folder(str(tmp_path / "review"))
    truths = folder.read_controls()
    audit, active = (
        [task for task in folder.read_tasks(stream).to_pylist() if task["task_id"] not in truths] for stream in Stream
    )
    shown = [{task["task_id"] for task in folder.read_tasks(stream).to_pylist()} for stream in Stream]
    assert not shown[0] & shown[1]
    assert all(task["stratum"] is task["inclusion_probability"] is None for task in active)
    clusters = {one["doc_id"]: one["cluster_id"] for one in documents}
    assert not ({clusters[t["task_id"]] for t in audit} & {clusters[t["task_id"]] for t in active}) - {None}
    vectors = [embedded(pa.array([task["text"] for task in tasks], pa.large_string())) for tasks in (audit, active)]
    assert cosines(vectors[1], vectors[0]).max() < SAME
    assert set(plan["active"]["because"]) == {task["task_id"] for task in active}
    assert set(plan["active"]["because"].values()) == set(Wish)
    assert len(active) < 60
    assert any("--active 60" in warning for warning in plan["warnings"])


def test_a_second_review_chooses_nothing_of_the_first(tmp_path: Path) -> None:
    output = write_output(tmp_path / "out", rows(90, 10, 4))
    first, second, third = (str(tmp_path / name) for name in "abc")
    make_review(output, Request(labels=20, minimum=3, active=15, controls=0), first)
    again = Request(labels=20, minimum=3, active=15, controls=0, seed="another", earlier=(first,))
    make_review(output, again, second)
    tasks = {name: [set(Folder(name).read_tasks(s)["task_id"].to_pylist()) for s in Stream] for name in (first, second)}
    assert not tasks[second][1] & (tasks[first][0] | tasks[first][1])
    assert len(tasks[second][1]) == 15
    make_review(output, Request(labels=20, minimum=3, active=15, controls=0), third)
    names = ("audit.parquet", "active.parquet")
    assert all((tmp_path / "a" / n).read_bytes() == (tmp_path / "c" / n).read_bytes() for n in names)
    assert "because" in json.loads((tmp_path / "c/plan.json").read_text())["active"]
