"""WARC records to documents: heads, content types, character encodings."""

from __future__ import annotations

import pytest

from pipelines.ingest.html import decode_text
from pipelines.records import Evidence
from tests.ingest.building import html, http, join, prose, read, record

TEXT = prose(1)
BODY = html(TEXT)


def one(block: bytes, **options):
    return read(record(block, **options))


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


WORDS = {
    "gbk": "汉字编码测试网页的正文", "gb18030": "汉字编码㐀𠀀", "big5": "漢字編碼測試網頁的正文",
    "shift_jis": "文字コードの試験ページ",
    "cp932": "①㈱髙", "euc_jp": "文字コードの試験ページ", "euc_kr": "한글 문자 부호 시험", "cp949": "똠방각하",
    "koi8-r": "Проверка кодировки", "koi8-u": "Перевірка ґєії", "cp1250": "Příliš žluťoučký kůň",
    "cp1251": "Проверка «кодировки»",
    "cp1252": "“Größe” – €", "cp1253": "Δοκιμή κωδικοποίησης", "cp1254": "Şişli ığdır", "cp1255": "בדיקת קידוד",
    "cp1256": "اختبار الترميز", "cp1257": "Šiaulių žvejys", "iso8859-2": "Zażółć gęślą jaźń", "cp874": "ทดสอบการเข้ารหัส",
    "iso2022_jp": "文字コードの試験",
}  # fmt: skip
LABELS = {"cp932": "Shift_JIS", "cp949": "EUC-KR", "euc_jp": "EUC-JP", "euc_kr": "EUC-KR", "iso2022_jp": "ISO-2022-JP"}


@pytest.mark.parametrize("codec", WORDS)
@pytest.mark.parametrize("place", ["header", "meta", "http-equiv", "xml"])
def test_declared_encodings(codec, place):
    label = LABELS.get(codec, codec.replace("cp125", "windows-125").replace("cp874", "windows-874"))
    label = label.replace("iso8859", "iso-8859")
    head = {
        "header": "",
        "meta": f"<meta charset='{label}'>",
        "http-equiv": f'<meta http-equiv=Content-Type content="text/html; charset={label}">',
        "xml": f'<?xml version="1.0" encoding="{label}"?>',
    }[place]
    source = f"{head}<html><p>{WORDS[codec]}</p></html>"
    assert decode_text(source.encode(codec), label if place == "header" else None) == source


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_unicode_with_and_without_a_mark(codec):
    source = "<html><p>Größe and more</p></html>"
    mark = {"utf-32-be": b"\0\0\xfe\xff"}.get(codec, b"")
    assert decode_text(mark + source.encode(codec)) == source
    if codec in ("utf-8-sig", "utf-16"):
        assert decode_text(source.encode(codec), "koi8-r") == source, "the mark comes before the header"


def test_declarations_that_are_not_honoured():
    attack = b"<p>+ADw-script+AD4-</p>"
    assert decode_text(attack, "utf-7") == decode_text(b"<meta charset=utf-7>" + attack)[20:] == attack.decode()
    for label in ("x-user-defined", "iso-2022-kr", "hz-gb-2312", "utf-32", "replacement", "\0", "a" * 5000):
        assert decode_text("Größe".encode(), label) == "Größe"
    assert decode_text("<meta charset=koi8-r>Größe".encode(), "utf-8").endswith("Größe"), "the header before the meta"
