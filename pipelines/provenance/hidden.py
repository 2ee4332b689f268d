"""Hidden characters as evidence: what :mod:`watermark.hidden_characters` finds, in the policy's words."""

from __future__ import annotations

from pipelines.records import Evidence
from watermark import c2pa_text
from watermark.hidden_characters import Carrier, find

SOURCE = "hidden_characters"
MAX_FINDINGS = 32


def hidden_characters(text: str) -> list[Evidence]:
    """One finding for each carrier in the text, in the order of their offsets; the first 32 of each kind."""
    carriers = find(text)
    kinds = sorted({carrier.kind for carrier in carriers})
    kept = [carrier for kind in kinds for carrier in [c for c in carriers if c.kind == kind][:MAX_FINDINGS]]
    return [carrier_evidence(carrier) for carrier in sorted(kept, key=lambda carrier: carrier.offset)]


def carrier_evidence(carrier: Carrier) -> Evidence:
    """A carrier as evidence. A C2PA manifest that states only human source types has a kind of its own."""
    kind: str = carrier.kind
    parts = [f"{carrier.length} characters at {carrier.offset}: {carrier.preview}"]
    if carrier.source_type:
        parts.append(f"digital source type {carrier.source_type}")
        if carrier.kind == "c2pa_text_manifest" and carrier.source_type in c2pa_text.HUMAN_SOURCE_TYPES:
            kind = "c2pa_text_manifest_human"
    if carrier.problem:
        parts.append(carrier.problem)
    return Evidence(SOURCE, kind, detail="; ".join(parts))
