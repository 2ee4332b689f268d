import itertools
import math
from collections import Counter

import datasketches
import numpy as np
import numpy.typing as npt
import pytest

from pipelines.statistics.panel.sketches import (
    MAX_THETA,
    Sample,
    distinct_in_windows,
    hll_bytes,
    registers_of,
    sample,
    sample_ngrams,
    sample_of_bytes,
    theta_bytes,
    union,
)
from pipelines.statistics.panel.words import Words, ngram_keys

Keys = npt.NDArray[np.uint64]
K = 64


def keys_of(count: int, seed: int = 0) -> Keys:
    return np.random.default_rng(seed).integers(0, 2**64, count, np.uint64)


def repeated(count: int, seed: int = 0) -> Keys:
    """Keys that occur as words do: few often, many once."""
    rng = np.random.default_rng(seed)
    return keys_of(count, seed)[np.minimum(rng.zipf(1.3, count), count) - 1]


def by_datasketches(keys: Keys, lg_k: int = 16) -> datasketches.update_theta_sketch:
    sketch = datasketches.update_theta_sketch(lg_k)
    for key in keys.view(np.int64).tolist():
        sketch.update(key)
    return sketch


def hashes_of(keys: Keys) -> list[int]:
    """DataSketches' own hash of each key."""
    return [next(iter(by_datasketches(keys[i : i + 1], 5))) for i in range(len(keys))]


def same(a: Sample, b: Sample) -> bool:
    return a.theta == b.theta and a.keys.tolist() == b.keys.tolist() and a.counts.tolist() == b.counts.tolist()


@pytest.mark.parametrize("count", [0, 1, K - 1, K, K + 1, 500, 5000])
def test_a_sample_holds_the_least_hashes_and_how_often_they_occur(count: int) -> None:
    keys = repeated(count, count)
    counted = Counter(hashes_of(keys))
    least = sorted(counted)
    found = sample(keys, K)
    assert found.keys.tolist() == least[:K]
    assert found.counts.tolist() == [counted[key] for key in least[:K]]
    assert int(found.theta) == (least[K] if len(least) > K else MAX_THETA)


@pytest.mark.parametrize("distinct", [1, K, K + 1, 3 * K])
def test_a_sample_of_many_ngrams_of_which_few_are_distinct(distinct: int) -> None:
    keys = np.tile(keys_of(distinct), 2000)
    found = sample(keys, K)
    assert set(found.counts.tolist()) == {2000}
    assert len(found.keys) == min(distinct, K)


def test_ngrams_are_sampled_by_the_keys_that_they_have_elsewhere() -> None:
    words = Words(repeated(3000), np.array([0, 1000, 1002, 3000], np.int64))
    trigrams = ngram_keys(words, 3)
    registers, buckets = np.zeros(4096, np.uint8), np.zeros(512, np.int64)
    found = sample_ngrams(*words, np.array([0, 1, 2]), 3, K, registers, buckets)
    assert same(found, sample(trigrams.keys, K))
    assert registers.tolist() == registers_of(trigrams.keys).tolist()
    part = sample_ngrams(*words, np.array([2]), 3, K)
    assert same(part, sample(trigrams.keys[trigrams.offsets[2] :], K))


@pytest.mark.parametrize("seed", range(20))
def test_the_union_of_any_shards_is_the_sample_of_the_whole(seed: int) -> None:
    keys = repeated(3000, seed)
    rng = np.random.default_rng(seed)
    shard = rng.integers(0, rng.integers(1, 9), len(keys))
    parts = [sample(keys[shard == i], K) for i in rng.permutation(10)]
    left = union([union(parts[:3], K), union(parts[3:], K)], K)
    assert same(left, sample(keys, K))
    one = parts[0]
    for part in parts[1:]:
        one = union([part, one], K)
    assert same(one, left)


def test_a_union_without_a_limit_keeps_all_that_is_exact() -> None:
    keys = repeated(20_000)
    shard = np.random.default_rng(0).integers(0, 8, len(keys))
    merged = union([sample(keys[shard == i], K) for i in range(8)])
    whole = sample(keys, 20_000)
    under = whole.keys < merged.theta
    assert same(merged, Sample(whole.keys[under], whole.counts[under], merged.theta))
    assert len(merged.keys) > K


def test_distinct_keys_are_estimated_within_the_stated_error() -> None:
    """1/√(k − 2) is the relative standard error of a bottom-k sample (Giroire 2009; k > 2)."""
    n, k, trials = 2000, 102, 300
    errors = []
    for seed in range(trials):
        found = sample(keys_of(n, seed), k)
        errors.append(len(found.keys) * MAX_THETA / int(found.theta) / n - 1)
    assert abs(np.mean(errors)) < 4 / math.sqrt(k - 2) / math.sqrt(trials)
    assert np.std(errors) == pytest.approx(1 / math.sqrt(k - 2), rel=0.2)


@pytest.mark.parametrize("count", [0, 1, 2, 40, 512, 513, 20_000])
def test_datasketches_reads_a_sample_as_a_theta_sketch(count: int) -> None:
    keys = keys_of(count)
    found = sample(keys, 512)
    read = datasketches.compact_theta_sketch.deserialize(theta_bytes(found))
    assert read.is_ordered()
    assert read.is_empty() == (count == 0)
    assert read.is_estimation_mode() == (count > 512)
    assert list(read) == found.keys.tolist()
    assert read.theta64 == int(found.theta)
    assert read.get_estimate() == pytest.approx(len(found.keys) * MAX_THETA / int(found.theta))
    if count > 1:
        assert read.serialize() == theta_bytes(found)
    back, theta = sample_of_bytes(theta_bytes(found))
    assert back.tolist() == found.keys.tolist()
    assert theta == found.theta


def test_datasketches_joins_and_intersects_ours_with_its_own() -> None:
    keys = keys_of(30_000)
    ours = datasketches.compact_theta_sketch.deserialize(theta_bytes(sample(keys[:20_000], 512)))
    theirs = by_datasketches(keys[10_000:], 12).compact()
    least = min(ours.theta64, theirs.theta64)
    common = datasketches.theta_intersection()
    common.update(ours)
    common.update(theirs)
    expected = {key for key in ours if key < least} & {key for key in theirs if key < least}
    assert set(common.get_result()) == expected
    assert expected == set(hashes_of(keys[10_000:20_000])) & {key for key in ours if key < least}
    assert common.get_result().get_estimate() == pytest.approx(len(expected) * MAX_THETA / least)
    joined = datasketches.theta_union(12)
    joined.update(ours)
    joined.update(theirs)
    assert set(joined.get_result()) == {key for key in {*ours, *theirs} if key < least}


@pytest.mark.parametrize("count", [0, 1, 3000, 100_000])
def test_datasketches_reads_registers_as_a_hyperloglog_sketch(count: int) -> None:
    keys = keys_of(count)
    registers = registers_of(keys)
    read = datasketches.hll_sketch.deserialize(hll_bytes(registers))
    theirs = datasketches.hll_sketch(12, datasketches.HLL_8)
    for key in keys.view(np.int64).tolist():
        theirs.update(key)
    assert read.lg_config_k == 12
    assert read.is_empty() == (count == 0)
    assert read.get_estimate() == pytest.approx(count, rel=4 * 1.04 / 64)
    if count >= 3000:
        assert theirs.serialize_updatable()[40:] == registers.tobytes()
    joined, direct = datasketches.hll_union(12), datasketches.hll_union(12)
    joined.update(read)
    joined.update(theirs)
    direct.update(theirs)
    direct.update(datasketches.hll_sketch.deserialize(hll_bytes(registers)))
    assert joined.get_estimate() == pytest.approx(read.get_estimate())
    assert direct.get_estimate() == pytest.approx(read.get_estimate())


def test_registers_merge_by_the_greater() -> None:
    keys = keys_of(50_000)
    merged = np.maximum(registers_of(keys[:20_000]), registers_of(keys[20_000:]))
    assert merged.tolist() == registers_of(keys).tolist()


def test_the_signed_sketch_estimates_the_second_moment_without_bias() -> None:
    """The standard error of one row of b buckets is at most √(2/b) of F2 (Charikar et al. 2002; Thorup, Zhang 2004)."""
    estimates = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        counts = np.arange(1, 101)
        keys = np.repeat(rng.integers(0, 2**64, 100, np.uint64), counts)
        buckets = np.zeros(512, np.int64)
        sample_ngrams(keys, np.array([0, len(keys)]), np.array([0]), 1, K, buckets=buckets)
        estimates.append((buckets**2).sum() / (counts**2).sum())
    assert np.std(estimates) < 1.2 * math.sqrt(2 / 512)
    assert abs(np.mean(estimates) - 1) < 4 * math.sqrt(2 / 512 / 200)


def test_buckets_hold_each_occurrence_once() -> None:
    keys = np.full(1000, 7, np.uint64)
    buckets = np.zeros(512, np.int64)
    sample_ngrams(keys, np.array([0, 1000]), np.array([0]), 1, K, buckets=buckets)
    assert sorted(np.abs(buckets).tolist())[-2:] == [0, 1000]


@pytest.mark.parametrize("width", [1, 2, 7, 50])
def test_distinct_words_of_windows_against_counting_them(width: int) -> None:
    rng = np.random.default_rng(width)
    lengths = [0, 1, width - 1, width, width + 1, 300, 5]
    words = keys_of(40)[np.minimum(rng.zipf(1.4, sum(lengths)), 40) - 1]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    expected = [
        sum(len(set(words[i : i + width].tolist())) for i in range(a, b - width + 1))
        for a, b in itertools.pairwise(offsets)
    ]
    assert distinct_in_windows(words, offsets, width).tolist() == expected
