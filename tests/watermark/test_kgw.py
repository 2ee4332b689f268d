"""KGW against vectors of the authors' programs, and its statistics under the null."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from watermark import kgw
from watermark.green_lists import Cache
from watermark.prf import PRFS, make_prf, seed_of
from watermark.windows import Batch, windows

ASSETS = Path(__file__).parents[1] / "assets" / "watermark"
OLD = "old simple_1"


def vectors(name: str) -> list[list]:
    return json.loads((ASSETS / name).read_text())["cases"]


def document(tokens: list[int] | np.ndarray, key: kgw.Key, block: int = 1 << 62) -> Batch:
    return windows(np.asarray(tokens, np.int32), np.array([0, len(tokens)]), kgw.width(key), block)


def key_of(scheme: str, key: int, vocab_size: int, gamma: float, directly: bool) -> kgw.Key:
    made = kgw.named_key("simple_1" if scheme == OLD else scheme, vocab_size, gamma, key if scheme == OLD else None)
    fields = (made.key, vocab_size, gamma, made.variant, made.seeding, made.context_width, made.self_salt)
    return kgw.Key(*fields, green_last=not directly)


@pytest.mark.parametrize("name", PRFS)
def test_seeds_are_those_of_the_authors(name: str) -> None:
    cases = [case for case in vectors("kgw_seeds.json") if case[0] == name]
    assert len(cases) >= 150
    for _, key, window, seed in cases:
        assert seed_of(make_prf(name, key, 256000), window) == seed % 2**32, (key, window)


def test_counts_are_those_of_the_authors() -> None:
    schemes = set()
    for scheme, hashing_key, vocab_size, gamma, directly, tokens, plain, once in vectors("kgw_counts.json"):
        key = key_of(scheme, hashing_key, vocab_size, gamma, directly)
        assert key.key == hashing_key
        batch = document(tokens, key)
        colours = kgw.colours(batch, key).tolist()
        # Their deduplication is by n-grams.
        size = kgw.width(key)
        ngrams = {tuple(tokens[p - size : p + 1]): c for p, c in zip(batch.positions, colours, strict=True)}
        for (green, scored, z), ours in ((plain, colours), (once, list(ngrams.values()))):
            assert (sum(ours), len(ours)) == (green, scored), scheme
            assert abs((sum(ours) - gamma * len(ours)) / math.sqrt(len(ours) * gamma * (1 - gamma)) - z) <= 1e-6
        schemes.add(scheme.split("-")[1] if scheme.startswith("ff") else scheme)
    assert schemes >= {*PRFS, "simple_1", "selfhash", OLD}


def test_the_two_self_hashes_cannot_read_each_other() -> None:
    theirs = kgw.named_key("selfhash", 32000)
    library = kgw.Key(theirs.key, 32000, theirs.gamma, "transformers", "selfhash", theirs.context_width)
    tokens = np.random.default_rng(1).integers(0, 32000, 400)
    first, second = (kgw.colours(document(tokens, key), key) for key in (theirs, library))
    # Independent colours: both green by chance in a sixteenth of the places.
    assert 0 < np.mean(first & second) < 0.12
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("scheme", ["simple_1", "selfhash", "minhash"])
def test_a_pair_counts_once_a_document_where_it_first_stands(scheme: str) -> None:
    rng = np.random.default_rng(2)
    keys = [kgw.named_key(scheme, 1000, 0.5, int(key)) for key in rng.integers(1, 2**30, 3)]
    lengths = [50, 3, 0, 120, 4]
    tokens = rng.integers(0, 6, sum(lengths)).astype(np.int32)
    batch = windows(tokens, np.concatenate([[0], np.cumsum(lengths)]), kgw.width(keys[0]), 16)
    tally = kgw.score(batch, keys)
    cached = kgw.score(batch, keys, Cache(kgw.lists(keys[0]), 1000))
    for column, key in enumerate(keys):
        pairs, colours = kgw.pairs(batch, key).tolist(), kgw.colours(batch, key).tolist()
        for d in range(len(lengths)):
            seen: set[int] = set()
            for b in range(batch.documents[d], batch.documents[d + 1]):
                block = range(batch.blocks[b], batch.blocks[b + 1])
                new = {pairs[i]: colours[i] for i in reversed(block) if pairs[i] not in seen}
                seen |= set(new)
                assert (tally.statistic[b, column], tally.scored[b, column]) == (sum(new.values()), len(new))
    np.testing.assert_array_equal(tally.statistic, cached.statistic)
    assert tally.scored.sum() < len(keys) * len(batch.positions)


def test_tokens_outside_the_vocabulary_are_not_scored() -> None:
    key = kgw.named_key("minhash", 1000)
    tokens = np.arange(40, dtype=np.int32) * 7
    tokens[[10, 30]] = 1000, -1
    tally = kgw.score(document(tokens, key), [key])
    colours = kgw.colours(document(tokens, key), key)
    assert np.flatnonzero(colours < 0).tolist() == [p - 4 for p in (*range(10, 15), *range(30, 35))]
    assert (tally.statistic[0, 0], tally.scored[0, 0]) == ((colours == 1).sum(), 26)


@pytest.mark.parametrize(
    "key",
    [
        kgw.Key(15485863, 3001),
        kgw.Key(99991, 3001, 0.4, "transformers", "selfhash", 3),
        kgw.named_key("skipgram", 3001, 0.3),
        kgw.named_key("ff-anchored_skipgram_prf-3-True-77", 3001),
        kgw.Key(15485863, 3001, 0.3, "lm-watermarking", "additive_prf", 2, green_last=True),
    ],
)
def test_generation_and_detection_agree(key: kgw.Key) -> None:
    rng = np.random.default_rng(4)
    context, candidates = rng.integers(0, 3001, 8), rng.permutation(3001)[:50]
    green = kgw.is_green(context, candidates, key)
    for candidate, expected in zip(candidates, green, strict=True):
        assert kgw.colours(document([*context, candidate], key), key)[-1] == expected
    assert 0 < green.sum() < 50
    if kgw.self_salted(key):
        with pytest.raises(ValueError, match="is_green"):
            kgw.green_mask(context, key)
    else:
        mask = kgw.green_mask(context, key)
        np.testing.assert_array_equal(mask[candidates], green)
        assert mask.sum() == int(3001 * key.gamma)
    assert kgw.is_green(context, np.array([-1, 3001]), key).tolist() == [False, False]
    with pytest.raises(ValueError, match="context"):
        kgw.is_green(context[: kgw.width(key) - 1] if kgw.width(key) > 1 else np.array([3001]), candidates, key)


@pytest.mark.parametrize(("scheme", "gamma"), [("simple_1", 0.25), ("minhash", 0.5), ("selfhash", 0.25)])
def test_p_values_hold_under_random_keys(scheme: str, gamma: float) -> None:
    """On text full of repeats, P(p <= a) is at most a: for each a there is, within five standard errors."""
    rng = np.random.default_rng(6)
    tokens = np.where(rng.random(150) < 0.5, rng.integers(1, 12, 150), rng.integers(1, 2000, 150))
    keys = [kgw.named_key(scheme, 2000, gamma, int(key)) for key in rng.integers(1, 2**40, 1000)]
    tally = kgw.score(document(tokens, keys[0]), keys)
    p = np.exp(kgw.log_p_value(tally.statistic, tally.scored, keys))[0]
    for level in (0.3, 0.1, 0.03, 0.01, 0.003):
        excess = np.mean(p <= level) - level
        assert excess <= 5 * math.sqrt(level / len(keys))
    assert np.mean(p <= 0.3) > 0.15
    z = (tally.statistic - gamma * tally.scored) / np.sqrt(tally.scored * gamma * (1 - gamma))
    assert abs(z.mean()) < 0.15
    assert 0.88 < z.std() < 1.08


def test_p_values_of_any_shape_and_size() -> None:
    keys = [kgw.Key(1, 1000), kgw.Key(3, 1000)]
    statistic, scored = np.array([[[400.0, 0.0]], [[100.9, -3.2]]]), np.array([[[400, 0]], [[400, 400]]])
    log_p = kgw.log_p_value(statistic, scored, keys)
    assert log_p.shape == (2, 1, 2)
    assert log_p[0, 0, 0] == pytest.approx(400 * math.log(0.25), rel=1e-12)
    assert log_p[0, 0, 1] == log_p[1, 0, 1] == 0
    assert log_p[1, 0, 0] == kgw.log_p_value(np.array([100.0, 0]), np.array([400, 0]), keys)[0]
    assert kgw.null_mean(keys).tolist() == [0.25, 0.25]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"vocab_size": 1}, "vocab_size"),
        ({"gamma": 1.0}, "gamma"),
        ({"gamma": 1e-9}, "gamma"),
        ({"variant": "kgw"}, "variant"),
        ({"context_width": 0}, "context_width"),
        ({"seeding": "minhash_prf"}, "seeding"),
        ({"self_salt": True}, "self_salt"),
        ({"key": 2**64}, "key"),
        ({"key": 2**63, "seeding": "selfhash"}, "key"),
        ({"variant": "lm-watermarking"}, "seeding"),
        ({"variant": "lm-watermarking", "seeding": "minskipgram_prf"}, "context_width"),
        ({"variant": "lm-watermarking", "seeding": "minhash_prf", "key": 2**63}, "key"),
    ],
)
def test_what_no_program_can_have_made_is_refused(change: dict, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}") as error:
        kgw.Key(**{"key": 15485863, "vocab_size": 1000, **change})
    assert str(change.get("key", 15485863)) not in str(error.value)


def test_a_key_does_not_show() -> None:
    assert "15485863" not in repr(kgw.Key(15485863, 1000))
    with pytest.raises(ValueError, match="differ in the key only"):
        kgw.score(document([1, 2, 3], kgw.Key(1, 1000)), [kgw.Key(1, 1000), kgw.Key(1, 2000)])
    with pytest.raises(ValueError, match="cache"):
        kgw.score(document([1, 2, 3], kgw.Key(1, 1000)), [kgw.Key(1, 1000)], Cache(kgw.lists(kgw.Key(1, 2000)), 10))
