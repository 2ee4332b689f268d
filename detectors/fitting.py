"""Fits one fastText model on levelled, cropped, balanced text; used once for the product and once a held-out set.

The classifier is the linear bag of n-grams of Joulin et al. (2017), "Bag of Tricks for Efficient Text Classification"
(arXiv:1607.01759), quantised as in "FastText.zip" (arXiv:1612.03651).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import numpy.typing as npt

from detectors.corpus import Bool, Corpus, Int
from detectors.levelling import level_end

Float = npt.NDArray[np.float64]
MACHINE = "__label__machine"
_FLOOR = 1e-6


@dataclass(frozen=True)
class FitOptions:
    """What the fit depends on besides the text. One thread: with more, fastText's result varies."""

    lines: int = 200_000
    least_tokens: int = 40
    whole_share: float = 0.25  # lines that are not cropped
    dimensions: int = 8
    buckets: int = 400_000
    word_ngrams: int = 2
    least_count: int = 8
    epochs: int = 2
    learning_rate: float = 0.3
    seed: int = 20_221_130


def training_lines(corpus: Corpus, texts: Sequence[bytes], rows: Int, options: FitOptions) -> list[bytes]:
    """Draws labelled lines for fastText: both labels equally often, no domain outweighing the rest.

    A domain of n texts gets a share proportional to √n, so large sets count more but do not drown small ones. Each
    draw is a crop of random length (log-uniform from the shortest that is scored to the whole text).
    """
    random = np.random.default_rng(options.seed)
    cells: dict[tuple[str, bool, str, str], list[int]] = {}
    for row in rows.tolist():
        cell = (corpus.languages[row], bool(corpus.machine[row]), corpus.sets[row], corpus.domains[row])
        cells.setdefault(cell, []).append(row)
    weight = {cell: np.sqrt(len(members)) for cell, members in sorted(cells.items())}
    of_language: dict[str, float] = {}
    of_label: dict[tuple[str, bool], float] = {}
    for cell, value in weight.items():
        of_language[cell[0]] = of_language.get(cell[0], 0.0) + value
        of_label[cell[:2]] = of_label.get(cell[:2], 0.0) + value
    lines: list[bytes] = []
    for cell, value in weight.items():
        share = of_language[cell[0]] / sum(of_language.values()) * value / of_label[cell[:2]] / 2
        label = MACHINE.encode() if cell[1] else b"__label__human"
        for row in random.choice(cells[cell], round(options.lines * share)):
            lines.append(label + b" " + crop(texts[row], random, options))
    random.shuffle(lines)
    return lines


def crop(text: bytes, random: np.random.Generator, options: FitOptions) -> bytes:
    """A random run of tokens of a levelled text, its ending levelled; or the whole."""
    tokens = text.split()
    if len(tokens) <= options.least_tokens or random.random() < options.whole_share:
        return text
    length = int(np.exp(random.uniform(np.log(options.least_tokens), np.log(len(tokens)))))
    start = int(random.integers(0, len(tokens) - length + 1))
    return level_end(b" ".join(tokens[start : start + length]))


def fit(lines: Sequence[bytes], options: FitOptions, quantise: bool = True) -> Any:
    """Trains a fastText classifier and quantises it, which takes longer than the training. Deterministic."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lines.txt"
        path.write_bytes(b"\n".join(lines) + b"\n")
        model = fasttext.train_supervised(
            input=str(path),
            dim=options.dimensions,
            bucket=options.buckets,
            wordNgrams=options.word_ngrams,
            minCount=options.least_count,
            epoch=options.epochs,
            lr=options.learning_rate,
            thread=1,
            seed=options.seed % 2**31,
            verbose=0,
        )
    if quantise:
        model.quantize(dsub=2, thread=1, verbose=0)
    return model


def logits(model: Any, levelled: Sequence[bytes]) -> Float:
    """log P(machine) − log P(human) of each levelled text, clipped to about ±13.8 by fastText's precision."""
    if not levelled:
        return np.zeros(0)
    # The binding's own method: the Python wrapper would copy every text to add a line end.
    labels, probabilities = model.f.multilinePredict([text + b"\n" for text in levelled], 1, 0.0, "strict")
    top = np.array([row[0] if len(row) else 0.5 for row in probabilities], np.float64)
    sign = np.array([1.0 if row and row[0] == MACHINE else -1.0 for row in labels])
    top = np.clip(top, 0.5, 1 - _FLOOR)
    return np.asarray(sign * (np.log(top) - np.log1p(-top)), np.float64)


def token_counts(levelled: Sequence[bytes]) -> Int:
    """The number of tokens of each levelled text."""
    return np.array([text.count(b" ") + 1 if text else 0 for text in levelled], np.int64)


def trainable(corpus: Corpus, languages: Sequence[str], excluded_attacks: Sequence[str]) -> Bool:
    """Rows in a supported language whose label means one author: texts mixed of human and machine parts do not."""
    return np.isin(corpus.languages, list(languages)) & ~np.isin(corpus.attacks, list(excluded_attacks))
