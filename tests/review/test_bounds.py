"""The bound: against closed forms, another library, and every configuration of small strata by enumeration."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from pipelines.review.annotators import Calls, Confusion
from pipelines.review.bounds import Sample, hypergeometric_upper, slice_bounds, upper_bound

NONE_IN_300 = 1 - 0.05 ** (1 / 300)


def test_none_of_300_is_the_exact_figure() -> None:
    found = upper_bound(Sample([20_000], [300], [0]))
    assert found.share == pytest.approx(NONE_IN_300, rel=1e-12)
    assert f"{found.share:.6f}" == "0.009936"
    assert (found.method, found.documents, found.drawn, found.machine) == ("clopper-pearson", 198, 300, 0)


@pytest.mark.parametrize(("machine", "drawn"), [(0, 1), (1, 300), (7, 50), (49, 50), (50, 50)])
def test_one_stratum_is_clopper_pearson(machine: int, drawn: int) -> None:
    exact = stats.binomtest(machine, drawn, alternative="less").proportion_ci(0.95, method="exact").high
    assert upper_bound(Sample([10_000], [drawn], [machine])).share == pytest.approx(exact, rel=1e-9)


def test_a_finite_stratum_is_hypergeometric() -> None:
    for size, drawn, machine in itertools.product((5, 9, 14), (1, 3, 5), (0, 1)):
        kept = [
            count
            for count in range(machine, size - drawn + machine + 1)
            if stats.hypergeom.cdf(machine, size, count, drawn) > 0.05
        ]
        assert hypergeometric_upper(size, drawn, machine) == max(kept)
    assert upper_bound(Sample([300], [300], [2]), finite=True).documents == 2
    assert upper_bound(Sample([20_000], [300], [0]), finite=True).share < NONE_IN_300


def test_strata_drawn_in_the_same_proportion_are_like_one() -> None:
    sizes, drawn = [4_000, 10_000, 6_000], [60, 150, 90]
    assert upper_bound(Sample(sizes, drawn, [0, 0, 0])).share == pytest.approx(NONE_IN_300, rel=1e-9)
    pooled = upper_bound(Sample([20_000], [300], [3])).share
    assert upper_bound(Sample(sizes, drawn, [1, 0, 2])).share == pytest.approx(pooled, rel=1e-9)


def test_none_found_is_the_greatest_share_that_a_search_finds() -> None:
    sizes, drawn = np.array([5_000, 3_000, 2_000]), np.array([40, 90, 10])
    found = upper_bound(Sample(sizes, drawn, [0, 0, 0]))
    axis = np.linspace(0, 0.3, 301)
    first, second = np.meshgrid(axis, axis, indexing="ij")
    with np.errstate(divide="ignore"):
        third = 1 - np.exp((np.log(0.05) - drawn[0] * np.log1p(-first) - drawn[1] * np.log1p(-second)) / drawn[2])
    best = (sizes[0] * first + sizes[1] * second + sizes[2] * np.maximum(third, 0))[third >= 0].max() / 10_000
    assert best <= found.share <= best + 1e-4


def test_none_found_in_finite_strata_is_the_most_that_enumeration_finds() -> None:
    random = np.random.default_rng(1)
    for _ in range(60):
        sizes = random.integers(2, 9, 3)
        drawn = np.array([random.integers(1, size + 1) for size in sizes])
        most = max(
            sum(counts)
            for counts in itertools.product(*(range(size - n + 1) for size, n in zip(sizes, drawn, strict=True)))
            if np.prod(stats.hypergeom.pmf(0, sizes, counts, drawn)) > 0.05 * (1 + 1e-9)
        )
        assert upper_bound(Sample(sizes, drawn, [0, 0, 0]), finite=True).documents == most


@pytest.mark.parametrize("finite", [False, True])
@pytest.mark.parametrize(
    ("sizes", "drawn"),
    [([8, 8], [4, 4]), ([12, 5], [4, 4]), ([10, 4], [2, 3]), ([5, 5, 5], [2, 2, 2]), ([9, 4, 3], [3, 1, 3])],
)
def test_no_configuration_is_missed_more_often_than_stated(sizes: list[int], drawn: list[int], finite: bool) -> None:
    for level in (0.8, 0.95):
        bounds = {
            found: upper_bound(Sample(sizes, drawn, found), level, finite=finite).documents
            for found in itertools.product(*(range(n + 1) for n in drawn))
        }
        for counts in itertools.product(*(range(size + 1) for size in sizes)):
            chances = [
                stats.hypergeom.pmf(np.arange(n + 1), size, count, n)
                for size, count, n in zip(sizes, counts, drawn, strict=True)
            ]
            missed = sum(
                float(np.prod([chance[x] for chance, x in zip(chances, found, strict=True)]))
                for found, bound in bounds.items()
                if bound < sum(counts)
            )
            assert missed <= 1 - level + 1e-9, (counts, missed)


@pytest.mark.parametrize("drawn", [(30, 30, 30), (60, 20, 10)])
def test_of_large_strata_no_shares_are_missed_more_often_than_stated(drawn: tuple[int, ...]) -> None:
    random = np.random.default_rng(3)
    sizes = np.array([10_000, 10_000, 10_000])
    known: dict[tuple[int, ...], float] = {}
    for shares in ([0.02, 0.02, 0.02], [0.1, 0, 0], [0, 0, 0.1], [0.05, 0.01, 0.2], [0.3, 0.1, 0.02]):
        found = random.binomial(drawn, shares, (400, 3))
        limits = []
        for row in map(tuple, found.tolist()):
            if row not in known:
                known[row] = upper_bound(Sample(sizes, drawn, row)).share
            limits.append(known[row])
        missed = np.mean(np.array(limits) < np.mean(shares))
        assert missed <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def test_it_is_not_much_wider_than_an_exact_limit() -> None:
    sizes, drawn = np.array([5_000, 5_000]), np.array([80, 20])
    found = upper_bound(Sample(sizes, drawn, [2, 1]))
    assert found.method == "weighted count"
    assert found.share < 1.35 * worst_case(drawn, np.array([2, 1]))


def worst_case(drawn: npt.NDArray[np.int64], found: npt.NDArray[np.int64]) -> float:
    """Of two strata of one size: the greatest share with which a weighted count so small has a probability of 5 %."""
    counts = np.stack(np.meshgrid(*(np.arange(n + 1) for n in drawn), indexing="ij"), -1)
    smaller = (counts / drawn).sum(-1) <= (found / drawn).sum() + 1e-12
    axis = np.linspace(0, 1, 401)
    first, second = (stats.binom.pmf(np.arange(n + 1)[None], n, axis[:, None]) for n in drawn)
    tail = first @ smaller @ second.T
    return float(((axis[:, None] + axis[None]) / 2)[tail >= 0.05].max())


def test_what_was_not_looked_at_counts_as_machine_text() -> None:
    found = upper_bound(Sample([9_000, 1_000], [300, 0], [0, 0]))
    assert found.unseen == 0.1
    assert found.share == pytest.approx(0.1 + 0.9 * NONE_IN_300)
    assert upper_bound(Sample([10], [0], [0])).share == 1


def test_more_machine_documents_never_give_a_lower_bound() -> None:
    for drawn in ([100, 100], [150, 20]):
        limits = [upper_bound(Sample([5_000, 5_000], drawn, [x, x])).share for x in range(21)]
        assert (np.diff(limits) > 0).all()


def test_slices_alone_and_together() -> None:
    sample = Sample([10_000, 10_000, 10_000], [300, 150, 150], [0, 0, 0])
    alone = slice_bounds(sample, ["2024-01", "2024-02", "2024-02"])
    assert list(alone) == ["2024-01", "2024-02"]
    assert alone["2024-01"].share == pytest.approx(NONE_IN_300)
    assert alone["2024-02"].share == pytest.approx(NONE_IN_300)
    both = slice_bounds(sample, ["2024-01", "2024-02", "2024-02"], together=True)
    assert both["2024-01"].share == pytest.approx(1 - 0.025 ** (1 / 300))
    assert both["2024-01"].level == 0.975


def test_without_controls_errors_change_nothing() -> None:
    sample = Sample([20_000], [300], [4])
    assert upper_bound(sample, errors=Confusion(Calls(), Calls())) == upper_bound(sample)


def test_errors_by_their_worst_corner() -> None:
    errors = Confusion(on_machine=Calls(human=5, machine=95), on_human=Calls(human=190, machine=10))
    found = upper_bound(Sample([20_000], [300], [30]), errors=errors)
    q, t, f = stats.beta.ppf(0.96, 31, 270), stats.beta.ppf(0.005, 95, 6), stats.beta.ppf(0.005, 10, 191)
    assert found.observed == pytest.approx(q)
    assert (found.sensitivity, found.false_positives) == (pytest.approx(t), pytest.approx(f))
    assert found.share == pytest.approx((q - f) / (t - f))
    fewer = upper_bound(Sample([20_000], [300], [0]), errors=errors)
    assert fewer.share == pytest.approx((1 - 0.04 ** (1 / 300)) / t)


def test_cannot_tell_on_controls_counts_as_machine() -> None:
    doubted = Confusion(on_machine=Calls(human=5, machine=80, cannot_tell=15), on_human=Calls(human=100))
    called = Confusion(on_machine=Calls(human=5, machine=95), on_human=Calls(human=100))
    sample = Sample([20_000], [300], [3])
    assert upper_bound(sample, errors=doubted).share == upper_bound(sample, errors=called).share


@pytest.mark.parametrize("share", [0.0, 0.004, 0.03])
def test_with_errors_the_bound_holds(share: float) -> None:
    random = np.random.default_rng(5)
    held, draws = 0, 80
    for _ in range(draws):
        missed, accused = random.binomial(60, [0.1, 0.05])
        errors = Confusion(Calls(missed, 60 - missed), Calls(60 - accused, accused))
        found = random.binomial([150, 150], 0.05 + share * (0.9 - 0.05))
        held += upper_bound(Sample([10_000, 8_000], [150, 150], found), errors=errors).share >= share
    assert held / draws > 0.95 - 3 * np.sqrt(0.95 * 0.05 / draws)


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        (Sample([10], [5], [6]), "machine <= drawn"),
        (Sample([10], [11], [0]), "machine <= drawn"),
        (Sample([10], [5], [0.5]), "whole numbers"),
        (Sample([10, 10], [5], [0]), "same strata"),
        (Sample([], [], []), "at least one document"),
    ],
)
def test_a_sample_that_cannot_be(sample: Sample, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        upper_bound(sample)
    with pytest.raises(ValueError, match="level"):
        upper_bound(Sample([10], [5], [0]), 1.0)
