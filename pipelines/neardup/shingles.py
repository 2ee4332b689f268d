"""Text to shingle hashes, over the buffers of an Arrow string array.

A document's tokens are its words: maximal runs of letters and digits. In scripts that are written without spaces
between words (Han, kana, Thai, Lao, Khmer, Burmese and their neighbours) a token is one character with the marks that
sit on it. A shingle is ``size`` consecutive tokens; its hash is 32 bits wide::

    >>> texts = pa.array(["A rose is a rose.", "a ROSE\\u3000is,a rose!"], pa.large_string())
    >>> hashes, offsets = shingle_hashes(texts, 3)
    >>> hashes[: offsets[1]].tolist() == hashes[offsets[1] :].tolist()
    True

Folding is by code point, in the kernel: compatibility decomposition (NFKD), full case folding, NFKD again (Unicode
Standard, 3.13, D146). Accents that canonical ordering may swap (3.11, D109) count in whatever order they come. So case,
width, ligatures and composed or decomposed accents make no difference. Beyond the standard, dotless ı folds to i and a
dot above an i to nothing, so that Turkish has no case either, and the spacing forms of Arabic and kana marks are marks.

Invisible characters (soft hyphen, joiners, zero-width space, variation selectors, tags, Hangul fillers) are passed
over, so they cannot hide a copy, and so is the tatweel, which only stretches Arabic words. All else that is no letter,
mark or digit separates. The tables come from ``unicodedata``: letters that one Python's Unicode version assigns and
another's does not are read differently.

A text with fewer tokens than a shingle is one shingle as a whole. A text without any token is one shingle of its raw
bytes, so that lines of punctuation or emoji do not all count as copies of each other.
"""

from __future__ import annotations

import functools
import itertools
import unicodedata
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

SEPARATOR, WORD, CHARACTER, MARK, ACCENT, IGNORED = range(6)

# Planes 2 and 3 hold Han ideographs only and planes 14 to 16 no letter, so one entry a code point ends here, behind the
# compatibility ideographs of plane 2.
_TABLE_END = 0x2FA20
_BLOCK = 0x100
_NO_LETTER, _BEYOND_ASCII = 0, 1
_HAN_PLANES = 0x20000
_HAN_PLANES_END = 0x40000

MOST_LETTERS = 6  # of one UTF-8 byte, in the sense of `has_letters` (a test holds it over all of Unicode)
_HAN_AND_KANA = 0x2E80  # the characters of scripts without spaces from here on say as much as two letters

# Invisible or nothing but width, and yet letters or marks by category: combining grapheme joiner, Hangul fillers, Khmer
# inherent vowels, the variation selectors of Mongolian and the common ones, tatweel.
_UNSEEN = frozenset([0x034F, 0x115F, 0x1160, 0x3164, 0xFFA0, 0x17B4, 0x17B5, *range(0x180B, 0x1810)])
_UNSEEN |= {*range(0xFE00, 0xFE10), 0x0640}

# Marks that NFKD sets on a space of their own: the voiced sound marks of kana, the isolated forms of Arabic.
_SPACING_MARKS = frozenset([0x309B, 0x309C, *range(0xFC5E, 0xFC64), *range(0xFE70, 0xFE80, 2)])

_SMALL_I, _DOTTED_I, _DOTLESS_I, _DOT_ABOVE = 0x69, 0x130, 0x131, 0x307

# Scripts without spaces between words, by block. Tibetan is absent: its tsheg parts syllables, as a separator does.
_UNSPACED = (
    (0x0E00, 0x0F00),  # Thai, Lao
    (0x1000, 0x10A0),  # Myanmar
    (0x1780, 0x1800),  # Khmer
    (0x1950, 0x1AB0),  # Tai Le, New Tai Lue, Khmer symbols, Buginese, Tai Tham
    (0x2E80, 0x3130),  # CJK radicals, Hiragana, Katakana, Bopomofo
    (0x31A0, 0x3200),  # Bopomofo extended, strokes, Katakana phonetic extensions
    (0x3400, 0xA000),  # Han
    (0xA9E0, 0xAA00),  # Myanmar extended B
    (0xAA60, 0xAAE0),  # Myanmar extended A, Tai Viet
    (0xF900, 0xFB00),  # Han compatibility
    (0x16FE0, 0x19000),  # ideographic symbols, Tangut
    (0x1AFF0, 0x1B300),  # kana extended, Nushu
)


class Tables(NamedTuple):
    """What the kernel knows of Unicode.

    ``folded[start[c] : start[c + 1]]`` are the code points that ``c`` folds to (uint32; ``start`` int32 of length
    0x2FA21), ``kind[c]`` (uint8) is one of the six classes above. ``ascii_letter[b]`` (uint64) is what a byte folds to
    that is an ASCII letter or digit, 0 for all other ASCII and 1 for all other bytes.
    """

    start: npt.NDArray[np.int32]
    folded: npt.NDArray[np.uint32]
    kind: npt.NDArray[np.uint8]
    ascii_letter: npt.NDArray[np.uint64]


@functools.cache
def tables() -> Tables:
    """The folding and class tables; built once a process, in a sixth of a second."""
    folds = list(itertools.chain.from_iterable(_folds(range(at, at + _BLOCK)) for at in range(0, _TABLE_END, _BLOCK)))
    start = np.zeros(_TABLE_END + 1, np.int32)
    np.cumsum([len(fold) for fold in folds[:_TABLE_END]], out=start[1:])
    folded = np.fromiter(itertools.chain.from_iterable(folds[:_TABLE_END]), np.uint32, int(start[-1]))
    kind = _kinds()
    ascii_letter = np.full(256, _BEYOND_ASCII, np.uint64)
    ascii_letter[:128] = np.where(kind[:128] == WORD, folded[:128], _NO_LETTER)
    return Tables(start, folded, kind, ascii_letter)


def shingle_hashes(texts: pa.LargeStringArray, size: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    """The shingle hashes of each text, repeats kept, in the order of the text.

    Row i has ``hashes[offsets[i] : offsets[i + 1]]`` and at least one. Nulls are read as empty texts. Bytes that are
    not UTF-8 separate tokens.
    """
    starts, ends, data = text_buffers(texts)
    hashes = np.empty(2 * int((ends - starts).sum()) + len(texts), np.uint32)
    offsets = np.zeros(len(texts) + 1, np.int64)
    _shingle_hashes(data, starts, ends, size, *tables(), token_room(starts, ends), hashes, offsets)
    return hashes[: offsets[-1]].copy(), offsets


def sequence_hashes(
    data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint64]:
    """One hash for the whole sequence of tokens of each stretch ``data[starts[i] : ends[i]]``: uint64[n].

    Two stretches have the same hash if their tokens are the same, in number and order; without any token it is 0.
    """
    hashes = np.empty(len(starts), np.uint64)
    _sequence_hashes(data, starts, ends, *tables(), token_room(starts, ends), hashes)
    return hashes


def has_letters(
    data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], least: int
) -> npt.NDArray[np.bool_]:
    """Which stretches have at least so many letters and digits: bool[n]. It reads no further than it must.

    They are counted after folding, so that it is the same for all stretches of the same tokens. A Han character or
    kana counts as two, since it says as much; a Korean syllable as its two or three letters.
    """
    enough = np.empty(len(starts), np.bool_)
    _has_letters(data, starts, ends, least, *tables(), enough)
    return enough


def text_buffers(
    texts: pa.LargeStringArray,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Where each text begins and ends in the array's bytes (int64[n] twice), and the bytes. Nulls are empty texts."""
    if texts.type != pa.large_string():
        raise TypeError(f"texts must be large_string, not {texts.type}")
    if len(texts) == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.frombuffer(b"", np.uint8)
    _, offsets_buffer, data_buffer = texts.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    # Always copied, and the data never writable: numba compiles the kernel anew for every other mix.
    starts, ends = offsets[:-1].copy(), offsets[1:].copy()
    data = np.frombuffer(data_buffer if data_buffer is not None else b"", np.uint8)
    if texts.null_count:
        ends = np.where(texts.is_valid().to_numpy(zero_copy_only=False), ends, starts)
    return starts, ends, data


def token_room(starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Room for the tokens of the longest stretch."""
    # No code point folds to more than two tokens for each of its UTF-8 bytes (a test holds it over all of Unicode).
    return np.empty(2 * int((ends - starts).max(initial=0)), np.uint64)


def _folds(codes: range) -> list[tuple[int, ...]]:
    """What each code point folds to."""
    block = "".join(map(chr, codes))
    if _DOTTED_I not in codes and block.casefold() == block and unicodedata.is_normalized("NFKD", block):
        return [(code,) for code in codes]  # most blocks are such
    return [_fold(code) for code in codes]


def _fold(code: int) -> tuple[int, ...]:
    if 0xD800 <= code < 0xE000:
        return (code,)
    if code in (_DOTTED_I, _DOTLESS_I):
        return (_SMALL_I,)
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", chr(code)).casefold())
    return tuple(map(ord, folded.lstrip() if code in _SPACING_MARKS else folded))


def _kinds() -> npt.NDArray[np.uint8]:
    """The class of each code point of the tables."""
    categories = np.array([unicodedata.category(chr(code)) for code in range(_TABLE_END)])
    first = categories.astype("U1")
    kinds = np.full(_TABLE_END, SEPARATOR, np.uint8)
    letters = (first == "L") | (first == "N")
    kinds[letters] = WORD
    for low, high in _UNSPACED:
        kinds[low:high][letters[low:high]] = CHARACTER
    for code in np.flatnonzero(first == "M").tolist():
        kinds[code] = ACCENT if unicodedata.combining(chr(code)) else MARK
    kinds[_HAN_PLANES:] = CHARACTER
    kinds[categories == "Cf"] = IGNORED
    kinds[list(_UNSEEN)] = IGNORED
    return kinds


@numba.njit(inline="always")
def _mix64(value):  # type: ignore[no-untyped-def]
    """The 64-bit finalizer of MurmurHash3 (Appleby)."""
    h = np.uint64(value)
    h = (h ^ (h >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    h = (h ^ (h >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return h ^ (h >> np.uint64(33))


@numba.njit(cache=True, nogil=True)
def _decode(data, at, end):  # type: ignore[no-untyped-def]
    """The code point at a byte and the byte after it; 0 (a separator) and one byte on where there is none."""
    lead = np.int64(data[at])
    if lead < 0x80:
        return lead, at + 1
    if lead < 0xC2 or lead > 0xF4:
        return np.int64(0), at + 1
    length = 2 if lead < 0xE0 else (3 if lead < 0xF0 else 4)
    if at + length > end:
        return np.int64(0), at + 1
    code = lead & (0x7F >> length)
    for i in range(at + 1, at + length):
        byte = np.int64(data[i])
        if byte & 0xC0 != 0x80:
            return np.int64(0), at + 1
        code = code << 6 | (byte & 0x3F)
    return code, at + length


@numba.njit(cache=True, nogil=True)
def tokenise(data, at, end, start, folded, kind, ascii_letter, tokens):  # type: ignore[no-untyped-def]
    """Writes the 64-bit hash of each token of ``data[at:end]`` to ``tokens``; gives their number."""
    prime, basis = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xCBF29CE484222325)
    count = 0
    of: Any = SEPARATOR
    state: Any = SEPARATOR  # WORD or CHARACTER, as the token that is open; SEPARATOR where none is
    while at < end:
        # Most of the web is ASCII, which has words and separators only: a loop without tables for it.
        token, state = basis, SEPARATOR
        while at < end:
            letter = ascii_letter[data[at]]
            if letter == _NO_LETTER:
                at += 1
                continue
            while letter > _BEYOND_ASCII:
                state = WORD
                token = (token ^ letter) * prime
                at += 1
                letter = ascii_letter[data[at]] if at < end else np.uint64(_BEYOND_ASCII)
            if letter == _BEYOND_ASCII:
                break
            tokens[count] = _mix64(token)
            count += 1
            token, state = basis, SEPARATOR
            at += 1
        while at < end and (state != SEPARATOR or data[at] >= 0x80):
            code, at = _decode(data, at, end)
            first, last = np.int64(0), np.int64(1)
            if code < _TABLE_END:
                first, last = np.int64(start[code]), np.int64(start[code + 1])
            for i in range(first, last):
                letter, of = np.uint64(code), SEPARATOR
                if code < _TABLE_END:
                    letter, of = np.uint64(folded[i]), np.int64(kind[folded[i]])
                elif code < _HAN_PLANES_END:
                    of = CHARACTER
                elif 0xE0000 <= code < 0xE1000:
                    of = IGNORED
                if of >= MARK:
                    if of == IGNORED or state == SEPARATOR:
                        continue
                    if of == MARK:
                        token = (token ^ letter) * prime
                    # The byte before a dot of its own, which takes two, tells whether it stands on an i.
                    elif code != _DOT_ABOVE or data[at - 3] | 0x20 != _SMALL_I:
                        token += _mix64(letter)
                    continue
                if state != SEPARATOR and (of != WORD or state != WORD):
                    tokens[count] = _mix64(token)
                    count += 1
                    token, state = basis, SEPARATOR
                if of != SEPARATOR:
                    token = (token ^ letter) * prime
                    state = of
        if state != SEPARATOR:
            tokens[count] = _mix64(token)
            count += 1
    return count


@numba.njit(cache=True, nogil=True)
def _shingle_hashes(data, starts, ends, size, start, folded, kind, ascii_letter, tokens, hashes, offsets):  # type: ignore[no-untyped-def]
    """Fills ``hashes`` and ``offsets``: a polynomial over token hashes modulo 2^64 that rolls, finalized to 32 bits."""
    base = np.uint64(0xD6E8FEB86659FD93)
    oldest = np.uint64(1)
    for _ in range(size):
        oldest *= base
    at = 0
    for row in range(len(starts)):
        count = tokenise(data, starts[row], ends[row], start, folded, kind, ascii_letter, tokens)
        rolling = np.uint64(0)
        if count == 0:
            for i in range(starts[row], ends[row]):
                rolling = _mix64((rolling ^ np.uint64(data[i])) + base)
        for i in range(min(count, size)):
            rolling = rolling * base + tokens[i]
        hashes[at] = np.uint32(_mix64(rolling) >> np.uint64(32))
        for i in range(size, count):
            rolling = rolling * base + (tokens[i] - tokens[i - size] * oldest)
            hashes[at + i - size + 1] = np.uint32(_mix64(rolling) >> np.uint64(32))
        at += max(count - size, 0) + 1
        offsets[row + 1] = at


@numba.njit(cache=True, nogil=True)
def _sequence_hashes(data, starts, ends, start, folded, kind, ascii_letter, tokens, hashes):  # type: ignore[no-untyped-def]
    """Fills ``hashes``. Each step mixes: polynomials modulo 2^64 collide whatever their base (Thue and Morse)."""
    step = np.uint64(0xD6E8FEB86659FD93)
    for row in range(len(starts)):
        count = tokenise(data, starts[row], ends[row], start, folded, kind, ascii_letter, tokens)
        value = np.uint64(0)
        for i in range(count):
            value = _mix64((value ^ tokens[i]) + step)
        hashes[row] = value


@numba.njit(cache=True, nogil=True)
def _has_letters(data, starts, ends, least, start, folded, kind, ascii_letter, enough):  # type: ignore[no-untyped-def]
    """Fills ``enough``."""
    for row in range(len(starts)):
        at, end = starts[row], ends[row]
        count = 0
        while at < end and count < least:
            if data[at] < 0x80:
                count += ascii_letter[data[at]] != 0
                at += 1
                continue
            code, at = _decode(data, at, end)
            if code >= _TABLE_END:
                count += 2 if code < _HAN_PLANES_END else 0
                continue
            for i in range(start[code], start[code + 1]):
                of = kind[folded[i]]
                if of == CHARACTER:
                    count += 2 if folded[i] >= _HAN_AND_KANA else 1
                elif of == WORD:
                    count += 1
        enough[row] = count >= least
