"""Collects documents and rejects and lays them out as Arrow batches of :mod:`pipelines.records`' schemas."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import pyarrow as pa

from pipelines.ingest.urls import host_of
from pipelines.records import DOCUMENTS, REJECTS, Evidence, EvidenceBuilder, Reason, doc_id

_REJECTS_PER_BATCH = 16_384
_DETAIL_CHARACTERS = 300
_SURROGATE = re.compile("[\ud800-\udfff]")


class Ingested(NamedTuple):
    """What one stretch of a shard gave: ``documents`` of schema ``DOCUMENTS``, ``rejects`` of schema ``REJECTS``."""

    documents: pa.RecordBatch
    rejects: pa.RecordBatch


def without_surrogates(text: str) -> str:
    """The text with each lone surrogate, which UTF-8 cannot hold, replaced by U+FFFD."""
    return _SURROGATE.sub("\ufffd", text)


class BatchBuilder:
    """Documents and rejects of one shard on their way into batches; rows keep the order in which they were added."""

    def __init__(self, shard: str, batch_bytes: int) -> None:
        self._shard = shard
        self._batch_bytes = batch_bytes
        self._clear()

    def _clear(self) -> None:
        self._size = 0
        # A list a column: tuples would keep the garbage collector busy.
        self._ids: list[bytes] = []
        self._offsets: list[int] = []
        self._urls: list[str | None] = []
        self._hosts: list[str | None] = []
        self._times: list[datetime | None] = []
        self._payloads: list[bytes] = []
        self._texts: list[str] = []
        self._evidence: list[tuple[int, Sequence[Evidence]]] = []
        self._rejects: list[tuple[int, int | None, str | None, str, str | None]] = []

    def document(
        self,
        offset: int,
        url: str | None,
        captured_at: datetime | None,
        payload: bytes,
        text: str,
        evidence: Sequence[Evidence] = (),
    ) -> None:
        """Adds a document; ``text`` and ``url`` must hold no lone surrogate."""
        sha256 = hashlib.sha256(payload).digest()
        if evidence:
            self._evidence.append((len(self._ids), evidence))
        self._ids.append(doc_id(url, captured_at, sha256))
        self._offsets.append(offset)
        self._urls.append(url)
        self._hosts.append(host_of(url))
        self._times.append(captured_at)
        self._payloads.append(sha256)
        self._texts.append(text)
        self._size += len(text)

    def reject(
        self, offset: int, url: str | None, reason: Reason, detail: str | None = None, length: int | None = None
    ) -> None:
        """Adds a record, or a stretch of ``length`` bytes of the shard, that gave no document."""
        if detail is not None:
            detail = without_surrogates(detail[:_DETAIL_CHARACTERS])
        self._rejects.append((offset, length, url, reason.value, detail))

    @property
    def full(self) -> bool:
        """Whether it is time to take a batch."""
        return self._size >= self._batch_bytes or len(self._rejects) >= _REJECTS_PER_BATCH

    @property
    def empty(self) -> bool:
        """Whether nothing was added since the last batch was taken."""
        return not self._ids and not self._rejects

    def take(self) -> Ingested:
        """The batch of what was added since the last one."""
        evidence = EvidenceBuilder(len(self._ids))
        for row, findings in self._evidence:
            evidence.add(row, findings)
        columns = (self._ids, self._offsets, self._urls, self._hosts, self._times, self._payloads, self._texts)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, DOCUMENTS, strict=False)]
        documents = pa.RecordBatch.from_arrays([*arrays, evidence.finish()], schema=DOCUMENTS)
        rejected = list(zip(*self._rejects, strict=True)) or [()] * (len(REJECTS) - 1)
        rejects = pa.RecordBatch.from_arrays(
            [
                pa.array([self._shard] * len(self._rejects), pa.string()),
                *(pa.array(column, field.type) for column, field in zip(rejected, list(REJECTS)[1:], strict=True)),
            ],
            schema=REJECTS,
        )
        self._clear()
        return Ingested(documents, rejects)
