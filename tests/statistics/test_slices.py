import zlib
from bisect import bisect_right
from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.clustered import clustered_share
from pipelines.statistics.dated import DATED, LENGTHS, length_names, probability_edges
from pipelines.statistics.false_positives import (
    FALSE_POSITIVES,
    Measured,
    false_positives,
    sentence,
    slice_words,
    summary_of,
    worst_first,
)
from pipelines.statistics.recalibrate import Recalibrate, held_out, recalibrated
from pipelines.statistics.slices import MARGINS, dated_slices, grouped_share, host_slices
from pipelines.statistics.tally import merge

DECISION, QUANTIFICATION = 0.9, 0.6
EDGES = probability_edges(DECISION, QUANTIFICATION, 0.5)
ABOUT = Measured("stylometry", DECISION, QUANTIFICATION, target=0.05, min_documents=40)


def documents(rows=3000, seed=5):
    rng = np.random.default_rng(seed)
    # Some probabilities are the thresholds themselves: these are flagged.
    probability = np.where(rng.random(rows) < 0.05, rng.choice([DECISION, QUANTIFICATION], rows), rng.beta(1, 4, rows))
    found = {
        "year": rng.choice(["2018", "2021", "unknown"], rows, p=[0.6, 0.39, 0.01]).tolist(),
        "host": [f"h{int(i)}.example" for i in rng.zipf(1.5, rows) % 60],
        "language": rng.choice(["en", "de"], rows, p=[0.9, 0.1]).tolist(),
        "length": rng.choice([name for name, _ in LENGTHS], rows).tolist(),
        "probability": [None if rng.random() < 0.1 else np.float32(p) for p in probability],
    }
    return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]


def counted(rows):
    edges = EDGES.tolist()
    columns = {name: [row[name] for row in rows] for name in ("year", "host", "language", "length")}
    columns["bin"] = ["" if (p := row["probability"]) is None else str(bisect_right(edges, p)) for row in rows]
    return pa.table(columns | {"documents": [1] * len(rows)}).cast(DATED)


ROWS = documents()
COUNTS = merge([counted(ROWS[:1000]), counted(ROWS[1000:])])
TABLE = false_positives(COUNTS, EDGES, ABOUT)


def groups(margin, rows=ROWS):
    found = defaultdict(list)
    for row in rows:
        found[tuple(row[name] for name in margin)].append(row)
    return dict(sorted(found.items()))


def probabilities(rows):
    return np.array([row["probability"] for row in rows if row["probability"] is not None], np.float32)


def test_thresholds_are_edges_and_flag_what_reaches_them():
    assert (np.diff(EDGES) > 0).all()
    assert EDGES[-1] > 1
    for threshold in (DECISION, QUANTIFICATION, 0.5):
        assert np.float32(threshold) in EDGES
    reached = probability_edges(float("inf"))
    assert len(reached) == len(probability_edges())


def test_length_buckets_begin_where_they_say():
    limits = [least for _, least in LENGTHS]
    assert length_names([0, limits[1] - 1, limits[1], limits[2] - 1, limits[2], 10**9]).to_pylist() == [
        "short",
        "short",
        "medium",
        "medium",
        "long",
        "long",
    ]


def test_slices_by_brute_force():
    slices = list(dated_slices(COUNTS, EDGES))
    expected = [(margin, keys, rows) for margin in MARGINS for keys, rows in groups(margin).items()]
    assert [(tuple(s.keys), tuple(s.keys.values())) for s in slices] == [(m, k) for m, k, _ in expected]
    assert slices[0].keys == {}
    for part, (_, _, rows) in zip(slices, expected, strict=True):
        found = probabilities(rows)
        assert (part.documents, part.scored) == (len(rows), len(found))
        for edge in (0, 300, int(np.searchsorted(EDGES, np.float32(DECISION))), len(EDGES) - 1):
            assert part.flagged(edge) == (found >= EDGES[edge]).sum()
            hits, sizes = part.by_host(edge)
            scored = [row for row in rows if row["probability"] is not None]
            flagged = Counter(row["host"] for row in scored if row["probability"] >= EDGES[edge])
            every = Counter(row["host"] for row in scored)
            assert sorted(zip(hits, sizes, strict=True)) == sorted((flagged[h], n) for h, n in every.items())


def test_the_table_by_brute_force():
    assert TABLE.schema == FALSE_POSITIVES
    table = {tuple(row[n] for n in ("margin", "language", "length", "year", "host")): row for row in TABLE.to_pylist()}
    assert len(table) == TABLE.num_rows
    hosts = {host: rows for (host,), rows in groups(["host"]).items() if len(probabilities(rows)) >= 40}
    assert len(hosts) >= 3
    expected = {("all", None, None, None, None): ROWS}
    for margin in MARGINS[1:]:
        for keys, rows in groups(margin).items():
            of = dict(zip(margin, keys, strict=True))
            expected["×".join(margin), of.get("language"), of.get("length"), of.get("year"), None] = rows
    expected |= {("host", None, None, None, host): rows for host, rows in hosts.items()}
    assert table.keys() == expected.keys()
    for key, rows in expected.items():
        found, row = probabilities(rows), table[key]
        assert (row["documents"], row["scored"]) == (len(rows), len(found))
        assert row["too_few"] == (len(found) < 40)
        for prefix, threshold in (("", DECISION), ("quantification_", QUANTIFICATION)):
            flagged = found >= np.float32(threshold)
            assert row[f"{prefix}flagged"] == flagged.sum()
            clusters = np.array([r["host"] for r in rows if r["probability"] is not None])
            share = clustered_share(flagged, np.arange(len(found)) if key[0] == "host" else clusters)
            if share is None:
                assert row[f"{prefix}rate"] is None
                continue
            assert row[f"{prefix}rate"] == pytest.approx(share.estimate)
            assert (row[f"{prefix}low"], row[f"{prefix}high"]) == pytest.approx((share.low, share.high), abs=1e-9)
        if len(found):
            reached = [e for e in EDGES if (found >= e).sum() <= 0.05 * len(found)]
            assert row["threshold_at_target"] == reached[0]


def test_counts_of_any_sharding_are_the_same():
    assert merge([counted(ROWS[1500:]), counted(ROWS[:200]), counted(ROWS[200:1500])]).equals(COUNTS)


def test_the_largest_hosts_are_taken():
    sizes = Counter(row["host"] for row in ROWS if row["probability"] is not None)
    largest = sorted(sizes, key=lambda host: (-sizes[host], host))[:4]
    assert [part.keys["host"] for part in host_slices(COUNTS, EDGES, 1, most=4)] == sorted(largest)


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=30),
    st.sampled_from([0.8, 0.95, 0.99]),
)
@settings(max_examples=150, deadline=None)
def test_grouped_share_is_that_of_the_documents(pairs, level):
    sizes, hits = np.array([max(p) for p in pairs]), np.array([min(p) for p in pairs])
    of_documents = np.concatenate([np.arange(n) < x for x, n in zip(hits, sizes, strict=True)])
    expected = clustered_share(of_documents, np.repeat(np.arange(len(sizes)), sizes), level=level)
    found = grouped_share(hits, sizes, level)
    if expected is None:
        assert (found.low, found.high) == (0, 1)
    else:
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("rate", "spread", "hosts"), [(0.01, 0.02, 150), (0.05, 0.1, 80), (0.02, 1e-6, 150)])
def test_intervals_hold_the_rate_where_hosts_differ(rate, spread, hosts):
    rng = np.random.default_rng(8)
    held, worlds = 0, 600
    weight = 1 / spread - 1
    for _ in range(worlds):
        sizes = np.minimum(rng.geometric(0.05, hosts), 200)
        hits = rng.binomial(sizes, rng.beta(rate * weight, (1 - rate) * weight, hosts))
        share = grouped_share(hits, sizes)
        held += share.low <= rate <= share.high
    assert held / worlds >= 0.93


def least_threshold(counts_of, target, least):
    """The least edge from ``least`` up at which no slice with 40 documents exceeds the target, edge by edge."""
    enough = [found for found in counts_of if len(found) >= 40]
    for edge in EDGES[np.searchsorted(EDGES, np.float32(least)) :]:
        if all((found >= edge).sum() <= target * len(found) for found in enough):
            return float(edge)
    raise AssertionError


ALL_SLICES = [probabilities(rows) for margin in MARGINS for rows in groups(margin).values()]


@pytest.mark.parametrize("target", [0.002, 0.01, 0.05, 0.2])
@pytest.mark.parametrize("own", [DECISION, QUANTIFICATION])
def test_raising_finds_the_least_threshold_and_never_lowers(target, own):
    choice = recalibrated(COUNTS, EDGES, own, Recalibrate(mode="raise", target=target, min_documents=40))
    expected = least_threshold(ALL_SLICES, target, own)
    assert np.float32(choice.threshold) == np.float32(expected)
    assert choice.threshold >= own
    assert choice.reason.startswith("raised from" if choice.threshold > own else "the detector's own")


@pytest.mark.parametrize("target", [0.02, 0.05, 0.15, 0.3])
def test_fitting_lowers_to_what_the_documents_allow_but_not_below_the_floor(target):
    options = Recalibrate(mode="fit", target=target, min_documents=40, floor=0.5)
    choice = recalibrated(COUNTS, EDGES, DECISION, options)
    assert choice.threshold >= 0.5
    reached = least_threshold(ALL_SLICES, target, 0.0)
    assert choice.threshold >= reached or choice.threshold == 0.5
    if choice.threshold < DECISION:
        assert choice.reason.startswith("lowered from")
        found = [row for row in ROWS if row["probability"] is not None]
        flagged = probabilities(ROWS) >= np.float32(choice.threshold)
        assert clustered_share(flagged, np.array([row["host"] for row in found])).high <= target
    else:
        assert choice.threshold == max(DECISION, reached)


def test_some_target_lowers_and_some_raises():
    at = [
        recalibrated(COUNTS, EDGES, DECISION, Recalibrate(mode="fit", target=t, min_documents=40)).threshold
        for t in (0.002, 0.3)
    ]
    assert at[0] > DECISION > at[1]


def test_the_rate_at_thresholds_that_other_hosts_chose():
    options = Recalibrate(mode="fit", target=0.05, min_documents=40)
    found = held_out(COUNTS, EDGES, DECISION, options)
    assert held_out(COUNTS, EDGES, DECISION, Recalibrate()) is None
    halves = [set(), set()]
    for host in {row["host"] for row in ROWS}:
        halves[zlib.crc32(host.encode()) % 2].add(host)
    assert min(map(len, halves)) > 10
    flagged = scored = 0
    fewer = options.model_copy(update={"min_documents": 20})
    for own, other in (halves, halves[::-1]):
        part = counted([row for row in ROWS if row["host"] in own])
        threshold = recalibrated(part, EDGES, DECISION, fewer).threshold
        assert threshold in found["thresholds"]
        rest = probabilities([row for row in ROWS if row["host"] in other])
        flagged += (rest >= np.float32(threshold)).sum()
        scored += len(rest)
    assert (found["flagged"], found["scored"]) == (flagged, scored)
    assert found["low"] < found["rate"] < found["high"]


def test_what_keeps_the_threshold():
    assert recalibrated(COUNTS, EDGES, DECISION, Recalibrate()).threshold == DECISION
    few = Recalibrate(mode="fit", target=0.4, min_documents=4000)
    choice = recalibrated(COUNTS, EDGES, DECISION, few)
    assert choice.threshold == DECISION
    assert "no slice has 4,000" in choice.reason
    empty = recalibrated(DATED.empty_table(), EDGES, DECISION, Recalibrate(mode="raise"))
    assert empty.threshold == DECISION


def test_probabilities_that_no_threshold_parts_silence_the_detector():
    rows = [row | {"probability": np.float32(1)} for row in ROWS]
    choice = recalibrated(counted(rows), EDGES, DECISION, Recalibrate(mode="raise", min_documents=40))
    assert choice.threshold > 1


def test_single_hosts_do_not_decide():
    odd = [row | {"host": "odd.example", "probability": np.float32(0.99)} for row in ROWS[:45]]
    calm = [row | {"probability": np.float32(0.1)} for row in documents(5000, seed=9)]
    counts = counted(odd + calm)
    options = Recalibrate(mode="raise", target=0.05, min_documents=45)
    assert recalibrated(counts, EDGES, DECISION, options).threshold == DECISION
    about = Measured("stylometry", DECISION, QUANTIFICATION, 0.05, 45)
    assert summary_of(false_positives(counts, EDGES, about), about)["worst_host"]["host"] == "odd.example"


def test_the_worst_comes_first_and_the_summary_counts_it():
    rows = worst_first(TABLE)
    assert all(not row["too_few"] and row["host"] is None for row in rows)
    assert [row["rate"] for row in rows] == sorted((row["rate"] for row in rows), reverse=True)
    about = summary_of(TABLE, ABOUT)
    assert about["worst"]["rate"] == rows[0]["rate"]
    assert about["slices"] == len(rows)
    assert about["slices_over_target"] == sum(row["flagged"] > 0.05 * row["scored"] for row in rows)
    words = sentence(about, lambda share: f"{100 * share:.2f} %")
    assert f"{about['scored']:,} documents" in words
    assert slice_words(rows[0]) in words


def test_without_documents_the_sentence_says_so():
    table = false_positives(DATED.empty_table(), EDGES, ABOUT)
    assert table.num_rows == 1
    about = summary_of(table, ABOUT)
    assert (about["scored"], about["worst"], about["rate"]) == (0, None, None)
    assert "not measured" in sentence(about, str)
    assert sentence(None, str) == ""


def test_a_threshold_that_is_no_edge_is_an_error():
    with pytest.raises(ValueError, match=r"threshold 0\.7: not among the edges"):
        false_positives(COUNTS, EDGES, Measured("stylometry", 0.7, QUANTIFICATION))
