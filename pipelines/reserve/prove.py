"""Proofs of single documents: a file that stands alone, and is checked without the archive.

A proof is one JSON object:

==============  ====================================================================================================
``format``      ``human-reserve proof 1``
``index``       of the document's entry in the log
``entry``       the entry (:mod:`pipelines.reserve.entries`), base64
``hashes``      the inclusion proof of RFC 9162, section 2.1.3, from the leaf up, base64 each
``checkpoint``  the signed checkpoint, as it lies in the seal
``context``     digests of policy, models, registry, settings and code, whose own digest stands in the entry
``folder``      where the document stands
``document``    its row but for the text: decision, reason and evidence, which the entry commits to
``text``        its text, where it was asked for
``withdrawn``   where it was withdrawn: reason, time, and the index of the tombstone in the log
==============  ====================================================================================================

What it proves: that whoever signed the checkpoint had this decision on this document in the log. When the page was
captured rests on the word of the crawl, and nothing in it says that a person wrote the text.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from pipelines.errors import JobError, UsageError
from pipelines.explain import find_document
from pipelines.layout import Layout
from pipelines.records import DUPLICATES, OUTPUT, TIMESTAMP, Place, canonical_time
from pipelines.reserve.chain import Chain, chain_of
from pipelines.reserve.checkpoint import Checkpoint, parse_checkpoint
from pipelines.reserve.entries import PLACE, PLACES, columns_of, differing, document_entries, kind_of
from pipelines.reserve.leaves import text_digest
from pipelines.reserve.merkle import leaf_hash
from pipelines.reserve.note import Verifier, parse_note, verify_note
from pipelines.reserve.proofs import ProofError, verify_inclusion
from pipelines.reserve.seal import Sealed, context_digest, read_seal
from pipelines.reserve.tiles import TileReader

FORMAT: Final = "human-reserve proof 1"


class Checked(NamedTuple):
    """What a proof has shown.

    Attributes:
        checkpoint: of the log.
        signed_by: keys whose signatures hold; none: whoever gave the proof can have made the checkpoint, too.
        at: the index of the entry.
        folder: where the document stands, in words of the design: reserve, quarantine, review, duplicates.
        document: the row, as JSON types.
        text: whether the proof holds the text, and it is the one that was sealed.
        withdrawn: the tombstone as the proof tells it, which only the archive itself can confirm.
    """

    checkpoint: Checkpoint
    signed_by: tuple[Verifier, ...]
    at: int
    folder: str
    document: Mapping[str, Any]
    text: bool
    withdrawn: Mapping[str, Any] | None


def prove(output: str, doc_id: str, text: bool = False) -> dict[str, Any]:
    """The proof of a document of an output, as JSON types.

    Args:
        output: a sealed output.
        doc_id: 32 hex digits, or enough of the first ones.
        text: whether the proof shall hold the text.

    Raises UsageError or JobError where there is no such document or no seal, and where the row is not as sealed.
    """
    sealed = read_seal(Layout(output).seal)
    if sealed is None:
        raise UsageError(f"{output}: holds no seal; run it with seal.enabled=true")
    row = find_document(output, doc_id)
    place = Place(row["place"])
    reader = sealed.reader()
    chain = chain_of(reader)
    context = chain.latest.release.context
    entry = _entry(row, place, context)
    index = find_entry(reader, chain, entry)
    if index is None:
        raise JobError(f"{output}: document {row['doc_id']} is not as it was sealed; see 'reserve verify {output}'")
    proof: dict[str, Any] = {
        **_log_part(sealed, reader, index, entry),
        "context": dict(context),
        "folder": place.value,
        "document": {name: _json(row[name]) for name in columns_of(place)},
    }
    if text:
        if row["text"] is None:
            raise UsageError(f"{row['doc_id']}: the archive keeps no text of it; the same one stands elsewhere")
        proof["text"] = row["text"]
    return proof


def _log_part(sealed: Sealed, reader: TileReader, index: int, entry: bytes) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "index": index,
        "entry": _base64(entry),
        "hashes": [_base64(one) for one in reader.inclusion_proof(index)],
        "checkpoint": sealed.note.encode().decode(),
    }


def find_entry(reader: TileReader, chain: Chain, entry: bytes) -> int | None:
    """The index of a document's entry in the latest release, by bisection; None where it is not there."""
    at = chain.bisect(reader, entry)
    return at if at < chain.latest.at and reader.entry(at) == entry else None


def check(proof: Any, keys: Sequence[Verifier] = (), source: str = "proof") -> Checked:
    """Checks a proof, without the archive.

    Args:
        proof: as :func:`prove` gave it, and JSON read it.
        keys: public keys that must have signed the checkpoint.
        source: what errors call it; a path, say.

    Raises JobError that says what does not hold.
    """
    data = _shape(proof, source)
    note = parse_note(data["checkpoint"].encode(), source, unsigned=True)
    checkpoint = parse_checkpoint(note.text, source)
    if keys:
        verify_note(note, keys, source)
    entry, hashes = _bytes(data["entry"], source), [_bytes(one, source) for one in data["hashes"]]
    try:
        verify_inclusion(leaf_hash(entry), data["index"], checkpoint.size, hashes, checkpoint.root)
        if kind_of(entry) != "document":
            raise ProofError(f"entry {data['index']} is no document's")
    except (ProofError, ValueError) as error:
        raise JobError(f"{source}: the document is not in the log: {error}") from None
    try:
        place = Place(data["folder"])
        made = _entry(data["document"], place, data["context"])
    except (ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise JobError(f"{source}: the document of the proof cannot be read: {error}") from None
    if made != entry:
        raise JobError(f"{source}: the document is not the one that was sealed: {_difference(made, entry)}")
    text = data.get("text")
    if text is not None and text_digest(text) != data["document"]["text_sha256"]:
        raise JobError(f"{source}: the text is not the one that was sealed")
    folder = PLACES[entry[PLACE] - 1].value
    return Checked(
        checkpoint, tuple(keys), data["index"], folder, data["document"], text is not None, data.get("withdrawn")
    )


def _difference(made: bytes, sealed: bytes) -> str:
    return ", ".join(differing(np.frombuffer(made, np.uint8), np.frombuffer(sealed, np.uint8)))


def _entry(row: Mapping[str, Any], place: Place, context: Mapping[str, str | None]) -> bytes:
    """The entry that a row makes."""
    schema = DUPLICATES if place is Place.DUPLICATES else OUTPUT
    fields = pa.schema([schema.field(name) for name in columns_of(place)])
    values = {name: _value(row[name], fields.field(name).type) for name in fields.names}
    return document_entries(pa.Table.from_pylist([values], fields), place, context_digest(context)).tobytes()


def _value(value: Any, kind: pa.DataType) -> Any:
    return datetime.fromisoformat(value) if kind == TIMESTAMP and isinstance(value, str) else value


def _json(value: Any) -> Any:
    return canonical_time(value) if isinstance(value, datetime) else value


def _shape(proof: Any, source: str) -> dict[str, Any]:
    kinds = {"index": int, "entry": str, "hashes": list, "checkpoint": str, "context": dict, "folder": str}
    if not isinstance(proof, dict) or proof.get("format") != FORMAT:
        raise JobError(f"{source}: is no proof of this kind ({FORMAT})")
    for name, kind in {**kinds, "document": dict}.items():
        if not isinstance(proof.get(name), kind):
            raise JobError(f"{source}: lacks {name!r}, or holds it in another form")
    if not isinstance(proof.get("text", ""), str):
        raise JobError(f"{source}: holds 'text' in another form")
    return proof


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: Any, source: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, TypeError):
        raise JobError(f"{source}: holds something that is no base64") from None


def read_proof(path: str, content: bytes) -> Any:
    """A proof from a file. Raises JobError where it is no JSON."""
    try:
        return json.loads(content)
    except ValueError as error:
        raise JobError(f"{path}: is no JSON: {error}") from None
