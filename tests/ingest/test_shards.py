"""Globs to shards: every file once, with names that do not depend on where a crawl lies."""

from pathlib import Path

import pytest

from pipelines.errors import UsageError
from pipelines.ingest.shards import find_shards


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
