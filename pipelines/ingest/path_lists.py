"""Lists of paths: text files that name one shard a line, as Common Crawl's `warc.paths.gz` does.

Where a relative entry lies: Common Crawl's entries begin at the server's root, though the list itself lies folders
deeper; other lists name their own neighbours. So the first relative entry is looked for in the list's folder, then in
each folder above it, and where it is, the others are::

    https://data.commoncrawl.org/crawl-data/CC-MAIN-2024-10/warc.paths.gz      the list
    crawl-data/CC-MAIN-2024-10/segments/1707/warc/x.warc.gz                    its first entry
    https://data.commoncrawl.org/                                              the folder in which that is found
"""

from __future__ import annotations

import gzip
import io
import os
import posixpath
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from pipelines import files
from pipelines.errors import UsageError
from pipelines.progress import say

MARK = "@"  # before an input: this is a list, whatever its name

_NAMES = (".paths", ".paths.gz")
_LARGEST_LIST = 1 << 28  # bytes of text
_LONGEST_PATH = 8192  # bytes
_AT_ONCE = 16  # entries that are looked up at the same time
_SAID_SECONDS = 10.0


class Entry(NamedTuple):
    """One line of a list."""

    line: int  # counted from 1
    written: str


class Listed(NamedTuple):
    """A file that a list names, and what the file's server says of it."""

    name: str  # the entry as it is written, without scheme and host
    path: str
    size: int  # bytes
    modified: float  # seconds since the epoch


def is_list(path: str) -> bool:
    """Whether a file is a list of paths by its name."""
    return path.partition("?")[0].lower().endswith(_NAMES)


def read_list(path: str, base: str | None = None) -> list[Listed]:
    """The files that a list names, in its order.

    Args:
        path: the list: UTF-8 text, plain or gzip. Blank lines and lines that begin with ``#`` are passed over.
        base: the folder or server in which relative entries lie; None: found as the module says.

    Raises UsageError for a list that cannot be read, and for the first entry that is not there, by its line.
    """
    entries = list(_entries(path))
    if not entries:
        raise UsageError(f"input: {path} names no file; a list holds one path a line")
    relative = next((entry for entry in entries if _is_relative(entry.written)), None)
    if base is None and relative is not None:
        base = _base_of(path, relative)
    elif base is None:
        base = next(_folders(path))
    return _look_up(path, [(entry, _located(entry.written, base)) for entry in entries])


def _entries(path: str) -> Iterator[Entry]:
    try:
        with files.open_read(path) as stream:
            raw = stream.read(_LARGEST_LIST + 1)
        if raw.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=io.BytesIO(raw)) as unpacked:
                raw = unpacked.read(_LARGEST_LIST + 1)
        text = raw.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"input: the list {path} cannot be read: {error}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"input: the list {path} is not UTF-8 text, plain or gzip: {error}") from None
    if len(raw) > _LARGEST_LIST:
        raise UsageError(f"input: the list {path} is longer than {_LARGEST_LIST >> 20} MiB; split it")
    for number, line in enumerate(text.split("\n"), 1):
        written = line.strip()
        if len(written) > _LONGEST_PATH or not written.isprintable():
            raise UsageError(f"input: line {number} of {path} is no path: {written[:60]!r}; a list holds one a line")
        if written and not written.startswith("#"):
            yield Entry(number, written)


def _base_of(path: str, first: Entry) -> str:
    for folder in _folders(path):
        try:
            files.stat(_located(first.written, folder))
        except (FileNotFoundError, PermissionError):  # what object stores answer for what is not there
            continue
        except OSError as error:
            raise UsageError(f"input: line {first.line} of {path}: {error}") from None
        return folder
    raise UsageError(
        f"input: line {first.line} of {path}: {first.written} is neither in the list's folder nor in one above it; "
        "name the folder or server in which the entries lie with the job's key 'input_base'"
    )


def _folders(path: str) -> Iterator[str]:
    """The list's folder and all above it, the nearest first."""
    if files.is_local(path):
        folder = os.path.dirname(os.path.abspath(path))
        while True:
            yield folder
            above = os.path.dirname(folder)
            if above == folder:
                return
            folder = above
    root, folder = _split(path.partition("?")[0] if files.is_http(path) else path)
    while folder:
        folder = folder.rpartition("/")[0]
        yield f"{root}/{folder}".rstrip("/")


def _located(written: str, base: str) -> str:
    if not files.is_local(written):
        return written
    if written.startswith("/"):  # on the server where a list says so, never on the machine that reads it
        return written if files.is_local(base) else f"{_split(base)[0]}{written}"
    return f"{base.rstrip('/')}/{written.removeprefix('./')}"


def _is_relative(written: str) -> bool:
    return files.is_local(written) and not written.startswith("/")


def _name(written: str) -> str:
    if files.is_local(written):
        return posixpath.normpath(written).lstrip("/")
    rest = _split(written)[1]
    return rest.partition("?")[0] if files.is_http(written) else rest


def _split(path: str) -> tuple[str, str]:
    """`scheme://host` and what follows, without the slash between."""
    scheme, mark, rest = path.partition("://")
    host, _, below = rest.partition("/")
    return f"{scheme}{mark}{host}", below


def _look_up(path: str, wanted: Sequence[tuple[Entry, str]]) -> list[Listed]:
    """Sizes and times of all entries, several at a time. Raises UsageError for the first that cannot be had."""

    def ask(item: tuple[Entry, str]) -> Listed:
        entry, location = item
        try:
            found = files.stat(location)
        except OSError as error:
            raise UsageError(f"input: line {entry.line} of {path}: {error}") from None
        return Listed(_name(entry.written), location, found.size_in_bytes, found.last_updated_in_seconds)

    listed: list[Listed] = []
    said = time.monotonic()
    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        for found in pool.map(ask, wanted):
            listed.append(found)
            if time.monotonic() - said >= _SAID_SECONDS:
                said = time.monotonic()
                say(f"input    {len(listed):,} of {len(wanted):,} entries of {path} looked up")
    finally:
        pool.shutdown(cancel_futures=True)
    return listed
