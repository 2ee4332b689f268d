"""The states of many slices at once: counted, merged and written as columns without a Python object a slice.

What ``state.build_state``, ``state.merge_states`` and ``encode.encode`` are to one slice, this is to many, of which
most hold a few documents. A part is a random group of a slice: slice s has the parts from
``GROUPS * s`` on::

    columns_of(count(described, rows, edges))       # of documents
    columns_of(merge(batch, target, slices))        # of rows of tally.PANEL
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.neardup.shingles import text_buffers
from pipelines.statistics.panel.embedding import DIMENSIONS
from pipelines.statistics.panel.encode import COUNTS, NAMES, STATE_FIELDS, UPPER
from pipelines.statistics.panel.packing import (
    Blobs,
    add_rows,
    blobs_of,
    gather,
    pack_rows,
    pack_stretches,
    raise_rows,
)
from pipelines.statistics.panel.sketch_parts import theta_blobs, union_parts
from pipelines.statistics.panel.sketches import (
    BUCKETS,
    REGISTERS,
    Samples,
    add_registers,
    sample_parts,
)
from pipelines.statistics.panel.state import EXCERPT_BYTES, EXCERPTS, GROUPS, SAMPLE, SETS, WINDOW, Documents, mixed
from pipelines.statistics.panel.surprisal import BINS, bin_of

Int64 = npt.NDArray[np.int64]

_WIDTHS = {"signed": GROUPS * BUCKETS, "surprisal": GROUPS * BINS, "outer": GROUPS * UPPER}


class Drawn(NamedTuple):
    """Excerpts, part after part: part p has those from ``edges[p]`` to ``edges[p + 1]``, by ascending key."""

    keys: npt.NDArray[np.uint64]
    texts: Blobs
    signatures: npt.NDArray[np.uint32]
    edges: Int64


class Stack(NamedTuple):
    """States of s slices. ``counts`` int64 (s, G) and ``sums`` int64 (s, width) by name, of ``outer`` only the upper
    half; ``registers`` by name, (s, 4096); ``samples`` by order, one a part.
    """  # fmt: skip

    counts: dict[str, Int64]
    sums: dict[str, Int64]
    registers: dict[str, Int64]
    samples: dict[int, Samples]
    drawn: Drawn


class Described(NamedTuple):
    """Documents, with what each would be as an excerpt: ``data[starts[i] : cuts[i]]``, drawn by ``spread[i]``."""

    documents: Documents
    data: npt.NDArray[np.uint8]
    starts: Int64
    ends: Int64
    cuts: Int64
    spread: npt.NDArray[np.uint64]
    bins: Int64


def with_excerpts(documents: Documents) -> Described:
    """Finds the excerpts and the bins of surprisal of a pack of documents."""
    starts, ends, data = text_buffers(documents.texts)
    cuts = np.empty(len(starts), np.int64)
    _cuts(data, starts, ends, cuts)
    return Described(documents, data, starts, ends, cuts, mixed(documents.keys), bin_of(documents.surprisal))


def count(described: Described, rows: Int64, edges: Int64) -> Stack:
    """The states of slices: part p is of the documents ``rows[edges[p] : edges[p + 1]]``."""
    documents, slices, parts = described.documents, (len(edges) - 1) // GROUPS, len(edges) - 1
    part = np.repeat(np.arange(parts), np.diff(edges))
    words, offsets = documents.words
    length = offsets[rows + 1] - offsets[rows]
    of_rows = {
        "documents": np.ones(len(rows), np.int64),
        "words": length,
        "bytes": (described.ends - described.starts)[rows],
        "window_types": documents.window_types[rows],
        "windows": np.maximum(length - (WINDOW - 1), 0),
    }
    signed, trigrams = np.zeros((parts, BUCKETS), np.int64), np.zeros((slices, REGISTERS), np.uint8)
    samples = {
        1: sample_parts(words, offsets, rows, edges, 1, SAMPLE, buckets=signed),
        3: sample_parts(words, offsets, rows, edges, 3, SAMPLE, registers=trigrams),
    }
    texts = np.zeros((slices, REGISTERS), np.uint8)
    add_registers(documents.contents[rows], part // GROUPS, texts)
    bins = described.bins[rows]
    known = bins >= 0
    surprisal = np.bincount(part[known] * BINS + bins[known], minlength=parts * BINS)
    outer = np.zeros((parts, UPPER), np.int64)
    _add_outer(documents.embeddings, rows, edges, outer)
    return Stack(
        {name: _by_part(values, edges).reshape(slices, GROUPS) for name, values in of_rows.items()},
        {
            "signed": signed.reshape(slices, -1),
            "surprisal": surprisal.reshape(slices, -1),
            "outer": outer.reshape(slices, -1),
        },
        {"documents": texts.astype(np.int64), "trigrams": trigrams.astype(np.int64)},
        samples,
        _drawn(rows, edges, described.spread, described.data, described.starts, described.cuts, documents.signatures),
    )


def merge(batch: pa.RecordBatch, target: Int64, slices: int) -> Stack:
    """The states of slices out of rows of ``tally.PANEL``: row i belongs to the slice ``target[i]``.

    Rows without excerpts (of ``tally.without_texts``) are not for this. Raises ValueError where the excerpts are
    signed with different numbers of permutations.
    """
    counts = {}
    for name in COUNTS:
        counts[name] = np.zeros((slices, GROUPS), np.int64)
        np.add.at(counts[name], target, batch.column(name).flatten().to_numpy().reshape(-1, GROUPS))
    order = np.argsort(target, kind="stable")
    sources = np.searchsorted(target[order], np.arange(slices + 1))
    return Stack(
        counts,
        {name: add_rows(batch.column(name), target, np.zeros((slices, n), np.int64)) for name, n in _WIDTHS.items()},
        {
            name: raise_rows(batch.column(f"{name}_registers"), target, np.zeros((slices, REGISTERS), np.int64))
            for name in SETS
        },
        {n: _merged_samples(batch, name, order, sources) for n, name in NAMES.items()},
        _merged_excerpts(batch, target, slices),
    )


def columns_of(stack: Stack) -> list[pa.Array]:
    """Columns of ``encode.STATE_FIELDS``."""
    columns = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), GROUPS)
        for name, values in stack.counts.items()
    }
    slices = len(stack.counts["documents"])
    by_group = np.arange(slices + 1) * GROUPS
    for order, name in NAMES.items():
        sample = stack.samples[order]
        columns[f"{name}_theta"] = _lists(by_group, theta_blobs(sample).array())
        columns[f"{name}_counts"] = _lists(by_group, pack_stretches(sample.counts, sample.edges))
    columns |= {f"{name}_registers": pack_rows(stack.registers[name]) for name in SETS}
    columns |= {name: pack_rows(values) for name, values in stack.sums.items()}
    drawn = stack.drawn
    edges = drawn.edges[by_group]
    columns["excerpt_keys"] = _lists(by_group, Blobs(drawn.keys.astype("<u8").view(np.uint8), drawn.edges * 8).array())
    columns["excerpt_texts"] = _lists(edges, drawn.texts.array())
    signatures = np.ascontiguousarray(drawn.signatures, "<u4")
    columns["excerpt_signatures"] = Blobs(
        signatures.reshape(-1).view(np.uint8), edges * signatures.shape[1] * 4
    ).array()
    return [columns[field.name] for field in STATE_FIELDS]


def _lists(edges: Int64, values: pa.Array) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(edges.astype(np.int32)), values)


def _by_part(values: Int64, edges: Int64) -> Int64:
    sums = np.concatenate([[0], np.cumsum(values)])[edges]
    return np.diff(sums).astype(np.int64)


def _merged_samples(batch: pa.RecordBatch, name: str, order: Int64, sources: Int64) -> Samples:
    thetas, counts = (blobs_of(batch.column(f"{name}_{part}").flatten()) for part in ("theta", "counts"))
    return union_parts(thetas, counts, order, sources, GROUPS, SAMPLE)


def _merged_excerpts(batch: pa.RecordBatch, target: Int64, slices: int) -> Drawn:
    keys = blobs_of(batch.column("excerpt_keys").flatten())
    number = np.diff(keys.offsets) // 8  # by part of the rows
    part = np.repeat((target[:, None] * GROUPS + np.arange(GROUPS)).reshape(-1), number)
    rows = np.argsort(part, kind="stable")
    edges = np.searchsorted(part[rows], np.arange(slices * GROUPS + 1))
    texts = blobs_of(batch.column("excerpt_texts").flatten())
    signed = blobs_of(batch.column("excerpt_signatures"))
    of_row = number.reshape(-1, GROUPS).sum(axis=1)
    widths = np.unique(np.diff(signed.offsets)[of_row > 0] // (4 * of_row[of_row > 0]))
    if len(widths) > 1:
        raise ValueError(
            f"signatures of {sorted(widths.tolist())} permutations cannot be merged: sign both with the same number"
        )
    bytes_ = signed.data[signed.offsets[0] : signed.offsets[-1]]
    signatures = bytes_.view("<u4").astype(np.uint32).reshape(len(rows), int(widths.max(initial=0)))
    spread = keys.data[keys.offsets[0] : keys.offsets[-1]].view("<u8").astype(np.uint64)
    return _drawn(rows, edges, spread, texts.data, texts.offsets[:-1].copy(), texts.offsets[1:].copy(), signatures)


def _drawn(
    rows: Int64,
    edges: Int64,
    keys: npt.NDArray[np.uint64],
    data: npt.NDArray[np.uint8],
    starts: Int64,
    ends: Int64,
    signatures: npt.NDArray[np.uint32],
) -> Drawn:
    """The excerpts of each part: those of its rows with the least keys."""
    chosen = np.empty(int(np.minimum(np.diff(edges), EXCERPTS).sum()), np.int64)
    found = np.zeros(len(edges), np.int64)
    _draw(rows, edges, keys, data, starts, ends, np.ascontiguousarray(signatures), EXCERPTS, chosen, found)
    return Drawn(keys[chosen], gather(data, starts[chosen], ends[chosen]), signatures[chosen], found)


@numba.njit(cache=True, nogil=True)
def _cuts(data, starts, ends, cuts):  # type: ignore[no-untyped-def]
    """Where the excerpt of each text ends: no character of UTF-8 is cut in two."""
    for row in range(len(starts)):
        at = ends[row]
        if at - starts[row] > EXCERPT_BYTES:
            at = starts[row] + EXCERPT_BYTES
            while at > starts[row] and data[at] & 0xC0 == 0x80:
                at -= 1
        cuts[row] = at


@numba.njit(cache=True, nogil=True)
def _add_outer(embeddings, rows, edges, outer):  # type: ignore[no-untyped-def]
    """Adds x xᵀ of each document to that of its part: the upper half, row after row."""
    vector = np.empty(DIMENSIONS, np.int64)
    for part in range(len(edges) - 1):
        sums = outer[part]
        for row in rows[edges[part] : edges[part + 1]]:
            vector[:] = embeddings[row]
            at = 0
            for i in range(DIMENSIONS):
                length = DIMENSIONS - i
                if vector[i] != 0:
                    for j in range(length):
                        sums[at + j] += vector[i] * vector[i + j]
                at += length


@numba.njit(cache=True, nogil=True)
def _draw(rows, edges, keys, data, starts, ends, signatures, most, chosen, found):  # type: ignore[no-untyped-def]
    """Fills ``chosen`` with rows and ``found`` with the edges of each part's."""
    least = np.empty(most + 1, np.int64)
    for part in range(len(edges) - 1):
        size = 0
        for row in rows[edges[part] : edges[part + 1]]:
            at = size
            while at > 0 and _before(row, least[at - 1], keys, data, starts, ends, signatures):
                least[at] = least[at - 1]
                at -= 1
            least[at] = row
            size = min(size + 1, most)
        first = found[part]
        chosen[first : first + size] = least[:size]
        found[part + 1] = first + size


@numba.njit(cache=True, nogil=True)
def _before(one, other, keys, data, starts, ends, signatures):  # type: ignore[no-untyped-def]
    """By key. Two documents of one key are told apart by what they say, so that every merge orders them alike."""
    if keys[one] != keys[other]:
        return keys[one] < keys[other]
    lengths = ends[one] - starts[one], ends[other] - starts[other]
    for i in range(min(lengths[0], lengths[1])):
        a, b = data[starts[one] + i], data[starts[other] + i]
        if a != b:
            return a < b
    if lengths[0] != lengths[1]:
        return lengths[0] < lengths[1]
    for i in range(signatures.shape[1]):
        a, b = signatures[one, i], signatures[other, i]
        for shift in range(0, 32, 8):  # in the order of their bytes
            low, high = (a >> np.uint32(shift)) & np.uint32(0xFF), (b >> np.uint32(shift)) & np.uint32(0xFF)
            if low != high:
                return low < high
    return False
