"""The report's figures as GitHub-flavoured Markdown, for terminals and pull requests.

All that comes from the crawl or the job stands in code spans, in which neither HTML, links nor mentions work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

import pipelines.statistics.report.shares as shares
from pipelines.statistics.report.accounts import places
from pipelines.statistics.report.axis import months_between, with_margin
from pipelines.statistics.report.collapse import alarm_rows, compared, measure_titles
from pipelines.statistics.report.other import VERDICT_WORDS, sample_groups
from pipelines.statistics.report.words import between, count, cut, figure, percent, plain
from pipelines.statistics.tally import UNKNOWN

_MOST_MONTHS = 24
_MOST_ALARMS = 20
_BAR = 20
_EIGHTHS = " ▏▎▍▌▋▊▉"
_LEVELS = "▁▂▃▄▅▆▇█"


def render_markdown(
    summary: Mapping[str, Any],
    tables: Mapping[str, pa.Table],
    samples: Sequence[Mapping[str, Any]] = (),
    audit: str | None = None,
) -> str:
    """Headline, months, host classes, alarms and accounting; one short line for a sample of each verdict.

    Args:
        summary: as of :func:`~pipelines.statistics.report.page.render`.
        tables: the same.
        samples: the same.
        audit: the same.
    """
    prevalence = shares.documents(tables["prevalence"])
    share = shares.NO_SHARE | dict(summary.get("synthetic_share") or {})
    audited = [f"**Audited by people.** {audit}"] if audit else []
    parts = ["# Human reserve", *_headline(summary, share), *audited, *_months(prevalence), *_classes(prevalence)]
    parts += [*_alarms(tables.get("panel")), *_accounting(summary, tables["accounting"]), *_samples(samples)]
    parts.append("No figure here says that a text is by a person. “Clear” means that no known signal was found.")
    return "\n\n".join(parts) + "\n"


def code(text: Any, most: int = 80) -> str:
    """Any text as a code span that nothing in it can end, fit for a cell of a table."""
    words = cut(" ".join(plain(str(text)).replace("`", "'").split()), most)
    return f"`{words.replace(chr(92), '＼').replace('|', '¦') or '–'}`"


def bar(value: float, top: float) -> str:
    """A share as a bar of block characters, full at ``top``."""
    eighths = round(8 * _BAR * min(value / top, 1.0)) if top > 0 else 0
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def sparkline(values: Sequence[float | None]) -> str:
    """One character a value, a middle dot where there is none."""
    top = max((v for v in values if v is not None), default=0.0)
    return "".join("·" if v is None else _LEVELS[min(int(8 * v / top), 7) if top else 0] for v in values)


def _headline(summary: Mapping[str, Any], share: Mapping[str, Any]) -> list[str]:
    parts = [f"**{shares.sentence(share, 'captured after the cut-off')}**"]
    if share["estimate"] is not None:
        limits = between(share["low"], share["high"])
        words = f"Estimate {percent(share['estimate'])}, {percent(share['level'])} interval {limits}"
        judged, after = int(share.get("judged") or 0), int(share.get("after_cutoff") or 0)
        parts.append(
            f"{words}; {count(judged)} of {count(after)} documents could be judged." if judged else f"{words}."
        )
    methods = shares.by_method(summary)
    if methods:
        rows = [(code(name), method, *rest) for name, method, *rest in methods["rows"]]
        parts.append(_table(("Detector", "Method", "Estimate", "Interval"), rows))
    return parts


def _months(prevalence: pa.Table) -> list[str]:
    rows = [r for r in shares.month_rows(prevalence) if shares.share_of(r) and r["month"] != UNKNOWN]
    told = {r["month"]: r["estimate"] for r in rows if not r["too_few"] and r["estimate"] is not None}
    if not rows:
        return ["## Months", "No month has judged documents."]
    line = [told.get(month) for month in months_between(told)]
    latest = rows[-_MOST_MONTHS:]
    top = max((told.get(r["month"], 0.0) for r in latest), default=0.0)
    cells = []
    for r in latest:
        value = told.get(r["month"])
        shown = ("too few", "") if value is None else (percent(value), bar(value, top))
        cells.append((r["month"], count(r["judged"]), shown[0], between(r["low"], r["high"]), shown[1]))
    head = [f"Up to {percent(max(told.values()))}: {sparkline(line)}"] if told else []
    return ["## Months", *head, _table(("Month", "Judged", "Share", "Interval", ""), cells)]


def _classes(prevalence: pa.Table) -> list[str]:
    if "host_class" not in prevalence.schema.names or not with_margin(prevalence, "host_class").num_rows:
        return []
    rows = sorted(
        shares.rows_of(prevalence, "host_class", "host_class"), key=lambda r: (-r["documents"], r["host_class"])
    )
    cells = []
    for r in rows[: shares.MOST_CLASSES]:
        name, documents, judged, estimate, interval, _, direct, note = shares.share_row(r, "host_class")
        cells.append((code(name), documents, judged, f"{estimate} {note}".strip(), interval, direct))
    return ["## Host classes", _table(("Class", "Documents", "Judged", "Share", "Interval", "Direct"), cells)]


def _alarms(panel: pa.Table | None) -> list[str]:
    if panel is None or not panel.num_rows:
        return []
    found, titles = alarm_rows(panel), measure_titles(panel)
    if not found:
        some = panel["reference"].null_count < panel.num_rows
        return ["## Collapse panel", "No alarm." if some else "Nothing to compare with."]
    cells = [
        (
            code(r["slice"]),
            code(r["language"]),
            titles.get(r["measure"], code(r["measure"])),
            figure(compared(r)[0]),
            figure(r["reference"]),
            figure(r["p_value"]),
        )
        for r in found[:_MOST_ALARMS]
    ]
    more = [f"{len(found) - _MOST_ALARMS} more."] if len(found) > _MOST_ALARMS else []
    words = "⚠ 1 alarm" if len(found) == 1 else f"⚠ {count(len(found))} alarms"
    head = ("Slice", "Language", "Measure", "Value", "Before the cut-off", "p")
    return ["## Collapse panel", f"{words}, months from the latest on.", _table(head, cells), *more]


def _accounting(summary: Mapping[str, Any], accounting: pa.Table) -> list[str]:
    rows = [(f"**{place}**" if place == "all" else place, *rest) for place, *rest in places(summary, accounting)]
    return ["## Where the records went", _table(("Place", "Records", "Share"), rows)]


def _samples(samples: Sequence[Mapping[str, Any]]) -> list[str]:
    groups = sample_groups(samples)
    if not groups:
        return []
    lines = []
    for group in groups:
        one = group["documents"][0]
        name = group["verdict"] if group["verdict"] in VERDICT_WORDS else code(group["verdict"])
        lines.append(f"- {name}: {code(one['url'], 100)}: {code(one['text'], 120)}")
    return ["## A document of each verdict", "\n".join(lines)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" + "---:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])
