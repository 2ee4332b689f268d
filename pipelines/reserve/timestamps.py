"""Time stamps of checkpoints: requests written for an offline machine, answers attached later, and what they prove::

    request = write_request("out/seal", Kind.RFC3161)         # carry these bytes to an authority
    stamp = attach("out/seal", answer, roots=read_roots(pem))
    print(stamp.statement)
    list(read_stamps("out/seal", roots))                      # of every checkpoint that was ever stamped

What is stamped is the file `checkpoint` as it is, signatures included: sign first. A copy of it is kept beside its
stamps, so that they still say something when a later release has another checkpoint::

    timestamps/<16 hex digits of SHA-256(checkpoint)>/
        checkpoint
        <nonce>.tsq                a request; its bytes follow from its name and the checkpoint
        <nonce>-<16 digits>.tsr    an answer; the digits are of its own SHA-256
        <16 digits>.ots            an OpenTimestamps proof; likewise

Reading stamps needs the packages `rfc3161-client` and `opentimestamps`; writing requests needs neither.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from cryptography import x509

from pipelines import files
from pipelines.errors import JobError, UsageError
from pipelines.records import canonical_time
from pipelines.reserve import opentimestamps, rfc3161

_FOLDER = "timestamps"
_CHECKPOINT = "checkpoint"
_DIGITS = re.compile("[0-9a-f]{16}")
_ANSWER = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.tsr")
_REQUEST = re.compile(r"([0-9a-f]{16})\.tsq")
_PROOF = re.compile(r"([0-9a-f]{16})\.ots")
_DER_SEQUENCE = b"\x30"


class Kind(StrEnum):
    """Who stamps."""

    RFC3161 = "rfc3161"
    OPENTIMESTAMPS = "opentimestamps"


class Stamp(NamedTuple):
    """One stamp on one checkpoint, and how far it was checked."""

    kind: Kind
    file: str
    checkpoint: str  # SHA-256 of the checkpoint that it stamps, 64 hex digits
    verified: bool  # whether a trusted authority's signature holds; never so for OpenTimestamps
    checked: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    by: tuple[str, ...] = ()  # the authority, or each attestation
    time: datetime | None = None  # as the authority says, in UTC; None: the stamp itself does not tell
    accuracy: timedelta | None = None  # either way, where the authority says so

    @property
    def statement(self) -> str:
        """What may be said, in one sentence."""
        what, who = f"checkpoint {self.checkpoint[:16]}", "; ".join(self.by) or "nobody by name"
        if self.time is not None:
            within = f" within {self.accuracy.total_seconds():g} s" if self.accuracy else ""
            said = f"says that {what} existed at {canonical_time(self.time)}{within}"
            said = f"{who} {said}" if self.verified else f"a stamp in the name of {who} {said}"
        elif self.by:
            said = f"a proof leads from {what} to: {who}"
        else:
            said = f"a stamp on {what} ({self.kind})"
        return f"{said} (checked: {', '.join(self.checked) or 'nothing'}; not checked: {', '.join(self.unchecked)})"


def write_request(seal: str, kind: Kind) -> bytes:
    """What to carry to a machine with a network; the seal keeps what it needs to check the answer.

    RFC 3161: a request (`.tsq`), to be posted as `application/timestamp-query`. OpenTimestamps: a copy of the
    checkpoint, since `ots stamp` hashes a file itself and shows calendars a blinded digest only.

    Args:
        seal: the folder `seal` of an output.
        kind: who shall stamp.
    """
    checkpoint = _current(seal)
    folder = _keep(seal, checkpoint)
    if kind is Kind.OPENTIMESTAMPS:
        return checkpoint
    nonce = rfc3161.fresh_nonce()
    request = rfc3161.make_request(checkpoint, nonce)
    files.write_bytes(files.join(folder, f"{nonce:016x}.tsq"), request)
    return request


def attach(seal: str, answer: bytes, roots: Sequence[x509.Certificate] = (), source: str = "answer") -> Stamp:
    """Checks an answer against the checkpoint that it is for, the present one or an earlier one, and keeps it.

    Args:
        seal: the folder `seal` of an output.
        answer: a `.tsr` of RFC 3161 (DER) or an `.ots` of OpenTimestamps.
        roots: certificates that are trusted (RFC 3161). Without them the answer is kept, and its signature unchecked.
        source: what errors call the answer; a path, say.

    Raises JobError where the answer does not hold, and UsageError where it is neither, or is there already.
    """
    if answer.startswith(opentimestamps.MAGIC):
        digest = opentimestamps.read_proof(answer, source).digest
        folder = _keep(seal, _stamped(seal, digest, source))
        name = f"{_digits(answer)}.ots"
    elif answer.startswith(_DER_SEQUENCE):
        said = rfc3161.read_answer(answer, source)
        folder = _keep(seal, _stamped(seal, said.digest, source))
        name = f"{said.nonce or 0:016x}-{_digits(answer)}.tsr"
        if not files.exists(files.join(folder, f"{said.nonce or 0:016x}.tsq")):
            raise JobError(f"{source}: answers none of the requests in {folder}: its nonce is {said.nonce}")
    else:
        raise UsageError(f"{source}: is neither an RFC 3161 answer (.tsr, DER) nor an OpenTimestamps proof (.ots)")
    path = files.join(folder, name)
    if files.exists(path):
        raise UsageError(f"{source}: is attached already, as {path}")
    checkpoint = files.read_bytes(files.join(folder, _CHECKPOINT))
    stamp = _check(path, name, answer, checkpoint, roots, source)
    assert stamp is not None
    files.write_bytes(path, answer)
    return stamp


def read_stamps(seal: str, roots: Sequence[x509.Certificate] = ()) -> Iterator[Stamp]:
    """Checks every stamp again, with the bytes of every file in `timestamps/`; none is also a valid number of stamps.

    Raises JobError that names the first file that does not hold or does not belong there. Where the package that reads
    a kind of stamp is missing, the stamp is given with nothing checked but its bytes.
    """
    folders: dict[str, list[str]] = {}
    for entry in files.listing(files.join(seal, _FOLDER, "**")):
        folder, _, name = str(entry.path).rpartition(f"/{_FOLDER}/")[2].rpartition("/")
        if not _DIGITS.fullmatch(folder):
            raise JobError(f"{entry.path}: does not belong to the time stamps; remove it")
        folders.setdefault(folder, []).append(name)
    for folder, names in folders.items():
        path = files.join(seal, _FOLDER, folder)
        kept = files.join(path, _CHECKPOINT)
        checkpoint = files.read_bytes(kept) if _CHECKPOINT in names else None
        if checkpoint is None or folder != _digits(checkpoint):
            raise JobError(f"{kept}: is not the checkpoint that the folder is named after; it was changed or removed")
        for name in names:
            if name == _CHECKPOINT:
                continue
            file = files.join(path, name)
            stamp = _check(file, name, files.read_bytes(file), checkpoint, roots, file)
            if stamp is not None:
                yield stamp


def _check(
    path: str, name: str, content: bytes, checkpoint: bytes, roots: Sequence[x509.Certificate], source: str
) -> Stamp | None:
    """A stamp under its name in the folder of its checkpoint; None for a request."""
    if request := _REQUEST.fullmatch(name):
        if content != rfc3161.make_request(checkpoint, int(request[1], 16)):
            raise JobError(f"{source}: is not the request that its name and its checkpoint make; it was changed")
        return None
    answer, proof = _ANSWER.fullmatch(name), _PROOF.fullmatch(name)
    if not answer and not proof:
        raise JobError(f"{source}: does not belong to the time stamps; remove it")
    if (answer[2] if answer else name[:16]) != _digits(content):
        raise JobError(f"{source}: is not the file that its name promises; it was changed")
    kind = Kind.RFC3161 if answer else Kind.OPENTIMESTAMPS
    try:
        if answer:
            return _answered(path, content, checkpoint, int(answer[1], 16), roots, source)
        return _proved(path, content, checkpoint, source)
    except UsageError as error:  # the package that reads it is not installed
        return Stamp(kind, path, hashlib.sha256(checkpoint).hexdigest(), verified=False, unchecked=(str(error),))


def _answered(
    path: str, content: bytes, checkpoint: bytes, nonce: int, roots: Sequence[x509.Certificate], source: str
) -> Stamp:
    said = rfc3161.check_answer(content, checkpoint, nonce, roots, source)
    checked = ["digest", "nonce"]
    unchecked = ["whether a certificate was revoked"]
    if roots:
        checked.append("signature under the given root certificates, as of the time stamped")
    else:
        unchecked.insert(0, "signature, and with it the authority and the time: no root certificates were given")
    return Stamp(
        Kind.RFC3161,
        path,
        said.digest.hex(),
        verified=bool(roots),
        checked=tuple(checked),
        unchecked=tuple(unchecked),
        by=(said.authority,) if said.authority else (),
        time=said.time,
        accuracy=said.accuracy,
    )


def _proved(path: str, content: bytes, checkpoint: bytes, source: str) -> Stamp:
    proof = opentimestamps.check_proof(content, hashlib.sha256(checkpoint).digest(), source)
    return Stamp(
        Kind.OPENTIMESTAMPS,
        path,
        proof.digest.hex(),
        verified=False,
        checked=("operations from the digest on",),
        unchecked=("the calendars' and blocks' own word, and with it the time",),
        by=tuple(str(end) for end in proof.attestations),
    )


def _current(seal: str) -> bytes:
    path = files.join(seal, _CHECKPOINT)
    try:
        return files.read_bytes(path)
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no checkpoint to stamp; is {seal} the seal of an output?") from None


def _stamped(seal: str, digest: bytes, source: str) -> bytes:
    """The checkpoint with a digest: the present one, or one that was kept."""
    current = _current(seal)
    if hashlib.sha256(current).digest() == digest:
        return current
    try:
        kept = files.read_bytes(files.join(seal, _FOLDER, digest.hex()[:16], _CHECKPOINT))
    except FileNotFoundError:
        kept = b""
    if hashlib.sha256(kept).digest() != digest:
        raise JobError(f"{source}: stamps SHA-256 {digest.hex()}, which is no checkpoint of {seal}")
    return kept


def _keep(seal: str, checkpoint: bytes) -> str:
    """The folder for the stamps of a checkpoint, with the copy of it; made where it is not there."""
    folder = files.join(seal, _FOLDER, _digits(checkpoint))
    copy = files.join(folder, _CHECKPOINT)
    if not files.exists(copy):
        files.write_bytes(copy, checkpoint)
    elif files.read_bytes(copy) != checkpoint:
        raise JobError(f"{copy}: is not the checkpoint that the folder is named after; it was changed")
    return folder


def _digits(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
