"""The canonical encoding of rows, against one written field by field with `struct`."""

import hashlib
import struct
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.records import EVIDENCE, TIMESTAMP
from pipelines.reserve.encoding import encoded_column, encoded_rows, fixed_bytes

SCHEMA = pa.schema(
    [
        pa.field("url", pa.string()),
        pa.field("text", pa.large_string()),
        pa.field("key", pa.binary()),
        pa.field("when", TIMESTAMP),
        pa.field("rows", pa.int32()),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("share", pa.float64()),
        pa.field("probability", pa.float32()),
        pa.field("kept", pa.bool_()),
        pa.field("evidence", EVIDENCE),
    ]
)
ITEM: dict[str, st.SearchStrategy[Any]] = {
    "source": st.text(max_size=5),
    "kind": st.text(max_size=5),
    "score": st.none() | st.floats(),
    "p_value": st.none() | st.floats(0, 1),
    "probability": st.none() | st.floats(width=32),
    "detail": st.none() | st.text(max_size=20),
}
ROW: dict[str, st.SearchStrategy[Any]] = {
    "url": st.none() | st.text(max_size=30),
    "text": st.none() | st.text(max_size=50),
    "key": st.none() | st.binary(max_size=9),
    "when": st.none() | st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)).map(lambda t: t.replace(tzinfo=UTC)),
    "rows": st.none() | st.integers(-(1 << 31), (1 << 31) - 1),
    "offset": st.integers(-(1 << 63), (1 << 63) - 1),
    "share": st.none() | st.floats(),
    "probability": st.none() | st.floats(width=32),
    "kept": st.none() | st.booleans(),
    "evidence": st.none() | st.lists(st.fixed_dictionaries(ITEM), max_size=3),
}
FORMATS = {"rows": ">q", "offset": ">q", "share": ">d", "score": ">d", "p_value": ">d", "probability": ">f"}


def by_hand(name: str, value: Any) -> bytes:
    """One field, as the module's table says."""
    if value is None:
        return b"\0"
    if isinstance(value, list):
        items = [b"\1" + b"".join(by_hand(key, item[key]) for key in ITEM) for item in value]
        return b"\1" + struct.pack(">I", len(items)) + b"".join(items)
    if isinstance(value, bool):
        return b"\1" + bytes([value])
    if isinstance(value, datetime):
        return b"\1" + struct.pack(">q", (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1))
    if name in FORMATS:
        return b"\1" + struct.pack(FORMATS[name], value)
    data = value if isinstance(value, bytes) else value.encode()
    return b"\1" + struct.pack(">I", len(data)) + data


@given(st.lists(st.fixed_dictionaries(ROW), max_size=6), st.integers(0, 3))
def test_rows_are_encoded_as_by_hand(rows: list[dict[str, Any]], skipped: int) -> None:
    table = pa.Table.from_pylist(rows, SCHEMA)
    expected = [b"".join(by_hand(name, row[name]) for name in SCHEMA.names) for row in rows]
    packed = encoded_rows(table)
    assert [packed.row(at) for at in range(len(rows))] == expected
    assert packed.sha256().tobytes() == b"".join(hashlib.sha256(row).digest() for row in expected)
    # Slices and chunks are other layouts in memory of the same rows.
    several = pa.concat_tables([table.slice(skipped), table])
    packed = encoded_rows(several)
    assert [packed.row(at) for at in range(several.num_rows)] == expected[skipped:] + expected


def test_a_column_alone_is_its_fields() -> None:
    column = encoded_column(pa.chunked_array([["a"], [None, "bc"]]))
    assert [column.row(at) for at in range(3)] == [by_hand("", value) for value in ("a", None, "bc")]


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match="halffloat"):
        encoded_rows(pa.table({"a": pa.array([1.0], pa.float16())}))


def test_hex_digits() -> None:
    digits = [bytes(range(start, start + 16)).hex() for start in (0, 77, 240)]
    column = pa.chunked_array([digits[:1], digits]).slice(1)
    assert fixed_bytes(column, 16).tobytes().hex() == "".join(digits)
    assert fixed_bytes(pa.chunked_array([], pa.string()), 16).shape == (0, 16)
    for wrong in ("0" * 31, "0" * 31 + "g", "0" * 31 + "A", None):
        with pytest.raises(ValueError, match="digest"):
            fixed_bytes(pa.array([digits[0], wrong]), 16)
