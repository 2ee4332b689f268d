"""Certifying an audit: its bound goes into the summary, the report, the data card and the seal of a finished output.

    labels, plan = sealed_labels(folder), sealed_plan(folder)
    certify("out", found, labels, plan, signers, rewrite)

Labels and plan are put beside the data; ``summary.json``, data card, report and description are written again; and an
entry of the log commits to all of them (:mod:`pipelines.reserve.audits`). The log goes on from what it was, so that
older proofs and checkpoints still hold. A later audit of the same output adds an entry of its own.

What is sealed is sealed for good, so no name of an annotator goes in, and no time, comment or text: a person is
"annotator 3", which is all that the computation asks for. A digest of a name, salted or not, would tell whoever
guesses the name; a number tells nothing. In another audit the same person may have another number.

A certification that was killed on the way is finished by the same command.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from pipelines import files
from pipelines.errors import JobError, UsageError
from pipelines.records import canonical_time
from pipelines.reserve.amend import Amending, manifest_digest, open_sealed
from pipelines.reserve.audits import labels_name, plan_name, stated
from pipelines.reserve.card import data_card
from pipelines.reserve.entries import Audit
from pipelines.reserve.manifest import FileDigest, digest_file, digest_of, write_bytes
from pipelines.reserve.note import Signer
from pipelines.review.records import Folder, Label, Stream
from pipelines.review.store import Store

# Writes what is made of the summary and the statistics again; gives the paths of these files.
Rewrite = Callable[[str], list[str]]

FORMAT: Final = "human-reserve audit plan 1"

_OF_PLAN: Final = ("seed", "seed_from", "level", "stratify", "allocation", "minimum", "population", "audit", "strata")
_DRAWN: Final = ["task_id", "stratum", "inclusion_probability", "annotators"]
_SHARE: Final = ("estimate", "low", "high", "method")
_PSEUDONYM: Final = re.compile(r"annotator [1-9][0-9]*")


def certify(
    output: str,
    found: Mapping[str, Any],
    label_lines: bytes,
    plan: bytes,
    signers: Sequence[Signer],
    rewrite: Rewrite,
    when: datetime | None = None,
) -> Audit:
    """Puts an audit into a sealed output; gives its entry in the log.

    The same audit a second time changes nothing, and gives the entry that is there.

    Args:
        output: its folder.
        found: what :func:`pipelines.review.audit.audit` gives.
        label_lines: what :func:`sealed_labels` gives.
        plan: what :func:`sealed_plan` gives.
        signers: keys; one of those that signed the checkpoint must be among them.
        rewrite: what makes report and description anew, once the summary is written.
        when: the time to write down; None: now.

    Raises UsageError where the output is not sealed, the keys are others, the audit was drawn from another output, or
    the labels are not the ones that ``found`` was worked out from; JobError where the output is not as sealed.
    """
    amending = open_sealed(output, signers)
    summary = _summary(amending)
    drawn, controls, seed_from = _read_plan(plan, amending, summary)
    rows = [(task, person) for task, person in _read_labels(label_lines, {*drawn, *controls}) if task in drawn]
    labelled = {task for task, _ in rows}
    if not labelled:
        raise UsageError(f"{output}: the audit has no labels yet; there is nothing to certify")
    _check_same(found, label_lines, plan, len(labelled))
    gone = {withdrawal.doc_id for _, withdrawal in amending.chain.withdrawals}
    audit = Audit(
        number=len(amending.chain.audits) + 1,
        at=canonical_time((when or datetime.now(UTC)).replace(microsecond=0)),
        labels=hashlib.sha256(label_lines).hexdigest(),
        plan=hashlib.sha256(plan).hexdigest(),
        seed_from=seed_from,
        drawn=len(drawn),
        labelled=len(labelled),
        people=len({person for _, person in rows}),
        withdrawn=len(labelled & gone),
        **_figures(found),
        manifest="",
    )
    if (known := _certified_before(amending, audit)) is not None:
        return known
    summary["audit"] = stated(audit)
    changed = _write(amending, audit, label_lines, plan, summary)
    changed += [digest_file(path, amending.layout.name(path)) for path in rewrite(output)]
    content = amending.manifest_with(changed)
    audit = replace(audit, manifest=manifest_digest(content))
    amending.append([audit.encode()], content, signers)
    return audit


def sealed_labels(folder: Folder) -> bytes:
    """The labels of a review's audit as they are sealed: JSON Lines, sorted by task and annotator, under pseudonyms.

    Those on controls are among them, since the annotators' errors are measured by these. The pseudonyms are numbers in
    the order in which people began. Raises UsageError where the folder holds no review.
    """
    tasks = set(folder.read_tasks(Stream.AUDIT)["task_id"].to_pylist())
    with Store(folder.labels) as store:
        rows = [row for row in store.labels().to_pylist() if row["task_id"] in tasks]
    began = sorted(rows, key=lambda row: (row["at"], row["annotator"]))
    numbers = {name: number for number, name in enumerate(dict.fromkeys(row["annotator"] for row in began), 1)}
    found = sorted((row["task_id"], numbers[row["annotator"]], row["label"]) for row in rows)
    return b"".join(
        _line({"task_id": task, "annotator": f"annotator {number}", "label": label}) for task, number, label in found
    )


def sealed_plan(folder: Folder) -> bytes:
    """How a review's audit was drawn, as it is sealed: seed, strata, every document with its chance, and the controls.

    Of the plan, what has to do with the audit; neither the path of the output nor what was chosen for training. Raises
    UsageError where the folder holds no review.
    """
    tasks, truths = folder.read_tasks(Stream.AUDIT), folder.read_controls()
    content = files.read_bytes(folder.plan)
    plan = json.loads(content)
    output = plan.get("output") or {}
    rows = sorted(tasks.select(_DRAWN).to_pylist(), key=lambda row: str(row["task_id"]))
    return files.json_bytes(
        {
            "format": FORMAT,
            "output": {key: output.get(key) for key in ("job", "seal")},
            **{key: plan[key] for key in _OF_PLAN if key in plan},
            "plan_sha256": hashlib.sha256(content).hexdigest(),
            "drawn": [row for row in rows if row["task_id"] not in truths],
            "controls": [
                {"task_id": row["task_id"], "truth": truths[row["task_id"]].value}
                for row in rows
                if row["task_id"] in truths
            ],
        }
    )


def _line(value: Mapping[str, Any]) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def _summary(amending: Amending) -> dict[str, Any]:
    """`summary.json` as it was before any audit. Raises JobError where it is not as sealed.

    A killed certification may have left its own audit in it: with the one of the log instead, it is as sealed.
    """
    path = amending.layout.summary
    name = amending.layout.name(path)
    try:
        summary = json.loads(files.read_bytes(path))
        plain = {key: value for key, value in summary.items() if key != "audit"}
    except (*files.FAILURES, ValueError, AttributeError):
        raise JobError(f"{path}: cannot be read; run 'reserve verify' first") from None
    audits = amending.chain.audits
    sealed = {**plain, "audit": stated(audits[-1][1])} if audits else plain
    if digest_of(files.json_bytes(sealed), name) != amending.manifest.get(name):
        raise JobError(f"{path}: is not as it was sealed; run 'reserve verify' first")
    return plain


def _certified_before(amending: Amending, audit: Audit) -> Audit | None:
    """The latest audit of the log, where it says the same."""
    if not amending.chain.audits:
        return None
    latest = amending.chain.audits[-1][1]
    return latest if replace(audit, number=latest.number, at=latest.at, manifest=latest.manifest) == latest else None


def _write(
    amending: Amending, audit: Audit, label_lines: bytes, plan: bytes, summary: Mapping[str, Any]
) -> list[FileDigest]:
    layout = amending.layout
    contents = {
        labels_name(audit.number): label_lines,
        plan_name(audit.number): plan,
        layout.name(layout.card): data_card(dict(summary)).encode(),
        layout.name(layout.summary): files.json_bytes(summary),
    }
    return [
        write_bytes(files.join(layout.output, *name.split("/")), name, content) for name, content in contents.items()
    ]


def _read_plan(plan: bytes, amending: Amending, summary: Mapping[str, Any]) -> tuple[set[str], set[str], str]:
    """The tasks that are documents and those that are controls, and where the seed is from.

    Raises UsageError where they were drawn from another output, or the seed is not from there.
    """
    output = amending.layout.output
    try:
        data = json.loads(plan)
        job, seal = data["output"]["job"], data["output"]["seal"]
        seed, seed_from = str(data["seed"]), str(data["seed_from"])
        drawn = {str(row["task_id"]) for row in data["drawn"]}
        controls = {str(row["task_id"]) for row in data["controls"]}
        size, root = (int(seal["size"]), str(seal["root"])) if seal else (0, "")
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"the plan of the audit cannot be read: {type(error).__name__}: {error}") from None
    # The log of then, withdrawals and audits with it, must be the beginning of the log of now.
    ours = amending.chain.latest.at < size <= amending.reader.size
    if job != summary["job"]["digest"] or not ours or amending.reader.root_of(0, size).hex() != root:
        raise UsageError(
            f"{output}: the audit was drawn from another output (job {str(job)[:12]}, log of {size:,} entries, root "
            f"{root[:12] or 'none'}); certify the one that it was drawn from, or plan an audit of this one"
        )
    if seed_from == "seal" and seed != summary["seal"]["root"]:
        raise UsageError(f"{output}: the plan says that its seed is the root of the documents, and it is {seed[:12]}")
    return drawn, controls, seed_from


def _read_labels(lines: bytes, tasks: set[str]) -> list[tuple[str, str]]:
    """Task and annotator of each label.

    Raises UsageError where a line has another form, or holds what must not be sealed.
    """
    found = []
    for number, line in enumerate(lines.splitlines(keepends=True), 1):
        try:
            row = json.loads(line)
            task, label, annotator = str(row["task_id"]), Label(row["label"]), str(row["annotator"])
        except (ValueError, KeyError, TypeError):
            raise UsageError(f"labels, line {number}: not a label") from None
        if line != _line({"task_id": task, "label": label.value, "annotator": annotator}):
            raise UsageError(f"labels, line {number}: holds more than task_id, label and annotator, or in another form")
        if not _PSEUDONYM.fullmatch(annotator):
            raise UsageError(f"labels, line {number}: {annotator!r} may be a name; call people 'annotator 1' and so on")
        if task not in tasks:
            raise UsageError(f"labels, line {number}: {task} is no task of the audit")
        found.append((task, annotator))
    return found


def _check_same(found: Mapping[str, Any], label_lines: bytes, plan: bytes, labelled: int) -> None:
    """Raises UsageError where the figures were worked out from other labels, or another plan, than are to be sealed."""
    for name, content in (("labels", label_lines), ("plan", plan)):
        if found[f"{name}_sha256"] != hashlib.sha256(content).hexdigest():
            raise UsageError(f"the figures were worked out from another state of the {name}; work them out again")
    if found["labels"] != labelled:
        raise UsageError(f"the figures rest on {found['labels']:,} labelled documents, and {labelled:,} have labels")
    if found["reserve_bound"] is None:
        raise UsageError("the reserve is empty; there is nothing to certify")


def _figures(found: Mapping[str, Any]) -> dict[str, Any]:
    bound = found["reserve_bound"]
    shares = {"documents": found["share"], "captures": found["shares"]["captures"]}
    return {
        "level": float(found["level"]),
        "reserve": {"bound": float(bound["share"]), "method": str(bound["method"])},
        **{name: {key: one[key] for key in _SHARE} for name, one in shares.items()},
    }
