"""Arrays of whole numbers as bytes, many at a time, straight into and out of Arrow's buffers.

An array is packed as width, layout, then all values or the positions and values of those that are not 0. The first byte
is the width of a value (1, 2, 4 or 8 bytes, the least that holds all), the second 0 where all values follow, or the
width of a position (2 bytes, or 4 in arrays of more than 65,536 values): then the positions follow, ascending, and the
values. All little-endian and signed, but for the positions. It is sparse where that is shorter::

    >>> blobs = pack_rows(np.array([[0, 0, 0, 0, 0, 7], [1, 2, 3, 4, 5, 300]]))
    >>> blobs.to_pylist()[0]
    b'\\x01\\x02\\x05\\x00\\x07'
    >>> add_rows(blobs, np.array([0, 0]), np.zeros((1, 6), np.int64)).tolist()
    [[1, 2, 3, 4, 5, 307]]
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

Int64 = npt.NDArray[np.int64]


class Blobs(NamedTuple):
    """Stretches of bytes: number i is ``data[offsets[i] : offsets[i + 1]]``; uint8 and int64 (n + 1,)."""

    data: npt.NDArray[np.uint8]
    offsets: Int64

    def array(self) -> pa.LargeBinaryArray:
        """The same as an Arrow array, not copied."""
        buffers = [None, pa.py_buffer(self.offsets), pa.py_buffer(self.data)]
        return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(self.offsets) - 1, buffers)


def blobs_of(array: pa.LargeBinaryArray) -> Blobs:
    """The bytes of an Arrow array without nulls, not copied."""
    if not len(array):
        return Blobs(_read_only(b""), np.zeros(1, np.int64))
    _, offsets, data = array.buffers()
    found = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    return Blobs(_read_only(data if data is not None else b""), found.copy())


def _read_only(data: Any) -> npt.NDArray[np.uint8]:
    found = np.frombuffer(data, np.uint8)
    found.flags.writeable = False  # always: numba would compile the kernels anew for the other kind
    return found


def pack_rows(values: npt.NDArray[Any]) -> pa.LargeBinaryArray:
    """Each row of a matrix, packed."""
    rows, columns = values.shape
    return pack_stretches(values.reshape(-1), np.arange(rows + 1, dtype=np.int64) * columns)


def pack_stretches(values: npt.NDArray[Any], edges: Int64) -> pa.LargeBinaryArray:
    """``values[edges[i] : edges[i + 1]]`` for each i, packed."""
    values = np.ascontiguousarray(values, np.int64)
    shapes = np.empty((len(edges) - 1, 3), np.int64)
    _shapes(values, edges, shapes)
    offsets = np.concatenate([[0], np.cumsum(shapes[:, 2])]).astype(np.int64)
    data = np.empty(int(offsets[-1]), np.uint8)
    _pack(values, edges, shapes, offsets, data)
    return Blobs(data, offsets).array()


def add_rows(packed: pa.LargeBinaryArray, at: Int64, sums: Int64) -> Int64:
    """Adds each packed array to the row ``at`` of ``sums``, and gives these."""
    _add_rows(*blobs_of(packed), at, sums, False)
    return sums


def raise_rows(packed: pa.LargeBinaryArray, at: Int64, highest: Int64) -> Int64:
    """Raises the row ``at`` of ``highest`` to each packed array where that is higher, and gives these."""
    _add_rows(*blobs_of(packed), at, highest, True)
    return highest


def gather(data: npt.NDArray[np.uint8], starts: Int64, ends: Int64) -> Blobs:
    """The stretches ``data[starts[i] : ends[i]]``, one after the other."""
    offsets = np.concatenate([[0], np.cumsum(ends - starts)]).astype(np.int64)
    found = np.empty(int(offsets[-1]), np.uint8)
    _gather(data, starts, ends, found)
    return Blobs(found, offsets)


@numba.njit(cache=True, nogil=True)
def _shapes(values, edges, shapes):  # type: ignore[no-untyped-def]
    """The width of a value, of a position (0: all values follow) and the size in bytes of each stretch."""
    for part in range(len(edges) - 1):
        length = edges[part + 1] - edges[part]
        # All bits of the magnitudes together take as many bytes as the largest.
        bits, nonzero = np.int64(0), 0
        for i in range(edges[part], edges[part + 1]):
            value = values[i]
            bits |= value ^ (value >> np.int64(63))
            nonzero += value != 0
        width = 1
        while width < 8 and bits >> np.int64(8 * width - 1):
            width *= 2
        index = 2 if length <= 1 << 16 else 4
        sparse = nonzero * (width + index) < length * width
        shapes[part, 0] = width
        shapes[part, 1] = index if sparse else 0
        shapes[part, 2] = 2 + (nonzero * (width + index) if sparse else length * width)


@numba.njit(inline="always")
def _write(data, at, width, value):  # type: ignore[no-untyped-def]
    for byte in range(width):
        data[at + byte] = np.uint8((value >> np.int64(8 * byte)) & np.int64(0xFF))


@numba.njit(inline="always")
def _read(data, at, width):  # type: ignore[no-untyped-def]
    value = np.int64(0)
    for byte in range(width):
        value |= np.int64(data[at + byte]) << np.int64(8 * byte)
    return value


@numba.njit(cache=True, nogil=True)
def _pack(values, edges, shapes, offsets, data):  # type: ignore[no-untyped-def]
    for part in range(len(edges) - 1):
        width, index = shapes[part, 0], shapes[part, 1]
        at = offsets[part]
        data[at], data[at + 1] = width, index
        at += 2
        first, last = edges[part], edges[part + 1]
        if index == 0:
            for i in range(first, last):
                _write(data, at, width, values[i])
                at += width
            continue
        value_at = at + (offsets[part + 1] - at) // (width + index) * index
        for i in range(first, last):
            if values[i] != 0:
                _write(data, at, index, i - first)
                _write(data, value_at, width, values[i])
                at += index
                value_at += width


@numba.njit(cache=True, nogil=True)
def add_blob(data, first, last, sums, highest):  # type: ignore[no-untyped-def]
    """Adds the packed array ``data[first:last]`` to ``sums``, or raises them to it."""
    width, index = np.int64(data[first]), np.int64(data[first + 1])
    count = (last - first - 2) // (width + index)
    at, value_at = first + 2, first + 2 + count * index
    unsigned = np.int64(64 - 8 * width)
    for i in range(count):
        place = i
        if index:
            place = _read(data, at + i * index, index)
        value = (_read(data, value_at + i * width, width) << unsigned) >> unsigned
        if highest:
            sums[place] = max(sums[place], value)
        else:
            sums[place] += value


@numba.njit(cache=True, nogil=True)
def _add_rows(data, offsets, at, sums, highest):  # type: ignore[no-untyped-def]
    for row in range(len(at)):
        add_blob(data, offsets[row], offsets[row + 1], sums[at[row]], highest)


@numba.njit(cache=True, nogil=True)
def _gather(data, starts, ends, found):  # type: ignore[no-untyped-def]
    at = 0
    for i in range(len(starts)):
        length = ends[i] - starts[i]
        found[at : at + length] = data[starts[i] : ends[i]]
        at += length
