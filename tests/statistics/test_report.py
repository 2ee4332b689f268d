import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest

from pipelines.statistics.prevalence import summary_share
from pipelines.statistics.report import count, percent, plain, render
from pipelines.statistics.svg import Share, share_line, share_rows, stacked_bars
from pipelines.statistics.tables import Tallies, statistics_tables
from pipelines.statistics.tally import REJECTED, tally_diversity, tally_documents, tally_signals
from tests.statistics.crawl import CUTOFF, RATES, RULES, random_documents

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}\u202e\x00"


def tables_of(documents):
    rejects = pa.table({"shard": ["s"], "reason": ["no_text"], "records": [4]}).cast(REJECTED)
    tallies = Tallies(tally_documents(documents, RULES), tally_signals(documents), tally_diversity(documents), rejects)
    return statistics_tables(tallies, RATES)


def set_columns(table, **columns):
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, pa.array(values, table.schema.field(at).type))
    return table


DOCUMENTS = random_documents(1200, seed=3)
TABLES = tables_of(DOCUMENTS)
SUMMARY = {
    "records": {"in": 1204, "reserve": 300, "quarantine": 300, "review": 300, "duplicates": 300, "rejects": 4},
    "synthetic_share": summary_share(TABLES["prevalence"]),
    "seal": {"root": "ab" * 32, "size": 1200},
    "job": {"cutoff": "2022-11-30", "policy": {"level": 0.95}},
    "versions": {"human-reserve": "0.1.0"},
}
SAMPLES = [{"url": HOSTILE, "verdict": "clear", "text": HOSTILE, "evidence": [{"source": HOSTILE, "kind": HOSTILE}]}]
REPORT = render(SUMMARY, TABLES, SAMPLES, "A crawl", CUTOFF.date())


class Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *a) for a in attrs]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *a) for a in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_whole_and_well_formed():
    page = Elements(REPORT)
    assert page.open == []
    assert page.tags.count("svg") == 4
    assert page.tags.count("details") >= page.tags.count("svg")  # each plot has its table
    for svg in re.findall(r"<svg.*?</svg>", REPORT, re.S):
        root = ElementTree.fromstring(svg)
        assert root.get("role") == "img"
        assert root.get("aria-label")


def test_needs_no_network_and_runs_no_script():
    page = Elements(REPORT)
    assert not {"script", "link", "img", "iframe", "object", "base", "a"} & set(page.tags)
    assert not [a for a in page.attributes if a[1] in ("src", "href", "srcset") or a[1].startswith("on")]
    assert not re.search(r"url\(|@import|https?://(?!\"'&)", REPORT)
    assert "default-src 'none'" in REPORT


def test_hostile_text_stays_text():
    hosts = [f"{HOSTILE}{i % 2}" for i in range(DOCUMENTS.num_rows)]
    tables = tables_of(set_columns(DOCUMENTS, host=hosts, language=[HOSTILE] * len(hosts)))
    report = render(SUMMARY | {"job": {HOSTILE: HOSTILE}}, tables, SAMPLES, HOSTILE)
    page = Elements(report)
    assert set(page.tags) <= set(Elements(REPORT).tags)
    assert {a[1] for a in page.attributes} <= {a[1] for a in Elements(REPORT).attributes}
    assert "\u202e" not in report
    assert "\x00" not in report
    assert "{{7*7}}" in report
    assert any("<script>alert(1)</script>" in text for text in page.text)


def test_shows_both_methods_where_there_are_two():
    basis = {"human": "crawl", "human_documents": 9794, "human_sets": None, "machine_sets": 29}
    likelihood = {"estimate": 0.1234, "low": 0.0567, "high": 0.2345, **basis}
    share = SUMMARY["synthetic_share"]
    methods = {"rogan-gladen": {name: share[name] for name in ("estimate", "low", "high")}, "likelihood": likelihood}
    table = TABLES["prevalence"]
    for name in ("estimate", "low", "high"):
        column = pa.array(np.full(table.num_rows, likelihood[name]))
        table = table.set_column(table.schema.get_field_index(f"{name}_likelihood"), f"{name}_likelihood", column)
    report = render(
        SUMMARY | {"synthetic_share": share | {"methods": methods}}, TABLES | {"prevalence": table}, SAMPLES
    )
    text = "".join(Elements(report).text)
    assert "The same share by two methods" in text
    assert "they are not averaged" in text
    assert f"{count(9794)} documents of this crawl" in text
    assert text.count(f"{percent(0.1234)} ({percent(0.0567)} to {percent(0.2345)})") > 3  # months, hosts, languages
    assert percent(share["estimate"]) in text
    sets = likelihood | {"human": "left-out sets", "human_sets": 17}
    again = render(SUMMARY | {"synthetic_share": share | {"methods": methods | {"likelihood": sets}}}, TABLES)
    assert "of 17 sets are spread" in again
    assert "The same share by two methods" not in REPORT


def test_same_input_same_bytes_in_another_process():
    code = "from tests.statistics.test_report import REPORT; import sys; sys.stdout.buffer.write(REPORT.encode())"
    environment = os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    root = Path(__file__).parents[2]
    again = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, check=True)
    assert again.stdout == REPORT.encode()


def test_says_the_figures():
    share = SUMMARY["synthetic_share"]
    text = "".join(Elements(REPORT).text)
    for value in ("estimate", "low", "high"):
        assert percent(share[value]) in text
    assert "captured on or after 2022-11-30" in text
    assert count(1204) in text
    assert "“Clear” is not “human”." in text


@pytest.mark.parametrize(
    ("summary", "documents"),
    [
        ({}, DOCUMENTS.slice(0, 0)),
        (SUMMARY, DOCUMENTS.slice(0, 1)),
        ({}, set_columns(DOCUMENTS, captured_at=[None] * 1200)),
        ({}, set_columns(DOCUMENTS, captured_at=[datetime(1800 + i, 1, 1, tzinfo=UTC) for i in range(1200)])),
        ({}, set_columns(DOCUMENTS, machine_probability=[None] * 1200, verdict=["clear"] * 1200)),
    ],
)
def test_odd_crawls(summary, documents):
    report = render(summary, tables_of(documents))
    assert Elements(report).open == []
    assert len(report) < 2_000_000
    assert "nan" not in report.lower().replace("finance", "")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1, "100"),
        (0.5, "50"),
        (0.2009, "20.1"),
        (0.0312, "3.1"),
        (0.0061, "0.61"),
        (0.99999, "100"),
        (3e-5, "under 0.01"),
    ],
)
def test_percent(value, text):
    assert percent(value) == f"{text}\u202f%"


def test_plain_keeps_letters_of_every_script():
    assert plain("Grüße 你好 שלום\n") == "Grüße 你好 שלום\n"
    assert plain("a\u202eb\x1b[0m\ud800") == "a\ufffdb\ufffd[0m\ufffd"


def test_plots_place_what_they_show():
    line = ElementTree.fromstring(share_line(["a", "b", "c"], [Share(0.5, 0.25, 1), None, Share(0, 0, 0.1)], 1, "x"))
    dots = [float(e.get("cy")) for e in line if e.tag == "circle"]
    axis = [float(e.get("y1")) for e in line if e.get("class") == "grid"]
    assert dots == [pytest.approx((axis[0] + axis[-1]) / 2, abs=0.1), axis[0]]  # the grid runs from 0 % to 100 %
    assert len([e for e in line if e.tag == "polygon"]) == 2
    bars = ElementTree.fromstring(stacked_bars(["a"], {"dated": [3], "clear": [1]}, None, "x"))
    heights = {e.get("class"): float(e.get("height")) for e in bars if e.tag == "rect"}
    assert heights["s-dated"] == pytest.approx(3 * heights["s-clear"], abs=0.2)
    rows = ElementTree.fromstring(share_rows([("h", Share(0.02, 0.01, 0.04))], "x"))
    (bar,) = [e for e in rows if e.tag == "rect"]
    (dot,) = [e for e in rows if e.tag == "circle"]
    assert (float(dot.get("cx")) - float(bar.get("x"))) * 3 == pytest.approx(float(bar.get("width")), abs=0.3)
