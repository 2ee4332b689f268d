"""What is said of an audit, and that log, manifest and summary must say the same."""

from dataclasses import replace
from typing import Any

import pytest

from pipelines.reserve.audits import audit_problems, audit_sentence, bound_line, labels_name, plan_name, stated
from pipelines.reserve.chain import Chain, ChainError, Numbered, chain_of
from pipelines.reserve.damage import Kind
from pipelines.reserve.entries import Audit, Release
from pipelines.reserve.manifest import FileDigest
from pipelines.reserve.tiles import TileReader, TileWriter

SHARE = {"estimate": 0.12345, "low": 0.10119, "high": 0.14991, "method": "stratified"}
BOUND = {"bound": 0.00993594, "method": "clopper-pearson"}
DIGESTS = {"labels": "aa" * 32, "plan": "bb" * 32, "manifest": "cc" * 32}
AUDIT = Audit(
    number=1,
    at="2026-11-21T20:00:00Z",
    seed_from="seal",
    drawn=1300,
    labelled=1300,
    people=3,
    withdrawn=0,
    level=0.95,
    reserve=BOUND,
    documents=SHARE,
    captures={**SHARE, "low": 0.1},
    **DIGESTS,
)
RELEASE = Release(1, 0, {"reserve": 0}, "dd" * 32, {}, None, None)
MANIFEST = {
    name: FileDigest(name, 1, digest) for name, digest in ((labels_name(1), AUDIT.labels), (plan_name(1), AUDIT.plan))
}


def chain(*audits: Audit) -> Chain:
    return Chain((Numbered(0, RELEASE),), tuple(enumerate(audits, 1)))


def test_limits_are_rounded_away_from_the_estimate() -> None:
    said = audit_sentence(stated(AUDIT))
    assert "3 people labelled 1,300 documents that were drawn at random." in said
    assert "At 95 % confidence, at most 1.00 % of the reserve is machine text" in said
    assert "12.34 % (95 % interval 10.11 to 15.00 %)" in said
    assert "as often as it was captured, 12.34 % (95 % interval 10.00 to 15.00 %)" in said
    assert "withdrawn" not in said
    assert "at most 1.00 %" in bound_line(AUDIT)
    assert "at most 1.00 %" in bound_line(replace(AUDIT, reserve={**BOUND, "bound": 0.01}))
    assert "at most 1.01 %" in bound_line(replace(AUDIT, reserve={**BOUND, "bound": 0.010000001}))
    unknown: dict[str, Any] = {**SHARE, "estimate": None}
    assert "no estimate" in audit_sentence(stated(replace(AUDIT, documents=unknown, people=1)))
    assert "labelled 1,300 of 1,310 documents" in audit_sentence(stated(replace(AUDIT, drawn=1310)))
    assert "at random, by a seed that was chosen." in audit_sentence(stated(replace(AUDIT, seed_from="given")))
    assert "2 of the labelled documents were withdrawn" in audit_sentence(stated(replace(AUDIT, withdrawn=2)))


def test_log_manifest_and_summary_say_the_same() -> None:
    summary: dict[str, Any] = {"audit": stated(AUDIT)}
    assert audit_problems(chain(), {}, {}) == []
    assert audit_problems(chain(AUDIT), MANIFEST, summary) == []
    (problem,) = audit_problems(chain(), MANIFEST, summary)
    assert (problem.kind, problem.file) == (Kind.COUNTS, "summary.json")
    for said in ({}, {"audit": {**summary["audit"], "reserve": {**BOUND, "bound": 0.001}}}):
        (problem,) = audit_problems(chain(AUDIT), MANIFEST, said)
        assert problem.file == "summary.json"
    second = replace(AUDIT, number=2)
    found = audit_problems(chain(AUDIT, second), MANIFEST, summary)
    assert [problem.file for problem in found] == ["summary.json", labels_name(2), plan_name(2)]
    (problem,) = audit_problems(chain(AUDIT), {**MANIFEST, plan_name(1): MANIFEST[labels_name(1)]}, summary)
    assert (problem.kind, problem.file) == (Kind.LOG, plan_name(1))


@pytest.mark.parametrize("numbers", [(2,), (1, 1), (1, 3)])
def test_audits_are_numbered_from_one_on(numbers: tuple[int, ...], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = str(tmp_path_factory.mktemp("log"))
    log = TileWriter(folder)
    log.append([RELEASE.encode(), *(replace(AUDIT, number=number).encode() for number in numbers)])
    with pytest.raises(ChainError, match="comes next"):
        chain_of(TileReader(folder, log.finish()))
