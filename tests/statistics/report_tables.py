"""Tables for the report that no test crawl is large enough to give: a panel, host classes, a million documents."""

import numpy as np
import pyarrow as pa

from pipelines.statistics.panel.measures import MEASURES
from pipelines.statistics.prevalence import PREVALENCE

PANEL = pa.schema(
    [(n, pa.string()) for n in ("margin", "month", "host_class", "language", "period", "measure")]
    + [(n, pa.int64()) for n in ("documents", "words")]
    + [(n, pa.float64()) for n in ("value", "low", "high", "equal", "equal_low", "equal_high")]
    + [(n, pa.float64()) for n in ("reference", "reference_low", "reference_high", "p_value")]
    + [("alarm", pa.bool_()), ("too_few", pa.bool_()), ("level", pa.float64())]
)


def months_from(year, n):
    return [f"{year + i // 12:04d}-{i % 12 + 1:02d}" for i in range(n)]


def panel_table(
    languages=("en", "de", "fr"), months=60, first=2020, cutoff="2022-11", classes=("news", "blog", "shop"), seed=0
):
    """A walk for each measure, pulled one way after the cut-off; alarms where it has gone far."""
    rng = np.random.default_rng(seed)
    axis, rows = months_from(first, months), []
    for k, language in enumerate(languages):
        documents = 4000 // (k + 1)
        for i, m in enumerate(MEASURES):
            reference = 2.0 + i if m.by_size else 0.3
            about = {"language": language, "measure": m.name, "level": 0.95, "words": documents * 300}
            compare = {"reference": reference, "reference_low": reference * 0.98, "reference_high": reference * 1.02}
            for period in ("before", "after"):
                value = reference * (1.0 if period == "before" else 0.93)
                rows.append(_row("language", about | compare, documents * 20, value, rng, m.by_size, period=period))
            sign = -1 if m.worse == "lower" else 1
            for j, month in enumerate(axis):
                later = max(0, j - axis.index(cutoff)) if cutoff else 0
                value = reference * (1 + sign * later * 0.006 * (i % 3) + rng.normal(0, 0.015))
                for period in ("before", "after") if month == cutoff else ("after" if later else "before",):
                    cell = _row(
                        "month×language", about | compare, documents, value, rng, m.by_size, month, None, period
                    )
                    cell["too_few"] = j % 17 == 5
                    cell["p_value"] = 0.001 if later * (i % 3) > 30 else 0.4
                    cell["alarm"] = period == "after" and not cell["too_few"] and cell["p_value"] < 0.01
                    rows.append(cell)
            for name in classes:
                value = reference * (1 + rng.normal(0, 0.05))
                cell = _row(
                    "host_class×language", about | compare, documents, value, rng, m.by_size, None, name, "after"
                )
                rows.append(cell | {"alarm": name == classes[0] and i == 2})
    return pa.Table.from_pylist(rows, PANEL)


def _row(margin, about, documents, value, rng, by_size, month=None, host_class=None, period="after"):
    width = value * (0.02 + 0.01 * rng.random())
    equal = (value, value - width, value + width) if by_size else (None, None, None)
    whole = value * (3 if by_size else 1)
    values = dict(zip(("equal", "equal_low", "equal_high"), equal, strict=True))
    values |= {"value": whole, "low": whole - width, "high": whole + width}
    keys = {"margin": margin, "month": month, "host_class": host_class, "period": period, "documents": documents}
    return about | keys | values | {"alarm": False, "too_few": False, "p_value": None}


def with_host_classes(prevalence, classes=("news", "blog", "shop", "wiki"), names=None, months=None):
    """The shares with a column of host classes: those of the whole crawl, spread over made-up classes."""
    whole = prevalence.filter(pa.compute.equal(prevalence["margin"], "all")).slice(0, 1).to_pylist()[0]
    whole |= {"unit": "documents", "population": "crawled"}
    if months is None:
        is_month = pa.compute.equal(prevalence["margin"], "month")
        after = pa.compute.greater(prevalence["after_cutoff"], 0)
        months = sorted(set(prevalence.filter(pa.compute.and_(is_month, after))["month"].to_pylist()))
    rng = np.random.default_rng(4)
    rows = []
    for i, name in enumerate(classes):
        documents = 1000 * (len(classes) - i)
        counts = {"documents": documents, "after_cutoff": documents // 2, "judged": documents // 3, "host_class": name}
        rows.append(whole | counts | {"margin": "host_class"} | _limits(0.02 + 0.12 * i, 0.03))
        for j, month in enumerate(months):
            share = min(0.004 * j * (i + 1) * rng.random(), 0.97)
            keys = {"margin": "month×host_class", "month": month, "too_few": (i + j) % 11 == 0}
            rows.append(whole | counts | keys | _limits(share, 0.05))
    table = prevalence.append_column("host_class", pa.nulls(prevalence.num_rows, pa.string()))
    return pa.concat_tables([table, pa.Table.from_pylist(rows, table.schema)])


def _limits(share, width):
    limits = {"estimate": share, "low": max(share - width, 0), "high": min(share + width, 1)}
    return limits | {f"{name}_likelihood": value for name, value in limits.items()}


def share_rows_of(margin, keys, shares, documents):
    """Rows of ``prevalence`` for made-up keys: columns name → list."""
    n = len(shares)
    columns = {name: pa.nulls(n, PREVALENCE.field(name).type) for name in PREVALENCE.names}
    counts = np.full(n, documents, np.int64)
    columns |= {name: pa.array(counts) for name in ("documents", "after_cutoff", "scored", "judged", "flagged")}
    columns |= {name: pa.array(np.zeros(n, np.int64)) for name in ("direct", "older_copy")}
    columns |= {name: pa.array(values) for name, values in keys.items()}
    columns |= {"margin": pa.array([margin] * n), "unit": pa.array(["documents"] * n)}
    columns |= {"population": pa.array(["crawled"] * n), "level": pa.array(np.full(n, 0.95))}
    columns |= {"estimate": pa.array(shares), "low": pa.array(shares * 0.8), "high": pa.array(shares * 1.2)}
    columns |= {"too_few": pa.array(np.zeros(n, bool))}
    return pa.table({name: columns[name] for name in PREVALENCE.names}).cast(PREVALENCE)
