"""Texts with planted copies, and the truth about them, for the benchmarks of near-duplicate removal.

    python -m benchmarks.near_duplicate_texts FOLDER --docs 100000

Writes ``FOLDER/texts/*.parquet`` (doc, text) and ``FOLDER/truth.parquet`` (doc, kind, family, jaccard). Words follow
the law of Zipf and Mandelbrot over 50,000 made-up ones, the first 6 % of a text and 400 words 226 different ones, much
as in English. They are drawn independently, so that texts which share no source share no shingle. Word p of a document
depends on the seed, the document and p alone: any part can be made without the rest, in any order.

| kind | share | what it is |
|---|---|---|
| near | 10 % | a copy of one original, 1 to 3 % of its words replaced; its exact Jaccard similarity is recorded |
| exact | 3 % | a copy of one original, word for word |
| template | 5 % | half of its text is that of 19 other pages, so their similarity is 1/3: no copy |
| original | 13 % | what the near and exact copies are copies of: one each |
| single | the rest | shares nothing with any other |
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

KINDS = ("single", "original", "near", "exact", "template", "chain")
SINGLE, ORIGINAL, NEAR, EXACT, TEMPLATE, CHAIN = range(len(KINDS))

SHINGLE = 5
_SHARES = {NEAR: 0.10, EXACT: 0.03, TEMPLATE: 0.05}
_PAGES = 20  # of one template
_VOCABULARY = 50_000
_DRAWS = 1 << 20  # entries of the table that turns a uniform number into a word
_MARKS = ("", "", "", "", "", "", "", "", "", "", "", "", "", ",", ".", ".\n")  # one follows each word
_SHIFT, _EXPONENT = 2.7, 1.2
_SPREAD = 7.0  # letters; frequent words are short, so that running text has 4.9 letters a word, much as English
_BATCH = 4096
_SLIDE = 20  # words from one link of a chain to the next: of 396 shingles 376 are shared, J = 376 / 416 = 0.904

Integers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]


class Plan(NamedTuple):
    """What n documents are: each is a stretch of an endless stream of words, changed in some places.

    ``stream`` and ``start`` say which stretch, ``words`` how long; ``edited`` is the share of words replaced;
    ``template`` is the stream of the first half where it is not -1. Documents of one ``family`` are copies.
    """

    kind: npt.NDArray[np.uint8]
    family: Integers
    stream: Integers
    start: Integers
    words: Integers
    edited: npt.NDArray[np.float64]
    template: Integers


def ordinary(docs: int, words: int, seed: int) -> Plan:
    """Documents with copies as the module says, in random places, of half to one and a half times ``words``."""
    plan = _strangers(docs, words, seed)
    places = np.random.Generator(np.random.PCG64(seed)).permutation(docs)
    near, exact, template = (int(docs * _SHARES[kind]) for kind in (NEAR, EXACT, TEMPLATE))
    copies, originals, pages = np.split(places[: 2 * (near + exact) + template], [near + exact, 2 * (near + exact)])
    plan.kind[originals], plan.kind[copies[:near]], plan.kind[copies[near:]] = ORIGINAL, NEAR, EXACT
    for column in (plan.family, plan.stream, plan.words):
        column[copies] = column[originals]
    plan.edited[copies[:near]] = 0.01 + 0.02 * _uniform(_mix(copies[:near].astype(np.uint64)))
    plan.kind[pages] = TEMPLATE
    plan.words[pages] = words
    plan.template[pages] = docs + np.arange(len(pages)) // _PAGES
    return plan


def identical(docs: int, copies: int, words: int, seed: int) -> Plan:
    """Strangers, but for ``copies`` of them, in random places, that are one text."""
    plan = _strangers(docs, words, seed)
    places = _places(docs, copies, seed)
    plan.kind[places], plan.kind[places[0]] = EXACT, ORIGINAL
    for column in (plan.family, plan.stream, plan.words):
        column[places] = column[places[0]]
    return plan


def chain(docs: int, links: int, words: int, seed: int) -> Plan:
    """Strangers, but for ``links`` of them, in random places, each of which is much like the next (J about 0.9)."""
    plan = _strangers(docs, words, seed)
    places = _places(docs, links, seed)
    plan.kind[places] = CHAIN
    plan.family[places] = plan.stream[places] = places[0]
    plan.start[places] = np.arange(links) * _SLIDE
    plan.words[places] = words
    return plan


def write(folder: Path, plan: Plan, files: int, seed: int) -> str:
    """Writes texts and truth, unless both are there and of this size; gives the glob of the texts."""
    texts, truth = folder / "texts", folder / "truth.parquet"
    docs = len(plan.kind)
    if truth.exists() and pq.read_metadata(truth).num_rows == docs and len(list(texts.glob("*.parquet"))) == files:
        return str(texts / "*.parquet")
    texts.mkdir(parents=True)
    spelling = Spelling(seed)
    jaccard = np.full(docs, np.nan, np.float32)
    jaccard[plan.kind == EXACT] = 1.0
    borders = np.linspace(0, docs, files + 1).astype(np.int64)
    schema = pa.schema([("doc", pa.int64()), ("text", pa.string())])
    for number, (begin, end) in enumerate(itertools.pairwise(borders.tolist())):
        path = texts / f"{number:03d}.parquet"
        with pq.ParquetWriter(path, schema, compression="snappy", use_dictionary=False) as out:
            for rows in _batches(begin, end):
                out.write_batch(pa.record_batch([pa.array(rows), spelling.texts(plan, rows)], schema=schema))
                copies = rows[plan.kind[rows] == NEAR]
                jaccard[copies] = spelling.similarity(plan, copies)
    kinds = pa.DictionaryArray.from_arrays(pa.array(plan.kind), pa.array(KINDS))
    columns = {"doc": pa.array(np.arange(docs)), "kind": kinds, "family": pa.array(plan.family), "jaccard": jaccard}
    pq.write_table(pa.table(columns), truth)
    return str(texts / "*.parquet")


class Spelling:
    """Plans to words, and words to text, by a seed."""

    def __init__(self, seed: int) -> None:
        self._seed = np.uint64(seed)
        draw = np.random.Generator(np.random.PCG64(seed))
        letters = np.frombuffer(b"etaoinshrdlucmfwypvbgkjqxz", np.uint8)
        spelled = {bytes(draw.choice(letters, size)) for size in draw.integers(2, 13, 2 * _VOCABULARY)}
        words = sorted(word.decode() for word in spelled)[: 2 * _VOCABULARY]
        rank = np.array([len(word) for word in words]) + draw.normal(0, _SPREAD, len(words))
        words = [words[i] for i in np.argsort(rank, kind="stable")]
        self._vocabulary = pa.array([word + mark for mark in _MARKS for word in words[:_VOCABULARY]])
        weights = (np.arange(1, _VOCABULARY + 1) + _SHIFT) ** -_EXPONENT
        shares = np.cumsum(weights) / weights.sum()
        self._drawn = np.searchsorted(shares, (np.arange(_DRAWS) + 0.5) / _DRAWS).astype(np.int32)

    def texts(self, plan: Plan, rows: Integers) -> pa.StringArray:
        """The texts of these documents."""
        words, offsets = self._words(plan, rows, edited=True)
        lists = pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), self._vocabulary.take(pa.array(words)))
        return pc.binary_join(lists, " ")

    def similarity(self, plan: Plan, rows: Integers) -> npt.NDArray[np.float32]:
        """The exact Jaccard similarity of each edited document to itself unedited, over sets of shingles of words."""
        found = np.empty(len(rows), np.float32)
        edited, offsets = self._words(plan, rows, edited=True)
        original, _ = self._words(plan, rows, edited=False)
        for i, (begin, end) in enumerate(itertools.pairwise(offsets.tolist())):
            ours, theirs = _shingles(edited[begin:end]), _shingles(original[begin:end])
            shared = len(np.intersect1d(ours, theirs, assume_unique=True))
            found[i] = shared / (len(ours) + len(theirs) - shared)
        return found

    def _words(self, plan: Plan, rows: Integers, edited: bool) -> tuple[npt.NDArray[np.int32], Integers]:
        """Words and the marks after them as one number each, and where each document begins."""
        lengths = plan.words[rows]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        at = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        shared = (np.repeat(plan.template[rows], lengths) >= 0) & (2 * at < np.repeat(lengths, lengths))
        stream = np.where(shared, np.repeat(plan.template[rows], lengths), np.repeat(plan.stream[rows], lengths))
        drawn = self._hashes(stream, at + np.repeat(plan.start[rows], lengths))
        if edited and plan.edited[rows].any():
            own = self._hashes(np.repeat(~rows, lengths), at)
            replaced = _uniform(own) < np.repeat(plan.edited[rows], lengths)
            drawn = np.where(replaced, _mix(own), drawn)
        words = self._drawn[(drawn >> np.uint64(44)).astype(np.int64)]
        marks = (drawn & np.uint64(len(_MARKS) - 1)).astype(np.int32)
        return words + marks * np.int32(_VOCABULARY), offsets

    def _hashes(self, stream: Integers, at: Integers) -> Hashes:
        key = _mix(stream.astype(np.uint64) ^ (self._seed << np.uint64(48)))
        return _mix(key + at.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))


def _strangers(docs: int, words: int, seed: int) -> Plan:
    doc = np.arange(docs)
    length = words // 2 + (_mix(doc.astype(np.uint64) + np.uint64(seed)) % np.uint64(words + 1)).astype(np.int64)
    return Plan(
        kind=np.zeros(docs, np.uint8),
        family=doc.copy(),
        stream=doc.copy(),
        start=np.zeros(docs, np.int64),
        words=length,
        edited=np.zeros(docs),
        template=np.full(docs, -1),
    )


def _places(docs: int, count: int, seed: int) -> Integers:
    return np.random.Generator(np.random.PCG64(seed)).permutation(docs)[:count]


def _batches(begin: int, end: int) -> Iterator[Integers]:
    yield from (np.arange(at, min(at + _BATCH, end)) for at in range(begin, end, _BATCH))


def _shingles(words: npt.NDArray[np.int32]) -> Any:
    """The set of shingles, without the marks between words, as 64-bit hashes."""
    runs = np.lib.stride_tricks.sliding_window_view((words % _VOCABULARY).astype(np.uint64), SHINGLE)
    hashes = np.zeros(len(runs), np.uint64)
    for column in range(SHINGLE):
        hashes = _mix(hashes + runs[:, column])
    return np.unique(hashes)


def _uniform(hashes: Hashes) -> npt.NDArray[np.float64]:
    return (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(x: Hashes) -> Hashes:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--docs", type=int, default=100_000)
    parser.add_argument("--words", type=int, default=400, help="in a document, on average (default: 400)")
    parser.add_argument("--files", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(write(options.folder, ordinary(options.docs, options.words, options.seed), options.files, options.seed))


if __name__ == "__main__":
    main()
