"""Unigram against vectors of its authors' program, and its p-values under random keys."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest

from watermark import unigram
from watermark.windows import Batch, windows

VECTORS = Path(__file__).parents[1] / "assets" / "watermark" / "unigram.json"


def document(tokens: list[int] | np.ndarray) -> Batch:
    return windows(np.asarray(tokens, np.int32), np.array([0, len(tokens)]), 0)


def test_masks_and_counts_are_those_of_the_authors() -> None:
    cases = json.loads(VECTORS.read_text())["cases"]
    assert len(cases) >= 18
    for number, vocab_size, gamma, green, digest, tokens, count, distinct, z in cases:
        key = unigram.Key(number, vocab_size, gamma)
        mask = unigram.green_mask(key)
        assert mask.sum() == green == round(unigram.null_mean([key])[0] * vocab_size)
        assert hashlib.sha256(np.packbits(mask).tobytes()).hexdigest() == digest
        tally = unigram.score(document(tokens), [key])
        assert (tally.statistic[0, 0], tally.scored[0, 0]) == (count, distinct)
        assert abs((count - gamma * distinct) / math.sqrt(gamma * (1 - gamma) * distinct) - z) <= 1e-6


def test_a_token_counts_once_a_document_where_it_first_stands() -> None:
    keys = [unigram.Key(number, 100) for number in range(3)]
    tokens = np.array([7, 7, 8, 9, 8, 7, 1, 150, 2, -1, 2, 7], np.int32)
    batch = windows(tokens, np.array([0, 6, 6, 12]), 0, 3)
    tally = unigram.score(batch, keys)
    expected = [{7, 8}, {9}, {1, 2}, {7}]  # the last two blocks: 1 · 2 and · 2 7
    for b, distinct in enumerate(expected):
        assert tally.scored[b].tolist() == [len(distinct)] * 3
        for column, key in enumerate(keys):
            assert tally.statistic[b, column] == sum(unigram.green_mask(key)[token] for token in distinct)


def test_p_values_are_exact_under_random_keys() -> None:
    rng = np.random.default_rng(3)
    tokens = rng.integers(0, 400, 150)
    keys = [unigram.Key(int(number), 400, 0.3) for number in rng.integers(0, 2**62, 4000)]
    tally = unigram.score(document(tokens), keys)
    log_p = unigram.log_p_value(tally.statistic, tally.scored, keys)[0]
    counts, share = np.unique(np.round(log_p, 9), return_counts=True)
    # A discrete p-value p is reached with probability p.
    for level, reached in zip(np.exp(counts), np.cumsum(share) / len(keys), strict=True):
        assert abs(reached - level) <= 5 * math.sqrt(level * (1 - level) / len(keys)) + 1e-12
    assert unigram.log_p_value(np.zeros(1), np.zeros(1, np.int64), keys[:1]).tolist() == [0.0]
    shifted = unigram.log_p_value(tally.statistic + 0.7, tally.scored, keys)[0]
    np.testing.assert_array_equal(shifted, log_p)


@pytest.mark.parametrize("change", [{"gamma": 0.0}, {"gamma": 1e-9}, {"vocab_size": 1}, {"key": 2**63}])
def test_what_the_program_cannot_have_made_is_refused(change: dict) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(change))}"):
        unigram.Key(**{"key": 1, "vocab_size": 100, **change})


def test_keys_must_be_alike_and_do_not_show() -> None:
    with pytest.raises(ValueError, match="differ in the key only"):
        unigram.score(document([1]), [unigram.Key(1, 10), unigram.Key(1, 11)])
    assert "987654" not in repr(unigram.Key(987654, 10))
    assert not unigram.green_mask(unigram.Key(1, 10)).flags.writeable
