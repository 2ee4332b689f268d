"""The share of machine text in all that was drawn from, from the labels of a stratified audit.

    frame = Frame(sizes=[9_000, 1_000], predicted=[95.2, 870.1], squares=[40.3, 801.7])
    found = estimate_share(frame, Answers(stratum, machine, cannot_tell, prediction))
    found.share, found.low, found.high, found.method

With N_h documents in stratum h, of which n_h were drawn at random without replacement, W_h = N_h / N:

- The share is Σ W_h ȳ_h, the Horvitz-Thompson estimate with inclusion probabilities n_h / N_h (J. Am. Stat. Assoc. 47,
  1952), with the variance Σ W_h² (1 - n_h / N_h) s_h² / n_h (Cochran, Sampling Techniques, 1977, section 5.4).
- Prediction-powered inference: the detector's probability f is known of all documents, and only y - λ f is left to the
  sample: Σ W_h (λ F̄_h + ȳ_h - λ f̄_h) (Angelopoulos et al., Science 382, 2023; λ for the least variance: Angelopoulos,
  Duchi & Zrnic, arXiv:2311.01453; in strata: Fisch et al., arXiv:2406.04291). It is the difference estimator of survey
  sampling (Cochran, chapter 7), and right on average whatever the detector is worth.

Intervals, by ``method``:

==============  ======================================================================================================
``stratified``  the first with Student's t
``ppi``         the second with Student's t. Where machine text is rare, or the detector errs rarely, the sample often
                holds none of the documents that matter, and the interval is far too narrow
``beta``        the first with the quantiles of two beta distributions, each with the mean and the variance of the
                estimate after one more document: machine text at the upper limit, other text at the lower, in the
                stratum where it matters most. In one stratum it is Clopper & Pearson's interval (Biometrika 26, 1934);
                for several it does for shares what Fay & Feuer (Statistics in Medicine 16, 1997) do for rates
``auto``        ``ppi`` where its standard error is that of 30 documents or more, of those that count most, on which
                label and prediction differ: at least √30 times what one document less of such would change; ``beta``
                otherwise, and where there are no predictions. The default
==============  ======================================================================================================

benchmarks/audit_coverage.py measures how often each of them holds the truth.

People's errors: of machine text a share t is called so, of other text a share f, so that what is estimated above is
q = f + θ (t - f) and θ = (q - f) / (t - f) (Rogan & Gladen, Am. J. Epidemiol. 107, 1978). Its limits are quantiles over
draws of q, f and t from their confidence distributions, for the lower limit from those that belong to the limits that
make it low, for the upper likewise (Fay, Proschan & Brittain, Biometrics 71, 2015). "Cannot tell" is left out of the
estimate, human at the lower limit and machine at the upper, in documents and controls alike.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from pipelines.review.annotators import Confusion, Counts, Doubt
from pipelines.review.labelled import Answers, Frame, Sample, checked, merged
from pipelines.statistics.intervals import DRAWS
from pipelines.statistics.intervals import stratified as uniform

FloatArray = npt.NDArray[np.float64]

ENOUGH: Final = 30  # documents on which label and prediction differ, for `auto` to take `ppi`

_NODES: Final = np.linspace(-4.0, 4.0, 129)


class Method(StrEnum):
    """How an interval is made."""

    AUTO = "auto"
    STRATIFIED = "stratified"
    PPI = "ppi"
    BETA = "beta"


class Estimate(NamedTuple):
    """A share with its interval.

    Attributes:
        share: of machine text, corrected for people's errors where they are given.
        low, high: the limits.
        level: of the interval.
        method: which one was used, never `auto`.
        observed: the share that people call machine text.
        labels: documents with a label; cannot_tell: those of them that nobody could tell.
        machine: the number of machine documents among the labels; fractional where people differ.
        tuning: λ; 0 where predictions are not used.
        strata: that remained after merging.
    """

    share: float
    low: float
    high: float
    level: float
    method: Method
    observed: float
    labels: int
    cannot_tell: int
    machine: float
    tuning: float
    strata: int


# A limit as a function of the probability that lies below it: (k,) to (k,).
_Quantiles = Callable[[FloatArray], FloatArray]


class _Found(NamedTuple):
    share: float
    low: _Quantiles
    high: _Quantiles
    tuning: float
    variance_in_documents: float  # the variance, as a number of such documents as count most


def estimate_share(
    frame: Frame,
    answers: Answers,
    level: float = 0.95,
    method: Method = Method.AUTO,
    errors: Confusion | None = None,
) -> Estimate:
    """The share of machine text among all documents of the frame, each with its weight.

    Args:
        frame: of the strata from which the audit was drawn.
        answers: of the documents that have any; those that are still to be labelled are as if they had not been drawn.
        level: of the two-sided interval.
        method: how to make it.
        errors: of the annotators (:func:`pipelines.review.annotators.pool`); None, or no controls: they do not err.
            Controls of one kind alone: they do not err on the other.

    Raises ValueError where arrays do not fit together, nothing has a label, or predictions are asked for and missing.
    """
    stratum, machine, unknown = checked(frame, answers, level)
    if errors and not any(errors.counts(Doubt.MACHINE)):
        errors = None
    told = 1 - unknown
    apart = np.divide(machine, told, out=np.full_like(machine, np.nan), where=told > 1e-9)
    known = np.isfinite(apart)
    fpc = errors is None  # what people would call a document that they did not see is not fixed
    sample = merged(frame, answers, stratum, apart) if known.any() else None
    method = _chosen(Method(method), frame, answers, sample, fpc)
    middle = _share(sample, method, fpc) if sample else None
    lower = upper = middle
    if unknown.any() or not middle:
        lower = _share(merged(frame, answers, stratum, machine), method, fpc)
        upper = _share(merged(frame, answers, stratum, machine + unknown), method, fpc)
    assert lower is not None
    assert upper is not None
    share = _corrected(middle.share, _counts(errors, Doubt.APART)) if middle else float("nan")
    low = _low(lower, _counts(errors, Doubt.HUMAN), (1 - level) / 2)
    high = _high(upper, _counts(errors, Doubt.MACHINE), (1 + level) / 2)
    if errors:
        # More errors on controls than in the audit must not make the interval shorter than finding nothing would.
        none = _beta(merged(frame, answers, stratum, np.zeros(len(stratum))), fpc)
        high = max(high, _high(none, _counts(errors, Doubt.MACHINE)._replace(human_controls=0), (1 + level) / 2))
    return Estimate(
        share=share,
        low=min(low, share) if middle else low,
        high=max(high, share) if middle else high,
        level=level,
        method=method,
        observed=middle.share if middle else float("nan"),
        labels=len(stratum),
        cannot_tell=int(np.count_nonzero(~known)),
        machine=float(np.nansum(apart)),
        tuning=middle.tuning if middle else 0.0,
        strata=len(sample.sizes) if sample else 0,
    )


def prediction_powered(
    machine: FloatArray,
    prediction: FloatArray,
    mean: float,
    variance: float,
    unlabelled: int,
    level: float = 0.95,
    tuning: float | None = None,
) -> tuple[float, float, float]:
    """The share and its interval in the form of the papers: a plain sample, and predictions of other documents.

    For comparison: normal, for the source of both samples instead of a finite frame (Angelopoulos, Duchi & Zrnic,
    arXiv:2311.01453, section 2 and example 6.1), with variances by n.

    Args:
        machine: labels, (n,).
        prediction: of the same documents, (n,).
        mean: of the predictions of the others.
        variance: of these.
        unlabelled: how many there are.
        level: of the interval.
        tuning: λ; None: that of the least variance, in [0, 1].

    Returns:
        share, low and high.
    """
    n = len(machine)
    if tuning is None:
        every = _pooled_variance(prediction, mean, variance, unlabelled)
        covariance = float(np.mean((machine - machine.mean()) * (prediction - prediction.mean())))
        tuning = float(np.clip(covariance / ((1 + n / unlabelled) * every), 0, 1)) if every > 0 else 0.0
    rest = machine - tuning * prediction
    share = tuning * mean + float(rest.mean())
    error = np.sqrt(tuning**2 * variance / unlabelled + rest.var() / n) * special.ndtri((1 + level) / 2)
    return share, float(share - error), float(share + error)


def _pooled_variance(prediction: FloatArray, mean: float, variance: float, unlabelled: int) -> float:
    n = len(prediction)
    middle = (prediction.sum() + unlabelled * mean) / (n + unlabelled)
    squares = ((prediction - middle) ** 2).sum() + unlabelled * (variance + (mean - middle) ** 2)
    return float(squares / (n + unlabelled - 1))


def _chosen(method: Method, frame: Frame, answers: Answers, sample: Sample | None, fpc: bool) -> Method:
    predicted = frame.predicted is not None and frame.squares is not None and answers.prediction is not None
    if method is Method.PPI and not predicted:
        raise ValueError("prediction-powered inference takes predictions, of all documents and of the sample")
    if method is not Method.AUTO:
        return method
    enough = predicted and sample and _student(sample, True, fpc).variance_in_documents >= ENOUGH
    return Method.PPI if enough else Method.BETA


def _counts(errors: Confusion | None, doubt: Doubt) -> Counts:
    return errors.counts(doubt) if errors else Counts(0, 0, 0, 0)


def _corrected(share: float, said: Counts) -> float:
    t = said.called_machine / said.machine_controls if said.machine_controls else 1.0
    f = 1 - said.called_human / said.human_controls if said.human_controls else 0.0
    return float(np.clip((share - f) / (t - f), 0, 1)) if t > f else float("nan")


def _low(found: _Found, said: Counts, below: float) -> float:
    """The lower limit: a quantile of (q - f) / (t - f), with f and t as great as the controls allow."""
    if not (said.machine_controls or said.human_controls):
        return float(found.low(np.array([below]))[0])
    q = _drawn_from(found.low, "low")
    wrong = said.human_controls - said.called_human
    f = _drawn(wrong + 1, said.called_human, "false positives") if said.human_controls else np.zeros(DRAWS)
    t = np.ones(DRAWS)
    if said.machine_controls:
        t = _drawn(said.called_machine + 1, said.machine_controls - said.called_machine, "sensitivity")
    return _quantile(q, f, t, 0.0, below)


def _high(found: _Found, said: Counts, below: float) -> float:
    """The upper limit: likewise, with f and t as small as they allow."""
    if not (said.machine_controls or said.human_controls):
        return float(found.high(np.array([below]))[0])
    q = _drawn_from(found.high, "high")
    wrong = said.human_controls - said.called_human
    f = _drawn(wrong, said.called_human + 1, "false positives") if said.human_controls else np.zeros(DRAWS)
    t = np.ones(DRAWS)
    if said.machine_controls:
        t = _drawn(said.called_machine, said.machine_controls - said.called_machine + 1, "sensitivity")
    return _quantile(q, f, t, 1.0, below)


@functools.cache
def _scores(name: str) -> FloatArray:
    """(DRAWS,) stratified normal scores, those of each name in an order of its own."""
    return np.asarray(special.ndtri(uniform("audit", name)), np.float64)


def _drawn(a: float, b: float, name: str) -> FloatArray:
    """(DRAWS,) of Beta(a, b)."""
    return _drawn_from(lambda below: _beta_quantiles(a, b, below), name)


def _drawn_from(quantiles: _Quantiles, name: str) -> FloatArray:
    """(DRAWS,) interpolated between exact quantiles by normal scores."""
    return np.asarray(np.interp(_scores(name), _NODES, quantiles(special.ndtr(_NODES))), np.float64)


def _quantile(q: FloatArray, f: FloatArray, t: FloatArray, uninformed: float, below: float) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(t > f, np.clip((q - f) / (t - f), 0, 1), uninformed)
    return float(np.quantile(share, below))


def _share(sample: Sample, method: Method, fpc: bool) -> _Found:
    return _beta(sample, fpc) if method is Method.BETA else _student(sample, method is Method.PPI, fpc)


def _factors(sample: Sample, fpc: bool) -> FloatArray:
    """(h,) what multiplies the variances within strata."""
    left = 1 - sample.drawn / sample.sizes if fpc else 1.0
    return np.asarray(sample.parts**2 * left / sample.drawn, np.float64)


def _student(sample: Sample, powered: bool, fpc: bool) -> _Found:
    value, prediction = sample.value * sample.weight, sample.prediction * sample.weight
    total = float(sample.parts @ sample.means(sample.weight))
    share = float(sample.parts @ sample.means(value)) / total
    factors, tuning = _factors(sample, fpc), 0.0
    spread = float(factors @ sample.spread)
    rest = value - share * sample.weight
    if powered and spread > 0:
        tuning = float(np.clip(factors @ sample.covariances(rest, prediction) / spread, 0, 1))
        share += tuning * float(sample.parts @ (sample.predicted - sample.means(prediction))) / total
        rest = value - tuning * prediction - share * sample.weight
    variance = float(factors @ sample.covariances(rest, rest))
    error = float(np.sqrt(variance)) / total
    one = float((sample.parts / sample.drawn)[factors > 0].max(initial=0)) * float(sample.weight.max())
    freedom = max(len(value) - len(sample.sizes), 1)

    def quantiles(below: FloatArray) -> FloatArray:
        return np.asarray(np.clip(share + error * special.stdtrit(freedom, below), 0, 1), np.float64)

    documents = variance / one**2 if one else np.inf
    return _Found(float(np.clip(share, 0, 1)), quantiles, quantiles, tuning, documents)


def _beta(sample: Sample, fpc: bool) -> _Found:
    value, weight = sample.value * sample.weight, sample.weight
    total = float(sample.parts @ sample.means(weight))
    share = float(sample.parts @ sample.means(value)) / total
    rest = value - share * weight
    own = _factors(sample, fpc) * sample.covariances(rest, rest)
    heavy = float(weight.max())

    def quantiles(kind: float) -> _Quantiles:
        """Of the beta distributions after one more document, machine text (1) or not (0), in each of the strata."""
        n, parts = sample.drawn + 1, sample.parts
        mean = sample.means(value) + (kind * heavy - sample.means(value)) / n
        weights = sample.means(weight) + (heavy - sample.means(weight)) / n
        centre = (share * total + parts * (mean - sample.means(value))) / (
            total + parts * (weights - sample.means(weight))
        )
        more = (kind - share) * heavy
        first = (np.bincount(sample.stratum, rest) + more) / n
        second = (np.bincount(sample.stratum, rest**2) + more**2) / n
        variance = (own.sum() - own + parts**2 * (second - first**2) / (n + 1)) / total**2
        # Strata of which every document was labelled hold no other.
        open_ = sample.drawn < sample.sizes if fpc else np.ones(len(n), bool)
        if not open_.any():
            return lambda below: np.full_like(below, share)
        a, b = _beta_with(centre[open_], variance[open_])
        # The stratum in which the document matters most is chosen at the usual level, for all quantiles.
        limits = _beta_quantiles(a, b, np.array(0.025 + 0.95 * kind))
        at = int(limits.argmax() if kind else limits.argmin())
        return lambda below: _beta_quantiles(a[at], b[at], below)

    return _Found(share, quantiles(0.0), quantiles(1.0), 0.0, 0.0)


def _beta_with(mean: FloatArray, variance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The parameters of beta distributions; 0 where all of it lies at one end."""
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.maximum(mean * (1 - mean) / variance - 1, 1e-3)
    inner = (mean > 1e-15) & (mean < 1 - 1e-15)
    size = np.minimum(np.where(inner, size, 1.0), 1e15)
    return np.where(inner, mean * size, mean > 0.5), np.where(inner, (1 - mean) * size, mean <= 0.5)


def _beta_quantiles(a: FloatArray | float, b: FloatArray | float, below: FloatArray) -> FloatArray:
    """Of Beta(a, b), where a = 0 puts all of it at 0 and b = 0 at 1."""
    inner = special.betaincinv(np.maximum(a, 1e-12), np.maximum(b, 1e-12), below)
    return np.asarray(np.where(np.equal(a, 0), 0.0, np.where(np.equal(b, 0), 1.0, inner)), np.float64)
