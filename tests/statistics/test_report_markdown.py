import re

import pyarrow as pa
import pytest
from markdown_it import MarkdownIt

from pipelines.statistics.report import percent, render_markdown
from pipelines.statistics.report.markdown import bar, code, sparkline
from tests.statistics.report_tables import panel_table
from tests.statistics.test_report import CLASSED, DOCUMENTS, SAMPLES, SUMMARY, set_columns, tables_of

HOSTILE = (
    "`|` <script>alert(1)</script> [x](javascript:alert(1)) ![y](//e.example/p.png) @all #1 \n# H\n\x1b[31m\u202e \\"
)


def shown(text):
    """What GitHub's kind of Markdown makes of it, with raw HTML allowed: the worst case."""
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text)


def test_says_headline_months_classes_alarms_and_accounting():
    text = render_markdown(SUMMARY, CLASSED | {"panel": panel_table()}, SAMPLES)
    html = shown(text)
    assert re.findall("<h2>(.*?)</h2>", html) == [
        "Months",
        "Host classes",
        "Collapse panel",
        "Where the records went",
        "A document of each verdict",
    ]
    assert html.count("<table>") >= 4
    assert percent(SUMMARY["synthetic_share"]["low"]) in html
    assert "<strong>all</strong>" in html
    assert max(len(line) for line in text.splitlines()) < 400


def test_hostile_text_stays_text():
    hosts = [HOSTILE] * DOCUMENTS.num_rows
    tables = tables_of(set_columns(DOCUMENTS, host=hosts, language=[HOSTILE] * len(hosts)))
    tables["panel"] = panel_table(languages=(HOSTILE,), classes=(HOSTILE,))
    samples = [{"url": HOSTILE, "verdict": HOSTILE, "text": HOSTILE, "evidence": []}] * 3
    text = render_markdown(SUMMARY | {"detector": {"name": HOSTILE}}, tables, samples)
    html = shown(text)
    assert not re.search("<(script|a|img|h3)[ >]", html)
    assert html.count("<h1>") == 1
    assert not {"\x1b", "\u202e"} & set(text)
    for table in re.findall("<table>.*?</table>", html, re.S):
        widths = {len(re.findall("<t[hd]", row)) for row in re.findall("<tr>.*?</tr>", table, re.S)}
        assert len(widths) == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


@pytest.mark.parametrize("text", ["", "`", "``a``", "|", "\\", "\n\n", "a\\|b`c", "x" * 1000])
def test_code_is_one_span_in_one_cell(text):
    html = shown(f"| a | b |\n|---|---|\n| {code(text)} | end |")
    assert re.search("<td><code>.*?</code></td>\n<td>end</td>", html)


def test_bars_and_lines():
    assert bar(0.5, 0.5) == "█" * 20
    assert bar(0.25, 0.5) == "█" * 10
    assert bar(0.0, 0.5) == bar(0.0, 0.0) == ""
    assert sparkline([0.0, None, 0.5, 1.0]) == "▁·▅█"
    assert sparkline([]) == ""


@pytest.mark.parametrize(
    "documents",
    [DOCUMENTS.slice(0, 0), DOCUMENTS.slice(0, 1), set_columns(DOCUMENTS, captured_at=[None] * 1200)],
    ids=["empty", "one", "no dates"],
)
def test_odd_crawls(documents):
    text = render_markdown({}, tables_of(documents))
    assert "Where the records went" in text
    assert "nan" not in text.lower()


def test_panel_without_alarms():
    quiet = panel_table()
    quiet = quiet.set_column(quiet.schema.get_field_index("alarm"), "alarm", pa.array([False] * quiet.num_rows))
    assert "No alarm." in render_markdown(SUMMARY, CLASSED | {"panel": quiet})
