from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from detectors.base import HELD_OUT, clopper_pearson
from detectors.corpus import Corpus, parquet_files, read_corpus
from detectors.embedded import Embedded
from detectors.evaluation import EvaluationOptions, evaluate, layout_auroc, render

QUICK = EvaluationOptions(draws=20)


@pytest.fixture(scope="module")
def corpus(generated_sets: Path) -> Corpus:
    return read_corpus(generated_sets)


def test_counts_agree_with_scores_counted_by_hand(corpus: Corpus, trained: Path) -> None:
    detector = Embedded(trained)
    result = evaluate(detector, corpus, "all", options=QUICK)
    probability = detector.score(corpus.texts, corpus.languages.tolist()).probability
    flagged = probability >= detector.error_rates().decision.threshold
    assert result.overall.human_flagged == (flagged & ~corpus.machine).sum()
    assert result.overall.machine_flagged == (flagged & corpus.machine).sum()
    human, machine = probability[~corpus.machine], probability[corpus.machine]
    pairs = (machine[:, None] > human).mean() + (machine[:, None] == human).mean() / 2
    assert result.auroc == pytest.approx(pairs, abs=1e-6)
    for by in ("set", "domain", "length", "language"):
        parts = [part for part in result.slices if part.by == by]
        assert sum(part.human for part in parts) == len(human)
        assert sum(part.machine_flagged for part in parts) == result.overall.machine_flagged
    for part in result.slices:
        assert part.false_positive_interval == clopper_pearson(part.human_flagged, part.human)


def test_test_split_reproduces_the_held_out_rates(corpus: Corpus, trained: Path) -> None:
    detector = Embedded(trained)
    result = evaluate(detector, corpus, options=QUICK)
    whole = next(part for part in detector.error_rates().decision.of_kind(HELD_OUT) if not part.set)
    assert (result.overall.human, result.overall.human_flagged) == (whole.human, whole.human_flagged)
    assert (result.overall.machine, result.overall.machine_flagged) == (whole.machine, whole.machine_flagged)
    assert result.skipped == result.seen_in_training > 0
    assert not any("used in training" in warning for warning in result.warnings)


def test_seen_texts_are_warned_of(corpus: Corpus, trained: Path) -> None:
    result = evaluate(Embedded(trained), corpus, "all", options=QUICK)
    assert result.warnings[0].startswith(f"{result.seen_in_training} of these texts were used in training")
    assert render(result).startswith("warning: ")
    used = corpus.take(np.flatnonzero(Embedded(trained).seen().contains([0]) | np.zeros(len(corpus), bool)))
    assert len(used) == 0
    with pytest.raises(ValueError, match="neither 'test' nor 'all'"):
        evaluate(Embedded(trained), corpus, "train")


def test_worst_slice_comes_first_and_json_is_plain(corpus: Corpus, trained: Path) -> None:
    result = evaluate(Embedded(trained), corpus, options=QUICK)
    rates = [part.false_positive_rate for part in result.slices if part.human >= 20]
    assert rates == sorted(rates, reverse=True)
    assert json.loads(json.dumps(result.to_dict()))["overall"]["human"] == result.overall.human
    assert result.largest_change_by_layout == 0
    assert len(render(result).splitlines()) >= 6 + len(result.slices)


def test_layout_baseline_sees_layout_and_nothing_else(corpus: Corpus) -> None:
    assert abs(layout_auroc(corpus) - 0.5) < 0.06
    marked = Corpus(
        [f"* {text}\n\nend" if machine else text for text, machine in zip(corpus.texts, corpus.machine, strict=True)],
        corpus.levelled,
        corpus.machine,
        corpus.sets,
        corpus.groups,
        corpus.domains,
        corpus.languages,
        corpus.generators,
        corpus.attacks,
    )
    assert layout_auroc(marked) > 0.99


def test_shipped_model_on_texts_that_training_did_not_use(shared_text: Path) -> None:
    small = ("shijaku", "seqxgpt", "outfox", "glimpse", "human_pre2020", "l2r")
    files = [file for file in parquet_files(shared_text) if file.stem in small]
    detector = Embedded()
    result = evaluate(detector, read_corpus(files), options=EvaluationOptions(draws=20, levelled=False))
    assert result.overall.human > 1000
    assert result.auroc is not None
    assert result.auroc > 0.7
    promised = [part for part in detector.error_rates().decision.of_kind(HELD_OUT) if part.set in small]
    expected = sum(part.human_flagged for part in promised) / sum(part.human for part in promised)
    low, high = result.overall.false_positive_interval
    assert low - 0.002 <= expected <= high + 0.002
    assert high < 0.02
