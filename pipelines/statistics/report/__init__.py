"""The report: ``summary.json`` and ``statistics/`` for people, as one HTML file that needs no network.

The same summary and tables give the same bytes. All text from the crawl is escaped, and is never made a link::

    html = render(summary, tables, samples, title="Human reserve: spring crawl", cutoff=date(2022, 11, 30))
    text = render_markdown(summary, tables, samples)  # for terminals and pull requests
"""

from pipelines.statistics.report.markdown import render_markdown
from pipelines.statistics.report.page import render
from pipelines.statistics.report.words import count, percent, plain

__all__ = ["count", "percent", "plain", "render", "render_markdown"]
