"""What `settle` does about repeated paragraphs in one pack: it counts them, and cuts them where the job says so."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.records import SHA256, Place
from pipelines.repeats.options import Repeats
from pipelines.repeats.paragraphs import paragraphs
from pipelines.repeats.tally import sample_texts, tally_shares
from pipelines.repeats.trim import Trimmed, recurring, trim


class RepeatPart(NamedTuple):
    """Documents as they are to be written, and the counts of :mod:`pipelines.repeats.tally`."""

    judged: pa.Table
    shares: pa.Table
    samples: pa.Table


def repeat_part(
    judged: pa.Table, options: Repeats, hashes: npt.NDArray[np.uint64], wanted: npt.NDArray[np.uint64]
) -> RepeatPart:
    """Counts the recurring paragraphs of the documents that stay, and in mode 'trim' cuts them.

    Args:
        judged: what :func:`pipelines.reserve.writer.judge` gave. Where a text is cut, `text_sha256` is that of the new
            text and `whole_text_sha256` that of the old one; no other column and no other row changes.
        options: the job's; not mode 'off'.
        hashes: uint64, ascending, the paragraphs that recur, of all shards of the pack at least.
        wanted: uint64, the paragraphs to give samples of.
    """
    stays = np.flatnonzero(pc.not_equal(judged["place"], Place.DUPLICATES.value).to_numpy())
    rows = judged.select(["doc_id", "place", "language", "text"]).take(pa.array(stays)).combine_chunks()
    doc_id, place, language, texts = (_whole(rows[name]) for name in rows.column_names)
    found = paragraphs(texts, options.letters)
    repeated = recurring(found, hashes)
    trimmed = trim(texts, found, repeated)
    cut = options.mode == "trim"
    shares = tally_shares(place, language, texts, found, repeated, trimmed, cut)
    samples = sample_texts(doc_id, texts, found, wanted)
    return RepeatPart(_with(judged, stays, trimmed) if cut else judged, shares, samples)


def _with(judged: pa.Table, stays: npt.NDArray[np.int64], trimmed: Trimmed) -> pa.Table:
    """The table with the texts that were cut; ``stays`` are the rows that ``trimmed`` is about."""
    changed = np.flatnonzero(trimmed.paragraphs)
    if not len(changed):
        return judged
    texts = trimmed.texts.take(pa.array(changed))
    digests = pa.array([hashlib.sha256(text.as_buffer()).digest() for text in texts], SHA256)
    at = np.arange(judged.num_rows)
    at[stays[changed]] = judged.num_rows + np.arange(len(changed))
    new = {name: _replaced(judged[name], column, at) for name, column in (("text", texts), ("text_sha256", digests))}
    new["whole_text_sha256"] = pc.if_else(at >= judged.num_rows, judged["text_sha256"], pa.scalar(None, SHA256))
    for name, column in new.items():
        judged = judged.set_column(judged.schema.get_field_index(name), name, column)
    return judged


def _replaced(column: pa.ChunkedArray, others: pa.Array, at: npt.NDArray[np.int64]) -> pa.ChunkedArray:
    return pa.chunked_array([*column.chunks, others], column.type).combine_chunks().take(pa.array(at))


def _whole(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole
