"""What is wrong with a file that is not what was sealed: where it changed, and which document that concerns."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from pipelines import files
from pipelines.records import Place
from pipelines.reserve.encoding import Bytes
from pipelines.reserve.entries import DOC_ID, PLACE, PLACES, differing
from pipelines.reserve.leaves import Group, GroupError, part_groups
from pipelines.reserve.manifest import FileDigest, first_difference

# Gives the sealed entries (188,) of some documents, by the bytes of their `doc_id`: mostly one, but a capture may stand
# in two shards. Those that were withdrawn are not among them.
Lookup = Callable[[set[bytes]], Mapping[bytes, Sequence[Bytes]]]


class Kind(StrEnum):
    """What sort of difference it is."""

    UNSEALED = "unsealed"
    SIGNATURE = "signature"
    CHECKPOINT = "checkpoint"
    LOG = "log"
    MANIFEST = "manifest"
    COUNTS = "counts"
    TIME_STAMP = "time stamp"
    MISSING_FILE = "missing file"
    ADDED_FILE = "added file"
    RENAMED_FILE = "renamed file"
    TRUNCATED_FILE = "truncated file"
    CHANGED_FILE = "changed file"
    CHANGED_DOCUMENT = "changed document"
    MOVED_DOCUMENT = "moved document"
    ADDED_DOCUMENT = "added document"
    REMOVED_DOCUMENT = "removed document"
    SWAPPED_ROWS = "swapped rows"


class Problem(NamedTuple):
    """One difference between an archive and its seal.

    Attributes:
        kind: what sort it is of.
        file: name below the output folder; empty where none is to blame.
        detail: in plain words.
        row_group: of a Parquet file, from 0.
        doc_id: 32 hex digits.
    """

    kind: Kind
    file: str
    detail: str
    row_group: int | None = None
    doc_id: str | None = None

    def __str__(self) -> str:
        group = f", row group {self.row_group}" if self.row_group is not None else ""
        document = f", document {self.doc_id}" if self.doc_id else ""
        where = f"{self.file}{group}{document}".removeprefix(", ")
        return f"{self.kind}: {where}: {self.detail}" if where else f"{self.kind}: {self.detail}"


def changed_file(path: str, sealed: FileDigest, found: FileDigest) -> Problem:
    """How the bytes of a file differ from what was sealed."""
    begin, end = first_difference(sealed, found) or (0, 0)
    # Within its last block a file that was cut cannot be told from one that was written anew, but by Parquet's end.
    if found.size < sealed.size and end >= found.size and not _ends_as_parquet(path):
        return Problem(Kind.TRUNCATED_FILE, sealed.file, f"ends at byte {found.size:,} of {sealed.size:,}")
    longer = f"; it has {found.size - sealed.size:+,} bytes" if found.size != sealed.size else ""
    return Problem(Kind.CHANGED_FILE, sealed.file, f"differs first between bytes {begin:,} and {end:,}{longer}")


def _ends_as_parquet(path: str) -> bool:
    with files.open_read(path) as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 4))
        return stream.read(4) == b"PAR1"


def examine(path: str, name: str, place: Place, context: bytes, lookup: Lookup) -> list[Problem]:
    """What is wrong with the documents of a part: none, where only other bytes of the file changed.

    Args:
        path: of the part.
        name: of the file, as problems call it.
        place: the folder that it lies in.
        context: of the release.
        lookup: gives sealed entries.
    """
    problems: list[Problem] = []
    groups = []
    for group in part_groups(path, place, context, texts=True):
        if not isinstance(group, GroupError):
            groups.append(group)
        elif group.number is None:
            problems.append(Problem(Kind.CHANGED_FILE, name, f"its footer cannot be read: {group}"))
        else:
            problems.append(Problem(Kind.CHANGED_FILE, name, f"cannot be read: {group}", group.number))
    if any(problem.row_group is not None for problem in problems):
        problems, more = _without_texts(path, problems, place, context)
        groups = sorted([*groups, *more], key=lambda group: group.number)
    sealed = lookup({_key(entry) for group in groups for entry in group.entries})
    seen: Counter[bytes] = Counter()
    last = b""
    for group in groups:
        for row, entry in enumerate(group.entries):
            key = _key(entry)
            where = (group.number, key.hex())
            seen[entry.tobytes()] += 1
            same = [other for other in sealed.get(key, ()) if (other == entry).all()]
            if key not in sealed:
                problems.append(Problem(Kind.ADDED_DOCUMENT, name, "was not sealed", *where))
            elif not same:
                problems.append(_compared(entry, _nearest(entry, sealed[key]), name, where))
            elif seen[entry.tobytes()] > len(same):
                problems.append(Problem(Kind.ADDED_DOCUMENT, name, f"stands there once more, in row {row}", *where))
            if row in group.wrong_texts:
                problems.append(Problem(Kind.CHANGED_DOCUMENT, name, "the text is not the one that was sealed", *where))
            if key < last:
                problems.append(Problem(Kind.SWAPPED_ROWS, name, f"row {row} is out of its order", *where))
            last = key
    return problems


def _without_texts(
    path: str, problems: Sequence[Problem], place: Place, context: bytes
) -> tuple[list[Problem], list[Group]]:
    """Says whose texts row groups hold that cannot be read, where their other columns can; gives these groups."""
    readable = {
        group.number: group
        for group in part_groups(path, place, context, texts=False)
        if not isinstance(group, GroupError)
    }
    told, groups = [], []
    for problem in problems:
        group = readable.get(-1 if problem.row_group is None else problem.row_group)
        if group is not None:
            ids = [_key(entry).hex() for entry in group.entries[[0, -1]]]
            detail = f"the texts of {len(group.entries):,} documents, {ids[0]} to {ids[1]}, {problem.detail}"
            problem = problem._replace(detail=detail)
            groups.append(group)
        told.append(problem)
    return told, groups


def unmatched(sealed: Iterable[Bytes], found: Iterable[Bytes]) -> Iterable[tuple[Bytes, bool]]:
    """The entries that stand in only one of two sorted streams of chunks (n, 188): each with whether it was sealed."""
    ours, theirs = _Rows(sealed), _Rows(found)
    while True:
        count = min(ours.held(), theirs.held())
        if count == 0:
            break
        # Whole stretches at a time, while they are the same.
        if np.array_equal(ours.peek(count), theirs.peek(count)):
            ours.skip(count)
            theirs.skip(count)
            continue
        same = (ours.peek(count) == theirs.peek(count)).all(axis=1)
        step = int(np.argmin(same))
        ours.skip(step)
        theirs.skip(step)
        one, other = ours.peek(1)[0], theirs.peek(1)[0]
        if one.tobytes() < other.tobytes():
            yield one, True
            ours.skip(1)
        else:
            yield other, False
            theirs.skip(1)
    for rest, was_sealed in ((ours, True), (theirs, False)):
        while count := rest.held():
            for entry in rest.peek(count):
                yield entry, was_sealed
            rest.skip(count)


def not_as_sealed(entry: Bytes, was_sealed: bool) -> Problem:
    """The problem of an entry that stands only in the log, or only in the files."""
    doc_id = _key(entry).hex()
    if was_sealed:
        return Problem(Kind.REMOVED_DOCUMENT, _folder(entry), "was sealed, and stands in no file", doc_id=doc_id)
    return Problem(Kind.ADDED_DOCUMENT, _folder(entry), "was not sealed as it stands there", doc_id=doc_id)


def _nearest(entry: Bytes, others: Sequence[Bytes]) -> Bytes:
    return min(others, key=lambda other: len(differing(entry, other)))


def _compared(found: Bytes, sealed: Bytes, name: str, where: tuple[int | None, str]) -> Problem:
    parts = differing(found, sealed)
    if "folder" in parts:
        return Problem(Kind.MOVED_DOCUMENT, name, f"was sealed in {_folder(sealed)}", *where)
    return Problem(Kind.CHANGED_DOCUMENT, name, f"not as sealed: {', '.join(parts)}", *where)


def _folder(entry: Bytes) -> str:
    code = int(entry[PLACE]) - 1
    return PLACES[code].value if 0 <= code < len(PLACES) else "no folder"


def _key(entry: Bytes) -> bytes:
    return entry[DOC_ID].tobytes()


class _Rows:
    """A stream of chunks, some rows at a time."""

    def __init__(self, chunks: Iterable[Bytes]) -> None:
        self._chunks, self._rows, self._at = iter(chunks), np.empty((0, 188), np.uint8), 0

    def held(self) -> int:
        """Rows at hand; 0 at the end."""
        while self._at == len(self._rows):
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rows, self._at = chunk, 0
        return len(self._rows) - self._at

    def peek(self, count: int) -> Bytes:
        return self._rows[self._at : self._at + count]

    def skip(self, count: int) -> None:
        self._at += count
