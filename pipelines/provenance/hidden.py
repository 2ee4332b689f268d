"""Hidden characters as evidence: what :mod:`watermark.hidden_characters` finds, in the policy's words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from html import unescape

from pipelines.provenance.locations import Layer, Location, describe
from pipelines.records import Evidence
from watermark import c2pa_text, c2pa_verify
from watermark.hidden_characters import Carrier, find

SOURCE = "hidden_characters"
MAX_FINDINGS = 32


# At least as many character references in a row as the shortest carrier has characters.
_REFERENCE = "&(?:#[xX]?[0-9a-fA-F]{1,7}|zwn?j|lrm|rlm|ZeroWidthSpace|NoBreak);"
_REFERENCES = re.compile(f"{_REFERENCE}(?:{_REFERENCE}){{2,}}")


def hidden_characters(text: str, verify: bool = False) -> list[Evidence]:
    """One finding for each carrier in the text, in the order of their offsets; the first 32 of each kind.

    With ``verify`` the detail also says whether the signatures of C2PA manifests hold (needs the ``c2pa`` extra).
    """
    return _evidence(find(text), "text", verify)


def hidden_in_markup(html: str, verify: bool = False) -> list[Evidence]:
    """The same for a page's markup, where hidden characters may also stand as a run of character references.

    Of such a run ``detail`` gives the offset at which it begins.
    """
    carriers = find(html)
    if "&" in html:
        for run in _REFERENCES.finditer(html):
            carriers += [replace(carrier, offset=run.start()) for carrier in find(unescape(run.group()))]
    return _evidence(carriers, "markup", verify)


def _evidence(carriers: Sequence[Carrier], layer: Layer, verify: bool) -> list[Evidence]:
    kinds = sorted({carrier.kind for carrier in carriers})
    kept = [carrier for kind in kinds for carrier in [c for c in carriers if c.kind == kind][:MAX_FINDINGS]]
    return [carrier_evidence(carrier, layer, verify) for carrier in sorted(kept, key=lambda carrier: carrier.offset)]


def carrier_evidence(carrier: Carrier, layer: Layer = "text", verify: bool = False) -> Evidence:
    """A carrier as evidence. A C2PA manifest that states only human source types has a kind of its own.

    The kind is the same whether or not the manifest's signature holds: it is a statement all the same.
    """
    kind: str = carrier.kind
    parts = [carrier.preview]
    if carrier.source_type:
        parts.append(f"digital source type {carrier.source_type}")
        if carrier.kind == "c2pa_text_manifest" and carrier.source_type in c2pa_text.HUMAN_SOURCE_TYPES:
            kind = "c2pa_text_manifest_human"
    if carrier.problem:
        parts.append(carrier.problem)
    if verify and carrier.kind == "c2pa_text_manifest" and carrier.payload:
        parts.append(_verified(carrier.payload, carrier.source_type))
    location = Location(layer, carrier.offset, f"{carrier.length} characters", "; ".join(parts))
    return Evidence(SOURCE, kind, detail=describe(location))


def _verified(payload: bytes, source_type: str | None) -> str:
    verification = c2pa_verify.verify(payload)
    words = c2pa_verify.describe(verification)
    if verification.valid and source_type and source_type not in verification.source_types:
        # The store's other manifests, of what the text was made from, are searched for source types too.
        words = f"not stated by the active manifest; {words}"
    return words
