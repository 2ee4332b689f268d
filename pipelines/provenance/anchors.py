"""Looks up many literals in a text in one pass, at memory speed.

Each literal is known by four of its bytes; the scan hashes the four bytes at every position, and compares the whole
literal only where the hash is one of those (a one-block variant of Wu and Manber, "A fast algorithm for multi-pattern
searching", 1994). ASCII letters match in both cases, and a blank in a literal also matches a line break::

    >>> Anchors(["language model", "oaicite"]).found("A Language\\nModel.")
    [0]
"""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int32]

WINDOW = 4
_HASH_BITS = 15
_COMMON = frozenset(b" etaoinshrdlucm")

_FOLD = np.arange(256, dtype=np.uint8)
_FOLD[ord("A") : ord("Z") + 1] += 32
_FOLD[[ord("\n"), ord("\t")]] = ord(" ")


class Anchors:
    """A fixed set of literals, each of at least four bytes of UTF-8."""

    def __init__(self, literals: Sequence[str]) -> None:
        folded = [_FOLD[np.frombuffer(literal.encode(), np.uint8)] for literal in literals]
        if short := [literal for literal, data in zip(literals, folded, strict=True) if len(data) < WINDOW]:
            raise ValueError(f"literal {short[0]!r} has fewer than {WINDOW} bytes")
        self._bytes = np.concatenate([*folded, np.zeros(0, np.uint8)])
        self._starts = np.cumsum([0, *map(len, folded)], dtype=np.int32)
        self._windows = np.array([_rarest_window(data.tobytes()) for data in folded], np.int32)
        # Literals whose windows share a hash form a chain: first[hash] → literal → next[literal] → …
        self._first = np.full(1 << _HASH_BITS, -1, np.int32)
        self._next = np.full(len(folded), -1, np.int32)
        for at, (data, window) in enumerate(zip(folded, self._windows, strict=True)):
            key = _hash(int.from_bytes(data[window : window + WINDOW].tobytes(), "big"))
            self._next[at], self._first[key] = self._first[key], at

    def found(self, text: str) -> list[int]:
        """The indices of the literals that the text holds, ascending."""
        data = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
        seen = np.zeros(len(self._next), np.uint8)
        if not _scan(data, _FOLD, self._bytes, self._starts, self._windows, self._first, self._next, seen):
            return []
        return np.flatnonzero(seen).tolist()


def _rarest_window(data: bytes) -> int:
    """Where the four bytes start that hold the fewest common letters, to keep comparisons rare."""
    return min(range(len(data) - WINDOW + 1), key=lambda at: sum(b in _COMMON for b in data[at : at + WINDOW]))


def _hash(key: int) -> int:
    return ((key * 0x9E3779B1) & 0xFFFFFFFF) >> (32 - _HASH_BITS)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _scan(
    data: Bytes, fold: Bytes, literals: Bytes, starts: Ints, windows: Ints, first: Ints, following: Ints, seen: Bytes
) -> int:
    hits = 0
    key = np.uint32(0)
    for at in range(len(data)):
        key = np.uint32((key << np.uint32(8)) | np.uint32(fold[data[at]]))
        literal = first[np.uint32(key * np.uint32(0x9E3779B1)) >> np.uint32(32 - _HASH_BITS)]
        while literal >= 0:
            begin = at - WINDOW + 1 - windows[literal]
            length = starts[literal + 1] - starts[literal]
            if seen[literal] == 0 and begin >= 0 and begin + length <= len(data):
                i = 0
                while i < length and fold[data[begin + i]] == literals[starts[literal] + i]:
                    i += 1
                if i == length:
                    seen[literal] = 1
                    hits += 1
            literal = following[literal]
    return hits
