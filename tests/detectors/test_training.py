from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from detectors.base import HELD_OUT, LEFT_OUT
from detectors.corpus import TEST, components, read_corpus, split, text_key, without_shared_start
from detectors.embedded import Embedded
from detectors.fitting import draw_crops
from detectors.ngrams import tokenise
from detectors.training import train
from tests.detectors.conftest import OPTIONS
from tests.detectors.generated import sentence_text, write_sets


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


def test_same_input_same_bytes(generated_sets: Path, trained: Path, tmp_path: Path) -> None:
    train(generated_sets, tmp_path, OPTIONS)
    for file in sorted(trained.iterdir()):
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name
    assert Embedded(tmp_path).digest == Embedded(trained).digest


def test_rates_are_counts_of_unseen_texts(generated_sets: Path, trained: Path) -> None:
    rates = Embedded(trained).error_rates()
    corpus = read_corpus(generated_sets)
    left_out = rates.decision.of_kind(LEFT_OUT)
    assert [part.name for part in left_out] == ["set0/en", "set1/en", "set2/en"]
    assert sum(part.human + part.machine for part in left_out) == len(corpus)
    assert all(part.false_positive_rate <= 0.01 for part in left_out)
    unseen = split(corpus, components(corpus), OPTIONS.fit.seed) == TEST
    whole = next(part for part in rates.decision.of_kind(HELD_OUT) if not part.set)
    assert (whole.human, whole.machine) == ((unseen & ~corpus.machine).sum(), (unseen & corpus.machine).sum())
    fine = [part for part in rates.decision.of_kind(HELD_OUT) if part.set]
    assert sum(part.human_flagged for part in fine) == whole.human_flagged
    assert rates.quantification.threshold < rates.decision.threshold
    assert all(part.true_positive_rate > 0.7 for part in rates.quantification.of_kind(LEFT_OUT))


def test_seen_texts_are_those_outside_the_test_split(generated_sets: Path, trained: Path) -> None:
    corpus = read_corpus(generated_sets)
    seen = Embedded(trained).seen().contains([text_key(text) for text in corpus.levelled])
    unseen = split(corpus, components(corpus), OPTIONS.fit.seed) == TEST
    np.testing.assert_array_equal(seen, ~unseen)


def test_card_names_each_left_out_set_and_the_prior(trained: Path) -> None:
    card = (trained / "MODEL_CARD.md").read_text("utf-8")
    settings = json.loads((trained / "detector.json").read_text("utf-8"))
    assert "at prior 0.5" in card
    assert "Do not use it" in card
    for part in settings["error_rates"]["decision"]["slices"]:
        if part["kind"] == LEFT_OUT:
            assert f"| {part['set']}/en | {part['human']} |" in card


def test_without_leaving_out(generated_sets: Path, tmp_path: Path) -> None:
    settings = train(generated_sets, tmp_path, replace(OPTIONS, leave_one_out=False, false_positive_rate=0.05))
    assert settings["calibrated_on"] == "validation"
    assert not Embedded(tmp_path).error_rates().decision.of_kind(LEFT_OUT)


def test_language_without_both_labels_is_refused(generated_sets: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'zh'"):
        train(generated_sets, tmp_path, replace(OPTIONS, languages=("en", "zh")))


def test_shared_text_ties_groups_of_different_sets(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    original = sentence_text(random, False, 200)
    others = [sentence_text(random, False, 200) for _ in range(4)]
    _write(tmp_path / "a.parquet", [{"text": original, "label": "human", "group": "a"}])
    copy = original.replace("ka", "ka", 1)[: len(original) // 2] + " " + others[0]
    _write(tmp_path / "b.parquet", [{"text": copy, "label": "machine", "group": "b"}])
    _write(tmp_path / "c.parquet", [{"text": t, "label": "human", "group": f"c{i}"} for i, t in enumerate(others[1:])])
    corpus = read_corpus(tmp_path)
    component = components(corpus)
    assert component[0] == component[1]
    assert len(set(component.tolist())) == 4


def test_repeated_text_is_kept_once_and_human(tmp_path: Path) -> None:
    text = sentence_text(np.random.default_rng(2), True, 100)
    _write(tmp_path / "a.parquet", [{"text": text, "label": "machine"}])
    _write(tmp_path / "b.parquet", [{"text": "* " + text.replace(" ", "\n"), "label": "human"}])
    corpus = read_corpus(tmp_path)
    assert corpus.machine.tolist() == [False]


def test_split_keeps_components_whole_and_ignores_order(tmp_path: Path) -> None:
    corpus = read_corpus(write_sets(tmp_path, sets=1, rows=400))
    part = split(corpus, components(corpus), 1)
    for group in np.unique(corpus.groups):
        assert len(set(part[corpus.groups == group].tolist())) == 1
    order = np.random.default_rng(3).permutation(len(corpus))
    shuffled = corpus.take(order)
    np.testing.assert_array_equal(split(shuffled, components(shuffled), 1), part[order])
    assert 0.6 < (part == 0).mean() < 0.9


def test_continuations_lose_the_human_start(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    human = sentence_text(random, False, 60)
    own = sentence_text(random, True, 60)
    rows = [
        {"text": human, "label": "human", "group": "g"},
        {"text": human[:150].rsplit(" ", 1)[0] + " zzz " + own, "label": "machine", "group": "g"},
    ]
    _write(tmp_path / "a.parquet", rows)
    texts = without_shared_start(read_corpus(tmp_path))
    assert texts[1].startswith(b"zzz")
    assert texts[0] == read_corpus(tmp_path).levelled[0]


def test_labels_are_balanced_in_the_crops(tmp_path: Path) -> None:
    write_sets(tmp_path / "x", sets=1, rows=300)
    extra = [{"text": sentence_text(np.random.default_rng(i), True, 90), "label": "machine"} for i in range(600)]
    _write(tmp_path / "x" / "more.parquet", extra)
    corpus = read_corpus(tmp_path / "x")
    tokens = tokenise(corpus.levelled)
    crops = draw_crops(corpus, tokens, np.arange(len(corpus)), OPTIONS.fit)
    assert abs(crops.machine.mean() - 0.5) < 0.01
    row = np.searchsorted(tokens.starts, crops.first, side="right") - 1
    assert (crops.last <= tokens.starts[row + 1]).all()
    assert (crops.last - crops.first >= OPTIONS.fit.least_tokens).all()
    np.testing.assert_array_equal(crops.machine, corpus.machine[row])


@pytest.mark.parametrize(
    ("rows", "message"),
    [([{"label": "human"}], "no column 'text'"), ([{"text": "a", "label": "robot"}], "'robot' is neither")],
)
def test_bad_sets_are_named(tmp_path: Path, rows: list[dict[str, str]], message: str) -> None:
    _write(tmp_path / "bad.parquet", rows)
    with pytest.raises(ValueError, match=message):
        read_corpus(tmp_path)


def test_no_sets(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no Parquet file"):
        read_corpus(tmp_path)
