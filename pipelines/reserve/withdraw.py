"""Withdrawal: a document leaves a sealed output, and a tombstone in the log says that it did.

Its row leaves the part that holds it, the index and the samples that the report shows; its entry stays in the log,
which holds digests alone, so that every proof over the others still holds. The files that change get new digests in a
new manifest, and the tombstone commits to that.

A withdrawal that was killed on the way is finished by the same command.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines import files
from pipelines.errors import JobError, UsageError
from pipelines.layout import Layout
from pipelines.records import canonical_time
from pipelines.reserve.amend import manifest_digest, open_sealed
from pipelines.reserve.chain import Chain
from pipelines.reserve.entries import DOC_ID, DOCUMENT, PLACES, Withdrawal
from pipelines.reserve.manifest import FileDigest, digest_file, write_parquet
from pipelines.reserve.note import Signer
from pipelines.reserve.tiles import TileReader

# Writes what is made of the statistics again, once a document has left them; gives the paths of these files.
Rewrite = Callable[[str], list[str]]


def withdraw(
    output: str, doc_id: str, reason: str, signers: Sequence[Signer], rewrite: Rewrite, when: datetime | None = None
) -> Withdrawal:
    """Removes one document of a sealed output.

    Args:
        output: its folder.
        doc_id: 32 hex digits.
        reason: why; it stands in the log for good.
        signers: keys; one of those that signed the checkpoint must be among them.
        rewrite: what makes the report anew.
        when: the time to write down; None: now.

    Raises UsageError where the output is not sealed, the keys are others, or there is no such document; JobError where
    the output is not as sealed.
    """
    amending = open_sealed(output, signers)
    layout = amending.layout
    if not reason.strip():
        raise UsageError("--reason: say why; the log keeps it")
    indexes = _indexes(amending.reader, amending.chain, doc_id)
    changed = _without(layout, amending.manifest, doc_id)
    changed += [digest_file(path, layout.name(path)) for path in rewrite(output)]
    content = amending.manifest_with(changed)
    at = canonical_time((when or datetime.now(UTC)).replace(microsecond=0))
    tombstones = [Withdrawal(doc_id, index, reason, at, manifest_digest(content)) for index in indexes]
    amending.append([tombstone.encode() for tombstone in tombstones], content, signers)
    return tombstones[-1]


def _indexes(reader: TileReader, chain: Chain, doc_id: str) -> list[int]:
    """Where the log has the document, unless it was withdrawn: mostly one place, two for a repeated capture."""
    try:
        key = bytes.fromhex(doc_id)
    except ValueError:
        key = b""
    if len(key) != DOC_ID.stop - DOC_ID.start:
        raise UsageError(f"{doc_id}: a doc_id is 32 hex digits, and a withdrawal wants them all")
    at = chain.bisect(reader, DOCUMENT + key)
    found = []
    while at < chain.latest.at and reader.entry(at)[DOC_ID] == key:
        if at not in chain.withdrawn:
            found.append(at)
        at += 1
    if not found:
        known = any(withdrawal.doc_id == doc_id for _, withdrawal in chain.withdrawals)
        raise UsageError(f"{doc_id}: {'was withdrawn before' if known else 'is no document of this release'}")
    return found


def _without(layout: Layout, manifest: Mapping[str, FileDigest], doc_id: str) -> list[FileDigest]:
    """Writes each Parquet file that has rows of the document again, without them; gives the new digests.

    A file that a killed withdrawal wrote is none that was sealed, but holds no such row any more: it is taken as it is.
    """
    changed = []
    folders = {place.value for place in PLACES} | {"index"}
    for name, sealed in manifest.items():
        if not name.endswith(".parquet") or not (name.split("/")[0] in folders or name == "statistics/samples.parquet"):
            continue
        path = files.join(layout.output, *name.split("/"))
        with files.open_read(path) as stream:
            file = pq.ParquetFile(stream)
            rows = _rows_of(file.read(columns=["doc_id"])["doc_id"], doc_id)
        found = digest_file(path, name)
        if len(rows):
            if found != sealed:
                raise JobError(f"{path}: is not as it was sealed; run 'reserve verify {layout.output}' first")
            table = files.read_parquet(path)
            kept = np.setdiff1d(np.arange(table.num_rows), rows)
            dictionary = name.split("/")[0] != "index"
            group = max(1, file.metadata.row_group(0).num_rows) if file.num_row_groups else 1
            found = write_parquet(path, name, table.take(kept), use_dictionary=dictionary, row_group_size=group)
        if found != sealed:
            changed.append(found)
    return changed


def _rows_of(ids: pa.ChunkedArray, doc_id: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    wanted = pa.scalar(doc_id) if pa.types.is_string(ids.type) else pa.scalar(bytes.fromhex(doc_id), ids.type)
    return np.flatnonzero(pc.equal(ids, wanted).to_numpy())
