from __future__ import annotations

import doctest
import functools
import itertools
import random
import unicodedata
from collections.abc import Sequence
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash, MinHashLSH
from pydantic import ValidationError

from pipelines.neardup import bands, components, shingles
from pipelines.neardup import minhash as minhash_module
from pipelines.neardup.bands import WEIGHTS, band_hashes, hash_range, parameters
from pipelines.neardup.minhash import minhash, sign
from pipelines.neardup.options import NearDup
from pipelines.neardup.shingles import shingle_hashes
from pipelines.records import signatures_schema
from tests.neardup.support import tokens, vocabulary
from tests.neardup.test_real_texts import real_documents
from tests.neardup.test_shingles import SCRIPTS, in_order, made_texts


def reference(hashes: np.ndarray, permutations: int, seed: int) -> np.ndarray:
    sketch = empty_sketch(permutations, seed).copy()
    sketch.update_batch(hashes.tolist())
    return sketch.hashvalues


@functools.cache
def empty_sketch(permutations: int, seed: int) -> MinHash:
    return MinHash(num_perm=permutations, seed=seed, scheme="affine32", hashfunc=int)


def check(texts: Sequence[str], permutations: int, seed: int) -> None:
    column = pa.array(texts, pa.large_string())
    signed = sign(column, NearDup(permutations=permutations, seed=seed))
    hashes, offsets = shingle_hashes(column, NearDup().shingle)
    expected = np.stack([reference(hashes[a:b], permutations, seed) for a, b in itertools.pairwise(offsets)])
    assert signed.values.dtype == expected.dtype == np.uint32
    differing = np.flatnonzero((signed.values != expected).any(axis=1))
    assert [ascii(texts[row]) for row in differing] == []
    assert signed.shingles.tolist() == np.diff(offsets).tolist()


def test_signatures_of_ten_thousand_texts_are_those_of_datasketch() -> None:
    texts = made_texts(10000)
    assert len(texts) == 10000
    assert max(map(len, texts)) > 20000
    check(texts, 128, 1)


@pytest.mark.parametrize(("permutations", "seed"), [(16, 2**32 - 1), (128, 12345), (256, 0), (1000, 7)])
def test_other_options_give_the_signatures_of_datasketch(permutations: int, seed: int) -> None:
    check(made_texts(10000)[::20], permutations, seed)


def test_signatures_of_real_texts_are_those_of_datasketch() -> None:
    check(real_documents(2000), 128, 1)


@pytest.mark.parametrize(("permutations", "seed"), [(128, 1), (64, 7), (257, 2**32 - 1), (16, 0)])
def test_signatures_of_prose_in_many_scripts_are_those_of_datasketch(permutations: int, seed: int) -> None:
    rng = random.Random(3)
    words = vocabulary(rng)
    lengths = (1, 4, 5, 6, 100, 4100, 9000)  # the last two fill more than one block of the kernel
    texts = [*SCRIPTS.values(), "", "...", *(" ".join(rng.choices(words, k=n)) for n in lengths)]
    check(texts, permutations, seed)


# Texts that tools which split at spaces, or demand five words, take for the same one or pass over.
SHORT = {
    "one word": ["yes", "no", "maybe", "yess", "y", "ye", "s", "7", "77", "été", "ete"],
    "two words": ["good day", "day good", "good days", "goodday", "good", "day", "good good"],
    "four words": ["one two three four", "two one three four", "one two three", "one two three five", "four"],
    "Arabic": ["نعم", "لا", "شكرا", "شكرا جزيلا", "جزيلا شكرا", "كتب", "كتاب", "كُتِبَ", "السلام عليكم"],
    "Hebrew": ["כן", "לא", "תודה", "תודה רבה", "שלום", "שלום לך", "שָׁלוֹם"],
    "Japanese": [
        "はい",
        "いいえ",
        "いい",
        "うん",
        "ありがとう",
        "ありがとうございます",
        "日本",
        "本日",
        "東京",
        "京東",
        "ツ",
        "ッ",
    ],
    "Chinese": ["是", "不是", "是不", "好", "好好", "你好", "好你", "汉语", "漢語"],
    "Korean": ["네", "아니요", "예", "감사합니다", "감사", "사감"],
    "Thai": ["ใช่", "ไม่", "ไม่ใช่", "ขอบคุณ", "กา", "ก้า", "ก๊า"],
    "Hindi": ["हाँ", "नहीं", "ठीक", "ठीक है", "है ठीक", "कि", "की"],
    "emoji": ["🙂", "🙂🙂", "🙃", "🙂🙃", "🙃🙂", "👩‍👩‍👧", "👩👩👧", "🇫🇷", "🇫🇮", "👍", "👍🏽", "❤", "❤️"],
    "punctuation": [".", "..", "...", "…", "!", "!!", "?!", "!?", "-", "—", "***", "---", "( )", "()", "。", "、", "%"],
    "space": ["", " ", "  ", "\n", "\t", "\u3000", "\u200b", "\ufeff"],
    "symbols": ["$", "€", "+", "+-", "-+", "<>", "><", "♥", "♪♪", "☃", "\ue000", "\ue001"],
}


@pytest.mark.parametrize("kind", SHORT)
def test_unlike_short_texts_have_nothing_in_common_and_like_ones_all(kind: str) -> None:
    texts = SHORT[kind]
    signed = sign(pa.array([*texts, *texts], pa.large_string()), NearDup())
    assert (signed.shingles >= 1).all()
    first, again = signed.values[: len(texts)], signed.values[len(texts) :]
    np.testing.assert_array_equal(first, again)
    for one, other in itertools.combinations(range(len(texts)), 2):
        alike = (first[one] == first[other]).mean()
        # Longer than a shingle, ones in Japanese share some; a pair may agree by chance in 1 of 2^32.
        assert alike < 0.8, (texts[one], texts[other])
    if max(signed.shingles) == 1:
        assert len(np.unique(first[:, 0])) == len(texts)


def test_short_texts_in_other_clothes_are_the_same() -> None:
    for kind, texts in SHORT.items():
        if kind in ("emoji", "punctuation", "space", "symbols"):
            continue
        for dress in (str.upper, "  {}!\n".format, "«{}»".format, functools.partial(unicodedata.normalize, "NFD")):
            signed = sign(pa.array([*texts, *map(dress, texts)], pa.large_string()), NearDup())
            np.testing.assert_array_equal(signed.values[: len(texts)], signed.values[len(texts) :])


def test_no_two_short_texts_of_a_dictionary_collapse() -> None:
    """Texts of one to four tokens in every script: each has a hash of its own."""
    words = sorted({tuple(tokens(in_order(t[:60]))[:n]) for t in made_texts(10000)[::4] for n in (1, 2, 3, 4)} - {()})
    texts = [" ".join(w) for w in words]
    hashes, offsets = shingle_hashes(pa.array(texts, pa.large_string()), 5)
    assert len(hashes) == len(texts) == offsets[-1]
    # 32 bits: so many pairs are expected to collide, with a Poisson's spread.
    expected = len(texts) ** 2 / 2**33
    assert len(texts) - len(np.unique(hashes)) <= expected + 5 * expected**0.5 + 1


def test_any_hash_sets_can_be_signed() -> None:
    sets = [np.array([], np.uint32), np.array([0, 2**32 - 1, 5], np.uint32), np.arange(10000, dtype=np.uint32)]
    offsets = np.cumsum([0, *map(len, sets)])
    values = minhash(np.concatenate(sets), offsets, 128, 1)
    assert (values[0] == 0xFFFFFFFF).all()
    for row, hashes in enumerate(sets):
        np.testing.assert_array_equal(values[row], reference(hashes, 128, 1))


def test_estimate_is_unbiased_with_the_stated_standard_error() -> None:
    rng = np.random.default_rng(5)
    errors = []
    for true in np.repeat([0.5, 0.8, 0.95], 300):
        common = int(true * 1000)
        pool = rng.choice(2**32, 1000 + 1000 - common, replace=False).astype(np.uint32)
        hashes = np.concatenate([pool[:1000], pool[:common], pool[1000:]])
        a, b = minhash(hashes, np.array([0, 1000, len(hashes)]), 128, 1)
        errors.append((a == b).mean() - common / (2000 - common))
    errors_by_truth = np.array(errors).reshape(3, 300)
    truth = np.array([500 / 1500, 800 / 1200, 950 / 1050])
    standard = np.sqrt(truth * (1 - truth) / 128)
    assert (np.abs(errors_by_truth.mean(axis=1)) < 4 * standard / np.sqrt(300)).all()
    assert (np.abs(errors_by_truth.std(axis=1) / standard - 1) < 0.2).all()


def test_column_has_the_type_of_the_signature_schema() -> None:
    options = NearDup(permutations=32)
    signed = sign(pa.array(["one text", "another text"], pa.large_string()), options)
    column = signed.column()
    assert column.type == signatures_schema(32).field("signature").type
    assert [np.frombuffer(v.as_py(), "<u4").tolist() for v in column] == signed.values.tolist()


def test_bands_are_the_optimum_of_datasketch() -> None:
    for threshold, permutations in ((0.8, 128), (0.5, 64), (0.9, 256)):
        lsh = MinHashLSH(threshold=threshold, num_perm=permutations, weights=WEIGHTS)
        assert parameters(threshold, permutations) == (lsh.b, lsh.r)
    assert parameters(0.8, 128) == (16, 8)
    assert parameters(1.0, 32) == (2, 16)


def test_band_hashes_are_equal_where_the_band_is_and_only_there() -> None:
    rng = np.random.default_rng(2)
    left = rng.integers(0, 2**32, (2000, 128), dtype=np.uint32)
    right = np.where(rng.random((2000, 128)) < 0.97, left, left + 1).astype(np.uint32)
    banding = parameters(0.8, 128)
    rows = banding.rows
    cuts = [slice(rows * band, rows * (band + 1)) for band in range(banding.bands)]
    equal = np.array([(left[:, cut] == right[:, cut]).all(axis=1) for cut in cuts])
    assert 0.6 < equal.mean() < 0.9
    np.testing.assert_array_equal(band_hashes(left, banding) == band_hashes(right, banding), equal)
    same = np.full((1, 128), 7, np.uint32)
    assert len(np.unique(band_hashes(same, banding))) == banding.bands


@pytest.mark.parametrize("ranges", [1, 3, 16, 4096])
def test_hash_ranges_cover_all_hashes_in_order(ranges: int) -> None:
    hashes = np.sort(np.random.default_rng(1).integers(0, 2**64, 50000, dtype=np.uint64))
    at = hash_range(np.concatenate([[np.uint64(0)], hashes, [np.uint64(2**64 - 1)]]), ranges)
    assert at[0] == 0
    assert at[-1] == ranges - 1
    assert (np.diff(at) >= 0).all()


def test_options_are_checked() -> None:
    for wrong in (
        {"threshold": 0},
        {"threshold": 1.01},
        {"shingle": 0},
        {"permutations": 8},
        {"seed": -1},
        {"rnages": 2},
    ):
        with pytest.raises(ValidationError):
            NearDup(**wrong)
    with pytest.raises(ValidationError):
        NearDup().threshold = 0.5


@pytest.mark.parametrize("module", [bands, components, minhash_module, shingles])
def test_examples_in_docstrings(module: ModuleType) -> None:
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted
    assert not result.failed
