"""How often the audit's intervals hold the truth, with simulated annotators: by share, errors and labels.

    python -m benchmarks.audit_coverage                       # the table of docs/audit.md
    python -m benchmarks.audit_coverage --draws 200 --shares 0.01 --labels 300

A population of documents with scores like a detector's: log-odds of human and of machine text that overlap, calibrated
for another crawl, so that its probabilities are off. What is above 0.9 goes to quarantine, above 0.5 to review, and
the rest stays in the reserve; quarters of the year have different shares. An audit of it is drawn again and again, in
strata of place and quarter, shared out as `reserve review plan` does it. Each document is labelled by someone who errs
with the given probability on both kinds of text, and who answered controls, of which half are machine text. Without
errors there are no controls.

Columns: the share of the detector (documents above 0.5); of each interval of nominal 95 % how often it held the true
share, and its mean width in points; of the certified bound for the reserve (one-sided 95 %), how often the true share
was at most that, and its mean, beside the true share. `default` is what `estimate_share` does; `PPI` the plain interval
of prediction-powered inference on the same labels, which knows nothing of errors; `sample` that of the labels alone.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines.review.annotators import Calls, Confusion
from pipelines.review.bounds import Sample, upper_bound
from pipelines.review.draw import MINIMUM, allocate
from pipelines.review.estimates import Answers, Frame, Method, estimate_share

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

LEVEL = 0.95
QUARTERS = 4
PLACES = 3  # reserve, review, quarantine


class Population(NamedTuple):
    """All documents of a crawl, sorted by stratum."""

    machine: npt.NDArray[np.bool_]
    probability: FloatArray
    stratum: IntArray
    sizes: IntArray
    places: IntArray  # of each stratum
    frame: Frame

    @property
    def share(self) -> float:
        """Of machine text."""
        return float(self.machine.mean())

    def remaining(self) -> float:
        """The share of machine text in the reserve."""
        return float(self.machine[self.places[self.stratum] == 0].mean())


def population(share: float, documents: int, random: np.random.Generator) -> Population:
    quarter = random.integers(0, QUARTERS, documents)
    machine = np.zeros(documents, bool)
    chance = (quarter + 1.0) / (quarter + 1.0).sum()
    machine[random.choice(documents, round(share * documents), replace=False, p=chance)] = True
    odds = np.where(machine, random.normal(3.5, 2.5, documents), random.normal(-4.5, 1.8, documents))
    probability = 1 / (1 + np.exp(-odds))
    place = np.digitize(probability, [0.5, 0.9])
    cells, stratum = np.unique(place * QUARTERS + quarter, return_inverse=True)
    order = np.argsort(stratum, kind="stable")
    sizes = np.bincount(stratum)
    sums = (np.bincount(stratum, values) for values in (probability, probability**2))
    frame = Frame(sizes, *sums, None, cells // QUARTERS)
    return Population(machine[order], probability[order], stratum[order], sizes, cells // QUARTERS, frame)


class Outcome(NamedTuple):
    """Of one audit: limits of the intervals, and the bound."""

    default: tuple[float, float]
    ppi: tuple[float, float]
    sample: tuple[float, float]
    powered: bool
    bound: float


def audit(crawl: Population, sampled: IntArray, error: float, controls: int, random: np.random.Generator) -> Outcome:
    starts = np.cumsum(crawl.sizes) - crawl.sizes
    rows = np.concatenate(
        [
            start + random.choice(size, n, replace=False)
            for start, size, n in zip(starts, crawl.sizes, sampled, strict=True)
        ]
    )
    wrong = random.random(len(rows)) < error
    said = crawl.machine[rows] ^ wrong
    stratum, prediction = crawl.stratum[rows], crawl.probability[rows]
    answers = Answers(stratum, said.astype(np.float64), None, prediction)
    errors = None
    if error:
        half = controls // 2
        missed, accused = (int(random.binomial(half, error)) for _ in range(2))
        errors = Confusion(Calls(missed, half - missed, 0), Calls(half - accused, accused, 0))
    found = estimate_share(crawl.frame, answers, LEVEL, Method.AUTO, errors)
    ppi = estimate_share(crawl.frame, answers, LEVEL, Method.PPI)
    sample = estimate_share(crawl.frame, answers, LEVEL, Method.STRATIFIED)
    kept = crawl.places == 0
    counted = np.bincount(stratum, said, minlength=len(sampled))[kept]
    bound = upper_bound(Sample(crawl.sizes[kept], sampled[kept], counted), LEVEL, errors).share
    return Outcome(
        (found.low, found.high), (ppi.low, ppi.high), (sample.low, sample.high), found.method is Method.PPI, bound
    )


def row(crawl: Population, error: float, labels: int, controls: int, draws: int, random: np.random.Generator) -> str:
    sampled = allocate(crawl.sizes, np.ones(len(crawl.sizes)), labels, MINIMUM)
    outcomes = [audit(crawl, sampled, error, controls, random) for _ in range(draws)]
    cells = [f"{crawl.share:.1%}", f"{error:.0%}", str(labels), f"{(crawl.probability > 0.5).mean():.2%}"]
    for name in ("default", "ppi", "sample"):
        limits = np.array([getattr(one, name) for one in outcomes])
        held = ((limits[:, 0] <= crawl.share) & (crawl.share <= limits[:, 1])).mean()
        cells.append(f"{held:.1%}, {100 * (limits[:, 1] - limits[:, 0]).mean():.2f}")
    bounds = np.array([one.bound for one in outcomes])
    remaining = crawl.remaining()
    cells += [f"{np.mean([one.powered for one in outcomes]):.0%}", f"{remaining:.2%}"]
    cells.append(f"{(bounds >= remaining).mean():.1%}, {bounds.mean():.2%}")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.002, 0.01, 0.05, 0.35])
    parser.add_argument("--errors", type=float, nargs="+", default=[0.0, 0.05])
    parser.add_argument("--labels", type=int, nargs="+", default=[300, 500, 1000])
    parser.add_argument("--controls", type=int, default=200)
    parser.add_argument("--documents", type=int, default=50_000)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=9)
    args = parser.parse_args()
    print("| share | errors | labels | detector | default | PPI | sample | default is PPI | in the reserve | bound |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for share in args.shares:
        crawl = population(share, args.documents, np.random.default_rng(args.seed))
        for error in args.errors:
            for labels in args.labels:
                random = np.random.default_rng([args.seed, labels, round(1000 * error), round(10_000 * share)])
                print(row(crawl, error, labels, args.controls, args.draws, random), flush=True)


if __name__ == "__main__":
    main()
