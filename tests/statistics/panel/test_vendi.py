import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.statistics.panel.embedding import DIMENSIONS, embed
from pipelines.statistics.panel.vendi import vendi
from pipelines.statistics.panel.words import word_hashes
from tests.crawls import rows

# Vectors, and what score_dual and score_K of the package vendi-score say of them.
CASES = json.loads((Path(__file__).parent / "vendi_scores.json").read_text())["cases"]


def outer(vectors):
    vectors = np.asarray(vectors, np.int64)
    return vectors.T @ vectors


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_scores_are_those_of_the_package(case):
    for order, scores in case["scores"].items():
        found = vendi(outer(case["vectors"]), float(order))
        # The package keeps eigenvalues of rounding, which small orders blow up in the larger of its two matrices.
        for name in ("dual", "K") if float(order) >= 1 else ("dual",):
            assert found == pytest.approx(scores[name], abs=1e-9), (order, name)


def test_scores_of_embeddings_are_those_of_the_package():
    package = pytest.importorskip("vendi_score.vendi")
    vectors = embed(*word_hashes(pa.array([row["text"] for row in rows(60)], pa.large_string()))).astype(np.float64)
    scaled = vectors * np.sqrt(len(vectors) / (vectors**2).sum())
    assert vendi(outer(vectors)) == pytest.approx(package.score_dual(scaled, normalize=False), abs=1e-9)
    # The vectors' lengths differ by rounding only.
    assert vendi(outer(vectors)) == pytest.approx(package.score_dual(vectors), rel=1e-3)


def test_copies_count_once_and_different_documents_each():
    kinds = np.eye(DIMENSIONS, dtype=np.int64)[:5] * 127
    for order in (0, 0.5, 1, 2, np.inf):
        assert vendi(outer(np.repeat(kinds, 7, axis=0)), order) == pytest.approx(5)
    assert vendi(outer(kinds[:1])) == pytest.approx(1)


def test_shares_of_kinds_give_the_exponential_of_their_entropy():
    kinds = np.repeat(np.eye(4, dtype=np.int64), [8, 4, 2, 2], axis=0)
    assert vendi(outer(kinds)) == pytest.approx(2**1.75)
    assert vendi(outer(kinds), 2) == pytest.approx(1 / (0.25 + 0.0625 + 2 * 0.015625))
    assert vendi(outer(kinds), np.inf) == pytest.approx(2)


def test_the_score_falls_with_the_order():
    vectors = np.random.default_rng(3).integers(-127, 128, (40, DIMENSIONS))
    scores = [vendi(outer(vectors), order) for order in (0, 0.3, 1, 1.0001, 2, 10, np.inf)]
    assert scores == sorted(scores, reverse=True)
    assert scores[2] == pytest.approx(scores[3], rel=1e-4)
    assert scores[0] == 40


def test_nothing_to_score_and_bad_matrices():
    assert np.isnan(vendi(np.zeros((DIMENSIONS, DIMENSIONS), np.int64)))
    with pytest.raises(ValueError, match="square"):
        vendi(np.zeros((2, 3), np.int64))
    with pytest.raises(ValueError, match="0 or more"):
        vendi(np.eye(2, dtype=np.int64), -1)


def embedded(*texts):
    return embed(*word_hashes(pa.array(texts, pa.large_string()))).astype(np.int64)


def test_embeddings_have_one_length_and_none_without_words():
    vectors = embedded(*(row["text"] for row in rows(60)), "", " … ")
    assert vectors.shape == (len(rows(60)) + 2, DIMENSIONS)
    assert np.linalg.norm(vectors[:-2], axis=1) == pytest.approx(127, abs=4)
    assert not vectors[-2:].any()


def test_an_embedding_is_the_signed_sum_of_weighted_words():
    alone = embedded("granite", "tortoise", "granite Tortoise granite")
    together = alone[0] + alone[1]  # words that are both rare have weights of the same order
    assert alone[2] @ together / np.linalg.norm(alone[2]) / np.linalg.norm(together) > 0.95
    assert (np.count_nonzero(alone[:2], axis=1) == 1).all()


def test_an_embedding_hangs_on_nothing_but_the_document():
    texts = [row["text"] for row in rows(40)]
    whole = embedded(*texts)
    assert (np.stack([embedded(text)[0] for text in texts]) == whole).all()
    assert (embedded(*reversed(texts)) == whole[::-1]).all()


def test_function_words_do_not_make_documents_alike():
    one = "The cat of the house is in the garden and it has been there for the whole of the day"
    other = "The price of the share is at the bottom and it has been there for the whole of the year"
    third = "A cat was in a garden, beside a house, on a whole day"
    vectors = embedded(one, other, third) / 127
    assert vectors[0] @ vectors[2] > vectors[0] @ vectors[1]


def test_inner_products_estimate_the_share_of_words_in_common():
    """Count sketches are unbiased with variance about 1 / 64 (Weinberger et al. 2009, lemma 2)."""
    random = np.random.default_rng(9)
    products = []
    for _ in range(300):
        words = [f"w{number}" for number in random.integers(0, 1 << 60, 60)]  # known to no model: equal weights
        first, second = embedded(" ".join(words[:40]), " ".join(words[20:])) / 127
        products.append(first @ second)
    assert np.mean(products) == pytest.approx(0.5, abs=4 * np.std(products) / np.sqrt(300))
    assert np.std(products) < 1.5 / np.sqrt(DIMENSIONS)


def test_known_vectors_stay_as_they_are():
    """Whatever the machine: words that no model knows, so that the vectors outlive the models."""
    vector = embedded("qzxv jkwq vvxz qqjx wzkv")[0]
    assert {int(at): int(vector[at]) for at in np.flatnonzero(vector)} == {17: -57, 19: 57, 35: 57, 48: 57, 61: -57}
