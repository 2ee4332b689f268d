"""Numbers and crawled text as a person reads them; the same words in HTML and in Markdown."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from typing import Any

MOST_CHARACTERS = 240  # of a cell: a host's name or a setting may be megabytes long
_JOINERS = "\u200c\u200d"  # Persian and the scripts of India cannot be written without
_EFFECTIVE = ("Cc", "Cf", "Cs")


def percent(value: float) -> str:
    """A share in per cent, with two digits that mean something: ``0.0312`` is "3.1 %"."""
    value = 100 * value
    digits = 0 if value in (0, 100) else 2 if value < 1 or 99 < value < 100 else 1
    if 0 < value < 0.01:
        return "under 0.01\u202f%"
    text = f"{value:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text}\u202f%"


def between(low: float, high: float) -> str:
    """An interval of a share."""
    return f"{percent(low)} to {percent(high)}"


def count(value: float) -> str:
    """A number with thin spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\u202f")


def figure(value: float | None) -> str:
    """A measure's value with three digits that mean something; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    if abs(value) >= 1000:
        return count(value)
    text = f"{value:.3g}"
    return text if "e" not in text else f"{value:.1e}"


def plain(text: str) -> str:
    """``text`` without characters that act instead of showing: control, direction, lone surrogates, non-characters."""
    if text.isascii() and text.isprintable():
        return text
    return "".join("\ufffd" if _acts(c) else c for c in text)


def cut(text: str, most: int = MOST_CHARACTERS) -> str:
    """No more than ``most`` characters, and a sign that there were more."""
    return text if len(text) <= most else text[:most] + " …"


def of_hundred(share: float, low: float, high: float) -> tuple[str, str, str, str]:
    """A share and its interval as whole numbers of a round number, and that number: ("23", "18", "32", "100").

    The interval is rounded outwards.
    """
    base = next((b for b in (100, 1000, 10_000) if high * b >= 10), 100_000)
    ends = math.floor(low * base + 1e-9), math.ceil(high * base - 1e-9)
    return str(round(share * base)), str(ends[0]), str(ends[1]), count(base)


def flat(value: Any, prefix: str = "", most: int = 400) -> list[tuple[str, str]]:
    """A nested mapping as (dotted key, value), in the order given, no more than ``most``."""
    if not isinstance(value, Mapping):
        return [] if value is None else [(prefix, cut(str(value)))]
    pairs: list[tuple[str, str]] = []
    for key, inner in value.items():
        pairs += flat(inner, f"{prefix}.{key}" if prefix else str(key), most - len(pairs))
        if len(pairs) >= most:
            break
    return pairs[:most]


def _acts(c: str) -> bool:
    if c in "\n\t" or c in _JOINERS:
        return False
    return unicodedata.category(c) in _EFFECTIVE or ord(c) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(c) <= 0xFDEF
