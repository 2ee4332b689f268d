"""Finds what leaked from a chatbot into a page: its phrases, its interface's tokens, the links it handed out.

    >>> [f.kind for f in leaked_phrases("As an AI language model, I cannot taste wine.")]
    ['chatbot_phrase']
    >>> [f.kind for f in leaked_phrases("The reply began “As an AI language model, I cannot taste wine.”")]
    ['chatbot_phrase_quoted']

What is looked for is data (``signals.yaml``). A text is searched for the signals' anchors first, which are plain
literals; a pattern runs only where one of its anchors was found, so that ordinary text costs a memory scan.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

from pipelines.provenance.anchors import Anchors
from pipelines.provenance.signals import load_signals
from pipelines.records import Evidence

SOURCE = "leak"
_QUOTE_REACH = 400
# What opens a quotation, and what then closes it: the German one closes with what opens an English one.
_QUOTES = {'"': '"', "“": "”", "„": "“”", "«": "»", "»": "«", "「": "」", "『": "』"}
_DETAIL = 120

_UNSEEN = re.compile(r"<(script|style|template|pre|code|textarea|!--)(?=[\s>/-]|$)", re.IGNORECASE)
_URL_START = re.compile(r"[\s\"'<>()]")
_LINKED = re.compile(r"(?:href|cite)\s{0,9}=\s{0,9}[\"']?$", re.IGNORECASE)
_URL_REACH = 4096


@dataclass(frozen=True)
class _Detector:
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
        detectors=tuple(_Detector(leak.kind, leak.compile()) for leak in leaks),
    )


def leaked_phrases(text: str) -> list[Evidence]:
    """What leaked into a page's text: one finding for each distinct match, in the order of the signals.

    A chatbot's phrase between quotation marks has a kind of its own: it is somebody's report of a chatbot.
    """
    findings = []
    for detector in _index("text").candidates(text):
        found = [(match, _is_quoted(text, match.start())) for match in detector.pattern.finditer(text)]
        if not found:
            continue
        match, quoted = next((hit for hit in found if not hit[1]), found[0])
        kind = detector.kind
        if quoted and kind.startswith("chatbot_phrase"):
            kind = "chatbot_phrase_quoted"
        findings.append(Evidence(SOURCE, kind, detail=_excerpt(match)))
    return list(dict.fromkeys(findings))


def leaked_markup(html: str) -> list[Evidence]:
    """What leaked into a page's markup: tokens outside scripts, styles, comments and code, and links of the page.

    A finding equals the one that :func:`leaked_phrases` makes of the same match in the text.
    """
    candidates = _index("html").candidates(html)
    if not candidates:
        return []
    seen = _without_unseen(html)
    findings = []
    for detector in candidates:
        for match in detector.pattern.finditer(seen):
            if detector.kind != "chatbot_link" or _is_linked(seen, match.start()):
                findings.append(Evidence(SOURCE, detector.kind, detail=_excerpt(match)))
                break
    return list(dict.fromkeys(findings))


def _excerpt(match: re.Match[str]) -> str:
    return " ".join(match.group().split())[:_DETAIL]


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
    start = at
    floor = max(0, at - _URL_REACH)
    while start > floor and not _URL_START.match(html, start - 1):
        start -= 1
    # An unquoted value starts behind the equals sign, so that the walk took the attribute's name along.
    unquoted = html[start : start + 5].lower() in ("href=", "cite=")
    return unquoted or bool(_LINKED.search(html[max(0, start - 24) : start]))


def _without_unseen(html: str) -> str:
    """The markup without what no reader sees or what only shows code; one pass, whatever is left open."""
    parts, at, open_for_good = [], 0, set()
    while found := _UNSEEN.search(html, at):
        tag = found.group(1).lower()
        closing = _closing(tag)
        end = None if tag in open_for_good else closing.search(html, found.end())
        if end:
            parts.append(html[at : found.start()])
            at = end.end()
        elif tag in ("script", "style", "!--"):  # a browser, too, takes the rest of the page for it
            return "".join([*parts, html[at : found.start()]])
        else:
            open_for_good.add(tag)
            parts.append(html[at : found.end()])
            at = found.end()
    return "".join([*parts, html[at:]])


@cache
def _closing(tag: str) -> re.Pattern[str]:
    return re.compile("-->" if tag == "!--" else rf"</{tag}\b", re.IGNORECASE)
