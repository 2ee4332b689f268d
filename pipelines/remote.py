"""Reading over a network: a stream that seeks, goes on where a failure stopped it, and never ends short unnoticed.

What differs from one kind of server to the next is a :class:`Transfer`; blocks, retries and the check that the file is
whole are here::

    with open_remote(HttpTransfer("https://host/a.warc.gz")) as stream:
        stream.seek(5_000_000)
        stream.read(100)
"""

from __future__ import annotations

import io
import random
import time
from collections.abc import Callable
from typing import BinaryIO, NamedTuple, Protocol, TypeVar, cast

from pipelines.progress import say

T = TypeVar("T")

_BUFFER = 1 << 16  # bytes; small reads are served out of this
_FIRST_BLOCK = 1 << 18  # bytes asked for where the reader has not been before
_LARGEST_BLOCK = 8 << 20  # bytes; what a reader that reads on and on comes to ask for at once
_KEPT = 16 << 20  # bytes of blocks a reader holds, for readers that go back and forth as Parquet's does
_SAID_SECONDS = 2.0  # a longer pause is told on standard error


class Retry(NamedTuple):
    """How long a failing request is tried again."""

    attempts: int = 8  # in a row that bring no byte; with the pauses below about a minute
    first_seconds: float = 0.5  # the pause after the first failure; it doubles with each
    longest_seconds: float = 60.0
    longest_asked_seconds: float = 600.0  # what a server may ask for with Retry-After
    connect_seconds: float = 30.0
    silence_seconds: float = 60.0  # after which a transfer that brings nothing counts as cut

    def pause(self, failures: int, asked: float | None) -> float:
        """Seconds to wait after so many failures: half to all of the doubled time, at least what the server asks."""
        backoff = min(self.first_seconds * 2.0 ** (failures - 1), self.longest_seconds) * random.uniform(0.5, 1)
        return max(backoff, min(asked or 0.0, self.longest_asked_seconds))


RETRY = Retry()


class TransientError(Exception):
    """A failure that may be gone at the next try. ``asked``: seconds that the server asks to wait."""

    def __init__(self, reason: str, asked: float | None = None) -> None:
        super().__init__(reason)
        self.asked = asked


class ReadError(OSError):
    """Bytes that are in the file could not be had. Whoever takes an OSError for damage must let this one pass."""


class ChangedError(ReadError):
    """A file is not what it was when it was opened."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(
            f"{path}: changed while it was read ({what}); run the same command again once it is no longer written to"
        )


class Stat(NamedTuple):
    """What a server says of a file."""

    size: int | None  # bytes; None: it does not say
    modified: float  # seconds since the epoch; 0: it does not say
    etag: str  # changes when the content does; empty: the server has none


class Transfer(Protocol):
    """One file on one kind of server."""

    path: str

    def stat(self) -> Stat:
        """Asks the server. Raises TransientError, or OSError where another try would not help."""

    def fetch(self, begin: int, end: int, stat: Stat, into: bytearray) -> bool:
        """Appends the bytes from ``begin`` as they come, up to ``end`` at the most.

        Returns whether the server has vouched that the file ends after them. Raises TransientError, or OSError where
        another try would not help; what came before stays in ``into``. ``stat`` is what the file was when it was
        opened; one that has changed since is an OSError.
        """

    def close(self) -> None:
        """Lets go of connections."""


def retrying(path: str, ask: Callable[[], T]) -> T:
    """The answer to a request that may fail for a while. Raises OSError when it goes on failing."""
    failures = 0
    while True:
        try:
            return ask()
        except TransientError as failure:
            failures += 1
            if failures >= RETRY.attempts:
                raise OSError(
                    f"{path}: no answer after {failures} attempts: {failure}; "
                    "check the address and the network, and run the same command again"
                ) from None
            _wait(path, failures, failure)


def check_same(path: str, opened: Stat, now: Stat) -> None:
    """Raises ChangedError where two answers cannot be about the same content; what one leaves out is no matter."""
    if opened.size is not None and now.size is not None and opened.size != now.size:
        raise ChangedError(path, f"it had {opened.size:,} bytes and now has {now.size:,}")
    if opened.etag and now.etag:
        if opened.etag != now.etag:
            raise ChangedError(path, f"its ETag was {opened.etag} and now is {now.etag}")
    elif opened.modified and now.modified and opened.modified != now.modified:
        raise ChangedError(path, "its time of change is another")


def open_remote(transfer: Transfer) -> BinaryIO:
    """Opens a file for reading; nothing of it is fetched before the first read. Raises OSError."""
    stat = retrying(transfer.path, transfer.stat)
    return cast(BinaryIO, io.BufferedReader(RemoteReader(transfer, stat), _BUFFER))


def counted(transfer: Transfer) -> int:
    """The size of a file whose server does not say it: reads it through once. Raises OSError where it is cut."""
    with open_remote(transfer) as stream:
        return stream.seek(0, io.SEEK_END)


class RemoteReader(io.RawIOBase):
    """A file on a server as a raw stream. Memory: the blocks kept and the one on the way, 16 MiB at the most."""

    def __init__(self, transfer: Transfer, stat: Stat) -> None:
        super().__init__()
        self._transfer = transfer
        self._stat = stat
        self._size = stat.size  # None until the end has been seen
        self._position = 0
        self._blocks: list[tuple[int, bytearray]] = []  # (first byte's place, bytes), the last used last

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes, though a server that cannot give ranges is read through to get to a place."""
        return True

    def tell(self) -> int:
        """The cursor's place in the file, in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves the cursor; fetches nothing, unless the end is asked for and the server has not said where it is."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position}.get(whence)
        if base is None:
            base = self._end()
        if base + offset < 0:
            raise OSError(f"{self._transfer.path}: there is no byte {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fills some of the buffer; 0 only at the end of the file. Raises OSError where bytes cannot be had."""
        block = self._block(self._position, len(buffer))
        if block is None:
            return 0
        begin, data = block
        part = memoryview(data)[self._position - begin :][: len(buffer)]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)

    def close(self) -> None:
        """Drops blocks and connections."""
        if not self.closed:
            self._blocks = []
            self._transfer.close()
        super().close()

    def _end(self) -> int:
        """The file's size; reads on to the end where the server has not said it."""
        at = 0
        while self._size is None:
            block = self._block(at, _LARGEST_BLOCK)
            if block is not None:
                at = block[0] + len(block[1])
        return self._size

    def _block(self, position: int, wanted: int) -> tuple[int, bytearray] | None:
        """The block that holds a place, or None behind the end of the file."""
        if self._size is not None and position >= self._size:
            return None
        length = _FIRST_BLOCK
        for block in self._blocks:
            begin, data = block
            if begin <= position < begin + len(data):
                self._blocks.remove(block)
                self._blocks.append(block)
                return block
            if begin + len(data) == position:  # the reader goes on: ask for more at once
                length = max(length, 2 * len(data))
        length = min(max(length, wanted), _LARGEST_BLOCK)
        while self._blocks and sum(len(kept) for _, kept in self._blocks) + length > _KEPT:
            del self._blocks[0]
        end = position + length
        loaded = self._load(position, end if self._size is None else min(end, self._size))
        if not loaded:
            return None
        self._blocks.append((position, loaded))
        return self._blocks[-1]

    def _load(self, begin: int, end: int) -> bytearray:
        into = bytearray()
        failures = 0
        while len(into) < end - begin:
            had = len(into)
            failure = TransientError("the transfer ended early")
            try:
                if self._transfer.fetch(begin + had, end, self._stat, into) and self._size is None:
                    self._size = begin + len(into)
                    break
                if len(into) > had:
                    continue
            except TransientError as error:
                failure = error
            failures = 1 if len(into) > had else failures + 1
            if failures >= RETRY.attempts:
                raise ReadError(
                    f"{self._transfer.path}: byte {begin + len(into):,} of {self._of()} could not be read after "
                    f"{failures} attempts: {failure}; run the same command again when the server answers, or copy the "
                    "file to a disk and read it there"
                )
            _wait(self._transfer.path, failures, failure)
        return into

    def _of(self) -> str:
        return "unknown size" if self._size is None else f"{self._size:,}"


def _wait(path: str, failures: int, failure: TransientError) -> None:
    seconds = RETRY.pause(failures, failure.asked)
    if seconds >= _SAID_SECONDS:
        say(f"{path}: {failure}; trying again in {seconds:.0f} s")
    time.sleep(seconds)
