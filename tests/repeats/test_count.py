from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.repeats import count
from pipelines.repeats.count import PARAGRAPHS_KEY, ShardParagraphs, ranges_for
from pipelines.repeats.options import Repeats
from pipelines.repeats.pairs import PAIR, by_range, recurring_of
from tests.neardup.test_shingles import SCRIPTS
from tests.repeats.support import Doc, Key, counted, hash_of, recurring_rows, run, write_shard

OPTIONS = Repeats(mode="count", hosts=3, letters=8)


def crawl(seed: int, documents: int = 300) -> list[Doc]:
    """Pages of a few dozen hosts, some unknown; few lines recur often, many twice; some pages leave as copies."""
    rng = random.Random(seed)
    words = [w for s in SCRIPTS.values() for w in s.split()]
    stock = [" ".join(rng.choices(words, k=rng.randint(1, 9))) for _ in range(250)]
    docs = []
    for _ in range(documents):
        host = rng.choice([None, *(f"h{int(rng.paretovariate(0.6)) % 40}.example" for _ in range(6))])
        lines = [stock[min(int(rng.paretovariate(0.5)), 249)] for _ in range(rng.randint(0, 12))]
        shown = [rng.choice([line, line.upper(), f"  {line} …"]) for line in lines]
        docs.append(Doc(host, "".join(s + rng.choice(["\n", "\r\n", "\n\n"]) for s in shown), rng.random() < 0.2))
    return docs


def written(folder: Path, docs: list[Doc], count: int, letters: int = 8) -> list[ShardParagraphs]:
    return [write_shard(folder, f"shard-{i}", docs[i::count], letters) for i in range(count)]


def hashed(found: dict[Key, tuple[int, int, int]]) -> dict[int, tuple[int, int, int]]:
    return {hash_of(" ".join(words)): numbers for words, numbers in found.items()}


def contents(shards: list[ShardParagraphs], table: Path) -> list[bytes]:
    return [Path(shard.recurring).read_bytes() for shard in sorted(shards)] + [table.read_bytes()]


def test_counts_are_those_of_plain_python(tmp_path: Path) -> None:
    docs = crawl(1)
    shards = written(tmp_path, docs, 4)
    run(shards, OPTIONS, tmp_path / "largest")
    expected = hashed(counted(docs, 3, 8))
    assert 30 < len(expected) < 200
    for number, shard in enumerate(shards):
        here = hashed(counted(docs[number::4], 1, 8))
        assert recurring_rows(shard) == {h: n for h, n in expected.items() if h in here}
    largest = pq.read_table(tmp_path / "largest")
    assert largest.schema.metadata[PARAGRAPHS_KEY.encode()] == str(len(expected)).encode()
    order = sorted(expected, key=lambda h: (-expected[h][2], h))
    assert largest["paragraph"].to_pylist() == order
    assert [(r["hosts"], r["documents"], r["bytes"]) for r in largest.to_pylist()] == [expected[h] for h in order]


def test_hosts_are_counted_and_not_pages(tmp_path: Path) -> None:
    lines = [f"Subscribe to newsletter {number:02d}" for number in range(9)]
    size = len(lines[0])
    a, b, c, unknown = "a.example", "b.example", "c.example", None
    pages: list[tuple[int, str | None, int, bool]] = [  # line, host, how often on the page, removed as a copy
        *[(0, a, 50, False)] * 50,  # one host, many times
        *[(1, host, 1, False) for host in (a, b) * 20],  # two hosts
        *[(2, host, 1, False) for host in (a, b, c)],  # three hosts
        *[(3, host, n, False) for host, n in ((a, 1), (b, 1), (c, 2))],  # a page counts once, its bytes as often
        *[(4, host, 1, False) for host in (a, b, unknown, unknown)],  # unknown hosts count as one
        *[(5, unknown, 1, False)] * 9,
        *[(6, host, 1, host == c) for host in (a, b, c)],  # copies that leave do not count
        *[(7, host, 1, host == "d.example") for host in (a, b, c, "d.example")],  # and add nothing to what does
    ]
    docs = [Doc(host, f"{lines[line]}\n" * often, removed) for line, host, often, removed in pages]
    docs += [Doc(host, "Home\nNews") for host in (a, b, c)] + [Doc(a, "")]  # too short
    shards = [*written(tmp_path, docs, 2), write_shard(tmp_path, "empty", [], 8)]
    run(shards, OPTIONS, tmp_path / "largest")
    found = {h: n for shard in shards for h, n in recurring_rows(shard).items()}
    expected = {2: (3, 3, 3 * size), 3: (3, 3, 4 * size), 4: (3, 4, 4 * size), 7: (3, 3, 3 * size)}
    assert found == {hash_of(lines[line]): numbers for line, numbers in expected.items()}
    assert recurring_rows(shards[-1]) == {}


def test_a_crawl_without_text_gives_empty_files(tmp_path: Path) -> None:
    shards = written(tmp_path, [], 2)
    run(shards, OPTIONS, tmp_path / "largest")
    assert [recurring_rows(shard) for shard in shards] == [{}, {}]
    assert pq.read_table(tmp_path / "largest").num_rows == 0


def test_the_bytes_do_not_depend_on_order_or_ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards, table = written(tmp_path, crawl(2), 5), tmp_path / "largest"
    run(shards, OPTIONS, table)
    expected = contents(shards, table)
    assert sum(len(recurring_rows(shard)) for shard in shards) > 100
    for ranges in (1, 700):
        monkeypatch.setattr(count, "ranges_for", lambda _, ranges=ranges: ranges)
        run([shards[i] for i in (3, 0, 4, 1, 2)], OPTIONS, table)
        assert contents(shards, table) == expected


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_workers(tmp_path: Path) -> None:
    shards, table = written(tmp_path, crawl(2), 5), tmp_path / "largest"
    run(shards, OPTIONS, table)
    expected = contents(shards, table)
    for shard in shards:
        Path(shard.recurring).unlink()
    run(shards, OPTIONS, table, direct_running_mode="multi_processing", direct_num_workers=2)
    assert contents(shards, table) == expected


def test_how_documents_lie_in_shards_changes_no_count(tmp_path: Path) -> None:
    docs = crawl(3)
    found = []
    for number in (1, 7):
        shards = written(tmp_path / str(number), docs, number)
        run(shards, OPTIONS, tmp_path / str(number) / "largest")
        found.append({h: n for shard in shards for h, n in recurring_rows(shard).items()})
    assert found[0] == found[1] == hashed(counted(docs, 3, 8))


def test_the_table_holds_the_largest_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = crawl(4)
    shards = written(tmp_path, docs, 3)
    monkeypatch.setattr(count, "LARGEST", 7)
    run(shards, OPTIONS, tmp_path / "largest")
    expected = hashed(counted(docs, 3, 8))
    table = pq.read_table(tmp_path / "largest")
    assert table["bytes"].to_pylist() == sorted((n[2] for n in expected.values()), reverse=True)[:7]
    assert table.schema.metadata[PARAGRAPHS_KEY.encode()] == str(len(expected)).encode()


def test_two_shards_of_one_name_are_refused(tmp_path: Path) -> None:
    shard = ShardParagraphs("a", "", "", "")
    with pytest.raises(ValueError, match="same name"):
        count.CountRepeats([shard, shard], OPTIONS, str(tmp_path))


@pytest.mark.parametrize("ranges", [1, 2, 3, 16, 4096])
def test_ranges_cover_all_hashes_in_order(ranges: int) -> None:
    rng = np.random.default_rng(ranges)
    pairs = np.zeros(5000, PAIR)
    pairs["paragraph"] = np.sort(rng.integers(0, 2**64, 5000, np.uint64))
    pairs["paragraph"][-1] = 2**64 - 1
    numbers, pieces = zip(*by_range(pairs, ranges), strict=True)
    assert list(numbers) == sorted(set(numbers))
    assert max(numbers) < ranges
    assert np.array_equal(np.concatenate(pieces), pairs)
    if ranges <= 16:
        assert len(pieces) == ranges
        assert max(map(len, pieces)) < 1.3 * 5000 / ranges
    assert list(by_range(pairs[:0], ranges)) == []


def test_more_shards_are_cut_finer_within_bounds() -> None:
    assert [ranges_for(n) for n in (0, 1, 8, 100, 10_000, 10**9)] == [16, 16, 32, 160, 1600, 4096]


def test_a_paragraph_on_very_many_hosts_counts_exactly() -> None:
    rng = np.random.default_rng(0)
    pairs = np.zeros(400_000, PAIR)
    pairs["paragraph"] = np.where(np.arange(400_000) < 300_000, 7, rng.integers(0, 2**63, 400_000))
    pairs["host"] = rng.permutation(np.arange(400_000) // 2)
    pairs["documents"], pairs["bytes"] = 1, 2**31
    found = recurring_of(rng.permutation(pairs), 10)
    hot = pairs[pairs["paragraph"] == 7]
    assert found.tolist() == [(7, len(set(hot["host"].tolist())), len(hot), len(hot) * 2**31)]


def test_counts_of_large_groups_do_not_overflow() -> None:
    pairs = np.zeros(12, PAIR)
    pairs["host"], pairs["documents"], pairs["bytes"] = np.arange(12), 2**32 - 1, 2**32 - 1
    assert recurring_of(pairs, 10).tolist() == [(0, 12, 12 * (2**32 - 1), 12 * (2**32 - 1))]
    assert recurring_of(pairs, 13).tolist() == []
