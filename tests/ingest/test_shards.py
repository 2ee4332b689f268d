"""Globs to shards: every file once, with names that do not depend on where a crawl lies."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import remote
from pipelines.errors import UsageError
from pipelines.ingest.shards import find_shards
from tests.serving import DROP, Site, site


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def test_names_begin_where_the_glob_begins(tmp_path: Path) -> None:
    touch(tmp_path, "2024/b.warc.gz", "2024/a.warc.gz", "2025/a.warc.gz")
    assert [s.name for s in find_shards([f"{tmp_path}/2024/*.gz"])] == ["a.warc.gz", "b.warc.gz"]
    names = [s.name for s in find_shards([f"{tmp_path}/**/*.gz"])]
    assert names == ["2024/a.warc.gz", "2024/b.warc.gz", "2025/a.warc.gz"]


def test_order_and_repeats_of_patterns_do_not_matter(tmp_path: Path) -> None:
    touch(tmp_path, "a.gz", "b.gz", "c.gz")
    one = find_shards([f"{tmp_path}/*.gz"])
    two = find_shards([f"{tmp_path}/c.gz", f"{tmp_path}/a.gz", f"{tmp_path}/[ab].gz"])
    assert one == two


def test_shards_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    touch(tmp_path, "x/one/a.gz", "y/one/a.gz", "y/b.gz")
    names = [s.name for s in find_shards([f"{tmp_path}/x/one/*.gz", f"{tmp_path}/y/one/*.gz", f"{tmp_path}/y/*.gz"])]
    assert names == ["b.gz", "x/one/a.gz", "y/one/a.gz"]


def test_what_matches_nothing_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "a.gz")
    with pytest.raises(UsageError, match="matches no file"):
        find_shards([f"{tmp_path}/a.gz", f"{tmp_path}/b.gz"])
    with pytest.raises(UsageError, match=r"is a folder; name the shards in it, for instance '.*/\*\.gz'"):
        find_shards([str(tmp_path)])
    with pytest.raises(UsageError, match="nothing to read"):
        find_shards([])


def test_the_name_of_a_shard_that_two_inputs_name_does_not_depend_on_their_order(tmp_path: Path) -> None:
    touch(tmp_path, "x/y/a.gz")
    inputs = [f"{tmp_path}/**/*.gz", f"{tmp_path}/x/y/*.gz"]
    assert find_shards(inputs) == find_shards(inputs[::-1])
    assert [s.name for s in find_shards(inputs)] == ["a.gz"]


ENTRIES = [f"crawl-data/CC-1/segments/{n}/warc/{n}.warc.gz" for n in range(40)]
LIST = "crawl-data/CC-1/warc.paths.gz"


def listing(*lines: str) -> bytes:
    return gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(remote, "RETRY", remote.Retry(attempts=3, first_seconds=0.001))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    files = {f"/{entry}": entry.encode() for entry in ENTRIES}
    with site({**files, f"/{LIST}": listing(*ENTRIES)}) as served:
        yield served


def test_entries_of_a_list_on_a_server_lie_below_its_root(server: Site) -> None:
    server.faulty, server.faults = ("HEAD",), [DROP] * 2
    shards = find_shards([f"{server.url}/{LIST}"])
    assert [s.name for s in shards] == sorted(ENTRIES)
    assert all((s.path, s.size) == (f"{server.url}/{s.name}", len(s.name)) for s in shards)


def test_object_stores_may_answer_403_for_what_is_not_there(server: Site) -> None:
    server.refused = {f"/crawl-data/CC-1/{ENTRIES[0]}": 403, f"/crawl-data/{ENTRIES[0]}": 403}
    assert len(find_shards([f"{server.url}/{LIST}"])) == 40


@pytest.mark.parametrize("at", ["", "crawl-data/CC-1", "elsewhere/deep"])
def test_local_lists_name_what_is_beside_or_above_them(tmp_path: Path, at: str) -> None:
    touch(tmp_path, *ENTRIES)
    path = tmp_path / at / "some.paths"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\ufeff# part\r\n\r\n./" + "\r\n  ".join(ENTRIES[:3]) + "\r\n")
    shards = find_shards([str(path)])
    assert [s.name for s in shards] == ENTRIES[:3]
    assert [Path(s.path) for s in shards] == [tmp_path / entry for entry in ENTRIES[:3]]


def test_any_file_is_a_list_behind_an_at_sign_and_globs_may_match_lists(tmp_path: Path) -> None:
    touch(tmp_path, "a.gz", "b.gz", "c.gz")
    (tmp_path / "list.txt").write_text("a.gz")
    (tmp_path / "one.paths").write_text("b.gz")
    (tmp_path / "two.paths.gz").write_bytes(listing("c.gz", "b.gz"))
    assert [s.name for s in find_shards([f"@{tmp_path}/list.txt"])] == ["a.gz"]
    assert [s.name for s in find_shards([f"{tmp_path}/*.paths*"])] == ["b.gz", "c.gz"]
    assert [s.name for s in find_shards([f"@{tmp_path}/*.txt", f"{tmp_path}/*.paths"])] == ["a.gz", "b.gz"]


def test_a_base_says_where_entries_lie(tmp_path: Path, server: Site) -> None:
    (tmp_path / "few.paths").write_text("\n".join(ENTRIES[5:7]))
    for base in (server.url, f"{server.url}/"):
        shards = find_shards([f"{tmp_path}/few.paths"], base)
        assert [(s.name, s.path) for s in shards] == [(e, f"{server.url}/{e}") for e in ENTRIES[5:7]]


def test_entries_with_addresses_are_taken_as_they_are(tmp_path: Path, server: Site) -> None:
    touch(tmp_path, "far/a.gz")
    (tmp_path / "mixed.paths").write_text(f"{server.url}/{ENTRIES[0]}\n{tmp_path}/far/a.gz\n")
    names = {s.path: s.name for s in find_shards([f"{tmp_path}/mixed.paths"])}
    assert names == {f"{server.url}/{ENTRIES[0]}": ENTRIES[0], f"{tmp_path}/far/a.gz": f"{tmp_path}/far/a.gz"[1:]}


def test_a_list_on_a_server_names_no_file_of_the_machine_that_reads_it(tmp_path: Path, server: Site) -> None:
    touch(tmp_path, "a.gz")
    server.files["/sly.paths"] = f"{tmp_path}/a.gz".encode()
    with pytest.raises(UsageError, match=rf"line 1 of {server.url}/sly\.paths: {server.url}{tmp_path}/a\.gz: .* 404"):
        find_shards([f"{server.url}/sly.paths"])


def test_entries_that_are_not_there_are_named_with_their_line(tmp_path: Path, server: Site) -> None:
    touch(tmp_path, "a.gz")
    (tmp_path / "x.paths").write_text("# head\na.gz\n\nb.gz\nc.gz\n")
    with pytest.raises(
        UsageError, match=rf"^input: line 4 of {tmp_path}/x\.paths: .*No such file or directory: '.*/b\.gz'"
    ):
        find_shards([f"{tmp_path}/x.paths"])
    (tmp_path / "x.paths").write_text("nowhere.gz\na.gz\n")
    with pytest.raises(
        UsageError, match=r"line 1 of .*: nowhere\.gz is neither in the list's folder nor in one above it; "
    ):
        find_shards([f"{tmp_path}/x.paths"])
    del server.files[f"/{ENTRIES[30]}"]
    with pytest.raises(
        UsageError, match=rf"^input: line 31 of {server.url}/{LIST}: {server.url}/{ENTRIES[30]}: .* 404"
    ):
        find_shards([f"{server.url}/{LIST}"])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "names no file; a list holds one path a line"),
        (b"# only this\n", "names no file; a list holds one path a line"),
        (listing("a.gz")[:-9], "cannot be read: Compressed file ended before the end-of-stream marker"),
        (b"\xff\xfe", "is not UTF-8 text, plain or gzip"),
        (b"a.gz\nb\x00c\n", "line 2 of .* is no path: 'b.x00c'; a list holds one a line"),
        (b"x" * 9000, "line 1 of .* is no path"),
    ],
)
def test_what_is_no_list_is_an_error(tmp_path: Path, content: bytes, told: str) -> None:
    touch(tmp_path, "a.gz")
    (tmp_path / "x.paths").write_bytes(content)
    with pytest.raises(UsageError, match=told):
        find_shards([f"{tmp_path}/x.paths"])
