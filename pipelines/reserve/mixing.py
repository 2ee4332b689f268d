"""A plan for mixing an anchor into training data: how much of it an epoch takes, and how often a document comes back.

>>> plan = mixing_plan(2_000_000, 5_000, share=0.1, epochs=3, corpus_tokens=90_000_000)
>>> plan["anchor_tokens_per_epoch"], plan["passes_per_epoch"], plan["passes"]
(10000000, 5.0, 15.0)
>>> print(plan["warnings"][0])
each document would be seen 15.0 times; up to 4 passes over the same data changed the loss little (Muennighoff 2023)
"""

from __future__ import annotations

import math
from typing import Any, Final

from pipelines.errors import UsageError

HARMLESS: Final = 4  # passes over the same data (Muennighoff et al.)

# What is known of the share; none of it says that a share is enough.
LITERATURE: Final = (
    {
        "source": "Muennighoff et al., Scaling Data-Constrained Language Models, NeurIPS 2023, arXiv:2305.16264",
        "finding": "with constrained data and a fixed budget, up to 4 epochs of repeated data change the loss little "
        "against unique data; with more, the value of further compute decays to zero",
    },
    {
        "source": "Shumailov et al., AI models collapse when trained on recursively generated data, Nature 631 (2024) "
        "755, doi:10.1038/s41586-024-07566-y",
        "finding": "OPT-125m fine-tuned on its own output over generations: with a random 10 % of the original data in "
        "each generation it degraded little, with none of it more",
    },
    {
        "source": "Gerstgrasser et al., Is Model Collapse Inevitable?, COLM 2024, arXiv:2404.01413",
        "finding": "replacing real by synthetic data tends to collapse; keeping all real data while synthetic data "
        "accumulate beside it avoids it, though the real share falls with each generation",
    },
    {
        "source": "Dohmatob et al., Strong Model Collapse, ICLR 2025, arXiv:2410.04840",
        "finding": "in regression, theory and experiments: any constant share of synthetic data, even 1 in 1,000, can "
        "keep larger training sets from improving the model",
    },
)


def check_mixing(share: float, epochs: int, corpus_tokens: int | None) -> None:
    """Raises UsageError for what :func:`mixing_plan` cannot plan with."""
    if not 0 < share < 1:
        raise UsageError(f"--share {share}: of the anchor among all tokens of an epoch, between 0 and 1, as in 0.1")
    if epochs < 1:
        raise UsageError(f"--epochs {epochs}: at least 1")
    if corpus_tokens is not None and corpus_tokens < 1:
        raise UsageError(f"--corpus-tokens {corpus_tokens}: at least 1")


def mixing_plan(
    tokens: int, documents: int, share: float, epochs: int = 1, corpus_tokens: int | None = None, unit: str = "tokens"
) -> dict[str, Any]:
    """How an anchor is mixed in.

    Args:
        tokens: of the anchor.
        documents: of the anchor.
        share: of the anchor among all tokens that an epoch reads, between 0 and 1.
        epochs: of the training.
        corpus_tokens: of everything else that an epoch reads, counted as those of the anchor; None: unknown.
        unit: what these tokens are called.
    """
    # The largest rest of an epoch for which no document comes more often than is known to be harmless.
    most = HARMLESS * tokens * (1 - share) / (share * epochs)
    plan: dict[str, Any] = {
        "share": share,
        "epochs": epochs,
        "corpus_tokens": corpus_tokens,
        "unit": unit,
        "largest_corpus_tokens": math.floor(most),
        "warnings": [],
        "literature": list(LITERATURE),
    }
    if corpus_tokens is None:
        return plan
    needed = share / (1 - share) * corpus_tokens
    per_epoch = needed / tokens
    whole = math.floor(per_epoch)
    plan |= {
        "anchor_tokens_per_epoch": round(needed),
        "passes_per_epoch": per_epoch,
        "passes": per_epoch * epochs,
        "documents_once_more": round((per_epoch - whole) * documents),  # in an epoch, beyond the whole passes
    }
    if plan["passes"] > HARMLESS:
        plan["warnings"].append(
            f"each document would be seen {plan['passes']:.1f} times; up to {HARMLESS} passes over the same data "
            "changed the loss little (Muennighoff 2023)"
        )
        plan["warnings"].append(
            f"for {HARMLESS} passes the anchor has to hold {round(needed * epochs / HARMLESS):,} {unit}, or its "
            f"share be {HARMLESS * tokens / (HARMLESS * tokens + corpus_tokens * epochs):.2%}"
        )
    return plan
