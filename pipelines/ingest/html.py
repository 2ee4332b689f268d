"""Bytes of a page → HTML → text; hostile pages end in bounded time.

    html = decode_text(body, "iso-8859-1")
    extract_text(html, main_content=True)

Decoding follows the WHATWG order: byte order mark, HTTP charset, ``meta``, detection. Text comes from Resiliparse.
"""

from __future__ import annotations

import codecs
import re
from functools import lru_cache

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5
from resiliparse.parse.html import HTMLTree

_META = re.compile(rb"""<meta[^>]{0,1024}?charset\s*=\s*["']?\s*([\w.:-]{2,40})""", re.IGNORECASE)
_XML = re.compile(rb"""\A\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w.:-]{2,40})["']""", re.IGNORECASE)
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_PRESCAN = 4096  # the WHATWG asks for 1024 bytes at least; long heads are common

# Main-content extraction visits all that lies in a div or an article once for each of them: its time grows with the
# characters times their depth. Measured: 3e8 is about 3 s. Pages of real crawls stay below 1e7.
_NESTING = ":is(div, article) "
_MAXIMUM_AREA = 300_000_000
_HARMLESS_DEPTH = 32

# The parser compares each attribute of a tag with those before it: 10,000 take 0.3 s, 100,000 half a minute.
_TAG = re.compile(r"""<[a-z](?:[^>=]++|=\s*+(?:"[^"]*+"|'[^']*+')?+)*+""", re.IGNORECASE)
_QUOTED = re.compile(r""""[^"]*+"|'[^']*+'""")
_SEPARATOR = re.compile(r"[\s/]+")
_LONG_TAG = 2048
_MAXIMUM_PAIRS = 400_000_000
_SMALL_PAGE = 65_536  # cannot hold more pairs than the limit


class HostilePageError(ValueError):
    """A page that is built so that parsing it takes out of proportion long."""


def decode_text(body: bytes, charset: str | None = None, markup: bool = True) -> str:
    """The characters of a page or a text file; bytes that make no sense become U+FFFD, and a BOM is left out.

    ``charset`` is what the HTTP header says. ``markup``: also look for what an HTML or XML head says.
    """
    for mark, encoding in _BOMS:
        if body.startswith(mark):
            return body[len(mark) :].decode(encoding, "replace")
    declared = _known(charset) or (_declared_in_markup(body[:_PRESCAN]) if markup else None)
    if declared is None:
        try:
            return body.decode("utf-8")
        except UnicodeDecodeError:
            return _decode(body, detect_encoding(body) or "utf-8")
    if declared != "utf-8":
        return _decode(body, declared)
    text = body.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    # A page that says UTF-8 and has more broken than whole multi-byte characters is in something else.
    if broken and 2 * broken > len(text) - len(text.encode("ascii", "ignore")):
        return _decode(body, detect_encoding(body) or "utf-8")
    return text


@lru_cache(maxsize=1024)
def _known(label: str | None) -> str | None:
    if not label:
        return None
    encoding = map_encoding_to_html5(label.strip().strip("\"'"), fallback_utf8=False)
    return encoding.lower() if encoding else None


def _declared_in_markup(head: bytes) -> str | None:
    found = _META.search(head) or _XML.search(head)
    encoding = _known(found[1].decode("ascii", "replace")) if found else None
    # What can be read as ASCII is no UTF-16, whatever it says (WHATWG HTML, section 13.2.3.2).
    return "utf-8" if encoding and encoding.startswith("utf-16") else encoding


def _decode(body: bytes, encoding: str) -> str:
    try:
        text = body.decode(encoding, "replace")
    except LookupError:
        return body.decode("utf-8", "replace")
    # Some codecs of Python (utf-16, utf-7) let lone surrogates through.
    return text.encode("utf-8", "replace").decode("utf-8") if not text.isascii() else text


def extract_text(html: str, main_content: bool = True) -> str:
    """The visible text of a page. Raises :class:`HostilePageError` for a page that cannot be parsed in reasonable time.

    A page nested so deeply that finding its main content takes too long gives all its visible text instead.
    """
    if len(html) > _SMALL_PAGE and _attribute_pairs(html) > _MAXIMUM_PAIRS:
        raise HostilePageError("a tag has too many attributes")
    if not main_content or len(html) * html.count("<") <= _MAXIMUM_AREA:
        return str(extract_plain_text(html, main_content=main_content))
    tree = HTMLTree.parse(html)
    depth = max(_MAXIMUM_AREA // len(html), _HARMLESS_DEPTH)
    too_deep = tree.document is not None and tree.document.query_selector(_NESTING * depth) is not None
    return str(extract_plain_text(tree, main_content=not too_deep))


def _attribute_pairs(html: str) -> int:
    """An upper bound of how many pairs of attributes the parser compares."""
    pairs = 0
    for tag in _TAG.finditer(html):
        if tag.end() - tag.start() > _LONG_TAG:
            pairs += len(_SEPARATOR.split(_QUOTED.sub(" ", tag[0]))) ** 2
    return pairs
