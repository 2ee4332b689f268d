"""Checks the signature of a C2PA manifest store with the library of the C2PA project (the ``c2pa`` extra)::

    verification = verify(carrier.payload)
    describe(verification)  # 'signature valid (trust and binding to the text not checked), issued by A Press'

A valid signature says that whoever holds the certificate signed these statements. It does not say who that is: the
certificate is held against no trust list. Nor does it say that the statements are about this text: what binds a
manifest to a text is a hash of the bytes that were published, which no text taken from a page still has.

Nothing is fetched: manifests and certificate states that lie elsewhere are left there.
Source: C2PA Technical Specification 2.4, "Validation"; library: github.com/contentauth/c2pa-python.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from watermark.c2pa_text import source_term

MAX_BYTES = 1 << 20  # of a manifest store; a page may hold many, and each is hashed and parsed as a whole
_WORDS = 60  # characters of a certificate's name

_SETTINGS = {
    "core": {
        "allowed_network_hosts": [],  # none
        "allow_redirects": False,
        "decode_identity_assertions": False,  # their credentials lie elsewhere
        "max_decompressed_manifest_size_in_mb": 8,
    },
    "verify": {
        "ocsp_fetch": False,
        "remote_manifest_fetch": False,
        # Both need trust lists, of which none is at hand: without them every signer is "untrusted".
        "verify_trust": False,
        "verify_timestamp_trust": False,
    },
}
# What compares the bytes of the asset with the manifest: there is no asset here, so these fail for every manifest.
_BINDING = tuple(f"assertion.{kind}Hash." for kind in ("data", "boxes", "bmff", "collection", "multiAsset"))


@dataclass(frozen=True)
class Verification:
    """What the check of one manifest store gave.

    ``signature`` is whether the claim's signature fits the claim and a certificate that was in force.
    ``issuer`` is the organisation (else the name) that the certificate gives, ``signed_at`` the time of the signature's
    time stamp (UTC), None where it has none. ``source_types`` are the digital source types that the active manifest
    states: IPTC terms, or as they stand there. ``problems`` are the failures of the validation in the library's words,
    those of the binding to an asset left out.
    """

    signature: bool
    issuer: str | None = None
    signed_at: datetime | None = None
    source_types: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def valid(self) -> bool:
        """Whether the signature holds and everything that it covers is as it was signed."""
        return self.signature and not self.problems


def load() -> Any:
    """The library.

    Raises:
        ImportError: it is not installed, or does not run on this machine.
    """
    try:
        import c2pa
    except (RuntimeError, ValueError, OSError) as error:
        raise ImportError(str(error) or type(error).__name__) from None
    return c2pa


def verify(payload: bytes) -> Verification:
    """Checks a manifest store (JUMBF). Broken ones never raise: ``problems`` says what is wrong.

    Raises:
        ImportError: the ``c2pa`` extra is not installed.
    """
    c2pa = load()
    if len(payload) > MAX_BYTES:
        return Verification(False, problems=(f"{len(payload)} bytes, more than the {MAX_BYTES} that are checked",))
    if payload[4:8] != b"jumb":
        # The library would look for other formats, and has a parser for each.
        return Verification(False, problems=("not a JUMBF box",))
    try:
        with (
            c2pa.Context.from_dict(_SETTINGS) as context,
            c2pa.Reader("application/c2pa", io.BytesIO(payload), context=context) as reader,
        ):
            verification = _read(json.loads(reader.json()))
    except Exception as error:  # whatever hostile bytes make the library or its answer do, the page goes on
        return Verification(False, problems=(" ".join(str(error).split()) or type(error).__name__,))
    # The length of the box that holds the store; 0 is to the end, 1 for a 64-bit length, which no text needs.
    after = len(payload) - (int.from_bytes(payload[:4], "big") or len(payload))
    if after > 0:
        return replace(verification, problems=(*verification.problems, f"{after} bytes follow the manifest store"))
    return verification


def describe(verification: Verification) -> str:
    """The outcome in one line, the first problem for all."""
    problems = verification.problems
    words = problems[0] + (f" and {len(problems) - 1} more" if len(problems) > 1 else "") if problems else ""
    if not verification.signature:
        return f"signature not valid: {words or 'the manifest has none'}"
    at = f" at {verification.signed_at:%Y-%m-%dT%H:%M:%SZ}" if verification.signed_at is not None else ""
    issued = f"issued{at} by {(verification.issuer or 'nobody named')[:_WORDS]}"
    if problems:
        return f"signature valid, {issued}, but {words}"
    # The caveat before the name, which may be long: the detail of evidence is cut at its end.
    return f"signature valid (trust and binding to the text not checked), {issued}"


def _read(store: dict[str, Any]) -> Verification:
    manifest = store.get("manifests", {}).get(store.get("active_manifest"), {})
    results = store.get("validation_results", {})
    active = results.get("activeManifest", {})
    deltas = [delta.get("validationDeltas", {}) for delta in results.get("ingredientDeltas", [])]
    failures = [failure for codes in (active, *deltas) for failure in codes.get("failure", [])]
    signed = manifest.get("signature_info") or {}
    return Verification(
        signature=_holds(active),
        issuer=signed.get("issuer") or signed.get("common_name"),
        signed_at=_time(signed.get("time")),
        source_types=tuple(dict.fromkeys(_source_types(manifest))),
        problems=tuple(_words(failure) for failure in failures if not failure["code"].startswith(_BINDING)),
    )


def _holds(active: dict[str, Any]) -> bool:
    passed = {status["code"] for status in active.get("success", [])}
    failed = {status["code"].split(".")[0] for status in active.get("failure", [])}
    return "claimSignature.validated" in passed and not failed & {"claimSignature", "signingCredential"}


def _words(failure: dict[str, Any]) -> str:
    explanation = failure.get("explanation")
    return f"{failure['code']} ({' '.join(explanation.split())})" if explanation else str(failure["code"])


def _time(stated: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(stated).astimezone(UTC) if stated else None
    except (ValueError, OverflowError):
        return None


def _source_types(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("digitalSourceType", "digital_source_type") and isinstance(inner, str):
                yield source_term(inner) or inner
            else:
                yield from _source_types(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _source_types(inner)
