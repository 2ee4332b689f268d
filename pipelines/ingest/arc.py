"""The record lines of ARC, the Internet Archive's format before WARC, as the headers that a WARC record would have.

    http://www.example.com/ 93.184.216.34 20080430204825 text/html 1591

A file opens with a version block (``filedesc://…``); then each document follows as such a line, a block of as many
bytes as the line's last field says, and a line feed. Version 2 has ten fields in place of five.

Source: Burner and Kahle, "Arc File Format", version 1.0, Internet Archive, 1996. Files do not keep to it: URLs and
types hold spaces (fields count from the right), addresses are IPv6 or ``0``, dates have 8 to 18 digits, lengths are one
off, and writers disagree on whether the block of ``filedesc`` counts the line feeds after it.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache

MAXIMUM_LINE = 16 << 10  # bytes of a record line; a longer one is not believed
_SLACK = 4  # bytes by which a block may end before its length says, where a record line starts there

_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]{1,30}:")
_HIERARCHIC = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]{1,30}://[^\s/]|dns:\S", re.IGNORECASE)
_ADDRESS = rb"(?:\d{1,3}\.){3}\d{1,3}|\[?[0-9A-Fa-f]*:[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*(?:%\w+)?\]?"
_LOOKS = {
    "address": re.compile(_ADDRESS + rb"|-|0|unknown"),
    "date": re.compile(rb"\d{8,18}"),
    "type": re.compile(rb"[!-~]+/[!-~]*|no-type|unknown|-|", re.IGNORECASE),
    "length": re.compile(rb"\d{1,18}"),
}
_VERSION_1 = ("url", "address", "date", "type", "length")
_VERSION_2 = (*_VERSION_1[:4], "result", "checksum", "location", "offset", "filename", "length")
# For types with a space in them ("text/html, text/plain", "text/html; charset=…") and lines without a type.
_BY_ADDRESS_AND_DATE = re.compile(
    rb"(?P<url>[A-Za-z][A-Za-z0-9+.-]{1,30}:[^\n]*?) (?P<address>"
    + _ADDRESS
    + rb") (?P<date>\d{14})(?: (?P<type>[^\n]*))? (?P<length>\d{1,18})"
)
_LINE = re.compile(rb"\n([A-Za-z][A-Za-z0-9+.-]{1,30}:[^\n]{8,%d})(?=\n)" % MAXIMUM_LINE)
# A line that begins right after a block without a line end, such as an image, is known by how it ends.
_TAIL = re.compile(rb" \d{14} [!-~]+ \d{1,18}\r?(?=\n)")
_USUAL = re.compile(rb"(?:https?|ftp|filedesc|gopher|metadata|whois)://|dns:", re.IGNORECASE)
_NO_TEXT = re.compile(rb"[\x00-\x1f\x7f-\xff]")
# Digits past the second are parts of it; an odd count before them means that one is missing, and which is not known.
_DATE = re.compile(r"(\d{4})(\d\d)(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)\d*)?)?)?\Z", re.ASCII)
_YEARS = range(1989, 2101)  # no page of the web is older; a number that is no date gives years far from these


def starts_record(data: bytes) -> bool:
    """Whether a member, or a place in a plain file, with these first bytes opens an ARC record.

    Of a line that goes on after ``data`` only the URL can be judged; give :data:`MAXIMUM_LINE` bytes where there are.
    """
    data = data.lstrip(b"\r\n")
    line, ended, _ = data[:MAXIMUM_LINE].partition(b"\n")
    if ended:
        return _fields(line) is not None
    return _HIERARCHIC.match(line) is not None and re.search(rb"[\x00-\x1f<>\"]", line) is None


def find_start(buffer: bytes | bytearray, begin: int) -> int | None:
    """The index, from ``begin`` on, of the next record line; the line must end in the buffer.

    It starts at the start of a line, or has all fields as they should be: a block may end without a line end.
    """
    at = _find_line(buffer, begin)
    for tail in _TAIL.finditer(buffer, begin, len(buffer) if at is None else at):
        text = bytes(buffer[max(begin, tail.start() - MAXIMUM_LINE) : tail.end()])
        from_index = max((control.end() for control in _NO_TEXT.finditer(text.rstrip())), default=0)
        url = _USUAL.search(text, from_index)
        if url and _fields(text[url.start() :]) is not None:
            return tail.end() - len(text) + url.start()
        begin = tail.end()
    return at


def find_block_end(buffer: bytes | bytearray, start: int, stop: int) -> tuple[int, int] | None:
    """Where a block from index ``start`` ends and the record after it starts, if it ends about at ``stop``.

    ``stop`` is what the record's length says. The block is believed where line ends and then a record line follow, or
    line ends up to the end of the buffer, which must reach :data:`MAXIMUM_LINE` bytes further or to the end of the run.
    Of a length that counts up to four bytes of the next record, the block ends before that record.
    """
    after = stop
    while after < len(buffer) and buffer[after] in b"\r\n":
        after += 1
    follows = after >= len(buffer) or _is_line(buffer, after)
    if follows and (after > stop or stop >= len(buffer) or _USUAL.match(buffer, stop)):
        return stop, after
    earlier = _find_line(buffer, max(stop - _SLACK, start))
    if earlier is None or earlier >= stop or (follows and not _USUAL.match(buffer, earlier)):
        return (stop, after) if follows else None
    line_end = earlier - buffer.startswith(b"\n", earlier - 1)
    return max(line_end - buffer.startswith(b"\r", line_end - 1), start), earlier


def parse_head(line: bytes) -> dict[str, str] | None:
    """A record line as WARC headers with lower-case names; ``None`` where it is no record line.

    ``filedesc://`` becomes a ``warcinfo``, everything else a ``response``. ``content-type`` is that of an HTTP message
    for ``http`` and ``https``, else the line's own, which is in ``arc-content-type`` too. ``content-length`` is as it
    is written, number or not. A ``warc-date`` that cannot be read is followed by ``(ARC date)``: no reader of dates may
    take its digits for something else.
    """
    fields = _fields(line)
    if fields is None:
        return None
    url, declared = fields["url"], fields["type"]
    headers = {
        "warc-type": "response",
        "warc-target-uri": url,
        "warc-date": _iso_date(fields["date"]),
        "warc-ip-address": fields["address"],
        "content-type": declared,
        "content-length": fields["length"],
        "arc-content-type": declared,
    }
    scheme = url.partition(":")[0].lower()
    if scheme == "filedesc":
        headers["warc-type"] = "warcinfo"
        headers["warc-filename"] = url.partition("://")[2]
    elif scheme in ("http", "https"):
        headers["content-type"] = "application/http; msgtype=response"
    return headers


def with_page_type(headers: dict[str, str], block: bytes) -> dict[str, str]:
    """The headers of :func:`parse_head`, with the line's own type where the block is the page without an HTTP head.

    Crawls before 2002 hold many of those: answers in HTTP/0.9, and files whose heads were not kept.
    """
    # What the Internet Archive wrote over documents that it took out again.
    if block[:5].upper() == b"HTTP/" or block.startswith(b"DELETED_TIME="):
        return headers
    return {**headers, "content-type": headers["arc-content-type"]}


def _find_line(buffer: bytes | bytearray, begin: int) -> int | None:
    if begin == 0 and _is_line(buffer, 0):
        return 0
    for line in _LINE.finditer(buffer, max(begin - 1, 0)):
        if _fields(bytes(line[1])) is not None:
            return line.start(1)
    return None


def _is_line(buffer: bytes | bytearray, at: int) -> bool:
    stop = buffer.find(b"\n", at, at + MAXIMUM_LINE)
    return stop >= 0 and _fields(bytes(buffer[at:stop])) is not None


# A line is looked at as the end of the record before it, as a start and as a header.
@lru_cache(maxsize=16)
def _fields(line: bytes) -> dict[str, str] | None:
    """The fields of a line by name: one of the address, date, type and length may be nonsense where the URL is good."""
    line = line.rstrip()
    if not _SCHEME.match(line):
        return None
    versions = (_VERSION_2, _VERSION_1) if line.count(b" ") >= 9 else (_VERSION_1,)
    values = [(names, line.rsplit(b" ", len(names) - 1)) for names in versions]
    readings = [dict(zip(names, parts, strict=True)) for names, parts in values if len(parts) == len(names)]
    nonsense = [sum(not looks.fullmatch(fields[name]) for name, looks in _LOOKS.items()) for fields in readings]
    if 0 in nonsense:
        return _decoded(readings[nonsense.index(0)])
    if found := _BY_ADDRESS_AND_DATE.fullmatch(line):
        return _decoded({name: value or b"" for name, value in found.groupdict().items()})
    if 1 in nonsense and _HIERARCHIC.match(line):
        return _decoded(readings[nonsense.index(1)])
    return None


def _decoded(fields: dict[str, bytes]) -> dict[str, str]:
    try:
        return {name: value.decode().strip() for name, value in fields.items()}
    except UnicodeDecodeError:
        return {name: value.decode("latin-1").strip() for name, value in fields.items()}


def _iso_date(digits: str) -> str:
    found = _DATE.match(digits)
    try:
        parts = [int(part) for part in found.groups() if part] if found else [0, 0, 0]
        when = datetime(*parts)  # type: ignore[arg-type]
    except ValueError:
        when = None
    if when is None or when.year not in _YEARS:
        return f"{digits} (ARC date)"
    return when.date().isoformat() if len(parts) == 3 else f"{when.isoformat()}Z"
