from xml.etree import ElementTree

import pyarrow as pa
import pytest

from pipelines.statistics.report import render, render_markdown
from pipelines.statistics.report.accounts import flow_plot, places
from pipelines.statistics.report.collapse import collapse
from pipelines.statistics.report.flow import Link, Node, flow
from pipelines.statistics.report.heat import heat_map
from pipelines.statistics.report.multiples import Point, Reference, small_plot
from pipelines.statistics.report.palette import heat_step
from pipelines.statistics.report.svg import NARROW, WIDE, Share, share_line, share_rows, stacked_bars
from pipelines.statistics.tables import ACCOUNTING
from tests.statistics.report_tables import panel_table
from tests.statistics.test_report import TABLES


def parts_of(svg, tag, style=None):
    elements = [e for e in ElementTree.fromstring(svg).iter() if e.tag == tag]
    return [e for e in elements if style is None or style in (e.get("class") or "").split()]


@pytest.mark.parametrize("frame", [WIDE, NARROW])
def test_plots_place_what_they_show(frame):
    shares = [Share(0.5, 0.25, 1), None, Share(0, 0, 0.1)]
    line = share_line(["a", "b", "c"], shares, 1, "x", frame=frame)
    dots = [float(e.get("cy")) for e in parts_of(line, "circle")]
    axis = [float(e.get("y1")) for e in parts_of(line, "line", "grid")]
    assert dots == [pytest.approx((axis[0] + axis[-1]) / 2, abs=0.1), axis[0]]  # the grid runs from 0 % to 100 %
    assert len(parts_of(line, "polygon")) == 2
    bars = stacked_bars(["a"], {"dated": [3], "clear": [1]}, None, "x", frame=frame)
    heights = {e.get("class"): float(e.get("height")) for e in parts_of(bars, "rect")}
    assert heights["s-dated"] == pytest.approx(3 * heights["s-clear"], abs=0.2)
    rows = share_rows([("h", Share(0.02, 0.01, 0.04))], "x", frame)
    (bar,), (dot,) = parts_of(rows, "rect"), parts_of(rows, "circle")
    assert (float(dot.get("cx")) - float(bar.get("x"))) * 3 == pytest.approx(float(bar.get("width")), abs=0.3)


def accounting(rows):
    columns = ("place", "verdict", "reason", "records")
    table = [dict(zip(columns, row, strict=True)) | {"month": None, "shard": None} for row in rows]
    return pa.Table.from_pylist(table, ACCOUNTING)


ACCOUNTS = accounting(
    [
        ("reserve", "dated", None, 700),
        ("reserve", "clear", None, 150),
        ("quarantine", "suspected", None, 40),
        ("review", "undetermined", None, 10),
        ("duplicates", "dated", None, 60),
        ("rejects", None, "no_text", 25),
        ("rejects", None, "truncated", 15),
    ]
)


def test_the_flow_adds_up():
    svg = str(flow_plot(ACCOUNTS)).split('<div class="narrow">')[0].removeprefix('<div class="wide">')
    svg = svg.removesuffix("</div>")
    titles = [e.find("title").text for e in parts_of(svg, "path")]
    links = [(*title.rpartition(": ")[0].split(" to "), int(title.rpartition(": ")[2])) for title in titles]
    out, into = {}, {}
    for source, target, n in links:
        out[source] = out.get(source, 0) + n
        into[target] = into.get(target, 0) + n
    assert out["records in"] == 1000
    assert {v: n for v, n in into.items() if not v.startswith("place")} == {
        v: n for v, n in out.items() if v != "records in"
    }
    ends = {name.removeprefix("place "): n for name, n in into.items() if name.startswith("place")}
    assert ends == {"reserve": 850, "quarantine": 40, "review": 10, "duplicates": 60, "rejects": 40}
    table = {place: int(n.replace("\u202f", "")) for place, n, _ in places({}, ACCOUNTS)}
    assert table == ends | {"all": 1000}


@pytest.mark.parametrize("frame", [WIDE, NARROW])
def test_the_width_of_a_flow_is_its_number(frame):
    nodes = [[Node("in", "in", 100)], [Node("a", "a", 75), Node("b", "b", 25), Node("c", "c", 0)]]
    svg = flow(nodes, [Link("in", "a", 75), Link("in", "b", 25), Link("in", "c", 0)], "x", frame)
    heights = [float(e.get("height")) for e in parts_of(svg, "rect")]
    assert heights == [
        pytest.approx(frame.height),
        pytest.approx(0.75 * frame.height),
        pytest.approx(0.25 * frame.height),
    ]
    tops = [float(e.get("y")) for e in parts_of(svg, "rect")]
    assert tops[2] > tops[1] + heights[1]
    assert len(parts_of(svg, "path")) == 2
    assert max(float(e.get("y")) for e in parts_of(svg, "text")) < float(svg.split('viewBox="0 0 ')[1].split()[1][:-1])


def test_heat_map_tells_apart_a_share_too_few_and_nothing():
    cells = {("news", "2024-01"): Share(0.3, 0.2, 0.4), ("news", "2024-02"): None}
    svg = heat_map(["news", "blog"], ["2024-01", "2024-02"], cells, 1.0, "x")
    boxes = parts_of(svg, "rect")
    assert [b.get("class") for b in boxes] == [f"h{heat_step(0.3)}", "few"]
    assert [b.find("title").text for b in boxes] == ["news, 2024-01: 30.0% (20.0% to 40.0%)", "news, 2024-02: too few"]
    assert "30" in [t.text for t in parts_of(svg, "text")]
    assert [heat_step(s) for s in (0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 1)] == [0, 1, 2, 3, 4, 5, 6, 6]


def test_small_plot_shows_alarms_by_shape_and_the_reference_as_a_band():
    points = [
        Point("2024-01", 0, 5.0, 4.5, 5.5, False, True),
        Point("2024-02", 1, 4.0, 3.5, 4.5, False, False),
        Point("2024-04", 3, 2.0, 1.5, 2.5, True, False),
    ]
    axis = ["2024-01", "2024-02", "2024-03", "2024-04"]
    svg = small_plot(points, Reference(5.0, 4.8, 5.2), axis, 1.0, "Variety")
    (alarm,) = parts_of(svg, "polygon", "alarm")
    assert len(alarm.get("points").split()) == 3
    assert alarm.find("title").text == "alarm in 2024-04: 2"
    (band,), (level,) = parts_of(svg, "rect", "refband"), parts_of(svg, "line", "ref")
    top, height = float(band.get("y")), float(band.get("height"))
    assert top + height / 2 == pytest.approx(float(level.get("y1")), abs=0.2)
    dots = [float(e.get("cy")) for e in parts_of(svg, "circle")]  # a gap on both sides of each: three runs of one
    assert dots[0] == pytest.approx(float(level.get("y1")), abs=0.1)
    assert dots == sorted(dots)
    assert "alarms in 2024-04" in ElementTree.fromstring(svg).get("aria-label")


def test_panel_takes_what_is_compared_and_leaves_out_months_with_too_few():
    table = panel_table(languages=("de", "en"))
    about = collapse(table, "2022-11")
    assert [language["name"] for language in about["languages"]] == ["de", "en"]  # the one with more documents first
    rows = [r for r in table.to_pylist() if r["alarm"]]
    assert about["alarms"] == len(rows) > 0
    first = about["languages"][0]
    assert sum(len(m["alarms"]) for m in first["plots"]) == sum(
        r["language"] == "de" and r["margin"] == "month×language" for r in rows
    )
    assert first["enough"] < first["months"] == 60
    by_size = next(m for m in first["plots"] if m["name"] == "distinct_trigrams")
    assert by_size["reference"].startswith("2 (")  # the equal sample's scale, not the whole slice's
    assert by_size["last"].split(": ")[1].startswith(("1.", "2 ", "2."))
    assert first["classes"]["head"][1:] == ("blog", "news", "shop")
    assert any("▲ alarm" in cell for row in first["classes"]["rows"] for cell in row)


def test_without_a_reference_it_says_so_and_not_that_all_is_well():
    table = panel_table(languages=("en",))
    nothing = pa.nulls(table.num_rows, pa.float64())
    for name in ("reference", "reference_low", "reference_high"):
        table = table.set_column(table.schema.get_field_index(name), name, nothing)
    quiet = pa.array([False] * table.num_rows)
    table = table.set_column(table.schema.get_field_index("alarm"), "alarm", quiet)
    about = collapse(table, "2022-11")
    assert not about["compared"]
    assert not any(m["compared"] for m in about["languages"][0]["plots"])
    page = render({}, TABLES | {"panel": table})
    assert "no alarm" not in page.lower()
    assert "nothing to compare with" in page
    assert "No alarm" not in render_markdown({}, TABLES | {"panel": table})


def test_no_panel_no_section():
    assert collapse(None, None) is None
    assert collapse(panel_table().slice(0, 0), None) is None
    assert collapse(panel_table(months=1, cutoff=None), None)["languages"][0]["months"] == 1
