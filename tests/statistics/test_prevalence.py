import json
from collections import Counter
from datetime import timedelta
from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from scipy import stats

from pipelines.statistics.adjusted import TruePositives, adjusted_shares
from pipelines.statistics.cells import COUNTS, DIMENSIONS, POPULATIONS, UNITS, Cells, Rows
from pipelines.statistics.fpr import FalsePositives
from pipelines.statistics.host_class import HostClasses, host_classes
from pipelines.statistics.intervals import clopper_pearson, lower_bound
from pipelines.statistics.options import PrevalenceOptions
from pipelines.statistics.prevalence import MARGINS, PREVALENCE, prevalence, prevalences, summary_share
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


def with_class(table):
    return table.append_column("host_class", host_classes(table["host"])).to_pylist()


def counts(rows, unit):
    def amount(found):
        found = [r for r in found if r["documents"]]
        return len({r["host"] for r in found}) if unit == "hosts" else sum(r[unit] for r in found)

    after = [r for r in rows if r["after_cutoff"]]
    return {
        "documents": amount(rows),
        "after_cutoff": amount(after),
        "scored": amount(r for r in after if r["scored"]),
        "judged": amount(r for r in after if r["judged"]),
        "direct": amount(r for r in after if r["direct"]),
        "older_copy": amount(r for r in after if r["older_copy"]),
        "flagged": amount(r for r in after if r["flagged"] and not r["direct"] and not r["older_copy"]),
    }


@pytest.mark.parametrize(("unit", "population"), list(product(UNITS, POPULATIONS)))
def test_counts_of_every_cell_by_brute_force(unit, population):
    rows = [r for r in with_class(TALLY) if population == "crawled" or r["place"] != "duplicates"]
    for margin in MARGINS:
        if "host" in margin and (unit == "hosts" or (unit == "tokens" and len(margin) > 1)):
            assert not head(TABLE, margin="×".join(margin), unit=unit, population=population)
            continue
        groups = {}
        for row in rows:
            groups.setdefault(tuple(row[name] for name in margin), []).append(row)
        found = head(TABLE, margin="×".join(margin) or "all", unit=unit, population=population)
        assert [tuple(r[name] for name in margin) for r in found] == sorted(groups)
        for row in found:
            expected = counts(groups[tuple(row[name] for name in margin)], unit)
            assert {k: row[k] for k in expected} == expected
            fixed = {*margin, "host_class"} if "host" in margin else {*margin}
            assert {name for name in DIMENSIONS if row[name] is not None} == fixed
            assert row["observed_rate"] == pytest.approx(observed(groups[tuple(row[n] for n in margin)], unit))


def observed(rows, unit):
    """(direct + flagged) / judged, or the mean of that over hosts."""
    if unit == "hosts":
        by_host = {}
        for row in rows:
            by_host.setdefault(row["host"], []).append(row)
        shares = [observed(mine, "documents") for mine in by_host.values()]
        judged = [share for share in shares if share is not None]
        return np.mean(judged) if judged else None
    found = counts(rows, unit)
    return (found["direct"] + found["flagged"]) / found["judged"] if found["judged"] else None


def test_a_host_has_its_class_in_every_margin():
    for row in TABLE.to_pylist():
        if row["host"] is not None:
            assert row["host_class"] == host_classes(pa.array([row["host"]])).to_pylist()[0]
    own = HostClasses({"a.example": "news", "b.example": "blog"}, {})
    table = prevalence(TALLY, RATES, classes=own)
    by_class = {r["host_class"]: r for r in head(table, margin="host_class")}
    assert set(by_class) == {"news", "blog", "other"}
    for name, host in (("news", "a.example"), ("blog", "b.example")):
        (alone,) = [r for r in head(table, margin="host") if r["host"] == host]
        assert alone["host_class"] == name
        assert all(alone[k] == by_class[name][k] for k in (*COUNTS, "observed_rate", "lower_bound_direct", "too_few"))


def test_cells_are_mixtures_of_as_many_sets_as_they_have_hosts_of_equal_weight():
    for margin in MARGINS:
        cells = Cells(TALLY, margin, "documents", "crawled")
        by_cell = {}
        for row in with_class(TALLY):
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
            if row["unit"] != "hosts":
                assert row["low"] >= row["direct"] / row["judged"] - 1e-12
                assert row["observed_rate"] == pytest.approx((row["direct"] + row["flagged"]) / row["judged"])


@pytest.mark.parametrize("population", POPULATIONS)
def test_direct_evidence_alone_bounds_the_share_from_below(population):
    for margin in MARGINS:
        for row in head(TABLE, margin="×".join(margin) or "all", population=population):
            if row["after_cutoff"]:
                exact = stats.binomtest(row["direct"], row["after_cutoff"], alternative="greater")
                expected = exact.proportion_ci(0.95, method="exact").low
                assert row["lower_bound_direct"] == pytest.approx(expected, abs=1e-12)
            else:
                assert row["lower_bound_direct"] is None


def test_the_bound_by_direct_evidence_is_exact():
    """P(bound > share) by the binomial distribution itself, at every count."""
    for n in (20, 150):
        bound = lower_bound(np.arange(n + 1), n, 0.95)
        for share in (0.001, 0.01, 0.05, 0.3, 0.9):
            assert stats.binom.pmf(np.arange(n + 1), n, share)[bound > share].sum() <= 0.05 + 1e-12


@pytest.mark.parametrize("unit", ["tokens", "hosts"])
def test_the_bound_by_direct_evidence_where_documents_weigh_differently(unit):
    """By brute force on documents: the weighted share, at the effective number of documents."""
    after = [r for r in DOCUMENTS.to_pylist() if not (r["captured_at"] and r["captured_at"] < CUTOFF)]
    of_host = Counter(r["host"] for r in after)
    weight = np.array([r["tokens"] if unit == "tokens" else 1 / of_host[r["host"]] for r in after], float)
    direct = np.array([r["verdict"] in RULES.direct_verdicts for r in after])
    n = weight.sum() ** 2 / (weight**2).sum()
    expected = lower_bound(weight[direct].sum() / weight.sum() * n, n, 0.95)
    # Squared tokens are counted in units, each rounded up.
    assert head(TABLE, unit=unit)[0]["lower_bound_direct"] == pytest.approx(expected, rel=1e-3)


def test_the_bound_by_direct_evidence_covers():
    """Hosts of very different size with one share of declared text, and documents of very different length."""
    random = np.random.default_rng(17)
    missed = {unit: [] for unit in UNITS}
    for _ in range(60):
        _, table = judged_crawl(900, share=0.0, tpr=1, fpr=0, seed=int(random.integers(1 << 30)), hosts=40)
        declared = random.random(900) < 0.06
        hosts = [f"h{h}.example" for h in np.minimum(random.pareto(0.8, 900) * 4, 60).astype(int)]
        columns = {
            "verdict": pa.array(np.where(declared, "declared", "clear").tolist()),
            "host": pa.array(hosts),
            "tokens": pa.array((random.pareto(2.5, 900) * 300).astype(int) + 20),
        }
        for name, column in columns.items():
            table = table.set_column(table.schema.get_field_index(name), name, column)
        tally = tally_documents(table, RULES)
        for unit in UNITS:
            missed[unit].append(Cells(tally, (), unit, "crawled").direct_bound(0.95)[0] > 0.06)
    for unit in UNITS:
        assert np.mean(missed[unit]) <= 0.1, unit  # 60 rounds at 5 %


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
        by_token = Cells(tally_documents(table, RULES), (), "tokens", "crawled").effective[0]
        assert by_token < worth


def truth_of(mine, machine, table, unit):
    """The share of machine text among the documents of ``mine``: of documents, tokens, or the mean over hosts."""
    if unit == "hosts":
        hosts = np.array(table["host"].to_pylist())
        return np.mean([machine[mine & (hosts == host)].mean() for host in set(hosts[mine])])
    weight = table["tokens"].to_numpy() if unit == "tokens" else np.ones(len(mine))
    return weight[mine & machine].sum() / weight[mine].sum()


@pytest.mark.slow
@pytest.mark.parametrize("population", POPULATIONS)
def test_coverage_by_host_and_unit(population):
    """The truth here is the share among the very documents of a cell, which may be few."""
    hits = {"documents": [], "tokens": []}
    for seed in range(4):
        machine, table = judged_crawl(1200, 0.15, 0.72, 0.015, seed=100 + seed, copies=2, hosts=30)
        found = prevalence(tally_documents(table, RULES), RATES)
        late = pc.greater(table["captured_at"], pa.scalar(RULES.cutoff)).to_numpy(zero_copy_only=False)
        if population == "deduplicated":
            late &= pc.equal(table["place"], "reserve").to_numpy(zero_copy_only=False)
        hosts = np.array(table["host"].to_pylist())
        for unit, held in hits.items():
            for row in head(found, margin="host", unit=unit, population=population):
                truth = truth_of(late & (hosts == row["host"]), machine, table, unit)
                held.append(row["low"] - 1e-9 <= truth <= row["high"] + 1e-9)
    assert np.mean(hits["documents"]) >= 0.93
    assert np.mean(hits["tokens"]) >= 0.93


def uneven_crawl(rows, seed, share):
    """Hosts of very different size, each with its own share of machine text around ``share``, of three classes."""
    random = np.random.default_rng(seed)
    _, table = judged_crawl(rows, share=0.0, tpr=1, fpr=0, seed=seed)
    host = np.minimum(random.pareto(0.9, rows) * 5, 80).astype(int)
    own = np.clip(share * random.gamma(1.0, 1.0, 81), 0, 1)
    late = np.arange(rows) % 2 == 1
    machine = late & (random.random(rows) < own[host])
    flagged = random.random(rows) < np.where(machine, 0.72, 0.015)
    columns = {
        "host": pa.array([f"{('news', 'blog', 'shop')[h % 3]}{h}.example" for h in host]),
        "machine_probability": pa.array(np.where(flagged, 0.95, 0.1), pa.float32()),
        "tokens": pa.array((random.pareto(2.5, rows) * 300).astype(int) + 20),
    }
    for name, column in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, column)
    return machine, late, table


def coverage(rounds, share, rates=None):
    """By unit, how many intervals of the whole crawl and of host classes hold the truth of these very documents."""
    rates = rates or DetectorRates(
        "known", 0.9, tuple(RateSlice(f"s{i}", 9000, 135, 9000, 6480, held_out=True) for i in range(50))
    )
    held = {unit: [] for unit in UNITS}
    for seed in range(rounds):
        machine, late, table = uneven_crawl(1600, 1000 * seed + int(1000 * share), share)
        rows = Rows(tally_documents(table, RULES))
        model, tpr = FalsePositives(tally_documents(table, RULES), rates, 200), TruePositives(rates)
        names = np.array(host_classes(table["host"]).to_pylist())
        for margin, unit in product([(), ("host_class",)], UNITS):
            cells = Cells(rows, margin, unit, "crawled")
            shares = adjusted_shares(cells, model, tpr, 0.95)
            keys = cells.keys["host_class"].to_pylist() if margin else [None]
            for at, key in enumerate(keys):
                truth = truth_of(late & ((names == key) if key else True), machine, table, unit)
                held[unit].append(shares.low[at] - 1e-3 <= truth <= shares.high[at] + 1e-3)
    return {unit: float(np.mean(found)) for unit, found in held.items()}


@pytest.mark.slow
def test_coverage_of_every_unit_where_hosts_differ():
    for unit, held in coverage(8, 0.1).items():
        assert held >= 0.93, unit


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.005, 0.02, 0.1, 0.3, 0.6])
def test_coverage_of_every_unit_at_every_share(share):
    found = coverage(200, share)
    print(f"coverage at {share:.1%}: {found}")
    assert min(found.values()) >= 0.93


def test_every_host_weighs_the_same():
    """Nine hosts of ten documents without machine text, and one of a thousand that is nothing else."""
    _, table = judged_crawl(2180, share=0.0, tpr=1, fpr=0, seed=3)
    late = np.arange(2180) % 2 == 1
    large = np.arange(2180) >= 180
    flagged = late & large
    host = np.where(large, 0, 1 + (np.arange(2180) // 2) % 9)
    columns = {
        "host": pa.array([f"h{h}.example" for h in host]),
        "machine_probability": pa.array(np.where(flagged, 0.95, 0.1), pa.float32()),
    }
    for name, column in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, column)
    found = {unit: head(prevalence(tally_documents(table, RULES), PERFECT), unit=unit)[0] for unit in UNITS}
    assert found["documents"]["estimate"] == pytest.approx(1000 / 1090, abs=0.01)
    assert found["hosts"]["estimate"] == pytest.approx(1 / 10, abs=0.001)
    assert (found["hosts"]["judged"], found["hosts"]["flagged"]) == (10, 1)
    assert found["hosts"]["low"] < 0.1 < found["hosts"]["high"]
    # Ninety documents weigh nine tenths: they decide how sure the share is, not the thousand.
    width = {unit: row["high"] - row["low"] for unit, row in found.items()}
    assert width["hosts"] > 3 * width["documents"]


def test_few_documents_hosts_or_one_long_text_are_too_few():
    def told(rows, hosts, tokens=None):
        _, table = judged_crawl(2 * rows, share=0.1, tpr=0.7, fpr=0.02, seed=1)
        table = table.filter(pc.greater(table["captured_at"], pa.scalar(CUTOFF)))
        columns = {"host": pa.array([f"news{i % hosts}.example" for i in range(rows)])}
        columns |= {"tokens": pa.array(tokens)} if tokens else {}
        for name, column in columns.items():
            table = table.set_column(table.schema.get_field_index(name), name, column)
        found = prevalence(tally_documents(table, RULES), RATES)
        for row in found.to_pylist():
            assert "host" in row["margin"].split("×") or row["too_few"] == head(found, unit=row["unit"])[0]["too_few"]
        return {unit: head(found, margin="month×host_class×language", unit=unit)[0]["too_few"] for unit in UNITS}

    assert told(19, 10) == {"documents": True, "tokens": True, "hosts": True}
    assert told(20, 10, [500] * 20) == {"documents": False, "tokens": False, "hosts": False}
    assert told(40, 4, [500] * 40) == {"documents": False, "tokens": False, "hosts": True}
    assert told(40, 10, [100_000] + [50] * 39) == {"documents": False, "tokens": True, "hosts": False}


def test_detectors_stand_side_by_side():
    other = DetectorRates("other", 0.9, tuple(RateSlice(f"s{i}", 900, 30, 800, 500, held_out=True) for i in range(9)))
    flipped = pa.array(
        [None if p is None else 1 - p for p in DOCUMENTS["machine_probability"].to_pylist()], pa.float32()
    )
    second = tally_documents(DOCUMENTS.append_column("q", flipped), RULES, probability="q")
    both = prevalences([(TALLY, RATES), (second, other)])
    assert both.schema == PREVALENCE
    assert both.filter(pc.equal(both["detector"], "stylometry")).equals(TABLE)
    assert both.filter(pc.equal(both["detector"], "other")).equals(prevalence(second, other))
    found = summary_share(both)
    assert list(found["detectors"]) == ["stylometry", "other"]
    alone = summary_share(TABLE)
    assert {name: found[name] for name in found if name != "detectors"} == {
        name: alone[name] for name in alone if name != "detectors"
    }
    assert found["detectors"]["other"] == summary_share(prevalence(second, other))["detectors"]["other"]
    assert found["detectors"]["other"]["estimate"] != found["detectors"]["stylometry"]["estimate"] == found["estimate"]
    for wrong in ([], [(TALLY, RATES), (second, RATES)]):
        with pytest.raises(ValueError, match="name of its own"):
            prevalences(wrong)
    assert set(prevalence(TALLY, DetectorRates("none", 0.9))["detector"].to_pylist()) == {None}


def test_the_summary_has_every_unit_and_host_class():
    found = summary_share(TABLE)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert set(found["units"]) == set(UNITS)
    assert found["units"]["documents"]["estimate"] == found["estimate"]
    for unit, share in found["units"].items():
        assert share["lower_bound_direct"] == head(TABLE, unit=unit)[0]["lower_bound_direct"]
    classes = {r["host_class"]: r for r in head(TABLE, margin="host_class")}
    assert set(found["host_classes"]) == set(classes)
    assert found["host_classes"]["other"]["lower_bound_direct"] == classes["other"]["lower_bound_direct"] > 0


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
