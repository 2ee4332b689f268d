"""The kernels that find lines in texts and cut them out; numba, over bytes.

Lines end at the mandatory breaks of Unicode (UAX #14): LF, VT, FF, CR, NEL, LS and PS.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def line_count(data, starts, ends, least):  # type: ignore[no-untyped-def]
    """The number of lines of so many bytes. A page may hold millions of empty ones, which must take no memory."""
    found = 0
    for text in range(len(starts)):
        at = starts[text]
        while at < ends[text]:
            stop = _line_end(data, at, ends[text])
            found += stop - at >= least
            at = _after_break(data, stop, ends[text])
    return found


@numba.njit(cache=True, nogil=True)
def find_lines(data, starts, ends, least, row, begin, end):  # type: ignore[no-untyped-def]
    """Fills ``row`` (the text), ``begin`` and ``end`` (bytes of ``data``, without the break) for these lines."""
    found = 0
    for text in range(len(starts)):
        at = starts[text]
        while at < ends[text]:
            stop = _line_end(data, at, ends[text])
            if stop - at >= least:
                row[found], begin[found], end[found] = text, at, stop
                found += 1
            at = _after_break(data, stop, ends[text])


@numba.njit(cache=True, nogil=True)
def cut_lines(data, starts, ends, first, begin, end, out, offsets):  # type: ignore[no-untyped-def]
    """Copies each text to ``out`` but for its lines ``first[row] : first[row + 1]`` and the blank ones that follow.

    ``begin`` and ``end`` count from the beginning of the text. Fills ``offsets``.
    """
    size = 0
    for row in range(len(starts)):
        at, stop = starts[row], ends[row]
        for i in range(first[row], first[row + 1]):
            for source in range(at, starts[row] + begin[i]):
                out[size] = data[source]
                size += 1
            at = _after_blank_lines(data, starts[row] + end[i], stop)
        if at == stop and first[row] < first[row + 1]:
            size = _before_blank_lines(out, offsets[row], size)
        for source in range(at, stop):
            out[size] = data[source]
            size += 1
        offsets[row + 1] = size


@numba.njit(cache=True, nogil=True)
def _break_bytes(data, at, end):  # type: ignore[no-untyped-def]
    """How many bytes the line break at a byte has; 0 where there is none. CR LF is two breaks of one byte."""
    byte = data[at]
    if byte < 0xC2:
        return 1 if 0x0A <= byte <= 0x0D else 0
    if byte == 0xC2 and at + 1 < end and data[at + 1] == 0x85:
        return 2
    if byte == 0xE2 and at + 2 < end and data[at + 1] == 0x80 and (data[at + 2] == 0xA8 or data[at + 2] == 0xA9):
        return 3
    return 0


@numba.njit(cache=True, nogil=True)
def _line_end(data, at, end):  # type: ignore[no-untyped-def]
    """The byte of the next line break, or the end."""
    while at < end:
        byte = np.int64(data[at])
        # A call for each byte would take twenty times as long.
        if (byte <= 0x0D or byte == 0xC2 or byte == 0xE2) and _break_bytes(data, at, end):
            return at
        at += 1
    return at


@numba.njit(cache=True, nogil=True)
def _after_break(data, at, end):  # type: ignore[no-untyped-def]
    return at + _break_bytes(data, at, end) if at < end else end


@numba.njit(cache=True, nogil=True)
def _after_blank_lines(data, at, stop):  # type: ignore[no-untyped-def]
    """Where the next line that is not blank begins, from the end of a line; the end of the text if there is none."""
    line = at
    while at < stop:
        width = _break_bytes(data, at, stop)
        if width == 0 and data[at] != 0x20 and data[at] != 0x09:
            return line
        at += max(width, 1)
        if width:
            line = at
    return stop


@numba.njit(cache=True, nogil=True)
def _before_blank_lines(data, start, stop):  # type: ignore[no-untyped-def]
    """Where the last line that is not blank ends."""
    line = at = stop
    while at > start:
        width = 0
        for length in range(1, min(3, at - start) + 1):
            if _break_bytes(data, at - length, at) == length:
                width = length
        if width == 0 and data[at - 1] != 0x20 and data[at - 1] != 0x09:
            return line
        at -= max(width, 1)
        if width:
            line = at
    return start
