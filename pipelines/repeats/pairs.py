"""The kernel of counting: which paragraphs stand on how many hosts. Numpy in, numpy out, no Beam.

Each shard reduces its paragraphs to distinct pairs of paragraph and host (:func:`pairs_of`). Pairs meet by hash range,
where :func:`recurring_of` counts, exactly, the different hosts of each paragraph.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.repeats.paragraphs import Paragraphs

Packed = npt.NDArray[Any]  # a structured array

# What inspect stages: every paragraph that is looked at, in the order of the shard's documents.
PARAGRAPHS = pa.schema(
    [
        pa.field("paragraph", pa.uint64(), nullable=False),  # its hash
        pa.field("host", pa.uint64(), nullable=False),  # the hash of the page's host
        pa.field("row", pa.int32(), nullable=False),  # row in the shard's staged documents, ascending
        pa.field("bytes", pa.int32(), nullable=False),
    ]
)

# What counting gives back: one file a shard, the paragraphs of that shard's documents that recur anywhere.
RECURRING = pa.schema(
    [
        pa.field("paragraph", pa.uint64(), nullable=False),  # ascending
        pa.field("hosts", pa.int64(), nullable=False),
        pa.field("documents", pa.int64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),  # of all its occurrences
    ]
)

PAIR = np.dtype([("paragraph", "<u8"), ("host", "<u8"), ("documents", "<u4"), ("bytes", "<u4")])
COUNTED = np.dtype([("paragraph", "<u8"), ("hosts", "<i8"), ("documents", "<i8"), ("bytes", "<i8")])


def staged_paragraphs(found: Paragraphs, hosts: npt.NDArray[np.uint64], first_row: int) -> pa.RecordBatch:
    """The paragraphs of one batch of documents as :data:`PARAGRAPHS`.

    Args:
        found: the paragraphs of n texts.
        hosts: uint64[n], the hashes of their hosts.
        first_row: the row of the first text in the shard.
    """
    columns = [found.hash, hosts[found.row], (found.row + first_row).astype(np.int32), found.end - found.begin]
    arrays = [pa.array(column).cast(field.type) for column, field in zip(columns, PARAGRAPHS, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=PARAGRAPHS)


def pairs_of(staged: pa.Table, removed: npt.NDArray[np.int32]) -> Packed:
    """The distinct pairs (:data:`PAIR`) of one shard, by paragraph and host.

    ``removed`` are the rows of documents that leave as copies: a story that forty papers print is no boilerplate.
    """
    columns = {field.name: staged[field.name].to_numpy() for field in PARAGRAPHS}
    stay = np.ones(int(columns["row"].max(initial=-1)) + 1, bool)
    stay[removed[removed < len(stay)]] = False
    here = np.flatnonzero(stay[columns["row"]])
    # Rows ascend already, and the sort is stable.
    order = here[np.lexsort((columns["host"][here], columns["paragraph"][here]))]
    paragraph, host, row = (columns[name][order] for name in ("paragraph", "host", "row"))
    begins = _begins(paragraph, host)
    new_document = _changes(paragraph, host, row)
    pairs = np.empty(len(begins), PAIR)
    pairs["paragraph"], pairs["host"] = paragraph[begins], host[begins]
    pairs["documents"] = _sums(new_document, begins)
    pairs["bytes"] = np.minimum(_sums(columns["bytes"][order], begins), np.iinfo(np.uint32).max)
    return pairs


def recurring_of(pairs: Packed, hosts: int) -> Packed:
    """The paragraphs (:data:`COUNTED`, ascending) on at least so many different hosts.

    ``pairs`` are those of all shards in one range of hashes, in any order.
    """
    order = np.argsort(pairs["paragraph"])
    # Fewer pairs than hosts: most of the web ends here, before the dearer sort.
    begins = _begins(pairs["paragraph"][order])
    sizes = np.diff(np.append(begins, len(pairs)))
    order = order[np.repeat(sizes >= hosts, sizes)]
    pairs = pairs[order]
    pairs = pairs[np.lexsort((pairs["host"], pairs["paragraph"]))]
    begins = _begins(pairs["paragraph"])
    counted = np.empty(len(begins), COUNTED)
    counted["paragraph"] = pairs["paragraph"][begins]
    counted["hosts"] = _sums(_changes(pairs["paragraph"], pairs["host"]), begins)
    counted["documents"] = _sums(pairs["documents"], begins)
    counted["bytes"] = _sums(pairs["bytes"], begins)
    return counted[counted["hosts"] >= hosts]


def largest(counted: Packed, most: int) -> Packed:
    """The paragraphs with the most bytes, the largest first; by hash where they have as many."""
    return counted[np.lexsort((counted["paragraph"], -counted["bytes"]))[:most]]


def by_range(packed: Packed, ranges: int) -> Iterator[tuple[int, Packed]]:
    """Cuts records that ascend by ``paragraph`` into equal stretches of all hashes; empty ones are left out."""
    width = -(-(1 << 64) // ranges)
    borders = [np.uint64(width * i) for i in range(1, ranges)]
    cuts = np.searchsorted(packed["paragraph"], np.array(borders, np.uint64))
    for number, piece in enumerate(np.split(packed, cuts)):
        if len(piece):
            yield number, piece


def recurring_table(counted: Packed) -> pa.Table:
    """As :data:`RECURRING`, in the order given."""
    return pa.table({field.name: np.ascontiguousarray(counted[field.name]) for field in RECURRING}, schema=RECURRING)


def _changes(*columns: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Where a row of sorted columns differs from the one before; the first does."""
    changed = np.ones(len(columns[0]), bool)
    if len(changed):
        changed[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    return changed


def _begins(*columns: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    return np.flatnonzero(_changes(*columns))


def _sums(values: npt.NDArray[Any], begins: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The sum of each stretch that begins at one of ``begins``."""
    return np.asarray(np.add.reduceat(values.astype(np.int64), begins) if len(begins) else begins, np.int64)
