"""Whether the bytes of a record are those that its digests were made of.

    check_block(record.headers, record.block)
    check_payload(record.headers, payload_readings(record.headers, record.block, cap))

Each is a :class:`Check`, or ``None`` for a record without that digest. Nothing is claimed that cannot be known: a
digest of an unknown kind, or of bytes that are not in the record, is ``unverifiable``.

Source: ISO 28500:2017 (WARC 1.1), sections 5.8 ``WARC-Block-Digest``, 5.9 ``WARC-Payload-Digest`` and 6.7.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from pipelines.ingest.http import BombError, CodingError, Response, dechunk, decode_body, parse_response

_HEAD_END = re.compile(rb"\r?\n[ \t]*\r?\n")
# By the label in lower case without hyphens and the like.
_ALGORITHMS: dict[str, Callable[[bytes], bytes]] = {
    "md5": lambda data: hashlib.md5(data, usedforsecurity=False).digest(),
    "sha1": lambda data: hashlib.sha1(data, usedforsecurity=False).digest(),
    "sha224": lambda data: hashlib.sha224(data).digest(),
    "sha256": lambda data: hashlib.sha256(data).digest(),
    "sha384": lambda data: hashlib.sha384(data).digest(),
    "sha512": lambda data: hashlib.sha512(data).digest(),
    "sha3224": lambda data: hashlib.sha3_224(data).digest(),
    "sha3256": lambda data: hashlib.sha3_256(data).digest(),
    "sha3384": lambda data: hashlib.sha3_384(data).digest(),
    "sha3512": lambda data: hashlib.sha3_512(data).digest(),
    "blake2b": lambda data: hashlib.blake2b(data).digest(),
    "blake2s": lambda data: hashlib.blake2s(data).digest(),
}
_SIZES = {name: len(digest(b"")) for name, digest in _ALGORITHMS.items()}
# Base 32 (RFC 4648) as the digits of int(…, 32); what is no digit of it becomes one that int refuses.
_BASE32 = str.maketrans(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz2345670189_",
    "0123456789ABCDEFGHIJKLMNOP0123456789ABCDEFGHIJKLMNOPQRSTUV!!!!!",
)


class Outcome(StrEnum):
    """What a digest says of the bytes."""

    VERIFIED = "verified"
    MISMATCH = "mismatch"
    UNVERIFIABLE = "unverifiable"


class Check(NamedTuple):
    """The outcome for one digest; ``detail`` says why it is not verified, on one line for people."""

    outcome: Outcome
    detail: str = ""


Reading = bytes | Callable[[], bytes]
_VERIFIED = Check(Outcome.VERIFIED)


def check_block(headers: Mapping[str, str], block: bytes) -> Check | None:
    """Compares ``WARC-Block-Digest`` with a record's block. ``headers`` have names in lower case."""
    return _check("WARC-Block-Digest", headers.get("warc-block-digest"), [block])


def check_payload(headers: Mapping[str, str], readings: Iterable[Reading]) -> Check | None:
    """Compares ``WARC-Payload-Digest`` with what a payload may be: verified if one reading fits.

    Readings are bytes or make them when they are called; one that raises ``CodingError``, ``BombError`` or
    ``ValueError`` is no reading. A digest that fits none is a mismatch unless it was made of more than the record
    holds: a ``revisit`` carries that of the record it stands for, a segment that of the whole, and a truncated record
    may carry that of what was cut off.
    """
    written = headers.get("warc-payload-digest")
    if written is None:
        return None
    elsewhere = _why_elsewhere(headers)
    if elsewhere == "revisit":
        return Check(Outcome.UNVERIFIABLE, "WARC-Payload-Digest is that of the record that is revisited")
    check = _check("WARC-Payload-Digest", written, readings)
    if check is not None and check.outcome is Outcome.MISMATCH and elsewhere:
        return Check(
            Outcome.UNVERIFIABLE, f"WARC-Payload-Digest may be that of more than the record holds: {elsewhere}"
        )
    return check


def payload_readings(headers: Mapping[str, str], block: bytes, cap: int) -> list[Reading]:
    """What tools take for the payload of a record, in the order of how many do.

    The specification has the entity-body of an HTTP message, which in HTTP/1.1 is without transfer coding; most writers
    hash the body as it was sent, some what is left when content coding is undone too, or the whole block. ``cap``, in
    bytes, is for the last but one.
    """
    kind = headers.get("content-type", "").lower()
    if not block.startswith((b"HTTP/", b"http/")) and not kind.startswith("application/http"):
        return [block]
    head = _HEAD_END.search(block)
    sent = block[head.end() :] if head else b""
    if not head or block[:5].upper() != b"HTTP/":
        return [sent, block]

    def response() -> Response:
        return parse_response(block)

    names = block[: head.start()].lower()
    readings: list[Reading] = [sent]
    if b"transfer-encoding" in names:
        readings.append(lambda: dechunk(sent))
    if b"content-encoding" in names:
        readings.append(lambda: decode_body(response(), cap))
    return [*readings, block]


def _why_elsewhere(headers: Mapping[str, str]) -> str:
    """Why the digested payload need not be in the record; empty: it has to be."""
    kind = headers.get("warc-type", "").lower()
    if kind == "revisit":
        return kind
    if "warc-segment-number" in headers or kind == "continuation":
        return "it is a segment"
    return "it is truncated" if "warc-truncated" in headers else ""


def _check(header: str, written: str | None, readings: Iterable[Reading]) -> Check | None:
    if written is None:
        return None
    label, colon, value = written.partition(":")
    if not colon:
        return Check(Outcome.UNVERIFIABLE, f"{header} is no labelled digest: {written[:80]!r}")
    algorithm = _algorithm(label)
    if algorithm is None:
        return Check(Outcome.UNVERIFIABLE, f"{header} is of an unknown kind, {label[:40]!r}")
    digest = _ALGORITHMS[algorithm]
    expected = _decode(value.strip().rstrip("="), _SIZES[algorithm])
    if expected is None:
        return Check(Outcome.UNVERIFIABLE, f"{header} has no {algorithm} value: {written[:80]!r}")
    computed: bytes | None = None
    for reading in readings:
        try:
            found = digest(reading if isinstance(reading, bytes) else reading())
        except (CodingError, BombError, ValueError):
            continue
        if found == expected:
            return _VERIFIED
        computed = computed or found
    if computed is None:
        return Check(Outcome.UNVERIFIABLE, f"{header} cannot be compared: the payload cannot be decoded")
    return Check(Outcome.MISMATCH, f"{header} is {algorithm}:{expected.hex()}, and the bytes give {computed.hex()}")


@lru_cache(maxsize=64)
def _algorithm(label: str) -> str | None:
    algorithm = re.sub(r"[-_/\s]", "", label).lower()
    return algorithm if algorithm in _ALGORITHMS else None


def _decode(value: str, size: int) -> bytes | None:
    """A digest of ``size`` bytes from hex, base 32 or base 64 without padding, told apart by their lengths."""
    length = len(value)
    decoded = b""
    try:
        if length == -(-size * 8 // 5):
            # int also takes signs and digits of other scripts.
            if value.isascii() and value.isalnum():
                number, spare = int(value.translate(_BASE32), 32), length * 5 - size * 8
                decoded = (number >> spare).to_bytes(size, "big") if not number & ((1 << spare) - 1) else b""
        elif length == size * 2:
            decoded = bytes.fromhex(value)
        elif length == -(-size * 8 // 6):
            decoded = base64.b64decode(value.replace("-", "+").replace("_", "/") + "=" * (-length % 4))
    except ValueError:
        return None
    return decoded if len(decoded) == size else None
