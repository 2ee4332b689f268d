"""Entries of the log: made of what the archive holds, and different wherever that is."""

import hashlib
import struct
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.records import DUPLICATES, OUTPUT, Place
from pipelines.reserve.encoding import encoded_column, encoded_rows
from pipelines.reserve.entries import (
    DOCUMENT_BYTES,
    PARTS,
    Audit,
    Release,
    Withdrawal,
    differing,
    document_entries,
    kind_of,
    sorted_entries,
)

CONTEXT = bytes(range(32))
ROW: dict[str, Any] = {
    "doc_id": "0f" * 16,
    "url": "https://a.example/",
    "host": "a.example",
    "captured_at": datetime(2019, 3, 1, 12, 0, 0, 5, tzinfo=UTC),
    "language": "en",
    "text": "A text.",
    "text_sha256": hashlib.sha256(b"A text.").hexdigest(),
    "verdict": "dated",
    "machine_probability": 0.25,
    "evidence": [
        {"source": "s", "kind": "k", "score": 1.5, "p_value": None, "probability": None, "detail": "at 7"},
        {"source": "s", "kind": "k", "score": None, "p_value": 0.5, "probability": 0.5, "detail": None},
    ],
    "shard": "crawl-0",
    "record_offset": 7,
    "cluster_id": None,
    "cluster_size": 1,
    "because": "a rule",
    "whole_text_sha256": None,
    "posterior": 0.125,
    "payload_sha256": "ab" * 32,
}
CHANGES: dict[str, tuple[Any, str]] = {
    "doc_id": ("1f" * 16, "doc_id"),
    "url": ("https://a.example", "other columns"),
    "host": (None, "other columns"),
    "captured_at": (datetime(2019, 3, 1, 12, tzinfo=UTC), "captured_at"),
    "language": ("de", "other columns"),
    "text_sha256": ("00" * 32, "text_sha256"),
    "verdict": ("clear", "verdict"),
    "machine_probability": (0.5, "other columns"),
    "evidence": ([], "evidence"),
    "shard": ("crawl-1", "other columns"),
    "record_offset": (8, "other columns"),
    "cluster_id": ("0f" * 16, "other columns"),
    "cluster_size": (2, "other columns"),
    "because": ("another rule", "other columns"),
    "whole_text_sha256": ("00" * 32, "other columns"),
    "posterior": (None, "other columns"),
    "payload_sha256": ("00" * 32, "payload_sha256"),
}


def entry(row: dict[str, Any], place: Place = Place.RESERVE, context: bytes = CONTEXT) -> np.ndarray[Any, Any]:
    schema = DUPLICATES if place is Place.DUPLICATES else OUTPUT
    full = {name: row.get(name) for name in schema.names}
    full |= {"kept_doc_id": "00" * 16, "jaccard": 0.9} if place is Place.DUPLICATES else {}
    return document_entries(pa.Table.from_pylist([full], schema), place, context)[0]


def test_the_layout_is_the_documented_one() -> None:
    table = pa.Table.from_pylist([ROW], OUTPUT)
    others = table.drop_columns(
        ["doc_id", "payload_sha256", "text_sha256", "captured_at", "verdict", "evidence", "text"]
    )
    expected = b"\1\1" + bytes.fromhex(ROW["doc_id"] + ROW["payload_sha256"] + ROW["text_sha256"])
    expected += struct.pack(">q", round(ROW["captured_at"].timestamp() * 1_000_000)) + b"\1\1"
    expected += hashlib.sha256(encoded_column(table["evidence"]).row(0)).digest()
    expected += hashlib.sha256(encoded_rows(others).row(0)).digest() + CONTEXT
    assert entry(ROW).tobytes() == expected
    assert len(expected) == DOCUMENT_BYTES == sum(part.stop - part.start for part in PARTS.values()) + 2
    assert kind_of(expected) == "document"


def test_every_column_but_the_text_has_a_change_here() -> None:
    assert set(CHANGES) == set(OUTPUT.names) - {"text"}


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_of_a_column_shows_where(name: str) -> None:
    value, part = CHANGES[name]
    assert differing(entry(ROW), entry(ROW | {name: value})) == [part]


def test_folder_and_context_show() -> None:
    assert differing(entry(ROW), entry(ROW, Place.QUARANTINE)) == ["folder"]
    assert differing(entry(ROW), entry(ROW, context=bytes(32))) == ["context"]
    assert {"folder", "evidence", "other columns"} == set(differing(entry(ROW), entry(ROW, Place.DUPLICATES)))


def test_unknown_times_are_no_time() -> None:
    unknown = entry(ROW | {"captured_at": None})
    assert unknown[82:90].tobytes() == b"\x80" + bytes(7)
    assert entry(ROW | {"captured_at": datetime(1970, 1, 1, tzinfo=UTC)})[82:90].tobytes() == bytes(8)


def test_text_is_not_needed_and_bad_values_are_named() -> None:
    table = pa.Table.from_pylist([ROW], OUTPUT)
    assert (document_entries(table.drop_columns(["text"]), Place.RESERVE, CONTEXT)[0] == entry(ROW)).all()
    with pytest.raises(ValueError, match="unknown verdict 'human'"):
        entry(ROW | {"verdict": "human"})
    with pytest.raises(ValueError, match="hex"):
        entry(ROW | {"text_sha256": "x" * 64})


def test_entries_are_sorted_by_all_their_bytes() -> None:
    random = np.random.default_rng(3)
    entries = random.integers(0, 3, (500, DOCUMENT_BYTES), np.uint8)
    entries[:, :150] = 0
    expected = sorted(row.tobytes() for row in entries)
    assert [row.tobytes() for row in sorted_entries(entries)] == expected


def test_releases_and_withdrawals_are_canonical_json() -> None:
    release = Release(2, 5, {"reserve": 3}, "00" * 32, {"policy": "ü", "models": None}, {"size": 9, "root": "11"}, None)
    data = release.encode()
    assert data.startswith(b'\x02\x01{"captured_before":null,"context":{"models":null,"policy":"\xc3\xbc"}')
    assert Release.decode(data) == release
    assert kind_of(data) == "release"
    gone = Withdrawal("0f" * 16, 3, "asked for", "2026-01-01T00:00:00Z", "00" * 32)
    assert Withdrawal.decode(gone.encode()) == gone
    for wrong in (data[:-1], data[:2] + b" " + data[2:], b"\3" + data[1:], data + b"}", b"\2\1{}", b"\2\1[]"):
        with pytest.raises(ValueError, match="log"):
            Release.decode(wrong)
    for wrong in (b"", b"\5\1", b"\1\1abc"):
        with pytest.raises(ValueError, match="no known kind"):
            kind_of(wrong)


def test_audits_are_canonical_json() -> None:
    reserve, share = {"method": "m", "bound": 0.00993594}, {"low": 0.0, "estimate": None}
    audit = Audit(
        1, "2026-01-01T00:00:00Z", "11" * 32, "22" * 32, "seal", 310, 300, 2, 0, 0.95, reserve, share, {}, "00" * 32
    )
    data = audit.encode()
    assert data == (
        b'\x04\x01{"at":"2026-01-01T00:00:00Z","captures":{},"documents":{"estimate":null,"low":0.0},"drawn":310,"labelled":300,'
        b'"labels":"' + b"11" * 32 + b'","level":0.95,"manifest":"' + b"00" * 32 + b'","number":1,"people":2,"plan":"'
        + b"22" * 32 + b'","reserve":{"bound":0.00993594,"method":"m"},"seed_from":"seal","withdrawn":0}'
    )  # fmt: skip
    assert Audit.decode(data) == audit
    assert kind_of(data) == "audit"
    for wrong in (b"\3" + data[1:], data[:-1], data.replace(b":", b": ", 1)):
        with pytest.raises(ValueError, match="log"):
            Audit.decode(wrong)
