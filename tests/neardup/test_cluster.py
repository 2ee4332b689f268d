from __future__ import annotations

import itertools
import random
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.neardup.bands import parameters
from pipelines.neardup.candidates import ShardSignatures
from pipelines.neardup.options import NearDup
from pipelines.neardup.texts import TextColumn
from pipelines.neardup.verify import zone
from tests.neardup.support import (
    START,
    Doc,
    doc,
    edited,
    find,
    jaccard,
    rows,
    run,
    shingles,
    vocabulary,
    write_shard,
    write_shards,
)
from tests.neardup.test_components import union_find
from tests.neardup.test_shingles import SCRIPTS


def generated(seed: int, originals: int = 120, copies: int = 4) -> list[Doc]:
    """Originals, each followed by copies in which more and more words are changed; half are captured earlier."""
    rng = random.Random(seed)
    words = vocabulary(rng)
    docs = []
    for i in range(originals):
        text = " ".join(rng.choices(words, k=rng.randint(80, 400)))
        docs.append(doc(f"original {i}", text, rng.randint(500, 1000)))
        for copy in range(copies):
            changed = edited(text, rng, round(copy * len(text.split()) / 100))
            docs.append(doc(f"copy {i}.{copy}", changed, rng.choice([None, *range(0, 1500, 100)])))
    rng.shuffle(docs)
    return docs


def unit(folder: Path, name: str) -> ShardSignatures:
    """A shard that `write_shards` wrote."""
    paths = [str(folder / f"{name}.{kind}.parquet") for kind in ("signatures", "clusters", "texts")]
    return ShardSignatures(name, *paths[:2], TextColumn(paths[2]))


def signatures(shards: list[ShardSignatures], count: int) -> np.ndarray:
    """The signatures in the order of the documents that were dealt out."""
    values = [pq.read_table(s.signatures)["signature"].to_pylist() for s in shards]
    return np.stack([np.frombuffer(values[i % len(shards)][i // len(shards)], "<u4") for i in range(count)])


def estimates(shards: list[ShardSignatures], count: int) -> np.ndarray:
    """The estimated similarity of all pairs."""
    values = signatures(shards, count)
    return np.stack([(values == row).mean(axis=1) for row in values])


def candidate_bands(shards: list[ShardSignatures], count: int) -> list[list[tuple[int, ...]]]:
    """Each document's bands, cut by hand from its signature."""
    bands, width = parameters(0.8, 128)
    return [
        [(band, *row[band * width : (band + 1) * width]) for band in range(bands)]
        for row in signatures(shards, count).tolist()
    ]


def contents(shards: list[ShardSignatures]) -> list[bytes]:
    return [Path(shard.clusters).read_bytes() for shard in sorted(shards)]


@pytest.mark.parametrize("verify", ["exact", "estimate"])
def test_clusters_are_those_of_brute_force(tmp_path: Path, verify: Literal["exact", "estimate"]) -> None:
    docs = generated(1, originals=60)
    options = NearDup(verify=verify)
    found = find(tmp_path, docs, options)
    shards = [unit(tmp_path, f"shard-{i}") for i in range(3)]
    estimated = estimates(shards, len(docs))
    sets = [set(shingles(d.text)) for d in docs]
    true = np.array([[jaccard(a, b) for b in sets] for a in sets])
    limits = zone(0.8, 128, verify == "exact")
    agreeing = np.rint(estimated * 128)
    verified = ((true >= 0.8) & (agreeing >= limits.low)) | (agreeing >= limits.high)

    bands = candidate_bands(shards, len(docs))
    pairs = list(itertools.combinations(range(len(docs)), 2))
    candidates = union_find([(i, i) for i in range(len(docs))] + [p for p in pairs if meet(bands, *p)])
    edges = [(i, j) for i, j in pairs if verified[i, j] and candidates[i] == candidates[j]]
    roots = union_find(edges)
    clusters: dict[int, list[int]] = {}
    for i, root in roots.items():
        clusters.setdefault(root, []).append(i)
    assert [row is not None for row in found] == [i in roots for i in range(len(docs))]
    for members in clusters.values():
        assert len({found[i]["cluster_id"] for i in members}) == 1
        assert {found[i]["cluster_size"] for i in members} == {len(members)}
    assert len({row["cluster_id"] for row in found if row}) == len(clusters)

    close = [(i, j) for i, j in pairs if true[i, j] >= 0.85]
    assert len(close) > 150
    assert sum((i, j) in set(edges) for i, j in close) >= 0.98 * len(close)
    # Four standard errors of the estimate at 0.8, where it decides.
    assert min(true[pair] for pair in edges) >= (0.8 if verify == "exact" else 0.8 - 4 * 0.0354)
    check_choices(docs, found, list(clusters.values()), verified, true if verify == "exact" else estimated)


def meet(bands: list[list[tuple[int, ...]]], i: int, j: int) -> bool:
    return not set(bands[i]).isdisjoint(bands[j])


def check_choices(
    docs: list[Doc],
    found: list[dict[str, Any] | None],
    clusters: list[list[int]],
    verified: np.ndarray,
    similarity: np.ndarray,
) -> None:
    def order(i: int) -> tuple[bool, Any, bytes]:
        when = docs[i].captured_at
        return (when is None, when or START, docs[i].doc_id)

    def told(i: int, j: int) -> np.float32:
        return np.float32(similarity[i, j])

    def kept_order(i: int) -> Any:
        return (*order(i)[:2], -len(docs[i].text.encode()), docs[i].doc_id)

    for members in clusters:
        first = min(members, key=kept_order)
        for i in members:
            row = found[i]
            assert row is not None
            assert row["cluster_id"] == docs[first].doc_id
            assert row["kept"] == (i == first)
            assert row["jaccard"] == told(i, first)
            like = min((j for j in members if j != i and verified[i, j]), key=order)
            older = order(like)[:2] < order(i)[:2]
            assert row["older_doc_id"] == (docs[like].doc_id if older else None)
            assert row["older_captured_at"] == (docs[like].captured_at if older else None)
            assert row["older_jaccard"] == (told(i, like) if older else None)


@pytest.mark.slow
def test_the_result_does_not_depend_on_ranges_order_batches_or_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = generated(2, originals=40)
    options = NearDup()
    shards = write_shards(tmp_path, docs, 5, options)
    run(shards, options)
    expected = contents(shards)
    assert sum(map(len, (rows(s) for s in shards))) > 80
    run(shards[::-1], options.model_copy(update={"ranges": 1}))
    assert contents(shards) == expected
    run([shards[i] for i in (3, 0, 4, 1, 2)], options.model_copy(update={"ranges": 50}))
    assert contents(shards) == expected
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.neardup.candidates._BATCH_ROWS", 7)
        patch.setattr("pipelines.neardup.candidates._SHRINK_BYTES", 100)
        patch.setattr("pipelines.neardup.texts._ROWS", 3)
        run(shards, options)
    assert contents(shards) == expected
    for shard in shards:
        Path(shard.clusters).unlink()
    run(shards, options, direct_running_mode="multi_processing", direct_num_workers=2)
    assert contents(shards) == expected
    for shard in shards:
        Path(shard.clusters).unlink()
    counters = run(shards, options.model_copy(update={"forest_edges": 0}))
    assert contents(shards) == expected, "rounds over files give what one process gives"
    assert not counters.get("pairs_unchecked")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        Path(path).name for s in shards for path in (s.signatures, s.clusters, s.texts.path)
    )


def test_how_documents_lie_in_shards_does_not_change_the_clusters(tmp_path: Path) -> None:
    docs = generated(3, originals=40)
    one = find(tmp_path / "one", docs, shards=1)
    many = find(tmp_path / "many", docs, shards=7)

    def facts(found: list[dict[str, Any] | None]) -> list[Any]:
        return [row and {key: value for key, value in row.items() if key not in ("row", "kept_unit")} for row in found]

    assert facts(one) == facts(many)


def test_earliest_capture_stays_and_unknown_times_come_last(tmp_path: Path) -> None:
    text = " ".join(f"word{i}" for i in range(60))
    docs = [doc("a", text, None), doc("b", text, 9), doc("c", text, 3), doc("d", text.upper(), 3), doc("e", "alone", 0)]
    found = find(tmp_path, docs)
    first = min(docs[2:4], key=lambda d: d.doc_id)
    assert [row and row["kept"] for row in found] == [d is first for d in docs[:4]] + [None]
    assert {row["cluster_id"] for row in found if row} == {first.doc_id}
    assert [row and row["older_doc_id"] for row in found] == [first.doc_id, first.doc_id, None, None, None]
    assert found[0] is not None
    assert found[0]["older_captured_at"] == START + timedelta(days=3)
    assert {row["jaccard"] for row in found if row} == {1.0}


def test_the_same_capture_in_two_shards_stays_once_in_the_first_place(tmp_path: Path) -> None:
    twin = doc("twin", "the same page of the same crawl, which lies in two shards", 5)
    other = doc("other", "something else altogether, and only once in all of the shards", 5)
    options = NearDup()
    shards = [
        write_shard(tmp_path, name, docs, options)
        for name, docs in (("b", [twin, twin]), ("a", [other, twin]), ("c", []))
    ]
    run(shards, options)
    b, a, c = (rows(shard) for shard in shards)
    assert {row: found["kept"] for row, found in a.items()} == {1: True}
    assert {row: found["kept"] for row, found in b.items()} == {0: False, 1: False}
    assert c == {}
    assert {found["cluster_size"] for found in (*a.values(), *b.values())} == {3}


def test_short_texts_and_other_scripts_do_not_collapse(tmp_path: Path) -> None:
    halves = [half for text in SCRIPTS.values() for half in (text[: len(text) // 2], text[len(text) // 2 :])]
    short = ["", ".", "!?", "🙂", "ok", "no", "はい", "نعم", "ใช่", "是", "네", "não", "Read more", "Mehr lesen"]
    docs = [doc(text, text, i) for i, text in enumerate([*halves, *short])]
    assert find(tmp_path, docs) == [None] * len(docs)


def test_twenty_thousand_identical_documents(tmp_path: Path) -> None:
    docs = [doc(str(i), "All rights reserved. This domain is for sale; ask us for a price.", i) for i in range(20000)]
    found = find(tmp_path, docs)
    assert [row and row["kept"] for row in found] == [True] + [False] * 19999
    assert {row and row["older_doc_id"] for row in found[1:]} == {docs[0].doc_id}
    assert {row and row["cluster_size"] for row in found} == {20000}


def test_threshold_one_joins_equal_signatures_only(tmp_path: Path) -> None:
    text = " ".join(f"word{i}" for i in range(300))
    docs = [doc("a", text), doc("b", text + "!"), doc("c", text.replace("word7 ", "other "))]
    assert [bool(row) for row in find(tmp_path, docs, NearDup(threshold=1.0))] == [True, True, False]


def test_every_shard_gets_a_file_and_disabled_means_empty(tmp_path: Path) -> None:
    docs = [doc(str(i), "the same text in every one of these documents", i) for i in range(4)]
    options = NearDup(enabled=False)
    shards = write_shards(tmp_path, docs, 6, options)  # two of the six are empty
    run(shards, options)
    assert [len(rows(shard)) for shard in shards] == [0] * 6
    run(shards, NearDup())
    assert [len(rows(shard)) for shard in shards] == [1, 1, 1, 1, 0, 0]


def test_errors_name_the_file(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, [doc("a", "text")], 1, NearDup(permutations=64))
    with pytest.raises(Exception, match=r"shard-0\.signatures\.parquet: signatures are .*128 permutations"):
        run(shards, NearDup())
    assert not Path(shards[0].clusters).exists()
    Path(shards[0].signatures).unlink()
    with pytest.raises(Exception, match=r"shard-0\.signatures\.parquet"):
        run(shards, NearDup())
    with pytest.raises(ValueError, match="same name"):
        run([*shards, *shards], NearDup())
