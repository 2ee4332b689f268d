"""What a page says of itself: AI disclosures, digital source types, AI writers as generators, C2PA manifests.

Read from the raw markup and the HTTP headers, since extraction of the text destroys them::

    >>> [f.kind for f in declarations('<meta name="ai-disclosure" content="ai-generated">', {})]
    ['ai_disclosure']
    >>> [f.kind for f in declarations("", {"AI-Disclosure": "mode=ai-modified"})]
    ['ai_assisted']

A page that holds none of the words costs one scan. What is found says what somebody declared; nothing is verified.
How the page may be used is stated in the same places, and read along with it (:mod:`pipelines.provenance.usage`).
Sources: draft-abaris-aicdh (header field AI-Disclosure); the WICG proposal "AI Content Disclosure" (attribute and meta
name ai-disclosure); IPTC Digital Source Type NewsCodes; schema.org digitalSourceType; C2PA Technical Specification
2.4, A.7 (HTML) and "Embedding manifests by reference" (link relation c2pa-manifest).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import NamedTuple

from resiliparse.parse.html import ElementNode, HTMLTree

from pipelines.ingest.hostile import HostilePageError
from pipelines.provenance import usage
from pipelines.provenance.anchors import Anchors
from pipelines.provenance.c2pa_html import inline_source_type, is_manifest_link
from pipelines.provenance.locations import Clue, Location, Source, describe
from pipelines.provenance.markup import attribute, elements, parse
from pipelines.provenance.signals import load_signals
from pipelines.provenance.source_types import source_types
from pipelines.records import Evidence
from watermark import c2pa_text

SOURCE = "declaration"
_MAX_FINDINGS = 32

_GENERATOR = "generator"
_OTHER_WORDS = ("digitalsourcetype", "c2pa")
_ATTRIBUTES = ("ai-disclosure", "data-ai-disclosure")
# What speaks of the page as a whole; of several articles, all have to.
_WHOLE = frozenset({"html", "body", "main"})
_MODE = re.compile(r"(?:^|[,;\s])mode\s{0,9}=\s{0,9}[\"']?([\w -]{1,40})", re.IGNORECASE)
_META = 2048
_RULE = re.compile(r"\bno(?:image)?ai\b|\bnoml\b", re.IGNORECASE)
_NAMES = ("name", "property", "http-equiv")
_NAMED = ", ".join(f"meta[{name}]" for name in _NAMES)


class _Found(NamedTuple):
    """A finding in the tree, and what the markup holds at its place."""

    kind: str
    what: str
    value: str
    clue: Clue
    source: str = SOURCE


def declarations(html: str, headers: Mapping[str, str]) -> list[Evidence]:
    """Everything that the markup and the HTTP headers declare, each finding once, at most 32.

    Their source is ``declaration`` or ``usage``; ``detail`` names the place, of several equal ones the first, and the
    value (:mod:`pipelines.provenance.locations`). Never raises on malformed markup or JSON. Of a page that cannot be
    parsed in reasonable time only the headers are read.
    """
    findings = dict.fromkeys(_from_headers(headers))
    if not _may_declare(html):
        return list(findings)[:_MAX_FINDINGS]
    try:
        tree = parse(html)
    except HostilePageError:
        return list(findings)[:_MAX_FINDINGS]
    source = Source(html)
    seen: set[tuple[str, str, str]] = set()
    for found in _from_tree(tree):
        if len(findings) >= _MAX_FINDINGS:
            break
        at = source.find(found.clue)
        if (key := (found.kind, found.what, found.value)) not in seen:
            seen.add(key)
            offset = None if at is None else source.offset(at)
            detail = describe(Location("markup", offset, found.what, found.value))
            findings[Evidence(found.source, found.kind, detail=detail)] = None
    return list(findings)[:_MAX_FINDINGS]


@cache
def _words() -> tuple[Anchors, int, int]:
    """The words to look up, those of robots and then of generators last, and the indices where the latter two begin."""
    signals = load_signals()
    robots = [word for word in usage.WORDS if word.startswith("no")]
    general = [*signals.disclosure.names, *_OTHER_WORDS, *(word for word in usage.WORDS if word not in robots)]
    return Anchors([*general, *robots, _GENERATOR, *signals.generators]), len(general), len(general) + len(robots)


def _may_declare(html: str) -> bool:
    anchors, robots, generator = _words()
    found = anchors.found(html)
    if not found:
        return False
    # Four letters occur by chance: those of robots count inside a meta element. The names of generators are common in
    # text: they count together with the word itself.
    by_name = generator in found and found[-1] > generator
    by_rule = any(robots <= at < generator for at in found) and _in_meta(html)
    return found[0] < robots or by_name or by_rule


def _in_meta(html: str) -> bool:
    starts = (html.rfind("<", max(0, rule.start() - _META), rule.start()) for rule in _RULE.finditer(html))
    return any(start >= 0 and html[start + 1 : start + 5].lower() == "meta" for start in starts)


def _from_tree(tree: HTMLTree) -> Iterator[_Found]:
    for check in (_from_meta, _from_attributes, _from_manifests, _from_source_types):
        yield from check(tree)


def _from_headers(headers: Mapping[str, str]) -> Iterator[Evidence]:
    for name, value in headers.items():
        plain = name.strip().lower()
        if plain.removeprefix("x-") in load_signals().disclosure.names:
            yield _in_header(_disclosure_kind(value), plain, value)
        elif plain == "link" and is_manifest_link(value):
            yield _in_header("c2pa_manifest_link", plain, value)
    for preference in usage.header_preferences(headers):
        yield _in_header(preference.kind, preference.what, preference.value, usage.SOURCE)


def _in_header(kind: str, name: str, value: str, source: str = SOURCE) -> Evidence:
    return Evidence(source, kind, detail=describe(Location("HTTP header", None, name, value)))


def _from_meta(tree: HTMLTree) -> Iterator[_Found]:
    names = load_signals().disclosure.names
    for node in elements(tree, _NAMED):
        name = next(filter(None, (attribute(node, key) for key in _NAMES)), "").strip().lower()
        value = attribute(node, "content")
        clue = Clue(name, "meta", value)
        if name in names:
            yield _Found(_disclosure_kind(value), f"meta {name}", value, clue)
        elif name == _GENERATOR and _is_ai_writer(value):
            yield _Found("ai_generator", f"meta {name}", value, clue)
        else:
            for kind, what, stated in usage.meta_preferences(name, value):
                yield _Found(kind, what, stated, clue, usage.SOURCE)


def _from_attributes(tree: HTMLTree) -> Iterator[_Found]:
    for name in _ATTRIBUTES:
        nodes = elements(tree, f"[{name}]")
        marked_articles = sum(node.tag == "article" for node in nodes)
        all_articles = marked_articles == len(elements(tree, "article")) if marked_articles else False
        for node in nodes:
            value = attribute(node, name)
            kind = _disclosure_kind(value)
            whole = node.tag in _WHOLE or (node.tag == "article" and all_articles) or _is_article_body(node)
            if whole or kind != "ai_disclosure_none":
                kind = kind if whole else "ai_disclosure_part"
                yield _Found(kind, f"attribute {name} of {node.tag}", value, Clue(name, node.tag or "", value))


def _from_manifests(tree: HTMLTree) -> Iterator[_Found]:
    for node in elements(tree, 'script[type="application/c2pa"], link[rel]'):
        if node.tag == "link" and "c2pa-manifest" not in attribute(node, "rel").lower().split():
            continue
        content = attribute(node, "href") if node.tag == "link" else node.text or ""
        clue = Clue("c2pa-manifest", "link", content) if node.tag == "link" else Clue("application/c2pa", "script")
        stated = inline_source_type(content)
        if stated and stated in c2pa_text.MACHINE_SOURCE_TYPES:
            yield _Found("digital_source_type", f"C2PA manifest in {node.tag}", stated, clue)
        else:
            yield _Found("c2pa_manifest_link", f"C2PA manifest in {node.tag}", stated or content, clue)


def _from_source_types(tree: HTMLTree) -> Iterator[_Found]:
    for statement in source_types(tree):
        clue = Clue("digitalsourcetype", "", statement.term)
        if statement.term in c2pa_text.MACHINE_SOURCE_TYPES:
            kind = "digital_source_type" if statement.about_text else "digital_source_type_media"
            yield _Found(kind, statement.place, statement.term, clue)
        elif statement.term in c2pa_text.ASSISTED_SOURCE_TYPES and statement.about_text:
            yield _Found("ai_assisted", statement.place, statement.term, clue)


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
