"""Texts with topics and bursts, out of nothing: documents of one source resemble each other and repeat themselves."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

VOCABULARY, TOPICS = 8000, 12
_WORLD = np.random.default_rng(20221130)
_BASE = 1 / np.arange(1, VOCABULARY + 1) ** 1.05
_TOPICS = _BASE * _WORLD.gamma(0.4, 2.5, (TOPICS, VOCABULARY))
_NAMES = np.array([f"{'bdfgklmnprst'[i % 12]}{'aeiou'[i % 5]}{i:x}" for i in _WORLD.permutation(VOCABULARY)])
# The commonest are words that a model of English knows, and surprisal is not the same for all texts.
_KNOWN = re.findall(
    r"\w+",
    """
the of and to in a is that for it as was with be by on not he his but at are this have from or had an they
which one you were all her she there would their we him been has when who will no more if out so up said what
its about than into them can only other time new some could these two may first then do any like my now over
such our man me even most made after also well before must years
""",
)
_NAMES = np.concatenate([_KNOWN, _NAMES[len(_KNOWN) :]])
_TEMPLATE = _WORLD.integers(0, VOCABULARY, 400)


def month_mix(seed: int, concentration: float = 20.0) -> npt.NDArray[np.float64]:
    """The shares of the topics in a month, which differ between months; the greater, the less."""
    return np.random.default_rng(seed).dirichlet(np.full(TOPICS, concentration))


def draw(
    seed: int,
    count: int,
    mix: npt.NDArray[np.float64] | None = None,
    template: float = 0.0,
    temperature: float = 1.0,
    cold: float = 1.0,
    words: int = 110,
    renamed: bool = False,
) -> list[str]:
    """Documents: each has a topic, takes three tenths of its words from a few of its own, and is of its own length.

    A share ``template`` fills a few slots of one text. Of the others a share ``cold`` is of that ``temperature``: below
    1 likely words grow likelier. ``renamed``: with another name for every word, so that hashes differ between draws.
    """
    random = np.random.default_rng([seed, count])
    warm = np.cumsum(_TOPICS / _TOPICS.sum(axis=1, keepdims=True), axis=1)
    sharp = _TOPICS ** (1 / temperature)
    cool = np.cumsum(sharp / sharp.sum(axis=1, keepdims=True), axis=1)
    names = np.array([f"{word}q{seed:x}" for word in _NAMES]) if renamed else _NAMES
    lengths = random.lognormal(np.log(words), 0.4, count).astype(int) + 5
    topics = random.choice(TOPICS, count, p=mix)
    texts = []
    for length, topic in zip(lengths, topics, strict=True):
        if random.random() < template:
            chosen = np.resize(_TEMPLATE, length)
            slots = random.random(length) < 0.05
            chosen[slots] = random.integers(0, VOCABULARY, slots.sum())
        else:
            shares = cool[topic] if random.random() < cold else warm[topic]
            chosen = np.minimum(np.searchsorted(shares, random.random(length)), VOCABULARY - 1)
            own = random.random(length) < 0.3
            chosen[own] = random.choice(chosen[: max(length // 3, 2)], own.sum())
        texts.append(" ".join(names[chosen]))
    return texts


def keys(seed: int, count: int) -> npt.NDArray[np.uint64]:
    """Random keys of documents."""
    return np.random.default_rng([seed, 1]).integers(0, 2**64, count, dtype=np.uint64)
