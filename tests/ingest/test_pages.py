"""WARC records to documents: HTTP, encodings, content types, hostile pages."""

from __future__ import annotations

import time
import zlib

import brotli
import pytest
import zstandard

from pipelines.ingest.html import HostilePageError, decode_text, extract_text
from pipelines.ingest.http import CodingError, dechunk, decode_body, parse_response
from pipelines.records import Evidence
from tests.ingest.building import gz, html, http, join, prose, read, record

TEXT = prose(1)
BODY = html(TEXT)
RAW = zlib.compressobj(6, zlib.DEFLATED, -15)
CODINGS = {
    "gzip": gz(BODY),
    "x-gzip": gz(BODY[:50]) + gz(BODY[50:]),
    "deflate": zlib.compress(BODY),
    "Deflate": RAW.compress(BODY) + RAW.flush(),
    "br": brotli.compress(BODY),
    "zstd": zstandard.ZstdCompressor().compress(BODY),
    "identity": BODY,
    "utf-8": BODY,
    "gzip, br": brotli.compress(gz(BODY)),
}


def one(block: bytes, **options):
    return read(record(block, **options))


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("decoded", [False, True], ids=["encoded", "already decoded"])
def test_content_codings(coding, decoded):
    found = one(http(BODY if decoded else CODINGS[coding], "Content-Type: text/html", f"Content-Encoding: {coding}"))
    assert [row["text"] for row in found.documents] == [TEXT]
    plain = one(http(BODY))
    assert found.documents[0]["doc_id"] == plain.documents[0]["doc_id"]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "compress"])
def test_a_coding_that_cannot_be_undone_is_a_reject(coding):
    body = bytearray(CODINGS.get(coding, b"\x1f\x9d\x90abc"))
    body[len(body) // 2 :] = b"\x00\xff" * 20
    found = one(http(bytes(body), "Content-Type: text/html", f"Content-Encoding: {coding}"))
    assert found.reasons == {"encoding": 1}


def test_a_body_that_the_crawler_cut_off_is_read_as_far_as_it_goes():
    cut = gz(html(prose(3, 3000)))[:-200]
    response = http(cut, "Content-Type: text/html", "Content-Encoding: gzip")
    assert one(response).reasons == {"encoding": 1}
    assert len(one(response, extra=["WARC-Truncated: length"]).documents) == 1


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_bombs_are_too_large(coding):
    bomb = bytes(30_000_000)
    body = {
        "gzip": lambda: gz(bomb),
        "deflate": lambda: zlib.compress(bomb),
        "br": lambda: brotli.compress(bomb, quality=1),
        "zstd": lambda: zstandard.ZstdCompressor().compress(bomb),
    }[coding]()
    found = read(
        record(http(body, "Content-Type: text/html", f"Content-Encoding: {coding}")), maximum_record_bytes=1 << 20
    )
    assert found.reasons == {"too_large": 1}


def chunked(body: bytes, size: int) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x;x=1\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def test_chunked_bodies():
    assert dechunk(chunked(BODY, 10)) == BODY
    assert dechunk(BODY) == BODY
    assert dechunk(b"bad\r\nplain text that starts with a hex word") == b"bad\r\nplain text that starts with a hex word"
    assert dechunk(chunked(BODY, 10)[:-40]) == BODY[:-16] or BODY.startswith(dechunk(chunked(BODY, 10)[:-40]))
    assert dechunk(b"") == b""
    with pytest.raises(CodingError):
        dechunk(chunked(BODY, 10)[:60].replace(b"\r\na;", b"\r\nzz;", 3) + b"zz\r\nmore")
    found = one(
        http(
            chunked(CODINGS["gzip"], 7),
            "Content-Type: text/html",
            "Transfer-Encoding: chunked",
            "CONTENT-ENCODING: GZIP",
        )
    )
    assert [row["text"] for row in found.documents] == [TEXT]


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200\r\nContent-Type: text/html\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Type: text/html\n\n",
        b"HTTP/1.0 200 OK\r\ncontent-TYPE :text/html\r\nX: 1\r\nX: 2\r\n folded\r\n\r\n",
        b"HTTP/2 200 \r\n\r\n",
        b"http/1.1 200 OK\r\nContent-Type: ;;;\r\nno colon here\r\n\r\n",
    ],
)
def test_tolerant_heads(head):
    assert [row["text"] for row in one(head + BODY).documents] == [TEXT]


def test_repeated_headers_are_joined():
    response = parse_response(b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\n  3\r\n\r\nbody")
    assert response == (200, {"x-a": "1, 2 3"}, b"body")
    assert decode_body(response, 10) == b"body"


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (http(BODY, status="HTTP/1.1 404 Not Found"), "http_status"),
        (http(BODY, "Content-Type: image/png"), "content_type"),
        (http(b"%PDF-1.4 and so on", "Content-Type: text/html"), "content_type"),
        (http(b"\x00\x01\x02\x03", "Content-Type: application/octet-stream"), "content_type"),
        (http(b""), "no_text"),
        (http(b" \r\n\t"), "no_text"),
        (http(b"<html><body><script>var a=1</script></body></html>"), "no_text"),
        (http(" \u00a0\u3000".encode(), "Content-Type: text/plain"), "no_text"),
        (b"GET / nothing", "bad_record"),
        (b"", "bad_record"),
    ],
)
def test_rejected_responses(block, reason):
    assert one(block).reasons == {reason: 1}


@pytest.mark.parametrize("kind", ["warcinfo", "request", "metadata", "revisit", "continuation", "strange"])
def test_records_that_are_no_pages(kind):
    found = one(b"x: y", kind=kind)
    assert [(row["reason"], row["detail"]) for row in found.rejects] == [("not_a_page", kind)]


def test_resources_on_the_web_are_pages_and_a_crawlers_own_are_not():
    resource = record(BODY, 1, kind="resource", content_type="text/html")
    own = resource.replace(b"https://site1.example/page", b"metadata://crawler/log")
    found = read(resource + own)
    assert [row["text"] for row in found.documents] == [TEXT]
    assert found.reasons == {"not_a_page": 1}


def test_a_date_that_cannot_be_read_is_null_and_leaves_a_trace():
    found = read(record(http(BODY)).replace(b"2020-01-02T03:04:00Z", b"the day before"))
    assert found.documents[0]["captured_at"] is None
    assert found.documents[0]["evidence"][0]["detail"] == "the day before"


def test_inspect_page_sees_the_html_and_the_headers_and_fills_the_evidence():
    seen = []

    def inspect(page, headers):
        seen.append((page, dict(headers)))
        return [Evidence("declaration", "declared", detail="here")]

    shard = join(
        [record(http(BODY, "Content-Type: text/html", "X-AI: Yes"), 1), record(http(BODY, "Content-Type: a/b"), 2)]
    )
    found = read(shard.data, inspect_page=inspect)
    assert seen == [(BODY.decode(), {"content-type": "text/html", "x-ai": "Yes"})]
    assert [item["kind"] for item in found.documents[0]["evidence"]] == ["declared"]


@pytest.mark.parametrize(
    ("body", "charset", "expected"),
    [
        ("Größe".encode("latin-1"), "ISO-8859-1", "Größe"),
        ("Größe".encode(), "iso-8859-1", "GrÃ¶ÃŸe"),
        (b"\xef\xbb\xbf" + "Größe".encode(), "iso-8859-1", "Größe"),
        ("Größe".encode("utf-16"), None, "Größe"),
        ("Größe".encode(), None, "Größe"),
        ("Größe".encode(), "no-such-charset", "Größe"),
        ("€uro“".encode("cp1252"), "latin1", "€uro“"),
        ("<meta charset=koi8-r>Привет".encode("koi8-r"), None, "<meta charset=koi8-r>Привет"),
        ("<meta charset=utf-16>é".encode(), None, "<meta charset=utf-16>é"),
        ("éééé and ".encode() + b"\xff", "utf-8", "éééé and \ufffd"),
    ],
)
def test_decoding(body, charset, expected):
    assert decode_text(body, charset) == expected


def test_a_page_that_says_utf8_and_is_not():
    text = "Die Größe der Straße überrascht die Gäste, und die Höhe der Brücke täuscht. " * 5
    assert decode_text(text.encode("latin-1"), "utf-8") == text


DEEP = 100_000
HOSTILE = {
    "nested": "<div>" * DEEP + "x" + "</div>" * DEEP,
    "nested in comments": "<div><!--</div>-->" * DEEP + "x",
    "articles": '<div class="a"><article id=b>' * (DEEP // 4) + "x",
    "adoption agency": "<a><b><i><p>x" * (DEEP // 5),
    "attributes": "<p " + " ".join(f"a{n}=1" for n in range(DEEP)) + ">x",
    "quoted attributes": "<p " + " ".join(f'a{n}="<>"' for n in range(DEEP)) + ">x",
    "tables": "<table><tr><td>" * (DEEP // 4) + "x",
    "nul": "\0" * DEEP + "x",
    "open quotes": '<a ="' * DEEP,
    "angle brackets": "<" * DEEP,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pages_end_soon(name):
    began = time.process_time()
    try:
        text = extract_text(HOSTILE[name])
    except HostilePageError:
        assert "attributes" in name or "quotes" in name
    else:
        assert "attributes" not in name
        assert isinstance(text, str)
    assert time.process_time() - began < 10


def test_an_ordinary_large_page_keeps_to_its_main_content():
    page = "<html><body><nav><ul>" + "<li><a href=/x>menu</a></li>" * 50 + "</ul></nav><main>"
    page += "".join(f"<div><div><p>{prose(n)}</p></div></div>" for n in range(2000)) + "</main></body></html>"
    assert len(page) * page.count("<") > 300_000_000
    assert "menu" not in extract_text(page)
    assert prose(1999) in extract_text(page)
    assert "menu" in extract_text(page, main_content=False)
