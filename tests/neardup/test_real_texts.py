"""Real documents: planted edits against brute force, and pairs that people made."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.neardup.support import SHARED, Doc, doc, edited, find, shingles
from tests.neardup.test_components import union_find


def real_documents(count: int) -> list[str]:
    paths = sorted((SHARED / "text").glob("*.parquet"))
    if not paths:
        pytest.skip(f"{SHARED / 'text'} is absent")
    rng = random.Random(11)
    texts: list[str] = []
    for path in paths:
        texts += sorted(set(pq.read_table(path, columns=["text"])["text"].slice(0, 600).to_pylist()))
    return rng.sample(sorted({t for t in texts if len(t) > 200}), count)


def similar_pairs(texts: list[str], least: float) -> dict[tuple[int, int], float]:
    """The exact Jaccard similarity of all pairs that reach `least`, by an inverted index over sets of shingles."""
    sets = [set(shingles(t)) for t in texts]
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    common: Counter[tuple[int, int]] = Counter()
    for j, own in enumerate(sets):
        for shingle in sorted(own):
            common.update((i, j) for i in holders[shingle])
            holders[shingle].append(j)
    exact = {(i, j): n / (len(sets[i]) + len(sets[j]) - n) for (i, j), n in common.items()}
    return {pair: value for pair, value in exact.items() if value >= least}


def test_recall_and_precision_on_real_documents(tmp_path: Path) -> None:
    rng = random.Random(12)
    texts = real_documents(1000)
    for original in texts[:500]:
        texts.append(edited(original, rng, max(1, round(rng.uniform(0, 0.03) * len(original.split(" "))))))
    docs = [doc(str(i), text, rng.randrange(3000)) for i, text in enumerate(texts)]
    found = find(tmp_path, docs)
    exact = similar_pairs(texts, 0.3)

    joined = [row["cluster_id"] if row else i for i, row in enumerate(found)]
    close = [pair for pair, value in exact.items() if value >= 0.85]
    caught = sum(joined[i] == joined[j] for i, j in close)
    print(f"{caught} of {len(close)} pairs of similarity 0.85 and more were joined")
    assert len(close) > 200
    assert caught >= 0.97 * len(close)

    # Four standard errors of the estimate at the threshold of 0.8.
    chains = union_find([(i, i) for i in range(len(docs))] + [p for p, v in exact.items() if v >= 0.8 - 4 * 0.0354])
    clusters = defaultdict(list)
    for i, cluster in enumerate(joined):
        clusters[cluster].append(chains[i])
    assert all(len(set(members)) == 1 for members in clusters.values())
    check_older(docs, found, exact)


def check_older(docs: list[Doc], found: list, exact: dict[tuple[int, int], float]) -> None:
    at = {d.doc_id: i for i, d in enumerate(docs)}
    claimed = [(i, row) for i, row in enumerate(found) if row and row["older_doc_id"]]
    assert len(claimed) > 150
    errors = []
    for i, row in claimed:
        j = at[row["older_doc_id"]]
        assert docs[j].captured_at == row["older_captured_at"]
        assert docs[j].captured_at < docs[i].captured_at
        errors.append(row["older_jaccard"] - exact[min(i, j), max(i, j)])
    assert max(map(abs, errors)) < 0.15
    assert abs(np.mean(errors)) < 0.02  # pairs below the threshold that pass lift the mean a little


@pytest.mark.parametrize("size", [100, 1000, 2500])
def test_planted_copies_of_mccormick_are_found(tmp_path: Path, size: int) -> None:
    docs, pairs = gold(f"mccormick_{size}")
    found = find(tmp_path, list(docs.values()))
    cluster = {name: row and row["cluster_id"] for name, row in zip(docs, found, strict=True)}
    planted = {(p["a"], p["b"]) for p in pairs}
    caught = {(a, b) for a, b in planted if cluster[a] is not None and cluster[a] == cluster[b]}
    print(f"mccormick_{size}: {len(caught)} of {len(planted)} planted pairs")
    assert caught == planted
    strangers = sum(row is not None for row in found) - len({name for pair in planted for name in pair})
    assert strangers == 0


def test_human_revisions_of_clough_and_stevenson_by_kind(tmp_path: Path) -> None:
    docs, pairs = gold("clough_stevenson")
    found = find(tmp_path, list(docs.values()))
    cluster = {name: row and row["cluster_id"] for name, row in zip(docs, found, strict=True)}
    joined: Counter[str] = Counter()
    for pair in pairs:
        joined[pair["kind"]] += cluster[pair["a"]] is not None and cluster[pair["a"]] == cluster[pair["b"]]
    total = Counter(pair["kind"] for pair in pairs)
    print({kind: f"{joined[kind]} of {total[kind]}" for kind in sorted(total)})
    assert joined["non"] == 0
    assert joined["heavy"] == 0


def gold(name: str) -> tuple[dict[str, Doc], list[dict]]:
    path = SHARED / "dedup" / f"{name}.docs.parquet"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    docs = {row["id"]: doc(row["id"], row["text"], i) for i, row in enumerate(pq.read_table(path).to_pylist())}
    return docs, pq.read_table(path.with_name(f"{name}.pairs.parquet")).to_pylist()
