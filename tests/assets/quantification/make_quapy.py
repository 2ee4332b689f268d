"""Writes quapy.json beside this file: what QuaPy estimates from the same scores; run where QuaPy is installed.

    python tests/assets/quantification/make_quapy.py

QuaPy (BSD licence) brings scikit-learn, pandas and matplotlib, some 500 MB, and so is not among the test dependencies.
Scores stand at the centres of the 64 bins of log-odds, so that the counts of bins say all of them.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

COMMAND = "python tests/assets/quantification/make_quapy.py"
CENTRES = (np.arange(64) + 0.5) / 4 - 8


def cases() -> list[dict[str, Any]]:
    """Counts of human and machine reference text and of a sample, and the threshold that the counts are adjusted at."""
    random = np.random.default_rng(20_221_130)
    found = []
    for share, size in ((0.005, 1000), (0.02, 400), (0.05, 2000), (0.2, 300), (0.5, 1000), (0.9, 500)):
        human, machine = random.normal(-1.5, 1.2, 1500), random.normal(1.4, 1.5, 1200)
        of_machine = random.random(size) < share
        sample = np.where(of_machine, random.normal(1.4, 1.5, size), random.normal(-1.5, 1.2, size))
        found.append({"share": share} | {n: binned(v) for n, v in zip(PARTS, (human, machine, sample), strict=True)})
    return found


PARTS = ("human", "machine", "sample")


def binned(log_odds: np.ndarray) -> list[int]:
    return np.bincount(np.clip(np.floor((log_odds + 8) * 4), 0, 63).astype(int), minlength=64).tolist()


def posteriors(counts: list[int]) -> np.ndarray:
    """(texts, 2) probabilities of human and machine origin."""
    machine = 1 / (1 + np.exp(-np.repeat(CENTRES, counts)))
    return np.stack([1 - machine, machine], axis=1)


def of_references(case: dict[str, Any]) -> np.ndarray:
    """(texts, 2) probabilities by the reference counts in 8 bins: EM on these ends at the greatest likelihood."""
    human, machine, sample = (np.reshape(case[part], (8, 8)).sum(axis=1) for part in PARTS)
    both = np.stack([(human + 0.5) / (human + 0.5).sum(), (machine + 0.5) / (machine + 0.5).sum()], axis=1)
    return np.repeat(both / both.sum(axis=1, keepdims=True), sample, axis=0)


def estimates(case: dict[str, Any]) -> dict[str, Any]:
    """What QuaPy's aggregation functions make of a case; its classifier is not needed."""
    from quapy.method.aggregative import ACC, EMQ, PACC, DMy, HDy
    from sklearn.linear_model import LogisticRegression

    classifier = LogisticRegression().fit([[0.0], [1.0]], [0, 1])  # asked for its classes alone
    scores = np.concatenate([posteriors(case["human"]), posteriors(case["machine"])])
    labels = np.repeat([0, 1], [sum(case["human"]), sum(case["machine"])])
    sample = posteriors(case["sample"])

    def run(method: Any, crisp: bool = False) -> float:
        known, new = (scores.argmax(axis=1), sample.argmax(axis=1)) if crisp else (scores, sample)
        method.aggregation_fit(known, labels)
        return float(method.aggregate(new)[1])

    fixed = {"fit_classifier": False, "val_split": None}
    return {
        "emq": float(EMQ.EM(np.array([0.5, 0.5]), sample, epsilon=1e-12)[0][1]),
        "likelihood": float(EMQ.EM(np.array([0.5, 0.5]), of_references(case), epsilon=1e-12)[0][1]),
        "acc": run(ACC(classifier, **fixed, solver="exact-raise"), crisp=True),
        "pacc": run(PACC(classifier, **fixed, solver="exact-raise")),
        "hdy": run(HDy(classifier, **fixed)),
        "hellinger": {
            str(bins): run(DMy(classifier, **fixed, nbins=bins, search="ternary_search")) for bins in (8, 20, 50)
        },
    }


def main() -> None:
    made = {"command": COMMAND, "quapy": version("quapy"), "scikit-learn": version("scikit-learn")}
    made |= {"cases": [case | {"estimates": estimates(case)} for case in cases()]}
    Path(__file__).with_name("quapy.json").write_text(json.dumps(made) + "\n")


if __name__ == "__main__":
    main()
