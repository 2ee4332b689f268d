"""What `settle` counts of repeated paragraphs in one pack, and how the counts of packs merge. No Beam."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.repeats.paragraphs import Paragraphs
from pipelines.repeats.trim import Trimmed

_SAMPLE_BYTES = 300

# How much recurs, and how much of it was cut. `paragraphs` and `bytes` are those that recur in these documents; in mode
# 'trim' all of them are cut but for those of `documents_whole`.
SHARES = pa.schema(
    [
        pa.field("place", pa.string(), nullable=False),
        pa.field("language", pa.string()),
        pa.field("documents", pa.int64(), nullable=False),
        pa.field("text_bytes", pa.int64(), nullable=False),  # before anything is cut
        pa.field("documents_repeating", pa.int64(), nullable=False),  # with a recurring paragraph at least
        pa.field("documents_whole", pa.int64(), nullable=False),  # of these: nothing else would be left
        pa.field("paragraphs", pa.int64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("paragraphs_cut", pa.int64(), nullable=False),  # 0 in mode 'count'
        pa.field("bytes_cut", pa.int64(), nullable=False),  # with the line breaks around them
    ]
)

# The text of a recurring paragraph as one document writes it.
SAMPLES = pa.schema(
    [
        pa.field("paragraph", pa.uint64(), nullable=False),
        pa.field("doc_id", pa.binary(16), nullable=False),
        pa.field("text", pa.string(), nullable=False),
    ]
)

# The largest recurring paragraphs: `statistics/repeats.parquet`.
REPEATS = pa.schema(
    [
        pa.field("paragraph", pa.string(), nullable=False),  # its hash, 16 hex digits
        pa.field("hosts", pa.int64(), nullable=False),
        pa.field("documents", pa.int64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),  # of all its occurrences
        pa.field("text", pa.string()),  # its beginning, as the document with the smallest doc_id writes it
    ]
)


def tally_shares(
    place: pa.Array,
    language: pa.Array,
    texts: pa.LargeStringArray,
    found: Paragraphs,
    repeated: npt.NDArray[np.bool_],
    trimmed: Trimmed,
    cut: bool,
) -> pa.Table:
    """The counts of n documents as :data:`SHARES`; ``cut`` says whether the trimmed texts are what is written."""
    rows = len(texts)
    paragraphs = np.bincount(found.row[repeated], minlength=rows)
    size = np.bincount(found.row[repeated], (found.end - found.begin)[repeated], minlength=rows).astype(np.int64)
    columns = {
        "place": place,
        "language": language,
        "documents": np.ones(rows, np.int64),
        "text_bytes": pc.fill_null(pc.binary_length(texts), 0).cast(pa.int64()),
        "documents_repeating": (paragraphs > 0).astype(np.int64),
        "documents_whole": trimmed.whole.astype(np.int64),
        "paragraphs": paragraphs,
        "bytes": size,
        "paragraphs_cut": trimmed.paragraphs * cut,
        "bytes_cut": trimmed.bytes * cut,
    }
    return merge_shares([pa.table(columns, schema=SHARES)])


def merge_shares(tables: Sequence[pa.Table]) -> pa.Table:
    """The counts of several packs as one table, by place and language."""
    keys, counts = SHARES.names[:2], SHARES.names[2:]
    merged = pa.concat_tables(tables).group_by(keys, use_threads=False).aggregate([(name, "sum") for name in counts])
    merged = merged.rename_columns([name.removesuffix("_sum") for name in merged.column_names])
    return merged.select(SHARES.names).sort_by([(name, "ascending") for name in keys]).cast(SHARES).combine_chunks()


def sample_texts(
    doc_ids: pa.FixedSizeBinaryArray, texts: pa.LargeStringArray, found: Paragraphs, wanted: npt.NDArray[np.uint64]
) -> pa.Table:
    """The beginning of each wanted paragraph (uint64, any order) that is found, as :data:`SAMPLES`."""
    at = np.flatnonzero(np.isin(found.hash, wanted))
    ids = doc_ids.take(pa.array(found.row[at]))
    columns = [pa.array(found.hash[at]), ids, pa.array(at)]
    first = _first(pa.table(columns, names=["paragraph", "doc_id", "at"]), "at")
    samples = [_sample(texts, found, i) for i in first["at"].to_pylist()]
    return pa.table([first["paragraph"], first["doc_id"], pa.array(samples, pa.string())], schema=SAMPLES)


def merge_samples(tables: Sequence[pa.Table]) -> pa.Table:
    """The samples of several packs as one table: of each paragraph, the document with the smallest doc_id."""
    return _first(pa.concat_tables(tables), "text")


def repeats_table(largest: pa.Table, samples: pa.Table) -> pa.Table:
    """The table for people (:data:`REPEATS`), the paragraph with the most bytes first.

    Args:
        largest: what :class:`pipelines.repeats.count.CountRepeats` wrote, in its order.
        samples: merged, of :data:`SAMPLES`.
    """
    at = pc.index_in(largest["paragraph"], samples["paragraph"])
    columns = {name: largest[name] for name in ("hosts", "documents", "bytes")}
    columns["paragraph"] = pa.array([f"{value:016x}" for value in largest["paragraph"].to_pylist()], pa.string())
    columns["text"] = samples["text"].take(at)
    return pa.table({name: columns[name] for name in REPEATS.names}, schema=REPEATS).combine_chunks()


def _first(table: pa.Table, tie: str) -> pa.Table:
    """The first row of each paragraph by `doc_id`, then by another column."""
    table = table.sort_by([(name, "ascending") for name in ("paragraph", "doc_id", tie)])
    values = table["paragraph"].to_numpy()
    first = np.ones(len(values), bool)
    first[1:] = values[1:] != values[:-1]
    return table.filter(pa.array(first))


def _sample(texts: pa.LargeStringArray, found: Paragraphs, index: int) -> str:
    text: bytes = texts[int(found.row[index])].as_buffer()[found.begin[index] : found.end[index]].to_pybytes()
    shown = text[:_SAMPLE_BYTES].decode("utf-8", "ignore").strip()
    return shown + (" …" if len(text) > _SAMPLE_BYTES else "")
