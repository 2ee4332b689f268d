"""A time-stamping authority of one's own: certificates made here, answers by `openssl ts -reply`."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CONFIGURATION = """
[tsa]
default_tsa = here
[here]
serial = {folder}/serial
crypto_device = builtin
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = {digests}
accuracy = secs:1, millisecs:500
ordering = no
tsa_name = yes
ess_cert_id_chain = no
ess_cert_id_alg = sha256
"""


class Authority:
    """A root and the stamping certificate under it, in a folder."""

    def __init__(self, folder: Path, name: str = "Test Authority", valid_days: int = 30) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.roots = folder / "roots.pem"
        root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        root_name, leaf_name = (
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in (f"{name} Root", name)
        )
        root = _builder(root_name, root_name, root_key, valid_days, is_root=True).sign(root_key, hashes.SHA256())
        leaf = _builder(leaf_name, root_name, key, valid_days, is_root=False).sign(root_key, hashes.SHA256())
        self.roots.write_bytes(root.public_bytes(serialization.Encoding.PEM))
        (folder / "tsa.pem").write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
        (folder / "tsa.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        (folder / "serial").write_text("01\n")

    def answer(self, request: bytes, digests: str = "sha256") -> bytes:
        """The answer to a request; a refusal where its digest is none of the given kinds."""
        (self.folder / "tsa.cnf").write_text(CONFIGURATION.format(folder=self.folder, digests=digests))
        (self.folder / "request.tsq").write_bytes(request)
        _openssl(
            self.folder, "ts", "-reply", "-config", "tsa.cnf", "-section", "here", "-queryfile", "request.tsq",
            "-signer", "tsa.pem", "-inkey", "tsa.key", "-out", "answer.tsr",
        )  # fmt: skip
        return (self.folder / "answer.tsr").read_bytes()

    def verify(self, answer: Path, *against: str | Path) -> str:
        """What `openssl ts -verify` prints of an answer."""
        return _openssl(self.folder, "ts", "-verify", "-in", answer, "-CAfile", self.roots, *against)


def _openssl(folder: Path, *arguments: str | Path) -> str:
    run = subprocess.run(["openssl", *map(str, arguments)], cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout + run.stderr


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int, *, is_root: bool
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=60))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
    )
    if is_root:
        return builder
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
    return builder.add_extension(usage, critical=True)
