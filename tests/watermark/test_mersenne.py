"""The generator, its permutations and its uniforms, against PyTorch where it is there and against numpy everywhere."""

import numpy as np
import pytest

from watermark.mersenne import (
    LARGEST,
    among_first,
    first_of_permutations,
    low_bits,
    permutation,
    uniforms,
    uniforms_at,
)

SIZES = (32000, 50257, 50272, 128256, 151936, 256000)
EDGES = (0, 1, 2**31, 2**32 - 1, 2**32, 2**40 + 77, 2**63, 2**64 - 1, -1, -(2**63))


def shuffled(seed: int, n: int) -> np.ndarray:
    """The whole Fisher-Yates shuffle, step by step, with the draws of numpy's MT19937."""
    bits = np.random.RandomState(low_bits(seed)).bytes(4 * n)
    elements = list(range(n))
    for i, draw in enumerate(np.frombuffer(bits, "<u4").tolist()):
        j = i + draw % (n - i)
        elements[i], elements[j] = elements[j], elements[i]
    return np.array(elements)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 623, 624, 625, 1249, 5000])
def test_every_prefix_of_a_permutation(n: int) -> None:
    for seed in EDGES[:4]:
        whole = shuffled(seed, n)
        for count in {0, 1, n // 4, n - 1, n}:
            np.testing.assert_array_equal(permutation(seed, n, count), whole[:count])


def test_bitmaps_and_single_tokens_agree_with_the_permutation() -> None:
    rng = np.random.default_rng(1)
    for n in (5, 624, 3000, 4096):
        for count in {1, n // 4, n // 2 + 1, n}:
            seeds = rng.integers(0, 2**32, 35, dtype=np.uint32)
            expected = np.zeros((len(seeds), n), bool)
            for row, seed in zip(expected, seeds, strict=True):
                row[permutation(int(seed), n, count)] = True
            bits = np.unpackbits(first_of_permutations(seeds, n, count), axis=1, bitorder="little")
            np.testing.assert_array_equal(bits[:, :n], expected)
            assert not bits[:, n:].any()
            for repeats in (1, 5, 12):  # followed one by one, and looked up in the shuffled list
                which = np.repeat(np.arange(len(seeds)), repeats)
                tokens = rng.integers(0, n, len(which)).astype(np.int32)
                found = among_first(seeds[which], tokens, n, count)
                np.testing.assert_array_equal(found, expected[which, tokens])


def test_every_token_followed_through_one_permutation() -> None:
    tokens = np.arange(3000, dtype=np.int32)
    for seed in (0, 77, 2**32 - 1):
        green = np.isin(tokens, permutation(seed, 3000, 700))
        for part in range(0, 3000, 5):
            found = among_first(np.full(5, seed, np.uint32), tokens[part : part + 5], 3000, 700)
            np.testing.assert_array_equal(found, green[part : part + 5])


def test_uniforms_are_the_low_bits_of_the_draws() -> None:
    for seed in (3, 2**32 - 1):
        draws = np.frombuffer(np.random.RandomState(seed).bytes(4 * 2000), "<u4")
        np.testing.assert_array_equal(uniforms(seed, 2000), (draws & 0xFFFFFF).astype(np.float32) / np.float32(2**24))
        at = np.array([0, 623, 624, 1999], np.int32)
        np.testing.assert_array_equal(uniforms_at(np.full(4, seed, np.uint32), at), uniforms(seed, 2000)[at])


def test_sizes_out_of_range_are_refused() -> None:
    for n, count in ((0, 0), (LARGEST, 1), (5, 6), (5, -1)):
        with pytest.raises(ValueError, match="allowed are"):
            permutation(1, n, count)


def compare_with_torch(n: int, seeds: np.ndarray) -> None:
    torch = pytest.importorskip("torch", reason="torch is an extra")
    for seed in seeds.tolist():
        theirs = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).numpy()
        np.testing.assert_array_equal(permutation(seed, n), theirs)


@pytest.mark.parametrize("n", [1, 2, 29999, 30000, *SIZES])
def test_permutations_are_those_of_torch(n: int) -> None:
    compare_with_torch(n, np.random.default_rng(n).integers(0, 2**63, 10))


@pytest.mark.slow
@pytest.mark.parametrize("n", SIZES)
def test_a_thousand_permutations_are_those_of_torch(n: int) -> None:
    compare_with_torch(n, np.random.default_rng([n, 1]).integers(0, 2**63, 1000))


def test_unusual_seeds_are_those_of_torch() -> None:
    torch = pytest.importorskip("torch", reason="torch is an extra")
    for seed in EDGES:
        theirs = torch.randperm(1000, generator=torch.Generator().manual_seed(seed)).numpy()
        np.testing.assert_array_equal(permutation(seed, 1000), theirs)


@pytest.mark.parametrize("n", [1, 15, 16, 17, 624, 50257])
def test_uniforms_are_those_of_torch(n: int) -> None:
    torch = pytest.importorskip("torch", reason="torch is an extra")
    for seed in EDGES:
        np.testing.assert_array_equal(uniforms(seed, n), torch.rand(n, generator=torch.Generator().manual_seed(seed)))
