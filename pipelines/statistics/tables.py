"""The tables of ``statistics/``, out of the merged tallies.

A working example::

    tables = statistics_tables(Tallies(documents, signals, diversity, rejects), rates)
    for name, table in tables.items():
        pq.write_table(table, f"out/statistics/{name}.parquet")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipelines.records import Place
from pipelines.statistics.diversity import diversity
from pipelines.statistics.host_class import HostClasses
from pipelines.statistics.options import PrevalenceOptions
from pipelines.statistics.prevalence import prevalences
from pipelines.statistics.rates import DetectorRates

ACCOUNTING = pa.schema(
    [
        pa.field("place", pa.string(), nullable=False),
        pa.field("verdict", pa.string()),  # null for rejects
        pa.field("reason", pa.string()),  # null but for rejects
        pa.field("month", pa.string()),  # null for rejects, which have no capture date
        pa.field("shard", pa.string()),  # null but for rejects
        pa.field("records", pa.int64(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Tallies:
    """The merged tallies of a whole crawl; each is what ``tally.merge`` gives."""

    documents: pa.Table
    signals: pa.Table
    diversity: pa.Table
    rejects: pa.Table


def statistics_tables(
    tallies: Tallies,
    rates: DetectorRates,
    options: PrevalenceOptions | None = None,
    further: Sequence[tuple[pa.Table, DetectorRates]] = (),
    classes: HostClasses | None = None,
) -> dict[str, pa.Table]:
    """``prevalence``, ``diversity``, ``signals`` and ``accounting``, each in a fixed order of rows.

    Args:
        tallies: of the whole crawl; those of documents are what the first detector, that of the headline, makes of it.
        rates: of the first detector.
        options: level and minima.
        further: the merged ``tally_documents`` and the rates of each further detector.
        classes: which host is of which class; by default by the package's rules.
    """
    options = options or PrevalenceOptions()
    return {
        "prevalence": prevalences([(tallies.documents, rates), *further], options, classes),
        "diversity": diversity(tallies.diversity, options.level),
        "signals": tallies.signals,
        "accounting": accounting(tallies.documents, tallies.rejects),
    }


def accounting(documents: pa.Table, rejects: pa.Table) -> pa.Table:
    """Where every record ended and why, of schema :data:`ACCOUNTING`; ``records`` sums to all that came in.

    Args:
        documents: merged, of ``tally.TALLY``.
        rejects: merged, of ``tally.REJECTED``.
    """
    keys = ["place", "verdict", "month"]
    kept = documents.group_by(keys, use_threads=False).aggregate([("documents", "sum")])
    kept = kept.sort_by([(name, "ascending") for name in keys])
    gone = rejects.sort_by([("reason", "ascending"), ("shard", "ascending")])
    rows, dropped = kept.num_rows, gone.num_rows
    missing, none = pa.nulls(rows, pa.string()), pa.nulls(dropped, pa.string())
    parts = [
        {**{name: kept[name] for name in keys}, "reason": missing, "shard": missing, "records": kept["documents_sum"]},
        {
            "place": pa.array(np.full(dropped, str(Place.REJECTS), object), pa.string()),
            "verdict": none,
            "month": none,
            **{name: gone[name] for name in ("reason", "shard", "records")},
        },
    ]
    made = [pa.table({name: part[name] for name in ACCOUNTING.names}).cast(ACCOUNTING) for part in parts]
    return pa.concat_tables(made).combine_chunks()
