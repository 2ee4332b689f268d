"""Which records of a file warcio, FastWARC and we find; where the counts differ, why, as each of them says."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fastwarc.warc import ArchiveIterator as FastIterator
from warcio.archiveiterator import ArchiveIterator as WarcioIterator  # type: ignore[import-untyped]

from pipelines.ingest.options import Ingest
from pipelines.ingest.shards import Shard
from pipelines.survey import Damage, survey

_COLUMNS = ("file", "warcio", "FastWARC", "read", "refused", "in part", "stretches", "shard")
_DETAILS = 2
_CHARACTERS = 110


class Peer(NamedTuple):
    """What another reader found, and how it ended."""

    records: int
    error: str


class Row(NamedTuple):
    """One file. ``unread``: why the file as a whole is one reject."""

    name: str
    size: int
    format: str
    peers: Mapping[str, Peer]
    read: int
    refused: int
    partial: int
    damage: Sequence[Damage]
    stretches: int
    unread: str

    @property
    def is_fewer(self) -> bool:
        """Whether a peer finds more than we give a row for: records, read or not, and damaged stretches."""
        ours = self.read + self.partial + self.stretches + bool(self.unread)
        return ours < max(peer.records for peer in self.peers.values())

    @property
    def differs(self) -> bool:
        """Whether the three do not read the same number of records, without an error."""
        return any(peer.records != self.read or peer.error for peer in self.peers.values()) or bool(self.damage)


def compare(path: Path) -> Row:
    data = path.read_bytes()
    found = survey(io.BytesIO(data), Shard(path.name, str(path), len(data), 0.0), Ingest(), quick=True)
    peers = {
        "warcio": _count(_warcio(io.BytesIO(data))),
        "FastWARC": _count(_fastwarc(io.BytesIO(data))),
    }
    shape = " ".join(word for word in (found.format or "no known format", found.codec) if word)
    rows_read = 0 if found.types or found.partial else found.records  # of Parquet and JSON Lines
    read = found.types.total() + rows_read
    unread = found.unread if not read else ""
    return Row(
        path.name, len(data), shape, peers, read, found.unfit, found.partial, found.damage, found.stretches, unread
    )


def _warcio(stream: io.BytesIO) -> Iterator[None]:
    for record in WarcioIterator(stream, arc2warc=True):
        while record.raw_stream.read(1 << 16):
            pass
        yield


def _fastwarc(stream: io.BytesIO) -> Iterator[None]:
    for record in FastIterator(stream, parse_http=False):
        record.reader.read()
        yield


def _count(records: Iterator[Any]) -> Peer:
    count = 0
    try:
        for _ in records:
            count += 1
    except Exception as error:
        return Peer(count, f"{type(error).__name__}: {' '.join(str(error).split())}")
    return Peer(count, "")


def why(row: Row) -> list[str]:
    """What the readers themselves say of a file in which they differ."""
    if not row.differs:
        return []
    found = row.read + row.partial
    lines = []
    for name, peer in row.peers.items():
        if peer.error:
            lines.append(f"{name} ends after record {peer.records}: {peer.error}")
        elif peer.records < found:
            lines.append(f"{name} ends after record {peer.records} without an error")
        elif peer.records > row.read:
            lines.append(f"{name} gives {peer.records} as if whole")
    if row.unread:
        lines.append(f"ours: {row.unread}")
    for one in row.damage[:_DETAILS]:
        length = "" if one.length is None else f", {one.length:,} bytes"
        lines.append(f"ours at {one.offset:,}{length}, {one.reason}: {one.detail}")
    if len(row.damage) > _DETAILS:
        lines.append(f"and {len(row.damage) - _DETAILS} more like it")
    if not row.damage and not row.unread and any(peer.records < found for peer in row.peers.values()):
        lines.append(f"ours: the file is {row.format}, and nothing of it is damaged")
    return [line if len(line) <= _CHARACTERS else f"{line[: _CHARACTERS - 1]}…" for line in lines]


def plain(rows: Sequence[Row]) -> str:
    """The table for a terminal, with the reasons below each file."""
    width = max(len(row.name) for row in rows)
    lines = [f"{_COLUMNS[0]:<{width}}  " + "  ".join(f"{column:>9}" for column in _COLUMNS[1:])]
    for row in rows:
        lines.append(f"{row.name:<{width}}  " + "  ".join(f"{cell:>9}" for cell in _cells(row)))
        lines += [f"    {line}" for line in why(row)]
    return "\n".join(lines)


def markdown(rows: Sequence[Row]) -> str:
    """The table with the reasons in a column."""
    body = [[row.name, *_cells(row), "; ".join(why(row)).replace("|", "\\|")] for row in rows]
    return _markdown([*_COLUMNS, "why they differ"], body)


def without_reasons(rows: Sequence[Row]) -> str:
    """The table with names and counts alone."""
    return _markdown(_COLUMNS, [[row.name, *_cells(row)] for row in rows])


def _cells(row: Row) -> list[str]:
    counts = [row.read, row.refused, row.partial, row.stretches, int(bool(row.unread))]
    peers = [f"{peer.records}{'*' if peer.error else ''}" for peer in row.peers.values()]
    return [*peers, str(counts[0]), *(str(count or "") for count in counts[1:])]


def _markdown(columns: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---", *["---:"] * (len(_COLUMNS) - 1), *["---"] * (len(columns) - len(_COLUMNS))], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
