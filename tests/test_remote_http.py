"""Files on web servers that fail in every way a server can: the exact bytes, or an error that says what to do."""

import gzip
import io
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import files, remote
from pipelines.errors import UsageError
from pipelines.ingest.shards import find_shards
from pipelines.job import load_job
from pipelines.run import run
from tests.crawls import digests, write_wet
from tests.serving import DROP, MODIFIED, Answer, Cut, Site, listening, site

DATA = random.Random(1).randbytes(3_000_000)
PATH = "/crawl/a.bin"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "RETRY", remote.Retry(attempts=12, first_seconds=0.001, silence_seconds=5))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Site]:
    with site({PATH: DATA}) as served:
        yield served


def read(server: Site, path: str = PATH) -> bytes:
    return files.read_bytes(server.url + path)


def test_size_and_time_of_change_are_known_before_anything_is_read(server: Site) -> None:
    found = files.stat(server.url + PATH)
    assert (found.size_in_bytes, found.last_updated_in_seconds) == (len(DATA), MODIFIED)
    assert [r.method for r in server.requests] == ["HEAD"]


@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("length", ["said", "chunked"])
@pytest.mark.parametrize("etags", [True, False])
def test_all_kinds_of_servers_give_the_same_bytes(
    server: Site, head: bool, ranges: bool, length: str, etags: bool
) -> None:
    server.head, server.ranges, server.length, server.etags = head, ranges, length, etags
    assert files.stat(server.url + PATH).size_in_bytes == len(DATA)
    assert read(server) == DATA


def test_blocks_grow_and_come_in_order(server: Site) -> None:
    with files.open_read(server.url + PATH) as stream:
        while stream.read(1 << 16):
            pass
    begins = [int(r.removeprefix("bytes=").split("-")[0]) for r in server.gets()]
    assert begins == [0, 1 << 18, 3 << 18, 7 << 18]


def test_what_is_before_the_place_is_not_fetched(server: Site) -> None:
    with files.open_read(server.url + PATH) as stream:
        assert stream.seekable()
        assert stream.seek(2_000_000) == 2_000_000
        assert stream.read(100) == DATA[2_000_000:2_000_100]
        assert stream.tell() == 2_000_100
        assert stream.seek(-5, io.SEEK_END) == len(DATA) - 5
        assert stream.read() == DATA[-5:]
        assert stream.read(1) == b""
        stream.seek(2_000_000)
        assert stream.read(1000) == DATA[2_000_000:2_001_000]
    assert server.gets() == ["bytes=2000000-2262143", "bytes=2999995-2999999"]


def test_any_order_of_reads_gives_the_bytes_of_a_local_file(server: Site) -> None:
    draw = random.Random(2)
    for server.ranges in (True, False):
        with files.open_read(server.url + PATH) as stream:
            for _ in range(40):
                at, size = draw.randrange(len(DATA) + 10), draw.choice([1, 10, 70_000, 900_000])
                stream.seek(at)
                assert stream.read(size) == DATA[at : at + size]


FAULTS = {
    "cut at once": [Cut(0)],
    "cut after some bytes": [Cut(12_345), Cut(1), Cut(100_000)],
    "no answer": [DROP, DROP],
    "server errors": [Answer(500), Answer(503), Answer(502)],
    "too many requests": [
        Answer(429, {"Retry-After": "0"}),
        Answer(503, {"Retry-After": "Fri, 01 Jan 2021 00:00:00 GMT"}),
    ],
    "one after the other": [Cut(5), Answer(503), DROP, Cut(77), Answer(429), DROP, Cut(9), Cut(90), DROP, Answer(504)],
}


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("length", ["said", "chunked"])
def test_after_a_failure_reading_goes_on_where_it_stopped(
    server: Site, faults: list[Cut | Answer], ranges: bool, length: str
) -> None:
    server.ranges, server.length, server.faults = ranges, length, list(faults)
    assert read(server) == DATA
    assert not server.faults


def test_only_the_missing_bytes_are_asked_for_again(server: Site) -> None:
    server.faults = [Cut(200_000, linger=0.2)]
    with files.open_read(server.url + PATH) as stream:
        assert stream.read(200_000) == DATA[:200_000]
    first, second = server.gets()
    begin, end = (int(n) for n in second.removeprefix("bytes=").split("-"))
    assert first == "bytes=0-262143"
    # What the connection brought last may be lost with it, so the place of the cut is the most and not exact.
    assert 0 < begin <= 200_000
    assert end == 262_143


def test_failures_without_end_name_byte_and_attempts(server: Site) -> None:
    with files.open_read(server.url + PATH) as stream:
        stream.seek(1000)
        server.faults = [Answer(503)] * 99
        with pytest.raises(remote.ReadError, match="could not be read") as error:
            stream.read()
    assert str(error.value) == (
        f"{server.url}{PATH}: byte 1,000 of 3,000,000 could not be read after 12 attempts: the server answers HTTP 503 "
        "Service Unavailable; run the same command again when the server answers, or copy the file to a disk and read "
        "it there"
    )


def test_a_server_that_is_gone_is_an_error_before_anything_is_read(server: Site) -> None:
    server.faulty, server.faults = ("HEAD", "GET"), [DROP] * 99
    with pytest.raises(OSError, match=r"no answer after 12 attempts: .*; check the address and the network"):
        read(server)


def test_a_short_body_is_never_a_short_file(server: Site) -> None:
    server.ranges = False
    for server.length, size in (("said", "3,000,000"), ("chunked", "unknown size")):
        server.faults = [Cut(1_000_000)] * 99
        with pytest.raises(remote.ReadError, match=rf"byte [\d,]+ of {size} could not be read after 12 attempts"):
            read(server)


def test_an_early_end_is_noticed_where_only_the_transfer_coding_tells_it(server: Site) -> None:
    server.head, server.ranges, server.length = False, False, "chunked"
    with files.open_read(server.url + PATH) as stream:
        server.faults = [Cut(1_000_000)] * 99
        with pytest.raises(
            remote.ReadError, match=r"byte [\d,]+ of unknown size could not be read .*: the transfer was cut"
        ):
            stream.read()


def test_a_file_without_any_end_is_refused(server: Site) -> None:
    server.head, server.ranges, server.length = False, False, "unsaid"
    with pytest.raises(OSError, match="says neither how long the file is nor where it ends"):
        read(server)


def test_a_length_that_only_head_says_is_held_against_the_transfer(server: Site) -> None:
    server.ranges = False
    with files.open_read(server.url + PATH) as stream:
        server.length, server.faults = "unsaid", [Cut(500_000)]
        assert stream.read() == DATA


def test_a_file_that_changes_is_an_error(server: Site) -> None:
    other = DATA[:-1] + b"?"
    for etags, changed, told in (
        (True, other, "its ETag was "),
        (False, DATA + b"more", "it had 3,000,000 bytes and now has 3,000,004"),
        (False, DATA[:1_000_000], "it had 3,000,000 bytes and now has 1,000,000"),
    ):
        server.etags, server.files[PATH] = etags, DATA
        with files.open_read(server.url + PATH) as stream:
            assert stream.read(1000) == DATA[:1000]
            server.files[PATH] = changed
            with pytest.raises(OSError, match=rf"changed while it was read \({told}.*once it is no longer written to"):
                stream.read()


def test_redirects_are_followed(server: Site) -> None:
    server.redirects = {"/old": "/older", "/older": PATH}
    assert read(server, "/old") == DATA


def test_refusals_are_not_tried_again(server: Site) -> None:
    server.refused = {"/secret": 403, "/gone": 410}
    for path, kind, text in (
        ("/absent", FileNotFoundError, "the server has no such file (HTTP 404 Not Found); check the URL"),
        ("/gone", FileNotFoundError, "the server has no such file (HTTP 410 Gone); check the URL"),
        ("/secret", PermissionError, "the server does not give it out (HTTP 403 Forbidden); check URL and access"),
    ):
        server.requests.clear()
        with pytest.raises(kind) as error:
            read(server, path)
        assert str(error.value) == f"{server.url}{path}: {text}"
        assert len(server.requests) <= 2


def test_empty_files(server: Site) -> None:
    server.files["/empty"] = b""
    for server.head in (True, False):
        assert read(server, "/empty") == b""
    server.ranges, server.length = False, "chunked"
    assert read(server, "/empty") == b""


def test_bytes_come_as_they_are_stored_and_urls_go_as_they_are_written(server: Site) -> None:
    packed = gzip.compress(b"text", mtime=0)
    server.files["/a%2Fb%20c.gz?sign=a%2Bb/c+d"] = packed
    assert read(server, "/a%2Fb%20c.gz?sign=a%2Bb/c+d") == packed
    (shard,) = find_shards([f"{server.url}/a%2Fb%20c.gz?sign=a%2Bb/c+d"])
    assert shard.name == "a%2Fb%20c.gz"


def test_headers_that_fsspec_is_told_are_sent(server: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.config import conf

    from pipelines import http_files

    server.required = {"Authorization": "Bearer x"}
    with pytest.raises(PermissionError, match="HTTP 401 Unauthorized"):
        read(server)
    monkeypatch.setitem(conf, "http", {"headers": {"Authorization": "Bearer x"}})
    http_files._system.cache_clear()
    try:
        assert read(server) == DATA
    finally:
        http_files._system.cache_clear()


def test_parquet_fetches_what_it_needs(server: Site) -> None:
    numbers = pa.array(random.Random(3).choices(range(1 << 40), k=200_000))
    table = pa.table({"a": numbers, "b": numbers, "c": numbers})
    out = io.BytesIO()
    pq.write_table(table, out, row_group_size=20_000, compression="none", use_dictionary=False)
    server.files["/t.parquet"] = out.getvalue()
    with files.open_read(f"{server.url}/t.parquet") as stream:
        assert pq.read_table(stream, columns=["b"], use_threads=False)["b"].combine_chunks() == numbers
    asked = [range.removeprefix("bytes=").split("-") for range in server.gets()]
    assert sum(int(end) - int(begin) + 1 for begin, end in asked) < len(out.getvalue()) * 0.9
    assert files.read_parquet(f"{server.url}/t.parquet") == table


def test_parquet_s_reader_hands_errors_of_the_network_on(server: Site) -> None:
    out = io.BytesIO()
    pq.write_table(pa.table({"a": range(100_000)}), out, compression="none", use_dictionary=False)
    server.files["/t.parquet"] = out.getvalue()
    with files.open_read(f"{server.url}/t.parquet") as stream:
        file = pq.ParquetFile(stream)
        server.faults = [Answer(503)] * 99
        with pytest.raises(remote.ReadError, match="HTTP 503"):
            file.read()


def test_web_servers_have_no_globs_and_no_folders(server: Site) -> None:
    with pytest.raises(
        UsageError, match=r"/crawl/\*\.gz: a web server cannot be searched for '\*'; name each file, or"
    ):
        find_shards([f"{server.url}/crawl/*.gz"])
    with pytest.raises(UsageError, match=r"HTTP 404 Not Found\); check the URL; a folder cannot be listed over HTTP"):
        find_shards([f"{server.url}/crawl/"])
    server.files["/get?file=a*b.gz"] = b"x"
    assert [s.size for s in find_shards([f"{server.url}/get?file=a*b.gz"])] == [1]


def test_a_web_server_is_no_place_for_output(tmp_path: Path, server: Site) -> None:
    with pytest.raises(
        UsageError, match=r"/out cannot be written to: http:// is only read from; name a local folder, s3:// or gs://"
    ):
        files.join(f"{server.url}/out", "reserve")


def test_a_port_where_nobody_listens_is_told_once() -> None:
    with listening(lambda to: None) as url:
        pass
    with pytest.raises(UsageError) as error:
        find_shards([f"{url}/a.gz"])
    host = url.removeprefix("http://")
    assert re.fullmatch(
        rf"input: {url}/a\.gz: no answer after 12 attempts: no connection to {host} \(.+\); "
        "check the address and the network, and run the same command again",
        str(error.value),
    )


def test_names_without_address_are_told_at_once() -> None:
    with pytest.raises(UsageError, match=r"there is no host nowhere\.invalid; check the address"):
        find_shards(["http://nowhere.invalid/a.gz"])


@pytest.mark.slow
def test_a_job_over_a_failing_server_gives_the_bytes_of_a_local_one(tmp_path: Path) -> None:
    write_wet(tmp_path / "mirror" / "crawl-data" / "wet", shards=3, count=60)
    shards = sorted((tmp_path / "mirror").rglob("*.gz"))
    entries = [str(path.relative_to(tmp_path / "mirror")) for path in shards]
    listed = "crawl-data/wet.paths.gz"
    (tmp_path / "mirror" / listed).write_bytes(gzip.compress("\n".join(entries).encode()))
    contents = {f"/{p.relative_to(tmp_path / 'mirror')}": p.read_bytes() for p in (tmp_path / "mirror").rglob("*.gz")}
    run(load_job(None, {"input": [f"{tmp_path}/mirror/{listed}"], "output": str(tmp_path / "local"), "workers": 1}))
    with site(contents) as server:
        server.faults = [Cut(100), Answer(503), DROP, Cut(3000), Answer(429), Cut(1)]
        far = load_job(None, {"input": [f"{server.url}/{listed}"], "output": str(tmp_path / "far"), "workers": 1})
        assert not run(far).already_whole
        assert not server.faults
    assert digests(tmp_path / "far") == digests(tmp_path / "local")
