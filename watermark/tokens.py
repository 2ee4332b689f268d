"""Texts to token ids with the tokenizer of the model that a key belongs to.

A tokenizer is a `tokenizer.json` (the format of the `tokenizers` library), a folder that holds one, or the name of a
repository on the Hugging Face hub::

    tokenizer = load_tokenizer("/models/llama")
    tokens, offsets = tokenizer.encode(["one text", "another"])

What decides the ids is the file's content, so its SHA-256 names the tokenizer.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from watermark.windows import Offsets, Tokens

FILE = "tokenizer.json"
_TEXTS = 64  # encoded together: enough to keep the encoder busy, few enough to bound the memory of their encodings


class TokenizerError(ValueError):
    """A tokenizer that cannot be loaded, or is not the one that was asked for."""


@dataclass(frozen=True)
class Tokenizer:
    """A loaded tokenizer.

    Attributes:
        name: as it was asked for.
        sha256: of its `tokenizer.json`, in hexadecimal.
        size: how many ids it has, added tokens included.
    """

    name: str
    sha256: str
    size: int
    _encoder: Any

    def encode(self, texts: Sequence[str]) -> tuple[Tokens, Offsets]:
        """The ids of all texts, one after the other (int32[t]), and where each starts (int64[d + 1]).

        No special tokens are added. Lone surrogates are replaced, since no model can have written them.
        """
        parts, lengths = [np.zeros(0, np.int32)], []
        for at in range(0, len(texts), _TEXTS):
            group = [_encodable(text) for text in texts[at : at + _TEXTS]]
            for encoding in self._encoder.encode_batch_fast(group, add_special_tokens=False):
                ids = np.array(encoding.ids, np.int32)
                parts.append(ids)
                lengths.append(len(ids))
        return np.concatenate(parts), np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def load_tokenizer(name: str, sha256: str | None = None, base: str = ".") -> Tokenizer:
    """Loads a tokenizer by path (relative to ``base``) or hub name.

    Raises TokenizerError if it cannot be read, or its file is not the one whose SHA-256 is given.
    """
    path = tokenizer_file(name, base)
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256.lower():
        raise TokenizerError(f"{path}: SHA-256 is {found}, expected {sha256}; keys of another tokenizer find nothing")
    try:
        encoder = tokenizers.Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises bare Exceptions
        raise TokenizerError(f"{path}: not a tokenizer of the tokenizers library: {error}") from None
    encoder.no_truncation()
    encoder.no_padding()
    return Tokenizer(name, found, encoder.get_vocab_size(with_added_tokens=True), encoder)


def tokenizer_file(name: str, base: str = ".") -> Path:
    """Where the `tokenizer.json` of a path or hub name lies; downloads it from the hub where it has to."""
    local = Path(base, os.path.expanduser(name))
    for path in (local, local / FILE):
        if path.is_file():
            return path
    if local.is_dir():
        raise TokenizerError(f"{local}: no {FILE} here; save the model's fast tokenizer with save_pretrained")
    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise TokenizerError(f"{local}: no such file or folder")
    return _from_hub(name)


def _from_hub(name: str) -> Path:
    from huggingface_hub import hf_hub_download  # here: tokenizers on disk need no hub

    try:
        return Path(hf_hub_download(name, FILE))
    except Exception as error:  # network, authorisation, name: the library has a dozen kinds
        reason = str(error).strip().splitlines()[0]
        raise TokenizerError(f"{name}: neither a path nor to be had from the Hugging Face hub: {reason}") from None


def _encodable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
