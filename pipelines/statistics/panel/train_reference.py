"""Fits a reference model of surprisal (:mod:`pipelines.statistics.panel.surprisal`) to the hashed words of texts.

    model = fit(keys, offsets, Limits(pairs=60_000))
    write(model, Path("models/xx.npz"))

What is estimated how, with c(·) for counts in the training texts:

- **Vocabulary**: words that occur at least ``least`` times, at most ``words`` of them. ``p(w)`` is in proportion to
  c(w), and sums to 1 - u.
- **Unknown words**: u is the share of words that would be outside the vocabulary if the document in which they stand
  had not been read: Good-Turing's left-out estimate (Good, Biometrika 40, 1953), a document at a time because words
  come in bursts. U is the number of types outside the vocabulary, seen or by Chao's estimate f₁² / 2f₂ (Scand. J. Stat.
  11, 1984) unseen.
- **Pairs**: interpolated absolute discounting (Ney, Essen & Kneser, Computer Speech & Language 8, 1994) with the three
  discounts of Chen & Goodman (Computer Speech & Language 13, 1999, eq. 17):
  ``p(v, w) = (c(v, w) - D) / c(v) + d(v) · p(w)``, where d(v) is what the discounts left over. The lower order is p(w)
  itself and not Kneser and Ney's: most pairs are dropped, and then theirs is the wrong one to fall back on (Chelba et
  al., Interspeech 2010).
- **Pruning**: the pairs stay that gain most, by ``p(v, w) · c(v) · log2(p(v, w) / d(v) p(w))`` (Seymore & Rosenfeld,
  ICSLP 1996). ``b(v)`` is then set so that P(· | v) sums to one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines.statistics.panel.surprisal import CODES_PER_BIT, Float, Int, Keys, Stored, word_hashes


class Limits(NamedTuple):
    """How large a model may become."""

    words: int = 120_000
    pairs: int = 600_000
    least: int = 3  # occurrences of a word of the vocabulary


class Vocabulary(NamedTuple):
    """Words and their probabilities. ``place`` says for each running word which of the v words it is, or v."""

    hashes: npt.NDArray[np.uint32]  # (v,) ascending
    probability: Float  # (v + 1,); the last one is u, of all unknown words together
    unknown_words: float  # U
    place: Int  # (n,)


class Pairs(NamedTuple):
    """Pairs of words of the vocabulary, sorted: places, probability of the second after the first, gain in bits."""

    first: Int
    second: Int
    probability: Float
    gain: Float


def fit(keys: Keys, offsets: Int, limits: Limits | None = None) -> Stored:
    """The model of these texts.

    Args:
        keys: (n,) uint64 hashes of the words of all documents, see ``words.py``.
        offsets: (d + 1,) int64; the words of document i are ``keys[offsets[i]:offsets[i + 1]]``.
        limits: of the size.

    Raises ValueError where no word occurs often enough to be in the vocabulary.
    """
    limits = limits or Limits()
    vocabulary = count_vocabulary(word_hashes(keys), offsets, limits)
    pairs = count_pairs(vocabulary, offsets)
    by_gain = np.argsort(-pairs.gain, kind="stable")[: limits.pairs]
    chosen = np.sort(by_gain[pairs.gain[by_gain] > 0])
    kept = Pairs(pairs.first[chosen], pairs.second[chosen], pairs.probability[chosen], pairs.gain[chosen])
    return Stored(
        vocabulary.hashes,
        _codes(vocabulary.probability[:-1], 1),
        _codes(_back_off(kept, vocabulary), 0),
        (kept.first * len(vocabulary.hashes) + kept.second).astype(np.uint64),
        _codes(kept.probability, 1),
        int(_codes(np.array([vocabulary.probability[-1] / vocabulary.unknown_words]), 1)[0]),
    )


def count_vocabulary(hashes: npt.NDArray[np.uint32], offsets: Int, limits: Limits) -> Vocabulary:
    """The vocabulary of running words (n,) of documents; see the module."""
    types, place, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    # All words of one count are in or out, so that the choice does not hang on their hashes.
    least = limits.least
    if (counts >= least).sum() > limits.words:
        least = int(np.sort(counts)[-limits.words]) + 1
    known = counts >= least
    if not known.any():
        raise ValueError(f"no word occurs {least} times in the training texts; read more of them")
    document = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    cells, in_document = np.unique(document * len(types) + place, return_counts=True)
    elsewhere = counts[cells % len(types)] - in_document
    unknown_share = min(max(in_document[elsewhere < least].sum(), 1), len(hashes) - 1) / len(hashes)
    once, twice = (counts == 1).sum(), max((counts == 2).sum(), 1)
    probability = np.append(counts[known] / counts[known].sum() * (1 - unknown_share), unknown_share)
    number = np.where(known, np.cumsum(known) - 1, known.sum())
    return Vocabulary(types[known], probability, max((~known).sum() + once**2 / (2 * twice), 1.0), number[place])


def count_pairs(vocabulary: Vocabulary, offsets: Int) -> Pairs:
    """All pairs of words of the vocabulary that stand side by side in a document; see the module."""
    size = len(vocabulary.hashes)
    follows = np.ones(len(vocabulary.place), bool)
    starts = offsets[:-1]
    follows[starts[starts < len(follows)]] = False
    at = np.flatnonzero(follows)
    first, second = vocabulary.place[at - 1], vocabulary.place[at]
    history = np.bincount(first, minlength=size + 1)
    both = (first < size) & (second < size)
    cells, counts = np.unique(first[both] * size + second[both], return_counts=True)
    first, second = cells // size, cells % size
    left = counts - discounts(counts)[np.minimum(counts, 3)]
    with np.errstate(divide="ignore", invalid="ignore"):
        spare = 1 - np.bincount(first, left, size) / history[:size]
    lower = spare[first] * vocabulary.probability[second]
    probability = left / history[first] + lower
    return Pairs(first, second, probability, probability * history[first] * np.log2(probability / lower))


def discounts(counts: Int) -> Float:
    """What to take off counts of 0, 1, 2 and of 3 or more: (4,), from Chen & Goodman's eq. 17, half where undefined."""
    of = [int((counts == times).sum()) for times in range(5)]
    result = np.array([0.0, 0.5, 0.5, 0.5])
    if min(of[1:]) == 0:
        return result
    share = of[1] / (of[1] + 2 * of[2])
    for times in (1, 2, 3):
        result[times] = min(max(times - (times + 1) * share * of[times + 1] / of[times], 0.05), times - 0.05)
    return result


def _back_off(kept: Pairs, vocabulary: Vocabulary) -> Float:
    size = len(vocabulary.hashes)
    taken = np.bincount(kept.first, kept.probability, size)
    freed = np.bincount(kept.first, vocabulary.probability[kept.second], size)
    return (1 - taken) / (1 - freed)


def _codes(probability: Float, least: int) -> npt.NDArray[np.uint8]:
    with np.errstate(divide="ignore"):
        bits = -np.log2(probability) * CODES_PER_BIT
    codes: npt.NDArray[np.uint8] = np.clip(np.rint(bits), least, 255).astype(np.uint8)
    return codes
