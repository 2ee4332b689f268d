import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize, special, stats

from detectors.histograms import BINS, CENTRES
from pipelines.statistics import mixture
from pipelines.statistics.grid import averaged
from pipelines.statistics.intervals import adjusted_interval, adjusted_share, clopper_pearson
from pipelines.statistics.mixture import (
    SHARES,
    hellinger_interval,
    hellinger_share,
    likelihood_share,
    log_likelihood,
    mean_share,
    mixed_shares,
    mixture_interval,
    pooled,
    posterior_share,
)
from pipelines.statistics.references import sampled

QUAPY = Path(__file__).parents[1] / "assets" / "quantification"
HUMAN, MACHINE = np.array([0.6, 0.3, 0.08, 0.02]), np.array([0.02, 0.1, 0.3, 0.58])


def by_brute_force(counts, human, machine):
    """The estimate, and both 95 % intervals: of the likelihood ratio by scipy's root finder, and of the posterior."""

    def lost(share):
        return -special.xlogy(counts, (1 - share) * human + share * machine).sum()

    best = optimize.minimize_scalar(lost, bounds=(0, 1), method="bounded", options={"xatol": 1e-11}).x

    def excess(share):
        return 2 * (lost(share) - lost(best)) - stats.chi2.ppf(0.95, 1)

    ratio = [optimize.brentq(excess, *ends) if excess(e) > 0 else e for ends, e in (((0, best), 0), ((best, 1), 1))]
    fine = np.sin(np.linspace(0, np.pi / 2, 100_001)) ** 2
    log = -np.array([lost(best)]) + special.xlogy(counts, np.outer(1 - fine, human) + np.outer(fine, machine)).sum(
        axis=1
    )
    density = np.exp(log - log.max())
    steps = np.r_[0, np.cumsum((density[1:] + density[:-1]) * np.diff(fine))]
    return best, ratio, np.interp([0.025, 0.975], steps / steps[-1], fine)


@pytest.mark.parametrize("size", [100, 10_000, 1_000_000])
@pytest.mark.parametrize("share", [0.0, 0.005, 0.05, 0.5, 0.97])
def test_the_grid_gives_likelihood_and_limits_by_brute_force(size, share):
    counts = np.random.default_rng(size).multinomial(size, (1 - share) * HUMAN + share * MACHINE).astype(float)
    best, ratio, posterior = by_brute_force(counts, HUMAN, MACHINE)
    assert likelihood_share(counts, HUMAN, MACHINE)[0] == pytest.approx(best, abs=6e-5)
    low, high = (limit[0] for limit in mixture_interval(counts, HUMAN[None], MACHINE[None]))
    # A likelihood narrower than the grid pushes the posterior outwards by up to a step.
    step = float(np.interp(best, SHARES[:-1], np.diff(SHARES))) if size >= 10_000 else 0.0
    inner_low, inner_high = min(ratio[0], posterior[0]), max(ratio[1], posterior[1])
    close = 2e-4 + 0.005 * (inner_high - inner_low)
    assert inner_low - step - close <= low <= inner_low + close
    assert inner_high - close <= high <= inner_high + step + close


def test_a_perfect_detector_gives_nearly_clopper_pearson():
    cases = [(0, 100), (3, 100), (10, 200), (500, 1000), (97, 100), (100, 100)]
    for x, n in cases:
        low, high = mixture_interval([[n - x, x]], np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))
        expected = clopper_pearson(x, n)
        assert (low[0], high[0]) == pytest.approx([float(limit) for limit in expected], abs=0.002)


def test_two_bins_are_the_adjusted_count():
    random = np.random.default_rng(5)
    fpr, tpr = random.beta(20, 980, 4096), random.beta(70, 30, 4096)
    for x, n in ((40, 1000), (200, 1000), (30, 100), (4, 300)):
        expected = [limit[0] for limit in adjusted_interval([x], [n], fpr[None], tpr)]
        human, machine = (np.stack([1 - rate, rate], axis=1)[:1024] for rate in (fpr, tpr))
        low, high = mixture_interval([[n - x, x]], human, machine)
        assert [low[0], high[0]] == pytest.approx(expected, abs=0.06 * (expected[1] - expected[0]))
        share = likelihood_share([[n - x, x]], human.mean(axis=0), machine.mean(axis=0))[0]
        assert share == pytest.approx(adjusted_share(x, n, human[:, 1].mean(), machine[:, 1].mean()), abs=2e-4)


def test_any_order_of_merging_is_the_single_pass():
    random = np.random.default_rng(2)
    packs = [random.multinomial(random.integers(1, 400), np.full(BINS, 1 / BINS)) for _ in range(40)]
    human, machine = random.dirichlet(np.ones(BINS), 2)
    whole = np.sum(packs, axis=0)
    expected = log_likelihood(whole, human, machine)[0]
    for _ in range(5):
        left = [packs[at] for at in random.permutation(len(packs))]
        logs = [log_likelihood(pack, human, machine)[0] for pack in left]
        while len(left) > 1:  # any tree of pairs: whole numbers add up to the same bits, logarithms to rounding
            first, second = sorted(random.choice(len(left), 2, replace=False))
            left[first], logs[first] = left[second] + left[first], logs[second] + logs[first]
            del left[second], logs[second]
        assert np.array_equal(left[0], whole)
        assert likelihood_share(left[0], human, machine) == likelihood_share(whole, human, machine)
        np.testing.assert_allclose(logs[0], expected, rtol=1e-12)


def test_expectation_maximisation_ends_at_the_greatest_likelihood():
    random = np.random.default_rng(3)
    for share in (0.0, 0.01, 0.3, 0.95):
        counts = random.multinomial(
            3000, (1 - share) * special.expit(-3 * CENTRES) / 32 + share * special.expit(3 * CENTRES) / 32
        )
        best, *_ = by_brute_force(counts, special.expit(-CENTRES), special.expit(CENTRES))
        assert posterior_share(counts)[0] == pytest.approx(best, abs=2e-6)


def test_hellinger_share_is_the_least_distance_by_brute_force():
    random = np.random.default_rng(4)
    for share in (0.0, 0.02, 0.4, 1.0):
        counts = random.multinomial(500, (1 - share) * HUMAN + share * MACHINE)
        steps = np.linspace(0, 1, 20_001)
        mixed = np.outer(1 - steps, HUMAN) + np.outer(steps, MACHINE)
        distance = ((np.sqrt(counts / counts.sum()) - np.sqrt(mixed)) ** 2).sum(axis=1)
        assert hellinger_share(counts, HUMAN, MACHINE)[0] == pytest.approx(steps[distance.argmin()], abs=1e-4)


def quapy_cases():
    return json.loads((QUAPY / "quapy.json").read_text())["cases"]


def check_against_quapy(case, expected):
    human, machine, sample = (np.array(case[part]) for part in ("human", "machine", "sample"))
    of_human, of_machine = human / human.sum(), machine / machine.sum()
    assert posterior_share(sample)[0] == pytest.approx(expected["emq"], abs=1e-6)
    assert mean_share(sample, of_human, of_machine)[0] == pytest.approx(expected["pacc"], abs=1e-9)
    above = [part[BINS // 2 :].sum() / part.sum() for part in (human, machine)]
    acc = adjusted_share(sample[BINS // 2 :].sum(), sample.sum(), *above)
    assert acc == pytest.approx(expected["acc"], abs=1e-9)
    coarse = [np.reshape(part, (8, 8)).sum(axis=1) for part in (human, machine, sample)]
    references = [(part + 0.5) / (part + 0.5).sum() for part in coarse[:2]]
    assert likelihood_share(coarse[2], *references)[0] == pytest.approx(expected["likelihood"], abs=1e-4)
    by_bins = {}
    for bins in (*range(10, 111, 10), 8):
        parts = [in_probability(part, bins) for part in (sample, human, machine)]
        by_bins[bins] = hellinger_share(parts[0], *(part / part.sum() for part in parts[1:]))[0]
    for bins, value in expected["hellinger"].items():
        assert by_bins[int(bins)] == pytest.approx(value, abs=2e-3)  # a general optimiser, which stops early
    median = np.median([by_bins[bins] for bins in range(10, 111, 10)])
    assert median == pytest.approx(expected["hdy"], abs=0.0051)  # a search in steps of 0.01


def in_probability(counts, bins):
    """Counts of log-odds as counts in bins of equal width in the probability, in which HDy is defined."""
    return np.histogram(np.repeat(special.expit(CENTRES), counts), bins=bins, range=(0, 1))[0]


@pytest.mark.parametrize("case", quapy_cases(), ids=lambda case: str(case["share"]))
def test_estimates_are_those_of_quapy(case):
    check_against_quapy(case, case["estimates"])


@pytest.mark.slow
def test_estimates_are_those_of_quapy_as_installed():
    pytest.importorskip("quapy", reason="quapy is not installed; it brings scikit-learn, pandas and matplotlib")
    spec = importlib.util.spec_from_file_location("make_quapy", QUAPY / "make_quapy.py")
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    for case in maker.cases():
        check_against_quapy(case, maker.estimates(case))


def test_nothing_counted_says_nothing():
    nothing = np.zeros((2, 4))
    nothing[1, 0] = 10
    assert np.isnan(likelihood_share(nothing, HUMAN, MACHINE)).tolist() == [True, False]
    assert np.isnan(hellinger_share(nothing, HUMAN, MACHINE)).tolist() == [True, False]
    assert np.isnan(posterior_share(nothing, np.arange(4.0))).tolist() == [True, False]
    assert np.isnan(mean_share(nothing, HUMAN, MACHINE, np.arange(4.0))).tolist() == [True, False]
    for interval in (mixture_interval, hellinger_interval):
        low, high = interval(nothing, HUMAN[None], MACHINE[None])
        assert (low[0], high[0]) == (0, 1)


def test_references_that_do_not_differ_say_nothing():
    low, high = mixture_interval([[50, 30, 15, 5]], HUMAN[None], HUMAN[None])
    assert low[0] <= 0.025
    assert high[0] >= 0.975
    assert np.isnan(mean_share([[50, 30, 15, 5]], HUMAN, HUMAN, np.arange(4.0))[0])


def test_cells_take_the_human_text_of_their_languages():
    humans = np.stack([sampled(HUMAN * 900, "a"), sampled(HUMAN[::-1] * 900, "b")])
    machine = sampled(np.array([0.1, 0.4, 0.4, 0.1]) * 900, "m")
    counts, mix = np.array([[60, 30, 8, 2], [2, 8, 30, 60], [31, 19, 19, 31.0]]), np.array([[1, 0], [0, 1], [0.5, 0.5]])
    estimate, low, high = mixed_shares(counts, mix, humans, np.stack([machine, machine]))
    assert (estimate < 0.06).all()
    assert ((low <= estimate) & (estimate <= high)).all()
    alone = mixture_interval(counts[1:2], humans[1], machine)
    assert (low[1], high[1]) == (min(alone[0][0], estimate[1]), max(alone[1][0], estimate[1]))


def test_cells_take_the_machine_text_of_their_languages():
    """Half of a language's machine text scores as human text does: a share of 10 % there is half a share elsewhere."""
    human, faint = sampled(HUMAN * 1e6, "h"), (HUMAN + MACHINE) / 2
    machines = np.stack([sampled(MACHINE * 1e6, "m"), sampled(faint * 1e6, "f")])
    counts = np.array([1e4 * (0.9 * HUMAN + 0.1 * part) for part in (MACHINE, faint, (MACHINE + faint) / 2)])
    mix = np.array([[1, 0], [0, 1], [0.5, 0.5]])
    estimate, low, high = mixed_shares(counts, mix, np.stack([human, human]), machines)
    assert estimate == pytest.approx(0.1, abs=1e-3)
    assert ((low < 0.1) & (high > 0.1)).all()


def by_averages(counts, human, machine, shares):
    """What the kernel gives, on the whole grid at once: mean distribution functions over draws, (points,) each."""
    mixed = human[:, None] * (1 - shares)[:, None] + machine[:, None] * shares[:, None]
    values = np.log(np.maximum(mixed, 1e-12)) @ counts
    best = values.argmax(axis=1)
    top = np.clip(best, 1, len(shares) - 2)[:, None]
    left, middle, right = (np.take_along_axis(values, top + step, 1)[:, 0] for step in (-1, 0, 1))
    slope, bend = (right - left) / 2, left - 2 * middle + right
    shift = np.where(bend < -1e-9, np.clip(-slope / np.minimum(bend, -1e-12), -1, 1), best - top[:, 0])
    height = np.maximum(middle + slope * shift + bend * shift**2 / 2, values.max(axis=1))
    side = np.sign(np.arange(len(shares)) - (top[:, 0] + shift)[:, None])
    confidence = special.ndtr(side * np.sqrt(2 * (height[:, None] - values)))
    density = np.exp(values - values.max(axis=1, keepdims=True))
    steps = np.cumsum((density[:, 1:] + density[:, :-1]) / 2 * np.diff(shares), axis=1)
    posterior = np.concatenate([np.zeros((len(values), 1)), steps], axis=1) / steps[:, -1:]
    return confidence.mean(axis=0), posterior.mean(axis=0)


@pytest.mark.parametrize("size", [3, 20, 150, 4000, 300_000])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.4, 1.0])
def test_the_kernel_is_the_average_over_draws(size, share):
    human, machine = sampled(HUMAN * 500, "h"), sampled(MACHINE * 500, "m")
    counts = np.random.default_rng(size).multinomial(size, (1 - share) * HUMAN + share * MACHINE).astype(float)
    for found, expected in zip(
        averaged(counts, human, machine, SHARES), by_averages(counts, human, machine, SHARES), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-8)


def test_fewer_steps_for_few_texts_move_no_limit_by_much(monkeypatch):
    human, machine = sampled(HUMAN * 500, "h"), sampled(MACHINE * 500, "m")
    counts = np.array([np.random.default_rng(n).multinomial(n, 0.8 * HUMAN + 0.2 * MACHINE) for n in (15, 40, 90, 160)])
    found = mixture_interval(counts, human, machine)
    monkeypatch.setattr(mixture, "_STEPS", ())
    for coarse, fine in zip(found, mixture_interval(counts, human, machine), strict=True):
        assert coarse == pytest.approx(fine, abs=0.003)


def test_bins_are_pooled():
    assert pooled([[1, 2, 3, 4], [5, 6, 7, 8]], [0, 1, 3]).tolist() == [[1, 5, 4], [5, 13, 8]]


TRUE_HUMAN = np.diff(stats.norm.cdf([-np.inf, -3, -2, -1, 0, 1, 2, 3, np.inf], -1.6, 1.2))
TRUE_MACHINE = np.diff(stats.norm.cdf([-np.inf, -3, -2, -1, 0, 1, 2, 3, np.inf], 1.4, 1.3))


def coverage(share, size, rounds, reference=1000):
    """Of intervals from references that are samples of the very distributions that the slices are drawn from."""
    random = np.random.default_rng([size, int(share * 1000)])
    held, width = [], []
    for at in range(rounds):
        human, machine = (random.multinomial(reference, part) for part in (TRUE_HUMAN, TRUE_MACHINE))
        counts = random.multinomial(size, (1 - share) * TRUE_HUMAN + share * TRUE_MACHINE)
        draws = sampled(human, "human", at)[::4], sampled(machine, "machine", at)[::4]
        low, high = mixture_interval(counts, *draws)
        held.append(low[0] <= share <= high[0])
        width.append(high[0] - low[0])
    return np.mean(held), np.mean(width)


@pytest.mark.parametrize(("share", "size", "widest"), [(0.005, 1000, 0.03), (0.05, 10_000, 0.03), (0.5, 100, 0.27)])
def test_coverage_without_shift(share, size, widest):
    rounds = 120  # too few to tell 93 from 95 %; the slow test below does
    held, width = coverage(share, size, rounds)
    assert stats.binom.cdf(round(held * rounds), rounds, 0.93) > 0.01
    assert width < widest  # honest, but not by saying nothing


@pytest.mark.slow
@pytest.mark.parametrize("size", [100, 1000, 10_000])
@pytest.mark.parametrize("share", [0.005, 0.02, 0.05, 0.2, 0.5])
def test_coverage_without_shift_at_every_share_and_size(share, size):
    held, _ = coverage(share, size, rounds=1000)
    print(f"coverage at {share:.1%} of {size}: {held:.3f}")
    assert held >= 0.93
