"""Real human text under many keys: our p-values hold their rates, those without deduplication do not."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from scipy import stats

from benchmarks import watermark_null as benchmark
from benchmarks.watermark_null import SUBJECTS, Corpus, Group, keys_of, measure, ours, read_corpus, train_tokenizer
from benchmarks.watermark_rules import published
from tests.crawls import SHARED
from watermark.tokens import load_tokenizer

VOCABULARY = 8000
KEYS = {
    "unigram-default": 12,
    "exponential-textseal-default": 12,
    "synthid-transformers-example": 3,
    "kgw-transformers-lefthash": 4,
}
BY_NAME = {subject.public: subject for subject in SUBJECTS}
TEXT = SHARED / "text"

pytestmark = pytest.mark.skipif(not TEXT.is_dir(), reason="the shared text sets are not here")


class Real(NamedTuple):
    corpus: Corpus
    vocabulary: int


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Real:
    path: Path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    texts, _ = benchmark.human_rows(TEXT)
    train_tokenizer([text[:1000] for text in texts[::40]], VOCABULARY, path)
    tokenizer = load_tokenizer(str(path))
    return Real(read_corpus(TEXT, tokenizer, documents=2300), tokenizer.size)


def random_keys(real: Real, name: str) -> Group:
    """Keys but for the public one, which is no random one."""
    group = keys_of(BY_NAME[name], real.vocabulary, KEYS[name], seed=1)
    return group._replace(keys=group.keys[1:])


def rates(log_p: np.ndarray, level: float) -> np.ndarray:
    """float64[k]: each key's share of tested documents with a p-value of at most ``level``."""
    hits = np.where(np.isnan(log_p), np.nan, log_p <= np.log(level))
    return np.asarray(np.nanmean(hits, axis=0))


@pytest.mark.parametrize("name", KEYS)
def test_rates_hold_over_keys_when_exact_and_for_each_key_when_calibrated(real: Real, name: str) -> None:
    """Documents share a key's lean: over keys the error is that between keys; with a null each key stands alone."""
    measured = measure(random_keys(real, name), real.corpus)
    exact, scan, calibrated = (tested.log_p for tested in ours(measured))
    for level in (1e-2, 1e-3):
        for log_p in (exact, scan):
            each = rates(log_p, level)
            error = each.std(ddof=1) / np.sqrt(len(each))
            assert each.mean() <= level + 3.5 * max(error, np.sqrt(level / np.count_nonzero(~np.isnan(log_p))))
    assert rates(exact, 1e-2).mean() > 1.5e-3, "so few that the test says nothing"
    tests = np.count_nonzero(~np.isnan(calibrated[:, 0]))
    for rate in rates(calibrated, 1e-2):
        chance = stats.binomtest(round(rate * tests), tests, 1e-2, alternative="greater").pvalue
        assert chance > 1e-3 / len(calibrated[0])


@pytest.mark.parametrize("name", ["unigram-default", "exponential-textseal-default", "kgw-transformers-lefthash"])
def test_published_rules_without_deduplication_fire_far_too_often(real: Real, name: str) -> None:
    group = random_keys(real, name)
    some = real.corpus.take(np.arange(500))
    rules = BY_NAME[name].rules
    found = dict(published(rules, group.scheme, group.keys, some.tokens, some.offsets, benchmark.LEAST))
    every = rates(found["no deduplication"], 3.2e-5)  # z > 4
    assert every.mean() > 1e-3, "thirty times the nominal rate"
    if "n-gram deduplication" in found:
        assert rates(found["n-gram deduplication"], 3.2e-5).mean() < every.mean() / 10


def test_single_positions_add_up_to_the_score_where_nothing_repeats(real: Real) -> None:
    """What published rules sum is our score of each position: with the repeats left out it is our score."""
    some = real.corpus.take(np.arange(100))
    for name in ("kgw-transformers-lefthash", "exponential-textseal-default"):
        group = random_keys(real, name)
        whole = measure(group, some).whole
        width = group.width
        for number in range(0, 100, 20):
            tokens = some.tokens[some.offsets[number] : some.offsets[number + 1]]
            grams = np.lib.stride_tricks.sliding_window_view(tokens, width + 1)
            _, first = np.unique(grams, axis=0, return_index=True)
            alone = grams[np.sort(first)].ravel().astype(np.int32)
            offsets = np.arange(len(first) + 1, dtype=np.int64) * (width + 1)
            total = measure(group, Corpus(alone, offsets, *(np.repeat("", len(first)) for _ in range(4)))).whole
            np.testing.assert_allclose(total.statistic.sum(axis=0), whole.statistic[number], rtol=1e-9)
            assert np.array_equal(total.scored.sum(axis=0), whole.scored[number])


def test_halves_share_no_group(real: Real) -> None:
    half, groups = real.corpus.half, real.corpus.group
    assert not set(groups[half].tolist()) & set(groups[~half].tolist())
    assert 0.3 < half.mean() < 0.7
