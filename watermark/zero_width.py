"""Reads zero-width characters as digits: which run is padding, and which one spells a text.

Tools that hide text in zero-width characters write it in base 2 to 8 with one character for a digit, eight (or seven)
bits or a UTF-16 unit at a time, some with a separator between the units. The alphabets of those in use are tried in
turn; a run counts as read only where it gives text that a person could have typed::

    >>> bits = "".join(f"{byte:08b}" for byte in b"hidden")
    >>> decode(bits.translate({ord("0"): "\\u200b", ord("1"): "\\u200c"}))
    'hidden'
"""

from __future__ import annotations

import math
from collections.abc import Iterator

# Regular-expression class body. The directional marks serve as digits in some alphabets, never alone.
ZERO_WIDTH = "\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff"
_DIRECTIONAL = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e")
_MAX_PERIOD = 7
_MAX_SYMBOLS = 1 << 16

# Digits in order, smallest first.
_ALPHABETS = (
    "\u200b\u200c",
    "\u200b\u200d",
    "\u200c\u200d",
    "\u2060\u200b",
    "\u200b\u2060",
    "\u200b\ufeff",
    "\u2062\u2063",
    "\u200b\u200c\u200d",
    "\u200b\u200c\u200d\ufeff",
    "\u200c\u200d\u202c\ufeff",
    "\u200b\u200c\u200d\u2060",
    "\u200c\u200d\u2061\u2062",
    "\u200d\u2061\u2062\u2063",
    "\u200b\u200c\u200d\u200e\u200f",
    "\u200c\u200d\u2061\u2062\u2063\u2064",
)


def is_padding(run: str) -> bool:
    """Whether a run hides nothing: one symbol, only directional marks, or a short period kept nine times in ten."""
    if len(set(run) - _DIRECTIONAL) < 2:
        return True
    run = run[:_MAX_SYMBOLS]
    for period in range(1, min(_MAX_PERIOD, len(run) // 2) + 1):
        same = sum(map(str.__eq__, run, run[period:]))
        if same >= 0.9 * (len(run) - period):
            return True
    return False


def decode(run: str) -> str | None:
    """The text that a run of zero-width characters spells, or None. Reads at most 65,536 symbols."""
    run = run[:_MAX_SYMBOLS]
    readings = {text for text in _readings(run) if _is_text(text)}
    # Letters and spaces are what a wrong alphabet yields least of; the text itself breaks ties.
    return max(readings, key=lambda text: (_plainness(text), text), default=None)


def _readings(run: str) -> Iterator[str]:
    yield from _grouped(run)
    for body in (run, _without_joiner(run)):
        if not body:
            continue
        for alphabet in _alphabets(body):
            digits = body.translate({ord(symbol): chr(ord("0") + at) for at, symbol in enumerate(alphabet)})
            yield from _fixed_width(digits, len(alphabet))


def _alphabets(run: str) -> Iterator[str]:
    symbols = "".join(sorted(set(run)))
    if not 2 <= len(symbols) <= 8:
        return
    yield symbols
    if len(symbols) == 2:
        yield symbols[::-1]
    for alphabet in _ALPHABETS:
        if len(alphabet) > 2 and alphabet != symbols and set(symbols) <= set(alphabet):
            yield alphabet


def _fixed_width(digits: str, base: int) -> Iterator[str]:
    widths = {_width(base, 256): 8, _width(base, 65536): 16}
    if base == 2:
        widths[7] = 8
    for width, bits in widths.items():
        if width > len(digits):
            continue
        whole = len(digits) - len(digits) % width
        units = [int(digits[at : at + width], base) for at in range(0, whole, width)]
        yield from _text_of(units, bits)


def _grouped(run: str) -> Iterator[str]:
    """Binary numbers of any width between separators, with or without a joiner between the symbols."""
    for body in (run, _without_joiner(run)):
        symbols = sorted(set(body))
        if len(symbols) != 3:
            continue
        for separator in symbols:
            zero, one = (s for s in symbols if s != separator)
            groups = [group for group in body.split(separator) if group]
            if len(groups) < 2 or any(len(group) > 16 for group in groups):
                continue
            for low, high in ((zero, one), (one, zero)):
                table = {ord(low): "0", ord(high): "1"}
                yield from _text_of([int(group.translate(table), 2) for group in groups], 16)


def _without_joiner(run: str) -> str:
    """The run without the symbol that stands at every second place, empty where there is none."""
    joiner = run[1]
    return run[::2] if set(run[1::2]) == {joiner} and joiner not in run[::2] else ""


def _width(base: int, limit: int) -> int:
    return math.ceil(round(math.log(limit, base), 9))


def _text_of(units: list[int], bits: int) -> Iterator[str]:
    try:
        if bits == 8:
            yield bytes(units).decode("utf-8")
        else:
            yield b"".join(unit.to_bytes(2, "big") for unit in units).decode("utf-16-be")
    except (ValueError, OverflowError):
        return


def _is_text(text: str) -> bool:
    text = text.strip("\0")
    if len(text) < 2 or not all(c.isprintable() or c in "\t\r\n" for c in text):
        return False
    if sum(c.isalnum() or c.isspace() for c in text) < 0.7 * len(text):
        return False
    # Wrong UTF-16 readings scatter over the plane; people write in one script and ASCII.
    return all(ord(c) < 0x700 for c in text) or all(
        ord(c) < 0x80 or 0x3000 <= ord(c) <= 0x9FFF or 0xAC00 <= ord(c) <= 0xD7A3 or ord(c) >= 0xFF00 for c in text
    )


def _plainness(text: str) -> float:
    return sum(c.isascii() and (c.isalnum() or c == " ") for c in text) / len(text)
