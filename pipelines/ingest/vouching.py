"""Whether a record's bytes are those that its header vouches for: by its digests, and by its length."""

from __future__ import annotations

from collections import Counter

from pipelines.ingest.digests import Check, Outcome, check_block, check_payload, payload_readings
from pipelines.ingest.warc import Record
from pipelines.records import Evidence

SOURCE = "ingest"


def vouch(record: Record, maximum_record_bytes: int, count: Counter[str]) -> tuple[Record, list[Evidence]]:
    """The record, and as evidence what does not fit; ``count`` counts the outcomes of its digests.

    A record whose ``Content-Length`` is wrong is set right if its block digest fits what stands up to the next record,
    or as many bytes of it as the header says.
    """
    headers = record.headers
    block = check_block(headers, record.block)
    if record.fault is not None:
        if record.declared is not None and (block is None or block.outcome is not Outcome.VERIFIED):
            declared = record.block[: record.declared]
            again = check_block(headers, declared)
            if again is not None and again.outcome is Outcome.VERIFIED:
                record, block = record._replace(block=declared), again
        if block is None or block.outcome is not Outcome.VERIFIED:
            _count(count, block)
            return record, [Evidence(SOURCE, "content_length_mismatch", detail=record.fault)]
        record = record._replace(fault=None)
    faults = []
    if _count(count, block):
        faults.append(Evidence(SOURCE, "block_digest_mismatch", detail=block.detail if block else None))
    if "warc-payload-digest" in headers:
        payload = check_payload(headers, payload_readings(headers, record.block, maximum_record_bytes))
        if _count(count, payload):
            faults.append(Evidence(SOURCE, "payload_digest_mismatch", detail=payload.detail if payload else None))
    return record, faults


def _count(count: Counter[str], check: Check | None) -> bool:
    """Whether the check failed."""
    if check is not None:
        count[check.outcome.value] += 1
    return check is not None and check.outcome is Outcome.MISMATCH
