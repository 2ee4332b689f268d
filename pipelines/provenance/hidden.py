"""Hidden characters as evidence: what :mod:`watermark.hidden_characters` finds, in the policy's words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from html import unescape

from pipelines.provenance.locations import Layer, Location, describe
from pipelines.records import Evidence
from watermark import c2pa_text
from watermark.hidden_characters import Carrier, find

SOURCE = "hidden_characters"
MAX_FINDINGS = 32


# At least as many character references in a row as the shortest carrier has characters.
_REFERENCE = "&(?:#[xX]?[0-9a-fA-F]{1,7}|zwn?j|lrm|rlm|ZeroWidthSpace|NoBreak);"
_REFERENCES = re.compile(f"{_REFERENCE}(?:{_REFERENCE}){{2,}}")


def hidden_characters(text: str) -> list[Evidence]:
    """One finding for each carrier in the text, in the order of their offsets; the first 32 of each kind."""
    return _evidence(find(text), "text")


def hidden_in_markup(html: str) -> list[Evidence]:
    """The same for a page's markup, where hidden characters may also stand as a run of character references.

    Of such a run ``detail`` gives the offset at which it begins.
    """
    carriers = find(html)
    if "&" in html:
        for run in _REFERENCES.finditer(html):
            carriers += [replace(carrier, offset=run.start()) for carrier in find(unescape(run.group()))]
    return _evidence(carriers, "markup")


def _evidence(carriers: Sequence[Carrier], layer: Layer) -> list[Evidence]:
    kinds = sorted({carrier.kind for carrier in carriers})
    kept = [carrier for kind in kinds for carrier in [c for c in carriers if c.kind == kind][:MAX_FINDINGS]]
    return [carrier_evidence(carrier, layer) for carrier in sorted(kept, key=lambda carrier: carrier.offset)]


def carrier_evidence(carrier: Carrier, layer: Layer = "text") -> Evidence:
    """A carrier as evidence. A C2PA manifest that states only human source types has a kind of its own."""
    kind: str = carrier.kind
    parts = [carrier.preview]
    if carrier.source_type:
        parts.append(f"digital source type {carrier.source_type}")
        if carrier.kind == "c2pa_text_manifest" and carrier.source_type in c2pa_text.HUMAN_SOURCE_TYPES:
            kind = "c2pa_text_manifest_human"
    if carrier.problem:
        parts.append(carrier.problem)
    location = Location(layer, carrier.offset, f"{carrier.length} characters", "; ".join(parts))
    return Evidence(SOURCE, kind, detail=describe(location))
