"""Pairs of causal models that read the same tokens, and their log-probabilities position by position."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from detectors.models import Model, ModelOptions, check_ids, load_model, load_tokenizer, need_torch

_CHUNK = 1 << 24  # logits that are in memory at once as float32: 64 MB, some times over
_PROBE = "It's 3.14 or 1,000 — “naïve” façade;\n\n\t中文 текст  two spaces… 🙂"


def common_tokenizer(first: str, second: str) -> Any:
    """The tokenizer of two models. Raises ValueError where theirs differ, FileNotFoundError where one is missing."""
    tokenizer = load_tokenizer(first)
    if second == first:
        return tokenizer
    other = load_tokenizer(second)
    one, two = tokenizer.get_vocab(), other.get_vocab()
    if one != two:
        differing = len(set(one.items()) ^ set(two.items()))
        raise ValueError(
            f"{first} and {second} do not share a tokenizer: of {len(one)} and {len(two)} tokens {differing} differ;"
            " take two models of one family"
        )
    if tokenizer(_PROBE)["input_ids"] != other(_PROBE)["input_ids"]:
        raise ValueError(
            f"{first} and {second} have the same vocabulary but split text differently; take two models of one family"
        )
    return tokenizer


def load_causal(names: Sequence[str], tokenizer: Any, options: ModelOptions) -> list[Model]:
    """The models of these names, each loaded once; for every name its model, in order."""
    loaded = {name: load_model(name, "causal", options) for name in dict.fromkeys(names)}
    for name, model in loaded.items():
        check_ids(tokenizer, model, name)
    return [loaded[name] for name in names]


def each_position(scoring: Any, reference: Any, tokens: Sequence[int]) -> Iterator[tuple[Any, Any, Any]]:
    """Chunks of positions: log-probabilities of both models, float32[c, vocabulary], and the tokens there, int64[c].

    ``scoring`` and ``reference`` are logits [positions, vocabulary] whose position i predicts ``tokens[i + 1]``; they
    may be one tensor. The softmax is taken in float32 whatever their type. A vocabulary that is padded to a round
    length is cut to the shorter of the two.
    """
    torch = need_torch()
    following = torch.tensor(list(tokens[1:]), device=scoring.device)
    size = min(scoring.shape[-1], reference.shape[-1])
    step = max(1, _CHUNK // size)
    for start in range(0, len(following), step):
        end = min(start + step, len(following))
        log_p = torch.log_softmax(scoring[start:end, :size].float(), -1)
        if reference is scoring:
            log_q = log_p
        else:
            log_q = torch.log_softmax(reference[start:end, :size].to(scoring.device).float(), -1)
        yield log_p, log_q, following[start:end]
