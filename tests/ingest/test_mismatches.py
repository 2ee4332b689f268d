"""Records that are not what their header says: refused, or kept with evidence, and never mistaken for sound ones."""

from __future__ import annotations

import base64
import hashlib

import pytest

from tests.ingest.building import (
    PACKINGS,
    crawled,
    digest_of,
    gz,
    html,
    http,
    join,
    page_record,
    plain,
    prose,
    read,
    record,
)

WRONG = "WARC-Block-Digest: sha1:" + "A" * 32
WRONG_PAYLOAD = "WARC-Payload-Digest: sha1:" + "A" * 32


def payload_digest(body: bytes) -> str:
    return "WARC-Payload-Digest: sha1:" + base64.b32encode(hashlib.sha1(body).digest()).decode()


def kinds(row: dict[str, object]) -> list[str]:
    return [one["kind"] for one in row["evidence"] if one["source"] == "ingest"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("pack", PACKINGS.values(), ids=PACKINGS)
@pytest.mark.parametrize(
    ("extra", "kind"), [([WRONG], "block_digest_mismatch"), ([WRONG_PAYLOAD], "payload_digest_mismatch")]
)
def test_a_digest_that_does_not_fit(pack, extra, kind):
    shard = join([pack(page_record(0)), pack(page_record(1, extra=extra)), pack(page_record(2))])
    refused = read(shard.data)
    assert refused.hosts == ["site0.example", "site2.example"]
    assert refused.losses == [(shard.offsets[1], "digest_mismatch")]
    assert "the bytes give" in refused.rejects[0]["detail"]
    kept = read(shard.data, mismatches="keep")
    assert kept.rejects == []
    assert [row["text"] for row in kept.documents] == [prose(n) for n in range(3)]
    assert [kinds(row) for row in kept.documents] == [[], [kind], []]


def test_digests_that_fit_or_say_nothing():
    body = html(prose(1))
    for extra in (
        [digest_of(http(body))],
        [digest_of(http(body)).lower().replace("warc-block-digest", "warc-block-digest")],
        [payload_digest(body), digest_of(http(body))],
        ["WARC-Block-Digest: unknown:abc"],
        ["WARC-Payload-Digest: sha1:short"],
        ["WARC-Block-Digest: "],
    ):
        for wanted in ("reject", "keep"):
            found = read(record(http(body), 1, extra=extra), mismatches=wanted)
            assert [kinds(row) for row in found.documents] == [[]], extra


@pytest.mark.parametrize("pack", PACKINGS.values(), ids=PACKINGS)
@pytest.mark.parametrize("wrong", [-300, -60, 9, 400, 90_000])
def test_a_length_that_does_not_fit(pack, wrong):
    block = http(html(prose(1)))
    members = [page_record(0), record(block, 1, length=len(block) + wrong), page_record(2), page_record(3)]
    shard = join([pack(one) for one in members])
    refused = read(shard.data)
    assert refused.hosts == [f"site{n}.example" for n in (0, 2, 3)]
    assert refused.losses == [(shard.offsets[1], "damaged")]
    kept = read(shard.data, mismatches="keep")
    assert [row["text"] for row in kept.documents] == [prose(n) for n in range(4)]
    assert [kinds(row) for row in kept.documents] == [[], ["content_length_mismatch"], [], []]
    assert kept.rejects == []


@pytest.mark.parametrize("pack", PACKINGS.values(), ids=PACKINGS)
@pytest.mark.parametrize("wrong", [-300, -60, 9, 400, 90_000])
def test_a_block_digest_sets_a_wrong_length_right(pack, wrong):
    block = http(html(prose(1)))
    one = record(block, 1, length=len(block) + wrong, extra=[digest_of(block)])
    for wanted in ("reject", "keep"):
        found = read(b"".join(map(pack, [page_record(0), one, page_record(2)])), mismatches=wanted)
        assert [row["text"] for row in found.documents] == [prose(n) for n in range(3)]
        assert [kinds(row) for row in found.documents] == [[], [], []]
        assert found.rejects == []


@pytest.mark.parametrize("pack", [gz, plain], ids=["gzip", "plain"])
def test_a_length_that_is_right_before_garbage(pack):
    # Up to the next record there are 40 bytes more; the digest is that of what the header says.
    block = http(html(prose(1)))
    one = record(block, 1, extra=[digest_of(block)])[:-4] + b"#" * 40 + b"\r\n\r\n"
    found = read(pack(page_record(0)) + pack(one) + pack(page_record(2)))
    assert [row["text"] for row in found.documents] == [prose(n) for n in range(3)]
    assert found.rejects == []


def test_every_record_of_a_mixed_shard_is_checked():
    members = [one for n in range(4) for _, one in crawled(n, digests=True)]
    members[6] = members[6].replace(b"GET /page", b"GET /pugs")
    found = read(b"".join(members))
    assert found.reasons == {"not_a_page": 7, "digest_mismatch": 1}
    assert len(found.documents) == 4


@pytest.mark.parametrize("pack", PACKINGS.values(), ids=PACKINGS)
@pytest.mark.parametrize("lie", [0, 50, -50, 10**6, 10**12])
def test_records_over_the_cap(pack, lie):
    """As long as they say or not, with the lines of records in them or not: what follows is read."""
    for inner in (html(prose(1, 3000)), b"".join(page_record(900 + n) for n in range(12)) + html(prose(1, 1000))):
        block = http(inner)
        members = [page_record(0), record(block, 1, length=len(block) + lie), page_record(2), page_record(3)]
        shard = join([pack(one) for one in members])
        found = read(shard.data, maximum_record_bytes=4096)
        assert [host for host in found.hosts if not host.startswith("site9")] == [f"site{n}.example" for n in (0, 2, 3)]
        assert found.losses[0] == (shard.offsets[1], "too_large")
        if lie == 0:  # passed over by its length, whatever it holds
            assert found.hosts == [f"site{n}.example" for n in (0, 2, 3)]
            assert found.losses == [(shard.offsets[1], "too_large")]
            assert found.rejects[0]["length"] == len(shard.data[shard.offsets[1] : shard.offsets[2]]) - (
                4 if pack is plain else 0
            )


def test_a_record_over_the_cap_at_the_end():
    block = http(html(prose(1, 3000)))
    for pack in PACKINGS.values():
        shard = join([pack(page_record(0)), pack(record(block, 1))])
        found = read(shard.data, maximum_record_bytes=4096)
        assert found.losses == [(shard.offsets[1], "too_large")]
        cut = read(shard.data[:-60], maximum_record_bytes=4096)
        assert cut.hosts == ["site0.example"]
        assert len(cut.rejects) == 1
