"""How varied the text is: distinct shingles, and near-duplicates, by month and language.

The MinHash signature of a union of documents is the least of theirs, so that the number of distinct shingles of any
corpus is had from the merged signatures, without a second look at the text::

    table = diversity(merge([tally_diversity(pack) for pack in documents]))

Signatures are those of datasketch's scheme ``affine32``: the least of 2^32 hash values under each permutation.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import special

from pipelines.statistics.intervals import FloatArray, clopper_pearson
from pipelines.statistics.tally import merge, signature_matrix

HASH_VALUES = 2.0**32
# Beyond this share of all hash values in use, the least values are 0 or 1 and say no more.
_SATURATED = 0.9
_DISTINCT = tuple(f"distinct_{n}" for n in ("shingles", "low", "high", "ratio", "ratio_low", "ratio_high"))
MARGINS = ((), ("month",), ("language",), ("month", "language"))


class Measure(NamedTuple):
    """A column of the table in plain words."""

    column: str
    title: str
    meaning: str
    worse: str  # "lower", "higher" or "neither"


MEASURES = (
    Measure("distinct_shingles", "Distinct shingles", "How many different word sequences occur at all.", "lower"),
    Measure(
        "distinct_ratio",
        "Distinct share",
        "Distinct shingles among all shingles: how much of the text has not been said before in the same month. "
        "It falls by itself as a corpus grows, so compare months of like size.",
        "lower",
    ),
    Measure(
        "near_duplicate_rate",
        "Near-duplicates",
        "The share of documents that were removed as copies of another.",
        "higher",
    ),
)

DIVERSITY = pa.schema(
    [
        pa.field("margin", pa.string(), nullable=False),  # the columns that are fixed, joined by "×"; "all" for none
        pa.field("month", pa.string()),  # null: all
        pa.field("language", pa.string()),
        pa.field("documents", pa.int64(), nullable=False),
        pa.field("kept", pa.int64(), nullable=False),
        pa.field("removed", pa.int64(), nullable=False),
        pa.field("characters", pa.int64(), nullable=False),
        pa.field("shingles", pa.int64(), nullable=False),
        pa.field("distinct_shingles", pa.float64()),  # null where more than the signature can tell
        pa.field("distinct_low", pa.float64()),
        pa.field("distinct_high", pa.float64()),
        pa.field("distinct_ratio", pa.float64()),  # distinct_shingles / shingles
        pa.field("distinct_ratio_low", pa.float64()),
        pa.field("distinct_ratio_high", pa.float64()),
        pa.field("near_duplicate_rate", pa.float64(), nullable=False),  # removed / documents
        pa.field("near_duplicate_low", pa.float64(), nullable=False),
        pa.field("near_duplicate_high", pa.float64(), nullable=False),
        pa.field("level", pa.float64(), nullable=False),
    ]
)


def distinct_count(
    signatures: npt.NDArray[np.uint32], level: float = 0.95
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """How many distinct elements each MinHash signature stands for: estimate, low, high; (rows,) each.

    With u of M = 2^32 hash values in use, the least of them under a permutation has mean (M - u) / (u + 1); k least
    values of mean m give u = (M - m) / (m + 1), which is datasketch's ``MinHash.count`` while u is small against M.
    Elements that share a hash value are put back by N = -M log(1 - u / M). The sum of k least values, times N, follows
    a gamma distribution of shape k (Cohen, J. Comput. Syst. Sci. 55, 1997, section 7), which gives the limits; the
    relative standard error is about 1 / sqrt(k - 2). NaN where the hash values are used up.

    Args:
        signatures: (rows, permutations) uint32; a row of 2^32 - 1 stands for no element.
        level: of the two-sided interval.
    """
    k = signatures.shape[1]
    mean = signatures.mean(axis=1, dtype=np.float64)
    empty = (signatures == np.uint32(HASH_VALUES - 1)).all(axis=1)
    used = (HASH_VALUES - mean) / (mean + 1)
    tail = (1 - level) / 2
    result = []
    for factor in (1.0, special.gammaincinv(k, tail) / k, special.gammaincinv(k, 1 - tail) / k):
        share = used * factor / HASH_VALUES
        with np.errstate(divide="ignore", invalid="ignore"):
            count = np.where(share < _SATURATED, -HASH_VALUES * np.log1p(-share), np.nan)
        result.append(np.where(empty, 0.0, count))
    return result[0], result[1], result[2]


def diversity(tally: pa.Table, level: float = 0.95) -> pa.Table:
    """The measures by month × language and every margin, of schema :data:`DIVERSITY`.

    Rows are sorted by margin (in the order of :data:`MARGINS`), then month and language.

    Args:
        tally: merged, of ``tally.diversity_schema``.
        level: of the intervals.
    """
    if not tally.num_rows:
        return DIVERSITY.empty_table()
    return pa.concat_tables([_rows(_margin(tally, margin), margin, level) for margin in MARGINS]).combine_chunks()


def _margin(tally: pa.Table, margin: tuple[str, ...]) -> pa.Table:
    for name in ("month", "language"):
        if name not in margin:
            at = tally.schema.get_field_index(name)
            tally = tally.set_column(at, tally.schema.field(at), pa.array([""] * tally.num_rows))
    return merge([tally])


def _rows(cells: pa.Table, margin: tuple[str, ...], level: float) -> pa.Table:
    size = cells.num_rows
    documents, removed, shingles = (cells[n].to_numpy() for n in ("documents", "removed", "shingles"))
    estimate, low, high = distinct_count(signature_matrix(cells["signature"]), level)
    # There are never more distinct shingles than shingles.
    estimate, low, high = (np.minimum(value, shingles) for value in (estimate, low, high))
    copies_low, copies_high = clopper_pearson(removed, documents, level)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = [value / shingles for value in (estimate, low, high)]
    columns = {name: cells[name] for name in ("documents", "kept", "removed", "characters", "shingles")} | {
        "margin": pa.array(["×".join(margin) or "all"] * size),
        "month": cells["month"] if "month" in margin else pa.nulls(size, pa.string()),
        "language": cells["language"] if "language" in margin else pa.nulls(size, pa.string()),
        "near_duplicate_rate": removed / np.maximum(documents, 1),
        "near_duplicate_low": copies_low,
        "near_duplicate_high": copies_high,
        "level": np.full(size, level),
    }
    for name, value in zip(_DISTINCT, [estimate, low, high, *ratios], strict=True):
        columns[name] = pa.array(value, mask=np.isnan(value))
    return pa.table({name: columns[name] for name in DIVERSITY.names}).cast(DIVERSITY)
