"""The rows of a sample and their proofs, as files: what is drawn goes from the parts of a reserve into one file.

The rows come sorted by `doc_id`, whatever parts they lay in, in memory that does not grow with their number: they are
first dealt into heaps on disk by ranges of `doc_id`, and then each heap is sorted, proved and written.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines import files
from pipelines.errors import JobError
from pipelines.records import OUTPUT, Place
from pipelines.reserve.allocation import Allocated, Counts, FloatArray
from pipelines.reserve.encoding import Bytes, fixed_bytes
from pipelines.reserve.frame import UNKNOWN, Choice, Counter, Frame, Labels, batches, positions, row_groups
from pipelines.reserve.in_log import Found, Prover

ROWS, PROOFS, PLAN = "sample.parquet", "proofs.jsonl", "plan.json"
ADDED: Final = (
    pa.field("stratum", pa.string(), nullable=False),  # its values with slashes between them; "all" without strata
    pa.field("inclusion_probability", pa.float64(), nullable=False),
    pa.field("weight", pa.float64(), nullable=False),
    pa.field("tokens", pa.int64(), nullable=False),  # in the unit that the plan names
    pa.field("log_index", pa.int64()),  # null: not proved
)
SAMPLE: Final = pa.schema([*OUTPUT, *ADDED])

_HEAP = 4096  # rows
_HEAPS = 250  # open at a time at the most; of more rows each is larger


class Draw(NamedTuple):
    """What is drawn.

    Attributes:
        ids: (n, 16), sorted.
        strata: of each, int64 (n,).
        allocated: by stratum.
        probabilities: of inclusion, by stratum.
    """

    ids: Bytes
    strata: Counts
    allocated: Allocated
    probabilities: FloatArray


def write_rows(
    parts: Sequence[str],
    frame: Frame,
    drawn: Draw,
    choice: Choice,
    counter: Counter,
    prover: Prover | None,
    folder: str,
) -> int:
    """Writes what is drawn, and its proofs; gives the number of its tokens.

    Args:
        parts: files of the reserve.
        frame: of these.
        drawn: from that frame.
        choice: which rows may be drawn.
        counter: counts tokens.
        prover: proves each row; None: none is proved.
        folder: of the sample.

    Raises JobError where a row is not as it was sealed, or is gone.
    """
    size = max(_HEAP, -(-len(drawn.ids) // _HEAPS))
    tokens = 0
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        heaps = _deal(parts, drawn, choice, size, Path(scratch))
        out = stack.enter_context(files.open_write(files.join(folder, ROWS)))
        proofs = stack.enter_context(files.open_write(files.join(folder, PROOFS))) if prover else None
        writer = stack.enter_context(pq.ParquetWriter(out, SAMPLE, compression="zstd", use_dictionary=["stratum"]))
        for number, heap in enumerate(heaps):
            own = slice(number * size, (number + 1) * size)
            rows = _sorted_heap(heap, drawn.ids[own])
            found = prover.prove(rows, Place.RESERVE) if prover else None
            counted = counter.measure(rows["text"].combine_chunks())
            tokens += int(counted.sum())
            writer.write_table(_with_added(rows, frame.labels, drawn, drawn.strata[own], counted, found))
            if proofs is not None and found is not None:
                proofs.write(b"".join(_proof_lines(rows["doc_id"].to_pylist(), found)))
    return tokens


def _deal(parts: Sequence[str], drawn: Draw, choice: Choice, size: int, scratch: Path) -> list[Path]:
    """Deals the drawn rows into heaps by ranges of `doc_id`."""
    heaps = [scratch / str(number) for number in range(-(-len(drawn.ids) // size))]
    with ExitStack() as stack:
        writers = [stack.enter_context(pa.ipc.new_stream(str(heap), OUTPUT)) for heap in heaps]
        for path, group in row_groups(parts):
            for ids in batches(path, ["doc_id"], [group]):
                if (_at(path, ids, drawn.ids) >= 0).any():
                    break
            else:
                continue
            for batch in batches(path, None, [group]):
                _deal_batch(path, batch, drawn, choice, size, writers)
    return heaps


def _deal_batch(
    path: str, batch: pa.RecordBatch, drawn: Draw, choice: Choice, size: int, writers: Sequence[Any]
) -> None:
    at = np.where(choice.of(batch), _at(path, batch, drawn.ids), -1)
    if (at < 0).all():
        return
    try:
        rows = pa.Table.from_batches([batch.filter(pa.array(at >= 0))]).select(OUTPUT.names).cast(OUTPUT)
    except (KeyError, ValueError) as error:
        raise JobError(f"{path}: its columns are not those of a reserve: {error}; run the job again") from None
    heap = at[at >= 0] // size
    for number in np.unique(heap).tolist():
        writers[number].write_table(rows.filter(pa.array(heap == number)))


def _at(path: str, batch: pa.RecordBatch, among: Bytes) -> npt.NDArray[np.int64]:
    try:
        return positions(fixed_bytes(batch["doc_id"], 16), among)
    except ValueError as error:
        raise JobError(f"{path}: doc_id: {error}; see 'reserve verify'") from None


def _sorted_heap(heap: Path, ids: Bytes) -> pa.Table:
    """The rows of a heap by `doc_id`, each document once."""
    with pa.ipc.open_stream(str(heap)) as stream:
        rows = stream.read_all().combine_chunks()
    rows = rows.sort_by([(name, "ascending") for name in ("doc_id", "shard", "record_offset")])
    found = fixed_bytes(rows["doc_id"], 16)
    first = np.ones(len(found), bool)
    first[1:] = (found[1:] != found[:-1]).any(axis=1)
    if not np.array_equal(found[first], ids):
        gone = next(one for one in ids if not (found == one).all(axis=1).any())
        raise JobError(
            f"document {gone.tobytes().hex()} was drawn, and is gone: the files changed while they were read"
        )
    return rows.filter(pa.array(first)).combine_chunks()


def _with_added(
    rows: pa.Table, labels: Sequence[Labels], drawn: Draw, strata: Counts, tokens: Counts, found: Sequence[Found] | None
) -> pa.Table:
    probability = pa.array(drawn.probabilities[strata])
    columns = [
        pa.array([stratum_name(labels[stratum]) for stratum in strata.tolist()], pa.string()),
        probability,
        pc.divide(1.0, probability),
        pa.array(tokens, pa.int64()),
        pa.array([one.at for one in found], pa.int64()) if found else pa.nulls(rows.num_rows, pa.int64()),
    ]
    return pa.table([*rows.columns, *columns], schema=SAMPLE)


def stratum_name(labels: Labels) -> str:
    """A stratum in one string, as `sample.parquet` has it."""
    return "/".join(UNKNOWN if label is None else label for label in labels) or "all"


def _proof_lines(ids: Sequence[str], found: Sequence[Found]) -> Iterator[bytes]:
    for doc_id, one in zip(ids, found, strict=True):
        hashes = [base64.b64encode(node).decode() for node in one.hashes]
        yield json.dumps({"doc_id": doc_id, "index": one.at, "hashes": hashes}).encode() + b"\n"
