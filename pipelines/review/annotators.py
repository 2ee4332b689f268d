"""How often people err: from controls, whose truth is known, and from each other (Dawid and Skene).

    errors = control_errors(answers, {"3fa9…": Truth.MACHINE, "07c1…": Truth.HUMAN})
    errors["ada"].sensitivity  # Rate(share=0.94, low=0.83, high=0.99, successes=47, trials=50)
    pool(errors, answered={"ada": 400, "bob": 200}).counts(Doubt.APART)  # what bounds and estimates are corrected by

"Cannot tell" is no error. It is counted apart, or as machine or as human, as it is in the audit itself: see
:class:`Doubt`. A control is of machine text throughout, or of none; how often people miss text that a machine edited in
part is not known from controls. Human controls are older than the documents, and machine ones may be easier than what
is met on the web: that people err on documents as they do on controls is an assumption, which no figure here tests.

Several answers to one document become one value, of which the mean is the share of machine text: their mean, so that
each of two who differ has the weight 1/2. On average that is what one answer of one of them would be, so that the
errors on controls, where each answers alone, apply as they are. A third person who is asked only where two differ would
change that: whose answer is heard would depend on what the answers are. So the first answers count, as many as were
asked for (:func:`values`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipelines.review.agreement import MEANING, Codes, FloatArray
from pipelines.review.records import Label, Truth
from pipelines.statistics.intervals import clopper_pearson


class Doubt(StrEnum):
    """What "cannot tell" counts as."""

    APART = "apart"  # as no answer: for point estimates
    MACHINE = "machine"  # for upper limits of the share of machine text
    HUMAN = "human"  # for lower limits


class Calls(NamedTuple):
    """Answers to controls of one kind; fractional where several people's are weighed together."""

    human: float = 0
    machine: float = 0  # or edited
    cannot_tell: float = 0

    def counts(self, doubt: Doubt) -> tuple[float, float, float]:
        """How many count, how many of them say machine, and how many human."""
        machine = self.machine + (self.cannot_tell if doubt is Doubt.MACHINE else 0)
        human = self.human + (self.cannot_tell if doubt is Doubt.HUMAN else 0)
        return machine + human, machine, human


class Rate(NamedTuple):
    """A share with its Clopper-Pearson interval; the share is None, and the interval [0, 1], without trials."""

    share: float | None
    low: float
    high: float
    successes: float
    trials: float


class Counts(NamedTuple):
    """What corrects a share for people's errors; fractional where people are weighed."""

    machine_controls: float
    called_machine: float  # of them
    human_controls: float
    called_human: float  # of them


class Confusion(NamedTuple):
    """One person's answers to controls, or several persons' weighed together."""

    on_machine: Calls
    on_human: Calls
    level: float = 0.95

    @property
    def sensitivity(self) -> Rate:
        """The share of machine text that is called machine or edited, of what is called anything."""
        trials, machine, _ = self.on_machine.counts(Doubt.APART)
        return _rate(machine, trials, self.level)

    @property
    def specificity(self) -> Rate:
        """The share of people's text that is called human, of what is called anything."""
        trials, _, human = self.on_human.counts(Doubt.APART)
        return _rate(human, trials, self.level)

    def counts(self, doubt: Doubt) -> Counts:
        """The controls that count, and how many were called what they are."""
        machines, machine, _ = self.on_machine.counts(doubt)
        humans, _, human = self.on_human.counts(doubt)
        return Counts(machines, machine, humans, human)


class Value(NamedTuple):
    """What the answers to one document come to; the three shares sum to 1, and `edited` is part of `machine`."""

    human: float
    machine: float
    cannot_tell: float
    edited: float
    answers: int


def control_errors(answers: pa.Table, controls: Mapping[str, Truth], level: float = 0.95) -> dict[str, Confusion]:
    """Each person's answers to controls, by name.

    Args:
        answers: of :data:`pipelines.review.records.LABELS`; one of each person to each task.
        controls: the truth, by task.
        level: of the intervals.
    """
    tally: dict[str, dict[Truth, list[int]]] = {}
    for task, person, label in _rows(answers):
        calls = tally.setdefault(person, {Truth.MACHINE: [0, 0, 0], Truth.HUMAN: [0, 0, 0]})
        if task in controls:
            calls[controls[task]][MEANING[label]] += 1
    return {
        person: Confusion(Calls(*calls[Truth.MACHINE]), Calls(*calls[Truth.HUMAN]), level)
        for person, calls in sorted(tally.items())
    }


def pool(errors: Mapping[str, Confusion], answered: Mapping[str, float], level: float = 0.95) -> Confusion:
    """The errors of all people together, each with the weight that the audit gives them.

    The share of each call is the weighted mean of theirs, and the number of controls is the one with which a plain
    share would vary as this mean does: 1 / Σ w² / n (Kish, Survey Sampling, 1965, section 11.7). Where people answered
    controls in the same proportion as documents, these are plain sums. Who answered no controls of a kind is left out
    of it.

    Args:
        errors: by person.
        answered: how many answers of each person the audit counts.
        level: of the intervals.
    """
    everyone = [(found, float(answered.get(person, 0))) for person, found in errors.items()]
    return Confusion(
        _weighed([(found.on_machine, weight) for found, weight in everyone]),
        _weighed([(found.on_human, weight) for found, weight in everyone]),
        level,
    )


def values(answers: pa.Table, wanted: Mapping[str, int]) -> dict[str, Value]:
    """What the answers to each document come to, by task; documents without an answer are not in it.

    Args:
        answers: of :data:`pipelines.review.records.LABELS`; one of each person to each task.
        wanted: how many people are to label each document; of more answers the earliest count (the module says why).
            Other tasks are left out.
    """
    found: dict[str, list[Label]] = {}
    for task, _, label in _rows(answers.sort_by([("at", "ascending"), ("annotator", "ascending")])):
        if task in wanted and len(found.setdefault(task, [])) < wanted[task]:
            found[task].append(label)
    return {task: _value(labels) for task, labels in sorted(found.items())}


class Latent(NamedTuple):
    """What Dawid and Skene's model finds.

    Attributes:
        sensitivity: by person; as in :class:`Confusion`, and NaN for who has not called anything machine or human.
        specificity: likewise.
        share: of machine text among the documents that are not controls.
        machine: the probability that a document is machine text, by task; 0 or 1 for controls.
        log_likelihood: of the answers.
        rounds: that it took.
    """

    sensitivity: dict[str, float]
    specificity: dict[str, float]
    share: float
    machine: dict[str, float]
    log_likelihood: float
    rounds: int


def dawid_skene(answers: pa.Table, controls: Mapping[str, Truth], rounds: int = 1000, close: float = 1e-10) -> Latent:
    """Confusion of people by maximum likelihood, the truth of the documents being unknown.

    Dawid and Skene, Applied Statistics 28 (1979) 20: given the truth, people err independently of each other and alike
    on all documents. Expectation and maximisation, begun from the controls; without controls two people do not
    determine the model (Hui and Walter, Biometrics 36 (1980) 167). People err together on hard documents, so that this
    makes them look better than they are: it stands beside the errors on controls and goes into no bound.

    Args:
        answers: of :data:`pipelines.review.records.LABELS`, controls among them.
        controls: the truth, by task.
        rounds: at most.
        close: the change of the log-likelihood, per answer, at which to stop.

    Raises ValueError where no machine or no human control has an answer.
    """
    data = _coded(answers, controls)
    if not {0, 1} <= set(data.known.tolist()):
        raise ValueError("the model takes answers to controls of both kinds")
    free = data.known < 0
    machine = np.where(free, 0.5, data.known)
    # The first table comes from controls alone; half a count keeps what a person has not said yet from being impossible
    table = _confusion(data, machine, np.where(free, 0.0, 1.0)) + 0.5
    share, last, done = 0.5, -np.inf, 0
    for done in range(1, rounds + 1):  # noqa: B007
        machine, likelihood = _expect(data, table, share)
        if abs(likelihood - last) <= close * len(data.said):
            break
        last, share = likelihood, float(machine[free].mean()) if free.any() else 0.5
        table = _confusion(data, machine, np.ones(len(machine)))
    told = table[:, :, :2].sum(axis=2)
    with np.errstate(invalid="ignore"):
        specificity, sensitivity = table[:, 0, 0] / told[:, 0], table[:, 1, 1] / told[:, 1]
    return Latent(
        sensitivity=dict(zip(data.people, sensitivity.tolist(), strict=True)),
        specificity=dict(zip(data.people, specificity.tolist(), strict=True)),
        share=float(machine[free].mean()) if free.any() else float("nan"),
        machine=dict(zip(data.tasks, machine.tolist(), strict=True)),
        log_likelihood=likelihood,
        rounds=done,
    )


def as_dict(found: Confusion) -> dict[str, Any]:
    """For JSON."""
    return {
        "sensitivity": found.sensitivity._asdict(),
        "specificity": found.specificity._asdict(),
        "on_machine": found.on_machine._asdict(),
        "on_human": found.on_human._asdict(),
    }


def _rows(answers: pa.Table) -> list[tuple[str, str, Label]]:
    columns = (answers[name].to_pylist() for name in ("task_id", "annotator", "label"))
    return [(task, person, Label(label)) for task, person, label in zip(*columns, strict=True)]


def _rate(successes: float, trials: float, level: float) -> Rate:
    low, high = clopper_pearson(successes, trials, level)
    return Rate(successes / trials if trials else None, float(low), float(high), successes, trials)


def _weighed(calls: list[tuple[Calls, float]]) -> Calls:
    used = [(found, weight) for found, weight in calls if sum(found) and weight]
    total = sum(weight for _, weight in used)
    if not used:
        return Calls()
    size = 1 / sum((weight / total) ** 2 / sum(found) for found, weight in used)
    human, machine, cannot_tell = (
        size * sum(weight / total * found[at] / sum(found) for found, weight in used) for at in range(3)
    )
    return Calls(human, machine, cannot_tell)


def _value(labels: list[Label]) -> Value:
    meanings = [MEANING[label] for label in labels]
    human, machine, cannot_tell = (meanings.count(value) / len(labels) for value in range(3))
    return Value(human, machine, cannot_tell, labels.count(Label.EDITED) / len(labels), len(labels))


class _Coded(NamedTuple):
    """Answers as numbers: of each, its task, its person and what it says; of each task, its truth or -1."""

    tasks: list[str]
    people: list[str]
    at_task: Codes
    at_person: Codes
    said: Codes
    known: Codes


def _coded(answers: pa.Table, controls: Mapping[str, Truth]) -> _Coded:
    rows = _rows(answers)
    tasks, people = sorted({task for task, _, _ in rows}), sorted({person for _, person, _ in rows})
    task_number, person_number = ({name: at for at, name in enumerate(names)} for names in (tasks, people))
    return _Coded(
        tasks,
        people,
        np.array([task_number[task] for task, _, _ in rows], np.int64),
        np.array([person_number[person] for _, person, _ in rows], np.int64),
        np.array([MEANING[label] for _, _, label in rows], np.int64),
        np.array([list(Truth).index(controls[task]) if task in controls else -1 for task in tasks], np.int64),
    )


def _confusion(data: _Coded, machine: FloatArray, weight: FloatArray) -> FloatArray:
    """(people, 2 truths, 3 answers): the weight of the answers, by truth; both arguments (tasks,)."""
    cells, people = data.at_person * 3 + data.said, len(data.people)
    parts = ((weight * chance)[data.at_task] for chance in (1 - machine, machine))
    return np.stack([np.bincount(cells, part, people * 3).reshape(people, 3) for part in parts], axis=1)


def _expect(data: _Coded, table: FloatArray, share: float) -> tuple[FloatArray, float]:
    """The probability of each task that it is machine text, and the log-likelihood of all answers."""
    sums = table.sum(axis=2, keepdims=True)
    chance = _log(table / np.where(sums > 0, sums, 1))
    scores = np.stack(
        [np.bincount(data.at_task, chance[data.at_person, truth, data.said], len(data.tasks)) for truth in (0, 1)]
    )
    scores += np.where(data.known < 0, _log(np.array([[1 - share], [share]])), 0)
    free, both = data.known < 0, np.logaddexp(scores[0], scores[1])
    machine = np.where(free, np.exp(scores[1] - both), data.known)
    return machine, float(np.where(free, both, np.where(data.known == 1, scores[1], scores[0])).sum())


def _log(share: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(share), -1e3)  # finite, so that what is impossible stays comparable
