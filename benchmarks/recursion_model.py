"""A word n-gram model with few weights for its text: exact probabilities, and samples that follow them exactly.

    vocabulary = Vocabulary.of(texts)
    documents = vocabulary.encode(texts)
    model = train(documents, structure_of(documents, len(vocabulary.words)))
    model.perplexity(vocabulary.encode(held_out))
    vocabulary.render(model.sample(lengths, np.random.default_rng(1)))

Every word has a weight, but of longer n-grams only the most frequent ones. Which ones is settled once, on human text:
it is the model's architecture, and training sets the weights. Each level is a mixture of its own n-grams and the level
below, fitted by expectation and maximisation (Jelinek and Mercer 1980). A constant share goes to the words that were
not in the training text, so that perplexity is finite; the model never writes them. The usual smoothing by discounts
(Kneser and Ney 1995) would not do: it flattens the model a little with each generation, whatever the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_TOKEN = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")
UNKNOWN = "unk"
STEPS = 10  # of expectation and maximisation
_CLOSING = frozenset(".,;:!?%)]}”…")


class Documents(NamedTuple):
    """Words of documents one after the other: ``words`` (n,) and ``lengths`` (documents,), in words."""

    words: Ints
    lengths: Ints

    def take(self, chosen: NDArray[np.integer]) -> Documents:
        """The chosen documents, in that order."""
        starts = np.cumsum(self.lengths) - self.lengths
        lengths = self.lengths[chosen]
        inside = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return Documents(self.words[np.repeat(starts[chosen], lengths) + inside], lengths)


def joined(parts: Sequence[Documents]) -> Documents:
    """All documents of all parts."""
    return Documents(np.concatenate([p.words for p in parts]), np.concatenate([p.lengths for p in parts]))


@dataclass(frozen=True)
class Vocabulary:
    """All words that there are, punctuation marks among them; the model knows no others."""

    words: tuple[str, ...]

    @staticmethod
    def of(texts: Iterable[str]) -> Vocabulary:
        """All words of these texts, and ``UNKNOWN`` for any other."""
        found = {word for text in texts for word in _TOKEN.findall(text)}
        return Vocabulary((UNKNOWN, *sorted(found - {UNKNOWN})))

    def encode(self, texts: Iterable[str]) -> Documents:
        """Texts as word numbers."""
        number = {word: at for at, word in enumerate(self.words)}
        each = [[number.get(word, 0) for word in _TOKEN.findall(text)] for text in texts]
        flat = np.fromiter((word for one in each for word in one), np.int64)
        return Documents(flat, np.array([len(one) for one in each], np.int64))

    def render(self, documents: Documents) -> list[str]:
        """Documents as text: a space before each word, none before closing punctuation."""
        forms = np.array([word if word in _CLOSING else " " + word for word in self.words], object)
        spelled = forms[documents.words].tolist()
        ends = np.cumsum(documents.lengths).tolist()
        starts = [0, *ends[:-1]]
        return ["".join(spelled[start:end]).lstrip() for start, end in zip(starts, ends, strict=True)]


class Level(NamedTuple):
    """The n-grams of one length as a level of a trie, sorted by context and then by last word.

    A context is the number of the n-gram one level below that consists of all words but the last.
    """

    word: Ints  # (n,) the last word of each
    occurrences: Floats  # (n,) how often; below the highest level, what the levels above do not explain
    before: Floats  # (n + 1,) the sum of the counts before each: samples are drawn from it
    first: Ints  # (contexts + 1,) where the n-grams of a context begin
    kept: Floats  # (n,) the share of the count that stays on this level
    back: Floats  # (contexts,) the share of the probability that goes to the level below


@dataclass(frozen=True)
class Structure:
    """Which n-grams of two words and more have a weight of their own: what the architecture is to a neural network."""

    size: int  # words of the vocabulary
    order: int
    packed: tuple[Ints, ...]  # one a length from 2 on: the n-grams as numbers with the words as digits, ascending
    unseen: float  # the probability of all unseen words together


@dataclass(frozen=True)
class Model:
    """A trained model; ``levels[k]`` has the n-grams of k + 1 words. Word ``size`` is the start of a document."""

    size: int
    levels: tuple[Level, ...]

    @property
    def order(self) -> int:
        """Words of the longest n-gram."""
        return len(self.levels)

    def probability(self, words: Ints, lengths: Ints) -> Floats:
        """The probability of each word of documents, given the words before it: (n,) float64."""
        return _probability(self.levels, self.size, words, lengths)

    def perplexity(self, documents: Documents) -> float:
        """The inverse of the geometric mean of the words' probabilities."""
        return float(np.exp(-np.log(self.probability(*documents)).mean()))

    def sample(self, lengths: Ints, random: np.random.Generator, temperature: float = 1.0) -> Documents:
        """Documents of these lengths, in words, drawn from the model; words that it was not trained on are not written.

        At temperature T a word is drawn in proportion to p^(1/T) given the words before it, exactly: by rejection.
        T > 1 is a ValueError, since p^(1/T - 1) is no acceptance probability there.
        """
        if not 0 < temperature <= 1:
            raise ValueError(f"temperature = {temperature}: must be above 0 and at most 1")
        seed = int(random.integers(1 << 31))
        return Documents(_sample(self.levels, self.size, lengths, seed, 1 / temperature - 1), lengths)


def train(documents: Documents, structure: Structure, steps: int = STEPS) -> Model:
    """A model with weights from these documents: the greatest likelihood that expectation and maximisation find.

    Each level is a mixture of its own n-grams and the level below (Jelinek and Mercer 1980). An occurrence of an n-gram
    with a weight of its own counts for this weight in the share in which the present model says it came from there,
    and for the level below in the rest; an n-gram without one counts for the level below alone.
    """
    size, order = structure.size, structure.order
    grams = _grams(_padded(documents, size, order), size + 1, order)
    kept = [np.full(size + 1, 1 - structure.unseen)]
    for gram, packed in zip(grams[1:], structure.packed, strict=True):
        kept.append(np.isin(gram.packed, packed, assume_unique=True) * 0.5)
    levels = _levels(grams, kept, size)
    for _ in range(steps):
        below = np.full(size + 1, 1.0 / size)
        for k, (gram, level) in enumerate(zip(grams, levels, strict=True)):
            total = (level.before[level.first[1:]] - level.before[level.first[:-1]])[gram.context]
            own = level.occurrences * level.kept / np.maximum(total, 1e-300)
            both = own + level.back[gram.context] * (below[gram.suffix] if k else below)
            if k:
                kept[k] = own / both
            below = both
        lowest = levels[0].before[-1] / len(documents.words)  # the only level from which unseen words come
        kept[0] = np.full(size + 1, 1 - min(structure.unseen / lowest, 0.5))
        levels = _levels(grams, kept, size)
    return Model(size, levels)


def _levels(grams: Sequence[_Grams], kept: Sequence[Floats], size: int) -> tuple[Level, ...]:
    """The levels of the trie from the share of each n-gram's count that stays on its level."""
    levels: list[Level] = []
    count = grams[-1].occurrences.astype(np.float64)
    for k in range(len(grams) - 1, -1, -1):
        gram, share = grams[k], kept[k]
        count[gram.word == size] = 0.0  # the start of a document is never drawn
        contexts = len(grams[k - 1].word) if k else 1
        if k:
            below = np.bincount(gram.suffix, count * (1 - share), contexts)
            # One occurrence more for the level below, so that it always has a share (MacKay and Peto 1995).
            total = np.bincount(gram.context, count, contexts)[gram.context]
            share = share * (total / (total + 1))
        levels.insert(0, _level(gram, count, share))
        count = below if k else count
    return tuple(levels)


def structure_of(documents: Documents, size: int, order: int = 3, words_per_weight: float = 20.0) -> Structure:
    """The most frequent n-grams of two words and more, as many as the ratio of words to weights allows; order >= 2."""
    single, *grams = _grams(_padded(documents, size, order), size + 1, order)
    unseen = max(np.count_nonzero(single.occurrences[:size] == 1), 1) / len(documents.words)  # Good and Turing
    counts = [np.where(gram.word == size, 0, gram.occurrences) for gram in grams]
    most = np.sort(np.concatenate(counts))[::-1]
    cutoff = max(int(most[min(int(len(documents.words) / words_per_weight), len(most) - 1)]) + 1, 2)
    packed = tuple(np.sort(gram.packed[count >= cutoff]) for gram, count in zip(grams, counts, strict=True))
    return Structure(size, order, packed, unseen)


class _Grams(NamedTuple):
    """The n-grams of one length: last word, context, how often, and the number of the n-gram without its first word."""

    packed: Ints  # the words as digits of one number
    word: Ints
    context: Ints
    occurrences: Ints
    suffix: Ints
    first: Ints  # where those of each context begin


def _grams(words: Ints, total: int, order: int) -> list[_Grams]:
    """The n-grams of 1 to ``order`` words, each sorted by context and last word."""
    numbers = words  # of the n-gram that ends at each position
    alone = np.arange(total)
    none, counts = np.zeros(total, np.int64), np.bincount(words, minlength=total)
    found = [_Grams(alone, alone, none, counts, alone, np.array([0, total]))]
    for _ in range(1, order):
        keys = np.concatenate([[0], numbers[:-1]]) * total + words
        unique, first, inverse, count = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        context, word = unique // total, unique % total
        packed = found[-1].packed[context] * total + word
        begins = np.searchsorted(context, np.arange(len(found[-1].word) + 1))
        found.append(_Grams(packed, word, context, count, numbers[first], begins))
        numbers = inverse
    return found


def _padded(documents: Documents, start: int, order: int) -> Ints:
    """The words with order - 1 marks before each document, so that no n-gram crosses two."""
    pad = max(order - 1, 1)
    number = np.repeat(np.arange(len(documents.lengths)), documents.lengths)
    padded = np.full(len(documents.words) + pad * len(documents.lengths), start, np.int64)
    padded[np.arange(len(documents.words)) + pad * (number + 1)] = documents.words
    return padded


def _level(gram: _Grams, count: Floats, kept: Floats) -> Level:
    first = gram.first
    before = np.concatenate([[0.0], np.cumsum(count)])
    stays = np.concatenate([[0.0], np.cumsum(count * kept)])
    sums = before[first[1:]] - before[first[:-1]]
    back = 1 - (stays[first[1:]] - stays[first[:-1]]) / np.where(sums > 0, sums, 1.0)
    return Level(gram.word, count, before, first, kept, np.clip(back, 0.0, 1.0))


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _find(level, context, word):
    """The number of the n-gram (context, word), or -1."""
    low, high = level.first[context], level.first[context + 1]
    end = high
    while low < high:
        middle = (low + high) >> 1
        if level.word[middle] < word:
            low = middle + 1
        else:
            high = middle
    return low if low < end and level.word[low] == word else -1


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _one(levels, size, contexts, word):
    """The probability of a word; contexts[k] is the number of the last k words among the n-grams of k words, or -1."""
    p = 1.0 / size
    for k in range(len(levels)):
        context = contexts[k]
        if context < 0:
            break
        level = levels[k]
        total = level.before[level.first[context + 1]] - level.before[level.first[context]]
        if total <= 0:
            continue
        p *= level.back[context]
        at = word if k == 0 else _find(level, context, word)
        if at >= 0:
            p += level.occurrences[at] * level.kept[at] / total
    return p


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _step(levels, contexts, word):
    """Moves the contexts on by a word."""
    for k in range(len(levels) - 1, 1, -1):
        below = contexts[k - 1]
        contexts[k] = _find(levels[k - 1], below, word) if below >= 0 else -1
    if len(levels) > 1:
        contexts[1] = word  # the lowest level has all words, in their order


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _start(levels, size, contexts):
    contexts[:] = -1
    contexts[0] = 0
    for _ in range(len(levels) - 1):
        _step(levels, contexts, size)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _probability(levels, size, words, lengths):
    found = np.empty(len(words))
    contexts = np.empty(len(levels), np.int64)
    at = 0
    for length in lengths:
        _start(levels, size, contexts)
        for _ in range(length):
            found[at] = _one(levels, size, contexts, words[at])
            _step(levels, contexts, words[at])
            at += 1
    return found


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _draw(levels, size, contexts):
    """A word: an occurrence of the longest context, kept with the share of its count that stays on this level.

    What does not stay is what goes to the level below, so this follows the mixture exactly.
    """
    for k in range(len(levels) - 1, -1, -1):
        context = contexts[k]
        if context < 0:
            continue
        level = levels[k]
        low, high = level.first[context], level.first[context + 1]
        total = level.before[high] - level.before[low]
        if total <= 0:
            continue
        target = level.before[low] + np.random.random() * total
        while high - low > 1:
            middle = (low + high) >> 1
            if level.before[middle] <= target:
                low = middle
            else:
                high = middle
        if np.random.random() < level.kept[low]:
            return level.word[low]
    return np.random.randint(0, size)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _sample(levels, size, lengths, seed, power):
    np.random.seed(seed)
    words = np.empty(lengths.sum(), np.int64)
    contexts = np.empty(len(levels), np.int64)
    at = 0
    for length in lengths:
        _start(levels, size, contexts)
        for _ in range(length):
            word = _draw(levels, size, contexts)
            while levels[0].occurrences[word] <= 0 or (
                power > 0 and np.random.random() > _one(levels, size, contexts, word) ** power
            ):
                word = _draw(levels, size, contexts)
            words[at] = word
            _step(levels, contexts, word)
            at += 1
    return words
