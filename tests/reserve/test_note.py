"""Signed notes and checkpoints: the specification's examples, other implementations, and every way to change one."""

import base64
import doctest
import hashlib
import sys
from types import ModuleType

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import UsageError
from pipelines.reserve import checkpoint as checkpoint_module
from pipelines.reserve import note as note_module
from pipelines.reserve import rfc3161 as rfc3161_module
from pipelines.reserve.checkpoint import EMPTY_ROOT, Checkpoint, CheckpointError, cosigned_message, parse_checkpoint
from pipelines.reserve.note import (
    Algorithm,
    Note,
    NoteError,
    Signature,
    Signer,
    Verifier,
    parse_note,
    parse_vkey,
    sign_note,
    verify_note,
)
from tests.crawls import SHARED

# https://c2sp.org/signed-note, "Example"
SPEC_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPEC_NOTE = """This is an example message.

— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=
"""
# golang.org/x/mod/sumdb/note, "Example": made by the Go program that the format comes from
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = """If you think cryptography is the answer to your problem,
then you don't know what your problem is.

— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=
— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=
"""
# https://c2sp.org/tlog-cosignature, the first example
SPEC_CHECKPOINT = """example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
"""  # noqa: E501

# A key and a checkpoint of filippo.io/torchwood 0.10.0 (cmd/litewitness/testdata/mldsa.txt)
THEIRS = SHARED / "vectors" / "tlog-cosignature"

ROOT = hashlib.sha256(b"root").digest()
CHECKPOINT = Checkpoint("example.com/reserve", 20852163, ROOT)
ED25519 = Signer("example.com/reserve", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
ML_DSA = Signer("example.com/reserve", MLDSA44PrivateKey.from_seed_bytes(bytes(range(32))))
BOTH = [ED25519.verifier, ML_DSA.verifier]


@pytest.mark.parametrize(("key", "text"), [(SPEC_KEY, SPEC_NOTE), (GO_KEY, GO_NOTE)])
def test_published_notes_hold_and_are_written_back_byte_for_byte(key: str, text: str) -> None:
    note = parse_note(text.encode())
    (held,) = verify_note(note, [parse_vkey(key)])
    assert held.name == key.partition("+")[0]
    assert note.encode() == text.encode()
    assert parse_vkey(key).vkey == key


def test_the_published_checkpoint_is_read_and_its_unknown_signatures_are_kept() -> None:
    note = parse_note(SPEC_CHECKPOINT.encode())
    checkpoint = parse_checkpoint(note.text)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert checkpoint.text == note.text
    assert [s.name for s in note.signatures] == ["example.com/behind-the-sofa", "witness.example.com/w1"]
    ours = sign_note(note.text, [ED25519, ML_DSA], note.signatures)
    assert ours.signatures[:2] == note.signatures
    assert len(verify_note(parse_note(ours.encode()), BOTH)) == 2


def test_a_key_that_signs_again_replaces_its_signature() -> None:
    note = sign_note(CHECKPOINT.text, [ED25519, ML_DSA])
    again = sign_note(note.text, [ML_DSA], note.signatures, when=1_700_000_000)
    assert len(again.signatures) == 2
    verify_note(again, BOTH)


def test_key_ids_are_those_of_the_specification() -> None:
    for signer, kind in ((ED25519, 1), (ML_DSA, 6)):
        public = signer.verifier.public
        assert signer.verifier.key_id == hashlib.sha256(b"example.com/reserve\n" + bytes([kind]) + public).digest()[:4]
        assert parse_vkey(signer.verifier.vkey) == signer.verifier


@pytest.mark.parametrize("when", [0, 1_679_315_147])
def test_ml_dsa_signs_the_structure_that_the_specification_lays_out(when: int) -> None:
    value = ML_DSA.sign(CHECKPOINT.text, when).value
    assert value[:8] == when.to_bytes(8, "big")
    assert len(value) == 8 + 2420
    name = b"example.com/reserve"
    message = b"subtree/v1\n\0" + bytes([19]) + name + value[:8] + bytes([19]) + name + bytes(8)
    message += (20852163).to_bytes(8, "big") + ROOT
    assert isinstance(ML_DSA.key, MLDSA44PrivateKey)
    ML_DSA.key.public_key().verify(value[8:], message)
    assert message == cosigned_message(CHECKPOINT, name.decode(), when)


def test_ml_dsa_signs_no_text_that_it_would_not_cover() -> None:
    with pytest.raises(CheckpointError, match="at least 3"):
        ML_DSA.sign("hello\n")
    extended = Checkpoint("example.com/reserve", 1, ROOT, ("more",))
    with pytest.raises(CheckpointError, match="line 4: an ML-DSA-44 signature does not cover extension lines"):
        ML_DSA.sign(extended.text)
    signature = ML_DSA.sign(Checkpoint("example.com/reserve", 1, ROOT).text)
    with pytest.raises(NoteError, match="does not hold"):
        verify_note(Note(extended.text, (signature,)), [ML_DSA.verifier])
    with pytest.raises(CheckpointError, match="256 bytes"):
        ML_DSA.sign(Checkpoint("o" * 256, 1, ROOT).text)


def test_every_flipped_bit_of_an_ed25519_note_is_refused() -> None:
    whole = sign_note(CHECKPOINT.text, [ED25519]).encode()
    for at in range(len(whole)):
        for bit in range(8):
            changed = bytearray(whole)
            changed[at] ^= 1 << bit
            with pytest.raises(NoteError):
                verify_note(parse_note(bytes(changed)), [ED25519.verifier])


def test_every_changed_byte_of_a_note_with_both_signatures_is_refused() -> None:
    whole = sign_note(CHECKPOINT.text, [ED25519, ML_DSA]).encode()
    verify_note(parse_note(whole), BOTH)
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 1 + at % 255
        with pytest.raises(NoteError):
            verify_note(parse_note(bytes(changed)), BOTH)


def test_every_cut_and_every_removed_line_is_refused() -> None:
    whole = sign_note(CHECKPOINT.text, [ED25519, ML_DSA]).encode()
    for end in range(len(whole)):
        with pytest.raises(NoteError):
            verify_note(parse_note(whole[:end], unsigned=True), BOTH)
    lines = whole.splitlines(keepends=True)
    for gone in range(len(lines)):
        with pytest.raises(NoteError):
            verify_note(parse_note(b"".join(lines[:gone] + lines[gone + 1 :]), unsigned=True), BOTH)


def test_a_signature_of_a_known_key_that_fails_spoils_the_note_even_beside_a_good_one() -> None:
    good = ED25519.sign("text\n")
    bad = Signature(good.name, good.key_id, bytes(64))
    for signatures in ((good, bad), (bad, good)):
        with pytest.raises(NoteError, match="does not hold"):
            verify_note(Note("text\n", signatures), [ED25519.verifier])


def test_a_signature_counts_only_under_its_own_name_and_id() -> None:
    other = Signer("example.com/other", ED25519.key)
    note = sign_note(CHECKPOINT.text, [other])
    with pytest.raises(NoteError, match=r"not signed by example.com/reserve.*it is signed by example.com/other"):
        verify_note(note, [ED25519.verifier])
    with pytest.raises(UsageError, match="no key"):
        verify_note(note, [])


def test_the_base64_of_a_signature_has_one_spelling() -> None:
    line = SPEC_NOTE.encode().replace(b"neyaQM=", b"neyaQN=")  # the last character's unused bits
    assert base64.b64decode(b"aQM=") == base64.b64decode(b"aQN=")
    with pytest.raises(NoteError, match="line 3: is no signature: the unused bits"):
        parse_note(line)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "is not signed"),
        (b"text", "is not signed"),
        (b"text\n\n", "nothing follows"),
        (b"text\n\n\n", "line 3|nothing follows"),
        (b"text\n\n\xe2\x80\x94 a AAAAAAA=", "line break"),
        (b"text\n\n- a AAAAAAA=\n", "line 3: is no signature; it should read"),
        ("text\n\n— a\n".encode(), "line 3: the signature has 0 bytes"),
        ("text\n\n— a b c\n".encode(), "line 3: is no signature"),
        ("text\n\n— a+b AAAAAAA=\n".encode(), r"line 3: is no signature: key name 'a\+b'"),
        ("text\n\n— a\u00a0b AAAAAAA=\n".encode(), "line 3: is no signature: key name"),
        ("text\n\n— a AAAAAA==\n".encode(), "has 4 bytes"),
        (b"te\rxt\n\n", "line 1: holds a control character"),
        (b"text\xff\n\n", "not UTF-8 at byte 4"),
        (("text\n\n" + "— a AAAAAAA=\n" * 101).encode(), "101 signatures; at most 100"),
        (b"x" * 1_000_001, "1000001 bytes"),
    ],
)
def test_what_is_no_note_is_refused_with_the_line(data: bytes, error: str) -> None:
    with pytest.raises(NoteError, match=error):
        parse_note(data, "out/seal/checkpoint")


def test_an_unsigned_note_says_so() -> None:
    note = Note(CHECKPOINT.text, ())
    assert note.encode() == CHECKPOINT.text.encode()
    with pytest.raises(NoteError, match="is not signed"):
        parse_note(note.encode())
    assert parse_note(note.encode(), unsigned=True) == note
    with pytest.raises(NoteError, match="it is signed by nobody"):
        verify_note(note, [ED25519.verifier])


@pytest.mark.parametrize(
    ("vkey", "error"),
    [
        ("", "no verifier key"),
        ("name", "no verifier key"),
        (SPEC_KEY[:-4], "does not belong"),
        (SPEC_KEY.replace("foo", "fop"), "does not belong"),
        (SPEC_KEY.replace("530d903a", "530D903A"), "does not belong"),
        (SPEC_KEY.replace("+Ae", "+Be"), "type 0x05"),
        ("a b+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k", "no verifier key"),
    ],
)
def test_what_is_no_verifier_key_is_refused(vkey: str, error: str) -> None:
    with pytest.raises(UsageError, match=f"^k.vkey: .*{error}"):
        parse_vkey(vkey, "k.vkey")


def test_a_key_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(UsageError, match="31 bytes; ed25519 has 32"):
        Verifier("a", Algorithm.ED25519, bytes(31))


ORIGINS = st.text(st.characters(min_codepoint=0x20, exclude_categories=["Cs"]), min_size=1, max_size=40)
SIZES = st.integers(1, 2**63 - 1)
ROOTS = st.binary(min_size=32, max_size=32)


@given(ORIGINS, SIZES, ROOTS, st.lists(ORIGINS, max_size=3))
def test_checkpoints_come_back_as_they_went(origin: str, size: int, root: bytes, extensions: list[str]) -> None:
    checkpoint = Checkpoint(origin, size, root, tuple(extensions))
    assert parse_checkpoint(checkpoint.text) == checkpoint
    note = sign_note(checkpoint.text, [ED25519])
    again = parse_note(note.encode())
    assert again == note
    verify_note(again, [ED25519.verifier])


@given(st.text(st.characters(min_codepoint=0x20, exclude_categories=["Cs"]) | st.just("\n")))
def test_any_text_can_be_signed(text: str) -> None:
    note = sign_note(f"{text}\n", [ED25519])
    assert parse_note(note.encode()) == note
    verify_note(note, [ED25519.verifier])


@settings(max_examples=300)
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_read_or_refused_but_never_read_otherwise_than_written(data: bytes) -> None:
    try:
        note = parse_note(data, unsigned=True)
    except NoteError:
        return
    assert note.encode() == data


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a\n1\n" + "A" * 43 + "=", "line break"),
        ("a\n1\n", "2 lines"),
        ("\n1\n" + "A" * 43 + "=\n", "line 1: is empty"),
        ("a\n01\n" + "A" * 43 + "=\n", "line 2: '01'"),
        ("a\n+1\n" + "A" * 43 + "=\n", r"line 2: '\+1'"),
        ("a\n1_0\n" + "A" * 43 + "=\n", "line 2: '1_0'"),
        ("a\n١\n" + "A" * 43 + "=\n", "line 2"),
        ("a\n9223372036854775808\n" + "A" * 43 + "=\n", "line 2: size 9223372036854775808"),
        ("a\n1\nAAAA\n", "line 3: the root has 3 bytes"),
        ("a\n1\n" + "A" * 42 + "B=\n", "line 3: the root is not base64: the unused bits"),
        ("a\n1\n" + "A" * 43 + "\n", "line 3: the root is not base64"),
        ("a\n1\n" + "-" * 43 + "=\n", "line 3: the root is not base64"),
        ("a\n0\n" + "A" * 43 + "=\n", "line 3: the root is not that of the empty tree"),
        ("a\n1\n" + "A" * 43 + "=\n\n", "line 4: is empty"),
        ("a\n1\n" + "A" * 43 + "=\nx\ty\n", r"line 4: holds the control character U\+0009"),
    ],
)
def test_what_is_no_checkpoint_is_refused_with_the_line(text: str, error: str) -> None:
    with pytest.raises(CheckpointError, match=error):
        parse_checkpoint(text, "out/seal/checkpoint")


@pytest.mark.parametrize(
    ("origin", "size", "root", "extensions"),
    [
        ("", 1, ROOT, ()),
        ("a\nb", 1, ROOT, ()),
        ("\udc80", 1, ROOT, ()),
        ("a", -1, ROOT, ()),
        ("a", 2**63, ROOT, ()),
        ("a", 1, ROOT[:31], ()),
        ("a", 0, ROOT, ()),
        ("a", 1, ROOT, ("",)),
    ],
)
def test_no_checkpoint_is_made_that_could_not_be_read(
    origin: str, size: int, root: bytes, extensions: tuple[str, ...]
) -> None:
    with pytest.raises(CheckpointError):
        Checkpoint(origin, size, root, extensions)
    assert Checkpoint("a", 0, EMPTY_ROOT).size == 0


def test_without_ml_dsa_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    note = sign_note(CHECKPOINT.text, [ML_DSA])
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.mldsa", None)
    monkeypatch.delattr("cryptography.hazmat.primitives.asymmetric.mldsa")
    with pytest.raises(UsageError, match=r"ml-dsa-44: cryptography .* does not support it; install .*>=48"):
        verify_note(note, [ML_DSA.verifier])


@pytest.mark.skipif(not THEIRS.is_dir(), reason=f"{THEIRS} is not there")
def test_an_ml_dsa_checkpoint_of_another_program_holds() -> None:
    key = parse_vkey((THEIRS / "torchwood.vkey").read_text())
    whole = (THEIRS / "torchwood.note").read_bytes()
    assert key.algorithm is Algorithm.ML_DSA_44
    assert len(verify_note(parse_note(whole), [key])) == 1
    assert parse_note(whole).encode() == whole
    with pytest.raises(NoteError, match="does not hold"):
        verify_note(parse_note(whole.replace(b"\n1\n", b"\n2\n")), [key])


def test_sigstore_reads_our_notes() -> None:
    checkpoint = pytest.importorskip("sigstore._internal.rekor.checkpoint", reason="sigstore is not installed")
    note = sign_note(CHECKPOINT.text, [ED25519, ML_DSA])
    theirs = checkpoint.SignedCheckpoint.from_text(note.encode().decode())
    assert theirs.checkpoint.origin == CHECKPOINT.origin
    assert theirs.checkpoint.log_size == CHECKPOINT.size
    assert theirs.checkpoint.log_hash == ROOT.hex()
    assert theirs.signed_note.note == note.text
    assert [(s.name, s.sig_hash, base64.b64decode(s.signature)) for s in theirs.signed_note.signatures] == [
        tuple(signature) for signature in note.signatures
    ]
    assert isinstance(ED25519.key, Ed25519PrivateKey)
    signature = base64.b64decode(theirs.signed_note.signatures[0].signature)
    ED25519.key.public_key().verify(signature, theirs.signed_note.note.encode())


@pytest.mark.parametrize("module", [checkpoint_module, note_module, rfc3161_module])
def test_the_examples_in_the_documentation_run(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
