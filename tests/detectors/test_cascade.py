from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import beta

from detectors.base import HELD_OUT, LANGUAGE, TOO_SHORT, ErrorRates, OperatingPoint, Scores, SliceRates
from detectors.cascade import Band, Cascade, beside, choose_band
from detectors.cascade_fitting import CascadeOptions, fit_cascade
from detectors.corpus import read_corpus
from detectors.embedded import Embedded
from detectors.model_folder import kind_of, open_detector, write_cascade

THRESHOLD = 0.7


@dataclass
class Numbers:
    """A detector whose probability is a number in the text; it abstains where the language is another."""

    place: int
    speaks: tuple[str, ...] = ("en",)
    name: str = "numbers"
    digest: str = "0"
    read: int = 0

    def score(self, texts: Sequence[str], languages: Sequence[str | None]) -> Scores:
        self.read += len(texts)
        abstained: list[str | None] = [None if language in self.speaks else LANGUAGE for language in languages]
        numbers = [text.split()[self.place] for text in texts]
        abstained = [TOO_SHORT if one == "-" else reason for one, reason in zip(numbers, abstained, strict=True)]
        found = [np.nan if reason else float(one) for one, reason in zip(numbers, abstained, strict=True)]
        probability = np.array(found, np.float32)
        return Scores(probability, probability, abstained)

    def error_rates(self) -> ErrorRates:
        point = OperatingPoint(THRESHOLD, (SliceRates(HELD_OUT, "", "", "", "en", 100, 1, 100, 60),))
        return ErrorRates(self.name, point, OperatingPoint(0.5, point.slices))


def most_errors(texts: int, agreement: float, level: float) -> int:
    """The most errors of so many at which the one-sided Clopper-Pearson bound still holds the agreement; -1: none."""
    bound = [1.0 if k == texts else beta.ppf(1 - level, texts - k, k + 1) for k in range(texts)]
    return max((k for k in range(texts) if bound[k] >= agreement), default=-1)


def brute_force(cheap: np.ndarray, flagged: np.ndarray, allowed: int, may_miss: int) -> int:
    """The least number of texts inside a band with so many errors outside, over all pairs of edges."""
    edges = np.array([-1.0, *np.unique(cheap), 3.0])
    low, high = edges[:, None, None], edges[None, :, None]  # [low, high, text]
    missed, false = (flagged & (cheap < low)).sum(-1), (~flagged & (cheap >= high)).sum(-1)
    inside = ((cheap >= low) & (cheap < high)).sum(-1)
    fits = (low <= high)[..., 0] & (missed + false <= allowed) & (missed <= may_miss)
    return int(inside[fits].min(initial=len(cheap)))


@pytest.mark.parametrize("of_flagged", [None, 0.8])
@pytest.mark.parametrize("seed", range(30))
def test_the_band_is_the_smallest_of_all(seed: int, of_flagged: float | None) -> None:
    random = np.random.default_rng(seed)
    size = int(random.integers(60, 160))
    truth = random.random(size)
    cheap = np.round(np.clip(truth + random.normal(0, 0.2, size), 0, 1), 2)  # with ties
    flagged = truth > random.uniform(0, 1.05)
    band = choose_band(cheap, flagged, 0.9, 0.6, of_flagged)
    inside = band.holds(cheap)
    allowed = most_errors(size, 0.9, 0.6)
    may_miss = max(0, most_errors(int(flagged.sum()), of_flagged or 0.9, 0.6))
    assert (((cheap >= band.high) != flagged) & ~inside).sum() <= allowed
    assert (flagged & (cheap < band.low)).sum() <= may_miss
    assert inside.sum() == brute_force(cheap, flagged, allowed, may_miss)


@pytest.mark.parametrize("rare", [0.8, 0.96])
def test_agreement_holds_on_new_text_as_often_as_promised(rare: float) -> None:
    random = np.random.default_rng(1)
    held = np.zeros(2)

    def drawn(size: int) -> tuple[np.ndarray, np.ndarray]:
        truth = random.random(size)
        return np.clip(truth + random.normal(0, 0.15, size), 0, 1), truth > rare

    for _ in range(150):
        band = choose_band(*drawn(1200), 0.95, 0.95)
        cheap, flagged = drawn(4000)
        same = band.holds(cheap) | ((cheap >= band.high) == flagged)
        held += same.mean() >= 0.95, same[flagged].mean() >= 0.95
    # The search over bands costs something of the 95 %; it must not cost much.
    assert (held / 150 > 0.85).all()


def test_what_is_rarely_flagged_is_not_given_up() -> None:
    """A cheap detector that knows nothing: calling all clear would agree on 97 % of the texts."""
    random = np.random.default_rng(2)
    cheap, flagged = random.random(4000), random.random(4000) < 0.03
    band = choose_band(cheap, flagged)
    missed = (flagged & (cheap < band.low)).sum()
    assert missed / flagged.sum() <= 0.05
    assert band.holds(cheap).mean() > 0.9


def test_too_few_texts_send_all() -> None:
    assert choose_band(np.array([0.1, 0.9]), np.array([False, True])).holds(np.array([0.0, 0.5, 1.0])).all()


@pytest.mark.parametrize("flagged", [True, False])
def test_a_detector_that_always_says_the_same_needs_nothing_sent(flagged: bool) -> None:
    cheap = np.linspace(0, 1, 200)
    band = choose_band(cheap, np.full(200, flagged))
    assert not band.holds(cheap).any()
    assert ((cheap >= band.high) == flagged).mean() >= 0.95


def test_a_band_needs_probabilities() -> None:
    with pytest.raises(ValueError, match="NaN"):
        choose_band(np.array([0.1, np.nan]), np.array([False, True]))
    with pytest.raises(ValueError, match="2 probabilities but 1"):
        choose_band(np.zeros(2), np.zeros(1, np.bool_))


def test_clear_cases_stay_and_the_rest_is_sent() -> None:
    cheap, expensive = Numbers(0), Numbers(1, speaks=("en", "fr"))
    cascade = Cascade(cheap, expensive, Band(0.2, 0.6))
    texts = ["0.1 0.9", "0.2 0.9", "0.59 0.1", "0.65 0.1", "0.9 0.1", "0.1 0.8", "0.1 0.8", "- 0.3"]
    languages = ["en"] * 5 + ["fr", "de", "en"]
    scores = cascade.score(texts, languages)
    least = np.float32(THRESHOLD)
    expected = [0.1, 0.9, 0.1, least, 0.9, 0.8, np.nan, 0.3]
    assert scores.probability == pytest.approx(expected, nan_ok=True)
    assert (scores.probability >= THRESHOLD).tolist() == [False, True, False, True, True, True, False, False]
    assert scores.abstained == [None, None, None, None, None, None, LANGUAGE, None]
    assert scores.decided is not None
    asked = [one == "the expensive detector, numbers" for one in scores.decided]
    assert asked == [False, True, True, False, False, True, True, True]
    assert {one for one, was in zip(scores.decided, asked, strict=True) if not was} == {"the cheap detector, numbers"}
    assert np.isnan(scores.score[6])
    assert (cascade.counts.seen, cascade.counts.sent) == (8, 5) == (cheap.read, expensive.read)
    assert cascade.counts.seen_characters == sum(map(len, texts))
    assert cascade.counts.sent_characters == sum(len(texts[row]) for row in (1, 2, 5, 6, 7))


def test_no_texts() -> None:
    scores = Cascade(Numbers(0), Numbers(1), Band(0.2, 0.6)).score([], [])
    assert len(scores.score) == len(scores.abstained) == 0


@pytest.mark.parametrize("threshold", [0.3, 0.7, 0.1 + 0.2, 1 - 1e-12, 1e-12])
def test_clear_probabilities_fall_on_the_right_side_of_any_threshold(threshold: float) -> None:
    probability = np.array([0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0, np.nan], np.float32)
    moved = beside(probability, Band(0.4, 0.6), threshold).astype(np.float64)
    if threshold > 1e-6:
        assert ((moved >= threshold) == (probability >= 0.6)).all()
    assert np.isnan(moved[-1])


def test_a_copy_counts_anew_and_the_digest_follows_the_band() -> None:
    cascade = Cascade(Numbers(0), Numbers(1), Band(0.2, 0.6))
    cascade.score(["0.5 0.5"], ["en"])
    copy = pickle.loads(pickle.dumps(cascade))
    assert copy.counts.seen == 0
    assert copy.digest == cascade.digest != Cascade(Numbers(0), Numbers(1), Band(0.2, 0.7)).digest


def test_a_fitted_cascade_reports_what_it_does(trained: Path, generated_sets: Path, tmp_path: Path) -> None:
    """The embedded detector before a second one, on text that neither was trained on."""
    cheap = expensive = Embedded(trained)
    corpus = read_corpus(generated_sets)
    options = CascadeOptions(texts=None)
    fitted = fit_cascade(cheap, expensive, corpus, options)
    record = fitted.record
    assert 0 < record["texts"] < len(corpus) / 4  # three quarters and more were used in training
    assert record["agreement"] >= 0.95
    assert record["sent"] == 0
    assert record["time_share"] < 3
    assert record["flagged_by_both"] <= record["flagged"]
    low, high = record["flagged_agreement_interval"]
    assert low <= record["flagged_agreement"] == record["flagged_by_both"] / record["flagged"] <= high
    assert bool(record["warnings"]) == (min(record["flagged"], record["chosen_on_flagged"]) < 30)
    flagged = sum(part.human_flagged + part.machine_flagged for part in fitted.cascade.error_rates().decision.slices
                  if not part.set)  # fmt: skip
    assert abs(flagged - record["flagged"]) <= record["judged"] - record["same_verdict"]

    folder = tmp_path / "cascade"
    content = write_cascade(fitted, str(trained), str(trained), folder)
    assert json.loads((folder / "detector.json").read_text()) == content
    assert kind_of(folder) == "cascade"
    opened = open_detector(folder, lambda name: Embedded(Path(name)))
    assert opened.digest == fitted.cascade.digest
    texts = corpus.texts[:20]
    one, other = opened.score(texts, ["en"] * 20), fitted.cascade.score(texts, ["en"] * 20)
    assert one.probability.tolist() == other.probability.tolist()
    content["digests"][0] = "another"
    (folder / "detector.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="cheap detector is not the one"):
        open_detector(folder, lambda name: Embedded(Path(name)))


def test_a_cascade_needs_text_that_is_new(trained: Path, generated_sets: Path) -> None:
    class Knowing(Numbers):
        def seen(self) -> object:
            class All:
                def contains(self, keys: list[int]) -> np.ndarray:
                    return np.ones(len(keys), np.bool_)

            return All()

    with pytest.raises(ValueError, match="too little text"):
        fit_cascade(Embedded(trained), Knowing(0), read_corpus(generated_sets))
