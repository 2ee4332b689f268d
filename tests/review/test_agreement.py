"""Agreement: the published examples, the definition spelt out, another library, and the interval's coverage."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import permutations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipelines.review.agreement import (
    Codes,
    agreement,
    alpha_interval,
    as_dict,
    cohen_kappa,
    counts_by_unit,
    judgement,
    krippendorff_alpha,
    raw_agreement,
)
from pipelines.review.records import LABELS

# Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), examples B and C; people × units, 0: no answer.
TWO = [[1, 2, 1, 1, 1, 1, 1, 1, 2, 1], [2, 2, 2, 1, 1, 2, 1, 1, 1, 1]]
FOUR = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
    [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
]


def by_unit(people: Sequence[Sequence[int]]) -> Codes:
    return np.array(people, np.int64).T - 1


def answers(rows: Sequence[tuple[str, str, str]]) -> pa.Table:
    when = datetime(2026, 5, 1, tzinfo=UTC)
    names = ("task_id", "annotator", "label", "at", "seconds", "comment", "tool")
    return pa.Table.from_pylist(
        [dict(zip(names, (*row, when, None, None, "jsonl"), strict=True)) for row in rows], LABELS
    )


def two_people(pairs: Sequence[tuple[str, str]]) -> pa.Table:
    return answers(
        [(f"{at:03}", who, pair[i]) for at, pair in enumerate(pairs) for i, who in enumerate(("ada", "bob"))]
    )


def spelt_out(codes: Codes) -> float:
    """α by its coincidences: every ordered pair of answers in a unit, weighed by 1 / (answers of the unit - 1)."""
    coincidences: dict[tuple[int, int], float] = {}
    for unit in codes.tolist():
        told = [value for value in unit if value >= 0]
        for pair in permutations(told, 2):
            coincidences[pair] = coincidences.get(pair, 0) + 1 / (len(told) - 1)
    margin: dict[int, float] = {}
    for (first, _), weight in coincidences.items():
        margin[first] = margin.get(first, 0) + weight
    total = sum(margin.values())
    observed = sum(weight for (first, second), weight in coincidences.items() if first != second)
    expected = sum(margin[a] * margin[b] for a, b in permutations(margin, 2)) / (total - 1) if total > 1 else 0
    return 1 - observed / expected if expected else float("nan")


def test_published_examples() -> None:
    assert krippendorff_alpha(counts_by_unit(by_unit(TWO), 2)) == pytest.approx(0.095, abs=5e-4)
    assert krippendorff_alpha(counts_by_unit(by_unit(FOUR), 5)) == pytest.approx(0.743, abs=5e-4)
    assert raw_agreement(counts_by_unit(by_unit(TWO), 2)) == pytest.approx(0.6)


CODES = arrays.arrays(np.int64, st.tuples(st.integers(0, 8), st.integers(1, 4)), elements=st.integers(-1, 3))


@given(CODES)
@settings(max_examples=60, deadline=None)
def test_the_definition_spelt_out(codes: Codes) -> None:
    assert krippendorff_alpha(counts_by_unit(codes, 4)) == pytest.approx(spelt_out(codes), nan_ok=True)


@pytest.mark.parametrize("seed", range(5))
def test_the_same_as_another_library(seed: int) -> None:
    krippendorff = pytest.importorskip("krippendorff")
    codes = np.random.default_rng(seed).integers(-1, 3, (30, 4))
    theirs = krippendorff.alpha(np.where(codes < 0, np.nan, codes).T, level_of_measurement="nominal")
    assert krippendorff_alpha(counts_by_unit(codes, 3)) == pytest.approx(theirs)


def test_kappa() -> None:
    first, second = (np.repeat(values, [20, 5, 10, 15]) for values in ([1, 1, 0, 0], [1, 0, 1, 0]))
    assert cohen_kappa(first, second) == pytest.approx(0.4)  # 0.7 agreed, 0.5 by chance
    assert np.isnan(cohen_kappa(np.zeros(3, np.int64), np.zeros(3, np.int64)))


def test_the_interval_is_the_same_for_any_order_of_documents() -> None:
    codes = by_unit(FOUR)
    again = codes[np.random.default_rng(1).permutation(len(codes))]
    assert alpha_interval(counts_by_unit(codes, 5)) == alpha_interval(counts_by_unit(again, 5))


def test_perfect_agreement_on_few_documents_proves_little() -> None:
    few, many = (alpha_interval(counts_by_unit(np.repeat([[0, 0], [1, 1]], n, axis=0), 2)) for n in (5, 500))
    assert few[1] == many[1] == 1
    assert few[0] < 0.5
    assert 0.98 < many[0] < 1
    # Up to 3.7 of 1,000 documents may be in disagreement, against 1/2 by chance.
    assert many[0] == pytest.approx(1 - (1 - 0.025 ** (1 / 1000)) / 0.5)


def test_a_table_of_answers() -> None:
    found = agreement(
        answers(
            [
                ("1", "ada", "machine"),
                ("1", "bob", "edited"),  # of the share of machine text, the same
                ("2", "ada", "human"),
                ("2", "cyd", "human"),
                ("3", "ada", "human"),
                ("3", "bob", "cannot_tell"),
                ("4", "bob", "machine"),
            ]
        )
    )
    codes = np.array([[1, 1, -1], [0, -1, 0], [0, 2, -1], [-1, 1, -1]])
    assert found.alpha == pytest.approx(spelt_out(codes))
    assert found.labels_alpha == pytest.approx(spelt_out(np.array([[1, 2, -1], [0, -1, 0], [0, 3, -1]])))
    assert (found.documents, found.same, found.pairs) == (3, 2, pytest.approx(2 / 3))
    assert [(k.first, k.second, k.documents) for k in found.kappas] == [("ada", "bob", 2), ("ada", "cyd", 1)]
    assert found.kappas[1].kappa is None
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.alpha <= found.high


def test_words_for_every_case() -> None:
    cases = {
        "Nobody's answers": [],
        "of one kind": [("human", "human")] * 40,
        "People agree:": [("human", "human"), ("machine", "machine")] * 60,
        "as far as so few": [("human", "human"), ("machine", "machine")] * 6,
        "in part": [("human", "human"), ("machine", "machine")] * 40 + [("human", "machine")] * 10,
        "agree too little": [("human", "human"), ("machine", "machine"), ("human", "machine")] * 20,
        "few documents are": [("human", "human")] * 100 + [("human", "machine")] * 2,
    }
    for words, pairs in cases.items():
        found = agreement(two_people(pairs) if pairs else answers([("1", "ada", "human")]))
        assert words in judgement(found), (words, found)
        assert as_dict(found)["judgement"] == judgement(found)


def simulated(seed: int, units: int, share: float, error: float) -> Codes:
    random_numbers = np.random.default_rng(seed)
    truth = random_numbers.random(units) < share
    return np.stack([truth ^ (random_numbers.random(units) < error) for _ in range(2)], axis=1).astype(np.int64)


def true_alpha(share: float, error: float) -> float:
    called = share * (1 - error) + (1 - share) * error
    return 1 - 2 * error * (1 - error) / (2 * called * (1 - called))


def covered(share: float, error: float, units: int, runs: int) -> float:
    truth, hits = true_alpha(share, error), 0
    for seed in range(runs):
        counts = counts_by_unit(simulated(seed, units, share, error), 2)
        low, high = alpha_interval(counts, 0.95, draws=400, seed=seed)
        hits += bool(np.isnan(low)) or low <= truth <= high
    return hits / runs


def test_the_interval_covers() -> None:
    assert covered(0.35, 0.05, 90, 150) >= 0.92


@pytest.mark.slow
@pytest.mark.parametrize("units", [45, 90, 300])
@pytest.mark.parametrize("error", [0.01, 0.05, 0.15])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_the_interval_covers_everywhere(share: float, error: float, units: int) -> None:
    assert covered(share, error, units, 2000) >= 0.93


def test_order_of_answers_does_not_matter() -> None:
    rows = [(f"{at}", who, label) for at, label in enumerate(["human", "machine", "human"]) for who in ("ada", "bob")]
    again = rows.copy()
    random.Random(1).shuffle(again)
    assert agreement(answers(rows)) == agreement(answers(again))
