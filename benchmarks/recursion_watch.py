"""The collapse panel over the generations of a model: each is a slice, judged as the panel judges months of a crawl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.statistics.panel.against import (
    benjamini_hochberg,
    p_value,
    reference_of,
    relative,
    relatives,
)
from pipelines.statistics.panel.estimators import NOTHING, Estimate
from pipelines.statistics.panel.measures import comparable, measure
from pipelines.statistics.panel.state import State

LEVEL = 0.95
WORSE = 1.05  # times the perplexity of generation 0
_ITSELF = {"surprisal_drift": Estimate(0.0, 0.0, 0.0, 0.0)}  # as in pipelines.statistics.panel.against.compare


class Watch:
    """What generations are compared with: by name, the states of several blocks each."""

    def __init__(self, references: Mapping[str, Sequence[State]]) -> None:
        self.references = dict(references)
        self.known = {
            name: [comparable(one, LEVEL) | of_it for one, of_it in zip(blocks, relatives(blocks, LEVEL), strict=True)]
            for name, blocks in self.references.items()
        }

    def over(self, generations: Sequence[State]) -> dict[str, Any]:
        """The measures of each generation with their intervals, and against each reference the p-values and its band.

        Returns ``{"against": {reference: {measure: {"value", "low", "high", "p", "band"}}}}``, lists over generations;
        ``band`` is where the panel expects a further block like those of the reference, and its mean: low, mean, high.
        """
        own = [comparable(state, LEVEL) for state in generations]
        against: dict[str, Any] = {}
        for name, blocks in self.references.items():
            values = [one | relative(state, blocks, LEVEL) for one, state in zip(own, generations, strict=True)]
            against[name] = {}
            for which in values[0]:
                kind = measure(which)
                months = [one.get(which, _ITSELF.get(which, NOTHING)) for one in self.known[name]]
                reference = reference_of(months, kind, LEVEL)
                found = [one[which] for one in values]
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

    The panel's rule: the p-values of one measure over all slices, here the generations so far, by Benjamini and
    Hochberg at 5 %.
    """
    found = {}
    for name, one in run["against"][against].items():
        p = one["p"]
        found[name] = [bool(benjamini_hochberg(p[: g + 1])[g] <= 1 - LEVEL) for g in range(len(p))]
    return found


def first_alarms(run: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Against each reference, the measures that alarm and the generation at which each does first."""
    result = {}
    for against in run["against"]:
        first = {name: flags.index(True) for name, flags in alarms(run, against).items() if any(flags)}
        result[against] = dict(sorted(first.items(), key=lambda item: (item[1], item[0])))
    return result


def worse_by(run: Mapping[str, Any], factor: float = WORSE) -> int | None:
    """The first generation whose held-out perplexity is so many times that of generation 0, or None."""
    perplexity = np.array(run["perplexity"])
    at = np.flatnonzero(perplexity > factor * perplexity[0]) if len(perplexity) else []
    return int(at[0]) if len(at) else None
