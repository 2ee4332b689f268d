"""OpenTimestamps proofs: which attestations a file `.ots` holds for a digest::

    ots stamp checkpoint                                  # on a machine with a network; writes checkpoint.ots
    read_proof(Path("checkpoint.ots").read_bytes())

Every operation from the digest to each attestation is carried out. What the attestation itself says is not checked: a
calendar's promise needs the calendar, and a block needs the header of that block.

Needs the package `opentimestamps` (``pip install 'human-reserve[timestamps]'``), whose licence is the LGPL.
Source: https://opentimestamps.org and the reference implementation; there is no other specification.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pipelines.errors import JobError, UsageError
from pipelines.reserve.rfc3161 import EXTRA

MAGIC = b"\x00OpenTimestamps\x00\x00Proof\x00\xbf\x89\xe2\xe8\x84\xe8\x92\x94"
MAX_BYTES = 1 << 16  # of a proof; those of four calendars, with their blocks, have some 4 kB


class Attestation(NamedTuple):
    """One end of a proof."""

    kind: str  # "pending", "bitcoin" or "other"
    where: str  # the calendar's URL, the height of the block, or what else it is
    commitment: bytes  # what is attested; of a block, its Merkle root as it stands in the header

    def __str__(self) -> str:
        if self.kind == "bitcoin":
            return f"Bitcoin block {self.where}, not checked"
        return f"pending at {self.where}" if self.kind == "pending" else self.where


class Proof(NamedTuple):
    """What a file `.ots` holds."""

    digest: bytes  # SHA-256 of what was stamped
    attestations: tuple[Attestation, ...]  # blocks by height, then calendars, then others


def read_proof(content: bytes, source: str = "proof") -> Proof:
    """Reads a detached proof over a SHA-256.

    Raises JobError where it is none or is damaged, and UsageError without the package that reads it.
    """
    try:
        from opentimestamps.core.op import OpSHA256
        from opentimestamps.core.serialize import BytesDeserializationContext, DeserializationError
        from opentimestamps.core.timestamp import DetachedTimestampFile
    except ImportError:
        raise UsageError(f"{source}: reading OpenTimestamps needs opentimestamps: {EXTRA}") from None
    if len(content) > MAX_BYTES:
        raise JobError(f"{source}: {len(content)} bytes; a proof has fewer than {MAX_BYTES}")
    try:
        found = DetachedTimestampFile.deserialize(BytesDeserializationContext(content))
    except (DeserializationError, ValueError, RecursionError) as error:
        raise JobError(f"{source}: is no OpenTimestamps proof, or is damaged: {error}") from None
    if not isinstance(found.file_hash_op, OpSHA256):
        raise JobError(f"{source}: stamps a digest of kind {found.file_hash_op}; SHA-256 was asked for")
    ends = [_attestation(message, end, source) for message, end in found.timestamp.all_attestations()]
    order = {"bitcoin": 0, "pending": 1, "other": 2}
    ends.sort(key=lambda end: (order[end.kind], len(end.where), end.where, end.commitment))
    return Proof(found.file_digest, tuple(ends))


def check_proof(content: bytes, digest: bytes, source: str = "proof") -> Proof:
    """The same, where the proof is for the digest. Raises JobError where it is for another."""
    proof = read_proof(content, source)
    if proof.digest != digest:
        raise JobError(f"{source}: stamps another file: SHA-256 {proof.digest.hex()}, and not {digest.hex()}")
    return proof


def _attestation(message: bytes, found: Any, source: str) -> Attestation:
    from opentimestamps.core.notary import BitcoinBlockHeaderAttestation, PendingAttestation

    if isinstance(found, BitcoinBlockHeaderAttestation):
        if len(message) != 32:
            raise JobError(f"{source}: attests {len(message)} bytes as the root of a Bitcoin block, which has 32")
        return Attestation("bitcoin", str(found.height), message)
    if isinstance(found, PendingAttestation):
        return Attestation("pending", found.uri, message)
    return Attestation("other", f"attestation of type {found.TAG.hex()}", message)
