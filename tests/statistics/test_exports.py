"""The run event and the exposition, read by the libraries of those who receive them."""

import importlib
import json
import re
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.records import DUPLICATES, OUTPUT
from pipelines.statistics.adjusted import METHOD as ADJUSTED
from pipelines.statistics.likelihood import METHOD as LIKELIHOOD
from pipelines.statistics.openlineage import openlineage_event, run_id
from pipelines.statistics.prometheus import prometheus_text
from tests.statistics.tables_of_statistics import SCHEMAS

HOSTILE = 'a "quoted" \\ name\nin two lines'
SHARE = {"estimate": 0.22, "low": 0.18, "high": 0.31}
SUMMARY = {
    "records": {"in": 100, "reserve": 70, "quarantine": 10, "review": 5, "duplicates": 12, "rejects": 3},
    "verdicts": {"clear": 80, "dated": 17},
    "synthetic_share": {
        **SHARE,
        "level": 0.95,
        "method": ADJUSTED,
        "lower_bound_direct": 1e-05,
        "judged": 60,
        "methods": {ADJUSTED: SHARE, LIKELIHOOD: None},
    },
    "seal": {"root": "ab" * 32, "size": 100},
    "detector": {
        "name": "embedded",
        "digest": "cd" * 32,
        "false_positives_by_date": {"rate": 0.001, "low": 0.0, "high": 0.002},
    },
    "job": {
        "digest": "ef" * 32,
        "inputs": [{"name": "s3://bucket/crawl/a.warc.gz", "bytes": 1000}, {"name": "b c.jsonl", "bytes": 24}],
        "against": [{"output": "earlier/out", "digest": "01" * 32}],
    },
    "versions": {"human-reserve": "0.1.0", "apache-beam": "2.77.0"},
}
_SLICES = {
    "margin": ["all", "month", "month", "language"],
    "month": [None, "2024-01", "2024-02", None],
    "language": [None, None, None, HOSTILE],
    "unit": ["documents"] * 4,
    "population": ["crawled"] * 4,
    "estimate": [0.22, 0.1, None, 0.2],
    "low": [0.18, 0.05, 0.0, 0.1],
    "high": [0.31, 0.2, 1.0, 0.3],
    "estimate_likelihood": [0.23, None, None, float("nan")],
    "low_likelihood": [0.2, None, None, 0.1],
    "high_likelihood": [0.3, None, None, 0.3],
}
TABLES = {
    "prevalence": pa.table(_SLICES),
    "accounting": pa.table({"reason": [None, "empty", "empty"], "records": [97, 2, 1]}),
    "diversity": pa.table(
        {"margin": ["all"], "near_duplicate_rate": [0.12], "near_duplicate_low": [0.06], "near_duplicate_high": [0.2]}
    ),
    "panel": pa.table({"measure": ["vendi", "vendi", "entropy"], "alarm": [True, None, False]}),
}


def facets(event):
    """All facets of an event, by key; the product's own ones left out."""
    holders = [event["run"]["facets"], event["job"]["facets"]]
    for dataset in (*event["inputs"], *event["outputs"]):
        holders += [dataset.get(name, {}) for name in ("facets", "inputFacets", "outputFacets")]
    return [(key, facet) for holder in holders for key, facet in holder.items() if not key.startswith("humanReserve_")]


def test_the_models_of_openlineage_hold_the_event_and_its_facets():
    client = pytest.importorskip("openlineage.client.event_v2", reason="needs openlineage-python")
    serde = importlib.import_module("openlineage.client.serde").Serde
    event = openlineage_event(SUMMARY, TABLES)
    datasets = {
        "inputs": [client.InputDataset(**dataset) for dataset in event["inputs"]],
        "outputs": [client.OutputDataset(**dataset) for dataset in event["outputs"]],
    }
    whole = client.RunEvent(
        eventType=client.RunState(event["eventType"]),
        eventTime=event["eventTime"],
        run=client.Run(**event["run"]),
        job=client.Job(**event["job"]),
        producer=event["producer"],
        **datasets,
    )
    assert whole.schemaURL == event["schemaURL"]
    # A model leaves out nothing, and adds empty folders of facets only.
    again = json.loads(serde.to_json(whole))
    for name in ("inputs", "outputs"):
        for got, sent in zip(again[name], event[name], strict=True):
            assert {key: value for key, value in got.items() if value} == sent
    assert {key: again[key] for key in ("eventType", "eventTime", "run", "job", "producer")} == {
        key: event[key] for key in ("eventType", "eventTime", "run", "job", "producer")
    }


def test_every_facet_is_one_of_the_specification_as_its_model_writes_it():
    pytest.importorskip("openlineage.client.event_v2", reason="needs openlineage-python")
    generated = Path(importlib.import_module("openlineage.client.generated.base").__file__).parent
    serde = importlib.import_module("openlineage.client.serde").Serde
    seen = set()
    for key, facet in facets(openlineage_event(SUMMARY, TABLES)):
        name = facet["_schemaURL"].rpartition("/")[2]
        file = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.removesuffix("Facet")).lower()
        module = importlib.import_module(f"openlineage.client.generated.{file}")
        assert (generated / f"{file}.py").exists()
        content = {field: value for field, value in facet.items() if not field.startswith("_")}
        model = getattr(module, name)(**content, producer=facet["_producer"])
        assert json.loads(serde.to_json(model)) == facet
        seen.add(key)
    expected = {"schema", "datasetVersion", "dataQualityMetrics", "outputStatistics", "inputStatistics"}
    assert seen == expected | {"processing_engine", "jobType"}


def test_the_event_says_what_went_in_and_out():
    event = openlineage_event(SUMMARY, TABLES)
    named = [(dataset["namespace"], dataset["name"]) for dataset in event["inputs"]]
    assert named == [
        ("s3://bucket", "crawl/a.warc.gz"),
        ("file", "b c.jsonl"),
        (f"urn:human-reserve:job:{'01' * 32}", "reserve"),
    ]
    assert event["inputs"][0]["inputFacets"]["inputStatistics"]["size"] == 1000
    rows = {d["name"]: d["outputFacets"]["outputStatistics"]["rowCount"] for d in event["outputs"]}
    places = {place: count for place, count in SUMMARY["records"].items() if place != "in"}
    assert rows == places | {f"statistics/{name}": table.num_rows for name, table in TABLES.items()}
    fields = {d["name"]: [f["name"] for f in d["facets"]["schema"]["fields"]] for d in event["outputs"]}
    assert fields["reserve"] == OUTPUT.names
    assert fields["duplicates"] == DUPLICATES.names
    quality = {d["name"]: d["facets"].get("dataQualityMetrics") for d in event["outputs"]}
    metrics = quality["statistics/prevalence"]["columnMetrics"]
    assert metrics["low"] == {"nullCount": 0, "count": 4, "min": 0.0, "max": 0.18}
    assert metrics["month"] == {"nullCount": 2, "count": 2}
    assert metrics["estimate_likelihood"]["max"] == 0.23  # not a number is no number


def test_the_same_run_gives_the_same_bytes_and_another_root_another_run():
    one = json.dumps(openlineage_event(SUMMARY, TABLES), allow_nan=False)
    assert one == json.dumps(openlineage_event(SUMMARY, dict(reversed(TABLES.items()))), allow_nan=False)
    assert uuid.UUID(run_id(SUMMARY)).version == 5
    others = [SUMMARY | {"seal": {"root": "00" * 32}}, SUMMARY | {"seal": None}]
    assert len({run_id(summary) for summary in (SUMMARY, *others)}) == 3
    when = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
    assert openlineage_event(SUMMARY, TABLES, when)["eventTime"] == "2026-05-04T03:02:01Z"
    assert openlineage_event(SUMMARY, TABLES)["eventTime"] == "1970-01-01T00:00:00Z"


def families(text):
    parser = pytest.importorskip("prometheus_client.parser", reason="needs prometheus_client")
    return {family.name: family for family in parser.text_string_to_metric_families(text)}


def values(family, **labels):
    return [s.value for s in family.samples if all(s.labels.get(name) == text for name, text in labels.items())]


def test_prometheus_reads_every_gauge():
    found = families(prometheus_text(SUMMARY, TABLES))
    assert all(family.type == "gauge" and family.documentation for family in found.values())
    assert all(name.startswith("human_reserve_") for name in found)
    records = found["human_reserve_records"]
    assert {s.labels["place"]: s.value for s in records.samples} == SUMMARY["records"]
    share = found["human_reserve_synthetic_share_ratio"]
    assert [(s.labels["method"], s.labels["bound"], s.value) for s in share.samples] == [
        (ADJUSTED, bound, value) for bound, value in SHARE.items()
    ]
    months = found["human_reserve_month_synthetic_share_ratio"]
    assert values(months, month="2024-01") == [0.1, 0.05, 0.2]
    assert not values(months, month="2024-02")  # no estimate: the limits alone would mislead
    assert values(found["human_reserve_reject_records"], reason="empty") == [3]
    assert values(found["human_reserve_panel_alarms"]) == [0, 1]
    assert values(found["human_reserve_input_bytes"]) == [1024]
    assert values(found["human_reserve_run_info"], root="ab" * 32) == [1]


def test_no_label_breaks_out_of_its_quotes():
    found = families(prometheus_text(SUMMARY, TABLES))
    assert values(found["human_reserve_language_synthetic_share_ratio"], language=HOSTILE, method=ADJUSTED) == [
        0.2,
        0.1,
        0.3,
    ]


def test_a_run_without_a_detector_or_a_seal_is_exposed_too():
    bare = SUMMARY | {"detector": None, "seal": None}
    found = families(prometheus_text(bare, {"prevalence": TABLES["prevalence"]}))
    assert "human_reserve_false_positive_rate_ratio" not in found
    assert values(found["human_reserve_run_info"], detector="", root="") == [1]
    assert openlineage_event(bare, TABLES)["outputs"][0]["facets"]["datasetVersion"]["datasetVersion"] == "ef" * 32


def documented():
    """Of each table of the page: type and whether there are nulls, by column."""
    page = (Path(__file__).parents[2] / "docs" / "statistics-tables.md").read_text().replace("&lt;", "<")
    found = {}
    for section in page.split("\n## ")[1:]:
        rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| `")]
        assert all(len(row) == 5 and row[-1].strip() for row in rows)
        found[section.splitlines()[0]] = {row[0].strip("`"): (row[1], bool(row[3].strip())) for row in rows}
    return found


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_page_of_tables_has_every_column_as_the_code_has_it(name):
    assert documented()[name] == {field.name: (str(field.type), field.nullable) for field in SCHEMAS[name]}
