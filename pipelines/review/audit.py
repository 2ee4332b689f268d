"""The audit put together: what its labels say of an output, and how far they can be relied on.

    found = audit("review")
    found["reserve_bound"]["share"]  # the reserve holds no more machine text than this, at the level asked for
    found["share"]  # of machine text in all that is kept: {"estimate": 0.082, "low": 0.064, "high": 0.103, …}
    found["missing"]  # what would make it better, in sentences

Everything rests on the audit stream: its documents, the controls among them, and the answers to these. Answers of the
active stream count for nothing here. Documents that are still to be labelled are taken as if they had not been drawn;
since tasks are asked for in random order, those that have labels are a random sample as well, as long as nobody passes
over the hard ones. A stratum of the reserve without any label counts as machine text in the bound.

What counts where, of a document with several answers: in the estimates, each of them alike
(:func:`pipelines.review.annotators.values`); in the bound, whatever is not human: a document that anyone called machine
or edited, or could not tell, counts as machine text.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines import files
from pipelines.errors import UsageError
from pipelines.layout import DOCUMENT_PLACES, Layout
from pipelines.records import Place
from pipelines.review import agreement, annotators
from pipelines.review.annotators import Confusion
from pipelines.review.bounds import Bound, Sample, slice_bounds, upper_bound
from pipelines.review.certify import sealed_labels, sealed_plan
from pipelines.review.draw import POOLED
from pipelines.review.estimates import Estimate, Method, estimate_share
from pipelines.review.labelled import Answers, Frame
from pipelines.review.progress import Review, missing, progress, read_review
from pipelines.review.records import Folder, Truth

FloatArray = npt.NDArray[np.float64]

FORMAT: Final = "human-reserve audit 1"
UNKNOWN: Final = "unknown"
NOTHING: Final = {"estimate": None, "low": 0.0, "high": 1.0, "method": None}
_OTHERS: Final = "others, pooled"


class Labelled(NamedTuple):
    """Documents with labels, one row each: (n,)."""

    stratum: npt.NDArray[np.int64]
    machine: FloatArray
    edited: FloatArray
    cannot_tell: FloatArray
    not_human: npt.NDArray[np.bool_]
    prediction: FloatArray
    captures: FloatArray


def audit(folder: str, level: float = 0.95) -> dict[str, Any]:
    """Everything that a review's labels say.

    Args:
        folder: of a review.
        level: of intervals, two-sided, and of bounds, one-sided.

    Returns:
        For JSON. What :func:`pipelines.review.certify.certify` seals: ``labels`` (how many documents have any),
        ``labels_sha256``, ``plan_sha256``, ``share`` (of machine text in what is kept) and ``reserve_bound``. Besides:
        ``progress``, ``agreement``, ``annotators`` (their errors), ``shares`` (by other methods, by capture, by
        place, and what the detector and the run say of it), ``bounds`` (without the annotators' errors, and by slice),
        ``strata`` and ``missing``, in sentences. Without a label, the share is from 0 to 1.

    Raises UsageError where there is no review, or the level is none; JobError where its plan cannot be read.
    """
    if not 0 < level < 1:
        raise UsageError(f"--level {level:g}: between 0 and 1, such as 0.95")
    review = read_review(folder)
    found = labelled(review)
    errors = annotators.control_errors(review.answers, review.controls, level)
    spoken = Counter(review.of_documents["annotator"].to_pylist())
    pooled = annotators.pool(errors, spoken, level)
    agreed = agreement.agreement(review.of_documents, level)
    shares = _shares(review, found, level, pooled)
    bounds = _bounds(review, found, level, pooled)
    return {
        "format": FORMAT,
        "level": level,
        "labels": len(review.values),
        "labels_sha256": hashlib.sha256(sealed_labels(Folder(folder))).hexdigest(),
        "plan_sha256": hashlib.sha256(sealed_plan(Folder(folder))).hexdigest(),
        "seed": review.plan.get("seed"),
        "output": review.plan.get("output"),
        "share": {name: (shares["documents"] or NOTHING)[name] for name in NOTHING},
        "reserve_bound": bounds.pop("reserve", None),
        "progress": progress(review),
        "agreement": agreement.as_dict(agreed),
        "annotators": {
            "pooled": annotators.as_dict(pooled),
            "by_annotator": {person: annotators.as_dict(one) for person, one in errors.items()},
            "latent": _latent(review, agreed.documents),
        },
        "shares": shares,
        "bounds": bounds,
        "strata": _by_stratum(review, found, level, pooled),
        "missing": missing(review, errors),
    }


def labelled(review: Review) -> Labelled:
    """The documents that have labels."""
    rows = review.documents.select(["task_id", "stratum", "machine_probability", "cluster_size"]).to_pylist()
    known = [(row, review.values[row["task_id"]]) for row in rows if row["task_id"] in review.values]

    def column(values: Sequence[float]) -> FloatArray:
        return np.array(values, np.float64)

    return Labelled(
        np.array([row["stratum"] for row, _ in known], np.int64),
        column([value.machine for _, value in known]),
        column([value.edited for _, value in known]),
        column([value.cannot_tell for _, value in known]),
        np.array([value.human < 1 for _, value in known], bool),
        # Where the detector said nothing its prediction is 0, here and in the sums of plan.json.
        column([row["machine_probability"] or 0.0 for row, _ in known]),
        column([row["cluster_size"] or 1 for row, _ in known]),
    )


def _latent(review: Review, twice: int) -> dict[str, Any] | None:
    """What Dawid and Skene's model makes of the same answers; None where it is not determined."""
    answered = {review.controls[task] for task in review.answers["task_id"].to_pylist() if task in review.controls}
    if len(answered) < len(Truth) or not twice:
        return None
    model = annotators.dawid_skene(review.answers, review.controls)
    people = {
        person: {"sensitivity": _number(model.sensitivity[person]), "specificity": _number(model.specificity[person])}
        for person in model.sensitivity
    }
    return {"by_annotator": people, "share_of_labelled": _number(model.share)}


def _shares(review: Review, found: Labelled, level: float, errors: Confusion) -> dict[str, Any]:
    strata = review.plan["strata"]
    every = np.ones(len(strata), bool)
    places = {place.value: np.array([row["place"] == place.value for row in strata], bool) for place in DOCUMENT_PLACES}
    output = (review.plan.get("output") or {}).get("path")
    summary = (files.read_json(Layout(output).summary) if output else None) or {}
    return {
        "documents": _estimates(strata, found, every, level, errors, False),
        "captures": _estimates(strata, found, every, level, errors, True),
        "places": {
            place: {
                "documents": sum(row["documents"] for row, inside in zip(strata, of, strict=True) if inside),
                **(_estimates(strata, found, of, level, errors, False) or {}),
            }
            for place, of in places.items()
            if of.any()
        },
        "detector": _naive(strata),
        "run": summary.get("synthetic_share"),
    }


def _estimates(
    strata: Sequence[Mapping[str, Any]],
    found: Labelled,
    among: npt.NDArray[np.bool_],
    level: float,
    errors: Confusion,
    captures: bool,
) -> dict[str, Any] | None:
    """The share of machine text in some strata, by document or by capture; None where they have no label."""
    of = among[found.stratum]
    if not of.any():
        return None
    rows = [row for row, inside in zip(strata, among, strict=True) if inside]
    prefix = "weighted_" if captures else ""
    frame = Frame(
        _column(rows, "documents"),
        _column(rows, f"{prefix}probability"),
        _column(rows, f"{prefix}probability_squares"),
        _column(rows, "captures") if captures else None,
        np.array([DOCUMENT_PLACES.index(Place(row["place"])) for row in rows], np.int64),
    )
    sample = Answers(
        (np.cumsum(among) - 1)[found.stratum[of]],
        found.machine[of],
        found.cannot_tell[of],
        found.prediction[of],
        found.captures[of] if captures else None,
    )
    predicted = any(row["scored"] for row in rows)
    if not predicted:
        frame, sample = frame._replace(predicted=None, squares=None), sample._replace(prediction=None)
    known = errors if sum(errors.on_machine) or sum(errors.on_human) else None

    def by(method: Method, of_errors: Confusion | None = known) -> dict[str, Any]:
        return _plain(estimate_share(frame, sample, level, method, of_errors))

    edited = estimate_share(frame, sample._replace(machine=found.edited[of]), level, Method.BETA)
    return {
        **by(Method.AUTO),
        "horvitz_thompson": by(Method.STRATIFIED),
        "ppi": by(Method.PPI) if predicted else None,
        "as_labelled": by(Method.AUTO, None),
        "edited": _plain(edited),  # not corrected: controls are machine text throughout, or not at all
    }


def _naive(strata: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the detector alone says: its mean probability, where it spoke."""
    scored, captures = _column(strata, "scored").sum(), _column(strata, "scored_captures").sum()
    return {
        "scored": int(scored),
        "documents": float(_column(strata, "probability").sum() / scored) if scored else None,
        "captures": float(_column(strata, "weighted_probability").sum() / captures) if captures else None,
    }


def _bounds(review: Review, found: Labelled, level: float, errors: Confusion) -> dict[str, Any]:
    """The certified bound, and by the values of each column of the strata; empty where the reserve is."""
    rows = [row for row in review.plan["strata"] if row["place"] == Place.RESERVE.value]
    if not rows:
        return {}
    sample = _sample(rows, found)
    columns = [name for name in review.plan["stratify"] if name != "place"]
    slices = {
        name: {
            value: bound._asdict()
            for value, bound in slice_bounds(sample, [_value(row[name]) for row in rows], level, errors).items()
        }
        for name in columns
    }
    return {
        "reserve": upper_bound(sample, level, errors)._asdict(),
        "as_labelled": upper_bound(sample, level)._asdict(),
        "slices": slices,
    }


def _by_stratum(review: Review, found: Labelled, level: float, errors: Confusion) -> list[dict[str, Any]]:
    columns = review.plan["stratify"]
    return [
        {
            "stratum": row["stratum"],
            **{name: _value(row[name]) for name in columns},
            "documents": row["documents"],
            "drawn": row["sampled"],
            "labelled": int((of := found.stratum == row["stratum"]).sum()),
            "machine": float(found.machine[of].sum()),
            "edited": float(found.edited[of].sum()),
            "cannot_tell": float(found.cannot_tell[of].sum()),
            "not_human": int(found.not_human[of].sum()),
            "bound": _bound_of(row, found, level, errors).share,
        }
        for row in review.plan["strata"]
    ]


def _bound_of(row: Mapping[str, Any], found: Labelled, level: float, errors: Confusion) -> Bound:
    return upper_bound(_sample([row], found), level, errors)


def _sample(rows: Sequence[Mapping[str, Any]], found: Labelled) -> Sample:
    numbers = [row["stratum"] for row in rows]
    most = max([*numbers, *found.stratum.tolist()]) + 1
    drawn = np.bincount(found.stratum, minlength=most)
    counted = np.bincount(found.stratum[found.not_human], minlength=most)
    return Sample(np.array([row["documents"] for row in rows], np.int64), drawn[numbers], counted[numbers])


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> FloatArray:
    return np.array([row[name] for row in rows], np.float64)


def _value(value: str | None) -> str:
    return UNKNOWN if value is None else _OTHERS if value == POOLED else value


def _plain(found: Estimate) -> dict[str, Any]:
    """For JSON."""
    values = {name: _number(value) if isinstance(value, float) else value for name, value in found._asdict().items()}
    return {"estimate": values.pop("share"), **values, "method": found.method.value}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
