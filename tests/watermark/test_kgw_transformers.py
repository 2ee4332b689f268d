"""Green counts and z against `transformers`' own detector, live."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from watermark import kgw
from watermark.windows import windows

torch = pytest.importorskip("torch", reason="torch is an extra")
transformers = pytest.importorskip("transformers", reason="transformers is an extra")

VOCABULARIES = (32000, 50257, 128256)


def texts(count: int, vocab_size: int, seed: int, longest: int = 20) -> list[np.ndarray]:
    """Token ids with repeats: half of the tokens are drawn from a dozen."""
    rng = np.random.default_rng(seed)
    found = []
    for length in rng.integers(8, longest, count):
        common = rng.integers(1, 12, length)
        found.append(np.where(rng.random(length) < 0.5, common, rng.integers(1, vocab_size, length)).astype(np.int32))
    return found


def detector(key: kgw.Key, ignore_repeated_ngrams: bool):
    config = transformers.PretrainedConfig(vocab_size=key.vocab_size, bos_token_id=0)
    config.vocab_size, config.bos_token_id, config.is_encoder_decoder = key.vocab_size, 0, False
    watermark = transformers.WatermarkingConfig(
        greenlist_ratio=key.gamma, hashing_key=key.key, seeding_scheme=key.seeding, context_width=key.context_width
    )
    return transformers.WatermarkDetector(config, "cpu", watermark, ignore_repeated_ngrams=ignore_repeated_ngrams)


def z_score(green: int, scored: int, gamma: float) -> float:
    return (green - gamma * scored) / math.sqrt(scored * gamma * (1 - gamma))


def our_counts(tokens: np.ndarray, key: kgw.Key, once: bool) -> tuple[int, int]:
    """Green and all positions, or n-grams counted once, which is the published deduplication."""
    batch = windows(tokens, np.array([0, len(tokens)]), kgw.width(key))
    colours = kgw.colours(batch, key).tolist()
    if not once:
        return sum(colours), len(colours)
    size = kgw.width(key)
    ngrams = {tuple(tokens[p - size : p + 1].tolist()): c for p, c in zip(batch.positions, colours, strict=True)}
    return sum(ngrams.values()), len(ngrams)


def compare(vocab_size: int, seeding: str, context_width: int, gamma: float, hashing_key: int, count: int) -> int:
    key = kgw.Key(hashing_key, vocab_size, gamma, "transformers", seeding, context_width)
    green = 0
    plain, deduplicated = detector(key, False), detector(key, True)
    for tokens in texts(count, vocab_size, hashing_key % 2**32 + vocab_size):
        for once, theirs in ((False, plain), (True, deduplicated)):
            out = theirs(torch.from_numpy(tokens.astype(np.int64))[None], return_dict=True)
            ours = our_counts(tokens, key, once)
            assert ours == (out.num_green_tokens[0], out.num_tokens_scored[0])
            assert abs(z_score(*ours, gamma) - out.z_score[0]) <= 1e-6
            green += ours[0]
    return green


@pytest.mark.parametrize("vocab_size", VOCABULARIES)
@pytest.mark.parametrize(("seeding", "context_width"), [("lefthash", 1), ("lefthash", 3), ("selfhash", 4)])
def test_counts_are_those_of_the_library(vocab_size: int, seeding: str, context_width: int) -> None:
    rng = np.random.default_rng([vocab_size, context_width])
    keys = [kgw.DEFAULT_KEY, -int(rng.integers(2**40))]
    assert sum(compare(vocab_size, seeding, context_width, 0.25, key, 2) for key in keys)


@pytest.mark.parametrize(("context_width", "gamma"), [(1, 0.1), (2, 0.5), (5, 0.77)])
def test_other_widths_and_shares(context_width: int, gamma: float) -> None:
    assert compare(32000, "selfhash", context_width, gamma, 2**45 + 7, 2)
    assert compare(32000, "lefthash", context_width, gamma, 2**63 + 2**45 + 7, 2)


@pytest.mark.slow
@pytest.mark.parametrize("vocab_size", VOCABULARIES)
@pytest.mark.parametrize(("seeding", "context_width"), [("lefthash", 1), ("selfhash", 4)])
def test_counts_of_many_texts_and_keys(vocab_size: int, seeding: str, context_width: int) -> None:
    """A thousand texts under each of twenty keys, by both rules; texts of few tokens, so that n-grams recur."""
    rng = np.random.default_rng([vocab_size, context_width, 1])
    for hashing_key in rng.integers(1, 2**45, 20).tolist():
        key = kgw.Key(hashing_key, vocab_size, 0.25, "transformers", seeding, context_width)
        detectors = {once: detector(key, once) for once in (False, True)}
        remember_scores(list(detectors.values()))
        alphabet = rng.integers(1, vocab_size, 6 if seeding == "selfhash" else 30)
        for _ in range(1000):
            tokens = rng.choice(alphabet, 12).astype(np.int32)
            for once, theirs in detectors.items():
                out = theirs(torch.from_numpy(tokens.astype(np.int64))[None], return_dict=True)
                ours = our_counts(tokens, key, once)
                assert ours == (out.num_green_tokens[0], out.num_tokens_scored[0])
                assert abs(z_score(*ours, 0.25) - out.z_score[0]) <= 1e-6


def remember_scores(detectors: list) -> None:
    """The library's cache knows tensors by identity and never finds one again; this one knows them by their tokens."""
    scores: dict[tuple, bool] = {}
    score = detectors[0]._get_ngram_score

    def remembered(prefix, target: int) -> bool:
        ngram = (*prefix.tolist(), target)
        if ngram not in scores:
            scores[ngram] = score(prefix, target)
        return scores[ngram]

    for one in detectors:
        one._get_ngram_score_cached = remembered


def test_without_repeats_our_rule_is_theirs() -> None:
    """With one token of context, distinct (seed, token) pairs are distinct bigrams."""
    key = kgw.Key(kgw.DEFAULT_KEY, 32000)
    for tokens in texts(10, 32000, 5):
        batch = windows(tokens, np.array([0, len(tokens)]), 1)
        tally = kgw.score(batch, [key])
        assert (tally.statistic[0, 0], tally.scored[0, 0]) == our_counts(tokens, key, once=True)
        assert tally.scored[0, 0] == len(Counter(pairwise(tokens.tolist())))


@pytest.mark.parametrize("seeding", ["lefthash", "selfhash"])
def test_generation_marks_what_is_green(seeding: str) -> None:
    key = kgw.Key(15485863, 512, 0.25, "transformers", seeding, 4 if seeding == "selfhash" else 1)
    processor = transformers.generation.WatermarkLogitsProcessor(
        512, "cpu", greenlist_ratio=0.25, bias=2.0, hashing_key=key.key, seeding_scheme=seeding,
        context_width=key.context_width,
    )  # fmt: skip
    rng = np.random.default_rng(3)
    for _ in range(5):
        context, scores = rng.integers(0, 512, 9), torch.from_numpy(rng.normal(size=(1, 512)))
        raised = (processor(torch.from_numpy(context)[None], scores) - scores)[0].numpy() > 1
        if seeding == "lefthash":
            np.testing.assert_array_equal(raised, kgw.green_mask(context, key))
        else:
            best = np.argsort(-scores[0].numpy(), kind="stable")[:40]
            np.testing.assert_array_equal(raised[best], kgw.is_green(context, best, key))
