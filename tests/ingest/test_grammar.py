"""The quick ways of reading a header say what the thorough ones say."""

import random

import pytest

from pipelines.ingest import grammar
from pipelines.ingest.grammar import WARC, Head, Headers, parse_fields

PARTS = [b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\n\n", b"\nWARC/", b"WARC/1.0\r\n", b"A: b", b" c", b"\tx", b"x" * 40]
LENGTHS = [
    b"5",
    b"+5",
    b"5 ",
    b"",
    b"abc",
    b"5\r\n 6",
    b"5\n",
    b"5\r\nContent-Length: 6",
    b"x\r\nContent-Length: 6",
    b"9" * 19,
]


def thorough(buffer: bytes, begin: int) -> Head | None:
    found = grammar._HEAD_END.search(buffer, begin)
    return None if found is None else Head(*found.span(), cut=buffer[found.end() - 1] != 0x0A)


def test_a_header_ends_where_the_thorough_way_says() -> None:
    draw = random.Random(1)
    for _ in range(20_000):
        buffer = b"WARC/1.0" + b"".join(draw.choices(PARTS, k=draw.randint(1, 8)))
        searched = draw.choice((0, 0, 9, 20))
        assert WARC.head(buffer, 0, searched) == thorough(buffer, max(searched - 4, 0)), buffer


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(
    "name", [b"Content-Length: ", b"content-LENGTH:", b"Content-Length :", b"X: y\r\n Content-Length: "]
)
@pytest.mark.parametrize("after", [b"", b"\r\nB: c", b"\nB: c"])
def test_the_length_is_that_of_the_parsed_header(name: bytes, length: bytes, after: bytes) -> None:
    head = b"WARC/1.0\r\nA: b\r\n" + name + length + after
    assert Headers(head).get("content-length", "").strip() == parse_fields(head).get("content-length", "")
