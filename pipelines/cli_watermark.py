"""`reserve watermark`: list, keygen, mark, detect, fit. As thin as :mod:`pipelines.cli`, of which it is a part."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from pipelines.errors import UsageError

Add = Callable[..., argparse.ArgumentParser]

_EPILOG = """\
examples:
  reserve watermark list                                    the public keys that the package carries
  reserve watermark list keys.yaml                          the keys of a registry, checked
  reserve watermark keygen newsroom --registry keys.yaml --scheme kgw --variant transformers \\
          --tokenizer /models/llama --vocab-size 128256     a new key, in a file that only you can read
  reserve watermark mark keys.yaml --key newsroom --model /models/llama --prompt 'The harbour'
  reserve watermark detect keys.yaml articles.jsonl         which texts are marked
  reserve watermark fit keys.yaml --text old.parquet        what each key does on human text
  reserve run --input 'crawl/*.warc.gz' --set watermarks.registry=keys.yaml
"""


def add_watermark(commands: Any, command: Add) -> None:
    """Adds the command; ``command`` makes a subcommand as :mod:`pipelines.cli` makes its own."""
    parser = command(
        commands, "watermark", None, "make keys, mark text with them, and find marked text", epilog=_EPILOG
    )
    inner = parser.add_subparsers(metavar="ACTION", required=True)
    _add_list(inner, command)
    _add_keygen(inner, command)
    _add_mark(inner, command)
    _add_detect(inner, command)
    _add_fit(inner, command)


def _registry(parser: argparse.ArgumentParser, **more: Any) -> None:
    parser.add_argument("registry", metavar="REGISTRY.yaml", help="the keys to look for", **more)


def _add_list(commands: Any, command: Add) -> None:
    parser = command(commands, "list", _list, "show the keys of a registry, or the public keys of the package")
    _registry(parser, nargs="?")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _list(options: argparse.Namespace) -> int:
    from pipelines.marks.commands import public_rows, registry_rows

    rows = registry_rows(options.registry) if options.registry else public_rows()
    if options.json:
        print(json.dumps(rows, indent=2))
    elif options.registry:
        head = ("id", "scheme", "variant", "tokenizer", "vocab_size", "min_tokens", "key_hash")
        table = [[str(row[name]) for name in head] + [_null_words(row)] for row in rows]
        print(_table([*head, "null"], table))
    else:
        table = [[row["id"], row["scheme"], row["variant"], _settings(row["parameters"])] for row in rows]
        print(_table(["id", "scheme", "variant", "parameters"], table))
        print("\nUse one in a registry: `- use: ID` with an id, a tokenizer and a vocab_size of your own.")
    return 0


def _null_words(row: dict[str, Any]) -> str:
    return f"measured on {row['null_documents']:,} texts" if row["null_measured"] else "not measured"


def _settings(values: dict[str, Any] | None) -> str:
    return ", ".join(f"{name} {value}" for name, value in (values or {}).items())


def _add_keygen(commands: Any, command: Add) -> None:
    parser = command(commands, "keygen", _keygen, "make a new random key and its registry entry")
    parser.add_argument("id", metavar="ID", help="name of the key: letters, digits, . _ -")
    parser.add_argument("--scheme", required=True, help="kgw, unigram, synthid or exponential")
    parser.add_argument("--variant", required=True, help="which program's marks: see `reserve watermark list`")
    parser.add_argument("--tokenizer", required=True, help="tokenizer.json, a folder that holds one, or a hub name")
    parser.add_argument("--vocab-size", required=True, type=int, metavar="N", help="of the model's output layer")
    parser.add_argument(
        "--parameter", action="append", default=[], metavar="NAME=VALUE", help="such as seeding=selfhash or gamma=0.25"
    )
    parser.add_argument("--depth", type=int, metavar="N", help="of a SynthID key (default: 30)")
    parser.add_argument("--registry", metavar="FILE", help="registry to append to, made where there is none")


def _keygen(options: argparse.Namespace) -> int:
    from pydantic import ValidationError

    from watermark.keys import DEPTH, keygen
    from watermark.registry import Entry, RegistryError

    parameters = dict(_parameter(item) for item in options.parameter)
    try:
        entry = Entry(
            id=options.id,
            scheme=options.scheme,
            variant=options.variant,
            tokenizer=options.tokenizer,
            vocab_size=options.vocab_size,
            parameters=parameters,
        )
        made = keygen(entry, options.registry, depth=options.depth or DEPTH)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None
    except RegistryError as error:
        raise UsageError(str(error)) from None
    if options.registry:
        print(f"key       {made.key_file}  (keep it secret; only you can read it)")
        print(f"registry  {options.registry}")
        print(f"key_hash  {made.key_hash}")
    else:
        print(made.yaml, end="")
    return 0


def _parameter(item: str) -> tuple[str, Any]:
    name, equals, value = item.partition("=")
    if not equals or not name:
        raise UsageError(f"--parameter {item}: write it as name=value")
    return name, yaml.safe_load(value)


def _add_mark(commands: Any, command: Add) -> None:
    parser = command(commands, "mark", _mark, "write marked text with a causal language model (needs the torch extra)")
    _registry(parser)
    parser.add_argument("--key", required=True, metavar="ID", help="which key of the registry")
    parser.add_argument("--model", required=True, metavar="PATH", help="folder or hub name of a causal language model")
    parser.add_argument("--prompt", action="append", default=[], metavar="TEXT", help="a text to continue")
    parser.add_argument("--prompts", metavar="FILE", help="prompts, one a line; '-' for standard input")
    parser.add_argument("--tokens", type=int, default=200, metavar="N", help="new tokens at most (default: 200)")
    parser.add_argument("--strength", type=float, default=2.0, help="what green tokens gain, in logits (default: 2)")
    parser.add_argument("--temperature", type=float, default=1.0, help="of the sampling (default: 1)")
    parser.add_argument("--top-k", type=int, default=0, metavar="K", help="sample from the K likeliest (default: all)")
    parser.add_argument("--top-p", type=float, default=1.0, metavar="P", help="nucleus of the sampling (default: 1)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the sampling (default: 0)")


def _mark(options: argparse.Namespace) -> int:
    from pipelines.marks.commands import open_registry

    marks = {mark.entry.id: mark for mark in open_registry(options.registry).marks}
    if options.key not in marks:
        raise UsageError(f"--key {options.key}: not in {options.registry}, which has {', '.join(marks)}")
    prompts = options.prompt + (_lines(options.prompts) if options.prompts else [])
    if not prompts:
        raise UsageError("give a text to continue: --prompt TEXT, or --prompts FILE")
    try:
        from watermark.generate import Options, load_model, mark
    except ImportError as error:
        raise UsageError(str(error)) from None
    try:
        how = Options(
            max_new_tokens=options.tokens,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            strength=options.strength,
            seed=options.seed,
        )
        model, tokenizer = load_model(options.model)
        written = mark(prompts, model, tokenizer, marks[options.key].key, how)
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from None
    for prompt, text in zip(prompts, written, strict=True):
        print(json.dumps({"prompt": prompt, "text": text.text, "key": options.key}, ensure_ascii=False))
    return 0


def _lines(path: str) -> list[str]:
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(f"--prompts {path}: {reason}") from None
    return [line for line in text.splitlines() if line.strip()]


def _add_detect(commands: Any, command: Add) -> None:
    parser = command(commands, "detect", _detect, "test texts for all keys of a registry")
    _registry(parser)
    parser.add_argument("files", nargs="+", metavar="FILE", help="Parquet, JSON lines, or plain text: one text a file")
    parser.add_argument("--text", default="text", metavar="COLUMN", help="column that holds the text (default: text)")
    parser.add_argument("--level", type=float, default=0.01, help="false discovery rate over all texts (default: 0.01)")
    parser.add_argument("--found", action="store_true", help="print only the texts that were found")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")


def _detect(options: argparse.Namespace) -> int:
    from pipelines.marks.commands import detect

    if not 0 < options.level < 1:
        raise UsageError(f"--level {options.level}: a rate lies between 0 and 1")
    results = list(detect(options.registry, options.files, options.text, options.level))
    shown = [result for result in results if result.found or not options.found]
    if options.json:
        for result in shown:
            print(json.dumps(result._asdict(), ensure_ascii=False))
    elif shown:
        head = ["text", "found", "key", "tokens", "log10 p", "log10 e", "most telling"]
        print(_table(head, [_cells(result) for result in shown]))
    found = sum(result.found for result in results)
    print(f"{found:,} of {len(results):,} texts marked, at a rate of {options.level:g}", file=sys.stderr)
    return 0


def _cells(result: Any) -> list[str]:
    where = f"tokens {result.stretch[0]} to {result.stretch[1]}" if result.stretch else "the whole"
    if not result.key:
        return [result.name, "too short", "", str(result.tokens), "", "", ""]
    numbers = [str(result.tokens), f"{result.log10_p:.1f}", f"{result.log10_e:.1f}"]
    return [result.name, "yes" if result.found else "no", result.key, *numbers, where]


def _add_fit(commands: Any, command: Add) -> None:
    parser = command(commands, "fit", _fit, "measure what each key does on text that is known to be human")
    _registry(parser)
    parser.add_argument("--text", required=True, nargs="+", metavar="FILE", help="Parquet, JSON lines, or plain text")
    parser.add_argument("--column", default="text", metavar="NAME", help="column that holds the text (default: text)")
    parser.add_argument(
        "--where", action="append", default=[], metavar="COLUMN=VALUE", help="only such rows, as verdict=dated"
    )
    parser.add_argument("--output", metavar="FILE", help="default: what the registry names, or REGISTRY.nulls.json")


def _fit(options: argparse.Namespace) -> int:
    from pipelines.marks.commands import fit, nulls_file

    fitted = fit(options.registry, options.text, options.column, options.where, options.output)
    head = ["key", "texts", "p ≤ 0.01 before", "leaning per token", "tail rate"]
    rows = [
        [row.id, f"{row.documents:,}", f"{100 * row.exact_rate:.2f} %", f"{row.shift:.5f}", f"{row.rate:.2f}"]
        for row in fitted
    ]
    print(_table(head, rows))
    print(f"\nnulls  {nulls_file(options.registry, options.output)}")
    return 0


def _table(head: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]]
    return "\n".join(line.rstrip() for line in lines)
