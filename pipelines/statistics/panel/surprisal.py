"""Surprisal: how many bits a word costs under a fixed, small model of human text of its language.

Text that base models continue surprises less than what people write, English of chat assistants mostly more: what tells
is that the distribution moves or narrows. The reference models come with the package, one file a language in
``models/``, so that values of different crawls are on one scale. ``MODEL_CARD.md`` beside them says what they learnt
from, how well they do, and what they say of human and machine text::

    keys, offsets = ...                             # hashed words of the documents, see words.py
    bits = surprisal(keys, offsets, "en")           # (documents,) float64; NaN: no model, or no word

A model is a back-off bigram model (Katz, IEEE Trans. ASSP 35, 1987) over hashed words:

    P(w | v) = p(v, w)           where the pair is stored
             = b(v) · p(w)       elsewhere; b(v) makes the sum over all w one; b = 1 after an unknown word

An unknown word has the probability ``u / U``: the mass u that the words outside the vocabulary have in new text
(Good-Turing), in equal shares for each of their estimated number U. So probabilities sum to one over known and unknown
words, and a text of unknown words gets a finite, fixed price. All of it is stored as whole eighths of a bit: sums are
integers, the same on every machine.
"""

from __future__ import annotations

import zipfile
import zlib
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]
Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float64]

CODES_PER_BIT = 8
BINS, BINS_PER_BIT = 512, 16  # of histograms of surprisal

_FORMAT = 1
_MIX_1, _MIX_2 = 0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53  # the finaliser of MurmurHash3, 64 bits (public domain)


class Stored(NamedTuple):
    """A model as its file has it; codes are eighths of a bit, of minus the binary logarithm."""

    words: npt.NDArray[np.uint32]  # (v,) hashes of the vocabulary, ascending
    word_codes: npt.NDArray[np.uint8]  # (v,) of p(w)
    back_off_codes: npt.NDArray[np.uint8]  # (v,) of b(w)
    pairs: Keys  # (n,) the stored pairs, ascending: place of the first word · v + place of the second
    pair_codes: npt.NDArray[np.uint8]  # (n,) of p(v, w)
    unknown_code: int  # of u / U


class Reference(NamedTuple):
    """A model ready to look up: hash tables with linear probing, 0 for an empty slot."""

    words: npt.NDArray[np.uint32]  # (2^k,) 16 bits of the hash, code of p(w), code of b(w)
    pairs: npt.NDArray[np.uint32]  # (2^k,) 24 bits of the hash, code of p(v, w)
    unknown_code: int


def languages() -> tuple[str, ...]:
    """The languages that have a reference model, ISO 639-1, sorted."""
    found = (item.name for item in _models().iterdir())
    return tuple(sorted(name.removesuffix(".npz") for name in found if name.endswith(".npz")))


@cache
def stored(language: str) -> Stored | None:
    """The model of a language as its file has it; None where there is none. Raises ValueError where it is damaged."""
    path = _models() / f"{language}.npz"
    return read(path) if language in languages() else None


@cache
def reference(language: str) -> Reference | None:
    """The model of a language, read on first use and kept; None where there is none."""
    found = stored(language)
    return None if found is None else ready(found)


def _models() -> Traversable:
    return files("pipelines.statistics.panel") / "models"


def surprisal(keys: Keys, offsets: Int, language: str) -> Float:
    """The mean surprisal of each document in bits a word, under the reference model of its language.

    Args:
        keys: (n,) uint64 hashes of the words of all documents, see ``words.py``.
        offsets: (d + 1,) int64; the words of document i are ``keys[offsets[i]:offsets[i + 1]]``.
        language: ISO 639-1, of all the documents.

    Returns: (d,) float64, from 1/8 to 63; NaN where the language has no model or the document no word.
    """
    model = reference(language)
    if model is None:
        return np.full(len(offsets) - 1, np.nan)
    return surprisal_under(model, keys, offsets)


def surprisal_under(model: Reference, keys: Keys, offsets: Int) -> Float:
    """As :func:`surprisal`, under a given model."""
    codes = code_sums(model, keys, offsets)
    words = np.diff(offsets)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(words > 0, codes / (CODES_PER_BIT * words), np.nan)


def code_sums(model: Reference, keys: Keys, offsets: Int) -> Int:
    """The surprisal of each document in all, in eighths of a bit. Shapes as in :func:`surprisal`; (d,) int64."""
    sums = np.empty(len(offsets) - 1, np.int64)
    _code_sums(keys, offsets, model.words, model.pairs, model.unknown_code, sums)
    return sums


def bin_of(bits: Float) -> Int:
    """The bin of each value in a histogram of surprisal, 0 to 511; -1 for NaN. What lies beyond is in the last bin."""
    known = np.isfinite(bits)
    return np.where(known, np.minimum(np.where(known, bits, 0) * BINS_PER_BIT, BINS - 1), -1).astype(np.int64)


@numba.njit(cache=True, nogil=True, inline="always")
def mix(key):  # type: ignore[no-untyped-def]
    """Spreads the differences of 64-bit hashes over all bits. A bijection."""
    key ^= key >> np.uint64(33)
    key *= np.uint64(_MIX_1)
    key ^= key >> np.uint64(33)
    key *= np.uint64(_MIX_2)
    return key ^ (key >> np.uint64(33))


@numba.njit(cache=True, nogil=True)
def word_hashes(keys):  # type: ignore[no-untyped-def]
    """The 32 bits of each word's hash by which models know it. (n,) uint64 → (n,) uint32."""
    hashes = np.empty(len(keys), np.uint32)
    for index in range(len(keys)):
        hashes[index] = mix(keys[index]) >> np.uint64(32)
    return hashes


@numba.njit(cache=True, nogil=True)
def pair_hashes(first, second):  # type: ignore[no-untyped-def]
    """The 64-bit hashes of pairs of words, from those of the words. (n,) uint32 each → (n,) uint64."""
    hashes = np.empty(len(first), np.uint64)
    for index in range(len(first)):
        hashes[index] = mix((np.uint64(first[index]) << np.uint64(32)) | np.uint64(second[index]))
    return hashes


@numba.njit(cache=True, nogil=True)
def _code_sums(keys, offsets, words, pairs, unknown, sums):  # type: ignore[no-untyped-def]
    word_shift = np.uint64(64 - _log2(len(words)))
    pair_shift = np.uint64(64 - _log2(len(pairs)))
    word_mask, pair_mask = len(words) - 1, len(pairs) - 1
    for document in range(len(offsets) - 1):
        total, back_off = np.int64(0), np.int64(0)
        before = np.uint64(0)
        known_before = False
        for index in range(offsets[document], offsets[document + 1]):
            mixed = mix(keys[index])
            tag = np.uint32((mixed >> np.uint64(32)) & np.uint64(0xFFFF))
            slot = np.int64(mixed >> word_shift)
            while words[slot] != 0 and words[slot] >> np.uint32(16) != tag:
                slot = (slot + 1) & word_mask
            entry = words[slot]
            if entry == 0:
                total += unknown + back_off
                known_before = False
                back_off = np.int64(0)
                continue
            this = mixed >> np.uint64(32)
            code = np.int64((entry >> np.uint32(8)) & np.uint32(0xFF)) + back_off
            if known_before:
                mixed = mix((before << np.uint64(32)) | this)
                tag = np.uint32(mixed & np.uint64(0xFFFFFF))
                slot = np.int64(mixed >> pair_shift)
                while pairs[slot] != 0 and pairs[slot] >> np.uint32(8) != tag:
                    slot = (slot + 1) & pair_mask
                if pairs[slot] != 0:
                    code = np.int64(pairs[slot] & np.uint32(0xFF))
            total += code
            before = this
            known_before = True
            back_off = np.int64(entry & np.uint32(0xFF))
        sums[document] = total


@numba.njit(cache=True, nogil=True)
def _log2(size):  # type: ignore[no-untyped-def]
    bits = 0
    while size > 1:
        size >>= 1
        bits += 1
    return bits


def ready(model: Stored) -> Reference:
    """Makes the hash tables."""
    codes = model.word_codes.astype(np.uint32) << np.uint32(8) | model.back_off_codes
    tags = (model.words & np.uint32(0xFFFF)) << np.uint32(16)
    words = hash_table(model.words.astype(np.uint64) << np.uint64(32), tags | codes)
    first, second = np.divmod(model.pairs, np.uint64(len(model.words)))
    hashes = pair_hashes(model.words[first], model.words[second])
    tags = (hashes & np.uint64(0xFFFFFF)).astype(np.uint32)
    return Reference(words, hash_table(hashes, tags << np.uint32(8) | model.pair_codes), model.unknown_code)


def hash_table(hashes: Keys, entries: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """A table with linear probing, at most half full: an entry lies at or after the slot that its first bits name."""
    table = np.zeros(1 << max(4, (2 * len(hashes) - 1).bit_length()), np.uint32)
    _fill(hashes, entries, table)
    return table


@numba.njit(cache=True, nogil=True)
def _fill(hashes, entries, table):  # type: ignore[no-untyped-def]
    shift = np.uint64(64 - _log2(len(table)))
    for index in range(len(hashes)):
        slot = np.int64(hashes[index] >> shift)
        while table[slot] != 0:
            slot = (slot + 1) & (len(table) - 1)
        table[slot] = entries[index]


def write(model: Stored, path: Path) -> None:
    """Writes a model file (.npz): of what ascends the differences, byte by byte, since their high bytes compress."""
    np.savez_compressed(
        path,
        format=np.int64(_FORMAT),
        words=_planes(model.words),
        word_codes=model.word_codes,
        back_off_codes=model.back_off_codes,
        pairs=_planes(model.pairs),
        pair_codes=model.pair_codes,
        unknown_code=np.int64(model.unknown_code),
    )


def read(path: Path | Traversable) -> Stored:
    """Reads a model file. Raises ValueError where it is damaged or of another version."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            data: dict[str, Any] = {name: arrays[name] for name in arrays.files}
        if int(data["format"]) != _FORMAT:
            raise ValueError(f"of format {int(data['format'])}, not {_FORMAT}")
        words, pairs = _from_planes(data["words"]), _from_planes(data["pairs"])
        if not len(words) == len(data["word_codes"]) == len(data["back_off_codes"]):
            raise ValueError("words and their probabilities differ in number")
        if len(pairs) != len(data["pair_codes"]) or (len(pairs) and pairs[-1] >= len(words) ** 2):
            raise ValueError("pairs and their probabilities differ in number")
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, OSError) as error:
        raise ValueError(f"{path}: no reference model, or a damaged one: {error}; install the package again") from error
    return Stored(
        words.astype(np.uint32),
        data["word_codes"],
        data["back_off_codes"],
        pairs,
        data["pair_codes"],
        int(data["unknown_code"]),
    )


def _planes(ascending: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    differences = np.diff(ascending, prepend=ascending.dtype.type(0)).astype("<u8")
    return np.ascontiguousarray(differences.view(np.uint8).reshape(-1, 8).T)


def _from_planes(planes: npt.NDArray[np.uint8]) -> Keys:
    return np.cumsum(np.ascontiguousarray(planes.T).view("<u8").reshape(-1), dtype=np.uint64)
