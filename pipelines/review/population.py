"""The population of an audit: every document that an output keeps, with what the draw and the choice look at.

Kept are the documents in ``reserve/``, ``quarantine/`` and ``review/``. They are read once, without their text, and
some 80 bytes a document stay in memory. They are sorted by SHA-256(seed ‖ doc_id), as in
:mod:`pipelines.reserve.frame`: nothing depends on files or on the order of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import files
from pipelines.errors import JobError, UsageError
from pipelines.layout import DOCUMENT_PLACES
from pipelines.opinions import OPINION
from pipelines.records import OUTPUT, TIMESTAMP, Place, Verdict
from pipelines.reserve.encoding import Bytes, fixed_bytes
from pipelines.reserve.frame import _STRATIFIERS as OF_DOCUMENTS
from pipelines.reserve.frame import (
    Labels,
    _Codes,
    _drawing_keys,
    _keys,
    batches,
    id_order,
    positions,
    row_groups,
)
from pipelines.statistics.host_class import host_classes

Floats32 = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int32]

PLACE: Final = "place"
_STRATIFIERS: Final[Mapping[str, tuple[str, Callable[[pa.RecordBatch], pa.Array]]]] = {
    **OF_DOCUMENTS,
    "host_class": ("host", lambda rows: host_classes(rows["host"])),
}
_ALWAYS: Final = ("doc_id", "captured_at", "verdict", "machine_probability", "posterior", "cluster_id", "cluster_size")


class Population(NamedTuple):
    """Kept documents, each once, in the order of drawing.

    Attributes:
        ids: (n, 16) uint8.
        strata: of each the values by which it is stratified, as ranks among those of their column: int32 (c, n).
        names: of these ranks, by column; None where the value is unknown.
        place: number in :data:`pipelines.layout.DOCUMENT_PLACES`, int8.
        verdict: number in :class:`pipelines.records.Verdict`, int8.
        captured: before the cut-off, bool.
        probability: of machine origin by the detector, float32; NaN where it may not speak.
        posterior: the same from all evidence, float32; NaN where the output has none.
        captures: the size of its cluster, int32.
        cluster: its cluster's identity, 16 bytes; empty where it stands alone.
        host: a number, int32; that of an unknown host is a host's, too.
        spread: the largest less the smallest probability by any of the detectors, float32; NaN where fewer than two
            spoke or it was not asked for.
    """

    ids: Bytes
    strata: Codes
    names: list[list[str | None]]
    place: npt.NDArray[np.int8]
    verdict: npt.NDArray[np.int8]
    captured: Flags
    probability: Floats32
    posterior: Floats32
    captures: Codes
    cluster: npt.NDArray[np.bytes_]
    host: Codes
    spread: Floats32

    @property
    def size(self) -> int:
        """Documents."""
        return len(self.ids)

    def within(self, place: Place) -> Flags:
        """Which documents lie in a place."""
        return np.asarray(self.place == DOCUMENT_PLACES.index(place))

    def judged(self, *verdicts: Verdict) -> Flags:
        """Which documents have one of these verdicts."""
        return np.isin(self.verdict, [list(Verdict).index(verdict) for verdict in verdicts])

    def known(self, ids: Bytes) -> Flags:
        """Which documents are among these ids (m, 16), in any order."""
        return positions(self.ids, ids[id_order(ids)]) >= 0

    def labels(self, values: npt.NDArray[np.int64]) -> Labels:
        """The names of ranks (c,)."""
        return tuple(names[value] for names, value in zip(self.names, values.tolist(), strict=True))


def stratifiers(names: Sequence[str]) -> tuple[str, ...]:
    """The same names with the place before them. Raises UsageError for one that is not known or stands there twice."""
    allowed = (PLACE, *_STRATIFIERS)
    for at, name in enumerate(names):
        if name not in allowed:
            raise UsageError(f"--stratify {name}: one or more of {', '.join(allowed)}, with commas")
        if name in names[:at]:
            raise UsageError(f"--stratify {','.join(names)}: {name} stands there twice")
    return (PLACE, *(name for name in names if name != PLACE))


def kept_parts(output: str) -> list[tuple[Place, str]]:
    """The files of what is kept."""
    found = [
        (place, str(one.path))
        for place in DOCUMENT_PLACES
        for one in files.listing(files.join(output, place.value, "part-*.parquet"))
    ]
    if not found:
        wanted = " or ".join(f"{place.value}/" for place in DOCUMENT_PLACES)
        raise UsageError(f"{output}: no finished run here (it takes summary.json and {wanted})")
    return found


def read_population(
    parts: Sequence[tuple[Place, str]], stratify: Sequence[str], seed: str, cutoff: str, opinions: bool = False
) -> Population:
    """Reads what is needed to draw and to choose.

    Args:
        parts: of :func:`kept_parts`.
        stratify: of :func:`stratifiers`.
        seed: of the order.
        cutoff: a date, RFC 3339; captures of that day are not before it.
        opinions: whether ``spread`` is wanted, for which the evidence is read.

    Raises JobError for a file that cannot be read.
    """
    own = [name for name in stratify if name != PLACE]
    columns = {*_ALWAYS, "host", *(_STRATIFIERS[name][0] for name in own), *(("evidence",) if opinions else ())}
    codes, hosts = [_Codes() for _ in stratify], _Codes()
    read = [_empty(len(stratify))]
    for place, path in parts:
        for batch in batches(path, [name for name in OUTPUT.names if name in columns]):
            values = [
                pa.array([place.value] * batch.num_rows, pa.string()) if name == PLACE else _STRATIFIERS[name][1](batch)
                for name in stratify
            ]
            strata = np.array([code.of(value) for code, value in zip(codes, values, strict=True)], np.int32)
            read.append(_of_batch(path, place, batch, strata.reshape(len(stratify), -1), hosts, cutoff, opinions))
    return _ordered(read, codes, hosts, seed)


def read_rows(parts: Sequence[tuple[Place, str]], ids: Bytes, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows of some documents, a repeated capture once or more often; `place` is added as the last column.

    Args:
        parts: of :func:`kept_parts`.
        ids: (m, 16).
        columns: of :data:`pipelines.records.OUTPUT`.
    """
    wanted = ids[id_order(ids)]
    places = {path: place for place, path in parts}
    for path, group in row_groups([path for _, path in parts]):
        if not any((_at(path, batch, wanted) >= 0).any() for batch in batches(path, ["doc_id"], [group])):
            continue
        for batch in batches(path, list(columns), [group]):
            rows = batch.filter(pa.array(_at(path, batch, wanted) >= 0))
            if rows.num_rows:
                yield rows.append_column(PLACE, pa.array([places[path].value] * rows.num_rows, pa.string()))


def _of_batch(
    path: str, place: Place, batch: pa.RecordBatch, strata: Codes, hosts: _Codes, cutoff: str, opinions: bool
) -> Population:
    before = pc.less(batch["captured_at"], pa.scalar(np.datetime64(cutoff, "us"), pa.timestamp("us")).cast(TIMESTAMP))
    probability = _floats(batch["machine_probability"])
    clusters = batch["cluster_id"]
    cluster = np.zeros(batch.num_rows, "S16")
    try:
        ids = fixed_bytes(batch["doc_id"], 16)
        cluster[clusters.is_valid().to_numpy(zero_copy_only=False)] = _keys(fixed_bytes(clusters.drop_null(), 16))
    except ValueError as error:
        raise JobError(f"{path}: doc_id: {error}; see 'reserve verify'") from None
    return Population(
        ids,
        strata,
        [],
        np.full(batch.num_rows, DOCUMENT_PLACES.index(place), np.int8),
        pc.index_in(batch["verdict"], pa.array(list(Verdict), pa.string())).to_numpy().astype(np.int8),
        before.fill_null(False).to_numpy(zero_copy_only=False),
        probability,
        _floats(batch["posterior"]),
        batch["cluster_size"].to_numpy().astype(np.int32),
        cluster,
        hosts.of(batch["host"]),
        _spread(batch["evidence"], probability) if opinions else np.full(batch.num_rows, np.nan, np.float32),
    )


def _ordered(read: Sequence[Population], codes: Sequence[_Codes], hosts: _Codes, seed: str) -> Population:
    """One population of those of all batches: each document once, in the order of drawing."""
    merged = [np.concatenate([getattr(one, name) for one in read], axis=-1) for name in _NUMBERS]
    whole = Population(np.concatenate([one.ids for one in read]), merged[0], [], *merged[1:])
    # A capture that stands in two shards is one document; where its copies differ, the first place counts.
    by_id = np.lexsort((whole.captures, whole.place, _keys(whole.ids)))
    sorted_ids = whole.ids[by_id]
    first = np.ones(whole.size, bool)
    first[1:] = (sorted_ids[1:] != sorted_ids[:-1]).any(axis=1)
    one_each = by_id[first]
    rows = one_each[np.argsort(_drawing_keys(whole.ids[one_each], seed), kind="stable")]
    ranked = [code.ranks() for code in codes]
    strata = np.array([ranks[whole.strata[at][rows]] for at, (ranks, _) in enumerate(ranked)], np.int32)
    ordered = whole._replace(
        ids=whole.ids[rows],
        strata=strata.reshape(len(codes), len(rows)),
        names=[names for _, names in ranked],
        **{name: getattr(whole, name)[rows] for name in _NUMBERS[1:]},
    )
    return ordered._replace(host=hosts.ranks()[0][ordered.host].astype(np.int32)) if len(rows) else ordered


_NUMBERS: Final = [name for name in Population._fields if name not in ("ids", "names")]


def _empty(columns: int) -> Population:
    small, real, code = np.empty(0, np.int8), np.empty(0, np.float32), np.empty(0, np.int32)
    none = np.empty((columns, 0), np.int32)
    return Population(
        np.empty((0, 16), np.uint8),
        none,
        [],
        small,
        small,
        np.empty(0, bool),
        real,
        real,
        code,
        np.empty(0, "S16"),
        code,
        real,
    )


def _floats(column: pa.Array) -> Floats32:
    return column.to_numpy(zero_copy_only=False).astype(np.float32)  # type: ignore[no-any-return]


def _spread(evidence: pa.ListArray, own: Floats32) -> Floats32:
    """By how much the detectors' probabilities of each row differ."""
    items = evidence.flatten()
    spoke = pc.and_(pc.equal(items.field("kind"), OPINION), pc.is_valid(items.field("probability")))
    rows = evidence.value_parent_indices().filter(spoke).to_numpy()
    told = items.field("probability").filter(spoke).to_numpy()
    low, high = np.where(np.isnan(own), np.inf, own), np.where(np.isnan(own), -np.inf, own)
    np.minimum.at(low, rows, told)
    np.maximum.at(high, rows, told)
    voices = np.bincount(rows, minlength=len(own)) + ~np.isnan(own)
    with np.errstate(invalid="ignore"):
        return np.where(voices > 1, high - low, np.nan).astype(np.float32)


def _at(path: str, batch: pa.RecordBatch, among: Bytes) -> npt.NDArray[np.int64]:
    try:
        return positions(fixed_bytes(batch["doc_id"], 16), among)
    except ValueError as error:
        raise JobError(f"{path}: doc_id: {error}; see 'reserve verify'") from None
