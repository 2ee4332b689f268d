"""What must hold for any bytes at all: each target takes an input and raises where it does not."""

from __future__ import annotations

import json
import zlib
from io import BytesIO
from itertools import pairwise
from operator import itemgetter
from typing import Any
from unittest import mock

import pyarrow as pa

from pipelines.checks import Checks
from pipelines.ingest import streams
from pipelines.ingest.account import Account
from pipelines.ingest.batches import without_surrogates
from pipelines.ingest.options import Ingest
from pipelines.ingest.reader import read_shard
from pipelines.job import Inspect
from pipelines.neardup.options import NearDup
from pipelines.provenance.hidden import hidden_characters
from pipelines.provenance.leaks import leaked_phrases
from pipelines.records import DOCUMENTS, EVIDENCE_ITEM, REJECTS
from tests.ingest.building import read, read_parts

NAMES = ["x.warc.gz", "x", "x.jsonl.gz", "x.arc.gz"]
_CAP = 1 << 15


def reader(data: bytes) -> None:
    """A shard is read to its end; rows are valid, each in its place; parts give what the whole gives."""
    draw = zlib.crc32(data)
    name = NAMES[draw & 3]
    options: dict[str, Any] = {"maximum_record_bytes": _CAP, "mismatches": ("reject", "keep")[draw >> 2 & 1]}
    account = Account()
    documents, rejects = [], []
    for batch in read_shard(BytesIO(data), name, Ingest(**options), account=account):
        batch.documents.validate(full=True)
        batch.rejects.validate(full=True)
        assert batch.documents.schema.equals(DOCUMENTS), "the schema of documents"
        assert batch.rejects.schema.equals(REJECTS), "the schema of rejects"
        documents += batch.documents.to_pylist()
        rejects += batch.rejects.to_pylist()
    assert documents or rejects, "nothing came of it"
    _check_offsets(documents, rejects, account.format, len(data))
    size = max(len(data) // (2 + (draw >> 3) % 9), 1) + (draw >> 8) % 50
    difference = _difference(data, size, name, options)
    if difference:
        # Where damaged members overlap a thousandfold, each part has its own bound on what is looked through again.
        with mock.patch.object(streams, "_AGAIN", 1 << 40):
            difference = _difference(data, size, name, options)
    assert not difference, f"{difference} of parts of {size} of {account.format}"


def _difference(data: bytes, size: int, name: str, options: dict[str, Any]) -> str:
    for kind, whole, parts in zip(
        ("documents", "rejects"),
        read(data, name, **options),
        read_parts(data, size, name, **options).outcome,
        strict=True,
    ):
        # Joined segments come when the last of them does, or at the end of their part.
        ours, theirs = (sorted(rows, key=itemgetter("record_offset")) for rows in (whole, parts))
        if ours != theirs:
            return kind
    return ""


def _check_offsets(documents: list[Any], rejects: list[Any], kind: str, size: int) -> None:
    offsets = [row["record_offset"] for row in (*documents, *rejects)]
    assert all(offset >= 0 for offset in offsets), "an offset before the shard"
    assert all(row["detail"] != "" for row in rejects), "an empty detail"
    if kind in ("warc", "arc", "jsonl"):
        assert len(set(offsets)) == len(offsets), "two rows at one place"
    if kind == "jsonl":
        for rows in (documents, rejects):
            for one, other in pairwise(rows):
                assert one["record_offset"] < other["record_offset"], "offsets do not rise"
    if kind in ("warc", "arc"):
        if not any(row["detail"] == "continuation" or "segment" in (row["detail"] or "") for row in rejects):
            for rows in (documents, rejects):
                places = [row["record_offset"] for row in rows]
                assert places == sorted(places), "offsets do not rise"
        for row in rejects:
            assert row["length"] is None or 0 <= row["length"] <= size, "a length beyond the shard"


_checks: list[Checks] = []


def pages(data: bytes) -> None:
    """The checks of a page's markup, headers and text end, and give evidence that fits its schema, always the same."""
    head, _, body = data.partition(b"\n")
    try:
        # No reader of HTTP headers gives lone surrogates.
        items = json.loads(head.decode("utf-8", "replace")).items()
        headers = {str(name).lower(): without_surrogates(str(value)) for name, value in items}
    except (ValueError, AttributeError, RecursionError):
        headers = dict.fromkeys(("link", "ai-disclosure", "tdm-reservation"), head.decode("latin-1"))
    html = body.decode("utf-8", "replace")
    if not _checks:
        _checks.append(Checks(Inspect(), None, NearDup()))
    found = _checks[0].page(html, headers)
    found += [*leaked_phrases(html), *hidden_characters(html)]
    column = pa.array([one._asdict() for one in found], EVIDENCE_ITEM)
    column.validate(full=True)
    assert all(one.source and one.kind for one in found), "evidence without a source or a kind"
    assert all(len(one.detail or "") <= 10_000 for one in found), "a detail without bound"
    if zlib.crc32(data) % 8 == 0:
        assert _checks[0].page(html, headers) == found[: len(_checks[0].page(html, headers))], "not the same again"


TARGETS = {"reader": reader, "pages": pages}
