"""Text with a known difference: two word distributions that overlap, written into Parquet sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_SYLLABLES = ["ka", "to", "mi", "re", "sol", "ven", "du", "pra", "lin", "os"]
VOCABULARY = [one + two + three for one in _SYLLABLES for two in _SYLLABLES for three in _SYLLABLES[:4]]


def sentence_text(random: np.random.Generator, machine: bool, words: int) -> str:
    """Random words, the machine's drawn with a tilt towards one half of the vocabulary."""
    weights = np.ones(len(VOCABULARY))
    weights[: len(VOCABULARY) // 2] = 2.5 if machine else 1.0
    drawn = random.choice(VOCABULARY, words, p=weights / weights.sum()).tolist()
    return ". ".join(" ".join(drawn[at : at + 9]) for at in range(0, words, 9)) + "."


def write_sets(folder: Path, sets: int = 3, rows: int = 500, seed: int = 5) -> Path:
    """Writes ``sets`` Parquet files of ``rows`` rows, half of them human, two rows a group."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(sets):
        machine = [row % 2 == 1 for row in range(rows)]
        table = pa.table(
            {
                "text": [sentence_text(random, flag, int(random.integers(80, 300))) for flag in machine],
                "label": ["machine" if flag else "human" for flag in machine],
                "group": [f"{number}/{row // 2}" for row in range(rows)],
                "language": ["en"] * rows,
                "domain": [f"kind{row // 2 % 2}" for row in range(rows)],
            }
        )
        pq.write_table(table, folder / f"set{number}.parquet")
    return folder


def shifted_texts(seed: int, rows: int = 120) -> tuple[list[str], list[bool]]:
    """Texts and which of them are a machine's: they differ by words that tell nothing in the sets above."""
    random = np.random.default_rng(seed)
    machine = [row % 2 == 1 for row in range(rows)]
    texts = []
    for flag in machine:
        words = sentence_text(random, bool(random.integers(2)), 150).split()
        telling = ["kakaka", "mitoka", "linsolto", "osdumi"] if flag else ["tokaka", "remika", "dusolka", "pradumi"]
        words[::5] = random.choice(telling, len(words[::5])).tolist()
        texts.append(" ".join(words))
    return texts, machine
