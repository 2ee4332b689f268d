"""Files on any of Beam's filesystems: whole or absent, never half written.

A file is written under a temporary name and renamed when it is complete, so that a job killed at any point leaves
nothing under a final name that a later run could take for whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems

_TEMPORARY = ".tmp-"
_PLAIN = CompressionTypes.UNCOMPRESSED


def join(folder: str, *parts: str) -> str:
    """Joins path components in the way of the filesystem that the folder lies on."""
    return str(FileSystems.join(folder, *parts))


def is_local(path: str) -> bool:
    """Whether the path lies on this machine's own filesystem."""
    return FileSystems.get_scheme(path) is None


def open_read(path: str) -> BinaryIO:
    """Opens a file for reading its bytes as they are; compression is the reader's matter."""
    stream: BinaryIO = FileSystems.open(path, compression_type=_PLAIN)
    return stream


@contextlib.contextmanager
def open_write(path: str) -> Iterator[BinaryIO]:
    """Opens a file that appears under its name only when the block ends without an exception."""
    temporary = f"{path}{_TEMPORARY}{os.getpid()}-{uuid.uuid4().hex[:8]}"
    stream = FileSystems.create(temporary, compression_type=_PLAIN)
    try:
        yield stream
        stream.close()
        replace(temporary, path)
    except BaseException:
        with contextlib.suppress(Exception):
            stream.close()
        with contextlib.suppress(Exception):
            FileSystems.delete([temporary])
        raise


def replace(source: str, target: str) -> None:
    """Renames a file over another. On object stores, where a rename is a copy, the target appears whole as well."""
    FileSystems.rename([source], [target])


def write_bytes(path: str, content: bytes) -> None:
    """Writes a whole file at once."""
    with open_write(path) as out:
        out.write(content)


def write_json(path: str, value: object) -> None:
    """Writes JSON for people and programs: indented, in the order given, one trailing line break."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


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


def exists(path: str) -> bool:
    """Whether the file exists."""
    return bool(FileSystems.exists(path))


def listing(pattern: str) -> list[FileMetadata]:
    """Files that match a glob (`*`, `**`, `?`, `[]`), sorted by path."""
    (match,) = FileSystems.match([pattern])
    return sorted(match.metadata_list, key=lambda m: str(m.path))


def delete(paths: list[str]) -> None:
    """Deletes files, or folders with all that is in them; absent ones are passed over."""
    present = [path for path in paths if exists(path)]
    if present:
        FileSystems.delete(present)


def is_temporary(path: str) -> bool:
    """Whether the file is one that a killed run left half written."""
    return _TEMPORARY in path.rsplit("/", 1)[-1]
