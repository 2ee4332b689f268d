"""A shard read in parts gives what it gives as a whole, each row once, wherever the parts begin."""

from __future__ import annotations

import random
from operator import itemgetter

import pytest

from tests.ingest.building import (
    PACKINGS,
    SHARD_FORMS,
    crawled,
    gz,
    http,
    lines_of,
    nesting,
    nesting_members,
    page_record,
    plain,
    read,
    read_parts,
    record,
    segmented,
    shard_of,
)

SIZES = (17, 101, 997, 1009, 4099, 20_011, 100_000, 1 << 20)


def assert_same(data: bytes, size: int, name: str = "x", **options: object) -> int:
    """Compares the whole shard with its parts; gives how many parts were read again."""
    whole = read(data, name, **options)
    divided = read_parts(data, size, name, **options)
    for found, expected in zip(divided.outcome, whole, strict=True):
        if joins(expected) or joins(found):  # a joined record comes when its last segment does, or at its part's end
            found, expected = (sorted(rows, key=itemgetter("record_offset")) for rows in (found, expected))
        assert found == expected, size
    return divided.again


def joins(rows: list[dict[str, object]]) -> bool:
    offsets = [row["record_offset"] for row in rows]
    return offsets != sorted(offsets)


def sizes_for(data: bytes, rng: random.Random) -> list[int]:
    fitting = [size for size in SIZES if len(data) / 60 < size < len(data)]
    return [*rng.sample(fitting, min(2, len(fitting))), max(len(data) // rng.randint(2, 7), 1)]


def hurt(data: bytes, rng: random.Random) -> bytes:
    made = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at, size = rng.randint(0, len(made)), rng.choice((1, 3, 40, 400))
        match rng.randrange(4):
            case 0:
                made[at : at + size] = bytes(len(made[at : at + size]))
            case 1:
                del made[at : at + size]
            case 2:
                made[at:at] = rng.randbytes(size)
            case 3:
                made[at:at] = rng.choice(
                    (b"\r\n\r\nWARC/1.0\r\n", b"WARC/1.0\r\nA: b\r\n", b"\x1f\x8b\x08", made[: size * 5])
                )
    return bytes(made)


@pytest.mark.parametrize("form", SHARD_FORMS)
def test_parts_of_whole_shards(form):
    rng = random.Random(form)
    for _ in range(3):
        data = shard_of(form, rng.randint(1, 25), rng)
        for size in sizes_for(data, rng)[-2:]:
            assert_same(data, size)


@pytest.mark.parametrize("form", SHARD_FORMS)
def test_parts_of_damaged_shards(form):
    rng = random.Random(form + "damaged")
    for _ in range(6):
        data = hurt(shard_of(form, rng.randint(1, 12), rng), rng)
        for size in sizes_for(data, rng)[-2:]:
            assert_same(data, size, mismatches=rng.choice(("reject", "keep")), maximum_record_bytes=1 << 14)


def test_the_sizes_that_jobs_use():
    rng = random.Random(1)
    noise = [record(rng.randbytes(rng.randint(1, 60_000)), n, kind="metadata") for n in range(60)]
    pages = [page_record(n) for n in range(60)]
    for pack in (gz, plain):
        data = b"".join(pack(one) for pair in zip(noise, pages, strict=True) for one in pair)
        assert len(data) > 1 << 20
        for size in (100_000, 1 << 20, 65_537):
            assert read_parts(data, size).parts == max(1, round(len(data) / size))
            assert_same(data, size)


@pytest.mark.parametrize("form", ["nested.warc", "nested.warc.gz"])
def test_parts_that_begin_in_a_captured_shard_are_read_again(form):
    again = sum(assert_same(shard_of(form, 20, random.Random(n)), 499) for n in range(5))
    assert again > 20


def test_a_captured_shard_over_many_parts():
    # All parts but the first and the last begin in the body of one record.
    for one in (nesting(1, 60), nesting_members(1, 60)):
        data = one + (page_record(2) if one[:4] == b"WARC" else gz(page_record(2)))
        assert len(read_parts(data, 700).outcome.documents) <= 2
        for size in (97, 700, 5003):
            assert_same(data, size)


def test_a_captured_shard_with_damage_around_it():
    for seed in range(25):
        rng = random.Random(seed)
        make, pack = rng.choice(((nesting, plain), (nesting_members, gz)))
        parts = [pack(page_record(0)), make(1, 3), pack(page_record(2)), make(3, 3), pack(page_record(4))]
        assert_same(hurt(b"".join(parts), rng), rng.choice((150, 333, 800)))


@pytest.mark.parametrize("pack", PACKINGS.values(), ids=PACKINGS)
@pytest.mark.parametrize("between", [0, 2, 70])
def test_segments_over_part_ends(pack, between):
    members = []
    for number in range(8):
        for segment in segmented(number, 4):
            members.append(pack(segment))
            members += [pack(record(b"x: y\r\n", 500 + number, kind="metadata"))] * between
    data = b"".join(members)
    whole = read(data)
    assert len(whole.documents) == (8 if between < 64 else 0)
    for size in (len(data) // 3, len(data) // 23, 211 * (between + 1)):
        assert_same(data, size)


def test_a_part_that_holds_no_record_is_no_empty_shard():
    large = record(random.Random(2).randbytes(30_000), kind="metadata")
    for data in (large, gz(large), b"\n" * 4000 + lines_of(range(3)), b"\n" * 4000):
        assert_same(data, 1024, "x.jsonl" if data[:1] == b"\n" else "x.warc")
    assert read(b"\n" * 4000, "x.jsonl").reasons == {"empty_shard": 1}


def test_a_large_record_over_many_parts():
    for pack in (plain, gz):
        large = record(http(random.Random(3).randbytes(50_000)), 1)
        data = b"".join([pack(page_record(0)), pack(large), pack(nesting(2)), pack(page_record(3))])
        for cap in (4096, 1 << 20):
            for size in (1499, 9973):
                assert_same(data, size, maximum_record_bytes=cap)


def test_records_that_are_as_long_as_parts():
    records = [one for n in range(30) for _, one in crawled(n)]
    size = max(map(len, records))
    data = b"".join(one[:-4] + b"\r\n" * ((size - len(one)) // 2 + 2) for one in records)
    for shift in (-1, 0, 1):
        assert_same(data, size + shift)
