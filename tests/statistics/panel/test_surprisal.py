from collections import Counter
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.train_surprisal import baseline_bits, held_out, kneser_ney, read_sets, take
from pipelines.statistics.panel.surprisal import (
    bin_of,
    code_sums,
    languages,
    read,
    ready,
    reference,
    stored,
    surprisal,
    word_hashes,
    write,
)
from pipelines.statistics.panel.train_reference import Limits, discounts, fit
from pipelines.statistics.panel.words import word_hashes as words_of
from tests.crawls import SHARED, rows

SMALL = Limits(words=3000, pairs=5000, least=2)


def words(texts):
    return words_of(pa.array(texts, pa.large_string()))


def pairs_of(model):
    """The hashes of the two words, and the code, of each stored pair."""
    first, second = np.divmod(model.pairs.astype(np.int64), len(model.words))
    return zip(model.words[first].tolist(), model.words[second].tolist(), model.pair_codes.tolist(), strict=True)


@pytest.fixture(scope="module")
def english():
    return words([row["text"] for row in rows()])


@pytest.fixture(scope="module")
def model(english):
    return fit(*english, SMALL)


def test_the_kernel_equals_a_dictionary(english, model):
    single = {word: codes for word, *codes in zip(*(column.tolist() for column in model[:3]), strict=True)}
    pairs = {(first, second): code for first, second, code in pairs_of(model)}
    assert len(single) == len(model.words)
    others = words(["Words that are nowhere to be found: zyxw vutsr the of the", "", "of"])
    for keys, offsets in (english, others):
        hashes = word_hashes(keys).tolist()
        expected = []
        for start, end in pairwise(offsets):
            total = 0
            for at in range(start, end):
                code, _ = single.get(hashes[at], (model.unknown_code, 0))
                back_off = single.get(hashes[at - 1], (0, 0))[1] if at > start else 0
                pair = (hashes[at - 1], hashes[at]) if at > start else None
                total += pairs.get(pair, code + back_off)
            expected.append(total)
        assert code_sums(ready(model), keys, offsets).tolist() == expected


def test_estimates_equal_their_formulas(english):
    """No pruning and no rare words, so that each probability can be had from plain counts."""
    model = fit(*english, Limits(words=10**6, pairs=10**7, least=1))
    hashes = word_hashes(english.keys).tolist()
    counts = Counter(hashes)
    followers = Counter()
    unknown = 0
    for start, end in pairwise(english.offsets):
        followers.update(zip(hashes[start : end - 1], hashes[start + 1 : end], strict=True))
        here = Counter(hashes[start:end])
        unknown += sum(times for word, times in here.items() if counts[word] == times)
    share = unknown / len(hashes)
    types = Counter(counts.values())
    number = types[1] ** 2 / (2 * types[2])
    single = {word: count / len(hashes) * (1 - share) for word, count in counts.items()}
    assert model.unknown_code == round(-8 * np.log2(share / number))
    assert model.words.tolist() == sorted(counts)
    assert np.abs(model.word_codes + 8 * np.log2([single[word] for word in model.words.tolist()])).max() <= 0.5

    taken = discounts(np.array(list(followers.values())))
    history, spare = Counter(), Counter()
    for (first, _), count in followers.items():
        history[first] += count
        spare[first] += taken[min(count, 3)]
    stored_pairs = list(pairs_of(model))
    gaining = 0
    for first, second, code in stored_pairs:
        count = followers[first, second]
        p = (count - taken[min(count, 3)] + spare[first] * single[second]) / history[first]
        assert abs(code - np.clip(-8 * np.log2(p), 1, 255)) <= 0.5 + 1e-6
        gaining += p > spare[first] / history[first] * single[second]
    assert gaining == len(stored_pairs) == len(followers)


def test_discounts_are_chen_and_goodmans():
    counts = np.repeat([1, 2, 3, 4, 9], [100, 40, 20, 12, 7])
    share = 100 / 180
    expected = [0, 1 - 2 * share * 40 / 100, 2 - 3 * share * 20 / 40, 3 - 4 * share * 12 / 20]
    assert discounts(counts) == pytest.approx(expected)
    assert discounts(np.array([1, 1, 5])).tolist() == [0, 0.5, 0.5, 0.5]


def sum_after(model, histories):
    """The sum of P(w | v) over all known and unknown words, for each place of v in the vocabulary."""
    sums = []
    single = 2.0 ** -(model.word_codes / 8)
    # U times the price of one: what the known words leave over
    unknown = 1 - single.sum()
    for v in histories:
        after = model.pairs.astype(np.int64) // len(model.words) == v
        kept = np.zeros(len(model.words), bool)
        kept[model.pairs[after].astype(np.int64) % len(model.words)] = True
        back_off = 2.0 ** -(model.back_off_codes[v] / 8)
        sums.append((2.0 ** -(model.pair_codes[after] / 8)).sum() + back_off * (single[~kept].sum() + unknown))
    return np.array(sums)


def test_probabilities_sum_to_one(model):
    """But for rounding to an eighth of a bit, which changes a probability by up to 4.4 %."""
    assert sum_after(model, range(0, len(model.words), 7)) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("language", ["en", "es", "zh"])
def test_probabilities_of_the_models_of_the_package_sum_to_one(language):
    model = stored(language)
    assert 0 < 1 - (2.0 ** -(model.word_codes / 8)).sum() < 0.15
    common = np.argsort(model.word_codes, kind="stable")
    sums = sum_after(model, common[[0, 1, 2, 5, 10, 100, 1000, 2000, 5000]])
    assert sums == pytest.approx(1, abs=0.06)


def test_a_fitted_model_nearly_equals_kneser_ney_on_text_that_it_has_not_read(english):
    order = np.arange(len(english.offsets) - 1)
    train, test = take(english, order[order % 5 > 0]), take(english, order[order % 5 == 0])
    limits = Limits(words=10**5, pairs=10**6, least=2)
    bits = code_sums(ready(fit(*train, limits)), *test).sum() / 8 / len(test.keys)
    exact = baseline_bits(kneser_ney(train, limits), test)
    single = code_sums(ready(fit(*train, limits._replace(pairs=0))), *test).sum() / 8 / len(test.keys)
    assert bits < exact + 0.15
    assert bits < single - 0.3


def test_pruning_keeps_what_gains_most(english):
    bits = [code_sums(ready(fit(*english, SMALL._replace(pairs=n))), *english).sum() for n in (0, 500, 2000, 20_000)]
    assert bits == sorted(bits, reverse=True)
    assert bits[0] - bits[1] > bits[1] - bits[2] > 0


def test_a_model_of_a_text_does_not_hang_on_the_order_of_documents(english):
    order = np.random.default_rng(1).permutation(len(english.offsets) - 1)
    for first, second in zip(fit(*english, SMALL), fit(*take(english, order), SMALL), strict=True):
        assert np.array_equal(first, second)


def test_values_do_not_hang_on_the_sharding(english):
    whole = surprisal(*english, "en")
    split = [surprisal(*take(english, np.array([row])), "en")[0] for row in range(len(whole))]
    assert whole.tolist() == split


def test_shuffled_words_surprise_more(english):
    random = np.random.default_rng(2)
    keys = np.concatenate([random.permutation(english.keys[a:b]) for a, b in pairwise(english.offsets)])
    more = surprisal(keys, english.offsets, "en") - surprisal(*english, "en")
    assert (more > 0).mean() > 0.95
    assert np.median(more) > 0.5


def test_words_that_nobody_writes_cost_the_price_of_an_unknown_word():
    gibberish = words(["xqzvw kjqzx wvvxq zzqkj"])
    for language in languages():
        price = reference(language).unknown_code / 8
        assert surprisal(*gibberish, language).tolist() == [price]
        assert 12 < price < 32


def test_no_model_and_no_words():
    assert languages() == ("en", "es", "zh")
    empty = words(["", "the"])
    assert np.isnan(surprisal(*empty, "tlh")).tolist() == [True, True]
    assert np.isnan(surprisal(*empty, "en")).tolist() == [True, False]
    assert surprisal(*words([]), "en").shape == (0,)


def test_bins():
    values = np.array([0, 1 / 16, 0.99, 31.99, 32, 63, np.nan])
    assert bin_of(values).tolist() == [0, 1, 15, 511, 511, 511, -1]


def test_a_model_file_is_read_as_written(model, tmp_path):
    write(model, tmp_path / "xx.npz")
    again = read(tmp_path / "xx.npz")
    assert all(
        np.array_equal(a, b) and np.asarray(a).dtype == np.asarray(b).dtype for a, b in zip(model, again, strict=True)
    )
    write(model, tmp_path / "yy.npz")
    assert (tmp_path / "xx.npz").read_bytes() == (tmp_path / "yy.npz").read_bytes()


@pytest.mark.parametrize("size", [0, 10, 5000, -30])
def test_a_damaged_model_file_is_named(model, tmp_path, size):
    write(model, tmp_path / "xx.npz")
    (tmp_path / "xx.npz").write_bytes((tmp_path / "xx.npz").read_bytes()[:size])
    with pytest.raises(ValueError, match=r"xx\.npz: no reference model, or a damaged one"):
        read(tmp_path / "xx.npz")


def test_a_flipped_byte_is_seen(model, tmp_path):
    write(model, tmp_path / "xx.npz")
    data = bytearray((tmp_path / "xx.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "xx.npz").write_bytes(data)
    with pytest.raises(ValueError, match=r"xx\.npz"):
        read(tmp_path / "xx.npz")


def test_too_little_text_to_fit():
    with pytest.raises(ValueError, match="no word occurs 3 times"):
        fit(*words(["one two three"]))


@pytest.mark.skipif(not (SHARED / "text").is_dir(), reason="no ../shared/text")
def test_text_of_base_models_surprises_less_than_that_of_people(tmp_path):
    (tmp_path / "fastdetect.parquet").symlink_to(SHARED / "text" / "fastdetect.parquet")
    (texts,) = read_sets([tmp_path])["en"]
    found = held_out(texts, np.empty(0, np.uint64), "en")
    bits = surprisal(*take(texts.words, found), "en")
    human, machine = bits[~texts.machine[found]], bits[texts.machine[found]]
    assert np.median(machine) < np.median(human) - 0.2
