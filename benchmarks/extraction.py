"""Text extraction: how good and how fast, ours and trafilatura's, on the same pages, in the same run, on one core.

    python -m benchmarks.extraction --html-gold ../shared/html_gold

The pages are those of the article extraction benchmark of Scrapinghub (Zyte): ``ground-truth.json`` with the text
that people marked, and ``html/*.html.gz``. Precision and recall are over 4-grams of words, means over the pages.
Ours starts from characters, as the others do; its guards against hostile pages are part of its time.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import os
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import trafilatura
from resiliparse.extract.html2text import extract_plain_text

from pipelines.ingest.extraction import extract_text
from pipelines.ingest.hostile import HostilePageError
from pipelines.ingest.html import decode_text
from pipelines.ingest.options import Extraction

_GRAM = 4
_WORD = re.compile(r"\w+")
_REFERENCE = "trafilatura"
_EXTRACTORS: dict[str, Callable[[str], str | None]] = {
    _REFERENCE: trafilatura.extract,
    "trafilatura, precision": lambda html: trafilatura.extract(html, favor_precision=True),
    "trafilatura, fast": lambda html: trafilatura.extract(html, fast=True),
    "resiliparse": lambda html: extract_plain_text(html, main_content=True),
    "ours": lambda html: _ours(html, Extraction()),
    "ours, with trafilatura": lambda html: _ours(html, Extraction(extractor="trafilatura")),
}


class Quality(NamedTuple):
    """Means over the pages."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Of the means, as the benchmark of Scrapinghub computes it."""
        return 2 * self.precision * self.recall / (self.precision + self.recall)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--html-gold", type=Path, default=Path("../shared/html_gold"))
    parser.add_argument("--passes", type=int, default=5)
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    logging.disable(logging.ERROR)
    gold, pages = read_gold(arguments.html_gold)
    seconds: dict[str, list[float]] = {name: [] for name in _EXTRACTORS}
    texts: dict[str, list[str]] = {}
    # Interleaved, so that whatever else runs on the machine disturbs all alike.
    for _ in range(arguments.passes):
        for name, extractor in _EXTRACTORS.items():
            began = time.process_time()
            texts[name] = [extractor(page) or "" for page in pages]
            seconds[name].append(time.process_time() - began)
    reference = statistics.median(seconds[_REFERENCE])
    print(f"{len(pages)} pages, {sum(map(len, pages)) / 1e6:.0f} M characters; medians of {arguments.passes} passes")
    print(f"{'':24}{'pages/s':>9}{'ratio':>8}{'precision':>11}{'recall':>8}{'F1':>7}{'dF1':>8}")
    best = quality(gold, texts[_REFERENCE]).f1
    for name in _EXTRACTORS:
        took, found = statistics.median(seconds[name]), quality(gold, texts[name])
        speed = f"{len(pages) / took:>9.0f}{reference / took:>8.2f}"
        print(f"{name:24}{speed}{found.precision:>11.3f}{found.recall:>8.3f}{found.f1:>7.3f}{found.f1 - best:>+8.3f}")


def _ours(html: str, options: Extraction) -> str:
    try:
        return extract_text(html, options)
    except HostilePageError:
        return ""


def read_gold(folder: Path) -> tuple[list[str], list[str]]:
    """The marked texts and the HTML of the pages, in the same order."""
    truth = json.loads((folder / "ground-truth.json").read_text())
    pages = [decode_text(gzip.decompress((folder / "html" / f"{key}.html.gz").read_bytes())) for key in truth]
    return [item["articleBody"] for item in truth.values()], pages


def quality(gold: list[str], texts: list[str]) -> Quality:
    """Precision over the pages that gave text, recall over those that have some."""
    precisions, recalls = [], []
    for wanted, found in zip(map(_grams, gold), map(_grams, texts), strict=True):
        both = (wanted & found).total()
        if found:
            precisions.append(both / found.total())
        if wanted:
            recalls.append(both / wanted.total())
    return Quality(statistics.mean(precisions), statistics.mean(recalls))


def _grams(text: str) -> Counter[tuple[str, ...]]:
    words = _WORD.findall(text)
    return Counter(tuple(words[at : at + _GRAM]) for at in range(max(1, len(words) - _GRAM + 1)) if words)


if __name__ == "__main__":
    main()
