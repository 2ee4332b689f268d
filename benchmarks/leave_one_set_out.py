"""How the embedded detector fares on sets that it never saw, beside plain fastText trained on the same crops.

    python -m benchmarks.leave_one_set_out --text ../shared/text --collection human_pre2020

Each set is scored by models fitted without it and without text that it shares. Thresholds are frozen on human text of
the other sets that the models did not learn from (a tenth of it): ``pooled`` lets 1 % of all of it pass, ``worst``
at most 1 % of the worst set of at least 100 texts. Rates are then those of the left-out set. fastText: words and
pairs of words, dimension 16, 2 epochs, whole floats; levelled text, the same crops.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import fasttext
import numpy as np
import numpy.typing as npt

from detectors.calibration import auroc
from detectors.corpus import VALIDATION, components, read_corpus, split, without_shared_start
from detectors.fitting import FitOptions, draw_crops, fit, logits, take, trainable
from detectors.leaving_out import Prepared, batches, folds_of
from detectors.ngrams import tokenise
from detectors.training import BASE_MODELS

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
LEAST = 60
_LEAST_SLICE = 100


def prepared(paths: Sequence[Path], languages: Sequence[str], collections: tuple[str, ...]) -> Prepared:
    """The corpus, tokenised and split."""
    corpus = read_corpus(paths)
    component = components(corpus)
    return Prepared(
        corpus,
        tokenise(without_shared_start(corpus)),
        tokenise(corpus.levelled),
        component,
        split(corpus, component, FitOptions().seed),
        trainable(corpus, languages, ("human_llm_fusion",)),
        *folds_of(corpus, collections, 80),
    )


def linear_scores(data: Prepared, learned: Int, scored: Int, options: FitOptions) -> Float:
    """The product's model."""
    return logits(fit(data.corpus, data.learned, learned, options), take(data.scored, scored))


def fasttext_scores(data: Prepared, learned: Int, scored: Int, options: FitOptions) -> Float:
    """Plain fastText on the same crops."""
    crops = draw_crops(data.corpus, data.learned, learned, options)
    texts = without_shared_start(data.corpus)
    row = np.searchsorted(data.learned.starts, crops.first, side="right") - 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lines.txt"
        with path.open("wb") as lines:
            for at, first, last, machine in zip(row, crops.first, crops.last, crops.machine, strict=True):
                start = data.learned.starts[at]
                words = texts[at].split(b" ")[first - start : last - start]
                lines.write((b"__label__machine " if machine else b"__label__human ") + b" ".join(words) + b"\n")
        model = fasttext.train_supervised(
            str(path), dim=16, wordNgrams=2, bucket=1_000_000, minCount=5, epoch=2, lr=0.3, thread=1, verbose=0
        )
    found = model.f.multilinePredict([data.corpus.levelled[at] + b"\n" for at in scored], 2, 0.0, "strict")
    chance = [dict(zip(labels, values, strict=True)) for values, labels in zip(*reversed(found), strict=True)]
    machine = np.clip([one.get("__label__machine", 0.0) for one in chance], 1e-6, 1 - 1e-6)
    return np.asarray(np.log(machine) - np.log1p(-machine), np.float64)


MODELS = {"linear": linear_scores, "fasttext": fasttext_scores}


def frozen(score: Float, sets: npt.NDArray[np.str_]) -> tuple[float, float]:
    """The pooled and the worst set's 99 % quantile of human scores."""
    parts = [score[sets == name] for name in np.unique(sets)]
    return float(np.quantile(score, 0.99)), max(float(np.quantile(p, 0.99)) for p in parts if len(p) >= _LEAST_SLICE)


def main() -> None:
    """Prints a table a model, and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, nargs="+", default=[Path("../shared/text")])
    parser.add_argument("--collection", nargs="*", default=[], help="sets left out domain by domain")
    parser.add_argument("--languages", nargs="+", default=["en", "zh"])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--crops", type=int, default=FitOptions().crops)
    options = parser.parse_args()
    data = prepared(options.text, options.languages, tuple(options.collection))
    machine, fit_options = data.corpus.machine, FitOptions(crops=options.crops)
    base = np.isin(data.corpus.generators, BASE_MODELS) & machine
    long_enough = np.diff(data.scored.starts) >= LEAST
    rows: dict[str, list[tuple[str, list[float]]]] = {name: [] for name in options.models}
    seconds = dict.fromkeys(options.models, 0.0)
    for folds in batches(data.folds[data.usable], machine[data.usable], options.batches):
        held = data.usable & np.isin(data.folds, folds)
        rest = data.usable & ~np.isin(data.component, data.component[held])
        learned = np.flatnonzero(rest & (data.part != VALIDATION))
        known = np.flatnonzero(rest & (data.part == VALIDATION) & ~machine & long_enough)
        wanted = np.flatnonzero(held & long_enough)
        for name in options.models:
            start = time.perf_counter()
            score = MODELS[name](data, learned, np.concatenate([known, wanted]), fit_options)
            seconds[name] += time.perf_counter() - start
            pooled, worst = frozen(score[: len(known)], data.corpus.sets[known])
            of_held = score[len(known) :]
            for fold in folds:
                here = data.folds[wanted] == fold
                human, ours = here & ~machine[wanted], here & machine[wanted] & ~base[wanted]
                if human.sum() + ours.sum():
                    both = human | ours
                    found = [
                        float(human.sum()),
                        float(ours.sum()),
                        auroc(of_held[both], machine[wanted][both]),
                        *[_share(of_held[part] >= at) for at in (pooled, worst) for part in (human, ours)],
                        _share(of_held[here & base[wanted]] >= worst),
                    ]
                    rows[name].append((data.fold_names[fold], found))
    for name in options.models:
        _print(name, rows[name], seconds[name])


def _share(flagged: npt.NDArray[np.bool_]) -> float:
    return float(flagged.mean()) if len(flagged) else float("nan")


def _print(name: str, rows: list[tuple[str, list[float]]], seconds: float) -> None:
    print(f"\n{name}: {seconds:.0f} s\n")
    print("| left out | human | machine | AUROC | pooled: FPR | TPR | worst: FPR | TPR | base models' |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for fold, row in sorted(rows):
        cells = ["–" if np.isnan(value) else f"{value:.1%}" for value in row[3:]]
        rank = "–" if np.isnan(row[2]) else f"{row[2]:.3f}"
        print(f"| {fold} | {row[0]:,.0f} | {row[1]:,.0f} | {rank} | {' | '.join(cells)} |")
    table = np.array([row for _, row in rows])
    large, machine = table[:, 0] >= _LEAST_SLICE, table[:, 1] >= _LEAST_SLICE
    print(
        f"\nAUROC mean {np.nanmean(table[:, 2]):.3f}; pooled: worst FPR {table[large, 3].max():.1%}, mean TPR "
        f"{table[machine, 4].mean():.1%}; worst: worst FPR {table[large, 5].max():.1%}, mean TPR "
        f"{table[machine, 6].mean():.1%} (means over sets, of {_LEAST_SLICE} texts or more)"
    )


if __name__ == "__main__":
    main()
