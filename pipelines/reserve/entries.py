"""The entries of the log: one for each document, each release, each withdrawal and each audit.

A leaf of the Merkle tree is SHA-256(0x00 ‖ entry) (RFC 9162, section 2.1.1). An entry begins with its kind and the
version of its encoding, a byte each. The kinds:

**Document** (0x01), 188 bytes; numbers are big-endian:

======  =====  =====================================================================================
offset  bytes  what
======  =====  =====================================================================================
0       2      0x01, 0x01
2       16     ``doc_id``
18      32     ``payload_sha256``: of the bytes that the crawler kept
50      32     ``text_sha256``: of the text as it stands in the archive
82      8      ``captured_at``: microseconds since 1970 UTC, two's complement; 0x80 and seven zeros where unknown
90      1      the folder: 1 reserve, 2 quarantine, 3 review, 4 duplicates
91      1      the verdict: 1 dated, 2 clear, 3 suspected, 4 marked, 5 declared, 6 undetermined
92      32     SHA-256 of ``evidence`` as one field (:mod:`pipelines.reserve.encoding`); of 0x00 for duplicates
124     32     SHA-256 of the row's other columns (all but ``text`` and those above), in the order of the schema
156     32     the context: SHA-256 of what decided (policy, models, registry of keys, settings, code), as the release
               states it
======  =====  =====================================================================================

**Release** (0x02), **withdrawal** (0x03) and **audit** (0x04): the two bytes, then one JSON object in UTF-8: sorted
keys, no white space, no NaN. :class:`Release`, :class:`Withdrawal` and :class:`Audit` say what they hold.

Documents of a release stand before its release entry, sorted by their bytes; so the root does not depend on who wrote
what in which order. Nothing of a text, nor a URL, can be read from an entry; a withdrawn document's entry stays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.records import DUPLICATES, OUTPUT, Place, Verdict
from pipelines.reserve.encoding import Bytes, encoded_column, encoded_rows, fixed_bytes

DOCUMENT, RELEASE, WITHDRAWAL, AUDIT = b"\x01\x01", b"\x02\x01", b"\x03\x01", b"\x04\x01"
DOCUMENT_BYTES: Final = 188
DOC_ID: Final = slice(2, 18)
PAYLOAD: Final = slice(18, 50)
TEXT: Final = slice(50, 82)
CAPTURED: Final = slice(82, 90)
PLACE: Final = 90
VERDICT: Final = 91
EVIDENCE: Final = slice(92, 124)
RECORD: Final = slice(124, 156)
CONTEXT: Final = slice(156, 188)
# What the parts of an entry are called where two of them differ.
PARTS: Final[Mapping[str, slice]] = {
    "doc_id": DOC_ID,
    "payload_sha256": PAYLOAD,
    "text_sha256": TEXT,
    "captured_at": CAPTURED,
    "folder": slice(PLACE, PLACE + 1),
    "verdict": slice(VERDICT, VERDICT + 1),
    "evidence": EVIDENCE,
    "other columns": RECORD,
    "context": CONTEXT,
}
PLACES: Final = (Place.RESERVE, Place.QUARANTINE, Place.REVIEW, Place.DUPLICATES)
VERDICTS: Final = tuple(Verdict)

_OWN = {"doc_id", "payload_sha256", "text_sha256", "captured_at", "verdict", "evidence", "text"}
_UNKNOWN_TIME = -(1 << 63)


def columns_of(place: Place) -> list[str]:
    """The columns that an entry is made of: all but the text, which its digest stands for."""
    return [name for name in _schema(place).names if name != "text"]


def document_entries(rows: pa.Table, place: Place, context: bytes) -> Bytes:
    """(rows, 188) uint8: the entry of each row of an output part, in the order of the rows.

    Args:
        rows: of `records.OUTPUT` or, for `place` duplicates, `records.DUPLICATES`; `text` may be left out.
        place: the folder in which they stand.
        context: 32 bytes, the digest of what decided.

    Raises ValueError where a digest is none or a verdict is not known.
    """
    names = columns_of(place)
    schema = pa.schema([_schema(place).field(name) for name in names])
    rows = rows.select(names).cast(schema)
    entries = np.empty((rows.num_rows, DOCUMENT_BYTES), np.uint8)
    entries[:, :2] = np.frombuffer(DOCUMENT, np.uint8)
    for part, name in ((DOC_ID, "doc_id"), (PAYLOAD, "payload_sha256"), (TEXT, "text_sha256")):
        entries[:, part] = fixed_bytes(rows[name], part.stop - part.start)
    when = pc.fill_null(rows["captured_at"].cast(pa.int64()), _UNKNOWN_TIME).to_numpy()
    entries[:, CAPTURED] = when.astype(">i8").view(np.uint8).reshape(-1, 8)
    entries[:, PLACE] = PLACES.index(place) + 1
    entries[:, VERDICT] = _codes(rows["verdict"])
    evidence = rows["evidence"] if "evidence" in names else pa.nulls(rows.num_rows, pa.string())
    entries[:, EVIDENCE] = encoded_column(evidence).sha256()
    others = [name for name in names if name not in _OWN]
    entries[:, RECORD] = encoded_rows(rows.select(others)).sha256()
    entries[:, CONTEXT] = np.frombuffer(context, np.uint8)
    return entries


def differing(one: Bytes, other: Bytes) -> list[str]:
    """The parts in which two document entries (188,) differ, by name."""
    return [name for name, part in PARTS.items() if (one[part] != other[part]).any()]


def sorted_entries(entries: Bytes) -> Bytes:
    """The same entries (n, 188) in the order of their bytes; the first that differ are those of the `doc_id`."""
    whole = np.ascontiguousarray(entries).view(f"V{DOCUMENT_BYTES}").reshape(-1)
    # numpy does not sort void; strings of bytes lose trailing zeros, and so does their order nothing.
    return entries[np.argsort(whole.view(f"S{DOCUMENT_BYTES}"), kind="stable")]


def kind_of(entry: bytes) -> str:
    """``document``, ``release``, ``withdrawal`` or ``audit``. Raises ValueError for anything else."""
    kinds = {DOCUMENT: "document", RELEASE: "release", WITHDRAWAL: "withdrawal", AUDIT: "audit"}
    found = kinds.get(entry[:2])
    if found is None or (found == "document" and len(entry) != DOCUMENT_BYTES):
        raise ValueError(f"an entry that begins with {entry[:2].hex()} and has {len(entry)} bytes is of no known kind")
    return found


@dataclass(frozen=True)
class _Json:
    """An entry that is a JSON object."""

    @classmethod
    def _head(cls) -> bytes:
        raise NotImplementedError

    def encode(self) -> bytes:
        """The bytes of the entry."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return self._head() + text.encode()

    @classmethod
    def decode(cls, entry: bytes) -> Self:
        """The inverse. Raises ValueError for bytes that :meth:`encode` did not give."""
        try:
            data = json.loads(entry[2:])
            found = cls(**data)
        except (ValueError, TypeError) as error:
            raise ValueError(f"an entry of the log cannot be read: {error}") from None
        if entry[:2] != cls._head() or found.encode() != entry:
            raise ValueError("an entry of the log is not in its canonical form")
        return found


@dataclass(frozen=True)
class Release(_Json):
    """The end of a release: what it holds, and what decided.

    Attributes:
        number: 1 for the first release of an archive.
        documents: how many document entries it has, and so how many stand before this one.
        records: records of the release by folder, rejects among them.
        manifest: SHA-256, in hex, of ``seal/manifest.jsonl``: name, size and SHA-256 of every file of the release.
        context: the digests, in hex, of policy, models, registry, settings and code; what a document's entry holds is
            the SHA-256 of this object, encoded as entries are.
        previous: size and root, in hex, of the earlier release's log; None for the first.
        captured_before: the latest capture time among the documents, on the word of the crawl; None where none has one.
    """

    number: int
    documents: int
    records: Mapping[str, int]
    manifest: str
    context: Mapping[str, str | None]
    previous: Mapping[str, Any] | None
    captured_before: str | None

    @classmethod
    def _head(cls) -> bytes:
        return RELEASE


@dataclass(frozen=True)
class Withdrawal(_Json):
    """A document that was removed.

    Attributes:
        doc_id: 32 hex digits.
        index: of the document's entry in the log.
        reason: why, in the words of whoever removed it.
        at: when, RFC 3339 in UTC.
        manifest: SHA-256, in hex, of the manifest from then on.
    """

    doc_id: str
    index: int
    reason: str
    at: str
    manifest: str

    @classmethod
    def _head(cls) -> bytes:
        return WITHDRAWAL


@dataclass(frozen=True)
class Audit(_Json):
    """What people said of documents of the release that were drawn at random, and what follows from it.

    Attributes:
        number: 1 for the first audit of a release; the latest counts, and the earlier ones stay.
        at: when it was certified, RFC 3339 in UTC.
        labels: SHA-256, in hex, of ``audit/labels-<number>.jsonl``.
        plan: SHA-256, in hex, of ``audit/plan-<number>.json``.
        seed_from: ``seal``: the sample was drawn by the root of the documents, which nobody can choose; otherwise
            ``given`` or ``default``.
        drawn: how many documents the sample has, controls not counted.
        labelled: how many of these have labels.
        people: how many gave them.
        withdrawn: how many of these documents were withdrawn since the release; their labels and weights stay.
        level: of confidence, both of the bound and of the intervals.
        reserve: of the reserve, at most the part ``bound``, from 0 to 1, is machine text; and ``method``, by which that
            was found (:mod:`pipelines.review.bounds`).
        documents: the share of machine text in all that is kept, each document counted once: ``estimate`` (None where
            there is none), ``low`` and ``high``, from 0 to 1, and ``method`` (:mod:`pipelines.review.estimates`).
        captures: the same with each document counted as often as it was captured.
        manifest: SHA-256, in hex, of the manifest from then on.
    """

    number: int
    at: str
    labels: str
    plan: str
    seed_from: str
    drawn: int
    labelled: int
    people: int
    withdrawn: int
    level: float
    reserve: Mapping[str, Any]
    documents: Mapping[str, Any]
    captures: Mapping[str, Any]
    manifest: str

    @classmethod
    def _head(cls) -> bytes:
        return AUDIT


def _codes(verdicts: pa.ChunkedArray) -> Bytes:
    found = pc.index_in(verdicts, pa.array([v.value for v in VERDICTS]))
    if found.null_count:
        raise ValueError(f"unknown verdict {verdicts.filter(found.is_null())[0].as_py()!r}")
    return np.asarray(found.to_numpy() + 1, np.uint8)


def _schema(place: Place) -> pa.Schema:
    return DUPLICATES if place is Place.DUPLICATES else OUTPUT
