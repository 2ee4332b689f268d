"""Digital source types that a page's structured data states, and whether they speak of its text.

JSON-LD, microdata, RDFa and meta elements are read. A source type speaks of the text where it belongs to an article, a
page or a creative work that the page is about; on an image, a comment or a work that is only mentioned it does not::

    >>> data = '{"@type": "Article", "digitalSourceType": "trainedAlgorithmicMedia"}'
    >>> page = f'<script type="application/ld+json">{data}</script>'
    >>> [(s.term, s.about_text) for s in source_types(HTMLTree.parse(page))]
    [('trainedAlgorithmicMedia', True)]

Sources: IPTC Digital Source Type NewsCodes; schema.org ``digitalSourceType`` and ``IPTCDigitalSourceEnumeration``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from resiliparse.parse.html import ElementNode, HTMLTree

from pipelines.provenance.markup import attribute, elements
from pipelines.provenance.signals import load_signals
from watermark.c2pa_text import source_term

_KEY = "digitalsourcetype"
_MAX_JSON = 4 << 20
_MAX_NODES = 100_000
_MAX_ELEMENTS = 256
_MAX_ANCESTORS = 256

# Properties that lead from a node to what the page is about; every other one leads to something else.
_SAME_SUBJECT = frozenset({"@graph", "mainentity", "mainentityofpage"})
_BROKEN = re.compile(
    r"digitalSourceType\"\s{0,20}:\s{0,20}(?:\[\s{0,20})?(?:\{\s{0,20}\"@id\"\s{0,20}:\s{0,20})?\"([^\"\n]{1,200})\"",
    re.IGNORECASE,
)
_MEDIA = re.compile(r"(?:Image|Video|Audio|Media)Object|Photograph|3DModel|ImageGallery")
_MARKED = ", ".join(
    f'{element}[{attribute}*="{spelling}"]'
    for element, attribute in (("", "itemprop"), ("", "property"), ("meta", "name"))
    for spelling in ("igitalSourceType", "igitalsourcetype", "IGITALSOURCETYPE")
)
_FIGURES = frozenset({"figure", "picture", "video", "audio"})
_VALUES = ("content", "href", "resource", "src")


@dataclass(frozen=True)
class Statement:
    """A digital source type, where it stands, and whether it speaks of the page's text."""

    term: str
    place: str
    about_text: bool


def source_types(tree: HTMLTree) -> Iterator[Statement]:
    """All digital source types in the page that are terms of IPTC or C2PA, JSON-LD first."""
    for script in elements(tree, 'script[type*="json"]'):
        text = script.text or ""
        if "ld+json" in attribute(script, "type").lower() and _KEY in text.lower():
            yield from _from_json(text)
    for node in elements(tree, _MARKED)[:_MAX_ELEMENTS]:
        if term := source_term(_value(node)):
            place = next(name for name in ("itemprop", "property", "name") if node.hasattr(name))
            yield Statement(term, f"{node.tag} {place}", _element_is_about_text(node))


def _from_json(text: str) -> Iterator[Statement]:
    text = text.strip().removeprefix("<!--").removesuffix("-->").removeprefix("//<![CDATA[").removesuffix("//]]>")
    try:
        data = json.loads(text, strict=False) if len(text) <= _MAX_JSON else None
    except (ValueError, RecursionError):
        data = None
    if data is not None:
        yield from _walk(data)
        return
    # Which node a broken text means cannot be told: where it speaks of media at all, take it for that.
    about_text = not _MEDIA.search(text)
    for found in _BROKEN.finditer(text):
        if term := source_term(found.group(1)):
            yield Statement(term, "JSON-LD (broken)", about_text)


def _walk(data: Any) -> Iterator[Statement]:
    """Nodes in the order of the document; iterative, since the depth is the author's choice."""
    stack: list[tuple[Any, bool, bool]] = [(data, True, True)]  # value, on the way of the subject, parent is about text
    for _ in range(_MAX_NODES):
        if not stack:
            return
        value, on_way, inherited = stack.pop()
        if isinstance(value, list):
            stack.extend((item, on_way, inherited) for item in reversed(value))
        elif isinstance(value, dict):
            types = _strings(value.get("@type"))
            about_text = on_way and (any(map(_is_text_type, types)) if types else inherited)
            children = []
            for key, child in value.items():
                name = re.split(r"[/#:]", key)[-1].lower()
                if name == _KEY:
                    terms = map(source_term, _strings(child))
                    yield from (
                        Statement(term, f"JSON-LD {' '.join(types)}".strip(), about_text) for term in terms if term
                    )
                elif isinstance(child, list | dict):
                    children.append((child, on_way and name in _SAME_SUBJECT, about_text))
            stack.extend(reversed(children))


def _strings(value: Any) -> list[str]:
    """The strings in a JSON-LD value: itself, its ``@id`` or ``@value``, or those of a list's items."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for key in ("@id", "@value") if isinstance(text := value.get(key), str)]
    if isinstance(value, list):
        return [text for item in value if not isinstance(item, list) for text in _strings(item)]
    return []


def _element_is_about_text(node: ElementNode) -> bool:
    """Whether the nearest typed item around the element is text; without one, whether it stands in no figure."""
    typed = "typeof" if node.hasattr("property") else "itemtype"
    around = node.parent_element
    for _ in range(_MAX_ANCESTORS):
        if around is None:
            return True
        if around.tag in _FIGURES:
            return False
        if types := attribute(around, typed).split():
            return any(map(_is_text_type, types))
        around = around.parent_element
    return False


def _is_text_type(name: str) -> bool:
    plain = re.split(r"[/#:]", name.rstrip("/"))[-1]
    types = load_signals().text_types
    return plain in types.names or plain.endswith(types.endings)


def _value(node: ElementNode) -> str:
    return next(filter(None, (attribute(node, name) for name in _VALUES)), (node.text or "")[:200])
