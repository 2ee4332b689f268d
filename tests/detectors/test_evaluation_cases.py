"""The evaluation on detectors and corpora of other kinds: no record of training, silence, one label, ten texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from detectors.base import LANGUAGE, ErrorRates, OperatingPoint, Scores, clopper_pearson
from detectors.clustered import clustered_share
from detectors.corpus import Corpus, components
from detectors.evaluation import EvaluationOptions, evaluate, render
from detectors.evaluation_report import report
from detectors.evaluation_views import Judged, frozen_rates, halves
from detectors.levelling import level
from pipelines.cli import main
from tests.detectors.generated import VOCABULARY, sentence_text, write_sets

QUICK = EvaluationOptions(draws=20)


class LikelihoodRatio:
    """Knows both word distributions of the generated text; silent in Spanish; layout sways it by ``layout``."""

    name = "likelihood-ratio"
    digest = "00" * 32

    def __init__(self, threshold: float | None = 0.99, layout: float = 0.0) -> None:
        self.threshold, self.layout = threshold, layout

    def score(self, texts: Sequence[str], languages: Sequence[str | None]) -> Scores:
        first = set(VOCABULARY[: len(VOCABULARY) // 2])
        score = np.zeros(len(texts), np.float32)
        for row, text in enumerate(texts):
            words = text.replace(".", " ").split()
            hits = sum(word in first for word in words)
            score[row] = hits * np.log(2.5 / 1.75) - (len(words) - hits) * np.log(1.75) + self.layout * ("*" in text)
        silent = [language == "es" for language in languages]
        score[silent] = np.nan
        return Scores(
            score, (1 / (1 + np.exp(-score / 10))).astype(np.float32), [LANGUAGE if no else None for no in silent]
        )

    def error_rates(self) -> ErrorRates:
        if self.threshold is None:
            raise ValueError("not measured")
        return ErrorRates(self.name, OperatingPoint(self.threshold, ()), OperatingPoint(0.5, ()))


def corpus_of(sources: int = 200, texts: int = 2, seed: int = 3, words: int = 60) -> Corpus:
    """``texts`` human and as many machine texts a source; a fifth of the sources is Spanish."""
    random = np.random.default_rng(seed)
    rows = [(source, machine) for source in range(sources) for machine in (False, True) for _ in range(texts)]
    written = [sentence_text(random, machine, words) for _, machine in rows]
    machine = np.array([machine for _, machine in rows])
    source = np.array([source for source, _ in rows])
    return Corpus(
        written,
        [level(text) for text in written],
        machine,
        np.array([f"set{number % 2}" for number in source]),
        np.array([f"group{number}" for number in source]),
        np.array([f"kind{number % 3}" for number in source]),
        np.where(source % 5 == 4, "es", "en"),
        np.where(machine, np.where(source % 2 == 0, "one", "two"), ""),
        np.where(machine & (source % 4 == 0), "paraphrase", ""),
    )


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return corpus_of()


def test_a_silent_language_and_an_unrecorded_training_are_said(corpus: Corpus) -> None:
    result = evaluate(LikelihoodRatio(), corpus, options=QUICK)
    assert result.warnings[0].startswith("what this detector was trained on is not recorded")
    assert any(warning.startswith("no text in es was judged") for warning in result.warnings)
    assert result.abstained == {"language": 160}
    spanish = next(part for part in result.slices if (part.by, part.value) == ("language", "es"))
    assert (spanish.human, spanish.machine, spanish.abstained) == (0, 0, 160)
    assert result.raw.selective is not None
    assert result.raw.selective.judged_share == pytest.approx(0.8)
    assert {(part.by, part.value) for part in result.slices} >= {
        ("generator", "one"),
        ("generator", "two"),
        ("attack", "paraphrase"),
    }


def test_a_generator_is_ranked_against_the_humans_of_its_sets(corpus: Corpus) -> None:
    result = evaluate(LikelihoodRatio(), corpus, options=QUICK)
    probability = LikelihoodRatio().score(corpus.texts, ["en"] * len(corpus)).probability
    spoken = corpus.languages == "en"
    positive = probability[spoken & (corpus.generators == "one")]
    human = probability[spoken & ~corpus.machine & (corpus.sets == "set0")]
    by_hand = (positive[:, None] > human).mean() + (positive[:, None] == human).mean() / 2
    part = next(part for part in result.slices if (part.by, part.value) == ("generator", "one"))
    assert (part.human, part.auroc_humans) == (0, "same sets")
    assert part.auroc == pytest.approx(by_hand)


def test_intervals_of_slices_are_clustered_by_source(corpus: Corpus) -> None:
    detector = LikelihoodRatio(threshold=0.4)
    result = evaluate(detector, corpus, options=QUICK)
    flagged = detector.score(corpus.texts, ["en"] * len(corpus)).probability >= 0.4
    for part in result.slices:
        if part.by == "domain":
            name, domain = part.value.split("/")
            here = (corpus.sets == name) & (corpus.domains == domain) & ~corpus.machine & (corpus.languages == "en")
            share = clustered_share(flagged[here], corpus.groups[here])
            assert share is not None
            assert part.false_positive_interval == (share.low, share.high)
            assert part.human_clusters == len(set(corpus.groups[here].tolist()))
    by_set = evaluate(detector, corpus, options=EvaluationOptions("set", 20))
    assert by_set.clusters == 2
    assert any("only 2 sets" in warning for warning in by_set.warnings)


def test_halves_part_no_component_and_balance_the_humans(corpus: Corpus) -> None:
    component = components(corpus)
    half = halves(corpus, component, 1)
    assert all(len(set(half[component == number].tolist())) == 1 for number in set(component.tolist()))
    assert abs(int((half & ~corpus.machine).sum()) - int((~half & ~corpus.machine).sum())) <= 2
    order = np.random.default_rng(0).permutation(len(corpus))
    again = corpus.take(order)
    assert (halves(again, components(again), 1) == half[order]).all()
    assert (halves(corpus, component, 2) != half).any()


def test_rates_that_the_sample_does_not_allow_have_a_reason(corpus: Corpus) -> None:
    result = evaluate(LikelihoodRatio(), corpus, options=QUICK)
    first, second, third = result.raw.at_rates
    assert first.reason is None
    assert first.thresholds is not None
    assert first.true_positive_rate is not None
    assert second.true_positive_rate is None
    assert second.reason == "a rate of 0.1 % needs 3000 human texts, and 320 were judged"
    assert third.reason is not None
    assert result.tpr_at_1_percent_fpr == first.true_positive_rate
    assert result.tpr_at_0_1_percent_fpr is result.tpr_at_0_01_percent_fpr is None


@pytest.mark.slow
def test_frozen_rates_cover_where_a_binomial_interval_does_not() -> None:
    truth = 1 - norm.cdf(norm.ppf(0.99) - 2)
    random, runs, clustered, naive = np.random.default_rng(0), 80, 0, 0
    cluster = np.repeat(np.arange(500), 4)
    machine = np.tile([False, False, True, True], 500)
    options = EvaluationOptions(draws=100)
    for _ in range(runs):
        score = random.normal(size=500)[cluster] * np.sqrt(0.5) + random.normal(size=2000) * np.sqrt(0.5) + 2 * machine
        data = Judged(norm.cdf(score / 2), machine, np.full(2000, "set"), cluster, cluster % 2 == 0)
        at = frozen_rates(data, 0.01, options)
        assert at.true_positive_interval is not None
        assert at.true_positive_rate is not None
        clustered += at.true_positive_interval[0] <= truth <= at.true_positive_interval[1]
        low, high = clopper_pearson(round(1000 * at.true_positive_rate), 1000)
        naive += low <= truth <= high
    assert clustered / runs >= 0.9  # 80 runs: 0.95 with a standard error of 0.024
    assert naive / runs < 0.75


@pytest.mark.parametrize("label", [False, True])
def test_one_label_alone_gives_what_it_can(corpus: Corpus, label: bool) -> None:
    part = corpus.take(np.flatnonzero(corpus.machine == label))
    result = evaluate(LikelihoodRatio(), part, options=QUICK)
    assert result.auroc is result.tpr_at_1_percent_fpr is result.expected_calibration_error is None
    assert result.raw.selective is None
    assert any(warning.startswith(f"no {'human' if label else 'machine'} text") for warning in result.warnings)
    at = result.raw.at_rates[0]
    assert (at.false_positive_rate is None) == label
    assert at.reason
    assert "A label is missing" in report(result)
    assert len(render(result).splitlines()) > len(result.slices)
    json.dumps(result.to_dict(), allow_nan=False)


def test_ten_texts_give_counts_and_no_rate(corpus: Corpus) -> None:
    result = evaluate(LikelihoodRatio(), corpus.take(np.arange(10)), options=QUICK)
    assert result.texts == 10
    assert all(at.reason for at in result.raw.at_rates)
    assert all(part.too_few_human for part in result.slices)
    assert result.overall.frozen_false_positive_rate is None
    json.dumps(result.to_dict(), allow_nan=False)
    assert "too few" in report(result)


def test_layout_that_sways_the_detector_shows_in_the_second_column(corpus: Corpus) -> None:
    texts = [f"* {text}" if machine else text for text, machine in zip(corpus.texts, corpus.machine, strict=True)]
    marked = replace(corpus, texts=texts)
    result = evaluate(LikelihoodRatio(layout=50), marked, options=QUICK)
    assert result.levelled is not None
    assert result.raw.auroc == 1.0
    assert result.levelled.auroc is not None
    assert result.levelled.auroc < 0.999
    assert result.levelled.auroc == pytest.approx(evaluate(LikelihoodRatio(), corpus, options=QUICK).auroc, abs=0.01)
    assert result.largest_change_by_layout is not None
    assert result.largest_change_by_layout > 0.5
    assert any("layout alone moves a probability" in warning for warning in result.warnings)
    alone = evaluate(LikelihoodRatio(layout=50), marked, options=EvaluationOptions(draws=20, levelled=False))
    assert alone.levelled is alone.largest_change_by_layout is None
    assert "Levelled layout" not in report(alone)


def test_mixed_authorship_counts_under_its_attack_only(corpus: Corpus) -> None:
    mixed = replace(corpus, attacks=np.where(corpus.attacks == "paraphrase", "human_llm_fusion", ""))
    whole, without = (evaluate(LikelihoodRatio(), one, options=QUICK) for one in (corpus, mixed))
    rows = int(((corpus.attacks == "paraphrase") & (corpus.languages == "en")).sum())
    assert (whole.mixed, without.mixed) == (0, rows)
    assert whole.overall.machine - without.overall.machine == rows
    part = next(part for part in without.slices if part.by == "attack")
    assert (part.value, part.machine) == ("human_llm_fusion", rows)
    with pytest.raises(ValueError, match="mixed authorship"):
        evaluate(LikelihoodRatio(), mixed.take(np.flatnonzero(mixed.attacks == "human_llm_fusion")), options=QUICK)


def test_a_detector_without_a_threshold_is_judged_at_one_half(corpus: Corpus) -> None:
    result = evaluate(LikelihoodRatio(threshold=None), corpus, options=QUICK)
    assert result.threshold == 0.5
    assert any("ships no threshold" in warning for warning in result.warnings)


def test_the_same_texts_in_another_order_give_the_same_figures(corpus: Corpus) -> None:
    order = np.random.default_rng(8).permutation(len(corpus))
    one, other = (evaluate(LikelihoodRatio(), part, options=QUICK).to_dict() for part in (corpus, corpus.take(order)))
    assert one["text_digest"] == other["text_digest"]
    for mine, theirs in zip(one["slices"], other["slices"], strict=True):
        assert (mine["by"], mine["value"]) == (theirs["by"], theirs["value"])
        assert mine["false_positive_interval"] == pytest.approx(theirs["false_positive_interval"])
        assert mine["frozen_true_positive_rate"] == theirs["frozen_true_positive_rate"]
        assert mine["auroc"] == pytest.approx(theirs["auroc"])
    for name in ("auroc", "auroc_interval", "false_positive_interval"):
        assert one["raw"][name] == pytest.approx(other["raw"][name])
    for mine, theirs in zip(one["raw"]["at_rates"], other["raw"]["at_rates"], strict=True):
        assert mine["thresholds"] == theirs["thresholds"]
        assert mine["true_positive_rate"] == theirs["true_positive_rate"]


def test_calibration_stands_at_each_prior(corpus: Corpus) -> None:
    result = evaluate(LikelihoodRatio(), corpus, options=EvaluationOptions(draws=60, prior=0.05))
    names = [part.name for part in result.raw.calibration]
    assert names == ["prior 0.5, sets weighted", "prior 0.5", "prior of the sample", "prior 0.05"]
    for part in result.raw.calibration:
        assert part.brier == pytest.approx(part.reliability - part.resolution + part.uncertainty)
        assert part.uncertainty == pytest.approx(part.prior * (1 - part.prior))
        assert part.brier_interval is not None
        assert part.brier_interval[0] <= part.brier <= part.brier_interval[1]
        assert all(one.low <= one.observed <= one.high for one in part.bins)
    with pytest.raises(ValueError, match="not between 0 and 1"):
        EvaluationOptions(prior=1.0)
    with pytest.raises(ValueError, match="none of source, overlap, set"):
        EvaluationOptions("domain")


class Tags(HTMLParser):
    """Checks that tags close in order, and keeps their names and addresses."""

    VOID = ("meta", "br", "link", "img")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: set[str] = set()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_report_is_whole_and_escapes_what_comes_from_data(corpus: Corpus) -> None:
    evil = "</title><script>alert(1)</script>\u202e"
    sets = np.where(corpus.sets == "set0", evil, corpus.sets)
    result = evaluate(LikelihoodRatio(), replace(corpus, sets=sets), options=QUICK)
    page = report(result)
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert not tags.names & {"script", "link", "img", "iframe"}
    assert tags.addresses == []
    assert "&lt;script&gt;" in page
    assert "\u202e" not in page
    assert page.count("<svg") == 5
    assert page == report(result)
    assert result.digest in page
    assert result.text_digest in page


def test_the_command_writes_report_and_json(
    generated_sets: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["evaluate", "--text", str(generated_sets), "--model", str(trained), "--draws", "20"]
    html, data = tmp_path / "report.html", tmp_path / "report.json"
    assert main([*call, "--report", str(html), "--json", str(data), "--prior", "0.1"]) == 0
    printed = capsys.readouterr().out
    assert "text as it is" in printed
    written = json.loads(data.read_text("utf-8"))
    assert written["raw"]["calibration"][-1]["prior"] == 0.1
    assert written["text_digest"] in html.read_text("utf-8")
    assert main([*call, "--json", "--no-levelled"]) == 0
    assert json.loads(capsys.readouterr().out)["levelled"] is None
    assert main([*call, "--report", str(tmp_path / "none" / "report.html")]) == 2
    assert "--report" in capsys.readouterr().err
    assert main([*call, "--prior", "2"]) == 2


def test_the_command_takes_a_handful_of_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_sets(tmp_path / "sets", sets=1, rows=10)
    page = tmp_path / "report.html"
    assert main(["evaluate", "--text", str(folder), "--split", "all", "--report", str(page)]) == 0
    assert "needs 300 human texts, and 5 were judged" in capsys.readouterr().out
    assert "too few" in page.read_text("utf-8")
