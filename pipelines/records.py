"""The Arrow schemas that pass between stages, and the enums in them.

A batch of documents is a ``pyarrow.RecordBatch`` of one of these schemas; kernels take and give batches. Identity comes
from content, never from order::

    doc_id = first 16 bytes of SHA-256(url ‖ 0x00 ‖ capture time ‖ 0x00 ‖ SHA-256(payload))

with the URL in UTF-8 (empty where unknown) and the capture time as :func:`canonical_time` writes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa


class Verdict(StrEnum):
    """What the policy makes of all evidence on a document."""

    DATED = "dated"
    CLEAR = "clear"
    SUSPECTED = "suspected"
    MARKED = "marked"
    DECLARED = "declared"
    UNDETERMINED = "undetermined"


class Place(StrEnum):
    """Where an input record ends; every record ends in exactly one."""

    RESERVE = "reserve"
    QUARANTINE = "quarantine"
    REVIEW = "review"
    DUPLICATES = "duplicates"
    REJECTS = "rejects"


class Reason(StrEnum):
    """Why an input record, or a stretch of a shard, gave no document."""

    NOT_A_PAGE = "not_a_page"  # warcinfo, request, metadata, revisit: a record, but no page
    HTTP_STATUS = "http_status"  # a response other than 200
    CONTENT_TYPE = "content_type"  # neither HTML nor plain text
    NO_TEXT = "no_text"  # the page, or its main content, is empty
    BAD_RECORD = "bad_record"  # a record whose header, HTTP message, JSON or row cannot be read
    ENCODING = "encoding"  # content or transfer encoding cannot be undone
    TOO_LARGE = "too_large"  # over the job's cap for one record
    DAMAGED = "damaged"  # a stretch of the shard that cannot be decoded
    TRUNCATED = "truncated"  # the shard ends inside a record
    DIGEST_MISMATCH = "digest_mismatch"  # the record's bytes are not those that the crawler wrote
    UNSUPPORTED = "unsupported"  # the shard is of a format that is not read
    EMPTY_SHARD = "empty_shard"  # the shard holds no byte
    MISSING_COLUMN = "missing_column"  # a Parquet shard without a text column


class Evidence(NamedTuple):
    """One finding of one check on one document. ``probability`` is calibrated; ``p_value`` is under the null."""

    source: str  # the check: "declaration", "leak", "hidden_characters", or a detector's name
    kind: str  # what was found; the policy's words
    score: float | None = None
    p_value: float | None = None
    probability: float | None = None
    detail: str | None = None


TIMESTAMP = pa.timestamp("us", tz="UTC")
DOC_ID = pa.binary(16)
SHA256 = pa.binary(32)

EVIDENCE_ITEM = pa.struct(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("score", pa.float64()),
        pa.field("p_value", pa.float64()),
        pa.field("probability", pa.float32()),
        pa.field("detail", pa.string()),
    ]
)
EVIDENCE = pa.list_(pa.field("element", EVIDENCE_ITEM, nullable=False))

# What ingest yields. `evidence` holds what the page's bytes and headers showed before the text was extracted.
DOCUMENTS = pa.schema(
    [
        pa.field("doc_id", DOC_ID, nullable=False),
        pa.field("record_offset", pa.int64(), nullable=False),
        pa.field("url", pa.string()),
        pa.field("host", pa.string()),
        pa.field("captured_at", TIMESTAMP),
        pa.field("payload_sha256", SHA256, nullable=False),
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("evidence", EVIDENCE, nullable=False),
    ]
)

# A record, or a stretch of a shard, that gave no document.
REJECTS = pa.schema(
    [
        pa.field("shard", pa.string(), nullable=False),
        pa.field("record_offset", pa.int64(), nullable=False),
        pa.field("length", pa.int64()),  # bytes of the shard from there on; null where records lie in decoded text
        pa.field("url", pa.string()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string()),
    ]
)

# What inspect writes to staging, one file a shard, rows in the order of the shard.
STAGED = pa.schema(
    [
        *DOCUMENTS.remove(DOCUMENTS.get_field_index("evidence")),
        pa.field("text_sha256", SHA256, nullable=False),
        pa.field("language", pa.string()),
        pa.field("machine_probability", pa.float32()),
        pa.field("evidence", EVIDENCE, nullable=False),
    ]
)


def signatures_schema(permutations: int) -> pa.Schema:
    """What cluster reads: row i belongs to row i of the shard's staged documents. No text.

    A row without a signature says the same, byte for byte, as another one that has it.
    """
    return pa.schema(
        [
            pa.field("doc_id", DOC_ID, nullable=False),
            pa.field("captured_at", TIMESTAMP),
            pa.field("text_sha256", SHA256, nullable=False),
            pa.field("shingles", pa.int32(), nullable=False),  # shingles hashed, repeats counted
            pa.field("length", pa.uint32(), nullable=False),  # bytes of the text in UTF-8
            pa.field("findings", pa.uint16(), nullable=False),  # items of evidence
            pa.field("signature", pa.binary(4 * permutations)),  # uint32, little-endian
        ]
    )


def index_schema(permutations: int) -> pa.Schema:
    """What a finished output says of its documents to later runs: their signatures, and which of them it keeps."""
    return signatures_schema(permutations).append(pa.field("kept", pa.bool_(), nullable=False))


# What cluster writes: one file a shard, one row for each document that shares a cluster with another.
CLUSTERS = pa.schema(
    [
        pa.field("row", pa.int32(), nullable=False),  # row in the shard's staged documents, ascending
        pa.field("cluster_id", DOC_ID, nullable=False),  # the doc_id of the copy that is kept
        pa.field("cluster_size", pa.int32(), nullable=False),
        pa.field("kept", pa.bool_(), nullable=False),
        pa.field("kept_unit", pa.int32(), nullable=False),  # ordinal of the unit, by name, that holds the kept copy
        pa.field("bears_text", pa.bool_(), nullable=False),  # the one through which the output holds its text
        pa.field("jaccard", pa.float32(), nullable=False),  # similarity to the kept copy; 1 for itself
        # The earliest-captured document with a verified edge to this one, where it is older than this one.
        pa.field("older_doc_id", DOC_ID),
        pa.field("older_captured_at", TIMESTAMP),
        pa.field("older_jaccard", pa.float32()),
    ]
)

# The columns of reserve/, quarantine/ and review/.
OUTPUT = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),  # 32 hex digits
        pa.field("url", pa.string()),
        pa.field("host", pa.string()),
        pa.field("captured_at", TIMESTAMP),
        pa.field("language", pa.string()),
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("text_sha256", pa.string(), nullable=False),  # 64 hex digits
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("machine_probability", pa.float32()),
        pa.field("evidence", EVIDENCE, nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("record_offset", pa.int64(), nullable=False),
        pa.field("cluster_id", pa.string()),
        pa.field("cluster_size", pa.int32(), nullable=False),
        pa.field("because", pa.string(), nullable=False),  # the policy's rule in plain words
        pa.field("whole_text_sha256", pa.string()),  # of the text before repeated paragraphs were cut; null: none was
        pa.field("posterior", pa.float32()),  # of machine origin, from all evidence and the capture month's prior
        pa.field("payload_sha256", pa.string(), nullable=False),  # 64 hex digits: of the bytes that the crawler kept
    ]
)

DUPLICATES = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("url", pa.string()),
        pa.field("captured_at", TIMESTAMP),
        pa.field("kept_doc_id", pa.string(), nullable=False),
        pa.field("jaccard", pa.float32(), nullable=False),  # similarity to the kept copy
        pa.field("host", pa.string()),
        pa.field("language", pa.string()),
        pa.field("verdict", pa.string(), nullable=False),  # what it would be if it stood alone
        pa.field("machine_probability", pa.float32()),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("record_offset", pa.int64(), nullable=False),
        pa.field("because", pa.string(), nullable=False),
        pa.field("kept_in", pa.string()),  # digest of the job that wrote the kept copy's output; null: this one
        pa.field("text_sha256", pa.string(), nullable=False),
        # Null where another document of the outputs has the very same text (before repeated paragraphs are cut).
        pa.field("text", pa.large_string()),
        pa.field("payload_sha256", pa.string(), nullable=False),
    ]
)


def canonical_time(when: datetime | None) -> str:
    """The capture time as it enters ``doc_id``: RFC 3339 in UTC, seconds, and microseconds only where there are any."""
    if when is None:
        return ""
    return when.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def doc_id(url: str | None, captured_at: datetime | None, payload_sha256: bytes) -> bytes:
    """The 16-byte identity of a document, from its content alone."""
    head = (url or "").encode("utf-8", "surrogatepass") + b"\0" + canonical_time(captured_at).encode() + b"\0"
    return hashlib.sha256(head + payload_sha256).digest()[:16]


class EvidenceBuilder:
    """Collects findings on the rows of one batch, in any order, and lays them out as an Arrow list column.

    Findings on a row keep the order in which they were added.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._at: list[npt.NDArray[np.int64]] = []
        self._items: list[pa.StructArray] = []

    def add(self, row: int, findings: Sequence[Evidence]) -> None:
        """Adds the findings on one row."""
        if findings:
            self.add_many([row] * len(findings), findings)

    def add_many(self, rows: Sequence[int], findings: Sequence[Evidence]) -> None:
        """Adds ``findings[i]`` to row ``rows[i]``."""
        self._at.append(np.asarray(rows, np.int64))
        self._items.append(pa.array([f._asdict() for f in findings], EVIDENCE_ITEM))

    def add_items(self, rows: npt.NDArray[np.int64], items: pa.StructArray) -> None:
        """Adds ``items[i]``, of type :data:`EVIDENCE_ITEM`, to row ``rows[i]``."""
        self._at.append(rows)
        self._items.append(items)

    def add_column(self, column: pa.ListArray) -> None:
        """Adds a whole evidence column of the same number of rows."""
        parents = column.value_parent_indices().to_numpy(zero_copy_only=False).astype(np.int64)
        self.add_items(parents, column.flatten())

    def finish(self) -> pa.ListArray:
        """The evidence column, of type :data:`EVIDENCE`."""
        if not self._at:
            offsets = np.zeros(self._rows + 1, np.int32)
            return pa.ListArray.from_arrays(offsets, pa.array([], EVIDENCE_ITEM), type=EVIDENCE)
        at = np.concatenate(self._at)
        items = pa.chunked_array(self._items, EVIDENCE_ITEM).combine_chunks()
        order = np.argsort(at, kind="stable")
        offsets = np.concatenate([[0], np.cumsum(np.bincount(at, minlength=self._rows))]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), items.take(pa.array(order)), type=EVIDENCE)
