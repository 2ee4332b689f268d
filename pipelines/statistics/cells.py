"""The cells of month × host × host class × language and their margins: what is counted in each, and what it weighs.

    rows = Rows(tally)
    cells = Cells(rows, ("month", "language"), "tokens", "crawled")
    cells.keys["month"], cells.count["judged"], cells.amount["flagged"]

Shares are of documents, of tokens or of hosts: a sum of weights of documents. A document weighs 1, or its tokens, or,
where every host shall count the same, one over the judged documents of its host in that cell.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.records import Place
from pipelines.statistics.host_class import HostClasses, host_classes
from pipelines.statistics.intervals import FloatArray, lower_bound
from pipelines.statistics.tally import SCORE_BINS, SQUARE_UNIT

DIMENSIONS = ("month", "host", "host_class", "language")
UNITS = ("documents", "tokens", "hosts")
POPULATIONS = ("crawled", "deduplicated")
COUNTS = ("documents", "after_cutoff", "scored", "judged", "direct", "older_copy", "flagged")
_Ints = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.bool_]
_Kind = TypeVar("_Kind", bound=np.generic)


class Rows:
    """A merged tally as arrays of (rows,): keys as numbers in the order of their names, counts as floats.

    Sums of counts are exact up to 2^53.
    """

    def __init__(self, tally: pa.Table, classes: HostClasses | None = None) -> None:
        self.names: dict[str, pa.Array] = {}
        self.codes: dict[str, _Ints] = {}
        for name in ("month", "host", "language"):
            self.names[name], self.codes[name] = _sorted_codes(tally[name])
        self.names["host_class"], of_host = _sorted_codes(host_classes(self.names["host"], classes))
        self.codes["host_class"] = of_host[self.codes["host"]]
        self._class_of_host = of_host
        self.documents, self.tokens, squared = (
            tally[name].to_numpy().astype(np.float64) for name in ("documents", "tokens", "tokens_squared")
        )
        self.tokens_squared = squared * SQUARE_UNIT
        self.clustered, self.copies = (tally[name].to_numpy() for name in ("clustered", "copies"))
        self.after, self.direct, self.older, self.judged, flagged = (
            _mask(tally[name]) for name in ("after_cutoff", "direct", "older_copy", "judged", "flagged")
        )
        self.judged &= self.after
        self.direct &= self.after
        self.scored = _mask(pc.greater(tally["scored"], 0)) & self.after
        # Of these only the detector can say anything: no direct evidence, no older copy.
        self.rest = self.scored & ~self.direct & ~self.older
        self.flagged = flagged & self.rest
        self.bins = pc.fill_null(pc.index_in(tally["bin"], pa.array(SCORE_BINS, pa.string())), 0).to_numpy()
        self.kept = _mask(pc.not_equal(tally["place"], str(Place.DUPLICATES)))

    def classes_of(self, hosts: pa.Array) -> pa.Array:
        """The classes of some of the tally's hosts."""
        at = pc.index_in(hosts, self.names["host"]).to_numpy()
        return self.names["host_class"].take(pa.array(self._class_of_host[at]))


class Cells:
    """The counts of the cells of one margin, in one unit, over one population; every array is (size,).

    ``count`` has whole numbers for the table: of documents or tokens, and in the unit "hosts" of hosts with at least
    one such document. ``amount`` has the weights that shares are made of.
    """

    def __init__(self, rows: Rows | pa.Table, margin: tuple[str, ...], unit: str, population: str) -> None:
        self.margin, self.unit, self.population = margin, unit, population
        self._rows = rows = rows if isinstance(rows, Rows) else Rows(rows)
        self._at = np.flatnonzero(rows.kept) if population == "deduplicated" else np.arange(len(rows.kept))
        self._cell, self.keys = self._numbered()
        self.size = int(self._cell.max()) + 1 if len(self._cell) else 0
        hosts, at = np.unique(self._cell * len(rows.names["host"]) + self._of(rows.codes["host"]), return_inverse=True)
        self._pair, self._pairs = at, hosts // max(1, len(rows.names["host"]))  # of each row, and each pair's cell
        documents = self._of(rows.documents)
        weight, square = self._weights(self._of(rows.judged))
        masks = {
            "documents": np.ones(len(self._at), np.bool_),
            "after_cutoff": self._of(rows.after),
            "scored": self._of(rows.scored),
            "judged": self._of(rows.judged),
            "direct": self._of(rows.direct),
            "older_copy": self._of(rows.older),
            "flagged": self._of(rows.flagged),
            "rest": self._of(rows.rest),
        }
        rest = masks["rest"]
        self.count = {name: self._counted(masks[name]) for name in (*COUNTS, "rest")}
        named = {"rest_documents": rest, "after_documents": masks["after_cutoff"], "direct_documents": masks["direct"]}
        self.count |= {name: self._whole(documents * mask) for name, mask in named.items()}
        self.amount = {name: self._sum(weight * masks[name]) for name in ("judged", "direct", "flagged", "rest")}
        self._squares = self._sum(square * rest)
        copies = rest if population == "crawled" else rest & False
        self._clustered, self._copies = (self._sum(self._of(c) * copies) for c in (rows.clustered, rows.copies))
        in_bins = np.bincount(
            self._cell * len(SCORE_BINS) + self._of(rows.bins), weight * rest, self.size * len(SCORE_BINS)
        )
        self.histogram = in_bins.reshape(self.size, len(SCORE_BINS))  # (size, 8) of "rest"
        self.languages, self.mix = self._language_mix(weight * rest)
        self.hosts = self._effective_hosts(weight * rest)

    @property
    def kish(self) -> FloatArray:
        """How many documents of equal weight the scored ones without direct evidence are worth (Kish, 1965).

        (Σw)² / Σw², which is their number where the unit is documents.
        """
        rest = self.amount["rest"]
        return np.where(rest > 0, rest * rest / np.maximum(self._squares, 1e-300), 0.0)

    @property
    def effective(self) -> FloatArray:
        """How many independent documents the scored ones without direct evidence are worth.

        Copies are flagged together, and documents may weigh differently (Kish, Survey Sampling, 1965); the two design
        effects multiply. r documents whose clusters hold m in all bring at most min(m, r^2) to the sum of squared
        cluster sizes.
        """
        n = self.count["rest_documents"].astype(np.float64)
        shared = self._clustered
        squares = n - shared + np.minimum(np.maximum(self._copies, shared), shared**2)
        return np.asarray(n / np.maximum(squares, 1) * self.kish, np.float64)

    def direct_bound(self, level: float) -> FloatArray:
        """The one-sided lower limit for the share with direct evidence of all that is after the cut-off.

        By documents it is Clopper and Pearson's, exact where documents are independent. By tokens and by hosts it is
        the same at the effective number of documents: a host then weighs the same in all that is after the cut-off.
        """
        if self.unit == "documents":
            return lower_bound(self.count["direct_documents"], self.count["after_documents"], level)
        after = self._of(self._rows.after)
        weight, square = self._weights(after)
        whole, direct = self._sum(weight * after), self._sum(weight * self._of(self._rows.direct))
        n = whole * whole / np.maximum(self._sum(square * after), 1e-300)
        # A sum of as many weights may pass their whole by a rounding error.
        return lower_bound(np.minimum(direct / np.maximum(whole, 1e-300), 1.0) * n, n, level)

    def judged_hosts(self) -> _Ints:
        """Of how many hosts there is a document that only the detector can judge."""
        pairs = np.bincount(self._pair, self._of(self._rows.rest), len(self._pairs)) > 0
        return np.bincount(self._pairs, pairs, self.size).astype(np.int64)

    def _of(self, column: npt.NDArray[_Kind]) -> npt.NDArray[_Kind]:
        return column if len(self._at) == len(column) else column[self._at]

    def _sum(self, column: npt.NDArray[Any]) -> FloatArray:
        return np.asarray(np.bincount(self._cell, column, self.size), np.float64)

    def _whole(self, column: npt.NDArray[Any]) -> _Ints:
        return np.rint(self._sum(column)).astype(np.int64)

    def _counted(self, mask: _Mask) -> _Ints:
        """Documents, tokens or hosts of each cell for which ``mask`` holds."""
        if self.unit != "hosts":
            return self._whole(self._of(getattr(self._rows, self.unit)) * mask)
        pairs = np.bincount(self._pair, mask, len(self._pairs)) > 0
        return np.bincount(self._pairs, pairs, self.size).astype(np.int64)

    def _weights(self, among: _Mask) -> tuple[FloatArray, FloatArray]:
        """What the documents of each row weigh in all, and the sum of the squares of their weights."""
        rows, documents = self._rows, self._of(self._rows.documents)
        if self.unit == "documents":
            return documents, documents
        if self.unit == "tokens":
            return self._of(rows.tokens), self._of(rows.tokens_squared)
        of_host = np.bincount(self._pair, documents * among, len(self._pairs))[self._pair]
        each = among / np.maximum(of_host, 1)
        return documents * each, documents * each * each

    def _numbered(self) -> tuple[_Ints, dict[str, pa.Array]]:
        """The cell of each row, and the keys of the cells, sorted by their names."""
        rows = self._rows
        combined = np.zeros(len(self._at), np.int64)
        for name in self.margin:
            combined = combined * len(rows.names[name]) + self._of(rows.codes[name])
        found, cell = np.unique(combined, return_inverse=True)
        keys = {}
        for name in reversed(self.margin):
            found, code = np.divmod(found, max(1, len(rows.names[name])))
            keys[name] = rows.names[name].take(pa.array(code))
        return cell.astype(np.int64), {name: keys[name] for name in self.margin}

    def _effective_hosts(self, weight: FloatArray) -> FloatArray:
        """(size,) of how many hosts of equal weight the rest of each cell comes from: (sum w)^2 / sum w^2."""
        if "host" in self.margin:
            return np.ones(self.size)
        of_host = np.bincount(self._pair, weight, len(self._pairs))
        whole = np.bincount(self._pairs, of_host, self.size)
        squares = np.bincount(self._pairs, of_host * of_host, self.size)
        # A hair more than whole numbers of hosts, against rounding errors: they are rounded down.
        return np.where(whole > 0, whole * whole / np.maximum(squares, 1e-300) + 1e-9, 0.0)

    def _language_mix(self, weight: FloatArray) -> tuple[list[str], FloatArray]:
        """The languages, and (size, languages) their shares of each cell's rest.

        With the language among the keys: (size, 1), the place of each cell's language among the languages. Shares are
        rounded to a thousandth, so that small cells of the same make fall together.
        """
        names, codes = self._rows.names["language"], self._of(self._rows.codes["language"])
        if "language" in self.margin:
            own = np.zeros(self.size)
            own[self._cell] = codes
            return names.to_pylist(), own[:, None]
        spoken = np.unique(codes[weight > 0])
        place = np.zeros(len(names), np.int64)
        place[spoken] = np.arange(len(spoken))
        at = self._cell * max(1, len(spoken)) + place[codes]
        amount = np.bincount(at, weight, self.size * max(1, len(spoken)))
        amount = amount.reshape(self.size, max(1, len(spoken)))[:, : len(spoken)]
        share = np.round(amount / np.maximum(amount.sum(axis=1, keepdims=True), 1e-300), 3)
        return names.take(pa.array(spoken)).to_pylist(), share / np.maximum(share.sum(axis=1, keepdims=True), 1e-9)


def _sorted_codes(column: pa.ChunkedArray | pa.Array) -> tuple[pa.Array, _Ints]:
    """The different names in ascending order, and of each row the place of its own."""
    column = pa.chunked_array([column]) if isinstance(column, pa.Array) else column
    names = pc.unique(column)
    names = names.take(pc.sort_indices(names))
    return names, pc.index_in(column, names).to_numpy().astype(np.int64)


def _mask(column: pa.ChunkedArray) -> _Mask:
    return np.array(column.to_numpy(), np.bool_)
