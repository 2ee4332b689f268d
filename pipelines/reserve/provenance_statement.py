"""What an output was made of and how, as an in-toto statement with SLSA provenance; signed, where it is wanted.

The statement is `provenance.intoto.json`: its subjects are the files of the output with their SHA-256, its predicate is
the job. It names no time and no machine, so that the same input gives the same bytes. An envelope (DSSE) is the same
statement with signatures of seal keys; it is made from a finished output, and lies beside it, not in it::

    envelope = sign_statement(files.read_bytes("out/provenance.intoto.json"), [signer])
    verify_envelope(envelope, [signer.verifier])     # the statement's bytes

What stands under ``digest`` is the SHA-256 of bytes that can be had. Shards are named by URI and size: a run reads them
in parts, and takes no digest of a whole one; what it read of them is held by each document's ``payload_sha256``.

Source: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md, https://slsa.dev/spec/v1.1/provenance and
https://github.com/secure-systems-lab/dsse/blob/master/protocol.md (version 1.0.2).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pipelines import files
from pipelines.errors import UsageError
from pipelines.reserve.manifest import FileDigest
from pipelines.reserve.note import Algorithm, NoteError, Signer, Verifier

NAME: Final = "provenance.intoto.json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://slsa.dev/provenance/v1"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
URN: Final = "urn:human-reserve"
BUILD_TYPE: Final = f"{URN}:run:v1"

Json = dict[str, Any]


def statement(summary: Mapping[str, Any], code: str, written: Iterable[FileDigest]) -> Json:
    """The statement on a run.

    Args:
        summary: of the run, as `summary.json` holds it.
        code: SHA-256, in hex, of the code (:func:`pipelines.versions.code_digest`).
        written: the files that the run wrote, without this one; in any order.
    """
    job, versions = summary["job"], summary["versions"]
    subjects = sorted(written, key=lambda one: one.file)
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": one.file, "digest": {"sha256": one.sha256}} for one in subjects],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"settings": job["settings"]},
                "internalParameters": {"job": job["digest"], "code": code, "versions": versions},
                "resolvedDependencies": list(_dependencies(summary)),
            },
            "runDetails": {
                "builder": {
                    "id": f"{URN}:reserve",
                    "version": {name: versions[name] for name in ("human-reserve", "python")},
                }
            },
        },
    }


def statement_bytes(summary: Mapping[str, Any], code: str, written: Iterable[FileDigest]) -> bytes:
    """The statement as it is written. Arguments as for :func:`statement`."""
    return files.json_bytes(statement(summary, code, written))


def shard_uri(name: str) -> str:
    """A shard as a URI: its own where it is one, else ``urn:human-reserve:shard:`` with the name.

    >>> shard_uri("crawl 1.warc.gz"), shard_uri("s3://bucket/a.warc.gz")
    ('urn:human-reserve:shard:crawl%201.warc.gz', 's3://bucket/a.warc.gz')
    """
    plain = name.encode("utf-8", "surrogateescape")
    return quote(plain, safe=":/%?=&+,;@~") if "://" in name else f"{URN}:shard:{quote(plain, safe='/')}"


def _dependencies(summary: Mapping[str, Any]) -> Iterator[Json]:
    """Shards, earlier outputs, detector, keys of watermarks and policy, as resource descriptors."""
    job, detector = summary["job"], summary["detector"]
    for shard in job["inputs"]:
        yield {"name": shard["name"], "uri": shard_uri(shard["name"]), "annotations": {"bytes": shard["bytes"]}}
    for earlier in job["against"]:
        yield {"name": "earlier output", "uri": f"{URN}:job:{earlier['digest']}"}
    if detector:
        yield {"name": f"detector {detector['name']}", "uri": f"{URN}:detector:{detector['digest']}"}
    for key in (summary["watermarks"] or {"keys": ()})["keys"]:
        yield {"name": f"watermark key {key['id']}", "uri": f"{URN}:watermark-key:{quote(key['key_hash'], safe='')}"}
    policy = json.dumps(job["policy"], sort_keys=True, separators=(",", ":")).encode()
    yield {
        "name": "policy",
        "digest": {"sha256": hashlib.sha256(policy).hexdigest()},
        "content": base64.b64encode(policy).decode(),
        "mediaType": "application/json",
    }


def sign_statement(content: bytes, signers: Sequence[Signer]) -> bytes:
    """The envelope of a statement.

    Args:
        content: the bytes of `provenance.intoto.json`.
        signers: Ed25519 keys.

    Raises UsageError for no key, and for one of another kind: ML-DSA-44 keys sign checkpoints alone.
    """
    if not signers:
        raise UsageError("no key to sign the statement with")
    signatures = []
    for signer in signers:
        if not isinstance(signer.key, Ed25519PrivateKey):
            raise UsageError(f"{signer.verifier}: signs checkpoints alone; sign the statement with a key of ed25519")
        value = base64.b64encode(signer.key.sign(_authenticated(PAYLOAD_TYPE, content))).decode()
        signatures.append({"keyid": signer.verifier.key_id.hex(), "sig": value})
    payload = base64.b64encode(content).decode()
    return files.json_bytes({"payload": payload, "payloadType": PAYLOAD_TYPE, "signatures": signatures})


def verify_envelope(envelope: bytes, verifiers: Sequence[Verifier], source: str = "envelope") -> bytes:
    """The statement in an envelope, once each of the keys is found to have signed it.

    Raises NoteError where the envelope is malformed, and where a key's signature is missing or does not hold, and
    UsageError for no key and for keys that are not Ed25519.
    """
    if not verifiers:
        raise UsageError(f"{source}: no key to check its signatures with")
    try:
        data = json.loads(envelope)
        kind, content = data["payloadType"], base64.b64decode(data["payload"], validate=True)
        signatures = [base64.b64decode(one["sig"], validate=True) for one in data["signatures"]]
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise NoteError(f"{source}: is no DSSE envelope") from None
    if kind != PAYLOAD_TYPE:
        raise NoteError(f"{source}: holds {kind!r}, not {PAYLOAD_TYPE}")
    message = _authenticated(kind, content)
    for verifier in verifiers:
        if verifier.algorithm is not Algorithm.ED25519:
            raise UsageError(f"{verifier}: signs checkpoints alone; give a key of ed25519")
        # The `keyid` is a hint that nobody signed: all signatures are tried.
        if not any(_holds(verifier, message, signature) for signature in signatures):
            raise NoteError(f"{source}: not signed by {verifier}, or changed since")
    return content


def _authenticated(kind: str, content: bytes) -> bytes:
    """What is signed: PAE(type, body) of the protocol."""
    return b"DSSEv1 %d %b %d %b" % (len(kind.encode()), kind.encode(), len(content), content)


def _holds(verifier: Verifier, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(verifier.public).verify(signature, message)
    except InvalidSignature:
        return False
    return True
