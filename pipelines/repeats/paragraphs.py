"""The paragraphs of texts and their hashes, over the buffers of an Arrow string array.

A paragraph is a line: text extraction ends each block of a page with a line break. Two paragraphs are the same if
their tokens are, in the sense of :mod:`pipelines.neardup.shingles`: case, width, spacing, punctuation, composed or
decomposed accents and invisible characters make no difference::

    >>> texts = pa.array(["Accept all cookies\\nOne story.", "Another.\\r\\n ACCEPT all cookies!"], pa.large_string())
    >>> found = paragraphs(texts, 16)
    >>> found.row.tolist(), found.begin.tolist(), found.end.tolist()
    ([0, 1], [0, 10], [18, 30])
    >>> bool(found.hash[0] == found.hash[1])
    True

A hash has 64 bits. Among n different paragraphs, n² / 2⁶⁵ pairs are expected to share one: 0.03 among a thousand
million.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.neardup.shingles import MOST_LETTERS, has_letters, sequence_hashes, text_buffers
from pipelines.repeats.lines import find_lines, line_count

UNKNOWN_HOST = 0


class Paragraphs(NamedTuple):
    """Paragraphs in the order of the texts and inside each text.

    ``row`` int64[p] is the text, ``hash`` uint64[p] says which paragraphs are the same, ``begin`` and ``end`` int64[p]
    are its bytes in that text (UTF-8), without the line break.
    """

    row: npt.NDArray[np.int64]
    hash: npt.NDArray[np.uint64]
    begin: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]


def paragraphs(texts: pa.LargeStringArray, letters: int) -> Paragraphs:
    """The paragraphs of at least so many letters and digits.

    Lines end at the mandatory breaks of Unicode (UAX #14: LF, VT, FF, CR, NEL, LS, PS). Letters and digits are counted
    after folding, so that the same paragraph is never looked at here and passed over there; a Han character or kana
    counts as two, a Korean syllable as its two or three letters. Nulls are read as empty texts.
    """
    starts, ends, data = text_buffers(texts)
    least = max(letters, 1)
    size = -(-least // MOST_LETTERS)
    row, begin, end = np.empty((3, line_count(data, starts, ends, size)), np.int64)
    find_lines(data, starts, ends, size, row, begin, end)
    enough = has_letters(data, begin, end, least)
    row, begin, end = row[enough], begin[enough], end[enough]
    return Paragraphs(row, sequence_hashes(data, begin, end), begin - starts[row], end - starts[row])


def host_hashes(hosts: pa.StringArray) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each host: uint64[n]. All nulls share one, so pages of unknown hosts count as one host."""
    encoded = hosts.dictionary_encode()
    known = [hashlib.blake2b(str(host).encode(), digest_size=8).digest() for host in encoded.dictionary.to_pylist()]
    values = np.append(np.frombuffer(b"".join(known), "<u8"), np.uint64(UNKNOWN_HOST)).astype(np.uint64)
    return np.asarray(values[encoded.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)], np.uint64)


def warm_up() -> None:
    """Compiles the kernels, or loads them from numba's cache, before work is timed or forked."""
    paragraphs(pa.array(["warm\nup", None], pa.large_string()), 1)
