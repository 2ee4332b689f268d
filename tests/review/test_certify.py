"""An audit of a sealed output becomes a part of it: summary, card, report, description and log say the same of it."""

import hashlib
import json
import math
import shutil
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.descriptions import rewrite_croissant
from pipelines.errors import JobError, UsageError
from pipelines.finish import rewrite_report
from pipelines.reserve import amend
from pipelines.reserve.entries import Audit
from pipelines.reserve.keys import KeyFiles, read_signer, read_verifier
from pipelines.reserve.seal import read_seal, sign
from pipelines.reserve.verify import report, verify
from pipelines.reserve.withdraw import withdraw
from pipelines.reserve.words import verified
from pipelines.review import certify as certifying
from pipelines.review.annotators import control_errors, pool
from pipelines.review.audit import audit
from pipelines.review.bounds import Sample, upper_bound
from pipelines.review.certify import certify, sealed_labels, sealed_plan
from pipelines.review.make import Request, make_review
from pipelines.review.records import LABELS, Answer, Folder, Label, Stream, Truth
from pipelines.review.store import Store
from tests.crawls import write_jsonl
from tests.reserve.sealed import copy_of, make_key, seal_run, summary

WHEN = datetime(2026, 11, 21, 20, tzinfo=UTC)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyFiles:
    return make_key(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def original(key: KeyFiles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audited")
    return seal_run(write_jsonl(folder / "crawl"), folder / "out", key.private, inspect={"detector": "none"})


@pytest.fixture(scope="module")
def review(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """An audit of 40 documents, labelled by two people."""
    folder = Folder(str(tmp_path_factory.mktemp("review") / "review"))
    make_review(str(original), Request(labels=40, stratify=(), controls=30), folder.path)
    label(folder)
    return folder


@pytest.fixture
def output(original: Path, tmp_path: Path) -> Path:
    return copy_of(original, tmp_path / "out")


def label(folder: Folder) -> None:
    answers = []
    for row in folder.read_tasks(Stream.AUDIT).to_pylist():
        at = WHEN + timedelta(seconds=row["position"])
        said = Label.MACHINE if row["place"] == "quarantine" else Label.HUMAN
        names = ("Zoë Quist", "Ada Lovelace")[: row["annotators"]]
        answers += [Answer(row["task_id"], name, said, at, 3.5, "seen by me") for name in names]
    with Store(folder.labels) as store:
        store.add(answers)


def rewrite(output: str) -> list[str]:
    return [rewrite_report(output), rewrite_croissant(output)]


def certified(output: Path, folder: Folder, key: KeyFiles | None, **how: Any) -> Audit:
    signers = [read_signer(key.private)] if key else []
    given = {"rewrite": rewrite, "when": WHEN, **how}
    return certify(str(output), audit(folder.path), sealed_labels(folder), sealed_plan(folder), signers, **given)


def contents(output: Path) -> dict[str, bytes]:
    return {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*") if path.is_file()}


def test_the_bound_goes_everywhere_and_the_seal_holds(
    original: Path, output: Path, review: Folder, key: KeyFiles
) -> None:
    before = contents(original)
    entry = certified(output, review, key)
    verifier = read_verifier(key.vkey)
    result = verify(str(output), [verifier], since=read_seal(str(original / "seal")))
    assert result.whole, result.problems
    assert result.since is not None
    assert (entry.number, entry.drawn, entry.labelled, entry.people, entry.withdrawn) == (1, 40, 40, 2, 0)
    assert entry.reserve["bound"] == audit(review.path)["reserve_bound"]["share"]
    said = summary(output)["audit"]
    assert report(result)["audit"] == said
    bound = f"at most {math.ceil(entry.reserve['bound'] * 10000) / 100:.2f} % of the reserve is machine text"
    assert f"audit       1 (2026-11-21): {bound}" in verified("out", result)
    # The summary is as it was, and one thing more.
    text = before["summary.json"].decode()
    assert (output / "summary.json").read_text().startswith(text.removesuffix("\n}\n") + ',\n  "audit": {')
    card = (output / "README.md").read_text()
    assert bound in card
    assert "`audit/labels-1.jsonl` and `audit/plan-1.json`" in card
    described = json.loads((output / "croissant.json").read_text())
    assert {"audit/labels-1.jsonl", "audit/plan-1.json"} <= {one["@id"] for one in described["distribution"]}
    assert "40 documents of a random sample were labelled by people" in described["rai:annotationsPerItem"]
    changed = {name for name, content in contents(output).items() if before.get(name) != content}
    outside = {name for name in changed if not name.startswith("seal/")}
    expected = {
        "summary.json",
        "README.md",
        "report.html",
        "croissant.json",
        "audit/labels-1.jsonl",
        "audit/plan-1.json",
    }
    assert outside - {"report.html"} == expected - {"report.html"}
    assert hashlib.sha256((output / "audit/labels-1.jsonl").read_bytes()).hexdigest() == entry.labels


def test_no_name_time_comment_or_text_is_sealed(output: Path, review: Folder, key: KeyFiles) -> None:
    certified(output, review, key)
    sealed = b"".join(content for name, content in contents(output).items() if name.startswith("audit/"))
    for hidden in ("Ada", "Zo", "Lovelace", "seen by me", "2026-11-21T", str(Path(review.path).parent), "https://"):
        assert hidden.encode() not in sealed
    lines = [json.loads(line) for line in (output / "audit/labels-1.jsonl").read_text().splitlines()]
    assert {line["annotator"] for line in lines} == {"annotator 1", "annotator 2"}
    plan = json.loads((output / "audit/plan-1.json").read_text())
    assert sum(stratum["documents"] for stratum in plan["strata"]) == plan["population"]["documents"]
    # The chances are those of the strata, so that everything can be worked out again.
    for row in plan["drawn"]:
        stratum = plan["strata"][row["stratum"]]
        assert row["inclusion_probability"] == stratum["sampled"] / stratum["documents"]
    assert {line["task_id"] for line in lines} == {row["task_id"] for row in plan["drawn"] + plan["controls"]}


def test_what_is_sealed_is_enough_to_work_the_bound_out_again(output: Path, review: Folder, key: KeyFiles) -> None:
    entry = certified(output, review, key)
    plan = json.loads((output / "audit/plan-1.json").read_text())
    rows = [json.loads(line) for line in (output / "audit/labels-1.jsonl").read_text().splitlines()]
    answers = pa.Table.from_pylist([{**row, "at": WHEN, "tool": "jsonl"} for row in rows], schema=LABELS)
    controls = {row["task_id"]: Truth(row["truth"]) for row in plan["controls"]}
    said = Counter(row["annotator"] for row in rows if row["task_id"] not in controls)
    errors = pool(control_errors(answers, controls), said)
    machine = {row["task_id"] for row in rows if row["label"] != "human"}
    strata = [stratum for stratum in plan["strata"] if stratum["place"] == "reserve"]
    drawn = [[row["task_id"] for row in plan["drawn"] if row["stratum"] == one["stratum"]] for one in strata]
    counted = [len(machine & set(tasks)) for tasks in drawn]
    sample = Sample([one["documents"] for one in strata], [len(tasks) for tasks in drawn], counted)
    assert upper_bound(sample, entry.level, errors).share == entry.reserve["bound"]
    assert 0 < entry.reserve["bound"] < 0.5


def test_a_changed_label_is_found(output: Path, review: Folder, key: KeyFiles) -> None:
    certified(output, review, key)
    path = output / "audit" / "labels-1.jsonl"
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    (problem,) = verify(str(output)).problems
    assert problem.file == "audit/labels-1.jsonl"


def test_a_second_audit_adds_an_entry(output: Path, review: Folder, key: KeyFiles, tmp_path: Path) -> None:
    first = certified(output, review, key)
    middle = read_seal(str(output / "seal"))
    other = Folder(str(tmp_path / "other"))
    make_review(str(output), Request(labels=30, stratify=(), controls=0, seed="another"), other.path)
    label(other)
    second = certified(output, other, key)
    result = verify(str(output), since=middle)
    assert result.whole, result.problems
    assert result.chain is not None
    assert [audit for _, audit in result.chain.audits] == [first, second]
    assert summary(output)["audit"]["labelled"] == 30  # type: ignore[index]
    assert (output / "audit" / "labels-1.jsonl").exists()


def test_the_same_again_changes_nothing(output: Path, review: Folder, key: KeyFiles) -> None:
    first = certified(output, review, key)
    before = contents(output)
    assert certified(output, review, key, when=WHEN + timedelta(days=1)) == first
    assert contents(output) == before


@pytest.mark.parametrize(("at", "call"), [("digest_file", 1), ("sign", 1), ("replace", 1), ("strays", 2)])
def test_one_that_was_killed_is_finished(
    at: str, call: int, output: Path, review: Folder, key: KeyFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when the files are written, before and after the signature, and when only old tiles are left over."""
    owner = {"digest_file": certifying, "replace": amend.files}.get(at, amend)
    real, calls = getattr(owner, at), []

    def killed(*given: Any) -> Any:
        if at == "replace" and not given[0].endswith(amend.NEXT):  # of another file
            return real(*given)
        calls.append(given)
        if len(calls) == call:
            raise KeyboardInterrupt
        return real(*given)

    with monkeypatch.context() as patched:
        patched.setattr(owner, at, killed)
        with pytest.raises(KeyboardInterrupt):
            certified(output, review, key)
    (output / "README.md.tmp-1-aa").write_bytes(b"half")
    assert not verify(str(output)).whole
    certified(output, review, key, when=WHEN + timedelta(hours=1))
    result = verify(str(output), [read_verifier(key.vkey)])
    assert result.whole, result.problems
    assert result.chain is not None
    assert len(result.chain.audits) == 1


def test_an_unsigned_seal(output: Path, review: Folder, key: KeyFiles) -> None:
    sealed = read_seal(str(output / "seal"))
    assert sealed is not None
    sign(sealed.folder, sealed.checkpoint.origin, sealed.tree, [])
    shutil.rmtree(output / "seal" / "keys")
    certified(output, review, None)
    result = verify(str(output))
    assert result.whole, result.problems
    assert not result.signed_by
    assert report(result)["audit"]["labelled"] == 40
    shutil.rmtree(output / "seal")
    with pytest.raises(UsageError, match="holds no seal"):
        certified(output, review, key)


def test_withdrawals_and_audits_of_one_output(output: Path, review: Folder, key: KeyFiles) -> None:
    signer = read_signer(key.private)
    drawn = json.loads(sealed_plan(review))["drawn"]
    gone = [row["task_id"] for row in drawn][:2]
    withdraw(str(output), gone[0], "asked for", [signer], rewrite)
    entry = certified(output, review, key)
    assert (entry.labelled, entry.withdrawn) == (40, 1)
    assert "One of the labelled documents was withdrawn since" in (output / "README.md").read_text()
    withdraw(str(output), gone[1], "asked for", [signer], rewrite)
    result = verify(str(output))
    assert result.whole, result.problems
    assert result.chain is not None
    assert len(result.chain.withdrawals) == 2
    # What was known of the sample then is another thing now.
    assert certified(output, review, key).number == 2
    assert verify(str(output)).whole


def test_what_is_refused(output: Path, review: Folder, key: KeyFiles, tmp_path: Path) -> None:
    before = contents(output)
    labels, plan, found = sealed_labels(review), sealed_plan(review), audit(review.path)
    signer = read_signer(key.private)

    def refused(match: str, kind: type[Exception] = UsageError, **other: Any) -> None:
        given = {"found": found, "label_lines": labels, "plan": plan, "signers": [signer], **other}
        with pytest.raises(kind, match=match):
            certify(str(output), rewrite=rewrite, **given)
        assert contents(output) == before

    def named(lines: bytes) -> dict[str, Any]:
        return {"label_lines": lines, "found": {**found, "labels_sha256": hashlib.sha256(lines).hexdigest()}}

    refused("signed by example", signers=[])
    refused("signed by example", signers=[read_signer(make_key(tmp_path).private)])
    refused("another state of the labels", label_lines=labels[: labels.rindex(b"{")])
    refused("another state of the plan", plan=plan + b"\n")
    refused("rest on 41", found={**found, "labels": 41})
    refused("reserve is empty", found={**found, "reserve_bound": None})
    refused("no labels yet", **named(b""))
    refused("may be a name", **named(labels.replace(b"annotator 1", b"Ada")))
    refused("holds more", **named(labels.replace(b"{", b'{"at":"now",', 1)))
    refused("is no task", **named(labels.replace(b'"task_id":"', b'"task_id":"x', 1)))
    for other in ({"job": "00"}, {"seal": None}, {"seal": {"size": 3, "root": "00"}}):
        data = json.loads(plan)
        refused("another output", plan=json.dumps({**data, "output": {**data["output"], **other}}).encode())
    refused("cannot be read", plan=b"{}")
    chosen = json.dumps({**json.loads(plan), "seed": "mine"}).encode()
    refused("seed is the root", plan=chosen)
    (output / "summary.json").write_bytes(before["summary.json"].replace(b'"reserve"', b'"reserv"', 1))
    before = contents(output)
    refused("is not as it was sealed", JobError)
