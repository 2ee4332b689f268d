"""One document of a finished output: where it went, why, and on what evidence."""

from __future__ import annotations

import re
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines import files
from pipelines.errors import JobError, UsageError
from pipelines.layout import DOCUMENT_PLACES, Layout
from pipelines.provenance.fusion import KIND, SOURCE, read_terms
from pipelines.records import Place

_ID = re.compile(r"[0-9a-f]{4,32}")


def find_document(output: str, doc_id: str) -> dict[str, Any]:
    """The row of a document with its `place`; a unique beginning of the `doc_id` will do.

    Raises UsageError for what is no id or fits several documents, JobError where there is no such document.
    """
    wanted = doc_id.lower()
    if not _ID.fullmatch(wanted):
        raise UsageError(f"{doc_id}: a doc_id is 32 hex digits (at least the first 4)")
    layout = Layout(output)
    if files.read_json(layout.summary) is None:
        raise UsageError(f"{output}: no finished run here (no summary.json)")
    found: list[dict[str, Any]] = []
    for place in (*DOCUMENT_PLACES, Place.DUPLICATES):
        for part in files.listing(files.join(output, place.value, "part-*.parquet")):
            found += [{**row, "place": place.value} for row in _rows(part.path, wanted)]
    ids = {row["doc_id"] for row in found}
    if not found:
        raise JobError(f"{output}: no document {doc_id}; records that gave no document are in rejects/")
    if len(ids) > 1:
        raise UsageError(f"{doc_id}: fits {len(ids)} documents; give more digits")
    # A capture that stands in two shards is kept once and noted as its own duplicate.
    return found[0]


def first_reject(output: str) -> str:
    """The first record that gave no document, and why, in one line."""
    for part in files.listing(files.join(output, Place.REJECTS.value, "part-*.parquet")):
        for row in files.read_parquet(part.path).slice(0, 1).to_pylist():
            detail = f": {row['detail']}" if row["detail"] else ""
            return f"{row['shard']} at {row['record_offset']}: {row['reason']}{detail}"
    return "no record"


def explain(output: str, doc_id: str) -> str:
    """A document's verdict and evidence in plain text."""
    row = find_document(output, doc_id)
    lines = [
        f"document     {row['doc_id']}",
        f"url          {row['url'] or 'unknown'}",
        f"captured     {row['captured_at'].isoformat() if row['captured_at'] else 'unknown'}",
        f"place        {row['place']}",
        f"verdict      {row['verdict']}: {row['because']}",
    ]
    if row["place"] == Place.DUPLICATES:
        lines.append(f"copy of      {row['kept_doc_id']} (Jaccard similarity {row['jaccard']:.3f})")
        if row["kept_in"]:
            lines.append(f"kept in      {_earlier(output, row['kept_in'])}")
        return "\n".join(lines)
    probability = row["machine_probability"]
    lines += [
        f"language     {row['language'] or 'not identified'}",
        "machine      "
        + ("no detector may speak" if probability is None else f"probability {probability:.4f}, calibrated"),
        f"record       {row['shard']} at {row['record_offset']}",
        f"text         {len(row['text'])} characters, SHA-256 {row['text_sha256']}",
    ]
    if row.get("whole_text_sha256"):
        lines.append(f"trimmed      repeated paragraphs were cut; SHA-256 of the whole text {row['whole_text_sha256']}")
    if row["cluster_id"]:
        lines.append(f"cluster      {row['cluster_id']}: the earliest of {row['cluster_size']} copies")
    found = [item for item in row["evidence"] if item["kind"] != KIND]
    lines.append("evidence" if found else "evidence     none of the signals that were looked for")
    lines += [f"  {_evidence(item)}" for item in found]
    lines += _posterior(row)
    return "\n".join(lines)


def _posterior(row: dict[str, Any]) -> list[str]:
    """What all evidence comes to, and how each piece moved it: terms in natural logarithms, one a line."""
    if row.get("posterior") is None:
        return []
    first = f"posterior    probability {row['posterior']:.4f} of machine origin"
    details = [item["detail"] for item in row["evidence"] if item["kind"] == KIND and item["source"] == SOURCE]
    read = read_terms(details[-1]) if details else None
    if read is None:
        return [f"{first}: the prior of its capture date alone"]
    terms, total = read
    width = max(len(term.name) for term in terms)
    lines = [f"  {t.name:<{width}}  {t.value:>+7.2f}{f'  {t.note}' if t.note else ''}" for t in terms]
    return [f"{first}, in log-odds:", *lines, f"  {'=':<{width}}  {total:>+7.2f}"]


def _earlier(output: str, digest: str) -> str:
    """The earlier output that a job's digest belongs to, as the run was told of it."""
    summary = files.read_json(Layout(output).summary) or {}
    named = {archive["digest"]: archive["output"] for archive in summary["job"]["against"]}
    return f"{named[digest]} (an earlier output, job {digest[:12]})"


def _evidence(item: dict[str, Any]) -> str:
    words = [f"{item['source']}: {item['kind']}"]
    for name, shown in (("score", "score {:.3f}"), ("p_value", "p = {:.2g}"), ("probability", "probability {:.4f}")):
        if item[name] is not None:
            words.append(shown.format(item[name]))
    if item["detail"]:
        words.append(item["detail"])
    return ", ".join(words)


def _rows(path: str, prefix: str) -> list[dict[str, Any]]:
    with files.open_read(path) as stream:
        # Parts are sorted by doc_id, so that row-group statistics leave one group to read.
        ids = pc.field("doc_id")
        last = prefix + "g"  # sorts after every hex digit
        table = pq.read_table(stream, filters=(ids >= prefix) & (ids < last), use_threads=False)
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows
