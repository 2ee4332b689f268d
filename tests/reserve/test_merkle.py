import doctest
import tracemalloc
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.reserve import merkle, proofs, tile_files, tiles
from pipelines.reserve.merkle import EMPTY_ROOT, CompactRange, leaf_hash, leaf_hashes, root
from tests.reserve.brute_force import buffer, entries, hashes, mth

# The roots of the first trees over the leaves of Certificate Transparency's reference tests.
LEAVES = [b"", b"\x00", b"\x10", b"\x20\x21", b"\x30\x31", b"@ABC", b"PQRSTUVW", b"`abcdefghijklmno"]
ROOT_OF_8 = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


@pytest.mark.parametrize("module", [merkle, proofs, tile_files, tiles], ids=lambda m: m.__name__)
def test_examples_of_the_modules(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


def test_published_tree() -> None:
    assert root(hashes(LEAVES)).hex() == ROOT_OF_8
    assert sha256().digest() == EMPTY_ROOT == root(np.empty((0, 32), np.uint8))


def test_every_small_tree_and_some_larger_ones() -> None:
    d = entries(3001)
    leaves = hashes(d)
    for size in [*range(71), 127, 128, 129, 255, 256, 257, 1023, 1025, 2048, 3001]:
        assert root(leaves[:size]) == mth(d[:size]), size


def test_leaf_hashes_take_a_slice_of_a_buffer_in_any_form() -> None:
    d = entries(40)
    data, offsets = buffer(d)
    wanted = [leaf_hash(entry) for entry in d[7:31]]
    for form in (data, data.tobytes(), bytearray(data), memoryview(data.tobytes())):
        assert [bytes(row) for row in leaf_hashes(form, offsets[7:32])] == wanted
    assert leaf_hashes(data, offsets[:1]).shape == (0, 32)


def test_leaf_hashes_over_more_than_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    d = entries(101)
    whole = hashes(d)
    monkeypatch.setattr(merkle, "_BLOCK", 7)
    assert np.array_equal(hashes(d), whole)
    assert root(whole) == mth(d)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 90), min_size=1, max_size=6), st.data())
def test_a_tree_grown_in_pieces_is_the_tree(pieces: list[int], data: st.DataObject) -> None:
    d = entries(sum(pieces))
    leaves = hashes(d)
    grown = CompactRange()
    for piece in pieces:
        rows = leaves[grown.size : grown.size + piece]
        if data.draw(st.booleans()):
            grown.extend(rows)
        else:
            for row in rows:
                grown.append(bytes(row))
        assert len(grown.nodes) == grown.size.bit_count()
        if data.draw(st.booleans()):  # go on from what was kept of it
            grown = CompactRange(grown.size, grown.nodes)
        assert grown.root() == mth(d[: grown.size])


def test_nodes_are_the_largest_perfect_subtrees() -> None:
    d = entries(22)
    grown = CompactRange()
    grown.extend(hashes(d))
    assert grown.nodes == [mth(d[:16]), mth(d[16:20]), mth(d[20:])]


def test_appending_keeps_no_leaf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merkle, "_BLOCK", 1 << 10)
    grown, rows = CompactRange(), np.zeros((1 << 12, 32), np.uint8)
    grown.extend(rows)
    tracemalloc.start()
    grown.extend(rows)
    one = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    for _ in range(7):
        grown.extend(rows)
    many = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert many < one * 1.2


@pytest.mark.parametrize(("size", "nodes"), [(1, []), (3, [bytes(32)]), (0, [bytes(32)]), (1, [b"short"]), (-1, [])])
def test_refuses_nodes_that_do_not_fit(size: int, nodes: list[bytes]) -> None:
    with pytest.raises(ValueError, match=r"a tree of .* leaves has"):
        CompactRange(size, nodes)


@pytest.mark.parametrize("wrong", [np.zeros(32, np.uint8), np.zeros((2, 31), np.uint8), np.zeros((2, 32), np.int8)])
def test_refuses_what_is_no_array_of_hashes(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"uint8 of shape \(n, 32\)"):
        CompactRange().extend(wrong)
    with pytest.raises(ValueError, match="32 bytes"):
        CompactRange().append(b"short")
