"""Damage in WARC shards: each undamaged record is read, and each damaged stretch is one reject with its offset."""

from __future__ import annotations

import random

import pytest
import zstandard

from tests.ingest.building import Pipe, gz, hosts, html, http, join, page_record, prose, read, record

GARBAGE = random.Random(5).randbytes(300).replace(b"\x1f\x8b", b"\x00\x00")


def zst(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


PACKINGS = {"gzip": gz, "zstd": zst, "plain": lambda data: data}


@pytest.mark.parametrize("pack", PACKINGS.values(), ids=PACKINGS)
def test_a_whole_shard_gives_every_record_at_its_offset(pack):
    shard = join([pack(page_record(n)) for n in range(20)])
    whole = read(shard.data)
    assert whole.hosts == hosts(*range(20))
    assert whole.offsets == shard.offsets
    assert whole.rejects == []
    assert read(Pipe(shard.data)) == whole


def test_a_zeroed_member_is_one_reject():
    parts = [gz(page_record(n)) for n in range(10)]
    parts[4] = bytes(len(parts[4]))
    shard = join(parts)
    found = read(shard.data)
    assert found.hosts == hosts(0, 1, 2, 3, 5, 6, 7, 8, 9)
    assert found.losses == [(shard.offsets[4], "damaged")]
    assert found.rejects[0]["detail"].startswith(f"{len(parts[4])} bytes cannot be decoded")


@pytest.mark.parametrize("pack", [gz, zst], ids=["gzip", "zstd"])
def test_a_flipped_bit_costs_its_own_member_only(pack):
    parts = [pack(page_record(n)) for n in range(6)]
    shard = join(parts)
    for place in range(0, len(parts[2]), 7):
        data = bytearray(shard.data)
        data[shard.offsets[2] + place] ^= 0x10
        found = read(bytes(data), "x.warc")
        # A flip in the gzip header's time or name fields changes nothing that counts.
        if found.rejects:
            assert found.losses == [(shard.offsets[2], "damaged")], place
            assert found.hosts == hosts(0, 1, 3, 4, 5), place
        else:
            assert found == read(shard.data), place
            assert place < 10


@pytest.mark.parametrize("pack", PACKINGS.values(), ids=PACKINGS)
def test_garbage_between_records(pack):
    shard = join([pack(page_record(0)), pack(page_record(1)), GARBAGE, pack(page_record(2))])
    found = read(shard.data)
    assert found.hosts == hosts(0, 1, 2)
    assert found.losses == [(shard.offsets[2], "damaged")]


@pytest.mark.parametrize("pack", PACKINGS.values(), ids=PACKINGS)
def test_garbage_at_the_end(pack):
    shard = join([pack(page_record(0)), GARBAGE])
    found = read(shard.data)
    assert found.hosts == hosts(0)
    assert found.losses == [(shard.offsets[1], "damaged")]


@pytest.mark.parametrize("pack", [gz, zst], ids=["gzip", "zstd"])
def test_garbage_before_the_first_record_when_the_name_tells_the_format(pack):
    shard = join([pack(page_record(0))[:40], pack(page_record(1))])
    found = read(shard.data, "crawl.warc.gz")
    assert found.hosts == hosts(1)
    assert found.losses == [(0, "damaged")]


@pytest.mark.parametrize("pack", PACKINGS.values(), ids=PACKINGS)
def test_truncation_is_always_reported(pack):
    parts = [pack(page_record(n)) for n in range(3)]
    shard = join(parts)
    # Only the blank lines that end a plain record can be cut off without loss.
    last = len(shard.data) - (4 if pack is PACKINGS["plain"] else 0)
    for size in range(shard.offsets[2] + 1, last, 11):
        found = read(shard.data[:size], "x.warc")
        assert found.hosts == hosts(0, 1), size
        assert len(found.rejects) == 1, size
        assert found.rejects[0]["record_offset"] == shard.offsets[2], size
        assert found.rejects[0]["reason"] in ("truncated", "damaged")
    # Cut in the middle of a record, it is called what it is.
    assert read(shard.data[: shard.offsets[2] + len(parts[2]) * 3 // 4]).losses == [(shard.offsets[2], "truncated")]


def test_concatenated_shards():
    first = join([gz(page_record(n)) for n in range(3)])
    second = join([gz(page_record(n)) for n in range(3, 6)])
    cut = first.data[:-20]
    found = read(cut + second.data)
    assert found.hosts == hosts(0, 1, 3, 4, 5)
    assert found.losses == [(first.offsets[2], "damaged")]


@pytest.mark.parametrize("pack", PACKINGS.values(), ids=PACKINGS)
@pytest.mark.parametrize("wrong", [-100, -1, 7, 100, 5_000, 10**9, 10**17])
def test_wrong_content_length(pack, wrong):
    block = http(html(prose(1)))
    shard = join(
        [
            pack(page_record(0)),
            pack(record(block, 1, length=len(block) + wrong)),
            pack(page_record(2)),
            pack(page_record(3)),
        ]
    )
    found = read(shard.data)
    assert found.hosts == hosts(0, 2, 3)
    reason = "damaged" if wrong < 10**8 else "too_large"
    assert found.losses == [(shard.offsets[1], reason)]
    assert found.rejects[0]["url"] == "https://site1.example/page"


@pytest.mark.parametrize("pack", PACKINGS.values(), ids=PACKINGS)
@pytest.mark.parametrize("header", [b"Content-Length: many\r\n", b"", b"Content-Length: -5\r\n"])
def test_a_header_without_a_length(pack, header):
    parts = [page_record(n) for n in range(3)]
    length = next(line for line in parts[1].split(b"\r\n") if line.startswith(b"Content-Length"))
    parts[1] = parts[1].replace(length + b"\r\n", header, 1)
    shard = join([pack(part) for part in parts])
    found = read(shard.data)
    assert found.hosts == hosts(0, 2)
    assert found.losses == [(shard.offsets[1], "damaged")]


def test_a_shard_that_is_one_gzip_member():
    records = [page_record(n) for n in range(50)]
    whole = gz(b"".join(records))
    found = read(whole)
    assert found.hosts == hosts(*range(50))
    assert found.offsets == list(range(50))
    for size in (len(whole) // 3, len(whole) - 1):
        cut = read(whole[:size])
        assert cut.hosts == hosts(*range(len(cut.documents)))
        assert cut.losses == [(len(cut.documents), "truncated")]
    assert len(cut.documents) == 49


def test_records_that_cross_gzip_members():
    data = b"".join(page_record(n) for n in range(30))
    blocks = [gz(data[at : at + 700]) for at in range(0, len(data), 700)]
    found = read(b"".join(blocks))
    assert found.hosts == hosts(*range(30))
    assert len(set(found.offsets)) == 30


def test_offsets_differ_even_where_members_hold_thousands_of_records():
    member = gz(b"".join([record(b"", 1, kind="metadata")] * 3000))
    found = read(member * 3)
    assert len(found.rejects) == 9000
    assert len(set(found.offsets)) == 9000


def test_a_damaged_block_of_a_shard_that_is_one_member_costs_its_tail_only():
    whole = bytearray(gz(b"".join(page_record(n) for n in range(200))))
    place = len(whole) // 2
    whole[place : place + 60] = bytes(60)
    found = read(bytes(whole) + gz(page_record(500)))
    assert 50 < len(found.documents) < 200
    assert found.hosts == hosts(*range(len(found.documents) - 1), 500)
    # The decoder goes on for a while with wrong bytes: records that it garbles are damaged stretches of their own.
    assert set(found.reasons) == {"damaged"}


def test_a_record_over_the_cap_is_passed_over():
    big = record(http(html(prose(1, 4000))), 1)
    for pack in PACKINGS.values():
        shard = join([pack(page_record(0)), pack(big), pack(page_record(2))])
        found = read(shard.data, maximum_record_bytes=4096)
        assert found.hosts == hosts(0, 2)
        assert found.losses == [(shard.offsets[1], "too_large")]


def test_a_dictionary_in_the_first_frame_of_a_zstd_shard():
    samples = [page_record(n) for n in range(400)]
    trained = zstandard.train_dictionary(4096, samples)
    compressor = zstandard.ZstdCompressor(dict_data=trained)
    content = trained.as_bytes()
    for stored in (content, zstandard.ZstdCompressor().compress(content)):
        head = b"\x5d\x2a\x4d\x18" + len(stored).to_bytes(4, "little") + stored
        shard = head + b"".join(compressor.compress(sample) for sample in samples[:5])
        assert read(shard, "x.warc.zst").hosts == hosts(*range(5))


def test_a_gzip_bomb_ends_soon():
    bomb = record(http(html("a" * 20_000_000)), 1)
    found = read(gz(page_record(0)) + gz(bomb) + gz(page_record(2)), maximum_record_bytes=1 << 20)
    assert found.hosts == hosts(0, 2)
    assert found.reasons == {"too_large": 1}


def test_a_shard_in_two_compressions_says_what_it_does_not_read():
    found = read(gz(page_record(0)) + page_record(1) + gz(page_record(2)))
    assert found.hosts == hosts(0, 2)
    assert found.reasons == {"damaged": 1}


def test_damage_that_is_longer_than_one_read():
    noise = random.Random(3).randbytes(3 << 20)
    shard = join([gz(page_record(0)), noise, gz(page_record(1))])
    found = read(shard.data)
    assert found.hosts == hosts(0, 1)
    assert found.losses == [(shard.offsets[1], "damaged")]
    plain = join([page_record(0), noise, b"\n", page_record(1)])
    found = read(plain.data)
    assert found.hosts == hosts(0, 1)
    assert found.losses == [(plain.offsets[1], "damaged")]


def test_many_records_cut_off_in_their_headers_end_soon():
    data = b"WARC/1.0\r\nWARC-Type: response\r\n" * 20_000
    assert len(read(data + page_record(1)).rejects) == 20_000


def test_records_of_many_pieces():
    text = prose(1, 300_000).encode()
    big = [record(text, n, kind="conversion", content_type="text/plain") for n in range(3)]
    for pack in PACKINGS.values():
        shard = join([pack(part) for part in big])
        assert read(shard.data).hosts == hosts(0, 1, 2)
    assert read(gz(b"".join(big))).hosts == hosts(0, 1, 2)
