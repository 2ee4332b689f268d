"""Files are whole or absent."""

from pathlib import Path

import pytest

from pipelines import files


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = str(tmp_path / "deep" / "a.txt")
    with files.open_write(path) as out:
        out.write(b"one")
        assert not files.exists(path)
    assert files.read_bytes(path) == b"one"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = str(tmp_path / "a.txt")
    files.write_bytes(path, b"old")

    def fail() -> None:
        with files.open_write(path) as out:
            out.write(b"new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert files.read_bytes(path) == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_compressed_names_are_read_as_they_are(tmp_path: Path) -> None:
    path = str(tmp_path / "a.gz")
    files.write_bytes(path, b"not gzip")
    assert files.read_bytes(path) == b"not gzip"


def test_json_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    assert files.read_json(str(tmp_path / "absent.json")) is None
    files.write_bytes(str(tmp_path / "half.json"), b'{"a": ')
    assert files.read_json(str(tmp_path / "half.json")) is None
    files.write_json(str(tmp_path / "whole.json"), {"a": 1})
    assert files.read_json(str(tmp_path / "whole.json")) == {"a": 1}
