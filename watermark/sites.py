"""A site's text as one text to test: a bounded sample of its distinct windows.

Documents too short to be significant alone add up over a host or a section of it. Their p-values do not multiply,
though: pages of one site repeat each other's phrases, and under a fixed key each repeat brings the same green tokens
again. So a site is tested on *distinct* windows (a token and its context): each document gives at most
:data:`PER_DOCUMENT` of its windows, those with the smallest hashes, and a site keeps the :data:`PER_SITE` smallest of
all its documents. The hash knows nothing of any key, so the sample's null distribution is the scheme's exact one; and
smallest hashes of a union are smallest of its parts, so samples merge in any order (a KMV sketch: Bar-Yossef et al.,
"Counting distinct elements in a data stream", 2002). The hash begins with the host's name (:func:`salt`): without it,
every large site would keep the same common windows, and a key that is lucky with these would find them all.
"""

from __future__ import annotations

import hashlib

import numba
import numpy as np
import numpy.typing as npt

from watermark.windows import Batch, Offsets, Tokens

Windows = npt.NDArray[np.int32]  # [n, width + 1], the scored token last
Hashes = npt.NDArray[np.uint64]

PER_DOCUMENT = 128
PER_SITE = 1024


def salt(host: str | None) -> int:
    """What the hashes of a host's windows begin with: 64 bits."""
    return int.from_bytes(hashlib.blake2b((host or "").encode("utf-8", "replace"), digest_size=8).digest(), "little")


def sample_documents(tokens: Tokens, offsets: Offsets, width: int, salts: Hashes) -> tuple[Windows, Offsets]:
    """Of each document, the windows of ``width`` + 1 tokens with the smallest hashes, ascending by hash, each once.

    Args:
        tokens: int32[t], documents one after the other.
        offsets: int64[d + 1], where they start.
        width: tokens of context.
        salts: uint64[d], of the documents' hosts.

    Returns:
        windows: int32[n, width + 1].
        starts: int64[d + 1], each document's windows; at most :data:`PER_DOCUMENT`.
    """
    return _smallest_of_documents(tokens, offsets, width, PER_DOCUMENT, salts)  # type: ignore[no-any-return]


def merge(windows: Windows, host_salt: int) -> Windows:
    """The sample of a site, out of the samples of its documents or of its parts, in any order."""
    if not len(windows):
        return windows
    _, first = np.unique(hashes(windows, host_salt), return_index=True)
    return windows[first[:PER_SITE]]


def batch_of(samples: list[Windows]) -> Batch:
    """Samples of several sites, all of one width, as a batch in which each site is one document of one block."""
    rows = np.concatenate(samples)
    size = rows.shape[1]
    positions = np.arange(len(rows), dtype=np.int64) * size + size - 1
    starts = np.concatenate([[0], np.cumsum([len(sample) for sample in samples])]).astype(np.int64)
    return Batch(rows.ravel(), positions, starts, np.arange(len(samples) + 1, dtype=np.int64))


def hashes(windows: Windows, host_salt: int) -> Hashes:
    """A 64-bit hash of each window's tokens."""
    return _hash_rows(np.ascontiguousarray(windows, np.int32), np.uint64(host_salt))  # type: ignore[no-any-return]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _hash(tokens: Tokens, at: int, size: int, state: np.uint64) -> np.uint64:
    # splitmix64's finaliser over each token: every bit of the tokens reaches the high bits, by which samples are cut.
    for i in range(at, at + size):
        state ^= np.uint64(np.uint32(tokens[i]))
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return state


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _hash_rows(windows: Windows, host_salt: np.uint64) -> Hashes:
    rows, size = windows.shape
    flat = windows.ravel()
    out = np.empty(rows, np.uint64)
    for row in range(rows):
        out[row] = _hash(flat, row * size, size, host_salt)
    return out


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _smallest_of_documents(
    tokens: Tokens, offsets: Offsets, width: int, most: int, salts: Hashes
) -> tuple[Windows, Offsets]:
    documents, size = len(offsets) - 1, width + 1
    starts = np.zeros(documents + 1, np.int64)
    longest = 0
    for d in range(documents):
        count = max(offsets[d + 1] - offsets[d] - width, 0)
        longest = max(longest, count)
        starts[d + 1] = starts[d] + min(count, most)
    out = np.empty((starts[-1], size), np.int32)
    keys, places = np.empty(longest, np.uint64), np.empty(longest, np.int64)
    total = 0
    for d in range(documents):
        count = max(offsets[d + 1] - offsets[d] - width, 0)
        starts[d] = total
        # All but a few of a long document's windows can be left out unsorted; what is kept stays a prefix by hash.
        ceiling = ~np.uint64(0)
        if count > 8 * most:
            ceiling = np.uint64(4.0 * most / count * 2.0**64)
        kept = 0
        while True:
            kept = 0
            for i in range(count):
                key = _hash(tokens, offsets[d] + i, size, salts[d])
                if key <= ceiling:
                    keys[kept], places[kept] = key, offsets[d] + i
                    kept += 1
            # Repeats count once: a document of many repeats may have too few distinct windows below the ceiling.
            if kept >= 2 * most or ceiling == ~np.uint64(0):
                order = np.argsort(keys[:kept])
                distinct = 0
                for i in range(kept):
                    distinct += i == 0 or keys[order[i]] != keys[order[i - 1]]
                if distinct >= most or ceiling == ~np.uint64(0):
                    break
            ceiling = ~np.uint64(0)
        taken = 0
        for i in range(kept):
            if taken == most:
                break
            if i == 0 or keys[order[i]] != keys[order[i - 1]]:
                for j in range(size):
                    out[total, j] = tokens[places[order[i]] + j]
                total += 1
                taken += 1
    starts[documents] = total
    return out[:total], starts
