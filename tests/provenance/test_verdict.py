import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.provenance.kinds import KINDS
from pipelines.provenance.policy import Policy, load_policy, parse_policy, reasons
from pipelines.provenance.verdict import decide
from pipelines.records import EVIDENCE, TIMESTAMP, Evidence, EvidenceBuilder

CUTOFF = datetime(2022, 11, 30, tzinfo=UTC)
OLD, NEW = datetime(2019, 5, 1, tzinfo=UTC), datetime(2024, 5, 1, tzinfo=UTC)
Row = tuple[list[str], datetime | None, datetime | None, float | None]

CUSTOM = parse_policy("""
rules:
  - {verdict: marked, when: {evidence_none: [ai_disclosure, zero_width], machine_probability_at_least: 0.9}, because: a}
  - verdict: declared
    when: {evidence_any: [chatbot_link], evidence_none: [zero_width], captured_before_cutoff: false}
    because: b
  - verdict: dated
    when: {older_copy_before_cutoff: false, detector_abstained: false, machine_probability_below: 0.1}
    because: c
  - {verdict: suspected, when: {machine_probability_below: threshold, captured_before_cutoff: true}, because: d}
  - {verdict: undetermined, because: e}
routes: {dated: reserve, clear: reserve, suspected: review, marked: quarantine, declared: review, undetermined: review}
""")


def by_hand(policy: Policy, row: Row, threshold: float) -> int:
    """The index of the rule that decides, one condition after the other in plain Python."""
    kinds, captured, older, probability = row
    p = None if probability is None or math.isnan(probability) else float(np.float32(probability))

    def limit(bound: float | str) -> float:
        return float(np.float32(threshold if bound == "threshold" else bound))

    for at, rule in enumerate(policy.rules):
        when = rule.when
        asked = []
        if when.captured_before_cutoff is not None:
            asked.append((captured is not None and captured < CUTOFF) == when.captured_before_cutoff)
        if when.older_copy_before_cutoff is not None:
            asked.append((older is not None and older < CUTOFF) == when.older_copy_before_cutoff)
        if when.evidence_any is not None:
            asked.append(any(kind in when.evidence_any for kind in kinds))
        if when.evidence_none is not None:
            asked.append(all(kind not in when.evidence_none for kind in kinds))
        if when.machine_probability_at_least is not None:
            asked.append(p is not None and p >= limit(when.machine_probability_at_least))
        if when.machine_probability_below is not None:
            asked.append(p is not None and p < limit(when.machine_probability_below))
        if when.detector_abstained is not None:
            asked.append((p is None) == when.detector_abstained)
        if all(asked):
            return at
    raise AssertionError("no rule holds")


def columns(rows: list[Row]) -> tuple[pa.ListArray, pa.Array, pa.Array, pa.Array]:
    evidence = EvidenceBuilder(len(rows))
    for at, (kinds, *_) in enumerate(rows):
        evidence.add(at, [Evidence("test", kind) for kind in kinds])
    return (
        evidence.finish(),
        pa.array([row[1] for row in rows], TIMESTAMP),
        pa.array([row[2] for row in rows], TIMESTAMP),
        pa.array([row[3] for row in rows], pa.float32()),
    )


times = st.none() | st.sampled_from([OLD, NEW, CUTOFF, CUTOFF - timedelta(microseconds=1)])
probabilities = st.none() | st.sampled_from([0.0, 0.1, 0.5, 0.7, 0.9, 1.0, math.nan]) | st.floats(0, 1, width=32)
kinds_of_row = st.lists(st.sampled_from([*KINDS, "unheard_of"]), max_size=3)
tables = st.lists(st.tuples(kinds_of_row, times, times, probabilities), max_size=30)


@settings(max_examples=300, deadline=None)
@given(tables, st.sampled_from([0.0, 0.1, 0.7, 0.9]), st.integers(0, 5), st.sampled_from(["default", "custom"]))
def test_kernel_decides_as_by_hand(rows: list[Row], threshold: float, cut: int, which: str) -> None:
    policy = load_policy(None) if which == "default" else CUSTOM
    sliced = [column[cut:] for column in columns(rows)]  # a slice's offsets are not zero
    decisions = decide(policy, *sliced, cutoff=CUTOFF, threshold=threshold)
    rules = [by_hand(policy, row, threshold) for row in rows[cut:]]
    assert decisions.rule.to_pylist() == rules
    assert decisions.verdict.to_pylist() == [policy.rules[at].verdict.value for at in rules]
    assert decisions.place.to_pylist() == [policy.routes[policy.rules[at].verdict].value for at in rules]
    assert decisions.rule.type == pa.int32()


@pytest.mark.parametrize(
    ("row", "verdict", "place"),
    [
        (([], OLD, None, 0.99), "dated", "reserve"),
        (([], NEW, OLD, 0.99), "dated", "reserve"),
        (([], CUTOFF, None, 0.2), "clear", "reserve"),
        (([], CUTOFF - timedelta(microseconds=1), None, 0.2), "dated", "reserve"),
        (([], None, None, 0.2), "clear", "reserve"),
        (([], NEW, None, 0.9), "suspected", "quarantine"),
        (([], NEW, NEW, None), "undetermined", "review"),
        ((["ai_disclosure"], NEW, None, 0.1), "declared", "quarantine"),
        ((["ai_disclosure"], OLD, None, 0.1), "undetermined", "review"),
        ((["zero_width"], NEW, OLD, 0.1), "undetermined", "review"),
        ((["zero_width"], NEW, None, 0.1), "marked", "quarantine"),
        ((["watermark"], NEW, None, None), "marked", "quarantine"),
        ((["zero_width", "chatbot_phrase"], NEW, None, 0.1), "declared", "quarantine"),
        ((["c2pa_text_manifest_human"], NEW, None, 0.1), "clear", "reserve"),
        ((["chatbot_link"], NEW, None, 0.1), "undetermined", "review"),
        ((["chatbot_link"], OLD, None, 0.1), "dated", "reserve"),
        ((["chatbot_link"], NEW, None, 0.95), "suspected", "quarantine"),
        (
            (["digital_source_type_media", "c2pa_manifest_link", "ai_disclosure_none"], NEW, None, 0.1),
            "clear",
            "reserve",
        ),
        ((["chatbot_phrase_quoted", "ai_disclosure_part"], NEW, None, 0.1), "clear", "reserve"),
    ],
)
def test_default_policy(row: Row, verdict: str, place: str) -> None:
    policy = load_policy(None)
    decisions = decide(policy, *columns([row]), cutoff=CUTOFF, threshold=0.9)
    assert (decisions.verdict[0].as_py(), decisions.place[0].as_py()) == (verdict, place)
    assert reasons(policy)[decisions.rule[0].as_py()]


def test_empty_batch_and_null_evidence() -> None:
    policy = load_policy(None)
    assert len(decide(policy, *columns([]), cutoff=CUTOFF, threshold=0.9).verdict) == 0
    evidence = pa.array([None, [{"source": "x", "kind": "zero_width"}]], EVIDENCE)
    rest = columns([([], NEW, None, 0.1)] * 2)[1:]
    assert decide(policy, evidence, *rest, cutoff=CUTOFF, threshold=0.9).verdict.to_pylist() == ["clear", "marked"]


def test_wrong_arguments() -> None:
    evidence, captured, older, probability = columns([([], NEW, None, 0.1)] * 2)
    with pytest.raises(ValueError, match="differ in length"):
        decide(load_policy(None), evidence, captured[:1], older, probability, CUTOFF, 0.9)
    with pytest.raises(ValueError, match="no time zone"):
        decide(load_policy(None), evidence, captured, older, probability, datetime(2022, 11, 30), 0.9)


def test_a_million_rows_each_get_one_verdict() -> None:
    rows = 1_000_000
    rng = np.random.default_rng(7)
    evidence = EvidenceBuilder(rows)
    at = np.sort(rng.choice(rows, rows // 20))
    names = list(KINDS)
    evidence.add_many(at.tolist(), [Evidence("test", names[i % len(names)]) for i in range(len(at))])
    seconds = rng.integers(1_500_000_000, 1_750_000_000, rows)
    captured = pa.array(seconds * 1_000_000).cast(TIMESTAMP)
    columns_ = (evidence.finish(), captured, pa.nulls(rows, TIMESTAMP), pa.array(rng.random(rows, np.float32)))
    decisions = decide(load_policy(None), *columns_, cutoff=CUTOFF, threshold=0.9)
    assert len(decisions.verdict) == rows
    assert decisions.verdict.null_count == decisions.place.null_count == 0
