"""Where the texts behind signatures lie, for the pairs that only their shingle sets can decide.

A unit of signatures (a part of a shard, some row groups of a file, a part of an earlier output) names its texts by one
of these; row i of the signatures belongs to text i.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines import files

_HOLDERS = pa.schema([pa.field("doc_id", pa.string()), pa.field("text", pa.large_string())])
_ROWS = 4096  # some 10 MB of text: what is held beside the texts that are wanted


class TextColumn(NamedTuple):
    """The texts of some row groups of a Parquet file, from ``first`` up to ``last`` (None: to the end)."""

    path: str
    column: str = "text"
    first: int = 0
    last: int | None = None

    def read(self, rows: npt.NDArray[np.int64]) -> pa.LargeStringArray:
        """The texts of rows, which ascend and are counted from the first row group's first row."""
        with files.open_read(self.path) as stream, pq.ParquetFile(stream) as file:
            groups = range(self.first, file.num_row_groups if self.last is None else self.last)
            sizes = [file.metadata.row_group(group).num_rows for group in groups]
            begins = np.concatenate([[0], np.cumsum(sizes)])
            wanted = [g for i, g in enumerate(groups) if np.diff(np.searchsorted(rows, begins[i : i + 2]))[0]]
            pieces = []
            for group in wanted:
                at = int(begins[group - self.first])
                for batch in file.iter_batches(_ROWS, row_groups=[group], columns=[self.column], use_threads=False):
                    here = rows[slice(*np.searchsorted(rows, [at, at + batch.num_rows]))] - at
                    pieces.append(batch.column(0).cast(pa.large_string()).take(pa.array(here)))
                    at += batch.num_rows
        return pa.concat_arrays([pa.array([], pa.large_string()), *pieces])


class ArchivedTexts(NamedTuple):
    """The texts of one part of a finished output: ``documents`` names them, ``parts`` hold their texts."""

    documents: str
    parts: tuple[str, ...]

    def read(self, rows: npt.NDArray[np.int64]) -> pa.LargeStringArray:
        """The texts of rows of ``documents``, which ascend; null where no part holds it any more."""
        wanted = files.read_parquet(self.documents, ["doc_id"])["doc_id"].take(pa.array(rows)).to_pylist()
        names = pa.array([doc_id.hex() for doc_id in wanted], pa.string())
        found = pa.concat_tables([_holders(path, names) for path in self.parts])
        return found["text"].take(pc.index_in(names, found["doc_id"])).combine_chunks()


def _holders(path: str, names: pa.StringArray) -> pa.Table:
    """The rows of one output file that hold the text of one of the documents named: ``doc_id``, ``text``."""
    pieces = [_HOLDERS.empty_table()]
    with files.open_read(path) as stream, pq.ParquetFile(stream) as file:
        # A text that repeated paragraphs were cut from is not the one that was signed.
        cut = [name for name in file.schema_arrow.names if name == "whole_text_sha256"]
        for batch in file.iter_batches(_ROWS, columns=[*_HOLDERS.names, *cut], use_threads=False):
            kept = pc.and_(pc.is_in(batch.column("doc_id"), names), pc.is_valid(batch.column("text")))
            for name in cut:
                kept = pc.and_(kept, pc.is_null(batch.column(name)))
            pieces.append(pa.Table.from_batches([batch.filter(kept)]).select(_HOLDERS.names).cast(_HOLDERS))
    return pa.concat_tables(pieces)


Texts = TextColumn | ArchivedTexts
