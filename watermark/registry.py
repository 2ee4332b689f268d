"""The registry: which watermark keys to look for, and everything that decides what each of them marks.

A registry is a YAML file. An entry names the variant, not the paper, since variants of one paper cannot read each
other; it may take its scheme from one of the publicly known keys that the package carries (`reserve watermark list`)::

    nulls: keys.nulls.json               # what `reserve watermark fit` measured on human text
    keys:
      - use: kgw-transformers-lefthash   # a public default key, with the tokenizer of a model
        id: gpt2-default
        tokenizer: /models/gpt2
        vocab_size: 50257
      - id: newsroom-2026
        scheme: kgw
        variant: lm-watermarking
        key_file: newsroom-2026.key      # or key_env: NAME, or key: 15485863
        tokenizer: /models/llama
        vocab_size: 128256               # of the model, not of the tokenizer
        parameters: {seeding: minhash, gamma: 0.25}

Paths are relative to the registry's folder. A key is never printed, logged or written: what names it is
:attr:`Mark.key_hash`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from watermark.schemes import VARIANTS, Variant

MIN_TOKENS = 30
_PUBLIC = "public_keys.yaml"
_HASH_ROUNDS = 1 << 14  # published keys are short numbers: a fast hash of one could be searched back to it


class RegistryError(ValueError):
    """A registry that cannot be used; the message names the file, the entry and the mend."""


class Entry(BaseModel):
    """One key as the YAML gives it."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="unique name")
    scheme: str = Field(description="family: kgw, unigram, synthid or exponential")
    variant: str = Field(description="which program's marks")
    key: int | tuple[int, ...] | None = Field(None, repr=False, description="the key itself, where it is no secret")
    key_file: str | None = Field(None, description="file that holds the key: integers between blanks or commas")
    key_env: str | None = Field(None, description="environment variable that holds it")
    tokenizer: str = Field(min_length=1, description="tokenizer.json, a folder that holds one, or a hub name")
    tokenizer_sha256: str | None = Field(None, pattern="^[0-9a-fA-F]{64}$", description="of the tokenizer.json")
    vocab_size: int = Field(gt=1, le=1 << 24, description="of the model's output layer")
    parameters: dict[str, Any] = Field(default_factory=dict, description="what else the variant lets its users choose")
    rng: Literal["cpu-mt19937", "cuda-philox"] = Field("cpu-mt19937", description="generator that drew the marks")
    min_tokens: int = Field(MIN_TOKENS, ge=1, description="fewer scored tokens than this are not tested alone")
    source: str | None = Field(None, description="where a public key is published")


@dataclass(frozen=True)
class Mark:
    """One key, ready to look for.

    Attributes:
        entry: its settings; the key is not in it.
        variant: the scheme's code.
        key: the variant's own dataclass, which holds the secret and does not show it.
        key_hash: scrypt of the key with scheme and variant as the salt, 32 hex digits.
    """

    entry: Entry
    variant: Variant = field(repr=False)
    key: Any = field(repr=False)
    key_hash: str

    def public(self) -> dict[str, Any]:
        """What outputs may say of it."""
        shown = self.entry.model_dump(mode="json", exclude={"key", "key_file", "key_env", "source"}, exclude_none=True)
        return {**shown, "key_hash": self.key_hash}


@dataclass(frozen=True)
class Registry:
    """All keys to look for, in the order of the file.

    Attributes:
        path: the file; paths in it are relative to its folder.
        marks: the keys.
        nulls: by id, what `reserve watermark fit` wrote.
    """

    path: str
    marks: tuple[Mark, ...]
    nulls: Mapping[str, Any] = field(repr=False)

    @property
    def base(self) -> str:
        """The folder to which paths in the registry are relative."""
        return os.path.dirname(self.path) or "."


def load_registry(path: str) -> Registry:
    """Reads and checks a registry, its keys and its nulls. Tokenizers are loaded by who uses them.

    Raises RegistryError with one line that names the file, the entry and what is allowed.
    """
    values = _mapping(path)
    if unknown := sorted(set(values) - {"keys", "nulls"}):
        raise RegistryError(f"{path}: {unknown[0]}: unknown key; a registry has 'keys' and 'nulls'")
    items = values.get("keys")
    if not isinstance(items, list) or not items:
        raise RegistryError(f"{path}: keys: write a list of at least one entry; `reserve watermark list` shows some")
    base = os.path.dirname(path) or "."
    entries = [_entry(f"{path}: keys[{number}]", item) for number, item in enumerate(items)]
    seen: set[str] = set()
    for entry in entries:
        if entry.id in seen:
            raise RegistryError(f"{path}: the id {entry.id!r} stands twice; give each entry its own")
        seen.add(entry.id)
    marks = tuple(_mark(f"{path}: {entry.id}", entry, base) for entry in entries)
    return Registry(path, marks, _nulls(path, values.get("nulls")))


@cache
def public_entries() -> Mapping[str, dict[str, Any]]:
    """The publicly known default keys by name: entries without tokenizer and vocabulary."""
    text = resources.files("watermark").joinpath(_PUBLIC).read_text("utf-8")
    return {item["id"]: item for item in yaml.safe_load(text)["keys"]}


def key_hash(scheme: str, variant: str, key: int | Sequence[int]) -> str:
    """What names a key in outputs: 32 hex digits of scrypt (RFC 7914; N = 2^14, r = 8, p = 1)."""
    canonical = " ".join(str(part) for part in ([key] if isinstance(key, int) else key))
    salt = f"human-reserve {scheme} {variant}".encode()
    return hashlib.scrypt(canonical.encode(), salt=salt, n=_HASH_ROUNDS, r=8, p=1, dklen=16).hex()


def _mapping(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as stream:
            values = yaml.safe_load(stream)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise RegistryError(f"{path}: the registry cannot be read: {reason}") from None
    except yaml.YAMLError as error:
        # Without the excerpt that the parser would show: it may hold a key.
        mark = getattr(error, "problem_mark", None)
        at = f", line {mark.line + 1}" if mark else ""
        raise RegistryError(f"{path}{at}: not valid YAML: {getattr(error, 'problem', None) or 'unreadable'}") from None
    if not isinstance(values, dict):
        raise RegistryError(f"{path}: a registry holds 'keys:' and a list of entries")
    return values


def _entry(where: str, item: Any) -> Entry:
    if not isinstance(item, dict):
        raise RegistryError(f"{where}: an entry holds 'name: value' lines")
    item = dict(item)
    if (name := item.pop("use", None)) is not None:
        known = public_entries()
        if name not in known:
            raise RegistryError(f"{where}: use: {name!r} is no public key; known are {', '.join(known)}")
        parameters = {**known[name].get("parameters", {}), **(item.get("parameters") or {})}
        item = {**known[name], **item, "parameters": parameters}
    try:
        return Entry.model_validate(item)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        known_keys = ", ".join(Entry.model_fields)
        reason = f"unknown key; known are use, {known_keys}" if first["type"] == "extra_forbidden" else first["msg"]
        raise RegistryError(f"{where} ({item.get('id', 'no id')}): {key}: {reason[:1].lower()}{reason[1:]}") from None


def _mark(where: str, entry: Entry, base: str) -> Mark:
    variant = VARIANTS.get((entry.scheme, entry.variant))
    if variant is None:
        known = ", ".join(" ".join(name) for name in VARIANTS)
        raise RegistryError(
            f"{where}: {entry.scheme!r} {entry.variant!r}: no such scheme and variant; known are {known}"
        )
    secret = _secret(where, entry, base)
    try:
        key = variant.build(secret, entry.vocab_size, entry.rng, entry.parameters)
    except (ValueError, TypeError) as error:
        raise RegistryError(f"{where}: {error}") from None
    return Mark(entry.model_copy(update={"key": None}), variant, key, key_hash(entry.scheme, entry.variant, secret))


def _secret(where: str, entry: Entry, base: str) -> int | tuple[int, ...]:
    given = [name for name in ("key", "key_file", "key_env") if getattr(entry, name) is not None]
    if len(given) != 1:
        raise RegistryError(f"{where}: give one of key, key_file and key_env; {' and '.join(given) or 'none'} given")
    if entry.key is not None:
        return entry.key
    if entry.key_file is not None:
        path = Path(base, os.path.expanduser(entry.key_file))
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise RegistryError(f"{where}: key_file: {path}: {reason}") from None
        return _integers(f"{where}: key_file: {path}", text)
    text = os.environ.get(entry.key_env or "", "")
    if not text:
        raise RegistryError(f"{where}: key_env: the environment variable {entry.key_env} is not set")
    return _integers(f"{where}: key_env: {entry.key_env}", text)


def _integers(where: str, text: str) -> int | tuple[int, ...]:
    parts = re.split(r"[\s,]+", text.strip())
    try:
        numbers = tuple(int(part, 0) for part in parts)
    except ValueError:
        raise RegistryError(f"{where}: write whole numbers between blanks or commas") from None
    return numbers[0] if len(numbers) == 1 else numbers


def _nulls(path: str, name: Any) -> dict[str, Any]:
    if name is None:
        return {}
    file = Path(os.path.dirname(path) or ".", os.path.expanduser(str(name)))
    try:
        return dict(json.loads(file.read_text("utf-8"))["nulls"])
    except OSError as error:
        raise RegistryError(f"{path}: nulls: {file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise RegistryError(f"{path}: nulls: {file} is not a file that `reserve watermark fit` wrote") from None


def null_subject(mark: Mark, tokenizer_sha256: str) -> str:
    """SHA-256 of what a measured null is of: key, settings and tokenizer, by any name, whatever `min_tokens` is."""
    shown = mark.public()
    relevant = {name: shown[name] for name in ("scheme", "variant", "key_hash", "vocab_size", "parameters", "rng")}
    text = json.dumps({**relevant, "tokenizer_sha256": tokenizer_sha256}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
