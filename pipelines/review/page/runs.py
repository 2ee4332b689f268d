"""Crawled text as it can be shown: in pieces, with what is invisible or turns the line made visible.

Unicode's format characters can hide text from the eye or reorder it ("Trojan Source", Boucher and Anderson 2021,
section 3; UAX #9, section 2), so whoever judges a document has to see that they are there::

    piece("abc\\u202edef").runs  # abc, a mark for U+202E, def
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import NamedTuple

FIRST = 8_000  # characters of a document's first piece: more than most documents have
FURTHER = 20_000  # characters of each further piece
_LOOK_BACK = 400  # characters in which a piece looks for a blank to end at

# Part of how words and emoji are written, and harmless: soft hyphen, and the selectors of text and emoji style.
_WRITTEN = {"\u00ad", "\ufe0e", "\ufe0f"}
_JOINERS = {"\u200c", "\u200d"}  # spelling in Persian, in Indic scripts and in emoji; hidden between Latin letters
_FIRST_OF_JOINING = "\u0590"  # the scripts before Hebrew use no joiners


class Run(NamedTuple):
    """A stretch to show as it is, or, with a ``name``, the mark that stands for invisible characters."""

    text: str
    name: str | None = None


class Piece(NamedTuple):
    """Part of a text; ``next`` is the offset, in characters, of what follows, None at the end."""

    runs: list[Run]
    start: int
    next: int | None


def piece(text: str, start: int = 0, length: int = FIRST) -> Piece:
    """The part of the text from ``start`` on, of about ``length`` characters."""
    start = min(max(start, 0), len(text))
    end = min(start + length, len(text))
    if end < len(text):
        blanks = (text.rfind(blank, max(start, end - _LOOK_BACK), end) for blank in "\n ")
        end = next((blank + 1 for blank in blanks if blank > start), end)
    return Piece(runs(text[start:end]), start, end if end < len(text) else None)


def runs(text: str) -> list[Run]:
    """The text in order; many of one invisible character in a row give one mark that says how many."""
    text = text.replace("\r\n", "\n")
    found: list[Run] = []
    at = 0
    for match in _invisible().finditer(text):
        character = match[0][0]
        if (
            character in _JOINERS
            and len(match[0]) == 1
            and match.start()
            and text[match.start() - 1] >= _FIRST_OF_JOINING
        ):
            continue
        if match.start() > at:
            found.append(Run(text[at : match.start()]))
        found.append(_mark(character, len(match[0])))
        at = match.end()
    return [*found, Run(text[at:])] if at < len(text) else found


def short(text: str, most: int = 300) -> list[Run]:
    """The beginning of a text that should be short, such as a URL, but that a crawled page may have written."""
    cut = runs(text[:most])
    return [*cut, Run(f"… ({len(text):,} characters)")] if len(text) > most else cut


def _mark(character: str, times: int) -> Run:
    code = f"U+{ord(character):04X}"
    name = unicodedata.name(character, "control character").lower()
    return Run(f"{code} ×{times:,}" if times > 1 else code, name)


@cache
def _invisible() -> re.Pattern[str]:
    """One or more of one character that shows nothing or turns the line."""
    code_points = (*range(0x3000), *range(0xF000, 0x14000), *range(0x1BC00, 0x1D200), *range(0xE0000, 0xE0200))
    kept = "\n\t"
    characters = [c for c in map(chr, code_points) if _hides(c) and c not in kept and c not in _WRITTEN]
    return re.compile(f"([{re.escape(''.join(characters))}])\\1*")


def _hides(character: str) -> bool:
    selects = "\ufe00" <= character <= "\ufe0d" or "\U000e0100" <= character <= "\U000e01ef"
    return selects or unicodedata.category(character) in {"Cc", "Cf", "Zl", "Zp"}
