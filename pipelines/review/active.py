"""The documents whose labels teach a detector most.

    candidates = Candidates(vectors, probability, spread, host)
    choose(candidates, 300, labelled=vectors_of_what_has_labels)  # int64 (300,), the first ones first

Four wishes take turns (:data:`TURNS`), and each takes the best candidate that is left:

- *uncertainty*: the log-odds of the detector's probability lie nearest to those of a target, such as 0.5 or the
  threshold of verdicts (Lewis and Gale, SIGIR 1994);
- *disagreement*: the probabilities of the detectors differ most (query by committee: Seung, Opper and Sompolinsky, COLT
  1992);
- *host*: of the hosts with the fewest labels, the most uncertain document;
- *coverage*: farthest from all that is labelled or chosen (farthest-first traversal: Gonzalez, Theoretical Computer
  Science 38 (1985) 293; core sets: Sener and Savarese, ICLR 2018), by the angle between hashed embeddings of words
  (:mod:`pipelines.statistics.panel.embedding`).

A document that is almost the same as one that is labelled or chosen is passed over while there are others. Ties go to
the candidate that stands first: no lot is drawn, and the same candidates give the same choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.records import Place
from pipelines.reserve.encoding import Bytes, fixed_bytes
from pipelines.reserve.frame import id_order, positions
from pipelines.review.population import Population, read_rows
from pipelines.statistics.panel.embedding import DIMENSIONS, SCALE, embed
from pipelines.statistics.panel.words import word_hashes

Vectors = npt.NDArray[np.int8]
Floats = npt.NDArray[np.floating]
Rows = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

POOL: Final = 20_000  # candidates of which the texts are read
SAME: Final = 0.95  # the cosine from which two documents are taken to be almost the same

_BLOCK = 1024
_CERTAIN = 1e-6


class Wish(StrEnum):
    """Why a document is chosen."""

    UNCERTAINTY = "uncertainty"
    DISAGREEMENT = "disagreement"
    HOST = "host"
    COVERAGE = "coverage"


TURNS: Final = (Wish.UNCERTAINTY, Wish.COVERAGE, Wish.UNCERTAINTY, Wish.DISAGREEMENT, Wish.HOST)


class Candidates(NamedTuple):
    """Documents that may be chosen.

    Attributes:
        vectors: of :func:`embedded`, int8 (n, 64).
        probability: of machine origin, (n,); NaN where the detector may not speak.
        spread: the largest less the smallest probability by any detector, (n,); NaN where fewer than two spoke.
        host: a number for each host, none below 0, int (n,).
    """

    vectors: Vectors
    probability: Floats
    spread: Floats
    host: npt.NDArray[np.integer]


class Chosen(NamedTuple):
    """The candidates chosen, int64 (m,), the first ones first, and why each was."""

    rows: Rows
    because: list[Wish]


def embedded(texts: pa.LargeStringArray) -> Vectors:
    """Hashed embeddings of texts, int8 (n, 64); zeros for a text without words."""
    words = word_hashes(texts)
    return embed(words.keys, words.offsets)


def choose(
    candidates: Candidates,
    n: int,
    labelled: Vectors | None = None,
    labelled_hosts: npt.NDArray[np.integer] | None = None,
    targets: Sequence[float] = (0.5,),
    turns: Sequence[Wish] = TURNS,
) -> Rows:
    """The candidates to label: int64 (m,), the first ones first; m is ``n``, or all of them where there are fewer.

    Args:
        candidates: in the order that ties follow.
        n: how many.
        labelled: vectors of documents that have labels, or are not to be chosen again in other words.
        labelled_hosts: the host of each label that there is, in the candidates' numbers.
        targets: probabilities at which a document is uncertain.
        turns: of the wishes, again and again.
    """
    return choose_because(candidates, n, labelled, labelled_hosts, targets, turns).rows


def choose_because(
    candidates: Candidates,
    n: int,
    labelled: Vectors | None = None,
    labelled_hosts: npt.NDArray[np.integer] | None = None,
    targets: Sequence[float] = (0.5,),
    turns: Sequence[Wish] = TURNS,
) -> Chosen:
    """As :func:`choose`, and why."""
    if not turns:
        raise ValueError("no wish has a turn")
    state = _State(candidates, labelled, labelled_hosts, targets)
    rows: list[int] = []
    because: list[Wish] = []
    turn = 0
    while len(rows) < min(n, len(candidates.host)):
        for _ in turns:
            wish = turns[turn % len(turns)]
            turn += 1
            if (row := state.best(wish)) is not None:
                break
        else:
            # Nothing is left that any wish asks for: what was passed over, and then whatever there is.
            if not state.widen():
                wish, row = Wish.COVERAGE, int(np.argmin(state.taken))
            else:
                continue
        assert row is not None
        state.take(row)
        rows.append(row)
        because.append(wish)
    return Chosen(np.array(rows, np.int64), because)


class _State:
    """What is taken, and how near each candidate is to that."""

    def __init__(
        self,
        candidates: Candidates,
        labelled: Vectors | None,
        hosts: npt.NDArray[np.integer] | None,
        targets: Sequence[float],
    ) -> None:
        self.taken: Flags = np.zeros(len(candidates.host), bool)
        self._host = candidates.host.astype(np.int64)
        self._labels = np.bincount(
            np.empty(0, np.int64) if hosts is None else hosts, minlength=int(self._host.max(initial=0)) + 1
        )
        # Whole numbers below 2^24, which float32 adds in any order to the same sum.
        self._vectors = candidates.vectors.astype(np.float32)
        self._nearest = nearest(candidates.vectors, labelled if labelled is not None else candidates.vectors[:0])
        self._wordless = ~candidates.vectors.any(axis=1)
        self._distance = uncertainty(candidates.probability, targets)
        self._spread = np.where(candidates.spread > 0, candidates.spread, -np.inf)
        self._strict = True

    def best(self, wish: Wish) -> int | None:
        """The candidate that is best by this wish; None where it asks for none of those left."""
        open_ = ~self.taken
        if self._strict:
            open_ &= self._nearest < SAME
        if wish is Wish.UNCERTAINTY:
            cost = self._distance
        elif wish is Wish.DISAGREEMENT:
            cost = -self._spread
        elif wish is Wish.HOST:
            cost = np.where(np.isfinite(self._distance), self._distance, np.finfo(np.float64).max)
            if open_.any():
                labels = self._labels[self._host]
                open_ &= labels == labels[open_].min()
        else:
            cost = np.where(self._wordless, np.inf, self._nearest)
        cost = np.where(open_, cost, np.inf)
        row = int(np.argmin(cost))
        return row if cost[row] < np.inf else None

    def take(self, row: int) -> None:
        self.taken[row] = True
        self._labels[self._host[row]] += 1
        np.maximum(self._nearest, self._vectors @ self._vectors[row] / SCALE**2, out=self._nearest)

    def widen(self) -> bool:
        """Lets in what is almost the same as something else; False where it was let in before."""
        strict, self._strict = self._strict, False
        return strict


def uncertainty(probability: Floats, targets: Sequence[float]) -> npt.NDArray[np.float64]:
    """How far the log-odds lie from those of the nearest target, (n,); infinity where there is no probability."""
    distance = np.abs(_log_odds(probability)[:, None] - _log_odds(np.asarray(targets, np.float64))[None]).min(axis=1)
    return np.where(np.isnan(distance), np.inf, distance)


def nearest(vectors: Vectors, others: Vectors) -> npt.NDArray[np.float32]:
    """The largest cosine with any of the others, float32 (n,), but for the vectors' rounding; -1 without others."""
    found = np.full(len(vectors), -1, np.float32)
    ours = vectors.astype(np.float32)
    for at in range(0, len(others), _BLOCK):
        np.maximum(found, (ours @ others[at : at + _BLOCK].astype(np.float32).T).max(axis=1) / SCALE**2, out=found)
    return found


def choose_documents(
    parts: Sequence[tuple[Place, str]],
    population: Population,
    allowed: Flags,
    n: int,
    targets: Sequence[float],
    audited: pa.ChunkedArray,
    labelled: pa.ChunkedArray,
    labelled_rows: Rows,
) -> Chosen:
    """Chooses documents of an output, as rows of its population.

    Args:
        parts: files of what is kept.
        population: of these.
        allowed: which documents may be chosen, (N,).
        n: how many at the most.
        targets: probabilities at which a document is uncertain.
        audited: texts of the audit; what is almost the same as one of these is not chosen.
        labelled: texts that were chosen before.
        labelled_rows: of the population, those that were chosen before.
    """
    pool = candidate_pool(population, allowed, targets)
    vectors = _vectors_of(parts, population.ids[pool])
    apart = nearest(vectors, _embedded(audited)) < SAME
    pool, vectors = pool[apart], vectors[apart]
    candidates = Candidates(vectors, population.probability[pool], population.spread[pool], population.host[pool])
    chosen = choose_because(candidates, n, _embedded(labelled), population.host[labelled_rows], targets)
    return Chosen(pool[chosen.rows], chosen.because)


def candidate_pool(population: Population, allowed: Flags, targets: Sequence[float], most: int = POOL) -> Rows:
    """Rows of the population whose texts are worth reading, ascending: all that are allowed, or ``most`` of them.

    Of more, the most uncertain half, the quarter with the widest spread, and for the rest any: the first in the order
    of drawing.
    """
    rows = np.flatnonzero(allowed)
    if len(rows) <= most:
        return rows
    distance = uncertainty(population.probability[rows], targets)
    spread = np.where(np.isnan(population.spread[rows]), -1, population.spread[rows])
    kept = np.zeros(len(rows), bool)
    for cost, room in ((distance, most // 2), (-spread, most // 4)):
        order = np.argsort(cost, kind="stable")[:room]
        kept[order[cost[order] < (np.inf if cost is distance else 0)]] = True
    kept[np.flatnonzero(~kept)[: most - int(kept.sum())]] = True
    return rows[kept]


def _vectors_of(parts: Sequence[tuple[Place, str]], ids: Bytes) -> Vectors:
    """The embeddings of some documents, in their order; of texts no more than a batch is in memory."""
    order = id_order(ids)
    vectors = np.zeros((len(ids), DIMENSIONS), np.int8)
    for batch in read_rows(parts, ids, ["doc_id", "text"]):
        at = positions(fixed_bytes(batch["doc_id"], 16), ids[order])
        vectors[order[at]] = embedded(batch["text"].cast(pa.large_string()))
    return vectors


def _embedded(texts: pa.ChunkedArray) -> Vectors:
    found = [embedded(chunk.cast(pa.large_string())) for chunk in texts.chunks]
    return np.concatenate([np.empty((0, DIMENSIONS), np.int8), *found])


def _log_odds(probability: Floats) -> npt.NDArray[np.float64]:
    inside = np.clip(probability.astype(np.float64), _CERTAIN, 1 - _CERTAIN)
    return np.asarray(np.log(inside) - np.log1p(-inside), np.float64)
