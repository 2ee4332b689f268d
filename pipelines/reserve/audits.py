"""What an audit leaves in a sealed output: two files, a paragraph, and an entry in the log that holds them together.

======================  ================================================================================================
``audit/labels-1.jsonl``  what people said of which document, under pseudonyms; one JSON object a line
``audit/plan-1.json``     how the documents were drawn, and with what chance
``summary.json``          under ``audit``, what the entry of the latest audit says (:func:`stated`)
======================  ================================================================================================

The number is that of the audit, from 1 on. :mod:`pipelines.review.certify` writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Any, Final

from pipelines.reserve.chain import Chain
from pipelines.reserve.damage import Kind, Problem
from pipelines.reserve.entries import Audit
from pipelines.reserve.manifest import FileDigest

FOLDER: Final = "audit"


def labels_name(number: int) -> str:
    """What the labels of an audit are called below the output folder."""
    return f"{FOLDER}/labels-{number}.jsonl"


def plan_name(number: int) -> str:
    """What the plan of an audit is called below the output folder."""
    return f"{FOLDER}/plan-{number}.json"


def stated(audit: Audit) -> dict[str, Any]:
    """What `summary.json` says of an audit: all that the entry does, but for the digest of the manifest, which covers
    `summary.json` itself."""
    found = {name: value for name, value in asdict(audit).items() if name != "manifest"}
    # The same bytes of an entry that was just made and of one that was read.
    inner = {name: dict(sorted(found[name].items())) for name in ("reserve", "documents", "captures")}
    return found | inner


def audit_sentence(audit: Mapping[str, Any]) -> str:
    """An audit in a few sentences that claim no more than was found; limits are rounded away from the estimate.

    Args:
        audit: as :func:`stated` gives it.
    """
    level = f"{100 * audit['level']:g} %"
    people = "One person" if audit["people"] == 1 else f"{audit['people']:,} people"
    drawn, labelled = audit["drawn"], audit["labelled"]
    of = "" if labelled == drawn else f" of {drawn:,}"
    others = "" if labelled == drawn else ", and the others count as if they had not been drawn"
    chosen = "" if audit["seed_from"] == "seal" else ", by a seed that was chosen"
    bound = f"{_at_most(audit['reserve'])} of the reserve is machine text, or text of which a machine wrote a part"
    of_documents, of_captures = (_share(audit[name], level) for name in ("documents", "captures"))
    return (
        f"{people} labelled {labelled:,}{of} documents that were drawn at random{chosen}{others}. At {level} "
        f"confidence, {bound}. Of all that is kept, {of_documents} is; with each document counted as often as it was "
        f"captured, {of_captures}.{_withdrawn(audit['withdrawn'])}"
    )


def _at_most(reserve: Mapping[str, Any]) -> str:
    return f"at most {_percent(reserve['bound'], ROUND_CEILING)} %"


def _share(share: Mapping[str, Any], level: str) -> str:
    low, high = _percent(share["low"], ROUND_FLOOR), _percent(share["high"], ROUND_CEILING)
    if share["estimate"] is None:
        return f"{low} to {high} % ({level} interval, and no estimate)"
    return f"{_percent(share['estimate'], ROUND_HALF_EVEN)} % ({level} interval {low} to {high} %)"


def bound_line(audit: Audit) -> str:
    """The bound of an audit on one line.

    >>> reserve = {"bound": 0.00993594, "method": "clopper-pearson"}
    >>> bound_line(Audit(1, "2026-11-21T00:00:00Z", "", "", "seal", 300, 300, 2, 0, 0.95, reserve, {}, {}, ""))
    '1 (2026-11-21): at most 1.00 % of the reserve is machine text, at 95 % confidence, by 300 labelled documents'
    """
    return (
        f"{audit.number} ({audit.at[:10]}): {_at_most(audit.reserve)} of the reserve is machine text, at "
        f"{100 * audit.level:g} % confidence, by {audit.labelled:,} labelled documents"
    )


def _withdrawn(count: int) -> str:
    if not count:
        return ""
    what = "One of the labelled documents was" if count == 1 else f"{count:,} of the labelled documents were"
    return f" {what} withdrawn since; the figures are those of the output as it was released."


def _percent(share: float, rounding: str) -> Decimal:
    """In per cent, with two digits; of the decimal that the float is written as, so that 0.01 is 1 and no more."""
    return (100 * Decimal(repr(float(share)))).quantize(Decimal("0.01"), rounding)


def audit_problems(chain: Chain, manifest: Mapping[str, FileDigest], summary: Mapping[str, Any]) -> list[Problem]:
    """Where the entries of audits, the manifest and `summary.json` say different things.

    Args:
        chain: of the log.
        manifest: the files as sealed, by name; that these are the files is checked elsewhere.
        summary: what `summary.json` holds.
    """
    problems = []
    audits = [audit for _, audit in chain.audits]
    said, wanted = summary.get("audit"), stated(audits[-1]) if audits else None
    if said != wanted:
        detail = "its audit is not the latest one in the log" if audits else "names an audit, and the log has none"
        problems.append(Problem(Kind.COUNTS, "summary.json", detail))
    for audit in audits:
        for name, digest in ((labels_name(audit.number), audit.labels), (plan_name(audit.number), audit.plan)):
            if name not in manifest or manifest[name].sha256 != digest:
                problems.append(Problem(Kind.LOG, name, f"was sealed, and is not what audit {audit.number} rests on"))
    return problems
