"""Runs joined into series: what is joined and what is not, the band against simulated truth, tables and pictures."""

import argparse
import json
from datetime import timedelta
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.cli import _command
from pipelines.cli_series import add_series
from pipelines.errors import UsageError
from pipelines.statistics.adjusted import METHOD as ADJUSTED
from pipelines.statistics.intervals import adjusted_interval, adjusted_share, binomial_rate
from pipelines.statistics.likelihood import METHOD as LIKELIHOOD
from pipelines.statistics.prevalence import prevalence
from pipelines.statistics.series import BY, SERIES, Run, month_name, month_number, read_run, series, series_table
from pipelines.statistics.series_page import headline, series_html, series_svg
from pipelines.statistics.tally import merge, tally_documents
from tests.statistics.crawl import RATES, RULES, judged_crawl

START = month_number("2022-12")
CUTOFF = "2022-11-30"
# What the detector is known by: 3,000 human texts and a few hundred of machines.
FPR, TPR = binomial_rate(36, 3000, "fpr"), binomial_rate(140, 200, "tpr")
SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("margin", "month", "language", "unit", "population", "method", "fpr_basis")]
    + [(name, pa.int64()) for name in ("documents", "after_cutoff", "scored", "judged", "direct", "older_copy")]
    + [("flagged", pa.int64()), ("too_few", pa.bool_())]
    + [(f"{name}{suffix}", pa.float64()) for suffix in ("", "_likelihood") for name in ("estimate", "low", "high")]
    + [(name, pa.float64()) for name in ("fpr", "tpr", "level")]
)


def rows(margin, keys, n, flagged):
    """Of `prevalence`, with the intervals that it computes, as older outputs have it: no detector, no host class."""
    n, flagged = np.asarray(n, np.int64), np.asarray(flagged, np.int64)
    fpr, tpr = np.tile(FPR, (len(n), 1)), np.tile(TPR, (len(n), 1))
    low, high = adjusted_interval(flagged, n, fpr, tpr)
    low, high = np.floor(low * n + 1e-9) / n, np.ceil(high * n - 1e-9) / n
    share = adjusted_share(flagged, n, FPR.mean(), TPR.mean())
    limits = dict(
        zip(("estimate", "low", "high"), (share, np.minimum(low, share), np.maximum(high, share)), strict=True)
    )
    counts = {"documents": n + (3000 if margin == "all" else 0), "after_cutoff": n, "scored": n, "judged": n}
    columns = {
        **{name: [name_of] * len(n) for name, name_of in (("margin", margin), ("unit", "documents"))},
        "population": ["crawled"] * len(n),
        "method": [ADJUSTED] * len(n),
        "fpr_basis": ["crawl"] * len(n),
        **{name: keys.get(name, [None] * len(n)) for name in ("month", "language")},
        **counts,
        "direct": 0 * n,
        "older_copy": 0 * n,
        "flagged": flagged,
        "too_few": n < 20,
        **{f"{name}{suffix}": values for suffix in ("", "_likelihood") for name, values in limits.items()},
        "fpr": np.full(len(n), FPR.mean()),
        "tpr": np.full(len(n), TPR.mean()),
        "level": np.full(len(n), 0.95),
    }
    return pa.table({name: columns[name] for name in SCHEMA.names}).cast(SCHEMA)


def table(months, n, flagged):
    names = [month_name(month) for month in months]
    whole = [sum(n)], [sum(flagged)]
    return pa.concat_tables(
        [
            rows("all", {}, *whole),
            rows("language", {"language": ["en"]}, *whole),
            rows("month", {"month": names}, n, flagged),
            rows("month×language", {"month": names, "language": ["en"] * len(names)}, n, flagged),
        ]
    )


def run(output, months, n=400, flagged=60, digest="d1" * 32):
    n, flagged = (np.broadcast_to(value, len(months)).tolist() for value in (n, flagged))
    return Run(output, f"job of {output}", CUTOFF, {"embedded": digest}, table(months, n, flagged))


def written(folder, one):
    (folder / "statistics").mkdir(parents=True)
    pq.write_table(one.prevalence, folder / "statistics" / "prevalence.parquet")
    name, digest = next(iter(one.detectors.items()))
    summary = {
        "job": {"digest": one.job_digest, "settings": {"cutoff": one.cutoff}},
        "detector": {"name": name, "digest": digest},
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return str(folder)


def months(count, start=START):
    return range(start, start + count)


def command(*arguments):
    parser = argparse.ArgumentParser()
    add_series(parser.add_subparsers(), _command)
    options = parser.parse_args(["series", *arguments])
    return options.do(options)


def test_months_that_two_runs_hold_are_two_observations_and_gaps_are_marked():
    lines = series([run("b", months(4, START + 3)), run("a", months(4)), run("c", months(2, START + 9))])
    assert [line.method for line in lines] == [ADJUSTED, LIKELIHOOD]
    assert lines[0].trend.observed == (1, 1, 1, 2, 1, 1, 1, 0, 0, 1, 1)
    found = series_table(lines)
    assert found.schema == SERIES
    rows = [row for row in found.to_pylist() if row["method"] == ADJUSTED]
    assert [row["month"] for row in rows if row["interpolated"]] == ["2023-07", "2023-08"]
    assert [row["run"] for row in rows if row["month"] == "2023-03" and row["row"] == "run"] == ["a", "b"]
    # The runs' own figures stand as the runs have them.
    own = run("a", months(4)).prevalence.to_pylist()
    first = next(row for row in rows if row["row"] == "run")
    assert (first["estimate"], first["low"], first["high"]) == tuple(own[2][n] for n in ("estimate", "low", "high"))


def test_runs_of_other_detectors_are_not_joined():
    same, other = run("a", months(5)), run("b", months(5, START + 5), digest="d2" * 32)
    lines = series([same, other])
    assert len(lines) == 4
    assert {line.key.digest for line in lines} == {"d1" * 32, "d2" * 32}
    assert all({point.run.output for point in line.points} in ({"a"}, {"b"}) for line in lines)
    assert "not joined" in headline(lines)
    assert "not joined" not in headline(series([same]))
    later = run("c", months(5, START + 5))
    assert len(series([same, later._replace(cutoff="2023-01-31")])) == 4
    # A detector without a known digest may be another one.
    assert len(series([one._replace(detectors={"embedded": None}) for one in (same, later)])) == 4


def test_one_run_is_not_taken_twice():
    one = run("a", months(5))
    with pytest.raises(UsageError, match="a and copy are the same run"):
        series([one, one._replace(output="copy")])


def test_slices_that_an_older_output_lacks_are_named():
    lines = series([run("a", months(5))], "language")
    assert {(line.slice, line.by) for line in lines} == {("en", "language")}
    with pytest.raises(UsageError, match=r"^a: has no shares by host_class; run it again"):
        series([run("a", months(5))], "host_class")


def test_two_months_are_too_few_for_a_trend():
    lines = series([run("a", months(2))])
    assert [line.trend for line in lines] == [None, None]
    assert {row["row"] for row in series_table(lines).to_pylist()} == {"run"}
    ElementTree.fromstring(series_svg(lines))


def test_several_detectors_of_one_run_make_a_line_each():
    one = run("a", months(5))
    twice = [one.prevalence.append_column("detector", pa.array([name] * one.prevalence.num_rows)) for name in "xy"]
    both = one._replace(detectors={"x": "1" * 64, "y": "2" * 64}, prevalence=pa.concat_tables(twice))
    assert [(line.detector, line.key.digest[0], len(line.points)) for line in series([both])] == [
        ("x", "1", 5),
        ("x", "1", 5),
        ("y", "2", 5),
        ("y", "2", 5),
    ]


def test_a_band_of_many_months_is_no_narrower_than_the_rates_allow():
    spread = np.std(TPR) / (TPR.mean() - FPR.mean())
    found = series([run("a", months(60), n=2000, flagged=300)])[0].trend
    share = found.mean[30]
    assert found.high_sampling[30] - found.low_sampling[30] < 0.4 * (found.high[30] - found.low[30])
    assert found.high[30] - found.low[30] == pytest.approx(2 * 1.96 * spread * share, rel=0.2)
    change = found.change(found.first, found.first + 59)
    assert change.high - change.low < 0.5 * (found.high[30] - found.low[30])


@pytest.mark.parametrize(("count", "n"), [(8, 150), (16, 600)])
def test_the_band_holds_the_truth_when_the_rates_are_off(count, n):
    rng = np.random.default_rng(count)
    hits = []
    for _ in range(20):
        at = rng.integers(len(FPR), size=2)
        fpr, tpr = FPR[at[0]], TPR[at[1]]
        share = 0.4 / (1 + np.exp(-6 * (np.arange(count) / count - 0.5)))
        flagged = rng.binomial(n, fpr + share * (tpr - fpr))
        found = series([run("a", months(count), n=n, flagged=flagged)])[0].trend
        hits.append(np.mean((found.low <= share) & (share <= found.high)))
    assert np.mean(hits) >= 0.93


def test_outputs_that_are_no_use_are_named(tmp_path):
    with pytest.raises(UsageError, match="no finished run here"):
        read_run(str(tmp_path))
    folder = tmp_path / "out"
    written(folder, run("x", months(3)))
    (folder / "statistics" / "prevalence.parquet").unlink()
    with pytest.raises(UsageError, match=r"prevalence\.parquet: is missing"):
        read_run(str(folder))
    summary = json.loads((folder / "summary.json").read_text()) | {"detector": None}
    (folder / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(UsageError, match="without a detector"):
        read_run(str(folder))


def test_the_order_of_runs_is_nothing():
    runs = [run("b", months(4, START + 3)), run("a", months(5)), run("c", months(5), digest="d2" * 32)]
    one, other = series(runs), series(runs[::-1])
    assert series_table(one).equals(series_table(other))
    assert series_html(one) == series_html(other)
    assert series_svg(one) == series_svg(other)


def test_names_cannot_break_out_of_page_or_picture():
    hostile = '<script>alert("1")</script>'
    one = run(hostile, months(5))._replace(detectors={hostile: "d" * 64})
    page, picture = series_html(series([one])), series_svg(series([one]))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    names = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(picture).iter()}
    assert "script" not in names
    assert {"svg", "polygon", "line", "text"} <= names


def test_the_command_prints_and_writes(tmp_path, capsys):
    outputs = [
        written(tmp_path / "one", run("x", months(6))),
        written(tmp_path / "two", run("y", months(6, START + 7), flagged=90)),
    ]
    assert command(*outputs, "--output", str(tmp_path / "joined")) == 0
    told = capsys.readouterr().out
    assert "2 runs" in told
    assert "2023-06" in told.split("between")[0]
    assert "last 12 months" in told
    assert "from 2022-12 to 2023-12: +" in told
    assert pq.read_table(tmp_path / "joined" / "series.parquet").schema.equals(SERIES)
    ElementTree.fromstring((tmp_path / "joined" / "series.svg").read_text())
    assert command(*outputs, "--json") == 0
    lines = json.loads(capsys.readouterr().out)
    assert [line["method"] for line in lines] == [ADJUSTED, LIKELIHOOD]
    assert lines[0]["change"]["low"] < lines[0]["change"]["estimate"] < lines[0]["change"]["high"]
    assert command(*outputs, "--by", "language") == 0
    assert "en, adjusted count" in capsys.readouterr().out


def test_the_table_that_a_run_writes_is_joined_by_every_slice():
    _, documents = judged_crawl(4000, 0.3, 0.75, 0.01, seed=1)
    days = np.random.default_rng(0).integers(0, 150, documents.num_rows)
    times = zip(documents["captured_at"].to_pylist(), days.tolist(), strict=True)
    moved = [when + timedelta(days=day) if when > RULES.cutoff else when for when, day in times]
    at = documents.schema.get_field_index("captured_at")
    documents = documents.set_column(at, "captured_at", pa.array(moved, documents["captured_at"].type))
    found = prevalence(merge([tally_documents(documents, RULES)]), RATES)
    one = Run("a", "job", CUTOFF, {RATES.name: "d" * 64}, found)
    for by in BY:
        lines = series([one], by)
        assert [(line.detector, line.method, len(line.points)) for line in lines] == [(RATES.name, ADJUSTED, 6)]
        assert np.all((lines[0].trend.low < 0.3) & (lines[0].trend.high > 0.3))
