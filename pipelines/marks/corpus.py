"""Texts for the watermark commands: Parquet and JSON lines by column, anything else as one text a file."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pipelines.errors import UsageError

_ROWS = 512  # texts that are held at once
_GROUPS = ("host", "group")  # columns that tie texts together, which are then not independent


class Texts(NamedTuple):
    """A batch of texts.

    Attributes:
        names: for people: file and row.
        texts: the texts.
        groups: what ties texts together, a text's own name where nothing does.
    """

    names: list[str]
    texts: list[str]
    groups: list[str]


def read_texts(patterns: Sequence[str], column: str = "text", where: Sequence[str] = ()) -> Iterator[Texts]:
    """The texts of all files, in the order of their names.

    Args:
        patterns: paths, folders and globs; ``.parquet``, ``.jsonl`` and ``.ndjson`` (also compressed) have rows.
        column: that holds the text.
        where: conditions ``name=value`` on other columns.

    Raises UsageError that names what cannot be read.
    """
    conditions = [_condition(item) for item in where]
    for path in _paths(patterns):
        kind = _kind(path)
        if kind is None:
            yield _plain(path)
        else:
            yield from _rows(path, kind, column, conditions)


def _paths(patterns: Sequence[str]) -> list[str]:
    found: list[str] = []
    for pattern in patterns:
        inside = os.path.join(pattern, "*") if os.path.isdir(pattern) else pattern
        paths = sorted(path for path in glob.glob(inside) if os.path.isfile(path))
        if os.path.isdir(pattern):
            paths = [path for path in paths if _kind(path)]
        if not paths:
            raise UsageError(f"{pattern}: no such file")
        found += paths
    return found


def _kind(path: str) -> str | None:
    plain = path.removesuffix(".gz").removesuffix(".zst")
    if plain.endswith(".parquet"):
        return "parquet"
    return "json" if plain.endswith((".jsonl", ".ndjson")) else None


def _condition(item: str) -> tuple[str, str]:
    name, equals, value = item.partition("=")
    if not equals or not name:
        raise UsageError(f"--where {item}: write it as column=value")
    return name, value


def _plain(path: str) -> Texts:
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(f"{path}: {reason}") from None
    return Texts([path], [text], [path])


def _rows(path: str, kind: str, column: str, conditions: Sequence[tuple[str, str]]) -> Iterator[Texts]:
    at = 0
    try:
        data = ds.dataset(path, format=kind)
        for name in (column, *(name for name, _ in conditions)):
            if name not in data.schema.names:
                raise UsageError(f"{path}: no column {name!r}; there are {', '.join(data.schema.names)}")
        tie = next((name for name in _GROUPS if name in data.schema.names), None)
        columns = list(dict.fromkeys([column, *(name for name, _ in conditions), *([tie] if tie else [])]))
        for batch in data.to_batches(columns=columns, batch_size=_ROWS):
            table = pa.table(batch)
            first, at = at, at + table.num_rows
            keep = pc.is_valid(table[column])
            for name, value in conditions:
                keep = pc.and_(keep, pc.fill_null(pc.equal(table[name].cast(pa.string()), value), False))
            rows = keep.combine_chunks().to_numpy(zero_copy_only=False).nonzero()[0]
            if len(rows):
                names = [f"{path}:{first + row}" for row in rows]
                chosen = table.take(pa.array(rows))
                ties = _strings(chosen[tie]) if tie else [None] * len(names)
                yield Texts(names, _strings(chosen[column]), [t or n for t, n in zip(ties, names, strict=True)])
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{path}: {str(error).splitlines()[0]}") from None


def _strings(column: pa.ChunkedArray) -> list[Any]:
    values = column.to_pylist()
    return [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
