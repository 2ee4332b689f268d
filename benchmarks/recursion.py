"""A language model trained on its own output for ten generations: what the collapse panel says, and when.

    python -m benchmarks.recursion --text FOLDER --json recursion.json --svg docs/recursion.svg

--text: Parquet files with `text`, `label` and `language`; the human English texts are used. Generation 0 is trained on
human text, each later one on what its arm gives it:

- replace: the output of the last generation (Shumailov et al., Nature 631, 2024; the fully synthetic loop of
  Alemohammad et al. 2023);
- accumulate: all output so far and the human text (Gerstgrasser et al. 2024);
- anchored: the output of the last generation, of which a share is replaced by as much of the human text.

The arm `human` is not trained: each of its generations is a fresh block of human text, which shows false alarms.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.recursion_model import Documents, Structure, Vocabulary, joined, structure_of, train
from benchmarks.recursion_plot import plot, table
from benchmarks.recursion_watch import Watch, first_alarms, worse_by
from pipelines.statistics.panel.state import state_of

DOSES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.5)
MONTHS = 6  # blocks of human text in the reference
FRESH = 11  # blocks of human text that stand for generations
HELD_OUT = 150_000  # words
_LONGEST = 500  # words; longer texts are cut into documents of so many


@dataclass(frozen=True)
class Setting:
    """What stays the same over arms and seeds."""

    words: int  # of each generation
    generations: int
    vocabulary: Vocabulary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, help="a folder of Parquet files")
    parser.add_argument("--plot", type=Path, nargs="+", help="run nothing: plot and tabulate these files of --json")
    parser.add_argument("--words", type=int, default=200_000, help="words and punctuation marks a generation")
    parser.add_argument("--vocabulary", type=int, default=10_000, help="different words; all others are one")
    parser.add_argument("--generations", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--cooler", type=float, default=0.9, help="the temperature of the second set of arms")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--svg", type=Path, help="where the plot goes")
    options = parser.parse_args()
    if options.plot:
        runs = [run for path in options.plot for run in json.loads(path.read_text())]
        print(table(runs))
        if options.svg:
            options.svg.write_text(plot(runs))
        return
    if not options.text:
        parser.error("--text: a folder of Parquet files with human text is needed")
    texts = human_texts(options.text)
    vocabulary = Vocabulary.of(texts, options.vocabulary)
    setting, documents = Setting(options.words, options.generations, vocabulary), vocabulary.encode(texts)
    runs = []
    for seed in options.seeds:
        for one in experiment(documents, setting, seed, options.cooler):
            runs.append(one)
            print(line(one), flush=True)
            if options.json:
                options.json.write_text(json.dumps(runs))
    print(table(runs))
    if options.svg:
        options.svg.write_text(plot(runs))


def human_texts(folder: Path) -> list[str]:
    """The human English texts, each once, long ones in pieces; no texts with a tag of grammar beside each word."""
    found, seen = [], set()
    for path in sorted(folder.glob("*.parquet")):
        wanted = [("label", "=", "human"), ("language", "=", "en")]
        for text in pq.read_table(path, columns=["text"], filters=wanted)["text"].to_pylist():
            words = text.split()
            opening = " ".join(words[:30])
            if opening in seen or words.count("/") > len(words) / 20:
                continue
            seen.add(opening)
            found += [" ".join(words[at : at + _LONGEST]) for at in range(0, len(words), _LONGEST)]
    return found


def experiment(documents: Documents, setting: Setting, seed: int, cooler: float) -> Iterator[dict[str, Any]]:
    """All arms of one seed."""
    random = np.random.default_rng(seed)
    blocks, held_out = split(documents, setting.words, random)
    human, structure = blocks[0], structure_of(blocks[0], len(setting.vocabulary.words))
    render = setting.vocabulary.render
    months = [state_of(render(block)) for block in blocks[1 : 1 + MONTHS]]
    first = [state_of(render(output_of(block, structure, random))) for block in blocks[1 : 1 + MONTHS]]
    watch = Watch({"human": months, "first models": first})
    fresh = [state_of(render(block)) for block in blocks[1 + MONTHS :]]
    yield {"seed": seed, "arm": "human", "temperature": 1.0, "perplexity": []} | watch.over(fresh)
    arms = [(name, 1.0) for name in ("accumulate", *(f"anchored {dose:.0%}" for dose in DOSES))]
    arms += [(name, cooler) for name in ("anchored 0%", "anchored 20%")]
    for name, temperature in arms:
        begun = time.perf_counter()
        states, perplexity = [], []
        outputs: list[Documents] = []
        for _ in range(setting.generations + 1):
            model = train(diet(name, human, outputs, random), structure)
            perplexity.append(model.perplexity(held_out))
            lengths = random.choice(human.lengths, len(human.lengths))
            outputs.append(model.sample(lengths, random, temperature))
            states.append(state_of(render(outputs[-1])))
        arm = "replace" if name == "anchored 0%" else name
        about = {"seed": seed, "arm": arm, "temperature": temperature, "perplexity": perplexity}
        yield about | watch.over(states) | {"seconds": time.perf_counter() - begun}


def split(documents: Documents, words: int, random: np.random.Generator) -> tuple[list[Documents], Documents]:
    """Blocks of so many words, documents drawn at random, and what is held out."""
    order = random.permutation(len(documents.lengths))
    ends = np.cumsum(documents.lengths[order])
    needed = HELD_OUT + words * (1 + MONTHS + FRESH)
    if needed > ends[-1]:
        raise SystemExit(f"--text: {ends[-1]:,} words of human English; {needed:,} are needed. Lower --words.")
    parts = np.split(order, np.searchsorted(ends, [HELD_OUT + words * k for k in range(2 + MONTHS + FRESH)]))
    return [documents.take(part) for part in parts[1:-1]], documents.take(parts[0])


def output_of(human: Documents, structure: Structure, random: np.random.Generator) -> Documents:
    """What a model that was trained on this human text writes."""
    return train(human, structure).sample(random.choice(human.lengths, len(human.lengths)), random)


def diet(arm: str, human: Documents, outputs: Sequence[Documents], random: np.random.Generator) -> Documents:
    """What the next generation is trained on."""
    if not outputs:
        return human
    if arm == "accumulate":
        return joined([human, *outputs])
    dose = float(arm.removeprefix("anchored ").removesuffix("%")) / 100
    last, count = outputs[-1], len(human.lengths)
    reserve = random.choice(count, round(dose * count), replace=False)
    rest = random.choice(count, count - len(reserve), replace=False)
    return joined([last.take(rest), human.take(reserve)])


def line(run: dict[str, Any]) -> str:
    """A run in one line."""
    alarms = "; ".join(f"{against}: {found}" for against, found in first_alarms(run).items())
    perplexity = " ".join(f"{p:.0f}" for p in run["perplexity"])
    head = f"seed {run['seed']} {run['arm']} T={run['temperature']} ({run.get('seconds', 0):.0f} s)"
    return f"{head}: perplexity {perplexity}, worse by 5 % at {worse_by(run)}; alarms {alarms}"


if __name__ == "__main__":
    main()
