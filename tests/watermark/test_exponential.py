from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from watermark import exponential, textseal
from watermark.windows import Batch, windows

ASSETS = Path(__file__).parents[1] / "assets" / "watermark"


def vectors(name: str) -> list[dict[str, Any]]:
    return json.loads((ASSETS / name).read_text())["cases"]


THREE_BRICKS = vectors("exponential_three_bricks.json")
TEXTSEAL = vectors("exponential_textseal.json")


def without_first(tokens: list[int], ngram: int) -> Batch:
    """A position to a block; both programs leave the first token with a whole context out."""
    positions = np.arange(ngram + 1, len(tokens))
    return Batch(np.array(tokens, np.int32), positions, np.arange(len(positions) + 1), np.array([0, len(positions)]))


def three_bricks_key(case: dict[str, Any]) -> exponential.Key:
    return exponential.Key(case["vocabulary"], **{name: case[name] for name in ("key", "ngram", "payload", "salt")})


def texts(rng: np.random.Generator, documents: int, length: int, vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
    tokens = rng.zipf(1.3, documents * length) % vocabulary
    return tokens.astype(np.int32), np.arange(0, documents * length + 1, length)


@pytest.mark.parametrize("case", THREE_BRICKS, ids=lambda c: f"{c['vocabulary']}-{c['ngram']}")
def test_three_bricks_detector_gives_the_same_seeds_scores_and_p_value(case: dict[str, Any]) -> None:
    key, tokens = three_bricks_key(case), case["tokens"]
    n = key.ngram
    assert [exponential.seed_for(tokens[i - n : i], key) for i in range(n, len(tokens))] == case["seeds"]
    uniforms = exponential.uniforms_for(tokens[:n], key)
    assert uniforms.dtype == np.float32
    np.testing.assert_array_equal(uniforms[:50], np.array(case["first_uniforms"], np.float32))
    np.testing.assert_array_equal(uniforms[-5:], np.array(case["last_uniforms"], np.float32))
    tally = exponential.score(without_first(tokens, n), [key])
    scores = tally.statistic[tally.scored > 0]
    assert len(scores) == len(case["scores"])
    np.testing.assert_allclose(scores, case["scores"], rtol=3e-7, atol=1e-7)
    total, scored = tally.statistic.sum(0), tally.scored.sum(0)
    np.testing.assert_allclose(np.exp(exponential.log_p_value(total, scored, [key])), case["p_value"], rtol=1e-4)


@pytest.mark.parametrize("case", TEXTSEAL, ids=lambda c: f"{c['vocabulary']}-{c['ngram']}-{c['gamma']}")
def test_textseal_detectors_give_the_same_numbers_colours_and_p_value(case: dict[str, Any]) -> None:
    key = textseal.Key(case["vocabulary"], **{name: case[name] for name in ("key", "ngram", "gamma")})
    green, tokens = replace(key, statistic="green"), case["tokens"]
    uniforms = textseal.uniforms_for(tokens[: key.ngram], key)
    assert uniforms.dtype == np.float32
    np.testing.assert_array_equal(uniforms[:50], np.array(case["first_uniforms"], np.float32))
    np.testing.assert_array_equal(uniforms[-5:], np.array(case["last_uniforms"], np.float32))
    assert np.count_nonzero(textseal.green_list(tokens[: key.ngram], green)) == case["green_tokens"]
    batch = without_first(tokens, key.ngram)
    tally = textseal.score(batch, [key])
    scores = tally.statistic[tally.scored > 0]
    # The program takes 1 - r in float32, which costs up to 2⁻²⁵ of absolute precision in 1 - r before the logarithm.
    assert len(scores) == len(case["exponential"])
    np.testing.assert_allclose(np.exp(-scores), np.exp(-np.array(case["exponential"])), atol=1.2e-7, rtol=0)
    total, scored = tally.statistic.sum(0), tally.scored.sum(0)
    np.testing.assert_allclose(np.exp(textseal.log_p_value(total, scored, [key])), case["p_value"], rtol=1e-3)
    colours = textseal.score(batch, [green])
    assert colours.statistic[colours.scored > 0].tolist() == case["green"]


@pytest.mark.parametrize("scheme", [exponential, textseal])
def test_scores_equal_those_of_the_vectors_of_the_generating_side(scheme: Any) -> None:
    rng = np.random.default_rng(1)
    tokens = rng.integers(-1, 22, 600).astype(np.int32)
    offsets = np.array([0, 3, 3, 200, 201, 600])
    keys = [scheme.Key(vocab_size=20, ngram=2, key=k) for k in (5, 0, 2**61 + 3)]
    tally = scheme.score(windows(tokens, offsets, 2, 64), keys)
    for column, key in enumerate(keys):
        statistic, scored = [], []
        for start, end in itertools.pairwise(offsets.tolist()):
            seen: set[tuple[int, ...]] = set()
            for i in range(start + 2, end):
                if (i - start - 2) % 64 == 0:
                    statistic.append(0.0)
                    scored.append(0)
                window = tuple(tokens[i - 2 : i + 1].tolist())
                if window in seen or min(window) < 0 or max(window) >= 20:
                    continue
                seen.add(window)
                r = float(scheme.uniforms_for(window[:2], key)[window[2]])
                statistic[-1] += -np.log1p(-r)
                scored[-1] += 1
        assert tally.scored[:, column].tolist() == scored
        np.testing.assert_allclose(tally.statistic[:, column], statistic, rtol=1e-4)


def test_salts_may_differ_between_keys_that_are_scored_together() -> None:
    tokens, offsets = texts(np.random.default_rng(2), 3, 100, 500)
    keys = [exponential.Key(500, key=k, ngram=3, salt=s) for k, s in ((1, 35317), (2, 99991), (3, 35317))]
    batch = windows(tokens, offsets, 3)
    together = exponential.score(batch, keys)
    for column, key in enumerate(keys):
        alone = exponential.score(batch, [key])
        np.testing.assert_array_equal(together.statistic[:, column], alone.statistic[:, 0])
        np.testing.assert_array_equal(together.scored[:, column], alone.scored[:, 0])


def test_contexts_with_one_seed_count_once() -> None:
    """With a salt of 10 the contexts (1, 20) and (2, 10) have the same seed: 10 + 20 = 20 + 10."""
    tokens = np.array([1, 20, 5, 2, 10, 5], np.int32)
    key = exponential.Key(100, key=3, ngram=2, salt=10)
    assert exponential.seed_for([1, 20], key) == exponential.seed_for([2, 10], key)
    assert exponential.score(windows(tokens, np.array([0, 6]), 2), [key]).scored.tolist() == [[3]]


def test_an_empty_batch_has_an_empty_tally() -> None:
    batch = windows(np.zeros(0, np.int32), np.array([0]), 1)
    for scheme in (exponential, textseal):
        assert scheme.score(batch, [scheme.Key(vocab_size=10, key=1)]).statistic.shape == (0, 1)


def test_the_seed_is_that_of_the_published_recurrence_for_any_size_of_number() -> None:
    rng = np.random.default_rng(3)
    for _ in range(200):
        a, b = (int(x) for x in rng.integers(0, 2**64 - 1, 2, dtype=np.uint64))
        assert int(exponential._multiply(np.uint64(a), np.uint64(b))) == a * b % (2**64 - 1)
        assert int(exponential._add(np.uint64(a), np.uint64(b))) == (a + b) % (2**64 - 1)
    for edge in (0, 1, 2**32, 2**64 - 2):
        assert int(exponential._multiply(np.uint64(edge), np.uint64(2**64 - 2))) == edge * (2**64 - 2) % (2**64 - 1)


def test_uniforms_are_those_of_torch() -> None:
    torch = pytest.importorskip("torch", reason="compares with torch.rand")
    rng = np.random.default_rng(4)
    for seed in [0, 1, 2**32 - 1, 2**63 + 5, *(int(x) for x in rng.integers(0, 2**63, 50))]:
        key = exponential.Key(vocab_size=3000, key=0)
        want = torch.rand(3000, generator=torch.Generator().manual_seed(seed)).numpy()
        low = seed & 0xFFFFFFFF
        if low < 2**31:
            np.testing.assert_array_equal(exponential.uniforms_for([low], key), want)
        draws = np.sort(rng.integers(0, 3000, 40)).astype(np.int32)
        np.testing.assert_array_equal(exponential._draw(np.full(40, low, np.uint32), draws), want[draws])


@pytest.mark.parametrize("scheme", [exponential, textseal])
def test_p_values_of_unmarked_text_are_uniform_over_keys(scheme: Any) -> None:
    rng = np.random.default_rng(5)
    tokens, offsets = texts(rng, 60, 120, 300)
    keys = [scheme.Key(vocab_size=300, ngram=2, key=int(k)) for k in rng.integers(1, 2**40, 25)]
    tally = scheme.score(windows(tokens, offsets, 2), keys)
    p = np.exp(scheme.log_p_value(tally.statistic, tally.scored, keys)).ravel()
    assert stats.kstest(p, "uniform").pvalue > 1e-3
    assert abs(tally.statistic.sum() / tally.scored.sum() - scheme.null_mean(keys)[0]) < 4 / np.sqrt(tally.scored.sum())


def test_p_values_of_green_counts_are_conservative_over_keys() -> None:
    rng = np.random.default_rng(6)
    tokens, offsets = texts(rng, 60, 120, 300)
    keys = [textseal.Key(300, int(k), 2, "green", 0.25) for k in rng.integers(1, 2**40, 50)]
    tally = textseal.score(windows(tokens, offsets, 2), keys)
    p = np.exp(textseal.log_p_value(tally.statistic, tally.scored, keys)).ravel()
    for level in (0.5, 0.1, 0.01):
        assert stats.binomtest(int(np.sum(p <= level)), p.size, level, alternative="greater").pvalue > 1e-3
    assert np.mean(p <= 0.5) > 0.4


def test_the_levels_of_r_make_the_exact_distribution_no_larger_than_the_gamma_one() -> None:
    """The law of two tokens' sum, enumerated for a coarse r of 1/50: its tail is nowhere above that of Gamma(2)."""
    scores = -np.log(np.arange(1, 51) / 50)
    sums = np.add.outer(scores, scores).ravel()
    for point in sums:
        exact = np.mean(sums >= point - 1e-12)
        assert np.log(exact) <= exponential.log_gamma_tail(point, 2)[()] + 1e-9
    assert exponential.mean_of_levels(50) == pytest.approx(scores.mean(), rel=1e-12)
    assert 1 - 1e-6 < exponential.null_mean([exponential.Key(10, 1)])[0] < 1
    assert textseal.null_mean([textseal.Key(10, 1)])[0] == pytest.approx(-np.log(np.arange(1, 8192) / 8191).mean())


def erlang_log_tail(statistic: float, n: int) -> float:
    """exp(-s) Σ_{j<n} s^j / j!, term by term: exact for a whole number of tokens."""
    j = np.arange(n)
    return float(special.logsumexp(j * np.log(statistic) - special.gammaln(j + 1)) - statistic)


@pytest.mark.parametrize("n", [1, 2, 5, 50, 1000, 100_000])
def test_gamma_tail_in_log_space(n: int) -> None:
    points = n + np.sqrt(n) * np.array([-3, 0, 1, 5, 15, 34, 35, 36, 37, 38, 45, 100, 1000])
    points = points[points > 0]
    got = exponential.log_gamma_tail(points, np.full(points.shape, n))
    np.testing.assert_allclose(got, [erlang_log_tail(p, n) for p in points], rtol=1e-11, atol=2e-11 * max(1, n / 1000))
    assert np.all(np.diff(got) <= 0)
    assert got[-1] < -700
    assert exponential.log_gamma_tail(np.array([5.0, -3.0, 0.0]), np.array([0, 4, 4])).tolist() == [0, 0, 0]


def test_gamma_tail_equals_mpmath() -> None:
    mpmath = pytest.importorskip("mpmath", reason="the arbitrary-precision reference")
    mpmath.mp.dps = 60
    for n, s in [(1, 690.0), (7, 750.5), (400, 2900.25), (400, 500.0), (100_000, 150_000.0), (3000, 200_000.0)]:
        want = float(mpmath.log(mpmath.gammainc(n, s, regularized=True)))
        assert exponential.log_gamma_tail(np.array([s]), np.array([n]))[0] == pytest.approx(want, rel=1e-12, abs=1e-9)


def test_binomial_tail_in_log_space() -> None:
    for n, share in [(1, 0.25), (40, 0.25), (3000, 0.5), (20_000, 0.1)]:
        k = np.unique(np.linspace(0, n, 41).astype(int))
        j = np.arange(n + 1)
        terms = special.gammaln(n + 1) - special.gammaln(j + 1) - special.gammaln(n - j + 1)
        terms += j * np.log(share) + (n - j) * np.log1p(-share)
        want = [special.logsumexp(terms[i:]) for i in k]
        got = textseal.log_binomial_tail(k.astype(float), np.full(k.shape, n), share)
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(textseal.log_binomial_tail(k + 0.7, np.full(k.shape, n), share), got)
    assert textseal.log_binomial_tail(np.array([3.0]), np.array([0]), 0.5).tolist() == [0]


def test_keys_keep_their_secrets_and_belong_together() -> None:
    for key in (exponential.Key(100, key=123456789, salt=987654321), textseal.Key(100, key=123456789)):
        assert "123456789" not in repr(key)
        assert "987654321" not in repr(key)
    for wrong in ({"vocab_size": 0}, {"ngram": 0}, {"payload": 100}, {"key": -1}, {"salt": 0}):
        with pytest.raises(ValueError, match="must lie between"):
            exponential.Key(**{"vocab_size": 100, "key": 1, **wrong})
    for wrong in ({"vocab_size": 0}, {"ngram": 11}, {"gamma": 0.0}, {"gamma": 1.1}):
        with pytest.raises(ValueError, match="must lie between"):
            textseal.Key(**{"vocab_size": 100, "key": 1, **wrong})
    batch = windows(np.arange(9, dtype=np.int32), np.array([0, 9]), 1)
    for scheme in (exponential, textseal):
        with pytest.raises(ValueError, match="share everything"):
            scheme.score(batch, [scheme.Key(vocab_size=100, key=1), scheme.Key(vocab_size=99, key=1)])
        with pytest.raises(ValueError, match="needed"):
            scheme.uniforms_for([], scheme.Key(vocab_size=100, key=1))
