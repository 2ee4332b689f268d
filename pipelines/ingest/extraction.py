"""HTML → text, with the extractor that the job asks for; hostile pages end in bounded time.

extract_text(html, Extraction())
extract_text(html, Extraction(extractor="trafilatura"))   # pip install 'human-reserve[trafilatura]'
"""

from __future__ import annotations

from typing import Any

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree

from pipelines.ingest.hostile import HostilePageError, defuse, without_scripts
from pipelines.ingest.options import Extraction

# Main-content extraction visits all that lies in a div or an article once for each of them: its time grows with the
# characters times their depth. Measured: 3e8 is about 3 s. Pages of real crawls stay below 1e7.
_NESTING = ":is(div, article) "
_MAXIMUM_AREA = 300_000_000
_HARMLESS_DEPTH = 32
_REAL_DEPTH = 256  # no page of a real crawl nests div and article as deep

# Trafilatura's time grows faster than the number of elements: 50,000 paragraphs take 4 s, 100,000 take 16 s. libxml2
# leaves out, without a word, all that lies deeper than 256 elements.
_TRAFILATURA_TAGS = 60_000
_TRAFILATURA_DEPTH = 252


def extract_text(html: str, options: Extraction) -> str:
    """The text of a page; empty where the extractor finds none.

    Raises :class:`HostilePageError` for a page that cannot be parsed in reasonable time, and ``ValueError`` for one
    on which the extractor fails. With Resiliparse, a page nested so deeply that finding its main content takes too
    long gives all its visible text.
    """
    return extract_defused(defuse(html), options)


def extract_defused(html: str, options: Extraction) -> str:
    """The same for a page that :func:`~pipelines.ingest.hostile.defuse` has let through."""
    if options.extractor == "trafilatura":
        return _with_trafilatura(html, options)
    return _with_resiliparse(html, options)


def _with_resiliparse(html: str, options: Extraction) -> str:
    # Alternative texts, share counts and bullets are not what the author of the text wrote.
    settings: dict[str, Any] = {
        "main_content": options.main_content,
        "comments": options.comments,
        "links": options.links,
        "alt_texts": False,
        "post_meta": False,
        "list_bullets": False,
        "skip_elements": None if options.tables else ["table"],
    }
    if not options.main_content or len(html) * _containers(html) <= _MAXIMUM_AREA:
        return str(extract_plain_text(html, **settings))
    tree = HTMLTree.parse(html)
    depth = min(max(_MAXIMUM_AREA // len(html), _HARMLESS_DEPTH), _REAL_DEPTH)
    if tree.document is not None and tree.document.query_selector(_NESTING * depth) is not None:
        settings["main_content"] = False
    return str(extract_plain_text(tree, **settings))


def _containers(html: str) -> int:
    """An upper bound of how many div and article elements there are; all tags, where that settles it."""
    tags = html.count("<")
    if len(html) * tags <= _MAXIMUM_AREA:
        return tags
    return sum(map(html.count, ("<d", "<D", "<ar", "<AR", "<aR", "<Ar")))


def _with_trafilatura(html: str, options: Extraction) -> str:
    # Not at the top: only who asks for it needs to have it.
    import trafilatura

    tags = html.count("<") - html.count("</")
    if tags > _TRAFILATURA_TAGS:
        raise HostilePageError(f"the page has {tags} tags, more than the {_TRAFILATURA_TAGS} that trafilatura is given")
    # It looks for forums in JSON-LD with an expression that goes back over all that follows each "@type".
    if html.count('"@type"') * len(html) > _MAXIMUM_AREA:
        html = without_scripts(html)
    # Without this it takes a short page for no HTML.
    tree = trafilatura.load_html(html if "<html" in html[:1024].lower() else f"<html>{html}")
    if tree is None:
        return ""
    if tree.xpath("boolean(" + "/*" * _TRAFILATURA_DEPTH + ")"):
        raise HostilePageError(f"the page is nested {_TRAFILATURA_DEPTH} deep or more, which trafilatura cannot read")
    try:
        if not options.main_content:
            return str(trafilatura.html2txt(tree))
        text = trafilatura.extract(
            tree,
            fast=True,
            include_comments=options.comments,
            include_tables=options.tables,
            include_links=options.links,
        )
    except (RecursionError, AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"trafilatura fails on the page: {type(error).__name__}: {error}") from error
    return text or ""
