"""The crawl's documents that are human by date, counted by what the detector says of them.

A page from before the cut-off, or a verified copy of one, was written by a person as far as its date can tell. Of these
documents, one for each cluster of copies, the pass before `settle` counts the probabilities in narrow bins, by year,
host, language and length; counts of any sharding merge to the same bytes::

    edges = probability_edges(0.9, 0.6)
    counts = merge([dated_counts(staged, rules, edges) for staged in shards])  # from pipelines.statistics.tally
    table = false_positives(counts, edges, ...)  # from pipelines.statistics.false_positives

The verdict that makes a document human by date is that of the policy, asked as if the detector had found nothing: what
is measured must not choose what it is measured on.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.records import TIMESTAMP, Verdict
from pipelines.reserve.writer import Rules, StagedShard, gather, judge
from pipelines.statistics.tally import UNDETERMINED_LANGUAGE, UNKNOWN, merge, month_of

Edges = npt.NDArray[np.float32]

# Lower bounds in bytes of UTF-8. In English about 150 and 400 tokens, where `detectors.base.LENGTHS` has its own; the
# tokens themselves are not staged, and counting them again would mean to read all texts.
LENGTHS: tuple[tuple[str, int], ...] = (("short", 0), ("medium", 900), ("long", 2400))
_STEP = 1 / 64  # of log-odds
_DISPUTED = (Verdict.DECLARED, Verdict.MARKED, Verdict.UNDETERMINED)
_DOCUMENT_COLUMNS = ["doc_id", "record_offset", "url", "host", "captured_at", "language", "machine_probability"]
STAGED_COLUMNS = [*_DOCUMENT_COLUMNS, "evidence"]
SIGNATURE_COLUMNS = ["shingles", "length", "findings"]

DATED = pa.schema(
    [
        pa.field("year", pa.string(), nullable=False),  # of the capture; "unknown" for a copy without a date of its own
        pa.field("host", pa.string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("length", pa.string(), nullable=False),
        pa.field("bin", pa.string(), nullable=False),  # how many edges the probability reaches; "" where unscored
        pa.field("documents", pa.int64(), nullable=False),
    ]
)


def probability_edges(*thresholds: float) -> Edges:
    """The bins' edges, ascending: log-odds from -8 to 16 in steps of 1/64, the thresholds themselves, and one above 1.

    A probability in bin b reaches the first b edges. A threshold on an edge therefore flags whole bins, exactly, and
    one on the last edge flags nothing.
    """
    grid = 1 / (1 + np.exp(-np.arange(-8, 16 + _STEP / 2, _STEP)))
    above = np.nextafter(np.float32(1), np.float32(2))
    kept = [t for t in thresholds if 0 <= t <= 1]
    return np.unique(np.concatenate([grid, kept, [above]]).astype(np.float32))


def dated_counts(shard: StagedShard, rules: Rules, edges: Edges) -> pa.Table:
    """The documents of one shard that are human by date, of schema :data:`DATED`.

    Args:
        shard: with the columns :data:`STAGED_COLUMNS` of its documents and :data:`SIGNATURE_COLUMNS` of its signatures;
            what watermark tests found is in the evidence.
        rules: policy and cut-off; the threshold is not asked.
        edges: of :func:`probability_edges`.
    """
    signatures = shard.signatures.append_column("signature", pa.nulls(shard.signatures.num_rows))
    documents = gather([shard._replace(signatures=signatures)])
    documents = documents.filter(_human_by_date(documents, rules))
    documents = documents.append_column("probability", documents["machine_probability"])
    # As if it had spoken, and found nothing.
    at = documents.schema.get_field_index("machine_probability")
    blind = pa.array(np.zeros(documents.num_rows, np.float32))
    judged = judge(documents.set_column(at, "machine_probability", blind), rules._replace(threshold=float("inf")))
    disputed = pc.is_in(judged["verdict"], pa.array([str(v) for v in _DISPUTED], pa.string()))
    return _counted(judged.filter(pc.invert(disputed)), edges)


def length_names(lengths: npt.ArrayLike) -> pa.Array:
    """The name of the length bucket of texts of so many bytes."""
    bucket = np.searchsorted([least for _, least in LENGTHS], np.asarray(lengths, np.int64), side="right") - 1
    return pa.array([name for name, _ in LENGTHS], pa.string()).take(pa.array(bucket))


def _counted(documents: pa.Table, edges: Edges) -> pa.Table:
    probability = documents["probability"].combine_chunks().fill_null(np.nan).to_numpy(zero_copy_only=False)
    bins = np.searchsorted(edges, probability, side="right")
    names = pa.array(["", *map(str, range(len(edges) + 1))], pa.string())
    month = month_of(documents["captured_at"])
    columns = {
        "year": pc.if_else(pc.equal(month, UNKNOWN), UNKNOWN, pc.utf8_slice_codeunits(month, 0, 4)),
        "host": pc.fill_null(documents["host"], UNKNOWN),
        "language": pc.fill_null(documents["language"], UNDETERMINED_LANGUAGE),
        "length": length_names(documents["length"].to_numpy()),
        "bin": names.take(pa.array(np.where(np.isnan(probability), 0, bins + 1))),
        "documents": np.ones(documents.num_rows, np.int64),
    }
    return merge([pa.table(columns).cast(DATED)])


def _human_by_date(documents: pa.Table, rules: Rules) -> pa.ChunkedArray:
    """Kept documents from before the cut-off, or with a verified copy that is."""
    cutoff = pa.scalar(rules.cutoff, TIMESTAMP)
    before = [pc.fill_null(pc.less(documents[name], cutoff), False) for name in ("captured_at", "older_captured_at")]
    return pc.and_(pc.or_(*before), pc.fill_null(documents["kept"], True))
