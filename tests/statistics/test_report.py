import base64
import os
import pickle
import re
import subprocess
import sys
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree

import html5lib
import numpy as np
import pyarrow as pa
import pytest

from pipelines.statistics.prevalence import summary_share
from pipelines.statistics.report import count, percent, plain, render
from pipelines.statistics.report.downloads import csv_text
from pipelines.statistics.report.palette import DARK, HEAT, HEAT_INK, LIGHT, contrast
from pipelines.statistics.report.words import of_hundred
from pipelines.statistics.tables import Tallies, statistics_tables
from pipelines.statistics.tally import REJECTED, tally_diversity, tally_documents, tally_signals
from tests.statistics.crawl import CUTOFF, RATES, RULES, random_documents
from tests.statistics.report_tables import months_from, panel_table, share_rows_of, with_host_classes

HOSTILE = "\"'></title></style><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}\u202e\x00\ufffe"


def tables_of(documents):
    rejects = pa.table({"shard": ["s"], "reason": ["no_text"], "records": [4]}).cast(REJECTED)
    tallies = Tallies(tally_documents(documents, RULES), tally_signals(documents), tally_diversity(documents), rejects)
    return statistics_tables(tallies, RATES)


def set_columns(table, **columns):
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, pa.array(values, table.schema.field(at).type))
    return table


def strictly_parsed(report):
    """The page by the HTML standard's algorithm; raises at the first parse error."""
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(report)


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
PANEL = panel_table()
CLASSED = TABLES | {"prevalence": TABLES["prevalence"]}
if "host_class" not in TABLES["prevalence"].schema.names:
    CLASSED = TABLES | {"prevalence": with_host_classes(TABLES["prevalence"])}
FULL = render(SUMMARY, CLASSED | {"panel": PANEL}, SAMPLES, "A crawl", CUTOFF.date())


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


@pytest.mark.parametrize("report", [REPORT, FULL], ids=["plain", "full"])
def test_whole_and_well_formed(report):
    tree = strictly_parsed(report)
    assert Elements(report).open == []
    for svg in re.findall(r"<svg.*?</svg>", report, re.S):
        root = ElementTree.fromstring(svg)
        assert root.get("role") == "img"
        assert root.get("aria-label")
        assert [e.tag for e in root][:2] == ["title", "desc"]
    ids = [e.get("id") for e in tree.iter() if isinstance(e.tag, str) and e.get("id")]
    assert len(ids) == len(set(ids))
    links = [e.get("href") for e in tree.iter("a")]
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)


def test_strict_parsing_does_find_errors():
    with pytest.raises(html5lib.html5parser.ParseError):
        strictly_parsed(REPORT.replace("</main>", "</mian>"))


@pytest.mark.parametrize("report", [REPORT, FULL], ids=["plain", "full"])
def test_structure_for_keyboard_and_screen_reader(report):
    tree = strictly_parsed(report)
    body = tree.find("body")
    assert body[0].get("class") == "skip"
    assert body[0].get("href") == "#main"
    assert [e.tag for e in body[1:]] == ["header", "main", "footer"]
    levels = [int(e.tag[1]) for e in tree.iter() if isinstance(e.tag, str) and re.fullmatch("h[1-6]", e.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    for table in tree.iter("table"):
        assert table.find("caption") is not None
        assert all(th.get("scope") in ("row", "col") for th in table.iter("th"))
    for section in tree.iter("section"):
        assert section.get("aria-labelledby") or section[0].tag == "h2"
    scrolled = [e for e in tree.iter("div") if "scroll" in (e.get("class") or "").split()]
    assert scrolled
    assert all(e.get("tabindex") == "0" and e.get("aria-label") for e in scrolled)


def test_sections_stand_in_the_order_of_reading():
    order = re.findall(r'<h2 id="(\w+)"', FULL)
    names = "share basis months classes flow collapse hosts evidence samples diversity method downloads"
    wanted = names.split(" ")
    assert [name for name in order if name in wanted] == wanted


def test_colours_have_the_contrast_of_aa():
    for palette in (LIGHT, DARK):
        for ground in ("paper", "panel"):
            for text in ("ink", "soft", "main", "mark"):
                assert contrast(palette[text], palette[ground]) >= 4.5, (text, ground)
        for step, ink in zip(HEAT, HEAT_INK, strict=True):
            assert contrast(palette[step], palette[ink]) >= 4.5, step
        drawn = ["main", "mark", "human", "none", "dated", "clear", "undetermined", "suspected", "marked", "declared"]
        for colour in drawn:
            assert contrast(palette[colour], palette["paper"]) >= 3, colour
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # WebAIM's well-known near miss


def test_every_colour_that_is_used_is_defined():
    used = set(re.findall(r"var\(--([\w-]+)\)", FULL))
    assert used <= set(LIGHT)
    assert set(LIGHT) == set(DARK)


@pytest.mark.parametrize("report", [REPORT, FULL], ids=["plain", "full"])
def test_needs_no_network_and_runs_no_script(report):
    page = Elements(report)
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & set(page.tags)
    assert not [a for a in page.attributes if a[1] in ("src", "srcset", "style") and "url" in str(a[2])]
    assert not [a for a in page.attributes if a[1].startswith("on")]
    links = [a[2] for a in page.attributes if a[1] == "href"]
    assert all(re.match(r"#\w+$|statistics/\w+\.parquet$|data:text/csv;charset=utf-8;base64,", link) for link in links)
    assert not re.search(r"url\(|@import|https?://(?!\"'&)", report)
    (policy,) = (a[2] for a in page.attributes if a[1] == "content" and "default-src" in a[2])
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")


def test_hostile_text_stays_text():
    hosts = [f"{HOSTILE}{i % 2}" for i in range(DOCUMENTS.num_rows)]
    tables = tables_of(set_columns(DOCUMENTS, host=hosts, language=[HOSTILE] * len(hosts)))
    tables["panel"] = panel_table(languages=(HOSTILE, HOSTILE[::-1]), months=30, first=2021, classes=(HOSTILE,))
    tables["prevalence"] = set_classes(tables["prevalence"])
    report = render(SUMMARY | {"job": {HOSTILE: HOSTILE}}, tables, SAMPLES, HOSTILE)
    strictly_parsed(report)
    page = Elements(report)
    assert set(page.tags) <= set(Elements(FULL).tags)
    assert {a[1] for a in page.attributes} <= {a[1] for a in Elements(FULL).attributes}
    assert not {"\u202e", "\x00", "\ufffe"} & set(report)
    assert "{{7*7}}" in report
    assert any("<script>alert(1)</script>" in text for text in page.text)


def set_classes(prevalence):
    if "host_class" in prevalence.schema.names:
        at = prevalence.schema.get_field_index("host_class")
        classes = [HOSTILE if c else None for c in prevalence["host_class"].to_pylist()]
        return prevalence.set_column(at, "host_class", pa.array(classes, pa.string()))
    return with_host_classes(prevalence, classes=(HOSTILE,))


def test_megabytes_in_one_cell_are_cut():
    long = "x" * 2_000_000
    samples = [{"url": long, "verdict": long, "text": long, "evidence": [{"source": long, "kind": long}] * 50}]
    tables = tables_of(set_columns(DOCUMENTS.slice(0, 2), host=[long] * 2, language=["en"] * 2))
    report = render(SUMMARY | {"job": {long[:100]: long}}, tables, samples, long)
    strictly_parsed(report)
    assert len(report) < 400_000 + len(csv_text(["host"], [[long]])) * 4 / 3
    assert max(len(text) for text in Elements(report).text) < 20_000


def test_shows_both_methods_where_there_are_two():
    basis = {"human": "crawl", "human_documents": 9794, "human_sets": None, "machine_sets": 29}
    likelihood = {"estimate": 0.1234, "low": 0.0567, "high": 0.2345, **basis}
    share = {k: v for k, v in SUMMARY["synthetic_share"].items() if k != "detectors"}
    methods = {"rogan-gladen": {name: share[name] for name in ("estimate", "low", "high")}, "likelihood": likelihood}
    table = TABLES["prevalence"]
    for name in ("estimate", "low", "high"):
        column = pa.array(np.full(table.num_rows, likelihood[name]))
        table = table.set_column(table.schema.get_field_index(f"{name}_likelihood"), f"{name}_likelihood", column)
    report = render(
        SUMMARY | {"synthetic_share": share | {"methods": methods}}, TABLES | {"prevalence": table}, SAMPLES
    )
    text = "".join(Elements(report).text)
    assert "The same share by each method" in text
    assert "they are not averaged" in text
    assert f"{count(9794)} documents of this crawl" in text
    assert text.count(f"{percent(0.1234)} ({percent(0.0567)} to {percent(0.2345)})") > 3  # months, hosts, languages
    assert percent(share["estimate"]) in text
    sets = likelihood | {"human": "left-out sets", "human_sets": 17}
    again = render(SUMMARY | {"synthetic_share": share | {"methods": methods | {"likelihood": sets}}}, TABLES)
    assert "of 17 sets are spread" in again
    assert "The same share by each method" not in REPORT


def test_shows_several_detectors_side_by_side():
    one = {"estimate": 0.2, "low": 0.1, "high": 0.3}
    other = {"estimate": 0.35, "low": 0.31, "high": 0.42}
    detectors = {
        "first": {"methods": {"rogan-gladen": one, "likelihood": None}},
        "second": {"methods": {"rogan-gladen": other, "likelihood": None}},
    }
    share = SUMMARY["synthetic_share"] | {"detectors": detectors}
    text = " ".join(Elements(render(SUMMARY | {"synthetic_share": share}, TABLES)).text)
    assert "by each method and detector" in text
    for detector, about in (("first", one), ("second", other)):
        assert detector in text
        assert f"{percent(about['low'])} to {percent(about['high'])}" in text


AGAIN = """
import pickle, sys, datetime
from pipelines.statistics.report import render
summary, tables, samples = pickle.load(open(sys.argv[1], "rb"))
page = render(summary, tables, samples, "A crawl", datetime.date(2022, 11, 30))
sys.stdout.buffer.write(page.encode())
"""


def test_same_input_same_bytes_in_another_process(tmp_path):
    with open(tmp_path / "tables", "wb") as out:
        pickle.dump((SUMMARY, CLASSED | {"panel": PANEL}, SAMPLES), out)
    environment = os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    command = [sys.executable, "-c", AGAIN, str(tmp_path / "tables")]
    again = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert again.stdout == FULL.encode()


def test_says_the_figures():
    share = SUMMARY["synthetic_share"]
    text = "".join(Elements(REPORT).text)
    for value in ("estimate", "low", "high"):
        assert percent(share[value]) in text
    assert "captured on or after 30 November 2022" in text
    assert count(1204) in text
    assert "“Clear” is not “human”." in text


@pytest.mark.parametrize(
    ("share", "said"),
    [
        ((0.2274, 0.1833, 0.3131), ("23", "18", "32", "100")),
        ((0.0034, 0.001, 0.0102), ("3", "1", "11", "1\u202f000")),
        ((0.0, 0.0, 0.0001), ("0", "0", "10", "100\u202f000")),
        ((0.0, 0.0, 0.9), ("0", "0", "90", "100")),
        ((1.0, 1.0, 1.0), ("100", "100", "100", "100")),
    ],
)
def test_headline_in_whole_numbers_holds_the_interval(share, said):
    assert of_hundred(*share) == said
    about, low, high, base = (int(n.replace("\u202f", "")) for n in said)
    assert low <= share[1] * base + 1e-6
    assert high >= share[2] * base - 1e-6
    assert low <= about <= high


@pytest.mark.parametrize(
    ("summary", "documents"),
    [
        ({}, DOCUMENTS.slice(0, 0)),
        (SUMMARY, DOCUMENTS.slice(0, 1)),
        ({}, set_columns(DOCUMENTS, captured_at=[None] * 1200)),
        ({}, set_columns(DOCUMENTS, captured_at=[datetime(2024, 5, 1 + i % 28, tzinfo=UTC) for i in range(1200)])),
        ({}, set_columns(DOCUMENTS, captured_at=[datetime(1800 + i, 1, 1, tzinfo=UTC) for i in range(1200)])),
        ({}, set_columns(DOCUMENTS, machine_probability=[None] * 1200, verdict=["clear"] * 1200)),
    ],
    ids=["empty", "one", "no dates", "one month", "centuries", "no detector"],
)
def test_odd_crawls(summary, documents):
    report = render(summary, tables_of(documents), cutoff=CUTOFF.date())
    strictly_parsed(report)
    assert len(report) < 2_000_000
    assert "nan" not in report.lower().replace("finance", "")


@pytest.mark.slow
def test_a_million_documents_make_a_small_page():
    months, rng = months_from(1986, 480), np.random.default_rng(5)
    classes, languages = [f"class {i}" for i in range(10)], [f"l{i}" for i in range(20)]
    hosts = [f"host-{i}.example" for i in range(20_000)]
    cells = {"month": np.repeat(months, 10).tolist(), "host_class": classes * 480}
    made = [
        ("all", {}, 1),
        ("month", {"month": months}, 480),
        ("host", {"host": hosts}, 20_000),
        ("language", {"language": languages}, 20),
        ("host_class", {"host_class": classes}, 10),
        ("month×host_class", cells, 4800),
    ]
    parts = []
    for margin, keys, n in made:
        known = {k: v for k, v in keys.items() if k != "host_class"}
        part = share_rows_of(margin, known, rng.uniform(0.01, 0.8, n), 1_000_000 // n)
        part = part.drop_columns([c for c in part.schema.names if c == "host_class"])
        parts.append(part.append_column("host_class", pa.array(keys.get("host_class", [None] * n), pa.string())))
    one = panel_table(("en",), months=480, first=1986, cutoff="2022-11")
    at = one.schema.get_field_index("language")
    panels = [one.set_column(at, "language", pa.array([name] * one.num_rows)) for name in languages]
    tables = TABLES | {"prevalence": pa.concat_tables(parts), "panel": pa.concat_tables(panels)}
    tables["accounting"] = accounting_of(months, rng)
    tables["signals"] = signals_of(months, languages)
    tables["diversity"] = repeat_months(TABLES["diversity"], months)
    report = render(SUMMARY, tables, SAMPLES * 100, "A million documents", CUTOFF.date())
    assert 300_000 < len(report.encode()) < 8_000_000
    strictly_parsed(report)


def accounting_of(months, rng):
    verdicts = ["dated", "clear", "undetermined", "suspected", "marked", "declared"]
    rows = [("reserve", v, None, m, None, int(rng.integers(1, 500))) for m in months for v in verdicts]
    rows += [("rejects", None, f"reason {i}", None, f"shard-{i}", 3) for i in range(10_000)]
    return pa.table(list(map(list, zip(*rows, strict=True))), schema=TABLES["accounting"].schema)


def signals_of(months, languages):
    rows = [(m, name, "embedded", f"kind {i}", 3) for m in months for name in languages for i in range(3)]
    return pa.table(list(map(list, zip(*rows, strict=True))), schema=TABLES["signals"].schema)


def repeat_months(diversity, months):
    row = next(r for r in diversity.to_pylist() if r["margin"] == "month")
    return pa.Table.from_pylist([row | {"month": month} for month in months], diversity.schema)


def test_csv_holds_no_formula():
    text = csv_text(["host", "n"], [["=1+1", -5], ["+x", 0.5], ["-x", None], ["@x", 1], ["\t=x", 1], ["ok", 2]])
    assert text.splitlines() == ["host,n", "'=1+1,-5", "'+x,0.5", "'-x,", "'@x,1", "'\t=x,1", "ok,2"]
    hosts = ["=cmd|'/c calc'!A1" for _ in range(DOCUMENTS.num_rows)]
    report = render(SUMMARY, tables_of(set_columns(DOCUMENTS, host=hosts)))
    (data,) = re.findall(r'href="data:text/csv;charset=utf-8;base64,([^"]+)" download="share-by-host.csv"', report)
    cells = [line.split(",")[0] for line in base64.b64decode(data).decode().splitlines()]
    assert "'=cmd|'/c calc'!A1" in cells
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]


def test_links_to_tables_only_where_they_lie_beside_it():
    assert 'href="statistics/prevalence.parquet"' in REPORT
    assert ".parquet" not in render(SUMMARY, TABLES, SAMPLES, folder=None)


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
    assert plain("Grüße 你好 שלום می‌روم\n") == "Grüße 你好 שלום می‌روم\n"
    assert plain("a\u202eb\x1b[0m\ud800\ufffe") == "a\ufffdb\ufffd[0m\ufffd\ufffd"
