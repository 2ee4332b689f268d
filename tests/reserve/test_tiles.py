import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pipelines.reserve.merkle import leaf_hash, root
from pipelines.reserve.proofs import consistency_proof, inclusion_proof, over, verify_consistency, verify_inclusion
from pipelines.reserve.tile_files import Tile, TileError, TileFolder, parse_name, strays, tiles_of
from pipelines.reserve.tiles import EMPTY, TileReader, TileWriter, Tree
from tests.crawls import digests
from tests.reserve.brute_force import buffer, entries, hashes, mth

D = entries(3000)
LEAVES = hashes(D)
MANY = 70_000  # three levels of tiles; the example of the specification


def write(folder: Path, d: list[bytes], tree: Tree = EMPTY) -> Tree:
    writer = TileWriter(str(folder), tree)
    writer.append(d)
    return writer.finish()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tree]:
    folder = tmp_path_factory.mktemp("many")
    return folder, write(folder, [b"%d" % number for number in range(MANY)])


def names(folder: Path) -> set[str]:
    return set(digests(folder))


@pytest.mark.parametrize(
    ("tile", "name"),
    [
        (Tile(0, 1234067), "tile/0/x001/x234/067"),
        (Tile(0, 0), "tile/0/000"),
        (Tile(1, 999, 17), "tile/1/999.p/17"),
        (Tile(2, 1000), "tile/2/x001/000"),
        (Tile(None, 1234067, 1), "tile/entries/x001/x234/067.p/1"),
    ],
)
def test_names(tile: Tile, name: str) -> None:
    assert tile.name == name
    assert parse_name(name) == tile


@pytest.mark.parametrize(
    "name",
    [
        *("tile/0/1", "tile/00/001", "tile/0/x000/001", "tile/0/x001", "tile/0/001/", "tile/0/001/002", "xtile/0/001"),
        *("tile/0/001.p/0", "tile/0/001.p/256", "tile/0/001.p/07", "tile/0/001.tmp-12", "tile/data/001", "checkpoint"),
    ],
)
def test_other_names_are_no_tiles(name: str) -> None:
    assert parse_name(name) is None


def test_the_tiles_of_the_specifications_example(many: tuple[Path, Tree]) -> None:
    wanted = {Tile(0, number) for number in range(273)} | {Tile(0, 273, 112), Tile(1, 0), Tile(1, 1, 17), Tile(2, 0, 1)}
    assert {tile for tile in tiles_of(MANY) if tile.level is not None} == wanted
    assert [tile.name for tile in tiles_of(256)] == ["tile/1/000.p/1", "tile/0/000", "tile/entries/000"]
    assert names(many[0]) == {tile.name for tile in tiles_of(MANY)}
    assert all(tile.of(MANY) for tile in tiles_of(MANY))


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 1000, 3000])
def test_files_hold_what_the_specification_says(size: int, tmp_path: Path) -> None:
    tree = write(tmp_path, D[:size])
    assert tree == (size, mth(D[:size]))
    for tile in tiles_of(size):
        found = (tmp_path / tile.name).read_bytes()
        begin = 256 * tile.number
        if tile.level is None:
            assert found == b"".join(len(e).to_bytes(2, "big") + e for e in D[begin : begin + tile.width])
        else:
            span = 256**tile.level
            starts = range(begin * span, (begin + tile.width) * span, span)
            assert found == b"".join(mth(D[start : start + span]) for start in starts)
    assert names(tmp_path) == {tile.name for tile in tiles_of(size)}


@pytest.mark.parametrize("size", [1, 3, 256, 257, 700, 3000])
def test_proofs_from_tiles_are_those_from_memory(size: int, tmp_path: Path) -> None:
    tree = write(tmp_path, D[:size])
    for reader in (TileReader(str(tmp_path), tree), TileReader(str(tmp_path), Tree(size, b""), checked=False)):
        assert reader.root() == tree.root
        for index in {0, 1, size // 3, size // 2, size - 1} & set(range(size)):
            assert reader.inclusion_proof(index) == inclusion_proof(over(LEAVES), index, size)
            assert reader.entry(index) == D[index]
        for old in {1, size // 3, size // 2, size - 1, size} - {0}:
            assert reader.consistency_proof(old) == consistency_proof(over(LEAVES), old, size)
            assert np.array_equal(reader.hashes(old // 2, old), LEAVES[old // 2 : old])
        assert list(reader.entries()) == D[:size]
        assert list(reader.entries(size // 2)) == D[size // 2 : size]
        assert list(reader.problems()) == []


def test_few_tiles_are_read_for_a_proof(many: tuple[Path, Tree], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, tree = many
    read: list[str] = []
    one = TileFolder.read

    def counted(self: TileFolder, tile: Tile) -> tuple[bytes, bool]:
        read.append(tile.name)
        return one(self, tile)

    monkeypatch.setattr(TileFolder, "read", counted)
    for index in (0, 255, 256, 40_000, 65_535, 65_536, MANY - 1):
        read.clear()
        proof = TileReader(str(folder), tree).inclusion_proof(index)
        assert len(read) <= 5
        verify_inclusion(leaf_hash(b"%d" % index), index, MANY, proof, tree.root)
    read.clear()
    proof = TileReader(str(folder), tree).consistency_proof(30_001)
    assert len(read) <= 5
    old = root(hashes([b"%d" % number for number in range(30_001)]))
    verify_consistency(30_001, MANY, old, tree.root, proof)


@pytest.mark.parametrize("cuts", [[0], [1], [255], [256], [257], [300, 301], [512, 512], [100, 700, 2999], [256, 768]])
def test_a_log_that_grew_is_the_log_and_keeps_what_was_sealed(cuts: list[int], tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", D)
    grown, tree, earlier = tmp_path / "grown", EMPTY, {}
    trees = []
    for begin, end in zip([0, *cuts], [*cuts, len(D)], strict=True):
        tree = write(grown, D[begin:end], tree)
        trees.append(tree)
        now = digests(grown) if grown.exists() else {}
        assert earlier.items() <= now.items()
        earlier = now
        for path in grown.rglob("*"):
            if path.is_file():
                path.chmod(0o444)
                os.utime(path, (1, 1))  # what is written again loses it
    assert tree == whole
    assert digests(tmp_path / "whole").items() <= earlier.items()
    assert set(earlier) == {tile.name for cut in [*cuts, len(D)] for tile in tiles_of(cut)}
    for older in trees:
        reader = TileReader(str(grown), older)
        assert list(reader.problems()) == []
        assert list(reader.entries()) == D[: older.size]


def test_nothing_sealed_is_written_again(tmp_path: Path) -> None:
    tree = write(tmp_path, D[:700])
    files = {path: path.stat().st_ino for path in tmp_path.rglob("*") if path.is_file()}
    write(tmp_path, D[700:2000], tree)
    write(tmp_path, [], tree)
    assert all(path.stat().st_ino == node for path, node in files.items())


def test_an_older_tree_is_read_where_its_partial_tiles_were_deleted(tmp_path: Path) -> None:
    tree = write(tmp_path, D[:300])
    write(tmp_path, D[300:], tree)
    for name in ("tile/0/001.p/44", "tile/entries/001.p/44"):
        (tmp_path / name).unlink()
    reader = TileReader(str(tmp_path), tree)
    assert list(reader.entries()) == D[:300]
    assert reader.inclusion_proof(299) == inclusion_proof(over(LEAVES), 299, 300)
    assert list(reader.problems()) == []
    (tmp_path / "tile/1/000.p/1").unlink()  # its full tile is not there
    with pytest.raises(TileError, match=r"tile/1/000\.p/1: is missing"):
        TileReader(str(tmp_path), tree).root()


def test_entries_in_one_buffer_give_the_same_files(tmp_path: Path) -> None:
    wanted = write(tmp_path / "list", D)
    rng = np.random.default_rng(3)
    cuts = [0, *sorted(rng.integers(0, len(D), 9).tolist()), len(D)]
    writer = TileWriter(str(tmp_path / "buffer"))
    data, offsets = buffer(D)
    for begin, end in pairwise(cuts):
        writer.extend(data, offsets[begin : end + 1])
    assert writer.finish() == wanted
    assert digests(tmp_path / "list") == digests(tmp_path / "buffer")


def test_a_writer_that_was_killed_starts_again(tmp_path: Path) -> None:
    tree = write(tmp_path / "whole", D[:300])
    write(tmp_path / "killed", D[:300])
    killed = TileWriter(str(tmp_path / "killed"), tree)
    killed.append(D[300:2000])  # and is not finished
    (tmp_path / "killed/tile/0/003.tmp-1").write_bytes(b"half")
    lost = set(strays(str(tmp_path / "killed"), [300]))
    assert lost == {str(tmp_path / "killed" / n) for n in names(tmp_path / "killed") - names(tmp_path / "whole")}
    write(tmp_path / "whole", D[300:2500], tree)
    write(tmp_path / "killed", D[300:2500], tree)
    assert list(strays(str(tmp_path / "killed"), [300, 2500])) == [str(tmp_path / "killed/tile/0/003.tmp-1")]
    (tmp_path / "killed/tile/0/003.tmp-1").unlink()
    assert digests(tmp_path / "whole") == digests(tmp_path / "killed")


def test_finishing_twice_and_going_on(tmp_path: Path) -> None:
    writer = TileWriter(str(tmp_path / "a"))
    writer.append(D[:10])
    assert writer.finish() == writer.finish() == (10, mth(D[:10]))
    writer.append(D[10:600])
    assert writer.finish() == write(tmp_path / "b", D[:600])


@pytest.mark.parametrize("entry", [b"", b"\x00" * 65_535])
def test_the_shortest_and_the_longest_entry(entry: bytes, tmp_path: Path) -> None:
    tree = write(tmp_path, [b"first", entry, b"last"])
    assert list(TileReader(str(tmp_path), tree).entries()) == [b"first", entry, b"last"]


def test_refuses_a_longer_entry(tmp_path: Path) -> None:
    writer = TileWriter(str(tmp_path))
    writer.append(D[:300])
    with pytest.raises(ValueError, match="entry 301 has 65536 bytes; a bundle holds entries of up to 65535"):
        writer.append([b"", bytes(65_536)])
    assert writer.finish() == (300, mth(D[:300]))


def test_no_entry_beyond_the_end(tmp_path: Path) -> None:
    reader = TileReader(str(tmp_path), write(tmp_path, D[:5]))
    for index in (-1, 5):
        with pytest.raises(IndexError, match=f"entry {index} of 5"):
            reader.entry(index)
    with pytest.raises(ValueError, match="leaves 3 to 6 of a tree of 5"):
        reader.hashes(3, 6)


def flip(content: bytes) -> bytes:
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes | None]] = {
    "one bit": flip,
    "cut": lambda content: content[:-1],
    "one byte more": lambda content: content + b"\x00",
    "empty": lambda content: b"",
    "two hashes exchanged": lambda content: content[32:64] + content[:32] + content[64:],
    "missing": lambda content: None,
}
SOME = ["tile/0/000", "tile/0/100", "tile/0/272", "tile/0/273.p/112", "tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1"]
SOME += ["tile/entries/000", "tile/entries/200", "tile/entries/273.p/112"]


# Each kind of damage on one tile, and each tile with one kind of damage.
CASES = [("tile/0/100", damage) for damage in DAMAGE]
CASES += [(name, list(DAMAGE)[number % 4]) for number, name in enumerate(SOME) if name != "tile/0/100"]


@pytest.mark.parametrize(("name", "damage"), CASES)
def test_names_the_file_that_was_changed(name: str, damage: str, many: tuple[Path, Tree]) -> None:
    folder, tree = many
    target = folder / name
    content = target.read_bytes()
    changed = DAMAGE[damage](content)
    assert changed != content
    try:
        if changed is None:
            target.unlink()
        else:
            target.write_bytes(changed)
        found = list(TileReader(str(folder), tree).problems())
        assert [error.path for error in found] == [str(target)]
        assert str(found[0]).startswith(f"{target}: ")
    finally:
        target.write_bytes(content)


def test_names_the_entry_that_was_changed(many: tuple[Path, Tree]) -> None:
    folder, tree = many
    target = folder / "tile/entries/150"
    content = target.read_bytes()
    try:
        target.write_bytes(content.replace(b"38407", b"38408", 1))
        (error,) = TileReader(str(folder), tree).problems()
        assert str(error) == f"{target}: entry 38407 is not the one that was sealed"
        with pytest.raises(TileError, match="entry 38407 is not the one"):
            TileReader(str(folder), tree).entry(38407)
        assert TileReader(str(folder), tree).entry(38406) == b"38406"
    finally:
        target.write_bytes(content)


def test_two_changed_files_are_both_named(many: tuple[Path, Tree]) -> None:
    folder, tree = many
    targets = [folder / "tile/0/010", folder / "tile/entries/011", folder / "tile/0/200"]
    contents = [target.read_bytes() for target in targets]
    try:
        for target, content in zip(targets, contents, strict=True):
            target.write_bytes(flip(content))
        found = [error.path for error in TileReader(str(folder), tree).problems()]
        assert found == [str(target) for target in targets]
    finally:
        for target, content in zip(targets, contents, strict=True):
            target.write_bytes(content)


def test_a_wrong_tile_is_found_before_a_proof_is_made_of_it(many: tuple[Path, Tree]) -> None:
    folder, tree = many
    target = folder / "tile/0/100"
    content = target.read_bytes()
    try:
        target.write_bytes(flip(content))
        with pytest.raises(TileError, match=r"tile/0/100: its hashes are not those that the tile above"):
            TileReader(str(folder), tree).inclusion_proof(25_700)
        assert TileReader(str(folder), tree).inclusion_proof(0)
    finally:
        target.write_bytes(content)


def test_another_root_is_told_from_a_wrong_tile(many: tuple[Path, Tree]) -> None:
    folder, tree = many
    (error,) = TileReader(str(folder), Tree(MANY, bytes(32))).problems()
    assert f"has another root, {tree.root.hex()}" in str(error)
    with pytest.raises(TileError, match="another root"):
        TileWriter(str(folder), Tree(MANY, bytes(32)))


def test_does_not_go_on_from_entries_that_are_not_the_sealed_ones(tmp_path: Path) -> None:
    tree = write(tmp_path, D[:300])
    target = tmp_path / "tile/entries/001.p/44"
    target.write_bytes(flip(target.read_bytes()))
    with pytest.raises(TileError, match=r"entries/001\.p/44: its entries are not those"):
        TileWriter(str(tmp_path), tree)


def test_a_folder_on_another_filesystem_is_reached_through_the_project_s_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = write(tmp_path / "local", D[:700])
    monkeypatch.setattr("pipelines.files.is_local", lambda path: False)
    first = write(tmp_path / "far", D[:300])
    assert write(tmp_path / "far", D[300:700], first) == wanted
    assert digests(tmp_path / "local").items() <= digests(tmp_path / "far").items()
    (tmp_path / "far/tile/0/001.p/44").unlink()
    assert TileReader(str(tmp_path / "far"), first).entry(299) == D[299]
    (tmp_path / "far/tile/0/000").unlink()
    with pytest.raises(TileError, match=r"far/tile/0/000: is missing"):
        TileReader(str(tmp_path / "far"), first).inclusion_proof(5)
