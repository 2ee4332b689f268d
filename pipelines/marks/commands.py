"""What `reserve watermark` does: list, detect, fit. Results are plain data; :mod:`pipelines.cli_watermark` prints them.

Writing marked text needs torch and is in :mod:`watermark.generate`; new keys are made by :mod:`watermark.keys`.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from pipelines.errors import UsageError
from pipelines.marks.corpus import read_texts
from pipelines.marks.sites import merged_e_values
from pipelines.progress import say
from watermark.calibration import Options
from watermark.fitting import fit_nulls
from watermark.many_tests import e_bh
from watermark.registry import Registry, RegistryError, load_registry, null_subject, public_entries
from watermark.scan import Scanner
from watermark.tables import Tables


def open_registry(path: str) -> Registry:
    """The registry at a path; UsageError where it cannot be used."""
    try:
        return load_registry(path)
    except RegistryError as error:
        raise UsageError(str(error)) from None


def open_scanner(path: str) -> Scanner:
    """The registry at a path with its tokenizers; UsageError where it cannot be used."""
    try:
        return Scanner(load_registry(path))
    except RegistryError as error:
        raise UsageError(str(error)) from None


def public_rows() -> list[dict[str, Any]]:
    """The public keys that the package carries, without the keys."""
    names = ("id", "scheme", "variant", "parameters", "source")
    return [{name: entry.get(name) for name in names} for entry in public_entries().values()]


def registry_rows(path: str) -> list[dict[str, Any]]:
    """The keys of a registry as outputs name them, and whether each can be looked for."""
    registry = open_registry(path)
    try:
        scanner = Scanner(registry)
    except RegistryError as error:
        raise UsageError(str(error)) from None
    rows = []
    for about, null in zip(scanner.public_marks, scanner.nulls, strict=True):
        measured = {"null_documents": null.documents if null else 0, "null_shift": null.shift if null else None}
        rows.append({**about, **measured})
    return rows


class Detection(NamedTuple):
    """One text: what the key that tells most says of it.

    ``found`` is after correction over all texts of the call, at the call's level.
    """

    name: str
    found: bool
    key: str
    tokens: int
    log10_p: float
    log10_e: float  # over all keys
    stretch: tuple[int, int] | None  # tokens, where a part tells more than the whole


def detect(path: str, patterns: Sequence[str], column: str, level: float) -> Iterator[Detection]:
    """Tests every text of the files for every key of the registry, as documents of their own."""
    scanner = open_scanner(path)
    least = np.array([mark.entry.min_tokens for mark in scanner.marks])
    rows: list[tuple[str, int, int, float, tuple[int, int] | None]] = []
    e_values, tested = [], []
    for batch in read_texts(patterns, column):
        found = scanner.scan(batch.texts)
        log_e, tests = merged_e_values(found.log_p, found.scored >= least)
        e_values.append(log_e)
        tested.append(tests)
        speaking = np.where(found.scored >= least, found.log_p, np.inf)
        for row, key in enumerate(np.argmin(speaking, axis=1).tolist()):
            first, last = found.stretch[row, key].tolist()
            stretch = (first, last) if last >= 0 else None
            rows.append((batch.names[row], key, int(found.scored[row, key]), float(found.log_p[row, key]), stretch))
    log_e, tests = np.concatenate(e_values), np.concatenate(tested)
    threshold = e_bh(log_e[tests], level)
    for (name, key, tokens, log_p, stretch), log_e_of, was_tested in zip(rows, log_e, tests, strict=True):
        mark = scanner.marks[key].entry.id if was_tested else ""
        shown = (log_p / math.log(10), float(log_e_of) / math.log(10)) if was_tested else (0.0, 0.0)
        yield Detection(name, bool(was_tested and log_e_of >= threshold), mark, tokens, *shown, stretch)


class Fitted(NamedTuple):
    """What a measured null says of one key, for people."""

    id: str
    documents: int
    shift: float  # by which a token's mark leans, in units of the scheme's statistic
    exact_rate: float  # share of the corpus' documents with an exact p-value of at most 1 %
    rate: float  # of the tail beyond the corpus; 1 is the exact one's


def fit(path: str, patterns: Sequence[str], column: str, where: Sequence[str], output: str | None) -> list[Fitted]:
    """Measures every key's null on known-human text, and writes the file that the registry's ``nulls`` names.

    Raises UsageError where the texts are too few, or the registry names another file.
    """
    registry = open_registry(path)
    # Without the nulls that it has: they would be measured on top of themselves.
    scanner = Scanner(Registry(registry.path, registry.marks, {}), Tables())
    texts, groups = [], []
    for batch in read_texts(patterns, column, where):
        texts += batch.texts
        groups += batch.groups
    say(f"fit      {len(texts):,} texts of {len(set(groups)):,} groups")
    try:
        fits = fit_nulls(scanner, texts, groups, Options())
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None
    nulls = {
        mark.entry.id: {"of": null_subject(mark, scanner.tokenizers[at].sha256), "null": one.null.to_dict()}
        for at, (mark, one) in enumerate(zip(scanner.marks, fits, strict=True))
    }
    _write(registry, output, nulls)
    return [
        Fitted(mark.entry.id, one.null.documents, one.null.shift, one.exact_rate, one.null.buckets[-1].rate)
        for mark, one in zip(scanner.marks, fits, strict=True)
    ]


def nulls_file(path: str, output: str | None) -> str:
    """Where `fit` writes: as told, as the registry says, or beside it."""
    if output:
        return output
    with open(path, encoding="utf-8") as stream:
        named = (yaml.safe_load(stream) or {}).get("nulls")
    base = Path(path)
    return str(base.parent / named) if named else str(base.with_suffix(".nulls.json"))


def _write(registry: Registry, output: str | None, nulls: dict[str, Any]) -> None:
    target = Path(nulls_file(registry.path, output))
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.write_text(json.dumps({"nulls": nulls}, indent=1) + "\n", "utf-8")
        os.replace(partial, target)
        text = Path(registry.path).read_text("utf-8")
        if "nulls" not in yaml.safe_load(text):
            name = os.path.relpath(target, registry.base)
            Path(registry.path).write_text(f"nulls: {name}  # measured by `reserve watermark fit`\n{text}", "utf-8")
    except OSError as error:
        raise UsageError(f"{error.filename or target}: {error.strerror}") from None
