"""How WARC headers may be written, and how a shard's format is told."""

from __future__ import annotations

import bz2
import lzma
import random

import pytest

from tests.ingest.building import (
    PACKINGS,
    SHARD_FORMS,
    Pipe,
    gz,
    html,
    http,
    page_record,
    plain,
    prose,
    read,
    record,
    shard_of,
)

BLOCK = http(html(prose(1)))


def written(head: str, block: bytes = BLOCK, end: str = "\r\n", after: bytes = b"\r\n\r\n") -> bytes:
    return head.replace("\n", end).encode("utf-8", "surrogateescape") + block + after


HEAD = f"""WARC/1.0
WARC-Type: response
WARC-Target-URI: https://site1.example/page
WARC-Date: 2020-01-02T03:04:01Z
Content-Type: application/http; msgtype=response
Content-Length: {len(BLOCK)}

"""
FORMS = {
    "as usual": written(HEAD),
    "CR CR LF": written(HEAD, end="\r\r\n"),
    "LF only": written(HEAD, end="\n"),
    "LF only, also behind the block": written(HEAD, end="\n", after=b"\n\n"),
    "one line end behind the block": written(HEAD, after=b"\r\n"),
    "nothing behind the block": written(HEAD, after=b""),
    "many line ends behind the block": written(HEAD, after=b"\r\n" * 30),
    "version 0.17": written(HEAD.replace("1.0", "0.17")),
    "version 0.18": written(HEAD.replace("1.0", "0.18")),
    "version 1.1": written(HEAD.replace("1.0", "1.1")),
    "version 2.0": written(HEAD.replace("1.0", "2.0")),
    "version 1": written(HEAD.replace("1.0", "1")),
    "a space behind the version": written(HEAD.replace("1.0", "1.0 ")),
    "lower case": written(HEAD.lower().replace("t03:04:01z", "T03:04:01Z")),
    "upper case names": written(HEAD.replace("Content-Length", "CONTENT-LENGTH").replace("WARC-Type", "WARC-TYPE")),
    "angle brackets": written(HEAD.replace("https://site1.example/page", "<https://site1.example/page>")),
    "folded": written(HEAD.replace("application/http;", "application/http;\n ")),
    "folded with a tab": written(HEAD.replace("URI: https", "URI:\n\t https")),
    "no space behind the colon": written(HEAD.replace(": ", ":")),
    "spaces before the colon": written(HEAD.replace(": ", " : ")),
    "spaces behind values": written(HEAD.replace("\nContent", "  \t\nContent")),
    "a plus before the length": written(HEAD.replace("Length: ", "Length: +")),
    "zeros before the length": written(HEAD.replace("Length: ", "Length: 000")),
    "a field twice": written(HEAD.replace("\n\n", "\nContent-Length: 7\nWARC-Target-URI: https://b.example/\n\n")),
    "fields that are none": written(HEAD.replace("\nContent-T", "\nno field\n: x\nContent-T")),
    "bytes that are no UTF-8": written(HEAD.replace("\nContent-T", "\nX: \udcff\udcfe\nContent-T")),
    "a long header": written(HEAD.replace("\nContent-T", "\nX: " + "y" * 200_000 + "\nContent-T")),
    "many fields": written(HEAD.replace("\nContent-T", "\nX: y" * 20_000 + "\nContent-T")),
}


@pytest.mark.parametrize("pack", PACKINGS.values(), ids=PACKINGS)
@pytest.mark.parametrize("form", FORMS)
def test_a_header_may_be_written_so(form, pack):
    data = b"".join(pack(one) for one in (page_record(0), FORMS[form], page_record(2)))
    for found in (read(data, "x"), read(b"".join(pack(one) for one in (FORMS[form], page_record(2))), "x")):
        assert found.rejects == []
        row = next(row for row in found.documents if row["host"] == "site1.example")
        assert (row["url"], row["text"]) == ("https://site1.example/page", prose(1))
        assert row["captured_at"].isoformat() == "2020-01-02T03:04:01+00:00"
        assert found.hosts[-1] == "site2.example"


@pytest.mark.parametrize("pack", [gz, plain], ids=["gzip", "plain"])
def test_headers_without_an_end_or_a_length(pack):
    endless = HEAD.rstrip("\n").encode() + b"\r\nX: " + b"y" * 400_000
    parts = [page_record(0), endless + b"\r\n\r\n" + BLOCK + b"\r\n\r\n", page_record(2)]
    found = read(b"".join(map(pack, parts)))
    assert found.hosts == ["site0.example", "site2.example"]
    assert found.losses == [(len(pack(parts[0])), "damaged")]
    assert found.rejects[0]["url"] == "https://site1.example/page"
    no_length = written(HEAD.replace(f"Content-Length: {len(BLOCK)}\n", ""))
    found = read(b"".join(map(pack, [page_record(0), no_length, page_record(2)])), mismatches="keep")
    assert [row["text"] for row in found.documents] == [prose(n) for n in range(3)]
    assert [one["kind"] for one in found.documents[1]["evidence"]] == ["content_length_mismatch"]


def test_what_is_no_record_line():
    for line in (b"WARC/\r\n", b"WARC/x.y\r\n", b"WARC 1.0\r\n", b"XWARC/1.0x\r\n"):
        data = page_record(0) + line + HEAD.partition("\n")[2].encode() + BLOCK + b"\r\n\r\n" + page_record(2)
        found = read(data)
        assert found.hosts == ["site0.example", "site2.example"]
        assert found.losses == [(len(page_record(0)), "damaged")]


@pytest.mark.parametrize("form", [form for form in SHARD_FORMS if form != "empty"])
def test_the_name_of_a_shard_says_nothing_that_its_bytes_do_not(form):
    data = shard_of(form, 4, random.Random(1))
    expected = read(data, "x")
    assert expected.documents
    for name in ("x.jsonl", "x.warc.gz", "x.parquet", "x.arc", "x.wacz", "ä ?#.bin"):
        found = read(data, name)
        assert found.documents == expected.documents
        assert found.losses == expected.losses
    if form not in ("parquet", "wacz"):
        assert read(Pipe(data), "x").documents == expected.documents


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (bz2.compress(page_record(0)), "bzip2"),
        (lzma.compress(page_record(0)), "xz"),
        (b"ARROW1\0\0", "Arrow IPC"),
        (b"Obj\x01avro", "Avro"),
        (b'[{"text": "a"}]', "JSON array"),
        (b"<html>", "markup"),
        (gz(b"<html>"), "markup"),
        (b"%PDF-1.4", "it starts with"),
    ],
)
def test_what_is_not_read_is_named(data, words):
    for name in ("x", "x.gz"):
        found = read(data, name)
        assert found.losses == [(0, "unsupported")]
        assert words in found.rejects[0]["detail"]


def test_empty_record_blocks():
    data = b"".join(record(b"", n) for n in range(5))
    assert len(read(data).rejects) == 5
    assert len(read(gz(data)).rejects) == 5
