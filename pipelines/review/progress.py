"""The labels of an audit: which there are, whose they are, and what is missing.

    review = read_review("review")
    progress(review)["documents"]  # {"done": 412, "wanted": 600}

Of the audit stream alone: its documents, the controls among them, and the answers to these.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import files
from pipelines.errors import JobError
from pipelines.records import Place
from pipelines.review import annotators
from pipelines.review.annotators import Confusion, Value
from pipelines.review.records import Folder, Label, Stream, Truth
from pipelines.review.store import Store


class Review(NamedTuple):
    """An audit as it was drawn, and the answers to it.

    Attributes:
        plan: what `plan.json` holds.
        documents: of :data:`pipelines.review.records.TASKS`, those that were drawn, by position.
        tasks: the same with the controls among them.
        controls: the truth of these, by task.
        answers: of :data:`pipelines.review.records.LABELS`, to any of them.
        values: what the answers to each document come to, by task; only documents with answers.
    """

    plan: Mapping[str, Any]
    documents: pa.Table
    tasks: pa.Table
    controls: Mapping[str, Truth]
    answers: pa.Table
    values: Mapping[str, Value]

    @property
    def of_documents(self) -> pa.Table:
        """The answers to documents that were drawn, without those to controls."""
        return self.answers.filter(pc.is_in(self.answers["task_id"], self.documents["task_id"].combine_chunks()))


def read_review(folder: str) -> Review:
    """Reads a review. Raises UsageError where there is none, JobError where its plan is not one."""
    place = Folder(folder)
    tasks = place.read_tasks(Stream.AUDIT)
    plan = files.read_json(place.plan)
    controls = place.read_controls()
    if not plan or not isinstance(plan.get("strata"), list) or "stratify" not in plan:
        raise JobError(f"{place.plan}: no strata in it; make the review again with 'reserve review plan'")
    is_control = pc.or_(pc.is_null(tasks["stratum"]), pc.is_in(tasks["task_id"], pa.array(controls, pa.string())))
    documents = tasks.filter(pc.invert(is_control))
    if documents.num_rows and pc.max(documents["stratum"]).as_py() >= len(plan["strata"]):
        raise JobError(f"{place.plan}: has {len(plan['strata'])} strata, and the audit's tasks name others")
    with Store(place.labels) as store:
        answers = store.labels()
    answers = answers.filter(pc.is_in(answers["task_id"], tasks["task_id"].combine_chunks()))
    wanted = dict(zip(documents["task_id"].to_pylist(), documents["annotators"].to_pylist(), strict=True))
    return Review(plan, documents, tasks, controls, answers, annotators.values(answers, wanted))


def progress(review: Review) -> dict[str, Any]:
    """How many labels there are, of how many, and by whom."""
    counted = Counter(review.answers["task_id"].to_pylist())
    rows = list(zip(*(review.tasks[name].to_pylist() for name in ("task_id", "annotators")), strict=True))
    documents = set(review.documents["task_id"].to_pylist())
    twice = [task for task, people in rows if people > 1 and task in documents]
    said = Counter(review.of_documents["label"].to_pylist())
    return {
        "documents": {"done": len(review.values), "wanted": len(documents)},
        "twice": {"done": sum(counted[task] > 1 for task in twice), "wanted": len(twice)},
        "controls": {
            "done": sum(counted[task] > 0 for task, _ in rows if task not in documents),
            "wanted": len(rows) - len(documents),
        },
        "answers": {
            "done": sum(min(counted[task], people) for task, people in rows),
            "wanted": sum(people for _, people in rows),
        },
        "said": {label.value: said[label.value] for label in Label},
        "by_annotator": {
            person: {"documents": review_of, "controls": every - review_of}
            for person, every, review_of in _by_person(review)
        },
    }


def missing(review: Review, errors: Mapping[str, Confusion]) -> list[str]:
    """What the labels do not say yet, and what follows from that, in sentences."""
    said = [str(warning) for warning in review.plan.get("warnings", [])]
    done, wanted = len(review.values), review.documents.num_rows
    if done < wanted:
        said.append(f"{wanted - done:,} of {wanted:,} documents have no label; the others stand for them.")
    if (over := _passed_over(review)) > len(errors):
        said.append(
            f"{over:,} documents without a label come before some that have one. If they were passed over because they "
            "are hard, the figures are wrong: label them, 'cannot tell' where nobody can."
        )
    rows = zip(*(review.documents[name].to_pylist() for name in ("task_id", "stratum")), strict=True)
    seen = {stratum for task, stratum in rows if task in review.values}
    none = [row for at, row in enumerate(review.plan["strata"]) if at not in seen]
    if in_reserve := [row for row in none if row["place"] == Place.RESERVE.value]:
        documents = sum(row["documents"] for row in in_reserve)
        said.append(
            f"{len(in_reserve):,} strata of the reserve, with {documents:,} documents, have no label: in the bound "
            "they count as machine text."
        )
    twice = progress(review)["twice"]
    if twice["done"] < twice["wanted"]:
        said.append(f"{twice['wanted'] - twice['done']:,} of {twice['wanted']:,} documents for two people lack one.")
    for kind, name in ((Truth.MACHINE, "machine"), (Truth.HUMAN, "human")):
        calls = {person: one.on_machine if kind is Truth.MACHINE else one.on_human for person, one in errors.items()}
        if not any(map(sum, calls.values())):
            said.append(f"No {name} control has an answer: people are taken not to err on {name} text.")
        elif without := [person for person, one in calls.items() if not sum(one)]:
            said.append(f"{', '.join(without)}: no {name} control answered; taken to err as the others do.")
    return said


def _by_person(review: Review) -> list[tuple[str, int, int]]:
    every = Counter(review.answers["annotator"].to_pylist())
    documents = Counter(review.of_documents["annotator"].to_pylist())
    return [(person, every[person], documents[person]) for person in sorted(every)]


def _passed_over(review: Review) -> int:
    open_ = [task not in review.values for task in review.documents["task_id"].to_pylist()]
    last = max((at for at, one in enumerate(open_) if not one), default=0)
    return sum(open_[:last])
