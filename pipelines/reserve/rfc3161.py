"""RFC 3161 time stamps: the request for an authority, and what its answer proves::

    nonce = fresh_nonce()
    make_request(checkpoint, nonce)                 # carry it to a machine with a network, post it to an authority
    check_answer(answer, checkpoint, nonce, read_roots(pem))

Requests need nothing; answers need the package `rfc3161-client` (``pip install 'human-reserve[timestamps]'``). Neither
checks whether a certificate was revoked.

Source: RFC 3161, sections 2.2 and 2.4; `openssl ts -verify` reads the same files.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509

from pipelines.errors import JobError, UsageError

if TYPE_CHECKING:
    from rfc3161_client import TimeStampResponse

EXTRA = "pip install 'human-reserve[timestamps]'"
MAX_BYTES = 1 << 20  # of an answer; those with long chains of certificates have some 10 kB

_SHA256 = "2.16.840.1.101.3.4.2.1"
_SHA256_DER = bytes.fromhex("300d06096086480165030402010500")  # AlgorithmIdentifier with NULL
_STATUS = ("granted", "granted with changes", "rejected", "waiting", "revocation warning", "revocation notification")


class Answer(NamedTuple):
    """What an authority's answer says."""

    digest: bytes  # SHA-256 of what was stamped
    nonce: int | None
    time: datetime  # in UTC
    accuracy: timedelta | None  # either way, where the authority says so
    authority: str | None  # subject of the certificate that signed (RFC 4514); None where the answer holds none


def fresh_nonce() -> int:
    """A random number of 64 bits, by which an answer is known as that to one request."""
    return secrets.randbits(63) | 1 << 63  # the top bit set: every nonce takes the same number of bytes


def make_request(message: bytes, nonce: int) -> bytes:
    """A request (TimeStampReq, DER) for a stamp over the SHA-256 of a message, the authority's certificate included.

    The same message and nonce give the same bytes, so that a kept request can be checked byte by byte.

    >>> len(make_request(b"checkpoint", 1 << 63))
    70
    """
    imprint = _der(0x30, _SHA256_DER + _der(0x04, hashlib.sha256(message).digest()))
    number = nonce.to_bytes(nonce.bit_length() // 8 + 1, "big")
    return _der(0x30, _der(0x02, b"\x01") + imprint + _der(0x02, number) + _der(0x01, b"\xff"))


def read_answer(answer: bytes, source: str = "answer") -> Answer:
    """What an answer (TimeStampResp, DER) says; nothing of it is checked yet.

    Raises JobError where it is no answer or the authority refused, and UsageError without the package that reads it.
    """
    return _said(_decode(answer, source), source)


def check_answer(
    answer: bytes, message: bytes, nonce: int, roots: Sequence[x509.Certificate], source: str = "answer"
) -> Answer:
    """Checks that an authority under one of the roots stamped the message, in answer to the request with the nonce.

    Args:
        answer: TimeStampResp, DER.
        message: what the request was made for.
        nonce: of the request.
        roots: certificates that are trusted, with what lies between them and the authority's if the answer lacks it.
            Empty: digest and nonce are checked, but not the signature.
        source: what errors call the answer; a path, say.

    Raises JobError that says what does not hold.
    """
    response = _decode(answer, source)
    said = _said(response, source)
    digest = hashlib.sha256(message).digest()
    if said.digest != digest:
        raise JobError(f"{source}: stamps another message: SHA-256 {said.digest.hex()}, and not {digest.hex()}")
    if said.nonce != nonce:
        raise JobError(f"{source}: answers another request: its nonce is {said.nonce}, and not {nonce}")
    if roots:
        _check_signature(response, digest, nonce, roots, source)
    return said


def read_roots(pem: bytes, source: str = "roots") -> list[x509.Certificate]:
    """The certificates of a PEM file. Raises UsageError where there are none, or none that signed itself."""
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise UsageError(f"{source}: cannot be read as certificates in PEM: {error}") from None
    if not any(certificate.subject == certificate.issuer for certificate in certificates):
        raise UsageError(
            f"{source}: holds no root certificate (one that signed itself), which is what trust begins with"
        )
    return certificates


def _check_signature(
    response: TimeStampResponse, digest: bytes, nonce: int, roots: Sequence[x509.Certificate], source: str
) -> None:
    import rfc3161_client

    # Certificates are parsed here too: what a damaged one raises is of no one kind, here and below.
    builder = rfc3161_client.VerifierBuilder(
        nonce=nonce,
        roots=[c for c in roots if c.subject == c.issuer],
        intermediates=[c for c in roots if c.subject != c.issuer],
    )
    try:
        builder.build().verify(response, digest)
    except Exception as error:
        raise JobError(f"{source}: the stamp does not hold under the given root certificates: {error}") from None


def _decode(answer: bytes, source: str) -> TimeStampResponse:
    try:
        import rfc3161_client
    except ImportError:
        raise UsageError(f"{source}: reading RFC 3161 time stamps needs rfc3161-client: {EXTRA}") from None
    if len(answer) > MAX_BYTES:
        raise JobError(f"{source}: {len(answer)} bytes; an RFC 3161 answer has fewer than {MAX_BYTES}")
    try:
        response = rfc3161_client.decode_timestamp_response(answer)
        status, words = response.status, response.status_string
    except Exception as error:
        raise JobError(f"{source}: is no RFC 3161 answer, or is damaged: {error}") from None
    if status != rfc3161_client.PKIStatus.GRANTED:
        name = _STATUS[status] if 0 <= status < len(_STATUS) else "unknown"
        raise JobError(
            f"{source}: the stamp was not granted as asked: status {status} ({name}) {'; '.join(words)}".rstrip()
        )
    return response


def _said(response: TimeStampResponse, source: str) -> Answer:
    try:
        info = response.tst_info
        imprint = info.message_imprint
        algorithm = imprint.hash_algorithm.dotted_string
        said = Answer(
            digest=imprint.message,
            nonce=info.nonce,
            time=info.gen_time.astimezone(UTC),
            accuracy=_accuracy(info.accuracy),
            authority=_authority(response),
        )
    except Exception as error:
        raise JobError(f"{source}: is no RFC 3161 answer, or is damaged: {error}") from None
    if algorithm != _SHA256:
        raise JobError(f"{source}: stamps a digest of kind {algorithm}; SHA-256 ({_SHA256}) was asked for")
    return said


def _accuracy(accuracy: object) -> timedelta | None:
    if accuracy is None:
        return None
    seconds, millis, micros = (getattr(accuracy, unit) or 0 for unit in ("seconds", "millis", "micros"))
    return timedelta(seconds=seconds, milliseconds=millis, microseconds=micros)


def _authority(response: TimeStampResponse) -> str | None:
    """The subject of the certificate that the signature names: the name in the stamp itself is only a hint."""
    signers = list(response.signed_data.signer_infos)
    for der in response.signed_data.certificates:
        certificate = x509.load_der_x509_certificate(der)
        if any((certificate.issuer, certificate.serial_number) == (s.issuer, s.serial_number) for s in signers):
            return certificate.subject.rfc4514_string()
    return None


def _der(tag: int, content: bytes) -> bytes:
    return bytes([tag, len(content)]) + content  # the short form of the length: nothing here reaches 128 bytes
