"""Repeated samples per prompt, from files: how many effectively different answers there are, against a reference.

    result = compare_samples(["model.jsonl"], "people.jsonl", Columns(), Settings())
    print(result["sources"][0]["effective"]["2"], result["sources"][0]["against_reference"])

A file is JSONL, Parquet or CSV with a column of texts and, where there are several prompts, a column of prompts; or
plain text with one answer a line. A cell may hold a list of answers. All samples are held in memory.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from pipelines import files
from pipelines.errors import JobError, UsageError, one_line
from pipelines.statistics.answers import Counts, Found, Interval
from pipelines.statistics.answers_compare import at_sizes, over_prompts, ratio
from pipelines.statistics.answers_groups import group_answers
from pipelines.statistics.answers_rarefy import coverage_at, size_for_coverage
from pipelines.statistics.panel.embedding import embed
from pipelines.statistics.panel.vendi import vendi
from pipelines.statistics.panel.words import word_hashes

TEXTS = ("text", "answer", "answers", "response", "responses", "completion", "completions", "output", "generation")
PROMPTS = ("prompt", "question", "instruction", "query", "input")
SHOWN = 5  # of the most frequent answers

_SEED = 8


class Columns(NamedTuple):
    """Names of columns, or several with commas, of which the first that is there is read.

    None: the first of :data:`TEXTS`, and the first of :data:`PROMPTS` or none.
    """

    text: str | None = None
    prompt: str | None = None


class Settings(NamedTuple):
    """How to compare: ``near``: whether near-duplicates are the same answer; ``level``: of all intervals."""

    near: bool = True
    level: float = 0.95


class Samples(NamedTuple):
    """Of one file: the answers to each prompt, and for each answer how often it came, the most frequent first."""

    name: str
    texts: dict[str, list[str]]
    counts: dict[str, Counts]
    kinds: dict[str, list[str]]  # one text of each answer, in the order of the counts
    empty: int  # samples without any text, which are left out


def compare_samples(
    paths: Sequence[str], reference: str | None, columns: Columns, settings: Settings
) -> dict[str, Any]:
    """Reads the files and compares them, prompt by prompt; the result is ready for JSON, and infinite limits are null.

    Raises UsageError where a column is missing or files have no prompt in common, JobError where a file cannot be
    read or has no prompt with two samples.
    """
    named = [*paths, *([reference] if reference is not None else [])]
    if len(set(named)) < len(named):
        raise UsageError(f"{max(named, key=named.count)}: is named twice; a file against itself says nothing")
    sources = _told_apart([read_samples(path, columns, settings.near) for path in named])
    sources, prompts, notes = _common(sources)
    sizes = [min(int(source.counts[prompt].sum()) for source in sources) for prompt in prompts]
    told = [_told(source, prompts, sizes, settings.level) for source in sources]
    if reference is not None:
        people = sources[-1]
        for source, entry in zip(sources[:-1], told[:-1], strict=True):
            entry["against_reference"] = _against(source, people, prompts, settings.level)
        told[-1]["is_reference"] = True
    return {
        "level": settings.level,
        "same_answer": "near-duplicates" if settings.near else "same words",
        "prompts": len(prompts),
        "prompt_names": prompts[:100],
        "compared_at": {"smallest": min(sizes), "largest": max(sizes)},
        "notes": notes,
        "sources": told,
    }


def read_samples(path: str, columns: Columns, near: bool = True) -> Samples:
    """The samples of one file, grouped into answers."""
    by_prompt: dict[str, list[str]] = {}
    empty = 0
    for prompt, text in _pairs(path, columns):
        if text.strip():
            by_prompt.setdefault(prompt, []).append(text)
        else:
            empty += 1
    if not by_prompt:
        raise JobError(f"{path}: holds no sample with any text")
    flat = pa.array([text for texts in by_prompt.values() for text in texts], pa.large_string())
    numbers = np.repeat(np.arange(len(by_prompt)), [len(texts) for texts in by_prompt.values()])
    first = group_answers(flat, numbers, near)
    counts: dict[str, Counts] = {}
    kinds: dict[str, list[str]] = {}
    for number, prompt in enumerate(by_prompt):
        rows, times = np.unique(first[numbers == number], return_counts=True)
        order = np.argsort(-times, kind="stable")
        counts[prompt] = times[order].astype(np.int64)
        kinds[prompt] = [flat[int(row)].as_py() for row in rows[order]]
    return Samples(path, by_prompt, counts, kinds, empty)


def _common(sources: list[Samples]) -> tuple[list[Samples], list[str], list[str]]:
    """The prompts that all sources answer at least twice, and what is to be said of the others."""
    notes = [f"{s.name}: {s.empty:,} samples hold no text and are left out" for s in sources if s.empty]
    enough = []
    for source in sources:
        kept = {prompt for prompt, counts in source.counts.items() if counts.sum() >= 2}
        if not kept:
            raise JobError(
                f"{source.name}: no prompt has two samples or more (prompts: {len(source.counts):,}, samples: "
                f"{sum(map(len, source.texts.values())):,}); sample each prompt many times, at best 100 or more"
            )
        enough.append(kept)
        if alone := len(source.counts) - len(kept):
            notes.append(f"{source.name}: {alone:,} prompts with a single sample are left out")
    if len(sources) > 1 and all(len(kept) == 1 for kept in enough):
        names = {next(iter(kept)) for kept in enough}
        if len(names) > 1:
            if "" not in names:
                notes.append("the prompts differ in wording; each file has just one, and they are taken for the same")
            sources = [_renamed(source, next(iter(kept))) for source, kept in zip(sources, enough, strict=True)]
            enough = [{""} for _ in sources]
    shared = set.intersection(*enough)
    if not shared:
        first = [
            f"{source.name}: {_short(min(kept), 40) or 'no prompts'!r}"
            for source, kept in zip(sources, enough, strict=True)
        ]
        raise UsageError(
            f"no prompt is in all files ({'; '.join(first)}); name the column that holds the prompt with --prompt"
        )
    for source, kept in zip(sources, enough, strict=True):
        if more := len(kept - shared):
            notes.append(f"{source.name}: {more:,} of {len(kept):,} prompts are not in all files and are left out")
    return sources, [prompt for prompt in sources[0].counts if prompt in shared], notes


def _told_apart(sources: list[Samples]) -> list[Samples]:
    """Under the names of their files, without folders where these are not needed to tell them apart."""
    short = [source.name.rstrip("/").rsplit("/", 1)[-1] for source in sources]
    return [
        source._replace(name=name) if short.count(name) == 1 else source
        for source, name in zip(sources, short, strict=True)
    ]


def _renamed(source: Samples, prompt: str) -> Samples:
    texts, counts, kinds = source.texts[prompt], source.counts[prompt], source.kinds[prompt]
    return Samples(source.name, {"": texts}, {"": counts}, {"": kinds}, source.empty)


def _told(source: Samples, prompts: list[str], sizes: list[int], level: float) -> dict[str, Any]:
    counts = [source.counts[prompt] for prompt in prompts]
    found: Found = over_prompts(counts, level)
    texts = [source.texts[prompt] for prompt in prompts]
    return {
        "name": source.name,
        "is_reference": False,
        "samples": found.samples,
        "answers": found.answers,
        "coverage": found.coverage,
        "same": _plain(found.same),
        "effective": {str(order): _plain(each) for order, each in enumerate(found.effective)},
        "at_size": {str(order): _plain(at_sizes(counts, order, sizes, level)) for order in range(3)},
        "vendi_at_size": float(np.mean([_vendi(each, size) for each, size in zip(texts, sizes, strict=True)])),
        "most_frequent": _frequent(source, prompts),
    }


def _against(source: Samples, reference: Samples, prompts: list[str], level: float) -> dict[str, Any]:
    ours, theirs = ([side.counts[prompt] for prompt in prompts] for side in (source, reference))
    found = ratio(ours, theirs, level)
    told = {"ratio": _plain(Interval(found.value, found.low, found.high)), "p_value": found.p_value}
    # At equal coverage, for one prompt: sizes differ, and how much is said of what each would ever say is the same.
    least = min(_coverage(ours), _coverage(theirs))
    equal = []
    for side in (ours, theirs):
        sizes = [size_for_coverage(counts, least) for counts in side]
        equal.append({"samples": sum(sizes)} | {str(o): _plain(at_sizes(side, o, sizes, level)) for o in range(3)})
    told["at_coverage"] = {"coverage": least, "source": equal[0], "reference": equal[1]} if least >= 0.5 else None
    return told


def _coverage(counts: list[Counts]) -> float:
    """The least that is covered of any prompt, by one sample less than there is."""
    return min(coverage_at(x, int(x.sum()) - 1) for x in counts)


def _vendi(texts: list[str], size: int) -> float:
    """The Vendi score of ``size`` of the texts, drawn the same way each time."""
    chosen = np.random.default_rng(_SEED).permutation(len(texts))[:size]
    vectors = embed(*word_hashes(pa.array([texts[i] for i in chosen], pa.large_string()))).astype(np.int64)
    return vendi(vectors.T @ vectors)


def _frequent(source: Samples, prompts: list[str]) -> list[dict[str, Any]]:
    total = sum(int(source.counts[prompt].sum()) for prompt in prompts)
    rows = [
        (int(times), prompt, text)
        for prompt in prompts
        for times, text in zip(source.counts[prompt][:SHOWN], source.kinds[prompt][:SHOWN], strict=True)
    ]
    rows.sort(key=lambda row: -row[0])
    return [
        {"prompt": prompt, "times": times, "share": times / total, "text": _short(text, 300)}
        for times, prompt, text in rows[:SHOWN]
    ]


def _plain(found: Interval) -> dict[str, float | None]:
    """For JSON, which has no infinity: null is a limit, or a value, that nothing bounds."""
    return {name: value if math.isfinite(value) else None for name, value in found._asdict().items()}


def _short(text: str, length: int) -> str:
    line = " ".join(text.split())
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
    return line if len(line) <= length else line[: length - 1] + "…"


def _pairs(path: str, columns: Columns) -> Iterator[tuple[str, str]]:
    """(prompt, text) of each sample."""
    rows = _rows(path)
    first = next(rows, None)
    if first is None:
        raise JobError(f"{path}: is empty; expected one sample a row or line")
    text = _column(path, "text", columns.text, TEXTS, first[1])
    prompt = _column(path, "prompt", columns.prompt, PROMPTS, first[1])
    assert text is not None
    for place, row in _chained(first, rows):
        if text not in row:
            raise JobError(f"{path}: {place} has no {text!r}; it has {', '.join(map(repr, row)) or 'nothing'}")
        asked = "" if prompt is None else row.get(prompt)
        asked = asked if isinstance(asked, str) else json.dumps(asked, ensure_ascii=False, default=str)
        held = row[text]
        for answer in held if isinstance(held, list) else [held]:
            if answer is not None and not isinstance(answer, str):
                raise JobError(f"{path}: {place}: {text!r} holds {type(answer).__name__}, not text or a list of texts")
            yield asked, answer or ""


def _chained(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def _column(path: str, what: str, named: str | None, usual: Sequence[str], row: dict[str, Any]) -> str | None:
    found = next((name for name in (usual if named is None else named.split(",")) if name in row), None)
    if named is not None and found is None:
        raise UsageError(
            f"--{what} {named}: {path} has no such column; it has {', '.join(row) or 'none'}. Where files differ, give "
            "the names of all with commas"
        )
    if found is None and what == "text":
        raise UsageError(f"{path}: which column holds the answers? name one of {', '.join(row)} with --text")
    return found


def _rows(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where a row stands, and the row."""
    name = path.lower().removesuffix(".gz").removesuffix(".zst")
    try:
        if name.endswith((".parquet", ".pq")):
            yield from _parquet_rows(path)
            return
        with files.open_read(path) as stream:
            data = stream.read()
        if path.lower().endswith(".gz"):
            data = gzip.decompress(data)
        elif path.lower().endswith(".zst"):
            data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise JobError(f"{path}: byte {error.start:,} is not UTF-8; convert the file, as with iconv") from None
    except (OSError, pa.ArrowException, zstandard.ZstdError, EOFError) as error:
        raise JobError(f"{path}: cannot be read: {one_line(error)}") from None
    if name.endswith((".csv", ".tsv")):
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if name.endswith(".tsv") else ",")
        for row in reader:
            yield f"line {reader.line_num}", {key: value for key, value in row.items() if key is not None}
    elif name.endswith((".jsonl", ".ndjson", ".json")):
        yield from _json_rows(path, text)
    else:
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield f"line {number}", {"text": line}


def _parquet_rows(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    at = 0
    with files.open_read(path) as stream:
        for batch in pq.ParquetFile(stream).iter_batches(4096):
            for row in batch.to_pylist():
                yield f"row {at}", row
                at += 1


def _json_rows(path: str, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise JobError(f"{path}: line {number} is not JSON: {error.msg}; one object a line is read") from None
        if isinstance(row, str):
            row = {"text": row}
        if not isinstance(row, dict):
            raise JobError(f"{path}: line {number} is a JSON {type(row).__name__}; one object a line is read")
        yield f"line {number}", row
