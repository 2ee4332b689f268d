"""Scores of text by models that never saw its set, nor text that the set shares with others.

A crawl is always new to a model, so scores on known sets would promise too much: calibration, thresholds and what is
known of errors all rest on these scores. Several parts are left out at a time, so that a dozen fits do for any number
of sets; the fits see a little less text than the final model, and the rates err to the careful side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from detectors.calibration import Calibration, Float, balanced_weights, fit_calibration
from detectors.corpus import Bool, Corpus, Int
from detectors.fitting import FitOptions, LinearModel, crop, fit, logits, take
from detectors.histograms import score_table
from detectors.ngrams import Tokens

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """A corpus, read once, with all that fits and scores need; n rows."""

    corpus: Corpus
    learned: Tokens  # of the levelled texts, machine ones without the start that they share with a human text
    scored: Tokens  # of the levelled texts
    component: Int
    part: np.ndarray[tuple[int], np.dtype[np.int8]]
    usable: Bool
    folds: Int  # what is left out together, as numbers of ``fold_names``
    fold_names: tuple[str, ...]


@dataclass(frozen=True)
class Scored:
    """Rows of the corpus with the raw scores of one view of them."""

    rows: Int
    score: Float
    tokens: Int

    def take(self, kept: Bool) -> Scored:
        """Those that are ``kept``."""
        return Scored(self.rows[kept], self.score[kept], self.tokens[kept])


def joined(parts: list[Scored]) -> Scored:
    """All of them, one after the other."""
    return Scored(
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.score for part in parts]),
        np.concatenate([part.tokens for part in parts]),
    )


def folds_of(corpus: Corpus, collections: tuple[str, ...], least: int) -> tuple[Int, tuple[str, ...]]:
    """What is left out together: a set; in a collection of sources, a domain, or all domains under ``least`` rows.

    Returns the number of each row's fold, (n,), and the names of the folds.
    """
    folds = corpus.sets.astype(object)
    for name in collections:
        rows = corpus.sets == name
        for domain in np.unique(corpus.domains[rows]):
            here = rows & (corpus.domains == domain)
            folds[here] = f"{name}/{domain}" if here.sum() >= least else f"{name}/other"
    names, numbers = np.unique(folds.astype(np.str_), return_inverse=True)
    return numbers.astype(np.int64), tuple(names.tolist())


def batches(folds: Int, machine: Bool, most: int) -> list[list[int]]:
    """Deals the folds into at most ``most`` batches that hold about as much human text each, the largest first."""
    numbers, counts = np.unique(folds, return_counts=True)
    # Human text is what there is least of: it counts threefold.
    load = {
        number: count + 2 * int((~machine[folds == number]).sum())
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True)
    }
    dealt: list[list[int]] = [[] for _ in range(min(most, len(load)))]
    weight = [0] * len(dealt)
    for number in sorted(load, key=lambda number: (-load[number], number)):
        lightest = weight.index(min(weight))
        dealt[lightest].append(number)
        weight[lightest] += load[number]
    return dealt


def score(data: Prepared, model: LinearModel, rows: Int, cropped: FitOptions | None = None) -> Scored:
    """Scores of these rows; of random crops of them if ``cropped`` says how."""
    tokens = crop(data.scored, rows, cropped) if cropped else take(data.scored, rows)
    return Scored(rows, logits(model, tokens), np.diff(tokens.starts))


def left_out_scores(
    data: Prepared, languages: tuple[str, ...], options: FitOptions, most: int, say: Progress
) -> tuple[Scored, Scored]:
    """Scores of every text in these languages, whole and cropped, by a model that saw neither its fold nor its like."""
    whole: list[Scored] = []
    cropped: list[Scored] = []
    speaks = np.isin(data.corpus.languages, languages)
    dealt = batches(data.folds[speaks], data.corpus.machine[speaks], most)
    for number, folds in enumerate(dealt):
        held = speaks & np.isin(data.folds, folds)
        tied = np.isin(data.component, data.component[held])
        say(f"leaving out {', '.join(data.fold_names[fold] for fold in folds)} ({number + 1} of {len(dealt)})")
        model = fit(data.corpus, data.learned, np.flatnonzero(data.usable & ~tied), options)
        rows = np.flatnonzero(held)
        whole.append(score(data, model, rows))
        cropped.append(score(data, model, rows, options))
    return joined(whole), joined(cropped)


def calibrate(data: Prepared, views: list[Scored]) -> dict[str, Calibration]:
    """One calibration a language, on all views together."""
    both = joined(views)
    found: dict[str, Calibration] = {}
    for code in np.unique(data.corpus.languages[both.rows]).tolist():
        part = both.take(data.corpus.languages[both.rows] == code)
        machine = data.corpus.machine[part.rows]
        if machine.any() and not machine.all():
            weights = balanced_weights(machine, data.folds[part.rows])
            found[code] = fit_calibration(part.score, part.tokens, machine, weights)
    return found


def probability(data: Prepared, scored: Scored, calibrations: dict[str, Calibration]) -> Float:
    """The calibrated probability of each, as a reader of float32 sees it."""
    found = np.zeros(len(scored.rows))
    for code, calibration in calibrations.items():
        here = data.corpus.languages[scored.rows] == code
        found[here] = calibration.probability(scored.score[here], scored.tokens[here])
    return found.astype(np.float32).astype(np.float64)


def calibrations_without(data: Prepared, views: list[Scored]) -> dict[int, dict[str, Calibration]]:
    """For each fold the calibrations fitted on all others; that of all where a language is in this fold only."""
    everything = calibrate(data, views)
    found = {}
    for fold in np.unique(data.folds[views[0].rows]).tolist():
        found[fold] = everything | calibrate(data, [view.take(data.folds[view.rows] != fold) for view in views])
    return found


def left_out_table(
    data: Prepared, whole: Scored, calibrations: dict[int, dict[str, Calibration]], base_models: tuple[str, ...]
) -> pa.Table:
    """A row of :data:`detectors.histograms.SCORES` for each text, calibrated without its fold."""
    corpus = data.corpus
    odds = np.zeros(len(whole.rows))
    for fold, own in calibrations.items():
        here = data.folds[whole.rows] == fold
        chance = np.clip(probability(data, whole.take(here), own), 1e-7, 1 - 1e-7)
        odds[here] = np.log(chance) - np.log1p(-chance)
    return score_table(
        {
            "set": [data.fold_names[fold] for fold in data.folds[whole.rows].tolist()],
            "domain": corpus.domains[whole.rows].tolist(),
            "language": corpus.languages[whole.rows].tolist(),
            "label": np.where(corpus.machine[whole.rows], "machine", "human").tolist(),
            "group": [str(component) for component in data.component[whole.rows].tolist()],
            "assistant": ~np.isin(corpus.generators[whole.rows], base_models),
            "log_odds": odds.astype(np.float32),
            "tokens": whole.tokens.astype(np.int32),
        }
    )
