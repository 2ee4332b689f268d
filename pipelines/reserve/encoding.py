"""Rows of a table as bytes: one canonical encoding, of which digests are made that anyone can make again.

A row is the concatenation of its fields in the order of the schema, a field one byte, 0 where it is null and else 1,
and then its value; all numbers big-endian:

====================  ==================================================================
string, binary        length in bytes as a 32-bit number, then the bytes (strings in UTF-8)
integers, timestamps  64-bit two's complement; timestamps as microseconds since 1970 UTC
float32, float64      the bits of IEEE 754, 4 or 8 bytes
boolean               one byte, 0 or 1
list                  number of elements as a 32-bit number, then each element as a field
struct                its fields, as those of a row
====================  ==================================================================

>>> table = pa.table({"host": ["a.example", None], "pages": pa.array([3, 4], pa.int32())})
>>> encoded_rows(table).row(1)
b'\\x00\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x04'
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]


class Packed(NamedTuple):
    """Many byte strings in one buffer: the i-th is ``data[offsets[i]:offsets[i + 1]]``; offsets begin with 0."""

    data: Bytes
    offsets: Offsets

    def row(self, at: int) -> bytes:
        """One of them."""
        return self.data[self.offsets[at] : self.offsets[at + 1]].tobytes()

    def sha256(self) -> Bytes:
        """(n, 32) uint8: the digest of each."""
        view, ends = memoryview(self.data), self.offsets.tolist()  # type: ignore[arg-type]
        digests = [hashlib.sha256(view[a:b]).digest() for a, b in pairwise(ends)]
        return np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), 32)


def encoded_rows(table: pa.Table) -> Packed:
    """All rows of a table. Raises TypeError for a column of a type that has no encoding."""
    columns = [_field(_one_chunk(column)) for column in table.columns]
    return _joined(columns, table.num_rows)


def encoded_column(column: pa.ChunkedArray | pa.Array) -> Packed:
    """A column on its own: each value as a field."""
    return _field(_one_chunk(column))


def fixed_bytes(column: pa.ChunkedArray | pa.Array, width: int) -> Bytes:
    """(n, width) uint8 of a column of strings of 2 · width hex digits. Raises ValueError if one is none."""
    array = _one_chunk(column).cast(pa.large_string())
    sizes = pc.binary_length(array)
    if array.null_count or not pc.all(pc.equal(sizes, 2 * width), min_count=0).as_py():
        raise ValueError(f"a digest is not {2 * width} hex digits long")
    data, offsets = _buffers(array)
    digits = _DIGITS[data[offsets[0] : offsets[-1]]].reshape(len(array), 2 * width)
    if (digits > 15).any():
        row = int(np.flatnonzero((digits > 15).any(axis=1))[0])
        raise ValueError(f"a digest is not of hex digits: {array[row].as_py()!r}")
    return np.asarray(digits[:, ::2] << 4 | digits[:, 1::2], np.uint8)


_DIGITS = np.full(256, 255, np.uint8)
_DIGITS[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16, dtype=np.uint8)


def _field(array: pa.Array) -> Packed:
    """The values of a column, each with the byte that says whether it is there."""
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    # What lies under a null is anything.
    values = _values(array.filter(pa.array(valid)) if array.null_count else array)
    sizes = np.ones(len(array), np.int64)
    sizes[valid] += np.diff(values.offsets) + (4 if len(values.lengths) else 0)
    packed = _empty(sizes)
    _put_fields(packed.data, packed.offsets, valid, values.data, values.offsets, values.lengths)
    return packed


class _Values(NamedTuple):
    """The values of a column without nulls; ``lengths`` are the numbers that stand before them, empty where none do."""

    data: Bytes
    offsets: Offsets
    lengths: Offsets = np.empty(0, np.int64)


def _values(array: pa.Array) -> _Values:
    kind, count = array.type, len(array)
    if pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_string(kind):
        wide = array.cast(pa.large_binary() if pa.types.is_binary(kind) else pa.large_string())
        data, offsets = _buffers(wide)
        return _Values(data, offsets, np.diff(offsets))
    if pa.types.is_boolean(kind):
        return _numbers(array.to_numpy(zero_copy_only=False), "u1")
    if pa.types.is_integer(kind) or pa.types.is_timestamp(kind):
        whole = array.cast(pa.timestamp("us", "UTC")).cast(pa.int64()) if pa.types.is_timestamp(kind) else array
        return _numbers(whole.to_numpy(zero_copy_only=False), ">i8")
    if pa.types.is_floating(kind) and kind.bit_width >= 32:
        return _numbers(array.to_numpy(zero_copy_only=False), f">f{kind.bit_width // 8}")
    if pa.types.is_struct(kind):
        return _Values(*_joined([_field(array.field(at)) for at in range(kind.num_fields)], count))
    if pa.types.is_list(kind):
        starts = array.offsets.to_numpy().astype(np.int64)
        elements = _field(array.flatten())
        return _Values(elements.data, elements.offsets[starts - starts[0]], np.diff(starts))
    raise TypeError(f"columns of type {kind} have no canonical encoding")


def _numbers(values: npt.NDArray[np.generic], code: str) -> _Values:
    data = np.ascontiguousarray(values, np.dtype(code)).view(np.uint8)
    return _Values(data.reshape(-1), np.arange(len(values) + 1, dtype=np.int64) * np.dtype(code).itemsize)


def _joined(columns: Sequence[Packed], rows: int) -> Packed:
    """The i-th strings of all columns one after the other."""
    packed = _empty(sum((np.diff(column.offsets) for column in columns), np.zeros(rows, np.int64)))
    at = packed.offsets[:-1].copy()
    for column in columns:
        _append(packed.data, at, column.data, column.offsets)
    return packed


def _empty(sizes: Offsets) -> Packed:
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    return Packed(np.empty(int(offsets[-1]), np.uint8), offsets)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _append(target: Bytes, at: Offsets, data: Bytes, offsets: Offsets) -> None:
    """Copies each string of `data` to its row's place in `target`, and moves the places on."""
    for row in range(len(at)):
        to, begin, end = at[row], offsets[row], offsets[row + 1]
        target[to : to + end - begin] = data[begin:end]
        at[row] = to + end - begin


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _put_fields(
    target: Bytes,
    starts: Offsets,
    valid: npt.NDArray[np.bool_],
    data: Bytes,
    offsets: Offsets,
    lengths: Offsets,
) -> None:
    """For each row 0, or 1, the next of the lengths where there are any, and the next value."""
    value = 0
    for row in range(len(valid)):
        to = starts[row]
        target[to] = valid[row]
        to += 1
        if not valid[row]:
            continue
        if len(lengths):
            for byte in range(4):
                target[to + byte] = lengths[value] >> (24 - 8 * byte) & 255
            to += 4
        begin, end = offsets[value], offsets[value + 1]
        target[to : to + end - begin] = data[begin:end]
        value += 1


def _buffers(array: pa.Array) -> tuple[Bytes, Offsets]:
    """The bytes and offsets of a large string or binary array."""
    offsets = np.frombuffer(array.buffers()[1], np.int64, len(array) + 1, array.offset * 8) if len(array) else _NONE
    data = array.buffers()[2]
    return np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8), offsets


_NONE: Offsets = np.zeros(1, np.int64)


def _one_chunk(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
