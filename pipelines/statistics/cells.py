"""The cells of month × host × language and their margins: what is counted in each."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.records import Place
from pipelines.statistics.intervals import FloatArray
from pipelines.statistics.tally import SCORE_BINS, SQUARE_UNIT


class Cells:
    """The counts of the cells of one margin, in one unit, over one population; every array is (size,)."""

    def __init__(self, tally: pa.Table, margin: tuple[str, ...], unit: str, population: str) -> None:
        self.margin, self.unit, self.population = margin, unit, population
        if population == "deduplicated":
            tally = tally.filter(pc.not_equal(tally["place"], str(Place.DUPLICATES)))
        sums = _sums(tally, margin, unit, population)
        self.keys = {name: sums[name] for name in margin}
        self.size = sums.num_rows
        self.count = {name: sums[name].to_numpy() for name in sums.schema.names if name not in margin}
        self.histogram = np.stack([self.count.pop(_bin(name)) for name in SCORE_BINS], axis=1)  # (size, 8) of "rest"
        self.languages, self.mix = _language_mix(tally, self.keys, self.size, unit)

        self.hosts = _effective_hosts(tally, margin, self.size)

    @property
    def effective(self) -> FloatArray:
        """How many independent documents the scored ones without direct evidence are worth.

        Copies are flagged together, and long documents weigh more in a share by character (Kish, Survey Sampling,
        1965). r documents whose clusters hold m in all bring at most min(m, r^2) to the sum of squared cluster sizes.
        """
        n = self.count["rest_documents"].astype(np.float64)
        shared = self.count["rest_clustered"].astype(np.float64)
        squares = n - shared + np.minimum(np.maximum(self.count["rest_copies"], shared), shared**2)
        worth = n * n / np.maximum(squares, 1)
        if self.unit == "characters":
            total = self.count["rest"].astype(np.float64)
            spread = np.maximum(self.count["rest_squared"].astype(np.float64) * SQUARE_UNIT * n, 1)
            worth = np.minimum(worth, worth * total * total / spread)
        return np.asarray(worth, np.float64)


def _sums(tally: pa.Table, margin: tuple[str, ...], unit: str, population: str) -> pa.Table:
    after, direct = tally["after_cutoff"], tally["direct"]
    scored = pc.and_(after, pc.greater(tally["scored"], 0))
    rest = _in_question(tally)
    amount = tally[unit]

    def only(mask: pa.ChunkedArray, column: pa.ChunkedArray) -> pa.ChunkedArray:
        return pc.if_else(mask, column, 0)

    copies = rest if population == "crawled" else pc.and_(rest, False)
    columns = {
        "documents": amount,
        "after_cutoff": only(after, amount),
        "scored": only(scored, amount),
        "judged": only(pc.and_(after, tally["judged"]), amount),
        "direct": only(pc.and_(after, direct), amount),
        "older_copy": only(tally["older_copy"], amount),
        "flagged": only(pc.and_(rest, tally["flagged"]), amount),
        "rest": only(rest, amount),
        "rest_documents": only(rest, tally["documents"]),
        "rest_squared": only(rest, tally["characters_squared"]),
        "rest_clustered": only(copies, tally["clustered"]),
        "rest_copies": only(copies, tally["copies"]),
        "after_documents": only(after, tally["documents"]),
        "direct_documents": only(pc.and_(after, direct), tally["documents"]),
    }
    columns |= {_bin(name): only(pc.and_(rest, pc.equal(tally["bin"], name)), amount) for name in SCORE_BINS}
    table = pa.table({name: tally[name] for name in margin} | columns)
    sums = table.group_by(list(margin), use_threads=False).aggregate([(name, "sum") for name in columns])
    sums = sums.rename_columns([name.removesuffix("_sum") for name in sums.schema.names]).select([*margin, *columns])
    if not margin:
        return sums if tally.num_rows else sums.slice(0, 0)  # the sum of nothing would be one row of nulls
    return sums.sort_by([(name, "ascending") for name in margin])


def _bin(name: str) -> str:
    return f"bin_{name}"


def _in_question(tally: pa.Table) -> pa.ChunkedArray:
    """Rows after the cut-off of which only the detector can say anything: no direct evidence, no older copy."""
    known = pc.or_(tally["direct"], tally["older_copy"])
    return pc.and_(pc.and_(tally["after_cutoff"], pc.invert(known)), pc.greater(tally["scored"], 0))


def _effective_hosts(tally: pa.Table, margin: tuple[str, ...], size: int) -> FloatArray:
    """(size,) of how many hosts of equal weight the scored documents of each cell come from: (sum n)^2 / sum n^2."""
    if "host" in margin:
        return np.ones(size)
    scored = _in_question(tally)
    counted = pa.table(
        {name: tally[name] for name in (*margin, "host")} | {"n": pc.if_else(scored, tally["scored"], 0)}
    )
    counted = counted.group_by([*margin, "host"], use_threads=False).aggregate([("n", "sum")])
    counted = counted.append_column("squared", pc.multiply(counted["n_sum"], counted["n_sum"]))
    sums = counted.group_by(list(margin), use_threads=False).aggregate([("n_sum", "sum"), ("squared", "sum")])
    if margin:
        sums = sums.sort_by([(name, "ascending") for name in margin])
    n, squared = sums["n_sum_sum"].to_numpy().astype(np.float64), sums["squared_sum"].to_numpy().astype(np.float64)
    return np.asarray(n * n / np.maximum(squared, 1), np.float64)[:size]


def _language_mix(
    tally: pa.Table, keys: dict[str, pa.ChunkedArray], size: int, unit: str
) -> tuple[list[str], FloatArray]:
    """The languages, and (size, languages) their shares of each cell's scored documents without direct evidence.

    With the language among the keys: (size, 1), the place of each cell's language among the languages. Shares are
    rounded to a thousandth, so that small cells of the same make fall together.
    """
    if "language" in keys:
        codes = keys["language"].combine_chunks().dictionary_encode()
        return codes.dictionary.to_pylist(), codes.indices.to_numpy().astype(np.float64)[:, None]
    table = (
        tally.filter(_in_question(tally)).group_by([*keys, "language"], use_threads=False).aggregate([(unit, "sum")])
    )
    if keys:
        table = table.join(pa.table({**keys, "cell": np.arange(size)}), list(keys), use_threads=False)
    else:
        table = table.append_column("cell", pa.array(np.zeros(table.num_rows, np.int64)))
    languages = sorted(pc.unique(table["language"]).to_pylist())
    codes = pc.index_in(table["language"], pa.array(languages, pa.string())).to_numpy()
    amount = np.zeros((size, len(languages)))
    amount[table["cell"].to_numpy(), codes] = table[f"{unit}_sum"].to_numpy()
    share = np.round(amount / np.maximum(amount.sum(axis=1, keepdims=True), 1), 3)
    return languages, share / np.maximum(share.sum(axis=1, keepdims=True), 1e-9)
