"""Makes a review of an output: draws the audit and its controls, chooses what to train on, and writes the folder.

    plan = make_review("out", Request(margin=0.02, active=300, made="ours.jsonl"), "review")
    plan["audit"]["documents"], plan["warnings"]

The seed, unless one is given, is the root in hex of the log of all documents, as ``summary.json`` has it where the
output is sealed. So whoever knows the output can draw the audit again, and nobody can choose the seed to have another
one: the root is known only once all documents are, and neither withdrawals nor certificates change it. The folder is
:class:`pipelines.review.records.Folder`; ``plan.json`` is written last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import files
from pipelines.errors import UsageError
from pipelines.layout import Layout
from pipelines.records import Place
from pipelines.reserve.encoding import fixed_bytes
from pipelines.reserve.manifest import digest_file
from pipelines.reserve.sample import refuse_folder
from pipelines.reserve.seal import Sealed, read_seal
from pipelines.review.active import Chosen, choose_documents
from pipelines.review.controls import Controls, controls_table, draw_controls, in_audit
from pipelines.review.draw import MINIMUM, Allocation, Drawn, draw, stratum_table
from pipelines.review.plan import Errors, check_margin
from pipelines.review.planning import Plan, plan_labels, read_summary
from pipelines.review.population import (
    Flags,
    Population,
    kept_parts,
    read_population,
    stratifiers,
)
from pipelines.review.records import TASKS, Folder, Stream
from pipelines.review.tasks import arranged, read_tasks

FORMAT: Final = "human-reserve review 1"


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        margin: wanted for the share of machine text, half of the interval's width.
        level: of intervals and limits.
        labels: documents to audit; None: as many as the margin takes, or all.
        double: part of the audit's tasks that two people label, each without the other.
        controls: documents of known origin, in both streams; None: as many as the margin takes, or with ``labels`` one
            for ten of these.
        made: a file of texts that a machine was made to write; see :mod:`pipelines.review.controls`.
        active: documents to train on.
        stratify: names of columns, of which the last is pooled first; the place is one in any case.
        seed: any text; None: the root of the output's seal, or "0" where it has none.
        allocation: how strata share the labels.
        minimum: documents of a stratum.
        errors: that are expected of annotators.
        earlier: folders of reviews: what they hold is not chosen to train on again.
    """

    margin: float = 0.01
    level: float = 0.95
    labels: int | None = None
    double: float = 0.15
    controls: int | None = None
    made: str | None = None
    active: int = 0
    stratify: tuple[str, ...] = ("language", "host_class", "month")
    seed: str | None = None
    allocation: Allocation = Allocation.PROPORTIONAL
    minimum: int = MINIMUM
    errors: Errors = field(default_factory=Errors)
    earlier: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_margin(self.margin, self.level)
        stratifiers(self.stratify)
        if not 0 <= self.double <= 1:
            raise UsageError(f"--double {self.double:g}: a part of the audit, from 0 to 1, such as 0.15")
        for name, value in (("--active", self.active), ("--controls", self.controls)):
            if value is not None and value < 0:
                raise UsageError(f"{name} {value}: at least 0")
        if self.made is not None and self.controls == 0:
            raise UsageError(f"--made {self.made}: there are no controls with --controls 0")


class _Made(NamedTuple):
    """Everything that the folder is written of."""

    population: Population
    drawn: Drawn
    controls: Controls
    chosen: Chosen
    audit: pa.Table
    active: pa.Table


def plan_for(output: str, request: Request) -> Plan:
    """How many labels the request takes, by the output's own statistics; nothing is drawn."""
    return plan_labels(
        read_summary(output),
        request.margin,
        request.level,
        request.labels,
        request.double,
        request.controls,
        request.errors,
    )


def make_review(output: str, request: Request, folder: str) -> dict[str, Any]:
    """Draws and writes a review; gives what `plan.json` holds.

    Args:
        output: of a finished run.
        request: what to draw.
        folder: to write; it must not hold anything, nor lie in the output.

    Raises UsageError for what cannot be drawn, JobError where a file of the output cannot be read.
    """
    summary = read_summary(output)
    parts = kept_parts(output)
    refuse_folder(output, folder)
    plan = plan_for(output, request)
    seal = read_seal(Layout(output).seal)
    root = (summary.get("seal") or {}).get("root")
    seed = request.seed if request.seed is not None else root or "0"
    columns = stratifiers(request.stratify)
    population = read_population(parts, columns, seed, _cutoff(summary), opinions=request.active > 0)
    made = _make(parts, population, request, plan, seed, _targets(summary))
    told = {
        "format": FORMAT,
        "output": {
            "path": output,
            "job": summary.get("job", {}).get("digest"),
            "seal": _seal(seal) if seal else None,
        },
        "seed": seed,
        "seed_from": "given" if request.seed is not None else "seal" if root else "default",
        "margin": request.margin,
        "level": request.level,
        "planned": plan.as_dict(),
        "stratify": list(columns),
        "allocation": request.allocation.value,
        "minimum": request.minimum,
        "population": {"documents": population.size, "captures": int(population.captures.sum(dtype=np.int64))},
        "audit": _counts(made.audit, made.drawn.rows.size),
        "active": {
            **_counts(made.active, made.chosen.rows.size),
            "because": {
                population.ids[row].tobytes().hex(): wish.value
                for row, wish in zip(made.chosen.rows.tolist(), made.chosen.because, strict=True)
            },
        },
        "warnings": _warnings(made, request),
        "strata": stratum_table(population, made.drawn, columns),
    }
    _write(Folder(folder), made, told)
    return told


def _make(
    parts: Sequence[tuple[Place, str]],
    population: Population,
    request: Request,
    plan: Plan,
    seed: str,
    targets: Sequence[float],
) -> _Made:
    drawn = draw(population, min(plan.audited, population.size), request.allocation, request.minimum)
    free = np.ones(population.size, bool)
    free[drawn.rows] = False
    audited = _with_chances(read_tasks(parts, population.ids[drawn.rows]), drawn)
    known = audited["text_sha256"].to_pylist()
    controls = draw_controls(population, free, plan.controls, seed, request.made, known)
    free[controls.rows] = False
    chosen = Chosen(np.empty(0, np.int64), [])
    if request.active:
        chosen = _choose(parts, population, free, drawn, request, targets, audited)
    of_documents = read_tasks(parts, population.ids[controls.rows])
    every = pa.concat_tables([of_documents, controls.made])
    total = drawn.rows.size + chosen.rows.size
    shown = in_audit(controls, drawn.rows.size / total, seed)
    active = [read_tasks(parts, population.ids[chosen.rows]), every.filter(pa.array(~shown))]
    return _Made(
        population,
        drawn,
        controls,
        chosen,
        arranged([audited, every.filter(pa.array(shown))], seed, Stream.AUDIT, request.double),
        arranged(active, seed, Stream.ACTIVE),
    )


def _choose(
    parts: Sequence[tuple[Place, str]],
    population: Population,
    free: Flags,
    drawn: Drawn,
    request: Request,
    targets: Sequence[float],
    audited: pa.Table,
) -> Chosen:
    """What to train on: nothing of the audit, of its clusters, or of an earlier review."""
    clusters = population.cluster[drawn.rows]
    allowed = free & ~(np.isin(population.cluster, clusters[clusters != b""]))
    before = [(stream, Folder(one).read_tasks(stream)) for one in request.earlier for stream in Stream]
    labelled = pa.concat_tables([TASKS.empty_table(), *(tasks for stream, tasks in before if stream is Stream.ACTIVE)])
    # Hosts of labels: the earlier tasks that are documents of this output.
    again = population.known(fixed_bytes(labelled["task_id"], 16))
    tested = pa.concat_tables([audited, *(tasks for stream, tasks in before if stream is Stream.AUDIT)])
    for tasks in (labelled, tested):
        allowed &= ~population.known(fixed_bytes(tasks["task_id"], 16))
    return choose_documents(
        parts,
        population,
        allowed,
        request.active,
        targets,
        tested["text"],
        labelled["text"],
        np.flatnonzero(again),
    )


def _with_chances(tasks: pa.Table, drawn: Drawn) -> pa.Table:
    columns = {
        "stratum": pa.array(drawn.stratum.astype(np.int32)),
        "inclusion_probability": pa.array(drawn.probabilities[drawn.stratum]),
    }
    for name, column in columns.items():
        tasks = tasks.set_column(TASKS.get_field_index(name), TASKS.field(name), column)
    return tasks


def _counts(tasks: pa.Table, documents: int) -> dict[str, int]:
    return {
        "documents": documents,
        "controls": tasks.num_rows - documents,
        "labelled_twice": int(pc.sum(pc.equal(tasks["annotators"], 2)).as_py() or 0),
        "judgements": int(pc.sum(tasks["annotators"]).as_py() or 0),
    }


def _warnings(made: _Made, request: Request) -> list[str]:
    warnings = list(made.controls.warnings)
    if made.chosen.rows.size < request.active:
        warnings.append(
            f"--active {request.active}: only {made.chosen.rows.size} to be had; all else is in the audit or much like "
            "it, a control, or in an earlier review"
        )
    return warnings


def _write(folder: Folder, made: _Made, told: dict[str, Any]) -> None:
    tables = {folder.tasks(Stream.AUDIT): made.audit, folder.controls: controls_table(made.controls)}
    if made.active.num_rows:
        tables[folder.tasks(Stream.ACTIVE)] = made.active
    for path, table in tables.items():
        files.write_parquet(path, table)
    names = {path: path[len(folder.path) :].lstrip("/") for path in tables}
    told["files"] = {name: digest_file(path, name).sha256 for path, name in sorted(names.items())}
    files.write_json(folder.plan, told)


def _seal(seal: Sealed) -> dict[str, Any]:
    checkpoint = seal.checkpoint
    return {"origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.hex()}


def _cutoff(summary: dict[str, Any]) -> str:
    return str(summary.get("job", {}).get("settings", {}).get("cutoff", "2022-11-30"))


def _targets(summary: dict[str, Any]) -> tuple[float, ...]:
    """Where a document is uncertain: at one half, and at the threshold of verdicts."""
    threshold = (summary.get("detector") or {}).get("threshold")
    return (0.5, float(threshold)) if threshold is not None and 0 < threshold < 1 else (0.5,)
