"""ARC record lines: which are believed, what they become, and that no record of a file is passed over."""

from __future__ import annotations

import gzip
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipelines.ingest.arc import (
    MAXIMUM_LINE,
    find_block_end,
    find_start,
    parse_head,
    starts_record,
    with_page_type,
)
from pipelines.ingest.timestamps import parse_time
from tests.ingest.building import warcio_count

CRAWL = Path(__file__).parents[2].parent / "shared" / "crawl"
FILES = sorted(path for folder in ("valid", "odd") for path in (CRAWL / folder).glob("*.arc*"))
URL = "http://site.example/page"


class Found(NamedTuple):
    offset: int
    url: str
    block: bytes


def read(data: bytes) -> tuple[list[Found], list[int]]:
    """The records of a plain ARC file and the offsets of the stretches that are lost."""
    found, lost, at = [], [], 0
    while at < len(data):
        line_end = data.find(b"\n", at)
        headers = parse_head(data[at:line_end]) if line_end >= 0 else None
        ends = None
        if headers and headers["content-length"].isdigit():
            stop = line_end + 1 + int(headers["content-length"])
            ends = find_block_end(data, line_end + 1, stop) if stop <= len(data) else None
        if headers and ends:
            found.append(Found(at, headers["warc-target-uri"], data[line_end + 1 : ends[0]]))
            at = ends[1]
        else:
            lost.append(at)
            following = find_start(data, line_end + 1 if headers else at + 1)
            at = len(data) if following is None else following
    return found, lost


def record(block: bytes, number: int = 0, length: int | None = None) -> bytes:
    line = f"http://site{number}.example/ 192.0.2.{number % 250} 20040506070809 text/html"
    return f"{line} {len(block) if length is None else length}\n".encode() + block


def version_block(extra: int = 0) -> bytes:
    text = b"1 0 InternetArchive\nURL IP-address Archive-date Content-type Archive-length\n"
    return f"filedesc://made.arc 0.0.0.0 20040506070809 text/plain {len(text) + extra}\n".encode() + text


GOOD = {
    f"{URL} 192.0.2.1 20040506070809 text/html 1591": (URL, "192.0.2.1", "2004-05-06T07:08:09Z", "text/html", "1591"),
    f"{URL} 2001:db8::7 20040506070809 image/svg+xml 0\r": (
        URL,
        "2001:db8::7",
        "2004-05-06T07:08:09Z",
        "image/svg+xml",
        "0",
    ),
    f"{URL} 0.0.0.0 20040506 no-type 7": (URL, "0.0.0.0", "2004-05-06", "no-type", "7"),
    f"{URL} 0 200405060708 - 7": (URL, "0", "2004-05-06T07:08:00Z", "-", "7"),
    f"{URL}?q=a b c 192.0.2.1 20040506070809 text/html 9": (
        f"{URL}?q=a b c",
        "192.0.2.1",
        "2004-05-06T07:08:09Z",
        "text/html",
        "9",
    ),
    f"{URL} 192.0.2.1 20040506070809 text/html, application/x-javascript 9": (
        URL,
        "192.0.2.1",
        "2004-05-06T07:08:09Z",
        "text/html, application/x-javascript",
        "9",
    ),
    f"{URL} 192.0.2.1 20040506070809 text/html; charset=utf-8 9": (
        URL,
        "192.0.2.1",
        "2004-05-06T07:08:09Z",
        "text/html; charset=utf-8",
        "9",
    ),
    f"{URL} 192.0.2.1 20040506070809  9": (URL, "192.0.2.1", "2004-05-06T07:08:09Z", "", "9"),
    f"{URL} 192.0.2.1 20040506070809 9": (URL, "192.0.2.1", "2004-05-06T07:08:09Z", "", "9"),
    f"{URL} 192.0.2.1 20040506070809123 text/html 9": (URL, "192.0.2.1", "2004-05-06T07:08:09Z", "text/html", "9"),
    f"{URL} 192.0.2.1 20040506070809 text/html 200 d41d8cd9 - 12345678 X.arc 9": (
        URL,
        "192.0.2.1",
        "2004-05-06T07:08:09Z",
        "text/html",
        "9",
    ),
    f"{URL} 192.0.2.1 20040506070809 text/html 302 - http://other.example/ 209 X.arc 9": (
        URL,
        "192.0.2.1",
        "2004-05-06T07:08:09Z",
        "text/html",
        "9",
    ),
    f"{URL} 192.0.2.1 20040506070809 text/html -1": (URL, "192.0.2.1", "2004-05-06T07:08:09Z", "text/html", "-1"),
}


@pytest.mark.parametrize("line", GOOD, ids=range(len(GOOD)))
def test_a_record_line_becomes_headers(line):
    headers = parse_head(line.encode())
    names = ("warc-target-uri", "warc-ip-address", "warc-date", "arc-content-type", "content-length")
    assert headers is not None
    assert tuple(headers[name] for name in names) == GOOD[line]
    assert headers["warc-type"] == "response"
    assert headers["content-type"] == "application/http; msgtype=response"
    assert starts_record(line.encode() + b"\nHTTP/1.0 200 OK\n")
    assert starts_record(b"\n\r\n" + line.encode() + b"\n")


def test_the_types_of_other_schemes_are_their_own():
    lookup = parse_head(b"dns:site.example 192.0.2.1 20040506070809 text/dns 56")
    listing = parse_head(b"ftp://site.example/a 192.0.2.1 20040506070809 text/plain 56")
    assert lookup
    assert listing
    assert (lookup["warc-target-uri"], lookup["content-type"]) == ("dns:site.example", "text/dns")
    assert listing["content-type"] == "text/plain"


def test_a_version_block_is_a_warcinfo():
    headers = parse_head(version_block().partition(b"\n")[0])
    assert headers
    assert (headers["warc-type"], headers["warc-filename"], headers["content-type"]) == (
        "warcinfo",
        "made.arc",
        "text/plain",
    )


def test_a_url_that_is_no_utf8_is_latin_1():
    headers = parse_head("http://site.example/caf\u00e9 192.0.2.1 20040506070809 text/html 5".encode("latin-1"))
    assert headers
    assert headers["warc-target-uri"] == "http://site.example/caf\u00e9"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "<a href=http://site.example/ 192.0.2.1 20040506070809 text/html 1591>",
        "http://site.example/",
        "http://site.example/ 192.0.2.1 20040506070809 text/html",
        "http://site.example/ 192.0.2.1 20040506070809 text/html!!!!!",
        "http://site.example/ is a page of 20 text/html bytes",
        "Date: Sun, 16 Feb 2014 05:02:20 GMT",
        "Content-Type: text/html; charset=utf-8 1591",
        "note: call 192.0.2.1 on 20040506 or 17",
        "color: red 1px solid 20040506 text/css 5",
        "example,site)/page 20040506070809 http://site.example/page text/html 200 AAAA - - 843 1172 X.warc.gz",
        "http://site.example/page 20040506070809 http://site.example/page text/html 200 AAAA - - 843 1172 X.warc.gz",
        "https://site.example/ 200 1591 GET",
        "URL IP-address Archive-date Content-type Archive-length",
        "http://site.example/ 192.0.2.1 yesterday text/html many",
        '192.0.2.1 - - [06/May/2004:07:08:09 +0000] "GET http://site.example/ HTTP/1.0" 200 1591',
    ],
)
def test_other_lines_are_not_believed(line):
    assert parse_head(line.encode()) is None
    assert not starts_record(line.encode() + b"\n")
    assert find_start(b"\n" + line.encode() + b"\n", 0) is None


def test_a_line_that_goes_on_is_judged_by_its_url():
    line = b"http://site.example/?" + b"x" * 5000 + b" 192.0.2.1 20040506070809 text/html 9\n"
    assert starts_record(line)
    assert starts_record(line[:512])
    assert not starts_record(b'<a href="http://site.example/')
    assert not starts_record(b"http://site.example/<html>")
    assert not starts_record(b"http://site.example/\x00\x01")
    assert not starts_record(b"http:// " + b"x" * (MAXIMUM_LINE + 1) + line)


@pytest.mark.parametrize("date", ["1234567890123", "20041306070809", "96110414210", "123456789", "99990101000000"])
def test_digits_that_are_no_date_give_no_capture_time(date):
    headers = parse_head(f"{URL} 192.0.2.1 {date} text/html 9".encode())
    assert headers
    assert headers["warc-date"] == f"{date} (ARC date)"
    assert parse_time(headers["warc-date"]) is None


def test_a_block_without_http_head_has_the_type_of_its_line():
    headers = parse_head(f"{URL} 192.0.2.1 20010926085547 no-type 9".encode())
    assert headers
    assert with_page_type(headers, b"<html>")["content-type"] == "no-type"
    assert with_page_type(headers, b"HTTP/1.0 200 OK\n\n<html>") == headers
    assert with_page_type(headers, b"DELETED_TIME=20000322093144_DELETER=x") == headers


blocks = st.lists(
    st.one_of(st.binary(max_size=80), st.text(alphabet="ht p:/\n1290.", max_size=80).map(str.encode)),
    min_size=1,
    max_size=6,
)


@given(
    blocks, st.lists(st.sampled_from([b"", b"\n", b"\r\n", b"\n\n"]), min_size=7, max_size=7), st.sampled_from([-1, 0])
)
def test_every_record_of_a_whole_file_is_read(contents, separators, extra):
    # A block that ends in a line end is no different from a shorter one with a longer separator.
    contents = [block.rstrip(b"\r\n") for block in contents]
    data, offsets = version_block(extra) + separators[0], []
    for number, block in enumerate(contents):
        offsets.append(len(data))
        data += record(block, number) + separators[number + 1]
    found, lost = read(data)
    assert lost == []
    assert [one.offset for one in found[1:]] == offsets
    assert [one.block for one in found[1:]] == contents


@pytest.mark.parametrize("extra", [1, 2, 3, 4])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_a_length_that_counts_bytes_of_the_next_record(extra, newline):
    data = version_block() + newline + record(b"one", 1, 3 + len(newline) + extra) + newline + record(b"two", 2)
    found, lost = read(data)
    assert lost == []
    assert [one.block for one in found[1:]] == [b"one", b"two"]
    assert found[2].url == "http://site2.example/"


@pytest.mark.parametrize("off", [-40, -1, 17, 60, 10_000])
def test_a_wrong_length_costs_its_own_record(off):
    bodies = [bytes(range(256)) * 2] * 5  # none ends in a line end
    parts = [record(body, number) for number, body in enumerate(bodies)]
    parts[2] = record(bodies[2], 2, len(bodies[2]) + off)
    data = version_block() + b"".join(parts)
    found, lost = read(data)
    assert [one.url[11:12] for one in found[1:]] == ["0", "1", "3", "4"]
    assert lost == [data.index(b"http://site2.")]


@given(st.data())
def test_damage_costs_only_the_records_that_it_touches(data):
    bodies = [b"HTTP/1.0 200 OK\r\n\r\n<p>page %d</p>\n" % n * 4 for n in range(6)]
    whole = version_block() + b"".join(record(body, n) + b"\n" for n, body in enumerate(bodies))
    begin = data.draw(st.integers(0, len(whole) - 1))
    garbage = data.draw(st.binary(min_size=1, max_size=300))
    assume(find_start(b"\n" + garbage + b"\n", 0) is None)
    damaged = whole[:begin] + garbage + whole[begin + len(garbage) :]
    records = read(whole)[0]
    # A record is believed because of the line of the next one, so damage to a line costs the record before it too.
    untouched = [one for one, following in pairwise(records) if following.offset + 70 < begin]
    after = [one for one in records if one.offset > begin + len(garbage) + 1]
    found, _ = read(damaged[: len(whole)])
    assert [one for one in found if one in untouched] == untouched
    assert [one for one in found if one in after] == after


def test_a_start_is_found_behind_any_index():
    data = b"".join(record(b"x" * 50, number) + b"\n" for number in range(3))
    starts = [data.index(b"http://site%d" % number) for number in range(3)]
    for begin in range(len(data)):
        expected = next((at for at in starts if at >= begin), None)
        assert find_start(data, begin) == expected
        assert find_start(bytearray(data), begin) == expected


@pytest.mark.parametrize(
    "path", FILES or [pytest.param(CRAWL, marks=pytest.mark.skip("no shared/crawl"))], ids=lambda p: p.name
)
def test_no_record_that_warcio_sees_is_passed_over(path):
    data = path.read_bytes()
    found, lost = read(gzip.decompress(data) if path.suffix == ".gz" else data)
    count = warcio_count(path)
    assert len(found) + len(lost) >= count
    assert count < 2 or found


PIECES = [
    "http://a.example/",
    "dns:a",
    " ",
    "  ",
    "192.0.2.1",
    "::1",
    "-",
    "20040506070809",
    "text/html",
    "7",
    "\r",
    "\u00e9",
]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=14).map("".join))
def test_any_line_is_answered(text):
    line = text.encode().replace(b"\n", b"")
    headers = parse_head(line)
    assert (headers is None) or headers["warc-target-uri"]
    assert (find_start(b"x\n" + line + b"\n", 1) is not None) >= (headers is not None and len(line.split()) > 4)
