"""Files are whole or absent."""

import io
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.localfilesystem import LocalFileSystem

from pipelines import files, remote


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


DATA = random.Random(4).randbytes(1_000_000)


class UnsteadyFileSystem(LocalFileSystem):
    """A filesystem of Beam's, as that of gs and hdfs is one, whose streams break off as often as they are told to."""

    breaks: list[BaseException | int] = []  # noqa: RUF012 (shared with the test)

    @classmethod
    def scheme(cls) -> str:
        return "unsteady"

    def open(self, path: str, *args: Any, **kwargs: Any) -> BinaryIO:
        return Unsteady(self._local(path).read_bytes())

    def metadata(self, path: str) -> FileMetadata:
        found = super().metadata(str(self._local(path)))
        return FileMetadata(path, found.size_in_bytes, found.last_updated_in_seconds)

    def exists(self, path: str) -> bool:
        return self._local(path).exists()

    def _local(self, path: str) -> Path:
        return Path(path.removeprefix("unsteady:/"))


class Unsteady(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        what = UnsteadyFileSystem.breaks.pop(0) if UnsteadyFileSystem.breaks else None
        if isinstance(what, BaseException):
            raise what
        return super().read(size if what is None else what)


@pytest.fixture
def unsteady(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(remote, "RETRY", remote.Retry(attempts=4, first_seconds=0.001))
    (tmp_path / "a").write_bytes(DATA)
    yield f"unsteady:/{tmp_path}/a"
    UnsteadyFileSystem.breaks = []


def test_streams_of_beam_that_break_off_are_taken_up_again(unsteady: str) -> None:
    UnsteadyFileSystem.breaks = [100, 0, 7, ConnectionResetError("reset"), 0, TimeoutError("slow"), 50_000, 0]
    with files.open_read(unsteady) as stream:
        assert stream.read(300_000) == DATA[:300_000]
        stream.seek(-10, io.SEEK_END)
        assert stream.read() == DATA[-10:]
    assert not UnsteadyFileSystem.breaks


def test_streams_of_beam_that_stay_short_are_an_error(unsteady: str) -> None:
    UnsteadyFileSystem.breaks = [1000, *[0] * 10]
    with pytest.raises(
        OSError, match=r"byte 1,000 of 1,000,000 could not be read after 4 attempts: the transfer ended"
    ):
        files.read_bytes(unsteady)


def test_files_of_beam_that_change_are_an_error(unsteady: str, tmp_path: Path) -> None:
    with files.open_read(unsteady) as stream:
        assert stream.read(10) == DATA[:10]
        (tmp_path / "a").write_bytes(DATA + b"more")
        UnsteadyFileSystem.breaks = [0]
        with pytest.raises(OSError, match=r"changed while it was read \(it had 1,000,000 bytes and now has 1,000,004"):
            stream.read()


def test_what_no_further_try_mends_is_told_at_once(unsteady: str, tmp_path: Path) -> None:
    UnsteadyFileSystem.breaks = [PermissionError("not yours"), 1]
    with pytest.raises(PermissionError, match=r"a: not yours$"):
        files.read_bytes(unsteady)
    assert len(UnsteadyFileSystem.breaks) == 1
    with pytest.raises(FileNotFoundError, match=r"b: there is no such file$"):
        files.read_bytes(unsteady[:-1] + "b")


def test_size_and_time_of_change(unsteady: str, tmp_path: Path) -> None:
    os.utime(tmp_path / "a", (1e9, 1e9))
    for path in (unsteady, str(tmp_path / "a")):
        found = files.stat(path)
        assert (found.path, found.size_in_bytes, found.last_updated_in_seconds) == (path, len(DATA), 1e9)
    with pytest.raises(IsADirectoryError, match="is a folder"):
        files.stat(str(tmp_path))


def test_pauses_grow_and_servers_may_ask_for_longer_ones() -> None:
    retry = remote.Retry(first_seconds=1, longest_seconds=8, longest_asked_seconds=100)
    for failures, most in ((1, 1), (2, 2), (3, 4), (4, 8), (9, 8)):
        assert all(most / 2 <= retry.pause(failures, None) <= most for _ in range(20))
    assert retry.pause(1, 30) == 30
    assert retry.pause(1, 1e6) == 100


def test_options_of_a_pipeline_reach_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    from apache_beam.options.pipeline_options import PipelineOptions

    from pipelines import s3_files

    before = FileSystems._pipeline_options
    options = ["--s3_endpoint_url=http://minio.example:9000", "--s3_region_name=eu-west-1"]
    try:
        FileSystems.set_options(PipelineOptions(options))
        client = s3_files._client("s3://a/b")
        assert (client.meta.endpoint_url, client.meta.region_name) == ("http://minio.example:9000", "eu-west-1")
    finally:
        FileSystems.set_options(before)
