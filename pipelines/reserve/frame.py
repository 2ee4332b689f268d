"""The sampling frame: every document that may be drawn, its stratum, and its place in the order of drawing.

That order is by SHA-256(seed ‖ doc_id), the seed in UTF-8 and the `doc_id` as 16 bytes: in each stratum the documents
with the smallest digests are drawn. So what is drawn depends on nothing but the seed and the documents: not on files,
workers or the order of rows; and a larger sample of the same seed holds the smaller one.

A few dozen bytes a document are kept; text is read only where tokens are counted, and never kept.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines import files
from pipelines.errors import JobError, UsageError
from pipelines.layout import Layout
from pipelines.neardup.shingles import shingle_hashes
from pipelines.records import Place, Verdict
from pipelines.reserve.allocation import Counts
from pipelines.reserve.encoding import Bytes, fixed_bytes

ROWS: Final = 1024  # read at a time: a few MB of text
UNKNOWN: Final = "unknown"

_DATE = re.compile(r"[0-9]{4}(-[0-9]{2}){0,2}")

Labels = tuple[str | None, ...]


class Counter(NamedTuple):
    """How tokens are counted.

    Attributes:
        unit: in words, for people: "words".
        meaning: what that is.
        measure: texts (large_string) to tokens, int64 (n,).
    """

    unit: str
    meaning: str
    measure: Callable[[pa.LargeStringArray], Counts]


@dataclass(frozen=True)
class Choice:
    """Which documents may be drawn.

    Attributes:
        verdicts: one of these; none: any.
        until: a year, month or day, as in RFC 3339, in which they were captured at the latest; None: whenever.
        longest: tokens that they have at the most; None: any number.
    """

    verdicts: tuple[str, ...] = ()
    until: str | None = None
    longest: int | None = None

    def __post_init__(self) -> None:
        for verdict in self.verdicts:
            if verdict not in set(Verdict):
                raise UsageError(f"--verdicts {verdict}: one of {', '.join(Verdict)}")
        if self.longest is not None and self.longest < 1:
            raise UsageError(f"--longest {self.longest}: at least 1")
        if self.until is not None:
            try:
                self.end()
            except ValueError:
                raise UsageError(f"--until {self.until}: a year, month or day: 2022, 2022-11 or 2022-11-29") from None

    def end(self) -> Any:
        """When the time of capture is too late. Raises ValueError where `until` is none of a date's forms."""
        assert self.until is not None
        if not _DATE.fullmatch(self.until):
            raise ValueError(self.until)
        # numpy takes its unit, a year, month or day, from how the text is written.
        return (np.datetime64(self.until) + 1).astype("datetime64[us]")

    def columns(self) -> set[str]:
        """What it looks at."""
        return {name for name, asked in (("verdict", self.verdicts), ("captured_at", self.until)) if asked}

    def of(self, rows: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        """Which rows may be drawn, whatever their length."""
        fit = np.ones(rows.num_rows, bool)
        if self.verdicts:
            fit &= pc.is_in(rows["verdict"], pa.array(self.verdicts)).to_numpy(zero_copy_only=False)
        if self.until is not None:
            known = rows["captured_at"].is_valid().to_numpy(zero_copy_only=False)
            fit &= known & (_times(rows["captured_at"]) < self.end())
        return fit


class Frame(NamedTuple):
    """Every document that may be drawn, sorted by stratum and, within it, in the order of drawing.

    Attributes:
        rows: of the reserve, those that may not be drawn and repeats of a document among them.
        ids: (n, 16) uint8.
        starts: where the documents of each stratum begin, int64 (h + 1,).
        labels: of each stratum; None where the value is unknown.
        columns: the same as whole numbers, int64 (c, h), by which the strata are sorted.
        tokens: of each document, int64 (n,); None where they were not counted.
    """

    rows: int
    ids: Bytes
    starts: Counts
    labels: list[Labels]
    columns: Counts
    tokens: Counts | None

    @property
    def sizes(self) -> Counts:
        """Documents of each stratum."""
        return np.diff(self.starts)


def reserve_parts(output: str) -> list[str]:
    """The files of the reserve."""
    found = files.listing(files.join(output, Place.RESERVE.value, "part-*.parquet"))
    if not found or files.read_json(Layout(output).summary) is None:
        raise UsageError(f"{output}: no finished run here (it takes summary.json and {Place.RESERVE.value}/)")
    return [str(one.path) for one in found]


def batches(path: str, columns: Sequence[str] | None, groups: Sequence[int] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a part, some at a time. Raises JobError where it cannot be read."""
    try:
        with files.open_read(path) as stream:
            file = pq.ParquetFile(stream)
            yield from file.iter_batches(ROWS, row_groups=groups, columns=columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise JobError(f"{path}: cannot be read: {error}; see 'reserve verify'") from None


def row_groups(parts: Sequence[str]) -> Iterator[tuple[str, int]]:
    """All row groups of these files: path and number."""
    for path in parts:
        with files.open_read(path) as stream:
            count = pq.ParquetFile(stream).num_row_groups
        yield from ((path, number) for number in range(count))


def word_counter() -> Counter:
    """Counts words as the search for near-duplicates does, of every language alike and without a tokenizer."""

    def count(texts: pa.LargeStringArray) -> Counts:
        return np.diff(shingle_hashes(texts, 1)[1])

    meaning = "runs of letters and digits; in scripts without spaces between words, characters; at least one a text"
    return Counter("words", meaning, count)


def token_counter(name: str) -> Counter:
    """Counts what a tokenizer of the `tokenizers` library makes of a text. Raises UsageError where it cannot be had."""
    from watermark.tokens import TokenizerError, load_tokenizer

    try:
        tokenizer = load_tokenizer(name)
    except TokenizerError as error:
        raise UsageError(f"--tokenizer {error}") from None

    def count(texts: pa.LargeStringArray) -> Counts:
        return np.diff(tokenizer.encode(texts.to_pylist())[1])

    return Counter("tokens", f"of {name.rsplit('/', 1)[-1]}, SHA-256 {tokenizer.sha256}, without special tokens", count)


def _times(column: pa.Array) -> npt.NDArray[np.datetime64]:
    return column.fill_null(0).cast(pa.int64()).to_numpy().view("datetime64[us]")  # type: ignore[no-any-return]


def _month(rows: pa.RecordBatch, letters: str = "M") -> pa.Array:
    when = rows["captured_at"]
    months, at = np.unique(_times(when).astype(f"datetime64[{letters}]"), return_inverse=True)
    values = pa.array(months.astype(str).tolist(), pa.string()).take(pa.array(at))
    return pc.if_else(when.is_valid(), values, pa.scalar(None, pa.string()))


# By the name of a stratifier: what it reads, and its value in each row.
_STRATIFIERS: Final[Mapping[str, tuple[str, Callable[[pa.RecordBatch], pa.Array]]]] = {
    "month": ("captured_at", _month),
    "year": ("captured_at", lambda rows: _month(rows, "Y")),
    "host": ("host", lambda rows: rows["host"]),
    "language": ("language", lambda rows: rows["language"]),
    "verdict": ("verdict", lambda rows: rows["verdict"]),
}


def check_stratifiers(names: Sequence[str]) -> None:
    """Raises UsageError for a name that is not known, or that stands there twice."""
    for at, name in enumerate(names):
        if name not in _STRATIFIERS:
            raise UsageError(f"--stratify {name}: one or more of {', '.join(_STRATIFIERS)}, with commas")
        if name in names[:at]:
            raise UsageError(f"--stratify {','.join(names)}: {name} stands there twice")


class _Codes:
    """The values of one column as numbers, in the order of their coming."""

    def __init__(self) -> None:
        self.known: dict[str | None, int] = {}

    def of(self, values: pa.Array) -> npt.NDArray[np.int32]:
        encoded = values.dictionary_encode(null_encoding="encode")
        own = [self.known.setdefault(value, len(self.known)) for value in encoded.dictionary.to_pylist()]
        return np.array(own, np.int32)[encoded.indices.to_numpy()] if own else np.empty(0, np.int32)

    def ranks(self) -> tuple[npt.NDArray[np.int64], list[str | None]]:
        """Of each number, the place of its value among all values, unknown ones first; and the sorted values."""
        values = sorted(self.known, key=lambda value: (value is not None, value or ""))
        ranks = np.empty(len(values), np.int64)
        ranks[[self.known[value] for value in values]] = np.arange(len(values))
        return ranks, values


def read_frame(
    parts: Sequence[str], stratify: Sequence[str], choice: Choice, seed: str, counter: Counter | None
) -> Frame:
    """Reads what is needed to draw.

    Args:
        parts: files of the reserve.
        stratify: names of :func:`check_stratifiers`.
        choice: which documents may be drawn.
        seed: of the order.
        counter: counts the tokens of all texts; None: they are not read.
    """
    columns = {"doc_id", *choice.columns(), *(_STRATIFIERS[name][0] for name in stratify)}
    columns |= {"text"} if counter else set()
    codes = [_Codes() for _ in stratify]
    ids, tokens = [np.empty((0, 16), np.uint8)], [np.empty(0, np.int64)]
    found: list[list[npt.NDArray[np.int32]]] = [[np.empty(0, np.int32)] for _ in stratify]
    rows = 0
    for path in parts:
        for read in batches(path, sorted(columns)):
            rows += read.num_rows
            batch = read.filter(pa.array(choice.of(read)))
            if counter:
                counted = counter.measure(batch["text"].cast(pa.large_string()))
                short = counted <= (choice.longest or np.inf)
                batch = batch.filter(pa.array(short))
                tokens.append(counted[short])
            try:
                ids.append(fixed_bytes(batch["doc_id"], 16))
            except ValueError as error:
                raise JobError(f"{path}: doc_id: {error}; see 'reserve verify'") from None
            for name, own, into in zip(stratify, codes, found, strict=True):
                into.append(own.of(_STRATIFIERS[name][1](batch)))
    merged = [np.concatenate(one) for one in found]
    return _sorted(rows, np.concatenate(ids), codes, merged, seed, np.concatenate(tokens) if counter else None)


def _sorted(
    rows: int, ids: Bytes, codes: Sequence[_Codes], found: Sequence[npt.NDArray[Any]], seed: str, tokens: Counts | None
) -> Frame:
    # A capture that stands in two shards is one document.
    _, first = np.unique(_keys(ids), return_index=True)
    ids = ids[first]
    ranked = [own.ranks() for own in codes]
    values = [ranks[column[first]] for (ranks, _), column in zip(ranked, found, strict=True)]
    order = np.lexsort((_drawing_keys(ids, seed), *reversed(values)))
    sorted_values = np.array([column[order] for column in values], np.int64).reshape(len(values), len(ids))
    new = np.ones(len(ids), bool)
    new[1:] = (sorted_values[:, 1:] != sorted_values[:, :-1]).any(axis=0)
    begins = np.flatnonzero(new)
    columns = sorted_values[:, begins]
    names = [sorted_names for _, sorted_names in ranked]
    labels = [tuple(name[at] for name, at in zip(names, one, strict=True)) for one in columns.T.tolist()]
    starts = np.append(begins, len(ids)).astype(np.int64)
    return Frame(rows, ids[order], starts, labels, columns, tokens[first][order] if tokens is not None else None)


def _drawing_keys(ids: Bytes, seed: str) -> npt.NDArray[np.bytes_]:
    """The first 16 bytes of SHA-256(seed ‖ doc_id); no two documents will ever share them."""
    begun, view = hashlib.sha256(seed.encode()), memoryview(ids.tobytes())
    digests = bytearray()
    for at in range(0, len(view), 16):
        digest = begun.copy()
        digest.update(view[at : at + 16])
        digests += digest.digest()[:16]
    return np.frombuffer(bytes(digests), "S16")


def _keys(ids: Bytes) -> npt.NDArray[np.bytes_]:
    """Ids as strings, which numpy sorts. It drops trailing zeros, which makes no two strings of one length the same."""
    return np.ascontiguousarray(ids).view("S16").reshape(-1)


def positions(ids: Bytes, among: Bytes) -> npt.NDArray[np.int64]:
    """Where each of these ids (n, 16) stands among sorted ones (m, 16); -1: nowhere."""
    if not len(among):
        return np.full(len(ids), -1, np.int64)
    keys, sorted_keys = _keys(ids), _keys(among)
    at = np.minimum(np.searchsorted(sorted_keys, keys), len(among) - 1)
    return np.where(sorted_keys[at] == keys, at, -1)


def id_order(ids: Bytes) -> npt.NDArray[np.int64]:
    """The order that sorts ids."""
    return np.argsort(_keys(ids), kind="stable")
