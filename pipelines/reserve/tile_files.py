"""The files of a tiled log: what they are called, and how one is read and written (C2SP tlog-tiles, "APIs").

    >>> Tile(0, 1234067, 112).name
    'tile/0/x001/x234/067.p/112'
    >>> parse_name("tile/entries/x001/x234/067")
    Tile(level=None, number=1234067, width=256)

:mod:`pipelines.reserve.tiles` makes trees out of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from pipelines import files
from pipelines.errors import JobError
from pipelines.reserve.merkle import HASH_BYTES

HEIGHT = 8
WIDTH = 1 << HEIGHT
MOST = (1 << 16) - 1  # bytes of an entry

_NAME = re.compile(r"tile/(entries|[0-9]+)/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([0-9]+))?")


class TileError(JobError):
    """A tile or a bundle of entries is absent, malformed or not what the tree says; ``path`` names its file."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"{path}: {what}")
        self.path = path


class Tile(NamedTuple):
    """One tile of hashes, or (where the level is None) one bundle of entries."""

    level: int | None
    number: int
    width: int = WIDTH

    @property
    def name(self) -> str:
        """Its path below the folder."""
        digits = str(self.number)
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        parts = [digits[at : at + 3] for at in range(0, len(digits), 3)]
        path = "/".join([*(f"x{part}" for part in parts[:-1]), parts[-1]])
        partial = "" if self.width == WIDTH else f".p/{self.width}"
        return f"tile/{'entries' if self.level is None else self.level}/{path}{partial}"

    def of(self, size: int) -> bool:
        """Whether a tree of this size has this tile."""
        hashes = size >> HEIGHT * (self.level or 0)
        if self.width == WIDTH:
            return self.number < hashes // WIDTH
        return self.number == hashes // WIDTH and self.width == hashes % WIDTH


def levels_of(size: int) -> int:
    """How many levels of tiles a tree has."""
    return -(-size.bit_length() // HEIGHT)


def tiles_of(size: int) -> Iterator[Tile]:
    """All tiles of a tree, from the top level down, and after them its bundles of entries."""
    for level in [*reversed(range(levels_of(size))), None]:
        full, rest = divmod(size >> HEIGHT * (level or 0), WIDTH)
        yield from (Tile(level, index) for index in range(full))
        if rest:
            yield Tile(level, full, rest)


def parse_name(name: str) -> Tile | None:
    """The tile that lies at a path below the folder; None where no tile is called so."""
    found = _NAME.fullmatch(name)
    if not found:
        return None
    level, path, width = found.groups()
    index = int(path.replace("x", "").replace("/", ""))
    tile = Tile(None if level == "entries" else int(level), index, int(width or WIDTH))
    return tile if tile.name == name and tile.width else None


def strays(folder: str, sizes: Sequence[int]) -> Iterator[str]:
    """The paths of all files under `tile/` that no tree of these sizes has: what a killed run left, or a forger put."""
    top = files.join(folder, "tile")
    for path in _below(top):
        tile = parse_name("tile" + path.removeprefix(top).replace(os.sep, "/"))
        if tile is None or not any(tile.of(size) for size in sizes):
            yield path


def _below(folder: str) -> Iterator[str]:
    if files.is_local(folder):
        yield from (os.path.join(where, name) for where, _, names in os.walk(folder) for name in names)
    else:
        yield from (str(found.path) for found in files.listing(files.join(folder, "**")))


class TileFolder:
    """The tiles below a folder, on any filesystem; local files, of which there are many, by the shortest way."""

    def __init__(self, folder: str) -> None:
        self.folder = folder.rstrip("/") or "/"
        self.local = files.is_local(folder)

    def path(self, tile: Tile) -> str:
        """Where a tile lies."""
        return f"{self.folder}/{tile.name}" if self.local else files.join(self.folder, *tile.name.split("/"))

    def write(self, tile: Tile, content: bytes) -> None:
        """Writes a file that appears whole, over what a killed run may have left."""
        path = self.path(tile)
        if not self.local:
            files.write_bytes(path, content)
            return
        temporary = f"{path}.tmp-{os.getpid()}"
        try:
            stream = open(temporary, "wb", buffering=0)  # noqa: SIM115
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            stream = open(temporary, "wb", buffering=0)  # noqa: SIM115
        with stream:
            stream.write(content)
        os.replace(temporary, path)

    def read(self, tile: Tile) -> tuple[bytes, bool]:
        """The bytes of a tile, and whether they are those of the full tile that took the place of a partial one."""
        try:
            return self._bytes(tile), False
        except FileNotFoundError:
            missing = TileError(self.path(tile), "is missing; put it back from another copy of the archive")
            if tile.width == WIDTH:
                raise missing from None
        try:
            return self._bytes(tile._replace(width=WIDTH)), True
        except FileNotFoundError:
            raise missing from None

    def hashes(self, tile: Tile) -> bytes:
        """The hashes of a tile, one after the other."""
        content, full = self.read(tile)
        wanted = HASH_BYTES * (WIDTH if full else tile.width)
        if len(content) != wanted:
            at = self.path(tile._replace(width=WIDTH) if full else tile)
            raise TileError(at, f"has {len(content)} bytes instead of {wanted}")
        return content[: HASH_BYTES * tile.width]

    def entries(self, tile: Tile) -> list[bytes]:
        """The entries of a bundle."""
        content, full = self.read(tile)
        wanted = WIDTH if full else tile.width
        alike = _of_one_length(content, wanted)
        if alike is not None:
            return alike[: tile.width]
        found, at, size = [], 0, len(content)
        for _ in range(wanted):
            begin = at + 2
            if begin > size:
                break
            at = begin + (content[at] << 8 | content[at + 1])
            found.append(content[begin:at])
        if at != size or len(found) != wanted:
            path = self.path(tile._replace(width=WIDTH) if full else tile)
            raise TileError(path, f"has {size} bytes, which are not {wanted} entries behind their lengths")
        return found[: tile.width]

    def _bytes(self, tile: Tile) -> bytes:
        if not self.local:
            return files.read_bytes(self.path(tile))
        with open(self.path(tile), "rb", buffering=0) as stream:
            return stream.read()


def _of_one_length(content: bytes, count: int) -> list[bytes] | None:
    """The entries of a bundle, where all are as long as the first: in a tenth of the time. None where they are not."""
    step = 2 + int.from_bytes(content[:2], "big")
    if len(content) != count * step:
        return None
    lengths = np.frombuffer(content, np.uint8).reshape(count, step)[:, :2]
    if (lengths != lengths[0]).any():
        return None
    return [content[at : at + step - 2] for at in range(2, len(content), step)]
