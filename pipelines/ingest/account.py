"""What reading a shard, or a part of it, tells besides documents and rejects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from pipelines.ingest.warc import Loss, Record


class Part(NamedTuple):
    """The records of a shard that begin at byte ``begin`` or later and before byte ``end`` (None: the shard's end).

    A reader that begins inside a compressed or WARC shard takes the first place that looks like a record's start. What
    looks so may lie inside a record; the reader of the part before knows. So parts are read at once, each says where it
    stopped, and a part whose start is not where the one before it stopped is read again, ``exact``.
    """

    begin: int = 0
    end: int | None = None
    exact: bool = False  # a record begins at `begin`; `floor` is the greatest offset before it
    floor: int = -1


WHOLE = Part()
_TYPES = 100  # that are counted one by one; the standard has eight


@dataclass
class Account:
    """Filled in while a part is read; complete when its last batch was given."""

    format: str = ""  # warc, arc, wacz, jsonl, parquet; empty: not recognised
    codec: str = ""  # gzip, zstd, lz4; empty: none
    chained: bool = False  # whether the part's start was guessed; see Part
    start: int | None = None  # where the first record of the part begins; None: it has none
    stop: int | None = None  # where the first record after the part begins; None: the shard ended
    floor: int = -1  # the greatest offset given
    types: Counter[str] = field(default_factory=Counter)  # records by type
    digests: Counter[str] = field(default_factory=Counter)  # by verified, mismatch, unverifiable
    unfit: int = 0  # records that are not what their digests and their length say
    partial: int = 0  # records whose header was read and whose content was not
    stretches: int = 0  # damaged stretches without a record's header

    wants_text: ClassVar[bool] = True  # False: records are counted and checked, and become no documents

    def saw(self, record: Record) -> None:
        """Counts a record that was read."""
        kind = record.headers.get("warc-type", "").lower()
        self.types[kind if kind in self.types or len(self.types) < _TYPES else "others"] += 1

    def missed(self, loss: Loss) -> None:
        """Counts a stretch that could not be read."""
        if loss.headers is None:
            self.stretches += 1
        else:
            self.partial += 1


def parts_of(size: int, part_bytes: int) -> Iterator[Part]:
    """Divides a shard of ``size`` bytes; what is left over makes the last part larger, by half at most."""
    count = max(1, (size + part_bytes // 2) // part_bytes)
    for number in range(count):
        yield Part(number * part_bytes, (number + 1) * part_bytes if number < count - 1 else None)


def follows(before: Account | None, part: Part, floor: int, account: Account) -> bool:
    """Whether a part was read from where the last one before it stopped that held a record.

    ``floor``: what it was given as the greatest offset before it.
    """
    if before is None or not account.chained:
        return True
    if before.stop is None or (part.end is not None and before.stop >= part.end):
        return account.start is None
    return account.start == before.stop and (floor == before.floor or before.floor < before.stop)


def corrected(before: Account, part: Part) -> Part:
    """The part to read where it did not follow the one before it."""
    if before.stop is None or (part.end is not None and before.stop >= part.end):
        return Part(part.begin, part.begin, exact=True, floor=before.floor)
    return Part(before.stop, part.end, exact=True, floor=before.floor)


class Read(NamedTuple):
    """A part that was read: as the shard was divided, as the reader was given it, and what the reader told."""

    divided: Part
    given: Part
    account: Account


def misplaced(parts: Sequence[Read]) -> Iterator[tuple[int, Part]]:
    """Of all parts of one shard, in their order, which to read again, by index, and from where.

    Once there are none, the parts give what the whole shard gives.
    """
    before: Account | None = None
    for index, (divided, given, account) in enumerate(parts):
        if before is None or follows(before, divided, given.floor, account):
            before = account if before is None or account.start is not None else before
            continue
        right = corrected(before, divided)
        yield index, right
        if right.begin != right.end:
            return  # where the next part has to begin is known when this one is read
