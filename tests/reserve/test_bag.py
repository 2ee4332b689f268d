"""Bags are what RFC 8493 says, by the Library of Congress's own reader, and hold a seal that still verifies."""

import errno
import hashlib
import os
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import JobError, UsageError
from pipelines.reserve.bag import encoded, make_bag
from pipelines.reserve.verify import verify
from tests.reserve.sealed import copy_of

bagit = pytest.importorskip("bagit")


@pytest.fixture
def copy(sealed_output: Path, tmp_path: Path) -> Path:
    return copy_of(sealed_output, tmp_path / "out")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_validator_accepts_it_and_finds_a_changed_byte(copy: Path, tmp_path: Path) -> None:
    made = make_bag(str(copy), str(tmp_path / "bag"))
    bag = bagit.Bag(made.folder)
    assert bag.validate()
    assert bag.version_info == (1, 0)
    assert bag.info["Payload-Oxum"] == f"{made.size}.{made.files}"
    victim = tmp_path / "bag/data/report.html"
    content = bytearray(victim.read_bytes())
    content[100] ^= 1
    victim.unlink()  # a hard link: what is written into it would be written into the output
    victim.write_bytes(content)
    with pytest.raises(bagit.BagValidationError, match=r"data/report\.html"):
        bagit.Bag(made.folder).validate()


def test_the_payload_is_the_output_and_its_seal_verifies(sealed_output: Path, tmp_path: Path) -> None:
    made = make_bag(str(sealed_output), str(tmp_path / "bag"))
    assert contents(tmp_path / "bag/data") == contents(sealed_output)
    assert made.files == len(contents(sealed_output))
    assert verify(str(tmp_path / "bag/data")).whole
    assert (tmp_path / "bag/data/summary.json").samefile(sealed_output / "summary.json") == (made.linked == made.files)


def test_digests_are_those_of_the_files(sealed_output: Path, tmp_path: Path) -> None:
    make_bag(str(sealed_output), str(tmp_path / "bag"))
    for manifest in ("manifest-sha256.txt", "tagmanifest-sha256.txt"):
        lines = (tmp_path / "bag" / manifest).read_text().splitlines()
        assert lines
        for line in lines:
            digest, name = line.split("  ", 1)
            assert hashlib.sha256((tmp_path / "bag" / name).read_bytes()).hexdigest() == digest


def test_same_output_same_bag(sealed_output: Path, tmp_path: Path) -> None:
    make_bag(str(sealed_output), str(tmp_path / "one"))
    make_bag(str(sealed_output), str(tmp_path / "two"))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_files_are_copied_where_there_are_no_hard_links(
    sealed_output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    made = make_bag(str(sealed_output), str(tmp_path / "bag"))
    assert made.linked == 0
    assert bagit.Bag(made.folder).validate()
    assert not (tmp_path / "bag/data/summary.json").samefile(sealed_output / "summary.json")


def test_the_work_folder_stays_behind(copy: Path, tmp_path: Path) -> None:
    (copy / ".work").mkdir()
    (copy / ".work/lock").write_text("")
    make_bag(str(copy), str(tmp_path / "bag"))
    assert not (tmp_path / "bag/data/.work").exists()


def add(out: Path) -> None:
    (out / "reserve/notes.txt").write_text("mine")


def remove(out: Path) -> None:
    (out / "report.html").unlink()


def lengthen(out: Path) -> None:
    with (out / "README.md").open("a") as card:
        card.write("\n")


def rewrite_manifest(out: Path) -> None:
    manifest = out / "seal/manifest.jsonl"
    manifest.write_bytes(b"".join(manifest.read_bytes().splitlines(keepends=True)[1:]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (add, r"reserve/notes\.txt: was not sealed"),
        (remove, r"report\.html: was sealed, and is not there"),
        (lengthen, r"README\.md: has not the size"),
        (rewrite_manifest, r"manifest\.jsonl: is not the one that was sealed"),
    ],
)
def test_what_is_not_as_sealed_is_named_and_no_bag_is_made(copy: Path, tmp_path: Path, change, words) -> None:
    change(copy)
    with pytest.raises(JobError, match=words):
        make_bag(str(copy), str(tmp_path / "bag"))
    assert os.listdir(tmp_path) == ["out"]


def test_targets_that_cannot_be_used(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(UsageError, match="is there already"):
        make_bag(str(copy), str(tmp_path / "there"))
    with pytest.raises(UsageError, match="lies in the output"):
        make_bag(str(copy), str(copy / "bag"))
    with pytest.raises(UsageError, match="cannot be written"):
        make_bag(str(copy), "/dev/null/bag")
    shutil.rmtree(copy / "seal")
    with pytest.raises(UsageError, match="holds no seal"):
        make_bag(str(copy), str(tmp_path / "bag"))
    assert sorted(os.listdir(tmp_path)) == ["out", "there"]


@given(st.text())
def test_names_are_percent_encoded_and_stay_on_one_line(name: str) -> None:
    assert unquote(encoded(name)) == name
    assert not set(encoded(name)) & {"\r", "\n"}
    assert encoded(name) == name or set(name) & {"%", "\r", "\n"}
