"""What fuzzing has found stays found, and the targets hold on inputs drawn here."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.corpus import page, seeds
from tests.fuzz.mutation import mutate
from tests.fuzz.targets import TARGETS
from tests.ingest.building import gz, lz, page_record, plain, read, zst


@pytest.mark.parametrize("target", TARGETS)
def test_inputs_drawn_at_random(target):
    rng = random.Random(target)
    known = [one for one in seeds(target) if len(one) < 8000]
    for _ in range(60):
        TARGETS[target](mutate(rng.choice(known), rng, lambda: rng.choice(known))[:20_000])


def test_a_link_header_with_an_empty_relation():
    TARGETS["pages"](page("<p>x</p>", {"Link": '</a>; rel=""'}))


def test_a_dictionary_that_is_none():
    frame = zst(page_record(0))
    for content in (b"\x37\xa4\x30\xec" + bytes(50), b"\x28\xb5\x2f\xfd" + bytes(30), b""):
        found = read(b"\x5d\x2a\x4d\x18" + len(content).to_bytes(4, "little") + content + frame)
        assert found.hosts == ["site0.example"]


def decoded_bytes(monkeypatch: pytest.MonkeyPatch, data: bytes) -> tuple[int, int]:
    """Raw bytes that the gzip codec was given while a shard was read, and the rows."""
    from pipelines.ingest import compression

    given = 0
    feed = compression.Gzip.feed

    def counted(self, decoder, raw, most):
        nonlocal given
        given += len(raw)
        return feed(self, decoder, raw, most)

    monkeypatch.setattr(compression.Gzip, "feed", counted)
    found = read(data)
    return given, len(found.documents) + len(found.rejects)


@pytest.mark.slow
def test_members_that_overlap_are_not_decoded_without_bound(monkeypatch):
    # Each begins as a member does and stores what follows it.
    one = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x01\xff\xff\0\0WARC/1.0\r\nA: b"
    given, rows = decoded_bytes(monkeypatch, gz(page_record(0)) + one * 10_000)
    assert rows < 300_000
    assert given < 100 << 20  # each with all that follows: 600 MiB


@pytest.mark.parametrize("pack", [gz, zst, lz], ids=["gzip", "zstd", "lz4"])
def test_many_places_that_look_like_members(pack):
    member = pack(page_record(0))
    for noise in (member[:4] * 9000, member[:3] * 9000, member[:100] * 900):
        found = read(noise + pack(page_record(1)), "x.warc.gz")
        assert found.hosts == ["site1.example"]
        assert found.losses == [(0, "damaged")]


def test_many_headers_that_do_not_end():
    # The header of each is looked for once, not up to the end of the shard for each.
    for pack in (plain, gz):
        data = pack(b"xWARC/1.0\r\nWARC-Type: response\r\nX: " * 8000)
        found = read(data, "x.warc")
        assert len(found.rejects) in (8000, 8001)
