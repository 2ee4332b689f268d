"""The few questions that checks ask of a parsed page, on resiliparse's tree.

>>> [attribute(node, "content") for node in elements(parse("<meta name=a content=b>"), "meta[name]")]
['b']
"""

from __future__ import annotations

from resiliparse.parse.html import ElementNode, HTMLTree


def parse(html: str) -> HTMLTree:
    """The tree of a page; lone surrogates, which a decoder may leave and the parser refuses, become question marks."""
    return HTMLTree.parse(html.encode("utf-8", "replace").decode("utf-8"))


def elements(tree: HTMLTree, selector: str) -> list[ElementNode]:
    """The elements that a CSS selector matches, in the order of the document."""
    # Iterating over the live list looks every element up from the start; a slice is taken in one go.
    return list(tree.document.query_selector_all(selector)[:]) if tree.document else []


def attribute(node: ElementNode, name: str) -> str:
    """The attribute's value, empty where it is not set."""
    return node.getattr(name) or ""
