"""How much marked text is found, by its length and by what the web did to it.

    python -m benchmarks.local_model --text ../shared/text --output DIR
    python -m benchmarks.watermark_recall --model DIR --text ../shared/text --cache texts/

A local model continues held-out human texts under the publicly known key of each scheme: with ``generate`` and its
``watermarking_config`` where `transformers` has the scheme, else with the processors of :mod:`watermark.generate`. The
longest texts are generated once and cut. What is scanned is text, tokenised again, never the sampled ids.

A cell holds the share of texts (in per cent) with a p-value of at most 10^-3, 10^-6 and 10^-10, and the median of
log10 p. The p-values are those of `Scanner.scan`: corrected for the stretches that were looked at, for no number of
documents or keys. The first column says how many tokens counted, since a repeated (seed, token) pair counts once.

How well a mark is found depends on the entropy of what was sampled, so it is printed: the mean over the positions of
the unmarked texts, at the temperature that was sampled at.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import yaml

from benchmarks.local_model import human_texts
from benchmarks.watermark_changes import Change, Human, edited, half, through_the_web
from watermark.generate import Marked, Options, load_model, mark
from watermark.registry import load_registry
from watermark.scan import Scanner

LENGTHS = (50, 100, 200, 400, 800)
LEVELS = (1e-3, 1e-6, 1e-10)
AROUND = 4  # the human text around a marked paragraph is so many times as long
PROMPT = 24  # tokens of a human text that the model continues


class Writing(NamedTuple):
    """One table: a public key, the strength that green tokens get, and how much of what is asked for to generate."""

    use: str
    strength: float | None = None
    share: float = 1.0  # of the texts
    longest: int = LENGTHS[-1]  # tokens

    @property
    def name(self) -> str:
        """For people."""
        return self.use.removeprefix("kgw-") + (f", δ = {self.strength:g}" if self.strength else "")


# The processors of `transformers` for SynthID and self-hash take 20 to 60 ms a token, most others 1 to 5.
WRITINGS = (
    Writing("kgw-transformers-lefthash", 2.0),
    Writing("kgw-transformers-lefthash", 1.0),
    Writing("kgw-lm-watermarking-minhash", 2.0),
    Writing("kgw-lm-watermarking-minhash", 1.0),
    Writing("unigram-default", 2.0),
    Writing("unigram-default", 1.0),
    Writing("exponential-three-bricks-default"),
    Writing("exponential-textseal-default"),
    Writing("synthid-deepmind-default", share=0.4),
    Writing("synthid-transformers-example", share=0.2, longest=400),
    Writing("kgw-transformers-selfhash", 2.0, share=0.2, longest=400),
    Writing("kgw-transformers-selfhash", 1.0, share=0.2, longest=400),
)


@dataclass(frozen=True)
class Writer:
    """A model that writes under public keys, and where its texts are kept.

    Attributes:
        folder: of the model.
        cache: folder for the texts; the same settings are not generated twice.
        model: the causal language model.
        tokenizer: its tokenizer.
    """

    folder: Path
    cache: Path
    model: Any
    tokenizer: Any

    @classmethod
    def load(cls, folder: Path, cache: Path) -> Writer:
        """Out of a folder; makes the cache where there is none."""
        cache.mkdir(parents=True, exist_ok=True)
        return cls(folder, cache, *load_model(folder))

    def scanner(self, *uses: str) -> Scanner:
        """A scanner for public keys with the model's tokenizer."""
        entries = [
            {"use": use, "tokenizer": str(self.folder.resolve()), "vocab_size": self.model.config.vocab_size}
            for use in uses
        ]
        with TemporaryDirectory() as folder:
            path = Path(folder, "registry.yaml")
            path.write_text(yaml.safe_dump({"keys": entries}), "utf-8")
            return Scanner(load_registry(str(path)))

    def texts(self, use: str | None, prompts: Sequence[list[int]], options: Options) -> list[Marked]:
        """Continuations of prompts, marked by a public key or by none; out of the cache where it has them."""
        weights = hashlib.sha256((self.folder / "model.safetensors").read_bytes()).hexdigest()
        settings = json.dumps([weights, use, prompts, asdict(options)], sort_keys=True)
        path = self.cache / f"{use or 'unmarked'}-{hashlib.sha256(settings.encode()).hexdigest()[:16]}.json"
        if not path.exists():
            began = time.monotonic()
            key = self.scanner(use).marks[0].key if use else None
            made = mark(prompts, self.model, self.tokenizer, key, options)
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(made), "utf-8")
            partial.replace(path)
            print(f"{path.name}: {len(made)} texts in {time.monotonic() - began:.0f} s", flush=True)
        return [Marked(text, tokens) for text, tokens in json.loads(path.read_text("utf-8"))]

    def prompts(self, texts: Sequence[str], count: int) -> list[list[int]]:
        """The first tokens of human texts that are long enough."""
        made = []
        for text in texts:
            ids = self.tokenizer(text[:2000])["input_ids"][:PROMPT]
            if len(ids) == PROMPT:
                made.append(ids)
            if len(made) == count:
                return made
        raise ValueError(f"only {len(made)} of {len(texts)} texts are long enough for {count} prompts")

    def decode(self, tokens: Sequence[int]) -> str:
        """Tokens to text."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def entropy(self, prompts: Sequence[list[int]], texts: Sequence[Marked], temperature: float) -> float:
        """Mean entropy in nats of what each token of some texts was sampled from."""
        total = count = 0.0
        for prompt, text in zip(prompts, texts, strict=True):
            with torch.no_grad():
                logits = self.model(input_ids=torch.tensor([prompt + text.tokens])).logits[0, len(prompt) - 1 : -1]
            log_p = torch.log_softmax(logits.float() / temperature, dim=-1)
            total -= (log_p.exp() * log_p).sum().item()
            count += len(log_p)
        return total / count


def scanned(scanner: Scanner, texts: Sequence[str]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """log10 p of the scan, and the tokens that counted, of the first key."""
    found = scanner.scan(texts)
    return found.log_p[:, 0] / math.log(10), found.scored[:, 0]


def whole(scanner: Scanner, texts: Sequence[str]) -> npt.NDArray[np.float64]:
    """log10 p of whole texts, without a look at their stretches."""
    tally = scanner.tallies(texts)
    variant = scanner.marks[0].variant
    return variant.scheme.log_p_value(tally.statistic, tally.scored, [scanner.marks[0].key])[:, 0] / math.log(10)


def cell(log10_p: npt.NDArray[np.float64]) -> str:
    """Recall at each level in per cent, and the median."""
    shares = " / ".join(f"{100 * np.mean(log10_p <= math.log10(level)):.0f}" for level in LEVELS)
    return f"{shares} ({np.median(log10_p):.1f})"


COLUMNS = ("tokens", "scored", "clean", "10 % edited", "half", "web", "in a page", "the page, unscanned")


def _characters(writer: Writer, human: Human, tokens: int) -> int:
    """How many characters of human text are :data:`AROUND` times so many tokens."""
    some = human.text[:100_000]
    return round(AROUND * tokens * len(some) / len(writer.tokenizer(some)["input_ids"]))


def rows(scanner: Scanner, writer: Writer, human: Human, marked: Sequence[Marked], seed: int) -> list[list[str]]:
    """The rows of one key, one for each length."""
    table = []
    for length in (length for length in LENGTHS if length <= len(marked[0].tokens)):
        texts = [writer.decode(text.tokens[:length]) for text in marked]
        changes: list[Change] = [
            edited(human.words),
            half,
            through_the_web,
            human.around(_characters(writer, human, length)),
        ]
        log10_p, scored = scanned(scanner, texts)
        cells = [str(length), f"{np.median(scored):.0f}", cell(log10_p)]
        for change in changes:
            random = np.random.default_rng(seed)
            changed = [change(text, random) for text in texts]
            cells.append(cell(scanned(scanner, changed)[0]))
        table.append([*cells, cell(whole(scanner, changed))])
    return table


def print_table(title: str, columns: Sequence[str], table: Sequence[Sequence[str]]) -> None:
    """As Markdown."""
    print(f"\n{title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for line in table:
        print(f"| {' | '.join(line)} |", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of a causal language model")
    parser.add_argument("--text", type=Path, required=True, help="folder of Parquet files with text, label, language")
    parser.add_argument("--cache", type=Path, required=True, help="folder in which generated texts are kept")
    parser.add_argument("--texts", type=int, default=12, help="to a scheme; slow processors write a part of them")
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--only", default="", help="schemes whose name contains this")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)

    writer = Writer.load(options.model, options.cache)
    trained_on, held_out = human_texts(options.text)
    prompts = writer.prompts(held_out, options.texts)
    # Pages are cut from text that the model was trained on: what is unmarked in them is human all the same.
    human = Human.of(trained_on[:2000])
    longest = max(LENGTHS)
    sampling = Options(
        max_new_tokens=longest,
        min_new_tokens=longest,
        temperature=options.temperature,
        seed=options.seed,
        batch=options.texts,
    )
    plain = writer.texts(None, prompts, sampling)
    entropy = writer.entropy(prompts, plain, options.temperature)
    print(f"temperature {options.temperature:g}: {entropy:.2f} nats of entropy a token")
    for writing in (writing for writing in WRITINGS if options.only in writing.name):
        some = prompts[: max(2, round(writing.share * len(prompts)))]
        much = replace(sampling, max_new_tokens=writing.longest, min_new_tokens=writing.longest)
        marked = writer.texts(writing.use, some, replace(much, strength=writing.strength or 0.0))
        table = rows(writer.scanner(writing.use), writer, human, marked, options.seed)
        print_table(f"{writing.name}; {len(some)} texts, {entropy:.2f} nats a token", COLUMNS, table)


if __name__ == "__main__":
    main()
