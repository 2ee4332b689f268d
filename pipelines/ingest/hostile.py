"""Pages on which an HTML parser takes time or memory out of proportion: made harmless where possible, else refused.

    html = defuse(html)   # HostilePageError: no text can be had in reasonable time

The tree construction of HTML (WHATWG HTML, section 13.2.6) is not linear. An end tag may walk up the whole stack of
open elements; each paragraph opens all formatting elements again that were left open; a tag's attributes are compared
with each other. Real pages have none of that in numbers. What is measured here is a bound on those steps, so that the
same page is refused on every machine.
"""

from __future__ import annotations

import re

_I = re.IGNORECASE
_IS = re.IGNORECASE | re.DOTALL

# Measured with Lexbor: an attribute that is compared costs 7 ns, an open element that is walked over 13 ns, a pair of
# formatting elements that are opened again 2 ns. The limits come to some seconds.
_MAXIMUM_PAIRS = 400_000_000
_MAXIMUM_STEPS = 500_000_000
_STEPS_PER_ELEMENT = 5
_SMALL_PAGE = 65_536  # characters; cannot hold more pairs of attributes than the limit
_LONG_TAG = 2048  # characters; shorter tags do not count
_MAXIMUM_TAGS = 1_000_000  # an element with its text takes some 450 bytes; large real pages have 10,000
_LOOK_BACK = 64  # open elements; what is further up counts as not found, which only makes the bound larger
_MANY_ROOTS = 1000  # their attributes are gathered in one element, and compared
_MANY_TAGS = 10_000  # so many options of a list, or roots with attributes, take a second; twice as many four
_IDENTICAL = 3  # how many formatting elements with the same attributes are opened again

_ATTRIBUTES = r"""(?:[^>=]++|=\s*+(?:"[^"]*+"|'[^']*+')?+)*+"""
# Patterns that run on all pages spell both cases out: ignoring case takes several times as long.
_TAG = re.compile(rf"<[A-Za-z]{_ATTRIBUTES}")
_QUOTED = re.compile(r""""[^"]*+"|'[^']*+'""")
_SEPARATOR = re.compile(r"[\s/]+")
_SCRIPT = re.compile(r"<(script|style)\b[^>]*>.*?(?:</\1[\s/>]|\Z)", _IS)
_OPTION = re.compile(rf"</?(?:option|optgroup)(?=[\s/>]){_ATTRIBUTES}>", _I)
_ROOT = re.compile(rf"<(?:html|body)(?=[\s/>]){_ATTRIBUTES}>", _I)
_FORMATTED = re.compile(
    r"<(?:[BbIiSsUu]|[Bb][Ii][Gg]|[Cc][Oo][Dd][Ee]|[Ee][Mm]|[Ff][Oo][Nn][Tt]|[Nn][Oo][Bb][Rr]|[Ss][Mm][Aa][Ll][Ll]"
    r"|[Ss][Tt][Rr][Ii][Kk][Ee]|[Ss][Tt][Rr][Oo][Nn][Gg]|[Tt][Tt])[\s/>]"
)
_TOKEN = re.compile(rf"<!--|<(/?)([a-z][^\s/>]*+)({_ATTRIBUTES})", _I)


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FORMATTING = _names("a b big code em font i nobr s small strike strong tt u")
_RAW = _names("script style textarea title xmp iframe noembed noframes")
_VOID = _names("area base basefont bgsound br col embed frame hr img input keygen link meta param source track wbr")
_SCOPE = _names(
    "applet caption html table td th marquee object template select svg math foreignobject desc mi mo mn ms mtext"
)
_BLOCK = _names(
    "address article aside blockquote body center dd details dialog dir div dl dt fieldset figcaption figure footer"
    " form h1 h2 h3 h4 h5 h6 header hgroup hr li listing main menu nav ol p pre search section summary table ul xmp"
)
_SPECIAL = _SCOPE | _BLOCK | _RAW | _VOID | _names("button colgroup head tbody tfoot thead tr")
_STARTS_CLOSE = {
    "li": (_names("li"), _SPECIAL - _names("address div p li")),
    "dd": (_names("dd dt"), _SPECIAL - _names("address div p dd dt")),
    "dt": (_names("dd dt"), _SPECIAL - _names("address div p dd dt")),
    "option": (_names("option"), _SCOPE),
    "optgroup": (_names("option optgroup"), _SCOPE),
    "td": (_names("td th"), _names("table template")),
    "th": (_names("td th"), _names("table template")),
    "tr": (_names("tr"), _names("table template")),
    "tbody": (_names("tbody thead tfoot"), _names("table template")),
    "thead": (_names("tbody thead tfoot"), _names("table template")),
    "tfoot": (_names("tbody thead tfoot"), _names("table template")),
    "button": (_names("button"), _SCOPE),
    "a": (_names("a"), _SCOPE),
}
_PARAGRAPH = (_names("p"), _SCOPE | {"button"})


class HostilePageError(ValueError):
    """A page that is built so that parsing it takes out of proportion long."""


def defuse(html: str) -> str:
    """The page, without what shows nothing and costs much; every text that a reader sees stays.

    Raises :class:`HostilePageError` where parsing takes out of proportion long all the same.
    """
    tags = html.count("<")
    if tags > _MAXIMUM_TAGS:
        raise HostilePageError(f"the page has {tags} tags, more than {_MAXIMUM_TAGS}")
    if tags > _MANY_TAGS:
        html = _OPTION.sub("", html)
        if sum(1 for _ in _ROOT.finditer(html)) > _MANY_ROOTS:
            html = _ROOT.sub("", html)
    if len(html) > _SMALL_PAGE and _attribute_pairs(html) > _MAXIMUM_PAIRS:
        # A script may look like a tag with no end.
        html = without_scripts(html)
        if _attribute_pairs(html) > _MAXIMUM_PAIRS:
            raise HostilePageError("a tag has too many attributes")
    tags = html.count("<")
    if tags**3 > _MAXIMUM_STEPS:
        again = len(_FORMATTED.findall(html))
        suspect = again * again * tags > _MAXIMUM_STEPS or tags * tags // 4 * _STEPS_PER_ELEMENT > _MAXIMUM_STEPS
        if suspect and _steps(html) > _MAXIMUM_STEPS:
            raise HostilePageError("too many elements are open at once")
    return html


def without_scripts(html: str) -> str:
    """The page without the scripts and style sheets, which show nothing."""
    return _SCRIPT.sub("", html)


def _attribute_pairs(html: str) -> int:
    """An upper bound of how many pairs of attributes the parser compares."""
    pairs = 0
    for tag in _TAG.finditer(html):
        if tag.end() - tag.start() > _LONG_TAG:
            pairs += len(_SEPARATOR.split(_QUOTED.sub(" ", tag[0]))) ** 2
    return pairs


def _steps(html: str) -> int:
    """A bound on the steps of tree construction, over the limit as soon as that is known."""
    construction = _Construction(foreign="<svg" in (lower := html.lower()) or "<math" in lower)
    steps = 0
    hidden = 0  # index up to which the characters are a comment or raw text
    for token in _TOKEN.finditer(html):
        if token[2] is None:
            if token.start() >= hidden:
                end_of_comment = html.find("-->", token.start() + 2)
                hidden = len(html) if end_of_comment < 0 else end_of_comment
            continue
        name = token[2].lower()
        if token.start() < hidden:
            # In SVG and MathML these may end elsewhere: then what opens in them counts, and what ends may not.
            if not construction.foreign:
                continue
            if not token[1]:
                construction.start(name, token[3])
        elif token[1]:
            construction.end(name)
        else:
            construction.start(name, token[3])
            if name in _RAW:
                end = re.compile(rf"</{name}[\s/>]", _I).search(html, token.end())
                hidden = end.start() if end else len(html)
        steps += _STEPS_PER_ELEMENT * len(construction.open)
        if name in _SPECIAL:
            steps += construction.listed**2
        if steps > _MAXIMUM_STEPS:
            break
    return steps


class _Construction:
    """The stack of open elements and the list of formatting elements, as far as their lengths go; rather too long."""

    def __init__(self, foreign: bool) -> None:
        self.foreign = foreign
        self.open: list[str] = []
        self.listed = 0
        self._entries: dict[str, list[str]] = {}  # attributes of the listed elements by name

    def start(self, name: str, attributes: str) -> None:
        if name in _BLOCK:
            self._close(*_PARAGRAPH)
        if name in _STARTS_CLOSE:
            self._close(*_STARTS_CLOSE[name])
        if name in _VOID or (self.foreign and attributes.endswith("/")):
            return
        self.open.append(name)
        if name in _FORMATTING and name != "a":
            entries = self._entries.setdefault(name, [])
            if entries[-_IDENTICAL:].count(attributes) < _IDENTICAL:
                entries.append(attributes)
                self.listed += 1

    def end(self, name: str) -> None:
        if name in _FORMATTING:
            index = self._find(frozenset((name,)), _SCOPE)
            if index >= 0:
                del self.open[index]
            if (index >= 0 or name not in self.open[-_LOOK_BACK:]) and self._entries.get(name):
                self._entries[name].pop()
                self.listed -= 1
        elif name == "p":
            self._close(*_PARAGRAPH)
        else:
            self._close(frozenset((name,)), _SCOPE - {name} if name in _SPECIAL else _SPECIAL)

    def _close(self, names: frozenset[str], barrier: frozenset[str]) -> None:
        index = self._find(names, barrier)
        if index >= 0:
            del self.open[index:]

    def _find(self, names: frozenset[str], barrier: frozenset[str]) -> int:
        opened = self.open
        for index in range(len(opened) - 1, max(len(opened) - _LOOK_BACK, 0) - 1, -1):
            if opened[index] in names:
                return index
            if opened[index] in barrier:
                return -1
        return -1
