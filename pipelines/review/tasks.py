"""Documents as tasks: their rows in the output, in random order, some of them for two people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import JobError
from pipelines.layout import DOCUMENT_PLACES
from pipelines.records import Place
from pipelines.reserve.encoding import Bytes, fixed_bytes
from pipelines.reserve.frame import _drawing_keys, positions
from pipelines.review.population import PLACE, read_rows
from pipelines.review.records import TASKS

Order = npt.NDArray[np.int64]

_ORDER: Final = ("shard", "record_offset")  # of the copies of a repeated capture
_SHOWN: Final = [name for name in TASKS.names[1:] if name not in ("place", "stratum", "inclusion_probability")][:-2]


def hashed_order(ids: Bytes, seed: str, purpose: str) -> Order:
    """The order (n,) of ids (n, 16) by SHA-256(purpose ‖ 0x00 ‖ seed ‖ id): for each purpose another one."""
    return np.argsort(_drawing_keys(ids, f"{purpose}\0{seed}"), kind="stable")


def read_tasks(parts: Sequence[tuple[Place, str]], ids: Bytes) -> pa.Table:
    """Documents as tasks of :data:`pipelines.review.records.TASKS`, in the order of ``ids`` (n, 16).

    Stratum and inclusion probability are null, one person is to label each, and the position is 0. Raises JobError
    where a document is gone.
    """
    read = list(read_rows(parts, ids, ["doc_id", *_SHOWN, *_ORDER]))
    if not read:
        if len(ids):
            raise _gone(ids[0])
        return TASKS.empty_table()
    rows = pa.Table.from_batches(read).combine_chunks()
    order = pc.index_in(rows[PLACE], pa.array([place.value for place in DOCUMENT_PLACES]))
    rows = rows.append_column("at", order).sort_by(
        [(name, "ascending") for name in ("doc_id", "at", "cluster_size", *_ORDER)]
    )
    found = fixed_bytes(rows["doc_id"], 16)
    first = np.ones(len(found), bool)
    first[1:] = (found[1:] != found[:-1]).any(axis=1)
    rows, found = rows.filter(pa.array(first)), found[first]
    at = positions(ids, found)
    if (at < 0).any():
        raise _gone(ids[int(np.argmin(at))])
    rows = rows.take(pa.array(at)).combine_chunks()
    nothing = [pa.nulls(len(ids), TASKS.field(name).type) for name in ("stratum", "inclusion_probability")]
    columns = [rows["doc_id"], *(rows[name] for name in _SHOWN)]
    return tasks_of(
        dict(
            zip(
                ["task_id", *_SHOWN, PLACE, "stratum", "inclusion_probability"],
                [*columns, rows[PLACE], *nothing],
                strict=True,
            )
        ),
        len(ids),
    )


def tasks_of(columns: dict[str, pa.ChunkedArray | pa.Array], rows: int) -> pa.Table:
    """Tasks of some columns; the others are null, `annotators` 1 and `position` 0."""
    fixed = {"annotators": pa.array([1] * rows, pa.int32()), "position": pa.array([0] * rows, pa.int32())}
    given = {**fixed, **columns}
    return pa.table(
        [given[field.name].cast(field.type) if field.name in given else pa.nulls(rows, field.type) for field in TASKS],
        schema=TASKS,
    )


def arranged(tasks: Sequence[pa.Table], seed: str, stream: str, double: float = 0.0) -> pa.Table:
    """Tasks in the order of asking, which is random; a random part ``double`` of them is for two people."""
    table = pa.concat_tables([one.cast(TASKS) for one in tasks]).combine_chunks()
    ids = fixed_bytes(table["task_id"], 16)
    annotators = np.ones(len(ids), np.int32)
    annotators[hashed_order(ids, seed, f"double/{stream}")[: round(double * len(ids))]] = 2
    order = hashed_order(ids, seed, f"position/{stream}")
    table = table.set_column(TASKS.get_field_index("annotators"), TASKS.field("annotators"), pa.array(annotators))
    table = table.take(pa.array(order))
    places = pa.array(np.arange(len(ids), dtype=np.int32))
    return table.set_column(TASKS.get_field_index("position"), TASKS.field("position"), places).combine_chunks()


def _gone(one: Bytes) -> JobError:
    return JobError(f"document {one.tobytes().hex()} was drawn, and is gone: the files changed while they were read")
