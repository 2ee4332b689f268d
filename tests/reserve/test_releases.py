"""Releases that go on from one another, withdrawals, and proofs of single documents."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines.cli import main
from pipelines.descriptions import rewrite_croissant
from pipelines.errors import JobError, UsageError
from pipelines.finish import rewrite_report
from pipelines.reserve import amend
from pipelines.reserve.chain import chain_of
from pipelines.reserve.damage import Kind
from pipelines.reserve.entries import Release
from pipelines.reserve.keys import KeyFiles, read_signer, read_verifier
from pipelines.reserve.prove import check, prove
from pipelines.reserve.seal import parse_seal, read_seal, sign
from pipelines.reserve.tiles import EMPTY, TileReader, TileWriter
from pipelines.reserve.verify import verify
from pipelines.reserve.withdraw import withdraw
from tests.crawls import digests, rows, write_jsonl
from tests.reserve.sealed import ORIGIN, copy_of, document_ids, make_key, seal_run, summary

PLACES = ("reserve", "quarantine", "review", "duplicates")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("releases")


@pytest.fixture(scope="module")
def key(folder: Path) -> KeyFiles:
    return make_key(folder / "keys")


@pytest.fixture(scope="module")
def first(folder: Path, key: KeyFiles) -> Path:
    shards = sorted(Path(write_jsonl(folder / "crawl")).parent.glob("*.gz"))
    for number, shard in enumerate(shards):
        shard.rename(folder / "crawl" / f"{'early' if number < 2 else 'late'}-{number}.jsonl.gz")
    return seal_run(str(folder / "crawl" / "early-*"), folder / "first", key.private, inspect={"detector": "none"})


@pytest.fixture(scope="module")
def second(folder: Path, key: KeyFiles, first: Path) -> Path:
    return seal_run(
        str(folder / "crawl" / "late-*"),
        folder / "second",
        key.private,
        inspect={"detector": "none"},
        against=[str(first)],
        seal={"after": str(first)},
    )


def size_of(output: Path) -> int:
    seal = read_seal(str(output / "seal"))
    assert seal is not None
    return seal.checkpoint.size


def test_the_second_goes_on_from_the_first(first: Path, second: Path, key: KeyFiles) -> None:
    verifier = read_verifier(key.vkey)
    earlier = read_seal(str(first / "seal"))
    result = verify(str(second), [verifier], since=earlier)
    assert result.whole, result.problems
    assert result.since == size_of(first)
    assert result.chain is not None
    assert [one.release.number for one in result.chain.releases] == [2, 1]
    latest = result.chain.latest.release
    assert latest.documents == sum(len(document_ids(second, place)) for place in PLACES)
    assert latest.previous == {"size": size_of(first), "root": earlier.checkpoint.root.hex() if earlier else ""}
    assert size_of(second) == size_of(first) + latest.documents + 1
    assert verify(str(first), [verifier]).whole


def test_an_earlier_checkpoint_alone_is_enough(first: Path, second: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(second), "--since", str(first / "seal" / "checkpoint")]) == 0
    assert f"from the earlier log of {size_of(first):,} entries" in capsys.readouterr().out
    assert main(["verify", str(second), "--since", str(first)]) == 0


def test_a_forged_history_is_refused(first: Path, second: Path, key: KeyFiles, tmp_path: Path) -> None:
    """The owner of the key leaves one early document out of the log, and signs that."""
    seal = read_seal(str(second / "seal"))
    assert seal is not None
    entries = list(TileReader(seal.folder, seal.tree).entries())
    forged = copy_of(second, tmp_path / "forged")
    shutil.rmtree(forged / "seal" / "tile")
    writer = TileWriter(str(forged / "seal"), EMPTY)
    early = entries[1 : size_of(first) - 1]
    writer.append(early)
    old = Release.decode(entries[size_of(first) - 1])
    writer.append([Release(**{**old.__dict__, "documents": len(early)}).encode()])
    middle = writer.tree()
    writer.append(entries[size_of(first) : -1])
    new = Release.decode(entries[-1])
    writer.append([Release(**{**new.__dict__, "previous": {"size": middle.size, "root": middle.root.hex()}}).encode()])
    sign(str(forged / "seal"), ORIGIN, writer.finish(), [read_signer(key.private)])
    # Whatever else is forged with it: what the first release showed is not where this log comes from.
    verifier = read_verifier(key.vkey)
    result = verify(str(forged), [verifier], since=read_seal(str(first / "seal")))
    assert any(p.kind is Kind.LOG and "does not go on from the earlier log" in p.detail for p in result.problems)


def test_an_old_checkpoint_put_back_is_found(first: Path, second: Path, tmp_path: Path) -> None:
    copy = copy_of(second, tmp_path / "out")
    shutil.copyfile(first / "seal" / "checkpoint", copy / "seal" / "checkpoint")
    problems = verify(str(copy)).problems
    assert problems[0].kind is Kind.LOG
    assert "the checkpoint may be an earlier one that was put back" in problems[0].detail


def test_only_a_key_of_the_first_may_go_on(first: Path, folder: Path, tmp_path: Path) -> None:
    other = make_key(tmp_path)
    crawl = str(folder / "crawl" / "late-*")
    for private in (other.private, None):
        with pytest.raises(UsageError, match=r"signed by example\.com/reserve"):
            seal_run(crawl, tmp_path / "out", private, inspect={"detector": "none"}, seal={"after": str(first)})
    seal = {"after": str(first), "origin": "else.example"}
    with pytest.raises(UsageError, match=r"give seal\.origin=example\.com/reserve"):
        seal_run(crawl, tmp_path / "out", other.private, inspect={"detector": "none"}, seal=seal)
    with pytest.raises(UsageError, match="is the output itself"):
        seal_run(crawl, tmp_path / "out", None, inspect={"detector": "none"}, seal={"after": f"{tmp_path}/x/../out"})
    with pytest.raises(UsageError, match="holds no seal"):
        seal_run(crawl, tmp_path / "out", None, inspect={"detector": "none"}, seal={"after": str(tmp_path)})


@pytest.mark.slow
def test_the_same_seal_for_any_workers_order_and_resumed(
    folder: Path, first: Path, key: KeyFiles, tmp_path: Path
) -> None:
    crawl = tmp_path / "crawl"
    crawl.mkdir()
    names = sorted(path.name for path in (folder / "crawl").glob("early-*"))
    for name in names[::-1]:
        shutil.copyfile(folder / "crawl" / name, crawl / name)
    two = seal_run(
        str(crawl / "*"),
        tmp_path / "two",
        key.private,
        inspect={"detector": "none"},
        workers=2,
    )
    assert digests(two) == digests(first)
    (two / "summary.json").unlink()
    shutil.rmtree(two / "seal" / "tile")
    again = seal_run(str(crawl / "*"), two, key.private, inspect={"detector": "none"})
    assert digests(again) == digests(first)


def test_a_proof_stands_alone(second: Path, key: KeyFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verifier = read_verifier(key.vkey)
    for place in PLACES:
        for doc_id in document_ids(second, place)[:3]:
            proof = json.loads(json.dumps(prove(str(second), doc_id)))
            checked = check(proof, [verifier])
            assert checked.folder == place
            assert checked.document["doc_id"] == doc_id
            assert checked.signed_by == (verifier,)
            assert not checked.text
    doc_id = document_ids(second)[0]
    path = tmp_path / "proof.json"
    assert main(["prove", str(second), doc_id[:12], "--text", "--out", str(path)]) == 0
    record = {name: value for name, value in json.loads(path.read_text()).items() if name in ("document", "text")}
    assert path.stat().st_size - len(json.dumps(record, indent=1)) < 3000
    assert main(["check", str(path), "--key", str(key.vkey)]) == 0
    said = capsys.readouterr().out
    assert "as sealed" in said
    assert f"signed by  {verifier}" in said
    assert main(["check", str(path)]) == 0
    assert "anyone can have made this proof" in capsys.readouterr().out


def test_any_change_of_a_proof_is_refused(second: Path, key: KeyFiles) -> None:
    verifier = read_verifier(key.vkey)
    proof = prove(str(second), document_ids(second)[0], text=True)
    check(proof, [verifier])

    def changed(**new: Any) -> dict[str, Any]:
        return {**json.loads(json.dumps(proof)), **new}

    document = proof["document"]
    wrong = [
        changed(document={**document, name: None if value is not None else "x"}) for name, value in document.items()
    ]
    wrong += [
        changed(index=proof["index"] + 1),
        changed(entry=proof["entry"][:-4]),
        changed(hashes=proof["hashes"][1:]),
    ]
    wrong += [changed(text=proof["text"] + " "), changed(folder="quarantine"), changed(context={})]
    wrong += [changed(checkpoint=proof["checkpoint"].replace(ORIGIN, "example.org/reserve")), changed(format="other")]
    wrong += [
        {name: value for name, value in proof.items() if name != without} for without in proof if without != "text"
    ]
    for one in [*wrong, [], None, "x"]:
        with pytest.raises(JobError):
            check(one, [verifier])


def test_a_withdrawal_leaves_a_tombstone(second: Path, key: KeyFiles, tmp_path: Path) -> None:
    output, verifier = copy_of(second, tmp_path / "out"), read_verifier(key.vkey)
    samples = pq.read_table(output / "statistics" / "samples.parquet").to_pylist()
    gone = next(row for row in samples if row["place"] == "reserve")
    doc_id, marker = str(gone["doc_id"]), str(gone["text"])[:40]
    assert marker.split("\n")[0] in (output / "report.html").read_text()
    before = read_seal(str(output / "seal"))
    command = ["withdraw", str(output), doc_id, "--reason", "asked for by its author"]
    assert main(command) == 2  # without the key
    assert main([*command, "--key", str(key.private)]) == 0
    assert {path.stat().st_mode & 0o222 for path in output.rglob("*") if path.is_file()} == {0}
    result = verify(str(output), [verifier], since=before)
    assert result.whole, result.problems
    assert result.chain is not None
    ((_, tombstone),) = result.chain.withdrawals
    assert (tombstone.doc_id, tombstone.reason) == (doc_id, "asked for by its author")
    for path in output.rglob("*.parquet"):
        if "rejects" not in str(path):
            assert gone["text"][:40].encode() not in path.read_bytes()
            ids = pq.read_table(path)
            if "doc_id" in ids.schema.names:
                assert not {doc_id, bytes.fromhex(doc_id)} & set(ids["doc_id"].to_pylist()), path
    assert doc_id not in (output / "report.html").read_text()
    with pytest.raises(JobError, match="no document"):
        prove(str(output), doc_id)
    others = document_ids(output)
    check(prove(str(output), others[0]), [verifier])
    with pytest.raises(UsageError, match="withdrawn before"):
        withdraw(str(output), doc_id, "again", [read_signer(key.private)], lambda _: [])
    # Put back, it is found.
    (part,) = [
        path
        for path in sorted((second / "reserve").glob("*.parquet"))
        if doc_id in pq.read_table(path)["doc_id"].to_pylist()
    ]
    shutil.copyfile(part, output / "reserve" / part.name)
    assert verify(str(output), [verifier]).problems[0].file == f"reserve/{part.name}"


def test_a_withdrawal_that_was_killed_is_finished(second: Path, key: KeyFiles, tmp_path: Path) -> None:
    output, signer = copy_of(second, tmp_path / "out"), read_signer(key.private)
    doc_id = document_ids(output)[1]

    def killed(_: str) -> list[str]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        withdraw(str(output), doc_id, "why", [signer], killed)
    assert not verify(str(output)).whole
    withdraw(str(output), doc_id, "why", [signer], lambda out: [rewrite_report(out), rewrite_croissant(out)])
    assert verify(str(output), [signer.verifier]).whole


def test_a_withdrawal_killed_after_its_signature_is_whole_again(
    second: Path, key: KeyFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, signer = copy_of(second, tmp_path / "out"), read_signer(key.private)
    doc_id, real = document_ids(output)[1], amend.files.replace

    def killed(source: str, target: str) -> None:
        if source.endswith(amend.NEXT):
            raise KeyboardInterrupt
        real(source, target)

    def again() -> None:
        withdraw(str(output), doc_id, "why", [signer], lambda out: [rewrite_report(out), rewrite_croissant(out)])

    with monkeypatch.context() as patched:
        patched.setattr(amend.files, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            again()
    assert not verify(str(output)).whole
    with pytest.raises(UsageError, match="withdrawn before"):
        again()
    assert verify(str(output), [signer.verifier]).whole


def test_the_log_says_what_it_is(second: Path) -> None:
    sealed = read_seal(str(second / "seal"))
    assert sealed is not None
    latest = chain_of(sealed.reader()).latest
    assert latest.release.records["rejects"] == 0
    assert latest.release.captured_before == max(row["timestamp"] for row in rows() if row["url"] in urls(second))
    seal = summary(second)["seal"]
    assert seal == {
        "root": sealed.reader().root_of(0, latest.at).hex(),
        "size": latest.at,
        "origin": ORIGIN,
    }
    assert parse_seal((second / "seal" / "checkpoint").read_bytes(), "x").checkpoint == sealed.checkpoint


def urls(output: Path) -> set[str]:
    return {
        url for place in PLACES for part in (output / place).glob("*") for url in pq.read_table(part)["url"].to_pylist()
    }
