"""Fits the reference models of surprisal and measures them on texts that they have not read.

    python -m benchmarks.train_surprisal --texts FOLDER ... --write pipelines/statistics/panel/models
    python -m benchmarks.train_surprisal --texts FOLDER ...                  # only measure the models of the package
    python -m benchmarks.train_surprisal --texts FOLDER ... --left-out       # each set by a model fitted without it

The folders hold Parquet files with the columns `text`, `label` (human or machine) and, where known, `language` and
`group`. Models learn from human text only, at most 8 MB a set and language. A fifth of the groups is held out; so is
each document that shares a run of 13 words (26 characters in Chinese) with a text that was read. A language gets a
model where it has 200,000 words from two sets or more.

The baseline is interpolated Kneser-Ney on the same vocabulary, with every pair and neither hashing nor rounding.
"""

from __future__ import annotations

import argparse
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import stats

from pipelines.statistics.panel import surprisal, train_reference
from pipelines.statistics.panel.surprisal import Float, Int, Keys, Reference, Stored
from pipelines.statistics.panel.train_reference import Limits
from pipelines.statistics.panel.words import Words, ngram_keys, word_hashes

LIMITS = {"en": Limits(pairs=600_000), "zh": Limits(words=40_000, pairs=200_000)}
LIMITS_ELSEWHERE = Limits(words=30_000, pairs=60_000)
LEAST_WORDS, LEAST_SETS = 200_000, 2
SET_BYTES = 8_000_000
LEAST_DOCUMENT = 20  # words of a document that is measured
LEAST_ROWS = 20  # documents of a row of the tables
_RUN = {"zh": 26}
_SAMPLE = np.uint64(8)


class Texts(NamedTuple):
    """The documents of one set in one language."""

    name: str
    words: Words
    machine: np.ndarray
    held_out: np.ndarray

    def human(self, held_out: bool) -> Int:
        """The rows of human text that are, or are not, held out."""
        return np.flatnonzero(~self.machine & (self.held_out == held_out))


def read_sets(folders: Iterable[Path]) -> dict[str, list[Texts]]:
    """The sets of each language."""
    sets = defaultdict(list)
    for file in sorted(file for folder in folders for file in folder.glob("*.parquet")):
        table = pq.read_table(file)
        size = table.num_rows
        languages = np.array(table["language"].to_pylist() if "language" in table.column_names else ["en"] * size)
        groups = table["group"].to_pylist() if "group" in table.column_names else [None] * size
        texts = table["text"].combine_chunks().cast(pa.large_string())
        machine = np.array(table["label"].to_pylist()) == "machine"
        keys = [group or text for group, text in zip(groups, texts.to_pylist(), strict=True)]
        held_out = np.array([zlib.crc32(str(key).encode()) % 5 == 0 for key in keys])
        for language in np.unique(languages):
            rows = np.flatnonzero(languages == language)
            words = word_hashes(texts.take(pa.array(rows)))
            sets[str(language)].append(Texts(file.stem, words, machine[rows], held_out[rows]))
    return sets


def take(words: Words, rows: Int) -> Words:
    """The documents at these rows."""
    lengths = np.diff(words.offsets)[rows]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    at = np.repeat(words.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
    return Words(words.keys[at], offsets)


def joined(parts: Sequence[Words]) -> Words:
    """The documents of all."""
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    return Words(np.concatenate([part.keys for part in parts]), np.concatenate([[0], np.cumsum(lengths)]))


def training(sets: Sequence[Texts], language: str) -> Words:
    """The human text to learn from: each document once, of each set as much as its share allows."""
    random = np.random.default_rng(8)
    parts = []
    letters = 3 if language == "zh" else 6  # bytes a word, the space included
    for texts in sets:
        rows = random.permutation(texts.human(held_out=False))
        lengths = np.diff(texts.words.offsets)[rows]
        parts.append(take(texts.words, np.sort(rows[np.cumsum(lengths) * letters <= SET_BYTES])))
    whole = joined(parts)
    starts = whole.offsets[:-1][np.diff(whole.offsets) > 0]
    sums = np.add.reduceat(whole.keys * (whole.keys >> np.uint64(7)), starts) if len(starts) else whole.keys
    _, once = np.unique(sums, return_index=True)
    return take(whole, np.flatnonzero(np.diff(whole.offsets) > 0)[np.sort(once)])


def runs(words: Words, language: str) -> tuple[Keys, Int]:
    """One in eight of the runs of 13 words, by value, and the document of each."""
    keys, offsets = ngram_keys(words, _RUN.get(language, 13))
    sampled = np.flatnonzero(keys % _SAMPLE == 0)
    return keys[sampled], np.searchsorted(offsets, sampled, side="right") - 1


def held_out(texts: Texts, read: Keys, language: str) -> Int:
    """The held-out rows of a set that are long enough and share no run of words with what was read."""
    keys, document = runs(texts.words, language)
    shared = np.zeros(len(texts.machine), bool)
    shared[document[np.isin(keys, read)]] = True
    return np.flatnonzero(texts.held_out & ~shared & (np.diff(texts.words.offsets) >= LEAST_DOCUMENT))


class KneserNey(NamedTuple):
    """Interpolated Kneser-Ney over pairs (Chen & Goodman 1999, section 2.7), exact; unknown words as the model has."""

    vocabulary: train_reference.Vocabulary
    cells: Int
    counts: Int
    discount: float
    history: Int
    kinds: Int  # distinct words after each word
    lower: Float  # (v + 1,)


def kneser_ney(train: Words, limits: Limits) -> KneserNey:
    """The baseline of the same vocabulary."""
    vocabulary = train_reference.count_vocabulary(surprisal.word_hashes(train.keys), train.offsets, limits)
    size = len(vocabulary.hashes) + 1
    at = _followers(train.offsets, len(train.keys))
    cells, counts = np.unique(vocabulary.place[at - 1] * size + vocabulary.place[at], return_counts=True)
    once, twice = (counts == 1).sum(), (counts == 2).sum()
    first, second = cells // size, cells % size
    before = np.bincount(second[second < size - 1], minlength=size) / (second < size - 1).sum()
    unknown = vocabulary.probability[-1]
    lower = 0.999 * np.append(before[:-1] * (1 - unknown), unknown) + 0.001 * vocabulary.probability
    return KneserNey(
        vocabulary,
        cells,
        counts,
        once / (once + 2 * twice),
        np.bincount(first, counts, size).astype(np.int64),
        np.bincount(first, minlength=size),
        lower,
    )


def _followers(offsets: Int, size: int) -> Int:
    follows = np.ones(size, bool)
    follows[offsets[:-1][offsets[:-1] < size]] = False
    return np.flatnonzero(follows)


def baseline_bits(model: KneserNey, words: Words) -> float:
    """The cross-entropy of the baseline in bits a word, over all words."""
    hashes, size = surprisal.word_hashes(words.keys), len(model.vocabulary.hashes) + 1
    place = np.minimum(np.searchsorted(model.vocabulary.hashes, hashes), size - 2)
    place = np.where(model.vocabulary.hashes[place] == hashes, place, size - 1)
    probability = model.vocabulary.probability[place]
    at = _followers(words.offsets, len(place))
    first, second = place[at - 1], place[at]
    cell = first * size + second
    found = np.minimum(np.searchsorted(model.cells, cell), len(model.cells) - 1)
    count = np.where(model.cells[found] == cell, model.counts[found], 0)
    history = model.history[first]
    with np.errstate(divide="ignore", invalid="ignore"):
        higher = np.maximum(count - model.discount, 0) / history
        spare = model.discount * model.kinds[first] / history
    conditional = np.where(history > 0, higher + spare * model.lower[second], model.lower[second])
    # After an unknown word both fall back on single words, so that like is compared with like.
    probability[at] = np.where(first == size - 1, probability[at], conditional)
    probability = np.where(place == size - 1, probability / model.vocabulary.unknown_words, probability)
    return float(-np.log2(probability).mean())


def measure(model: Reference, sets: Sequence[Texts], read: Keys, language: str) -> list[Words]:
    """Prints a row a set: medians of human and machine text. Returns the held-out human texts."""
    humans = []
    for texts in sets:
        rows = held_out(texts, read, language)
        part = take(texts.words, rows)
        bits = surprisal.surprisal_under(model, *part)
        human, machine = bits[~texts.machine[rows]], bits[texts.machine[rows]]
        humans.append(take(part, np.flatnonzero(~texts.machine[rows])))
        if max(len(human), len(machine)) >= LEAST_ROWS:
            print(f"| {texts.name}/{language} | {_median(human)} | {_median(machine)} | {_auc(human, machine)} |")
    return humans


def _median(bits: Float) -> str:
    if len(bits) < LEAST_ROWS:
        return f"{len(bits)} | –"
    low, median, high = np.quantile(bits, (0.25, 0.5, 0.75))
    return f"{len(bits)} | {median:.2f} ({low:.2f} to {high:.2f})"


def _auc(human: Float, machine: Float) -> str:
    if min(len(human), len(machine)) < LEAST_ROWS:
        return "–"
    return f"{stats.mannwhitneyu(human, machine).statistic / len(human) / len(machine):.2f}"


def fit(train: Words, language: str) -> Stored:
    """The model of a language within its limits."""
    return train_reference.fit(*train, LIMITS.get(language, LIMITS_ELSEWHERE))


def left_out(sets: Sequence[Texts], language: str) -> None:
    """Prints the table with each set measured by a model that was fitted without the set."""
    for texts in sets:
        both = min((texts.machine).sum(), (~texts.machine).sum())
        if both >= 5 * LEAST_ROWS:
            train = training([other for other in sets if other.name != texts.name], language)
            all_rows = texts._replace(held_out=np.ones(len(texts.machine), bool))
            measure(surprisal.ready(fit(train, language)), [all_rows], runs(train, language)[0], language)


def report(language: str, sets: Sequence[Texts], write: Path | None) -> None:
    """Fits the model of a language, or takes that of the package, and prints what it does on held-out text."""
    train = training(sets, language)
    if write:
        surprisal.write(fit(train, language), write / f"{language}.npz")
    stored = surprisal.read(write / f"{language}.npz") if write else surprisal.stored(language)
    if stored is None:
        print(f"\n{language}: no model in the package")
        return
    print(f"\nsets: {', '.join(texts.name for texts in sets if len(texts.human(held_out=False)))}", end="")
    print(f"\n{language}: {len(train.keys):,} words of {len(train.offsets) - 1:,} documents read; ", end="")
    print(f"{len(stored.words):,} words and {len(stored.pairs):,} pairs; unknown word {stored.unknown_code / 8} bits\n")
    print("| set | human n | median | machine n | median | AUC |\n| --- | --- | --- | --- | --- | --- |")
    model = surprisal.ready(stored)
    human = joined(measure(model, sets, runs(train, language)[0], language))
    bits = surprisal.code_sums(model, *human).sum() / surprisal.CODES_PER_BIT / len(human.keys)
    exact = baseline_bits(kneser_ney(train, LIMITS.get(language, LIMITS_ELSEWHERE)), human)
    print(f"\nheld-out human text, {len(human.keys):,} words: {bits:.3f} bits a word, perplexity {2**bits:.0f};")
    print(f"Kneser-Ney: {exact:.3f} bits, perplexity {2**exact:.0f}")


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", nargs="+", type=Path, required=True, help="folders of Parquet files")
    parser.add_argument("--write", type=Path, help="fit the models and write them here")
    parser.add_argument("--left-out", action="store_true", help="measure each set by a model fitted without it")
    options = parser.parse_args(arguments)
    for language, sets in sorted(read_sets(options.texts).items()):
        human = [int(np.diff(texts.words.offsets)[texts.human(held_out=False)].sum()) for texts in sets]
        if sum(human) < LEAST_WORDS or sum(words > 0 for words in human) < LEAST_SETS:
            print(f"\n{language}: {sum(human):,} human words of {sum(words > 0 for words in human)} sets; no model")
        elif options.left_out:
            left_out(sets, language)
        else:
            report(language, sets, options.write)


if __name__ == "__main__":
    main()
