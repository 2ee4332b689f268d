"""Whatever is changed in a sealed output is found, and called by its name and place."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.cli import main
from pipelines.errors import UsageError
from pipelines.reserve.damage import Kind, Problem
from pipelines.reserve.keys import keygen, read_signer, read_verifier
from pipelines.reserve.manifest import digest_file, manifest_bytes, read_manifest
from pipelines.reserve.note import Verifier
from pipelines.reserve.seal import read_seal, sign
from pipelines.reserve.verify import verify
from tests.reserve.sealed import ORIGIN, copy_of, document_ids, make_key, seal_run, small_output, summary

Sealed = tuple[Path, Verifier]
PART = "reserve/part-00000.parquet"


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    return small_output(tmp_path_factory.mktemp("sealed"))


@pytest.fixture
def copy(sealed: Sealed, tmp_path: Path) -> Path:
    return copy_of(sealed[0], tmp_path / "out")


def files_of(output: Path) -> list[Path]:
    return sorted(path for path in output.rglob("*") if path.is_file())


def problems(output: Path, key: Verifier) -> list[Problem]:
    result = verify(str(output), [key])
    assert result.whole == (not result.problems)
    return result.problems


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Writes a part again with the writer's own options, so that only rows differ."""
    pq.write_table(change(pq.read_table(path)), path, compression="zstd", row_group_size=20_000)


def test_an_untouched_output_is_whole(sealed: Sealed, capsys: pytest.CaptureFixture[str]) -> None:
    output, key = sealed
    result = verify(str(output), [key])
    assert result.whole
    assert result.trusted
    assert result.signed_by == (key,)
    records = summary(output)["records"]
    assert isinstance(records, dict)
    assert result.documents == records["in"] - records["rejects"]
    assert result.files == len([p for p in files_of(output) if p.relative_to(output).parts[0] != "seal"])
    assert main(["verify", str(output)]) == 0
    said = capsys.readouterr().out
    assert f"{output}: whole" in said
    assert "keys from the archive itself: give --key" in said
    assert "never" not in said
    assert main(["verify", str(output), "--json", "--quick"]) == 0
    assert json.loads(capsys.readouterr().out)["documents"] is None


def test_files_are_read_only(sealed: Sealed) -> None:
    assert {path.stat().st_mode & 0o222 for path in files_of(sealed[0])} == {0}


def flips(output: Path, key: Verifier, scratch: Path, count: int, seed: int) -> None:
    """Each of so many bits, at random places over all files, is found, and laid to the file that it is in."""
    rng = random.Random(seed)
    paths = [path.relative_to(output) for path in files_of(output)]
    # Every file once, and then in proportion to the bytes.
    sizes = [(output / path).stat().st_size for path in paths]
    chosen = (rng.sample(paths, len(paths)) + rng.choices(paths, sizes, k=count))[:count]
    for path in chosen:
        data = bytearray((output / path).read_bytes())
        at = rng.randrange(len(data))
        data[at] ^= 1 << rng.randrange(8)
        mine = scratch / path
        before = mine.read_bytes()
        mine.write_bytes(data)
        found = problems(scratch, key)
        where = f"{path}, byte {at}"
        assert found, where
        if path.parts[0] != "seal" or path.name != "checkpoint":
            assert found[0].file == path.as_posix(), f"{where}: {found[0]}"
        mine.write_bytes(before)
    assert not problems(scratch, key)


def test_flipped_bits_are_found(sealed: Sealed, copy: Path) -> None:
    flips(*sealed, copy, 60, 1)


@pytest.mark.slow
def test_two_hundred_flipped_bits_are_found(sealed: Sealed, copy: Path) -> None:
    flips(*sealed, copy, 260, 2)


def test_a_flipped_bit_of_a_text_names_the_document(sealed: Sealed, copy: Path) -> None:
    row = pq.read_table(copy / PART)["text"].to_pylist()[5]

    def change(table: pa.Table) -> pa.Table:
        texts = table["text"].to_pylist()
        texts[5] = row.replace("e", "f", 1)
        return table.set_column(
            table.schema.get_field_index("text"), table.schema.field("text"), pa.array(texts, pa.large_string())
        )

    rewrite(copy / PART, change)
    first, second, *more = problems(copy, sealed[1])
    assert (first.kind, first.file) == (Kind.CHANGED_FILE, PART)
    assert (second.kind, second.file, second.row_group) == (Kind.CHANGED_DOCUMENT, PART, 0)
    assert second.doc_id == document_ids(sealed[0])[5]
    assert "text" in second.detail
    assert not more


def test_a_removed_row(sealed: Sealed, copy: Path) -> None:
    gone = document_ids(copy)[3]
    rewrite(copy / PART, lambda table: table.take([i for i in range(table.num_rows) if i != 3]))
    found = problems(copy, sealed[1])
    assert [(p.kind, p.doc_id) for p in found[1:]] == [(Kind.REMOVED_DOCUMENT, gone)]
    assert found[0].file == PART


def test_an_added_row(sealed: Sealed, copy: Path) -> None:
    twice = document_ids(copy)[3]
    rewrite(copy / PART, lambda table: table.take([0, 1, 2, 3, 3, *range(4, table.num_rows)]))
    found = problems(copy, sealed[1])
    assert [(p.kind, p.doc_id) for p in found[1:]] == [(Kind.ADDED_DOCUMENT, twice)]


def test_swapped_rows(sealed: Sealed, copy: Path) -> None:
    rewrite(copy / PART, lambda table: table.take([1, 0, *range(2, table.num_rows)]))
    found = problems(copy, sealed[1])
    assert [p.kind for p in found] == [Kind.CHANGED_FILE, Kind.SWAPPED_ROWS]
    assert found[1].doc_id == document_ids(sealed[0])[0]


def test_a_changed_verdict(sealed: Sealed, copy: Path) -> None:
    def change(table: pa.Table) -> pa.Table:
        verdicts = table["verdict"].to_pylist()
        verdicts[2] = "clear" if verdicts[2] != "clear" else "dated"
        return table.set_column(
            table.schema.get_field_index("verdict"), table.schema.field("verdict"), pa.array(verdicts)
        )

    rewrite(copy / PART, change)
    found = problems(copy, sealed[1])
    assert found[1].kind == Kind.CHANGED_DOCUMENT
    assert found[1].detail == "not as sealed: verdict"
    assert found[1].doc_id == document_ids(sealed[0])[2]


def test_documents_exchanged_between_folders(sealed: Sealed, copy: Path) -> None:
    other = "quarantine/part-00000.parquet"
    kept, held = pq.read_table(copy / PART), pq.read_table(copy / other)
    one, two = kept.slice(0, 1), held.slice(0, 1)
    rewrite(copy / PART, lambda table: pa.concat_tables([two, table.slice(1)]).sort_by("doc_id"))
    rewrite(copy / other, lambda table: pa.concat_tables([one, table.slice(1)]).sort_by("doc_id"))
    found = problems(copy, sealed[1])
    moved = {(p.file, p.doc_id, p.detail) for p in found if p.kind == Kind.MOVED_DOCUMENT}
    assert moved == {
        (PART, two["doc_id"][0].as_py(), "was sealed in quarantine"),
        (other, one["doc_id"][0].as_py(), "was sealed in reserve"),
    }
    assert {p.kind for p in found} == {Kind.CHANGED_FILE, Kind.MOVED_DOCUMENT}


def test_added_renamed_missing_and_truncated_files(sealed: Sealed, copy: Path) -> None:
    key = sealed[1]
    (copy / "notes.txt").write_text("mine")
    assert [(p.kind, p.file) for p in problems(copy, key)] == [(Kind.ADDED_FILE, "notes.txt")]
    (copy / "notes.txt").unlink()
    (copy / "statistics" / "signals.parquet").rename(copy / "statistics" / "signs.parquet")
    (found,) = problems(copy, key)
    assert (found.kind, found.file) == (Kind.RENAMED_FILE, "statistics/signs.parquet")
    assert found.detail == "was sealed as statistics/signals.parquet"
    (copy / "statistics" / "signs.parquet").unlink()
    assert [(p.kind, p.file) for p in problems(copy, key)] == [(Kind.MISSING_FILE, "statistics/signals.parquet")]
    shutil.copyfile(sealed[0] / "statistics" / "signals.parquet", copy / "statistics" / "signals.parquet")
    for name in (PART, "report.html"):
        path, data = copy / name, (copy / name).read_bytes()
        path.write_bytes(data[: len(data) // 2])
        first, *more = problems(copy, key)
        assert (first.kind, first.file) == (Kind.TRUNCATED_FILE, name)
        assert f"of {len(data):,}" in first.detail
        assert bool(more) == (name == PART)
        quick = verify(str(copy), [key], quick=True).problems
        assert [(p.kind, p.file) for p in quick] == [(Kind.TRUNCATED_FILE, name)]
        path.write_bytes(data)
    assert not problems(copy, key)


def test_hidden_files_and_files_in_the_seal_are_added_files(sealed: Sealed, copy: Path) -> None:
    for name in (".hidden", "reserve/.part.crc", "seal/extra", "seal/tile/9/000", "seal/keys/other.vkey"):
        path = copy / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
        (found,) = problems(copy, sealed[1])
        assert found.file == name
        path.unlink()


def test_a_forger_without_the_key(sealed: Sealed, copy: Path) -> None:
    """A change with manifest, log and checkpoint made anew is still not signed by the key."""
    rewrite(copy / PART, lambda table: table.slice(1))
    manifest = read_manifest((copy / "seal" / "manifest.jsonl").read_bytes())
    changed = {**manifest, PART: digest_file(str(copy / PART), PART)}
    (copy / "seal" / "manifest.jsonl").write_bytes(manifest_bytes(changed.values()))
    found = problems(copy, sealed[1])
    assert (found[0].kind, found[0].file) == (Kind.MANIFEST, "seal/manifest.jsonl")
    forged = read_signer(keygen(ORIGIN, copy.parent / "forger").private)
    seal = read_seal(str(copy / "seal"))
    assert seal is not None
    sign(seal.folder, ORIGIN, seal.tree, [forged])
    assert Kind.SIGNATURE in {p.kind for p in problems(copy, sealed[1])}


def test_another_key_is_named(sealed: Sealed, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = make_key(tmp_path)
    assert main(["verify", str(sealed[0]), "--key", str(other.vkey)]) == 1
    assert f"not signed by {read_verifier(other.vkey)}" in capsys.readouterr().out


def test_an_unsigned_seal_says_so(sealed: Sealed, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crawl = str(sealed[0].parent / "crawl" / "*.jsonl.gz")
    output = seal_run(crawl, tmp_path / "out", None, inspect={"detector": "none"})
    assert main(["verify", str(output)]) == 0
    assert "signed by   nobody" in capsys.readouterr().out
    assert (output / "seal" / "checkpoint").read_text().startswith("human-reserve/unsigned\n")
    key = make_key(tmp_path / "keys")
    assert main(["verify", str(output), "--key", str(key.vkey)]) == 1
    capsys.readouterr()
    assert main(["seal", "sign", str(output), "--key", str(key.private)]) == 0
    assert main(["verify", str(output), "--key", str(key.vkey)]) == 0


def test_an_output_without_a_seal(sealed: Sealed, tmp_path: Path) -> None:
    crawl = str(sealed[0].parent / "crawl" / "*.jsonl.gz")
    output = seal_run(crawl, tmp_path / "out", None, inspect={"detector": "none"}, seal={"enabled": False})
    assert not (output / "seal").exists()
    assert summary(output)["seal"] is None
    with pytest.raises(UsageError, match="holds no seal"):
        verify(str(output))


def test_nothing_sealed_is_written_again(sealed: Sealed, capsys: pytest.CaptureFixture[str]) -> None:
    output = sealed[0]
    crawl = str(output.parent / "crawl" / "*.jsonl.gz")
    for more in ([], ["--overwrite"]):
        command = ["run", "--input", crawl, "--output", str(output), "--set", "neardup.threshold=0.9", *more]
        assert main(command) == 2
        assert f"sealed and signed by {ORIGIN}" in capsys.readouterr().err
    assert main(["report", str(output)]) == 2
    assert "--out" in capsys.readouterr().err
    assert main(["report", str(output), "--out", str(output.parent / "again.html")]) == 0
    assert (output.parent / "again.html").read_bytes() == (output / "report.html").read_bytes()
    assert not problems(*sealed)
