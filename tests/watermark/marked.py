"""Marked text without a model: words drawn at random, each with the scheme's own preference, and a tokenizer for it.

The words are tokens that begin with a blank, so that the text encodes to the tokens that were drawn.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import numpy.typing as npt
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from watermark import exponential, kgw, synthid, synthid_sha256, textseal, unigram

VOCABULARY = 4000
_CANDIDATES = 24

Weigh = Callable[[npt.NDArray[np.int32]], npt.NDArray[np.float64]]


@lru_cache(maxsize=1)
def tokenizer() -> tokenizers.Tokenizer:
    """A byte-level BPE trained on Python's manual, which is the same whatever else is installed."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([text for _, text in sorted(topics.items())], trainer)
    return made


def save_tokenizer(folder: Path, name: str = "tokenizer.json") -> Path:
    tokenizer().save(str(folder / name))
    return folder / name


@lru_cache(maxsize=1)
def words() -> npt.NDArray[np.int32]:
    """Tokens that are a blank and a word."""
    vocabulary = tokenizer().get_vocab()
    return np.array(sorted(at for token, at in vocabulary.items() if token[0] == "Ġ" and token[1:].isalpha()), np.int32)


def marked_text(key: object, length: int, seed: int) -> str:
    """A text of so many words that prefers what the key prefers: of some words, the likeliest to be marked."""
    rng = np.random.default_rng(seed)
    tokens = rng.choice(words(), 8).tolist()
    while len(tokens) < length + 8:
        candidates = rng.choice(words(), _CANDIDATES, replace=False)
        tokens.append(int(candidates[np.argmax(preference(key, tokens)[candidates])]))
    return tokenizer().decode(tokens[8:]).strip()


def unmarked_text(length: int, seed: int) -> str:
    return tokenizer().decode(np.random.default_rng(seed).choice(words(), length).tolist()).strip()


def preference(key: object, tokens: Sequence[int]) -> npt.NDArray[np.float64]:
    """float64[V]: how much the key likes each next token."""
    context = np.array(tokens, np.int32)
    match key:
        case kgw.Key():
            return kgw.green_mask(context, key).astype(np.float64)
        case unigram.Key():
            return unigram.green_mask(key).astype(np.float64)
        case synthid.Key():
            return synthid.g_values_for(context[1 - key.ngram_len :], key).sum(axis=1).astype(np.float64)
        case synthid_sha256.Key():
            return synthid_sha256.g_values_for(context[1 - key.ngram_len :], key).sum(axis=1).astype(np.float64)
        case exponential.Key():
            return exponential.uniforms_for(context[-key.ngram :].tolist(), key).astype(np.float64)
        case textseal.Key():
            return textseal.uniforms_for(context[-key.ngram :].tolist(), key).astype(np.float64)
    raise TypeError(type(key))
