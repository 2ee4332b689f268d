"""Finds what leaked from a chatbot into a page: its phrases, its interface's tokens, the links it handed out.

    >>> [f.kind for f in leaked_phrases("As an AI language model, I cannot taste wine.")]
    ['chatbot_phrase']
    >>> [f.kind for f in leaked_phrases("The reply began “As an AI language model, I cannot taste wine.”")]
    ['chatbot_phrase_quoted']

What is looked for is data (``leaked_phrases.yaml``, ``leaked_interface.yaml``). A text is searched for the signals'
anchors first, which are plain literals; a pattern runs only where one of its anchors was found, so that ordinary text
costs a memory scan. Each finding says which signal it is of and at which character it begins.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Literal

from pipelines.provenance.anchors import Anchors
from pipelines.provenance.locations import Layer, Location, describe
from pipelines.provenance.markup import Shown
from pipelines.provenance.signals import load_signals
from pipelines.records import Evidence

SOURCE = "leak"
_QUOTE_REACH = 400
# What opens a quotation, and what then closes it: the German one closes with what opens an English one.
_QUOTES = {'"': '"', "“": "”", "„": "“”", "«": "»", "»": "«", "「": "」", "『": "』"}
_DETAIL = 120
_MAX_MATCHES = 10_000  # of one signal, to be looked at for quotation marks and links

_URL_ENDS = " \t\r\n\f\"'<>()"
_LINKED = re.compile(r"(?:href|cite)\s{0,9}=\s{0,9}[\"']?$", re.IGNORECASE)
_URL_REACH = 4096


@dataclass(frozen=True)
class _Detector:
    id: str
    kind: str
    pattern: re.Pattern[str]


@dataclass(frozen=True)
class _Index:
    """The anchors to look up, and for each of them the detectors that it stands for."""

    anchors: Anchors
    of_anchor: tuple[tuple[int, ...], ...]
    detectors: tuple[_Detector, ...]

    def candidates(self, text: str) -> list[_Detector]:
        hits = {at for anchor in self.anchors.found(text) for at in self.of_anchor[anchor]}
        return [self.detectors[at] for at in sorted(hits)]


@cache
def _index(where: Literal["text", "html"]) -> _Index:
    leaks = [leak for leak in load_signals().leaks if leak.where in (where, "both")]
    of_anchor: dict[str, list[int]] = {}
    for at, leak in enumerate(leaks):
        for anchor in leak.anchors:
            of_anchor.setdefault(anchor, []).append(at)
    return _Index(
        anchors=Anchors(list(of_anchor)),
        of_anchor=tuple(tuple(ats) for ats in of_anchor.values()),
        detectors=tuple(_Detector(leak.id, leak.kind, leak.compile()) for leak in leaks),
    )


def leaked_phrases(text: str) -> list[Evidence]:
    """What leaked into a page's text: one finding for each signal that matches, in the order of the signals.

    A chatbot's phrase between quotation marks has a kind of its own: it is somebody's report of a chatbot. ``detail``
    names the first match that is not quoted, or else the first one.
    """
    findings = []
    for detector in _index("text").candidates(text):
        first = next(detector.pattern.finditer(text), None)
        if not first:
            continue
        kind, match = detector.kind, first
        if kind.startswith("chatbot_phrase"):
            matches = islice(detector.pattern.finditer(text), _MAX_MATCHES)
            unquoted = next((match for match in matches if not _is_quoted(text, match.start())), None)
            kind, match = (kind, unquoted) if unquoted else ("chatbot_phrase_quoted", first)
        findings.append(_finding(detector.id, kind, match, "text", match.start()))
    return findings


def leaked_markup(html: str) -> list[Evidence]:
    """What leaked into a page's markup: tokens outside scripts, styles, comments and code, and links of the page.

    One finding for each signal that matches, of the kind that :func:`leaked_phrases` gives the same match in the text.
    """
    candidates = _index("html").candidates(html)
    if not candidates:
        return []
    shown = Shown(html)
    findings = []
    for detector in candidates:
        for match in islice(detector.pattern.finditer(shown.text), _MAX_MATCHES):
            if detector.kind != "chatbot_link" or _is_linked(shown.text, match.start()):
                offset = shown.offset(match.start())
                findings.append(_finding(detector.id, detector.kind, match, "markup", offset))
                break
    return findings


def _finding(signal: str, kind: str, match: re.Match[str], layer: Layer, offset: int) -> Evidence:
    excerpt = " ".join(match.group().split())[:_DETAIL]
    return Evidence(SOURCE, kind, detail=describe(Location(layer, offset, signal, excerpt)))


def _is_quoted(text: str, start: int) -> bool:
    """Whether a quotation that opened earlier on the line is still open."""
    line = text.rfind("\n", max(0, start - _QUOTE_REACH), start) + 1
    before = text[max(line, start - _QUOTE_REACH) : start]
    closing = ""
    for character in before:
        if closing:
            closing = "" if character in closing else closing
        else:
            closing = _QUOTES.get(character, "")
    return bool(closing)


def _is_linked(html: str, at: int) -> bool:
    """Whether the URL around ``at`` is the value of a link."""
    floor = max(0, at - _URL_REACH)
    start = max(floor, 1 + max(html.rfind(character, floor, at) for character in _URL_ENDS))
    # An unquoted value starts behind the equals sign, so that the walk took the attribute's name along.
    unquoted = html[start : start + 5].lower() in ("href=", "cite=")
    return unquoted or bool(_LINKED.search(html[max(0, start - 24) : start]))
