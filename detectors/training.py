"""Trains the embedded detector: fit, calibrate, choose thresholds, measure, and write a model folder with its card.

    from detectors.training import train

    train([Path("sets/")], Path("my-model"), progress=print)

The folder can be given to :class:`detectors.embedded.Embedded`. Deterministic: the same files and options give the same
bytes on one kind of processor. Calibration and thresholds rest on left-out scores (:mod:`detectors.leaving_out`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from detectors.base import ASSISTANTS, HELD_OUT, LEFT_OUT, ErrorRates, OperatingPoint, SliceRates, length_bucket
from detectors.calibration import (
    Calibration,
    Float,
    balanced_weights,
    decision_threshold,
    quantification_threshold,
)
from detectors.card import model_card
from detectors.corpus import (
    SCORED_CHARACTERS,
    TEST,
    TRAIN,
    VALIDATION,
    Bool,
    components,
    read_corpus,
    split,
    text_key,
    without_shared_start,
)
from detectors.embedded import CARD_FILE, MODEL_FILE, SCORES_FILE, SEEN_FILE, SETTINGS_FILE, SeenTexts
from detectors.fitting import FitOptions, LinearModel, fit, trainable
from detectors.histograms import set_histograms
from detectors.leaving_out import (
    Prepared,
    Progress,
    Scored,
    calibrate,
    calibrations_without,
    folds_of,
    left_out_scores,
    left_out_table,
    probability,
    score,
)
from detectors.ngrams import tokenise

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
    ``collections`` are sets that gather several sources, each a domain: left out domain by domain (those of fewer than
    ``least_fold`` texts together). ``batches`` is how many models are fitted to leave everything out once.
    ``false_positive_rate`` is that of the worst left-out fold at the decision threshold; over all left-out human text
    it is several times lower.
    """

    languages: tuple[str, ...] = ("en", "zh")
    minimum_tokens: int = 80
    excluded_attacks: tuple[str, ...] = ("human_llm_fusion",)
    base_models: tuple[str, ...] = BASE_MODELS
    leave_one_out: bool = True
    collections: tuple[str, ...] = ()
    least_fold: int = 80
    batches: int = 12
    false_positive_rate: float = 0.02
    fit: FitOptions = field(default_factory=FitOptions)


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
    model = fit(data.corpus, data.learned, np.flatnonzero(data.usable & (data.part == TRAIN)), options.fit)
    known = score(data, model, np.flatnonzero(data.usable & (data.part == VALIDATION)))
    if options.leave_one_out:
        whole, cropped = left_out_scores(data, options.languages, options.fit, options.batches, say)
    else:
        whole, cropped = known, score(data, model, known.rows, options.fit)
    long_enough = [part.take(part.tokens >= options.minimum_tokens) for part in (whole, cropped)]
    usable = [part.take(data.usable[part.rows]) for part in long_enough]
    calibrations = calibrate(data, usable)
    slices = _human_slices(data, [*usable, known.take(known.tokens >= options.minimum_tokens)], calibrations)
    decision = decision_threshold(list(slices.values()), options.false_positive_rate)
    chance = probability(data, usable[0], calibrations)
    machine = data.corpus.machine[usable[0].rows]
    weights = balanced_weights(machine, data.folds[usable[0].rows])
    quantification = quantification_threshold(chance, machine, weights)

    test = score(data, model, np.flatnonzero((data.part == TEST) & np.isin(data.corpus.languages, options.languages)))
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
    nested = calibrations_without(data, usable) if options.leave_one_out else {}
    left_out = left_out_table(data, usable[0], nested, options.base_models) if options.leave_one_out else None
    settings = {
        "format": 2,
        "name": "embedded",
        "minimum_tokens": options.minimum_tokens,
        "scored_characters": SCORED_CHARACTERS,
        "languages": sorted(calibrations),
        "prior": 0.5,
        "model": {
            "scale": model.scale,
            "bias": model.bias,
            "word_ngrams": model.word_ngrams,
            "power": model.power,
        },
        "calibration": {code: one.to_dict() for code, one in calibrations.items()},
        "calibrated_on": LEFT_OUT if options.leave_one_out else "validation",
        "error_rates": rates.to_dict(),
        "histograms": [one.to_dict() for one in set_histograms(left_out)] if left_out else [],
        "nested": _nested(data, usable, nested, options),
        "mixed": _mixed(data, mixed, calibrations, decision, quantification),
        "data": _data_summary(data),
        "options": asdict(options),
        "versions": {"numpy": version("numpy"), "numba": version("numba")},
    }
    _write(output, model, settings, data, left_out)
    say(f"wrote {output}")
    return settings


def _prepare(paths: Path | Iterable[Path], options: TrainOptions, say: Progress) -> Prepared:
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
    return Prepared(
        corpus,
        tokenise(without_shared_start(corpus)),
        tokenise(corpus.levelled),
        component,
        part,
        usable,
        *folds_of(corpus, options.collections, options.least_fold),
    )


def _human_slices(
    data: Prepared, views: list[Scored], calibrations: dict[str, Calibration]
) -> dict[tuple[int, int, str], Float]:
    """Human probabilities by view, fold and language."""
    slices: dict[tuple[int, int, str], Float] = {}
    for number, view in enumerate(views):
        human = view.take(~data.corpus.machine[view.rows])
        chance = probability(data, human, calibrations)
        folds, languages = data.folds[human.rows], data.corpus.languages[human.rows]
        for fold in np.unique(folds).tolist():
            for code in calibrations:
                slices[number, fold, code] = chance[(folds == fold) & (languages == code)]
    return slices


def _left_out(
    data: Prepared, scored: Scored, calibrations: dict[str, Calibration], threshold: float, kind: str = LEFT_OUT
) -> list[SliceRates]:
    rows = scored.rows
    flagged = probability(data, scored, calibrations) >= threshold
    names = [data.fold_names[fold] for fold in data.folds[rows].tolist()]
    keys = [(name, "", "", code) for name, code in zip(names, data.corpus.languages[rows], strict=True)]
    return _counted(kind, keys, data.corpus.machine[rows], flagged)


def _held_out(
    data: Prepared, scored: Scored, calibrations: dict[str, Calibration], threshold: float
) -> list[SliceRates]:
    corpus, rows = data.corpus, scored.rows
    flagged = probability(data, scored, calibrations) >= threshold
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
    data: Prepared, views: list[Scored], calibrations: dict[int, dict[str, Calibration]], options: TrainOptions
) -> list[dict[str, Any]]:
    """Each fold at the threshold and calibration that would have been chosen without it: what a new source meets."""
    found = []
    for fold, own in calibrations.items():
        others = [view.take(data.folds[view.rows] != fold) for view in views]
        slices = [part for part in _human_slices(data, others, own).values() if len(part)]
        threshold = decision_threshold(slices, options.false_positive_rate)
        held = views[0].take(data.folds[views[0].rows] == fold)
        found += [{**asdict(part), "threshold": threshold} for part in _left_out(data, held, own, threshold)]
    return found


def _mixed(
    data: Prepared, scored: Scored, calibrations: dict[str, Calibration], decision: float, quantification: float
) -> list[dict[str, Any]]:
    """Flagged counts for each kind of altered machine text, the excluded kinds among them."""
    attacks = data.corpus.attacks[scored.rows]
    chance = probability(data, scored, calibrations)
    found = []
    for attack in np.unique(attacks[data.corpus.machine[scored.rows]]):
        here = (attacks == attack) & data.corpus.machine[scored.rows]
        found.append(
            {
                "attack": str(attack),
                "n": int(here.sum()),
                "flagged_decision": int((chance[here] >= decision).sum()),
                "flagged_quantification": int((chance[here] >= quantification).sum()),
            }
        )
    return found


def _data_summary(data: Prepared) -> list[dict[str, Any]]:
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


def _write(
    output: Path, model: LinearModel, settings: dict[str, Any], data: Prepared, left_out: pa.Table | None
) -> None:
    output.mkdir(parents=True, exist_ok=True)
    (output / MODEL_FILE).write_bytes(model.to_bytes())
    if left_out is not None:
        pq.write_table(left_out, output / SCORES_FILE, compression="zstd")
    write_settings(output, settings)
    used = np.flatnonzero(data.part != TEST)
    keys = [text_key(data.corpus.levelled[row]) for row in used]
    keys += [text_key(group) for group in np.unique(data.corpus.groups[used]).tolist()]
    (output / SEEN_FILE).write_bytes(SeenTexts.from_keys(keys).to_bytes())
    (output / CARD_FILE).write_text(model_card(settings), "utf-8")


def write_settings(output: Path, settings: Mapping[str, Any]) -> None:
    """Writes ``detector.json``: a line a key, a tenth of the length that indenting every count would take."""
    lines = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in settings.items()]
    (output / SETTINGS_FILE).write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
