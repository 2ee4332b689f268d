"""The share of machine text in mixtures of sets that neither the detector nor the references saw, method by method.

    python -m benchmarks.quantification --scores left-out.parquet
    python -m benchmarks.quantification --scores left-out.parquet --resamples 20 --show l2r   # single estimates as well

--scores is a table of detectors.histograms.SCORES: each text scored by a model, and calibrated on text, without its
set. A slice is drawn from the human and machine texts of one such set, or of three in equal parts, at a known share.
What stands for human and machine text comes from all other sets, and is taken for that of unseen sets. With `crawl`,
half of the human texts of the same sets stand for human text instead, as the pages from before the cut-off do in a run.

Methods: counted (classify and count), adjusted (the adjusted count that the statistics use), EMQ (expectation and
maximisation on the calibrated probabilities), HDy (Hellinger distance), likelihood (the mixture weight on a grid).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import pyarrow.parquet as pq

from detectors.base import ASSISTANTS
from detectors.histograms import BINS, CENTRES, Float, SetHistograms, bin_of, probability_of, set_histograms
from pipelines.statistics.intervals import DRAWS, adjusted_interval, adjusted_share, binomial_rate, clopper_pearson
from pipelines.statistics.mixture import (
    hellinger_interval,
    hellinger_share,
    likelihood_share,
    mixture_interval,
    pooled,
    posterior_share,
)
from pipelines.statistics.rates import fit_groups
from pipelines.statistics.references import STARTS, fit_histograms, reference_counts, sampled

SHARES = (0.005, 0.02, 0.05, 0.2, 0.5)
_LEAST_TEXTS = 100

Answer = tuple[Float, Float, Float]  # estimate, low, high: (slices,) each


@dataclass(frozen=True)
class Target:
    """What slices are drawn from: the bins of the texts of one or several left-out sets, human ones in two halves."""

    name: str
    sets: tuple[str, ...]
    human: tuple[Float, ...]  # (64,) distributions, one a set
    own_human: Float  # (64,) counts of the other halves
    machine: tuple[Float, ...]

    def draw(self, share: float, size: int, times: int, random: np.random.Generator) -> Float:
        """(times, 64) counts of slices, each text of which is machine text with this probability."""
        human, machine = np.mean(self.human, axis=0), np.mean(self.machine, axis=0)
        return random.multinomial(size, (1 - share) * human + share * machine, times).astype(np.float64)


@dataclass(frozen=True)
class Known:
    """What the methods are given: draws of distributions over 8 bins, and of rates at a threshold."""

    threshold: int  # the first of the 64 bins that is flagged
    human: Float
    machine: Float
    fpr: Float
    tpr: Float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scores", required=True, help="a Parquet file of left-out scores")
    parser.add_argument("--resamples", type=int, default=50, help="slices of each set, share and size")
    parser.add_argument("--sizes", type=int, nargs="+", default=[200, 1000, 10_000])
    parser.add_argument("--mixtures", type=int, default=10, help="how many mixtures of three sets")
    parser.add_argument("--show", help="print each estimate on the first slice of this set")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    random = np.random.default_rng(options.seed)
    table = pq.read_table(options.scores)
    sets, single = set_histograms(table, [ASSISTANTS]), targets(table, random)
    mixed = [mixture_of(single, random) for _ in range(options.mixtures)]
    for title, wanted in (("one left-out set", single), ("three left-out sets in equal parts", mixed)):
        for basis in ("crawl", "validation"):
            print(f"\n{title}; human reference: {basis}")
            measure(wanted, sets, basis, options, random)


def targets(table: object, random: np.random.Generator) -> list[Target]:
    """The sets with enough human and machine text in a language; groups of human texts are halved, never split."""
    columns = {name: table[name].to_numpy() for name in ("set", "language", "label", "group", "assistant")}
    bins, machine = bin_of(probability_of(table["log_odds"].to_numpy())), columns["label"] == "machine"
    _, group = np.unique(columns["group"], return_inverse=True)
    own = random.random(group.max() + 1)[group] < 0.5
    found = []
    for name, language in sorted(set(zip(columns["set"], columns["language"], strict=True))):
        here = (columns["set"] == name) & (columns["language"] == language)
        parts = [here & ~machine & ~own, here & ~machine & own, here & machine & columns["assistant"]]
        counts = [np.bincount(bins[part], minlength=BINS).astype(np.float64) for part in parts]
        if counts[0].sum() + counts[1].sum() >= _LEAST_TEXTS and counts[2].sum() >= _LEAST_TEXTS:
            human, machine_text = counts[0] / counts[0].sum(), counts[2] / counts[2].sum()
            found.append(Target(f"{name} {language}", (name,), (human,), counts[1], (machine_text,)))
    return found


def mixture_of(single: list[Target], random: np.random.Generator) -> Target:
    """Three sets in equal parts."""
    parts = [single[at] for at in random.choice(len(single), 3, replace=False)]
    return Target(
        " + ".join(part.name for part in parts),
        tuple(part.sets[0] for part in parts),
        tuple(part.human[0] for part in parts),
        np.sum([part.own_human / part.own_human.sum() for part in parts], axis=0)
        * min(part.own_human.sum() for part in parts),
        tuple(part.machine[0] for part in parts),
    )


def known(target: Target, sets: tuple[SetHistograms, ...], basis: str) -> Known:
    """What the other sets say; a set's other languages are left out with it."""
    others = [part for part in sets if part.set not in target.sets]
    sources = len(target.machine)
    human, machine = (reference_counts(others, label, starts=range(BINS)) for label in ("human", "machine"))
    threshold = best_threshold(human, machine)
    flagged = [np.round([part[:, threshold:].sum(axis=1), part.sum(axis=1)]).astype(int) for part in (human, machine)]
    tpr = fit_groups(*flagged[1]).mixture(sources, "tpr")
    of_machine = fit_histograms(pooled(machine, STARTS)).mixture(sources, "machine")
    if basis == "crawl":
        own = target.own_human
        fpr = binomial_rate(own[threshold:].sum(), own.sum(), "fpr")
        return Known(threshold, sampled(pooled(own, STARTS), "human"), of_machine, fpr, tpr)
    # Human text counts as of one unseen set whatever it is mixed of, as in pipelines.statistics.fpr.
    fpr = fit_groups(*flagged[0]).unseen("fpr")
    return Known(threshold, fit_histograms(pooled(human, STARTS)).unseen("human"), of_machine, fpr, tpr)


def best_threshold(human: Float, machine: Float) -> int:
    """The bin from which on flagging separates the sets best, on the mean over sets."""
    above = [np.cumsum((part / part.sum(axis=1, keepdims=True)).mean(axis=0)[::-1])[::-1] for part in (human, machine)]
    return int(np.argmax(above[1] - above[0]))


def counted(counts: Float, given: Known) -> Answer:
    flagged, size = counts[:, given.threshold :].sum(axis=1), counts.sum(axis=1)
    return flagged / size, *clopper_pearson(flagged, size)


def adjusted(counts: Float, given: Known) -> Answer:
    flagged, size = counts[:, given.threshold :].sum(axis=1), counts.sum(axis=1)
    fpr = np.broadcast_to(given.fpr, (len(counts), DRAWS))
    estimate = adjusted_share(flagged, size, given.fpr.mean(), given.tpr.mean())
    return estimate, *adjusted_interval(flagged, size, fpr, given.tpr)


def calibrated(counts: Float, given: Known) -> Answer:
    ratio = np.exp(CENTRES)[None]
    return posterior_share(counts), *mixture_interval(counts, 1 / (1 + ratio), ratio / (1 + ratio))


def matched(counts: Float, given: Known) -> Answer:
    counts = pooled(counts, STARTS)
    estimate = hellinger_share(counts, given.human.mean(axis=0), given.machine.mean(axis=0))
    return estimate, *hellinger_interval(counts, given.human, given.machine)


def likelihood(counts: Float, given: Known) -> Answer:
    counts = pooled(counts, STARTS)
    estimate = likelihood_share(counts, given.human.mean(axis=0), given.machine.mean(axis=0))
    return estimate, *mixture_interval(counts, given.human, given.machine)


METHODS: dict[str, Callable[[Float, Known], Answer]] = {
    "counted": counted,
    "adjusted": adjusted,
    "EMQ": calibrated,
    "HDy": matched,
    "likelihood": likelihood,
}


def measure(
    wanted: list[Target],
    sets: tuple[SetHistograms, ...],
    basis: str,
    options: argparse.Namespace,
    random: np.random.Generator,
) -> None:
    """Prints, by share and size, how each method does over all targets: absolute error, coverage, width."""
    given = [known(target, sets, basis) for target in wanted]
    names = list(METHODS)
    print(f"{'share':>6}{'size':>7}   " + "".join(f"{name:^24}" for name in names))
    print(f"{'':13}   " + "".join(f"{'error':>8}{'holds':>8}{'width':>8}" for _ in names))
    total: dict[str, list[float]] = {name: [] for name in names}
    for share, size in product(SHARES, options.sizes):
        cells: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
        for target, one in zip(wanted, given, strict=True):
            slices = target.draw(share, size, options.resamples, random)
            for name in names:
                estimate, low, high = METHODS[name](slices, one)
                holds = (low <= share) & (share <= high)
                error = np.abs(estimate - share).mean()  # NaN where the references tell nothing apart
                cells[name].append((error, holds.mean(), (high - low).mean()))
                total[name].append(float(holds.mean()))
                if options.show and target.name.startswith(options.show):
                    print(f"    {target.name:<14}{name:<11}{estimate[0]:>7.2%}  {low[0]:.2%} – {high[0]:.2%}")
        line = "".join("{:>8.2%}{:>8.1%}{:>8.1%}".format(*np.nanmean(cells[name], axis=0)) for name in names)
        print(f"{share:>6.1%}{size:>7}   {line}")
    print(f"{'all':>13}   " + "".join(f"{'':8}{np.mean(total[name]):>8.1%}{'':8}" for name in names))


if __name__ == "__main__":
    main()
