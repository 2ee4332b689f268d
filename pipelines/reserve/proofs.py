"""Inclusion and consistency proofs of Merkle trees: RFC 6962, sections 2.1.1 and 2.1.2 (RFC 9162, 2.1.3 and 2.1.4).

A proof is a list of hashes. Making one needs a function that gives the root over a range of leaves, so that the same
code serves leaf hashes in memory and tiles on disk::

    >>> from pipelines.reserve.merkle import leaf_hash, leaf_hashes, root
    >>> import numpy as np
    >>> leaves = leaf_hashes(b"onetwothree", np.array([0, 3, 6, 11]))
    >>> proof = inclusion_proof(over(leaves), 1, 3)
    >>> verify_inclusion(leaf_hash(b"two"), 1, 3, proof, root(leaves))
    >>> verify_consistency(2, 3, root(leaves[:2]), root(leaves), consistency_proof(over(leaves), 2, 3))
    >>> verify_inclusion(leaf_hash(b"one"), 1, 3, proof, root(leaves))  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    ProofError: the inclusion proof of leaf 1 of 3 leads to another root

Both are the cases ``start = 0`` of the proofs for subtrees of draft-ietf-plants-merkle-tree-certs, sections 4.1, 4.3
and 4.4, which are here as well. Sizes are numbers of leaves, below 2^64; ranges exclude their end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple

from pipelines.errors import JobError
from pipelines.reserve.merkle import EMPTY_ROOT, HASH_BYTES, Hashes, node_hash, root, split

RootOf = Callable[[int, int], bytes]  # MTH(D[start:end])

_LIMIT = 1 << 64


class ProofError(JobError):
    """The proof does not show what it is said to show."""


class Subtree(NamedTuple):
    """The leaves from ``start`` to ``end``, the latter excluded."""

    start: int
    end: int

    @property
    def valid(self) -> bool:
        """Whether its nodes are nodes of every tree that holds it: the start is a multiple of the power of two."""
        size = self.end - self.start
        return 0 <= self.start <= self.end and (size < 2 or self.start % (1 << (size - 1).bit_length()) == 0)


def over(hashes: Hashes) -> RootOf:
    """Roots over ranges of leaf hashes in memory, an array of shape (n, 32)."""
    return lambda start, end: root(hashes[start:end])


def inclusion_proof(root_of: RootOf, index: int, size: int) -> list[bytes]:
    """PATH(index, D[size]) of RFC 6962, section 2.1.1. Raises ValueError for a leaf that the tree does not have."""
    return subtree_inclusion_proof(root_of, index, Subtree(0, size))


def subtree_inclusion_proof(root_of: RootOf, index: int, subtree: Subtree) -> list[bytes]:
    """The proof that a leaf (counted in the whole tree) is in a subtree. Raises ValueError where it cannot be."""
    if not (subtree.valid and subtree.start <= index < subtree.end):
        raise ValueError(f"there is no leaf {index} in {tuple(subtree)}, or that is no subtree")
    return [root_of(*sibling) for sibling in _siblings(index, subtree)]


def consistency_proof(root_of: RootOf, old_size: int, size: int) -> list[bytes]:
    """PROOF(old_size, D[size]) of RFC 6962, section 2.1.2. Raises ValueError unless 0 < old_size <= size."""
    if old_size == 0:
        raise ValueError("every tree goes on from the empty one: there is nothing to prove")
    return subtree_consistency_proof(root_of, Subtree(0, old_size), size)


def subtree_consistency_proof(root_of: RootOf, subtree: Subtree, size: int) -> list[bytes]:
    """The proof that a subtree is one of the tree of a size. Raises ValueError where it cannot be."""
    if not (subtree.valid and subtree.end <= size):
        raise ValueError(f"{tuple(subtree)} is no subtree of a tree of {size} leaves")
    if subtree.start == subtree.end:
        return []
    way = _way(subtree, size)
    ranges = [step.sibling for step in reversed(way.steps)]
    return [root_of(*r) for r in (ranges if way.known else [way.last, *ranges])]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Raises ProofError unless the leaf with this hash is number ``index`` of the tree with this size and root."""
    verify_subtree_inclusion(leaf, index, Subtree(0, size), proof, root)


def verify_subtree_inclusion(leaf: bytes, index: int, subtree: Subtree, proof: Sequence[bytes], root: bytes) -> None:
    """Raises ProofError unless the leaf with this hash is number ``index`` of the whole tree, in the given subtree.

    ``root`` is that of the subtree; whether that belongs to the tree is shown by a consistency proof.
    """
    _check_numbers(index, *subtree)
    what = f"the inclusion proof of leaf {index} of {subtree.end}"
    if not (subtree.valid and subtree.start <= index < subtree.end):
        raise ProofError(f"{what}: the tree has no such leaf")
    siblings = _siblings(index, subtree)
    _check_hashes(what, [leaf, *proof], 1 + len(siblings))
    found = leaf
    for (start, _), sibling in zip(siblings, proof, strict=True):
        found = node_hash(found, sibling) if start > index else node_hash(sibling, found)
    if found != root:
        raise ProofError(f"{what} leads to another root")


def verify_consistency(old_size: int, size: int, old_root: bytes, root: bytes, proof: Sequence[bytes]) -> None:
    """Raises ProofError unless the tree with ``size`` and ``root`` goes on from the one with ``old_size``.

    Nothing is consistent with the empty tree in a way that could be shown, so that one is refused.
    """
    if old_size == 0:
        raise ProofError("the consistency proof from no leaf: the empty tree proves nothing")
    verify_subtree_consistency(Subtree(0, old_size), size, old_root, root, proof)


def verify_subtree_consistency(
    subtree: Subtree, size: int, subtree_root: bytes, root: bytes, proof: Sequence[bytes]
) -> None:
    """Raises ProofError unless the subtree with this root is one of the tree with this size and root.

    An empty subtree is one of every tree, so that with it nothing is shown of ``root``.
    """
    _check_numbers(*subtree, size)
    what = f"the consistency proof from leaves {subtree.start} to {subtree.end} to a tree of {size}"
    if not (subtree.valid and subtree.end <= size):
        raise ProofError(f"{what}: the tree has no such subtree")
    if subtree.start == subtree.end:
        if subtree_root != EMPTY_ROOT or proof:
            raise ProofError(f"{what}: a subtree without leaves has the root of no leaf, and an empty proof")
        return
    way = _way(subtree, size)
    hashes = [subtree_root, *proof] if way.known else list(proof)
    if way.steps or proof:  # else the sizes are equal, and so must be the roots, whatever they are
        _check_hashes(what, hashes, 1 + len(way.steps))
    old = new = hashes[0]
    for step, sibling in zip(reversed(way.steps), hashes[1:], strict=True):
        if step.side is _Side.RIGHT:
            new = node_hash(new, sibling)
        else:
            new = node_hash(sibling, new)
            old = node_hash(sibling, old) if step.side is _Side.WITHIN else old
    if old != subtree_root:
        raise ProofError(f"{what} leads to another root of the older tree")
    if new != root:
        raise ProofError(f"{what} leads to another root of the newer tree")


class _Side(Enum):
    """Where a sibling lies on the way down to a subtree."""

    RIGHT = "to the right of the subtree"
    LEFT = "to the left of the subtree"
    WITHIN = "in the subtree, to the left of the rest of it"


class _Step(NamedTuple):
    side: _Side
    sibling: tuple[int, int]


class _Way(NamedTuple):
    """From the root down to the node that the tree and the subtree (what is left of it) share."""

    steps: list[_Step]
    last: tuple[int, int]
    known: bool  # the last node is the subtree itself, whose root the verifier has: SUBPROOF's b of the RFC


def _siblings(index: int, subtree: Subtree) -> list[tuple[int, int]]:
    """The ranges of the siblings on the way up from a leaf."""
    start, end = subtree
    found = []
    while end - start > 1:
        middle = start + split(end - start)
        if index < middle:
            found.append((middle, end))
            end = middle
        else:
            found.append((start, middle))
            start = middle
    return found[::-1]


def _way(subtree: Subtree, size: int) -> _Way:
    start, low, high = subtree.start, 0, size
    steps = []
    while (start, subtree.end) != (low, high):
        middle = low + split(high - low)
        if subtree.end <= middle:
            steps.append(_Step(_Side.RIGHT, (middle, high)))
            high = middle
        elif start >= middle:
            steps.append(_Step(_Side.LEFT, (low, middle)))
            low = middle
        else:  # the subtree is valid: it begins where the node does
            steps.append(_Step(_Side.WITHIN, (low, middle)))
            start = low = middle
    return _Way(steps, (low, high), start == subtree.start)


def _check_numbers(*numbers: int) -> None:
    """A proof may come from anybody: what follows must neither take long nor fail over an absurd number."""
    if not all(0 <= number < _LIMIT for number in numbers):
        raise ProofError("the proof is of a leaf or a tree whose number is negative, or 2^64 or more")


def _check_hashes(what: str, hashes: Sequence[bytes], wanted: int) -> None:
    if len(hashes) != wanted:
        raise ProofError(f"{what} has the wrong number of hashes")
    if any(len(value) != HASH_BYTES for value in hashes):
        raise ProofError(f"{what}: a hash has {HASH_BYTES} bytes")
