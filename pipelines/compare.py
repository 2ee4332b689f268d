"""Two corpora side by side by the measures of the collapse panel: is one narrower than the other?

    result = compare_corpora("out", "crawl-2019/*.warc.gz", language="en")
    for row in result["measures"]:
        print(row["title"], row["value"], row["reference"], row["p_value"])

A corpus is the folder of a finished run, whose reserve is read, or shards as a run takes them, of which every document
is read as it is: copies are neither looked for nor removed. Only documents of one language are compared. Documents are
read in packs and only their state is kept, so memory does not grow with a corpus.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines import files
from pipelines.errors import JobError, UsageError, naming
from pipelines.ingest.options import Ingest
from pipelines.ingest.reader import read_shard
from pipelines.ingest.shards import find_shards
from pipelines.language import identify
from pipelines.layout import Layout
from pipelines.progress import Watch
from pipelines.records import Place
from pipelines.statistics.panel.against import benjamini_hochberg, compare
from pipelines.statistics.panel.measures import measure, measures
from pipelines.statistics.panel.state import State, merge_states, state_of

LEAST_DOCUMENTS = 256  # of the equal sample; with fewer, measures that change with size are not comparable

_PACK = 16 << 20  # bytes of text in memory
_LARGE = 32 << 20  # bytes; less is read in seconds
_OF_RUN = ("doc_id", "language", "text")


class Corpus(NamedTuple):
    """What was read: ``documents`` of the language, of ``read`` in all; ``languages`` counts them all."""

    name: str
    kind: str  # "reserve" or "shards"
    state: State
    documents: int
    read: int
    languages: Counter[str]
    rejects: Counter[str]  # by reason


class Pack(NamedTuple):
    """Some documents: their texts, the first 8 bytes of their doc_id, and their languages where they are known."""

    texts: pa.LargeStringArray
    keys: npt.NDArray[np.uint64]
    languages: list[str | None] | None


def compare_corpora(a: str, b: str, language: str = "en", level: float = 0.95) -> dict[str, Any]:
    """Corpus ``a`` against the reference ``b``; the result is ready for JSON, where null is a number that is not known.

    Raises UsageError where a name is neither a finished run nor shards, JobError where there is no document of the
    language.
    """
    one, other = read_corpus(a, language), read_corpus(b, language)
    few = [corpus.name for corpus in (one, other) if corpus.documents < LEAST_DOCUMENTS]
    whole = [measures(corpus.state, level) for corpus in (one, other)]
    found = compare(one.state, [other.state], level)
    adjusted = benjamini_hochberg([each.p_value for each in found.values()])
    rows = []
    for (name, each), p in zip(found.items(), adjusted, strict=True):
        kind = measure(name)
        reference = each.reference
        rows.append(
            {
                "measure": name,
                "title": kind.title,
                "meaning": kind.meaning,
                "worse": kind.worse,
                "compared_on": "equal samples" if kind.by_size else "all documents",
                **_numbers("", each.value),
                **_numbers("reference_", reference),
                **_numbers("whole_", whole[0].get(name)),
                **_numbers("whole_reference_", whole[1].get(name)),
                "difference": _known(each.difference),
                "p_value": _known(each.p_value),
                "p_adjusted": _known(float(p)),
                "worse_than_reference": bool(p <= 1 - level) and not few,
            }
        )
    return {
        "language": language,
        "level": level,
        "corpora": [_described(corpus) for corpus in (one, other)],
        "too_few": few,
        "measures": rows,
    }


def read_corpus(name: str, language: str) -> Corpus:
    """The state of one corpus."""
    languages, rejects = Counter[str](), Counter[str]()
    packs, kind = _packs(name, rejects)
    states: list[State] = []
    documents = read = 0
    for pack in packs:
        codes = pack.languages or [identify(text.as_py()) for text in pack.texts]
        languages.update(code or "unknown" for code in codes)
        read += len(codes)
        rows = np.flatnonzero([code == language for code in codes])
        if len(rows):
            documents += len(rows)
            states = [merge_states([*states, state_of(pack.texts.take(pa.array(rows)), pack.keys[rows], language)])]
    if not states:
        held = ", ".join(f"{code} ({n:,})" for code, n in languages.most_common(5))
        lost = ", ".join(f"{reason} ({n:,})" for reason, n in rejects.most_common(3))
        why = f"; its languages are {held}: choose one with --language" if held else ""
        why = why or (f"; its records gave none: {lost}" if lost else "")
        raise JobError(f"{name}: holds no document of language {language!r}{why}")
    return Corpus(name, kind, states[0], documents, read, languages, rejects)


def _packs(name: str, rejects: Counter[str]) -> tuple[Iterator[Pack], str]:
    layout = Layout(name)
    local = files.is_local(name)
    if os.path.isdir(name) if local else _is_run(layout):
        if local and not _is_run(layout):
            raise UsageError(
                f"{name}: is a folder without a finished run (no summary.json); name the shards in it, for instance "
                f"'{name.rstrip('/')}/*.gz'"
            )
        return _gathered(_of_run(name)), "reserve"
    return _gathered(_of_shards(name, rejects)), "shards"


def _is_run(layout: Layout) -> bool:
    try:
        return files.read_json(layout.summary) is not None
    except (OSError, ValueError):
        return False


def _of_run(name: str) -> Iterator[Pack]:
    for part in files.listing(files.join(name, Place.RESERVE.value, "part-*.parquet")):
        with naming(part.path), files.open_read(part.path) as stream:
            for batch in pq.ParquetFile(stream).iter_batches(2048, columns=list(_OF_RUN)):
                ids = np.frombuffer(bytes.fromhex("".join(batch.column("doc_id").to_pylist())), "<u8")
                texts = batch.column("text").cast(pa.large_string())
                yield Pack(texts, ids[::2], batch.column("language").to_pylist())


def _of_shards(name: str, rejects: Counter[str]) -> Iterator[Pack]:
    shards = find_shards([name])
    size, done = sum(shard.size for shard in shards), [0]
    with Watch("compare", "MB", max(1, size // 10**6), 0, lambda: done[0] // 10**6) if size > _LARGE else _Quiet():
        for shard in shards:
            with naming(shard.path), files.open_read(shard.path) as stream:
                for documents, refused in read_shard(stream, shard.name, Ingest()):
                    rejects.update(refused.column("reason").to_pylist())
                    if documents.num_rows:
                        ids = np.frombuffer(b"".join(documents.column("doc_id").to_pylist()), "<u8")
                        yield Pack(documents.column("text"), ids[::2], None)
            done[0] += shard.size


class _Quiet:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def _gathered(packs: Iterator[Pack]) -> Iterator[Pack]:
    """The same documents in packs of a size at which the work on a pack as a whole does not count."""
    held: list[Pack] = []
    size = 0
    for pack in packs:
        held.append(pack)
        size += pack.texts.nbytes
        if size >= _PACK:
            yield _joined(held)
            held, size = [], 0
    if held:
        yield _joined(held)


def _joined(packs: list[Pack]) -> Pack:
    texts = pa.chunked_array([pack.texts for pack in packs], pa.large_string()).combine_chunks()
    texts = texts if isinstance(texts, pa.LargeStringArray) else pa.concat_arrays(texts.chunks)
    languages = None
    if packs[0].languages is not None:
        languages = [code for pack in packs for code in pack.languages or ()]
    return Pack(pc.fill_null(texts, ""), np.concatenate([pack.keys for pack in packs]), languages)


def _described(corpus: Corpus) -> dict[str, Any]:
    return {
        "name": corpus.name,
        "kind": corpus.kind,
        "documents": corpus.documents,
        "words": int(corpus.state.words.sum()),
        "documents_read": corpus.read,
        "languages": dict(corpus.languages.most_common(20)),
        "rejects": dict(corpus.rejects.most_common()),
    }


def _numbers(prefix: str, found: Any) -> dict[str, float | None]:
    """value, low and high of an estimate or a reference, under names with a prefix."""
    names = ("value", "low", "high")
    keys = [(prefix + name).removesuffix("_value") for name in names]
    return {key: None if found is None else _known(getattr(found, name)) for key, name in zip(keys, names, strict=True)}


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
