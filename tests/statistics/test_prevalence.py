import json
from collections import Counter
from datetime import timedelta
from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipelines.statistics.cells import Cells
from pipelines.statistics.intervals import clopper_pearson, lower_bound
from pipelines.statistics.options import PrevalenceOptions
from pipelines.statistics.prevalence import (
    MARGINS,
    POPULATIONS,
    PREVALENCE,
    UNITS,
    prevalence,
    summary_share,
)
from pipelines.statistics.rates import DetectorRates, RateSlice
from pipelines.statistics.tables import Tallies, accounting, statistics_tables
from pipelines.statistics.tally import (
    REJECTED,
    merge,
    tally_diversity,
    tally_documents,
    tally_signals,
)
from tests.statistics.crawl import CUTOFF, RATES, RULES, judged_crawl, random_documents

DOCUMENTS = random_documents(1500, seed=2)
TALLY = tally_documents(DOCUMENTS, RULES)
TABLE = prevalence(TALLY, RATES)
PERFECT = DetectorRates(
    "perfect", 0.9, tuple(RateSlice(f"s{i}", 9000, 0, 9000, 9000, held_out=True) for i in range(50))
)


def head(table, **wanted):
    wanted = {"margin": "all", "unit": "documents", "population": "crawled"} | wanted
    return [r for r in table.to_pylist() if all(r[k] == v for k, v in wanted.items())]


def counts(rows, unit):
    amount = (lambda r: r["characters"]) if unit == "characters" else (lambda r: r["documents"])
    after = [r for r in rows if r["after_cutoff"]]
    return {
        "documents": sum(map(amount, rows)),
        "after_cutoff": sum(map(amount, after)),
        "scored": sum(amount(r) for r in after if r["scored"]),
        "judged": sum(amount(r) for r in after if r["judged"]),
        "direct": sum(amount(r) for r in after if r["direct"]),
        "older_copy": sum(amount(r) for r in after if r["older_copy"]),
        "flagged": sum(amount(r) for r in after if r["flagged"] and not r["direct"] and not r["older_copy"]),
    }


@pytest.mark.parametrize(("unit", "population"), list(product(UNITS, POPULATIONS)))
def test_counts_of_every_cell_by_brute_force(unit, population):
    rows = [r for r in TALLY.to_pylist() if population == "crawled" or r["place"] != "duplicates"]
    for margin in MARGINS:
        if unit == "characters" and "host" in margin and len(margin) > 1:
            continue
        groups = {}
        for row in rows:
            groups.setdefault(tuple(row[name] for name in margin), []).append(row)
        found = head(TABLE, margin="×".join(margin) or "all", unit=unit, population=population)
        assert [tuple(r[name] for name in margin) for r in found] == sorted(groups)
        for row in found:
            expected = counts(groups[tuple(row[name] for name in margin)], unit)
            assert {k: row[k] for k in expected} == expected
            assert all(row[name] is None for name in ("month", "host", "language") if name not in margin)


def test_cells_are_mixtures_of_as_many_sets_as_they_have_hosts_of_equal_weight():
    for margin in MARGINS:
        cells = Cells(TALLY, margin, "documents", "crawled")
        by_cell = {}
        for row in TALLY.to_pylist():
            hosts = by_cell.setdefault(tuple(row[name] for name in margin), Counter())
            known = row["direct"] or row["older_copy"] or not row["after_cutoff"]
            hosts[row["host"]] += 0 if known else row["scored"]
        for at, key in enumerate(
            zip(*(cells.keys[name].to_pylist() for name in margin), strict=True) if margin else [()]
        ):
            n = list(by_cell[key].values())
            expected = 1 if "host" in margin else sum(n) ** 2 / max(1, sum(v * v for v in n))
            assert cells.hosts[at] == pytest.approx(expected)
    assert head(TABLE)[0]["sources"] == 3  # four hosts of nearly equal weight, rounded down
    assert {r["sources"] for r in TABLE.to_pylist() if r["margin"] == "host"} <= {1, None}


def test_every_row_is_sound():
    assert TABLE.schema == PREVALENCE
    for row in TABLE.to_pylist():
        json.dumps(row, allow_nan=False)
        assert (row["low"] is None) == (row["after_cutoff"] == 0)
        if row["estimate"] is not None:
            assert 0 <= row["low"] <= row["estimate"] <= row["high"] <= 1
            assert row["low"] >= row["direct"] / row["judged"] - 1e-12
            assert row["observed_rate"] == pytest.approx((row["direct"] + row["flagged"]) / row["judged"])


def test_direct_evidence_alone_bounds_the_share_from_below():
    row = head(TABLE)[0]
    assert row["lower_bound_direct"] == lower_bound(row["direct"], row["after_cutoff"])


def test_same_documents_same_bytes():
    shuffled = DOCUMENTS.take(np.random.default_rng(1).permutation(DOCUMENTS.num_rows))
    parts = [tally_documents(shuffled.slice(i, 100), RULES) for i in range(0, 1500, 100)]
    assert prevalence(merge(parts[::-1]), RATES).equals(TABLE)


def test_a_cell_does_not_hang_on_the_others():
    """An interval of one host is the same in the whole table and alone, but for the rates that the crawl gives."""
    few = PrevalenceOptions(min_human=10**9)  # rates from validation only
    whole = prevalence(TALLY, RATES, few)
    alone = prevalence(TALLY.filter(pc.equal(TALLY["host"], "a.example")), RATES, few)
    (expected,) = [r for r in head(whole, margin="host") if r["host"] == "a.example"]
    assert head(alone, margin="host") == [expected]
    assert expected["fpr_basis"] == "validation"


def test_truth_lies_inside_and_the_headline_has_its_keys():
    machine, table = judged_crawl(6000, share=0.2, tpr=0.7, fpr=0.02, seed=4)
    found = summary_share(prevalence(tally_documents(table, RULES), RATES))
    assert {"estimate", "low", "high", "level", "method"} < set(found)
    truth = machine.sum() / 3000
    assert found["low"] < truth < found["high"]
    assert found["estimate"] == pytest.approx(truth, abs=0.05)
    assert found["fpr_basis"] == "crawl"
    assert found["fpr"] == pytest.approx(0.02, abs=0.006)
    assert (found["judged"], found["documents"]) == (3000, 6000)


def test_false_positives_come_from_the_crawl_where_it_has_enough():
    """The detector flags 10 % of this web's human text, ten times what its validation says."""
    _, table = judged_crawl(6000, share=0.0, tpr=0.7, fpr=0.1, seed=5)
    tally = tally_documents(table, RULES)
    measured, trusting = prevalence(tally, RATES), prevalence(tally, RATES, PrevalenceOptions(min_human=10**9))
    assert summary_share(measured)["low"] == 0
    assert summary_share(trusting)["low"] > 0.05
    assert summary_share(trusting)["fpr_basis"] == "validation"


def test_a_language_with_few_dated_documents_leans_on_the_others():
    _, table = judged_crawl(4000, share=0.1, tpr=0.7, fpr=0.02, seed=6)
    languages = pa.array(np.where(np.arange(4000) % 100 < 2, "ur", "en").tolist())
    table = table.set_column(table.schema.get_field_index("language"), "language", languages)
    rows = {r["language"]: r for r in head(prevalence(tally_documents(table, RULES), RATES), margin="language")}
    assert rows["en"]["fpr_basis"] == "crawl"
    assert rows["ur"]["fpr_basis"] == "crawl, other languages"
    assert 0 < rows["ur"]["fpr"] < 0.25


def test_languages_are_mixed_as_they_are_judged():
    """A detector that errs on one language must not blame a month for holding more of it."""
    rng = np.random.default_rng(8)
    _, table = judged_crawl(8000, share=0.0, tpr=0.7, fpr=0.0, seed=8)
    late = np.arange(8000) % 2 == 1
    german = rng.random(8000) < np.where(late, 0.8, 0.2)
    flagged = rng.random(8000) < np.where(german, 0.2, 0.01)
    columns = {
        "language": pa.array(np.where(german, "de", "en").tolist()),
        "machine_probability": pa.array(np.where(flagged, 0.95, 0.1), pa.float32()),
    }
    for name, column in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, column)
    found = summary_share(prevalence(tally_documents(table, RULES), RATES))
    assert found["fpr"] == pytest.approx(0.2 * 0.8 + 0.01 * 0.2, abs=0.01)
    assert found["low"] == 0
    assert found["estimate"] < 0.03


@pytest.mark.parametrize(
    "rates",
    [
        DetectorRates("none", 0.9),
        DetectorRates("blind", 0.9, tuple(RateSlice(f"s{i}", 500, 10, 500, 10) for i in range(20))),
        DetectorRates("human only", 0.9, (RateSlice("s", 500, 10),)),
    ],
)
def test_a_detector_without_use_leaves_direct_evidence(rates):
    _, table = judged_crawl(3000, share=0.1, tpr=0.02, fpr=0.02, seed=9)
    verdicts = pa.array(["declared" if i % 100 == 1 else "clear" for i in range(3000)])
    table = table.set_column(table.schema.get_field_index("verdict"), "verdict", verdicts)
    found = summary_share(prevalence(tally_documents(table, RULES), rates))
    assert (found["direct"], found["judged"]) == (30, 1500)
    assert found["low"] == pytest.approx(0.02)
    assert found["high"] > 0.9
    assert found["low"] <= found["estimate"] <= found["high"]


def test_no_crawl_dates_and_no_validation():
    undated = TALLY.filter(pc.and_(TALLY["after_cutoff"], pc.invert(TALLY["older_copy"])))
    found = summary_share(prevalence(undated, DetectorRates("none", 0.9)))
    assert (found["method"], found["fpr_basis"], found["high"]) == ("direct-evidence", None, 1)


def test_copies_of_older_pages_count_as_human():
    _, table = judged_crawl(400, share=0.2, tpr=0.7, fpr=0.02)
    alone = summary_share(prevalence(tally_documents(table, RULES), RATES))
    copies = table.filter(pc.greater_equal(table["captured_at"], pa.scalar(CUTOFF)))
    older = pa.array([CUTOFF - timedelta(days=1)] * copies.num_rows, copies.schema.field("older_captured_at").type)
    copies = copies.set_column(copies.schema.get_field_index("older_captured_at"), "older_captured_at", older)
    # Removed copies are left out of what the false positive rate is measured on, so that nothing else changes.
    copies = copies.set_column(copies.schema.get_field_index("place"), "place", pa.array(["duplicates"] * len(copies)))
    both = summary_share(prevalence(tally_documents(pa.concat_tables([table, copies]), RULES), RATES))
    assert both["older_copy"] == copies.num_rows > 100
    assert both["judged"] == alone["judged"] + copies.num_rows
    for name in ("estimate", "low", "high"):
        expected = alone[name] * alone["judged"] / both["judged"]
        assert both[name] == pytest.approx(expected, rel=1e-6)


def test_only_direct_evidence_was_judged():
    """The detector spoke on nothing: documents judged by their declaration are no sample of the others."""
    _, table = judged_crawl(400, share=0.1, tpr=0.7, fpr=0.02)
    verdicts = pa.array(["declared" if i % 40 == 1 else "clear" for i in range(400)])
    for name, column in {"verdict": verdicts, "machine_probability": pa.nulls(400, pa.float32())}.items():
        table = table.set_column(table.schema.get_field_index(name), name, column)
    found = summary_share(prevalence(tally_documents(table, RULES), RATES))
    assert found["estimate"] is None
    assert (found["low"], found["high"]) == (lower_bound(10, 200), 1)
    assert found["too_few"]


def test_nothing_came_in():
    empty = prevalence(TALLY.slice(0, 0), RATES)
    assert empty.schema == PREVALENCE
    found = summary_share(empty)
    assert (found["estimate"], found["low"], found["high"], found["judged"]) == (None, 0, 1, 0)


def test_a_perfect_detector_gives_about_clopper_pearson():
    machine, table = judged_crawl(4000, share=0.3, tpr=1, fpr=0, seed=3)
    row = head(prevalence(tally_documents(table, RULES), PERFECT))[0]
    low, high = map(float, clopper_pearson(machine.sum(), 2000))
    assert (row["low"], row["high"]) == pytest.approx((low, high), abs=0.006)


def test_copies_do_not_make_certainty():
    _, table = judged_crawl(2000, share=0.2, tpr=0.7, fpr=0.02, seed=7, copies=10)
    found = prevalence(tally_documents(table, RULES), RATES)
    crawled, deduplicated = head(found)[0], head(found, population="deduplicated")[0]
    assert crawled["judged"] == 10 * deduplicated["judged"] == 10_000
    width = [r["high"] - r["low"] for r in (crawled, deduplicated)]
    assert width[0] == pytest.approx(width[1], rel=0.02)


def test_the_worth_of_copies_is_never_above_the_truth():
    """n^2 / sum of squared cluster sizes within the cell is the worth; the tally knows whole clusters only."""
    rng = np.random.default_rng(10)
    for _ in range(40):
        sizes = rng.choice([1, 1, 2, 3, 20], 60)
        members = [rng.binomial(s, rng.random()) for s in sizes]
        inside = [(m, s) for m, s in zip(members, sizes, strict=True) if m]
        rows = [s for m, s in inside for _ in range(m)]
        _, table = judged_crawl(2 * len(rows), share=0, tpr=1, fpr=0)
        table = table.filter(pc.greater(table["captured_at"], pa.scalar(RULES.cutoff)))
        at = table.schema.get_field_index("cluster_size")
        table = table.set_column(at, "cluster_size", pa.array(rows, pa.int32()))
        exact = len(rows) ** 2 / sum(m * m for m, _ in inside)
        worth = Cells(tally_documents(table, RULES), (), "documents", "crawled").effective[0]
        assert 0 < worth <= exact + 1e-9
        by_character = Cells(tally_documents(table, RULES), (), "characters", "crawled").effective[0]
        assert by_character < worth


@pytest.mark.parametrize("population", POPULATIONS)
def test_coverage_by_host_month_and_unit(population):
    """The truth here is the share among the very documents of a cell, which may be few."""
    hits = {"documents": [], "characters": []}
    for seed in range(4):
        machine, table = judged_crawl(1200, 0.15, 0.72, 0.015, seed=100 + seed, copies=2, hosts=30)
        found = prevalence(tally_documents(table, RULES), RATES)
        late = pc.greater(table["captured_at"], pa.scalar(RULES.cutoff)).to_numpy(zero_copy_only=False)
        if population == "deduplicated":
            late &= pc.equal(table["place"], "reserve").to_numpy(zero_copy_only=False)
        hosts, characters = np.array(table["host"].to_pylist()), table["characters"].to_numpy()
        for unit, weight in (("documents", np.ones(len(late))), ("characters", characters)):
            for row in head(found, margin="host", unit=unit, population=population):
                mine = late & (hosts == row["host"])
                truth = weight[mine & machine].sum() / weight[mine].sum()
                hits[unit].append(row["low"] - 1e-9 <= truth <= row["high"] + 1e-9)
    assert np.mean(hits["documents"]) >= 0.93
    assert np.mean(hits["characters"]) >= 0.93


def test_tables_and_accounting_add_up():
    rejects = pa.table({"shard": ["b", "a"], "reason": ["no_text", "no_text"], "records": [3, 4]}).cast(REJECTED)
    tallies = Tallies(TALLY, tally_signals(DOCUMENTS), tally_diversity(DOCUMENTS), rejects)
    tables = statistics_tables(tallies, RATES)
    assert set(tables) == {"prevalence", "diversity", "signals", "accounting"}
    assert sum(tables["accounting"]["records"].to_pylist()) == DOCUMENTS.num_rows + 7
    places = DOCUMENTS["place"].to_pylist()
    rows = tables["accounting"].to_pylist()
    for place in set(places):
        assert sum(r["records"] for r in rows if r["place"] == place) == places.count(place)
    assert [(r["reason"], r["shard"], r["records"]) for r in rows if r["place"] == "rejects"] == [
        ("no_text", "a", 4),
        ("no_text", "b", 3),
    ]
    assert accounting(TALLY.slice(0, 0), rejects.slice(0, 0)).num_rows == 0
