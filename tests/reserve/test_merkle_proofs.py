import numpy as np
import pytest

from pipelines.reserve.merkle import EMPTY_ROOT, leaf_hash, root
from pipelines.reserve.proofs import (
    ProofError,
    Subtree,
    consistency_proof,
    inclusion_proof,
    over,
    subtree_consistency_proof,
    subtree_inclusion_proof,
    verify_consistency,
    verify_inclusion,
    verify_subtree_consistency,
    verify_subtree_inclusion,
)
from tests.reserve.brute_force import entries, hashes, mth, path, subproof, subtree_subproof

D = entries(1500)
LEAVES = hashes(D)
SIZES = [*range(1, 71), 255, 256, 257, 1025, 1500]


def some(low: int, high: int, size: int) -> list[int]:
    """All numbers of a small range, a few of a large one, its ends among them."""
    if high - low < 71:
        return list(range(low, high))
    return sorted({low, low + 1, high - 1, *np.random.default_rng(size).integers(low, high, 5).tolist()})


@pytest.mark.parametrize("size", SIZES)
def test_inclusion_proofs_are_those_of_the_rfc(size: int) -> None:
    whole = root(LEAVES[:size])
    for index in some(0, size, size):
        proof = inclusion_proof(over(LEAVES), index, size)
        assert proof == path(index, D[:size])
        verify_inclusion(leaf_hash(D[index]), index, size, proof, whole)


@pytest.mark.parametrize("size", SIZES)
def test_consistency_proofs_are_those_of_the_rfc(size: int) -> None:
    whole = root(LEAVES[:size])
    for old in some(1, size + 1, size):
        proof = consistency_proof(over(LEAVES), old, size)
        assert proof == subproof(old, D[:size], True)
        verify_consistency(old, size, root(LEAVES[:old]), whole, proof)


@pytest.mark.parametrize("size", [1, 2, 7, 8, 13, 21])
def test_subtrees(size: int) -> None:
    whole = mth(D[:size])
    for start in range(size + 1):
        for end in range(start, size + 1):
            subtree = Subtree(start, end)
            power = 1
            while power < end - start:
                power *= 2
            assert subtree.valid == (start % power == 0)
            if not subtree.valid:
                with pytest.raises(ValueError, match="no subtree"):
                    subtree_consistency_proof(over(LEAVES), subtree, size)
                with pytest.raises(ProofError, match="no such subtree"):
                    verify_subtree_consistency(subtree, size, mth(D[start:end]), whole, [])
                continue
            own = mth(D[start:end])
            proof = subtree_consistency_proof(over(LEAVES), subtree, size)
            assert proof == (subtree_subproof(start, end, D[:size], True) if start < end else [])
            verify_subtree_consistency(subtree, size, own, whole, proof)
            for index in range(start, end):
                proof = subtree_inclusion_proof(over(LEAVES), index, subtree)
                assert proof == path(index - start, D[start:end])
                verify_subtree_inclusion(leaf_hash(D[index]), index, subtree, proof, own)


@pytest.mark.parametrize("size", [2, 3, 7, 8, 11, 64, 70])
def test_no_other_leaf_size_or_hash_is_accepted(size: int) -> None:
    whole = root(LEAVES[:size])
    for index in range(size):
        proof, leaf = inclusion_proof(over(LEAVES), index, size), leaf_hash(D[index])
        for other in range(size):
            if other != index:
                with pytest.raises(ProofError):
                    verify_inclusion(leaf, other, size, proof, whole)
                with pytest.raises(ProofError):
                    verify_inclusion(leaf_hash(D[other]), index, size, proof, whole)
        for at in range(len(proof)):
            bent = [*proof]
            bent[at] = bytes([bent[at][0] ^ 1]) + bent[at][1:]
            for wrong in (bent, proof[:at] + proof[at + 1 :], [*proof[:at], bytes(32), *proof[at:]], proof[::-1]):
                if wrong != proof:
                    with pytest.raises(ProofError):
                        verify_inclusion(leaf, index, size, wrong, whole)


@pytest.mark.parametrize("size", [2, 3, 7, 8, 11, 64, 70])
def test_no_other_history_is_accepted(size: int) -> None:
    """A proof for one pair of trees shows nothing of trees with one leaf changed."""
    whole = root(LEAVES[:size])
    for old in range(1, size):
        proof, old_root = consistency_proof(over(LEAVES), old, size), root(LEAVES[:old])
        forged = LEAVES[:size].copy()
        forged[old // 2, 0] ^= 1
        new_forged, old_forged = root(forged), root(forged[:old])
        own = consistency_proof(over(forged), old, size)
        for old_claim, new_claim, shown in [
            (old_root, new_forged, proof),
            (old_root, new_forged, own),
            (old_forged, whole, proof),
            (old_forged, whole, own),
            (old_root, whole, [*proof, bytes(32)]),
            (old_root, whole, proof[1:]),
        ]:
            with pytest.raises(ProofError):
                verify_consistency(old, size, old_claim, new_claim, shown)
        verify_consistency(old, size, old_forged, new_forged, own)


def test_hashes_of_another_length_are_refused_even_where_the_bytes_hashed_are_the_same() -> None:
    left, right = leaf_hash(D[0]), leaf_hash(D[1])
    whole = root(LEAVES[:2])
    verify_inclusion(left, 0, 2, [right], whole)
    with pytest.raises(ProofError, match="32 bytes"):
        verify_inclusion(left + right[:1], 0, 2, [right[1:]], whole)
    with pytest.raises(ProofError, match="32 bytes"):
        verify_consistency(1, 2, left + right[:1], whole, [right[1:]])


@pytest.mark.parametrize("size", [0, -1, 1 << 64, 1 << 20_000], ids=["0", "-1", "2^64", "2^20000"])
def test_absurd_sizes_are_refused_at_once(size: int) -> None:
    with pytest.raises(ProofError):
        verify_inclusion(bytes(32), 0, size, [], bytes(32))
    with pytest.raises(ProofError):
        verify_consistency(1, size, bytes(32), bytes(32), [])


def test_the_empty_tree_is_refused() -> None:
    with pytest.raises(ProofError, match="empty tree proves nothing"):
        verify_consistency(0, 5, EMPTY_ROOT, root(LEAVES[:5]), [])
    with pytest.raises(ValueError, match="nothing to prove"):
        consistency_proof(over(LEAVES), 0, 5)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (5, 5), (-1, 5)])
def test_no_proof_of_a_leaf_that_is_not_there(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="no leaf"):
        inclusion_proof(over(LEAVES), index, size)


def test_no_consistency_proof_backwards() -> None:
    with pytest.raises(ValueError, match="no subtree"):
        consistency_proof(over(LEAVES), 6, 5)
