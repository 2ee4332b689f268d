"""Plain-Python references for repeated paragraphs, and shards to count on."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from pipelines.records import CLUSTERS
from pipelines.repeats.count import CountRepeats, ShardParagraphs
from pipelines.repeats.options import Repeats
from pipelines.repeats.pairs import PARAGRAPHS, RECURRING, staged_paragraphs
from pipelines.repeats.paragraphs import host_hashes, paragraphs
from tests.neardup.support import UNSPACED_NAMES, tokens

BREAK = re.compile("[\n\v\f\r\x85\u2028\u2029]")
Key = tuple[str, ...]


class Doc(NamedTuple):
    host: str | None
    text: str
    removed: bool = False


def large(texts: Sequence[str | None]) -> pa.LargeStringArray:
    return pa.array(texts, pa.large_string())


def letters(words: Key) -> int:
    """Letters and digits of tokens; those of Han and kana twice."""
    count = 0
    for c in "".join(words):
        if unicodedata.category(c)[0] in "LN":
            name = unicodedata.name(c, "")
            wide = name.startswith(UNSPACED_NAMES) and not name.startswith(("THAI", "LAO", "KHMER", "MYANMAR"))
            count += 2 if wide else 1
    return count


def lines(text: str) -> list[tuple[int, int]]:
    """The lines of a text: first character, and the one after the last."""
    at, found = 0, []
    for match in BREAK.finditer(text):
        found.append((at, match.start()))
        at = match.end()
    return [*found, (at, len(text))]


def split(text: str, least: int) -> list[tuple[Key, int, int]]:
    """The paragraphs of a text with at least so many letters: tokens, first byte, the byte after the last."""
    found = []
    for begin, end in lines(text):
        words = tuple(tokens(text[begin:end]))
        if words and letters(words) >= least:
            found.append((words, len(text[:begin].encode()), len(text[:end].encode())))
    return found


def without(text: str, boilerplate: set[Key], least: int) -> str:
    """The text without boilerplate, said in other words than the kernel: line by line, with what ends each."""
    kept = [part for part in split(text, least) if part[0] not in boilerplate]
    if not kept:
        return text
    pieces: list[list[str]] = []  # line, break after it, "cut" / "blank" / "text"
    for begin, end in lines(text):
        words = tuple(tokens(text[begin:end]))
        cut = words in boilerplate and letters(words) >= least
        blank = not text[begin:end].strip(" \t")
        pieces.append([text[begin:end], text[end : end + 1], "cut" if cut else "blank" if blank else "text"])
    if not any(kind == "cut" for *_, kind in pieces):
        return text
    out: list[list[str]] = []
    cutting = False
    for piece in pieces:
        cutting = piece[2] == "cut" or (cutting and piece[2] == "blank")
        if not cutting:
            out.append(piece)
    if cutting:
        while out[-1][2] == "blank":
            out.pop()
        out[-1][1] = ""
    return "".join(line + end for line, end, _ in out)


def counted(docs: Sequence[Doc], hosts: int, least: int) -> dict[Key, tuple[int, int, int]]:
    """Hosts, documents and bytes of the paragraphs that recur."""
    where: dict[Key, set[str | None]] = defaultdict(set)
    which: dict[Key, set[int]] = defaultdict(set)
    size: dict[Key, int] = defaultdict(int)
    for number, doc in enumerate(docs):
        for words, begin, end in [] if doc.removed else split(doc.text, least):
            where[words].add(doc.host)
            which[words].add(number)
            size[words] += end - begin
    return {w: (len(where[w]), len(which[w]), size[w]) for w in where if len(where[w]) >= hosts}


def hash_of(line: str) -> int:
    return int(paragraphs(large([line]), 1).hash[0])


def write_shard(folder: Path, name: str, docs: Sequence[Doc], least: int) -> ShardParagraphs:
    """Stages documents as `inspect` does, in two batches, with the clusters that remove some."""
    folder.mkdir(parents=True, exist_ok=True)
    shard = ShardParagraphs(name, *(str(folder / f"{name}.{kind}") for kind in ("paragraphs", "clusters", "recurring")))
    half = len(docs) // 2
    with pq.ParquetWriter(shard.paragraphs, PARAGRAPHS) as out:
        for first, part in ((0, docs[:half]), (half, docs[half:])):
            hosts = host_hashes(pa.array([d.host for d in part], pa.string()))
            out.write_batch(staged_paragraphs(paragraphs(large([d.text for d in part]), least), hosts, first))
    schema = pa.schema([CLUSTERS.field("row"), CLUSTERS.field("kept")])
    rows = [{"row": i, "kept": False} for i, d in enumerate(docs) if d.removed]
    pq.write_table(pa.Table.from_pylist(rows, schema), shard.clusters)
    return shard


def run(shards: Sequence[ShardParagraphs], options: Repeats, table: Path, **flags: Any) -> None:
    pipeline = beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions.from_dictionary(flags))
    _ = pipeline | CountRepeats(shards, options, str(table))
    pipeline.run().wait_until_finish()


def recurring_rows(shard: ShardParagraphs) -> dict[int, tuple[int, int, int]]:
    """What a shard's file says: hash to hosts, documents and bytes."""
    table = pq.read_table(shard.recurring)
    assert table.schema.equals(RECURRING)
    assert table["paragraph"].to_pylist() == sorted(set(table["paragraph"].to_pylist()))
    return {r["paragraph"]: (r["hosts"], r["documents"], r["bytes"]) for r in table.to_pylist()}
