"""A language model trained on its own output for ten generations: what the collapse panel says, and when.

    python -m benchmarks.recursion --text FOLDER ... --json recursion.json --svg docs/recursion.svg

--text: Parquet files with `text`, `label` and `language`; the human English texts are used. Generation 0 is trained on
human text, each later one on what its arm gives it:

- replace: the output of the last generation (Shumailov et al., Nature 631, 2024; the fully synthetic loop of
  Alemohammad et al. 2023);
- accumulate: all output so far and the human text (Gerstgrasser et al. 2024);
- anchored: the output of the last generation, of which a share gives way to a sample of the reserve, drawn anew each
  time. The reserve is human text that the first model has not seen.
- human: each generation is a first model on a fresh block of human text, which shows false alarms.

An arm may have a temperature: `replace@0.9`.
"""

from __future__ import annotations

import argparse
import json
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from benchmarks.recursion_model import Documents, Model, Structure, Vocabulary, joined, structure_of, train
from benchmarks.recursion_plot import plot, table
from benchmarks.recursion_watch import FIRST_MODELS, HUMAN_TEXT, Watch, first_alarms, worse_by
from pipelines.statistics.panel.state import state_of

DOSES = (0.05, 0.1, 0.2, 0.5, 0.8)
ARMS = ("human", "replace", *(f"anchored {dose:.0%}" for dose in reversed(DOSES)), "accumulate", "replace@0.9")
FIRST = 8  # models in the reference
FRESH = 9  # blocks of human text in the reserve, each of which a further first model may be trained on
HELD_OUT = 200_000  # words
ORDER, WORDS_PER_WEIGHT = 2, 400.0  # settled by perplexity alone: docs/recursion.md
_LONGEST = 500  # words; longer texts are cut into documents of so many


class Parts(NamedTuple):
    """What the human text of a seed is divided into; no document is in two of them."""

    held_out: Documents
    own: Documents  # on which the first model of all arms is trained
    others: list[Documents]  # on which those of the reference are
    reserve: list[Documents]


@dataclass(frozen=True)
class Setting:
    """What stays the same over the arms of a seed."""

    parts: Parts
    structure: Structure
    vocabulary: Vocabulary
    watch: Watch
    generations: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, nargs="+", help="folders of Parquet files")
    parser.add_argument("--plot", type=Path, nargs="+", help="run nothing: plot and tabulate these files of --json")
    parser.add_argument("--words", type=int, default=900_000, help="words and punctuation marks a generation")
    parser.add_argument("--generations", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--arms", nargs="+", default=ARMS, help=f"some of: {', '.join(ARMS)}; or with other figures")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--svg", type=Path, help="where the plot goes")
    options = parser.parse_args()
    if options.plot:
        runs = [run for path in options.plot for run in json.loads(path.read_text())]
    elif options.text:
        runs = run_all(options)
    else:
        parser.error("--text: folders of Parquet files with human text are needed")
    print(table(runs))
    if options.svg:
        options.svg.write_text(plot(runs))


def run_all(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All seeds and arms; --json is written after each arm, so that a run that is stopped leaves what it has."""
    texts = human_texts(options.text)
    vocabulary = Vocabulary.of(texts)
    documents = vocabulary.encode(texts)
    runs: list[dict[str, Any]] = []
    for seed in options.seeds:
        for one in experiment(documents, vocabulary, options, seed):
            runs.append(one)
            print(line(one), flush=True)
            if options.json:
                options.json.write_text(json.dumps(runs))
    return runs


def human_texts(folders: Sequence[Path]) -> list[str]:
    """The human English texts, each once, long ones in pieces; no texts with a tag of grammar beside each word."""
    found, seen = [], set()
    for path in (path for folder in folders for path in sorted(folder.glob("*.parquet"))):
        wanted = [("label", "=", "human"), ("language", "=", "en")]
        for text in pq.read_table(path, columns=["text"], filters=wanted)["text"].to_pylist():
            words = text.split()
            opening = " ".join(words[:30])
            if opening in seen or words.count("/") > len(words) / 20:
                continue
            seen.add(opening)
            found += [" ".join(words[at : at + _LONGEST]) for at in range(0, len(words), _LONGEST)]
    return found


def experiment(
    documents: Documents, vocabulary: Vocabulary, options: argparse.Namespace, seed: int
) -> Iterator[dict[str, Any]]:
    """The arms of one seed."""
    random = np.random.default_rng(seed)
    parts = split(documents, options.words, random)
    structure = structure_of(parts.reserve[0], len(vocabulary.words), ORDER, WORDS_PER_WEIGHT)
    first = [state_of(vocabulary.render(write(train(block, structure), block, random))) for block in parts.others]
    human = [state_of(vocabulary.render(block)) for block in parts.others]
    watch = Watch({FIRST_MODELS: first, HUMAN_TEXT: human})
    setting = Setting(parts, structure, vocabulary, watch, options.generations)
    for arm in options.arms:
        # Each arm has its own random numbers: which others are run, and in what order, changes none of them.
        own = np.random.default_rng([seed, zlib.crc32(arm.encode())])
        yield {"seed": seed, "words": options.words} | one_arm(arm, setting, own)


def one_arm(arm: str, setting: Setting, random: np.random.Generator) -> dict[str, Any]:
    """Perplexity and measures of all generations of an arm."""
    begun = time.perf_counter()
    name, _, temperature = arm.partition("@")
    parts, steps = setting.parts, setting.generations + 1
    steps = min(steps, 1 + len(parts.reserve)) if name == "human" else steps
    states, perplexity = [], []
    outputs: list[Documents] = []
    for _ in range(steps):
        model = train(diet(name, parts, outputs, random), setting.structure)
        perplexity.append(model.perplexity(parts.held_out))
        outputs.append(write(model, parts.own, random, float(temperature or 1)))
        states.append(state_of(setting.vocabulary.render(outputs[-1])))
    about = {"arm": name, "temperature": float(temperature or 1), "perplexity": perplexity}
    return about | setting.watch.over(states) | {"seconds": time.perf_counter() - begun}


def split(documents: Documents, words: int, random: np.random.Generator) -> Parts:
    """Blocks of so many words, documents drawn at random."""
    order = random.permutation(len(documents.lengths))
    ends = np.cumsum(documents.lengths[order])
    needed = HELD_OUT + words * (1 + FIRST + FRESH)
    if needed > ends[-1]:
        raise SystemExit(f"--text: {ends[-1]:,} words of human English; {needed:,} are needed. Lower --words.")
    cuts = np.searchsorted(ends, [HELD_OUT + words * k for k in range(2 + FIRST + FRESH)])
    held_out, own, *blocks = (documents.take(part) for part in np.split(order, cuts)[:-1])
    return Parts(held_out, own, blocks[:FIRST], blocks[FIRST:])


def write(model: Model, like: Documents, random: np.random.Generator, temperature: float = 1.0) -> Documents:
    """As many documents as these, and of such lengths."""
    return model.sample(random.choice(like.lengths, len(like.lengths)), random, temperature)


def diet(arm: str, parts: Parts, outputs: Sequence[Documents], random: np.random.Generator) -> Documents:
    """What the next generation is trained on."""
    if not outputs:
        return parts.own
    if arm == "human":
        return parts.reserve[len(outputs) - 1]
    if arm == "replace":
        return outputs[-1]
    if arm == "accumulate":
        return joined([parts.own, *outputs])
    dose = float(arm.removeprefix("anchored ").removesuffix("%")) / 100
    words = len(parts.own.words)
    anchor = some(joined(parts.reserve), round(dose * words), random)
    return joined([some(outputs[-1], words - len(anchor.words), random), anchor])


def some(documents: Documents, words: int, random: np.random.Generator) -> Documents:
    """Documents drawn at random without replacement, up to so many words."""
    order = random.permutation(len(documents.lengths))
    return documents.take(order[: np.searchsorted(np.cumsum(documents.lengths[order]), words, side="right")])


def line(run: dict[str, Any]) -> str:
    """A run in one line."""
    alarms = "; ".join(f"{against}: {found}" for against, found in first_alarms(run).items())
    perplexity = " ".join(f"{p:.0f}" for p in run["perplexity"])
    head = f"seed {run['seed']} {run['arm']} T={run['temperature']} ({run['seconds']:.0f} s)"
    return f"{head}: perplexity {perplexity}, worse by 5 % at {worse_by(run)}; alarms {alarms}"


if __name__ == "__main__":
    main()
