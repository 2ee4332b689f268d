"""Trains the embedded detector: fit, calibrate, choose thresholds, measure, and write a model folder with its card.

    from detectors.training import train

    train([Path("sets/")], Path("my-model"), progress=print)

The folder can be given to :class:`detectors.embedded.Embedded`. Deterministic: the same files and options give the same
bytes. Calibration and thresholds rest on *left-out* scores: each set is scored by a model that never saw it, nor
anything that shares text with it. A crawl is always new to the model, so scores on known sets would promise too much.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from detectors.base import ASSISTANTS, HELD_OUT, LEFT_OUT, ErrorRates, OperatingPoint, SliceRates, length_bucket
from detectors.calibration import (
    Calibration,
    Float,
    balanced_weights,
    decision_threshold,
    fit_calibration,
    quantification_threshold,
)
from detectors.card import model_card
from detectors.corpus import (
    SCORED_CHARACTERS,
    TEST,
    TRAIN,
    VALIDATION,
    Bool,
    Corpus,
    Int,
    components,
    read_corpus,
    split,
    text_key,
    without_shared_start,
)
from detectors.embedded import CARD_FILE, MODEL_FILE, SEEN_FILE, SETTINGS_FILE, SeenTexts
from detectors.fitting import FitOptions, crop, fit, logits, token_counts, trainable, training_lines

Progress = Callable[[str], None]

BASE_MODELS = (
    "davinci",
    "gpt-j-6B",
    "gpt-neo-2.7B",
    "gpt-neox-20b",
    "gpt2",
    "gpt2-xl",
    "gptj",
    "gptneo",
    "llama",
    "markllm-synthid",
    "opt-2.7b",
)


@dataclass(frozen=True)
class TrainOptions:
    """How to train.

    ``excluded_attacks`` are texts of mixed origin: measured, but neither learned from nor counted. ``base_models`` are
    generators that continue text and do not follow instructions: learned from, and left out of the ASSISTANTS rates.
    """

    languages: tuple[str, ...] = ("en", "zh")
    minimum_tokens: int = 60
    excluded_attacks: tuple[str, ...] = ("human_llm_fusion",)
    base_models: tuple[str, ...] = BASE_MODELS
    leave_one_out: bool = True
    least_fold: int = 80
    false_positive_rate: float = 0.01
    fit: FitOptions = field(default_factory=FitOptions)


@dataclass(frozen=True)
class _Data:
    corpus: Corpus
    texts: list[bytes]  # levelled, machine ones without the start they share with a human text
    component: Int
    part: np.ndarray[tuple[int], np.dtype[np.int8]]
    usable: Bool
    folds: np.ndarray[tuple[int], np.dtype[np.str_]]


@dataclass(frozen=True)
class _Scored:
    """Rows of the corpus with the raw scores of one view of them."""

    rows: Int
    score: Float
    tokens: Int

    def take(self, kept: Bool) -> _Scored:
        return _Scored(self.rows[kept], self.score[kept], self.tokens[kept])


def train(
    paths: Path | Iterable[Path], output: Path, options: TrainOptions | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Trains on the Parquet files at ``paths`` (see :mod:`detectors.corpus`) and writes a model folder.

    Returns the content of ``detector.json``. Raises FileNotFoundError, and ValueError where the data do not suffice.
    """
    options = options or TrainOptions()
    say = progress or (lambda line: None)
    data = _prepare(paths, options, say)
    say("fitting the model")
    model = fit(_lines(data, data.part == TRAIN, options), options.fit)
    known = _score(data, model, np.flatnonzero(data.usable & (data.part == VALIDATION)))
    if options.leave_one_out:
        whole, cropped = _left_out_scores(data, options, say)
    else:
        whole, cropped = known, _score(data, model, known.rows, options)
    long_enough = [part.take(part.tokens >= options.minimum_tokens) for part in (whole, cropped)]
    usable = [part.take(data.usable[part.rows]) for part in long_enough]
    calibrations = _calibrate(data, usable)
    slices = _human_slices(data, [*usable, known.take(known.tokens >= options.minimum_tokens)], calibrations)
    decision = decision_threshold(list(slices.values()), options.false_positive_rate)
    probability = _probability(data, usable[0], calibrations)
    machine = data.corpus.machine[usable[0].rows]
    weights = balanced_weights(machine, data.folds[usable[0].rows])
    quantification = quantification_threshold(probability, machine, weights)

    test = _score(data, model, np.flatnonzero((data.part == TEST) & np.isin(data.corpus.languages, options.languages)))
    test = test.take(test.tokens >= options.minimum_tokens)

    def point(threshold: float) -> OperatingPoint:
        parts = _held_out(data, test.take(data.usable[test.rows]), calibrations, threshold)
        if options.leave_one_out:
            parts = _left_out(data, usable[0], calibrations, threshold) + parts
            assistants = usable[0].take(~np.isin(data.corpus.generators[usable[0].rows], options.base_models))
            parts = _left_out(data, assistants, calibrations, threshold, ASSISTANTS) + parts
        return OperatingPoint(threshold, tuple(parts))

    rates = ErrorRates("embedded", point(decision), point(quantification))
    mixed = long_enough[0] if options.leave_one_out else test
    settings = {
        "format": 1,
        "name": "embedded",
        "minimum_tokens": options.minimum_tokens,
        "scored_characters": SCORED_CHARACTERS,
        "languages": sorted(calibrations),
        "prior": 0.5,
        "calibration": {code: one.to_dict() for code, one in calibrations.items()},
        "calibrated_on": LEFT_OUT if options.leave_one_out else "validation",
        "error_rates": rates.to_dict(),
        "nested": _nested(data, usable, calibrations, options) if options.leave_one_out else [],
        "mixed": _mixed(data, mixed, calibrations, decision, quantification),
        "data": _data_summary(data),
        "options": asdict(options),
        "versions": {name: version(name) for name in ("fasttext-community", "numpy")},
    }
    _write(output, model, settings, data)
    say(f"wrote {output}")
    return settings


def _prepare(paths: Path | Iterable[Path], options: TrainOptions, say: Progress) -> _Data:
    corpus = read_corpus(paths)
    say(f"read {len(corpus)} texts of {len(np.unique(corpus.sets))} sets")
    component = components(corpus)
    usable = trainable(corpus, options.languages, options.excluded_attacks)
    part = split(corpus, component, options.fit.seed)
    for language in options.languages:
        for place, name in ((TRAIN, "training"), (VALIDATION, "validation")):
            labels = set(corpus.machine[usable & (part == place) & (corpus.languages == language)].tolist())
            if len(labels) < 2:
                raise ValueError(
                    f"language {language!r}: the {name} split needs texts of both labels; add text or groups"
                )
    return _Data(corpus, without_shared_start(corpus), component, part, usable, _folds(corpus, options.least_fold))


def _folds(corpus: Corpus, least: int) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
    """What is left out together: a set; in a set of one label only, a domain, as it is a collection of kinds."""
    folds = corpus.sets.astype(object)
    for name in np.unique(corpus.sets):
        rows = corpus.sets == name
        if not corpus.machine[rows].any():
            for domain in np.unique(corpus.domains[rows]):
                here = rows & (corpus.domains == domain)
                folds[here] = f"{name}/{domain}" if here.sum() >= least else f"{name}/other"
    return folds.astype(np.str_)


def _lines(data: _Data, chosen: Bool, options: TrainOptions) -> list[bytes]:
    return training_lines(data.corpus, data.texts, np.flatnonzero(chosen & data.usable), options.fit)


def _score(data: _Data, model: Any, rows: Int, cropped: TrainOptions | None = None) -> _Scored:
    texts = [data.corpus.levelled[row] for row in rows]
    if cropped:
        random = np.random.default_rng(cropped.fit.seed + 1)
        texts = [crop(text, random, cropped.fit) for text in texts]
    return _Scored(rows, logits(model, texts), token_counts(texts))


def _left_out_scores(data: _Data, options: TrainOptions, say: Progress) -> tuple[_Scored, _Scored]:
    """Scores of every text in a supported language by a model that saw neither its set nor text that its set shares."""
    whole: list[_Scored] = []
    cropped: list[_Scored] = []
    speaks = np.isin(data.corpus.languages, options.languages)
    names = np.unique(data.folds[speaks])
    for number, name in enumerate(names):
        held = speaks & (data.folds == name)
        tied = np.isin(data.component, data.component[held])
        say(f"leaving out {name} ({number + 1} of {len(names)})")
        # Not quantised, which would take most of the time; scores get 5 % wider, so the rates err to the careful side.
        model = fit(_lines(data, ~tied, options), options.fit, quantise=False)
        rows = np.flatnonzero(held)
        whole.append(_score(data, model, rows))
        cropped.append(_score(data, model, rows, options))
    return _joined(whole), _joined(cropped)


def _joined(parts: list[_Scored]) -> _Scored:
    return _Scored(
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.score for part in parts]),
        np.concatenate([part.tokens for part in parts]),
    )


def _calibrate(data: _Data, views: list[_Scored]) -> dict[str, Calibration]:
    both = _joined(views)
    found: dict[str, Calibration] = {}
    for code in np.unique(data.corpus.languages[both.rows]).tolist():
        part = both.take(data.corpus.languages[both.rows] == code)
        machine = data.corpus.machine[part.rows]
        weights = balanced_weights(machine, data.folds[part.rows])
        found[code] = fit_calibration(part.score, part.tokens, machine, weights)
    return found


def _probability(data: _Data, scored: _Scored, calibrations: dict[str, Calibration]) -> Float:
    probability = np.zeros(len(scored.rows))
    for code, calibration in calibrations.items():
        here = data.corpus.languages[scored.rows] == code
        probability[here] = calibration.probability(scored.score[here], scored.tokens[here])
    return probability.astype(np.float32).astype(np.float64)


def _human_slices(
    data: _Data, views: list[_Scored], calibrations: dict[str, Calibration]
) -> dict[tuple[int, str, str], Float]:
    """Human probabilities by view, fold and language."""
    slices: dict[tuple[int, str, str], Float] = {}
    for number, view in enumerate(views):
        human = view.take(~data.corpus.machine[view.rows])
        probability = _probability(data, human, calibrations)
        folds, languages = data.folds[human.rows], data.corpus.languages[human.rows]
        for fold in np.unique(folds):
            for code in calibrations:
                slices[number, str(fold), code] = probability[(folds == fold) & (languages == code)]
    return slices


def _left_out(
    data: _Data, scored: _Scored, calibrations: dict[str, Calibration], threshold: float, kind: str = LEFT_OUT
) -> list[SliceRates]:
    rows = scored.rows
    flagged = _probability(data, scored, calibrations) >= threshold
    keys = [(fold, "", "", code) for fold, code in zip(data.folds[rows], data.corpus.languages[rows], strict=True)]
    return _counted(kind, keys, data.corpus.machine[rows], flagged)


def _held_out(data: _Data, scored: _Scored, calibrations: dict[str, Calibration], threshold: float) -> list[SliceRates]:
    corpus, rows = data.corpus, scored.rows
    flagged = _probability(data, scored, calibrations) >= threshold
    lengths = [length_bucket(int(count)) for count in scored.tokens]
    fine = list(zip(corpus.sets[rows], corpus.domains[rows], lengths, corpus.languages[rows], strict=True))
    whole = [("", "", "", code) for code in corpus.languages[rows]]
    return [part for keys in (whole, fine) for part in _counted(HELD_OUT, keys, corpus.machine[rows], flagged)]


def _counted(kind: str, keys: list[tuple[str, str, str, str]], machine: Bool, flagged: Bool) -> list[SliceRates]:
    counts: dict[tuple[str, str, str, str], list[int]] = {}
    for key, is_machine, is_flagged in zip(keys, machine.tolist(), flagged.tolist(), strict=True):
        count = counts.setdefault((str(key[0]), str(key[1]), str(key[2]), str(key[3])), [0, 0, 0, 0])
        count[2 * is_machine] += 1
        count[2 * is_machine + 1] += is_flagged
    return [SliceRates(kind, *key, *count) for key, count in sorted(counts.items())]


def _nested(
    data: _Data, views: list[_Scored], calibrations: dict[str, Calibration], options: TrainOptions
) -> list[dict[str, Any]]:
    """Each fold at the threshold and calibration that would have been chosen without it: what a new source meets."""
    found = []
    for fold in np.unique(data.folds[views[0].rows]):
        others = [view.take(data.folds[view.rows] != fold) for view in views]
        own = _calibrate(data, others)
        own = {code: own.get(code, calibration) for code, calibration in calibrations.items()}
        slices = [part for part in _human_slices(data, others, own).values() if len(part)]
        threshold = decision_threshold(slices, options.false_positive_rate)
        held = views[0].take(data.folds[views[0].rows] == fold)
        found += [{**asdict(part), "threshold": threshold} for part in _left_out(data, held, own, threshold)]
    return found


def _mixed(
    data: _Data, scored: _Scored, calibrations: dict[str, Calibration], decision: float, quantification: float
) -> list[dict[str, Any]]:
    """Flagged counts for each kind of altered machine text, the excluded kinds among them."""
    attacks = data.corpus.attacks[scored.rows]
    probability = _probability(data, scored, calibrations)
    found = []
    for attack in np.unique(attacks[data.corpus.machine[scored.rows]]):
        here = (attacks == attack) & data.corpus.machine[scored.rows]
        found.append(
            {
                "attack": str(attack),
                "n": int(here.sum()),
                "flagged_decision": int((probability[here] >= decision).sum()),
                "flagged_quantification": int((probability[here] >= quantification).sum()),
            }
        )
    return found


def _data_summary(data: _Data) -> list[dict[str, Any]]:
    corpus = data.corpus
    return [
        {
            "set": str(name),
            "human": int((~corpus.machine[corpus.sets == name]).sum()),
            "machine": int(corpus.machine[corpus.sets == name].sum()),
            "languages": sorted(set(corpus.languages[corpus.sets == name].tolist())),
            "domains": sorted(set(corpus.domains[corpus.sets == name].tolist())),
            "generators": sorted(set(corpus.generators[(corpus.sets == name) & corpus.machine].tolist())),
        }
        for name in np.unique(corpus.sets)
    ]


def _write(output: Path, model: Any, settings: dict[str, Any], data: _Data) -> None:
    output.mkdir(parents=True, exist_ok=True)
    model.save_model(str(output / MODEL_FILE))
    (output / SETTINGS_FILE).write_text(json.dumps(settings, indent=1, ensure_ascii=False) + "\n", "utf-8")
    used = np.flatnonzero(data.part != TEST)
    keys = [text_key(data.corpus.levelled[row]) for row in used]
    keys += [text_key(group) for group in np.unique(data.corpus.groups[used]).tolist()]
    (output / SEEN_FILE).write_bytes(SeenTexts.from_keys(keys).to_bytes())
    (output / CARD_FILE).write_text(model_card(settings), "utf-8")
