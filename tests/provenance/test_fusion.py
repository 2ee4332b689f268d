"""The posterior: terms that add up, no order that matters, and Bayes' theorem by enumeration."""

import itertools
import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from detectors.base import clopper_pearson
from pipelines.provenance import fusion
from pipelines.provenance.fusion import Fused, Model, fuse, load_model, read_terms, with_posterior
from pipelines.provenance.kinds import AFTER_VERDICT, KINDS
from pipelines.provenance.policy import PolicyError, parse_policy
from pipelines.records import EVIDENCE, TIMESTAMP, Verdict
from watermark.many_tests import log_e_value

CUTOFF = datetime(2022, 11, 30, tzinfo=UTC)
OLD, NEW = datetime(2019, 3, 5, tzinfo=UTC), datetime(2024, 5, 5, tzinfo=UTC)
MODEL = load_model()
TABLED = sorted(set(MODEL.kinds) - {"watermark"})
SILENT = ("usage_other", "watermark_tested", "abstained", "older_copy", "chatbot_phrase_quoted", "of_an_own_detector")
ROUNDING = 0.005 + 1e-9


def scored(probability: float | None, source: str = "embedded") -> dict[str, Any]:
    return {"source": source, "kind": "machine_text", "probability": probability}


def finding(kind: str) -> dict[str, Any]:
    return {"source": "check", "kind": kind}


def mark(p_value: float, log10_e: float) -> dict[str, Any]:
    return {"source": "watermark", "kind": "watermark", "p_value": p_value, "score": log10_e}


def fused(
    rows: list[list[dict[str, Any]]],
    captured: datetime | None = NEW,
    older: datetime | None = None,
    model: Model = MODEL,
) -> Fused:
    times = (pa.array([when] * len(rows), TIMESTAMP) for when in (captured, older))
    return fuse(pa.array(rows, EVIDENCE), *times, model, CUTOFF)


def log_odds(*items: dict[str, Any], **how: Any) -> float:
    return float(fused([list(items)], **how).log_odds[0])


PRIOR = log_odds()
ITEMS = st.one_of(
    st.builds(
        scored,
        st.one_of(st.none(), st.floats(0, 1, width=32)),
        st.sampled_from(["embedded", "binoculars", "my model (v2) + x = y"]),
    ),
    st.builds(finding, st.sampled_from([*TABLED, *SILENT])),
    st.builds(mark, st.floats(0, 1), st.floats(-0.3, 300)),
)
ROWS = st.lists(st.lists(ITEMS, max_size=7), max_size=5)
TIMES = st.one_of(st.none(), st.datetimes(datetime(1990, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)))


@settings(max_examples=60)
@given(ROWS, TIMES, TIMES)
def test_what_is_written_adds_up_to_the_score(rows: list[list[dict[str, Any]]], captured: Any, older: Any) -> None:
    result = fused(rows, captured, older)
    assert result.rows.tolist() == sorted(set(result.rows.tolist()))
    for row, item in zip(result.rows.tolist(), result.items.to_pylist(), strict=True):
        read = read_terms(item["detail"])
        assert read is not None, item["detail"]
        terms, total = read
        assert terms[0].name == "prior"
        assert len(terms) > 1
        assert math.isclose(sum(term.value for term in terms), total, abs_tol=1e-9)
        assert math.isclose(total, item["score"], abs_tol=1e-9)
        assert math.isclose(item["score"], result.log_odds[row], abs_tol=1e-12)
        assert math.isclose(item["probability"], expit(item["score"]), rel_tol=1e-6)
        assert item["probability"] == result.posterior[row].as_py()
        assert (item["source"], item["kind"]) == ("fusion", "posterior")


@settings(max_examples=60)
@given(st.lists(ITEMS, max_size=8).flatmap(lambda items: st.tuples(st.just(items), st.permutations(items))))
def test_the_order_of_findings_does_not_matter(both: tuple[list[dict[str, Any]], list[dict[str, Any]]]) -> None:
    one, other = (fused([items]) for items in both)
    assert one.items.equals(other.items)
    assert one.log_odds.tolist() == other.log_odds.tolist()


@settings(max_examples=60)
@given(st.lists(ITEMS, max_size=6), st.sampled_from(TABLED))
def test_a_finding_moves_the_posterior_in_its_own_direction(items: list[dict[str, Any]], kind: str) -> None:
    moved = log_odds(*items, finding(kind)) - log_odds(*items)
    assert moved >= -1e-9 if MODEL.kinds[kind][1] > 0 else moved <= 1e-9


@given(st.floats(0, 1, width=32), st.floats(0, 1, width=32))
def test_a_higher_probability_never_lowers_the_posterior(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert log_odds(scored(low)) <= log_odds(scored(high)) + 1e-9


def test_rows_do_not_touch_each_other() -> None:
    rows = [[finding("ai_disclosure")], [], [scored(0.8), mark(1e-9, 7.0)], [finding("usage_other")], [scored(0.2)]]
    together = fused(rows)
    assert together.log_odds.tolist() == [fused([row]).log_odds[0] for row in rows]
    assert together.rows.tolist() == [0, 2, 4]


def test_a_slice_of_a_column_is_read_as_it_stands() -> None:
    column = pa.array([[finding("ai_disclosure")], [], [scored(0.8)]], EVIDENCE).slice(1)
    times = pa.array([NEW, NEW], TIMESTAMP)
    assert fuse(column, times, pa.nulls(2, TIMESTAMP), MODEL, CUTOFF).rows.tolist() == [1]


# P(outcome | human), P(outcome | machine). A check's silence, None, is as likely for both: it has no term.
WORLD: tuple[dict[Any, tuple[float, float]], ...] = (
    {"low": (0.6, 0.05), "middle": (0.3, 0.25), "high": (0.1, 0.7)},  # what a detector says
    {"ai_disclosure": (0.01, 0.3), "ai_disclosure_none": (0.32, 0.03), None: (0.67, 0.67)},
    {"c2pa_text_manifest": (0.002, 0.04), "c2pa_text_manifest_human": (0.048, 0.01), None: (0.95, 0.95)},
    {"chatbot_phrase": (0.001, 0.02), "chatbot_link": (0.049, 0.03), None: (0.95, 0.95)},
)
SHARE = 0.2


def test_the_posterior_is_that_of_bayes_theorem_in_an_enumerated_world() -> None:
    """Every outcome of a small world whose findings are independent given the author."""
    terms = {
        kind: (str(number), math.log(machine / human))
        for number, check in enumerate(WORLD[1:])
        for kind, (human, machine) in check.items()
        if kind is not None
    }
    numbers = {"cap": 20.0, "marked_share": 0.1, "watermark_cap": 8.0, "site_term": 0.0, "before": 0.0, "unknown": 0.0}
    model = Model(months=np.array([0]), log_odds=np.array([logit(SHARE)]), kinds=terms, **numbers)
    total = 0.0
    for outcome in itertools.product(*(check.items() for check in WORLD)):
        of_human = (1 - SHARE) * math.prod(rates[0] for _, rates in outcome)
        of_machine = SHARE * math.prod(rates[1] for _, rates in outcome)
        total += of_human + of_machine
        (_, (human, machine)), *checks = outcome
        items = [scored(machine / (machine + human)), *(finding(kind) for kind, _ in checks if kind is not None)]
        result = fused([items], model=model)
        slack = ROUNDING * (1 + len(items))
        assert abs(result.log_odds[0] - math.log(of_machine / of_human)) <= slack
        assert abs(result.posterior[0].as_py() - of_machine / (of_machine + of_human)) <= slack / 4
    assert math.isclose(total, 1.0)


def test_silence_is_nearly_no_evidence_where_signals_are_rare() -> None:
    """What is left out where a check finds nothing: with rates of the size that are measured, less than is rounded."""
    for kind in ("chatbot_phrase", "chatbot_phrase_weak", "chatbot_markup", "zero_width"):
        entry = fusion._data()["kinds"][kind]
        human = clopper_pearson(*entry["human"])[1]
        machine = entry.get("assumed_rate") or clopper_pearson(*entry["machine"])[0]
        assert abs(math.log((1 - machine) / (1 - human))) < 0.005


def test_of_one_family_only_the_strongest_counts() -> None:
    assert log_odds(finding("ai_disclosure"), finding("ai_generator")) == log_odds(finding("ai_disclosure"))
    assert log_odds(finding("ai_disclosure"), finding("ai_disclosure_none")) == log_odds(finding("ai_disclosure"))
    assert log_odds(finding("ai_disclosure_none")) < PRIOR
    both = log_odds(finding("ai_disclosure"), finding("chatbot_link"))
    assert math.isclose(both, PRIOR + 5.0 + 1.0)


def test_detectors_are_averaged_and_capped() -> None:
    assert math.isclose(log_odds(scored(1.0)), PRIOR + 4.0)
    assert math.isclose(log_odds(scored(0.0)), PRIOR - 4.0)
    assert math.isclose(log_odds(scored(1.0), model=load_model(cap=2.5)), PRIOR + 2.5)
    two = [scored(0.9), scored(0.6, "binoculars")]
    assert abs(log_odds(*two) - PRIOR - (logit(0.9) + logit(0.6)) / 2) <= 2 * ROUNDING
    assert " + detectors " in fused([two]).items.field("detail")[0].as_py()


def test_the_prior_is_that_of_the_capture_month() -> None:
    model = load_model({"2023-01": 0.1, "2024-01": 0.5, "before_cutoff": 0.002, "unknown": 0.3})

    def prior(captured: datetime | None, older: datetime | None = None) -> float:
        detail = fused([[finding("chatbot_link")]], captured, older, model).items.field("detail")[0].as_py()
        terms, _ = read_terms(detail) or ([], 0.0)
        return terms[0].value

    def rounded(share: float) -> float:
        return round(float(logit(share)), 2)

    assert prior(datetime(2023, 1, 31, tzinfo=UTC)) == rounded(0.1)
    assert prior(datetime(2023, 7, 1, tzinfo=UTC)) == round(float(logit(0.1)) / 2, 2)  # half way, in log-odds
    assert prior(datetime(2022, 11, 30, tzinfo=UTC)) == rounded(0.1)  # beyond the table: as at its end
    assert prior(datetime(2031, 7, 1, tzinfo=UTC)) == rounded(0.5)
    assert prior(datetime(2022, 11, 29, 23, 59, tzinfo=UTC)) == rounded(0.002)
    assert prior(OLD) == rounded(0.002)
    assert prior(NEW, OLD) == rounded(0.002)  # an older copy dates the text
    assert prior(NEW, datetime(2023, 1, 1, tzinfo=UTC)) == rounded(0.5)
    assert prior(None) == rounded(0.3)
    assert prior(None, OLD) == rounded(0.002)


def test_without_date_and_terms_there_is_no_posterior() -> None:
    silent = [[], [finding(kind) for kind in SILENT], [scored(None)]]
    result = fused(silent, captured=None)
    assert result.posterior.null_count == 3
    assert not len(result.items)
    dated = fused(silent)
    assert dated.posterior.null_count == 0
    assert not len(dated.items)
    assert np.allclose(dated.log_odds, PRIOR)
    assert fused([[finding("chatbot_link")]], captured=None).posterior.null_count == 0
    assert fused([[]], captured=None, older=OLD).posterior.null_count == 0


def test_the_watermark_term_averages_at_most_one_under_the_null() -> None:
    """Over uniform p-values exp(term) is a Bayes factor of a fixed alternative, cut from above."""
    p = np.concatenate([[0.0], np.logspace(-300, 0, 400_001)])
    middle = np.sqrt(np.maximum(p[1:] * p[:-1], 1e-300))
    factor = np.exp(MODEL.watermark_term(np.log(middle), np.full(len(middle), np.nan)))
    assert 0.95 < float(np.sum(factor * np.diff(p))) <= 1.0
    # The lesser of two e-values cannot average more.
    both = np.exp(MODEL.watermark_term(np.log(middle), log_e_value(np.log(middle)) - 1.0))
    assert np.all(both <= factor)


def test_with_several_keys_the_term_is_that_of_all_of_them() -> None:
    """The least p-value of several keys is no p-value; the e-value merged over the keys holds the term down."""
    log_p = np.log(np.random.default_rng(5).random((400_000, 8)))
    log_e = np.logaddexp.reduce(log_e_value(log_p), axis=1) - np.log(8)
    factor = np.exp(MODEL.watermark_term(log_p.min(axis=1), log_e))
    assert factor.mean() <= 1 + 4 * factor.std() / math.sqrt(len(factor))
    uncorrected = np.exp(MODEL.watermark_term(log_p.min(axis=1), np.nan))
    assert uncorrected.mean() > 1 + 4 * uncorrected.std() / math.sqrt(len(factor))


def test_a_watermark_is_worth_no_more_than_either_of_its_numbers() -> None:
    of_p, of_e = log_odds(mark(1e-4, 30.0)) - PRIOR, log_odds(mark(1e-30, 2.0)) - PRIOR
    assert abs(of_p - math.log(0.9 + 0.1 * math.exp(log_e_value(math.log(1e-4))))) <= ROUNDING
    assert abs(of_e - math.log(0.9 + 0.1 * 100)) <= ROUNDING
    assert math.isclose(log_odds(mark(1e-300, 290.0)), PRIOR + 8.0)  # capped
    # Found because its site was: no less than where its own text does not tell at all.
    assert math.isclose(log_odds(finding("watermark_site")), PRIOR + 1.0)
    assert math.isclose(log_odds(mark(0.01, 40.0)), PRIOR + 1.0)
    assert math.isclose(log_odds(finding("watermark")), PRIOR + 1.0)


def test_every_kind_with_a_term_exists_and_says_where_its_number_comes_from() -> None:
    entries = fusion._data()["kinds"]
    assert set(entries) <= set(KINDS)
    for kind, entry in entries.items():
        assert entry["why"].startswith(("assumed", "measured", "Bayes")), kind
        assert ("human" in entry) == ("measured" in entry["why"]), kind
    low = clopper_pearson(509, 98021)[0]
    assert math.isclose(MODEL.kinds["chatbot_phrase"][1], math.log(low / clopper_pearson(0, 32625)[1]))


def test_no_policy_can_ask_for_the_posterior() -> None:
    assert set(AFTER_VERDICT) == {fusion.KIND}
    rules = "{verdict: clear, when: {evidence_any: [posterior]}, because: a}, {verdict: clear, because: b}"
    routes = ", ".join(f"{verdict.value}: reserve" for verdict in Verdict)
    with pytest.raises(PolicyError, match="'posterior' is not a kind of evidence"):
        parse_policy(f"rules: [{rules}]\nroutes: {{{routes}}}")
    assert fusion.KIND not in MODEL.kinds


@settings(max_examples=20)
@given(ROWS)
def test_the_item_is_appended_and_nothing_else_changes(rows: list[list[dict[str, Any]]]) -> None:
    number = len(rows)
    table = pa.table(
        {
            "evidence": pa.array(rows, EVIDENCE),
            "captured_at": pa.array([NEW] * number, TIMESTAMP),
            "older_captured_at": pa.nulls(number, TIMESTAMP),
            "posterior": pa.nulls(number, pa.float32()),
            "machine_probability": pa.array([0.5] * number, pa.float32()),
        }
    )
    after = with_posterior(table, MODEL, CUTOFF)
    assert after.schema.names == table.schema.names
    assert after["machine_probability"].equals(table["machine_probability"])
    assert after["posterior"].null_count == 0
    for was, now in zip(table["evidence"].to_pylist(), after["evidence"].to_pylist(), strict=True):
        assert now[: len(was)] == was
        assert [item["kind"] for item in now[len(was) :]] in ([], ["posterior"])


@pytest.mark.parametrize("detail", ["", "prior -1.00 (2024-05)", "a = b", "prior x = 1.00", "prior 1.00 = x"])
def test_only_what_was_written_here_is_read(detail: str) -> None:
    assert read_terms(detail) is None
