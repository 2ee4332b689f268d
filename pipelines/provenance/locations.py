"""Where in a page a finding stands, and how the ``detail`` of its evidence says so.

A detail has one of three forms, which people read and :func:`read_location` takes apart::

    HTTP header NAME: VALUE
    LAYER at OFFSET, WHAT: VALUE
    LAYER, WHAT: VALUE                      the place could not be told

LAYER is ``markup``, the page as decoded and before extraction, or ``text``, the document's text. OFFSET counts its code
points from 0. WHAT names the element, the signal or the carrier, and never holds a colon before a space::

    >>> read_location("markup at 6, meta ai-disclosure: ai-generated")
    Location(layer='markup', offset=6, what='meta ai-disclosure', value='ai-generated')
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import cached_property
from typing import Literal, NamedTuple

Layer = Literal["HTTP header", "markup", "text"]

_WHAT = 80
_VALUE = 200
_FORM = re.compile(r"(?:(HTTP header) |(markup|text)(?: at (\d+))?, )(.*?): (.*)", re.DOTALL)
_REACH = 4096
_BUDGET = 100_000


class Location(NamedTuple):
    """``offset`` is in code points of the layer, None where it is not known. ``what`` for a header is its name."""

    layer: Layer
    offset: int | None
    what: str
    value: str


def describe(location: Location) -> str:
    """The detail that says it; white space becomes one blank, a value is cut at 200 characters."""
    what = " ".join(location.what.split()).replace(": ", ":").rstrip(":")[:_WHAT]
    value = " ".join(location.value.split())[:_VALUE]
    if location.layer == "HTTP header":
        return f"HTTP header {what}: {value}"
    place = "" if location.offset is None else f" at {location.offset}"
    return f"{location.layer}{place}, {what}: {value}"


def read_location(detail: str) -> Location | None:
    """The location that a detail states; None where it is of another form, as detectors' are."""
    found = _FORM.fullmatch(detail)
    if not found:
        return None
    header, layer, offset, what, value = found.groups()
    known: Layer = "HTTP header" if header else "text" if layer == "text" else "markup"
    return Location(known, int(offset) if offset else None, what, value)


class Clue(NamedTuple):
    """What the source of a finding holds.

    ``word``: a literal, in lower case. ``tag``: the element in whose start tag it stands, empty for text.
    ``near``: what else stands in the tag, or behind the word; compared up to the first character that may be escaped.
    """

    word: str
    tag: str = ""
    near: str = ""


class Source:
    """The markup of a page, to look places up in.

    A parsed tree does not say where its elements come from; the source is therefore searched for what they hold.
    Comments are skipped, and each place is given once, so that findings and places run in step. The work on one page is
    bounded: beyond that, places are not told.
    """

    def __init__(self, html: str) -> None:
        self._html = html
        self._next: dict[Clue, int] = {}
        self._budget = _BUDGET

    def find(self, clue: Clue) -> int | None:
        """The byte at which the next place that fits begins: the element's ``<``, or the word itself."""
        word = clue.word.encode()
        near = re.split(r"[&<>\"'\s]", clue.near.strip(), maxsplit=1)[0][:60].encode("utf-8", "replace").lower()
        opening = b"<" + clue.tag.encode()
        at = self._next.get(clue, 0)
        while self._budget > 0:
            hit = self._bytes.find(word, at)
            self._budget -= 1 + ((hit if hit >= 0 else len(self._bytes)) - at) // _REACH
            if hit < 0:
                break
            at = hit + 1
            start = self._bytes.rfind(b"<", max(0, hit - _REACH), hit) if clue.tag else hit
            fits = start >= 0 and (not clue.tag or self._bytes.startswith(opening, start))
            end = self._bytes.find(b">", hit, hit + _REACH) if clue.tag else hit + _REACH
            if fits and self._bytes.find(near, start, end) >= 0 and not self._in_comment(start):
                self._next[clue] = at
                return start
        self._next[clue] = len(self._bytes)
        return None

    def offset(self, at: int) -> int:
        """The code point that begins at that byte."""
        return len(self._bytes[:at].decode("utf-8", "surrogatepass"))

    @cached_property
    def _bytes(self) -> bytes:
        # Bytes keep their number in lower case, which not all characters do.
        return self._html.encode("utf-8", "surrogatepass").lower()

    @cached_property
    def _comments(self) -> tuple[list[int], list[int]]:
        starts, ends, at = [], [], 0
        while (start := self._bytes.find(b"<!--", at)) >= 0:
            end = self._bytes.find(b"-->", start)
            at = len(self._bytes) if end < 0 else end
            starts.append(start)
            ends.append(at)
        return starts, ends

    def _in_comment(self, at: int) -> bool:
        starts, ends = self._comments
        comment = bisect_right(starts, at) - 1
        return comment >= 0 and at < ends[comment]
