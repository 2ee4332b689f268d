"""Signed manifests, made here with certificates made here, and what is done to them on the way."""

import base64
import io
import json
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.checks import Checks
from pipelines.job import Inspect
from pipelines.neardup.options import NearDup
from pipelines.provenance.hidden import hidden_characters
from tests.crawls import SHARED
from watermark.c2pa_text import wrap
from watermark.c2pa_verify import _SETTINGS, MAX_BYTES, describe, verify

c2pa = pytest.importorskip("c2pa", reason="needs the c2pa extra")
x509 = pytest.importorskip("cryptography.x509", reason="makes certificates with cryptography")
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID  # noqa: E402

TEXT = b"The ferry leaves at noon, if the wind allows."
IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
EXPIRED = Path(__file__).parents[1] / "assets/watermark/c2pa_expired.json"
YEAR = timedelta(days=365)
PEM = serialization.Encoding.PEM


class Authority:
    """A certificate authority of its own."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = name("Authority of Tests")
        self.certificate = self.issue(self.name, self.key.public_key(), None)

    def issue(self, subject: Any, public: Any, usage: Any, ocsp: str = "", lifetime: timedelta = YEAR) -> Any:
        """A certificate for that key; of an authority where no usage is named."""
        authority = usage is None
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder(self.name, subject, public, x509.random_serial_number())
            .not_valid_before(now - YEAR)
            .not_valid_after(now + lifetime)
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
            .add_extension(key_usage(authority), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if usage is not None:
            stamps = usage == ExtendedKeyUsageOID.TIME_STAMPING
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=stamps)
        if ocsp:
            where = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(ocsp))
            builder = builder.add_extension(x509.AuthorityInformationAccess([where]), critical=False)
        return builder.sign(self.key, hashes.SHA256())


def name(organisation: str) -> Any:
    attributes = [(NameOID.ORGANIZATION_NAME, organisation), (NameOID.COMMON_NAME, "tests")]
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])


def key_usage(authority: bool) -> Any:
    named = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"]
    flags = dict.fromkeys([*named, "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"], False)
    return x509.KeyUsage(**flags | dict.fromkeys(["key_cert_sign", "crl_sign"] if authority else named[:1], True))


def private(key: Any) -> bytes:
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def signed(
    term: str = "trainedAlgorithmicMedia",
    stamps_at: str | None = None,
    ocsp: str = "",
    lifetime: timedelta = YEAR,
) -> bytes:
    """The manifest store of TEXT."""
    authority, key = Authority(), ec.generate_private_key(ec.SECP256R1())
    email = ExtendedKeyUsageOID.EMAIL_PROTECTION  # what C2PA's profile asks of a signer, if not its own usage
    leaf = authority.issue(name("The Daily Test"), key.public_key(), email, ocsp, lifetime)
    chain = leaf.public_bytes(PEM) + authority.certificate.public_bytes(PEM)
    signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(b"es256", chain, private(key), stamps_at))
    action = {"action": "c2pa.created", "digitalSourceType": IPTC + term}
    manifest = {
        "claim_generator_info": [{"name": "tests", "version": "1"}],
        "format": "text/plain",
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
    }
    context = c2pa.Context.from_dict({"verify": {"verify_after_sign": False}})
    builder = c2pa.Builder(json.dumps(manifest), context=context)
    builder.set_no_embed()
    return builder.sign(signer, "text/plain", io.BytesIO(TEXT), io.BytesIO())


@pytest.fixture(scope="module")
def store() -> bytes:
    return signed()


def flipped(store: bytes, at: int) -> bytes:
    return store[:at] + bytes([store[at] ^ 1]) + store[at + 1 :]


def test_a_signed_manifest_is_valid(store: bytes) -> None:
    verification = verify(store)
    assert verification.signature
    assert verification.valid
    assert verification.problems == ()
    assert verification.issuer == "The Daily Test"
    assert verification.signed_at is None
    assert verification.source_types == ("trainedAlgorithmicMedia",)
    said = "signature valid (trust and binding to the text not checked), issued by The Daily Test"
    assert describe(verification) == said


@pytest.mark.parametrize(
    ("near", "signature", "words"),
    [
        (b"xmp.iid:", False, "signature not valid: claimSignature.mismatch"),
        (b"The Daily Test", False, "signature not valid: "),
        (b"trainedAlgorithmicMedia", True, "The Daily Test, but assertion.hashedURI.mismatch"),
        (b"c2pa.created", True, "The Daily Test, but assertion.hashedURI.mismatch"),
    ],
)
def test_one_flipped_bit_is_found(store: bytes, near: bytes, signature: bool, words: str) -> None:
    verification = verify(flipped(store, store.index(near) + len(near) - 1))
    assert not verification.valid
    assert verification.signature == signature
    assert words in describe(verification)


def test_a_certificate_that_is_no_longer_in_force_signs_nothing() -> None:
    vector = json.loads(EXPIRED.read_text())
    verification = verify(base64.b64decode(vector["store"]))
    assert not verification.signature
    assert verification.issuer == "The Daily Test"
    assert describe(verification) == "signature not valid: signingCredential.expired (certificate expired)"


def test_bytes_behind_the_store_are_a_problem(store: bytes) -> None:
    verification = verify(store + IPTC.encode() + b"digitalCapture")
    assert verification.problems == ("61 bytes follow the manifest store",)
    assert not verification.valid


def test_cut_stores_are_not_valid(store: bytes) -> None:
    for end in range(0, len(store), 61):
        verification = verify(store[:end])
        assert not verification.signature
        assert verification.problems


def test_damaged_stores_never_raise(store: bytes) -> None:
    rng = random.Random(4)
    for _ in range(400):
        damaged = bytearray(store)
        for _ in range(rng.randrange(1, 30)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        assert describe(verify(bytes(damaged)))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_garbage_is_no_manifest(data: bytes, framed: bool) -> None:
    payload = len(data).to_bytes(4, "big") + b"jumb" + data if framed else data
    verification = verify(payload)
    assert not verification.valid
    assert describe(verification).startswith("signature not valid: ")


def test_deep_and_large_stores_end(store: bytes) -> None:
    head = store[8:38]  # the description of the outermost box
    boxes = [(38 * (20_000 - depth)).to_bytes(4, "big") + b"jumb" + head for depth in range(20_000)]
    assert "nesting depth" in describe(verify(b"".join(boxes)))
    assert "more than the" in describe(verify(bytes(4) + b"jumb" + bytes(MAX_BYTES)))


def test_no_other_format_is_read() -> None:
    assert verify(b"\x89PNG\r\n\x1a\n" + bytes(100)).problems == ("not a JUMBF box",)


def test_the_frozen_vector_is_a_wrapper_of_no_manifest() -> None:
    path = SHARED / "vectors/c2pa-a8-variation-selector.json"
    if not path.exists():
        pytest.skip("no ../shared/vectors")
    payload = bytes.fromhex(json.loads(path.read_text())["wrapperVector"]["payload_hex"])
    assert verify(payload).problems == ("not a JUMBF box",)


def test_evidence_says_whether_the_signature_holds(store: bytes) -> None:
    text = TEXT.decode()
    for payload, words in (
        (store, "; signature valid (trust and binding to the text not checked), issued by The Daily Test"),
        (flipped(store, store.index(b"xmp.iid:")), "; signature not valid: "),
    ):
        (plain,) = hidden_characters(text + wrap(payload))
        (checked,) = hidden_characters(text + wrap(payload), verify=True)
        assert plain.kind == checked.kind == "c2pa_text_manifest"
        assert plain.detail is not None
        assert checked.detail is not None
        assert checked.detail.startswith(plain.detail + words)


def test_the_checks_of_a_job_that_asks_for_it_verify(store: bytes) -> None:
    text = TEXT.decode() + wrap(store)
    for asked in (False, True):
        checks = Checks(Inspect(verify_c2pa=asked), None, NearDup())
        (in_markup,) = checks.page(f"<p>{text}</p>", {})
        references = "".join(f"&#{ord(c)};" for c in wrap(store))
        (in_references,) = checks.page(f"<p>{TEXT.decode()}{references}</p>", {})
        for found in (in_markup, in_references):
            assert ("issued by The Daily Test" in (found.detail or "")) == asked


def test_the_kind_follows_the_statement_also_where_the_signature_does_not_hold() -> None:
    store = signed("digitalCreation")
    for payload in (store, flipped(store, store.index(b"xmp.iid:"))):
        (found,) = hidden_characters(TEXT.decode() + wrap(payload), verify=True)
        assert found.kind == "c2pa_text_manifest_human"


def test_a_source_type_in_the_padding_is_not_signed() -> None:
    store = signed("digitalCreation")
    forged = f"{IPTC}trainedAlgorithmicMedia ".encode()
    start = store.index(bytes(200)) + 50
    forged = store[:start] + forged + store[start + len(forged) :]
    assert verify(forged).valid
    (found,) = hidden_characters(TEXT.decode() + wrap(forged), verify=True)
    assert found.kind == "c2pa_text_manifest"
    assert "trainedAlgorithmicMedia; not stated by the active manifest; signature valid" in (found.detail or "")


@contextmanager
def serving(answer: Any) -> Iterator[tuple[str, list[str]]]:
    """A server at an address of this machine, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_nothing_is_fetched() -> None:
    with serving(lambda _: b"") as (address, asked):
        store = signed(ocsp=address)
        assert verify(store).valid
        assert asked == []
        # The library would ask, if it was let: the certificate names a server that knows of its revocation.
        asking = {**_SETTINGS, "core": {}, "verify": {**_SETTINGS["verify"], "ocsp_fetch": True}}
        with c2pa.Context.from_dict(asking) as context:
            c2pa.Reader("application/c2pa", io.BytesIO(store), context=context).close()
        assert asked


def stamping(folder: Path) -> Any:
    """A time-stamping authority (RFC 3161): queries to replies."""
    authority, key = Authority(), ec.generate_private_key(ec.SECP256R1())
    leaf = authority.issue(name("Clock of Tests"), key.public_key(), ExtendedKeyUsageOID.TIME_STAMPING)
    (folder / "chain.pem").write_bytes(authority.certificate.public_bytes(PEM))
    (folder / "clock.pem").write_bytes(leaf.public_bytes(PEM))
    (folder / "clock.key").write_bytes(private(key))
    (folder / "serial").write_text("01\n")
    lines = ["[tsa]", "default_tsa=clock", "[clock]", "serial=serial", "signer_cert=clock.pem", "signer_key=clock.key"]
    lines += ["certs=chain.pem", "signer_digest=sha256", "default_policy=1.2.3", "digests=sha256,sha384,sha512"]
    (folder / "tsa.cnf").write_text("\n".join([*lines, ""]))

    def reply(query: bytes) -> bytes:
        (folder / "query").write_bytes(query)
        command = ["openssl", "ts", "-reply", "-config", "tsa.cnf", "-queryfile", "query", "-out", "reply"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        return (folder / "reply").read_bytes()

    return reply


@pytest.mark.skipif(shutil.which("openssl") is None, reason="stamps with openssl")
def test_the_time_is_that_of_the_time_stamp(tmp_path: Path) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    with serving(stamping(tmp_path)) as (address, _):
        store = signed(stamps_at=address)
    verification = verify(store)
    assert verification.valid
    assert verification.signed_at is not None
    assert before <= verification.signed_at <= datetime.now(UTC)
    stamp = f"{verification.signed_at:%Y%m%d%H%M%SZ}".encode()
    assert stamp in store
    assert f", issued at {verification.signed_at:%Y-%m-%dT%H:%M:%SZ} by The Daily Test" in describe(verification)
    forged = verify(store.replace(stamp, b"2001" + stamp[4:]))
    assert forged.signed_at is None
