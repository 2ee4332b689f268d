"""Pages that are built to take time or memory, through the whole reader, with each extractor."""

from __future__ import annotations

import resource
import sys

import pytest
from resiliparse.parse.html import HTMLTree

from pipelines.ingest.extraction import extract_text
from pipelines.ingest.hostile import HostilePageError, defuse
from pipelines.ingest.options import Extraction, Ingest
from pipelines.job import load_job
from tests.ingest.building import gz, http, prose, read, record

TEXT = prose(1)
DEEP = 100_000
MEMORY = 1 << 30  # bytes above what the test run takes already

# A document, or the reject; trafilatura's last, where it differs.
HOSTILE = {
    "nested": ("<div>" * DEEP + TEXT + "</div>" * DEEP, "too_large"),
    "nested in comments": ("<div><!--</div>-->" * DEEP + TEXT, "too_large"),
    "articles": ('<div class="a"><article id=b>' * (DEEP // 4) + TEXT, "too_large"),
    "nested 2000 deep": ("<div>" * 2000 + TEXT + "</div>" * 2000, "document", "too_large"),
    "lists": ("<ul><li>" * (DEEP // 4) + TEXT, "any"),
    "tables": ("<table><tr><td>" * (DEEP // 4) + TEXT, "any"),
    "blockquotes": ("<blockquote>" * (DEEP // 4) + TEXT, "any"),
    "misnested": ("<a><b><i><p>x" * (DEEP // 5), "any"),
    "attributes": ("<p " + " ".join(f"a{n}=1" for n in range(DEEP)) + ">x", "too_large"),
    "quoted attributes": ("<p " + " ".join(f'a{n}="<>"' for n in range(DEEP)) + ">x", "too_large"),
    "open quotes": ('<a ="' * DEEP, "too_large"),
    "formatting opened again": ("".join(f"<p><font c={n}>x</p>" for n in range(20_000)), "too_large"),
    "formatting left open": ("".join(f"<font c={n}>" for n in range(DEEP)) + "<p>x" * 1000, "too_large"),
    "end tags of nothing": ("<x>" * DEEP + "</y>" * DEEP, "too_large"),
    "end tags in tables": ("<b><table></b>" * DEEP, "too_large"),
    "SVG": ("<svg>" + "<g>" * DEEP + "</q>" * DEEP, "too_large"),
    "SVG that hides in a title": ("<svg><title>" + "<g>" * DEEP + "</q>" * DEEP, "too_large"),
    "SVG that hides in CDATA": ("<svg><![CDATA[<!--]]>" + "<g>" * DEEP + "</q>" * DEEP, "too_large"),
    "paragraphs in deep elements": ("<x>" * DEEP + "<p></p>" * DEEP, "too_large"),
    "options": ("<main><p>" + TEXT + "</p><select>" + "<option>x" * DEEP + "</select></main>", "document"),
    "bodies": ("".join(f"<body a{n}=1>" for n in range(DEEP)) + f"<p>{TEXT}</p>", "document"),
    "tags": ("<i></i>" * 1_100_000, "too_large"),
    "entities": ("<p>" + "&amp;&lt;&nbsp;&#x41;&bogus;&#99999999;" * DEEP, "document"),
    "an endless entity": ("<p>text &#" + "9" * 2_000_000, "any"),
    "entity declarations": (
        '<!DOCTYPE html [<!ENTITY a "aaaaaaaaaa">'
        + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
        + f"]><html><body><p>&i;&i;&i; {TEXT}</p></body></html>",
        "document",
    ),
    "JSON-LD": ('<script type="application/ld+json">' + '"@type": [' * DEEP + f"</script><p>{TEXT}</p>", "document"),
    "nul": ("\0" * DEEP + f"<p>{TEXT}</p>", "document"),
    "nul within tags": (f"<di\0v>\0<p\0>{TEXT}</p>\0</div>", "any"),
    "nul alone": ("\0" * DEEP, "no_text"),
    "angle brackets": ("<" * DEEP, "any"),
    "comments without end": ("<!--" * DEEP, "no_text", "too_large"),
    "surrogates in entities": (f"<p>&#xD800; &#xDFFF; {TEXT}</p>", "document"),
}


def page(source: str | bytes, *headers: str) -> bytes:
    body = source if isinstance(source, bytes) else source.encode()
    return record(http(body, *(headers or ("Content-Type: text/html; charset=utf-8",))))


def find_declarations(source, headers):
    # What inspects a page is spared what its parser cannot bear, too.
    HTMLTree.parse(source)
    return []


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def extraction(extractor):
    if extractor == "trafilatura":
        pytest.importorskip("trafilatura")
    return Extraction(extractor=extractor)


@pytest.mark.parametrize("extractor", ["resiliparse", "trafilatura"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pages_end_in_a_document_or_the_right_reject(name, extractor):
    source, *wanted = HOSTILE[name]
    before = peak()
    pages = page(source) + page(f"<main><p>{TEXT}</p></main>")
    found = read(pages, "x.warc", find_declarations, extraction=extraction(extractor))
    assert peak() - before < MEMORY
    assert len(found.documents) + len(found.rejects) == 2
    assert found.documents[-1]["text"].strip() == TEXT, "the page after it is read as ever"
    outcome = wanted[-1] if extractor == "trafilatura" else wanted[0]
    if outcome == "document":
        assert found.rejects == []
        assert "\ud800" not in found.documents[0]["text"]
    elif outcome != "any":
        assert found.reasons == {outcome: 1}
        assert outcome == "no_text" or found.rejects[0]["detail"]


@pytest.mark.parametrize("extractor", ["resiliparse", "trafilatura"])
def test_fifty_megabytes_are_one_reject(extractor):
    large = page(b"<p>" + b"x" * (50 << 20))
    packed = page(gz(b"<p>" + b"x" * (50 << 20)), "Content-Type: text/html", "Content-Encoding: gzip")
    found = read(large + packed, "x.warc", extraction=extraction(extractor))
    assert found.reasons == {"too_large": 2}
    assert all("52428803" in row["detail"] for row in found.rejects)


@pytest.mark.parametrize("coding", ["utf-16-le", "utf-16-be"])
def test_unpaired_surrogates_become_replacement_characters(coding):
    mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}[coding]
    lone = "\ud800".encode(coding, "surrogatepass")
    body = mark + "<p>one ".encode(coding) + lone + f" {TEXT}</p>".encode(coding)
    (document,) = read(page(body, "Content-Type: text/html")).documents
    assert document["text"] == f"one \ufffd {TEXT}"
    (document,) = read(page(b"<p>\xed\xa0\x80 " + TEXT.encode())).documents
    assert document["text"].endswith(TEXT)
    assert "\ud800" not in document["text"]


def test_an_ordinary_large_page_keeps_to_its_main_content():
    source = "<html><body><nav><ul>" + "<li><a href=/x>menu</a></li>" * 50 + "</ul></nav><main>"
    source += "".join(f"<div><div><p>{prose(n)}</p></div></div>" for n in range(2000)) + "</main></body></html>"
    assert "menu" not in extract_text(source, Extraction())
    assert prose(1999) in extract_text(source, Extraction())
    assert "menu" in extract_text(source, Extraction(main_content=False))


def test_large_pages_that_only_look_hostile_are_left_alone():
    script = "<script>" + "if(x<a b){c d}" * 20_000 + "</script>"
    table = "<table>" + "<tr><td><font color=red>7</font><td><b>8</b><p>9" * 20_000 + "</table>"
    links = "<ul>" + '<li><a href="/x" title="a > b"><i class=icon></i> link</a>' * 20_000
    sloppy = "<p><b>bold<p><font size=2>small" * 20_000
    for source in (script, table, links, sloppy):
        assert TEXT in extract_text(source + f"<main><p>{TEXT}</p></main>", Extraction(main_content=False))


def test_what_is_taken_out_shows_nothing():
    assert defuse("<p>a</p>") == "<p>a</p>"
    assert (
        defuse("<select>" + "<option value='>'>x</option>" * 20_000 + "</select>")
        == "<select>" + "x" * 20_000 + "</select>"
    )
    with pytest.raises(HostilePageError, match="attributes"):
        defuse(HOSTILE["attributes"][0])


def test_the_switches_mean_the_same_with_each_extractor():
    pytest.importorskip("trafilatura")
    source = (
        "<html><body><nav><a href=/m>menu</a></nav><article><h1>Title</h1>"
        + "".join(f"<p>{prose(n)}</p>" for n in range(5))
        + f'<p>See <a href="https://a.example/">the page</a> {prose(6)}</p><table><tr><td>cell one</td><td>cell two'
        + "</td></tr><tr><td>cell three</td><td>cell four</td></tr></table></article>"
        + f'<div id="comments" class="comments"><p>A reader says: {prose(9)}</p></div></body></html>'
    )
    for extractor in ("resiliparse", "trafilatura"):
        text = extract_text(source, Extraction(extractor=extractor))
        assert prose(3) in text
        assert "cell one" in text
        assert "menu" not in text
        assert "A reader says" not in text
        assert "https://a.example/" not in text
        assert "cell one" not in extract_text(source, Extraction(extractor=extractor, tables=False))
        assert "https://a.example/" in extract_text(source, Extraction(extractor=extractor, links=True))
        everything = extract_text(source, Extraction(extractor=extractor, main_content=False))
        assert "A reader says" in everything


def test_a_missing_extractor_is_named_when_the_job_is_read(monkeypatch):
    monkeypatch.setitem(sys.modules, "trafilatura", None)
    with pytest.raises(Exception, match=r"human-reserve\[trafilatura\]"):
        load_job(None, sets=["ingest.extraction.extractor=trafilatura"])
    assert load_job(None, sets=["ingest.extraction.comments=true"]).ingest.extraction.comments


def test_the_extraction_is_part_of_the_options():
    with pytest.raises(ValueError, match="extra"):
        Ingest.model_validate({"main_content": False})
    with pytest.raises(ValueError, match="extractor"):
        Ingest.model_validate({"extraction": {"extractor": "lynx"}})
