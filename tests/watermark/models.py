"""Tiny tokenizers and causal models for tests, made in a moment and saved as `transformers` saves them.

Files that import this need the ``torch`` extra: call ``pytest.importorskip("torch")`` first.
"""

import inspect
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.local_model import Shape, new_model, token_ids, train, train_tokenizer

TINY = Shape(vocabulary=1000, width=32, layers=1, heads=2, length=2048)


MODULES = (
    "argparse",
    "collections",
    "datetime",
    "decimal",
    "difflib",
    "fractions",
    "logging",
    "pathlib",
)


@cache
def english() -> tuple[str, ...]:
    """Real English without any file of ours: docstrings of the standard library, in a fixed order, 20 words or more."""
    found = set()
    for name in MODULES:
        module = import_module(name)
        owners = [module, *(item for _, item in inspect.getmembers(module, inspect.isclass))]
        items = [item for owner in owners for _, item in inspect.getmembers(owner, callable)]
        found |= {inspect.getdoc(item) or "" for item in [*owners, *items]}
    return tuple(sorted(text for text in found if len(text.split()) >= 20))


def save_tokenizer(
    folder: Path, vocabulary: int = TINY.vocabulary, texts: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    """A byte-level BPE of exactly ``vocabulary`` tokens (257 or more), saved with its ``tokenizer.json``."""
    tokenizer = train_tokenizer(texts or english(), vocabulary)
    assert len(tokenizer) == vocabulary, f"the texts give {len(tokenizer)} tokens only"
    tokenizer.save_pretrained(folder)
    return tokenizer


def save_model(
    folder: Path, shape: Shape = TINY, texts: Sequence[str] = (), steps: int = 0, seed: int = 0
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """A tokenizer and a model, saved in one folder.

    Without training (``steps=0``) the next token is nearly uniform over the vocabulary; with some it follows the words'
    frequencies. Either way the entropy is high, so that marks show within some dozens of tokens.
    """
    texts = texts or english()
    tokenizer = save_tokenizer(folder, shape.vocabulary, texts)
    model = new_model(shape, seed)
    with torch.random.fork_rng(devices=[]):
        if steps:
            train(model, token_ids(tokenizer, texts), 128, steps, rows=4, seed=seed, report=steps)
    model.eval().save_pretrained(folder)
    return model, tokenizer
