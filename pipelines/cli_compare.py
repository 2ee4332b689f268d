"""`reserve compare`: a part of :mod:`pipelines.cli`, and as thin."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from pipelines.errors import UsageError

Add = Callable[..., argparse.ArgumentParser]

_EPILOG = """\
examples:
  reserve compare --samples jokes.jsonl --reference people.jsonl      is a model's answer always the same?
  reserve compare --samples old.jsonl new.jsonl --prompt question     two models side by side, over many prompts
  reserve compare --samples answers.txt                               one answer a line, one prompt
  reserve compare out 'crawl-2019/*.warc.gz'                          a reserve against an older crawl
  reserve compare new.parquet old.parquet --language de               B is the reference

Samples: JSONL, Parquet, CSV, TSV (also .gz, .zst) or plain text. Corpora: the folder of a finished run (its reserve),
or shards as in 'run'; quote globs.
"""


def add_compare(commands: Any, command: Add) -> None:
    """Adds the command; ``command`` makes one as :mod:`pipelines.cli` makes its own."""
    parser = command(
        commands,
        "compare",
        _compare,
        "compare the variety of two corpora, or of a model's repeated answers with those of people",
        epilog=_EPILOG,
    )
    parser.add_argument("corpora", nargs="*", metavar="CORPUS", help="A, and B as its reference")
    parser.add_argument("--samples", nargs="+", metavar="FILE", help="repeated samples per prompt, a file a model")
    parser.add_argument("--reference", metavar="FILE", help="answers of people to the same prompts")
    parser.add_argument(
        "--prompt", metavar="COLUMN", help="column that holds the prompt (default: prompt, question, …)"
    )
    parser.add_argument("--text", metavar="COLUMN", help="column that holds the answer (default: text, answer, …)")
    parser.add_argument(
        "--exact", action="store_true", help="only the same words are the same answer; near-duplicates are not"
    )
    parser.add_argument("--language", metavar="CODE", help="of the documents to compare, ISO 639-1 (default: en)")
    parser.add_argument("--level", type=float, default=0.95, metavar="L", help="of the intervals (default: 0.95)")
    parser.add_argument("--output", metavar="DIR", help="folder for compare.json and compare.txt")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def _compare(options: argparse.Namespace) -> int:
    if not 0.5 <= options.level < 1:
        raise UsageError(f"--level {options.level}: must be at least 0.5 and less than 1, as 0.95")
    if options.output is not None:
        _writable(options.output)
    result, text = _of_samples(options) if options.samples else _of_corpora(options)
    told = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    if options.output is not None:
        _write(options.output, told, text)
    print(told if options.json else text)
    return 0


def _of_samples(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from pipelines.compare_samples import Columns, Settings, compare_samples
    from pipelines.compare_text import render_samples

    if options.corpora:
        raise UsageError(
            f"{options.corpora[0]}: with --samples, name every file behind it, and people's by --reference"
        )
    if options.language:
        raise UsageError("--language: is for corpora; samples are compared whatever their language")
    columns = Columns(options.text, options.prompt)
    result = compare_samples(
        options.samples, options.reference, columns, Settings(near=not options.exact, level=options.level)
    )
    return result, render_samples(result)


def _of_corpora(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from pipelines.compare import compare_corpora
    from pipelines.compare_text import render_corpora

    for name in ("reference", "prompt", "text", "exact"):
        if getattr(options, name):
            raise UsageError(f"--{name}: only goes with --samples FILE; corpora are named as A B")
    if len(options.corpora) != 2:
        raise UsageError(
            f"compare takes two corpora, A B, or --samples FILE; corpora given: {len(options.corpora)} (quote globs)"
        )
    a, b = options.corpora
    result = compare_corpora(a, b, options.language or "en", options.level)
    return result, render_corpora(result)


def _writable(folder: str) -> None:
    from pipelines import files

    if not files.is_local(folder):
        raise UsageError(f"--output {folder}: name a folder on this machine")


def _write(folder: str, told: str, text: str) -> None:
    from pathlib import Path

    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, content in (("compare.json", told), ("compare.txt", text)):
            Path(folder, name).write_text(content + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--output {folder}: cannot be written: {error.strerror}") from None
