"""The few questions that checks ask of a page's markup: of its tree, by resiliparse, and of what of it shows.

>>> [attribute(node, "content") for node in elements(parse("<meta name=a content=b>"), "meta[name]")]
['b']
>>> shown = Shown("<p>a<!-- b -->c")
>>> shown.text, shown.offset(4)
('<p>ac', 14)
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import cache

from resiliparse.parse.html import ElementNode, HTMLTree

from pipelines.ingest.hostile import defuse

_MAXIMUM_ELEMENTS = 20_000

_UNSEEN = re.compile(r"<(script|style|template|pre|code|textarea|!--)(?=[\s>/-]|$)", re.IGNORECASE)


def parse(html: str) -> HTMLTree:
    """The tree of a page; lone surrogates, which a decoder may leave and the parser refuses, become question marks.

    Raises :class:`~pipelines.ingest.hostile.HostilePageError` for a page that cannot be parsed in reasonable time.
    """
    return HTMLTree.parse(defuse(html).encode("utf-8", "replace").decode("utf-8"))


def elements(tree: HTMLTree, selector: str) -> list[ElementNode]:
    """The elements that a CSS selector matches, in the order of the document; of more than 20,000 only the first."""
    if not tree.document:
        return []
    found = tree.document.query_selector_all(selector)
    if len(found) > _MAXIMUM_ELEMENTS:
        first = tree.document.query_selector(selector)
        return [first] if first else []
    # Iterating over the live list looks every element up from the start; a slice is taken in one go.
    return list(found[:])


def attribute(node: ElementNode, name: str) -> str:
    """The attribute's value, empty where it is not set."""
    return node.getattr(name) or ""


class Shown:
    """The markup without what no reader sees or what only shows code: scripts, styles, comments, templates, ``pre``.

    One pass, whatever is left open. ``text`` is what is left; :meth:`offset` leads back into the markup.
    """

    def __init__(self, html: str) -> None:
        parts: list[str] = []
        self._starts, self._shifts = [0], [0]
        at, length, open_for_good = 0, 0, set()
        while found := _UNSEEN.search(html, at):
            tag = found.group(1).lower()
            end = None if tag in open_for_good else _closing(tag).search(html, found.end())
            unseen_for_good = not end and tag in ("script", "style", "!--")  # a browser takes the rest for it, too
            stop = found.start() if end or unseen_for_good else found.end()
            parts.append(html[at:stop])
            length += stop - at
            at = end.end() if end else len(html) if unseen_for_good else stop
            if end:
                self._starts.append(length)
                self._shifts.append(at - length)
            else:
                open_for_good.add(tag)
        parts.append(html[at:])
        self.text = "".join(parts)

    def offset(self, at: int) -> int:
        """Where in the markup the character ``text[at]`` stands."""
        return at + self._shifts[bisect_right(self._starts, at) - 1]


@cache
def _closing(tag: str) -> re.Pattern[str]:
    return re.compile("-->" if tag == "!--" else rf"</{tag}\b", re.IGNORECASE)
