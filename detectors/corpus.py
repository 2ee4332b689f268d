"""Labelled text for training and evaluation: read, find what the sets share, split so that nothing leaks.

Input is Parquet, one file a set (the file's stem is the set's name) with the columns ``text`` and ``label`` (``human``
or ``machine``) and, where known, ``group`` (ties a human original or prompt to its machine texts), ``language``
(ISO 639-1, ``en`` where absent), ``domain``, ``generator`` and ``attack`` (what was done to the text while or after
writing it).

Sets overlap: the same human originals were reused by several of them. Rows are therefore joined into *components*: same
group, or a shared run of 13 words that is not boilerplate (the length used for test-set contamination by Brown et al.,
2020, arXiv:2005.14165, appendix C). A component is never split between training, validation and test.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from detectors.levelling import level, unspaced_share

TRAIN, VALIDATION, TEST = 0, 1, 2
SCORED_CHARACTERS = 3000
SHINGLE_WORDS = 13
_BOILERPLATE_GROUPS = 8
_SAMPLE_ONE_IN = np.uint64(8)
_ODD, _MIX = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93

Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Corpus:
    """Rows of labelled text, as parallel columns of length n."""

    texts: list[str]
    levelled: list[bytes]  # of the first SCORED_CHARACTERS characters
    machine: Bool
    sets: npt.NDArray[np.str_]
    groups: npt.NDArray[np.str_]
    domains: npt.NDArray[np.str_]
    languages: npt.NDArray[np.str_]
    generators: npt.NDArray[np.str_]
    attacks: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Int) -> Corpus:
        """The rows at these positions, in this order."""
        return Corpus(
            [self.texts[row] for row in rows],
            [self.levelled[row] for row in rows],
            self.machine[rows],
            self.sets[rows],
            self.groups[rows],
            self.domains[rows],
            self.languages[rows],
            self.generators[rows],
            self.attacks[rows],
        )


def parquet_files(paths: Path | Iterable[Path]) -> list[Path]:
    """The Parquet files at ``paths``: files, or folders searched through, in the order of their names.

    Raises FileNotFoundError where there is none.
    """
    roots = [paths] if isinstance(paths, Path) else list(paths)
    found = [file for root in roots for file in (sorted(root.rglob("*.parquet")) if root.is_dir() else [root])]
    missing = [str(file) for file in found if not file.is_file()]
    if missing or not found:
        raise FileNotFoundError(f"no Parquet file at {', '.join(missing or map(str, roots))}")
    return found


def read_corpus(paths: Path | Iterable[Path]) -> Corpus:
    """Reads the sets and drops repeated texts (same levelled view): the human one stays if labels differ.

    Raises FileNotFoundError, and ValueError where a column is missing or a label is neither ``human`` nor ``machine``.
    """
    corpora = [_read_set(file) for file in parquet_files(paths)]
    whole = Corpus(
        [text for corpus in corpora for text in corpus.texts],
        [text for corpus in corpora for text in corpus.levelled],
        np.concatenate([corpus.machine for corpus in corpora]),
        *(
            np.concatenate([getattr(corpus, name) for corpus in corpora])
            for name in ("sets", "groups", "domains", "languages", "generators", "attacks")
        ),
    )
    seen: dict[bytes, int] = {}
    for row in np.argsort(whole.machine, kind="stable"):
        seen.setdefault(whole.levelled[row], int(row))
    seen.pop(b"", None)
    return whole.take(np.array(sorted(seen.values()), np.int64))


def _read_set(file: Path) -> Corpus:
    table = pq.read_table(file)
    for name in ("text", "label"):
        if name not in table.schema.names:
            raise ValueError(f"{file}: no column {name!r}; it has {', '.join(table.schema.names)}")
    texts = [text or "" for text in table["text"].to_pylist()]
    labels = np.array(table["label"].to_pylist(), dtype=np.str_)
    odd = sorted(set(labels.tolist()) - {"human", "machine"})
    if odd:
        raise ValueError(f"{file}: label {odd[0]!r} is neither 'human' nor 'machine'")
    rows = len(texts)
    groups = _column(table, "group", "")
    alone = groups == ""
    if alone.any():
        groups = np.where(alone, [f"{file.stem}/{text_key(text):016x}" for text in texts], groups)
    return Corpus(
        texts,
        [level(text[:SCORED_CHARACTERS]) for text in texts],
        labels == "machine",
        np.full(rows, file.stem),
        groups,
        _column(table, "domain", ""),
        _column(table, "language", "en"),
        _column(table, "generator", ""),
        _column(table, "attack", ""),
    )


def _column(table: pa.Table, name: str, default: str) -> npt.NDArray[np.str_]:
    if name not in table.schema.names:
        return np.full(table.num_rows, default)
    return np.array([value or default for value in table[name].to_pylist()], dtype=np.str_)


def text_key(text: str | bytes) -> int:
    """A 64-bit key of a text, from SHA-256."""
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "little")


def components(corpus: Corpus) -> Int:
    """The component of each row, numbered by its first row. Shape (n,)."""
    _, by_group = np.unique(corpus.groups, return_inverse=True)
    shingles, rows = _sampled_shingles(corpus.levelled)
    pairs = np.unique(np.stack([shingles, by_group[rows].astype(np.uint64)], axis=1), axis=0)
    starts = np.flatnonzero(np.r_[True, pairs[1:, 0] != pairs[:-1, 0]])
    sizes = np.diff(np.r_[starts, len(pairs)])
    parent = np.arange(by_group.max(initial=-1) + 1)

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = int(parent[node])
        return node

    for start, size in zip(starts, sizes, strict=True):
        if 1 < size <= _BOILERPLATE_GROUPS:
            first = root(int(pairs[start, 1]))
            for other in pairs[start + 1 : start + size, 1]:
                parent[root(int(other))] = first
    of_row = np.array([root(int(group)) for group in by_group], np.int64)
    _, first_row, inverse = np.unique(of_row, return_index=True, return_inverse=True)
    return first_row[inverse].astype(np.int64)


def _sampled_shingles(levelled: Sequence[bytes]) -> tuple[npt.NDArray[np.uint64], Int]:
    """One in eight of the shingles, as hashes, with the row that each is from; sampled by value.

    A shingle has 13 words, or 26 where most tokens are characters of a script written without spaces.
    """
    hashes: list[npt.NDArray[np.uint64]] = []
    rows: list[Int] = []
    codes: dict[bytes, int] = {}
    for start in range(0, len(levelled), 4096):
        block = [text.split() for text in levelled[start : start + 4096]]
        width = np.array(
            [
                2 * SHINGLE_WORDS if unspaced_share(text) > 0.5 else SHINGLE_WORDS
                for text in levelled[start : start + 4096]
            ]
        )
        for text in block:
            for word in text:
                if word not in codes:
                    codes[word] = zlib.crc32(word) * _MIX % (1 << 64)
        tokens = np.fromiter((codes[word] for text in block for word in text), np.uint64)
        of_row = np.repeat(np.arange(len(block)), [len(text) for text in block])
        for words in (SHINGLE_WORDS, 2 * SHINGLE_WORDS):
            if len(tokens) < words:
                continue
            window = np.zeros(len(tokens) - words + 1, np.uint64)
            for offset in range(words):
                window += tokens[offset : offset + len(window)] * np.uint64(pow(_ODD, offset, 1 << 64))
            window ^= window >> np.uint64(32)
            window *= np.uint64(_MIX)
            first, last = of_row[: len(window)], of_row[words - 1 :]
            kept = (first == last) & (width[first] == words) & ((window >> np.uint64(40)) % _SAMPLE_ONE_IN == 0)
            hashes.append(window[kept])
            rows.append(first[kept].astype(np.int64) + start)
    if not hashes:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    return np.concatenate(hashes), np.concatenate(rows)


def split(
    corpus: Corpus, component: Int, seed: int, shares: tuple[float, float] = (0.75, 0.10)
) -> npt.NDArray[np.int8]:
    """TRAIN, VALIDATION or TEST for each row, by a hash of its component's smallest group name.

    ``shares`` are those of training and validation; the rest is test. Independent of the order of the rows.
    """
    name: dict[int, str] = {}
    for key, group in zip(component.tolist(), corpus.groups.tolist(), strict=True):
        if key not in name or group < name[key]:
            name[key] = group
    place = {key: text_key(f"{seed}\0{group}") / 2.0**64 for key, group in name.items()}
    position = np.array([place[key] for key in component.tolist()])
    return np.searchsorted(np.cumsum(shares), position, side="right").astype(np.int8)


def without_shared_start(corpus: Corpus, least: int = 20) -> list[bytes]:
    """The levelled texts, machine ones without the words that they share with the start of a human text of their group.

    Continuations repeat the human prompt; learning from it would teach that human words are machine-made.
    """
    originals: dict[str, list[bytes]] = {}
    for row in np.flatnonzero(~corpus.machine):
        originals.setdefault(str(corpus.groups[row]), []).append(corpus.levelled[row])
    texts = list(corpus.levelled)
    for row in np.flatnonzero(corpus.machine):
        text = texts[row]
        shared = max((_shared(text, human) for human in originals.get(str(corpus.groups[row]), ())), default=0)
        if shared >= least:
            texts[row] = text[text.rfind(b" ", 0, shared) + 1 :]
    return texts


def _shared(one: bytes, other: bytes) -> int:
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
