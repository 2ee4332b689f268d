"""Reference implementations in plain Python, and shards of signatures to run the pipeline on."""

from __future__ import annotations

import hashlib
import random
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from pipelines import records
from pipelines.neardup.candidates import ShardSignatures
from pipelines.neardup.minhash import sign
from pipelines.neardup.options import NearDup
from pipelines.neardup.search import find_clusters
from pipelines.neardup.texts import TextColumn

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
START = datetime(2020, 1, 1, tzinfo=UTC)
UNSPACED_NAMES = ("CJK ", "HIRAGANA", "KATAKANA", "BOPOMOFO", "HANGZHOU", "MASU MARK")
UNSPACED_NAMES += (
    "IDEOGRAPHIC ITERATION",
    "IDEOGRAPHIC CLOSING",
    "IDEOGRAPHIC NUMBER",
    "VERTICAL KANA",
    "VERTICAL IDEOGRAPHIC",
    "THAI",
    "LAO",
    "KHMER",
    "MYANMAR",
)
INVISIBLE_NAMES = ("VARIATION SELECTOR", "MONGOLIAN FREE VARIATION SELECTOR", "COMBINING GRAPHEME JOINER")


class Doc(NamedTuple):
    doc_id: bytes
    captured_at: datetime | None
    text: str
    findings: int = 0


def doc(name: str, text: str, day: int | None = 0) -> Doc:
    """A document whose identity follows from a name; captured so many days after 2020-01-01."""
    return Doc(hashlib.sha256(name.encode()).digest()[:16], None if day is None else START + timedelta(days=day), text)


def tokens(text: str) -> list[str]:
    """Folding and tokens by `unicodedata` and character names alone."""
    folded = "".join(unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", c).casefold()) for c in text)
    found: list[str] = []
    open_kind = ""
    for c in folded:
        category = unicodedata.category(c)
        if category == "Cf" or unicodedata.name(c, "").startswith(INVISIBLE_NAMES):
            continue
        if category[0] == "M":
            if open_kind:
                found[-1] += c
            continue
        if category[0] not in "LN":
            open_kind = ""
            continue
        kind = "character" if unicodedata.name(c, "").startswith(UNSPACED_NAMES) else "word"
        if kind == "word" and open_kind == "word":
            found[-1] += c
        else:
            found.append(c)
        open_kind = kind
    return found


def shingles(text: str, size: int = 5) -> list[tuple[str, ...]]:
    words = tokens(text)
    if not words:
        return [("raw", text)]
    if len(words) < size:
        return [tuple(words)]
    return [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]


def jaccard(a: Iterable[Any], b: Iterable[Any]) -> float:
    first, second = set(a), set(b)
    return len(first & second) / len(first | second)


def vocabulary(rng: random.Random, size: int = 3000) -> list[str]:
    return ["".join(rng.choices("abcdefghijklmnopqrstuvwxyzäøéш", k=rng.randint(2, 9))) for _ in range(size)]


def edited(text: str, rng: random.Random, edits: int) -> str:
    words = text.split(" ")
    for _ in range(edits):
        at = rng.randrange(len(words))
        words[at] = f"edit{rng.randrange(10**6)}"
    return " ".join(words)


def write_shard(folder: Path, name: str, docs: Sequence[Doc], options: NearDup) -> ShardSignatures:
    signed = sign(pa.array([d.text for d in docs], pa.large_string()), options)
    columns = {
        "doc_id": [d.doc_id for d in docs],
        "captured_at": [d.captured_at for d in docs],
        "text_sha256": [hashlib.sha256(d.text.encode()).digest() for d in docs],
        "shingles": signed.shingles,
        "length": [len(d.text.encode()) for d in docs],
        "findings": [d.findings for d in docs],
        "signature": signed.column(),
    }
    path = folder / f"{name}.signatures.parquet"
    pq.write_table(pa.table(columns, schema=records.signatures_schema(options.permutations)), path)
    texts = folder / f"{name}.texts.parquet"
    pq.write_table(pa.table({"text": pa.array([d.text for d in docs], pa.large_string())}), texts, row_group_size=7)
    return ShardSignatures(name, str(path), str(folder / f"{name}.clusters.parquet"), TextColumn(str(texts)))


def write_shards(folder: Path, docs: Sequence[Doc], count: int, options: NearDup) -> list[ShardSignatures]:
    """Deals documents out to shards: document i is row i // count of shard i % count."""
    folder.mkdir(parents=True, exist_ok=True)
    return [write_shard(folder, f"shard-{i}", docs[i::count], options) for i in range(count)]


def run(shards: Sequence[ShardSignatures], options: NearDup, documents: int = 1 << 20, **flags: Any) -> dict[str, int]:
    def execute(transform: beam.PTransform) -> dict[str, int]:
        pipeline = beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions.from_dictionary(flags))
        _ = pipeline | transform
        result = pipeline.run()
        result.wait_until_finish()
        return {counter.key.metric.name: counter.result for counter in result.metrics().query()["counters"]}

    folder = Path(shards[0].clusters).parent / "between"
    return find_clusters(shards, options, documents, str(folder), execute)


def rows(shard: ShardSignatures) -> dict[int, dict[str, Any]]:
    """The cluster file of a shard, by row."""
    table = pq.read_table(shard.clusters)
    assert table.schema.equals(records.CLUSTERS)
    found = table.to_pylist()
    assert [r["row"] for r in found] == sorted({r["row"] for r in found})
    return {r["row"]: r for r in found}


def find(
    folder: Path, docs: Sequence[Doc], options: NearDup | None = None, shards: int = 3
) -> list[dict[str, Any] | None]:
    """What the pipeline says of each document, None where it stands alone."""
    options = options or NearDup()
    written = write_shards(folder, docs, shards, options)
    run(written, options)
    by_shard = [rows(shard) for shard in written]
    return [by_shard[i % shards].get(i // shards) for i in range(len(docs))]
