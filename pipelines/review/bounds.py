"""An upper limit for the share of machine text that remains, which holds whatever the documents are.

From an audit that drew documents at random in each stratum, without replacement::

    found = upper_bound(Sample(sizes=[20_000], drawn=[300], machine=[0]))
    found.share  # 0.00993613…: 1 - 0.05^(1/300), of Clopper and Pearson (Biometrika 26, 1934)
    upper_bound(Sample([20_000], [300], [0]), finite=True).documents  # 197: of the 20,000 themselves, a little less

It is a one-sided confidence limit by test inversion: the greatest share θ = Σ W_h p_h for which a result no greater
than the one found has a probability above α, for whichever shares p_h of the strata that come to θ this is most likely
(for finite strata: Wendell & Schmee, J. Am. Stat. Assoc. 91, 1996). Where that probability cannot be had, something
above it stands in, so that the limit is never too low:

- One stratum: the binomial distribution, or the hypergeometric one of the finite stratum. Exact.
- None found in any stratum: the greatest Σ W_h p_h with Π (1 - p_h)^n_h = α. The logarithm is concave and separable, so
  that the greatest value is found, not searched for. Exact.
- Some found, strata drawn in like proportions (the greatest weight of a document at most twice the least): the number
  found, X. It is a sum of independent indicators (a hypergeometric count too: Vatutin & Mikhailov, Theory Probab. Appl.
  27, 1982), so that P(X <= x) is at most that of a binomial count with the same mean, from a mean of x + 1 on
  (Hoeffding, Ann. Math. Stat. 27, 1956, theorem 4). That limits Σ n_h p_h, and the strata with the greatest weights
  take what it allows. Strata drawn in the same proportion come to Clopper and Pearson's limit of the pooled count.
- Some found, otherwise: the weighted number T = Σ W_h x_h / n_h, by Chernoff's inequality: P(T <= t) is at most
  E exp(s t - s T) for any s > 0 (Ann. Math. Stat. 23, 1952; for draws without replacement: Hoeffding, J. Am. Stat.
  Assoc. 58, 1963, section 6). It is about a fifth wider than an exact limit would be. It bounds the probability for X
  too, and there the lower of the two limits is taken.

Which of these is used follows from how the sample was drawn, never from what was found. A stratum without a document in
the sample counts as machine text throughout: merge small strata before the draw.

Where people err, see :func:`upper_bound`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from pipelines.review.annotators import Confusion, Doubt
from pipelines.statistics.intervals import lower_bound

FloatArray = npt.NDArray[np.float64]

ALIKE: Final = 2.0  # the greatest weight of a drawn document over the least, up to which their number is what counts
NEARLY_THE_SAME: Final = 1.1  # likewise, up to which the limit from their number is the only one looked at
FOR_ERRORS: Final = 0.2  # the part of 1 - level that the annotators' errors take
_STEPS: Final = 40  # of bisection


class Sample(NamedTuple):
    """What an audit drew and found, by stratum; whole numbers, (h,) each.

    Attributes:
        sizes: documents of the stratum.
        drawn: of them, how many were drawn at random without replacement and labelled.
        machine: of these, how many count as machine text: also those that nobody could tell, and those on which two
            people differ.
    """

    sizes: npt.ArrayLike
    drawn: npt.ArrayLike
    machine: npt.ArrayLike


class Bound(NamedTuple):
    """An upper limit.

    Attributes:
        share: of machine text, at most.
        documents: the same as a number of documents, rounded down.
        level: of confidence, one-sided.
        method: "clopper-pearson", "hypergeometric", "none found", "count", "weighted count" or "nothing audited"; with
            " / annotators" where their errors are carried in.
        observed: the limit for the share that annotators call machine text; without errors, `share`.
        sizes, drawn, machine: of all strata together.
        unseen: the share of documents in strata from which nothing was drawn.
        sensitivity: the least that the controls allow; 1 where errors are not carried in.
        false_positives: the rate that was taken off; 0 likewise.
    """

    share: float
    documents: int
    level: float
    method: str
    observed: float
    sizes: int
    drawn: int
    machine: int
    unseen: float
    sensitivity: float = 1.0
    false_positives: float = 0.0


def upper_bound(sample: Sample, level: float = 0.95, errors: Confusion | None = None, finite: bool = False) -> Bound:
    """The upper limit for the share of machine text in all strata together.

    With `errors`, people call machine text so with probability t, other text with probability f, and controls say how
    great these are. The share called machine text is q = f + θ (t - f), so that θ = (q - f) / (t - f) (Rogan & Gladen,
    Am. J. Epidemiol. 107, 1978), which is the greater, the greater q and the smaller t and f. A fifth of α = 1 - level
    goes in equal parts to exact limits of t and f, the rest to that of q; the worst corner holds by Bonferroni's
    inequality. It is never taken lower than if no document had been called machine text. Controls of one kind alone:
    people are taken not to err on the other. No controls: as without `errors`.

    Args:
        sample: of the audit.
        level: of confidence.
        errors: of the annotators (:func:`pipelines.review.annotators.pool`).
        finite: whether to use that strata are finite, which gives a lower limit. Not with errors that are known from
            controls: what people would call a document is not fixed, as what it is.

    Raises ValueError for a sample that cannot be, or a level outside (0, 1).
    """
    sizes, drawn, machine = _checked(sample, level)
    total = int(sizes.sum())
    unseen = float(sizes[drawn == 0].sum() / total)
    seen = Sample(*(counts[drawn > 0] for counts in (sizes, drawn, machine)))
    said = errors.counts(Doubt.MACHINE) if errors else None
    known = said is not None and (said.machine_controls > 0 or said.human_controls > 0)
    finite = finite and not known
    alpha = (1 - level) * (1 - FOR_ERRORS if known else 1)
    if unseen == 1:
        return Bound(1.0, total, level, "nothing audited", 1.0, total, 0, 0, 1.0)
    share, method = _limit(seen, alpha, finite)
    observed, sensitivity, false_positives = share, 1.0, 0.0
    if said is not None and known:
        kinds = (said.machine_controls > 0) + (said.human_controls > 0)
        each = 1 - (1 - level) * FOR_ERRORS / kinds
        if said.machine_controls > 0:
            sensitivity = float(lower_bound(said.called_machine, said.machine_controls, each))
        if said.human_controls > 0:
            wrong = said.human_controls - said.called_human
            false_positives = float(lower_bound(wrong, said.human_controls, each))
        none = _limit(seen._replace(machine=np.zeros_like(seen.machine)), alpha, finite)[0]
        share = max(_corner(share, sensitivity, false_positives), _corner(none, sensitivity, 0.0))
        method += " / annotators"
    share, observed = (float(min(1.0, unseen + (1 - unseen) * one)) for one in (share, observed))
    # A limit by whole documents, as that of a finite stratum, must not lose one to rounding.
    documents = int(np.floor(share * total + 1e-6))
    audited = int(drawn.sum())
    return Bound(
        share,
        documents,
        level,
        method,
        observed,
        total,
        audited,
        int(machine.sum()),
        unseen,
        sensitivity,
        false_positives,
    )


def slice_bounds(
    sample: Sample,
    slices: Sequence[str],
    level: float = 0.95,
    errors: Confusion | None = None,
    finite: bool = False,
    together: bool = False,
) -> Mapping[str, Bound]:
    """The upper limits of parts of the strata: months, classes of hosts, languages.

    Each limit holds with `level` by itself; of twenty, one is expected to fail at 0.95. With `together`, all of them
    hold at once with `level`, each being taken at 1 - (1 - level) / k for k slices (Bonferroni); `level` of each bound
    says which. A part that cuts through strata is a slice too: count the cells of stratum and part, in which the
    documents are drawn at random as well, given how many there are of each.

    Args:
        sample: of the audit, by stratum or cell.
        slices: the name of each one's slice, (h,).
        level, errors, finite: as in :func:`upper_bound`.
        together: whether all limits are to hold at once.
    """
    names = np.array(slices, object)
    wanted = sorted(set(slices))
    each = 1 - (1 - level) / len(wanted) if together and wanted else level
    parts = {name: Sample(*(np.asarray(counts)[names == name] for counts in sample)) for name in wanted}
    return {name: upper_bound(part, each, errors, finite) for name, part in parts.items()}


def hypergeometric_upper(size: int, drawn: int, machine: int, level: float = 0.95) -> int:
    """The greatest number M of machine documents among `size` that the result allows: P(X <= machine | M) > 1 - level.

    Exact one-sided limit for draws without replacement (Katz, J. Am. Stat. Assoc. 48, 1953; Buonaccorsi, Am. Stat. 41,
    1987).
    """
    low, high = machine, size - (drawn - machine)
    while low < high:
        middle = (low + high + 1) // 2
        if stats.hypergeom.cdf(machine, size, middle, drawn) > 1 - level:
            low = middle
        else:
            high = middle - 1
    return low


def _checked(
    sample: Sample, level: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    if not 0 < level < 1:
        raise ValueError(f"level {level}: between 0 and 1")
    given = [np.atleast_1d(np.asarray(counts, np.float64)) for counts in sample]
    sizes, drawn, machine = (counts.astype(np.int64) for counts in given)
    if any((whole != counts).any() for whole, counts in zip((sizes, drawn, machine), given, strict=True)):
        raise ValueError("counts of documents are whole numbers; count one on which people differ as machine text")
    if not len(sizes) == len(drawn) == len(machine) or not sizes.sum():
        raise ValueError("sizes, drawn and machine are of the same strata, with at least one document")
    if ((machine < 0) | (machine > drawn) | (drawn > sizes)).any():
        raise ValueError("in each stratum 0 <= machine <= drawn <= sizes")
    return sizes, drawn, machine


def _corner(observed: float, sensitivity: float, false_positives: float) -> float:
    if observed >= sensitivity:
        return 1.0
    return max(0.0, (observed - false_positives) / (sensitivity - false_positives))


def _limit(sample: Sample, alpha: float, finite: bool) -> tuple[float, str]:
    """The limit for strata all of which were seen, and how it was found."""
    sizes, drawn, machine = (np.asarray(counts, np.int64) for counts in sample)
    total = float(sizes.sum())
    certain = 0.0
    caps = np.ones(len(sizes))
    if finite:
        known = sizes == drawn
        certain = float(machine[known].sum())
        sizes, drawn, machine = sizes[~known], drawn[~known], machine[~known]
        if not len(sizes):
            return certain / total, "hypergeometric"
        # What is known of the documents drawn holds with certainty.
        caps = 1 - (drawn - machine) / sizes
    if len(sizes) == 1:
        if finite:
            exact = hypergeometric_upper(int(sizes[0]), int(drawn[0]), int(machine[0]), 1 - alpha)
            return (certain + exact) / total, "hypergeometric"
        return _binomial_upper(int(machine[0]), int(drawn[0]), alpha), "clopper-pearson"
    if not machine.any():
        if finite:
            most = float(_none_found(sizes, drawn, alpha))
        else:
            most = float(_allowed(sizes, drawn, caps, np.full((1, len(sizes)), np.inf), np.zeros(1), alpha)[0])
        return (certain + most) / total, "none found"
    weight = sizes / drawn
    if weight.max() <= ALIKE * weight.min():
        most, method = _hoeffding(sizes, drawn, caps, int(machine.sum()), alpha), "count"
        if weight.max() > NEARLY_THE_SAME * weight.min():
            most = min(most, _chernoff(sizes, drawn, caps, np.ones(len(sizes)), machine, alpha))
    else:
        most, method = _chernoff(sizes, drawn, caps, weight / weight.max(), machine, alpha), "weighted count"
    return min(1.0, (certain + most) / total), method


def _binomial_upper(machine: int, drawn: int, alpha: float) -> float:
    return float(special.betaincinv(machine + 1, drawn - machine, 1 - alpha)) if machine < drawn else 1.0


def _none_found(sizes: npt.NDArray[np.int64], drawn: npt.NDArray[np.int64], alpha: float) -> int:
    """The most machine documents in all strata with which drawing none of them still has a probability above α.

    The first document costs a stratum of N with n drawn the factor (N - n) / N, the next (N - 1 - n) / (N - 1), and so
    on, always less: so the cheapest documents, of whichever stratum, are the most that can be had.
    """

    def held(worst: float) -> npt.NDArray[np.int64]:
        """Of each stratum, the documents that cost no more than 1 - worst."""
        return np.clip(np.floor(sizes + 1 - drawn / worst), 0, sizes - drawn).astype(np.int64)

    def cost(counts: npt.NDArray[np.int64]) -> float:
        rest = sizes - drawn
        parts = special.gammaln(sizes + 1) - special.gammaln(sizes - counts + 1)
        return float((parts - special.gammaln(rest + 1) + special.gammaln(rest - counts + 1)).sum())

    budget = -np.log(alpha)
    low, high = 0.0, 1.0  # of the share drawn among what remains, at the last document
    for _ in range(2 * _STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(held(middle)) < budget else (low, middle)
    counts = held(low) if low else np.zeros_like(sizes)
    while True:
        # Several strata may have documents of the same price.
        left = sizes - counts
        price = np.where(left > drawn, drawn / np.maximum(left, 1), np.inf)
        at = int(price.argmin())
        counts[at] += 1
        if not np.isfinite(price[at]) or cost(counts) >= budget:
            counts[at] -= 1
            return int(counts.sum())


def _hoeffding(
    sizes: npt.NDArray[np.int64], drawn: npt.NDArray[np.int64], caps: FloatArray, found: int, alpha: float
) -> float:
    """The most machine documents with which so few are found, from a limit to the mean of their number."""
    labels = int(drawn.sum())
    mean = max(labels * _binomial_upper(found, labels, alpha), found + 1.0)
    order = np.argsort(-sizes / drawn, kind="stable")
    wanted = (drawn * caps)[order]
    taken = np.clip(mean - (np.cumsum(wanted) - wanted), 0, wanted)
    return float((taken * (sizes / drawn)[order]).sum())


def _chernoff(
    sizes: npt.NDArray[np.int64],
    drawn: npt.NDArray[np.int64],
    caps: FloatArray,
    weights: FloatArray,
    machine: npt.NDArray[np.int64],
    alpha: float,
) -> float:
    """The most machine documents for the best of many s; each of them gives a limit that holds."""
    found = float(weights @ machine)
    best = float((sizes * caps).sum())
    grid = np.geomspace(1e-2, 1e2, 31)
    for _ in range(2):
        limits = _allowed(sizes, drawn, caps, grid[:, None] * weights, grid * found, alpha)
        at = int(limits.argmin())
        best = min(best, float(limits[at]))
        grid = np.geomspace(grid[max(at - 1, 0)], grid[min(at + 1, len(grid) - 1)], 21)
    return best


def _allowed(
    sizes: npt.NDArray[np.int64],
    drawn: npt.NDArray[np.int64],
    caps: FloatArray,
    steps: FloatArray,
    offsets: FloatArray,
    alpha: float,
) -> FloatArray:
    """The greatest Σ N_h p_h with Σ n_h log(1 - a_h p_h) + offset >= log α, where a_h = 1 - exp(-steps_h).

    For steps (k, h) and offsets (k,), each row by itself: (k,).
    """
    slope = -np.expm1(-steps)
    budget = offsets - np.log(alpha)

    def shares(price: FloatArray) -> FloatArray:
        # Where the derivatives of both sums are in the same ratio in all strata, or p_h is at its end.
        return np.asarray(np.clip(1 / slope - price[:, None] * drawn / sizes, 0, caps), np.float64)

    def affordable(price: FloatArray) -> npt.NDArray[np.bool_]:
        with np.errstate(divide="ignore"):
            return np.asarray(-(drawn * np.log1p(-slope * shares(price))).sum(axis=1) <= budget, np.bool_)

    low = np.zeros(len(slope))
    high = (sizes / drawn / slope).max(axis=1)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        fits = affordable(middle)
        low, high = np.where(fits, low, middle), np.where(fits, middle, high)
    # The side on which the limit is a little too high; where everything is affordable, that is all.
    return np.asarray((sizes * shares(low)).sum(axis=1), np.float64)
