"""Bytes of a page → characters, in the order of the WHATWG: byte order mark, HTTP charset, ``meta``, detection.

html = decode_text(body, "iso-8859-1")
"""

from __future__ import annotations

import codecs
import re
from functools import lru_cache

from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

_META = re.compile(rb"""<meta[^>]{0,1024}?charset\s*=\s*["']?\s*([\w.:-]{2,40})""", re.IGNORECASE)
_XML = re.compile(rb"""\A\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w.:-]{2,40})["']""", re.IGNORECASE)
_BOMS = (
    # A UTF-16 text that starts with NUL is none.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# The encodings of the WHATWG are larger than the codecs of Python under the same names.
_LARGER = {
    "euc_kr": "cp949",
    "shift_jis": "cp932",
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "iso8859-11": "cp874",
    "iso2022_jp": "iso2022_jp_2",
}
_PRESCAN = 4096  # the WHATWG asks for 1024 bytes at least; long heads are common


def decode_text(body: bytes, charset: str | None = None, markup: bool = True) -> str:
    """The characters of a page or a text file; bytes that make no sense become U+FFFD, and a BOM is left out.

    ``charset`` is what the HTTP header says. ``markup``: also look for what an HTML or XML head says.
    """
    for mark, encoding in _BOMS:
        if body.startswith(mark):
            return body[len(mark) :].decode(encoding, "replace")
    declared = _known(charset) or (_declared_in_markup(body[:_PRESCAN]) if markup else None)
    if declared is None and (wide := _wide(body)):
        return _decode(body, wide)
    if declared is None:
        try:
            return body.decode("utf-8")
        except UnicodeDecodeError:
            return _decode(body, _known(detect_encoding(body)) or "utf-8")
    if declared != "utf-8":
        return _decode(body, declared)
    text = body.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    # A page that says UTF-8 and has more broken than whole multi-byte characters is in something else.
    if broken and 2 * broken > len(text) - len(text.encode("ascii", "ignore")):
        return _decode(body, _known(detect_encoding(body)) or "utf-8")
    return text


@lru_cache(maxsize=1024)
def _known(label: str | None) -> str | None:
    if not label:
        return None
    encoding = map_encoding_to_html5(label.strip().strip("\"'"), fallback_utf8=False)
    return _LARGER.get(encoding.lower(), encoding.lower()) if encoding else None


def _wide(body: bytes) -> str | None:
    """UTF-16 without a mark, where nearly every second byte is NUL, as in texts that are mostly Latin."""
    head = body[:512]
    half = len(head) // 2
    if half < 8:
        return None
    even, odd = head[::2].count(0), head[1::2].count(0)
    if odd > 0.7 * half and even < 0.1 * half:
        return "utf-16-le"
    return "utf-16-be" if even > 0.7 * half and odd < 0.1 * half else None


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
