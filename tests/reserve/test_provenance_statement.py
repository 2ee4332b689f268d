"""Envelopes: what is signed is what the protocol says, and a changed or foreign one is refused."""

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import UsageError
from pipelines.reserve.keys import keygen, read_signer
from pipelines.reserve.note import Algorithm, NoteError, Signer
from pipelines.reserve.provenance_statement import sign_statement, verify_envelope

CONTENT = b'{"_type": "https://in-toto.io/Statement/v1"}\n'


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> list[Signer]:
    folder = tmp_path_factory.mktemp("keys")
    return [read_signer(keygen(name, folder).private) for name in ("example.com/one", "example.com/two")]


def test_what_is_signed_is_the_pre_authentication_encoding(signers: list[Signer]) -> None:
    data = json.loads(sign_statement(CONTENT, signers[:1]))
    assert base64.b64decode(data["payload"]) == CONTENT
    message = b"DSSEv1 28 application/vnd.in-toto+json %d " % len(CONTENT) + CONTENT
    (signature,) = data["signatures"]
    key = Ed25519PublicKey.from_public_bytes(signers[0].verifier.public)
    key.verify(base64.b64decode(signature["sig"]), message)
    assert signature["keyid"] == signers[0].verifier.key_id.hex()


def test_every_key_that_is_given_must_have_signed(signers: list[Signer]) -> None:
    one, two = (signer.verifier for signer in signers)
    both = sign_statement(CONTENT, signers)
    assert both == sign_statement(CONTENT, signers)
    for keys in ([one], [two], [one, two], [two, one]):
        assert verify_envelope(both, keys) == CONTENT
    with pytest.raises(NoteError, match=r"env: not signed by example\.com/two"):
        verify_envelope(sign_statement(CONTENT, signers[:1]), [one, two], "env")


def test_the_key_id_is_only_a_hint(signers: list[Signer]) -> None:
    data = json.loads(sign_statement(CONTENT, signers[:1]))
    data["signatures"][0]["keyid"] = ""
    assert verify_envelope(json.dumps(data).encode(), [signers[0].verifier]) == CONTENT


@given(st.data())
def test_a_changed_bit_is_refused(signers: list[Signer], data: st.DataObject) -> None:
    envelope = json.loads(sign_statement(CONTENT, signers[:1]))
    part = data.draw(st.sampled_from(["payload", "sig", "payloadType"]))
    holder = envelope["signatures"][0] if part == "sig" else envelope
    if part == "payloadType":
        holder[part] += "x"
    else:
        content = bytearray(base64.b64decode(holder[part]))
        bit = data.draw(st.integers(0, 8 * len(content) - 1))
        content[bit // 8] ^= 1 << bit % 8
        holder[part] = base64.b64encode(content).decode()
    with pytest.raises(NoteError):
        verify_envelope(json.dumps(envelope).encode(), [signers[0].verifier])


@pytest.mark.parametrize(
    "broken", [b"", b"{}", b"[]", b"null", b'{"payload": 1, "payloadType": "x", "signatures": []}']
)
def test_what_is_no_envelope(signers: list[Signer], broken: bytes) -> None:
    with pytest.raises(NoteError, match="is no DSSE envelope"):
        verify_envelope(broken, [signers[0].verifier])


def test_keys_that_cannot_sign_it(signers: list[Signer], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no key"):
        sign_statement(CONTENT, [])
    with pytest.raises(UsageError, match="no key"):
        verify_envelope(sign_statement(CONTENT, signers), [])
    try:
        private = keygen("example.com/late", tmp_path, Algorithm.ML_DSA_44).private
    except UsageError:
        pytest.skip("cryptography as installed here has no ML-DSA-44")
    late = read_signer(private)
    with pytest.raises(UsageError, match="signs checkpoints alone"):
        sign_statement(CONTENT, [late])
    with pytest.raises(UsageError, match="signs checkpoints alone"):
        verify_envelope(sign_statement(CONTENT, signers), [late.verifier])
