"""How records look in WARC (ISO 28500) and ARC files: where one starts, where its header ends, what the header says.

A grammar is what :mod:`pipelines.ingest.warc` needs to know of a format whose records follow one another.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from pipelines.ingest import arc

Buffer = bytes | bytearray

MAXIMUM_HEAD = 256 << 10

_MARK = b"WARC/"
# Both cases by sets: searched for twice as fast as with IGNORECASE.
_VERSION_LINE = re.compile(rb"[Ww][Aa][Rr][Cc]/\d+(?:\.\d+)*[ \t]*\r*\n")
_FIRST_FIELD = re.compile(rb"[A-Za-z][\w-]*[ \t]*:")
# A record that starts inside of a header ends it too: what was there is cut off.
_HEAD_END = re.compile(rb"\r*\n\r*\n|\nWARC/")
_COMMON_HEAD = 8192  # bytes
_COMMON_VERSIONS = (b"WARC/1.0\r\n", b"WARC/1.1\r\n")
# Of the first one, as in the parsed header; what does not look as nearly all writers write it is read the thorough way.
_CONTENT_LENGTH = re.compile(rb"\ncontent-length[ \t]*:[ \t]*(?:(\d{1,18})[ \t]*(?:\Z|\r\n(?![ \t])))?", re.IGNORECASE)
_FIELD = re.compile(r"^([^\s:][^:\r\n]*):[ \t]*([^\r\n]*)", re.MULTILINE)
_FOLD = re.compile(r"\r?\n[ \t]+")
_NAME = re.compile(r"[^\s:]+\Z")


class Head(NamedTuple):
    """A record's header in a buffer: ``end`` of its text, ``block``: where the block starts, or ``cut`` off."""

    end: int
    block: int
    cut: bool = False


class Grammar(Protocol):
    """A format whose records follow one another, each with a header that says how long its block is."""

    separator: bytes  # what follows a block
    start_bytes: int  # enough to see that a record starts

    def opens(self, data: Buffer) -> bool:
        """Whether a member with these first bytes starts with a record, blank lines before it passed over."""

    def at(self, buffer: Buffer, position: int) -> bool:
        """Whether a record starts here."""

    def head(self, buffer: Buffer, position: int, searched: int) -> Head | None:
        """The header of the record at ``position``, or None if it does not end in the buffer.

        ``searched``: how far an earlier call has looked.
        """

    def parse(self, head: bytes) -> Mapping[str, str]:
        """The named fields of a header, names in lower case; of repeated ones the first counts."""

    def find(self, buffer: Buffer, begin: int) -> int | None:
        """The next place from ``begin`` where a record starts, as far as can be told without reading it."""

    def block_end(self, buffer: Buffer, start: int, stop: int) -> tuple[int, int] | None:
        """The end of a block from ``start``, and where reading goes on, if it ends about at ``stop``, as it says.

        ``start_bytes`` follow ``stop``, or the buffer ends where the run does.
        """


class Warc:
    """WARC 0.17 to 1.1, and what writers make of it: any version number, any line ends, any case."""

    separator = b"\r\n\r\n"
    start_bytes = 96

    def opens(self, data: Buffer) -> bool:
        """Whether a member with these first bytes starts with a record."""
        return data.startswith(_MARK) or data[:1024].lstrip(b"\r\n")[: len(_MARK)].upper() == _MARK

    def at(self, buffer: Buffer, position: int) -> bool:
        """Whether a record starts here."""
        return buffer.startswith(_COMMON_VERSIONS, position) or _VERSION_LINE.match(buffer, position) is not None

    def head(self, buffer: Buffer, position: int, searched: int) -> Head | None:
        """The header of the record at ``position``."""
        begin = max(searched - 4, position)
        # As nearly all writers write it, found in a tenth of the time.
        at = buffer.find(b"\r\n\r\n", begin, begin + _COMMON_HEAD)
        if at > begin and buffer[at - 1] not in b"\r\n":
            others = (b"\n\n", b"\n\r", b"\nWARC/")
            if all(buffer.find(other, begin, at + 1) < 0 for other in others):
                return Head(at, at + 4)
        found = _HEAD_END.search(buffer, begin)
        if found is None:
            return None
        end, block = found.span()
        return Head(end, block, cut=buffer[block - 1] != 0x0A)

    def parse(self, head: bytes) -> Mapping[str, str]:
        """The named fields of a header, version line included or not; folded lines are joined."""
        return Headers(head)

    def find(self, buffer: Buffer, begin: int) -> int | None:
        """The next place where a version line stands, on a line of its own or before what looks like a field."""
        for version in _VERSION_LINE.finditer(buffer, begin):
            at = version.start()
            # Garbage may stand right before a record; then the line after must look like a record's as well.
            if (at and buffer[at - 1] == 0x0A) or _FIRST_FIELD.match(buffer, version.end()):
                return at
        return None

    def block_end(self, buffer: Buffer, start: int, stop: int) -> tuple[int, int] | None:
        """The end of a block: another record, blank lines or the end of the run have to follow."""
        after = stop
        while after < len(buffer) and buffer[after] in b"\r\n" and after - stop < 64:
            after += 1
        if after == len(buffer) or self.at(buffer, after) or buffer[stop : stop + 4] == self.separator:
            return stop, after
        # Four bytes of anything else are a damaged separator.
        return (stop, stop + 4) if self.at(buffer, stop + 4) else None


class Arc:
    """ARC 1 and 2, whose record lines become the headers that a WARC record would have."""

    separator = b"\n"
    start_bytes = arc.MAXIMUM_LINE + 64

    def opens(self, data: Buffer) -> bool:
        """Whether a member with these first bytes starts with a record."""
        return arc.starts_record(bytes(data[: self.start_bytes]))

    def at(self, buffer: Buffer, position: int) -> bool:
        """Whether a record starts here."""
        return self.head(buffer, position, 0) is not None

    def head(self, buffer: Buffer, position: int, searched: int) -> Head | None:
        """The line of the record at ``position``."""
        end = buffer.find(b"\n", position, position + arc.MAXIMUM_LINE)
        if end < 0 or arc.parse_head(bytes(buffer[position:end])) is None:
            return None
        return Head(end, end + 1)

    def parse(self, head: bytes) -> Mapping[str, str]:
        """The fields of a line under the names of WARC."""
        return arc.parse_head(head) or {}

    def find(self, buffer: Buffer, begin: int) -> int | None:
        """The next place where a record line stands."""
        return arc.find_start(buffer, begin)

    def block_end(self, buffer: Buffer, start: int, stop: int) -> tuple[int, int] | None:
        """The end of a block; lengths are one off in many files."""
        found = arc.find_block_end(buffer, start, stop)
        if found is None and buffer[stop : stop + 1] == self.separator:
            return stop, stop + 1  # what follows is damaged, not this
        return found


WARC = Warc()
ARC = Arc()


class Headers(Mapping[str, str]):
    """The named fields of a header, names in lower case, read when the first of them is asked for."""

    __slots__ = ("_fields", "_head")

    def __init__(self, head: bytes) -> None:
        self._head = head
        self._fields: dict[str, str] | None = None

    def _read(self) -> dict[str, str]:
        if self._fields is None:
            self._fields = parse_fields(self._head)
        return self._fields

    def __getitem__(self, name: str) -> str:
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __contains__(self, name: object) -> bool:
        return name in self._read()

    def get(self, name: str, default: Any = None) -> Any:
        """The field, or the default."""
        if self._fields is None and name == "content-length" and (length := content_length(self._head)):
            return length.decode()
        return self._read().get(name, default)

    def __repr__(self) -> str:
        return repr(self._read())


def content_length(head: Buffer, begin: int = 0, end: int = sys.maxsize) -> bytes | None:
    """The digits of a header's ``Content-Length``, or None: read the header to know."""
    found = _CONTENT_LENGTH.search(head, begin, end)
    return found[1] if found else None


class _Names(dict[str, str]):
    """Field names as written → in lower case. Names that ask for the thorough way raise ``KeyError``."""

    def __missing__(self, name: str) -> str:
        if not _NAME.match(name):
            raise KeyError(name)
        lower = name.lower()
        if len(self) < 4096:
            self[name] = lower
        return lower


_names = _Names()


def parse_fields(head: bytes) -> dict[str, str]:
    """``Name: value`` lines, version line included or not; names in lower case; of repeated ones the first counts."""
    text = head.decode("utf-8", "replace")
    lines = text.split("\r\n")
    # As nearly all writers write it. Any other line feed is folding, or a line end of another kind.
    if text.count("\n") == len(lines) - 1:
        if text.startswith("WARC/"):
            del lines[0]
        lines.reverse()
        try:
            return {_names[name]: value.strip() for name, _, value in [line.partition(": ") for line in lines]}
        except KeyError:
            pass
    if "\n " in text or "\n\t" in text:
        text = _FOLD.sub(" ", text)
    found = _FIELD.findall(text)
    found.reverse()
    return {name.lower().rstrip(): value.strip() for name, value in found}


def target_uri(headers: Mapping[str, str]) -> str | None:
    """``WARC-Target-URI`` without the angle brackets that WARC 1.0's grammar asks for and few writers give."""
    uri = headers.get("warc-target-uri", "").strip()
    if uri[:1] == "<" and uri[-1:] == ">":
        uri = uri[1:-1]
    return uri or None
