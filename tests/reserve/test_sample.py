"""Anchor samples of a sealed output: what is drawn, proved and refused."""

import argparse
import base64
import hashlib
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipelines.cli import _command, _Parser
from pipelines.cli_sample import _number, add_sample
from pipelines.errors import JobError, UsageError
from pipelines.records import OUTPUT, Place
from pipelines.reserve.allocation import Allocation
from pipelines.reserve.chain import chain_of
from pipelines.reserve.entries import document_entries
from pipelines.reserve.frame import Choice, read_frame, reserve_parts, word_counter
from pipelines.reserve.in_log import Prover
from pipelines.reserve.keys import keygen, read_signer, read_verifier
from pipelines.reserve.merkle import leaf_hash
from pipelines.reserve.mixing import mixing_plan
from pipelines.reserve.note import Verifier
from pipelines.reserve.proofs import verify_inclusion
from pipelines.reserve.sample import Request, sample
from pipelines.reserve.sample_check import check_sample
from pipelines.reserve.sample_files import SAMPLE
from pipelines.reserve.seal import SealWriter, read_seal, sealing
from pipelines.reserve.withdraw import withdraw
from tests.reserve.sealed import copy_of, small_output

STRATA = ("month", "host", "language")


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Verifier]:
    return small_output(tmp_path_factory.mktemp("sealed"))


def rows_of(output: Path) -> pa.Table:
    parts = sorted((output / "reserve").glob("*.parquet"))
    return pa.concat_tables([pq.read_table(part) for part in parts]).sort_by("doc_id")


def written(folder: Path) -> pa.Table:
    return pq.read_table(folder / "sample.parquet")


def call(*arguments: str) -> int:
    parser = _Parser(prog="reserve")
    add_sample(parser.add_subparsers(), _command)
    options: argparse.Namespace = parser.parse_args(["sample", *arguments])
    return int(options.do(options))


def test_a_sample_is_rows_of_the_reserve_with_proofs(sealed: tuple[Path, Verifier], tmp_path: Path) -> None:
    output, key = sealed
    plan = sample(str(output), Request(documents=40, stratify=STRATA), str(tmp_path / "a"), [key])
    drawn, everything = written(tmp_path / "a"), rows_of(output)
    assert drawn.schema.names == SAMPLE.names
    assert drawn.num_rows == 40
    assert drawn["doc_id"].to_pylist() == sorted(set(drawn["doc_id"].to_pylist()))
    of_these = everything.filter(pc.is_in(everything["doc_id"], drawn["doc_id"]))
    assert drawn.select(OUTPUT.names).cast(OUTPUT) == of_these.cast(OUTPUT).combine_chunks()
    assert drawn["weight"].to_pylist() == pytest.approx([everything.num_rows / 40] * 40)
    row = drawn.slice(0, 1).to_pylist()[0]
    assert row["stratum"] == f"{row['captured_at']:%Y-%m}/{row['host']}/{row['language'] or 'unknown'}"
    assert drawn["tokens"].to_pylist() == word_counter().measure(drawn["text"].combine_chunks()).tolist()

    # The proofs, by what lies in the log and not by what the sample says of it.
    found = read_seal(str(output / "seal"))
    assert found is not None
    assert (tmp_path / "a/checkpoint").read_bytes() == (output / "seal/checkpoint").read_bytes()
    lines = [json.loads(line) for line in (tmp_path / "a/proofs.jsonl").read_text().splitlines()]
    assert [line["doc_id"] for line in lines] == drawn["doc_id"].to_pylist()
    assert [line["index"] for line in lines] == drawn["log_index"].to_pylist()
    for line in lines:
        entry = found.reader().entry(line["index"])
        assert entry[2:18].hex() == line["doc_id"]
        hashes = [base64.b64decode(node) for node in line["hashes"]]
        verify_inclusion(leaf_hash(entry), line["index"], found.tree.size, hashes, found.tree.root)

    whole = json.loads((tmp_path / "a/plan.json").read_text())
    strata = whole.pop("strata")
    assert whole == plan
    assert sum(one["documents"] for one in strata) == plan["population"]["documents"] == everything.num_rows
    assert sum(one["sampled"] for one in strata) == 40
    assert plan["seal"]["signed_by"] == [str(key)]
    assert plan["seal"]["key_given"]
    for name, digest in plan["files"].items():
        assert hashlib.sha256((tmp_path / "a" / name).read_bytes()).hexdigest() == digest


def test_the_same_for_any_lay_out_of_files(sealed: tuple[Path, Verifier], tmp_path: Path) -> None:
    output, _ = sealed
    other = copy_of(output, tmp_path / "other")
    rows = rows_of(output)
    for part in (other / "reserve").glob("*.parquet"):
        part.unlink()
    shuffled = rows.take(np.random.default_rng(3).permutation(rows.num_rows))
    for number, (begin, size) in enumerate([(0, 1), (1, 40), (41, 0), (41, rows.num_rows)]):
        path = other / f"reserve/part-{number:05}.parquet"
        pq.write_table(shuffled.slice(begin, size), path, row_group_size=17)
    for request in (
        Request(documents=50, stratify=STRATA, sealed=False),
        Request(tokens=5000, stratify=("language",), allocation=Allocation.SQRT, seed="x", sealed=False),
    ):
        for source, folder in ((output, "one"), (other, "two")):
            shutil.rmtree(tmp_path / folder, ignore_errors=True)
            sample(str(source), request, str(tmp_path / folder))
        assert (tmp_path / "one/sample.parquet").read_bytes() == (tmp_path / "two/sample.parquet").read_bytes()
        assert (tmp_path / "one/plan.json").read_bytes() == (tmp_path / "two/plan.json").read_bytes()
        assert written(tmp_path / "one")["log_index"].null_count == written(tmp_path / "one").num_rows
    with pytest.raises(UsageError, match="--unsealed, and holds no proofs"):
        check_sample(str(tmp_path / "one"))


def test_heaps_make_no_difference(
    sealed: tuple[Path, Verifier], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, key = sealed
    sample(str(output), Request(documents=60), str(tmp_path / "one"))
    monkeypatch.setattr("pipelines.reserve.sample_files._HEAP", 7)
    sample(str(output), Request(documents=60), str(tmp_path / "many"))
    assert written(tmp_path / "one") == written(tmp_path / "many")
    assert (tmp_path / "one/proofs.jsonl").read_bytes() == (tmp_path / "many/proofs.jsonl").read_bytes()
    assert check_sample(str(tmp_path / "many"), [key]).documents == 60


def test_a_tampered_document_is_named(sealed: tuple[Path, Verifier], tmp_path: Path) -> None:
    output = copy_of(sealed[0], tmp_path / "out")
    part = sorted((output / "reserve").glob("*.parquet"))[0]
    table = pq.read_table(part)
    doc_id = table["doc_id"][3].as_py()
    languages = table["language"].to_pylist()
    languages[3] = "xx"
    at = table.schema.get_field_index("language")
    pq.write_table(table.set_column(at, table.schema.field(at), pa.array(languages)), part)
    with pytest.raises(JobError, match=rf"not as it was sealed: .*document {doc_id}: not as sealed: other columns"):
        sample(str(output), Request(documents=table.num_rows), str(tmp_path / "a"))
    assert not (tmp_path / "a").exists()


def write_padded(path: Path, table: pa.Table, size: int) -> None:
    """Writes a table as a file of just this size."""
    wanted = 0
    for _ in range(5):
        with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
            writer.write_table(table)
            writer.add_key_value_metadata({"padding": "x" * wanted})
        wanted += size - path.stat().st_size
        if path.stat().st_size == size:
            return
    raise AssertionError("no such size can be had")


def test_a_missing_row_in_a_file_of_the_same_size(sealed: tuple[Path, Verifier], tmp_path: Path) -> None:
    output = copy_of(sealed[0], tmp_path / "out")
    part = max((output / "reserve").glob("*.parquet"), key=lambda path: path.stat().st_size)
    table = pq.read_table(part)
    write_padded(part, table.slice(0, table.num_rows - 60), part.stat().st_size)
    with pytest.raises(JobError, match=r"reserve/ has \d+ rows, and \d+ were sealed"):
        sample(str(output), Request(documents=5), str(tmp_path / "a"))


def test_rows_that_are_not_as_sealed(sealed: tuple[Path, Verifier]) -> None:
    """What sizes of files do not show is found when the rows are proved."""
    output, _ = sealed
    found = read_seal(str(output / "seal"))
    assert found is not None
    prover = Prover(str(output), found, chain_of(found.reader()))
    rows = rows_of(output).select(OUTPUT.names).cast(OUTPUT)
    assert len(prover.prove(rows, Place.RESERVE)) == rows.num_rows
    assert prover.rows_left(Place.RESERVE) == rows.num_rows

    def changed(name: str, value: object) -> pa.Table:
        values = rows[name].to_pylist()
        values[5] = value
        field = rows.schema.field(name)
        return rows.set_column(rows.schema.get_field_index(name), field, pa.array(values, field.type))

    doc_id = rows["doc_id"][5].as_py()
    other = doc_id[:-1] + ("0" if doc_id[-1] != "0" else "1")
    when = datetime(2001, 1, 1, tzinfo=UTC)
    for table, what in (
        (changed("text", "another text"), f"{doc_id}: the text is not the one"),
        (changed("verdict", "clear"), f"{doc_id}: not as sealed: verdict"),
        (changed("captured_at", when), f"{doc_id}: not as sealed: captured_at"),
        (changed("doc_id", other), f"{other}: it was not sealed"),
    ):
        with pytest.raises(JobError, match=what):
            prover.prove(table, Place.RESERVE)
    with pytest.raises(JobError, match="not as sealed: folder"):
        prover.prove(rows.slice(0, 1), Place.REVIEW)


def test_a_withdrawn_document_is_gone(sealed: tuple[Path, Verifier], tmp_path: Path) -> None:
    output = copy_of(sealed[0], tmp_path / "out")
    before = rows_of(output)
    doc_id = before["doc_id"][7].as_py()
    private = next((sealed[0].parent / "keys").glob("*.key"))
    withdraw(str(output), doc_id, "asked for", [read_signer(private)], lambda _: [])
    sample(str(output), Request(documents=before.num_rows - 1), str(tmp_path / "a"), [sealed[1]])
    assert doc_id not in written(tmp_path / "a")["doc_id"].to_pylist()
    with pytest.raises(UsageError, match=f"there are {before.num_rows - 1} documents"):
        sample(str(output), Request(documents=before.num_rows), str(tmp_path / "b"))
    # Its row put back is not taken for one that is sealed.
    found = read_seal(str(output / "seal"))
    assert found is not None
    rows = before.slice(7, 1).select(OUTPUT.names).cast(OUTPUT)
    with pytest.raises(JobError, match=f"{doc_id}: it was withdrawn"):
        Prover(str(output), found, chain_of(found.reader())).prove(rows, Place.RESERVE)


def test_a_sample_is_checked_without_its_archive(sealed: tuple[Path, Verifier], tmp_path: Path) -> None:
    output, key = sealed
    folder = tmp_path / "a"
    sample(str(output), Request(documents=30), str(folder), [key])
    found = check_sample(str(folder), [key])
    assert (found.documents, found.signed_by) == (30, (key,))
    stranger = read_verifier(keygen("example.com/reserve", tmp_path / "keys").vkey)
    with pytest.raises(JobError, match="sign"):
        check_sample(str(folder), [stranger])

    proofs = (folder / "proofs.jsonl").read_bytes()
    lines = proofs.splitlines(keepends=True)
    for content, what in (
        (b"".join(lines[:-1]), "fewer proofs"),
        (b"".join([*lines, lines[0]]), "more proofs"),
        (b"".join([lines[1], lines[0], *lines[2:]]), "the proof in its place"),
        (proofs.replace(b'"hashes": ["', b'"hashes": ["!', 1), "no proof"),
        (proofs.replace(lines[2], lines[2].replace(b'"hashes": ["', b'"hashes": ["' + b"A" * 43 + b'=", "')), "proof"),
    ):
        (folder / "proofs.jsonl").write_bytes(content)
        with pytest.raises(JobError, match=what):
            check_sample(str(folder), [key])
    (folder / "proofs.jsonl").write_bytes(proofs)
    rows = written(folder)
    verdicts = ["clear" if v == "dated" else "dated" for v in rows["verdict"].to_pylist()]
    at = rows.schema.get_field_index("verdict")
    pq.write_table(rows.set_column(at, rows.schema.field(at), pa.array(verdicts)), folder / "sample.parquet")
    with pytest.raises(JobError, match=f"document {rows['doc_id'][0]}: not as it was sealed"):
        check_sample(str(folder), [key])
    texts = [f"{text}." for text in rows["text"].to_pylist()]
    at = rows.schema.get_field_index("text")
    longer = rows.set_column(at, rows.schema.field(at), pa.array(texts, pa.large_string()))
    pq.write_table(longer, folder / "sample.parquet")
    with pytest.raises(JobError, match=f"document {rows['doc_id'][0]}: the text is not the one"):
        check_sample(str(folder), [key])
    pq.write_table(rows.slice(0, 29), folder / "sample.parquet")
    with pytest.raises(JobError, match="more proofs"):
        check_sample(str(folder), [key])


def part_of(folder: Path, rows: list[dict[str, object]]) -> list[str]:
    """A reserve of rows that matter here in few columns."""
    base = {"text": "one two", "text_sha256": "0" * 64, "verdict": "dated", "evidence": [], "shard": "s"}
    base |= {"record_offset": 0, "cluster_size": 1, "because": "", "payload_sha256": "0" * 64}
    table = pa.Table.from_pylist([{**base, "doc_id": f"{n:032x}", **row} for n, row in enumerate(rows)], OUTPUT)
    (folder / "reserve").mkdir(parents=True)
    (folder / "summary.json").write_text("{}")
    pq.write_table(table, folder / "reserve/part-00000.parquet")
    return reserve_parts(str(folder))


def test_frame_of_unknown_values_and_repeats(tmp_path: Path) -> None:
    last = datetime(2022, 11, 30, 23, 59, 59, 999999, tzinfo=UTC)
    first = datetime(2022, 12, 1, tzinfo=UTC)
    rows = [
        {"captured_at": last, "host": "b", "language": "en", "record_offset": 9},
        {"captured_at": first, "host": "b", "language": "en", "verdict": "clear"},
        {"captured_at": None, "host": None, "language": None, "text": "one two three"},
        {"captured_at": last, "host": "a", "language": "en"},
        {"captured_at": last, "host": "b", "language": "en", "doc_id": f"{0:032x}"},
    ]
    parts = part_of(tmp_path / "out", rows)
    found = read_frame(parts, STRATA, Choice(), "0", None)
    assert found.rows == 5
    known = [("2022-11", "a", "en"), ("2022-11", "b", "en"), ("2022-12", "b", "en")]
    assert found.labels == [(None, None, None), *known]
    assert found.sizes.tolist() == [1, 1, 1, 1]
    assert found.columns.tolist() == [[0, 1, 1, 2], [0, 1, 2, 2], [0, 1, 1, 1]]
    for until in ("2022-11", "2022-11-30"):
        assert read_frame(parts, STRATA, Choice(until=until), "0", None).labels == known[:2]
    assert len(read_frame(parts, STRATA, Choice(until="2022"), "0", None).ids) == 3
    assert len(read_frame(parts, (), Choice(until="2022-11-29"), "0", None).ids) == 0
    assert len(read_frame(parts, (), Choice(("clear",)), "0", None).ids) == 1
    assert read_frame(parts, ("year", "verdict"), Choice(), "0", None).labels[1:] == [
        ("2022", "clear"),
        ("2022", "dated"),
    ]
    counted = read_frame(parts, (), Choice(), "0", word_counter())
    assert counted.tokens is not None
    assert sorted(counted.tokens.tolist()) == [2, 2, 2, 3]
    assert len(read_frame(parts, (), Choice(longest=2), "0", word_counter()).ids) == 3
    # The order of drawing, from the definition.
    names = [bytes.fromhex(f"{n:032x}") for n in range(4)]
    assert [i.tobytes() for i in counted.ids] == sorted(names, key=lambda i: hashlib.sha256(b"0" + i).digest())
    # A repeated capture is one row of a sample.
    sample(str(tmp_path / "out"), Request(documents=4, sealed=False), str(tmp_path / "a"))
    assert written(tmp_path / "a")["record_offset"].to_pylist() == [0, 0, 0, 0]


def test_mixing_by_hand() -> None:
    plan = mixing_plan(1000, 10, share=0.2, epochs=2, corpus_tokens=10_000)
    assert plan["anchor_tokens_per_epoch"] == 2500  # of 12,500
    assert plan["passes_per_epoch"] == 2.5
    assert plan["documents_once_more"] == 5
    assert plan["passes"] == 5
    assert len(plan["warnings"]) == 2
    assert "1,250 tokens" in plan["warnings"][1]
    assert mixing_plan(1250, 10, 0.2, 2, 10_000)["warnings"] == []
    assert plan["largest_corpus_tokens"] == 8000
    assert mixing_plan(1000, 10, 0.2, 2, 8000)["passes"] == 4
    assert mixing_plan(1000, 10, 0.5)["largest_corpus_tokens"] == 4000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say how much to draw"),
        (["--n", "0"], "--n 0: at least 1"),
        (["--n", "99999"], "--n 99999: there are [0-9]+ documents"),
        (["--tokens", "9B"], "--tokens 9000000000: the documents to draw from hold"),
        (["--n", "5", "--stratify", "moon"], "--stratify moon: one or more of month"),
        (["--n", "5", "--stratify", "host,host"], "host stands there twice"),
        (["--n", "5", "--allocation", "best"], "--allocation best: one of proportional"),
        (["--n", "5", "--verdicts", "human"], "--verdicts human: one of dated"),
        (["--n", "5", "--verdicts", "declared"], "there are 0 documents"),
        (["--n", "5", "--until", "2022-13"], "--until 2022-13: a year"),
        (["--n", "5", "--until", "22"], "--until 22: a year"),
        (["--n", "5", "--longest", "0"], "--longest 0: at least 1"),
        (["--n", "5", "--share", "1"], "--share 1.0: of the anchor"),
        (["--n", "5", "--share", "0.1", "--epochs", "0"], "--epochs 0"),
        (["--n", "5", "--corpus-tokens", "5"], "--corpus-tokens: a plan for mixing needs --share"),
        (["--n", "5", "--tokenizer", "/nowhere/tokenizer.json"], "--tokenizer /nowhere"),
        (["--check"], "holds no sample"),
        (["--check", "--n", "5"], "takes no --n"),
    ],
)
def test_wrong_calls(sealed: tuple[Path, Verifier], tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call(str(sealed[0]), "--output", str(tmp_path / "a"), *arguments)
    assert not (tmp_path / "a").exists()


def test_wrong_folders(sealed: tuple[Path, Verifier], tmp_path: Path) -> None:
    output = str(sealed[0])
    with pytest.raises(UsageError, match="into which nothing else is written"):
        call(output, "--n", "5", "--output", f"{output}/anchor")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    with pytest.raises(UsageError, match="is not empty"):
        call(output, "--n", "5", "--output", str(tmp_path / "full"))
    with pytest.raises(UsageError, match="no finished run here"):
        call(str(tmp_path), "--n", "5", "--output", str(tmp_path / "a"))
    bare = copy_of(sealed[0], tmp_path / "bare")
    shutil.rmtree(bare / "seal")
    with pytest.raises(UsageError, match="holds no seal; --unsealed"):
        call(str(bare), "--n", "5", "--output", str(tmp_path / "a"))
    assert call(str(bare), "--n", "5", "--unsealed", "--output", str(tmp_path / "a")) == 0
    with pytest.raises(SystemExit):
        call(output, "--n", "5", "--tokens", "5")


def test_command(sealed: tuple[Path, Verifier], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, _ = sealed
    key = next((output.parent / "keys").glob("*.vkey"))
    wanted = [
        "--stratify",
        "month,language",
        "--share",
        "0.1",
        "--epochs",
        "3",
        "--corpus-tokens",
        "1M",
        "--key",
        str(key),
    ]
    assert call(str(output), "--tokens", "2k", *wanted, "--output", str(tmp_path / "a")) == 0
    told = capsys.readouterr()
    assert "asked: 2,000, give or take" in told.out
    assert "signed by   example.com/reserve" in told.out
    assert "each document would be seen" in told.err
    assert call(str(tmp_path / "a"), "--check", "--key", str(key)) == 0
    assert "each as it was sealed" in capsys.readouterr().out
    assert call(str(output), "--n", "3", "--json", "--output", str(tmp_path / "b")) == 0
    assert json.loads(capsys.readouterr().out)["sample"]["documents"] == 3


def test_numbers_as_people_write_them() -> None:
    assert [_number(text) for text in ("5000", "5_000", "5,000", "5k", "1.5M", "2B")] == [
        *[5000] * 4,
        1_500_000,
        2 * 10**9,
    ]
    for text in ("", "-5", "k", "1e6", "five"):
        with pytest.raises(argparse.ArgumentTypeError):
            _number(text)


def test_entries_are_found_in_a_later_release(tmp_path: Path) -> None:
    """The latest release begins and ends within bundles; what an earlier one sealed is not taken for its own."""
    random = np.random.default_rng(4)
    digest = hashlib.sha256(b"a text").hexdigest()

    def rows(count: int) -> pa.Table:
        ids = sorted(random.bytes(16).hex() for _ in range(count))
        parts = part_of(tmp_path / str(count), [{"doc_id": i, "text": "a text", "text_sha256": digest} for i in ids])
        return pq.read_table(parts[0])

    earlier = None
    for table in (old := rows(300), new := rows(700)):
        how = sealing((), None, {"code": None}, earlier)
        writer = SealWriter(str(tmp_path / f"seal-{table.num_rows}"), how)
        writer.add_documents([document_entries(table, Place.RESERVE, how.digest)])
        earlier = writer.close({"reserve": table.num_rows}, b"")
    assert earlier is not None
    reader = earlier.reader()
    prover = Prover("out", earlier, chain_of(reader))
    for chosen in (new, new.slice(0, 1), new.slice(699), new.slice(100, 3), new.slice(0, 0)):
        found = prover.prove(chosen, Place.RESERVE)
        assert [reader.entry(one.at)[2:18].hex() for one in found] == chosen["doc_id"].to_pylist()
    assert [one.at for one in prover.prove(new, Place.RESERVE)] == list(range(301, 1001))
    for chosen in (old.slice(0, 1), old.slice(299)):
        with pytest.raises(JobError, match=r"it was not sealed"):
            prover.prove(chosen, Place.RESERVE)
