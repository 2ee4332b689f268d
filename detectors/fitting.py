"""Fits one linear model on levelled, cropped, balanced text; used once for the product and once for each left-out part.

Only n-grams that occur in several sets are features, which leaves names and topics of single collections out.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from detectors.corpus import Bool, Corpus, Int
from detectors.ngrams import UNUSED, Crops, NGrams, Tokens, learn, scores, sets_of_features

Float = npt.NDArray[np.float64]
_LEVELS = 127


@dataclass(frozen=True)
class FitOptions:
    """What the fit depends on besides the text."""

    crops: int = 300_000
    least_tokens: int = 40
    whole_share: float = 0.25  # crops that are the whole text
    word_ngrams: int = 3
    bits: int = 22
    least_sets: int = 4  # in which an n-gram must occur
    learning_rate: float = 0.3
    power: float = 0.5  # of the number of features that the sum of their weights is divided by
    seed: int = 20_221_130


@dataclass(frozen=True)
class LinearModel:
    """Weights of hashed n-grams, a byte each: score = scale × Σ weights / features^power + bias."""

    weights: npt.NDArray[np.int8]  # (buckets,); UNUSED where there is no feature
    scale: float
    bias: float
    word_ngrams: int
    power: float

    @cached_property
    def table(self) -> NGrams:
        """The shape of the features."""
        return NGrams(self.word_ngrams, len(self.weights).bit_length() - 1)

    def to_bytes(self) -> bytes:
        """The weights, compressed."""
        return zlib.compress(self.weights.tobytes(), 9)

    @classmethod
    def from_bytes(cls, data: bytes, scale: float, bias: float, word_ngrams: int, power: float) -> LinearModel:
        """The inverse of :meth:`to_bytes`. Raises ValueError where the data are damaged."""
        try:
            weights = np.frombuffer(zlib.decompress(data), np.int8)
        except zlib.error as error:
            raise ValueError(f"the weights of the model are damaged: {error}") from None
        if len(weights) < 2 or len(weights) & (len(weights) - 1):
            raise ValueError(f"the model has {len(weights)} weights, which is not a power of two")
        return cls(weights, scale, bias, word_ngrams, power)


def draw_crops(corpus: Corpus, tokens: Tokens, rows: Int, options: FitOptions) -> Crops:
    """Draws runs of tokens to learn from: both labels equally often, no domain outweighing the rest.

    A domain of n texts gets a share proportional to √n, so large sets count more but do not drown small ones. Each
    draw is a crop of random length (log-uniform from the shortest that is scored to the whole text). ``tokens`` are
    those of all texts of the corpus.
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
    sources = {name: at for at, name in enumerate(sorted({(cell[0], *cell[2:]) for cell in cells}))}
    drawn: list[Int] = []
    source: list[Int] = []
    for cell, value in weight.items():
        share = of_language[cell[0]] / sum(of_language.values()) * value / of_label[cell[:2]] / 2
        picked = random.choice(cells[cell], round(options.crops * share))
        drawn.append(picked)
        source.append(np.full(len(picked), sources[cell[0], cell[2], cell[3]]))
    order = random.permutation(sum(map(len, drawn)))
    row, of_source = np.concatenate(drawn)[order], np.concatenate(source)[order]
    first, last = _crop(tokens, row, random, options)
    return Crops(first, last, corpus.machine[row], of_source)


def _crop(tokens: Tokens, rows: Int, random: np.random.Generator, options: FitOptions) -> tuple[Int, Int]:
    """Where random runs of tokens of these texts begin and end; or the whole."""
    length = np.diff(tokens.starts)[rows]
    shortest = np.minimum(length, options.least_tokens)
    kept = np.exp(random.uniform(np.log(np.maximum(shortest, 1)), np.log(np.maximum(length, 1)))).astype(np.int64)
    kept = np.where(random.random(len(rows)) < options.whole_share, length, np.minimum(kept, length))
    first = tokens.starts[rows] + (random.random(len(rows)) * (length - kept + 1)).astype(np.int64)
    return first, first + kept


def crop(tokens: Tokens, rows: Int, options: FitOptions) -> Tokens:
    """Random crops of these texts, none of them whole on purpose, as texts of their own."""
    random = np.random.default_rng(options.seed + 1)
    first, last = _crop(tokens, rows, random, options)
    pieces = [tokens.hashes[start:end] for start, end in zip(first.tolist(), last.tolist(), strict=True)]
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(last - first)])
    return Tokens(np.concatenate(pieces) if pieces else np.zeros(0, np.uint64), starts)


def take(tokens: Tokens, rows: Int) -> Tokens:
    """These texts, in this order."""
    first, last = tokens.starts[rows], tokens.starts[rows + 1]
    pieces = [tokens.hashes[start:end] for start, end in zip(first.tolist(), last.tolist(), strict=True)]
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(last - first)])
    return Tokens(np.concatenate(pieces) if pieces else np.zeros(0, np.uint64), starts)


def fit(corpus: Corpus, tokens: Tokens, rows: Int, options: FitOptions) -> LinearModel:
    """Fits on these rows of the corpus, whose texts' tokens are ``tokens``. Deterministic on one kind of processor."""
    table = NGrams(options.word_ngrams, options.bits)
    _, sets = np.unique(corpus.sets[rows], return_inverse=True)
    by_set = np.argsort(sets, kind="stable")
    counts = sets_of_features(take(tokens, rows[by_set]), sets[by_set].astype(np.int64), table)
    used = counts >= min(options.least_sets, int(sets.max(initial=0)) + 1)
    weights, bias = learn(
        tokens, draw_crops(corpus, tokens, rows, options), table, used, options.learning_rate, options.power
    )
    # Few weights are large: beyond the limit they are cut, so that the many small ones keep their steps.
    limit = float(np.quantile(np.abs(weights[used]), 0.9999)) if used.any() else 1.0
    scale = (limit or 1.0) / _LEVELS
    stored = np.where(used, np.clip(np.rint(weights / scale), -_LEVELS, _LEVELS), UNUSED).astype(np.int8)
    return LinearModel(stored, scale, bias, options.word_ngrams, options.power)


def logits(model: LinearModel, tokens: Tokens) -> Float:
    """The log-odds of machine origin of each text before calibration: (n,)."""
    return model.scale * scores(tokens, model.table, model.weights, model.power) + model.bias


def token_counts(levelled: Sequence[bytes]) -> Int:
    """The number of tokens of each levelled text."""
    return np.array([text.count(b" ") + 1 if text else 0 for text in levelled], np.int64)


def trainable(corpus: Corpus, languages: Sequence[str], excluded_attacks: Sequence[str]) -> Bool:
    """Rows in a supported language whose label means one author: texts mixed of human and machine parts do not."""
    return np.isin(corpus.languages, list(languages)) & ~np.isin(corpus.attacks, list(excluded_attacks))
