from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.corpus import Corpus
from detectors.fitting import LinearModel, crop, draw_crops, fit, logits, take
from detectors.ngrams import UNUSED, Crops, NGrams, Tokens, learn, scores, sets_of_features, tokenise
from tests.detectors.conftest import OPTIONS

_WORDS = st.lists(st.sampled_from([b"a", b"to", b"river", b".", "月".encode(), b"0"]), max_size=40)
_TEXTS = st.lists(_WORDS.map(b" ".join), min_size=1, max_size=6)


def _fnv(word: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in word:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def _buckets(hashes: list[int], words: int, bits: int) -> set[int]:
    """The distinct n-grams of a text in plain Python."""
    found = set()
    for start in range(len(hashes)):
        value = 0
        for length in range(min(words, len(hashes) - start)):
            value = (value * 0x9E3779B97F4A7C15 + hashes[start + length] + length + 1) % 2**64
            mixed = (value ^ (value >> 32)) * 0xD6E8FEB86659FD93 % 2**64
            found.add((mixed ^ (mixed >> 32)) % 2**bits)
    return found


def _texts(tokens: Tokens) -> list[list[int]]:
    pairs = zip(tokens.starts[:-1].tolist(), tokens.starts[1:].tolist(), strict=True)
    return [tokens.hashes[first:last].tolist() for first, last in pairs]


@given(_TEXTS)
@settings(deadline=None)
def test_tokens_are_the_hashed_words(texts: list[bytes]) -> None:
    assert _texts(tokenise(texts)) == [[_fnv(word) for word in text.split(b" ")] if text else [] for text in texts]


@given(_TEXTS, st.integers(1, 4), st.integers(3, 12), st.floats(0, 1))
@settings(deadline=None)
def test_scores_equal_a_sum_over_a_set(texts: list[bytes], words: int, bits: int, power: float) -> None:
    tokens = tokenise(texts)
    weights = np.random.default_rng(bits).integers(-128, 128, 1 << bits).astype(np.int8)
    expected = []
    for hashes in _texts(tokens):
        values = [int(weights[bucket]) for bucket in _buckets(hashes, words, bits) if weights[bucket] != UNUSED]
        expected.append(sum(values) / len(values) ** power if values else 0.0)
    np.testing.assert_allclose(scores(tokens, NGrams(words, bits), weights, power), expected, rtol=1e-12)


def test_learning_is_adagrad_on_logistic_loss() -> None:
    random = np.random.default_rng(3)
    texts = [b" ".join(random.choice([b"x", b"y", b"z", b"u", b"v"], 12)) for _ in range(30)]
    tokens, table = tokenise(texts), NGrams(2, 8)
    first, last = tokens.starts[:-1], tokens.starts[1:]
    machine = random.random(30) < 0.5
    source = random.integers(0, 3, 30)
    used = random.random(table.buckets) < 0.7
    weights, bias = learn(tokens, Crops(first, last, machine, source), table, used, rate=0.3, power=0.5)

    expected, squares = np.zeros(table.buckets), np.zeros(table.buckets)
    offsets, offset_squares = np.zeros(4), np.zeros(4)
    for hashes, label, place in zip(_texts(tokens), machine, source, strict=True):
        features = [bucket for bucket in _buckets(hashes, 2, 8) if used[bucket]]
        value = 1 / math.sqrt(len(features))
        odds = offsets[0] + offsets[1 + place] + value * expected[features].sum()
        error = 1 / (1 + math.exp(-odds)) - label
        for at in (0, 1 + place):
            offset_squares[at] += error**2
            offsets[at] -= 0.1 * error / math.sqrt(1e-8 + offset_squares[at])
        squares[features] += (error * value) ** 2
        expected[features] -= 0.3 * error * value / (1e-6 + np.sqrt(squares[features]))
    np.testing.assert_allclose(weights, expected, rtol=1e-3, atol=1e-5)
    assert math.isclose(bias, offsets[0], rel_tol=1e-4)
    assert not weights[~used].any()


def test_sets_of_features_counts_sets_not_texts() -> None:
    tokens = tokenise([b"a b", b"a b", b"b c", b"c a b"])
    counts = sets_of_features(tokens, np.array([0, 0, 1, 2]), NGrams(2, 16))
    texts = _texts(tokens)
    of_set = [_buckets(texts[0], 2, 16), _buckets(texts[2], 2, 16), _buckets(texts[3], 2, 16)]
    for bucket in set.union(*of_set):
        assert counts[bucket] == sum(bucket in one for one in of_set)
    assert counts.sum() == sum(map(len, of_set))


def test_stored_models_score_the_same(generated_corpus: tuple[Corpus, Tokens]) -> None:
    corpus, tokens = generated_corpus
    model = fit(corpus, tokens, np.arange(len(corpus)), OPTIONS.fit)
    again = LinearModel.from_bytes(model.to_bytes(), model.scale, model.bias, model.word_ngrams, model.power)
    np.testing.assert_array_equal(logits(again, tokens), logits(model, tokens))
    odds = logits(model, tokens)
    assert (odds[corpus.machine] > 0).mean() > 0.9 > 0.1 > (odds[~corpus.machine] > 0).mean()


def test_taking_and_cropping(generated_corpus: tuple[Corpus, Tokens]) -> None:
    corpus, tokens = generated_corpus
    rows = np.array([5, 0, 5])
    texts = _texts(tokens)
    assert _texts(take(tokens, rows)) == [texts[5], texts[0], texts[5]]
    for row, piece in zip(np.arange(50), _texts(crop(tokens, np.arange(50), OPTIONS.fit)), strict=True):
        whole = texts[row]
        assert any(whole[at : at + len(piece)] == piece for at in range(len(whole) - len(piece) + 1))
        assert len(piece) >= min(len(whole), OPTIONS.fit.least_tokens)
    crops = draw_crops(corpus, tokens, np.arange(len(corpus)), OPTIONS.fit)
    assert len(set(crops.source.tolist())) == len(set(zip(corpus.sets, corpus.domains, strict=True)))
