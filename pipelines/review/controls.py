"""Controls: tasks of which it is known what they are, which measure the annotators.

Human ones are pages that were captured before the cut-off. Machine ones are texts that the team had a machine write
(``--made``), a JSON object with ``text`` a line, or Parquet with that column; where there is no such file, pages that
say so themselves or bear a watermark. Those are the easy ones, and an error rate of them is too low.

Controls come after the audit is drawn and are taken of what it left: they change no inclusion probability.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import files
from pipelines.errors import UsageError, one_line
from pipelines.records import Place, Verdict
from pipelines.reserve.encoding import Bytes, fixed_bytes
from pipelines.review.population import Flags, Population
from pipelines.review.records import CONTROLS, Truth
from pipelines.review.tasks import hashed_order, tasks_of

Rows = npt.NDArray[np.int64]

_PARQUET: Final = b"PAR1"


class Controls(NamedTuple):
    """Controls, in random order.

    Attributes:
        rows: of the population, int64 (n,).
        made: tasks of texts that the team had written.
        ids: of all of them, those of ``rows`` first, (m, 16).
        truths: of all of them.
        warnings: what the user should know of them.
    """

    rows: Rows
    made: pa.Table
    ids: Bytes
    truths: list[Truth]
    warnings: list[str]


def draw_controls(
    population: Population, free: Flags, n: int, seed: str, made: str | None, known: Sequence[str]
) -> Controls:
    """Draws controls, half of them human and half machine; of an odd number one more is human.

    Args:
        population: of the output.
        free: which documents may be drawn, (N,): those of no stream.
        n: how many.
        seed: of the order.
        made: a file of machine texts; None: documents of the quarantine.
        known: SHA-256 in hex of texts that are tasks already; such a text is no control.

    Raises UsageError where ``made`` cannot be read or has too few texts.
    """
    machine = n // 2
    warnings: list[str] = []
    dated = free & population.captured & population.judged(Verdict.DATED) & population.within(Place.RESERVE)
    human = _first(population, dated, n - machine, seed, "control/human")
    if len(human) < n - machine:
        warnings.append(
            f"{n - machine} human controls wanted, {len(human)} to be had: documents captured before the cut-off that "
            "the audit has not drawn; errors on human texts are known less well"
        )
    rows, texts = np.empty(0, np.int64), tasks_of({}, 0)
    if made is not None:
        texts = read_made(made, machine, seed, known)
    elif machine:
        told = free & population.judged(Verdict.DECLARED, Verdict.MARKED) & population.within(Place.QUARANTINE)
        rows = _first(population, told, machine, seed, "control/machine")
        warnings.append(
            f"{machine} machine controls wanted, {len(rows)} taken from pages that say so themselves or bear a "
            "watermark: easy ones, which show too few errors; give texts of your own with --made FILE"
        )
    both = np.concatenate([human, rows])
    ids = np.concatenate([population.ids[both], fixed_bytes(texts["task_id"], 16)])
    truths = [Truth.HUMAN] * len(human) + [Truth.MACHINE] * (len(rows) + texts.num_rows)
    return Controls(both, texts, ids, truths, warnings)


def read_made(path: str, n: int, seed: str, known: Sequence[str] = ()) -> pa.Table:
    """Some of the texts in a file, as tasks: those that a hash with the seed puts first.

    Raises UsageError, which names the line, where the file cannot be read, and where it has fewer texts that differ
    from each other and from the known ones.
    """
    texts = [text for text in dict.fromkeys(_texts(path)) if text.strip()]
    digests = [hashlib.sha256(text.encode()).digest() for text in texts]
    new = [at for at, digest in enumerate(digests) if digest.hex() not in set(known)]
    if len(new) < n:
        raise UsageError(
            f"--made {path}: {len(new)} different texts that are no tasks yet, and {n} machine controls are wanted; "
            f"give more texts, or --controls {2 * len(new)}"
        )
    # With the seed: whoever labels, and hashes the text, must not be able to tell a control by its name.
    names = [hashlib.sha256(seed.encode() + b"\0" + texts[at].encode()).digest()[:16] for at in new]
    ids = np.frombuffer(b"".join(names), np.uint8).reshape(len(new), 16)
    order = hashed_order(ids, seed, "control/made")[:n].tolist()
    chosen = [new[at] for at in order]
    return tasks_of(
        {
            "task_id": pa.array([names[at].hex() for at in order], pa.string()),
            "text": pa.array([texts[at] for at in chosen], pa.large_string()),
            "text_sha256": pa.array([digests[at].hex() for at in chosen], pa.string()),
        },
        n,
    )


def controls_table(controls: Controls) -> pa.Table:
    """Of :data:`pipelines.review.records.CONTROLS`, by task."""
    tasks = [one.tobytes().hex() for one in controls.ids]
    table = pa.table({"task_id": tasks, "truth": [truth.value for truth in controls.truths]}, schema=CONTROLS)
    return table.sort_by("task_id")


def in_audit(controls: Controls, share: float, seed: str) -> Flags:
    """Which controls are shown in the audit, (m,): a random part of the human ones, and of the machine ones."""
    human = np.array([truth is Truth.HUMAN for truth in controls.truths], bool)
    shown = np.zeros(len(human), bool)
    order = hashed_order(controls.ids, seed, "control/stream")
    for kind in (human, ~human):
        own = order[kind[order]]
        shown[own[: round(share * len(own))]] = True
    return shown


def _first(population: Population, allowed: Flags, n: int, seed: str, purpose: str) -> Rows:
    """The first few of the documents that are allowed, in an order of their own."""
    rows = np.flatnonzero(allowed)
    return rows[hashed_order(population.ids[rows], seed, purpose)[:n]]


def _texts(path: str) -> list[str]:
    try:
        content = files.read_bytes(path)
        if content.startswith(_PARQUET):
            return _of_parquet(path)
        lines = content.decode("utf-8-sig").split("\n")  # not at U+2028, which JSON leaves as it is
    except (*files.FAILURES, UnicodeDecodeError, pa.ArrowException) as error:
        reason = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else one_line(error)
        raise UsageError(f"--made {path}: cannot be read: {reason}") from None
    return [_of_line(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _of_parquet(path: str) -> list[str]:
    table = files.read_parquet(path)
    if "text" not in table.column_names or not (
        pa.types.is_string(table["text"].type) or pa.types.is_large_string(table["text"].type)
    ):
        raise UsageError(f"--made {path}: no column 'text' of strings; it has {', '.join(table.column_names)}")
    return [str(text) for text in pc.drop_null(table["text"]).to_pylist()]


def _of_line(path: str, number: int, line: str) -> str:
    try:
        text = json.loads(line)["text"]
        if isinstance(text, str):
            text.encode()  # half of a surrogate pair is no text
            return text
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise UsageError(f'--made {path}: line {number}: expected a JSON object such as {{"text": "…"}}, got {line[:60]!r}')
