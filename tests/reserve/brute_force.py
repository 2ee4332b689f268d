"""Merkle trees and their proofs by the words of RFC 6962, section 2.1, over a list of entries: slow and plain."""

from functools import lru_cache
from hashlib import sha256

import numpy as np

from pipelines.reserve.merkle import Hashes, leaf_hashes


def mth(d: list[bytes]) -> bytes:
    return _mth(tuple(d))


@lru_cache(100_000)
def _mth(d: tuple[bytes, ...]) -> bytes:
    if len(d) == 0:
        return sha256().digest()
    if len(d) == 1:
        return sha256(b"\x00" + d[0]).digest()
    k = half(len(d))
    return sha256(b"\x01" + _mth(d[:k]) + _mth(d[k:])).digest()


def half(n: int) -> int:
    k = 1
    while 2 * k < n:
        k *= 2
    return k


def path(m: int, d: list[bytes]) -> list[bytes]:
    if len(d) == 1:
        return []
    k = half(len(d))
    return [*path(m, d[:k]), mth(d[k:])] if m < k else [*path(m - k, d[k:]), mth(d[:k])]


def subproof(m: int, d: list[bytes], b: bool) -> list[bytes]:
    if m == len(d):
        return [] if b else [mth(d)]
    k = half(len(d))
    return [*subproof(m, d[:k], b), mth(d[k:])] if m <= k else [*subproof(m - k, d[k:], False), mth(d[:k])]


def subtree_subproof(start: int, end: int, d: list[bytes], b: bool) -> list[bytes]:
    if (start, end) == (0, len(d)):
        return [] if b else [mth(d)]
    k = half(len(d))
    if end <= k:
        return [*subtree_subproof(start, end, d[:k], b), mth(d[k:])]
    if k <= start:
        return [*subtree_subproof(start - k, end - k, d[k:], b), mth(d[:k])]
    return [*subtree_subproof(0, end - k, d[k:], False), mth(d[:k])]


def entries(count: int, seed: int = 0) -> list[bytes]:
    """Entries of 0 to 299 random bytes."""
    rng = np.random.default_rng(seed)
    return [rng.bytes(int(size)) for size in rng.integers(0, 300, count)]


def buffer(d: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Entries as Arrow keeps them: one buffer of uint8 and offsets of int64."""
    return np.frombuffer(b"".join(d), np.uint8), np.cumsum([0, *map(len, d)], dtype=np.int64)


def hashes(d: list[bytes]) -> Hashes:
    return leaf_hashes(*buffer(d))
