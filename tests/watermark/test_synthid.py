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

from watermark import synthid
from watermark.synthid import PUBLISHED_KEYS, Key
from watermark.synthid_ngrams import depth_weights
from watermark.windows import WHOLE, Batch, windows

VECTORS = json.loads((Path(__file__).parents[1] / "assets/watermark/synthid.json").read_text())
PARAMETERS = ("vocab_size", "ngram_len", "context_history_size", "sampling_table_size", "sampling_table_seed")


def zipf(seed: int, count: int, vocabulary: int) -> Any:
    return (np.random.RandomState(seed).zipf(1.15, count) % vocabulary).astype(np.int32)


def digest(values: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(values, np.uint8).tobytes()).hexdigest()


def random_keys(count: int, depth: int = 30, seed: int = 0, **parameters: Any) -> list[Key]:
    values = np.random.default_rng(seed).integers(-(1 << 63), (1 << 63) - 1, (count, depth)).tolist()
    return [Key(keys=tuple(row), **{"vocab_size": 50257, **parameters}) for row in values]


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: f"seed{case['seed']}")
def test_g_values_and_masks_of_transformers(case: dict[str, Any]) -> None:
    key = Key(keys=tuple(case["keys"]), **{name: case[name] for name in PARAMETERS})
    tokens = zipf(case["seed"], case["tokens"], case["vocab_size"])
    bits, mask = synthid.g_values(tokens, key), synthid.context_repetition_mask(tokens, key)
    assert bits.sum(axis=0).tolist() == case["g_sums"]
    assert digest(bits) == case["g_sha256"]
    assert (int(mask.sum()), digest(mask)) == (case["mask_sum"], case["mask_sha256"])


def processor(key: Key) -> Any:
    torch = pytest.importorskip("torch", reason="the published processor needs torch")
    transformers = pytest.importorskip("transformers", reason="holds the published processor")
    return transformers.SynthIDTextWatermarkLogitsProcessor(
        ngram_len=key.ngram_len,
        keys=list(key.keys),
        sampling_table_size=key.sampling_table_size,
        sampling_table_seed=key.sampling_table_seed,
        context_history_size=key.context_history_size,
        device=torch.device("cpu"),
    )


@pytest.mark.parametrize("size", [1 << 16, 1 << 20, 65537, 999])
@pytest.mark.parametrize("tokens", [3_000, pytest.param(350_000, marks=pytest.mark.slow)])
def test_bit_equal_to_transformers_live(size: int, tokens: int) -> None:
    (key,) = random_keys(1, seed=size, vocab_size=151936, sampling_table_size=size, sampling_table_seed=size)
    text = zipf(size, tokens, 151936)
    text[1000:1400] = text[:400]
    published = processor(key)
    torch = pytest.importorskip("torch")
    ids = torch.tensor(text.astype(np.int64))[None]
    bits = synthid.g_values(text, key)
    assert bits.shape == (tokens - 4, 30)
    assert np.array_equal(bits, published.compute_g_values(ids)[0].numpy())
    short = text[:20_000]
    mask = published.compute_context_repetition_mask(ids[:, :20_000])[0].numpy()
    assert np.array_equal(synthid.context_repetition_mask(short, key), mask)
    assert not mask.all()
    for end in (int(text[5]), int(text[-1]), 151935):
        assert np.array_equal(
            synthid.before_eos(text, end), published.compute_eos_token_mask(ids, end)[0].numpy().astype(bool)
        )


@pytest.mark.parametrize("size", [1 << 16, 1000])
def test_the_whole_vocabulary_behind_a_context(size: int) -> None:
    (key,) = random_keys(1, vocab_size=3000, sampling_table_size=size)
    context = np.array([7, 0, 2999, 5], np.int32)
    bits = synthid.g_values_for(context, key)
    for token in (0, 1, 1500, 2999):
        assert np.array_equal(bits[token], synthid.g_values(np.append(context, token).astype(np.int32), key)[0])
    published = processor(key)
    torch = pytest.importorskip("torch")
    theirs, _ = published._compute_keys(torch.tensor(context.astype(np.int64))[None], torch.arange(3000)[None])
    assert np.array_equal(bits, published.sample_g_values(theirs)[0].numpy())


def test_a_context_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="a context of 4 tokens"):
        synthid.g_values_for(np.zeros(5, np.int32), random_keys(1)[0])


def test_table_of_torch_on_a_cpu() -> None:
    torch = pytest.importorskip("torch", reason="compares with torch.randint")
    for seed in (0, 1, 15485863, (1 << 32) + 5, -3, (1 << 63) - 1):
        for size in (1 << 16, 1000, 3):
            theirs = torch.randint(0, 2, (size,), generator=torch.Generator().manual_seed(seed))
            assert np.array_equal(synthid.sampling_table(size, seed), theirs.numpy())


def test_table_of_torch_on_a_gpu() -> None:
    # After torch.manual_seed(0), torch.rand on any CUDA device gives these, which many projects print; a second call
    # goes on with the next step of every thread.
    words = synthid._philox(10, 0, 256) / 2.0**32
    assert np.round(words, 4).tolist() == [
        0.3990,
        0.5167,
        0.0249,
        0.9401,
        0.9459,
        0.7967,
        0.4150,
        0.8203,
        0.2290,
        0.9096,
    ]
    steps = synthid._philox(8 * 256, 0, 256).reshape(2, 4, 256) / 2.0**32
    assert np.round(steps[1, 0, :4], 4).tolist() == [0.9722, 0.7910, 0.4690, 0.3300]
    # The known-answer test of Random123 for a counter and key of 0: the four words of thread 0.
    assert [hex(word) for word in synthid._philox(1024, 0, 256)[::256]] == [
        "0x6627e8d5",
        "0xe169c58d",
        "0xbc57ac4c",
        "0x9b00dbd8",
    ]
    assert np.array_equal(synthid._philox(5000, 9, 8192), synthid._philox(5000, 9, 5000))
    gpu = Key(keys=PUBLISHED_KEYS, vocab_size=50257, generator="philox")
    tokens = zipf(3, 500, 50257)
    assert not np.array_equal(
        synthid.g_values(tokens, gpu), synthid.g_values(tokens, Key(keys=PUBLISHED_KEYS, vocab_size=50257))
    )


def by_hand(batch: Batch, keys: list[Key]) -> tuple[list[list[int]], list[int]]:
    sums, counts = [], []
    length = keys[0].ngram_len
    weights = depth_weights(len(keys[0].keys), keys[0].statistic)
    for document in range(len(batch.documents) - 1):
        seen: set[tuple[int, ...]] = set()
        for block in range(batch.documents[document], batch.documents[document + 1]):
            total, count = np.zeros(len(keys), int), 0
            for end in batch.positions[batch.blocks[block] : batch.blocks[block + 1]]:
                ngram = tuple(batch.tokens[end - length + 1 : end + 1].tolist())
                if ngram in seen or min(ngram) < 0 or max(ngram) >= keys[0].vocab_size:
                    continue
                seen.add(ngram)
                count += 1
                total += [int(synthid.g_values(np.array(ngram, np.int32), key)[0] @ weights) for key in keys]
            sums.append(total.tolist())
            counts.append(count)
    return sums, counts


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(-1, 4), max_size=40), min_size=1, max_size=4),
    st.sampled_from([1, 7, WHOLE]),
    st.sampled_from([1 << 16, 1 << 8, 1000, 1]),
    st.sampled_from(["mean", "weighted_mean"]),
    st.integers(2, 4),
    st.sampled_from([1, 3]),
)
def test_scores_by_hand(
    documents: list[list[int]], block: int, size: int, statistic: str, length: int, count: int
) -> None:
    keys = random_keys(
        count, 5, vocab_size=4, ngram_len=length, sampling_table_size=size, statistic=statistic, sampling_table_seed=2
    )
    tokens = np.array([token for document in documents for token in document], np.int32)
    offsets = np.cumsum([0, *map(len, documents)])
    batch = windows(tokens, offsets, synthid.width(keys[0]), block)
    tally = synthid.score(batch, keys)
    sums, counts = by_hand(batch, keys)
    assert tally.statistic.reshape(-1, count).tolist() == sums
    assert tally.scored.tolist() == [[number] * count for number in counts]


def test_the_null_is_the_table_state_by_state() -> None:
    for key in random_keys(3, 9, sampling_table_size=1 << 12, statistic="weighted_mean"):
        states = synthid._lookup((key,))[:, 0]
        null = synthid._null(key)
        expected = np.bincount(states) / len(states)
        assert np.allclose(np.pad(null.frequencies, (null.lowest, 0)), expected, rtol=0, atol=1e-15)
        assert synthid.null_mean([key])[0] == pytest.approx(states.mean())
        ones = synthid.sampling_table(1 << 12, 0).mean()
        assert synthid.null_mean([key])[0] == pytest.approx(ones * depth_weights(9, "weighted_mean").sum())


@pytest.mark.parametrize("size", [3, 10, 999])
def test_the_null_of_a_table_of_any_size(size: int) -> None:
    rng = np.random.default_rng(size)
    for key in random_keys(3, 6, seed=size, sampling_table_size=size, vocab_size=1 << 30):
        tokens = rng.integers(0, 1 << 30, 400_000).astype(np.int32)
        sums = np.bincount(synthid.g_values(tokens, key).sum(axis=1), minlength=7)
        null = synthid._null(key)
        assert null.frequencies.sum() == pytest.approx(1)
        expected = np.zeros(7)
        expected[null.lowest : null.lowest + len(null.frequencies)] = null.frequencies * sums.sum()
        assert np.all(sums[expected == 0] == 0)
        assert stats.chisquare(sums[expected > 0], expected[expected > 0]).pvalue > 1e-4


def exceedances_hold(log_p: Any) -> None:
    """Rates within what chance allows: never above nominal, and not far below, else the test has no power."""
    for rate in (0.5, 0.1, 0.01, 0.001):
        hits = int((log_p <= np.log(rate)).sum())
        assert hits <= stats.binom.ppf(1 - 1e-4, log_p.size, rate)
        assert hits >= stats.binom.ppf(1e-4, log_p.size, 0.9 * rate)


@pytest.mark.parametrize("size", [1 << 16, 1000])
@pytest.mark.parametrize("statistic", ["mean", "weighted_mean"])
def test_random_texts_under_one_key(size: int, statistic: str) -> None:
    parameters: dict[str, Any] = {"vocab_size": 50257, "statistic": statistic, "sampling_table_size": size}
    keys = [Key(keys=PUBLISHED_KEYS, **parameters)]
    lengths = np.random.default_rng(5).choice([80, 150, 300], 6000)
    tokens = np.random.default_rng(6).integers(0, 50257, lengths.sum()).astype(np.int32)
    tally = synthid.score(windows(tokens, np.concatenate([[0], np.cumsum(lengths)]), 4), keys)
    exceedances_hold(synthid.log_p_value(tally.statistic, tally.scored, keys))


def human_tokens(texts: int) -> tuple[Any, Any]:
    """Words, spaces and signs of human texts as ids: as uneven and repetitive as text is."""
    from tests.crawls import SHARED  # here, since it needs Beam and the tests against torch do not

    if not (SHARED / "text").is_dir():
        pytest.skip("no ../shared/text")
    rows = pq.read_table(SHARED / "text/human_pre2020.parquet", columns=["text"])["text"].to_pylist()
    found = [re.findall(r"\w+|[^\w\s]", text) for text in rows[:: len(rows) // texts]]
    ids = np.array([zlib.crc32(word.encode()) % 50257 for words in found for word in words], np.int32)
    return ids, np.cumsum([0, *map(len, found)])


@pytest.mark.parametrize("statistic", ["mean", "weighted_mean"])
def test_human_texts_under_random_keys(statistic: str) -> None:
    tokens, offsets = human_tokens(400)
    keys = random_keys(40, seed=8, statistic=statistic)
    batch = windows(tokens, offsets, 4)
    tally = synthid.score(batch, keys)
    assert tally.scored.sum() < 40 * len(batch.positions)
    exceedances_hold(synthid.log_p_value(tally.statistic, tally.scored, keys))


@pytest.mark.parametrize("statistic", ["mean", "weighted_mean"])
def test_text_marked_by_transformers_is_found_under_its_key_only(statistic: str) -> None:
    parameters: dict[str, Any] = {"vocab_size": 1000, "statistic": statistic}
    keys = [Key(keys=PUBLISHED_KEYS, **parameters), *random_keys(9, **parameters)]
    tokens = np.array(VECTORS["marked"], np.int32)
    tally = synthid.score(windows(tokens.reshape(-1), np.arange(4) * tokens.shape[1], 4), keys)
    log_p = synthid.log_p_value(tally.statistic, tally.scored, keys)
    assert log_p[:, 0].max() < -100
    assert log_p[:, 1:].min() > np.log(1e-4)
    other_table = [Key(keys=PUBLISHED_KEYS, generator="philox", **parameters)]
    unread = synthid.score(windows(tokens.reshape(-1), np.arange(4) * tokens.shape[1], 4), other_table)
    assert synthid.log_p_value(unread.statistic, unread.scored, other_table).min() > np.log(1e-4)


def test_the_last_whole_number_counts() -> None:
    (key,) = random_keys(1)
    between = synthid.log_p_value(np.array([[1600.7], [1600.0]]), np.array([[100], [100]]), [key])
    assert between[0] == between[1] < np.log(1e-2)
    assert synthid.log_p_value(np.zeros((1, 1)), np.zeros((1, 1), np.int64), [key]).tolist() == [[0.0]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"keys": ()},
        {"keys": (1 << 63,)},
        {"ngram_len": 1},
        {"vocab_size": 0},
        {"context_history_size": 0},
        {"sampling_table_size": 0},
        {"statistic": "median"},
        {"generator": "pcg"},
        {"generator_threads": 4},
    ],
)
def test_parameters_that_no_generator_takes(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Key(**{"keys": (1, 2), "vocab_size": 10, **wrong})


def test_keys_do_not_show() -> None:
    assert "918273645" not in repr(Key(keys=(918273645,), vocab_size=10))
    with pytest.raises(ValueError) as error:  # noqa: PT011
        Key(keys=(918273645 << 40,), vocab_size=10)
    assert "918273645" not in str(error.value)
