"""Looks for all keys of a registry in texts: one tokenisation a tokenizer, one pass a family of keys.

::

    scanner = Scanner(load_registry("keys.yaml"))
    found = scanner.scan(["a text", "another"])
    found.log_p  # float64[2, keys]: natural logarithms of p-values, one key at a time, not corrected for their number

A p-value is the scheme's exact one, of the whole text or of its most telling stretch (corrected for the number of
stretches), and never below what the key's measured null makes of it, where there is one.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from watermark import kgw, sites
from watermark.calibration import Null
from watermark.frequent_pairs import MOST_KEYS
from watermark.green_lists import Cache
from watermark.group import Group, sums
from watermark.registry import Mark, Registry, RegistryError, null_subject
from watermark.tables import Tables
from watermark.tokens import Tokenizer, TokenizerError, load_tokenizer
from watermark.windows import Floats, Ints, Offsets, Tally, windows


class Found(NamedTuple):
    """What the keys show in a batch of d texts; k keys in the order of the registry.

    Attributes:
        log_p: float64[d, k], natural logarithm of the p-value; 0 where nothing could be scored.
        scored: int64[d, k], tokens that counted.
        stretch: int64[d, k, 2], first and last + 1 of the positions of the most telling stretch, where it tells more
            than the whole; -1 elsewhere.
        samples: with hosts, for each tokenizer of :attr:`Scanner.families`, the windows of each text for testing a site
            (:mod:`watermark.sites`), int32[n, width + 1], and their starts, int64[d + 1].
    """

    log_p: Floats
    scored: Ints
    stretch: Ints
    samples: tuple[tuple[sites.Windows, Offsets], ...]


@dataclass(frozen=True)
class Family:
    """All keys of one tokenizer."""

    tokenizer: Tokenizer
    groups: tuple[Group, ...]
    width: int  # the widest context

    @property
    def columns(self) -> npt.NDArray[np.int64]:
        """Their places in the registry."""
        return np.concatenate([group.columns for group in self.groups])


class Scanner:
    """A registry with its tokenizers loaded; with ``tables``, documents are screened first (:mod:`watermark.group`).

    Raises RegistryError if a tokenizer cannot be loaded, has more ids than the model, or a null is of another key.
    """

    def __init__(self, registry: Registry, tables: Tables | None = None) -> None:
        self.marks: tuple[Mark, ...] = registry.marks
        loaded = _tokenizers(registry)
        self.tokenizers = tuple(loaded[mark.entry.tokenizer, mark.entry.tokenizer_sha256] for mark in self.marks)
        self._tables = tables
        pairs = zip(self.marks, self.tokenizers, strict=True)
        self._set_nulls([_null(registry, mark, tokenizer) for mark, tokenizer in pairs])

    def with_nulls(self, nulls: Sequence[Null | None]) -> Scanner:
        """The same keys with other nulls."""
        other = copy.copy(self)
        other._set_nulls(nulls)
        return other

    def _set_nulls(self, nulls: Sequence[Null | None]) -> None:
        self.nulls = tuple(nulls)
        self.families = _families(self.marks, self.tokenizers, self.nulls, self._tables)
        #: What outputs may say of each key.
        self.public_marks: tuple[dict[str, Any], ...] = tuple(
            {**mark.public(), "tokenizer_sha256": tokenizer.sha256, "null_measured": null is not None}
            for mark, tokenizer, null in zip(self.marks, self.tokenizers, self.nulls, strict=True)
        )

    @property
    def digest(self) -> str:
        """SHA-256 of what decides the findings, keys by their hashes."""
        tables = [null.to_dict() if null else None for null in self.nulls]
        return hashlib.sha256(json.dumps([self.public_marks, tables], sort_keys=True).encode()).hexdigest()

    def null_means(self) -> Floats:
        """float64[k]: what an unmarked token adds to each key's statistic."""
        means = np.zeros(len(self.marks))
        for family in self.families:
            for group in family.groups:
                means[group.columns] = group.scheme.null_mean(group.keys)
        return means

    def scan(self, texts: Sequence[str], hosts: Sequence[str | None] | None = None) -> Found:
        """Tests every text for every key; with the texts' hosts it also takes what tests of whole sites need."""
        shape = (len(texts), len(self.marks))
        found = Found(np.zeros(shape), np.zeros(shape, np.int64), np.full((*shape, 2), -1, np.int64), ())
        taken = []
        for family in self.families:
            tokens, offsets = family.tokenizer.encode(texts)
            for group in family.groups:
                tested = group.test(tokens, offsets)
                found.log_p[:, group.columns] = tested.log_p
                found.scored[:, group.columns] = tested.scored
                found.stretch[:, group.columns] = tested.stretch
            if hosts is not None:
                salts = np.array([sites.salt(host) for host in hosts], np.uint64)
                taken.append(sites.sample_documents(tokens, offsets, family.width, salts))
        return found._replace(samples=tuple(taken))

    def tallies(self, texts: Sequence[str]) -> Tally:
        """Statistics of whole texts, float64[d, k], and the tokens that they are over."""
        shape = (len(texts), len(self.marks))
        whole = Tally(np.zeros(shape), np.zeros(shape, np.int64))
        for family in self.families:
            tokens, offsets = family.tokenizer.encode(texts)
            for group in family.groups:
                batch = windows(tokens, offsets, group.width)
                for total, part in zip(whole, group.score(batch), strict=True):
                    total[:, group.columns] = sums(part, batch.documents)
        return whole

    def scan_sites(self, family: int, samples: Sequence[sites.Windows]) -> tuple[Floats, Ints]:
        """Tests the samples of s sites for the family's keys.

        Returns:
            log_p: float64[s, k], over all keys of the registry, 0 for those of other families.
            scored: int64[s, k].
        """
        statistic, scored = self.site_tallies(family, samples)
        log_p = np.zeros(scored.shape)
        shifts = np.array([null.site_shift if null else 0.0 for null in self.nulls])
        for group in self.families[family].groups if len(samples) else ():
            at = group.columns
            excess = statistic[:, at] - shifts[at] * scored[:, at]
            log_p[:, at] = group.scheme.log_p_value(excess, scored[:, at], group.keys)
        return log_p, scored

    def site_tallies(self, family: int, samples: Sequence[sites.Windows]) -> Tally:
        """Statistics of the samples of s sites, float64[s, k], and the windows that they are over."""
        shape = (len(samples), len(self.marks))
        whole = Tally(np.zeros(shape), np.zeros(shape, np.int64))
        if len(samples):
            batch = sites.batch_of(list(samples))
            for group in self.families[family].groups:
                for total, part in zip(whole, group.score(batch), strict=True):
                    total[:, group.columns] = part
        return whole


def _tokenizers(registry: Registry) -> dict[tuple[str, str | None], Tokenizer]:
    loaded: dict[tuple[str, str | None], Tokenizer] = {}
    for mark in registry.marks:
        entry = mark.entry
        name = (entry.tokenizer, entry.tokenizer_sha256)
        try:
            tokenizer = loaded[name] if name in loaded else load_tokenizer(*name, base=registry.base)
        except TokenizerError as error:
            raise RegistryError(f"{registry.path}: {entry.id}: tokenizer: {error}") from None
        if tokenizer.size > entry.vocab_size:
            raise RegistryError(
                f"{registry.path}: {entry.id}: vocab_size: {entry.vocab_size} is less than the {tokenizer.size} ids of "
                f"the tokenizer {entry.tokenizer}; give the size of the model's output layer"
            )
        loaded[name] = tokenizer
    return loaded


def _null(registry: Registry, mark: Mark, tokenizer: Tokenizer) -> Null | None:
    item = registry.nulls.get(mark.entry.id)
    if item is None:
        return None
    where = f"{registry.path}: nulls: {mark.entry.id}"
    if item.get("of") != null_subject(mark, tokenizer.sha256):
        raise RegistryError(f"{where}: measured for another key or other settings; run `reserve watermark fit` again")
    try:
        return Null.from_dict(item["null"])
    except (KeyError, TypeError, ValueError) as error:
        raise RegistryError(f"{where}: {error}; run `reserve watermark fit` again") from None


def _families(
    marks: Sequence[Mark], tokenizers: Sequence[Tokenizer], nulls: Sequence[Null | None], tables: Tables | None
) -> tuple[Family, ...]:
    by_tokenizer: dict[str, dict[Any, list[int]]] = {}
    for at, (mark, tokenizer) in enumerate(zip(marks, tokenizers, strict=True)):
        groups = by_tokenizer.setdefault(tokenizer.sha256, {})
        alike = groups.setdefault((mark.variant, _settings(mark.key)), [])
        alike.append(at)
    caches: dict[Any, Cache] = {}
    families = []
    for groups in by_tokenizer.values():
        made = []
        for (variant, _), columns in groups.items():
            for some in (columns[at : at + MOST_KEYS] for at in range(0, len(columns), MOST_KEYS)):
                keys = tuple(marks[at].key for at in some)
                group = Group(
                    variant.scheme,
                    keys,
                    np.array(some),
                    variant.scheme.width(keys[0]),
                    tuple(nulls[at] for at in some),
                    tables.of(keys) if tables else None,
                    _cache(keys[0], caches),
                )
                made.append(group)
        tokenizer = tokenizers[made[0].columns[0]]
        families.append(Family(tokenizer, tuple(made), max(group.width for group in made)))
    return tuple(families)


def _cache(key: Any, caches: dict[Any, Cache]) -> Cache | None:
    """The store of green lists for a key's kind, where it has lists that come again."""
    if not isinstance(key, kgw.Key) or kgw.self_salted(key):
        return None
    lists = kgw.lists(key)
    if lists not in caches:
        caches[lists] = Cache(lists)
    return caches[lists]


def _settings(key: Any) -> tuple[Any, ...]:
    """What keys that are scored together share: all fields that are no secret."""
    shared: list[Any] = []
    for field in dataclasses.fields(key):
        value = getattr(key, field.name)
        # Of a secret only its shape: keys of more parts are scored differently.
        shared.append(value if field.repr else len(value) if isinstance(value, tuple) else None)
    return tuple(shared)
