"""Parquet → documents, row group by row group and only the columns that are needed. ``record_offset`` is the row.

A column may lie in structs: ``content.body`` is the field ``body`` of the column ``content``. A column whose own name
is ``content.body`` comes first.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.ingest.batches import BatchBuilder, Ingested
from pipelines.ingest.jsonl import add_text, joined
from pipelines.ingest.options import Ingest
from pipelines.records import TIMESTAMP, Reason
from pipelines.remote import ReadError

_ROWS = 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_YEARS = (-62_135_596_800, 253_402_300_799)  # years 1 to 9999 in seconds since 1970, as far as Python's datetime goes


class _Column(NamedTuple):
    """A column, or a field in structs. ``name``: of the column; ``path``: of the fields in it."""

    name: str
    path: tuple[str, ...]
    type: pa.DataType


class _Columns(NamedTuple):
    text: _Column
    url: _Column | None
    captured_at: _Column | None


def read_parquet(
    stream: BinaryIO, options: Ingest, batch: BatchBuilder, begin: int = 0, end: int | None = None
) -> Iterator[Ingested]:
    """Adds each row's document or reject to ``batch``, and yields the batch whenever it is full.

    Only the row groups whose first byte lies in ``begin`` to ``end`` (None: the end of the file) are read; rows keep
    their numbers. What concerns the whole file is told where ``begin`` is 0. A row group that cannot be read is one
    reject, whose detail says how many rows it holds. ``stream`` can seek.
    """
    try:
        file = pq.ParquetFile(stream)
        schema = file.schema_arrow
    except ReadError:
        raise  # bytes that are in the file could not be had: that is no damage
    except (pa.ArrowException, OSError) as error:
        if begin == 0:
            batch.reject(0, None, *_unreadable(stream, error))
        return
    columns = options.columns
    text = _find(schema, columns.text)
    if text is None or not (_is_text(text.type) or _is_texts(text.type)):
        if begin == 0:
            yield from _reject_rows(file.metadata.num_rows, _missing(schema, text, columns.text), batch)
        return
    found = _Columns(text, _find(schema, columns.url), _find(schema, columns.captured_at))
    first_row = 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if begin <= _first_byte(file.metadata.row_group(group)) and (
            end is None or _first_byte(file.metadata.row_group(group)) < end
        ):
            yield from _read_group(file, group, first_row, found, options, batch)
        first_row += rows


def _read_group(
    file: pq.ParquetFile, group: int, first_row: int, columns: _Columns, options: Ingest, batch: BatchBuilder
) -> Iterator[Ingested]:
    rows = file.metadata.row_group(group).num_rows
    done = 0
    try:
        wanted = list({".".join((column.name, *column.path)) for column in columns if column is not None})
        for part in file.iter_batches(_ROWS, row_groups=[group], columns=wanted):
            _add_rows(part, first_row + done, columns, options, batch)
            done += part.num_rows
            if batch.full:
                yield batch.take()
    except ReadError:
        raise
    except (pa.ArrowException, OSError) as error:
        detail = f"{rows - done} rows of row group {group} cannot be read: {error}"
        batch.reject(first_row + done, None, Reason.DAMAGED, detail)


def _first_byte(group: Any) -> int:
    if not group.num_columns:
        return 0
    column = group.column(0)
    places = [column.data_page_offset, column.dictionary_page_offset]
    return max(min((place for place in places if place), default=0), 0)


def _unreadable(stream: BinaryIO, error: Exception) -> tuple[Reason, str]:
    stream.seek(-min(4, stream.seek(0, 2)), 2)
    magic = stream.read(4)
    if magic == b"PARE":
        return Reason.UNSUPPORTED, "the Parquet file is encrypted: write it without encryption"
    reason = Reason.DAMAGED if magic == b"PAR1" else Reason.TRUNCATED
    return reason, f"the Parquet footer cannot be read: {error}"


def _find(schema: pa.Schema, names: tuple[str, ...]) -> _Column | None:
    for name in names:
        if places := schema.get_all_field_indices(name):
            return _Column(name, (), schema.field(places[0]).type)
        for column in schema:
            if name.startswith(f"{column.name}.") and pa.types.is_struct(column.type):
                found = _find_in(column.type, name[len(column.name) + 1 :])
                if found is not None:
                    return _Column(column.name, *found)
    return None


def _find_in(struct: pa.StructType, name: str) -> tuple[tuple[str, ...], pa.DataType] | None:
    for field in struct:
        if field.name == name:
            return (name,), field.type
        if name.startswith(f"{field.name}.") and pa.types.is_struct(field.type):
            found = _find_in(field.type, name[len(field.name) + 1 :])
            if found is not None:
                return (field.name, *found[0]), found[1]
    return None


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


def _is_texts(kind: pa.DataType) -> bool:
    is_list = (
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )
    return is_list and _is_text(kind.value_type)


def _missing(schema: pa.Schema, text: _Column | None, names: tuple[str, ...]) -> str:
    if text is not None:
        name = ".".join((text.name, *text.path))
        hint = f"; name a field in it, as in {name}.{text.type[0].name}" if _has_fields(text.type) else ""
        return f"column {name} is of type {text.type}, not text{hint}"
    return f"no text under {', '.join(names)}; the columns are: {', '.join(schema.names[:20])}"


def _has_fields(kind: pa.DataType) -> bool:
    return bool(pa.types.is_struct(kind)) and kind.num_fields > 0


def _reject_rows(rows: int, detail: str, batch: BatchBuilder) -> Iterator[Ingested]:
    for row in range(rows):
        batch.reject(row, None, Reason.MISSING_COLUMN, detail)
        if batch.full:
            yield batch.take()


def _add_rows(part: pa.RecordBatch, first_row: int, columns: _Columns, options: Ingest, batch: BatchBuilder) -> None:
    texts = _values(part, columns.text).to_pylist()
    urls = [None] * part.num_rows
    if columns.url is not None and _is_text(columns.url.type):
        urls = _values(part, columns.url).to_pylist()
    times = [None] * part.num_rows if columns.captured_at is None else _times(_values(part, columns.captured_at))
    for row, (text, url, when) in enumerate(zip(texts, urls, times, strict=True), first_row):
        url = _string(url) or None
        if isinstance(text, list):
            text = joined([_string(item) for item in text if item is not None])
        if text is None:
            batch.reject(row, url, Reason.NO_TEXT, "null")
        else:
            add_text(row, url, when, _string(text), options, batch)


def _values(part: pa.RecordBatch, column: _Column) -> pa.Array:
    values = part.column(part.schema.get_all_field_indices(column.name)[0])
    return pc.struct_field(values, list(column.path)) if column.path else values


def _string(value: str | bytes | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""


def _times(column: pa.Array) -> list[Any]:
    """Values that ``parse_time`` takes: Python cannot hold nanoseconds, nor dates outside of the years 1 to 9999."""
    kind = column.type
    if pa.types.is_date32(kind):
        return _moments(column.cast(pa.int32()).cast(pa.int64()), kind, 1, 86_400)
    if pa.types.is_date64(kind):
        return _moments(column.cast(pa.int64()), kind, 1000)
    if pa.types.is_timestamp(kind):
        return _moments(column.cast(pa.int64()), kind, _PER_SECOND[kind.unit])
    return [_plain(value) for value in column.to_pylist()]


def _moments(counts: pa.Array, kind: pa.DataType, per_second: int, seconds: int = 1) -> list[Any]:
    low, high = (bound * per_second // seconds for bound in _YEARS)
    span = pc.min_max(counts).as_py()
    if span["min"] is None:
        return [None] * len(counts)
    if low < span["min"] and span["max"] < high and per_second > 1:
        factor = 10**6 // per_second
        micros = pc.multiply(counts, factor) if factor else _thousandth(counts)
        return list(micros.cast(TIMESTAMP).to_pylist())
    return [
        None if count is None else _moment(count, per_second, seconds) or f"{kind} {count}"
        for count in counts.to_pylist()
    ]


def _moment(count: int, per_second: int, seconds: int) -> datetime | None:
    try:
        return _EPOCH + timedelta(microseconds=count * seconds * 10**6 // per_second)
    except OverflowError:
        return None


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return _string(value)
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value


def _thousandth(counts: pa.Array) -> pa.Array:
    # Arrow divides towards zero; a time before 1970 is to lose its fraction downwards, as in `_moment`.
    return pc.divide(pc.subtract(counts, pc.if_else(pc.less(counts, 0), 999, 0)), 1000)
