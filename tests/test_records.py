"""Identity from content, and evidence laid out as Arrow lists."""

import hashlib
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from pipelines.records import EVIDENCE, Evidence, EvidenceBuilder, canonical_time, doc_id

FINDINGS = st.builds(
    Evidence,
    source=st.sampled_from(["leak", "declaration"]),
    kind=st.text(max_size=5),
    score=st.none() | st.floats(allow_nan=False),
    p_value=st.none() | st.floats(0, 1),
    probability=st.none() | st.floats(0, 1, width=32),
    detail=st.none() | st.text(max_size=5),
)


def test_doc_id_is_the_formula_of_the_docs() -> None:
    payload = hashlib.sha256(b"hello").digest()
    when = datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC)
    content = b"https://a.example/\x002024-02-03T04:05:06Z\x00" + payload
    assert doc_id("https://a.example/", when, payload) == hashlib.sha256(content).digest()[:16]
    assert doc_id(None, None, payload) == hashlib.sha256(b"\0\0" + payload).digest()[:16]


def test_one_instant_has_one_spelling() -> None:
    when = datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert canonical_time(when.astimezone(timezone(timedelta(hours=9)))) == canonical_time(when)
    assert canonical_time(when.replace(microsecond=120)) == "2024-02-03T04:05:06.000120Z"


@given(st.lists(st.tuples(st.integers(0, 6), st.lists(FINDINGS, max_size=3)), max_size=8))
def test_evidence_lists_hold_what_was_added_in_order(added: list[tuple[int, list[Evidence]]]) -> None:
    builder = EvidenceBuilder(7)
    expected: list[list[Evidence]] = [[] for _ in range(7)]
    for row, findings in added:
        builder.add(row, findings)
        expected[row] += findings
    column = builder.finish()
    column.validate(full=True)
    assert column.type == EVIDENCE
    assert [[Evidence(**item) for item in row] for row in column.to_pylist()] == expected
    again = EvidenceBuilder(7)
    again.add_column(column)
    assert again.finish().equals(column)
