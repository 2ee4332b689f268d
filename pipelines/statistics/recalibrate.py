"""The decision threshold of a run, from the crawl's own documents that are human by date.

A detector comes with a threshold that held on text which its makers had. Where a crawl's own older pages are flagged
more often than that, the threshold is raised until they are not; by option it is also lowered where they allow it::

    choice = decision_threshold(slices, edges, 0.9, Recalibrate(mode="raise"))
    choice.threshold, choice.reason
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from pipelines.statistics.dated import Edges
from pipelines.statistics.slices import DatedSlice, dated_slices, grouped_share


def _off(value: object) -> object:
    """YAML 1.1 reads a bare ``off`` as false."""
    return "off" if value is False else value


class Recalibrate(BaseModel):
    """Whether the crawl's own pages from before the cut-off move the decision threshold, and how far."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Annotated[Literal["off", "raise", "fit"], BeforeValidator(_off)] = Field(
        "off",
        description="'raise': raise the decision threshold until no slice of the documents that are human by date is "
        "flagged more often than the target; 'fit': also lower it where they allow it",
    )
    target: float = Field(0.01, gt=0, lt=0.5, description="share of a slice that may be flagged")
    min_documents: int = Field(300, ge=1, description="a slice with fewer scored documents decides nothing")
    floor: float = Field(0.5, ge=0, le=1, description="'fit' lowers the threshold to no less than this probability")


class Choice(NamedTuple):
    """The threshold that a run decides by, and why it is that one."""

    threshold: float
    reason: str


class Dated(NamedTuple):
    """What a run knows of its documents that are human by date, before it settles."""

    counts: pa.Table  # of statistics.dated.DATED
    edges: Edges
    choice: Choice


def recalibrated(counts: pa.Table, edges: Edges, threshold: float, options: Recalibrate, level: float = 0.95) -> Choice:
    """:func:`decision_threshold` from merged counts of ``statistics.dated.DATED``."""
    slices = [] if options.mode == "off" else list(dated_slices(counts, edges))
    return decision_threshold(slices, edges, threshold, options, level)


def decision_threshold(
    slices: Sequence[DatedSlice], edges: Edges, threshold: float, options: Recalibrate, level: float = 0.95
) -> Choice:
    """The threshold to decide by.

    Raising looks at what was counted: the threshold is the least edge, at or above the detector's own, at which no
    slice with enough documents exceeds the target. Lowering asks for more: the upper limit of the rate over all
    documents, clustered by host, must not exceed the target either. Single hosts decide nothing: a threshold that
    spares one odd host would let the detector find nothing anywhere.

    Args:
        slices: of :func:`pipelines.statistics.slices.dated_slices`; the first is all documents.
        edges: of :func:`pipelines.statistics.dated.probability_edges`, which hold ``threshold`` and the floor.
        threshold: the detector's own.
        options: mode, target, floor and what is enough.
        level: of the interval.
    """
    if options.mode == "off":
        return Choice(threshold, "the detector's own; recalibration is off")
    enough = [part for part in slices if part.scored >= options.min_documents and "host" not in part.keys]
    if not enough:
        return Choice(
            threshold,
            f"the detector's own: no slice has {options.min_documents:,} scored documents that are human by date",
        )
    own = int(np.searchsorted(edges, np.float32(threshold)))
    needed = [part.edge_at(options.target) for part in enough]
    worst = int(np.argmax(needed))
    where = f"{enough[worst].words} ({enough[worst].scored:,} documents)"
    most = f"no slice of at least {options.min_documents:,} documents that are human by date is flagged more often "
    most += f"than {100 * options.target:g} %"
    if needed[worst] > own:
        return Choice(
            float(edges[needed[worst]]),
            f"raised from {threshold:.4f}: the least at which {most}; it is set by {where}",
        )
    if options.mode == "raise":
        return Choice(threshold, f"the detector's own: {most} at it")
    least = max(needed[worst], int(np.searchsorted(edges, np.float32(options.floor))))
    lowered = _lowest(slices[0], least, own, options.target, level)
    if lowered >= own:
        return Choice(threshold, "the detector's own: the documents that are human by date allow no lower one")
    return Choice(
        float(edges[lowered]),
        f"lowered from {threshold:.4f}: {most} at it, and over all of them the upper limit is no more than that",
    )


def held_out(
    counts: pa.Table, edges: Edges, threshold: float, options: Recalibrate, level: float = 0.95
) -> dict[str, Any] | None:
    """How often documents are flagged that did not choose the threshold; None where nothing was recalibrated.

    The hosts are parted in two halves by a hash of their names. Each half chooses a threshold, with half as many
    documents held to be enough, and is measured at the threshold of the other.

    Returns:
        ``thresholds`` of both halves, ``scored``, ``flagged``, ``rate``, ``low`` and ``high``, clustered by host.
    """
    if options.mode == "off":
        return None
    hosts = counts["host"].to_pylist()
    half = np.array([zlib.crc32(host.encode("utf-8", "surrogatepass")) % 2 for host in hosts], np.int64)
    parts = [list(dated_slices(counts.filter(pa.array(half == side)), edges)) for side in (0, 1)]
    fewer = options.model_copy(update={"min_documents": (options.min_documents + 1) // 2})
    chosen = [decision_threshold(part, edges, threshold, fewer, level).threshold for part in parts]
    at = [int(np.searchsorted(edges, np.float32(value))) for value in chosen]
    groups = [part[0].by_host(edge) for part, edge in zip(parts, at[::-1], strict=True)]
    hits, sizes = (np.concatenate(counted) for counted in zip(*groups, strict=True))
    share = grouped_share(hits, sizes, level)
    scored = int(sizes.sum())
    rate = share.estimate if scored else None
    return {
        "thresholds": chosen,
        "scored": scored,
        "flagged": int(hits.sum()),
        "rate": rate,
        "low": share.low,
        "high": share.high,
    }


def _lowest(everything: DatedSlice, least: int, own: int, target: float, level: float) -> int:
    """The least edge from ``least`` up at which the upper limit over all documents is within the target, or ``own``.

    The limit may fall as the edge does: without a document that is flagged nothing is known of how hosts differ.
    """
    for edge in range(least, own):
        if grouped_share(*everything.by_host(edge), level).high <= target:
            return edge
    return own
