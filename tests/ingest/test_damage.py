"""Damage of every kind in shards of every kind: all undamaged records come back, and every hit is one row at its place.

Where one hit gives more than one row, or none, the test says so: garbage that holds lines like those that open a record
is cut at them; damage in a plain shard that changes neither lengths nor lines is seen by block digests alone.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from typing import NamedTuple

import pytest

from pipelines.ingest.account import Part
from pipelines.ingest.formats import HEAD_BYTES, recognise
from pipelines.ingest.grammar import target_uri
from pipelines.ingest.options import Ingest
from pipelines.ingest.record_shards import read_source
from pipelines.ingest.source import Source
from pipelines.ingest.vouching import vouch
from pipelines.ingest.warc import Loss, Record
from tests.ingest.building import (
    PACKINGS,
    arc_record,
    arc_version,
    crawled,
    gz,
    join,
    nesting,
    page_record,
    plain,
    prose,
    read,
)

COMPRESSED = [name for name in PACKINGS if name != "plain"]


class Made(NamedTuple):
    """Members as they stand in a shard, and the record in each: (type, URL, block)."""

    members: list[bytes]
    truth: list[tuple[str, str, bytes]]

    def start(self, index: int) -> int:
        return sum(map(len, self.members[:index]))


def made(pages: int, pack: Callable[[bytes], bytes], digests: bool = False, first: int = 0) -> Made:
    members, truth = [], []
    for number in range(first, first + pages):
        for kind, (block, one) in zip(("request", "response", "metadata"), crawled(number, digests), strict=True):
            members.append(pack(one))
            truth.append((kind, f"https://site{number}.example/page", block))
    return Made(members, truth)


def made_arc(count: int, pack: Callable[[bytes], bytes]) -> Made:
    records = [arc_version(), *(arc_record(n) for n in range(count))]
    truth = [
        ("response", f"http://site{n}.example/page", one.partition(b"\n")[2][:-1]) for n, one in enumerate(records[1:])
    ]
    head = records[0].partition(b"\n")
    return Made(list(map(pack, records)), [("warcinfo", head[0].split()[0].decode(), head[2][:-1]), *truth])


class Found(NamedTuple):
    records: list[tuple[str, str, bytes]]  # those that are believed
    places: list[int]
    hits: list[tuple[int, int]]  # offset and length of each stretch or record that is not

    def unhurt(self, made: Made, hurt: set[int]) -> None:
        """Every record that was not touched came back, in its order; of the others none that was not written."""
        expected = [one for index, one in enumerate(made.truth) if index not in hurt]
        kept = set(self.records)
        missing = [one[:2] for one in expected if one not in kept]
        assert not missing, missing[:5]
        # Of a plain record only the block is vouched for: its URL may be what the damage made of it.
        assert {one[2] for one in kept} <= {one[2] for one in made.truth}, [one[:2] for one in kept - set(made.truth)]
        assert len(self.records) == len(kept)


def look(data: bytes, name: str = "x.warc.gz") -> Found:
    """The records before they become pages, vouched for as in a job."""
    source = Source(BytesIO(data))
    raw = source.peek(HEAD_BYTES)
    records, places, hits = [], [], []
    for one in read_source(source, recognise(raw, name, Ingest()), Ingest(), Part()):
        if isinstance(one, Loss):
            hits.append((one.offset, one.length))
            continue
        assert isinstance(one, Record)
        record, faults = vouch(one, Ingest().maximum_record_bytes, Counter())
        if faults:
            hits.append((one.offset, one.length))
        else:
            records.append((record.headers.get("warc-type", ""), target_uri(record.headers) or "", record.block))
            places.append(one.offset)
    assert places or hits
    assert sorted({*places, *(at for at, _ in hits)}) == sorted([*places, *(at for at, _ in hits)])
    return Found(records, places, hits)


def zeroed(made: Made, *indices: int) -> bytes:
    return b"".join(bytes(len(one)) if index in indices else one for index, one in enumerate(made.members))


def runs_of(made: Made, indices: list[int]) -> list[tuple[int, int]]:
    """Where each run of neighbours among the members begins, and its bytes."""
    found: list[list[int]] = []
    for index in sorted(indices):
        at, size = made.start(index), len(made.members[index])
        if found and found[-1][0] + found[-1][1] == at:
            found[-1][1] += size
        else:
            found.append([at, size])
    return [(at, size) for at, size in found]


@pytest.mark.parametrize("name", PACKINGS)
@pytest.mark.parametrize("digests", [False, True], ids=["", "digests"])
def test_a_thousand_records(name, digests):
    whole = made(334, PACKINGS[name], digests)
    assert len(whole.truth) > 1000
    assert look(b"".join(whole.members)).records == whole.truth
    rng = random.Random(name)
    # The first is left alone: without it, and without a name, nothing says what the shard is before the second.
    indices = sorted({*rng.sample(range(1, 1002), 40), 500, 501, 502, 1001})
    found = look(zeroed(whole, *indices))
    found.unhurt(whole, set(indices))
    assert len(found.records) == 1002 - len(indices)
    assert found.hits == runs_of(whole, indices)
    assert found.places == [whole.start(index) for index in range(1002) if index not in indices]


@pytest.mark.parametrize("pack", [gz, plain], ids=["gzip", "plain"])
def test_a_thousand_arc_records(pack):
    whole = made_arc(1000, pack)
    assert look(b"".join(whole.members), "x.arc").records == whole.truth
    indices = sorted({*random.Random(1).sample(range(1, 1001), 40), 500, 501, 502, 1000})
    found = look(zeroed(whole, *indices), "x.arc")
    found.unhurt(whole, set(indices))
    assert len(found.records) == 1001 - len(indices)
    assert found.hits == runs_of(whole, indices)


@pytest.mark.parametrize("name", PACKINGS)
def test_the_documents_of_a_thousand_records_are_those_that_were_written(name):
    whole = made(334, PACKINGS[name], True)
    data = bytearray(b"".join(whole.members))
    rng = random.Random(name)
    hurt = sorted(rng.sample(range(1, 334), 30))
    for number in hurt:
        at = whole.start(3 * number + 1) + len(whole.members[3 * number + 1]) * 2 // 3
        data[at] ^= 1 << rng.randrange(8)
    found = read(bytes(data))
    assert [row["text"] for row in found.documents] == [prose(n) for n in range(334) if n not in hurt]
    loud = [row for row in found.rejects if row["reason"] != "not_a_page"]
    assert [row["record_offset"] for row in loud] == [whole.start(3 * n + 1) for n in hurt]
    assert {row["reason"] for row in loud} == {"digest_mismatch" if name == "plain" else "damaged"}


@pytest.mark.parametrize("name", COMPRESSED)
def test_a_flip_anywhere_in_a_member(name):
    whole = made(3, PACKINGS[name])
    data, at = b"".join(whole.members), whole.start(4)
    for place in range(len(whole.members[4])):
        hurt = bytearray(data)
        hurt[at + place] ^= 1 << place % 8
        found = look(bytes(hurt), "x")
        found.unhurt(whole, {4})
        size = len(whole.members[4])
        if (
            found.records == whole.truth
        ):  # a flip in the header, or at the end of the data, can leave the content as it is
            assert found.hits in ([], [(at + 1, size)]), place
        else:
            assert found.hits == [(at, size)], place


@pytest.mark.parametrize("digests", [False, True], ids=["", "digests"])
def test_a_flip_anywhere_in_a_plain_record(digests):
    whole = made(3, plain, digests)
    data = b"".join(whole.members)
    unseen = 0
    for index in (3, 4, 5):
        at, one = whole.start(index), whole.members[index]
        head = one.index(b"\r\n\r\n") + 4
        for place in range(len(one)):
            hurt = bytearray(data)
            hurt[at + place] ^= 1 << place % 8
            found = look(bytes(hurt), "x.warc")
            kept = [one for number, one in enumerate(whole.truth) if number != index]
            others = [one for one in found.records if one in kept]
            assert others == kept, (index, place)
            assert len(found.hits) <= 1, (index, place)
            assert all(hit == (at, len(one)) for hit in found.hits), (index, place)
            in_block = head <= place < len(one) - 4
            changed = [one[2] for one in found.records if one not in kept]
            if in_block and digests:
                assert found.hits, (index, place)
            elif in_block:
                unseen += 1
            elif changed:  # in the header or the blank lines: the block is what it was, up to line ends behind it
                ends = [block.rstrip(b"\r\n") for block in (changed[0], whole.truth[index][2])]
                assert ends[0] == ends[1], (index, place)
                assert changed == [whole.truth[index][2]] or not digests, (index, place)
            else:
                assert found.hits, (index, place)
    assert (unseen == 0) == digests


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", PACKINGS)
def test_bytes_deleted(name, seed):
    rng = random.Random(seed)
    whole = made(4, PACKINGS[name], True)
    data = b"".join(whole.members)
    at = rng.randrange(whole.start(1), len(data) - 300)
    size = rng.choice((1, 5, 60, 300))
    hurt = {i for i, one in enumerate(whole.members) if whole.start(i) < at + size and whole.start(i) + len(one) > at}
    found = look(data[:at] + data[at + size :])
    found.unhurt(whole, hurt)
    assert len(found.hits) <= 1
    blocks = [block for _, _, block in found.records]
    if name == "plain" and not found.hits and len(hurt) > 1:
        # From inside one header to inside a later one: what is left is one sound record, and no trace of the rest.
        ends = [whole.members[i].index(b"\r\n\r\n") + whole.start(i) for i in (min(hurt), max(hurt))]
        assert at < ends[0]
        assert at + size < ends[1]
    elif any(whole.truth[i][2] not in blocks for i in hurt):
        assert found.hits[0][0] == whole.start(min(i for i in hurt if whole.truth[i][2] not in blocks))


GARBAGE = {
    "noise": random.Random(5).randbytes(300).replace(b"\x1f\x8b", b"\0\0"),
    "zeros": bytes(5000),
    "gzip magic": b"\x1f\x8b\x08\0\0\0\0\0\0\x03" * 20 + b"\x1f\x8b\x08\x04\xff",
    "zstd magic": b"\x28\xb5\x2f\xfd\x04\x00" * 20,
    "a member of something else": gz(b"no record " * 50),
    "text": b"Lorem WARC/ ipsum\r\n\r\nWARC\r\nhttp://a.example/\r\n" * 5,
}


@pytest.mark.parametrize("name", PACKINGS)
@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_between(name, what):
    whole = made(3, PACKINGS[name])
    if name == "gzip" and what == "a member of something else":
        pytest.skip("what follows a record in a member of its own is told with it: the next test")
    for index in (1, 4, 8, 9):
        at = whole.start(index)
        data = b"".join([*whole.members[:index], GARBAGE[what], *whole.members[index:]])
        found = look(data)
        found.unhurt(whole, set())
        assert found.hits == [(at, len(GARBAGE[what]))], index


def test_a_sound_member_without_a_record_between():
    whole = made(3, gz)
    other = GARBAGE["a member of something else"]
    found = look(b"".join([*whole.members[:4], other, *whole.members[4:]]))
    found.unhurt(whole, set())
    assert found.hits == [(whole.start(4), len(other))]


@pytest.mark.parametrize("name", PACKINGS)
def test_garbage_with_record_lines_is_cut_at_them(name):
    fake = b"noise\r\n\r\nWARC/1.0\r\nWARC-Type: response\r\n\r\nmore noise"
    whole = made(3, PACKINGS[name])
    data = b"".join([*whole.members[:4], fake, *whole.members[4:]])
    found = look(data)
    found.unhurt(whole, set())
    at = whole.start(4)
    assert found.hits == ([(at, 9), (at + 9, len(fake) - 9)] if name == "plain" else [(at, len(fake))])


@pytest.mark.parametrize("name", PACKINGS)
@pytest.mark.parametrize(
    "what",
    [b"\x1f\x8b\x08\0\0\0\0\0\0\x03", b"\r\n\r\nWARC/1.0\r\nA: b", b"\0" * 90],
    ids=["gzip magic", "record", "zeros"],
)
def test_garbage_inside_a_member(name, what):
    whole = made(3, PACKINGS[name], True)
    at, one = whole.start(4), whole.members[4]
    for place in range(30, len(one) - 4, 37):
        data = b"".join([*whole.members[:4], one[:place], what, one[place:], *whole.members[5:]])
        found = look(data)
        found.unhurt(whole, {4})
        # In a plain shard, a line that opens a record divides the one that it stands in.
        most = 2 if name == "plain" and b"WARC" in what else 1
        assert len(found.hits) <= most, place
        if whole.truth[4][2] not in [block for _, _, block in found.records]:
            assert found.hits[0][0] == at, place
            assert sum(size for _, size in found.hits) == len(one) + len(what), place


@pytest.mark.parametrize("name", PACKINGS)
def test_truncation(name):
    whole = made(3, PACKINGS[name])
    data = b"".join(whole.members)
    for size in [*range(1, len(data), 23), *range(len(data) - 12, len(data))]:
        found = look(data[:size], "x.warc.gz")
        complete = [i for i in range(9) if whole.start(i) + len(whole.members[i]) <= size]
        found.unhurt(whole, set(range(9)) - set(complete))
        at = whole.start(len(complete))
        if len(found.records) == len(complete) and at < size:
            assert found.hits == [(at, size - at)], size
        else:  # of a plain record only the blank lines behind it are missing
            assert found.hits == [], size
            assert at == size or name == "plain"


def test_truncation_of_a_shard_that_is_one_member():
    whole = made(60, plain, True)
    data = gz(b"".join(whole.members))
    assert look(data).records == whole.truth
    before = 0
    for size in range(100, len(data), 97):
        found = look(data[:size])
        assert found.records == whole.truth[: len(found.records)]
        assert len(found.hits) == 1
        assert before <= len(found.records)
        before = len(found.records)
    assert before > 170


@pytest.mark.parametrize("seed", range(25))
def test_damage_in_a_shard_that_is_one_member(seed):
    # Records before it are kept; nothing after it can be. What the decoder makes of it fails the digests.
    rng = random.Random(seed)
    whole = made(60, plain, True)
    data = bytearray(gz(b"".join(whole.members)))
    at = rng.randrange(200, len(data) - 40)
    match seed % 3:
        case 0:
            data[at] ^= 1 << rng.randrange(8)
        case 1:
            data[at : at + 30] = bytes(30)
        case 2:
            del data[at : at + 30]
    found = look(bytes(data))
    share = at / len(data)
    assert len(found.records) > (share - 0.1) * len(whole.truth) - 2
    assert found.hits or found.records == whole.truth


@pytest.mark.parametrize("one", PACKINGS)
@pytest.mark.parametrize("other", PACKINGS)
def test_two_shards_after_one_another(one, other):
    first, second = made(3, PACKINGS[one]), made(3, PACKINGS[other], first=50)
    data = b"".join([*first.members, *second.members])
    found = look(data)
    if one == other:
        assert found.records == first.truth + second.truth
        assert found.hits == []
    else:
        # The compression that a shard starts with is that of the shard: the rest is one stretch, of known place.
        found.unhurt(first, set())
        at = len(b"".join(first.members))
        assert found.hits[0][0] == at
        assert sum(size for _, size in found.hits) == len(data) - at


@pytest.mark.parametrize("name", PACKINGS)
def test_members_in_another_order(name):
    whole = made(40, PACKINGS[name])
    for order in (list(reversed(range(120))), random.Random(2).sample(range(120), 120)):
        found = look(b"".join(whole.members[index] for index in order))
        assert found.records == [whole.truth[index] for index in order]
        assert found.hits == []


@pytest.mark.parametrize("pack", [gz, plain], ids=["gzip", "plain"])
@pytest.mark.parametrize("seed", range(30))
def test_damage_in_arc(pack, seed):
    rng = random.Random(seed)
    whole = made_arc(8, pack)
    data = bytearray(b"".join(whole.members))
    index = rng.randrange(2, 8)
    at, size = whole.start(index), len(whole.members[index])
    match seed % 3:
        case 0:
            data[at : at + size] = bytes(size)
        case 1:
            data[at + rng.randrange(size)] ^= 1 << rng.randrange(8)
        case 2:
            del data[at + 20 : at + 30]
    found = look(bytes(data), "x.arc")
    kept = [one for number, one in enumerate(whole.truth) if number != index]
    assert [one for one in found.records if one in kept] == kept
    assert len(found.hits) <= 1
    assert all(hit[0] == at for hit in found.hits)
    if pack is gz:
        assert set(found.records) <= set(whole.truth)


def test_a_length_that_leads_to_the_end_of_a_later_header():
    # What follows looks like the blank lines after a record; the record whose header they end says otherwise.
    parts = [page_record(n) for n in range(5)]
    into = parts[2].index(b"\r\n\r\n")
    right = len(parts[1]) - parts[1].index(b"\r\n\r\n") - 8
    for wrong in (right + 4 + into, right + 4 + parts[2].index(b"\r\n\r\n", into + 4)):
        whole = [*parts[:1], parts[1].replace(b"Content-Length: %d" % right, b"Content-Length: %d" % wrong), *parts[2:]]
        found = read(b"".join(whole))
        assert found.hosts == [f"site{n}.example" for n in (0, 2, 3, 4)]
        assert found.losses == [(len(parts[0]), "damaged")]


def test_a_captured_shard_before_a_damaged_record():
    # The lines of records in its body are no reason to doubt its length.
    shard = join([page_record(0), nesting(1, 3), bytes(500), page_record(2)])
    found = read(shard.data)
    assert [row["url"] for row in found.documents] == [f"https://site{n}.example/page" for n in (0, 1, 2)]
    assert found.losses == [(shard.offsets[2], "damaged")]
