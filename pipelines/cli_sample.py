"""`reserve sample`: a part of :mod:`pipelines.cli`, and as thin."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.errors import UsageError

Add = Callable[..., argparse.ArgumentParser]

_SUFFIXES = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9, "t": 10**12}
_SPREAD = 0.05  # of the tokens asked for: beyond it the user is told

_EPILOG = """\
examples:
  reserve sample out --n 1000                                             every document as likely as any other
  reserve sample out --tokens 5M --stratify month,host,language --seed 7  spread over months, hosts and languages
  reserve sample out --n 1000 --stratify language --allocation equal      small languages as much as large ones
  reserve sample out --tokens 5M --share 0.1 --epochs 3 --corpus-tokens 40M   with a plan for mixing it in
  reserve sample anchor --check --key reserve.vkey                        is a sample what was sealed?

The folder holds sample.parquet, proofs.jsonl, checkpoint and plan.json.
"""


def add_sample(commands: Any, command: Add) -> None:
    """Adds the command; ``command`` makes one as :mod:`pipelines.cli` makes its own."""
    parser = command(
        commands, "sample", _sample, "draw an anchor sample to mix into training data, with proofs", epilog=_EPILOG
    )
    parser.add_argument("output", metavar="OUT", help="the folder of a finished run; with --check, of a sample")
    much = parser.add_mutually_exclusive_group()
    much.add_argument("--n", type=_number, metavar="N", help="documents to draw (10k and the like will do)")
    much.add_argument("--tokens", type=_number, metavar="T", help="tokens to draw, on average over all seeds")
    parser.add_argument("--tokenizer", metavar="FILE", help="tokenizer.json that counts tokens (default: words)")
    parser.add_argument(
        "--stratify", type=_list, default=[], metavar="NAME,...", help="month, year, host, language, verdict"
    )
    parser.add_argument(
        "--allocation",
        metavar="HOW",
        help="how strata share the sample: proportional (to size; default), equal, sqrt (to its square root)",
    )
    parser.add_argument("--seed", metavar="S", help="any text; another one draws another sample (default: 0)")
    parser.add_argument("--verdicts", type=_list, default=[], metavar="NAME,...", help="only these, as dated,clear")
    parser.add_argument("--until", metavar="DATE", help="only captured in this year, month or day, or before")
    parser.add_argument("--longest", type=_number, metavar="T", help="leave out documents of more tokens than this")
    parser.add_argument("--output", dest="folder", metavar="DIR", help="folder to write (default: anchor)")
    parser.add_argument("--share", type=float, metavar="S", help="of the anchor among all tokens of an epoch, as 0.1")
    parser.add_argument("--epochs", type=int, metavar="E", help="of the training (default: 1)")
    parser.add_argument("--corpus-tokens", type=_number, metavar="X", help="tokens of the rest of an epoch")
    parser.add_argument("--key", action="append", default=[], metavar="PUB", help="public key that must have signed")
    parser.add_argument("--unsealed", action="store_true", help="draw without looking at the seal: nothing is proved")
    parser.add_argument("--check", action="store_true", help="check a sample, without the output it was drawn from")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def _number(text: str) -> int:
    found = re.fullmatch(r"([0-9][0-9_,]*)(\.[0-9]+)?([kmbgt]?)", text.strip().lower())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no number; 5000, 5_000 and 5k are")
    whole, part, suffix = found.groups()
    digits = whole.replace("_", "").replace(",", "")
    value = int(digits) * _SUFFIXES[suffix]
    return value + round(float(part) * _SUFFIXES[suffix]) if part else value


def _list(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _sample(options: argparse.Namespace) -> int:
    from pipelines.reserve.keys import read_verifier

    keys = [read_verifier(Path(key)) for key in options.key]
    return _check(options, keys) if options.check else _draw(options, keys)


def _check(options: argparse.Namespace, keys: list[Any]) -> int:
    from pipelines.reserve.sample_check import check_sample

    foreign = [name for name in ("n", "tokens", "stratify", "seed", "unsealed") if getattr(options, name)]
    if foreign:
        raise UsageError(f"--check: looks at a sample that is there, and takes no --{foreign[0]}")
    found = check_sample(options.output, keys)
    if options.json:
        log = {"origin": found.checkpoint.origin, "size": found.checkpoint.size, "root": found.checkpoint.root.hex()}
        print(json.dumps({"documents": found.documents, **log, "signed_by": [str(key) for key in keys]}))
        return 0
    print(f"{options.output}: {found.documents:,} documents, each as it was sealed")
    print(
        f"log         {found.checkpoint.origin}, {found.checkpoint.size:,} entries, root {found.checkpoint.root.hex()}"
    )
    for key in keys:
        print(f"signed by   {key}")
    if not keys:
        print("            whose log that is has not been checked: give --key to know")
    return 0


def _draw(options: argparse.Namespace, keys: list[Any]) -> int:
    from pipelines.reserve.allocation import Allocation
    from pipelines.reserve.frame import Choice, token_counter
    from pipelines.reserve.sample import Request, sample

    how = options.allocation or Allocation.PROPORTIONAL.value
    if how not in set(Allocation):
        raise UsageError(f"--allocation {how}: one of {', '.join(Allocation)}")
    if options.unsealed and keys:
        raise UsageError("--key: with --unsealed no signature is looked at; leave one of them away")
    request = Request(
        documents=options.n,
        tokens=options.tokens,
        stratify=tuple(options.stratify),
        allocation=Allocation(how),
        seed=options.seed if options.seed is not None else "0",
        choice=Choice(tuple(options.verdicts), options.until, options.longest),
        counter=token_counter(options.tokenizer) if options.tokenizer else None,
        sealed=not options.unsealed,
        mixing=_mixing(options),
    )
    folder = options.folder or "anchor"
    plan = sample(options.output, request, folder, keys)
    print(json.dumps(plan, indent=2, ensure_ascii=False) if options.json else _told(folder, plan))
    for warning in (*_spread(plan), *(plan["mixing"] or {}).get("warnings", [])):
        print(f"reserve: warning: {warning}", file=sys.stderr)
    return 0


def _mixing(options: argparse.Namespace) -> tuple[float, int, int | None] | None:
    if options.share is None:
        for name in ("epochs", "corpus_tokens"):
            if getattr(options, name) is not None:
                raise UsageError(
                    f"--{name.replace('_', '-')}: a plan for mixing needs --share as well, as in --share 0.1"
                )
        return None
    return options.share, 1 if options.epochs is None else options.epochs, options.corpus_tokens


def _told(folder: str, plan: dict[str, Any]) -> str:
    drawn, population, unit = plan["sample"], plan["population"], plan["token"]["unit"]
    asked = plan["asked"]["tokens"]
    aim = f"; asked: {asked:,}, give or take {drawn['tokens_spread']:,.0f} by seed" if asked else ""
    lines = [
        f"sample      {folder}: {drawn['documents']:,} of {population['documents']:,} documents",
        f"{unit:<12}{drawn['tokens']:,}{aim}",
        f"            {plan['token']['meaning']}",
        f"seed        {plan['seed']}",
    ]
    if plan["stratify"]:
        names, strata = ", ".join(plan["stratify"]), population["strata"]
        lines.append(f"strata      {strata:,} of {names}, {plan['allocation']}; {drawn['strata']:,} gave documents")
    lines += _proved(plan["seal"])
    if plan["mixing"]:
        lines += _mixed(plan["mixing"], unit)
    return "\n".join(lines)


def _proved(seal: dict[str, Any] | None) -> list[str]:
    if seal is None:
        return ["proofs      none: drawn without a seal, nothing shows where these documents come from"]
    lines = [
        "proofs      each document is in the log as it stands here",
        f"log         {seal['origin']}, {seal['size']:,} entries, root {seal['root']}",
    ]
    if not seal["signed_by"]:
        return [*lines, "signed by   nobody: it shows damage and change, and not who made it"]
    lines += [f"signed by   {key}" for key in seal["signed_by"]]
    return (
        lines
        if seal["key_given"]
        else [*lines, "            with keys from the archive itself: give --key to know whose they are"]
    )


def _spread(plan: dict[str, Any]) -> list[str]:
    asked, spread = plan["asked"]["tokens"], plan["sample"]["tokens_spread"]
    if not asked or spread < _SPREAD * asked or plan["longest"]:
        return []
    return [
        f"samples of {asked:,} {plan['token']['unit']} differ by {spread / asked:.0%} from seed to seed: the sample "
        "is small, or a few documents are very long, which --longest leaves out"
    ]


def _mixed(plan: dict[str, Any], unit: str) -> list[str]:
    epochs = f"{plan['epochs']} epoch{'s' if plan['epochs'] > 1 else ''}"
    lines = [""]
    if plan["corpus_tokens"] is None:
        lines.append(f"mixing      {plan['share']:.1%} of an epoch, {epochs}")
    else:
        lines.append(
            f"mixing      {plan['share']:.1%} of an epoch: {plan['anchor_tokens_per_epoch']:,} {unit} beside "
            f"{plan['corpus_tokens']:,}"
        )
        lines.append(
            f"repeats     each document {plan['passes_per_epoch']:.2f} times an epoch, {plan['passes']:.2f} times in "
            f"{epochs}"
        )
    lines.append(
        f"at most     {plan['largest_corpus_tokens']:,} {unit} of other text, or documents come more than 4 times"
    )
    lines.append("            (Muennighoff et al. 2023; plan.json has what is known of shares: none is proved enough)")
    return lines
