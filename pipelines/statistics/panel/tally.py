"""The panel's states of a pack of documents, one a slice, and how packs' states become a crawl's.

Slices are month × language and host class × language, each before and after the cut-off::

    rules = PanelRules(cutoff=datetime(2022, 11, 30, tzinfo=UTC))
    panel = merge_panel(tally_panel(pack, rules) for pack in documents)
    for cell, state in states(panel):
        ...

Any sharding of the same documents, in any order, gives the same table, byte for byte.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.records import Place
from pipelines.statistics.host_class import host_classes
from pipelines.statistics.panel.encode import EXCERPT_FIELDS, STATE_FIELDS, hll_of_registers, state_of_row
from pipelines.statistics.panel.stack import Stack, columns_of, count, merge, with_excerpts
from pipelines.statistics.panel.state import GROUPS, NO_SIGNATURE, SETS, State, describe
from pipelines.statistics.tally import UNDETERMINED_LANGUAGE, month_of, one_chunk, signature_matrix

COLUMNS = ["doc_id", "captured_at", "host", "language", "place", "text", "text_sha256", "signature"]
BEFORE, AFTER = "before", "after"

_PENDING = 1 << 26  # bytes of tables that wait to be merged
_AT_ONCE = 64  # cells in memory without their packing, of some 300 kB each


@dataclass(frozen=True)
class PanelRules:
    """What the slices hang on: documents captured before ``cutoff`` are "before", all others "after".

    ``host_classes`` gives the class of each host (a string array; hosts may be null).
    """

    cutoff: datetime
    host_classes: Callable[[pa.Array], pa.Array] = host_classes


class Cell(NamedTuple):
    """Which slice a state is of. None stands for all."""

    family: str  # "month" or "host_class"
    month: str | None  # YYYY-MM, or "unknown"
    host_class: str | None
    language: str
    period: str


CELL_FIELDS = [
    pa.field("family", pa.string(), nullable=False),
    pa.field("month", pa.string()),  # YYYY-MM, or "unknown"; null in the family of host classes
    pa.field("host_class", pa.string()),  # null in the family of months
    pa.field("language", pa.string(), nullable=False),
    pa.field("period", pa.string(), nullable=False),
]
PANEL = pa.schema([*CELL_FIELDS, *STATE_FIELDS])


def tally_panel(table: pa.Table, rules: PanelRules) -> pa.Table:
    """The states of a pack's slices, of schema :data:`PANEL`, ordered by cell.

    Duplicates are left out, and so are documents whose language is not known: nothing is comparable across languages.

    Args:
        table: one row a document, with :data:`COLUMNS`: ``doc_id`` (16 bytes), ``captured_at``, ``host``, ``language``,
            ``place``, ``text``, ``text_sha256`` (32 bytes) and ``signature`` (uint32 a permutation, or null).
        rules: the cut-off and the classes of hosts.
    """
    table = table.select(COLUMNS)
    known = pc.and_(pc.is_valid(table["language"]), pc.not_equal(table["language"], UNDETERMINED_LANGUAGE))
    kept = np.flatnonzero(pc.and_kleene(known, pc.not_equal(table["place"], str(Place.DUPLICATES))).to_numpy())
    if not len(kept):
        return PANEL.empty_table()
    # By language, so that each language's words lie together.
    order = pc.sort_indices(table["language"].take(pa.array(kept))).to_numpy()
    table = table.take(pa.array(kept[order])).combine_chunks()
    language = _strings(table["language"])
    documents = describe(
        one_chunk(table["text"].cast(pa.large_string())),
        _first_eight(table["doc_id"]),
        _first_eight(table["text_sha256"]),
        _signatures(table["signature"]),
        language,
    )
    cutoff = pa.scalar(rules.cutoff.astimezone(UTC), pa.timestamp("us", tz="UTC"))
    before = pc.fill_null(pc.less(one_chunk(table["captured_at"]), cutoff), False)
    period = pc.if_else(before, BEFORE, AFTER)
    families = {
        "month": month_of(table["captured_at"]),
        "host_class": _strings(rules.host_classes(_strings(table["host"]))),
    }
    cells: dict[Cell, npt.NDArray[np.int64]] = {}
    for family, values in families.items():
        for (value, code, when), members in _members([values, language, period]):
            month, host_class = (value, None) if family == "month" else (None, value)
            cells[Cell(family, month, host_class, code, when)] = members
    described, group = with_excerpts(documents), (documents.keys % np.uint64(GROUPS)).astype(np.int64)
    batches = []
    for some in _batches(sorted(cells, key=_order)):
        rows = np.concatenate([cells[cell] for cell in some])
        part = np.repeat(np.arange(len(some)) * GROUPS, [len(cells[cell]) for cell in some]) + group[rows]
        together = np.argsort(part, kind="stable")
        edges = np.searchsorted(part[together], np.arange(len(some) * GROUPS + 1))
        batches.append(_batch(some, count(described, rows[together], edges)))
    return pa.Table.from_batches(batches, PANEL)


def merge_panel(tables: Iterable[pa.Table]) -> pa.Table:
    """One table out of those of several packs, of schema :data:`PANEL`. Exact: any sharding and order, the same bytes.

    ``tables`` may be a generator: at most about three times what comes out is held, or a few packs' tables.
    """
    merged = PANEL.empty_table()
    pending: list[pa.Table] = []
    for table in tables:
        pending.append(table)
        # As much again as there is already, so that each cell is merged a few times only.
        if sum(one.nbytes for one in pending) > max(_PENDING, merged.nbytes):
            merged, pending = _merged([merged, *pending]), []
    return _merged([merged, *pending])


def states(panel: pa.Table) -> Iterator[tuple[Cell, State]]:
    """The slices of a table of :data:`PANEL` (or of :func:`without_texts`), one at a time."""
    fields = [field.name for field in CELL_FIELDS]
    for batch in panel.to_batches(max_chunksize=_AT_ONCE):
        for row in batch.to_pylist():
            yield Cell(*(row[name] for name in fields)), state_of_row(row)


def cells_of(panel: pa.Table) -> list[Cell]:
    """Which slice each row is of."""
    return list(itertools.starmap(Cell, zip(*(panel[field.name].to_pylist() for field in CELL_FIELDS), strict=True)))


def rows_of(table: pa.Table, rows: npt.NDArray[np.int64]) -> pa.Table:
    """Ascending rows, not copied where they lie together, as in tables ordered by cell they do."""
    if not len(rows) or rows[-1] - rows[0] == len(rows) - 1:
        return table.slice(int(rows[0]) if len(rows) else 0, len(rows))
    return table.take(pa.array(rows))


def merge_cells(panel: pa.Table, cell: Cell) -> pa.Table:
    """One row, of this cell, out of all rows of a table of :data:`PANEL`; there must be one."""
    (batch,) = panel.combine_chunks().to_batches()
    return pa.Table.from_batches([_batch([cell], merge(batch, np.zeros(panel.num_rows, np.int64), 1))], PANEL)


def without_texts(panel: pa.Table) -> pa.Table:
    """The same table without any text, for others to read and to compare later crawls with.

    ``words_theta`` and ``trigrams_theta`` are lists of compact Theta sketches, one a random group of documents
    (``datasketches.compact_theta_sketch.deserialize``; their union is the slice's); ``documents_hll`` and
    ``trigrams_hll`` are HLL_8 sketches, lgK 12 (``datasketches.hll_sketch.deserialize``). What went into them are
    64-bit hashes of n-grams and texts. The other columns are as :func:`pipelines.statistics.panel.encode.pack` says;
    excerpts, their keys and their signatures are left out.
    """
    kept = panel.drop_columns([field.name for field in EXCERPT_FIELDS])
    for name in SETS:
        at = kept.schema.get_field_index(f"{name}_registers")
        images = [hll_of_registers(packed) for packed in kept.column(at).to_pylist()]
        field = pa.field(f"{name}_hll", pa.large_binary(), nullable=False)
        kept = kept.set_column(at, field, pa.array(images, pa.large_binary()))
    return kept


def _merged(tables: Sequence[pa.Table]) -> pa.Table:
    rows: dict[Cell, list[tuple[int, int]]] = {}
    for number, table in enumerate(tables):
        for at, cell in enumerate(cells_of(table)):
            rows.setdefault(cell, []).append((number, at))
    batches = []
    for some in _batches(sorted(rows, key=_order)):
        places = np.array([(slot, *place) for slot, cell in enumerate(some) for place in rows[cell]], np.int64)
        places = places[np.lexsort((places[:, 2], places[:, 1]))]
        parts = [rows_of(table, places[places[:, 1] == number, 2]) for number, table in enumerate(tables)]
        (batch,) = pa.concat_tables(parts).combine_chunks().to_batches()
        batches.append(_merged_batch(some, batch, places[:, 0]))
    return pa.Table.from_batches(batches, PANEL)


def _merged_batch(cells: Sequence[Cell], batch: pa.RecordBatch, slot: npt.NDArray[np.int64]) -> pa.RecordBatch:
    """Out of a batch of rows, each of the cell ``slot``: merged where there are several, else as they are."""
    several = np.bincount(slot, minlength=len(cells)) > 1
    if not several.any():
        return batch.take(pa.array(np.argsort(slot)))
    multiple = np.flatnonzero(several[slot])
    names = np.flatnonzero(several)
    stack = merge(batch.take(pa.array(multiple)), np.searchsorted(names, slot[multiple]), len(names))
    single = np.flatnonzero(~several[slot])
    both = pa.Table.from_batches(
        [batch.take(pa.array(single)), _batch([cells[i] for i in names.tolist()], stack)], PANEL
    )
    order = np.argsort(np.concatenate([slot[single], names]))
    return both.combine_chunks().take(pa.array(order)).to_batches()[0]


def _batches(cells: Sequence[Cell]) -> Iterator[Sequence[Cell]]:
    return (cells[at : at + _AT_ONCE] for at in range(0, len(cells), _AT_ONCE))


def _batch(cells: Sequence[Cell], stack: Stack) -> pa.RecordBatch:
    keys = [pa.array(values, pa.string()) for values in zip(*cells, strict=True)]
    return pa.RecordBatch.from_arrays([*keys, *columns_of(stack)], schema=PANEL)


def _order(cell: Cell) -> tuple[str, ...]:
    return tuple(part or "" for part in cell)


def _members(keys: list[pa.Array]) -> Iterator[tuple[tuple[str, ...], npt.NDArray[np.int64]]]:
    """The rows of each combination of values."""
    names = [f"{i}" for i in range(len(keys))]
    table = pa.table([*keys, pa.array(np.arange(len(keys[0])))], names=[*names, "row"])
    grouped = table.group_by(names, use_threads=False).aggregate([("row", "list")])
    combinations = zip(*(grouped[name].to_pylist() for name in names), strict=True)
    for combination, rows in zip(combinations, grouped["row_list"], strict=True):
        yield combination, rows.values.to_numpy()


def _signatures(column: pa.ChunkedArray) -> npt.NDArray[np.uint32]:
    signatures = signature_matrix(column)
    missing = np.flatnonzero(column.is_null().to_numpy())
    if len(missing):
        signatures = signatures.copy()
        signatures[missing] = NO_SIGNATURE
    return signatures


def _first_eight(column: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """The first 8 bytes of each value of a fixed-width binary column, as a little-endian number."""
    return signature_matrix(column).view("<u8")[:, 0].astype(np.uint64)


def _strings(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    return one_chunk(column).cast(pa.string())
