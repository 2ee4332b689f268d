"""A state as one row of Arrow columns, and back.

Thousands of slices have few documents, so what is mostly zero is stored sparsely and every integer array in the
narrowest type that holds it (:func:`pack`). The bytes follow from the state alone::

    >>> row = encode(state_of(["some text"]))
    >>> encode(state_of_row(row)) == row
    True

The samples of n-grams are Theta sketches that Apache DataSketches reads; ``words_counts`` and ``trigrams_counts`` say
how often each of their keys occurs, in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.statistics.panel.embedding import DIMENSIONS
from pipelines.statistics.panel.sketches import REGISTERS, Sample, hll_bytes, sample_of_bytes, theta_bytes
from pipelines.statistics.panel.state import GROUPS, SETS, SHAPES, Excerpts, State

COUNTS = ("documents", "words", "bytes", "window_types", "windows")
NAMES = {1: "words", 3: "trigrams"}  # of the n-grams of each order
_BLOBS = pa.list_(pa.large_binary())
_UPPER = np.triu_indices(DIMENSIONS)
_MIRROR = np.empty((DIMENSIONS, DIMENSIONS), np.int64)  # where each entry of a symmetric matrix is in its upper half
_MIRROR[_UPPER] = _MIRROR.T[_UPPER] = np.arange(len(_UPPER[0]))
UPPER = len(_UPPER[0])
_FLAT_UPPER = _UPPER[0] * DIMENSIONS + _UPPER[1]
_HIGHEST = {width: (1 << 8 * width - 1) - 1 for width in (1, 2, 4, 8)}  # of a signed integer of so many bytes

_SAMPLES = [pa.field(f"{name}_{part}", _BLOBS, False) for name in NAMES.values() for part in ("theta", "counts")]
EXCERPT_FIELDS = [
    pa.field("excerpt_keys", _BLOBS, nullable=False),  # uint64 a group
    pa.field("excerpt_texts", _BLOBS, nullable=False),  # one entry a document, group after group
    pa.field("excerpt_signatures", pa.large_binary(), nullable=False),  # uint32, one row a document
]
STATE_FIELDS = [
    *(pa.field(name, pa.list_(pa.int64(), GROUPS), nullable=False) for name in COUNTS),
    *_SAMPLES,  # one entry a group
    *(pa.field(f"{name}_registers", pa.large_binary(), nullable=False) for name in SETS),
    *(pa.field(name, pa.large_binary(), nullable=False) for name in ("signed", "surprisal", "outer")),
    *EXCERPT_FIELDS,
]


def encode(state: State) -> dict[str, Any]:
    """The state as values of :data:`STATE_FIELDS`."""
    row: dict[str, Any] = {name: getattr(state, name).tolist() for name in COUNTS}
    for order, name in NAMES.items():
        row[f"{name}_theta"] = [theta_bytes(one) for one in state.samples[order]]
        row[f"{name}_counts"] = [pack(one.counts) for one in state.samples[order]]
    row |= {f"{name}_registers": pack(state.registers[name]) for name in SETS}
    row |= {"signed": pack(state.signed), "surprisal": pack(state.surprisal)}
    row["outer"] = pack(state.outer.reshape(GROUPS, -1)[:, _FLAT_UPPER])
    row["excerpt_keys"] = [one.keys.astype("<u8").tobytes() for one in state.excerpts]
    row["excerpt_texts"] = [text for one in state.excerpts for text in one.texts]
    row["excerpt_signatures"] = b"".join(one.signatures.astype("<u4").tobytes() for one in state.excerpts)
    return row


def state_of_row(row: Mapping[str, Any]) -> State:
    """The inverse of :func:`encode`, from a row as ``Table.to_pylist`` gives it.

    Rows of :func:`pipelines.statistics.panel.tally.without_texts` are read as well; their state has no excerpts.
    """
    return State(
        **{name: np.array(row[name], np.int64) for name in COUNTS},
        samples={order: _samples(row[f"{name}_theta"], row[f"{name}_counts"]) for order, name in NAMES.items()},
        signed=unpack(row["signed"], SHAPES["signed"]),
        registers={name: _registers(row, name) for name in SETS},
        excerpts=_excerpts(row),
        surprisal=unpack(row["surprisal"], SHAPES["surprisal"]),
        outer=unpack(row["outer"], (GROUPS, len(_FLAT_UPPER)))[:, _MIRROR],
    )


def hll_of_registers(packed: bytes) -> bytes:
    """Packed registers as an HLL_8 sketch that Apache DataSketches reads."""
    return hll_bytes(unpack(packed, (REGISTERS,)).astype(np.uint8))


def pack(array: npt.NDArray[Any]) -> bytes:
    """Integers as bytes: width, layout, then all of them or the positions and values of those that are not 0.

    The first byte is the width of a value (1, 2, 4 or 8 bytes, the least that holds all), the second 0 where all
    values follow, or the width of a position (2 or 4 bytes): then the positions follow, ascending, and the values.
    All little-endian and signed, but for the positions. It is sparse where that is shorter.
    """
    flat = array.reshape(-1)
    high = max(int(flat.max(initial=0)), -1 - int(flat.min(initial=0)))
    width, index = next(w for w in _HIGHEST if high <= _HIGHEST[w]), 2 if len(flat) <= 1 << 16 else 4
    narrow = flat.astype(f"<i{width}")
    if np.count_nonzero(narrow) * (width + index) < len(flat) * width:
        at = np.flatnonzero(narrow)
        return bytes([width, index]) + at.astype(f"<u{index}").tobytes() + narrow[at].tobytes()
    return bytes([width, 0]) + narrow.tobytes()


def unpack(data: bytes, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """The inverse of :func:`pack`: int64 of that shape."""
    width, index = data[0], data[1]
    if not index:
        return np.frombuffer(data, f"<i{width}", offset=2).astype(np.int64).reshape(shape)
    count = (len(data) - 2) // (width + index)
    flat = np.zeros(int(np.prod(shape)), np.int64)
    at = np.frombuffer(data, f"<u{index}", count, 2)
    flat[at] = np.frombuffer(data, f"<i{width}", count, 2 + count * index)
    return flat.reshape(shape)


def _samples(thetas: Sequence[bytes], counts: Sequence[bytes]) -> list[Sample]:
    keys = [sample_of_bytes(theta) for theta in thetas]
    return [Sample(k, unpack(count, k.shape), theta) for (k, theta), count in zip(keys, counts, strict=True)]


def _registers(row: Mapping[str, Any], name: str) -> npt.NDArray[np.uint8]:
    if f"{name}_hll" in row:
        return np.frombuffer(row[f"{name}_hll"][-REGISTERS:], np.uint8).copy()
    return unpack(row[f"{name}_registers"], (REGISTERS,)).astype(np.uint8)


def _excerpts(row: Mapping[str, Any]) -> list[Excerpts]:
    keys = [np.frombuffer(one, "<u8").astype(np.uint64) for one in row.get("excerpt_keys", [b""] * GROUPS)]
    edges = np.cumsum([0, *map(len, keys)]).tolist()
    texts = row.get("excerpt_texts", [])
    rows = np.frombuffer(row.get("excerpt_signatures", b""), "<u4").astype(np.uint32)
    signatures = rows.reshape(len(texts), -1) if texts else np.empty((0, 0), np.uint32)
    spans = zip(keys, edges, edges[1:], strict=False)
    return [Excerpts(k, texts[a:b], signatures[a:b]) for k, a, b in spans]
