"""WACZ: whole, damaged and hostile ZIP files, and the streams of what is in them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import struct
import tracemalloc
import zipfile
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from warcio.archiveiterator import ArchiveIterator

from pipelines.ingest import wacz
from pipelines.ingest.wacz import Entry, EntryStream, Listing, list_entries
from pipelines.ingest.zips import Window
from tests.ingest.building import Pipe, gz, page_record, wet_record

CRAWL = Path(__file__).parents[2].parent / "shared" / "crawl"
NO_DIRECTORY = "the ZIP directory is missing or damaged: files are looked for by their own headers"
GZIPPED = b"".join(gz(page_record(n)) for n in range(5))
PLAIN = b"".join(wet_record(n) for n in range(5))
FILES = {"archive/pages.warc.gz": GZIPPED, "archive/texts.warc": PLAIN, "pages/pages.jsonl": b'{"id": "pages"}\n'}


class Unseekable(io.RawIOBase):
    """A target that makes zipfile write sizes behind the data."""

    def __init__(self) -> None:
        super().__init__()
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self.data += data
        return len(data)


def package(files: dict[str, bytes], version: str = "1.1.1") -> bytes:
    resources = [
        {"path": name, "name": name.rpartition("/")[2], "bytes": len(data)}
        | (
            {"hash": f"sha256:{hashlib.sha256(data).hexdigest()}"}
            if version == "1.1.1"
            else {"hashing": "sha256", "stats": {"hash": hashlib.sha256(data).hexdigest()}}
        )
        for name, data in files.items()
    ]
    return json.dumps({"profile": "data-package", "wacz_version": version, "resources": resources}).encode()


def build(files=None, version="1.1.1", seekable=True, zip64=False, described=None) -> bytes:
    files = FILES if files is None else files
    target = BytesIO() if seekable else Unseekable()
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in {**files, "datapackage.json": package(described or files, version)}.items():
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=zip64) as member:
                member.write(data)
    return target.getvalue() if isinstance(target, BytesIO) else bytes(target.data)


def deflated(files=None, **options) -> bytes:
    target = BytesIO() if options.get("seekable", True) else Unseekable()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**(files or FILES), "datapackage.json": package(files or FILES)}.items():
            archive.writestr(name, data)
    return target.getvalue() if isinstance(target, BytesIO) else bytes(target.data)


def without_directory(data: bytes) -> bytes:
    return data[: struct.unpack_from("<I", data, data.rindex(b"PK\x05\x06") + 16)[0]]


def contents(data: bytes, listing: Listing) -> dict[str, tuple[bytes, str | None]]:
    found = {}
    for entry in listing.entries:
        stream = EntryStream(BytesIO(data), entry)
        content = b"".join(iter(lambda stream=stream: stream.read(777), b""))
        assert stream.tell() == len(content)
        found[entry.name] = content, stream.fault
    return found


ARCHIVED = {name: (data, None) for name, data in FILES.items() if name.startswith("archive/")}
LAYOUTS = {
    "stored": build(),
    "version 1.0": build(version="1.0.0"),
    "sizes behind the data": build(seekable=False),
    "zip64": build(zip64=True),
    "zip64, sizes behind the data": build(zip64=True, seekable=False),
    "deflated": deflated(),
    "deflated, sizes behind the data": deflated(seekable=False),
}


@pytest.mark.parametrize("data", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_gives_its_files(data):
    listing = list_entries(BytesIO(data))
    assert listing.problems == []
    assert [entry.name for entry in listing.entries] == list(ARCHIVED)
    assert contents(data, listing) == ARCHIVED
    assert all(a.end <= b.offset for a, b in pairwise(listing.entries))
    for entry in listing.entries:
        assert entry.sha256 == hashlib.sha256(FILES[entry.name]).hexdigest()
        assert entry.size == len(FILES[entry.name])


@pytest.mark.parametrize("data", LAYOUTS.values(), ids=LAYOUTS)
def test_files_are_found_without_a_directory(data):
    cut = without_directory(data)
    listing = list_entries(BytesIO(cut))
    assert [problem.detail for problem in listing.problems] == [NO_DIRECTORY]
    assert listing.entries[:-1] == list_entries(BytesIO(data)).entries[:-1]
    found = contents(cut, listing)
    assert {name: fault for name, (_, fault) in found.items()} == dict.fromkeys(ARCHIVED)
    assert {name: content for name, (content, _) in found.items()} == {n: d for n, (d, _) in ARCHIVED.items()}


@pytest.mark.parametrize("data", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("share", [0.15, 0.5, 0.7])
def test_a_truncated_file_gives_all_that_is_there(data, share):
    cut = data[: int(len(data) * share)]
    listing = list_entries(BytesIO(cut))
    assert [problem.detail for problem in listing.problems] == [NO_DIRECTORY]
    found = contents(cut, listing)
    *whole, last = found
    assert all(found[name] == ARCHIVED[name] for name in whole)
    content, fault = found[last]
    assert ARCHIVED[last][0].startswith(content) or content.startswith(ARCHIVED[last][0])
    # Without its size, that a stored file is cut off shows in its last record only.
    assert fault or listing.entries[-1].size is None


@pytest.mark.parametrize("data", LAYOUTS.values(), ids=LAYOUTS)
def test_bytes_before_and_after_the_zip_file(data):
    data = b"x" * 100 + data + b"y" * 50
    listing = list_entries(BytesIO(data))
    assert contents(data, listing) == ARCHIVED
    assert listing.problems == []


def test_a_stored_file_with_zip_files_in_its_pages():
    page = build() + b"PK\x03\x04" + bytes(40)
    files = {"archive/one.warc": page * 2, "archive/two.warc": PLAIN}
    for seekable in (True, False):
        data = without_directory(build(files, seekable=seekable))
        assert contents(data, list_entries(BytesIO(data))) == {name: (text, None) for name, text in files.items()}


def test_which_files_count():
    names = ["archive/a.warc.gz", "archive/sub/b", "data/archive/c", "d.arc.gz", "e.WARC", "archive/f.cdx", "g.wet.gz"]
    others = ["archive/", "h.cdx.gz", "indexes/index.idx", "myarchive/i.txt", "warc"]
    files = dict.fromkeys(names + others, b"x")
    assert [entry.name for entry in list_entries(BytesIO(build(files))).entries] == names
    assert [one.detail for one in list_entries(BytesIO(build({"h.txt": b"x"}))).problems] == [
        "the ZIP file holds no WARC file"
    ]


def test_zip_files_that_follow_one_another():
    other = build({"archive/other.warc": PLAIN * 2})
    for data in (build() + other, deflated() + other):
        listing = list_entries(BytesIO(data))
        assert listing.problems[0].detail == NO_DIRECTORY
        assert contents(data, listing) == {**ARCHIVED, "archive/other.warc": (PLAIN * 2, None)}


def test_names_are_labels_only():
    files = {"../../archive/a.warc": b"1", "/archive/b.warc": b"2", "archive/caf\u00e9.warc": b"3"}
    assert [entry.name for entry in list_entries(BytesIO(build(files))).entries] == list(files)
    twice = BytesIO()
    with zipfile.ZipFile(twice, "w") as archive:
        archive.writestr("archive/a.warc", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("archive/a.warc", b"22")
    assert [entry.size for entry in list_entries(twice).entries] == [1, 2]


def test_a_wacz_in_a_wacz():
    inner = build()
    outer = build({"one.wacz": inner, "archive/own.warc": PLAIN, "deep/two.wacz": build({"three.wacz": inner})})
    listing = list_entries(BytesIO(outer))
    assert listing.problems == []
    assert [entry.name for entry in listing.entries] == [
        *(f"one.wacz/{name}" for name in ARCHIVED),
        "archive/own.warc",
        *(f"deep/two.wacz/three.wacz/{name}" for name in ARCHIVED),
    ]
    assert {fault for _, fault in contents(outer, listing).values()} == {None}
    assert all(entry.sha256 for entry in listing.entries)
    too_deep = list_entries(BytesIO(build({"outer.wacz": outer.replace(b"one.wacz", b"two.wacz")})))
    assert any("lies too deep: unpack it" in problem.detail for problem in too_deep.problems)
    squeezed = list_entries(BytesIO(deflated({"one.wacz": inner})))
    assert [problem.detail for problem in squeezed.problems] == ["one.wacz, a WACZ in a WACZ, is deflated: unpack it"]


def patched(data: bytes, name: str, field: int, value: bytes) -> bytes:
    """The file with some bytes of a central directory entry changed."""
    at = -1
    changed = bytearray(data)
    while (at := data.find(b"PK\x01\x02", at + 1)) >= 0:
        if data[at + 46 :].startswith(name.encode()):
            changed[at + field : at + field + len(value)] = value
    return bytes(changed)


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        (8, b"\x01\x00", "is encrypted: decrypt the file"),
        (10, b"\x5d\x00", "is compressed with zstd: store it, as WACZ asks for"),
        (10, b"\x63\x01", "is compressed with method 355: store it, as WACZ asks for"),
        (42, b"\xf0\xff\xff\x0f", "is said to begin at byte 268435440, and the ZIP file has"),
    ],
)
def test_files_that_cannot_be_read_are_named(field, value, why):
    data = patched(build(), "archive/texts.warc", field, value)
    listing = list_entries(BytesIO(data))
    assert [entry.name for entry in listing.entries] == ["archive/pages.warc.gz"]
    assert len(listing.problems) == 1
    assert listing.problems[0].detail.startswith(f"archive/texts.warc {why}")
    assert 0 <= listing.problems[0].offset <= len(data)


def test_a_file_that_claims_more_than_there_is():
    data = patched(build({"archive/a.warc": PLAIN}), "archive/a.warc", 20, struct.pack("<2I", 1 << 30, 1 << 30))
    listing = list_entries(BytesIO(data))
    (entry,) = listing.entries
    assert entry.end == len(data)
    content, fault = contents(data, listing)["archive/a.warc"]
    assert content.startswith(PLAIN)
    assert fault == f"it has {len(content)} bytes, and the ZIP file says {1 << 30}"


def test_overlapping_files_are_read_once():
    data = build({"archive/a.warc": PLAIN, "archive/b.warc": GZIPPED})
    begin = data.index(b"PK\x03\x04")
    same = patched(data, "archive/b.warc", 42, struct.pack("<I", begin))
    listing = list_entries(BytesIO(same))
    assert len(listing.entries) == 1
    assert [problem.detail for problem in listing.problems] == [
        "archive/b.warc overlaps archive/a.warc and is not read"
    ]
    longer = patched(data, "archive/a.warc", 20, struct.pack("<2I", len(data), len(data)))
    assert [problem.detail for problem in list_entries(BytesIO(longer)).problems] == [
        "archive/b.warc overlaps archive/a.warc and is not read"
    ]


@pytest.mark.parametrize("layout", ["stored", "deflated"])
def test_every_flipped_bit_of_the_data_is_noticed(layout):
    data = LAYOUTS[layout]
    for entry in list_entries(BytesIO(data)).entries:
        for place in range(entry.offset, entry.end, 37):
            damaged = bytearray(data)
            damaged[place] ^= 0x20
            content, fault = contents(bytes(damaged), Listing([entry], []))[entry.name]
            # Before a stored block, deflate has bits that mean nothing.
            assert fault or content == FILES[entry.name], place
            assert len(content) < 1 << 20


def test_deflated_data_are_followed_up_to_the_damage():
    text = random.Random(3).randbytes(20_000).hex().encode()
    data = bytearray(deflated({"archive/a.warc": text}))
    (entry,) = list_entries(BytesIO(data)).entries
    middle = (entry.offset + entry.end) // 2
    data[middle : middle + 40] = b"\xff" * 40
    content, fault = contents(bytes(data), Listing([entry], []))["archive/a.warc"]
    kept = len(next((content[:n] for n in range(len(content), 0, -100) if text.startswith(content[:n])), b""))
    assert kept > len(text) * 0.45
    assert fault
    assert "deflated data cannot be followed" in fault or "CRC-32" in fault or "bytes, and" in fault


def test_the_hash_of_the_package_is_checked():
    data = build(described={**FILES, "archive/texts.warc": b"other", "archive/lost.warc": b"", "pages/lost.jsonl": b""})
    listing = list_entries(BytesIO(data))
    assert [one.detail for one in listing.problems] == [
        "archive/lost.warc is listed in datapackage.json, and the ZIP file lacks it"
    ]
    found = contents(data, listing)
    assert found["archive/pages.warc.gz"][1] is None
    assert found["archive/texts.warc"][0] == PLAIN
    assert "and datapackage.json says" in str(found["archive/texts.warc"][1])
    unchecked = EntryStream(BytesIO(data), listing.entries[1], check_sha256=False)
    assert unchecked.readall() == PLAIN
    assert unchecked.fault is None


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"resources": 7}', b'{"resources": [7]}', b"[" * 100_000])
def test_a_package_that_cannot_be_read(text):
    target = BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("archive/a.warc", PLAIN)
        archive.writestr("datapackage.json", text)
    listing = list_entries(target)
    assert [entry.name for entry in listing.entries] == ["archive/a.warc"]
    assert listing.problems[0].detail.startswith("datapackage.json cannot be read: ")


def test_a_damaged_header_costs_no_stored_data():
    data = bytearray(build())
    data[data.index(b"PK\x03\x04", 10)] ^= 1  # of archive/texts.warc
    listing = list_entries(BytesIO(data))
    content, fault = contents(bytes(data), listing)["archive/texts.warc"]
    assert content.endswith(PLAIN)
    assert len(content) == len(PLAIN) + 30 + len("archive/texts.warc")
    assert fault is None
    squeezed = bytearray(deflated())
    squeezed[squeezed.index(b"PK\x03\x04", 10)] ^= 1
    assert [one.detail for one in list_entries(BytesIO(squeezed)).problems] == [
        "archive/texts.warc has no header of its own where the directory says"
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_damaged_directory_is_no_loss(layout):
    data = bytearray(LAYOUTS[layout])
    data[data.rindex(b"PK\x01\x02") + 1] ^= 1
    listing = list_entries(BytesIO(data))
    assert [one.detail for one in listing.problems] == [NO_DIRECTORY]
    assert contents(bytes(data), listing) == ARCHIVED


def test_bombs_and_huge_directories_take_little_memory():
    target = BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("archive/bomb.warc", "w") as bomb:
        for _ in range(32):
            bomb.write(bytes(1 << 20))
    one = BytesIO()
    with zipfile.ZipFile(one, "w") as archive:
        archive.writestr("x", b"")
    header = one.getvalue()[one.getvalue().index(b"PK\x01\x02") : one.getvalue().index(b"PK\x05\x06")]
    count = 20_000
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count & 0xFFFF, count & 0xFFFF, count * len(header), 0, 0)
    many = BytesIO(header * count + end)
    (entry,) = list_entries(target).entries
    stream = EntryStream(target, entry)
    tracemalloc.start()
    assert sum(len(piece) for piece in iter(lambda: stream.read(1 << 20), b"")) == 32 << 20
    assert stream.fault is None
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.reset_peak()
    assert [problem.detail for problem in list_entries(many).problems] == ["the ZIP file holds no WARC file"]
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_the_number_of_files_has_a_limit(monkeypatch):
    monkeypatch.setattr(wacz, "MAXIMUM_ENTRIES", 3)
    listing = list_entries(BytesIO(build({f"archive/{n}.warc": b"x" for n in range(9)})))
    assert len(listing.entries) == 3
    assert [one.detail for one in listing.problems] == ["more than 3 WARC files; the rest is not read"]


def test_a_stream_that_cannot_seek():
    with pytest.raises(ValueError, match="can seek"):
        list_entries(Pipe(build()))


def test_more_members_than_the_directory_counts():
    """Writers without ZIP64 let the count wrap around."""
    data = bytearray(build())
    at = data.rindex(b"PK\x05\x06")
    data[at + 8 : at + 12] = struct.pack("<2H", 1, 1)
    assert contents(bytes(data), list_entries(BytesIO(data))) == ARCHIVED


@given(st.binary(max_size=100), st.data())
def test_a_window_is_a_file_of_its_own(data, draw):
    begin = draw.draw(st.integers(0, len(data)))
    end = draw.draw(st.integers(begin, len(data)))
    window, file = Window(BytesIO(data), begin, end), BytesIO(data[begin:end])
    for _ in range(8):
        whence = draw.draw(st.sampled_from([0, 2]))
        size = draw.draw(st.integers(-1, 50))
        place = draw.draw(st.integers(0, 220)) * (1 if whence == 0 else -1)
        assert window.seek(place, whence) == file.seek(max(place, -len(file.getvalue()) if whence else 0), whence)
        assert window.read(size) == file.read(size)
        assert window.tell() == file.tell()


@given(st.data())
def test_any_damage_gives_a_listing(draw):
    data = bytearray(draw.draw(st.sampled_from(list(LAYOUTS.values()))))
    for _ in range(draw.draw(st.integers(1, 6))):
        place = draw.draw(st.integers(0, len(data) - 1) | st.integers(max(len(data) - 400, 0), len(data) - 1))
        data[place] = draw.draw(st.integers(0, 255))
    data = bytes(data[: draw.draw(st.just(len(data)) | st.integers(0, len(data)))])
    listing = list_entries(BytesIO(data))
    assert listing.entries or listing.problems
    for entry in listing.entries:
        assert 0 <= entry.offset <= entry.end <= len(data)
    assert all(0 <= problem.offset <= len(data) for problem in listing.problems)
    contents(data, listing)


def test_an_entry_stream_reads_like_a_file():
    data = LAYOUTS["deflated"]
    entry = list_entries(BytesIO(data)).entries[0]
    with gzip.open(io.BufferedReader(EntryStream(BytesIO(data), entry))) as records:
        assert records.read() == b"".join(page_record(n) for n in range(5))
    assert EntryStream(BytesIO(data), Entry("x", 5, 5)).read() == b""


@pytest.mark.skipif(not CRAWL.exists(), reason="no shared/crawl")
def test_the_example_of_pywb():
    with (CRAWL / "odd" / "pywb__valid_example_1.wacz").open("rb") as stream:
        listing = list_entries(stream)
        (entry,) = listing.entries
        content = EntryStream(stream, entry)
        records = list(ArchiveIterator(BytesIO(content.readall())))
    assert (entry.name, content.fault, listing.problems) == ("archive/example-collection.warc", None, [])
    assert entry.sha256
    assert [record.rec_type for record in records] == ["warcinfo", "warcinfo", "response", "request"]
