"""The releases of a log, and the withdrawals and audits since, from its last entry back to its first release."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pipelines.errors import JobError
from pipelines.reserve.entries import Audit, Release, Withdrawal, kind_of
from pipelines.reserve.tiles import TileReader


class ChainError(JobError):
    """The entries of a log do not follow from one another."""


class Numbered(NamedTuple):
    """A release, and where in the log its entry stands."""

    at: int
    release: Release

    @property
    def first(self) -> int:
        """The index of its first document; its last stands before the entry."""
        return self.at - self.release.documents


class Chain(NamedTuple):
    """What a log holds beside documents.

    Attributes:
        releases: the latest first.
        since: the withdrawals and audits since the latest release, in their order, with their indexes.
    """

    releases: tuple[Numbered, ...]
    since: tuple[tuple[int, Withdrawal | Audit], ...]

    @property
    def latest(self) -> Numbered:
        """The release whose files lie in the output."""
        return self.releases[0]

    @property
    def manifest(self) -> str:
        """SHA-256, in hex, of the manifest that holds now."""
        return self.since[-1][1].manifest if self.since else self.latest.release.manifest

    @property
    def withdrawals(self) -> tuple[tuple[int, Withdrawal], ...]:
        """Those since the latest release, with their indexes."""
        return tuple((index, entry) for index, entry in self.since if isinstance(entry, Withdrawal))

    @property
    def audits(self) -> tuple[tuple[int, Audit], ...]:
        """Those of the latest release, with their indexes; the last one counts."""
        return tuple((index, entry) for index, entry in self.since if isinstance(entry, Audit))

    @property
    def withdrawn(self) -> set[int]:
        """Where in the log the entries of withdrawn documents stand."""
        return {withdrawal.index for _, withdrawal in self.withdrawals}

    def bisect(self, reader: TileReader, entry: bytes) -> int:
        """Where the first document of the latest release stands whose entry is not below these bytes."""
        low, high = self.latest.first, self.latest.at
        while low < high:
            middle = (low + high) // 2
            if reader.entry(middle) < entry:
                low = middle + 1
            else:
                high = middle
        return low


def chain_of(reader: TileReader) -> Chain:
    """Reads releases, withdrawals and audits, and checks that each says the truth of the log before it.

    Raises ChainError where one does not, and TileError where the log cannot be read.
    """
    size, releases, since = reader.size, [], None
    while size:
        found, later = _release_before(reader, size)
        since = later if since is None else since
        releases.append(found)
        previous = found.release.previous
        if (previous["size"] if previous else 0) != found.first:
            raise ChainError(f"entry {found.at}: the release says that {found.release.documents} documents are its own")
        if previous and reader.root_of(0, found.first).hex() != previous["root"]:
            raise ChainError(f"entry {found.at}: the log of the release before was another one")
        size = found.first
    numbers = [found.release.number for found in releases]
    if not releases or numbers != list(range(len(numbers), 0, -1)):
        raise ChainError(f"the releases of the log are numbered {numbers[::-1]}, not from 1 on")
    return Chain(tuple(releases), tuple(since or ()))


def _release_before(reader: TileReader, size: int) -> tuple[Numbered, list[tuple[int, Withdrawal | Audit]]]:
    """The last release of a log of this size, and the withdrawals and audits after it."""
    later: list[tuple[int, Withdrawal | Audit]] = []
    for index in range(size - 1, -1, -1):
        entry = reader.entry(index)
        try:
            kind = kind_of(entry)
            if kind == "release":
                _check_numbers(later[::-1])
                return Numbered(index, Release.decode(entry)), later[::-1]
            if kind == "document":
                break
            later.append((index, (Audit if kind == "audit" else Withdrawal).decode(entry)))
        except ValueError as error:
            raise ChainError(f"entry {index}: {error}") from None
    raise ChainError(f"entry {size - 1}: no release entry closes the documents before it")


def _check_numbers(later: Sequence[tuple[int, Withdrawal | Audit]]) -> None:
    audits = [(index, entry) for index, entry in later if isinstance(entry, Audit)]
    for number, (index, audit) in enumerate(audits, 1):
        if audit.number != number:
            raise ChainError(f"entry {index}: audit {audit.number} of its release, where number {number} comes next")
