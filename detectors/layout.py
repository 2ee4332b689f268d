"""What a corpus gives away by layout alone: the baseline that a detector's AUROC should be read beside."""

from __future__ import annotations

import re

import numpy as np

from detectors.calibration import auroc, balanced_weights, logistic_regression
from detectors.corpus import Corpus, text_key

_LAYOUT = (
    re.compile(r"\n"),
    re.compile(r"\n\s*\n"),
    re.compile(r"[*#_`|]"),
    re.compile(r"[“”‘’]"),
    re.compile(r"[—–]"),
    re.compile(r"  "),
    re.compile(r"\n\s*(?:[-•*]|\d+[.)])\s"),
)


def layout_auroc(corpus: Corpus) -> float:
    """AUROC of a classifier that sees layout only, two-fold by group: what a corpus gives away without any wording.

    NaN where a label is missing in a fold.
    """
    features = np.array([_layout(text) for text in corpus.texts])
    features = np.c_[(features - features.mean(0)) / (features.std(0) + 1e-9), np.ones(len(features))]
    fold = np.array([text_key(group) % 2 for group in corpus.groups.tolist()])
    score = np.zeros(len(features))
    for number in (0, 1):
        fitted, held = fold != number, fold == number
        if len(set(corpus.machine[fitted].tolist())) < 2:
            return float("nan")
        weights = balanced_weights(corpus.machine[fitted], corpus.sets[fitted])
        score[held] = features[held] @ logistic_regression(features[fitted], corpus.machine[fitted], weights)
    return float(np.mean([auroc(score[fold == number], corpus.machine[fold == number]) for number in (0, 1)]))


def _layout(text: str) -> list[float]:
    length = len(text) + 1
    counted = [np.log1p(1000 * len(pattern.findall(text)) / length) for pattern in _LAYOUT]
    ending = text.rstrip()[-1:] in set(".!?\"'”’。！？")
    return [*counted, float(ending), float(text[:1].isspace()), float(text[-1:].isspace()), float(np.log(length))]
