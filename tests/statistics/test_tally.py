import time
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.histograms import histogram
from pipelines.records import REJECTS, TIMESTAMP
from pipelines.statistics import tally
from pipelines.statistics.diversity import distinct_count, diversity
from tests.statistics.crawl import CUTOFF, RULES, random_documents

DOCUMENTS = random_documents(900)
TAKERS = {
    "documents": lambda table: tally.tally_documents(table, RULES),
    "signals": tally.tally_signals,
    "diversity": tally.tally_diversity,
}


def python_month(row):
    return row["captured_at"].strftime("%Y-%m") if row["captured_at"] else "unknown"


def test_documents_by_brute_force():
    expected = Counter()
    tokens = Counter()
    for row in DOCUMENTS.to_pylist():
        after = not (row["captured_at"] and row["captured_at"] < CUTOFF)
        direct = row["verdict"] in ("declared", "marked")
        older = bool(after and not direct and row["older_captured_at"] and row["older_captured_at"] < CUTOFF)
        probability = row["machine_probability"]
        key = (
            python_month(row),
            row["host"] or "unknown",
            row["language"] or "und",
            row["place"],
            row["verdict"],
            after,
            older,
            direct or older or probability is not None,
            probability is not None and probability >= np.float32(0.9),
            direct,
            "" if probability is None else str(int(histogram([probability]).argmax()) // 8),
        )
        expected[key] += 1
        tokens[key] += row["tokens"]
    rows = tally.tally_documents(DOCUMENTS, RULES).to_pylist()
    assert {tuple(r[k] for k in tally.DOCUMENT_KEYS): r["documents"] for r in rows} == expected
    assert {tuple(r[k] for k in tally.DOCUMENT_KEYS): r["tokens"] for r in rows} == tokens
    assert sum(r["scored"] for r in rows) == DOCUMENTS["machine_probability"].is_valid().to_pylist().count(True)
    squares = -(-(DOCUMENTS["tokens"].to_numpy() ** 2) // tally.SQUARE_UNIT)
    assert sum(r["tokens_squared"] for r in rows) == squares.sum()
    sizes = DOCUMENTS["cluster_size"].to_numpy()
    assert sum(r["clustered"] for r in rows) == (sizes > 1).sum()
    assert sum(r["copies"] for r in rows) == sizes[sizes > 1].sum()


def test_a_further_detector_has_a_tally_of_its_own():
    """Its column of probabilities under any name and its threshold give what they would give alone."""
    random = np.random.default_rng(5)
    own = pa.array([None if random.random() < 0.4 else random.random() for _ in range(900)], pa.float32())
    both = DOCUMENTS.append_column("of another", own)
    alone = DOCUMENTS.set_column(DOCUMENTS.schema.get_field_index("machine_probability"), "machine_probability", own)
    rules = tally.TallyRules(CUTOFF, 0.6)
    found = tally.tally_documents(both, rules, probability="of another")
    assert found.equals(tally.tally_documents(alone, rules))
    assert tally.tally_documents(both, RULES).equals(tally.tally_documents(DOCUMENTS, RULES))
    assert sum(r["documents"] for r in found.to_pylist() if r["flagged"]) == sum(
        p is not None and p >= np.float32(0.6) for p in own.to_pylist()
    )


def test_signals_by_brute_force():
    expected = Counter()
    for row in DOCUMENTS.to_pylist():
        for source, kind in {(e["source"], e["kind"]) for e in row["evidence"]}:
            expected[python_month(row), row["language"] or "und", source, kind] += 1
    rows = tally.tally_signals(DOCUMENTS).to_pylist()
    assert {(r["month"], r["language"], r["source"], r["kind"]): r["documents"] for r in rows} == expected


def test_diversity_by_brute_force():
    expected = {}
    signatures = tally.signature_matrix(DOCUMENTS["signature"])
    for row, signature in zip(DOCUMENTS.to_pylist(), signatures, strict=True):
        key = python_month(row), row["language"] or "und"
        least = expected.get(key, np.full(len(signature), 2**32 - 1, np.uint32))
        expected[key] = np.minimum(least, signature)
    rows = tally.tally_diversity(DOCUMENTS)
    found = tally.signature_matrix(rows["signature"])
    assert [tuple(k.values()) for k in rows.select(["month", "language"]).to_pylist()] == sorted(expected)
    assert all(np.array_equal(found[i], expected[key]) for i, key in enumerate(sorted(expected)))
    assert sum(rows["removed"].to_pylist()) == DOCUMENTS["place"].to_pylist().count("duplicates")
    assert sum(rows["shingles"].to_pylist()) == sum(DOCUMENTS["shingles"].to_pylist())


@pytest.mark.parametrize("name", TAKERS)
@given(shuffle=st.randoms(use_true_random=False), cuts=st.lists(st.integers(0, 900), max_size=6))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_any_sharding_in_any_order_gives_the_same_bytes(name, shuffle, cuts):
    take = TAKERS[name]
    order = list(range(DOCUMENTS.num_rows))
    shuffle.shuffle(order)
    mixed = DOCUMENTS.take(order)
    bounds = [0, *sorted(cuts), mixed.num_rows]
    parts = [take(mixed.slice(a, b - a)) for a, b in pairwise(bounds)]
    while len(parts) > 1:  # any tree of merges
        a, b = sorted(shuffle.sample(range(len(parts)), 2))
        parts = [*(p for i, p in enumerate(parts) if i not in (a, b)), tally.merge([parts[b], parts[a]])]
    expected = take(DOCUMENTS)
    assert parts[0].schema == expected.schema
    assert serialised(parts[0]) == serialised(expected)


def serialised(table):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("name", TAKERS)
def test_no_documents(name):
    empty = DOCUMENTS.slice(0, 0)
    taken = TAKERS[name](empty)
    assert taken.num_rows == 0
    whole = TAKERS[name](DOCUMENTS)
    assert tally.merge([taken, whole, taken]).equals(whole)
    assert TAKERS[name](empty.combine_chunks()).schema == whole.schema
    with pytest.raises(ValueError, match="no tally"):
        tally.merge([])


def test_rejects():
    rows = [("a", 1, "no_text"), ("a", 2, "no_text"), ("b", 1, "damaged")]
    table = pa.table(
        {
            "shard": [r[0] for r in rows],
            "record_offset": [r[1] for r in rows],
            "length": [None] * 3,
            "url": [None] * 3,
            "reason": [r[2] for r in rows],
            "detail": [None] * 3,
        }
    ).cast(REJECTS)
    merged = tally.merge([tally.tally_rejects(table.slice(0, 1)), tally.tally_rejects(table.slice(1))])
    assert merged.to_pylist() == [
        {"shard": "a", "reason": "no_text", "records": 2},
        {"shard": "b", "reason": "damaged", "records": 1},
    ]


def test_months_before_1970_and_at_the_edges():
    times = [
        datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
        datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=UTC),
        None,
    ]
    assert tally.month_of(pa.array(times, TIMESTAMP)).to_pylist() == ["1969-12", "2024-02", "unknown"]


def test_speed():
    table = pa.concat_tables([random_documents(20_000, seed=5)] * 5)
    started = time.process_time()
    tally.tally_documents(table, RULES)
    tally.tally_signals(table)
    tally.tally_diversity(table)
    assert table.num_rows / (time.process_time() - started) > 50_000  # far below what is seen, for slow machines


@pytest.mark.parametrize("distinct", [0, 1, 10, 1000, 50_000])
def test_distinct_count_is_that_of_datasketch(distinct):
    sketch = MinHash(num_perm=128, scheme="affine32", seed=3)
    sketch.update_batch([b"%d" % i for i in range(distinct)])
    estimate, low, high = distinct_count(sketch.hashvalues.astype(np.uint32)[None])
    assert estimate[0] == pytest.approx(sketch.count(), rel=1e-3, abs=0.01)
    assert low[0] <= estimate[0] <= high[0]
    if distinct:
        assert (high[0] - low[0]) / estimate[0] / 3.92 == pytest.approx(1 / np.sqrt(126), rel=0.05)


def test_distinct_count_covers_the_truth_on_real_signatures():
    rng = np.random.default_rng(3)
    hits = []
    for seed in range(250):
        count = int(rng.integers(50, 3000))
        sketch = MinHash(num_perm=128, scheme="affine32", seed=seed)
        sketch.update_batch([b"%d:%d" % (seed, i) for i in range(count)])
        _, low, high = distinct_count(sketch.hashvalues.astype(np.uint32)[None])
        hits.append(low[0] <= count <= high[0])
    assert np.mean(hits) >= 0.92


@pytest.mark.parametrize("distinct", [5e7, 5e8, 3e9])
def test_distinct_count_near_the_end_of_the_hash_values(distinct):
    """The least of u hash values out of 2^32, drawn without replacement, is geometric; collisions make u < distinct."""
    rng = np.random.default_rng(4)
    used = -np.expm1(-distinct / 2**32)
    signatures = (rng.geometric(used, (300, 128)) - 1).astype(np.uint32)
    estimate, low, high = distinct_count(signatures)
    assert np.nanmean(estimate) == pytest.approx(distinct, rel=0.02)
    assert np.mean((low <= distinct) & (distinct <= np.nan_to_num(high, nan=np.inf))) >= 0.93


def test_distinct_count_says_when_it_cannot_tell():
    assert np.isnan(distinct_count(np.zeros((1, 128), np.uint32))[0]).all()


def test_diversity_margins():
    table = diversity(tally.tally_diversity(DOCUMENTS))
    rows = table.to_pylist()
    assert rows[0]["margin"] == "all"
    assert rows[0]["documents"] == DOCUMENTS.num_rows == rows[0]["kept"] + rows[0]["removed"]
    for margin in ("month", "language", "month×language"):
        assert sum(r["documents"] for r in rows if r["margin"] == margin) == DOCUMENTS.num_rows
    whole = np.minimum.reduce(tally.signature_matrix(DOCUMENTS["signature"]))
    assert rows[0]["distinct_shingles"] == pytest.approx(distinct_count(whole[None])[0][0])
    assert all(r["distinct_low"] <= r["distinct_shingles"] <= r["distinct_high"] for r in rows)
    assert all(r["near_duplicate_low"] <= r["near_duplicate_rate"] <= r["near_duplicate_high"] for r in rows)
    assert diversity(tally.tally_diversity(DOCUMENTS.slice(0, 0))).num_rows == 0
