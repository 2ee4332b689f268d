import hashlib
import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from watermark import synthid, synthid_sha256
from watermark.synthid_ngrams import depth_weights
from watermark.synthid_sha256 import PUBLISHED_KEYS, Key
from watermark.windows import WHOLE, windows

VECTORS = json.loads((Path(__file__).parents[1] / "assets/watermark/synthid_sha256.json").read_text())
MASK = (1 << 64) - 1


def zipf(seed: int, count: int, vocabulary: int) -> Any:
    return (np.random.RandomState(seed).zipf(1.15, count) % vocabulary).astype(np.int32)


def digest(values: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(values, np.uint8).tobytes()).hexdigest()


def random_keys(count: int, depth: int = 30, seed: int = 0, **parameters: Any) -> list[Key]:
    values = np.random.default_rng(seed).integers(-(1 << 63), (1 << 63) - 1, (count, depth)).tolist()
    return [Key(keys=tuple(row), **{"vocab_size": 50257, **parameters}) for row in values]


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: f"seed{case['seed']}")
def test_g_values_masks_and_scores_of_the_published_code(case: dict[str, Any]) -> None:
    shape = {name: case[name] for name in ("vocab_size", "ngram_len", "context_history_size")}
    tokens = zipf(case["seed"], case["tokens"], case["vocab_size"])
    key = Key(keys=tuple(case["keys"]), **shape)
    assert synthid_sha256.start(key.keys) == case["hash_iv"]
    bits, mask = synthid_sha256.g_values(tokens, key), synthid_sha256.context_repetition_mask(tokens, key)
    assert bits.sum(axis=0).tolist() == case["g_sums"]
    assert digest(bits) == case["g_sha256"]
    assert (int(mask.sum()), digest(mask)) == (case["mask_sum"], case["mask_sha256"])
    for statistic in ("mean", "weighted_mean"):
        weights = depth_weights(len(key.keys), statistic)
        ours = (bits[mask] @ weights).sum() / (weights.sum() * mask.sum())
        assert ours == pytest.approx(case[f"{statistic}_score"], abs=1e-12)


def by_hand(ngram: tuple[int, ...], key: Key) -> list[int]:
    """The g values of one n-gram in whole numbers of any size."""
    state = synthid_sha256.start(key.keys)
    for token in ngram:
        state = (state + token) * 6364136223846793005 + 1 & MASK
    bits = []
    for depth in key.keys:
        value = (state + depth) * 6364136223846793005 + 1 & MASK
        for _ in range(12):
            value = (value + 1) * 6364136223846793005 + 1 & MASK
            value = ((value - (1 << 64) if value >> 63 else value) >> 5) & MASK
        bits.append(value >> 30 & 1)
    return bits


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(-1, 4), max_size=40), min_size=1, max_size=3),
    st.sampled_from([1, 7, WHOLE]),
    st.sampled_from(["mean", "weighted_mean"]),
    st.integers(2, 4),
)
def test_scores_by_hand(documents: list[list[int]], block: int, statistic: str, length: int) -> None:
    keys = random_keys(2, 4, vocab_size=4, ngram_len=length, statistic=statistic)
    weights = depth_weights(4, statistic)  # type: ignore[arg-type]
    tokens = np.array([token for document in documents for token in document], np.int32)
    batch = windows(tokens, np.cumsum([0, *map(len, documents)]), length - 1, block)
    tally = synthid_sha256.score(batch, keys)
    number = 0
    for first, last in zip(batch.documents, batch.documents[1:], strict=False):
        seen: set[tuple[int, ...]] = set()
        for start, stop in zip(batch.blocks[first:last], batch.blocks[first + 1 : last + 1], strict=True):
            ngrams = [tuple(tokens[end - length + 1 : end + 1].tolist()) for end in batch.positions[start:stop]]
            new = [ngram for ngram in dict.fromkeys(ngrams) if ngram not in seen and -1 not in ngram and 4 not in ngram]
            seen.update(ngrams)
            assert tally.scored[number].tolist() == [len(new)] * 2
            expected = [sum(int(np.dot(by_hand(ngram, key), weights)) for ngram in new) for key in keys]
            assert tally.statistic[number].tolist() == expected
            number += 1
    assert number == len(tally.scored)


def test_the_whole_vocabulary_behind_a_context() -> None:
    (key,) = random_keys(1, vocab_size=3000)
    context = np.array([7, 0, 2999, 5], np.int32)
    bits = synthid_sha256.g_values_for(context, key)
    assert bits.shape == (3000, 30)
    for token in (0, 1, 1500, 2999):
        assert bits[token].tolist() == by_hand((*context.tolist(), token), key)
    with pytest.raises(ValueError, match="a context of 4 tokens"):
        synthid_sha256.g_values_for(np.zeros(5, np.int32), key)


def test_bits_are_fair_but_those_of_a_token_are_not_independent() -> None:
    tokens = np.random.default_rng(1).integers(0, 256000, 200_000).astype(np.int32)
    bits = synthid_sha256.g_values(tokens, Key(keys=PUBLISHED_KEYS, vocab_size=256000)).astype(float)
    assert np.abs((bits.mean(axis=0) - 0.5) * 2 * np.sqrt(len(bits))).max() < 4.5
    correlations = np.corrcoef(bits.T)[~np.eye(30, dtype=bool)]
    assert 8 < np.sqrt((correlations**2).mean() * len(bits)) < 20
    assert 1.04 < bits.sum(axis=1).var() / 7.5 < 1.09


@pytest.mark.parametrize("statistic", ["mean", "weighted_mean"])
def test_the_null_of_a_key_is_as_wide_as_its_tokens(statistic: str) -> None:
    for key in random_keys(3, seed=3, statistic=statistic):
        tokens = np.random.default_rng(1).integers(0, 50257, 1_000_000).astype(np.int32)
        sums = synthid_sha256.g_values(tokens, key) @ depth_weights(30, key.statistic)
        null = synthid_sha256._null(key)
        assert null.mean == pytest.approx(synthid_sha256.null_mean([key])[0], abs=1e-9)
        error = np.sqrt(2 / len(sums))
        assert -4 * error <= null.cumulants[1] / sums.var() - 1 <= 10 * error


def test_depths_with_one_key_have_one_bit() -> None:
    key = Key(keys=(5, 6, 5), vocab_size=50257)
    bits = synthid_sha256.g_values(zipf(1, 5000, 50257), key)
    assert np.array_equal(bits[:, 0], bits[:, 2])
    together = synthid_sha256._null(key).cumulants[1]
    assert together == pytest.approx(1.25, rel=0.1)
    assert synthid_sha256.null_mean([key]).tolist() == [1.5]


def exceedances_hold(log_p: Any) -> None:
    """Rates within what chance allows: never above nominal, and not far below, else the test has no power."""
    for rate in (0.5, 0.1, 0.01, 0.001):
        hits = int((log_p <= np.log(rate)).sum())
        assert hits <= stats.binom.ppf(1 - 1e-4, log_p.size, rate)
        assert hits >= stats.binom.ppf(1e-4, log_p.size, 0.9 * rate)


@pytest.mark.parametrize("statistic", ["mean", "weighted_mean"])
def test_random_texts_under_one_key(statistic: str) -> None:
    (wide,) = random_keys(1)  # of forty tried, the one whose tokens vary most: 1.11 times as fair coins
    assert synthid_sha256._null(wide).cumulants[1] > 1.1 * 7.5
    parameters: dict[str, Any] = {"vocab_size": 50257, "statistic": statistic}
    lengths = np.random.default_rng(5).choice([60, 100], 20_000)
    tokens = np.random.default_rng(6).integers(0, 50257, lengths.sum()).astype(np.int32)
    batch = windows(tokens, np.concatenate([[0], np.cumsum(lengths)]), 4)
    for key in (Key(keys=PUBLISHED_KEYS, **parameters), Key(keys=wide.keys, **parameters)):
        tally = synthid_sha256.score(batch, [key])
        exceedances_hold(synthid_sha256.log_p_value(tally.statistic, tally.scored, [key]))


@pytest.mark.parametrize("statistic", ["mean", "weighted_mean"])
def test_human_texts_under_random_keys(statistic: str) -> None:
    from tests.crawls import SHARED  # here, since it needs Beam and the tests against torch do not

    if not (SHARED / "text").is_dir():
        pytest.skip("no ../shared/text")
    rows = pq.read_table(SHARED / "text/human_pre2020.parquet", columns=["text"])["text"].to_pylist()
    found = [re.findall(r"\w+|[^\w\s]", text) for text in rows[:: len(rows) // 400]]
    tokens = np.array([zlib.crc32(word.encode()) % 50257 for words in found for word in words], np.int32)
    keys = random_keys(15, seed=8, statistic=statistic)
    tally = synthid_sha256.score(windows(tokens, np.cumsum([0, *map(len, found)]), 4), keys)
    exceedances_hold(synthid_sha256.log_p_value(tally.statistic, tally.scored, keys))


@pytest.mark.parametrize("statistic", ["mean", "weighted_mean"])
def test_marked_text_is_found_by_its_own_variant_and_key_only(statistic: str) -> None:
    parameters: dict[str, Any] = {"vocab_size": 1000, "statistic": statistic}
    tokens = np.array(VECTORS["marked"], np.int32)
    batch = windows(tokens.reshape(-1), np.arange(len(tokens) + 1) * tokens.shape[1], 4)
    keys = [Key(keys=PUBLISHED_KEYS, **parameters), *random_keys(9, **parameters)]
    tally = synthid_sha256.score(batch, keys)
    log_p = synthid_sha256.log_p_value(tally.statistic, tally.scored, keys)
    assert log_p[:, 0].max() < -100
    assert log_p[:, 1:].min() > np.log(1e-4)
    table = [synthid.Key(keys=PUBLISHED_KEYS, **parameters)]
    other = synthid.score(batch, table)
    assert synthid.log_p_value(other.statistic, other.scored, table).min() > np.log(1e-4)


def test_wrong_parameters_and_hidden_keys() -> None:
    with pytest.raises(ValueError, match="statistic"):
        Key(keys=(1,), vocab_size=10, statistic="median")  # type: ignore[arg-type]
    assert "918273645" not in repr(Key(keys=(918273645,), vocab_size=10))
