"""Rows of an archive in its log: each row's entry is made again, found, and proved to be under the checkpoint."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipelines.errors import JobError
from pipelines.records import Place
from pipelines.reserve.chain import Chain
from pipelines.reserve.encoding import Bytes
from pipelines.reserve.entries import DOC_ID, DOCUMENT_BYTES, PLACE, PLACES, differing, document_entries
from pipelines.reserve.leaves import text_digest
from pipelines.reserve.merkle import leaf_hash
from pipelines.reserve.proofs import inclusion_proof, verify_inclusion
from pipelines.reserve.seal import Sealed, context_digest
from pipelines.reserve.tile_files import WIDTH

_SUBTREES = 1 << 14  # roots that proofs share


class Found(NamedTuple):
    """Where the log has a document's entry, and the proof: hashes from the leaf up."""

    at: int
    hashes: list[bytes]


class Prover:
    """Proves rows of one folder of the latest release."""

    def __init__(self, output: str, sealed: Sealed, chain: Chain) -> None:
        """Opens the log of an output; nothing is read yet."""
        self._output, self._sealed, self._reader = output, sealed, sealed.reader()
        self._first, self._end = chain.latest.first, chain.latest.at
        self._context = context_digest(chain.latest.release.context)
        self._withdrawn = chain.withdrawn
        self._root_of = functools.lru_cache(_SUBTREES)(self._reader.root_of)
        self.sealed_rows = chain.latest.release.records

    def rows_left(self, place: Place) -> int:
        """How many rows a folder has: those of the release without the withdrawn ones."""
        code = PLACES.index(place) + 1
        gone = sum(self._reader.entry(index)[PLACE] == code for index in self._withdrawn)
        return int(self.sealed_rows[place.value]) - gone

    def prove(self, rows: pa.Table, place: Place) -> list[Found]:
        """Finds the entry of each row, and proves it.

        Args:
            rows: of `records.OUTPUT`, sorted by `doc_id`.
            place: the folder in which they stand.

        Raises JobError, which names the document, where a row is not as it was sealed.
        """
        for doc_id, text, digest in zip(*(rows[n].to_pylist() for n in ("doc_id", "text", "text_sha256")), strict=True):
            if text_digest(text) != digest:
                raise self._error(doc_id, "the text is not the one that was sealed")
        entries = document_entries(rows, place, self._context)
        wanted = [entry.tobytes() for entry in entries]
        known = dict(self._entries(sorted(wanted), self._first, self._end))
        found = []
        for entry in wanted:
            index = known.get(entry)
            if index is None:
                raise self._error(entry[DOC_ID].hex(), self._difference(entry))
            if index in self._withdrawn:
                raise self._error(entry[DOC_ID].hex(), "it was withdrawn, and its row must be gone")
            hashes = inclusion_proof(self._root_of, index, self._reader.size)
            verify_inclusion(leaf_hash(entry), index, self._reader.size, hashes, self._sealed.checkpoint.root)
            found.append(Found(index, hashes))
        return found

    def _entries(self, wanted: Sequence[bytes], low: int, high: int) -> Iterator[tuple[bytes, int]]:
        """Bisection for many entries at once, from ``low`` to ``high``: no bundle is read twice."""
        if not wanted or low >= high:
            return
        number = (low + high) // 2 // WIDTH
        begin, end = max(low, number * WIDTH), min(high, (number + 1) * WIDTH)
        bundle = self._reader.bundle(number)[begin % WIDTH :][: end - begin]
        known = {entry: begin + at for at, entry in enumerate(bundle)}
        yield from self._entries([entry for entry in wanted if entry < bundle[0]], low, begin)
        yield from ((entry, known[entry]) for entry in wanted if entry in known)
        yield from self._entries([entry for entry in wanted if entry > bundle[-1]], end, high)

    def _difference(self, entry: bytes) -> str:
        """How an entry that is not in the log differs from the sealed one of the same document."""
        low, high = self._first, self._end
        while low < high:
            middle = (low + high) // 2
            if self._reader.entry(middle)[: DOC_ID.stop] < entry[: DOC_ID.stop]:
                low = middle + 1
            else:
                high = middle
        sealed = self._reader.entry(low) if low < self._end else b""
        if len(sealed) != DOCUMENT_BYTES or sealed[DOC_ID] != entry[DOC_ID]:
            return "it was not sealed"
        parts = differing(*(_array(one) for one in (entry, sealed)))
        return f"not as sealed: {', '.join(parts)}"

    def _error(self, doc_id: str, what: str) -> JobError:
        return JobError(f"{self._output}: document {doc_id}: {what}; see 'reserve verify {self._output}'")


def _array(entry: bytes) -> Bytes:
    return np.frombuffer(entry, np.uint8)
