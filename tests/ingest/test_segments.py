"""Records in segments (ISO 28500, 6.9): joined where they follow one another, refused with a reason where not."""

from __future__ import annotations

import random

import pytest

from tests.ingest.building import (
    PACKINGS,
    digest_of,
    gz,
    html,
    http,
    page_record,
    plain,
    prose,
    read,
    read_parts,
    record,
    segmented,
)


def between(count: int) -> list[bytes]:
    return [record(b"a: b\r\n", 7000 + n, kind="metadata") for n in range(count)]


@pytest.mark.parametrize("pack", PACKINGS.values(), ids=PACKINGS)
@pytest.mark.parametrize("count", [2, 3, 20])
def test_segments_become_the_page_of_all(pack, count):
    parts = [*segmented(1, count), page_record(2)]
    found = read(b"".join(map(pack, parts)))
    whole = read(pack(page_record(1)))
    assert [row["text"] for row in found.documents] == [prose(1), prose(2)]
    assert found.documents[0] == whole.documents[0]
    assert found.reasons == {"not_a_page": count - 1}


def test_records_in_segments_among_one_another():
    one, other = segmented(1, 3), segmented(2, 3)
    mixed = [part for pair in zip(one, other, strict=True) for part in pair]
    found = read(b"".join(mixed))
    assert sorted(row["text"] for row in found.documents) == [prose(1), prose(2)]


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        (lambda parts: parts[:1] + parts[2:], "segment 2 of the record is missing"),
        (lambda parts: parts[:2], "segment 3 of the record is not in this shard"),
        (lambda parts: [parts[0], parts[2], parts[1]], "segment 2 of the record is missing"),
        (lambda parts: [parts[0], *between(70), *parts[1:]], "segment 2 of the record is not in this shard"),
        (
            lambda parts: [*parts[:2], parts[2].replace(b"Total-Length: ", b"Total-Length: 9")],
            "bytes, and 9",
        ),
        (
            lambda parts: [parts[0], parts[1].replace(b"Content-Length: 1", b"Content-Length: 9"), parts[2]],
            "segment 2 of the record is missing or damaged",
        ),
    ],
    ids=["missing", "cut off", "swapped", "far away", "another total", "damaged"],
)
def test_segments_that_do_not_fit(change, detail):
    for pack in (gz, plain):
        parts = change(segmented(1, 3))
        found = read(b"".join(map(pack, [page_record(0), *parts, page_record(2)])))
        assert found.hosts == ["site0.example", "site2.example"]
        (refused,) = [row for row in found.rejects if row["reason"] == "bad_record"]
        assert detail in refused["detail"]
        assert refused["url"] == "https://site1.example/page"
        assert refused["record_offset"] == len(pack(page_record(0)))
        # The others are told as what they are.
        assert len(found.rejects) == len(parts)


def test_some_records_between_segments_do_no_harm():
    parts = segmented(1, 3)
    found = read(b"".join([parts[0], *between(60), parts[1], *between(60), parts[2]]))
    assert [row["text"] for row in found.documents] == [prose(1)]


def test_more_than_the_cap():
    found = read(b"".join(segmented(1, 3)), maximum_record_bytes=1024)
    assert len(found.documents) == 1
    block = http(html(" ".join(prose(n) for n in range(9))))
    parts = [block[at : at + 1000] for at in range(0, len(block), 1000)]
    origin = "<urn:uuid:00000000-0000-0000-0000-000000000001>"
    records = [record(parts[0], 1, extra=["WARC-Segment-Number: 1"])]
    for place, part in enumerate(parts[1:], 2):
        extra = [f"WARC-Segment-Number: {place}", f"WARC-Segment-Origin-ID: {origin}"]
        records.append(record(part, 100 + place, kind="continuation", extra=extra))
    found = read(b"".join(records), maximum_record_bytes=2048)
    (refused,) = [row for row in found.rejects if row["reason"] == "bad_record"]
    assert "the record's segments have more than 2048 bytes" in refused["detail"]


def test_the_digest_of_a_first_segment_is_that_of_its_own_block():
    parts = segmented(1, 2)
    block = parts[0].partition(b"\r\n\r\n")[2][:-4]
    right = parts[0].replace(b"\r\n\r\n", b"\r\n" + digest_of(block).encode() + b"\r\n\r\n", 1)
    assert [row["text"] for row in read(right + parts[1]).documents] == [prose(1)]


def test_the_same_first_segment_again_takes_what_follows():
    parts = segmented(1, 2)
    shard = [parts[0], *between(3), parts[0], parts[1], parts[0]]
    for pack in (gz, plain):
        found = read(b"".join(map(pack, shard)))
        assert [row["text"] for row in found.documents] == [prose(1)]
        assert found.reasons == {"bad_record": 2, "not_a_page": 4}
        assert read_parts(b"".join(map(pack, shard)), 500).outcome.documents == found.documents


def test_numbers_that_are_none():
    for number in (b"0", b"2", b"one", b"", b"1" * 5000):
        first = segmented(1, 2)[0].replace(b"Segment-Number: 1", b"Segment-Number: " + number)
        found = read(first + page_record(2))
        assert len(found.documents) + len(found.rejects) == 2
        assert found.hosts[-1] == "site2.example"


def test_many_first_segments_end_soon_and_hold_little():
    firsts = [segmented(n, 2)[0] for n in random.Random(1).sample(range(900), 300)]
    found = read(b"".join(map(gz, firsts)))
    assert found.reasons == {"bad_record": 300}
