"""What the web does to a text: edits, cropping, other quotes and white space, HTML, a page around it.

    >>> import numpy as np
    >>> through_the_web('a  "quoted" <word>.  and more', np.random.default_rng(0))
    'A “quoted” <word>. And more'

Each change takes a text and a source of random numbers, and gives the changed text.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from pipelines.ingest.extraction import extract_text
from pipelines.ingest.options import Extraction

EDITED = 0.1  # share of words

Random = np.random.Generator
Change = Callable[[str, Random], str]


def edited(vocabulary: Sequence[str]) -> Change:
    """Substitutes, deletes or adds a word at one word in ten; new words come from human text."""

    def change(text: str, random: Random) -> str:
        pieces = re.split(r"(\s+)", text)
        for at in range(0, len(pieces), 2):
            if random.random() < EDITED:
                word = vocabulary[int(random.integers(len(vocabulary)))]
                pieces[at] = (word, "", f"{pieces[at]} {word}")[random.integers(3)]
        return "".join(pieces)

    return change


def half(text: str, random: Random) -> str:
    """A random half of the characters, in one piece."""
    size = len(text) // 2
    start = int(random.integers(len(text) - size + 1))
    return text[start : start + size]


def through_the_web(text: str, random: Random) -> str:
    """Quotes curled, white space collapsed, sentences begun with a capital, put in a page and extracted from it."""
    del random
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"(^|[\s(\[])\"", r"\1“", text).replace('"', "”")
    text = re.sub(r"(^|[\s(\[])'", r"\1‘", text).replace("'", "’")
    text = re.sub(r"(^|[.?!]\s+)([a-z])", lambda found: found[1] + found[2].upper(), text)
    page = f"<html><head><title>A page</title></head><body><article><p>{html.escape(text)}</p></article></body></html>"
    return extract_text(page, Extraction())


class Human(NamedTuple):
    """Human text to put marked text into: words, and running text."""

    words: list[str]
    text: str

    def around(self, characters: int) -> Change:
        """Puts a text, as one paragraph, somewhere into so many characters of human text."""

        def change(text: str, random: Random) -> str:
            start = int(random.integers(len(self.text) - characters))
            page = self.text[start : start + characters]
            at = page.find(" ", int(random.integers(characters)))
            at = at if at >= 0 else characters
            return f"{page[:at]}\n\n{' '.join(text.split())}\n\n{page[at:].lstrip()}"

        return change

    @classmethod
    def of(cls, texts: Sequence[str]) -> Human:
        """Texts one after the other."""
        text = "\n\n".join(texts)
        return cls(text.split(), text)
