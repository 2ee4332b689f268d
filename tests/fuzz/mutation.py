"""Changes inputs where it hurts a reader: bytes, lines, whole members, and what lies under the compression."""

from __future__ import annotations

import gzip
import random
import re
import zlib
from collections.abc import Callable
from itertools import pairwise

import lz4.frame
import zstandard

MOST = 1 << 18  # bytes of an input
_MAGICS = re.compile(rb"\x1f\x8b\x08|\x28\xb5\x2f\xfd|\x04\x22\x4d\x18|WARC/1\.\d\r?\n")
_TOKENS = [
    b"WARC/1.0\r\n",
    b"\r\n\r\nWARC/1.1\r\nWARC-Type: response\r\n",
    b"WARC/0.17\n",
    b"\r\n\r\n",
    b"\r\r\n",
    b"\n\n",
    b"Content-Length: 99999999999\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: -1\r\n",
    b"content-length:\t12\n",
    b"WARC-Segment-Number: 1\r\n",
    b"WARC-Truncated: length\r\n",
    b"WARC-Block-Digest: sha1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Content-Encoding: br, zstd\r\n",
    b"http://a.example/ 192.0.2.1 20040506070809 text/html 20\n",
    b"filedesc://x.arc 0.0.0.0 20040506070809 text/plain 9\n",
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
    b"\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\x03\xff\xff",
    b"\x28\xb5\x2f\xfd\x04\x00",
    b"\x5d\x2a\x4d\x18\x10\x00\x00\x00",
    b"\x50\x2a\x4d\x18\xff\xff\xff\xff",
    b"\x04\x22\x4d\x18\x60\x40\x82",
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"PAR1",
    b'{"text": "',
    b"\x00",
    b"\xff\xfe",
    b"<!--",
    b"-->",
    b"<meta name=generator content='",
    b'<script type="application/ld+json">{"@graph":[',
    b"<![CDATA[",
    b"&#x",
    "\u200b\u200c\u2063\U000e0041\ufeff".encode(),
    b"</p><p>",
    b"\xed\xa0\x80",
    b"[[",
    b"{{",
]


def mutate(data: bytes, rng: random.Random, others: Callable[[], bytes]) -> bytes:
    """One to four changes; ``others`` gives another input to take bytes of."""
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        change = rng.choice(_CHANGES)
        data = change(data, rng) if change is not None else _splice(data, others(), rng)
    return data[:MOST]


def _span(data: bytes, rng: random.Random) -> tuple[int, int]:
    begin = rng.randint(0, len(data))
    return begin, min(len(data), begin + rng.choice((1, 2, 4, 16, 100, 1000, 10_000)))


def _flip(data: bytes, rng: random.Random) -> bytes:
    if not data:
        return data
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _zero(data: bytes, rng: random.Random) -> bytes:
    begin, end = _span(data, rng)
    return data[:begin] + bytes(end - begin) + data[end:]


def _delete(data: bytes, rng: random.Random) -> bytes:
    begin, end = _span(data, rng)
    return data[:begin] + data[end:]


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randint(0, len(data))]


def _token(data: bytes, rng: random.Random) -> bytes:
    at, token = rng.randint(0, len(data)), rng.choice(_TOKENS)
    return data[:at] + token + data[at + rng.choice((0, 0, len(token))) :]


def _noise(data: bytes, rng: random.Random) -> bytes:
    at = rng.randint(0, len(data))
    return data[:at] + rng.randbytes(rng.choice((1, 7, 60, 500))) + data[at:]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    begin, end = _span(data, rng)
    times = min(rng.choice((1, 3, 50, 2000, 40_000)), (MOST - len(data)) // max(end - begin, 1))
    return data[:end] + data[begin:end] * max(times, 0) + data[end:]


def _digits(data: bytes, rng: random.Random) -> bytes:
    found = list(re.finditer(rb"\d+", data[:MOST]))
    if not found:
        return data
    number = rng.choice(found)
    value = int(number[0][:18])
    new = rng.choice((value + 1, value - 1, value + 4, value * 2, value // 2, value + 100, 0, 1 << 31, 10**17))
    return data[: number.start()] + b"%d" % new + data[number.end() :]


def _members(data: bytes) -> list[bytes]:
    places = [0, *(found.start() for found in _MAGICS.finditer(data) if found.start()), len(data)]
    return [data[begin:end] for begin, end in pairwise(places)]


def _shuffle(data: bytes, rng: random.Random) -> bytes:
    members = _members(data)
    one, other = rng.randrange(len(members)), rng.randrange(len(members))
    members[one], members[other] = members[other], members[one]
    if rng.random() < 0.3:
        members.insert(one, members[other])
    return b"".join(members)


def _inside(data: bytes, rng: random.Random) -> bytes:
    """Changes what a member decodes to, and compresses it again."""
    members = _members(data)
    at = rng.randrange(len(members))
    try:
        plain = zlib.decompressobj(31).decompress(members[at], MOST)
        pack: Callable[[bytes], bytes] = gzip_member
    except zlib.error:
        try:
            plain = zstandard.ZstdDecompressor().decompressobj().decompress(members[at])[:MOST]
            pack = zstandard.ZstdCompressor().compress
        except zstandard.ZstdError:
            return _token(data, rng)
    change = rng.choice((_flip, _zero, _delete, _cut, _token, _digits, _repeat, _noise))
    members[at] = pack(change(plain, rng))
    return b"".join(members)


def gzip_member(data: bytes) -> bytes:
    return gzip.compress(data, 1, mtime=0)


def _wrap(data: bytes, rng: random.Random) -> bytes:
    pack = rng.choice((gzip_member, zstandard.ZstdCompressor().compress, lz4.frame.compress))
    begin = rng.choice((0, 0, rng.randint(0, len(data))))
    return data[:begin] + bytes(pack(data[begin:]))


def _splice(data: bytes, other: bytes, rng: random.Random) -> bytes:
    begin, end = _span(other, rng)
    at = rng.randint(0, len(data))
    return rng.choice((data[:at] + other[begin:end] + data[at:], data[:at] + other[begin:], data + other))


_CHANGES: list[Callable[[bytes, random.Random], bytes] | None] = [
    _flip,
    _zero,
    _delete,
    _cut,
    _token,
    _token,
    _noise,
    _repeat,
    _digits,
    _shuffle,
    _inside,
    _inside,
    _wrap,
    None,
]
