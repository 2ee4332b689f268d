"""The index that an output leaves for later runs: who its documents are, and the signature of each distinct text."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.neardup.minhash import VERSION
from pipelines.neardup.options import NearDup
from pipelines.records import index_schema

_KEY = b"human_reserve.signatures"


def schema(options: NearDup) -> pa.Schema:
    """The schema of an index, with all that decides the values of its signatures."""
    return index_schema(options.permutations).with_metadata({_KEY: json.dumps(_meaning(options), sort_keys=True)})


def difference(found: pa.Schema, options: NearDup) -> tuple[str, object, object] | None:
    """The first thing in which signatures differ from those that a job makes: its name, theirs and ours."""
    theirs = json.loads((found.metadata or {}).get(_KEY, b"{}"))
    for name, ours in _meaning(options).items():
        if theirs.get(name) != ours:
            return name, theirs.get(name), ours
    return None


def index_part(judged: pa.Table, options: NearDup) -> pa.Table:
    """The index of judged documents; a signature stands where the output holds the text."""
    bears = pc.fill_null(judged["bears_text"], True)
    wanted = schema(options)
    columns = {
        **{name: judged[name] for name in wanted.names if name != "kept"},
        "signature": pc.if_else(bears, judged["signature"], pa.scalar(None, judged["signature"].type)),
        "kept": pc.fill_null(judged["kept"], True),
    }
    return pa.table(columns, schema=wanted).combine_chunks()


def kept_in(units: pa.ChunkedArray, archived: Sequence[str]) -> pa.Array:
    """Where these units (ordinals) belong to: the earlier output's digest, ``archived[i]``; null for the run's own."""
    own = pa.scalar(None, units.type)
    return pa.array(archived, pa.string()).take(pc.if_else(pc.less(units, len(archived)), units, own).combine_chunks())


def hex_digits(column: pa.ChunkedArray) -> pa.Array:
    """Binary values as hex digits."""
    return pa.array([None if value is None else value.hex() for value in column.to_pylist()], pa.string())


def _meaning(options: NearDup) -> dict[str, object]:
    chosen = {f"neardup.{name}": getattr(options, name) for name in ("permutations", "shingle", "seed")}
    return {**chosen, "version": VERSION, "Unicode": unicodedata.unidata_version}
