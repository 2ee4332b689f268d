"""The joke test: people, a model that knows 25 jokes and one that knows 3, told apart by `reserve compare --samples`.

    python -m benchmarks.joke_test --people people.jsonl               # the reference: answers of people to one prompt
    python -m benchmarks.joke_test --parquet texts.parquet --domain yelp    # or from a table: text, label, domain

Jentzsch & Kersting (WASSA 2023) asked ChatGPT 1,008 times for a joke: over 90 % of the answers were the same 25 jokes.
`model_like` draws as many with that share from 25 jokes of our own with weights 1, 1/2, 1/3, …, each told with small
changes of wording; the rest are jokes that come once. `collapsed` has three. Both are simulated: no model was asked.
The truth is known: two samples of the first are the same joke with probability 0.81 Σ w², so that there are 11.2
effectively different ones; 2.9 of the second.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from pipelines.compare_samples import Columns, Settings, compare_samples
from pipelines.compare_text import render_samples

SAMPLES = 1008
PROMPT = "Tell me a joke."

JOKES = (
    ("Why did the archive go to therapy?", "It had too many unresolved issues in storage."),
    ("What do you call a crawler that never sleeps?", "A night worm with a very long reading list."),
    ("Why was the spreadsheet so calm at the party?", "It knew everyone there would end up in a cell."),
    ("How does a lighthouse keeper answer the phone?", "Slowly, turning round, and only every ten seconds."),
    ("Why did the baker quit the bank?", "He was tired of dough that never rose."),
    ("What did the glacier say to the valley?", "Do not rush me, I am shaping you."),
    ("Why do hedgehogs make poor balloon sellers?", "Their stock never lasts past the first handshake."),
    ("What is a statistician's favourite lullaby?", "Anything that is normal by the end of the night."),
    ("Why did the violin break up with the bow?", "There was simply too much friction between them."),
    ("How many librarians change a light bulb?", "None, they look up how it was dark before."),
    ("Why was the calendar so popular in the office?", "It always had several dates for the weekend."),
    ("What did the cheese say in front of the mirror?", "I have never looked more grate in my life."),
    ("Why did the gardener plant a clock by the roses?", "She wanted thyme to go by quickly."),
    ("What happens when a magician loses his temper?", "He pulls his hare out in front of everybody."),
    ("Why can a submarine never keep a secret?", "Under pressure it always opens up a little."),
    ("What do you get from a cow on a trampoline?", "A milkshake, and then a complaint from the farmer."),
    ("Why did the map refuse to fold again?", "It felt it had already gone through enough creases."),
    ("How do penguins settle a family argument?", "They let it cool down until somebody slides home."),
    ("Why is the moon such a bad landlord?", "The place is empty and the lease ends in phases."),
    ("What did one sock whisper to the other sock?", "See you on the other side of the drum."),
    ("Why did the poet carry a ladder to the reading?", "The last verse was said to be over his head."),
    ("What makes an owl so hard to interview?", "Every single answer is just another question."),
    ("Why did the kettle leave the orchestra?", "It could only ever whistle when things got heated."),
    ("How does a snail celebrate the new year?", "Quietly, some time in the middle of March."),
    ("Why was the broom late for work today?", "It had overswept, and nobody thought to wake it."),
)
_OPENINGS = ("", "", "", "Sure! ", "Okay: ", "Here goes: ")
_ENDINGS = ("", "", " :)", " \N{FACE WITH TEARS OF JOY}", "!")
_ONCE = (
    "alder badger canyon dune ember falcon garnet harbour island jasmine kestrel lantern meadow nickel orchard pebble",
    "quarry raven saddle thistle umbrella velvet walnut yarrow zinc anchor bramble copper dagger engine feather",
    "granite hammer ivory jungle kettle ladder marble needle oyster pillow quiver ribbon saffron timber urchin violet",
)


def told(joke: int, random: np.random.Generator) -> str:
    """A joke as a model would tell it this time."""
    setup, punch = JOKES[joke]
    opening, ending = random.choice(_OPENINGS), random.choice(_ENDINGS)
    between = random.choice([" ", "\n", "\n\n"])
    changed = setup.replace("did the", "does the") if random.random() < 0.2 else setup
    return f"{opening}{changed}{between}{punch}{ending}"


def model_like(samples: int = SAMPLES, known: float = 0.9, seed: int = 25) -> list[str]:
    """So many answers, a share ``known`` of them from :data:`JOKES`."""
    random = np.random.default_rng(seed)
    weights = zipf(len(JOKES))
    answers = []
    for _ in range(samples):
        if random.random() < known:
            answers.append(told(int(random.choice(len(JOKES), p=weights)), random))
        else:
            words = random.choice(" ".join(_ONCE).split(), 10, replace=False)
            answers.append(f"Why does the {words[0]} like the {words[1]}? Because {' '.join(words[2:])}.")
    return answers


def collapsed(samples: int = SAMPLES, seed: int = 3) -> list[str]:
    """So many answers from three jokes, in shares 0.4, 0.35 and 0.25."""
    random = np.random.default_rng(seed)
    return [told(int(joke), random) for joke in random.choice(3, samples, p=[0.4, 0.35, 0.25])]


def zipf(size: int) -> np.ndarray:
    weights = 1 / np.arange(1, size + 1)
    return np.asarray(weights / weights.sum())


def truth() -> dict[str, float]:
    """The effective number of answers of order 2."""
    return {
        "model_like": 1 / (0.81 * float((zipf(len(JOKES)) ** 2).sum())),
        "collapsed": 1 / (0.4**2 + 0.35**2 + 0.25**2),
    }


def people_of(path: str, domain: str, samples: int = SAMPLES) -> list[str]:
    """The first human texts of a domain."""
    table = pq.read_table(path, columns=["text", "label", "domain"])
    rows = zip(*(table[name].to_pylist() for name in ("text", "label", "domain")), strict=True)
    return [text for text, label, of in rows if label == "human" and of == domain][:samples]


def write(path: Path, answers: list[str]) -> str:
    path.write_text("".join(json.dumps({"prompt": PROMPT, "answer": text}) + "\n" for text in answers))
    return str(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="The joke test.")
    parser.add_argument("--people", help="JSONL with the answers of people to one prompt")
    parser.add_argument("--parquet", help="table of texts with the columns text, label, domain")
    parser.add_argument("--domain", default="yelp")
    parser.add_argument("--folder", default="joke-test")
    options = parser.parse_args()
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not options.people and not options.parquet:
        parser.error("name the texts of people with --people or --parquet")
    people = options.people or write(folder / "people.jsonl", people_of(options.parquet, options.domain))
    samples = [write(folder / f"{of.__name__}.jsonl", of()) for of in (model_like, collapsed)]
    print(render_samples(compare_samples(samples, people, Columns(), Settings())))
    print("truth:", ", ".join(f"{name} {value:.1f}" for name, value in truth().items()))


if __name__ == "__main__":
    main()
