"""Findings to evidence: what the correction over the crawl makes of each staged row. The kernel that settle calls."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.marks.sites import document_e_values
from pipelines.marks.staged import matrix
from pipelines.records import EVIDENCE, Evidence, EvidenceBuilder

SOURCE = "watermark"
FOUND, SITE, TESTED = "watermark", "watermark_site", "watermark_tested"
_SMALLEST_LOG_P = math.log(1e-300)

TALLIED = ["host", "section", "log_p", "scored", "first", "last"]  # the columns of staged marks that decide evidence
_NOMINAL = (1e-2, 1e-3, 1e-4)  # at which the p-values of a crawl are counted

TALLY = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("tested", pa.int64(), nullable=False),  # documents with tokens enough
        # Of those, the ones with a p-value of at most so much, before any correction: in a crawl without the mark
        # their share is no more than that.
        *(pa.field(f"p_{nominal:g}", pa.int64(), nullable=False) for nominal in _NOMINAL),
        pa.field("found", pa.int64(), nullable=False),  # documents with this key as their evidence
    ]
)


@dataclass(frozen=True)
class Findings:
    """What decides the evidence of a row.

    Attributes:
        keys: what outputs may say of each key (`Scanner.public_marks`).
        level: the false discovery rate.
        documents: how many documents were tested.
        document_log_e: the e-value (natural logarithm) from which a document is found.
        sites_tested: how many sites were tested.
        sites: the rows of `sites.CANDIDATES` that were found.
    """

    keys: tuple[Mapping[str, Any], ...]
    level: float
    documents: int
    document_log_e: float
    sites_tested: int
    sites: pa.Table

    @property
    def least(self) -> npt.NDArray[np.int64]:
        """Each key's least number of tokens."""
        return np.array([key["min_tokens"] for key in self.keys])


def marks_evidence(marks: pa.Table, findings: Findings) -> pa.ListArray:
    """The evidence of each row, of type `records.EVIDENCE`; rows that no key could test have none."""
    least = findings.least
    log_p, scored = matrix(marks["log_p"], len(least)), matrix(marks["scored"], len(least))
    log_e, tested = document_e_values(marks, least)
    evidence = EvidenceBuilder(marks.num_rows)
    by_document = log_e >= findings.document_log_e
    of_sites = _of_sites(marks, log_p, findings)
    for row in np.flatnonzero(by_document).tolist():
        evidence.add(row, [_of_document(marks, row, log_p, scored, float(log_e[row]), findings)])
    for row, found in of_sites.items():
        if not by_document[row]:
            evidence.add(row, [found])
    silent = tested & ~by_document
    silent[list(of_sites)] = False
    _add_tested(evidence, np.flatnonzero(silent), log_p, scored >= least)
    return evidence.finish()


def with_marks(documents: pa.Table, marks: pa.Table, findings: Findings) -> pa.Table:
    """Staged documents with what the watermark tests found added to their evidence; ``marks`` has the same rows."""
    evidence = EvidenceBuilder(documents.num_rows)
    for column in (documents["evidence"], pa.chunked_array([marks_evidence(marks, findings)])):
        whole = column.combine_chunks()
        evidence.add_column(whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole)
    at = documents.schema.get_field_index("evidence")
    return documents.set_column(at, pa.field("evidence", EVIDENCE, False), evidence.finish())


def tally_marks(marks: pa.Table, findings: Findings) -> pa.Table:
    """Tests and findings by key, of schema :data:`TALLY`: one row a key."""
    least = findings.least
    log_p, tests = matrix(marks["log_p"], len(least)), matrix(marks["scored"], len(least)) >= least
    details = pc.struct_field(_found(marks_evidence(marks, findings)), "detail").to_pylist()
    columns: dict[str, Any] = {"key": [str(key["id"]) for key in findings.keys], "tested": tests.sum(axis=0)}
    for nominal in _NOMINAL:
        columns[f"p_{nominal:g}"] = (tests & (log_p <= math.log(nominal))).sum(axis=0)
    columns["found"] = [
        sum(detail.startswith(_names(findings, key) + ":") for detail in details) for key in range(len(least))
    ]
    return pa.table(columns, schema=TALLY)


def _found(evidence: pa.ListArray) -> pa.StructArray:
    items = evidence.flatten()
    return items.filter(pc.equal(pc.struct_field(items, "kind"), FOUND))


def _of_document(
    marks: pa.Table,
    row: int,
    log_p: npt.NDArray[Any],
    scored: npt.NDArray[Any],
    log_e: float,
    findings: Findings,
) -> Evidence:
    tests = scored[row] >= findings.least
    key = int(np.argmin(np.where(tests, log_p[row], np.inf)))
    first, last = marks["first"][row][key].as_py(), marks["last"][row][key].as_py()
    where = f"; most telling from token {first} to {last}" if last >= 0 else ""
    rate = f"found among {findings.documents} documents at a false discovery rate of {findings.level:g}"
    detail = f"{_names(findings, key)}: {scored[row, key]} tokens{where}; {rate}"
    return Evidence(SOURCE, FOUND, score=log_e / math.log(10), p_value=_p_value(log_p[row, key]), detail=detail)


def _of_sites(marks: pa.Table, log_p: npt.NDArray[Any], findings: Findings) -> dict[int, Evidence]:
    """For each row of a found site, the strongest of what that means for it."""
    if not findings.sites.num_rows:
        return {}
    by_site: dict[tuple[str, str | None], list[dict[str, Any]]] = {}
    for item in findings.sites.to_pylist():
        by_site.setdefault((item["host"], item["section"]), []).append(item)
    strongest: dict[int, tuple[bool, float, dict[str, Any]]] = {}
    sections = marks["section"].to_pylist()
    for row, host in enumerate(marks["host"].to_pylist()):
        places = [(host, None)] + ([(host, sections[row])] if sections[row] is not None else [])
        items = [item for place in places for item in by_site.get(place, ())]
        for item in items:
            itself = bool(log_p[row, item["key"]] <= item["document_log_p"])
            candidate = (itself, item["site_log_e"], item)
            if row not in strongest or candidate[:2] > strongest[row][:2]:
                strongest[row] = candidate
    return {
        row: _of_site(item, itself, log_p[row, item["key"]], findings)
        for row, (itself, _, item) in sorted(strongest.items())
    }


def _of_site(item: Mapping[str, Any], itself: bool, log_p: float, findings: Findings) -> Evidence:
    site = item["host"] + (f"/{item['section']}" if item["section"] is not None else "")
    together = f"the {item['documents']} documents of {site} together: log10 p {item['log_p'] / math.log(10):.1f}"
    own = "and this document among them" if itself else "this document alone does not tell"
    return Evidence(
        SOURCE,
        FOUND if itself else SITE,
        score=item["site_log_e"] / math.log(10),
        p_value=_p_value(log_p),
        detail=f"{_names(findings, item['key'])}: {together}; {own}",
    )


def _add_tested(
    evidence: EvidenceBuilder, rows: npt.NDArray[np.int64], log_p: npt.NDArray[Any], tests: npt.NDArray[np.bool_]
) -> None:
    """What was looked for and not found: the smallest p-value, times the number of keys that spoke."""
    number = tests[rows].sum(axis=1)
    least = np.where(tests[rows], log_p[rows], 0.0).min(axis=1, initial=0.0)
    p_values = np.exp(np.minimum(least + np.log(np.maximum(number, 1)), 0.0))
    found = [
        Evidence(SOURCE, TESTED, p_value=float(p), detail=f"{n} key{'s' if n > 1 else ''}")
        for p, n in zip(p_values, number, strict=True)
    ]
    if found:
        evidence.add_many(rows.tolist(), found)


def _names(findings: Findings, key: int) -> str:
    about = findings.keys[key]
    return f"key {about['id']} ({about['scheme']} {about['variant']})"


def _p_value(log_p: float) -> float:
    return math.exp(max(log_p, _SMALLEST_LOG_P))
