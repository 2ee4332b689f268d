"""What an output is, for people: the headline on a terminal and the data card beside the data."""

from __future__ import annotations

from importlib.resources import files as resources
from typing import Any

import jinja2
import pyarrow as pa

from pipelines.cascades import cascade_sentence
from pipelines.layout import Layout
from pipelines.records import OUTPUT, Place, Verdict
from pipelines.reserve.audits import audit_sentence, labels_name, plan_name
from pipelines.reserve.seal import read_seal
from pipelines.statistics.false_positives import sentence

MEANINGS = {
    Verdict.DATED.value: "captured before the cut-off, or a verified near-duplicate of a page that was",
    Verdict.CLEAR.value: "later, or of unknown date, and no known signal was found",
    Verdict.SUSPECTED.value: "a calibrated detector says so",
    Verdict.MARKED.value: "a watermark test says so",
    Verdict.DECLARED.value: "the page says so itself",
    Verdict.UNDETERMINED.value: "too short, an unsupported language, a weak signal, or the checks disagree",
}
# What each column of `records.OUTPUT` holds.
COLUMNS = {
    "doc_id": "first 16 bytes of SHA-256(url, 0x00, capture time, 0x00, SHA-256(payload)), as 32 hex digits",
    "url": "as the crawl gives it",
    "host": "of the URL, lower case",
    "captured_at": "as the crawl gives it; null where it does not",
    "language": "ISO 639-1; null where it could not be identified",
    "text": "the main text of the page",
    "text_sha256": "of the text in UTF-8",
    "verdict": "what the policy makes of all evidence",
    "machine_probability": "calibrated at even prior odds; null where no detector may speak",
    "evidence": "every finding of every check: source, kind, score, p_value, probability, detail",
    "shard": "the input file",
    "record_offset": "where in the shard the record begins: byte, or row of a Parquet file",
    "cluster_id": "the kept copy of a group of near-duplicates; null where the document stands alone",
    "cluster_size": "documents in that group; 1 where it stands alone",
    "because": "the rule of the policy that decided",
    "whole_text_sha256": "of the text before repeated paragraphs were cut; null where none was",
    "posterior": "probability of machine origin from all evidence and a prior of the capture month; null: none",
    "payload_sha256": "of the bytes that the crawler kept, which `doc_id` covers",
}
# What those of `records.DUPLICATES` hold, where they are others or mean something else.
DUPLICATE_COLUMNS = {
    "kept_doc_id": "the `doc_id` of the copy that is kept",
    "jaccard": "similarity to the kept copy; 1 for the same text",
    "verdict": "what it would be if the document stood alone",
    "kept_in": "digest of the job that wrote the output with the kept copy; null: this one",
    "text": "the main text of the page; null where another document of the outputs has the very same text",
}
REJECT_COLUMNS = {
    "shard": "the input file",
    "record_offset": "where in the shard the record, or the stretch, begins: byte, or row of a Parquet file",
    "length": "bytes of the shard from there on; null where records lie in decoded text",
    "url": "as the crawl gives it",
    "reason": "why there is no document",
    "detail": "the same in more words",
}
EVIDENCE_ITEMS = {
    "source": "the check: declaration, leak, hidden_characters, the name of a detector, …",
    "kind": "what was found, in the words of the policy",
    "score": "as the check gives it",
    "p_value": "under the null hypothesis that there is no mark",
    "probability": "of machine origin, calibrated",
    "detail": "in words",
}


def headline(output: str, summary: dict[str, Any]) -> str:
    """The end of a run in a few lines, with where things are."""
    layout = Layout(output)
    records = summary["records"]
    width = len(f"{records['in']:,}")
    places = [f"  {place.value:<11}{records[place.value]:>{width},}" for place in Place]
    lines = [f"{records['in']:,} records in {len(summary['job']['inputs'])} shards", *places]
    if summary["job"]["against"]:
        lines.append(
            f"compared with {len(summary['job']['against'])} earlier outputs; {summary['superseded']:,} of their "
            "documents are copies of others (superseded.parquet)"
        )
    if summary["repeats"]:
        lines.append(repeats_sentence(summary["repeats"]))
    if summary["watermarks"]:
        lines.append(watermarks_sentence(summary["watermarks"]))
    if "cascade" in (summary["detector"] or {}):
        lines.append(cascade_sentence(summary["detector"]["cascade"]))
    lines += [
        share_sentence(summary),
        "",
        f"reserve     {output}/{Place.RESERVE.value}",
        f"statistics  {output}/statistics",
        f"report      {layout.report}",
        f"data card   {layout.card}",
        *_seal_line(layout),
    ]
    return "\n".join(lines)


def _seal_line(layout: Layout) -> list[str]:
    sealed = read_seal(layout.seal)
    if sealed is None:
        return []
    names = ", ".join(sorted({signature.name for signature in sealed.note.signatures}))
    by = f"signed by {names}" if names else f"unsigned (reserve seal sign {layout.output} --key …)"
    return [f"seal        {layout.seal}: {sealed.checkpoint.size:,} entries, {by}"]


def share_sentence(summary: dict[str, Any]) -> str:
    """The synthetic share in one sentence that claims no more than the evidence."""
    share = summary["synthetic_share"]
    cutoff = summary["job"]["settings"]["cutoff"]
    judged, after = share["judged"], share["after_cutoff"]
    if not judged:
        return f"Machine text after {cutoff}: nothing can be said; none of {after:,} documents could be judged."
    interval = f"{100 * share['level']:g} % interval {100 * share['low']:.1f} to {100 * share['high']:.1f} %"
    direct = f"{share['direct']:,} of them say so themselves or carry a mark"
    if share["estimate"] is None:
        return f"Machine text after {cutoff}: {interval} of {judged:,} documents that could be judged; {direct}."
    return (
        f"Machine text after {cutoff}: {100 * share['estimate']:.1f} % ({interval}) of {judged:,} documents that could "
        f"be judged, of {after:,}; {direct}."
    )


def repeats_sentence(repeats: dict[str, Any]) -> str:
    """How much of the text recurs across hosts, in one sentence."""
    found = (
        f"Repeated paragraphs: {repeats['recurring']:,} different ones stand on {repeats['hosts']:,} hosts or more and "
        f"are {_percent(repeats['bytes'], repeats['text_bytes'])} of the text of {repeats['documents']:,} documents"
    )
    if repeats["mode"] != "trim":
        return f"{found}; none was cut."
    cut = f"{repeats['paragraphs_cut']:,} were cut out of {repeats['documents_cut']:,} documents"
    whole = f", and {repeats['documents_whole']:,} that hold little else were left whole"
    return f"{found}; {cut} ({repeats['bytes_cut']:,} bytes){whole if repeats['documents_whole'] else ''}."


def watermarks_sentence(marks: dict[str, Any]) -> str:
    """What was looked for and what was found, in one sentence."""
    keys = len(marks["keys"])
    unmeasured = sum(not key["null_measured"] for key in marks["keys"])
    caution = f"; {unmeasured} of the keys have no null measured on human text" if unmeasured else ""
    return (
        f"Watermarks: {keys} {'key' if keys == 1 else 'keys'} looked for in {marks['documents_tested']:,} documents "
        f"and {marks['sites_tested']:,} sites; {marks['documents_found']:,} documents and {marks['sites_found']:,} "
        f"sites found at a false discovery rate of {100 * marks['level']:g} %{caution}."
    )


def false_positives_sentence(summary: dict[str, Any]) -> str:
    """How often the detector flagged documents that are human by date, and which threshold decided."""
    found = (summary["detector"] or {}).get("false_positives_by_date")
    if not found:
        return ""
    words = sentence(found, lambda share: f"{100 * share:.2f} %")
    return f"{words} That threshold is {found['recalibration']['reason']}."


def _percent(part: int, whole: int) -> str:
    share = 100 * part / max(whole, 1)
    return f"{share:.1f} %" if share >= 0.1 or not part else "under 0.1 %"


def data_card(summary: dict[str, Any]) -> str:
    """The card as Markdown; with what an audit found, where `summary.json` has one."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    environment.filters["thousands"] = lambda value: f"{value:,}"
    template = environment.from_string(resources("pipelines.reserve").joinpath("card.md").read_text("utf-8"))
    sentences = {"share_sentence": share_sentence(summary)}
    sentences["repeats_sentence"] = repeats_sentence(summary["repeats"]) if summary["repeats"] else ""
    sentences["watermarks_sentence"] = watermarks_sentence(summary["watermarks"]) if summary["watermarks"] else ""
    sentences["false_positives_sentence"] = false_positives_sentence(summary)
    saving = (summary["detector"] or {}).get("cascade")
    sentences["cascade_sentence"] = cascade_sentence(saving) if saving else ""
    audit = summary.get("audit")
    sentences["audit_sentence"] = audit_sentence(audit) if audit else ""
    sentences["audit_files"] = (
        " and ".join(f"`{name(audit['number'])}`" for name in (labels_name, plan_name)) if audit else ""
    )
    columns = [(field.name, _type(field.type), COLUMNS[field.name]) for field in OUTPUT]
    return template.render(**{**summary, "audit": audit}, meanings=MEANINGS, columns=columns, **sentences)


def _type(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return "list of struct"
    return "string" if kind == pa.large_string() else str(kind)
