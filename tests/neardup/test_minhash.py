from __future__ import annotations

import doctest
import random
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash, MinHashLSH
from pydantic import ValidationError

from pipelines.neardup import bands, components, shingles
from pipelines.neardup import minhash as minhash_module
from pipelines.neardup.bands import WEIGHTS, band_hashes, hash_range, parameters
from pipelines.neardup.minhash import minhash, sign
from pipelines.neardup.options import NearDup
from pipelines.neardup.shingles import shingle_hashes
from pipelines.records import signatures_schema
from tests.neardup.support import vocabulary
from tests.neardup.test_shingles import SCRIPTS


def reference(hashes: np.ndarray, permutations: int, seed: int) -> np.ndarray:
    sketch = MinHash(num_perm=permutations, seed=seed, scheme="affine32", hashfunc=lambda x: x)
    sketch.update_batch([int(h) for h in hashes])
    return sketch.hashvalues


@pytest.mark.parametrize(("permutations", "seed"), [(128, 1), (64, 7), (257, 2**32 - 1), (16, 0)])
def test_signatures_are_those_of_datasketch(permutations: int, seed: int) -> None:
    rng = random.Random(3)
    words = vocabulary(rng)
    lengths = (1, 4, 5, 6, 100, 4100, 9000)  # the last two fill more than one block of the kernel
    texts = [*SCRIPTS.values(), "", "...", *(" ".join(rng.choices(words, k=n)) for n in lengths)]
    column = pa.array(texts, pa.large_string())
    options = NearDup(permutations=permutations, seed=seed)
    signed = sign(column, options)
    hashes, offsets = shingle_hashes(column, options.shingle)
    assert signed.values.dtype == np.uint32
    for row in range(len(texts)):
        expected = reference(hashes[offsets[row] : offsets[row + 1]], permutations, seed)
        np.testing.assert_array_equal(signed.values[row], expected)
    assert signed.shingles.tolist() == np.diff(offsets).tolist()


def test_any_hash_sets_can_be_signed() -> None:
    sets = [np.array([], np.uint32), np.array([0, 2**32 - 1, 5], np.uint32), np.arange(10000, dtype=np.uint32)]
    offsets = np.cumsum([0, *map(len, sets)])
    values = minhash(np.concatenate(sets), offsets, 128, 1)
    assert (values[0] == 0xFFFFFFFF).all()
    for row, hashes in enumerate(sets):
        np.testing.assert_array_equal(values[row], reference(hashes, 128, 1))


def test_estimate_is_unbiased_with_the_stated_standard_error() -> None:
    rng = np.random.default_rng(5)
    errors = []
    for true in np.repeat([0.5, 0.8, 0.95], 300):
        common = int(true * 1000)
        pool = rng.choice(2**32, 1000 + 1000 - common, replace=False).astype(np.uint32)
        hashes = np.concatenate([pool[:1000], pool[:common], pool[1000:]])
        a, b = minhash(hashes, np.array([0, 1000, len(hashes)]), 128, 1)
        errors.append((a == b).mean() - common / (2000 - common))
    errors_by_truth = np.array(errors).reshape(3, 300)
    truth = np.array([500 / 1500, 800 / 1200, 950 / 1050])
    standard = np.sqrt(truth * (1 - truth) / 128)
    assert (np.abs(errors_by_truth.mean(axis=1)) < 4 * standard / np.sqrt(300)).all()
    assert (np.abs(errors_by_truth.std(axis=1) / standard - 1) < 0.2).all()


def test_column_has_the_type_of_the_signature_schema() -> None:
    options = NearDup(permutations=32)
    signed = sign(pa.array(["one text", "another text"], pa.large_string()), options)
    column = signed.column()
    assert column.type == signatures_schema(32).field("signature").type
    assert [np.frombuffer(v.as_py(), "<u4").tolist() for v in column] == signed.values.tolist()


def test_bands_are_the_optimum_of_datasketch() -> None:
    for threshold, permutations in ((0.8, 128), (0.5, 64), (0.9, 256)):
        lsh = MinHashLSH(threshold=threshold, num_perm=permutations, weights=WEIGHTS)
        assert parameters(threshold, permutations) == (lsh.b, lsh.r)
    assert parameters(0.8, 128) == (14, 9)
    assert parameters(1.0, 32) == (2, 16)


def test_band_hashes_are_equal_where_the_band_is_and_only_there() -> None:
    rng = np.random.default_rng(2)
    left = rng.integers(0, 2**32, (2000, 128), dtype=np.uint32)
    right = np.where(rng.random((2000, 128)) < 0.97, left, left + 1).astype(np.uint32)
    banding = parameters(0.8, 128)
    equal = np.array([(left[:, k : k + 9] == right[:, k : k + 9]).all(axis=1) for k in range(0, 126, 9)])
    assert 0.6 < equal.mean() < 0.9
    np.testing.assert_array_equal(band_hashes(left, banding) == band_hashes(right, banding), equal)
    same = np.full((1, 128), 7, np.uint32)
    assert len(np.unique(band_hashes(same, banding))) == banding.bands


@pytest.mark.parametrize("ranges", [1, 3, 16, 4096])
def test_hash_ranges_cover_all_hashes_in_order(ranges: int) -> None:
    hashes = np.sort(np.random.default_rng(1).integers(0, 2**64, 50000, dtype=np.uint64))
    at = hash_range(np.concatenate([[np.uint64(0)], hashes, [np.uint64(2**64 - 1)]]), ranges)
    assert at[0] == 0
    assert at[-1] == ranges - 1
    assert (np.diff(at) >= 0).all()


def test_options_are_checked() -> None:
    for wrong in (
        {"threshold": 0},
        {"threshold": 1.01},
        {"shingle": 0},
        {"permutations": 8},
        {"seed": -1},
        {"rnages": 2},
    ):
        with pytest.raises(ValidationError):
            NearDup(**wrong)
    with pytest.raises(ValidationError):
        NearDup().threshold = 0.5


@pytest.mark.parametrize("module", [bands, components, minhash_module, shingles])
def test_examples_in_docstrings(module: ModuleType) -> None:
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted
    assert not result.failed
