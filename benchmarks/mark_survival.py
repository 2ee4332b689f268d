"""Which marks of machine text survive which text extractor, and what the checks on the page still see.

    python -m benchmarks.mark_survival                              # prints the table
    python -m benchmarks.mark_survival --write docs/mark-survival.md

Each mark is put into a generated article page, once in the middle of a word, once between words, once at the end and
once at the start of a paragraph. A cell says how many of its occurrences are left in the extracted text, of those
places whose ordinary text the extractor keeps at all: all, none, or some with the counts. Extractors that are not
installed have no column. The last two columns are this project's own: the kinds of evidence that the check of the page
finds, and those that the check of the default extractor's text finds.
"""

from __future__ import annotations

import argparse
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from html import unescape
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NamedTuple

from pipelines.checks import Checks
from pipelines.ingest.extraction import extract_text
from pipelines.ingest.options import Extraction
from pipelines.job import Inspect
from pipelines.neardup.options import NearDup
from pipelines.provenance.hidden import hidden_characters
from pipelines.provenance.leaks import leaked_phrases
from pipelines.records import Evidence
from watermark.c2pa_text import wrap

_CONTROL = "qzx"
_PLACE = "\x1a"
_MARKS = ("<!-- table: begin -->", "<!-- table: end -->")
_PARAGRAPHS = (
    "The harbour of the old town opens to the north, and in win\x1ater the boats stay at their moorings for weeks.",
    "A narrow street leads up from the quay to the market, where the farmers of \x1athe valley sell their cheese.",
    "Nobody remembers who built the tower, but the stones are those of the abbey that burned down long before.\x1a",
    "\x1aVisitors come for the view from the top of it, since on clear days one sees the islands and the lighthouse.",
)


class Mark(NamedTuple):
    """``inline`` goes into the text at each place, ``head`` and ``attribute`` into the page; ``needle`` is searched."""

    name: str
    needle: str
    inline: str = ""
    head: str = ""
    attribute: str = ""


class Column(NamedTuple):
    """A text layer: the page's HTML to its text."""

    name: str
    text: Callable[[str], str]


def character(name: str, mark: str) -> Mark:
    return Mark(name, mark, mark)


def marks() -> list[Mark]:
    bits = "".join(f"{byte:08b}" for byte in b"hidden").translate({48: "\u200b", 49: "\u200c"})
    references = "".join(f"&#{ord(bit)};" for bit in bits)
    supplement = "".join(chr(0xE0100 + byte - 16) for byte in b"hidden")
    tags = "".join(chr(0xE0000 + byte) for byte in b"hidden")
    phrase = "As an AI language model, I cannot say"
    stated = '{"@type": "Article", "digitalSourceType": "trainedAlgorithmicMedia"}'
    ld = f'<script type="application/ld+json">{stated}</script>'
    return [
        character("U+FEFF zero-width no-break space", "\ufeff"),
        character("U+200B zero-width space", "\u200b"),
        character("U+200C zero-width non-joiner", "\u200c"),
        character("U+200D zero-width joiner", "\u200d"),
        character("U+2060 word joiner", "\u2060"),
        character("U+202F narrow no-break space", "\u202f"),
        character("U+00A0 no-break space", "\u00a0"),
        character("U+00AD soft hyphen", "\u00ad"),
        character("U+202E, U+202C directional override", "\u202eab\u202c"),
        character("zero-width binary message", bits),
        Mark("zero-width binary message, as character references", bits, references),
        character("C2PA text wrapper (A.8)", wrap(b"jumb")),
        character("variation selectors of the supplement", "a" + supplement),
        character("tag characters U+E00xx", tags),
        character("private use, U+E200 to U+E202", "\ue200cite\ue202turn0search0\ue201"),
        character("look-alike letter (Cyrillic U+0435)", "\u0435"),
        character("combining acute (e, U+0301)", "e\u0301"),
        character("ligature U+FB01", "\ufb01"),
        character("full-width letter U+FF41", "\uff41"),
        character("two spaces", "e  e"),
        character("space before a line end", "e \n"),
        character("curly quotes", "“e”"),
        character("em dash", "—"),
        character("citation token turn0search0", "citeturn0search0"),
        Mark("phrase in a chatbot's voice", f"{phrase}.", f" {phrase}. "),
        Mark("meta ai-disclosure", "ai-generated", head='<meta name="ai-disclosure" content="ai-generated">'),
        Mark("meta generator", "KoalaWriter", head='<meta name="generator" content="KoalaWriter">'),
        Mark("JSON-LD digitalSourceType", "trainedAlgorithmicMedia", head=ld),
        Mark("attribute ai-disclosure", "ai-generated", attribute=' ai-disclosure="ai-generated"'),
        Mark("comment", "ai-generated", head="<!-- ai-generated -->"),
        Mark("C2PA manifest in a script", "anVtYg", head='<script type="application/c2pa">anVtYg</script>'),
        Mark("C2PA manifest by link", "a.c2pa", head='<link rel="c2pa-manifest" href="/a.c2pa">'),
        Mark("robots noai", "noai", head='<meta name="robots" content="noai">'),
    ]


def page(mark: Mark | None = None, control: bool = False) -> str:
    """An article page with the mark at each place; with ``control``, an ordinary word there."""
    inline = _CONTROL if control else mark.inline if mark else ""
    paragraphs = "".join(f"<p>{text.replace(_PLACE, inline)} {' '.join(_sentences(text))}</p>" for text in _PARAGRAPHS)
    head, attribute = (mark.head, mark.attribute) if mark else ("", "")
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>The harbour</title>{head}</head>'
        f'<body><nav><a href="/">Start</a></nav><main><article{attribute}><h1>The harbour</h1>{paragraphs}</article>'
        "</main><footer>Imprint</footer></body></html>"
    )


def _sentences(text: str) -> Iterator[str]:
    """More of the same length, so that an extractor takes the paragraph for content."""
    words = text.replace(_PLACE, "").rstrip(".").split()
    yield " ".join([words[-1].capitalize(), *words[1:-1]]) + "."
    yield " ".join(["There", *words[2:]]) + "."


def columns() -> list[Column]:
    """Our own extraction, the other extractors that can be imported, and Unicode normalisation of the text alone."""
    ours = f"resiliparse {version('resiliparse')}"
    found = [
        Column(f"{ours}, main content (default)", lambda html: extract_text(html, Extraction())),
        Column(f"{ours}, all text", lambda html: extract_text(html, Extraction(main_content=False))),
    ]
    for package, module, text in (
        ("trafilatura", "trafilatura", lambda module, html: module.extract(html) or ""),
        ("justext", "justext", _justext),
        ("lxml", "lxml.html", lambda module, html: module.fromstring(html).text_content()),
        ("readability-lxml", "readability", _readability),
        ("html2text", "html2text", lambda module, html: module.html2text(html)),
        ("beautifulsoup4", "bs4", lambda module, html: module.BeautifulSoup(html, "html.parser").get_text()),
    ):
        try:
            loaded = import_module(module)
        except ImportError:
            continue
        found.append(Column(f"{package} {version(package)}", partial(text, loaded)))
    forms: tuple[Literal["NFC", "NFKC"], ...] = ("NFC", "NFKC")
    for form in forms:
        found.append(Column(f"{form} of the text", partial(_normalised, form)))
    return found


def _normalised(form: Literal["NFC", "NFKC"], html: str) -> str:
    return unicodedata.normalize(form, _visible(html))


def _visible(html: str) -> str:
    """The text of the body, character for character; enough for pages that :func:`page` makes."""
    return unescape(re.sub(r"<[^>]*>", "\n", html.partition("</head>")[2]))


def _justext(module: object, html: str) -> str:
    english = module.get_stoplist("English")  # type: ignore[attr-defined]
    paragraphs = module.justext(html.encode(), english)  # type: ignore[attr-defined]
    return "\n".join(paragraph.text for paragraph in paragraphs if not paragraph.is_boilerplate)


def _readability(module: object, html: str) -> str:
    from lxml.html import fromstring

    return str(fromstring(module.Document(html).summary()).text_content())  # type: ignore[attr-defined]


def survival(mark: Mark, column: Column) -> tuple[int, int]:
    """How many occurrences are left, and of how many places the ordinary text is."""
    if not mark.inline:
        return min(1, column.text(page(mark)).count(mark.needle)), 1
    places = column.text(page(control=True)).count(_CONTROL)
    before = column.text(page()).count(mark.needle)
    return max(0, column.text(page(mark)).count(mark.needle) - before), places


def found_kinds(mark: Mark) -> tuple[list[str], list[str]]:
    """The kinds of evidence that the checks of the page and of its text find because of the mark."""
    checks = Checks(Inspect(), None, NearDup())

    def kinds(findings: Sequence[Evidence]) -> set[str]:
        return {finding.kind for finding in findings}

    def of_text(html: str) -> set[str]:
        text = extract_text(html, Extraction())
        return kinds(leaked_phrases(text)) | kinds(hidden_characters(text))

    plain, marked = page(), page(mark)
    on_page = kinds(checks.page(marked, {})) - kinds(checks.page(plain, {}))
    return sorted(on_page), sorted(of_text(marked) - of_text(plain))


def table() -> list[str]:
    layers = columns()
    names = ["mark", *(column.name for column in layers), "found in the page", "found in the text"]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for mark in marks():
        cells = [mark.name, *(_cell(*survival(mark, column)) for column in layers)]
        cells += [", ".join(f"`{kind}`" for kind in kinds) or "–" for kinds in found_kinds(mark)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _cell(left: int, places: int) -> str:
    if places == 0:
        return "no text"
    return "none" if left == 0 else "all" if left >= places else f"some ({left} of {places})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", help="file whose table is replaced")
    options = parser.parse_args()
    lines = table()
    print("\n".join(lines))
    if options.write:
        path = Path(options.write)
        before, rest = path.read_text("utf-8").split(_MARKS[0])
        path.write_text("\n".join([before + _MARKS[0], *lines, _MARKS[1] + rest.split(_MARKS[1])[1]]), "utf-8")


if __name__ == "__main__":
    main()
