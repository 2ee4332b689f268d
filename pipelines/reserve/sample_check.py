"""Checks an anchor sample without the archive that it came from: is each row, to the last byte, one that was sealed?

    >>> check_sample("anchor", [read_verifier(Path("reserve.vkey"))]).documents  # doctest: +SKIP
    1000

What it does not show: that these rows, and no others, are what the seed draws. That takes the archive, and the same
command on it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import files
from pipelines.errors import JobError, UsageError
from pipelines.records import OUTPUT, Place
from pipelines.reserve.checkpoint import Checkpoint, parse_checkpoint
from pipelines.reserve.entries import document_entries
from pipelines.reserve.leaves import text_digest
from pipelines.reserve.merkle import leaf_hash
from pipelines.reserve.note import Verifier, parse_note, verify_note
from pipelines.reserve.proofs import ProofError, verify_inclusion
from pipelines.reserve.sample import FORMAT
from pipelines.reserve.sample_files import PLAN, PROOFS, ROWS
from pipelines.reserve.seal import CHECKPOINT, context_digest

_ROWS = 1024


class CheckedSample(NamedTuple):
    """What was checked.

    Attributes:
        documents: how many.
        checkpoint: of the log.
        signed_by: keys that the caller gave; their signatures hold.
    """

    documents: int
    checkpoint: Checkpoint
    signed_by: tuple[Verifier, ...]


def check_sample(folder: str, keys: Sequence[Verifier] = ()) -> CheckedSample:
    """Checks every row and every proof of a sample.

    Args:
        folder: of the sample.
        keys: public keys that must have signed the checkpoint; none: whoever gave the sample can have made that, too.

    Raises UsageError where the folder holds no sample with proofs; JobError, which names the document, where one is not
    as it was sealed.
    """
    plan = files.read_json(files.join(folder, PLAN))
    if plan is None or plan.get("format") != FORMAT:
        raise UsageError(f"{folder}: holds no sample (no {PLAN} of it)")
    if not plan.get("seal"):
        raise UsageError(f"{folder}: was drawn with --unsealed, and holds no proofs")
    path = files.join(folder, CHECKPOINT)
    try:
        note = parse_note(files.read_bytes(path), path, unsigned=True)
        checkpoint = parse_checkpoint(note.text, path)
        if keys:
            verify_note(note, keys, path)
        documents = _rows(folder, checkpoint, context_digest(plan["seal"]["context"]))
    except (OSError, pa.ArrowException) as error:
        raise JobError(f"{folder}: cannot be read: {error}") from None
    if documents != plan["sample"]["documents"]:
        raise JobError(f"{folder}/{ROWS}: has {documents:,} rows, and {PLAN} says {plan['sample']['documents']:,}")
    return CheckedSample(documents, checkpoint, tuple(keys))


def _rows(folder: str, checkpoint: Checkpoint, context: bytes) -> int:
    documents = 0
    with files.open_read(files.join(folder, ROWS)) as rows, files.open_read(files.join(folder, PROOFS)) as proofs:
        for batch in pq.ParquetFile(rows).iter_batches(_ROWS, use_threads=False):
            lines = list(_proofs(proofs, f"{folder}/{PROOFS}", batch.num_rows))
            _check(pa.Table.from_batches([batch]), lines, checkpoint, context, folder)
            documents += batch.num_rows
        if proofs.readline():
            raise JobError(f"{folder}/{PROOFS}: has more proofs than there are rows")
    return documents


def _check(
    rows: pa.Table, proofs: Sequence[tuple[str, int, list[bytes]]], checkpoint: Checkpoint, context: bytes, folder: str
) -> None:
    try:
        own = rows.select(OUTPUT.names).cast(OUTPUT)
        entries = document_entries(own, Place.RESERVE, context)
    except (KeyError, ValueError) as error:
        raise JobError(f"{folder}/{ROWS}: its rows cannot be read: {error}") from None
    ids, texts, digests = (own[name].to_pylist() for name in ("doc_id", "text", "text_sha256"))
    indexes = rows["log_index"].to_pylist()
    if len(proofs) != len(ids):
        raise JobError(f"{folder}/{PROOFS}: has fewer proofs than there are rows")
    for at, (doc_id, index, hashes) in enumerate(proofs):
        where = f"{folder}/{ROWS}: document {ids[at]}"
        if text_digest(texts[at]) != digests[at]:
            raise JobError(f"{where}: the text is not the one that was sealed")
        if (doc_id, index) != (ids[at], indexes[at]):
            raise JobError(f"{where}: the proof in its place is that of {doc_id}, entry {index}")
        try:
            verify_inclusion(leaf_hash(entries[at].tobytes()), index, checkpoint.size, hashes, checkpoint.root)
        except ProofError as error:
            raise JobError(f"{where}: not as it was sealed: {error}") from None


def _proofs(stream: BinaryIO, name: str, count: int) -> Iterator[tuple[str, int, list[bytes]]]:
    for line in islice(iter(stream.readline, b""), count):
        try:
            one: dict[str, Any] = json.loads(line)
            yield one["doc_id"], int(one["index"]), [base64.b64decode(node, validate=True) for node in one["hashes"]]
        except (ValueError, KeyError, TypeError) as error:
            raise JobError(f"{name}: holds a line that is no proof: {error}") from None
