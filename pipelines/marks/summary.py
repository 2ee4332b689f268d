"""The tables ``statistics/watermarks.parquet`` and ``statistics/watermark_sites.parquet``."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.marks.apply import TALLY, Findings

SITES = pa.schema(
    [
        pa.field("host", pa.string(), nullable=False),
        pa.field("section", pa.string()),  # null: the whole host
        pa.field("key", pa.string(), nullable=False),
        pa.field("documents", pa.int64(), nullable=False),
        pa.field("tokens", pa.int64(), nullable=False),  # distinct windows that counted
        pa.field("log10_p", pa.float64(), nullable=False),  # of the site and the key
        pa.field("log10_e", pa.float64(), nullable=False),  # of the site over all keys
        # A document of the site with a p-value of at most so much counts as marked itself.
        pa.field("document_log10_p", pa.float64(), nullable=False),
    ]
)


def merge_marks(tallies: Sequence[pa.Table], findings: Findings) -> pa.Table:
    """The tallies of all parts, with what names each key: one row a key, in the order of the registry."""
    counts = [name for name in TALLY.names if name != "key"]
    sums = {name: np.sum([table[name].to_numpy() for table in tallies], axis=0) for name in counts}
    about = {name: [str(key[name]) for key in findings.keys] for name in ("scheme", "variant", "key_hash")}
    sites = [len(_sites_of(findings, key)) for key in range(len(findings.keys))]
    keys = [str(key["id"]) for key in findings.keys]
    return pa.table({"key": keys, **about, **sums, "sites": pa.array(sites, pa.int64())})


def sites_table(findings: Findings) -> pa.Table:
    """The sites that were found, of schema :data:`SITES`."""
    found = findings.sites
    names = pa.array([str(key["id"]) for key in findings.keys], pa.string())
    logs = {
        f"{name.replace('log_', 'log10_')}": pc.divide(found[column], math.log(10))
        for name, column in (("log_p", "log_p"), ("log_e", "site_log_e"), ("document_log_p", "document_log_p"))
    }
    shown = {name: found[name] for name in ("host", "section", "documents", "tokens")}
    columns = {**shown, **logs, "key": names.take(found["key"].combine_chunks())}
    return pa.table([columns[name] for name in SITES.names], schema=SITES)


def _sites_of(findings: Findings, key: int) -> pa.Table:
    return findings.sites.filter(pc.equal(findings.sites["key"], key))
