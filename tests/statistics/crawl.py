"""Random documents with known truth, in the shape in which the tallies take them."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from pipelines.records import EVIDENCE, TIMESTAMP
from pipelines.statistics.rates import DetectorRates, RateSlice
from pipelines.statistics.tally import TallyRules, signature_column

CUTOFF = datetime(2022, 11, 30, tzinfo=UTC)
RULES = TallyRules(CUTOFF, 0.9)
PERMUTATIONS = 16
RATES = DetectorRates(
    "stylometry",
    0.9,
    tuple(RateSlice(f"set{i}", 500, 5 + i, 400, 280 + 10 * i, held_out=True) for i in range(8)),
)


def finding(source, kind):
    return {"source": source, "kind": kind, "score": None, "p_value": None, "probability": None, "detail": None}


def random_documents(rows, seed=0):
    rng = np.random.default_rng(seed)
    start = datetime(2022, 6, 1, tzinfo=UTC)
    when = [start + timedelta(minutes=int(m)) for m in rng.integers(0, 60 * 24 * 365, rows)]
    kinds = [finding("declaration", "generator"), finding("leak", "phrase"), finding("stylometry", "detector")]
    sizes = rng.choice([1, 1, 1, 2, 5], rows)
    columns = {
        "captured_at": pa.array([None if rng.random() < 0.1 else w for w in when], TIMESTAMP),
        "host": rng.choice(["a.example", "b.example", "c.example", None], rows).tolist(),
        "language": rng.choice(["en", "de", None], rows).tolist(),
        "place": rng.choice(["reserve", "quarantine", "review", "duplicates"], rows).tolist(),
        "verdict": rng.choice(["clear", "suspected", "declared", "marked", "undetermined"], rows).tolist(),
        "machine_probability": pa.array(
            [None if rng.random() < 0.2 else rng.random() for _ in range(rows)], pa.float32()
        ),
        "evidence": pa.array(
            [[kinds[k] for k in rng.integers(0, 3, rng.integers(0, 4))] for _ in range(rows)], EVIDENCE
        ),
        "older_captured_at": pa.array(
            [w - timedelta(days=90) if rng.random() < 0.2 else None for w in when], TIMESTAMP
        ),
        "characters": rng.integers(1, 9000, rows),
        "tokens": rng.integers(1, 2000, rows),
        "shingles": pa.array(rng.integers(0, 2000, rows), pa.int32()),
        "signature": signature_column(rng.integers(0, 2**32, (rows, PERMUTATIONS), dtype=np.uint32)),
        "cluster_size": pa.array(sizes, pa.int32()),
    }
    return pa.table(columns)


def judged_crawl(rows, share, tpr, fpr, seed=0, copies=1, hosts=5):
    """Half the documents from before the cut-off; each comes ``copies`` times, all of one month and host."""
    rng = np.random.default_rng(seed)
    late = np.arange(rows) % 2 == 1
    machine = late & (rng.random(rows) < share)
    flagged = rng.random(rows) < np.where(machine, tpr, fpr)
    at = np.repeat(np.arange(rows), copies)
    total = len(at)
    when = np.where(late, CUTOFF + timedelta(days=5), CUTOFF - timedelta(days=400))
    kept = np.arange(total) % copies == 0
    return machine[at], pa.table(
        {
            "captured_at": pa.array(when[at].tolist(), TIMESTAMP),
            "host": [f"h{i % hosts}.example" for i in rng.integers(0, hosts, rows)[at]],
            "language": pa.array(["en"] * total),
            "place": np.where(kept, "reserve", "duplicates").tolist(),
            "verdict": np.where(flagged[at], "suspected", "clear").tolist(),
            "machine_probability": pa.array(np.where(flagged[at], 0.95, 0.1), pa.float32()),
            "older_captured_at": pa.nulls(total, TIMESTAMP),
            "tokens": rng.integers(40, 900, rows)[at],
            "cluster_size": pa.array(np.full(total, copies), pa.int32()),
        }
    )
