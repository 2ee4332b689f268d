"""Joins records that a crawler wrote in segments (ISO 28500, section 6.9 and annex on segmentation).

The first segment carries ``WARC-Segment-Number: 1``; the others are of type ``continuation`` and name it. What is
joined goes on as the first segment with the block of all. The segments of a record have to follow each other in one
shard, with no more than a few records between them; where they do not, the first one is refused, and says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pipelines.ingest.warc import Record

_PATIENCE = 64  # records between one segment and the next


class Unjoined(NamedTuple):
    """A first segment whose others were not found."""

    record: Record
    detail: str


class _Pending:
    def __init__(self, first: Record) -> None:
        self.first = first
        self.parts = [first.block]
        self.size = len(first.block)
        self.patience = _PATIENCE


class Segments:
    """The records in segments that are not complete yet."""

    def __init__(self, maximum_record_bytes: int) -> None:
        self._cap = maximum_record_bytes
        self._pending: dict[str, _Pending] = {}

    def is_waiting(self) -> bool:
        """Whether a record is not complete yet."""
        return bool(self._pending)

    def begin(self, record: Record) -> bool:
        """Takes a record if it is a first segment, to be given back when it is complete."""
        identity = record.headers.get("warc-record-id", "")
        if not _is_first(record) or not identity or identity in self._pending:
            return False
        self._pending[identity] = _Pending(record)
        return True

    def go_on(self, record: Record | None) -> Iterator[Record | Unjoined]:
        """Looks at the next record (None: a damaged stretch); gives what it completes or what is given up."""
        if not self._pending:
            return
        headers = record.headers if record else {}
        if record is not None and _is_first(record) and headers.get("warc-record-id", "") in self._pending:
            # The same again: what follows belongs to this one.
            yield self._give_up(headers["warc-record-id"])
        pending = self._pending.get(headers.get("warc-segment-origin-id", ""))
        if record is not None and pending is not None and headers.get("warc-type", "").lower() == "continuation":
            done = self._add(pending, record)
            if done is not None:
                del self._pending[headers["warc-segment-origin-id"]]
                yield done
        for identity, waiting in list(self._pending.items()):
            waiting.patience -= 1
            if waiting.patience < 0:
                yield self._give_up(identity)

    def end(self) -> Iterator[Unjoined]:
        """Gives up what is still not complete at the end of the shard."""
        for identity in list(self._pending):
            yield self._give_up(identity)

    def _add(self, pending: _Pending, record: Record) -> Record | Unjoined | None:
        number = record.headers.get("warc-segment-number", "")
        if number.strip() != str(len(pending.parts) + 1) or record.fault:
            return Unjoined(pending.first, f"segment {len(pending.parts) + 1} of the record is missing or damaged")
        pending.parts.append(record.block)
        pending.size += len(record.block)
        pending.patience = _PATIENCE
        if pending.size > self._cap:
            return Unjoined(pending.first, f"the record's segments have more than {self._cap} bytes")
        total = record.headers.get("warc-segment-total-length")
        if total is None:
            return None
        if total.strip() != str(pending.size):
            return Unjoined(pending.first, f"the segments have {pending.size} bytes, and {total} are declared")
        # The first segment's block digest is that of its own block.
        headers = {k: v for k, v in pending.first.headers.items() if k != "warc-block-digest"}
        return pending.first._replace(headers=headers, block=b"".join(pending.parts))

    def _give_up(self, identity: str) -> Unjoined:
        pending = self._pending.pop(identity)
        return Unjoined(pending.first, f"segment {len(pending.parts) + 1} of the record is not in this shard")


def _is_first(record: Record) -> bool:
    number = record.headers.get("warc-segment-number", "").strip()
    return number == "1" and record.headers.get("warc-type", "").lower() != "continuation"
