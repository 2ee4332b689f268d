"""Time stamps: an authority made with `openssl`, proofs made with the OpenTimestamps library, and what is refused."""

import hashlib
import random
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import JobError, UsageError
from pipelines.reserve.rfc3161 import check_answer, fresh_nonce, make_request, read_answer, read_roots
from pipelines.reserve.timestamps import Kind, attach, read_stamps, write_request
from tests.reserve.authority import Authority

CHECKPOINT = b"example.com/reserve\n1\n" + b"A" * 43 + b"=\n"
DIGEST = hashlib.sha256(CHECKPOINT).digest()

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl command is not installed")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "one")


@pytest.fixture
def seal(tmp_path: Path) -> Path:
    folder = tmp_path / "seal"
    folder.mkdir()
    (folder / "checkpoint").write_bytes(CHECKPOINT)
    return folder


def roots(authority: Authority) -> list[Any]:
    return read_roots(authority.roots.read_bytes())


def needs(package: str) -> Any:
    return pytest.importorskip(package, reason=f"{package} is not installed")


def proof(message: bytes = CHECKPOINT, height: int | None = 358391) -> bytes:
    """What `ots stamp` writes: a calendar's promise, and a block where a height is given."""
    needs("opentimestamps")
    from opentimestamps.core.notary import BitcoinBlockHeaderAttestation, PendingAttestation
    from opentimestamps.core.op import OpAppend, OpSHA256
    from opentimestamps.core.serialize import BytesSerializationContext
    from opentimestamps.core.timestamp import DetachedTimestampFile, Timestamp

    stamp = Timestamp(hashlib.sha256(message).digest())
    blinded = stamp.ops.add(OpAppend(bytes(16))).ops.add(OpSHA256())
    blinded.attestations.add(PendingAttestation("https://a.pool.opentimestamps.org"))
    if height is not None:
        blinded.ops.add(OpAppend(b"\x01")).ops.add(OpSHA256()).attestations.add(BitcoinBlockHeaderAttestation(height))
    out = BytesSerializationContext()
    DetachedTimestampFile(OpSHA256(), stamp).serialize(out)
    content: bytes = out.getbytes()
    return content


@needs_openssl
def test_an_answer_is_attached_checked_and_accepted_by_openssl(seal: Path, authority: Authority) -> None:
    needs("rfc3161_client")
    request = write_request(str(seal), Kind.RFC3161)
    began = datetime.now(UTC).replace(microsecond=0)
    answer = authority.answer(request)
    stamp = attach(str(seal), answer, roots(authority))
    assert stamp.time is not None
    assert began <= stamp.time <= datetime.now(UTC) + timedelta(seconds=1)
    assert stamp.by == ("CN=Test Authority",)
    assert stamp.checkpoint == DIGEST.hex()
    assert stamp.verified
    assert stamp.statement.startswith(f"CN=Test Authority says that checkpoint {DIGEST.hex()[:16]} existed at 20")
    assert "Z within 1.5 s (checked: digest, nonce, signature under" in stamp.statement
    assert "signature" in " ".join(stamp.checked)
    assert "signature" not in " ".join(stamp.unchecked)
    assert list(read_stamps(str(seal), roots(authority))) == [stamp]
    folder = seal / "timestamps" / DIGEST.hex()[:16]
    (kept,) = folder.glob("*.tsq")
    assert kept.read_bytes() == request
    assert Path(stamp.file).read_bytes() == answer
    assert "Verification: OK" in authority.verify(Path(stamp.file), "-queryfile", kept)
    assert "Verification: OK" in authority.verify(Path(stamp.file), "-data", folder / "checkpoint")
    assert read_answer(answer).accuracy == timedelta(seconds=1.5)


@needs_openssl
def test_without_roots_nothing_is_said_to_be_signed(seal: Path, authority: Authority) -> None:
    needs("rfc3161_client")
    answer = authority.answer(write_request(str(seal), Kind.RFC3161))
    stamp = attach(str(seal), answer)
    assert stamp.checked == ("digest", "nonce")
    assert stamp.unchecked[0].startswith("signature, and with it the authority and the time")
    assert "not checked: signature" in stamp.statement
    assert stamp.statement.startswith("a stamp in the name of CN=Test Authority says")
    assert not stamp.verified
    (again,) = read_stamps(str(seal), roots(authority))
    assert "signature" in again.checked[-1]


@needs_openssl
def test_another_authority_another_request_and_another_checkpoint_are_refused(
    seal: Path, authority: Authority, tmp_path: Path
) -> None:
    needs("rfc3161_client")
    answer = authority.answer(write_request(str(seal), Kind.RFC3161))
    other = Authority(tmp_path / "other")
    with pytest.raises(JobError, match=r"^a\.tsr: the stamp does not hold under the given root certificates"):
        attach(str(seal), answer, roots(other), "a.tsr")
    foreign = authority.answer(make_request(CHECKPOINT, fresh_nonce()))
    with pytest.raises(JobError, match=r"^a\.tsr: answers none of the requests in .*its nonce is \d+$"):
        attach(str(seal), foreign, roots(authority), "a.tsr")
    elsewhere = authority.answer(make_request(b"another", 1 << 63))
    with pytest.raises(JobError, match=r"^a\.tsr: stamps SHA-256 [0-9a-f]{64}, which is no checkpoint of"):
        attach(str(seal), elsewhere, roots(authority), "a.tsr")
    with pytest.raises(JobError, match="stamps another message"):
        check_answer(elsewhere, CHECKPOINT, 1 << 63, [])
    with pytest.raises(JobError, match="answers another request"):
        check_answer(elsewhere, b"another", (1 << 63) + 1, [])
    assert list(read_stamps(str(seal), roots(authority))) == []


@needs_openssl
def test_an_expired_authority_is_refused(seal: Path, tmp_path: Path) -> None:
    needs("rfc3161_client")
    expired = Authority(tmp_path / "expired", valid_days=-1)
    answer = expired.answer(write_request(str(seal), Kind.RFC3161))
    with pytest.raises(JobError, match="does not hold"):
        attach(str(seal), answer, roots(expired))


@needs_openssl
def test_a_refusal_says_why(authority: Authority) -> None:
    needs("rfc3161_client")
    refused = authority.answer(make_request(CHECKPOINT, fresh_nonce()), digests="sha512")
    with pytest.raises(JobError, match=r"the stamp was not granted as asked: status 2 \(rejected\) .*algorithm"):
        read_answer(refused)


@needs_openssl
def test_a_changed_answer_is_refused_or_says_the_same(authority: Authority) -> None:
    needs("rfc3161_client")
    nonce = fresh_nonce()
    answer = authority.answer(make_request(CHECKPOINT, nonce))
    trusted = roots(authority)
    whole = check_answer(answer, CHECKPOINT, nonce, trusted)
    refused = 0
    generator = random.Random(7)
    for at in range(len(answer)):
        changed = bytearray(answer)
        changed[at] ^= 1 << generator.randrange(8)
        try:
            said = check_answer(bytes(changed), CHECKPOINT, nonce, trusted)
        except JobError:
            refused += 1
        else:
            assert (said.digest, said.nonce, said.time) == (whole.digest, whole.nonce, whole.time), at
    assert refused > 0.9 * len(answer)
    for end in range(0, len(answer), 7):
        with pytest.raises(JobError):
            check_answer(answer[:end], CHECKPOINT, nonce, trusted)


@needs_openssl
def test_stamps_outlive_the_next_release(seal: Path, authority: Authority) -> None:
    needs("rfc3161_client")
    request = write_request(str(seal), Kind.RFC3161)
    (seal / "checkpoint").write_bytes(CHECKPOINT.replace(b"\n1\n", b"\n2\n"))
    late = attach(str(seal), authority.answer(request), roots(authority))
    assert late.checkpoint == DIGEST.hex()
    attach(str(seal), authority.answer(write_request(str(seal), Kind.RFC3161)), roots(authority))
    assert len({stamp.checkpoint for stamp in read_stamps(str(seal), roots(authority))}) == 2


@needs_openssl
def test_every_flipped_bit_in_the_folder_of_stamps_is_found(seal: Path, authority: Authority) -> None:
    needs("rfc3161_client")
    attach(str(seal), authority.answer(write_request(str(seal), Kind.RFC3161)), roots(authority))
    attach(str(seal), proof())
    generator = random.Random(3)
    found = [path for path in (seal / "timestamps").rglob("*") if path.is_file()]
    assert sorted(path.suffix for path in found) == ["", ".ots", ".tsq", ".tsr"]
    for path in found:
        content = path.read_bytes()
        for _ in range(30):
            changed = bytearray(content)
            changed[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
            path.write_bytes(changed)
            with pytest.raises(JobError, match=f"^{path}: "):
                list(read_stamps(str(seal), roots(authority)))
        path.write_bytes(content)
    assert len(list(read_stamps(str(seal), roots(authority)))) == 2
    for stray in (found[0].parent / "stray.txt", seal / "timestamps" / "stray", found[0].parent / "deep" / "stray"):
        stray.parent.mkdir(exist_ok=True)
        stray.write_bytes(b"")
        with pytest.raises(JobError, match=f"^{stray}: does not belong"):
            list(read_stamps(str(seal)))
        stray.unlink()
    (found[0].parent / "checkpoint").unlink()
    with pytest.raises(JobError, match="changed or removed"):
        list(read_stamps(str(seal)))


def test_a_seal_without_stamps_has_none(seal: Path) -> None:
    assert list(read_stamps(str(seal))) == []
    assert list(read_stamps(f"{seal}/")) == []


def test_the_request_is_read_by_others(tmp_path: Path) -> None:
    client = needs("rfc3161_client._rust")
    for nonce in (1, 0x7F, 0x80, 1 << 63, (1 << 64) - 1):
        request = make_request(CHECKPOINT, nonce)
        read = client.parse_timestamp_request(request)
        assert (read.nonce, read.cert_req, read.policy) == (nonce, True, None)
        assert read.message_imprint.message == DIGEST
        assert read.as_bytes() == request
    assert fresh_nonce().bit_length() == 64


def test_a_proof_says_what_it_holds_and_that_it_was_not_checked(seal: Path) -> None:
    assert write_request(str(seal), Kind.OPENTIMESTAMPS) == CHECKPOINT
    stamp = attach(str(seal), proof())
    assert stamp.by == ("Bitcoin block 358391, not checked", "pending at https://a.pool.opentimestamps.org")
    assert stamp.time is None
    assert "not checked: the calendars' and blocks' own word" in stamp.statement
    assert "existed" not in stamp.statement
    pending = attach(str(seal), proof(height=None))
    assert pending.by == ("pending at https://a.pool.opentimestamps.org",)
    assert {stamp.file for stamp in read_stamps(str(seal))} == {stamp.file, pending.file}
    with pytest.raises(UsageError, match="is attached already"):
        attach(str(seal), proof())


def test_proofs_of_other_files_and_damaged_ones_are_refused(seal: Path) -> None:
    with pytest.raises(JobError, match=r"^p\.ots: stamps SHA-256 .* which is no checkpoint"):
        attach(str(seal), proof(b"another"), source="p.ots")
    whole = proof()
    for end in range(31, len(whole)):
        with pytest.raises(JobError, match="damaged"):
            attach(str(seal), whole[:end])
    with pytest.raises(JobError, match="damaged"):
        attach(str(seal), whole + b"\0")
    with pytest.raises(JobError, match="a proof has fewer than"):
        attach(str(seal), whole + bytes(1 << 16))
    generator = random.Random(11)
    for _ in range(500):
        changed = bytearray(whole)
        changed[generator.randrange(31, len(whole))] ^= 1 << generator.randrange(8)
        before = set(seal.rglob("*.ots"))
        try:
            stamp = attach(str(seal), bytes(changed))
        except (JobError, UsageError):
            assert set(seal.rglob("*.ots")) == before
        else:
            assert stamp.checkpoint == DIGEST.hex()
            Path(stamp.file).unlink()


def test_what_is_neither_is_refused(seal: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^x: is neither an RFC 3161 answer \(.tsr, DER\) nor an OpenTimestamps"):
        attach(str(seal), b"hello", source="x")
    with pytest.raises(UsageError, match="there is no checkpoint to stamp"):
        write_request(str(tmp_path / "absent"), Kind.RFC3161)
    with pytest.raises(UsageError, match="cannot be read as certificates"):
        read_roots(b"junk")


@needs_openssl
def test_roots_must_hold_a_root(authority: Authority) -> None:
    with pytest.raises(UsageError, match=r"^r\.pem: holds no root certificate"):
        read_roots((authority.folder / "tsa.pem").read_bytes(), "r.pem")


@needs_openssl
def test_without_the_packages_stamps_are_named_and_nothing_is_claimed(
    seal: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("rfc3161_client")
    attach(str(seal), authority.answer(write_request(str(seal), Kind.RFC3161)), roots(authority))
    attach(str(seal), proof())
    for name in [name for name in sys.modules if name.split(".")[0] in ("rfc3161_client", "opentimestamps")]:
        monkeypatch.setitem(sys.modules, name, None)
    stamps = list(read_stamps(str(seal), roots(authority)))
    assert [(stamp.checked, stamp.by, stamp.time) for stamp in stamps] == [((), (), None)] * 2
    assert all("pip install 'human-reserve[timestamps]'" in stamp.statement for stamp in stamps)
    with pytest.raises(UsageError, match="needs rfc3161-client: pip install"):
        attach(str(seal), b"\x30\x00")
