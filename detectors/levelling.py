"""The levelled view of a text: what is left when layout and typography no longer tell who wrote it.

Layout alone separates most corpora of human and machine text: markdown, blank lines, curly quotes, dashes, leading
spaces, endings cut off at a token limit. A classifier that may see it learns the corpus, not the author, so training
and scoring both see only this view::

    >>> level("# A title\\n\\n- “One”  point — see https://example.org/x\\n2. Another one, unfin")
    b"a title ' one ' point see url another one , unfin ."

The view is lower-cased (ASCII letters), runs of digits become ``0``, punctuation marks are tokens of their own, dashes
and hyphens vanish, and scripts written without spaces are split into characters. It is UTF-8 bytes: passes over bytes
are several times faster than over ``str``, and fastText reads bytes. What fastText takes for syntax (``</s>``,
``__label__``, NUL, line ends) cannot survive it.
"""

from __future__ import annotations

import re

_DROPPED = b"*#_`~|<>[]{}()\\/=+^-"
_MARKS = (b".", b",", b"!", b"?", b";", b":", b"'")


def _byte_table() -> bytes:
    table = bytearray(range(256))
    for code in range(256):
        if code < 33 or code == 127 or code in _DROPPED:
            table[code] = 32
        elif 65 <= code <= 90:
            table[code] = code + 32
        elif 49 <= code <= 57:
            table[code] = 48
    table[ord('"')] = ord("'")
    return bytes(table)


def _each(characters: str, becomes: str) -> dict[bytes, bytes]:
    return {character.encode(): becomes.encode() for character in characters}


_TABLE = _byte_table()
_TYPOGRAPHY: dict[bytes, bytes] = {
    **_each("‘’‚‛“”„‟‹›′″«»´「」『』《》〈〉", "'"),
    **_each("‐‑‒–—―•‣․⁃■□▪▫▶●◦○◆·【】〔〕\u2028\u2029\u202f\u205f\u00a0\u3000", " "),
    **_each("".join(map(chr, range(0x2000, 0x200B))), " "),
    **_each(
        "\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064\u00ad\ufeff", ""
    ),
    **_each("".join(map(chr, range(0xFE00, 0xFE10))), ""),
    **_each("…。", "."),
    **_each("、", ","),
    **{chr(code + 0xFEE0).encode(): bytes([_TABLE[code]]) for code in range(0x21, 0x40)},
}
# One search a leading pair: a text without such bytes pays little, and a literal prefix makes the search fast.
_LEADING = tuple(
    (lead, re.compile(re.escape(lead) + rb"[\x80-\xbf]"))
    for lead in sorted({character[:-1] for character in _TYPOGRAPHY})
)


def _levelled_character(match: re.Match[bytes]) -> bytes:
    return _TYPOGRAPHY.get(match[0], match[0])


_URL = re.compile(rb"(?:https?://|ftp://|www\.)[^\s\x00-\x20<>\"')\]]+", re.IGNORECASE)
# Numbered and lettered list bullets; the other bullet signs fall to the byte table.
_BULLET = re.compile(rb"\n[ \t>*#_-]*\(?(?:[0-9]{1,3}|[a-zA-Z]|[ivxIVX]{2,4})[.):][ \t*_]+")
# Thai, Lao, Burmese, Khmer, kana, Han.
_UNSPACED_RANGES = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_UNSPACED = re.compile(f"[{_UNSPACED_RANGES}]")
_TOKENS = re.compile(f"[{_UNSPACED_RANGES}]|[^ {_UNSPACED_RANGES}]+")
_NUMBER = re.compile(rb"0(?: [.,:] 0| 0)+")


def level(text: str) -> bytes:
    """The levelled view of ``text``, UTF-8, tokens separated by one space; empty where nothing is left.

    Idempotent on its own output, and the same for layouts of the same words. Lone surrogates are dropped. The ending is
    levelled too: what follows the last full stop, if it is the smaller half, is cut, else a full stop is added.
    """
    try:
        data = text.encode()
    except UnicodeEncodeError:
        data = text.encode("utf-8", "ignore")
    ascii_only = len(data) == len(text)
    if not ascii_only:
        for lead, pattern in _LEADING:
            if lead in data:
                data = pattern.sub(_levelled_character, data)
    if b"://" in data or b"ww." in data or b"WW." in data:
        data = _URL.sub(b" url ", data)
    data = _BULLET.sub(b" ", b"\n" + data.replace(b"\r", b"\n")).translate(_TABLE)
    data = _once(data, b".")
    for mark in _MARKS:
        data = data.replace(mark, b" " + mark + b" ")
    data = _once(_once(data, b"0"), b" ").strip()
    if not ascii_only:
        data = _split_unspaced(data)
    return level_end(_NUMBER.sub(b"0", data))


def unspaced_share(levelled: bytes) -> float:
    """The share of the tokens of a levelled text that are characters of a script written without spaces."""
    if levelled.isascii():
        return 0.0
    return len(_UNSPACED.findall(levelled.decode())) / (levelled.count(b" ") + 1)


def _split_unspaced(data: bytes) -> bytes:
    text = data.decode("utf-8", "ignore")
    return " ".join(_TOKENS.findall(text)).encode() if _UNSPACED.search(text) else data


def _once(data: bytes, byte: bytes) -> bytes:
    while byte * 2 in data:
        data = data.replace(byte * 4, byte).replace(byte * 2, byte)
    return data


def level_end(data: bytes) -> bytes:
    """A levelled text with its ending levelled: cut after the last full stop of its second half, else one is added."""
    last = max(data.rfind(b" ."), data.rfind(b" !"), data.rfind(b" ?"))
    if last > len(data) // 2 or 0 < last == len(data) - 2:
        return data[:last] + b" ."
    return data if data in (b"", b".") else data + b" ."
