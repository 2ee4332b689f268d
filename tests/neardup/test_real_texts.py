"""Real documents: planted edits against brute force, known copies in a crawl, and pairs that people made."""

from __future__ import annotations

import functools
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from benchmarks import near_duplicate_crawl as crawl
from benchmarks import near_duplicate_quality as quality
from benchmarks.near_duplicate_quality import EDITS, Pairs, exact_pairs, gold_pairs, joined, plant, unchained
from pipelines.neardup.bands import parameters
from pipelines.neardup.options import NearDup
from tests.neardup.support import SHARED, Doc, doc, find, tokens

ROUNDING = 1e-6  # of a similarity stored as float32
THRESHOLD = NearDup().threshold


class Edited(NamedTuple):
    """Real documents and an edited copy of each, with the exact similarity of all pairs, and what the engine finds."""

    texts: list[str]
    docs: list[Doc]
    exact: Pairs
    found: list[dict[str, Any] | None]


def real_documents(count: int) -> list[str]:
    return list(drawn()[:count])


@functools.cache
def drawn() -> tuple[str, ...]:
    return tuple(quality.real_documents(shared("text"), 2000, random.Random(11)))


def shared(*parts: str) -> Path:
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{path} is absent")
    return path


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Edited:
    rng = random.Random(12)
    originals = real_documents(1000)
    kinds = sorted(EDITS)
    texts = originals + [plant(text, kinds[i % len(kinds)], originals, rng) for i, text in enumerate(originals)]
    docs = [doc(str(i), text, rng.randrange(3000)) for i, text in enumerate(texts)]
    found = find(tmp_path_factory.mktemp("edited"), docs)
    return Edited(texts, docs, exact_pairs(texts, 0.4, NearDup().shingle), found)


def test_two_ways_to_the_tokens_of_real_texts_agree() -> None:
    texts = real_documents(100)
    assert [quality.tokens(text) for text in texts] == [tokens(text) for text in texts]


def test_sparse_products_give_the_exact_similarity_of_all_pairs() -> None:
    rng = random.Random(5)
    texts = [" ".join(rng.choices("abc", k=rng.randint(1, 12))) for _ in range(120)]
    sets = [quality.shingles(text, 3) for text in texts]
    slow = {(i, j): quality.similarity(sets[i], sets[j]) for j in range(len(texts)) for i in range(j)}
    fast = exact_pairs(texts, 0.3, 3)
    values = dict(zip(zip(fast.i.tolist(), fast.j.tolist(), strict=True), fast.jaccard.tolist(), strict=True))
    assert len(values) > 100
    assert values == {pair: pytest.approx(value) for pair, value in slow.items() if value >= 0.3}


def test_recall_of_real_documents_with_planted_edits(edited: Edited) -> None:
    together = joined(edited.found, edited.exact)
    for least, recall in ((THRESHOLD, 0.97), (0.85, 0.98), (0.9, 0.999)):
        close = edited.exact.jaccard >= least
        print(f"{together[close].sum()} of {close.sum()} pairs of similarity {least} and more were joined")
        assert close.sum() > 150
        assert together[close].mean() >= recall


def test_nothing_is_joined_below_the_threshold_but_by_a_chain(edited: Edited) -> None:
    assert joined(edited.found, edited.exact).sum() > 300
    assert unchained(edited.found, edited.exact, THRESHOLD) == 0
    # The check itself sees a pair that is not alike.
    wrong = list(edited.found)
    one, other = [i for i, row in enumerate(edited.found) if row and row["kept"]][:2]
    wrong[one] = wrong[other]
    assert unchained(wrong, edited.exact, THRESHOLD) > 0


def test_older_twins_reach_the_threshold(edited: Edited) -> None:
    at = {d.doc_id: i for i, d in enumerate(edited.docs)}
    exact = {(i, j): value for i, j, value in zip(*(column.tolist() for column in edited.exact), strict=True)}
    claimed = [(i, row) for i, row in enumerate(edited.found) if row and row["older_doc_id"]]
    assert len(claimed) > 150
    errors = []
    for i, row in claimed:
        j = at[row["older_doc_id"]]
        assert edited.docs[j].captured_at == row["older_captured_at"] < edited.docs[i].captured_at
        true = exact[min(i, j), max(i, j)]
        assert true >= THRESHOLD
        assert row["older_jaccard"] >= THRESHOLD - ROUNDING
        errors.append(row["older_jaccard"] - true)
    assert max(map(abs, errors)) < 0.15  # beyond the grey zone the estimate is given
    assert abs(np.mean(errors)) < 0.01


def test_candidates_follow_the_curve_of_the_bands(edited: Edited) -> None:
    met = quality.candidates(edited.texts, edited.exact, NearDup())
    banding = parameters(THRESHOLD, NearDup().permutations)
    expected = 1 - (1 - edited.exact.jaccard**banding.rows) ** banding.bands
    for low in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        here = (edited.exact.jaccard >= low) & (edited.exact.jaccard < low + 0.1)
        spread = np.sqrt((expected[here] * (1 - expected[here])).sum())
        assert here.sum() > 50
        assert abs(met[here].sum() - expected[here].sum()) < 4.5 * spread + 1, low


def test_estimates_alone_err_by_their_standard_error(tmp_path: Path, edited: Edited) -> None:
    part = [*edited.docs[:300], *edited.docs[1000:1300]]
    found = find(tmp_path, part, NearDup(verify="estimate"))
    exact = exact_pairs([d.text for d in part], 0.4, NearDup().shingle)
    close = exact.jaccard >= 0.85 + 4 * 0.0316
    assert joined(found, exact)[close].all()
    assert unchained(found, exact, THRESHOLD - 4 * 0.0354) == 0


@pytest.mark.parametrize("size", [100, 1000, 2500])
def test_planted_copies_of_mccormick_are_found_and_nothing_else(tmp_path: Path, size: int) -> None:
    result = gold_pairs(shared("dedup"), f"mccormick_{size}", tmp_path, NearDup())
    assert result.total.total() in (5, 10, 20)
    assert result.caught == result.total
    assert result.others == []


def test_human_revisions_of_clough_and_stevenson_by_kind(tmp_path: Path) -> None:
    result = gold_pairs(shared("dedup"), "clough_stevenson", tmp_path, NearDup())
    assert result.total == {"cut": 19, "light": 19, "heavy": 19, "non": 38}
    for kind, values in result.jaccard.items():
        assert result.caught[kind] == sum(value >= THRESHOLD for value in values)
    assert result.caught["non"] == 0


@pytest.mark.slow
def test_copies_of_a_crawl_are_found_and_nothing_else(tmp_path: Path) -> None:
    tool, text = shared("tools", "build_crawl.py"), shared("text")
    command = [sys.executable, str(tool), "--text", str(text), "--out", str(tmp_path / "crawl"), "--docs", "1200"]
    subprocess.run([*command, "--format", "jsonl", "--near-duplicates", "0.3"], check=True, capture_output=True)
    pages = crawl.read_pages(tmp_path / "crawl")
    families = crawl.read_families(tmp_path / "crawl")
    assert set(families) == set(pages)
    true, found = (crawl.pairs_of(groups) for groups in (families, crawl.find_clusters(pages, NearDup())))
    alike = {pair: quality.similarity(*(quality.shingles(pages[url].text, 5) for url in pair)) for pair in true}
    exact = {pair for pair in true if pages[pair[0]].text == pages[pair[1]].text}
    close = {pair for pair in true if alike[pair] >= THRESHOLD}
    print(f"{len(exact & found)} of {len(exact)} exact, {len(close & found)} of {len(close)} near copies; {len(found)}")
    assert len(exact) > 20
    assert len(close - exact) > 200
    assert exact <= found
    assert len(close & found) >= 0.98 * len(close)
    assert found <= true
