"""S3 by moto's server, with a proxy between that fails: read, write, list, delete, and a whole job."""

import io
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from pipelines import files, remote, s3_files
from pipelines.errors import UsageError
from pipelines.ingest.shards import find_shards
from pipelines.job import load_job
from pipelines.reserve.verify import verify
from pipelines.run import run
from tests.crawls import digests, write_wet
from tests.serving import DROP, Answer, Cut, Proxy, proxy

DATA = random.Random(1).randbytes(3_000_000)
PATH = "s3://crawl/2024/a.bin"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


@pytest.fixture
def s3(port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with proxy(port) as between:
        settings = {
            "AWS_ENDPOINT_URL": between.url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",  # boto3's own, so that ours are seen
            "NO_PROXY": "127.0.0.1",
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(remote, "RETRY", remote.Retry(attempts=12, first_seconds=0.001))
        s3_files._client_for.cache_clear()
        client = boto3.client("s3")
        for bucket in ("crawl", "out"):
            client.create_bucket(Bucket=bucket)
        client.put_object(Bucket="crawl", Key="2024/a.bin", Body=DATA)
        between.requests.clear()
        yield between
        between.faults = []
        for bucket in ("crawl", "out"):
            for item in client.list_objects_v2(Bucket=bucket).get("Contents", []):
                client.delete_object(Bucket=bucket, Key=item["Key"])
        s3_files._client_for.cache_clear()


def ranges(s3: Proxy) -> list[str]:
    return [r.range for r in s3.requests if r.method == "GET" and r.range]


def test_globs_give_names_sizes_and_times(s3: Proxy) -> None:
    for name in ("2024/b.bin", "2024/deep/c.bin", "2025/a.bin", "2024/a.bin.bak"):
        files.write_bytes(f"s3://crawl/{name}", name.encode())
    assert [(s.name, s.size) for s in find_shards(["s3://crawl/2024/*.bin"])] == [("a.bin", len(DATA)), ("b.bin", 10)]
    assert [s.name for s in find_shards(["s3://crawl/**/a.bin"])] == ["2024/a.bin", "2025/a.bin"]
    assert [s.name for s in find_shards(["s3://crawl/2024/a.bin"])] == ["a.bin"]
    assert [s.name for s in find_shards(["s3://crawl/202?/[ab].bin"])] == ["2024/a.bin", "2024/b.bin", "2025/a.bin"]
    assert files.stat(PATH).last_updated_in_seconds == find_shards([PATH])[0].modified > 1.7e9


def test_listing_goes_over_pages(s3: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "2")
    for number in range(5):
        files.write_bytes(f"s3://crawl/many/{number}", b"x")
    s3.requests.clear()
    assert len(files.listing("s3://crawl/many/*")) == 5
    assert len(s3.requests) == 3
    files.delete(["s3://crawl/many"])
    assert files.listing("s3://crawl/many/*") == []


def test_what_is_before_the_place_is_not_fetched(s3: Proxy) -> None:
    with files.open_read(PATH) as stream:
        stream.seek(2_000_000)
        assert stream.read(100) == DATA[2_000_000:2_000_100]
        stream.seek(-5, io.SEEK_END)
        assert stream.read() == DATA[-5:]
    assert ranges(s3) == ["bytes=2000000-2262143", "bytes=2999995-2999999"]


@pytest.mark.parametrize(
    "faults",
    [
        [Cut(0), Cut(1), Cut(100_000)],
        [Answer(500), Answer(503), Answer(429)],
        [DROP, DROP, DROP],
        [Cut(5), Answer(503), DROP, Cut(77), Answer(500), DROP, Cut(9), DROP, Answer(504)],
    ],
    ids=["cut", "server errors", "no answer", "one after the other"],
)
def test_after_a_failure_reading_goes_on_where_it_stopped(s3: Proxy, faults: list[Cut | Answer]) -> None:
    s3.faults = list(faults)
    assert files.read_bytes(PATH) == DATA
    assert not s3.faults


def test_only_the_missing_bytes_are_asked_for_again(s3: Proxy) -> None:
    s3.faults = [Cut(100_000, linger=0.2)]
    with files.open_read(PATH) as stream:
        assert stream.read(200_000) == DATA[:200_000]
    first, second = ranges(s3)
    begin, end = (int(n) for n in second.removeprefix("bytes=").split("-"))
    assert first == "bytes=0-262143"
    assert 0 <= begin <= 100_000
    assert end == 262_143


def test_failures_without_end_name_byte_and_attempts(s3: Proxy) -> None:
    s3.faults = [Answer(503)] * 99
    with pytest.raises(
        OSError, match=r"^s3://crawl/2024/a\.bin: byte 0 of 3,000,000 could not be read after 12 attempts: "
    ):
        files.read_bytes(PATH)


def test_an_object_that_changes_is_an_error(s3: Proxy) -> None:
    for changed in (DATA[:-1] + b"?", DATA[:1000], DATA + b"more"):
        files.write_bytes(PATH, DATA)
        with files.open_read(PATH) as stream:
            assert stream.read(1000) == DATA[:1000]
            files.write_bytes(PATH, changed)
            with pytest.raises(OSError, match=r"^s3://crawl/2024/a\.bin: changed while it was read"):
                stream.read()


def test_files_appear_whole_or_not_at_all(s3: Proxy) -> None:
    path = "s3://out/deep/a.txt"
    with files.open_write(path) as out:
        out.write(b"one")
        assert not files.exists(path)
    assert files.read_bytes(path) == b"one"

    def fail() -> None:
        with files.open_write(path) as out:
            out.write(b"two")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert files.read_bytes(path) == b"one"
    assert [m.path for m in files.listing("s3://out/**")] == [path]


@pytest.mark.parametrize("size", [0, 1, 9 << 20])
def test_writing_is_tried_again(s3: Proxy, size: int) -> None:
    s3.faulty = lambda request: request.method in {"PUT", "POST"}
    s3.faults = [Answer(503), DROP]
    content = (DATA * 4)[:size]
    files.write_bytes("s3://out/a", content)
    assert not s3.faults
    assert files.read_bytes("s3://out/a") == content


def test_folders_are_deleted_with_all_that_is_in_them_and_nothing_beside(s3: Proxy) -> None:
    for name in ("work/a", "work/deep/b", "works", "work.txt", "one"):
        files.write_bytes(f"s3://out/{name}", b"x")
    files.delete(["s3://out/work", "s3://out/one", "s3://out/absent"])
    assert [m.path for m in files.listing("s3://out/**")] == ["s3://out/work.txt", "s3://out/works"]


def test_absent_files_and_buckets_are_named(s3: Proxy) -> None:
    assert not files.exists("s3://crawl/absent")
    assert files.read_json("s3://crawl/absent") is None
    with pytest.raises(FileNotFoundError, match=r"^s3://crawl/absent: there is no such object$"):
        files.read_bytes("s3://crawl/absent")
    with pytest.raises(UsageError, match=r"^input: s3://crawl/absent matches no file"):
        find_shards(["s3://crawl/absent"])
    with pytest.raises(UsageError, match=r"^input: s3://nowhere/\*: there is no such bucket$"):
        find_shards(["s3://nowhere/*"])


def test_missing_credentials_are_told_at_once(s3: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    s3_files._client_for.cache_clear()
    with pytest.raises(UsageError, match=r"s3://crawl/\*: Unable to locate credentials; set AWS_ACCESS_KEY_ID and"):
        find_shards(["s3://crawl/*"])


def test_refused_access_is_told_at_once(s3: Proxy) -> None:
    s3.faulty, s3.faults = lambda request: True, [Answer(403)]
    with pytest.raises(UsageError, match=r"s3://crawl/\*: access is refused \(.*\); check the credentials"):
        find_shards(["s3://crawl/*"])


def test_what_is_not_installed_is_named() -> None:
    expected = {
        "s3://b/*.gz": "S3 needs its client: pip install 'human-reserve[s3]'",
        "gs://b/*.gz": "gs:// needs what is not installed here: pip install 'human-reserve[gcs]'",
        "hdfs://b/*.gz": "hdfs:// needs what is not installed here: pip install 'human-reserve[hdfs]'",
        "ftp://b/a.gz": "there is no filesystem for ftp://; known: local paths, http, https, s3, gs, hdfs",
    }
    program = (
        "import sys; sys.modules.update(dict.fromkeys(['boto3', 'apache_beam.io.gcp.gcsfilesystem', 'hdfs']));"
        "from pipelines.cli import main; print([main(['run', '--input', path]) for path in sys.argv[1:]])"
    )
    done = subprocess.run([sys.executable, "-c", program, *expected], capture_output=True, text=True)
    assert done.stdout == "[2, 2, 2, 2]\n"
    assert done.stderr.splitlines() == [f"reserve: input: {path}: {told}" for path, told in expected.items()]


@pytest.mark.slow
def test_a_job_from_s3_to_s3_gives_the_bytes_of_a_local_one(s3: Proxy, tmp_path: Path) -> None:
    crawl = write_wet(tmp_path / "crawl", shards=2, count=60)
    for shard in (tmp_path / "crawl").iterdir():
        files.write_bytes(f"s3://crawl/wet/{shard.name}", shard.read_bytes())
    settings = {"workers": 1}
    run(load_job(None, {"input": [crawl], "output": str(tmp_path / "out"), **settings}))
    s3.faults = [Cut(1000), Answer(503), DROP, Cut(20_000)]
    remote_job = load_job(None, {"input": ["s3://crawl/wet/*.wet.gz"], "output": "s3://out/one", **settings})
    assert not run(remote_job).already_whole
    assert not s3.faults
    for written in files.listing("s3://out/one/**"):
        copy = tmp_path / "copy" / written.path.removeprefix("s3://out/one/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(files.read_bytes(written.path))
    assert digests(tmp_path / "copy") == digests(tmp_path / "out")
    assert run(remote_job).already_whole
    assert verify("s3://out/one").whole
    files.write_bytes("s3://out/one/README.md", b"other words")
    assert [problem.file for problem in verify("s3://out/one").problems] == ["README.md"]
