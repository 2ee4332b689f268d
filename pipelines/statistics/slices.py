"""Slices of the documents that are human by date, and a share of one with an interval clustered by host.

Documents of one host are written by the same people with the same template, and the detector errs on them together; an
interval that takes each for an independent draw is too narrow::

    for part in dated_slices(counts, edges):
        share = grouped_share(*part.by_host(edge))
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import special

from detectors.clustered import Share
from pipelines.statistics.dated import Edges
from pipelines.statistics.intervals import clopper_pearson

Int = npt.NDArray[np.int64]

MARGINS: tuple[tuple[str, ...], ...] = (
    (),
    ("language",),
    ("length",),
    ("year",),
    ("language", "length"),
    ("language", "year"),
    ("length", "year"),
    ("language", "length", "year"),
)
_ENOUGH_HITS = 5  # as in detectors.clustered: with one more host than that, the variance between hosts is believed


@dataclass(frozen=True)
class DatedSlice:
    """The counts of one slice. Rows hold scored documents of one host in one bin."""

    keys: dict[str, str]
    documents: int  # scored or not
    scored: int
    host: Int  # (rows,) of numbers from 0 up
    bin: Int  # (rows,)
    count: Int  # (rows,)
    histogram: Int  # (edges + 1,) of scored documents

    @property
    def words(self) -> str:
        """The slice for people."""
        return ", ".join(self.keys.values()) or "all"

    def flagged(self, edge: int) -> int:
        """Documents whose probability reaches the edge."""
        return int(self.histogram[edge + 1 :].sum())

    def edge_at(self, target: float) -> int:
        """The least edge that no more than this share of the scored documents reach."""
        reach = self.histogram[::-1].cumsum()[::-1][1:]  # documents that reach each edge
        return int(np.argmax(reach <= target * self.scored + 1e-9))

    def by_host(self, edge: int) -> tuple[Int, Int]:
        """(hosts,) of flagged and (hosts,) of scored documents; for a slice of one host, each document by itself."""
        if "host" in self.keys:
            hits = np.zeros(self.scored, np.int64)
            hits[: self.flagged(edge)] = 1
            return hits, np.ones(self.scored, np.int64)
        number = int(self.host.max(initial=-1)) + 1
        flagged = np.bincount(self.host, self.count * (self.bin > edge), number)
        return flagged.astype(np.int64), np.bincount(self.host, self.count, number).astype(np.int64)


def dated_slices(counts: pa.Table, edges: Edges) -> Iterator[DatedSlice]:
    """The slices of :data:`MARGINS` in their order, each margin sorted by its keys; the first is all documents.

    Args:
        counts: merged, of ``dated.DATED``.
        edges: with which they were counted.
    """
    for margin in MARGINS:
        yield from _slices(counts, margin, len(edges) + 1)


def host_slices(counts: pa.Table, edges: Edges, least: int, most: int = 1000) -> Iterator[DatedSlice]:
    """The hosts with at least so many scored documents, sorted by name; of more than ``most``, the largest."""
    scored = counts.filter(pc.not_equal(counts["bin"], ""))
    sums = scored.group_by("host", use_threads=False).aggregate([("documents", "sum")])
    sums = sums.filter(pc.greater_equal(sums["documents_sum"], least))
    sums = sums.sort_by([("documents_sum", "descending"), ("host", "ascending")]).slice(0, most)
    wanted = counts.filter(pc.is_in(counts["host"], sums["host"].combine_chunks()))
    yield from _slices(wanted, ("host",), len(edges) + 1)


def grouped_share(hits: Int, sizes: Int, level: float = 0.95) -> Share:
    """The share of hits in groups of documents, shapes (groups,), with an interval that takes a group as the unit.

    That of ``detectors.clustered.clustered_share`` (Korn and Graubard, 1998, Survey Methodology 24(2)), from counts by
    group, so that it needs no array of all documents. Without documents: NaN, and [0, 1].
    """
    hits, sizes = hits[sizes > 0].astype(np.float64), sizes[sizes > 0].astype(np.float64)
    groups, n = len(sizes), float(sizes.sum())
    if not groups:
        return Share(float("nan"), 0.0, 1.0, 0.0)
    p, kish = float(hits.sum()) / n, n**2 / float((sizes**2).sum())
    effective = kish
    rarer = min(int((hits > 0).sum()), int((hits < sizes).sum()))
    if groups == n:
        effective = n
    elif rarer and groups > 1:
        variance = groups / (groups - 1) * float(((hits - p * sizes) ** 2).sum()) / n**2
        known = min(p * (1 - p) / variance, n) if variance > 0 else kish
        trust = min(1.0, (rarer - 1) / _ENOUGH_HITS)
        effective = known * trust + min(kish, known) * (1 - trust)
        effective *= (_quantile(n - 1, level) / _quantile(groups - 1, level)) ** 2
    effective = max(effective, 1e-9)
    low, high = clopper_pearson(p * effective, effective, level)
    return Share(p, float(low), float(high), effective)


def _quantile(freedom: float, level: float) -> float:
    return float(special.stdtrit(max(freedom, 1.0), 1 - (1 - level) / 2))


def _slices(counts: pa.Table, margin: tuple[str, ...], bins: int) -> Iterator[DatedSlice]:
    if not counts.num_rows:
        if not margin:
            yield _slice({}, counts, bins)
        return
    counts = counts.sort_by([(name, "ascending") for name in (*margin, "host", "bin")])
    coded = [pc.rank(counts[name], sort_keys="ascending", tiebreaker="dense").to_numpy() for name in margin]
    changed = np.zeros(counts.num_rows, bool)
    changed[0] = True
    for codes in coded:
        changed[1:] |= codes[1:] != codes[:-1]
    starts = np.flatnonzero(changed)
    for start, end in zip(starts, [*starts[1:], counts.num_rows], strict=True):
        rows = counts.slice(start, end - start)
        yield _slice({name: rows[name][0].as_py() for name in margin}, rows, bins)


def _slice(keys: dict[str, str], rows: pa.Table, bins: int) -> DatedSlice:
    scored = rows.filter(pc.not_equal(rows["bin"], ""))
    number = scored["documents"].to_numpy()
    at = scored["bin"].cast(pa.int64()).to_numpy()
    _, host = np.unique(scored["host"].to_numpy(zero_copy_only=False).astype(str), return_inverse=True)
    histogram = np.bincount(at, number, bins).astype(np.int64)
    return DatedSlice(
        keys, int(rows["documents"].to_numpy().sum()), int(number.sum()), host.astype(np.int64), at, number, histogram
    )
