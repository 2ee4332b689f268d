"""HTTP messages as servers and crawlers write them: heads, chunked coding, content codings."""

from __future__ import annotations

import re
import tracemalloc
import zlib

import brotli
import pytest
import zstandard

from pipelines.ingest.codings import BombError, CodingError, undo
from pipelines.ingest.http import dechunk, decode_body, parse_response
from tests.ingest.building import gz, html, http, prose, read, record

TEXT = prose(1)
BODY = html(TEXT)
LONG = html(prose(2, 3000))
LONGER = html(prose(2, 60_000))
RAW = zlib.compressobj(6, zlib.DEFLATED, -15)
SKIPPABLE = b"\x5a\x2a\x4d\x18\x03\0\0\0abc"


def zst(data, **options):
    return zstandard.ZstdCompressor(**options).compress(data)


def wide_zst(data):
    parameters = zstandard.ZstdCompressionParameters(window_log=25)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return packer.compress(data) + packer.flush()


CODINGS = {
    "gzip": gz(BODY),
    "x-gzip": gz(BODY[:50]) + gz(BODY[50:]),
    " GZIP ": gz(BODY) + bytes(100),
    '"gzip"': gz(BODY) + b"\r\n",
    "gzip,": gz(BODY),
    "deflate": zlib.compress(BODY),
    "Deflate": RAW.compress(BODY) + RAW.flush(),
    "br": brotli.compress(BODY),
    "zstd": zst(BODY),
    "Zstd": zst(BODY[:9]) + SKIPPABLE * 2 + zst(BODY[9:]) + SKIPPABLE,
    "ZSTD": wide_zst(BODY),
    "identity": BODY,
    "utf-8": BODY,
    "gzip, br": brotli.compress(gz(BODY)),
    "gzip, gzip": gz(gz(BODY)),
    "gzip,identity,zstd": zst(gz(BODY)),
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


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        (None, gz(BODY)),
        (None, zst(BODY)),
        ("none", gz(BODY)),
        ("gzip", zlib.compress(BODY)),
        ("deflate", gz(BODY)),
    ],
)
def test_a_coding_that_is_not_the_declared_one(coding, body):
    headers = ["Content-Type: text/html"] + ([f"Content-Encoding: {coding}"] if coding else [])
    assert [row["text"] for row in one(http(body, *headers)).documents] == [TEXT]


@pytest.mark.parametrize("transfer", ["gzip, chunked", "chunked, gzip", "GZIP", "deflate;q=1, chunked"])
def test_codings_of_the_transfer(transfer):
    packed = zlib.compress(BODY) if "deflate" in transfer else gz(BODY)
    transfer = transfer.replace(";q=1", "")
    body = chunked(packed, 17) if "chunked" in transfer else packed
    found = one(http(body, "Content-Type: text/html", f"Transfer-Encoding: {transfer}"))
    assert [row["text"] for row in found.documents] == [TEXT]


BROKEN = {
    "gzip": (gz(LONG)[:-300], "gzip: the body ends early, at byte"),
    "gzip flipped": (gz(LONG)[:900] + b"\xff\0" * 40 + gz(LONG)[980:], "gzip: .* byte .* decoded bytes"),
    "gzip check sum": (gz(LONG)[:-8] + bytes(8), "gzip: .*incorrect data check"),
    "deflate": (zlib.compress(LONG)[:-300], "'deflate' cannot be undone: deflate: the body ends early"),
    "br": (brotli.compress(LONG)[:-300], "'br' cannot be undone: the body ends early, after"),
    "br flipped": (brotli.compress(LONG)[:300] + b"\xff\0" * 300, "'br' cannot be undone"),
    "zstd": (zst(LONGER)[:-300], "zstd: the body ends early, at byte"),
    "zstd flipped": (zst(LONG)[:10] + b"\xff" * 9000, "zstd: .* near byte"),
    "compress": (b"\x1f\x9d\x90abc", "'compress' cannot be undone: it starts with"),
    "strange": (b"\0\1\2\3", "'strange' cannot be undone"),
    "gzip, br": (gz(brotli.compress(LONG)), "'br' cannot be undone"),
    ", ".join(["gzip"] * 9): (gz(LONG), "9 codings on top of each other"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_coding_that_cannot_be_undone_is_a_reject_that_says_where(name):
    body, detail = BROKEN[name]
    coding = name.removesuffix(" flipped").removesuffix(" check sum")
    found = one(http(body, "Content-Type: text/html", f"Content-Encoding: {coding}"))
    assert found.reasons == {"encoding": 1}
    assert re.search(detail, found.rejects[0]["detail"]), found.rejects[0]["detail"]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_body_that_the_crawler_cut_off_is_read_as_far_as_it_goes(coding):
    response = http(BROKEN[coding][0], "Content-Type: text/html", f"Content-Encoding: {coding}")
    assert one(response).reasons == {"encoding": 1}
    (document,) = one(response, extra=["WARC-Truncated: length"]).documents
    assert document["text"].startswith("Text 2.")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_bombs_are_too_large_and_take_little_memory(coding):
    bomb = bytes(60_000_000)
    body = {
        "gzip": lambda: gz(bomb),
        "deflate": lambda: zlib.compress(bomb),
        "br": lambda: brotli.compress(bomb, quality=1),
        "zstd": lambda: zst(bomb),
    }[coding]()
    message = record(http(body, "Content-Type: text/html", f"Content-Encoding: {coding}"))
    tracemalloc.start()
    found = read(message, maximum_record_bytes=1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.reasons == {"too_large": 1}
    assert peak < 12 << 20


def test_a_bomb_in_a_bomb_and_thousands_of_members():
    nested = gz(gz(bytes(60_000_000)))
    with pytest.raises(BombError):
        decode_body(parse_response(http(nested, "Content-Encoding: gzip, gzip")), 1 << 20)
    with pytest.raises(CodingError, match="more than 10000 members, at byte 200000"):
        undo("gzip", gz(b"") * 10_001, 1 << 20)
    with pytest.raises(CodingError, match="more than 10000 frames"):
        undo("zstd", zst(b"") * 10_001, 1 << 20)


def chunked(body: bytes, size: int) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x;x=1\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


WHOLE = {
    "plain": b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    "extensions and spaces": b' 5 ; a=b;c="d"\r\nhello\r\n6   \r\n world\r\n0\r\n\r\n',
    "upper case": b"B\r\nhello world\r\n0\r\n\r\n",
    "leading zeros": b"000000000005\r\nhello\r\n0000000000000000006\r\n world\r\n00000\r\n\r\n",
    "line feeds only": b"5\nhello\n6\n world\n0\n\n",
    "carriage returns doubled": b"5\r\r\nhello\r\n6\r\r\n world\r\n0\r\n\r\n",
    "0x": b"0x5\r\nhello\r\n0x6\r\n world\r\n0\r\n\r\n",
    "trailers": b"5\r\nhello\r\n6\r\n world\r\n0\r\nExpires: x\r\nX-A: b\r\n\r\n",
    "last chunk missing": b"5\r\nhello\r\n6\r\n world\r\n",
    "last line end missing": b"5\r\nhello\r\n6\r\n world",
    "last chunk cut": b"5\r\nhello\r\n6\r\n world\r\n0",
    "size cut": b"5\r\nhello\r\n6\r\n world\r\n1f",
    "something behind": b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nHTTP/1.1 200 OK",
    "not chunked": b"hello world",
}


@pytest.mark.parametrize("name", WHOLE)
def test_chunked_bodies(name):
    assert dechunk(WHOLE[name]) == b"hello world"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"bad\r\nplain text that starts with a hex word",
        b"5\r\nhell",
        b"ffffffffffffffffffffffff\r\nhello",
        b"9" * 40 + b"\r\nhello",
        b"0\r\nwas the score of the game\r\n",
        b"zz\r\nhello",
        b"-5\r\nhello\r\n",
    ],
)
def test_bodies_that_say_chunked_and_are_not(body):
    assert dechunk(body) == body


def test_a_chunk_that_ends_early_gives_its_start():
    assert dechunk(b"5\r\nhello\r\n6\r\n wo") == b"hello wo"
    assert dechunk(b"5\r\nhello\r\nfffffffffff\r\n wo") == b"hello wo"
    assert dechunk(b"0\r\n\r\n") == b""
    assert dechunk(b"0\r\nExpires: x\r\n\r\n") == b""


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"5\r\nhello\r\n3\r\n world\r\n0\r\n\r\n", "chunk 2 of 3 bytes does not end at byte 16"),
        (b"5\r\nhello\r\nzz\r\n world", "no chunk size after chunk 1, at byte 10 of the body, but b'zz"),
        (b"5\r\nhello\r\n-6\r\n world", "no chunk size after chunk 1"),
    ],
)
def test_a_wrong_chunk_is_a_reject_that_says_where(body, detail):
    with pytest.raises(CodingError, match=re.escape(detail)):
        dechunk(body)
    found = one(http(body, "Content-Type: text/plain", "Transfer-Encoding: Chunked"))
    assert found.reasons == {"encoding": 1}
    assert detail in found.rejects[0]["detail"]


def test_chunks_around_a_content_coding():
    response = http(
        chunked(CODINGS["gzip"], 7), "Content-Type: text/html", "Transfer-Encoding: chunked", "CONTENT-ENCODING: GZIP"
    )
    assert [row["text"] for row in one(response).documents] == [TEXT]


def test_millions_of_chunks_are_read_in_one_pass():
    body = b"1\na\n" * 500_000 + b"0\n\n"
    assert dechunk(body) == b"a" * 500_000
    assert dechunk(b"1\r\nx" + b"\r\n" * 400_000) == b"x"


HEADS = {
    "no reason": b"HTTP/1.1 200\r\nContent-Type: text/html\r\n\r\n",
    "garbage for a reason": b"HTTP/1.1 200 \xff\xfe\0 OK HTTP/1.1 404\r\nContent-Type: text/html\r\n\r\n",
    "line feeds": b"HTTP/1.1 200 OK\nContent-Type: text/html\n\n",
    "mixed line ends": b"HTTP/1.1 200 OK\nContent-Type: text/html\r\n\n",
    "doubled carriage returns": b"HTTP/1.1 200 OK\r\r\nContent-Type: text/html\r\r\n\r\r\n",
    "spaces in the blank line": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n \t\r\n",
    "folded": b"HTTP/1.0 200 OK\r\ncontent-TYPE :text/html\r\nX: 1\r\nX: 2\r\n folded\r\n\r\n",
    "fold before any header": b"HTTP/1.1 200 OK\r\n folded\r\nContent-Type: text/html\r\n\r\n",
    "HTTP/2": b"HTTP/2 200 \r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\ncontent-type: text/html\r\n\r\n",
    "HTTP/3": b"HTTP/3 200\r\n\r\n",
    "lower case": b"http/1.1 200 OK\r\nContent-Type: ;;;\r\nno colon here\r\n\r\n",
    "tab": b"HTTP/1.1\t200\tOK\r\n\r\n",
    "no version": b"HTTP/ 200 OK\r\n\r\n",
    "HTTPX": b"HTTPX/1.1 200 OK\r\n\r\n",
    "space in the version": b"HTTP/ 1.1 200 OK\r\n\r\n",
    "empty name": b"HTTP/1.1 200 OK\r\n: x\r\nContent-Type: text/html\r\n\r\n",
    "nul": b"HTTP/1.1 200 OK\r\nX\0Y: a\0b\r\nContent-Type: text/html\0\r\n\r\n",
    "no UTF-8": b"HTTP/1.1 200 OK\r\nServer: caf\xe9\r\n\r\n",
    "wrong Content-Length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/html\r\n\r\n",
    "two Content-Lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: -1\r\n\r\n",
    "continue": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n",
    "early hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3 + b"HTTP/1.1 200 OK\r\n\r\n",
    "proxy": b"HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n",
    "256 KB": b"HTTP/1.1 200 OK\r\n" + b"Set-Cookie: " + b"c" * 262_144 + b"\r\n\r\n",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"X: abcdefg\r\n" * 9000 + b"Content-Type: text/html\r\n\r\n",
}


@pytest.mark.parametrize("name", HEADS)
def test_tolerant_heads(name):
    assert [row["text"] for row in one(HEADS[name] + BODY).documents] == [TEXT]


def test_repeated_headers_are_joined():
    response = parse_response(b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\n  3\r\n\r\nbody")
    assert response == (200, {"x-a": "1, 2 3"}, b"body")
    assert decode_body(response, 10) == b"body"


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (b"HTTP/1.1 OK\r\n\r\n" + BODY, "bad_record"),
        (b"HTTP/1.1 2000\r\n\r\n" + BODY, "bad_record"),
        (b"HTTP/1.1 20\r\n\r\n" + BODY, "bad_record"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * (1 << 20) + b"\r\n\r\n" + BODY, "bad_record"),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\nHTTP/1.1 200 OK\r\n\r\n" + BODY, "http_status"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\n\r\n" + BODY, "http_status"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "http_status"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 20, "http_status"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html", "no_text"),
    ],
)
def test_heads_that_give_no_document(block, reason):
    found = one(block)
    assert found.reasons == {reason: 1}
    assert found.rejects[0]["detail"]
