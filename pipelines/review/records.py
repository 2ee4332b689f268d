"""What people are asked and what they answer: the words, the tables, and the folder that holds them.

A review is a folder beside an output, made by ``reserve review plan``:

=================  =====================================================================================================
``plan.json``      which output, by what seed and strata the audit was drawn, how many labels are wanted; written last
``audit.parquet``  documents of the audit, with their inclusion probabilities, and controls among them
``active.parquet``  documents whose labels teach most; for training alone
``controls.parquet``  which tasks are controls, and what they are; no page and no export shows it
``labels.sqlite``  the answers, as they come (:mod:`pipelines.review.store`)
=================  =====================================================================================================

The two files of tasks have the schema :data:`TASKS`. A document is in one of them at most: what
measures must not train.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

import pyarrow as pa

from pipelines import files
from pipelines.errors import UsageError
from pipelines.records import EVIDENCE, TIMESTAMP


class Stream(StrEnum):
    """What a label is for."""

    AUDIT = "audit"  # measures; never trains
    ACTIVE = "active"  # trains; never measures


class Label(StrEnum):
    """What a person makes of a document."""

    HUMAN = "human"
    MACHINE = "machine"
    EDITED = "edited"  # a machine wrote or rewrote part of it
    CANNOT_TELL = "cannot_tell"


class Truth(StrEnum):
    """What a control is known to be."""

    HUMAN = "human"
    MACHINE = "machine"


TASKS: Final = pa.schema(
    [
        pa.field("task_id", pa.string(), nullable=False),  # 32 hex digits: the doc_id; of a made control, any
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("text_sha256", pa.string(), nullable=False),  # 64 hex digits
        pa.field("url", pa.string()),
        pa.field("host", pa.string()),
        pa.field("captured_at", TIMESTAMP),
        pa.field("language", pa.string()),
        pa.field("place", pa.string()),  # null for made controls, as all that follows but `annotators` and `position`
        pa.field("verdict", pa.string()),
        pa.field("machine_probability", pa.float32()),
        pa.field("evidence", EVIDENCE),
        pa.field("cluster_size", pa.int32()),
        # Of the audit: the number of the stratum in plan.json, and the chance with which the document was drawn, over
        # all seeds. Null for active tasks and for controls.
        pa.field("stratum", pa.int32()),
        pa.field("inclusion_probability", pa.float64()),
        pa.field("annotators", pa.int32(), nullable=False),  # how many people are to label it, each without the others
        pa.field("position", pa.int32(), nullable=False),  # in the order of asking, which is random
    ]
)

CONTROLS: Final = pa.schema(
    [pa.field("task_id", pa.string(), nullable=False), pa.field("truth", pa.string(), nullable=False)]
)

LABELS: Final = pa.schema(
    [
        pa.field("task_id", pa.string(), nullable=False),
        pa.field("annotator", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("at", TIMESTAMP, nullable=False),
        pa.field("seconds", pa.float64()),  # that the person took; null where the tool does not say
        pa.field("comment", pa.string()),
        pa.field("tool", pa.string(), nullable=False),  # "serve", "label-studio", "argilla", "jsonl"
    ]
)


class Answer(NamedTuple):
    """One label; a later one of the same annotator on the same task replaces it."""

    task_id: str
    annotator: str
    label: Label
    at: datetime
    seconds: float | None = None
    comment: str | None = None
    tool: str = "jsonl"


class Folder(NamedTuple):
    """The files of a review."""

    path: str

    @property
    def plan(self) -> str:
        """What was asked for and drawn."""
        return files.join(self.path, "plan.json")

    @property
    def controls(self) -> str:
        """Which tasks are controls."""
        return files.join(self.path, "controls.parquet")

    @property
    def labels(self) -> str:
        """The answers."""
        return files.join(self.path, "labels.sqlite")

    def tasks(self, stream: Stream) -> str:
        """The tasks of one stream."""
        return files.join(self.path, f"{stream.value}.parquet")

    def read_tasks(self, stream: Stream) -> pa.Table:
        """Of :data:`TASKS`, by ``position``; empty where the review has none of the stream.

        Raises UsageError where the folder holds no review.
        """
        if not files.exists(self.plan):
            raise UsageError(f"{self.path}: no review here (no plan.json); make one with 'reserve review plan'")
        path = self.tasks(stream)
        return files.read_parquet(path).cast(TASKS).sort_by("position") if files.exists(path) else TASKS.empty_table()

    def read_controls(self) -> dict[str, Truth]:
        """What each control is known to be, by its task."""
        if not files.exists(self.controls):
            return {}
        table = files.read_parquet(self.controls)
        return {task: Truth(truth) for task, truth in zip(*(table[n].to_pylist() for n in CONTROLS.names), strict=True)}
