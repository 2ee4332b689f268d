"""Any sequence classifier of `transformers` as a detector.

    detector = SequenceClassifier("openai-community/roberta-base-openai-detector")
    detector.score(["some text …"], ["en"]).score       # log-odds of the machine's labels against the others

The score is log(p / (1 - p)), where p is the sum of the probabilities that ``pipeline("text-classification")`` gives
to the labels that mean a machine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from detectors.model_detector import Fitted, ModelDetector
from detectors.models import Model, ModelOptions, check_ids, load_model, load_tokenizer, need_torch, token_limit

_MACHINE = re.compile(
    r"(ai|bot|chatgpt|fake|gpt|llm|machine|synthetic)([- _](generated|written|text))?|generated([- _]by[- _]ai)?", re.I
)
_HUMAN = re.compile(r"human([- _](generated|written|text))?|written[- _]by[- _]human|real|original|authentic", re.I)


class _Loaded(NamedTuple):
    tokenizer: Any
    model: Model
    machine: tuple[int, ...]  # indices of the labels that mean a machine; empty: the only logit is the log-odds
    limit: int | None
    budget: int
    padding: int


class SequenceClassifier(ModelDetector):
    """A classifier with a label for machine text. Without calibration it gives scores and no probability."""

    kind = "sequence-classifier"

    def __init__(
        self,
        model: str,
        machine_labels: Sequence[str] = (),
        options: ModelOptions | None = None,
        fitted: Fitted | None = None,
    ) -> None:
        """``machine_labels``: the labels that mean a machine; needed where their names do not say so."""
        super().__init__(options, fitted)
        self._model = model
        self._machine_labels = tuple(machine_labels)

    @property
    def models(self) -> dict[str, str]:
        """The model."""
        return {"model": self._model}

    @property
    def settings(self) -> dict[str, Any]:
        """The labels that mean a machine, where they were named."""
        return {"machine_labels": list(self._machine_labels)}

    def _load(self) -> _Loaded:
        tokenizer = load_tokenizer(self._model)
        model = load_model(self._model, "classifier", self.options)
        check_ids(tokenizer, model, self._model)
        config = model.module.config
        machine = machine_indices(config.id2label, self._machine_labels, self._model)
        padding = tokenizer.pad_token_id
        # A decoder finds the end of a text by its padding token; without one, texts cannot share a batch.
        alone = padding is None or config.pad_token_id is None
        limit = token_limit(tokenizer, self.options, model.context)
        return _Loaded(tokenizer, model, machine, limit, 1 if alone else model.budget, padding or 0)

    def _values(self, loaded: _Loaded, rows: Sequence[Sequence[int]]) -> list[float]:
        torch = need_torch()
        logits = loaded.model.forward(rows, loaded.padding).double().cpu()
        if loaded.model.module.config.num_labels == 1:
            odds = logits[:, 0] if loaded.machine else -logits[:, 0]
        elif loaded.model.module.config.problem_type == "multi_label_classification":
            odds = logits[:, loaded.machine[0]]
        else:
            machine = list(loaded.machine)
            others = [label for label in range(logits.shape[1]) if label not in loaded.machine]
            odds = torch.logsumexp(logits[:, machine], 1) - torch.logsumexp(logits[:, others], 1)
        return [float(value) for value in odds]


def machine_indices(labels: Mapping[int, str], named: Sequence[str], model: str) -> tuple[int, ...]:
    """The indices of the labels that mean a machine: those named, or those whose names plainly say so.

    Of the only label of a classifier with one logit: index 0 where it means a machine, else nothing. Raises ValueError
    that lists the labels where it stays open, or where a named one does not exist.
    """
    known = f"the labels of {model} are {', '.join(repr(label) for label in labels.values())}"
    if named:
        unknown = [name for name in named if name not in labels.values()]
        if unknown:
            raise ValueError(f"there is no label {unknown[0]!r}: {known}")
        found = tuple(index for index, label in labels.items() if label in named)
        if len(found) == len(labels) > 1:
            raise ValueError(f"not every label can mean a machine: {known}")
        return found
    machine = tuple(index for index, label in labels.items() if _MACHINE.fullmatch(label.strip()))
    human = [index for index, label in labels.items() if _HUMAN.fullmatch(label.strip())]
    if len(machine) + len(human) < len(labels) or (len(labels) > 1 and not (machine and human)):
        raise ValueError(f"{known}; say with machine_labels which of them mean a machine")
    return machine
