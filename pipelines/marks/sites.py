"""The kernel of testing sites: documents of some hosts in, the hosts and sections that may be marked out. No Beam.

A site is a host, or a section of it: the documents whose paths begin alike. Each is one text to the scanner
(:mod:`watermark.sites`). Which of a found site's documents are marked themselves is told by the Benjamini-Hochberg
procedure on their own p-values, at the same level within the site: 20 short documents, each of which would drown among
millions, stand out among 20.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.marks.staged import matrix
from watermark import sites
from watermark.many_tests import benjamini_hochberg, log_e_value, merge
from watermark.scan import Scanner

# A site that may turn out to be found: one row for each key that speaks for it.
CANDIDATES = pa.schema(
    [
        pa.field("host", pa.string(), nullable=False),
        pa.field("section", pa.string()),  # null: the whole host
        pa.field("key", pa.int32(), nullable=False),  # its place in the registry
        pa.field("documents", pa.int64(), nullable=False),
        pa.field("tokens", pa.int64(), nullable=False),  # that counted
        pa.field("log_p", pa.float64(), nullable=False),  # of the site and the key
        pa.field("log_e", pa.float64(), nullable=False),  # of the site and the key
        pa.field("site_log_e", pa.float64(), nullable=False),  # of the site over all keys
        pa.field("document_log_p", pa.float64(), nullable=False),  # a document's own p-value up to which it is marked
    ]
)

LEAST_DOCUMENTS = 2  # one document is tested as a document
_SITES_AT_ONCE = 2048


class Sites(NamedTuple):
    """What a range of hosts gave: how many sites were tested, and the candidates among them."""

    tested: int
    candidates: pa.Table


def document_e_values(marks: pa.Table, least: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], Any]:
    """The e-values of documents over all keys (natural logarithm, [d]), and which documents were tested (bool[d]).

    A key tests the documents in which it scores its least number of tokens; of several keys the e-values are averaged.
    """
    log_p, scored = matrix(marks["log_p"], len(least)), matrix(marks["scored"], len(least))
    return merged_e_values(log_p, scored >= least)


def merged_e_values(log_p: npt.NDArray[Any], tests: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.float64], Any]:
    """Average over the keys that test each row; a row that none tests has an e-value of 0 and counts as untested."""
    tested = tests.any(axis=1)
    out = np.full(len(log_p), -np.inf)
    log_e = np.where(tests, log_e_value(log_p), -np.inf)
    # `merge` divides by all keys; only those count that could speak.
    speaking = np.maximum(tests.sum(axis=1), 1)
    out[tested] = merge(log_e[tested], axis=1) + np.log(tests.shape[1] / speaking[tested])
    return out, tested


def find_sites(marks: pa.Table, scanner: Scanner, level: float) -> Sites:
    """Tests the hosts of these rows and their sections; ``marks`` holds all rows of its hosts, in any order."""
    least = np.array([mark.entry.min_tokens for mark in scanner.marks])
    log_p = matrix(marks["log_p"], len(least))
    windows = [_unpack(marks, family, scanner) for family in range(len(scanner.families))]
    tested, tables = 0, [CANDIDATES.empty_table()]
    waiting: list[tuple[str, str | None, npt.NDArray[np.int64]]] = []
    for site in _sites(marks):
        waiting.append(site)
        if len(waiting) == _SITES_AT_ONCE:
            part = _test(waiting, scanner, windows, log_p, least, level)
            tested, tables, waiting = tested + part.tested, [*tables, part.candidates], []
    if waiting:
        part = _test(waiting, scanner, windows, log_p, least, level)
        tested, tables = tested + part.tested, [*tables, part.candidates]
    return Sites(tested, pa.concat_tables(tables))


def _sites(marks: pa.Table) -> Iterator[tuple[str, str | None, npt.NDArray[np.int64]]]:
    """Hosts with several documents, and those of their sections that are not all of the host."""
    rows = pa.table({"host": marks["host"], "section": marks["section"], "row": np.arange(marks.num_rows)})
    hosts = rows.group_by("host", use_threads=False).aggregate([("section", "list"), ("row", "list")])
    for host, sections, at in zip(*(hosts[name].to_pylist() for name in hosts.column_names), strict=True):
        if host is None or len(at) < LEAST_DOCUMENTS:
            continue
        yield host, None, np.array(at)
        by_section: dict[str, list[int]] = {}
        for section, row in zip(sections, at, strict=True):
            if section is not None:
                by_section.setdefault(section, []).append(row)
        for section, rows_of in sorted(by_section.items()):
            if LEAST_DOCUMENTS <= len(rows_of) < len(at):
                yield host, section, np.array(rows_of)


def _test(
    group: Sequence[tuple[str, str | None, npt.NDArray[np.int64]]],
    scanner: Scanner,
    windows: Sequence[Sequence[sites.Windows]],
    document_log_p: npt.NDArray[Any],
    least: npt.NDArray[np.int64],
    level: float,
) -> Sites:
    shape = (len(group), len(least))
    log_p, scored = np.zeros(shape), np.zeros(shape, np.int64)
    for family in range(len(windows)):
        samples = [
            sites.merge(np.concatenate([windows[family][row] for row in rows]), sites.salt(host))
            for host, _, rows in group
        ]
        columns = scanner.families[family].columns
        tested = scanner.scan_sites(family, samples)
        log_p[:, columns], scored[:, columns] = tested[0][:, columns], tested[1][:, columns]
    site_log_e, tested_sites = merged_e_values(log_p, scored >= least)
    made: list[dict[str, Any]] = []
    for at in np.flatnonzero(tested_sites & (site_log_e >= -np.log(level))).tolist():
        host, section, rows = group[at]
        for key in np.flatnonzero((scored[at] >= least) & (log_e_value(log_p[at]) >= site_log_e[at])):
            made.append(
                {
                    "host": host,
                    "section": section,
                    "key": key,
                    "documents": len(rows),
                    "tokens": scored[at, key],
                    "log_p": log_p[at, key],
                    "log_e": float(log_e_value(log_p[at, key])),
                    "site_log_e": site_log_e[at],
                    "document_log_p": benjamini_hochberg(document_log_p[rows, key], level),
                }
            )
    return Sites(int(tested_sites.sum()), pa.Table.from_pylist(made, CANDIDATES))


def _unpack(marks: pa.Table, family: int, scanner: Scanner) -> list[sites.Windows]:
    size = scanner.families[family].width + 1
    return [np.frombuffer(value, "<i4").reshape(-1, size) for value in marks[f"windows_{family}"].to_pylist()]
