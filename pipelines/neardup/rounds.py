"""Connected components of a graph that no single process can hold: small-star and large-star rounds as Beam jobs.

The two operations are those of Kiveris, Lattanzi, Mirrokni, Rastogi and Vassilvitskii, *Connected Components in
MapReduce and Beyond* (SoCC 2014), who bound the rounds by O(log² n) where large-star is repeated until it changes
nothing before each small-star. Here the two take turns, for which no bound is proven; a chain of a million nodes with
shuffled names, dealt out to 16 files, takes 16 rounds. Each is one job, from edge files to edge files::

    with open("work/edges", "wb") as out:
        np.array([[7, 3], [9, 7], [5, 4]], "<u8").tofile(out)
    find_components(["work/edges"], "work/rounds", 16, lambda t: execute(job, 16, 1, t))  # paths of 16 files

An edge is two little-endian uint64. Between the operations it has its smaller node first and lies once in the file of
the range that its *larger* node hashes to, ordered by the larger and then the smaller node. With that:

- **Small-star** joins a node and its smaller neighbours to the smallest of them. All of these edges are in one file, so
  it needs no shuffle to find them; and since joining more than that is no error, each file is shrunk to its spanning
  forest at once. What is left goes to the range of its larger node.
- **Large-star** joins a node's larger neighbours to its smallest one. These edges lie in many files, and stay there:
  each file asks for the smallest neighbours of the nodes that it has as smaller ends, once for each node, and gets an
  answer for those that have one. Only questions (8 bytes) and answers (16 bytes) are shuffled, no edges.

The end is reached when no node has two smaller neighbours and a large-star moves no edge: what is left then are stars
around the smallest node of each component. No hash decides that, so it cannot err. It does come: neither operation
adds edges, and each that changes any lowers the sum of their ends.

**Memory.** The input is shrunk in pieces of 4 million edges. After that no node is hot: a file holds at most one edge
from a node's smaller neighbours for each piece or range that sends a forest, and a node with millions of larger
neighbours is asked about once by each range. So files are as even as the hash, and a process holds one of them, by its
kernels about 100 bytes an edge. Beam's local runner holds the shuffle as well: in one process 62 bytes for each edge
of the graph, measured on 10 million in 16 ranges.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np

from pipelines import files
from pipelines.errors import JobError
from pipelines.neardup.bands import hash_range, mix64
from pipelines.neardup.components import (
    Edges,
    Nodes,
    distinct,
    forest,
    large_star,
    look_up,
    smallest_neighbours,
    starts,
)

_EDGE_BYTES = 16
_PIECE_BYTES = 64 << 20  # of the input, shrunk at once
_ELEMENT_ROWS = 1 << 19  # in one shuffled element, 8 MiB of edges


class Folder(NamedTuple):
    """A graph on disk: a folder with one file of edges for each range."""

    path: str
    ranges: int

    def part(self, i: int) -> str:
        """The file of one range."""
        return files.join(self.path, f"{i:05}.edges")

    def parts(self) -> list[str]:
        """The files of all ranges."""
        return [self.part(i) for i in range(self.ranges)]

    def done(self) -> str:
        """The file that is written when all others are, with the round's :class:`Counts`."""
        return files.join(self.path, "done.json")


class Counts(NamedTuple):
    """What a round left: all edges, those beyond the first of their larger node, and how many large-star moved."""

    edges: int
    surplus: int
    moved: int


class Piece(NamedTuple):
    """A stretch of a file of edges, in bytes."""

    path: str
    begin: int
    end: int


def find_components(
    edges: Sequence[str], folder: str, ranges: int, execute: Callable[[beam.PTransform], object]
) -> list[str]:
    """Finds the connected components of a graph in files: what :func:`pipelines.neardup.components.forest` gives.

    Args:
        edges: paths of files of edges, little-endian uint64[e, 2]; in any order, and any of them more than once.
        folder: takes the work of the rounds and the result. It is **emptied first**: a run that was killed begins
            again from the edges and never meets what another has left.
        ranges: how many files the graph is cut into; a process holds one of them at a time.
        execute: runs a pipeline of one composite transform to its end.

    Gives the paths of ``ranges`` files. Each holds the edges (smallest node of the component, node) whose node hashes
    to its range, in ascending order of the node; together they are the forest. Their bytes depend on the components and
    on ``ranges`` alone. Raises ValueError if an edge file lies in the folder and JobError if one holds half an edge.
    """
    folder = folder.rstrip("/")
    if any(path.startswith(f"{folder}/") for path in edges):
        raise ValueError(f"{folder} is emptied before the first round; the edges cannot lie in it")
    pieces: list[Piece] | None = [piece for path in edges for piece in _pieces(path)]
    files.delete([folder])
    result = Folder("", ranges)
    for number in itertools.count():
        work = [files.join(folder, f"round-{n:03}") for n in (number - 1, number)]
        before, result = result, Folder(files.join(work[1], "large"), ranges)
        joined = before if pieces is None else Folder(files.join(work[1], "small"), ranges)
        counts = _finish(Round(pieces, joined, result), execute)
        files.delete([work[0], files.join(work[1], "small")])
        if not counts.surplus and not counts.moved:
            break
        # Where each node has a single smaller neighbour, small-star has nothing to do, now or later.
        pieces = None
        if counts.surplus:
            pieces = [Piece(path, 0, files.stat(path).size_in_bytes) for path in result.parts()]
    return result.parts()


def _pieces(path: str) -> list[Piece]:
    size = files.stat(path).size_in_bytes
    if size % _EDGE_BYTES:
        raise JobError(f"{path}: {size} bytes are no whole number of edges of {_EDGE_BYTES} bytes")
    return [Piece(path, at, min(at + _PIECE_BYTES, size)) for at in range(0, size, _PIECE_BYTES)]


def _finish(step: Round, execute: Callable[[beam.PTransform], object]) -> Counts:
    execute(step)
    found = files.read_json(step.result.done())
    if found is None:
        raise JobError(f"{step.result.done()}: not there or not to be read; the round of components has not ended")
    return Counts(**found)


class Round(beam.PTransform):  # type: ignore[misc]
    """One round: small-star on pieces of edges, then large-star. Gives the path of what is written last.

    Args:
        pieces: the forests of these go to ``joined``; with None, that is there already.
        joined: the files between the two operations.
        result: the files that large-star writes.
    """

    def __init__(self, pieces: Sequence[Piece] | None, joined: Folder, result: Folder) -> None:
        super().__init__()
        self.pieces = pieces
        self.joined = joined
        self.result = result

    def expand(self, pbegin: Any) -> beam.PCollection[str]:
        """Wires the operations; what is grouped by range holds each range, so that none goes without a file."""
        every = pbegin | "EveryRange" >> beam.Create([(i, b"") for i in range(self.joined.ranges)])
        joined = every
        if self.pieces is not None:
            joined = (pbegin, every) | "SmallStar" >> SmallStar(self.pieces, self.joined)
        return (
            (joined, every)
            | "LargeStar" >> LargeStar(self.joined, self.result)
            | "Together" >> beam.GroupByKey()
            | "Done" >> beam.Map(_mark, self.result)
        )


class SmallStar(beam.PTransform):  # type: ignore[misc]
    """Shrinks each piece to its forest and sends the edges to the range of their larger node; gives each range."""

    def __init__(self, pieces: Sequence[Piece], result: Folder) -> None:
        super().__init__()
        self._pieces = pieces
        self._result = result

    def expand(self, begin: tuple[Any, beam.PCollection[tuple[int, bytes]]]) -> beam.PCollection[tuple[int, bytes]]:
        """Pieces to the files of the result."""
        pbegin, every = begin
        edges = (
            pbegin
            | "Pieces" >> beam.Create(self._pieces)
            | "Shrink" >> beam.FlatMap(_shrink, self._result.ranges).with_output_types(tuple[int, bytes])
        )
        return (
            (edges, every)
            | "All" >> beam.Flatten()
            | "ByRange" >> beam.GroupByKey()
            | "Join" >> beam.Map(_join, self._result).with_output_types(tuple[int, bytes])
        )


class LargeStar(beam.PTransform):  # type: ignore[misc]
    """Moves the smaller end of each edge to that node's smallest neighbour; gives each range's counts."""

    def __init__(self, joined: Folder, result: Folder) -> None:
        super().__init__()
        self._joined = joined
        self._result = result

    def expand(
        self, begin: tuple[beam.PCollection[tuple[int, bytes]], ...]
    ) -> beam.PCollection[tuple[int, tuple[int, int, int]]]:
        """Ranges whose file is there, and all ranges, to the files of the result."""
        joined, every = begin
        answers = (
            joined
            | "Ask" >> beam.FlatMap(_ask, self._joined).with_output_types(tuple[int, tuple[int, bytes]])
            | "ByAsked" >> beam.GroupByKey()
            | "Answer" >> beam.FlatMap(_answer, self._joined).with_output_types(tuple[int, bytes])
        )
        return (
            (answers, every)
            | "All" >> beam.Flatten()
            | "ByRange" >> beam.GroupByKey()
            | "Move" >> beam.Map(_move, self._joined, self._result).with_output_types(tuple[int, tuple[int, int, int]])
        )


def _shrink(piece: Piece, ranges: int) -> Iterator[tuple[int, bytes]]:
    """A piece of edges to (range, packed edges of its forest)."""
    edges = forest(_read(*piece))
    yield from _by_range(edges[:, 1], edges, ranges)


def _join(sent: tuple[int, Iterable[bytes]], result: Folder) -> tuple[int, bytes]:
    """The edges sent to a range to its file, then the range."""
    _write(result.part(sent[0]), distinct(_rows(sent[1])))
    return sent[0], b""


def _ask(one: tuple[int, bytes], joined: Folder) -> Iterator[tuple[int, tuple[int, bytes]]]:
    """A range to (range asked, (this range, packed nodes)): each smaller end of its edges, once."""
    nodes = np.sort(_read(joined.part(one[0]))[:, 0])
    nodes = nodes[starts(nodes)]
    yield from ((asked, (one[0], piece)) for asked, piece in _by_range(nodes, nodes, joined.ranges))


def _answer(asked: tuple[int, Iterable[tuple[int, bytes]]], joined: Folder) -> Iterator[tuple[int, bytes]]:
    """The questions to a range to (range that asks, packed nodes and their smallest neighbours)."""
    nodes, smallest = smallest_neighbours(_read(joined.part(asked[0])))
    for asking, piece in asked[1]:
        wanted = np.frombuffer(piece, "<u8")
        found, values = look_up(wanted, nodes, smallest)
        if len(values):
            yield asking, np.stack([wanted[found], values], axis=1).tobytes()


def _move(sent: tuple[int, Iterable[bytes]], joined: Folder, result: Folder) -> tuple[int, tuple[int, int, int]]:
    """A range's edges, by the answers sent to it, to its file; gives (0, counts)."""
    answers = _rows(sent[1])
    answers = answers[np.argsort(answers[:, 0])]
    edges, moved = large_star(_read(joined.part(sent[0])), answers[:, 0], answers[:, 1])
    _write(result.part(sent[0]), edges)
    return 0, (len(edges), len(edges) - len(smallest_neighbours(edges)[0]), moved)


def _mark(counts: tuple[int, Iterable[tuple[int, int, int]]], result: Folder) -> str:
    files.write_json(result.done(), Counts(*map(sum, zip(*counts[1], strict=True)))._asdict())
    return result.done()


def _by_range(nodes: Nodes, rows: Edges | Nodes, ranges: int) -> Iterator[tuple[int, bytes]]:
    """Rows by the range of their nodes, some hundred thousand to an element."""
    at = hash_range(mix64(nodes), ranges).astype(np.min_scalar_type(ranges))
    rows = rows[np.argsort(at, kind="stable")]
    ends = np.cumsum(np.bincount(at, minlength=ranges)).tolist()
    for i, (begin, end) in enumerate(itertools.pairwise([0, *ends])):
        for first in range(begin, end, _ELEMENT_ROWS):
            yield i, rows[first : min(first + _ELEMENT_ROWS, end)].tobytes()


def _rows(pieces: Iterable[bytes]) -> Edges:
    return np.frombuffer(b"".join(pieces), "<u8").reshape(-1, 2)


def _read(path: str, begin: int = 0, end: int | None = None) -> Edges:
    with files.open_read(path) as stream:
        stream.seek(begin)
        content = stream.read() if end is None else stream.read(end - begin)
    if end is not None and len(content) < end - begin:
        raise JobError(f"{path}: shorter than when the job began")
    return np.frombuffer(content, "<u8").reshape(-1, 2)


def _write(path: str, edges: Edges) -> None:
    with files.open_write(path) as out:
        for begin in range(0, len(edges), _ELEMENT_ROWS):
            out.write(edges[begin : begin + _ELEMENT_ROWS].tobytes())
