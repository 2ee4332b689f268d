"""The manifest of a sealed archive: every file's name, size and SHA-256, taken while it is written.

One JSON object a line, sorted by name, keys sorted, no white space::

    {"blocks":["8a39d2ab"],"file":"reserve/part-00000.parquet","sha256":"9f…","size":48213}

``blocks`` are CRC-32s of each MiB: they are no proof of anything, and say *where* a file that changed has changed. The
digest of the whole manifest stands in the release's entry of the log (:mod:`pipelines.reserve.entries`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, BinaryIO, Final

import deflate
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import files
from pipelines.layout import WORK, Layout

BLOCK: Final = 1 << 20
_CHUNK: Final = 4 << 20


@dataclass(frozen=True)
class FileDigest:
    """One file: its name below the output folder, with slashes; its size in bytes; its SHA-256 in hex."""

    file: str
    size: int
    sha256: str
    blocks: tuple[str, ...] = field(default=(), compare=False)  # CRC-32 of each MiB, 8 hex digits

    def line(self) -> bytes:
        """As it stands in the manifest."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"

    @classmethod
    def of(cls, data: Any) -> FileDigest:
        """The inverse of ``asdict``. Raises ValueError where the data has another shape."""
        try:
            found = cls(data["file"], data["size"], data["sha256"], tuple(data["blocks"]))
        except (KeyError, TypeError):
            raise ValueError("a line of the manifest lacks file, size, sha256 or blocks") from None
        if not (isinstance(found.file, str) and isinstance(found.size, int) and isinstance(found.sha256, str)):
            raise ValueError("a line of the manifest holds values of a wrong type")
        return found


class Digester:
    """Digests bytes as they pass."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._blocks: list[int] = []
        self.size = 0

    def update(self, data: bytes | memoryview) -> None:
        """The next bytes."""
        view = memoryview(data).cast("B")
        self._sha256.update(view)
        at = 0
        while at < len(view):
            within = (self.size + at) % BLOCK
            if within == 0:
                self._blocks.append(0)
            step = min(BLOCK - within, len(view) - at)
            self._blocks[-1] = deflate.crc32(view[at : at + step], self._blocks[-1])
            at += step
        self.size += len(view)

    def finish(self, name: str) -> FileDigest:
        """The digest of what has passed, as of a file of this name."""
        blocks = tuple(f"{block:08x}" for block in self._blocks)
        return FileDigest(name, self.size, self._sha256.hexdigest(), blocks)


class _Writing:
    """A stream for writing only, whose bytes are digested on their way."""

    def __init__(self, stream: BinaryIO, digester: Digester) -> None:
        self._stream, self._digester = stream, digester
        self.closed = False

    def write(self, data: Any) -> int:
        self._digester.update(data)
        self._stream.write(data)
        return memoryview(data).nbytes

    def flush(self) -> None:
        """Nothing waits here."""

    def tell(self) -> int:
        return self._digester.size

    def close(self) -> None:
        self.closed = True

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


@contextlib.contextmanager
def digested(path: str) -> Iterator[tuple[Any, Digester]]:
    """Opens a file to write; gives the stream and what digests it."""
    digester = Digester()
    with files.open_write(path) as out:
        yield _Writing(out, digester), digester


def write_parquet(path: str, name: str, table: pa.Table, **options: Any) -> FileDigest:
    """Writes a table as :func:`pipelines.files.write_parquet` does; gives its digest, under `name`."""
    with digested(path) as (out, digester):
        pq.write_table(table, pa.PythonFile(out, "w"), compression="zstd", **options)
    return digester.finish(name)


def write_bytes(path: str, name: str, content: bytes) -> FileDigest:
    """Writes a whole file at once; gives its digest, under `name`."""
    files.write_bytes(path, content)
    return digest_of(content, name)


def digest_of(content: bytes, name: str) -> FileDigest:
    """The digest of a file that holds just this."""
    digester = Digester()
    digester.update(content)
    return digester.finish(name)


def digest_file(path: str, name: str) -> FileDigest:
    """Reads a file once; gives its digest, under `name`."""
    digester = Digester()
    buffer = bytearray(_CHUNK)
    view = memoryview(buffer)
    with files.open_read(path) as stream:
        while count := stream.readinto(buffer):  # type: ignore[attr-defined]
            digester.update(view[:count])
    return digester.finish(name)


def manifest_bytes(digests: Iterable[FileDigest]) -> bytes:
    """The manifest of these files. Raises ValueError where two have one name."""
    lines = sorted(digests, key=lambda one: one.file)
    twice = [a.file for a, b in pairwise(lines) if a.file == b.file]
    if twice:
        raise ValueError(f"manifest: {twice[0]} stands in it twice")
    return b"".join(one.line() for one in lines)


def read_manifest(content: bytes) -> dict[str, FileDigest]:
    """By name. Raises ValueError, naming the line, where it is none."""
    found: dict[str, FileDigest] = {}
    for number, line in enumerate(content.splitlines(), 1):
        try:
            one = FileDigest.of(json.loads(line))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        if one.file in found:
            raise ValueError(f"line {number}: {one.file} stands there twice")
        found[one.file] = one
    return found


def first_difference(sealed: FileDigest, found: FileDigest) -> tuple[int, int] | None:
    """The bytes, from and to, of the first block of a file that differs from what was sealed; None where none does.

    Args:
        sealed: from the manifest.
        found: of the file as it is.
    """
    for number in range(max(len(sealed.blocks), len(found.blocks))):
        if sealed.blocks[number : number + 1] != found.blocks[number : number + 1]:
            return number * BLOCK, min((number + 1) * BLOCK, max(sealed.size, found.size))
    return None


def outside_seal(layout: Layout) -> list[str]:
    """The paths of an output's files that its manifest names: all but the seal, and what a run no longer needs."""
    inner = (f"{WORK}/", layout.name(layout.seal) + "/")
    if files.is_local(layout.output):
        found = [os.path.join(folder, name) for folder, _, names in os.walk(layout.output) for name in names]
    else:
        found = [str(m.path) for m in files.listing(files.join(layout.output, "**"))]
    return sorted(path for path in found if not layout.name(path).startswith(inner))
