"""Binoculars: how surprising a text is to one model, over how surprising another model's guesses are to it.

    detector = Binoculars(observer="tiiuae/falcon-7b", performer="tiiuae/falcon-7b-instruct")
    detector.score(["some text …"], ["en"]).score       # low: machine

Hans et al., "Spotting LLMs With Binoculars: Zero-Shot Detection of Machine-Generated Text" (ICML 2024,
arXiv:2401.12070), section 3: with p of the performer and q of the observer at each position of a text x of n predicted
tokens,

    log-perplexity  -1/n Σ log p(x_i)     cross-perplexity  -1/n Σ_i Σ_v q(v) log p(v)     score: their quotient

The roles are those of the published program; the paper's text names them the other way round. The program also averages
the cross-perplexity over one position more, the one after the last token, and its thresholds (0.8536, 0.9015) rest on
that: ``last_position`` does so too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from detectors.causal import common_tokenizer, each_position, load_causal
from detectors.model_detector import Fitted, ModelDetector
from detectors.models import Model, ModelOptions, token_limit


class _Loaded(NamedTuple):
    tokenizer: Any
    observer: Model
    performer: Model
    limit: int | None
    budget: int


class Binoculars(ModelDetector):
    """The quotient, by any two causal models that share a tokenizer."""

    kind = "binoculars"
    sign = -1

    def __init__(
        self,
        observer: str,
        performer: str,
        last_position: bool = False,
        options: ModelOptions | None = None,
        fitted: Fitted | None = None,
    ) -> None:
        """``last_position``: average the cross-perplexity over the position after the text too, as the program does."""
        super().__init__(options, fitted)
        self._observer = observer
        self._performer = performer
        self._last_position = last_position

    @property
    def models(self) -> dict[str, str]:
        """The observer and the performer."""
        return {"observer": self._observer, "performer": self._performer}

    @property
    def settings(self) -> dict[str, Any]:
        """Whether the position after the text counts."""
        return {"last_position": self._last_position}

    def _load(self) -> _Loaded:
        tokenizer = common_tokenizer(self._observer, self._performer)
        observer, performer = load_causal([self._observer, self._performer], tokenizer, self.options)
        limit = token_limit(tokenizer, self.options, observer.context, performer.context)
        return _Loaded(tokenizer, observer, performer, limit, observer.budget)

    def _values(self, loaded: _Loaded, rows: Sequence[Sequence[int]]) -> list[float]:
        observer = loaded.observer.forward(rows)
        performer = observer if loaded.performer is loaded.observer else loaded.performer.forward(rows)
        both = zip(observer, performer, rows, strict=True)
        return [perplexity_quotient(one, other, row, self._last_position) for one, other, row in both]


def perplexity_quotient(observer: Any, performer: Any, tokens: Sequence[int], last_position: bool = False) -> float:
    """Log-perplexity over cross-perplexity of one text.

    Args:
        observer: logits, tensor [positions, vocabulary] of any float type, at least as many positions as tokens;
            position i predicts token i + 1. Positions past the text are not looked at.
        performer: the same of the performer; where the vocabularies differ in length the shorter counts.
        tokens: the text, two tokens or more.
        last_position: whether the cross-perplexity is averaged over the position after the last token too.

    NaN where the cross-perplexity is zero: both models are certain of the same tokens.
    """
    surprise = cross = 0.0
    for log_p, log_q, following in each_position(performer, observer, tokens):
        cross -= float((log_q.exp() * log_p).sum(-1).double().sum())
        surprise -= float(log_p.gather(-1, following[:, None]).double().sum())
    predicted = positions = len(tokens) - 1
    if last_position:
        end = len(tokens) - 1
        for log_p, log_q, _ in each_position(performer[end:], observer[end:], [0, 0]):
            cross -= float((log_q.exp() * log_p).sum(-1).double().sum())
        positions += 1
    return (surprise / predicted) / (cross / positions) if cross > 0 else float("nan")
