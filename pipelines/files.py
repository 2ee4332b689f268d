"""Files on any of Beam's filesystems and on web servers: whole or absent, never half written, never half read.

A file is written under a temporary name and renamed when it is complete, so that a job killed at any point leaves
nothing under a final name that a later run could take for whole. S3 needs no such name: its objects appear whole.

Files that are not local are read by :mod:`pipelines.remote`, which goes on after a failure where it stopped.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from stat import S_ISDIR
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import BeamIOError, FileMetadata

from pipelines import s3_files
from pipelines.beam_files import PLAIN, BeamTransfer, scheme, system
from pipelines.errors import UsageError
from pipelines.remote import Transfer, counted, open_remote, retrying
from pipelines.s3_files import S3Transfer

FAILURES = (OSError, BeamIOError)  # what reading and writing raises

_TEMPORARY = ".tmp-"
_HTTP = ("http", "https")
_READ_ONLY = (*_HTTP, "hdfs")
_WILD = "*?["
_KEYS_ALONE = ("s3", "gs")  # no folders, only names that begin alike


def is_local(path: str) -> bool:
    """Whether the path lies on this machine's own filesystem."""
    return scheme(path) is None


def is_http(path: str) -> bool:
    """Whether the path is a URL on a web server, which can be read and neither listed nor written."""
    return scheme(path) in _HTTP


def join(folder: str, *parts: str) -> str:
    """Joins path components in the way of the folder's filesystem. Raises UsageError for one that is only read from."""
    if scheme(folder) in _READ_ONLY:
        raise UsageError(
            f"{folder} cannot be written to: {scheme(folder)}:// is only read from; name a local folder, s3:// or gs://"
        )
    return str(system(folder).join(folder, *parts))


def open_read(path: str) -> BinaryIO:
    """Opens a file for reading its bytes as they are; compression is the reader's matter. The stream can seek.

    What is read is never short. Raises OSError where the file cannot be had, and, at any read or seek,
    :class:`pipelines.remote.ReadError` where some of its bytes cannot: that is no damage to go on after.
    """
    if is_local(path):
        stream: BinaryIO = system(path).open(path, compression_type=PLAIN)
        return stream
    return open_remote(_transfer(path))


@contextlib.contextmanager
def open_write(path: str) -> Iterator[BinaryIO]:
    """Opens a file that appears under its name only when the block ends without an exception."""
    if scheme(path) == "s3":
        with s3_files.open_write(path) as stream:
            yield stream
        return
    temporary = f"{path}{_TEMPORARY}{os.getpid()}-{uuid.uuid4().hex[:8]}"
    stream = system(path).create(temporary, compression_type=PLAIN)
    try:
        yield stream
        stream.close()
        replace(temporary, path)
    except BaseException:
        with contextlib.suppress(Exception):
            stream.close()
        with contextlib.suppress(Exception):
            system(path).delete([temporary])
        raise


def replace(source: str, target: str) -> None:
    """Renames a file over another. On object stores, where a rename is a copy, the target appears whole as well."""
    system(source).rename([source], [target])


def write_bytes(path: str, content: bytes) -> None:
    """Writes a whole file at once."""
    with open_write(path) as out:
        out.write(content)


def json_bytes(value: object) -> bytes:
    """JSON for people and programs: indented, in the order given, one trailing line break."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def write_json(path: str, value: object) -> None:
    """Writes JSON as :func:`json_bytes` makes it."""
    write_bytes(path, json_bytes(value))


def write_parquet(path: str, table: pa.Table, **options: Any) -> None:
    """Writes a table as Parquet with zstd."""
    with open_write(path) as out:
        pq.write_table(table, out, compression="zstd", **options)


def read_bytes(path: str) -> bytes:
    """The bytes of a whole file."""
    with open_read(path) as stream:
        return stream.read()


def read_json(path: str) -> dict[str, Any] | None:
    """A JSON object, or None where the file is absent or cannot be read as one."""
    try:
        value = json.loads(read_bytes(path))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def read_parquet(path: str, columns: list[str] | None = None) -> pa.Table:
    """A whole Parquet file as a table."""
    with open_read(path) as stream:
        return pq.read_table(stream, columns=columns, use_threads=False)


def stat(path: str) -> FileMetadata:
    """Path, size in bytes and time of change of one file, whose path is no glob.

    Raises FileNotFoundError, or another OSError where it cannot be told.
    """
    if is_local(path):
        found = os.stat(path)
        if S_ISDIR(found.st_mode):
            raise IsADirectoryError(f"{path} is a folder")
        return FileMetadata(path, found.st_size, found.st_mtime)
    transfer = _transfer(path)
    try:
        told = retrying(path, transfer.stat)
        return FileMetadata(path, counted(transfer) if told.size is None else told.size, told.modified)
    finally:
        transfer.close()


def exists(path: str) -> bool:
    """Whether the file exists."""
    if is_http(path) or scheme(path) == "s3":
        try:
            stat(path)
        except FileNotFoundError:
            return False
        return True
    return bool(system(path).exists(path))


def listing(pattern: str) -> list[FileMetadata]:
    """Files that match a glob (`*`, `**`, `?`, `[]`), sorted by path; a URL stands for itself alone.

    Raises UsageError for wildcards that the filesystem cannot search for, for a URL or bucket that is not there, and
    where access is refused.
    """
    try:
        if is_http(pattern):
            found = [_web_file(pattern)]
        elif scheme(pattern) != "s3":
            if scheme(pattern) == "hdfs" and any(c in pattern.rpartition("/")[0] for c in _WILD):
                raise UsageError(f"{pattern}: on HDFS only the last part may hold wildcards; name each folder")
            (match,) = system(pattern).match([pattern])
            found = match.metadata_list
        elif any(c in pattern for c in _WILD):
            found = s3_files.listing(pattern, system(pattern))
        else:  # needs no leave to list the bucket
            found = _s3_object(pattern)
    except (FileNotFoundError, PermissionError) as error:
        raise UsageError(str(error)) from None
    return sorted(found, key=lambda m: str(m.path))


def delete(paths: list[str]) -> None:
    """Deletes files, or folders with all that is in them; absent ones are passed over."""
    keys = []
    for path in paths:
        if scheme(path) in _KEYS_ALONE:
            keys += [m.path for m in listing(f"{path}**") if m.path == path or m.path.startswith(f"{path}/")]
        elif exists(path):
            system(path).delete([path])
    if keys:
        (s3_files if scheme(keys[0]) == "s3" else system(keys[0])).delete(keys)


def is_temporary(path: str) -> bool:
    """Whether the file is one that a killed run left half written."""
    return _TEMPORARY in path.rsplit("/", 1)[-1]


def _web_file(url: str) -> FileMetadata:
    if "*" in url.partition("?")[0]:
        raise UsageError(f"{url}: a web server cannot be searched for '*'; name each file, or a list of paths (@LIST)")
    try:
        return stat(url)
    except FileNotFoundError as error:
        raise UsageError(f"{error}; a folder cannot be listed over HTTP: name each file, or a list of paths") from None


def _s3_object(path: str) -> list[FileMetadata]:
    try:
        return [stat(path)]
    except FileNotFoundError:
        return []


def _transfer(path: str) -> Transfer:
    if is_http(path):
        from pipelines.http_files import HttpTransfer  # takes a sixth of a second to import

        return HttpTransfer(path)
    return S3Transfer(path) if scheme(path) == "s3" else BeamTransfer(path, system(path))
