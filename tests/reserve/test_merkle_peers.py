"""Roots and proofs, from memory and from tiles, before two implementations that are not ours: pymerkle and sigstore.

Where they are not installed, put them beside (they are no part of the project's environment; pymerkle is under the
GPL)::

    pip install --target PEERS pymerkle==7.0.0 sigstore==4.5.1
    PYTHONPATH=PEERS pytest tests/reserve/test_merkle_peers.py
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.reserve.merkle import leaf_hash, root
from pipelines.reserve.proofs import (
    RootOf,
    consistency_proof,
    inclusion_proof,
    over,
    verify_consistency,
    verify_inclusion,
)
from pipelines.reserve.tiles import TileReader, TileWriter
from tests.reserve.brute_force import entries, hashes

D = entries(700)
LEAVES = hashes(D)
SIZES = [1, 2, 3, 5, 8, 21, 64, 70, 255, 256, 257, 512, 699, 700]


def roots(size: int, folder: Path) -> list[RootOf]:
    """Ranges of one tree from memory and from tiles."""
    writer = TileWriter(str(folder))
    writer.append(D[:size])
    return [over(LEAVES[:size]), TileReader(str(folder), writer.finish()).root_of]


def indexes(size: int) -> list[int]:
    return sorted({0, size // 3, size // 2, size - 2, size - 1} & set(range(size)))


@pytest.mark.parametrize("size", SIZES)
def test_sigstore_accepts_inclusion_proofs(size: int, tmp_path: Path) -> None:
    merkle = pytest.importorskip("sigstore._internal.merkle", reason="needs sigstore: see the top of this file")
    errors = pytest.importorskip("sigstore.errors")

    def entry(index: int, proof: list[bytes], whole: bytes) -> Any:
        shown = SimpleNamespace(log_index=index, tree_size=size, hashes=proof, root_hash=whole)
        return SimpleNamespace(_inner=SimpleNamespace(inclusion_proof=shown, canonicalized_body=D[index]))

    for root_of in roots(size, tmp_path):
        for index in indexes(size):
            proof = inclusion_proof(root_of, index, size)
            merkle.verify_merkle_inclusion(entry(index, proof, root_of(0, size)))
            with pytest.raises(errors.VerificationError):
                merkle.verify_merkle_inclusion(entry(index, [*proof, bytes(32)], root_of(0, size)))
            with pytest.raises(errors.VerificationError):
                merkle.verify_merkle_inclusion(entry(index, proof, bytes(32)))


@pytest.mark.parametrize("size", SIZES)
def test_pymerkle_accepts_inclusion_proofs_and_ours_accepts_its_own(size: int, tmp_path: Path) -> None:
    pymerkle = pytest.importorskip("pymerkle", reason="needs pymerkle: see the top of this file")
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    for entry in D[:size]:
        tree.append_entry(entry)
    whole = root(LEAVES[:size])
    assert tree.get_root() == whole
    for root_of in roots(size, tmp_path):
        for index in indexes(size):
            theirs, leaf = tree.prove_inclusion(index + 1), leaf_hash(D[index])
            ours = inclusion_proof(root_of, index, size)
            assert theirs.path == [leaf, *ours]  # its path begins with the leaf
            shown = pymerkle.InclusionProof("sha256", True, size, index + 1, theirs.rule, [leaf, *ours])
            pymerkle.verify_inclusion(leaf, root_of(0, size), shown, index=index + 1, size=size)
            verify_inclusion(leaf, index, size, theirs.path[1:], tree.get_root())


@pytest.mark.parametrize("size", SIZES)
def test_pymerkle_accepts_the_history(size: int, tmp_path: Path) -> None:
    """Its consistency proofs hold the older tree's perfect subtrees one by one; those of the RFC join some of them."""
    pymerkle = pytest.importorskip("pymerkle", reason="needs pymerkle: see the top of this file")
    core = pytest.importorskip("pymerkle.core")
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    for entry in D[:size]:
        tree.append_entry(entry)
    for root_of in roots(size, tmp_path):
        for old in {1, size // 3, size // 2, size - 1, size} - {0}:
            rule, subset, ranges = core._consistency_path_layout(old, size)
            path = [root_of(*r) for r in ranges]
            shown = pymerkle.ConsistencyProof("sha256", True, size, old, rule, subset, path)
            pymerkle.verify_consistency(root_of(0, old), root_of(0, size), shown, prior_size=old, later_size=size)
            assert path == tree.prove_consistency(old, size).path
            verify_consistency(
                old, size, tree.get_root(old), tree.get_root(size), consistency_proof(root_of, old, size)
            )
