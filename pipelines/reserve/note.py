"""C2SP signed notes: a text that one or more keys signed, and the keys that check it::

    note = sign_note(checkpoint.text, [signer])
    note.encode()                                     # the bytes of the file `checkpoint`
    verify_note(parse_note(note.encode()), [signer.verifier])

Two kinds of signature are made and checked: Ed25519 (0x01), over the text, and ML-DSA-44 (0x06), over what
:func:`pipelines.reserve.checkpoint.cosigned_message` makes of a text that is a checkpoint. All others are kept as they
are and never trusted.

Source: https://c2sp.org/signed-note, https://c2sp.org/tlog-cosignature, RFC 8032 and FIPS 204.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pipelines.errors import JobError, UsageError
from pipelines.reserve.checkpoint import CheckpointError, cosigned_message, decode_base64, parse_checkpoint

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

    PrivateKey = Ed25519PrivateKey | MLDSA44PrivateKey

MAX_BYTES = 1_000_000  # of a note: a limit that the specification asks for
MAX_SIGNATURES = 100  # likewise; it asks for at least 16

_PREFIX = "— "
_STAMP = struct.Struct(">Q")  # timestamped_signature.timestamp
_MAX_TIME = 2**63 - 1


class NoteError(JobError):
    """Bytes are no signed note, or a signature does not hold."""


class Algorithm(StrEnum):
    """The kinds of keys that sign."""

    ED25519 = "ed25519"
    ML_DSA_44 = "ml-dsa-44"

    @property
    def type(self) -> int:
        """The signature type of the specification, which enters the key id."""
        return {Algorithm.ED25519: 0x01, Algorithm.ML_DSA_44: 0x06}[self]

    @property
    def key_bytes(self) -> int:
        """Bytes of a raw public key."""
        return {Algorithm.ED25519: 32, Algorithm.ML_DSA_44: 1312}[self]


class Signature(NamedTuple):
    """One signature line."""

    name: str
    key_id: bytes  # 4 bytes
    value: bytes  # what the key made; for ML-DSA-44 after 8 bytes of time

    @property
    def line(self) -> str:
        """The line as it stands in a note, with its line break."""
        return f"{_PREFIX}{self.name} {base64.b64encode(self.key_id + self.value).decode()}\n"


class Note(NamedTuple):
    """A text and what was signed under it."""

    text: str  # ends with a line break
    signatures: tuple[Signature, ...]

    def encode(self) -> bytes:
        """The note as bytes; without signatures, the text alone, which no other program takes for a signed note."""
        if not self.signatures:
            return self.text.encode()
        return "".join((self.text, "\n", *(signature.line for signature in self.signatures))).encode()


@dataclass(frozen=True)
class Verifier:
    """A public key with its name.

    >>> key = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
    >>> parse_vkey(key).key_id.hex(), parse_vkey(key).vkey == key
    ('530d903a', True)
    """

    name: str
    algorithm: Algorithm
    public: bytes  # raw: 32 bytes of Ed25519 (RFC 8032), 1312 of ML-DSA-44 (FIPS 204)

    def __post_init__(self) -> None:
        check_name(self.name)
        if len(self.public) != self.algorithm.key_bytes:
            raise UsageError(
                f"key {self.name}: {len(self.public)} bytes; {self.algorithm} has {self.algorithm.key_bytes}"
            )

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that name the key in its signatures."""
        return key_id(self.name, self.algorithm.type, self.public)

    @property
    def vkey(self) -> str:
        """The key as the specification writes it: ``name+id+base64``."""
        key = base64.b64encode(bytes([self.algorithm.type]) + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{key}"

    def check(self, text: str, value: bytes) -> None:
        """Checks the value of one signature. Raises NoteError where it does not hold."""
        try:
            if self.algorithm is Algorithm.ED25519:
                Ed25519PublicKey.from_public_bytes(self.public).verify(value, text.encode())
            else:
                self._check_mldsa(text, value)
        except (InvalidSignature, CheckpointError):
            raise NoteError(f"the signature of {self} does not hold: text or signature was changed") from None

    def _check_mldsa(self, text: str, value: bytes) -> None:
        if len(value) <= _STAMP.size:
            raise InvalidSignature
        (when,) = _STAMP.unpack_from(value)
        if when > _MAX_TIME:
            raise InvalidSignature
        message = cosigned_message(parse_checkpoint(text), self.name, when)
        with_mldsa(lambda mldsa: mldsa.MLDSA44PublicKey.from_public_bytes(self.public)).verify(
            value[_STAMP.size :], message
        )

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()} ({self.algorithm})"


@dataclass(frozen=True, repr=False)
class Signer:
    """A private key with its name."""

    name: str
    key: PrivateKey

    def __post_init__(self) -> None:
        check_name(self.name)

    @property
    def verifier(self) -> Verifier:
        """The public half."""
        algorithm = Algorithm.ED25519 if isinstance(self.key, Ed25519PrivateKey) else Algorithm.ML_DSA_44
        return Verifier(self.name, algorithm, self.key.public_key().public_bytes_raw())

    def sign(self, text: str, when: int = 0) -> Signature:
        """Signs the text of a note.

        Args:
            text: ends with a line break; for ML-DSA-44 it must be a checkpoint without extension lines.
            when: seconds since 1970 by the signer's own clock, which only ML-DSA-44 records; 0 says nothing.
        """
        if isinstance(self.key, Ed25519PrivateKey):
            value = self.key.sign(text.encode())
        else:
            message = cosigned_message(parse_checkpoint(text), self.name, when)
            value = _STAMP.pack(when) + self.key.sign(message)
        return Signature(self.name, self.verifier.key_id, value)

    def __repr__(self) -> str:
        return f"Signer({self.verifier})"


def key_id(name: str, signature_type: int, public: bytes) -> bytes:
    """The first 4 bytes of SHA-256(name ‖ 0x0A ‖ type ‖ public key)."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([signature_type]) + public).digest()[:4]


def check_name(name: str) -> None:
    """Raises UsageError where a name cannot be that of a key: empty, or with spaces, ``+`` or control characters."""
    if not name or any(c == "+" or c < " " or c.isspace() or "\ud800" <= c <= "\udfff" for c in name):
        raise UsageError(f"key name {name!r}: must not be empty, and must hold neither spaces nor '+'")


def parse_vkey(text: str, source: str = "key") -> Verifier:
    """Reads a verifier key ``name+id+base64``. Raises UsageError, which begins with ``source``."""
    name, found, key64 = (*text.strip().split("+", 2), "", "")[:3]
    try:
        check_name(name)
        key = decode_base64(key64)
    except (UsageError, ValueError):
        key = b""
    if not key:
        raise UsageError(f"{source}: is no verifier key; it should read name+8 hex digits+base64")
    by_type = {algorithm.type: algorithm for algorithm in Algorithm}
    if key[0] not in by_type:
        raise UsageError(f"{source}: holds a key of type 0x{key[0]:02x}; 0x01 (Ed25519) and 0x06 (ML-DSA-44) are known")
    if found != key_id(name, key[0], key[1:]).hex():
        raise UsageError(f"{source}: its id {found!r} does not belong to its name and key; it was changed or cut")
    return Verifier(name, by_type[key[0]], key[1:])


def parse_note(data: bytes, source: str = "note", unsigned: bool = False) -> Note:
    """Reads a signed note; nothing is trusted yet.

    Args:
        data: the whole file.
        source: what errors call it; a path, say.
        unsigned: whether a text without signatures is taken for a note with none.

    Raises NoteError, which names the line.
    """
    text = _decode(data, source)
    head, blank, tail = text.rpartition("\n\n")
    if not blank:
        if unsigned and text.endswith("\n"):
            return Note(text, ())
        raise NoteError(f"{source}: is not signed: there is no blank line with signatures after it")
    if not tail:
        raise NoteError(f"{source}: is not signed: nothing follows the blank line")
    if not tail.endswith("\n"):
        raise NoteError(f"{source}: cut short: its last line does not end with a line break")
    lines = tail.split("\n")[:-1]
    if len(lines) > MAX_SIGNATURES:
        raise NoteError(f"{source}: {len(lines)} signatures; at most {MAX_SIGNATURES} are read")
    first = head.count("\n") + 3
    return Note(f"{head}\n", tuple(_signature(line, f"{source}, line {n}") for n, line in enumerate(lines, first)))


def verify_note(note: Note, verifiers: Iterable[Verifier], source: str = "note") -> tuple[Signature, ...]:
    """Checks that each of the keys signed the note, and that none of their signatures is wrong.

    Signatures of other keys are passed over, as the specification demands.

    Raises NoteError where a key's signature is missing or does not hold, and UsageError where no key is given.
    """
    wanted = list(verifiers)
    if not wanted:
        raise UsageError(f"{source}: no key to check its signatures with")
    held = []
    for verifier in wanted:
        found = [s for s in note.signatures if (s.name, s.key_id) == (verifier.name, verifier.key_id)]
        if not found:
            names = ", ".join(f"{s.name}+{s.key_id.hex()}" for s in note.signatures) or "nobody"
            raise NoteError(f"{source}: not signed by {verifier}; it is signed by {names}")
        for signature in found:
            try:
                verifier.check(note.text, signature.value)
            except NoteError as error:
                raise NoteError(f"{source}: {error}") from None
        held += found
    return tuple(held)


def sign_note(text: str, signers: Sequence[Signer], kept: Sequence[Signature] = (), when: int = 0) -> Note:
    """Signs a text with all keys, in their order, after the signatures that it has already.

    A key that signed before signs anew. Raises NoteError for a text that no note can hold.

    Args:
        text: ends with a line break.
        signers: the keys.
        kept: signatures of the same text, which stay as they are.
        when: see :meth:`Signer.sign`.
    """
    try:
        if _decode(text.encode(), "note") != text or not text.endswith("\n"):
            raise NoteError("note: the text does not end with a line break")
    except UnicodeEncodeError:
        raise NoteError("note: the text cannot be written in UTF-8") from None
    new = [signer.sign(text, when) for signer in signers]
    replaced = {(signature.name, signature.key_id) for signature in new}
    return Note(text, (*(s for s in kept if (s.name, s.key_id) not in replaced), *new))


def with_mldsa(call: Any) -> Any:
    """Calls a function with the module of ML-DSA. Raises UsageError where `cryptography` has none that works here."""
    try:
        from cryptography.hazmat.primitives.asymmetric import mldsa

        return call(mldsa)
    except (ImportError, UnsupportedAlgorithm):
        raise UsageError(
            f"{Algorithm.ML_DSA_44}: cryptography {version('cryptography')} as installed here does not support it; "
            "install the wheel of version 48 or later (pip install 'cryptography>=48'), or use ed25519"
        ) from None


def _decode(data: bytes, source: str) -> str:
    if len(data) > MAX_BYTES:
        raise NoteError(f"{source}: {len(data)} bytes; at most {MAX_BYTES} are read")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise NoteError(f"{source}: is not UTF-8 at byte {error.start}") from None
    for line, content in enumerate(text.split("\n"), 1):
        if any(c < " " for c in content):
            raise NoteError(f"{source}, line {line}: holds a control character")
    return text


def _signature(line: str, source: str) -> Signature:
    name, _, encoded = line.removeprefix(_PREFIX).partition(" ")
    if not line.startswith(_PREFIX):
        raise NoteError(f"{source}: is no signature; it should read '— name base64'")
    try:
        check_name(name)
        value = decode_base64(encoded)
    except (UsageError, ValueError) as error:
        raise NoteError(f"{source}: is no signature: {error}") from None
    if len(value) < 5:
        raise NoteError(f"{source}: the signature has {len(value)} bytes; it begins with 4 of the key's id")
    return Signature(name, value[:4], value[4:])
