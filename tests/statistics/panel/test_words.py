import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.statistics.panel.words import Words, ngram_keys, word_hashes


def hashed(*texts: str | None) -> Words:
    return word_hashes(pa.array(texts, pa.large_string()))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(codec="ascii"), max_size=60), max_size=5))
def test_two_ascii_words_have_one_hash_if_and_only_if_they_are_the_same_when_folded(texts: list[str]) -> None:
    words = hashed(*texts)
    expected = [re.findall("[a-z0-9]+", text.lower()) for text in texts]
    assert np.diff(words.offsets).tolist() == [len(one) for one in expected]
    flat = [word for one in expected for word in one]
    assert len(set(zip(flat, words.keys.tolist(), strict=True))) == len(set(flat)) == len(set(words.keys.tolist()))


def test_case_width_and_accents_are_folded_and_a_han_character_is_a_word() -> None:
    words = hashed("Straße ＡＢＣ café", "STRASSE abc cafe\u0301", "我爱北京", "我 爱 北 京")
    first, second, third, fourth = (words.take(np.array([i])).keys.tolist() for i in range(4))
    assert first == second
    assert third == fourth
    assert len(set(third)) == 4


def test_odd_texts_have_the_words_they_seem_to_have() -> None:
    words = hashed("", None, "one", "😀🎉\0\0", "a\0b", "x" * 1_000_000, "y " * 100_000)
    assert np.diff(words.offsets).tolist() == [0, 0, 1, 0, 2, 1, 100_000]


def test_no_text_has_no_words() -> None:
    assert hashed().offsets.tolist() == [0]
    assert ngram_keys(hashed(), 3).offsets.tolist() == [0]


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_ngrams_are_the_runs_of_words_within_each_text(order: int) -> None:
    texts = ["a b c d a b c", "b", "a b", "", "c d a b c d e"]
    keys, offsets = ngram_keys(hashed(*texts), order)
    expected = [tuple(t.split()[i : i + order]) for t in texts for i in range(len(t.split()) - order + 1)]
    assert np.diff(offsets).tolist() == [max(len(t.split()) - order + 1, 0) for t in texts]
    assert len(set(zip(expected, keys.tolist(), strict=True))) == len(set(expected)) == len(set(keys.tolist()))


@pytest.mark.parametrize("rows", [[], [0, 1, 2], [1, 2], [3, 0], [2, 2]])
def test_the_words_of_some_texts(rows: list[int]) -> None:
    texts = ["a b c", "", "d e", "f"]
    taken = hashed(*texts).take(np.array(rows, np.int64))
    direct = hashed(*(texts[i] for i in rows))
    assert taken.keys.tolist() == direct.keys.tolist()
    assert taken.offsets.tolist() == direct.offsets.tolist()
