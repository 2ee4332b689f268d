"""Fast-DetectGPT: the conditional probability curvature of a text under a causal model.

    detector = FastDetectGPT("/models/gpt-neo-2.7B", reference="/models/gpt-j-6B")
    detector.score(["some text …"], ["en"]).score       # high: machine

Bao et al., "Fast-DetectGPT: Efficient Zero-Shot Detection of Machine-Generated Text via Conditional Probability
Curvature" (ICLR 2024, arXiv:2310.05130), in the analytic form: with p of the scoring model and q of the reference
(sampling) model at each position of a text x,

    (Σ log p(x_i) - Σ μ_i) / √Σ σ_i²      μ_i = Σ_v q(v) log p(v),  σ_i² = Σ_v q(v) (log p(v) - μ_i)²
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from detectors.causal import common_tokenizer, each_position, load_causal
from detectors.model_detector import Fitted, ModelDetector
from detectors.models import Model, ModelOptions, token_limit


class _Loaded(NamedTuple):
    tokenizer: Any
    scoring: Model
    reference: Model
    limit: int | None
    budget: int


class FastDetectGPT(ModelDetector):
    """The curvature, by one model or by two that share a tokenizer."""

    kind = "fast-detectgpt"

    def __init__(
        self,
        scoring: str,
        reference: str | None = None,
        options: ModelOptions | None = None,
        fitted: Fitted | None = None,
    ) -> None:
        """``reference``: the model that stands for the sampling of other texts; None: the scoring model itself."""
        super().__init__(options, fitted)
        self._scoring = scoring
        self._reference = reference or scoring

    @property
    def models(self) -> dict[str, str]:
        """The scoring and the reference model."""
        return {"scoring": self._scoring, "reference": self._reference}

    def _load(self) -> _Loaded:
        tokenizer = common_tokenizer(self._scoring, self._reference)
        scoring, reference = load_causal([self._scoring, self._reference], tokenizer, self.options)
        limit = token_limit(tokenizer, self.options, scoring.context, reference.context)
        return _Loaded(tokenizer, scoring, reference, limit, scoring.budget)

    def _values(self, loaded: _Loaded, rows: Sequence[Sequence[int]]) -> list[float]:
        scoring = list(loaded.scoring.forward(rows))
        reference = scoring if loaded.reference is loaded.scoring else list(loaded.reference.forward(rows))
        return [curvature(p, q, row) for p, q, row in zip(scoring, reference, rows, strict=True)]


def curvature(scoring: Any, reference: Any, tokens: Sequence[int]) -> float:
    """The analytic curvature of one text.

    Args:
        scoring: logits of the scoring model, tensor [positions, vocabulary] of any float type, at least as many
            positions as tokens; position i predicts token i + 1. Positions past the text are not looked at.
        reference: the same of the reference model; where the vocabularies differ in length the shorter counts.
        tokens: the text, two tokens or more.

    NaN where the reference model is certain of every token.
    """
    surplus = variance = 0.0
    for log_p, log_q, following in each_position(scoring, reference, tokens):
        q = log_q.exp()
        mean = (q * log_p).sum(-1)
        variance += float((q * (log_p - mean[:, None]).square()).sum(-1).double().sum())
        surplus += float((log_p.gather(-1, following[:, None])[:, 0] - mean).double().sum())
    return float(surplus / variance**0.5) if variance > 0 else float("nan")
