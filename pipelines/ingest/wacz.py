"""The WARC and ARC files in a WACZ, Webrecorder's web archive in a ZIP file, each as a stream that checks itself.

    listing = list_entries(stream)
    for entry in listing.entries:
        content = EntryStream(stream, entry)
        ...                                     # read it to its end, as a shard of its own
        if content.fault: ...                   # what is wrong with it, known at its end

Memory is bounded whatever the file claims: entries are streamed, the directory is read piece by piece, and of entries
that overlap, which ZIP bombs are made of, one is read. Without a directory, entries are found by their own headers.

Sources: WACZ 1.1.1 (Webrecorder recommendation), sections 4 and 5; RFC 1951 (deflate).
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple, cast

import deflate

from pipelines.ingest.zips import (
    DEFLATED,
    ENCRYPTED,
    STORED,
    Member,
    Window,
    found_members,
    listed_members,
    local_member,
)

MAXIMUM_ENTRIES = 1 << 16  # WARC files in one WACZ
_MAXIMUM_PACKAGE = 16 << 20  # bytes of datapackage.json
_DEPTH = 2  # a WACZ in a WACZ in a WACZ
_PIECE = 1 << 20
_METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "zstd", 95: "xz", 98: "PPMd", 99: "AES encryption"}
_PACKAGE = "datapackage.json"
_WACZ = re.compile(r".*\.wacz\Z", re.IGNORECASE | re.DOTALL)
_ARCHIVE = re.compile(
    r"(?:.*/)?archive/.*[^/]\Z|.*\.(?:warc|arc|wet|wat)(?:\.(?:gz|zst|lz4))?\Z", re.IGNORECASE | re.DOTALL
)


class Entry(NamedTuple):
    """A file in the WACZ whose data lie from byte ``offset`` to byte ``end``, stored or deflated."""

    name: str  # in nested files the path to it: "inner.wacz/archive/pages.warc.gz"
    offset: int
    end: int
    method: int = STORED
    size: int | None = None  # of the file itself, in bytes; None: not known
    crc32: int | None = None
    sha256: str | None = None  # from datapackage.json, 64 hex digits


class Problem(NamedTuple):
    """What cannot be read, or is not as it should be, from byte ``offset`` on."""

    offset: int
    detail: str


class Listing(NamedTuple):
    """The WARC and ARC files in a WACZ in the order of their data, and what is wrong with the rest."""

    entries: list[Entry]
    problems: list[Problem]


class EntryStream(io.RawIOBase):
    """The content of an entry, read forward once. ``fault`` is known where it ends: what is wrong, or ``None``.

    Damage raises nothing: the stream ends where the data can be followed no further. Size and CRC-32 are checked, and
    SHA-256 too unless ``check_sha256`` is false; it costs 1 to 3 s for each GB.
    """

    def __init__(self, stream: BinaryIO, entry: Entry, check_sha256: bool = True) -> None:
        super().__init__()
        self.fault: str | None = None
        self._entry = entry
        self._pieces = _contents(Window(stream, entry.offset, entry.end), entry.method)
        self._left = memoryview(b"")
        self._ended = False
        self._size = 0
        self._crc32 = 0
        self._sha256 = hashlib.sha256() if check_sha256 and entry.sha256 else None

    def readable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """How many bytes were read."""
        return self._size - len(self._left)

    def readinto(self, buffer: Any) -> int:
        """Fills a buffer as far as there are bytes at hand."""
        view = memoryview(buffer).cast("B")
        if not self._left and not self._ended:
            self._left = memoryview(self._next())
        data = self._left[: len(view)]
        view[: len(data)] = data
        self._left = self._left[len(data) :]
        return len(data)

    def _next(self) -> bytes:
        data, error = next(self._pieces, (b"", None))
        self._size += len(data)
        self._crc32 = deflate.crc32(data, self._crc32)
        if self._sha256:
            self._sha256.update(data)
        if not data:
            self._ended = True
            self.fault = error or self._mismatch()
        return data

    def _mismatch(self) -> str | None:
        entry = self._entry
        if entry.size is not None and entry.size != self._size:
            return f"it has {self._size} bytes, and the ZIP file says {entry.size}"
        if entry.crc32 is not None and entry.crc32 != self._crc32:
            return f"its CRC-32 is {self._crc32:08x}, and the ZIP file says {entry.crc32:08x}"
        if self._sha256 and self._sha256.hexdigest() != entry.sha256:
            return f"its SHA-256 is {self._sha256.hexdigest()}, and {_PACKAGE} says {entry.sha256}"
        return None


def list_entries(stream: BinaryIO) -> Listing:
    """The WARC and ARC files of a WACZ: all files under ``archive/``, and elsewhere those with such a name.

    Raises ``ValueError`` for a stream that cannot seek. Errors of the stream itself go through.
    """
    if not stream.seekable():
        raise ValueError("a WACZ can only be read from a stream that can seek")
    listing = _list(stream, 0)
    if not listing.entries and not listing.problems:
        listing.problems.append(Problem(0, "the ZIP file holds no WARC file"))
    return listing


def _list(stream: BinaryIO, depth: int) -> Listing:
    size = stream.seek(0, io.SEEK_END)
    problems: list[Problem] = []
    members = _wanted(listed_members(stream, size), problems)
    if members is None:
        problems = [Problem(0, "the ZIP directory is missing or damaged: files are looked for by their own headers")]
        members = _wanted(found_members(stream, size), problems) or []
    hashes: dict[str, str | None] = {}
    for package in [member for member in members if member.name == _PACKAGE][:1]:
        hashes = _hashes(stream, size, package, problems)
        held = {member.name for member in members}
        for name in sorted(hashes.keys() - held):
            if (_ARCHIVE.match(name) or _WACZ.match(name)) and len(members) < MAXIMUM_ENTRIES:
                problems.append(Problem(package.header, f"{name} is listed in {_PACKAGE}, and the ZIP file lacks it"))
    entries: list[Entry] = []
    before = Entry("", 0, 0)
    for member in sorted(members, key=lambda member: member.header):
        entry = _entry(stream, size, member, problems) if member.name != _PACKAGE else None
        if entry is None:
            continue
        if entry.offset < before.end:
            problems.append(Problem(entry.offset, f"{entry.name} overlaps {before.name} and is not read"))
            continue
        before = entry
        if _WACZ.match(entry.name):
            inner = _list_inner(stream, entry, depth)
            entries += inner.entries
            problems += inner.problems
        else:
            whole = entry.offset > member.header
            entries.append(entry._replace(sha256=hashes.get(entry.name) if whole else None))
    return Listing(entries, problems)


def _list_inner(stream: BinaryIO, entry: Entry, depth: int) -> Listing:
    """The entries of a WACZ in a WACZ, by their places in the outer one."""
    if entry.method != STORED or depth == _DEPTH:
        why = "is deflated" if entry.method != STORED else "lies too deep"
        return Listing([], [Problem(entry.offset, f"{entry.name}, a WACZ in a WACZ, {why}: unpack it")])
    inner = _list(cast(BinaryIO, Window(stream, entry.offset, entry.end)), depth + 1)
    move = entry.offset
    return Listing(
        [
            one._replace(name=f"{entry.name}/{one.name}", offset=one.offset + move, end=one.end + move)
            for one in inner.entries
        ],
        [Problem(one.offset + move, f"{entry.name}: {one.detail}") for one in inner.problems],
    )


def _wanted(found: Iterable[Member | None], problems: list[Problem]) -> list[Member] | None:
    """The members that hold records or hashes; ``None`` where the directory breaks off."""
    members: list[Member] = []
    for member in found:
        if member is None:
            return None
        if member.name == _PACKAGE or _ARCHIVE.match(member.name) or _WACZ.match(member.name):
            if len(members) == MAXIMUM_ENTRIES:
                problems.append(Problem(member.header, f"more than {MAXIMUM_ENTRIES} WARC files; the rest is not read"))
                break
            members.append(member)
    return members


def _entry(stream: BinaryIO, size: int, member: Member, problems: list[Problem]) -> Entry | None:
    """Where the data of a member lie; ``None``, and a problem, where they cannot be read."""
    why = ""
    local = member if member.data is not None else local_member(stream, size, member.header)
    if member.flags & ENCRYPTED:
        why = "is encrypted: decrypt the file"
    elif member.method not in (STORED, DEFLATED):
        method = _METHODS.get(member.method, f"method {member.method}")
        why = f"is compressed with {method}: store it, as WACZ asks for"
    elif member.header >= size:
        why = f"is said to begin at byte {member.header}, and the ZIP file has {size}"
    elif local is None and member.method == DEFLATED:
        why = "has no header of its own where the directory says"
    if why:
        problems.append(Problem(min(member.header, size), f"{member.name} {why}"))
        return None
    if local is None or local.data is None:
        # A damaged header before stored data: a reader of records passes over it, and reports it.
        end = min(member.header + 30 + len(member.name.encode()) + member.compressed, size)
        return Entry(member.name, member.header, end)
    # One that reaches beyond the file is read as far as it goes; that bytes are missing shows at its end.
    end = local.end if member is local and local.end is not None else min(local.data + member.compressed, size)
    return Entry(member.name, local.data, end, member.method, member.size, member.crc32)


def _hashes(stream: BinaryIO, size: int, package: Member, problems: list[Problem]) -> dict[str, str | None]:
    """SHA-256 of the resources by path, from datapackage.json of WACZ 1.0 or 1.1; ``None`` for other digests."""
    entry = _entry(stream, size, package, problems)
    if entry is None:
        return {}
    content = EntryStream(stream, entry)
    parts: list[bytes] = []
    while content.tell() <= _MAXIMUM_PACKAGE and (data := content.read(_PIECE)):
        parts.append(data)
    try:
        found: dict[str, str | None] = {}
        for resource in json.loads(b"".join(parts))["resources"]:
            stats = resource.get("stats") or {}
            digest = str(resource.get("hash") or f"{resource.get('hashing')}:{stats.get('hash')}")
            sha256 = re.fullmatch(r"sha-?256:([0-9a-f]{64})", digest, re.IGNORECASE)
            if isinstance(path := resource.get("path"), str):
                found[path] = sha256[1].lower() if sha256 else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        problems.append(Problem(entry.offset, f"{_PACKAGE} cannot be read: {content.fault or repr(error)[:200]}"))
        return {}
    return found


def _contents(window: Window, method: int) -> Iterator[tuple[bytes, str | None]]:
    """The content of an entry in pieces, then nothing, with the error that ends it early."""
    if method == STORED:
        while data := window.read(_PIECE):
            yield data, None
        return
    decoder = zlib.decompressobj(-15)
    raw = b""
    while not decoder.eof:
        raw = raw or window.read(_PIECE // 16)
        # zlib gives nothing of a call that fails; small steps from the state before show how far the data go.
        before = decoder.copy()
        try:
            data = decoder.decompress(raw, _PIECE)
        except zlib.error as error:
            if data := _as_far_as_it_goes(before, raw):
                yield data, None
            yield b"", f"its deflated data cannot be followed beyond byte {window.tell() - len(raw)} of them: {error}"
            return
        if not raw and not data and not decoder.eof:
            yield b"", "its deflated data end early"
            return
        raw = decoder.unconsumed_tail
        if data:
            yield data, None


def _as_far_as_it_goes(decoder: Any, raw: bytes) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        while raw and size < _PIECE:
            parts.append(decoder.decompress(raw[:64], _PIECE))
            size += len(parts[-1])
            raw = decoder.unconsumed_tail + raw[64:]
    except zlib.error:
        pass
    return b"".join(parts)
