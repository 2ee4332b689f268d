"""Key files: made, read, and kept from other people's eyes::

    files = keygen("example.com/reserve", Path("keys"), passphrase=read_passphrase(file=Path("secret.txt")))
    signer = read_signer(files.private, read_passphrase(environment="SEAL_PASSPHRASE"))
    verifier = read_verifier(files.vkey)

A private key is PKCS#8 in PEM (RFC 5958), encrypted where there is a pass phrase, in a file that only its owner may
read. Its public half lies beside it twice: as SubjectPublicKeyInfo in PEM (RFC 5280), and as the verifier key of C2SP
signed notes (``.vkey``), which also holds the key's name.
"""

from __future__ import annotations

import getpass
import os
import re
import stat
import sys
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import SecretBytes

from pipelines.errors import UsageError
from pipelines.reserve.note import (
    Algorithm,
    Signer,
    Verifier,
    check_name,
    parse_vkey,
    with_mldsa,
)

MAX_PASSPHRASE = 1023  # bytes; OpenSSL takes no more

_LARGEST = 65536  # bytes of a key file; the largest that is made has fewer than 3000


class KeyFiles(NamedTuple):
    """What `keygen` wrote."""

    private: Path  # NAME-ALGORITHM.key
    public: Path  # NAME-ALGORITHM.pub
    vkey: Path  # NAME-ALGORITHM.vkey
    verifier: Verifier


def keygen(
    name: str, folder: Path, algorithm: Algorithm = Algorithm.ED25519, passphrase: SecretBytes | None = None
) -> KeyFiles:
    """Makes a key and writes its three files; the folder is made if it is not there.

    Args:
        name: the key's, by custom the origin of the log that it signs: ``example.com/reserve``.
        folder: where the files go; in their names, ``_`` stands for all but letters, digits, ``.``, ``_`` and ``-``.
        algorithm: of the key.
        passphrase: encrypts the private key; None: it lies there readable for whoever has the file.

    Raises UsageError where a file is there already, where the name cannot be a key's, and where the algorithm is not
    supported here. Nothing is left behind then.
    """
    check_name(name)
    if algorithm is Algorithm.ML_DSA_44 and len(name.encode()) > 255:
        raise UsageError(f"key name {name!r}: longer than the 255 bytes that {algorithm} signs")
    stem = re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".-") or "key"
    paths = [folder / f"{stem}-{algorithm}{suffix}" for suffix in (".key", ".pub", ".vkey")]
    for path in paths:
        if os.path.lexists(path):
            raise UsageError(f"{path}: is there already, and a key is never overwritten; name another folder")
    if algorithm is Algorithm.ED25519:
        signer = Signer(name, Ed25519PrivateKey.generate())
    else:
        signer = Signer(name, with_mldsa(lambda mldsa: mldsa.MLDSA44PrivateKey.generate()))
    contents = (_private_pem(signer, passphrase), public_pem(signer.verifier), f"{signer.verifier.vkey}\n".encode())
    _write_new(list(zip(paths, contents, (0o600, 0o644, 0o644), strict=True)))
    return KeyFiles(paths[0], paths[1], paths[2], signer.verifier)


def read_signer(path: Path, passphrase: SecretBytes | None = None, name: str | None = None) -> Signer:
    """Reads a private key.

    Args:
        path: PKCS#8 in PEM; nobody but the owner may be allowed to read it.
        passphrase: where the key is encrypted.
        name: the key's; None: as the ``.vkey`` file beside it says.

    Raises UsageError, which names the file and the mend.
    """
    pem, mode = _read(path, "private key")
    if b"PUBLIC KEY-----" in pem or (b"-----BEGIN" not in pem and b"+" in pem):
        raise UsageError(f"{path}: is a public key; signing needs the private one, whose name ends with .key")
    _check_mode(path, mode, "private key")
    try:
        key = serialization.load_pem_private_key(pem, passphrase.get_secret_value() if passphrase else None)
    except TypeError:  # the library's way of saying that a pass phrase is wanted, or is not
        if passphrase is None:
            raise UsageError(
                f"{path}: is encrypted; give its pass phrase in a file or an environment variable"
            ) from None
        raise UsageError(f"{path}: is not encrypted; leave out the pass phrase") from None
    except UnsupportedAlgorithm:
        raise UsageError(f"{path}: cryptography as installed here does not know this kind of key") from None
    except ValueError:
        if passphrase is not None and b"ENCRYPTED" in pem:
            raise UsageError(f"{path}: the pass phrase is wrong, or the file is damaged") from None
        raise UsageError(f"{path}: is no private key in PEM (PKCS#8), or is damaged") from None
    if not isinstance(key, Ed25519PrivateKey) and not _is_mldsa(key, "MLDSA44PrivateKey"):
        raise _wrong_kind(path, key)
    if name is not None:
        return Signer(name, key)  # type: ignore[arg-type]  # narrowed by hand: the ML-DSA types may be missing
    beside = path.with_suffix(".vkey")
    if not beside.exists():
        raise UsageError(f"{path}: what is the key's name? Give it, or put the file {beside.name} beside the key")
    verifier = read_verifier(beside)
    signer = Signer(verifier.name, key)  # type: ignore[arg-type]
    if signer.verifier != verifier:
        raise UsageError(f"{beside}: belongs to another key than {path.name}")
    return signer


def read_verifier(path: Path, name: str | None = None) -> Verifier:
    """Reads a public key: a verifier key, or SubjectPublicKeyInfo in PEM.

    Args:
        path: the file.
        name: of a key in PEM, which does not hold one: the origin of the checkpoint that is to be checked. Where it is
            given, a verifier key must bear it too.

    Raises UsageError, which names the file and the mend.
    """
    content, _ = _read(path, "public key")
    if b"PRIVATE KEY-----" in content:
        raise UsageError(
            f"{path}: is a private key, and nobody should be asked for it; give the public one (.pub, .vkey)"
        )
    if b"-----BEGIN" in content:
        if name is None:
            raise UsageError(f"{path}: a key in PEM has no name; give the .vkey file")
        return _verifier_from_pem(content, path, name)
    try:
        verifier = parse_vkey(content.decode(), str(path))
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is neither a verifier key nor PEM") from None
    if name not in (None, verifier.name):
        raise UsageError(f"{path}: is the key of {verifier.name}, not of {name}")
    return verifier


def public_pem(verifier: Verifier) -> bytes:
    """The public key as SubjectPublicKeyInfo in PEM, which `openssl pkey -pubin` reads."""
    if verifier.algorithm is Algorithm.ED25519:
        key = Ed25519PublicKey.from_public_bytes(verifier.public)
    else:
        key = with_mldsa(lambda mldsa: mldsa.MLDSA44PublicKey.from_public_bytes(verifier.public))
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def read_passphrase(
    file: Path | None = None, environment: str | None = None, prompt: bool = False, confirm: bool = False
) -> SecretBytes | None:
    """A pass phrase from one place; None where none is named.

    Args:
        file: its content without the line break at the end; nobody but the owner may be allowed to read it.
        environment: the name of a variable.
        prompt: ask at the terminal.
        confirm: ask twice.

    Raises UsageError for more than one place, and where the pass phrase is missing, empty or longer than 1023 bytes.
    """
    if (file is not None) + (environment is not None) + prompt > 1:
        raise UsageError("pass phrase: name one place for it: a file, an environment variable or the terminal")
    if file is not None:
        content, mode = _read(file, "pass phrase")
        _check_mode(file, mode, "pass phrase")
        place, phrase = str(file), content.removesuffix(b"\n").removesuffix(b"\r")
    elif environment is not None:
        if environment not in os.environ:
            raise UsageError(f"pass phrase: the environment variable {environment} is not set")
        place, phrase = f"environment variable {environment}", os.fsencode(os.environ[environment])
    elif prompt:
        place, phrase = "terminal", _ask(confirm)
    else:
        return None
    if not 1 <= len(phrase) <= MAX_PASSPHRASE:
        raise UsageError(f"pass phrase ({place}): must have 1 to {MAX_PASSPHRASE} bytes")
    return SecretBytes(phrase)


def _ask(confirm: bool) -> bytes:
    if not sys.stdin.isatty():
        raise UsageError(
            "pass phrase: there is no terminal to ask at; name a file or a variable, or give --no-passphrase"
        )
    phrase = getpass.getpass("Pass phrase: ")
    if confirm and getpass.getpass("Once more: ") != phrase:
        raise UsageError("pass phrase: the two differ")
    return phrase.encode("utf-8", "surrogateescape")


def _private_pem(signer: Signer, passphrase: SecretBytes | None) -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase.get_secret_value())
    return signer.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _write_new(entries: list[tuple[Path, bytes, int]]) -> None:
    written: list[Path] = []
    try:
        for path, content, mode in entries:
            path.parent.mkdir(parents=True, exist_ok=True)
            # The mode holds from the first moment on; a file that appeared meanwhile is not touched.
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            written.append(path)
            with os.fdopen(descriptor, "wb") as out:
                if mode == 0o600:
                    os.fchmod(out.fileno(), mode)  # whatever the umask
                out.write(content)
                out.flush()
                os.fsync(out.fileno())
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise UsageError(f"{error.filename or entries[0][0]}: cannot be written: {error.strerror}") from None


def _read(path: Path, what: str) -> tuple[bytes, int]:
    """The content of a file and its mode, of the one file that was opened."""
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            content = stream.read(_LARGEST + 1)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    if not content.strip():
        raise UsageError(f"{path}: is empty; it should hold a {what}")
    if len(content) > _LARGEST:
        raise UsageError(f"{path}: has more than {_LARGEST} bytes; that is no {what}")
    return content, mode


def _check_mode(path: Path, mode: int, what: str) -> None:
    if stat.S_ISREG(mode) and mode & 0o077:  # a pipe is nobody else's, whatever its mode
        raise UsageError(f"{path}: others may read this {what} (mode {mode & 0o777:04o}); run: chmod 600 {path}")


def _verifier_from_pem(pem: bytes, path: Path, name: str) -> Verifier:
    try:
        key = serialization.load_pem_public_key(pem)
    except UnsupportedAlgorithm:
        raise UsageError(f"{path}: cryptography as installed here does not know this kind of key") from None
    except ValueError:
        raise UsageError(f"{path}: is no public key in PEM, or is damaged") from None
    if isinstance(key, Ed25519PublicKey):
        return Verifier(name, Algorithm.ED25519, key.public_bytes_raw())
    if _is_mldsa(key, "MLDSA44PublicKey"):
        return Verifier(name, Algorithm.ML_DSA_44, key.public_bytes_raw())  # type: ignore[union-attr]
    raise _wrong_kind(path, key)


def _is_mldsa(key: object, kind: str) -> bool:
    try:
        from cryptography.hazmat.primitives.asymmetric import mldsa
    except ImportError:
        return False
    return isinstance(key, getattr(mldsa, kind))


def _wrong_kind(path: Path, key: object) -> UsageError:
    kind = type(key).__name__.removeprefix("_").removesuffix("PrivateKey").removesuffix("PublicKey")
    return UsageError(f"{path}: is a key of kind {kind}; allowed are {' and '.join(Algorithm)}")
