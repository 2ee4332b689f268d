"""Digests of WARC records: every way of writing one, every reading of "payload", and what no digest can tell."""

from __future__ import annotations

import base64
import gzip
import hashlib
from io import BytesIO
from pathlib import Path

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from warcio.archiveiterator import ArchiveIterator
from warcio.exceptions import ArchiveLoadFailed
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from pipelines.ingest.digests import Outcome, check_block, check_payload, payload_readings
from pipelines.ingest.http import BombError, CodingError

CRAWL = Path(__file__).parents[2].parent / "shared" / "crawl"
CAP = 1 << 20
LABELS = {
    "md5": hashlib.md5,
    "MD5": hashlib.md5,
    "sha1": hashlib.sha1,
    "SHA-1": hashlib.sha1,
    "sha256": hashlib.sha256,
    "SHA-256": hashlib.sha256,
    "sha_384": hashlib.sha384,
    "sha512": hashlib.sha512,
    "sha3-256": hashlib.sha3_256,
    "blake2b": hashlib.blake2b,
    "blake2s": hashlib.blake2s,
}
ENCODINGS = {
    "hex": lambda raw: raw.hex(),
    "HEX": lambda raw: raw.hex().upper(),
    "base32": lambda raw: base64.b32encode(raw).decode(),
    "base32 bare": lambda raw: base64.b32encode(raw).decode().rstrip("="),
    "base32 lower": lambda raw: base64.b32encode(raw).decode().lower(),
    "base64": lambda raw: base64.b64encode(raw).decode(),
    "base64 bare": lambda raw: base64.b64encode(raw).decode().rstrip("="),
    "base64url": lambda raw: base64.urlsafe_b64encode(raw).decode(),
}


def sha1(data: bytes) -> str:
    return "sha1:" + base64.b32encode(hashlib.sha1(data).digest()).decode()


def outcome(check):
    return check and check.outcome


def http(body: bytes, *fields: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", "Content-Type: text/html", *fields, "", ""]).encode() + body


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(max_examples=15)
@given(block=st.binary(max_size=40))
def test_a_digest_however_written(label, encoding, block):
    written = f"{label}:{ENCODINGS[encoding](LABELS[label](block).digest())}"
    assert outcome(check_block({"warc-block-digest": written}, block)) is Outcome.VERIFIED
    assert outcome(check_block({"warc-block-digest": f" {written} "}, block)) is Outcome.VERIFIED
    other = check_block({"warc-block-digest": written}, block + b"x")
    assert other is not None
    assert other.outcome is Outcome.MISMATCH
    assert LABELS[label](block).hexdigest() in other.detail
    assert LABELS[label](block + b"x").hexdigest() in other.detail


@pytest.mark.parametrize(
    "written",
    [
        "",
        "sha1",
        "sha1:",
        "sha1:====",
        hashlib.sha1(b"").hexdigest(),
        "sha1:" + "1" * 32,  # no digit of base 32
        "sha1:" + "_" * 32,
        "sha1:" + "g" * 40,
        "sha1:" + hashlib.md5(b"").hexdigest() + "0",
        "md5:" + hashlib.sha1(b"").hexdigest(),
        "md5:" + base64.b32encode(hashlib.md5(b"").digest()).decode()[:25] + "Z",  # bits that no encoder sets
        "xxh128:" + "0" * 32,
        "urn:sha1:" + hashlib.sha1(b"").hexdigest(),
        "sha1:" + "\u0663" * 40,
        "crc32:00000000",
    ],
)
def test_what_is_no_digest_says_nothing(written):
    check = check_block({"warc-block-digest": written}, b"")
    assert check is not None
    assert check.outcome is Outcome.UNVERIFIABLE
    assert check.detail.startswith("WARC-Block-Digest ")
    assert "\n" not in check.detail
    assert outcome(check_payload({"warc-payload-digest": written}, [b""])) is Outcome.UNVERIFIABLE


def test_no_header_no_check():
    assert check_block({"warc-payload-digest": sha1(b"")}, b"") is None
    assert check_payload({"warc-block-digest": sha1(b"")}, [b""]) is None


@given(st.text(max_size=80))
def test_any_value_is_answered(written):
    assert outcome(check_block({"warc-block-digest": written}, b"x")) in {Outcome.UNVERIFIABLE, Outcome.MISMATCH}


BODY = b"<p>" + b"text and more text " * 30
CHUNKED = b"10\r\n" + gzip.compress(BODY, mtime=0)[:16] + b"\r\n"
CHUNKED += b"%x\r\n" % len(gzip.compress(BODY, mtime=0)[16:]) + gzip.compress(BODY, mtime=0)[16:] + b"\r\n0\r\n\r\n"
CODED = http(CHUNKED, "Transfer-Encoding: chunked", "Content-Encoding: gzip")


@pytest.mark.parametrize(
    "payload", [CHUNKED, gzip.compress(BODY, mtime=0), BODY, CODED], ids=["sent", "dechunked", "decoded", "block"]
)
def test_every_reading_of_a_payload_is_verified(payload):
    headers = {"content-type": "application/http; msgtype=response", "warc-payload-digest": sha1(payload)}
    assert outcome(check_payload(headers, payload_readings(headers, CODED, CAP))) is Outcome.VERIFIED
    damaged = CODED[:-40] + b"?" + CODED[-39:]
    assert outcome(check_payload(headers, payload_readings(headers, damaged, CAP))) is Outcome.MISMATCH


def test_readings_are_made_only_when_they_are_needed():
    def never() -> bytes:
        raise AssertionError("a reading that nobody needs")

    assert outcome(check_payload({"warc-payload-digest": sha1(b"a")}, [b"a", never])) is Outcome.VERIFIED
    assert outcome(check_payload({"warc-payload-digest": "xxh3:00"}, [never])) is Outcome.UNVERIFIABLE
    revisit = {"warc-type": "revisit", "warc-payload-digest": sha1(b"a")}
    assert outcome(check_payload(revisit, [never])) is Outcome.UNVERIFIABLE


@pytest.mark.parametrize("error", [CodingError, BombError, ValueError])
def test_a_reading_that_cannot_be_made_is_none(error):
    def broken() -> bytes:
        raise error("damaged")

    headers = {"warc-payload-digest": sha1(b"a")}
    assert outcome(check_payload(headers, [broken, b"a"])) is Outcome.VERIFIED
    assert outcome(check_payload(headers, [broken, b"b"])) is Outcome.MISMATCH
    assert outcome(check_payload(headers, [broken])) is Outcome.UNVERIFIABLE


def test_a_bomb_is_no_reading():
    bomb = http(brotli.compress(bytes(4 * CAP)), "Content-Encoding: br")
    headers = {"content-type": "application/http", "warc-payload-digest": sha1(bytes(4 * CAP))}
    assert outcome(check_payload(headers, payload_readings(headers, bomb, CAP))) is Outcome.MISMATCH


@pytest.mark.parametrize(
    "extra",
    [
        {"warc-segment-number": "1"},
        {"warc-type": "continuation", "warc-segment-number": "2"},
        {"warc-type": "response", "warc-truncated": "length"},
    ],
)
def test_a_payload_that_is_not_all_there(extra):
    headers = {"warc-payload-digest": sha1(b"the whole"), "warc-block-digest": sha1(b"the"), **extra}
    assert outcome(check_payload(headers, [b"the"])) is Outcome.UNVERIFIABLE
    assert outcome(check_payload(headers, [b"the whole"])) is Outcome.VERIFIED
    assert outcome(check_block(headers, b"the")) is Outcome.VERIFIED
    assert outcome(check_block(headers, b"The")) is Outcome.MISMATCH


def test_requests_and_records_without_http():
    post = b"POST /form HTTP/1.1\r\nHost: site.example\r\n\r\na=1"
    headers = {"content-type": "application/http; msgtype=request", "warc-payload-digest": sha1(b"a=1")}
    assert outcome(check_payload(headers, payload_readings(headers, post, CAP))) is Outcome.VERIFIED
    headers = {"content-type": "text/plain", "warc-payload-digest": sha1(b"plain\r\n\r\ntext")}
    assert outcome(check_payload(headers, payload_readings(headers, b"plain\r\n\r\ntext", CAP))) is Outcome.VERIFIED
    headers = {"content-type": "application/http", "warc-payload-digest": sha1(b"")}
    assert outcome(check_payload(headers, payload_readings(headers, b"HTTP/1.1 204 No\r\n", CAP))) is Outcome.VERIFIED


@settings(max_examples=30)
@given(st.lists(st.binary(max_size=60), min_size=1, max_size=4), st.sampled_from([True, False]))
def test_what_warcio_writes_is_verified(bodies, compress):
    target = BytesIO()
    writer = WARCWriter(target, gzip=compress)
    for body in bodies:
        head = StatusAndHeaders("200 OK", [("Content-Type", "text/html")], protocol="HTTP/1.1")
        writer.write_record(
            writer.create_warc_record("http://site.example/", "response", payload=BytesIO(body), http_headers=head)
        )
        writer.write_record(writer.create_warc_record("urn:x:y", "resource", payload=BytesIO(body)))
    checks = [check for pair in checked(target.getvalue()) for check in pair]
    assert [outcome(check) for check in checks] == [Outcome.VERIFIED] * 4 * len(bodies)


def checked(data: bytes):
    """The checks of block and payload of each record, as far as warcio can read."""
    found = []
    try:
        for record in ArchiveIterator(BytesIO(data), no_record_parse=True):
            block = record.raw_stream.read()
            headers: dict[str, str] = {}
            for name, value in record.rec_headers.headers:
                headers.setdefault(name.lower(), value)
            found.append((check_block(headers, block), check_payload(headers, payload_readings(headers, block, CAP))))
    except ArchiveLoadFailed:
        pass
    return found


def warcio_passes(data: bytes) -> list[bool | None]:
    found = []
    try:
        for record in ArchiveIterator(BytesIO(data), check_digests=True):
            record.raw_stream.read()
            found.append(record.digest_checker.passed)
    except ArchiveLoadFailed:
        pass
    return found


FILES = sorted(path for folder in ("valid", "odd") for path in (CRAWL / folder).glob("*.warc*"))


@pytest.mark.parametrize(
    "path", FILES or [pytest.param(CRAWL, marks=pytest.mark.skip("no shared/crawl"))], ids=lambda p: p.name
)
def test_nothing_that_warcio_verifies_is_a_mismatch(path):
    data = path.read_bytes()
    for passed, pair in zip(warcio_passes(data), checked(data), strict=False):
        if passed:
            # warcio passes over both digests of a revisit, and over the payload's of a segment.
            assert Outcome.MISMATCH not in {outcome(check) for check in pair}
