"""The documents of an audit that have labels, in their strata, beside what is known of all documents.

Strata in which too few have a label are merged: see :func:`merge`. What is computed from them is in
:mod:`pipelines.review.estimates`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class Frame(NamedTuple):
    """What is known of all documents, by stratum: (h,) each.

    Attributes:
        sizes: documents.
        predicted: the sum of their predictions, each times its weight; None without predictions. A document of which
            the detector says nothing has some fixed prediction, such as 0, here and in the sample.
        squares: the sum of the squares of the same.
        weights: the sum of their weights, such as `cluster_size`; None where each counts once.
        groups: the number of the group, such as the place: strata with fewer than two labels are merged with others of
            their group as long as it has any.
    """

    sizes: npt.ArrayLike
    predicted: npt.ArrayLike | None = None
    squares: npt.ArrayLike | None = None
    weights: npt.ArrayLike | None = None
    groups: npt.ArrayLike | None = None


class Answers(NamedTuple):
    """The labels of the audit, one row a document: (n,) each.

    Attributes:
        stratum: its number, from 0.
        machine: the share of its answers that say machine or edited.
        cannot_tell: the share of its answers that say so; None: none.
        prediction: what the detector says of it; None without predictions.
        weight: such as its `cluster_size`; None where each counts once.
    """

    stratum: npt.ArrayLike
    machine: npt.ArrayLike
    cannot_tell: npt.ArrayLike | None = None
    prediction: npt.ArrayLike | None = None
    weight: npt.ArrayLike | None = None


class Sample(NamedTuple):
    """The frame and the documents that have a value, after merging."""

    sizes: FloatArray  # (h,)
    predicted: FloatArray  # (h,) means over the stratum
    spread: FloatArray  # (h,) variances over it
    mean_weight: float  # over all
    stratum: IntArray  # (n,)
    value: FloatArray  # (n,) in [0, 1]
    prediction: FloatArray  # (n,)
    weight: FloatArray  # (n,)

    @property
    def drawn(self) -> FloatArray:
        """Documents with a value, by stratum."""
        return np.bincount(self.stratum, minlength=len(self.sizes)).astype(np.float64)

    @property
    def parts(self) -> FloatArray:
        """Of all documents, the share in each stratum."""
        return np.asarray(self.sizes / self.sizes.sum(), np.float64)

    def means(self, values: FloatArray) -> FloatArray:
        """Of each stratum."""
        sums = np.bincount(self.stratum, values, minlength=len(self.sizes))
        return np.asarray(sums / self.drawn, np.float64)

    def covariances(self, first: FloatArray, second: FloatArray) -> FloatArray:
        """Of each stratum, with n - 1; 0 where there is one document."""
        a, b = first - self.means(first)[self.stratum], second - self.means(second)[self.stratum]
        sums = np.bincount(self.stratum, a * b, minlength=len(self.sizes))
        return np.asarray(sums / np.maximum(self.drawn - 1, 1), np.float64)


def checked(frame: Frame, answers: Answers, level: float) -> tuple[IntArray, FloatArray, FloatArray]:
    """The strata, and the shares of the answers that say machine and that cannot tell.

    Raises ValueError where arrays do not fit together.
    """
    if not 0 < level < 1:
        raise ValueError(f"level {level}: between 0 and 1")
    stratum, machine = np.asarray(answers.stratum, np.int64), np.asarray(answers.machine, np.float64)
    unknown = np.zeros(len(machine)) if answers.cannot_tell is None else np.asarray(answers.cannot_tell, np.float64)
    sizes = np.asarray(frame.sizes, np.float64)
    if not len(stratum):
        raise ValueError("no document has a label")
    for name, rows in (*answers._asdict().items(), *frame._asdict().items()):
        wanted = len(stratum) if name in Answers._fields else len(sizes)
        if rows is not None and np.shape(rows) != (wanted,):
            raise ValueError(f"{name} has the shape {np.shape(rows)}, which should be ({wanted},)")
    if ((stratum < 0) | (stratum >= len(sizes))).any():
        raise ValueError(f"strata are numbered from 0 to {len(sizes) - 1}")
    if (sizes < 1).any():
        raise ValueError("each stratum has at least one document")
    if (np.bincount(stratum, minlength=len(sizes)) > sizes).any():
        raise ValueError("a stratum has more labels than documents")
    if ((machine < 0) | (unknown < 0) | (machine + unknown > 1 + 1e-9)).any():
        raise ValueError("machine and cannot_tell are shares of the answers to a document")
    if answers.prediction is not None and not np.isfinite(np.asarray(answers.prediction, np.float64)).all():
        raise ValueError("a prediction is missing; where the detector says nothing it is 0, in the frame as well")
    if (answers.weight is None) != (frame.weights is None):
        raise ValueError("weights are given of all documents or of none: in the frame and in the sample")
    return stratum, machine, unknown


def merged(frame: Frame, answers: Answers, stratum: IntArray, value: FloatArray) -> Sample:
    """The documents with a value, in strata with at least two of them, as far as that can be had."""
    known = np.isfinite(value)
    sizes = np.asarray(frame.sizes, np.float64)
    zeros: FloatArray = np.zeros(len(sizes))
    predicted, squares = (zeros if sums is None else np.asarray(sums, np.float64) for sums in frame[1:3])
    weights = sizes if frame.weights is None else np.asarray(frame.weights, np.float64)
    groups = zeros.astype(np.int64) if frame.groups is None else np.asarray(frame.groups, np.int64)
    into = merge(np.bincount(stratum[known], minlength=len(sizes)), groups)
    sizes, predicted, squares = (np.bincount(into, sums).astype(np.float64) for sums in (sizes, predicted, squares))
    means = predicted / sizes
    weight = np.ones(len(value)) if answers.weight is None else np.asarray(answers.weight, np.float64)
    prediction = np.zeros(len(value)) if answers.prediction is None else np.asarray(answers.prediction, np.float64)
    return Sample(
        sizes,
        means,
        np.maximum(squares / sizes - means**2, 0.0),
        float(weights.sum() / sizes.sum()),
        into[stratum[known]],
        value[known],
        prediction[known],
        weight[known],
    )


def merge(labels: IntArray, groups: IntArray, least: int = 2) -> IntArray:
    """Merges strata with too few labels with those that follow in their group; groups as a last resort.

    It looks at numbers alone, never at what the labels say. Merged strata are taken for one from which documents were
    drawn at random, which is right where they were drawn in the same proportion.

    Args:
        labels: by stratum, (h,).
        groups: by stratum, (h,).
        least: labels of a stratum.

    Returns:
        the number of its new stratum, by stratum, (h,).
    """
    order = np.argsort(groups, kind="stable")
    into = np.empty(len(labels), np.int64)
    into[order] = _runs(labels[order], groups[order], least)
    again = np.bincount(into, labels).astype(np.int64)
    return _runs(again, np.zeros(len(again), np.int64), least)[into]


def _runs(labels: IntArray, groups: IntArray, least: int) -> IntArray:
    into = np.empty(len(labels), np.int64)
    new, start, held = 0, 0, 0
    for at in range(len(labels)):
        held += int(labels[at])
        ends = at + 1 == len(labels) or groups[at + 1] != groups[at]
        if held < least and not ends:
            continue
        first_of_group = start == 0 or groups[start - 1] != groups[start]
        if held < least and not first_of_group:
            into[start : at + 1] = new - 1
        else:
            into[start : at + 1] = new
            new += 1
        start, held = at + 1, 0
    return into
