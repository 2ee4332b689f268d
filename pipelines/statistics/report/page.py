"""The page: what each of its sections shows, in the order of reading, as one HTML document without a script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import pyarrow as pa
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import pipelines.statistics.report.accounts as accounts
import pipelines.statistics.report.other as other
import pipelines.statistics.report.shares as shares
from pipelines.statistics.diversity import MEASURES
from pipelines.statistics.report.axis import Row, cutoff_mark, months_between, with_margin
from pipelines.statistics.report.collapse import alarm_rows, collapse
from pipelines.statistics.report.downloads import Download, inline_csv, table_csv
from pipelines.statistics.report.palette import DARK, HEAT_STEPS, LIGHT, variables
from pipelines.statistics.report.words import count, cut, flat, percent, plain
from pipelines.statistics.tally import UNKNOWN

TABLES = "statistics"


def render(
    summary: Mapping[str, Any],
    tables: Mapping[str, pa.Table],
    samples: Sequence[Mapping[str, Any]] = (),
    title: str = "Human reserve",
    cutoff: date | None = None,
    folder: str | None = TABLES,
    audit: str | None = None,
) -> str:
    """The report as one HTML document.

    Args:
        summary: ``summary.json``, ``synthetic_share`` as ``prevalence.summary_share`` gives it; any key may lack.
        tables: ``prevalence``, ``diversity``, ``signals``, ``accounting``, as ``tables.statistics_tables`` gives them;
            ``panel`` where the run has one; ``repeats`` where the summary has counts of repeated paragraphs, and
            ``watermarks`` and ``watermark_sites`` where it has those of watermark tests, and ``false_positives`` where
            its detector has ``false_positives_by_date``.
        samples: documents to show: ``url``, ``captured_at``, ``verdict``, ``place``, ``machine_probability``,
            ``evidence``, ``text`` (cut to 400 characters) and ``doc_id``; a key may lack.
        title: of the page.
        cutoff: the day of the cut-off; without it, the first month with a later document is marked.
        folder: where the tables lie as Parquet, relative to the page; None: do not link to them.
        audit: what people found who labelled a sample, in a sentence or two; None where nobody did.
    """
    prevalence = shares.documents(tables["prevalence"])
    months = shares.month_rows(prevalence)
    axis = months_between(r["month"] for r in months)
    mark, mark_month = cutoff_mark(months, axis, cutoff)
    context = {
        "title": cut(title, 120),
        "audit": audit,
        "records": dict(summary.get("records") or {}),
        "seal": dict(summary.get("seal") or {}),
        "job": flat(summary.get("job")),
        "versions": flat(summary.get("versions"), most=100),
        "undated": sum(r["documents"] for r in months if r["month"] == UNKNOWN),
        "cascade": (summary.get("detector") or {}).get("cascade"),
        "verdicts": accounts.VERDICTS,
        "samples": other.sample_groups(samples),
        **_shares(summary, tables["prevalence"], prevalence, months, (axis, mark, mark_month), cutoff),
        **_accounts(summary, tables, axis, mark),
        **_others(summary, tables, axis, mark),
        "panel": collapse(tables.get("panel"), mark_month),
        "downloads": _downloads(tables, prevalence),
        "files": [f"{folder}/{name}.parquet" for name in sorted([*tables, "samples"])] if folder else [],
    }
    return _environment().get_template("page.html").render(context)


def _shares(
    summary: Mapping[str, Any],
    whole: pa.Table,
    prevalence: pa.Table,
    months: list[Row],
    at: tuple[list[str], float | None, str | None],
    cutoff: date | None,
) -> Row:
    axis, mark, mark_month = at
    share = shares.NO_SHARE | dict(summary.get("synthetic_share") or {})
    after = shares.after_words(cutoff)
    return {
        "share": share,
        "after_words": after,
        "headline": shares.sentence(share, after),
        "methods": shares.by_method(summary),
        "other_counts": shares.other_counts(whole),
        "share_head": ("", *shares.SHARE_HEAD),
        "months": shares.month_shares(months, axis, mark),
        "classes": shares.class_shares(prevalence, mark_month),
        "heat_key": _heat_key(),
        "hosts": shares.host_shares(prevalence),
        "languages": shares.language_shares(prevalence),
    }


def _accounts(summary: Mapping[str, Any], tables: Mapping[str, pa.Table], axis: list[str], mark: float | None) -> Row:
    return {
        "places": accounts.places(summary, tables["accounting"]),
        "accounts": accounts.accounts(tables["accounting"]),
        "flow": accounts.flow_plot(tables["accounting"]),
        "signals": accounts.signal_rows(tables["signals"]),
        **accounts.verdicts_by_month(tables["accounting"], mark, axis),
    }


def _others(summary: Mapping[str, Any], tables: Mapping[str, pa.Table], axis: list[str], mark: float | None) -> Row:
    return {
        "measures": MEASURES,
        "diversity": other.diversity(tables["diversity"], axis, mark),
        "repeats": other.repeats(summary["repeats"], tables["repeats"]) if summary.get("repeats") else None,
        "false_positives": other.false_positives(summary.get("detector") or {}, tables),
        "watermarks": other.watermarks(summary["watermarks"], tables) if summary.get("watermarks") else None,
    }


def _downloads(tables: Mapping[str, pa.Table], prevalence: pa.Table) -> list[Download]:
    columns = ["documents", "after_cutoff", "judged", "direct", "flagged", "estimate", "low", "high", "too_few"]
    columns += ["estimate_likelihood", "low_likelihood", "high_likelihood"]
    found = []
    for margin, title in (
        ("month", "Share by month"),
        ("host_class", "Share by host class"),
        ("host", "Share by host"),
    ):
        if margin in prevalence.schema.names:
            part = with_margin(prevalence, margin).select([margin, *columns])
            part = part.sort_by([("documents", "descending"), (margin, "ascending")]) if margin == "host" else part
            found.append(table_csv(title, f"share-by-{margin.replace('_', '-')}.csv", part))
    accounting = accounts.accounts(tables["accounting"])
    rows = [(place, cause, int(n.replace("\u202f", ""))) for place, cause, n in accounting]
    found.append(inline_csv("Records by place", "records.csv", ("place", "verdict_or_reason", "records"), rows))
    if tables.get("panel") is not None:
        alarms = alarm_rows(tables["panel"])
        names = ("language", "slice", "measure", "value", "equal", "reference", "p_value")
        cells = [tuple(r[name] for name in names) for r in alarms]
        found.append(inline_csv("Alarms of the collapse panel", "alarms.csv", names, cells))
    return [d for d in found if d.rows]


def _heat_key() -> list[tuple[int, str]]:
    ends = ["0", *(f"{100 * end:.0f}" for end in HEAT_STEPS), "100"]
    return [(i, f"{ends[i]}–{ends[i + 1]}\u202f%") for i in range(len(ends) - 1)]


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pipelines.statistics.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: plain(value) if type(value) is str else value,
    )
    environment.filters |= {"percent": percent, "count": count, "short": lambda text: cut(str(text))}
    colours = {"light": Markup(variables(LIGHT)), "dark": Markup(variables(DARK))}
    environment.globals |= {"palette": colours}
    return environment
