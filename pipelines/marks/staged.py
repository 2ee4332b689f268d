"""What inspect stages of the watermark tests, and what comes back: the schemas, and the way from texts to rows.

::

    texts ─▶ Scanner ─▶ MARKS, a row a document ─▶ correction over the crawl ─▶ FOUND, a row a site and key ─▶ evidence
"""

from __future__ import annotations

from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from watermark.scan import Found, Scanner

_SEGMENT = 80  # characters; longer ones are identifiers, and no two documents share them


def marks_schema(families: int) -> pa.Schema:
    """Row i belongs to row i of the shard's staged documents. Lists have an item for each key of the registry."""
    return pa.schema(
        [
            pa.field("host", pa.string()),
            pa.field("section", pa.string()),  # first segment of the URL's path; null where it has no other
            pa.field("log_p", pa.list_(pa.float64()), nullable=False),  # natural logarithm, for each key
            pa.field("scored", pa.list_(pa.int32()), nullable=False),  # tokens that counted
            pa.field("first", pa.list_(pa.int32()), nullable=False),  # token at which the most telling stretch begins
            pa.field("last", pa.list_(pa.int32()), nullable=False),  # and behind which it ends; -1: the whole text
            *(pa.field(f"windows_{i}", pa.large_binary(), nullable=False) for i in range(families)),  # int32, packed
        ]
    )


def staged_marks(scanner: Scanner, staged: pa.RecordBatch, samples: bool) -> pa.RecordBatch:
    """The rows of one batch of `records.STAGED`; without ``samples`` no site can be tested."""
    texts: list[str] = staged.column("text").to_pylist()
    found = scanner.scan(texts, staged.column("host").to_pylist() if samples else None)
    columns = [
        staged.column("host"),
        pa.array([section_of(url) for url in staged.column("url").to_pylist()], pa.string()),
        _lists(found.log_p, pa.float64()),
        *(_lists(part.astype(np.int32), pa.int32()) for part in (found.scored, *np.moveaxis(found.stretch, 2, 0))),
    ]
    empty = pa.array([b""] * len(texts), pa.large_binary())
    for family in range(len(scanner.families)):
        columns.append(_packed(found, family) if samples else empty)
    return pa.RecordBatch.from_arrays(columns, schema=marks_schema(len(scanner.families)))


def matrix(column: pa.ChunkedArray | pa.Array, keys: int) -> npt.NDArray[np.float64] | npt.NDArray[np.int32]:
    """A list column with an item for each key as [rows, keys]."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    values: npt.NDArray[np.float64] = whole.flatten().to_numpy()
    return values.reshape(-1, keys)


def section_of(url: str | None) -> str | None:
    """The first segment of a URL's path, where more follows it: what a section of a site is told by.

    >>> section_of("https://a.example/news/2026/1.html"), section_of("https://a.example/about")
    ('news', None)
    """
    if not url:
        return None
    try:
        path = urlsplit(url).path
    except ValueError:
        return None
    first, slash, rest = path.lstrip("/").partition("/")
    return first if slash and rest and len(first) <= _SEGMENT else None


def _lists(values: npt.NDArray[np.float64] | npt.NDArray[np.int32], kind: pa.DataType) -> pa.ListArray:
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(offsets, pa.array(values.ravel(), kind))


def _packed(found: Found, family: int) -> pa.LargeBinaryArray:
    windows, starts = found.samples[family]
    data = np.ascontiguousarray(windows, "<i4")
    offsets = starts * (4 * windows.shape[1])
    buffers = [None, pa.py_buffer(offsets.astype(np.int64)), pa.py_buffer(data)]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(starts) - 1, buffers)
