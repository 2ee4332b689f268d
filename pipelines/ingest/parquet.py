"""Parquet → documents, row group by row group and only the columns that are needed. ``record_offset`` is the row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.ingest.batches import BatchBuilder, Ingested
from pipelines.ingest.jsonl import add_text
from pipelines.ingest.options import Ingest
from pipelines.records import TIMESTAMP, Reason

_ROWS = 1024


def read_parquet(stream: BinaryIO, options: Ingest, batch: BatchBuilder) -> Iterator[Ingested]:
    """Adds each row's document or reject to ``batch``, and yields the batch whenever it is full.

    A row group that cannot be read is one reject, whose detail says how many rows it holds. ``stream`` can seek.
    """
    try:
        file = pq.ParquetFile(stream)
        schema = file.schema_arrow
    except (pa.ArrowException, OSError) as error:
        stream.seek(-4, 2)
        reason = Reason.DAMAGED if stream.read(4) == b"PAR1" else Reason.TRUNCATED
        batch.reject(0, None, reason, f"the Parquet footer cannot be read: {error}")
        return
    columns = options.columns
    text = _first_present(schema, columns.text)
    if text is None or not _is_text(schema.field(text).type):
        yield from _reject_rows(file.metadata.num_rows, _missing(schema, text, columns.text), batch)
        return
    url = _first_present(schema, columns.url)
    captured_at = _first_present(schema, columns.captured_at)
    first_row = 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        done = 0
        try:
            wanted = [name for name in (text, url, captured_at) if name is not None]
            for part in file.iter_batches(_ROWS, row_groups=[group], columns=wanted):
                _add_rows(part, first_row + done, (text, url, captured_at), options, batch)
                done += part.num_rows
                if batch.full:
                    yield batch.take()
        except (pa.ArrowException, OSError) as error:
            detail = f"{rows - done} rows of row group {group} cannot be read: {error}"
            batch.reject(first_row + done, None, Reason.DAMAGED, detail)
        first_row += rows


def _first_present(schema: pa.Schema, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if schema.get_field_index(name) >= 0), None)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _missing(schema: pa.Schema, text: str | None, names: tuple[str, ...]) -> str:
    if text is not None:
        return f"column {text} is of type {schema.field(text).type}, not text"
    return f"no text under {', '.join(names)}; the columns are: {', '.join(schema.names[:20])}"


def _reject_rows(rows: int, detail: str, batch: BatchBuilder) -> Iterator[Ingested]:
    for row in range(rows):
        batch.reject(row, None, Reason.MISSING_COLUMN, detail)
        if batch.full:
            yield batch.take()


def _add_rows(
    part: pa.RecordBatch,
    first_row: int,
    names: tuple[str, str | None, str | None],
    options: Ingest,
    batch: BatchBuilder,
) -> None:
    urls, times = (None if name is None else part.column(name) for name in names[1:])
    url_list = [None] * part.num_rows if urls is None or not _is_text(urls.type) else urls.to_pylist()
    time_list = [None] * part.num_rows if times is None else _times(times)
    for row, (text, url, when) in enumerate(
        zip(part.column(names[0]).to_pylist(), url_list, time_list, strict=True), first_row
    ):
        url = _string(url) or None
        if text is None:
            batch.reject(row, url, Reason.NO_TEXT, "null")
        else:
            add_text(row, url, when, _string(text), options, batch)


def _string(value: str | bytes | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""


def _times(column: pa.Array) -> list[Any]:
    """Values that ``parse_time`` takes: Python cannot hold nanoseconds, nor dates outside of the years 1 to 9999."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
        column = column.cast(TIMESTAMP)
    elif pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("ms")).cast(TIMESTAMP)
    elif pa.types.is_decimal(column.type):
        column = pc.cast(column, pa.float64())
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError):
        return [_one(value) for value in column]


def _one(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except (ValueError, OverflowError):
        return f"{value.type} {value.value}"
