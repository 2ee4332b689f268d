"""Digests taken while files are written are those of the files, and say where one has changed."""

import hashlib
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import files
from pipelines.reserve.manifest import (
    BLOCK,
    FileDigest,
    digest_file,
    digest_of,
    first_difference,
    manifest_bytes,
    read_manifest,
    write_bytes,
    write_parquet,
)


def by_hand(path: Path) -> FileDigest:
    data = path.read_bytes()
    blocks = tuple(f"{zlib.crc32(data[at : at + BLOCK]):08x}" for at in range(0, len(data), BLOCK))
    return FileDigest(path.name, len(data), hashlib.sha256(data).hexdigest(), blocks)


def test_digests_of_what_is_written(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    table = pa.table({"a": random.integers(0, 1 << 60, 500_000), "b": [str(i) for i in range(500_000)]})
    path = tmp_path / "a.parquet"
    found = write_parquet(str(path), "a.parquet", table, row_group_size=100_000)
    assert found == by_hand(path)
    assert found.blocks == by_hand(path).blocks
    assert len(found.blocks) > 3
    files.write_parquet(str(tmp_path / "b.parquet"), table, row_group_size=100_000)
    assert path.read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert pq.read_table(path).equals(table)
    assert digest_file(str(path), "a.parquet").blocks == found.blocks
    assert digest_file(str(path), "a.parquet") == found
    (tmp_path / "empty").write_bytes(b"")
    assert write_bytes(str(tmp_path / "empty"), "empty", b"") == by_hand(tmp_path / "empty")


@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5])
def test_where_a_file_changed(size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    sealed = digest_of(data, "f")
    assert first_difference(sealed, digest_of(data, "f")) is None
    for at in {0, size // 2, size - 1}:
        changed = bytearray(data)
        changed[at] ^= 4
        begin, end = first_difference(sealed, digest_of(bytes(changed), "f")) or (0, 0)
        assert begin <= at < end <= size
    assert first_difference(sealed, digest_of(data + b"x", "f")) == (size // BLOCK * BLOCK, size + 1)
    assert first_difference(sealed, digest_of(data[:-1], "f")) == ((size - 1) // BLOCK * BLOCK, size)


def test_manifests_are_read_as_written() -> None:
    digests = [digest_of(name.encode(), name) for name in ("reserve/ü", "index/a", "README.md")]
    content = manifest_bytes(digests)
    assert content == manifest_bytes(digests[::-1])
    assert read_manifest(content) == {one.file: one for one in digests}
    with pytest.raises(ValueError, match="twice"):
        manifest_bytes(digests * 2)
    lines = content.splitlines(keepends=True)
    with pytest.raises(ValueError, match=r"line 4: README\.md stands there twice"):
        read_manifest(content + lines[0])
    for wrong in (b"{}\n", b"no\n", b"[]\n", b'{"file":1,"size":1,"sha256":"","blocks":[]}\n'):
        with pytest.raises(ValueError, match="line 2"):
            read_manifest(lines[0] + wrong)
