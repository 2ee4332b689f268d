"""Finds text, bytes or a manifest hidden in characters that do not show.

Four carriers are known: the C2PA text wrapper, runs of variation selectors ("emoji smuggling"), runs of tag
characters ("ASCII smuggling") and runs of zero-width characters. What Unicode means these characters for is left alone:
emoji and ideographic variation sequences, flags, joiners in Persian and Indic script, word breaks in Khmer or Thai,
byte-order marks, and padding that repeats::

    >>> [(c.kind, c.payload) for c in find("Hello" + "".join(chr(0xE0000 + ord(c)) for c in "hidden") + " world")]
    [('tag_characters', b'hidden')]
    >>> find("\N{BLACK HEART}\N{VARIATION SELECTOR-16} plain text")
    []

A carrier says that a tool wrote here, not which one, and not whether a person wrote the words around it.
Sources: C2PA Technical Specification 2.4, A.8; Unicode 16.0, sections 23.2 (layout controls), 23.4 (variation
selectors), 23.9 (tag characters); UTS 51 (emoji tag sequences).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from watermark import c2pa_text
from watermark.zero_width import ZERO_WIDTH, decode, is_padding

Kind = Literal["c2pa_text_manifest", "variation_selectors", "tag_characters", "zero_width"]

MIN_SELECTORS = 3  # a base takes one; two in a row happen where a tool adds VS16 to what has one
MIN_SPREAD = 8  # letters that carry a supplementary selector although no variation sequence has them as a base
MIN_TAGS = 3
MIN_ZERO_WIDTH = 8  # one byte in a binary alphabet
MIN_ZERO_WIDTH_UNREAD = 16  # without a readable payload, ask for more
_PREVIEW = 80
_MOST = 1000  # carriers of one sort; a page made of nothing else would take half a minute

_SELECTOR = "\ufe00-\ufe0f\U000e0100-\U000e01ef"
_RUNS = re.compile(
    f"(?P<vs>[{_SELECTOR}]{{{MIN_SELECTORS},}})"
    f"|(?P<tag>[\U000e0000-\U000e007f]{{{MIN_TAGS},}})"
    f"|(?P<zw>[{ZERO_WIDTH}]{{{MIN_ZERO_WIDTH},}})"
)
# A pattern that opens with a plain class is searched for faster than one that opens with a repetition or alternatives:
# blocks of any of them are found first, and told apart then.
_ANY = f"[{_SELECTOR}\U000e0000-\U000e007f{ZERO_WIDTH}]"
_BLOCK = re.compile(f"{_ANY}{_ANY}{_ANY}+")
_SUPPLEMENTARY = re.compile("[\U000e0100-\U000e01ef]")
# A selector of the supplement on a base that is neither an ideograph nor itself a selector.
_MISPLACED = re.compile(
    "(?<![\u2e80-\u2fff\u3000-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\ufe00-\ufe0f"
    "\U000e0100-\U000e01ef])[\U000e0100-\U000e01ef](?![\ufe00-\ufe0f\U000e0100-\U000e01ef])"
)
_PRESENTATION = frozenset("\ufe0e\ufe0f")

_TAG_ASCII = {0xE0000 + c: c for c in range(0x80)}
_FLAG_BASE = "\U0001f3f4"
_FLAG_BODY = re.compile(r"[a-z]{2}[a-z0-9]{1,4}\x7f?|[a-z]{1,2}$")
# What an emoji filter leaves of the flags of England, Scotland and Wales, and the deprecated language tag.
_TAG_REMAINS = re.compile(r"gb(?:eng|sct|wls)\x7f|\x01[a-z]{2,3}(?:-[a-z]{2})?\x7f?|\x7f")


@dataclass(frozen=True)
class Carrier:
    """One stretch of hidden characters.

    ``offset`` and ``length`` count code points. ``payload`` holds the decoded bytes, None where no alphabet fits.
    ``preview`` shows at most 80 characters: the payload as text, else in hexadecimal, or the names of unread symbols.
    ``problem`` says what is wrong with a C2PA wrapper, ``source_type`` which IPTC digital source type it states.
    """

    kind: Kind
    offset: int
    length: int
    payload: bytes | None
    preview: str
    problem: str | None = None
    source_type: str | None = None


def find(text: str) -> list[Carrier]:
    """The carriers in the text, in the order of their offsets: all, or the first 1,000 of each sort.

    Never raises on any string, lone surrogates included.
    """
    if text.isascii():
        return []
    carriers = list(_carriers(text))
    carriers.extend(_spread_selectors(text))
    carriers.sort(key=lambda carrier: carrier.offset)
    return _mark_repeats(carriers)


def _carriers(text: str) -> Iterator[Carrier]:
    runs = (run for block in _BLOCK.finditer(text) for run in _RUNS.finditer(text, block.start(), block.end()))
    count = Counter[str | None]()
    for found in runs:
        if count[found.lastgroup] >= _MOST:
            continue
        run, start = found.group(), found.start()
        before = text[start - 1] if start else ""
        match found.lastgroup:
            case "vs":
                carrier = _selectors(run, start, before)
            case "tag":
                carrier = _tags(run, start, before)
            case _:
                carrier = _zero_width(run, start)
        if carrier:
            count[found.lastgroup] += 1
            yield carrier


def _selectors(run: str, start: int, before: str) -> Carrier | None:
    data = c2pa_text.selector_bytes(run)
    if c2pa_text.is_wrapper(data):
        return _manifest(data, start, len(run), marked=before == c2pa_text.MARKER)
    if len(set(run)) == 1 or _PRESENTATION.issuperset(run):
        return None
    return Carrier("variation_selectors", start, len(run), data, _preview(data))


def _manifest(data: bytes, start: int, length: int, marked: bool) -> Carrier:
    wrapper = c2pa_text.read_wrapper(data)
    problem = wrapper.problem or (None if marked else "the marker U+FEFF is missing")
    payload = wrapper.payload
    source = c2pa_text.source_type(payload) if payload else None
    preview = f"C2PA manifest, {len(payload)} bytes" if payload is not None else "C2PA manifest, cut"
    return Carrier("c2pa_text_manifest", start - marked, length + marked, payload, preview, problem, source)


def _tags(run: str, start: int, before: str) -> Carrier | None:
    data = run.translate(_TAG_ASCII)
    if before == _FLAG_BASE and (flag := _FLAG_BODY.match(data)):
        start, data = start + flag.end(), data[flag.end() :]
    hidden = _TAG_REMAINS.sub("", data)
    if len(hidden) < MIN_TAGS or len(set(hidden)) == 1:
        return None
    payload = hidden.encode("ascii")
    return Carrier("tag_characters", start, len(data), payload, _preview(payload))


def _zero_width(run: str, start: int) -> Carrier | None:
    if is_padding(run):
        return None
    text = decode(run)
    if text is None and len(run) < MIN_ZERO_WIDTH_UNREAD:
        return None
    if text is None:
        names = ", ".join(f"U+{ord(symbol):04X}" for symbol in sorted(set(run)))
        return Carrier("zero_width", start, len(run), None, f"{len(run)} symbols of {names}"[:_PREVIEW])
    payload = text.encode()
    return Carrier("zero_width", start, len(run), payload, _preview(payload))


def _spread_selectors(text: str) -> list[Carrier]:
    """One carrier for selectors that sit singly on bases which have no variation sequence."""
    if not _SUPPLEMENTARY.search(text):
        return []
    found = list(_MISPLACED.finditer(text))
    if len(found) < MIN_SPREAD:
        return []
    data = c2pa_text.selector_bytes("".join(m.group() for m in found))
    if len(set(data)) == 1:
        return []
    start, end = found[0].start(), found[-1].end()
    return [Carrier("variation_selectors", start, end - start, data, _preview(data))]


def _mark_repeats(carriers: list[Carrier]) -> list[Carrier]:
    # A.8: a second valid wrapper is the failure manifest.text.multipleWrappers.
    seen = False
    for at, carrier in enumerate(carriers):
        if carrier.kind == "c2pa_text_manifest" and carrier.problem is None:
            if seen:
                carriers[at] = replace(carrier, problem="the text holds more than one wrapper")
            seen = True
    return carriers


def _preview(data: bytes) -> str:
    text = data.decode("utf-8", "replace")
    if text and all(c.isprintable() or c in "\t\r\n" for c in text) and "\ufffd" not in text:
        return " ".join(text.split())[:_PREVIEW]
    return data[: _PREVIEW // 2].hex()
