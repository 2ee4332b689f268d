"""The collapse panel over the generations of a model, judged against what models of the first generation write.

Which measures count, and when they alarm, is fixed here and nowhere else::

    run = Watch({FIRST_MODELS: states_of_first_models}).over(states_of_generations)
    alarms(run, FIRST_MODELS)           # for each measure, whether it alarms at each generation
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.statistics.panel.against import benjamini_hochberg, p_value, reference_of
from pipelines.statistics.panel.measures import measure, measures
from pipelines.statistics.panel.state import State

LEVEL = 0.95
WORSE = 1.05  # times the perplexity of generation 0
FIRST_MODELS, HUMAN_TEXT = "first models", "human text"

# The early phase shows in the tails, the late one in the variance (Shumailov et al. 2024, section "Theory").
TAILS = ("hapax_share", "missing_mass", "zipf_exponent", "distinct_trigrams", "distinct_documents")
VARIANCE = ("entropy", "renyi2", "vendi", "compression_ratio", "template_rate")
# Measures of variety. The others, of surprisal and overlap, speak of another making.
FAMILY = (*TAILS, "mattr", *VARIANCE)


class Watch:
    """What generations are compared with: by name, the states of several corpora each, of the size of a generation.

    Since all are of one size, measures that change with size are compared as they are, of the whole output.
    """

    def __init__(self, references: Mapping[str, Sequence[State]]) -> None:
        self.known = {name: [measures(one, LEVEL) for one in states] for name, states in references.items()}

    def over(self, generations: Sequence[State]) -> dict[str, Any]:
        """The measures of each generation with their intervals, and against each reference the p-values and its band.

        Returns ``{"against": {reference: {measure: {"value", "low", "high", "p", "band"}}}}``, lists over generations;
        ``band`` is where the panel expects a further corpus like those of the reference, and its mean: low, mean, high.
        """
        own = [measures(state, LEVEL) for state in generations]
        against: dict[str, Any] = {}
        for name, known in self.known.items():
            against[name] = {}
            for which in FAMILY:
                kind, found = measure(which), [one[which] for one in own]
                reference = reference_of([one[which] for one in known], kind, LEVEL)
                against[name][which] = {
                    "value": [one.value for one in found],
                    "low": [one.low for one in found],
                    "high": [one.high for one in found],
                    "p": [p_value(one, reference, kind) for one in found],
                    "band": [reference.low, reference.value, reference.high] if reference else None,
                }
        return {"against": against}


def alarms(run: Mapping[str, Any], against: str) -> dict[str, list[bool]]:
    """For each measure, whether it alarms at each generation, from what was known by then.

    The p-values of all measures and all generations so far are one family, by Benjamini and Hochberg at 5 %.
    """
    found = run["against"][against]
    p = np.array([one["p"] for one in found.values()], np.float64)
    flags = np.zeros(p.shape, bool)
    for g in range(p.shape[1]):
        flags[:, g] = benjamini_hochberg(p[:, : g + 1].ravel().tolist()).reshape(len(p), -1)[:, -1] <= 1 - LEVEL
    return {name: row.tolist() for name, row in zip(found, flags, strict=True)}


def first_alarms(run: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Against each reference, the measures that alarm and the generation at which each does first."""
    result = {}
    for against in run["against"]:
        first = {name: flags.index(True) for name, flags in alarms(run, against).items() if any(flags)}
        result[against] = dict(sorted(first.items(), key=lambda item: (item[1], item[0])))
    return result


def first_of(run: Mapping[str, Any], which: Sequence[str] = FAMILY, against: str = FIRST_MODELS) -> int | None:
    """The first generation at which any of these measures alarms, or None."""
    return min((at for name, at in first_alarms(run)[against].items() if name in which), default=None)


def worse_by(run: Mapping[str, Any], factor: float = WORSE) -> int | None:
    """The first generation whose held-out perplexity is so many times that of generation 0, or None."""
    perplexity = np.array(run["perplexity"])
    at = np.flatnonzero(perplexity > factor * perplexity[0]) if len(perplexity) else []
    return int(at[0]) if len(at) else None
