"""What a page says of itself: AI disclosures, digital source types, AI writers as generators, C2PA manifests.

Read from the raw markup and the HTTP headers, since extraction of the text destroys them::

    >>> [f.kind for f in declarations('<meta name="ai-disclosure" content="ai-generated">', {})]
    ['ai_disclosure']
    >>> [f.kind for f in declarations("", {"AI-Disclosure": "mode=ai-modified"})]
    ['ai_assisted']

A page that holds none of the words costs one scan. What is found says what somebody declared; nothing is verified.
Sources: draft-abaris-aicdh (header field AI-Disclosure); the WICG proposal "AI Content Disclosure" (attribute and meta
name ai-disclosure); IPTC Digital Source Type NewsCodes; schema.org digitalSourceType; C2PA Technical Specification
2.4, A.7 (HTML) and "Embedding manifests by reference" (link relation c2pa-manifest).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache

from resiliparse.parse.html import ElementNode, HTMLTree

from pipelines.provenance.anchors import Anchors
from pipelines.provenance.c2pa_html import inline_source_type, is_manifest_link
from pipelines.provenance.markup import attribute, elements, parse
from pipelines.provenance.signals import load_signals
from pipelines.provenance.source_types import source_types
from pipelines.records import Evidence
from watermark import c2pa_text

SOURCE = "declaration"
_DETAIL = 200
_MAX_FINDINGS = 32

_GENERATOR = "generator"
_OTHER_WORDS = ("digitalsourcetype", "c2pa")
_ATTRIBUTES = ("ai-disclosure", "data-ai-disclosure")
# What speaks of the page as a whole; of several articles, all have to.
_WHOLE = frozenset({"html", "body", "main"})
_MODE = re.compile(r"(?:^|[,;\s])mode\s{0,9}=\s{0,9}[\"']?([\w -]{1,40})", re.IGNORECASE)
_NAMES = ("name", "property", "http-equiv")
_NAMED = ", ".join(f"meta[{name}]" for name in _NAMES)


def declarations(html: str, headers: Mapping[str, str]) -> list[Evidence]:
    """Everything that the markup and the HTTP headers declare, each finding once, at most 32.

    Never raises on malformed markup or JSON. ``detail`` names the place and the value.
    """
    findings = dict.fromkeys(_from_headers(headers))
    if _may_declare(html):
        tree = parse(html)
        for check in (_from_meta, _from_attributes, _from_manifests, _from_source_types):
            findings.update(dict.fromkeys(check(tree)))
    return list(findings)[:_MAX_FINDINGS]


@cache
def _words() -> tuple[Anchors, int]:
    """The words to look up, those of generators last, and the index of the first of those."""
    signals = load_signals()
    general = [*signals.disclosure.names, *_OTHER_WORDS]
    return Anchors([*general, _GENERATOR, *signals.generators]), len(general)


def _may_declare(html: str) -> bool:
    anchors, generator = _words()
    found = anchors.found(html)
    # The names of generators are common in text: they count together with the word itself.
    return bool(found) and (found[0] < generator or (found[0] == generator and len(found) > 1))


def _from_headers(headers: Mapping[str, str]) -> Iterator[Evidence]:
    for name, value in headers.items():
        plain = name.strip().lower()
        if plain.removeprefix("x-") in load_signals().disclosure.names:
            yield _finding(_disclosure_kind(value), f"HTTP header {plain}", value)
        elif plain == "link" and is_manifest_link(value):
            yield _finding("c2pa_manifest_link", "HTTP header link", value)


def _from_meta(tree: HTMLTree) -> Iterator[Evidence]:
    names = load_signals().disclosure.names
    for node in elements(tree, _NAMED):
        name = next(filter(None, (attribute(node, key) for key in _NAMES)), "").strip().lower()
        value = attribute(node, "content")
        if name in names:
            yield _finding(_disclosure_kind(value), f"meta {name}", value)
        elif name == _GENERATOR and _is_ai_writer(value):
            yield _finding("ai_generator", f"meta {name}", value)


def _from_attributes(tree: HTMLTree) -> Iterator[Evidence]:
    for name in _ATTRIBUTES:
        nodes = elements(tree, f"[{name}]")
        marked_articles = sum(node.tag == "article" for node in nodes)
        all_articles = marked_articles == len(elements(tree, "article")) if marked_articles else False
        for node in nodes:
            value = attribute(node, name)
            kind = _disclosure_kind(value)
            whole = node.tag in _WHOLE or (node.tag == "article" and all_articles) or _is_article_body(node)
            if whole:
                yield _finding(kind, f"attribute {name} of {node.tag}", value)
            elif kind != "ai_disclosure_none":
                yield _finding("ai_disclosure_part", f"attribute {name} of {node.tag}", value)


def _from_manifests(tree: HTMLTree) -> Iterator[Evidence]:
    for node in elements(tree, 'script[type="application/c2pa"], link[rel]'):
        if node.tag == "link" and "c2pa-manifest" not in attribute(node, "rel").lower().split():
            continue
        content = attribute(node, "href") if node.tag == "link" else node.text or ""
        stated = inline_source_type(content)
        if stated and stated in c2pa_text.MACHINE_SOURCE_TYPES:
            yield _finding("digital_source_type", f"C2PA manifest in {node.tag}", stated)
        else:
            yield _finding("c2pa_manifest_link", f"C2PA manifest in {node.tag}", stated or content)


def _from_source_types(tree: HTMLTree) -> Iterator[Evidence]:
    for statement in source_types(tree):
        if statement.term in c2pa_text.MACHINE_SOURCE_TYPES:
            kind = "digital_source_type" if statement.about_text else "digital_source_type_media"
            yield _finding(kind, statement.place, statement.term)
        elif statement.term in c2pa_text.ASSISTED_SOURCE_TYPES and statement.about_text:
            yield _finding("ai_assisted", statement.place, statement.term)


def _disclosure_kind(value: str) -> str:
    """The kind of evidence that a disclosure's value makes; one that nobody defined is unclear."""
    mode = _MODE.search(value)
    plain = (mode.group(1) if mode else re.split(r"[;,]", value, maxsplit=1)[0]).strip("\"' \t\r\n").lower()
    plain = plain.replace("_", "-")
    known = load_signals().disclosure
    if plain in known.generated:
        return "ai_disclosure"
    if plain in known.assisted:
        return "ai_assisted"
    return "ai_disclosure_none" if plain in known.none else "ai_disclosure_unclear"


def _is_ai_writer(generator: str) -> bool:
    """Whether the generator is one of the list, alone or with a version or an address behind it."""
    plain = " ".join(generator.lower().split())
    return any(
        re.match(rf"{re.escape(name.lower())}(?:$|[ /(v-]+\d|[ ]\(|;)", plain) for name in load_signals().generators
    )


def _is_article_body(node: ElementNode) -> bool:
    return "articlebody" in attribute(node, "itemprop").lower().split()


def _finding(kind: str, place: str, value: str) -> Evidence:
    return Evidence(SOURCE, kind, detail=f"{place}: {' '.join(value.split())}"[:_DETAIL])
