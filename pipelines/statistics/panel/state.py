"""What is known of one slice of a corpus: counts and sketches that merge, of a fixed size.

A state is taken of any texts, and the state of two corpora together is the merge of theirs, whatever the sharding and
the order::

    >>> a, b = state_of(["one text", "another"]), state_of(["a third"])
    >>> merge_states([a, b]).documents.sum()
    np.int64(3)

Documents fall into :data:`GROUPS` random groups by their key. Leaving out one group at a time gives the error of
whatever is estimated from a state (the delete-a-group jackknife: Wolter, "Introduction to Variance Estimation", 2007,
chapter 4).
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.neardup.minhash import sign
from pipelines.neardup.options import NearDup
from pipelines.neardup.shingles import text_buffers
from pipelines.statistics.panel.embedding import DIMENSIONS, embed
from pipelines.statistics.panel.sketches import (
    BUCKETS,
    REGISTERS,
    Sample,
    distinct_in_windows,
    empty_sample,
    registers_of,
    sample_ngrams,
    union,
)
from pipelines.statistics.panel.surprisal import BINS, bin_of, surprisal
from pipelines.statistics.panel.words import Words, word_hashes

GROUPS = 8
WINDOW = 50  # words
ORDERS = (1, 3)  # words an n-gram
SAMPLE = 512  # n-grams a group
EXCERPTS = 32  # documents a group
EXCERPT_BYTES = 1024
NO_SIGNATURE = np.uint32(0xFFFFFFFF)  # all along a row; no text has it, since each has a shingle
SETS = ("documents", "trigrams")  # what is counted by HyperLogLog

_BATCH = 1 << 25  # bytes of text

Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]


class Excerpts(NamedTuple):
    """The documents of a group with the least mixed keys, ascending: a random sample without replacement.

    ``keys`` uint64 (m,); ``texts`` the first 1,024 bytes of each text, UTF-8, cut at a character; ``signatures``
    uint32 (m, permutations), of the whole texts, a row of 2³² − 1 where a document has none.
    """

    keys: UInt64
    texts: list[bytes]
    signatures: npt.NDArray[np.uint32]


@dataclass(frozen=True, eq=False)
class State:
    """One slice; G = :data:`GROUPS`.

    Attributes:
        documents, words, bytes: int64 (G,); bytes of text in UTF-8.
        window_types: int64 (G,) distinct words summed over all windows of :data:`WINDOW` words within a document.
        windows: int64 (G,) the number of these windows; a shorter document has none.
        samples: by order (1 and 3), one sample of n-grams a group; n-grams do not cross documents.
        signed: int64 (G, 512) signed count sketch of words; the squares of its sum over groups add up to F2.
        registers: by name ("documents": distinct texts; "trigrams"), uint8 (4096,) HyperLogLog registers.
        excerpts: one a group.
        surprisal: int64 (G, 512) documents by mean bits a word under the language's reference model, in bins of 1/16
            bit, the last of them open; documents whose language has no model, and those without words, are in none.
        outer: int64 (G, 64, 64) the sum of x xᵀ over documents, x being the int8 embedding.
    """

    documents: Int64
    words: Int64
    bytes: Int64
    window_types: Int64
    windows: Int64
    samples: dict[int, list[Sample]]
    signed: Int64
    registers: dict[str, npt.NDArray[np.uint8]]
    excerpts: list[Excerpts]
    surprisal: Int64
    outer: Int64


SUMS = ("documents", "words", "bytes", "window_types", "windows", "signed", "surprisal", "outer")
SHAPES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("documents", "words", "bytes", "window_types", "windows"), (GROUPS,)),
    "signed": (GROUPS, BUCKETS),
    "surprisal": (GROUPS, BINS),
    "outer": (GROUPS, DIMENSIONS, DIMENSIONS),
}


class Documents(NamedTuple):
    """What a state is made of, one entry a document.

    ``keys`` uint64 (d,): the documents' own keys; ``contents`` uint64 (d,): hashes of their texts; ``signatures``
    uint32 (d, permutations); ``window_types`` int64 (d,): distinct words summed over the windows; ``embeddings`` int8
    (d, 64); ``surprisal`` float64 (d,) bits a word, NaN where unknown.
    """

    texts: pa.LargeStringArray
    words: Words
    keys: UInt64
    contents: UInt64
    signatures: npt.NDArray[np.uint32]
    window_types: Int64
    embeddings: npt.NDArray[np.int8]
    surprisal: npt.NDArray[np.float64]


def empty_state() -> State:
    """Of no document."""
    sums = {name: np.zeros(shape, np.int64) for name, shape in SHAPES.items()}
    return State(
        **sums,
        samples={order: [empty_sample() for _ in range(GROUPS)] for order in ORDERS},
        registers={name: np.zeros(REGISTERS, np.uint8) for name in SETS},
        excerpts=[Excerpts(np.empty(0, np.uint64), [], np.empty((0, 0), np.uint32)) for _ in range(GROUPS)],
    )


def merge_states(states: Sequence[State]) -> State:
    """The state of all the documents together. Associative, commutative and exact: any order gives the same arrays."""
    states = list(states)
    if not states:
        return empty_state()
    sums = {name: np.sum([getattr(one, name) for one in states], axis=0) for name in SUMS}
    return State(
        **sums,
        samples={
            order: [union([one.samples[order][g] for one in states], SAMPLE) for g in range(GROUPS)] for order in ORDERS
        },
        registers={name: np.max([one.registers[name] for one in states], axis=0) for name in SETS},
        excerpts=[_merge_excerpts([one.excerpts[g] for one in states]) for g in range(GROUPS)],
    )


def state_of(
    texts: Sequence[str] | pa.Array | pa.ChunkedArray,
    keys: UInt64 | None = None,
    language: str = "en",
    options: NearDup | None = None,
) -> State:
    """The state of any corpus.

    Args:
        texts: the documents; nulls are read as empty texts.
        keys: uint64 (d,) random keys of the documents, by which they fall into groups and are drawn as excerpts.
            Without them they come from the texts, so that the order of the texts makes no difference; equal texts
            are told apart by their number.
        language: ISO 639-1, for the reference model.
        options: how the excerpts are signed.
    """
    column = texts if isinstance(texts, pa.Array | pa.ChunkedArray) else pa.array(list(texts), pa.large_string())
    column = column.cast(pa.large_string())
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    contents = _content_hashes(column)
    if keys is None:
        keys = _numbered(contents)
    if len(keys) != len(column):
        raise ValueError(f"{len(keys)} keys for {len(column)} texts: give one key a text, or none")
    how = NearDup() if options is None else options
    states = []
    for begin, end in _batches(column):
        part, own = column.slice(begin, end - begin), keys[begin:end]
        # Only what may become an excerpt is signed: signing all would take most of the time.
        drawn = np.concatenate([at[excerpt_rows(own[at])] for at in by_group(own)])
        signatures = np.full((len(part), how.permutations), NO_SIGNATURE, np.uint32)
        signatures[drawn] = sign(part.take(pa.array(drawn)), how).values
        languages = pa.repeat(pa.scalar(language, pa.string()), len(part))
        documents = describe(part, own, contents[begin:end], signatures, languages)
        states.append(build_state(documents, np.arange(len(part), dtype=np.int64)))
    return merge_states(states)


def warm_up() -> None:
    """Compiles the kernels and reads the reference models, before work is timed or forked."""
    state_of(["warm up"])


def describe(
    texts: pa.LargeStringArray,
    keys: UInt64,
    contents: UInt64,
    signatures: npt.NDArray[np.uint32],
    languages: pa.Array,
) -> Documents:
    """Words, embeddings and surprisal of a batch; ``languages`` (string, no nulls) has one code a text."""
    words = word_hashes(texts)
    codes = languages.dictionary_encode()
    indices = codes.indices.to_numpy(zero_copy_only=False)
    bits = np.full(len(texts), np.nan)
    for code, language in enumerate(codes.dictionary.to_pylist()):
        rows = np.flatnonzero(indices == code)
        bits[rows] = surprisal(*words.take(rows), language)
    types = distinct_in_windows(*words, WINDOW)
    return Documents(texts, words, keys, contents, signatures, types, embed(*words), bits)


def build_state(documents: Documents, rows: Int64) -> State:
    """The state of some of the documents."""
    state = empty_state()
    words, offsets = documents.words
    # Of these rows alone: what is done here must not grow with the rest of the batch.
    starts, ends, data = text_buffers(documents.texts.take(pa.array(rows)))
    length, count = ends - starts, offsets[rows + 1] - offsets[rows]
    state.registers["documents"][:] = registers_of(documents.contents[rows])
    for group, members in enumerate(by_group(documents.keys[rows])):
        if not len(members):
            continue  # most groups of most slices
        at = rows[members]
        state.documents[group] = len(at)
        state.words[group] = count[members].sum()
        state.bytes[group] = length[members].sum()
        state.window_types[group] = documents.window_types[at].sum()
        state.windows[group] = np.maximum(count[members] - (WINDOW - 1), 0).sum()
        trigrams, buckets = state.registers["trigrams"], state.signed[group]
        state.samples[1][group] = sample_ngrams(words, offsets, at, 1, SAMPLE, buckets=buckets)
        state.samples[3][group] = sample_ngrams(words, offsets, at, 3, SAMPLE, registers=trigrams)
        drawn = members[excerpt_rows(documents.keys[at])]
        cut = [data[starts[i] : excerpt_end(data, starts[i], ends[i])].tobytes() for i in drawn]
        found = Excerpts(mixed(documents.keys[rows[drawn]]), cut, documents.signatures[rows[drawn]])
        state.excerpts[group] = _merge_excerpts([found])
        bins = bin_of(documents.surprisal[at])
        state.surprisal[group] = np.bincount(bins[bins >= 0], minlength=BINS)
        # In float64 for the sake of BLAS: whole numbers, and exact up to 10^11 documents.
        vectors = documents.embeddings[at].astype(np.float64)
        state.outer[group] = (vectors.T @ vectors).astype(np.int64)
    return state


def by_group(keys: UInt64) -> list[Int64]:
    """The rows of each group, ascending."""
    groups = keys % np.uint64(GROUPS)
    return [np.flatnonzero(groups == group) for group in range(GROUPS)]


def mixed(keys: UInt64) -> UInt64:
    """The keys by which excerpts are drawn: a bijection (the 64-bit finalizer of MurmurHash3), unrelated to groups."""
    keys = (keys ^ (keys >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    keys = (keys ^ (keys >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return keys ^ (keys >> np.uint64(33))


def excerpt_rows(keys: UInt64) -> Int64:
    """The rows that become the excerpts of a group with these keys; some more where keys are equal."""
    spread = mixed(keys)
    if len(keys) <= EXCERPTS:
        return np.arange(len(keys))
    return np.flatnonzero(spread <= np.partition(spread, EXCERPTS - 1)[EXCERPTS - 1])


def excerpt_end(data: npt.NDArray[np.uint8], start: int, end: int) -> int:
    """Where the excerpt of ``data[start:end]`` ends: no character of UTF-8 is cut in two."""
    if end - start <= EXCERPT_BYTES:
        return end
    at = start + EXCERPT_BYTES
    while at > start and data[at] & 0xC0 == 0x80:
        at -= 1
    return at


def _merge_excerpts(several: Sequence[Excerpts]) -> Excerpts:
    several = [one for one in several if len(one.keys)]
    if not several:
        return Excerpts(np.empty(0, np.uint64), [], np.empty((0, 0), np.uint32))
    widths = {one.signatures.shape[1] for one in several}
    if len(widths) > 1:
        raise ValueError(
            f"signatures of {sorted(widths)} permutations cannot be merged: sign both with the same number"
        )
    keys = np.concatenate([one.keys for one in several])
    texts = list(itertools.chain.from_iterable(one.texts for one in several))
    signatures = np.concatenate([one.signatures for one in several])
    order = np.argsort(keys)
    # Two documents of one key are told apart by what they say, so that their order is the same in every merge.
    if (np.diff(keys[order]) == 0).any():
        order = np.array(sorted(order, key=lambda i: (keys[i], texts[i], signatures[i].tobytes())))
    order = order[:EXCERPTS]
    return Excerpts(keys[order], [texts[i] for i in order], signatures[order])


def _content_hashes(texts: pa.LargeStringArray) -> UInt64:
    """The first 8 bytes of each text's SHA-256."""
    starts, ends, data = text_buffers(texts)
    digests = (hashlib.sha256(data[a:b].data).digest()[:8] for a, b in zip(starts.tolist(), ends.tolist(), strict=True))
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def _numbered(contents: UInt64) -> UInt64:
    """Keys out of content hashes: the i-th of several equal ones gets a key of its own."""
    order = np.argsort(contents, kind="stable")
    sorted_ = contents[order]
    at = np.arange(len(sorted_))
    first = np.maximum.accumulate(np.where(np.diff(sorted_, prepend=sorted_[:1] ^ np.uint64(1)) != 0, at, 0))
    number = np.empty(len(at), np.uint64)
    number[order] = (at - first).astype(np.uint64)
    return mixed(contents + number * np.uint64(0x9E3779B97F4A7C15))


def _batches(texts: pa.LargeStringArray) -> list[tuple[int, int]]:
    """Rows in batches of about so many bytes, so that memory is flat in the size of the corpus."""
    starts, ends, _ = text_buffers(texts)
    batch = np.cumsum(ends - starts) // _BATCH
    edges = [0, *(np.flatnonzero(np.diff(batch)) + 1).tolist(), len(texts)]
    return [(a, b) for a, b in itertools.pairwise(edges) if b > a]
