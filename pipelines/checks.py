"""Documents to documents with evidence: the kernel of `inspect`. Batches in, batches out, no Beam.

Two looks: :meth:`Checks.page` at a page's markup and headers, before the text is extracted (extraction destroys
marks), and :meth:`Checks.documents` at a batch of texts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from detectors.base import Detector, Scores
from pipelines import language
from pipelines.cascades import DECIDED
from pipelines.job import Inspect
from pipelines.neardup.minhash import sign
from pipelines.neardup.options import NearDup
from pipelines.opinions import OPINION
from pipelines.provenance.declarations import declarations
from pipelines.provenance.hidden import hidden_characters, hidden_in_markup
from pipelines.provenance.leaks import leaked_markup, leaked_phrases
from pipelines.records import EVIDENCE_ITEM, STAGED, Evidence, EvidenceBuilder, signatures_schema


class Checks:
    """All checks that a job asks for, ready to run."""

    def __init__(
        self,
        options: Inspect,
        detector: Detector | None,
        neardup: NearDup,
        others: Mapping[str, Detector] | None = None,
    ) -> None:
        """``others`` are detectors whose probabilities are noted, by the names that the notes carry."""
        self._options = options
        self._detector = detector
        self._others = others or {}
        self._neardup = neardup
        self._signatures = signatures_schema(neardup.permutations)

    def page(self, html: str, headers: Mapping[str, str]) -> list[Evidence]:
        """What markup and HTTP headers show."""
        found: list[Evidence] = []
        if self._options.declarations:
            found += declarations(html, headers)
        if self._options.leaks:
            found += leaked_markup(html)
        if self._options.hidden_characters:
            found += hidden_in_markup(html, self._options.verify_c2pa)
        return found

    def documents(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch]:
        """A batch of `records.DOCUMENTS` → the same rows as `records.STAGED` and their signatures."""
        texts: list[str] = batch.column("text").to_pylist()
        languages = [language.identify(text) for text in texts]
        evidence = EvidenceBuilder(len(texts))
        evidence.add_column(batch.column("evidence"))
        self._read_texts(texts, batch.column("evidence"), evidence)
        probability = self._detect(texts, languages, evidence)
        for name, other in self._others.items():
            evidence.add_items(
                np.arange(len(texts)), _detector_evidence(name, other.score(texts, languages), OPINION, OPINION)
            )
        text_sha256 = pa.array([hashlib.sha256(text.encode()).digest() for text in texts], pa.binary(32))
        staged = {name: batch.column(name) for name in batch.schema.names} | {
            "text_sha256": text_sha256,
            "language": pa.array(languages, pa.string()),
            "machine_probability": probability,
            "evidence": evidence.finish(),
        }
        signatures = sign(batch.column("text"), self._neardup)
        signed = {
            "doc_id": batch.column("doc_id"),
            "captured_at": batch.column("captured_at"),
            "text_sha256": text_sha256,
            "shingles": pa.array(signatures.shingles, pa.int32()),
            "length": pc.binary_length(batch.column("text")).cast(pa.uint32()),
            "findings": pc.list_value_length(staged["evidence"]).cast(pa.uint16()),
            "signature": signatures.column(),
        }
        return (
            pa.RecordBatch.from_arrays([staged[name] for name in STAGED.names], schema=STAGED),
            pa.RecordBatch.from_arrays([signed[name] for name in self._signatures.names], schema=self._signatures),
        )

    def _read_texts(self, texts: Sequence[str], pages: pa.ListArray, evidence: EvidenceBuilder) -> None:
        already = pages.value_lengths().to_numpy(zero_copy_only=False)
        for row, text in enumerate(texts):
            found: list[Evidence] = []
            if self._options.leaks:
                found += leaked_phrases(text)
            if self._options.hidden_characters:
                found += hidden_characters(text, self._options.verify_c2pa)
            if found and already[row]:
                # The page's markup holds the page's text: what was seen there is not a second finding.
                seen = {(e["source"], e["kind"]) for e in pages[row].as_py()}
                found = [e for e in found if (e.source, e.kind) not in seen]
            evidence.add(row, found)

    def _detect(self, texts: Sequence[str], languages: Sequence[str | None], evidence: EvidenceBuilder) -> pa.Array:
        if self._detector is None:
            return pa.nulls(len(texts), pa.float32())
        scores = self._detector.score(texts, languages)
        evidence.add_items(np.arange(len(texts)), _detector_evidence(self._detector.name, scores))
        return pa.array(scores.probability, pa.float32(), from_pandas=True)


def _detector_evidence(
    name: str, scores: Scores, spoke: str = "machine_text", silent: str = "abstained"
) -> pa.StructArray:
    rows = len(scores.score)
    kind = pa.array([spoke if reason is None else silent for reason in scores.abstained], pa.string())
    details: list[str | None] = scores.abstained
    if scores.decided is not None:
        both = zip(scores.abstained, scores.decided, strict=True)
        details = [reason or DECIDED + one for reason, one in both]
    columns = [
        pa.array([name] * rows, pa.string()),
        kind,
        pa.array(scores.score.astype(np.float64), pa.float64(), from_pandas=True),
        pa.nulls(rows, pa.float64()),
        pa.array(scores.probability, pa.float32(), from_pandas=True),
        pa.array(details, pa.string()),
    ]
    return pa.StructArray.from_arrays(columns, fields=list(EVIDENCE_ITEM))
