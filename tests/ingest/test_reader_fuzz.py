"""Whatever the bytes are, reading raises nothing, ends, and accounts for all that it names."""

from __future__ import annotations

import json
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ingest.building import gz, join, page_record, prose, read, record, wet_record

RECORDS = [page_record(0), record(b"software: x\r\n", 1, kind="warcinfo"), wet_record(2), page_record(3)]
LINES = b"".join(json.dumps({"url": f"https://a.example/{n}", "text": prose(n)}).encode() + b"\n" for n in range(5))
SHARDS = {
    "gzip": join([gz(part) for part in RECORDS]).data,
    "plain": b"".join(RECORDS),
    "one member": gz(b"".join(RECORDS)),
    "jsonl": LINES,
    "jsonl.gz": gz(LINES),
}


@st.composite
def damaged(draw):
    data = bytearray(SHARDS[draw(st.sampled_from(sorted(SHARDS)))])
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.sampled_from(["flip", "zero", "cut", "insert", "repeat"])):
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "zero":
                stop = min(at + draw(st.integers(1, 200)), len(data))
                data[at:stop] = bytes(stop - at)
            case "cut":
                del data[at : at + draw(st.integers(1, 400))]
            case "insert":
                data[at:at] = random.Random(at).randbytes(draw(st.integers(1, 50)))
            case "repeat":
                data[at:at] = data[at : at + 300]
    return bytes(data)


@settings(max_examples=250, deadline=5000, derandomize=True)
@given(damaged(), st.sampled_from(["x.warc.gz", "x.jsonl", "x"]))
def test_damage_never_raises_and_every_row_has_its_own_place(data, name):
    found = read(data, name, maximum_record_bytes=1 << 16)
    assert found.documents or found.rejects
    assert len(set(found.offsets)) == len(found.offsets)
    assert found == read(data, name, maximum_record_bytes=1 << 16, batch_bytes=1)


@settings(max_examples=120, deadline=5000, derandomize=True)
@given(st.binary(max_size=400), st.sampled_from(["warc", "jsonl", "parquet", "auto"]))
def test_any_bytes_under_any_format(data, kind):
    found = read(data, "x", format=kind)
    assert found.documents or found.rejects


@settings(max_examples=100, deadline=5000, derandomize=True)
@given(st.integers(0, len(SHARDS["gzip"]) - 1), st.integers(1, 300))
def test_a_stretch_of_zeros_costs_only_the_members_that_it_touches(at, size):
    shard = join([gz(part) for part in RECORDS])
    data = bytearray(shard.data)
    size = min(size, len(data) - at)
    data[at : at + size] = bytes(size)
    found = read(bytes(data), "x.warc.gz")
    ends = [*shard.offsets[1:], len(data)]
    for start, end in zip(shard.offsets, ends, strict=True):
        if end <= at or start >= at + size:
            assert start in found.offsets
            assert (start, "damaged") not in found.losses
