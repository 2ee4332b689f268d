from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from watermark.exponential import log_gamma_tail
from watermark.stretches import Scan, scan_stretches
from watermark.textseal import log_binomial_tail
from watermark.windows import Tally

BLOCK = 64


def binomial(tally: Tally) -> np.ndarray:
    return log_binomial_tail(tally.statistic, tally.scored, 0.25)


def gamma(tally: Tally) -> np.ndarray:
    return log_gamma_tail(tally.statistic, tally.scored)


# SynthID's sort: the mean of 30 fair bits per token, a sum of which is binomial as well.
def bits(tally: Tally) -> np.ndarray:
    return log_binomial_tail(tally.statistic * 30, tally.scored * 30, 0.5)


def draw(kind: str, rng: np.random.Generator, scored: np.ndarray) -> np.ndarray:
    if kind == "binomial":
        return rng.binomial(scored, 0.25).astype(float)
    if kind == "gamma":
        return np.where(scored > 0, rng.gamma(np.maximum(scored, 1)), 0.0)
    return rng.binomial(scored * 30, 0.5) / 30


KINDS: dict[str, tuple[Callable[[Tally], np.ndarray], float]] = {
    "binomial": (binomial, 0.25),
    "gamma": (gamma, 1.0),
    "bits": (bits, 0.5),
}


def lay_out(rng: np.random.Generator, lengths: np.ndarray, keys: int) -> tuple[np.ndarray, np.ndarray]:
    """Scored tokens of blocks, of which repetitions left few or none in some, the same for all keys; and offsets."""
    documents = np.concatenate([[0], np.cumsum(lengths)])
    scored = rng.integers(20, BLOCK + 1, documents[-1])
    scored[rng.random(documents[-1]) < 0.05] = 0
    return np.repeat(scored[:, None], keys, axis=1), documents


def whole(tally: Tally, documents: np.ndarray) -> Tally:
    ends = [np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)]) for values in tally]
    return Tally(*(end[documents[1:]] - end[documents[:-1]] for end in ends))


def by_hand(tally: Tally, documents: np.ndarray, mean: float, log_p: Callable[[Tally], np.ndarray]) -> Scan:
    """One document, one key and one stretch at a time."""
    shape = (len(documents) - 1, tally.statistic.shape[1])
    out = Scan(np.zeros(shape), np.zeros(shape, np.int64), np.zeros(shape, np.int64))

    def p_of(start: int, end: int, key: int) -> tuple[float, float]:
        s, n = tally.statistic[start:end, key].sum(), tally.scored[start:end, key].sum()
        return float(log_p(Tally(np.array([s]), np.array([n])))[0]), (s - mean * n) / np.sqrt(n) if n else -np.inf

    for d, key in np.ndindex(*shape):
        begin, size = documents[d], documents[d + 1] - documents[d]
        best, count, scale = (0.0, 0, size), 0, 1
        while scale < size:
            starts = sorted({*range(0, size - scale + 1, max(1, scale // 2)), size - scale})
            count += len(starts)
            z = [p_of(begin + start, begin + start + scale, key)[1] for start in starts]
            start = starts[int(np.argmax(z))]
            p = p_of(begin + start, begin + start + scale, key)[0]
            if p < best[0]:
                best = (p, start, scale)
            scale *= 2
        p, first, blocks = p_of(begin, begin + size, key)[0], 0, size
        if count:
            corrected = best[0] + np.log(count)
            if corrected < p:
                p, first, blocks = corrected, best[1], best[2]
            p = min(0.0, p + np.log(2))
        out.log_p[d, key], out.first[d, key], out.blocks[d, key] = p, first, blocks
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_the_scan_is_its_definition(kind: str) -> None:
    rng = np.random.default_rng(1)
    log_p, mean = KINDS[kind]
    scored, documents = lay_out(rng, np.array([1, 0, 2, 3, 4, 5, 0, 7, 8, 9, 16, 33, 0]), 3)
    tally = Tally(draw(kind, rng, scored), scored)
    tally.statistic[12:16] = np.where(scored[12:16] > 0, tally.statistic[12:16] * 1.6, 0)
    got = scan_stretches(tally, documents, np.full(3, mean), log_p)
    want = by_hand(tally, documents, mean, log_p)
    np.testing.assert_allclose(got.log_p, want.log_p, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(got.first, want.first)
    np.testing.assert_array_equal(got.blocks, want.blocks)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [2, 5, 40])
def test_p_values_are_conservative_where_nothing_is_marked(kind: str, length: int) -> None:
    rng = np.random.default_rng(length)
    log_p, mean = KINDS[kind]
    scored, documents = lay_out(rng, np.full(4000, length), 5)
    found = scan_stretches(Tally(draw(kind, rng, scored), scored), documents, np.full(5, mean), log_p)
    p = np.exp(found.log_p).ravel()
    for level in (0.2, 0.05, 1e-2, 1e-3, 1e-4):
        hits = int(np.sum(p <= level))
        assert stats.binomtest(hits, p.size, level, alternative="greater").pvalue > 1e-3
    assert np.mean(p <= 0.05) > 0.05 / 8  # and not idle


def test_a_document_of_one_block_pays_nothing() -> None:
    rng = np.random.default_rng(3)
    scored, documents = lay_out(rng, np.ones(500, np.int64), 2)
    tally = Tally(draw("gamma", rng, scored), scored)
    found = scan_stretches(tally, documents, np.ones(2), gamma)
    np.testing.assert_array_equal(found.log_p, gamma(tally))
    assert np.all(found.blocks == 1)


@pytest.mark.parametrize("kind", ["binomial", "gamma"])
def test_a_marked_stretch_in_a_human_page_is_found_where_the_whole_is_not(kind: str) -> None:
    """256 marked tokens in a page of 3,840."""
    rng = np.random.default_rng(4)
    log_p, mean = KINDS[kind]
    scored = np.full((60 * 400, 1), BLOCK)
    documents = np.arange(0, len(scored) + 1, 60)
    statistic = draw(kind, rng, scored)
    first = rng.integers(0, 57, 400)
    rows = (documents[:-1] + first)[:, None] + np.arange(4)
    statistic[rows.ravel()] = (
        rng.binomial(BLOCK, 0.45, (1600, 1)) if kind == "binomial" else rng.gamma(BLOCK * 1.5, size=(1600, 1))
    )
    tally = Tally(statistic, scored)
    found = scan_stretches(tally, documents, np.array([mean]), log_p)
    alone = log_p(whole(tally, documents))
    assert np.mean(found.log_p <= np.log(1e-4)) > 0.85
    assert np.mean(alone <= np.log(1e-4)) < 0.3
    overlap = np.minimum(found.first[:, 0] + found.blocks[:, 0], first + 4) - np.maximum(found.first[:, 0], first)
    assert np.mean(overlap >= 2) > 0.9


def test_a_page_that_is_marked_throughout_loses_a_factor_of_two() -> None:
    rng = np.random.default_rng(5)
    scored = np.full((30 * 200, 1), BLOCK)
    documents = np.arange(0, len(scored) + 1, 30)
    tally = Tally(rng.binomial(scored, 0.35).astype(float), scored)
    found = scan_stretches(tally, documents, np.array([0.25]), binomial)
    alone = binomial(whole(tally, documents))
    assert np.all(found.log_p <= alone + np.log(2) + 1e-9)
    assert np.mean(found.blocks == 30) > 0.9


def test_a_document_has_the_same_p_value_to_the_last_bit_in_any_batch() -> None:
    rng = np.random.default_rng(6)
    scored, documents = lay_out(rng, rng.integers(0, 20, 60), 2)
    tally = Tally(draw("gamma", rng, scored), scored)
    together = scan_stretches(tally, documents, np.ones(2), gamma)
    for d in range(60):
        part = Tally(*(values[documents[d] : documents[d + 1]] for values in tally))
        alone = scan_stretches(part, np.array([0, len(part.scored)]), np.ones(2), gamma)
        for one, all_of_them in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one[0], all_of_them[d])


def test_no_documents_and_documents_without_blocks() -> None:
    nothing = Tally(np.zeros((0, 2)), np.zeros((0, 2), np.int64))
    for offsets in ([0], [0, 0, 0]):
        found = scan_stretches(nothing, np.array(offsets), np.array([0.25, 0.25]), binomial)
        assert found.log_p.tolist() == [[0.0, 0.0]] * (len(offsets) - 1)
        assert not found.blocks.any()
