"""Marked pages for the demo: a small generator that follows a key, and a registry to find them with.

The generator chooses each word among those that follow its last two in the documentation, and takes the one with the
most tokens on the green lists; a tokenizer is trained on the spot. Nothing of this is what a language model does, but
for the lists, which are those of the transformers library.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from html import unescape
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from watermark import kgw
from watermark.keys import keygen
from watermark.registry import Entry, load_registry

FOLDER = "keys"
_VOCABULARY = 8000
_WORDS = 400


def demo_registry(bodies: Sequence[str], folder: Path) -> Path:
    """A tokenizer trained on the pages, a new key, and their registry; gives the registry's path."""
    folder.mkdir()
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=_VOCABULARY, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([plain_text(body) for body in bodies], trainer)
    made.save(str(folder / "tokenizer.json"))
    path = folder / "keys.yaml"
    family = {"scheme": "kgw", "variant": "transformers"}
    keygen(Entry(id="demo", **family, tokenizer="tokenizer.json", vocab_size=_VOCABULARY), path)
    return path


def marked_bodies(bodies: Sequence[str], registry: Path, count: int, rng: random.Random) -> Iterator[str]:
    """Texts by the generator under the registry's key."""
    key = load_registry(str(registry)).marks[0].key
    encoder = tokenizers.Tokenizer.from_file(str(registry.parent / "tokenizer.json"))
    following: dict[tuple[str, str], list[str]] = defaultdict(list)
    for body in bodies:
        words = plain_text(body).split()
        for a, b, c in zip(words, words[1:], words[2:], strict=False):
            following[a, b].append(c)
    starts = sorted(following)
    lists = _Lists(key)
    for _ in range(count):
        yield _text(following, starts, lists, encoder, rng)


def plain_text(body: str) -> str:
    """The text of a page's paragraphs."""
    return unescape(re.sub("<[^>]*>", " ", body))


class _Lists:
    """The green lists of a key, each made once."""

    def __init__(self, key: kgw.Key) -> None:
        self._key = key
        self._masks: dict[int, npt.NDArray[np.bool_]] = {}

    def green(self, last: int, tokens: Sequence[int]) -> float:
        """The share of green ones among a word's tokens, after a token."""
        return float(np.mean([self._after(a)[b] for a, b in zip([last, *tokens[:-1]], tokens, strict=True)]))

    def _after(self, token: int) -> npt.NDArray[np.bool_]:
        if token not in self._masks:
            self._masks[token] = kgw.green_mask(np.array([token], np.int32), self._key)
        return self._masks[token]


def _text(
    following: dict[tuple[str, str], list[str]],
    starts: Sequence[tuple[str, str]],
    lists: _Lists,
    encoder: tokenizers.Tokenizer,
    rng: random.Random,
) -> str:
    pair = rng.choice(starts)
    words = list(pair)
    last = encoder.encode(" " + words[-1]).ids[-1]
    while len(words) < _WORDS:
        pair = pair if pair in following else rng.choice(starts)
        choices = sorted(set(following[pair]))
        tokens = {word: encoder.encode(" " + word).ids for word in rng.sample(choices, min(len(choices), 12))}
        word = max(tokens, key=lambda choice: lists.green(last, tokens[choice]))
        words.append(word)
        last = tokens[word][-1]
        pair = (pair[1], word)
    return "\n".join(" ".join(words[i : i + 60]) for i in range(0, len(words), 60))
