"""A Merkle tree and its entries as files: C2SP tlog-tiles (https://c2sp.org/tlog-tiles), tiles of height 8.

Below a folder lie `tile/<L>/<N>[.p/<W>]`, 256 hashes of level 8·L each (W of them where the tile is partial), and
`tile/entries/<N>[.p/<W>]`, as many entries, each behind its length (16 bits, big-endian)::

    >>> import tempfile
    >>> from pipelines.reserve.proofs import verify_consistency, verify_inclusion
    >>> folder = tempfile.mkdtemp()
    >>> writer = TileWriter(folder)
    >>> writer.append(b"entry %d" % i for i in range(300))
    >>> first = writer.finish()
    >>> writer = TileWriter(folder, first)
    >>> writer.append([b"one more"])
    >>> second = writer.finish()
    >>> sorted(tile.name for tile in tiles_of(second.size))
    ['tile/0/000', 'tile/0/001.p/45', 'tile/1/000.p/1', 'tile/entries/000', 'tile/entries/001.p/45']
    >>> reader = TileReader(folder, second)
    >>> reader.entry(300)
    b'one more'
    >>> verify_inclusion(leaf_hash(b"one more"), 300, 301, reader.inclusion_proof(300), second.root)
    >>> verify_consistency(300, 301, first.root, second.root, reader.consistency_proof(300))

What was written for an earlier tree is never touched again: a writer that goes on from it makes only tiles that hold
something new, and the partial tiles of the earlier tree stay, since its checkpoint needs them. The specification lets
a log delete them once the full tile is there; a reader that misses one takes the full tile instead.

Each file appears whole, under its last name. The same entries give the same files, so a writer that was killed is
started again from the same earlier tree; :func:`pipelines.reserve.tile_files.strays` tells what belongs to no tree in
use. Memory does not grow with the tree. The checkpoint is the caller's, to be written after :meth:`TileWriter.finish`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from pipelines.reserve.merkle import (
    EMPTY_ROOT,
    HASH_BYTES,
    Buffer,
    CompactRange,
    Hashes,
    Offsets,
    as_hashes,
    hash_entries,
    leaf_hash,
    perfect_root,
    slices,
)
from pipelines.reserve.proofs import consistency_proof, inclusion_proof
from pipelines.reserve.tile_files import HEIGHT, MOST, WIDTH, Tile, TileError, TileFolder, levels_of, tiles_of

_CACHED = 64  # tiles of 8 kB


class Tree(NamedTuple):
    """What a checkpoint says of a tree: its number of leaves and its root."""

    size: int
    root: bytes


EMPTY = Tree(0, EMPTY_ROOT)


class TileWriter:
    """Writes the tiles and bundles of a tree that goes on from an earlier one in the same folder."""

    def __init__(self, folder: str, tree: Tree = EMPTY) -> None:
        """Goes on from a tree whose tiles lie in the folder. Raises TileError where its right edge is not whole."""
        self._files = TileFolder(folder)
        self._start = self.size = tree.size
        reader = TileReader(folder, tree)
        self._rows = [bytearray(row) for row in reader.right_edge()]
        full, rest = divmod(tree.size, WIDTH)
        entries = reader.bundle(full) if rest else []
        if rest and hash_entries(entries) != self._rows[0]:
            raise TileError(self._files.path(Tile(None, full, rest)), "its entries are not those of the tile of leaves")
        self._bundle = bytearray(_framed(entries))

    def append(self, entries: Iterable[bytes]) -> None:
        """Adds entries of less than 65,536 bytes. Raises ValueError for a longer one."""
        rest = iter(entries)
        while some := list(islice(rest, WIDTH - self.size % WIDTH)):
            self._add(some)

    def extend(self, data: Buffer, offsets: Offsets) -> None:
        """Adds entries that lie in one buffer: entry i is ``data[offsets[i] : offsets[i + 1]]``, int64 of (n + 1,)."""
        begin = 0
        while begin < len(offsets) - 1:
            end = min(begin + WIDTH - self.size % WIDTH, len(offsets) - 1)
            self._add(slices(data, offsets[begin : end + 1]))
            begin = end

    def finish(self) -> Tree:
        """Writes the partial tiles of the tree as it is now, and tells what it is. More entries may follow."""
        for level, row in enumerate(self._rows):
            tile = Tile(level, self.size >> HEIGHT * (level + 1), len(row) // HASH_BYTES)
            if row and not tile.of(self._start):  # what belongs to the earlier tree stays as it is
                self._files.write(tile, bytes(row))
        bundle = Tile(None, self.size // WIDTH, self.size % WIDTH)
        if bundle.width and not bundle.of(self._start):
            self._files.write(bundle, bytes(self._bundle))
        return self.tree()

    def tree(self) -> Tree:
        """The tree as it is now; nothing is written."""
        return Tree(self.size, _edge_root(self.size, self._rows))

    def _add(self, entries: list[bytes]) -> None:
        """Adds no more entries than the bundle has room for."""
        self._bundle += _framed(entries, self.size)
        self._push(0, hash_entries(entries))
        self.size += len(entries)
        if self.size % WIDTH == 0:
            self._files.write(Tile(None, self.size // WIDTH - 1), bytes(self._bundle))
            self._bundle.clear()
            self._carry()

    def _carry(self) -> None:
        level = 0
        while len(row := self._rows[level]) == WIDTH * HASH_BYTES:
            tile = bytes(row)
            row.clear()
            self._files.write(Tile(level, (self.size >> HEIGHT * (level + 1)) - 1), tile)
            level += 1
            self._push(level, perfect_root(tile))

    def _push(self, level: int, hashes: bytes) -> None:
        if level == len(self._rows):
            self._rows.append(bytearray())
        self._rows[level] += hashes


class TileReader:
    """Reads a tree from its tiles, few of them for each question.

    Each tile is checked up to the tree's root before it is used, and a wrong one raises a TileError.
    Trees of several sizes can be read from one folder, each by a reader of its own.
    """

    def __init__(self, folder: str, tree: Tree, *, checked: bool = True) -> None:
        """Opens a tree; nothing is read yet. Not ``checked``, its root is not looked at, and may be unknown."""
        self.size = tree.size
        self._root = tree.root if checked else None
        self._files = TileFolder(folder)
        self._cache: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._edge: list[bytes] | None = None

    def root(self) -> bytes:
        """The root over all leaves."""
        return _edge_root(self.size, self.right_edge())

    def inclusion_proof(self, index: int) -> list[bytes]:
        """The proof that leaf ``index`` is in the tree: RFC 6962, section 2.1.1."""
        return inclusion_proof(self.root_of, index, self.size)

    def consistency_proof(self, old_size: int) -> list[bytes]:
        """The proof that the tree goes on from the one of ``old_size`` leaves: RFC 6962, section 2.1.2."""
        return consistency_proof(self.root_of, old_size, self.size)

    def root_of(self, start: int, end: int) -> bytes:
        """The root over the leaves of a range that is a valid subtree."""
        size, at, nodes = end - start, start, []
        for height in reversed(range(size.bit_length())):
            if size >> height & 1:
                nodes.append(self._node(height, at >> height))
                at += 1 << height
        return CompactRange(size, nodes).root()

    def hashes(self, start: int, end: int) -> Hashes:
        """The hashes of the leaves from ``start`` to ``end``, uint8 of shape (n, 32)."""
        if not 0 <= start <= end <= self.size:
            raise ValueError(f"leaves {start} to {end} of a tree of {self.size}")
        tiles = [self.tile(0, index) for index in range(start // WIDTH, -(-end // WIDTH))] if start < end else []
        first = start // WIDTH * WIDTH
        return as_hashes(b"".join(tiles)[HASH_BYTES * (start - first) : HASH_BYTES * (end - first)])

    def entry(self, index: int) -> bytes:
        """Entry ``index``, checked. Raises IndexError where there is none."""
        if not 0 <= index < self.size:
            raise IndexError(f"entry {index} of {self.size}")
        entry = self.bundle(index // WIDTH)[index % WIDTH]
        if self._root is not None and leaf_hash(entry) != bytes(self.hashes(index, index + 1)[0]):
            raise self._wrong_entry(self._bundle_tile(index // WIDTH), index)
        return entry

    def bundle(self, number: int) -> list[bytes]:
        """The entries from ``256 * number`` on, 256 of them or fewer; not checked."""
        return self._files.entries(self._bundle_tile(number))

    def entries(self, start: int = 0) -> Iterator[bytes]:
        """The entries from ``start`` on in their order, a bundle in memory at a time; not checked."""
        for number in range(start // WIDTH, -(-self.size // WIDTH)):
            yield from self.bundle(number)[max(0, start - WIDTH * number) :]

    def tile(self, level: int, index: int) -> bytes:
        """The hashes of a tile of this tree, one after the other; checked."""
        full = self.size >> HEIGHT * (level + 1)
        if index == full:
            return self.right_edge()[level]
        key = level, index
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        found = self._checked(level, index) if self._root is not None else self._files.hashes(Tile(level, index))
        self._cache[key] = found
        if len(self._cache) > _CACHED:
            self._cache.popitem(last=False)
        return found

    def right_edge(self) -> list[bytes]:
        """By level, the hashes of the last, partial tile (empty where the last one is full), checked with the root."""
        if self._edge is None:
            edge = [self._files.hashes(tile) if tile.width else b"" for tile in self._edge_tiles()]
            if self._root is not None and (found := _edge_root(self.size, edge)) != self._root:
                raise self._wrong_edge(edge, found)
            self._edge = edge
        return self._edge

    def problems(self) -> Iterator[TileError]:
        """Checks all tiles and all entries up to the root, and yields what is wrong: tiles from the top level down,
        and each bundle after the tile of its leaves.

        A tile is judged by the one above it, so that what lies below a wrong tile is not judged until that is mended.
        """
        try:
            self.right_edge()
        except TileError as error:
            yield error
            return
        wrong: set[tuple[int, int]] = set()
        for level, number, _ in tiles_of(self.size):
            if level is None or (wrong and self._below(level, number, wrong)):
                continue
            try:
                leaves = self.tile(level, number)
            except TileError as error:
                wrong.add((level, number))
                yield error
                continue
            if level == 0 and (found := self._wrong_bundle(number, leaves)):
                yield found

    def _below(self, level: int, number: int, wrong: set[tuple[int, int]]) -> bool:
        steps = range(1, levels_of(self.size) - level)
        return any((level + up, number >> HEIGHT * up) in wrong for up in steps)

    def _bundle_tile(self, number: int) -> Tile:
        return Tile(None, number, min(WIDTH, self.size - WIDTH * number))

    def _edge_tiles(self) -> list[Tile]:
        counts = [self.size >> HEIGHT * level for level in range(levels_of(self.size))]
        return [Tile(level, count // WIDTH, count % WIDTH) for level, count in enumerate(counts)]

    def _node(self, height: int, index: int) -> bytes:
        """The root over the leaves from ``index << height``, ``1 << height`` of them."""
        level, within = divmod(height, HEIGHT)
        first = index << within
        at = HASH_BYTES * (first % WIDTH)
        return perfect_root(self.tile(level, first // WIDTH)[at : at + (HASH_BYTES << within)])

    def _checked(self, level: int, index: int) -> bytes:
        parent = self.tile(level + 1, index // WIDTH)
        tile = Tile(level, index)
        found = self._files.hashes(tile)
        at = HASH_BYTES * (index % WIDTH)
        if perfect_root(found) != parent[at : at + HASH_BYTES]:
            raise TileError(self._files.path(tile), "its hashes are not those that the tile above it was made from")
        return found

    def _wrong_bundle(self, number: int, leaves: bytes) -> TileError | None:
        try:
            found = hash_entries(self.bundle(number))
        except TileError as error:
            return error
        if found == leaves:
            return None
        differs = (as_hashes(found) != as_hashes(leaves)).any(axis=1)
        return self._wrong_entry(self._bundle_tile(number), WIDTH * number + int(np.argmax(differs)))

    def _wrong_entry(self, tile: Tile, index: int) -> TileError:
        return TileError(self._files.path(tile), f"entry {index} is not the one that was sealed")

    def _wrong_edge(self, edge: list[bytes], found: bytes) -> TileError:
        """Which partial tile is wrong: the one that, made again from what lies below it, gives the root."""
        tiles = [tile for tile in self._edge_tiles() if tile.width]
        for tile in tiles:
            assert tile.level is not None
            mended = [*edge]
            try:
                mended[tile.level] = self._made_again(tile)
            except TileError as error:
                return error
            if _edge_root(self.size, mended) == self._root:
                return TileError(self._files.path(tile), "its hashes are not those of what lies below it")
        where = ", ".join(tile.name for tile in tiles) or "no tile"
        path = self._files.path(tiles[0]) if tiles else self._files.folder
        return TileError(path, f"the right edge of the tree of {self.size} ({where}) has another root, {found.hex()}")

    def _made_again(self, tile: Tile) -> bytes:
        if not tile.level:
            return hash_entries(self.bundle(tile.number))
        below = range(WIDTH * tile.number, WIDTH * tile.number + tile.width)
        return b"".join(perfect_root(self._files.hashes(Tile(tile.level - 1, index))) for index in below)


def _framed(entries: Sequence[bytes], first: int = 0) -> bytes:
    """Each entry behind its length; ``first`` is the number of the first one."""
    for number, entry in enumerate(entries, first):
        if len(entry) > MOST:
            raise ValueError(f"entry {number} has {len(entry)} bytes; a bundle holds entries of up to {MOST}")
    return b"".join([part for entry in entries for part in (len(entry).to_bytes(2, "big"), entry)])


def _edge_root(size: int, edge: Sequence[bytes | bytearray]) -> bytes:
    """The root of a tree, from the hashes of its partial tiles by level."""
    nodes = []
    for row in reversed(edge):
        width, at = len(row) // HASH_BYTES, 0
        for bit in reversed(range(HEIGHT)):
            if width & 1 << bit:
                nodes.append(perfect_root(bytes(row[at : at + (HASH_BYTES << bit)])))
                at += HASH_BYTES << bit
    return CompactRange(size, nodes).root()
