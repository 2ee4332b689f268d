"""The table of frequent pairs against exact scoring of the same pairs, and its null."""

import math
import os
import stat
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from watermark import kgw
from watermark.frequent_pairs import PairTable, build_table, can_screen, load_table, save_table, screen
from watermark.green_lists import scorable
from watermark.prf import deciding
from watermark.windows import Batch, windows

SIZE = 150
SCREENED = (
    "simple_1",
    "selfhash",
    "minhash",
    "skipgram",
    "ff-minfunc_prf-3-False",
    "ff-minfunc_prf-3-True",
    "ff-minhash_prf-3-True",
    "ff-anchored_minhash_prf-2-True",
    "ff-anchored_skipgram_prf-3-True",
    "ff-noncomm_prf-1-False",
    "ff-additive_prf-1-True",
    "ff-position_prf-2-True",
)


def keys_of(scheme: str, count: int, size: int = SIZE) -> list[kgw.Key]:
    numbers = [int(number) | 1 for number in np.random.default_rng(9).integers(1, 2**45, count)]
    if scheme.startswith("transformers"):
        seeding = scheme.split()[1]
        width = 4 if seeding == "selfhash" else 2
        return [kgw.Key(number, size, 0.25, "transformers", seeding, width) for number in numbers]
    return [kgw.named_key(scheme, size, 0.25, number) for number in numbers]


def some_batch(width: int, seed: int, block: int = 16) -> Batch:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 90, 12)
    tokens = np.where(rng.random(lengths.sum()) < 0.6, rng.integers(0, 9, lengths.sum()), rng.integers(0, SIZE, 1))
    tokens = np.where(rng.random(len(tokens)) < 0.2, rng.integers(-1, SIZE + 2, len(tokens)), tokens)
    return windows(tokens.astype(np.int32), np.concatenate([[0], np.cumsum(lengths)]), width, block)


@pytest.mark.slow
def test_all_pairs_in_the_table_is_exact_scoring() -> None:
    for scheme in (*SCREENED, "transformers lefthash", "transformers selfhash"):
        keys = keys_of(scheme, 3)
        table = build_table(keys)
        batch = some_batch(kgw.width(keys[0]), 1)
        found, exact = screen(batch, keys, table), kgw.score(batch, keys)
        # A few tokens are left out where two contexts share a seed (a product with nought, say).
        missing = (table.rows < 0).sum() + (table.columns < 0).sum()
        if missing == 0:
            np.testing.assert_array_equal(found.scored, exact.scored, err_msg=scheme)
            np.testing.assert_array_equal(found.statistic, exact.statistic, err_msg=scheme)
        assert missing <= 3, scheme
        assert np.all(found.scored <= exact.scored)
        assert found.statistic.sum() > 0


@pytest.mark.parametrize("scheme", ["simple_1", "transformers selfhash"])
@pytest.mark.parametrize("count", [1, 8, 9, 33, 64])
def test_only_pairs_in_the_table_count(scheme: str, count: int) -> None:
    keys = keys_of(scheme, count)
    tokens, contexts = np.arange(0, 40, 2), np.arange(30)
    table = build_table(keys, tokens, contexts)
    assert table.words.shape == (30, 20)
    assert table.words.dtype.itemsize * 8 >= count
    batch = some_batch(kgw.width(keys[0]), 2, block=1 << 62)
    found = screen(batch, keys, table)
    for column in range(0, count, 7):
        expected = _by_hand(batch, keys[column], set(tokens.tolist()), set(contexts.tolist()))
        np.testing.assert_array_equal(np.stack([found.statistic[:, column], found.scored[:, column]], 1), expected)


def _by_hand(batch: Batch, key: kgw.Key, tokens: set[int], contexts: set[int]) -> np.ndarray:
    """Green and all distinct pairs of each document, for batches of one block a document."""
    usable = scorable(batch, SIZE, kgw.width(key))
    how, colours = kgw.reading(key), kgw.colours(usable, key)
    before = deciding(kgw.function(key), usable.tokens, usable.positions + how.salted, how.length)
    rows = []
    for first, last in pairwise(usable.blocks):
        found = zip(before[first:last], usable.tokens[usable.positions[first:last]], colours[first:last], strict=True)
        pairs = {(x, t): colour for x, t, colour in found if x in contexts and t in tokens}
        rows.append((sum(pairs.values()), len(pairs)))
    return np.array(rows)


def test_tables_are_kept_in_files(tmp_path: Path) -> None:
    keys = keys_of("simple_1", 3)
    table = build_table(keys, np.arange(50))
    save_table(table, tmp_path / "pairs")
    loaded = load_table(tmp_path / "pairs", keys)
    assert isinstance(loaded.words, np.memmap)
    batch = some_batch(1, 3)
    np.testing.assert_array_equal(screen(batch, keys, loaded).statistic, screen(batch, keys, table).statistic)
    files = sorted(os.listdir(tmp_path))
    assert files == ["pairs.index.npz", "pairs.npy"]
    assert all(stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600 for name in files)
    with pytest.raises(ValueError, match="other keys"):
        load_table(tmp_path / "pairs", keys[::-1])
    with pytest.raises(ValueError, match="other keys"):
        screen(batch, keys[:2], loaded)
    np.save(tmp_path / "pairs.npy", table.words[:-1])
    with pytest.raises(ValueError, match="do not fit"):
        load_table(tmp_path / "pairs", keys)


def test_contexts_with_equal_seeds_are_left_out() -> None:
    """A key of 2^31 leaves two seeds; without this, two equal lists would count as two."""
    key = kgw.named_key("simple_1", SIZE, 0.25, 2**31)
    table = build_table([key])
    assert (table.rows >= 0).sum() == 2


def test_the_null_is_exact_for_what_is_counted() -> None:
    rng = np.random.default_rng(5)
    # Without token 0, after which the seed is 0 under every key.
    tokens = np.where(rng.random(400) < 0.5, rng.integers(1, 9, 400), rng.integers(1, SIZE, 400)).astype(np.int32)
    p, z = [], []
    for part in range(25):
        keys = [kgw.named_key("simple_1", SIZE, 0.25, int(number) | 1) for number in rng.integers(1, 2**45, 64)]
        table = build_table(keys, np.arange(100), np.arange(90 + part))
        tally = screen(windows(tokens, np.array([0, 400]), 1), keys, table)
        assert tally.scored.min() > 50
        p += np.exp(kgw.log_p_value(tally.statistic, tally.scored, keys))[0].tolist()
        z += ((tally.statistic - 0.25 * tally.scored) / np.sqrt(tally.scored * 0.1875))[0].tolist()
    for level in (0.3, 0.1, 0.03, 0.01):
        assert np.mean(np.array(p) <= level) <= level + 5 * math.sqrt(level / len(p))
    assert abs(np.mean(z)) < 0.12
    assert 0.9 < np.std(z) < 1.06


@pytest.mark.parametrize(
    ("scheme", "arguments", "name"),
    [
        ("ff-additive_prf-2-False", {}, "^seeding"),
        ("ff-anchored_minhash_prf-4-False", {}, "^seeding"),
        ("simple_1", {"limit": 100, "tokens": np.arange(11)}, "^limit"),
        ("simple_1", {"tokens": np.array([1, 1])}, "^tokens"),
        ("simple_1", {"tokens": np.array([SIZE])}, "^tokens"),
        ("simple_1", {"contexts": np.array([-1])}, "^contexts"),
    ],
)
def test_what_cannot_be_a_table_is_refused(scheme: str, arguments: dict, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        build_table(keys_of(scheme, 1), **arguments)


def test_too_many_keys_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^keys"):
        build_table(keys_of("simple_1", 65))
    with pytest.raises(ValueError, match=r"^keys"):
        build_table([])
    assert not can_screen(keys_of("ff-additive_prf-2-False", 1)[0])
    assert can_screen(keys_of("selfhash", 1)[0])
    table: PairTable = build_table(keys_of("simple_1", 1), limit=10_000)
    assert table.words.nbytes <= 10_000
