"""How many documents of each slice were removed as copies, out of the tally of documents."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.records import Place
from pipelines.statistics.host_class import HostClasses, host_classes


def copies_by_class(documents: pa.Table, classes: HostClasses | None = None) -> pa.Table:
    """``month``, ``host_class``, ``language``, ``documents`` and ``removed`` (int64), sorted, for ``panel_table``.

    Args:
        documents: merged, of ``tally.TALLY``.
        classes: which host is of which class; by default by the package's rules.
    """
    removed = pc.if_else(pc.equal(documents["place"], str(Place.DUPLICATES)), documents["documents"], 0)
    keys = ["month", "host_class", "language"]
    columns = {
        "month": documents["month"],
        "host_class": host_classes(documents["host"], classes),
        "language": documents["language"],
        "documents": documents["documents"],
        "removed": removed,
    }
    counted = pa.table(columns).group_by(keys, use_threads=False).aggregate([("documents", "sum"), ("removed", "sum")])
    counted = counted.rename_columns([name.removesuffix("_sum") for name in counted.schema.names])
    return counted.select([*keys, "documents", "removed"]).sort_by([(name, "ascending") for name in keys])
