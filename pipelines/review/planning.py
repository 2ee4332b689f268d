"""How many labels an output takes, by what it says of itself.

print(*describe(plan_labels(read_summary("out"), margin=0.02)), sep="\n")
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipelines import files
from pipelines.errors import UsageError
from pipelines.layout import DOCUMENT_PLACES, Layout
from pipelines.records import Place
from pipelines.review.plan import UNCERTAIN, Errors, Needed, expected_half_width, labels_for_bound, labels_needed


@dataclass(frozen=True)
class Plan:
    """What it takes for an output.

    Attributes:
        margin, level: of the interval.
        documents: kept ones, of which the audit is drawn, by place.
        share: of machine text that is expected; ``share_from`` says where that is taken from.
        errors: of the annotators, as expected.
        needed: labels and controls for the margin, with the annotators' errors carried in.
        if_right: labels for the margin, if all labels are taken to be right.
        audited, controls: what is drawn.
        half_width: that is expected of that: with the annotators' errors carried in.
        by_margin: for other margins, labels and controls.
        by_bound: labels in the reserve for upper limits, where 0, 1, 2, 3 of them are machine text.
        reserve_expected: labels of the audit that fall to the reserve.
        reserve_bound: the upper limit for the reserve where none of these is machine text.
        double: part that is labelled twice.
        judgements: labels with those that are given twice and those on controls.
    """

    margin: float
    level: float
    documents: Mapping[str, int]
    share: float
    share_from: str
    errors: Errors
    needed: Needed
    if_right: int
    audited: int
    controls: int
    half_width: float
    by_margin: Mapping[str, tuple[int, int]]
    by_bound: Mapping[str, list[int]]
    reserve_expected: int
    reserve_bound: float | None
    double: float
    judgements: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        margins = {
            margin: dict(zip(("labels", "controls"), two, strict=True)) for margin, two in self.by_margin.items()
        }
        return {
            **asdict(self),
            "needed": self.needed._asdict(),
            "errors": self.errors._asdict(),
            "by_margin": margins,
        }


def plan_labels(
    summary: Mapping[str, Any],
    margin: float,
    level: float = 0.95,
    labels: int | None = None,
    double: float = 0.15,
    controls: int | None = None,
    errors: Errors = Errors(),  # noqa: B008 - an immutable tuple
) -> Plan:
    """How many labels an output takes, by its `summary.json`.

    Args:
        summary: of the output.
        margin: wanted for the share of machine text in what is kept.
        level: of intervals and limits.
        labels: documents to audit, whatever the margin asks for; None: what it asks for.
        double: part of the audit that two people label.
        controls: documents of known origin; None: what the margin asks for, or with ``labels`` one for ten of them.
        errors: of the annotators, as expected.
    """
    documents = {place.value: int(summary["records"][place.value]) for place in DOCUMENT_PLACES}
    total = sum(documents.values())
    if not total:
        raise UsageError("the output keeps no document: there is nothing to audit")
    if labels is not None and not 1 <= labels <= total:
        raise UsageError(f"--labels {labels}: from 1 to {total:,}, the documents that are kept")
    share, source = expected_share(summary)
    needed = labels_needed(margin, level, share, errors=errors)
    right = labels_needed(margin, level, share).documents
    if labels is None and controls is not None:
        # None at all: labels are taken to be right.
        needed = labels_needed(margin, level, share, errors=errors if controls else None, controls=controls)
    audited = min(total, labels or needed.documents)
    wanted = controls if controls is not None else needed.controls if labels is None else 2 * math.ceil(audited / 20)
    in_reserve = round(audited * documents[Place.RESERVE.value] / total)
    bound = -math.expm1(math.log(1 - level) / in_reserve) / (1 - errors.missed) if in_reserve else None
    return Plan(
        margin=margin,
        level=level,
        documents=documents,
        share=share,
        share_from=source,
        errors=errors,
        needed=needed,
        if_right=right,
        audited=audited,
        controls=wanted,
        half_width=expected_half_width(audited, wanted, share, level, errors),
        by_margin={f"{one:g}": labels_needed(one, level, share, errors=errors)[:2] for one in _margins(margin)},
        by_bound={
            f"{one:g}": [labels_for_bound(one, level, found, errors.missed) for found in range(4)]
            for one in (0.05, 0.02, 0.01, 0.005)
        },
        reserve_expected=in_reserve,
        reserve_bound=None if bound is None else min(1.0, bound),
        double=double,
        judgements=audited + round(double * audited) + wanted,
    )


def read_summary(output: str) -> dict[str, Any]:
    """`summary.json` of a finished output. Raises UsageError where there is none."""
    summary = files.read_json(Layout(output).summary)
    if summary is None or "records" not in summary:
        raise UsageError(f"{output}: no finished run here (no summary.json)")
    return summary


def expected_share(summary: Mapping[str, Any]) -> tuple[float, str]:
    """The share of machine text to plan with, and where it is taken from.

    The upper end of the interval that the output gives for the captures after the cut-off, and one half where that is
    higher or missing: of all shares that the output allows, the one with the widest interval.
    """
    told = summary.get("synthetic_share") or {}
    high = told.get("high")
    if high is None or told.get("too_few") or not 0 <= high <= 1:
        return UNCERTAIN, "nothing is known of the share: the widest interval"
    if high >= UNCERTAIN:
        return UNCERTAIN, "the output does not exclude a half: the widest interval"
    return float(high), "the upper end of the output's interval for captures after the cut-off"


def describe(plan: Plan) -> list[str]:
    """The plan in lines for people."""
    kept = ", ".join(f"{place} {count:,}" for place, count in plan.documents.items())
    total = sum(plan.documents.values())
    every = f"; that is all that are kept ({plan.needed.documents:,} wanted)" if plan.audited == total else ""
    lines = [
        f"{total:,} documents are kept ({kept}).",
        f"Expected share of machine text: {plan.share:.1%} ({plan.share_from}).",
        f"For ±{plan.margin:.2%} at {plan.level:.0%}: {plan.needed.documents:,} labels and {plan.needed.controls:,} "
        f"controls, by which the annotators' errors are carried in; {plan.if_right:,} labels if they never erred.",
        f"Drawn: {plan.audited:,} documents{every}, and {plan.controls:,} controls. With {plan.double:.0%} labelled "
        f"twice {plan.judgements:,} judgements, for about ±{plan.half_width:.2%}.",
        "  margin    " + "".join(f"{f'±{float(margin):.2%}':>10}" for margin in plan.by_margin),
        "  labels    " + "".join(f"{labels:>10,}" for labels, _ in plan.by_margin.values()),
        "  controls  " + "".join(f"{controls:>10,}" for _, controls in plan.by_margin.values()),
    ]
    if plan.reserve_bound is not None:
        lines += [
            f"About {plan.reserve_expected:,} of the labels fall to the reserve: if none is machine text, at most "
            f"{plan.reserve_bound:.2%} of the reserve is, at {plan.level:.0%}; what the annotators miss comes on top.",
            "Labels in the reserve, or in one slice of it, for an upper limit, by the number found to be machine text:",
            "  found     " + "".join(f"{float(bound):>10.1%}" for bound in plan.by_bound),
        ]
        for found in range(4):
            lines.append(f"  {found:<10}" + "".join(f"{row[found]:>10,}" for row in plan.by_bound.values()))
    return lines


def _margins(margin: float) -> list[float]:
    return sorted({one for one in (0.05, 0.03, 0.02, 0.01, 0.005, margin) if one < 0.5}, reverse=True)
