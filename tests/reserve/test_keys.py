"""Key files: what is written, who may read it, what is refused, and that a pass phrase never shows."""

import os
import shutil
import stat
import subprocess
import traceback
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretBytes

from pipelines.errors import UsageError
from pipelines.reserve.keys import KeyFiles, keygen, read_passphrase, read_signer, read_verifier
from pipelines.reserve.note import Algorithm, Signer, parse_note, sign_note, verify_note

NAME = "example.com/reserve"
PHRASE = "correct horse battery staple"
SECRET = SecretBytes(PHRASE.encode())
TEXT = f"{NAME}\n1\n{'A' * 43}=\n"
EACH = pytest.mark.parametrize("algorithm", list(Algorithm))


@pytest.fixture
def locked(tmp_path: Path) -> KeyFiles:
    return keygen(NAME, tmp_path, passphrase=SECRET)


def write(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


@EACH
@pytest.mark.parametrize("passphrase", [None, SECRET])
def test_a_new_key_signs_and_its_public_halves_check(
    tmp_path: Path, algorithm: Algorithm, passphrase: SecretBytes | None
) -> None:
    files = keygen(NAME, tmp_path / "keys", algorithm, passphrase)
    assert sorted(tmp_path.joinpath("keys").iterdir()) == sorted([files.private, files.public, files.vkey])
    assert (b"ENCRYPTED" in files.private.read_bytes()) is (passphrase is not None)
    signer = read_signer(files.private, passphrase)
    note = parse_note(sign_note(TEXT, [signer]).encode())
    for verifier in (read_verifier(files.vkey), read_verifier(files.public, NAME), files.verifier):
        verify_note(note, [verifier])
        assert verifier == files.verifier


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_only_the_owner_may_read_a_new_private_key(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        private = keygen(NAME, tmp_path).private
    finally:
        os.umask(before)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600


def test_a_key_is_never_overwritten(locked: KeyFiles) -> None:
    content = locked.private.read_bytes()
    for path in locked[:3]:
        for other in set(locked[:3]) - {path}:
            other.unlink(missing_ok=True)
        with pytest.raises(UsageError, match=f"{path}: is there already"):
            keygen(NAME, path.parent)
        assert list(path.parent.iterdir()) == [path]
        for other, filling in zip(locked[:3], (content, b"x", b"x"), strict=True):
            other.write_bytes(filling)
    locked.private.unlink()
    locked.private.symlink_to("nowhere")
    with pytest.raises(UsageError, match="is there already"):
        keygen(NAME, locked.private.parent)


def test_nothing_stays_behind_where_a_file_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def full(path: Path, flags: int, mode: int = 0o777) -> int:
        if str(path).endswith(".vkey"):
            raise OSError(28, "No space left on device", str(path))
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(UsageError, match=r"\.vkey: cannot be written: No space left"):
        keygen(NAME, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610, 0o601])
def test_a_key_that_others_may_touch_is_refused_with_the_mend(locked: KeyFiles, mode: int) -> None:
    locked.private.chmod(mode)
    with pytest.raises(UsageError, match=rf"mode {mode:04o}\); run: chmod 600 {locked.private}$"):
        read_signer(locked.private, SECRET)
    locked.private.chmod(0o400)
    read_signer(locked.private, SECRET)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u2003b", "\udc80"])
def test_a_name_that_no_signature_could_bear_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="key name"):
        keygen(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_name_never_leads_out_of_the_folder(tmp_path: Path) -> None:
    files = keygen("../../etc/x", tmp_path / "keys")
    assert {path.parent for path in files[:3]} == {tmp_path / "keys"}
    with pytest.raises(UsageError, match="255 bytes"):
        keygen("x" * 256, tmp_path, Algorithm.ML_DSA_44)


def test_wrong_private_keys_are_told_apart(locked: KeyFiles, tmp_path: Path) -> None:
    ecdsa = ec.generate_private_key(ec.SECP256R1())
    pem = ecdsa.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    plain = keygen("other", tmp_path / "plain")
    whole = locked.private.read_bytes()
    cases = [
        (locked.private, None, "is encrypted; give its pass phrase"),
        (locked.private, SecretBytes(b"wrong"), "the pass phrase is wrong"),
        (plain.private, SECRET, "is not encrypted; leave out the pass phrase"),
        (locked.public, None, "is a public key"),
        (locked.vkey, None, "is a public key"),
        (write(tmp_path / "empty.key", b""), None, "is empty; it should hold a private key"),
        (write(tmp_path / "blank.key", b"\n\n"), None, "is empty"),
        (write(tmp_path / "ec.key", pem), None, "of kind EC|of kind EllipticCurve"),
        (write(tmp_path / "junk.key", b"junk"), None, "is no private key in PEM"),
        (write(tmp_path / "cut.key", whole[: len(whole) // 2]), SECRET, "the file is damaged"),
        (write(tmp_path / "large.key", b"x" * 70_000), None, "more than 65536 bytes"),
        (tmp_path / "absent.key", None, "cannot be read: No such file"),
        (tmp_path, None, "cannot be read: Is a directory"),
    ]
    for path, passphrase, error in cases:
        with pytest.raises(UsageError, match=f"^{path}: .*({error})"):
            read_signer(path, passphrase)


def test_the_name_comes_from_the_verifier_key_beside_it(locked: KeyFiles, tmp_path: Path) -> None:
    other = keygen("other", tmp_path / "other")
    assert read_signer(locked.private, SECRET).name == NAME
    assert read_signer(locked.private, SECRET, "another.example").name == "another.example"
    shutil.copy(other.vkey, locked.vkey)
    with pytest.raises(UsageError, match=f"^{locked.vkey}: belongs to another key"):
        read_signer(locked.private, SECRET)
    locked.vkey.unlink()
    with pytest.raises(UsageError, match="what is the key's name"):
        read_signer(locked.private, SECRET)


def test_wrong_public_keys_are_told_apart(locked: KeyFiles, tmp_path: Path) -> None:
    ecdsa = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = ecdsa.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    cases = [
        (locked.private, NAME, "is a private key"),
        (locked.public, None, "a key in PEM has no name"),
        (locked.vkey, "other", f"is the key of {NAME}, not of other"),
        (write(tmp_path / "ec.pub", pem), NAME, "of kind EC|of kind EllipticCurve"),
        (write(tmp_path / "cut.pub", locked.public.read_bytes()[:60]), NAME, "is no public key in PEM"),
        (write(tmp_path / "empty.pub", b""), NAME, "is empty; it should hold a public key"),
        (write(tmp_path / "junk.pub", b"\xff\xfe"), NAME, "is neither a verifier key nor PEM"),
        (write(tmp_path / "text.pub", b"hello"), NAME, "is no verifier key"),
    ]
    for path, name, error in cases:
        with pytest.raises(UsageError, match=f"^{path}: .*({error})"):
            read_verifier(path, name)


def test_pass_phrases_from_a_file_and_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEAL_PASSPHRASE", PHRASE)
    file = write(tmp_path / "phrase", f"{PHRASE}\r\n".encode())
    for found in (read_passphrase(file=file), read_passphrase(environment="SEAL_PASSPHRASE")):
        assert found is not None
        assert found.get_secret_value() == PHRASE.encode()
    assert read_passphrase() is None


def test_pass_phrases_that_cannot_be_had_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("ABSENT", raising=False)
    with pytest.raises(UsageError, match="variable ABSENT is not set"):
        read_passphrase(environment="ABSENT")
    with pytest.raises(UsageError, match=r"variable EMPTY\): must have 1 to 1023 bytes"):
        read_passphrase(environment="EMPTY")
    with pytest.raises(UsageError, match="must have 1 to 1023"):
        read_passphrase(file=write(tmp_path / "long", b"x" * 1024))
    with pytest.raises(UsageError, match="run: chmod 600"):
        read_passphrase(file=write(tmp_path / "open", b"secret", 0o644))
    with pytest.raises(UsageError, match="is empty"):
        read_passphrase(file=write(tmp_path / "empty", b"\n"))
    with pytest.raises(UsageError, match="name one place"):
        read_passphrase(file=tmp_path / "open", environment="EMPTY")
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        with pytest.raises(UsageError, match="no terminal"):
            read_passphrase(prompt=True)


def test_a_pass_phrase_is_asked_for_twice_where_it_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    typed: list[str] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda prompt: typed.pop(0))
    typed += ["größe", "größe", "one", "other", "once"]
    assert read_passphrase(prompt=True, confirm=True) == SecretBytes("größe".encode())
    with pytest.raises(UsageError, match="the two differ"):
        read_passphrase(prompt=True, confirm=True)
    assert read_passphrase(prompt=True) == SecretBytes(b"once")


def test_the_longest_pass_phrase_works(tmp_path: Path) -> None:
    longest = SecretBytes(b"x" * 1023)
    read_signer(keygen(NAME, tmp_path, passphrase=longest).private, longest)


def test_no_error_and_no_repr_shows_a_pass_phrase_or_a_key(locked: KeyFiles, tmp_path: Path) -> None:
    phrase = read_passphrase(file=write(tmp_path / "phrase", PHRASE.encode()))
    assert phrase is not None
    signer = read_signer(locked.private, phrase)
    secrets = [PHRASE, signer.key.private_bytes_raw().hex(), repr(signer.key.private_bytes_raw())]
    shown = [repr(phrase), str(phrase), repr(signer), str(signer), repr(locked)]
    damaged = write(tmp_path / "damaged.key", locked.private.read_bytes().replace(b"MI", b"MJ", 1))
    plain = keygen("plain", tmp_path)
    for path in (damaged, plain.private, locked.public, tmp_path / "absent"):
        with pytest.raises(UsageError) as caught:
            read_signer(path, phrase)
        error: BaseException | None = caught.value
        shown += traceback.format_exception(caught.value)
        while error is not None:
            shown += [str(error), repr(error), repr(error.args)]
            error = error.__cause__ or error.__context__
    for text in shown:
        assert not any(secret in text for secret in secrets)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl command is not installed")
def test_openssl_reads_our_keys_and_we_read_its_own(locked: KeyFiles, tmp_path: Path) -> None:
    def openssl(*arguments: str | Path) -> bytes:
        return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, check=True).stdout

    derived = openssl("pkey", "-in", locked.private, "-passin", f"pass:{PHRASE}", "-pubout")
    assert derived == locked.public.read_bytes()
    # A key whose encryption costs more than the library's own writes, as the documentation advises.
    harder = tmp_path / "harder.key"
    openssl("pkcs8", "-topk8", "-in", locked.private, "-passin", f"pass:{PHRASE}", "-scrypt",
            "-passout", "pass:another", "-out", harder)  # fmt: skip
    harder.chmod(0o600)
    signer = read_signer(harder, SecretBytes(b"another"), NAME)
    assert signer.verifier == locked.verifier
    signed, signature = write(tmp_path / "text", TEXT.encode()), tmp_path / "signature"
    signature.write_bytes(Signer.sign(signer, TEXT).value)
    told = openssl(
        "pkeyutl", "-verify", "-pubin", "-inkey", locked.public, "-rawin", "-in", signed, "-sigfile", signature
    )
    assert b"Signature Verified Successfully" in told
