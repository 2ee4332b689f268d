import hashlib
import random
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipelines.neardup.minhash import sign
from pipelines.neardup.options import NearDup
from pipelines.statistics.panel.measures import MEASURES
from pipelines.statistics.panel.table import PANEL_TABLE, External, panel_table
from pipelines.statistics.panel.tally import PanelRules, merge_panel, tally_panel, without_texts
from pipelines.statistics.tally import diversity_schema, signature_column
from tests.statistics.panel.bursty import draw, month_mix

CUTOFF = datetime(2022, 11, 30, tzinfo=UTC)
RULES = PanelRules(CUTOFF)
BEFORE = [f"2022-{month:02}" for month in range(4, 10)]


def pack(month, texts, language="en"):
    """One month's documents as `settle` has them."""
    column = pa.array(texts, pa.large_string())
    year, number = map(int, month.split("-"))
    digests = [hashlib.sha256(text.encode()).digest() for text in texts]
    return pa.table(
        {
            "doc_id": pa.array(
                [hashlib.sha256(f"{month}{i}".encode()).digest()[:16] for i in range(len(texts))], pa.binary(16)
            ),
            "captured_at": pa.array([datetime(year, number, 3, tzinfo=UTC)] * len(texts), pa.timestamp("us", tz="UTC")),
            "host": [("www.gov.uk", "blog.example.com")[i % 2] for i in range(len(texts))],
            "language": pa.array([language] * len(texts), pa.string()),
            "place": ["reserve"] * len(texts),
            "text": column,
            "text_sha256": pa.array(digests, pa.binary(32)),
            "signature": signature_column(sign(column, NearDup()).values),
        }
    )


def month(seed, **how):
    return draw(seed, 270, month_mix(seed), words=60, **how)


@pytest.fixture(scope="module")
def cells():
    packs = [pack(name, month(seed)) for seed, name in enumerate(BEFORE)]
    packs.append(pack("2023-01", month(50)))
    packs.append(pack("2023-02", month(51, template=0.3)))
    packs.append(pack("2023-03", month(52, temperature=0.7)))
    packs.append(pack("2023-04", month(53)[:100]))
    return merge_panel(tally_panel(one, RULES) for one in packs)


def diversity(removed):
    """A diversity tally with so many copies among 300 documents of each month."""
    return pa.table(
        {
            "month": list(removed),
            "language": ["en"] * len(removed),
            "documents": [300] * len(removed),
            "kept": [300 - gone for gone in removed.values()],
            "removed": list(removed.values()),
            "characters": [1] * len(removed),
            "shingles": [1] * len(removed),
            "signature": pa.array([b"\xff" * 512] * len(removed), pa.binary(512)),
        },
        diversity_schema(pa.binary(512)),
    )


@pytest.fixture(scope="module")
def table(cells):
    copies = dict(zip(BEFORE, (20, 24, 18, 22, 25, 19), strict=True)) | {"2023-01": 21, "2023-02": 150, "2023-03": 20}
    return panel_table(cells, diversity(copies))


def rows(table, **wanted):
    return [row for row in table.to_pylist() if all(row[name] == value for name, value in wanted.items())]


def test_the_table_has_every_measure_of_every_slice_in_order(table):
    assert table.schema == PANEL_TABLE
    assert rows(table, margin="language", period="after", measure="mattr")[0]["documents"] == 3 * 270 + 100
    slices = table.select(["margin", "month", "host_class", "language", "period"]).group_by(
        ["margin", "month", "host_class", "language", "period"]
    )
    assert table.num_rows == slices.aggregate([]).num_rows * len(MEASURES) == (2 + 10 + 4) * len(MEASURES)
    assert table["margin"].to_pylist() == sorted(
        table["margin"].to_pylist(), key=["language", "month×language", "host_class×language"].index
    )
    names = [one.name for one in MEASURES]
    assert table["measure"].to_pylist() == names * (table.num_rows // len(names))


def test_alarms_are_raised_where_text_collapsed_and_nowhere_else(table):
    alarmed = {(row["month"], row["measure"]) for row in rows(table, margin="month×language", alarm=True)}
    assert {("2023-02", "template_rate"), ("2023-02", "near_duplicate_rate")} <= alarmed
    assert {name for when, name in alarmed if when == "2023-03"} & {
        "entropy",
        "missing_mass",
        "renyi2",
        "zipf_exponent",
    }
    assert {when for when, _ in alarmed} == {"2023-02", "2023-03"}
    assert not any(row["alarm"] for row in rows(table, period="before"))


def test_a_slice_with_too_few_documents_says_so(table):
    found = rows(table, month="2023-04")
    assert len(found) == len(MEASURES)
    assert all(row["too_few"] and row["value"] is None and row["p_value"] is None for row in found)
    assert {row["documents"] for row in found} == {100}
    assert not any(row["too_few"] for row in rows(table, month="2023-01"))


def test_equal_samples_are_of_the_measures_that_change_with_size(table):
    by_size = {one.name: one.by_size for one in MEASURES}
    for row in rows(table, month="2023-01"):
        assert (row["equal"] is not None) == by_size[row["measure"]]
        assert row["low"] <= row["value"] <= row["high"]
        assert row["reference_low"] <= row["reference"] <= row["reference_high"]
        assert 0 < row["p_value"] < 1


def test_near_duplicates_are_those_of_the_diversity_tally(table):
    found = rows(table, month="2023-02", measure="near_duplicate_rate")[0]
    assert found["value"] == 0.5
    assert found["low"] < 0.5 < found["high"]
    total = rows(table, margin="language", period="before", measure="near_duplicate_rate")[0]
    assert total["value"] == pytest.approx(128 / 1800)
    assert rows(table, margin="host_class×language", measure="near_duplicate_rate")[0]["value"] is None


def test_classes_of_hosts_are_held_against_themselves(table):
    for name in ("government", "blog"):
        before = rows(table, host_class=name, period="before", measure="mattr")[0]
        after = rows(table, host_class=name, period="after", measure="mattr")[0]
        assert after["reference"] == before["value"]
        assert after["p_value"] is not None
        assert rows(table, host_class=name, period="after", measure="overlap")[0]["p_value"] is None


def test_the_order_of_the_packs_makes_no_difference(cells, table):
    shuffled = list(range(cells.num_rows))
    random.Random(1).shuffle(shuffled)
    again = panel_table(merge_panel([cells.take(shuffled[:7]), cells.take(shuffled[7:])]))
    kept = pc.not_equal(again["measure"], "near_duplicate_rate")
    assert again.filter(kept).equals(table.filter(kept))


def test_an_earlier_output_can_be_the_reference(cells, table):
    later = cells.filter(pc.equal(cells["period"], "after"))
    alone = panel_table(later)
    assert alone["p_value"].null_count == alone.num_rows
    assert not any(alone["alarm"].to_pylist())
    found = panel_table(later, reference=External(without_texts(cells), table))
    for row in rows(found, margin="month×language", month="2023-03"):
        same = rows(table, margin="month×language", month="2023-03", measure=row["measure"])[0]
        if row["measure"] not in ("near_duplicate_rate", "renyi2", "template_rate"):
            assert row["p_value"] == pytest.approx(same["p_value"], abs=0.02)
    assert any(row["alarm"] for row in rows(found, month="2023-03"))


def test_no_cells_make_an_empty_table(cells):
    assert panel_table(cells.slice(0, 0)).equals(PANEL_TABLE.empty_table())
