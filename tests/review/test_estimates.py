"""The share: against scipy, ppi-python and sums by hand; and how often the intervals hold the truth."""

import numpy as np
import pytest
from scipy import stats

from pipelines.review.annotators import Calls, Confusion
from pipelines.review.estimates import Answers, Estimate, Frame, Method, estimate_share, prediction_powered
from pipelines.review.labelled import merge

LARGE = 10**9


def plain(machine: int, labels: int, method: Method = Method.BETA, **more: object) -> Estimate:
    answers = Answers(np.zeros(labels, np.int64), np.arange(labels) < machine)
    return estimate_share(Frame([LARGE]), answers, method=method, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("machine", "labels"), [(0, 300), (1, 300), (7, 50), (49, 50), (50, 50), (150, 1000)])
def test_in_one_stratum_the_default_is_clopper_pearson(machine: int, labels: int) -> None:
    found = plain(machine, labels, Method.AUTO)
    exact = stats.binomtest(machine, labels).proportion_ci(0.95, method="exact")
    assert (found.low, found.high) == (pytest.approx(exact.low), pytest.approx(exact.high))
    assert found.share == machine / labels
    assert found.method is Method.BETA


def test_the_stratified_interval_is_that_of_student() -> None:
    found = plain(60, 200, Method.STRATIFIED)
    values = np.arange(200) < 60
    wanted = stats.t.interval(0.95, 199, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(wanted, rel=1e-6)


def test_strata_are_weighed_by_their_sizes_and_finite() -> None:
    frame = Frame([900, 100])
    answers = Answers([0] * 45 + [1] * 20, np.r_[np.arange(45) < 3, np.arange(20) < 15])
    found = estimate_share(frame, answers, method=Method.STRATIFIED)
    share = 0.9 * 3 / 45 + 0.1 * 15 / 20
    first, second = np.var(np.arange(45) < 3, ddof=1) / 45, np.var(np.arange(20) < 15, ddof=1) / 20
    variance = 0.81 * 0.95 * first + 0.01 * 0.8 * second
    assert found.share == pytest.approx(share)
    assert (found.high - found.low) / 2 == pytest.approx(stats.t.ppf(0.975, 63) * np.sqrt(variance))


def test_when_all_is_labelled_nothing_is_uncertain() -> None:
    answers = Answers([0] * 40 + [1] * 10, np.r_[np.arange(40) < 3, np.arange(10) < 9])
    for method in (Method.BETA, Method.STRATIFIED):
        found = estimate_share(Frame([40, 10]), answers, method=method)
        assert (found.low, found.share, found.high) == pytest.approx((0.24, 0.24, 0.24))


def peculiar() -> tuple[np.ndarray, np.ndarray]:
    """2,200 labels and predictions, the first 200 for the labelled part; fixed without a generator."""
    at = np.arange(2200)
    labels = ((at * 37) % 100 < 23).astype(float)
    return labels, np.clip(0.3 + 0.4 * labels + ((at * 61) % 97 - 48) / 50, 0, 1)


# What ppi-python 0.2.3 gives for these: ppi_mean_pointestimate and ppi_mean_ci, by lam.
PPI_PYTHON = {
    1.0: (0.24739999999999998, 0.19733227961, 0.29746772038999997),
    0.0: (0.23, 0.1716766617405635, 0.2883233382594365),
    None: (0.24192966609025557, 0.19776702830211562, 0.2860923038783955),
}


@pytest.mark.parametrize("tuning", [1.0, 0.0, None])
def test_prediction_powered_as_in_ppi_python(tuning: float | None) -> None:
    labels, predictions = peculiar()
    others = predictions[200:]
    found = prediction_powered(labels[:200], predictions[:200], others.mean(), others.var(), 2000, 0.95, tuning)
    assert found == pytest.approx(PPI_PYTHON[tuning], rel=1e-12)


def test_prediction_powered_beside_ppi_python_itself() -> None:
    ppi_py = pytest.importorskip("ppi_py")
    labels, predictions = peculiar()
    others = predictions[200:]
    low, high = ppi_py.ppi_mean_ci(labels[:200], predictions[:200], others, alpha=0.05)
    found = prediction_powered(labels[:200], predictions[:200], others.mean(), others.var(), 2000)
    assert found[1:] == (pytest.approx(low.item()), pytest.approx(high.item()))


def test_in_a_large_frame_the_audit_is_prediction_powered_too() -> None:
    labels, predictions = peculiar()
    others = predictions[200:]
    frame = Frame([LARGE], [others.mean() * LARGE], [np.mean(others**2) * LARGE])
    answers = Answers(np.zeros(200, np.int64), labels[:200], None, predictions[:200])
    found = estimate_share(frame, answers, method=Method.PPI)
    share, low, high = prediction_powered(
        labels[:200], predictions[:200], others.mean(), others.var(), LARGE, 0.95, found.tuning
    )
    assert found.share == pytest.approx(share, rel=1e-7)
    # Student's t and n - 1 instead of the normal distribution and n.
    wider = stats.t.ppf(0.975, 199) / stats.norm.ppf(0.975) * np.sqrt(200 / 199)
    assert found.high - found.low == pytest.approx((high - low) * wider, rel=1e-6)
    assert 0.1 < found.tuning < 0.9


def test_rare_machine_text_is_not_left_to_prediction_powered_inference() -> None:
    random = np.random.default_rng(0)
    prediction = random.beta(1, 60, 400)
    frame = Frame([LARGE], [LARGE / 61], [LARGE / 61 * 2 / 62])
    rare = Answers(np.zeros(400, np.int64), np.arange(400) < 3, None, prediction)
    assert estimate_share(frame, rare).method is Method.BETA
    common = Answers(np.zeros(400, np.int64), np.arange(400) < 90, None, prediction)
    assert estimate_share(frame, common).method is Method.PPI


def test_cannot_tell_is_left_out_and_widens_the_interval() -> None:
    machine, unknown = np.r_[np.ones(10), np.zeros(90)], np.r_[np.zeros(90), np.ones(10)]
    found = estimate_share(Frame([LARGE]), Answers(np.zeros(100, np.int64), machine, unknown), method=Method.BETA)
    assert found.share == pytest.approx(10 / 90)
    assert (found.labels, found.cannot_tell, found.machine) == (100, 10, 10)
    assert found.low == pytest.approx(stats.binomtest(10, 100).proportion_ci(0.95).low)
    assert found.high == pytest.approx(stats.binomtest(20, 100).proportion_ci(0.95).high)
    nothing = estimate_share(Frame([LARGE]), Answers(np.zeros(50, np.int64), np.zeros(50), np.ones(50)))
    assert np.isnan(nothing.share)
    assert (nothing.low, nothing.high) == (0, 1)


def test_weights_make_it_the_share_of_captures() -> None:
    weight = np.r_[np.full(20, 5.0), np.ones(80)]
    answers = Answers(np.zeros(100, np.int64), np.arange(100) < 10, None, None, weight)
    found = estimate_share(Frame([LARGE], weights=[1.8 * LARGE]), answers, method=Method.STRATIFIED)
    assert found.share == pytest.approx(50 / 180)
    rest = weight * ((np.arange(100) < 10) - 50 / 180)
    assert found.high - found.share == pytest.approx(stats.t.ppf(0.975, 99) * rest.std(ddof=1) / 10 / 1.8)
    beta = estimate_share(Frame([LARGE], weights=[1.8 * LARGE]), answers)
    assert beta.low < found.share < found.high < beta.high
    ones = Answers(np.zeros(100, np.int64), np.arange(100) < 10, None, None, np.ones(100))
    assert estimate_share(Frame([LARGE], weights=[LARGE]), ones) == plain(10, 100)


def test_errors_are_carried_in() -> None:
    assert plain(15, 300, errors=Confusion(Calls(), Calls())) == plain(15, 300)
    certain = Confusion(on_machine=Calls(machine=10**9), on_human=Calls(human=10**9))
    same, straight = plain(15, 300, errors=certain), plain(15, 300)
    assert (same.share, same.low, same.high) == pytest.approx(straight[:3], rel=2e-3)
    errors = Confusion(on_machine=Calls(human=10, machine=90), on_human=Calls(human=190, machine=10))
    found = plain(60, 300, errors=errors)
    assert found.observed == 0.2
    assert found.share == pytest.approx((0.2 - 0.05) / (0.9 - 0.05))
    straight = plain(60, 300)
    assert found.low < straight.low
    assert found.high - found.low > straight.high - straight.low
    fewer = plain(0, 300, errors=errors)
    assert (fewer.share, fewer.low) == (0, 0)
    assert fewer.high > plain(0, 300).high


def test_small_strata_are_merged_inside_their_group() -> None:
    into = merge(np.array([5, 1, 0, 3, 0, 1, 4]), np.array([0, 0, 0, 1, 1, 1, 1]))
    assert into.tolist() == [0, 0, 0, 1, 1, 2, 2] or into.tolist() == [0, 0, 0, 1, 2, 2, 2]
    assert merge(np.array([1, 0, 4]), np.array([0, 0, 1])).tolist() == [0, 0, 0]
    assert merge(np.array([4, 0, 4]), np.array([1, 0, 1])).tolist() == [0, 0, 1]
    assert merge(np.array([1]), np.array([0])).tolist() == [0]


@pytest.mark.parametrize(
    ("frame", "answers", "said"),
    [
        (Frame([10]), Answers([0, 0], [1]), "machine has the shape"),
        (Frame([10], predicted=[1, 2]), Answers([0], [1]), "predicted has the shape"),
        (Frame([10]), Answers([1], [1]), "from 0 to 0"),
        (Frame([1]), Answers([0, 0], [1, 1]), "more labels than documents"),
        (Frame([10]), Answers([], []), "no document"),
        (Frame([10, 0]), Answers([0], [1]), "at least one"),
        (Frame([10]), Answers([0], [1], [1]), "shares of the answers"),
        (Frame([10], weights=[10]), Answers([0], [1]), "of all documents or of none"),
        (Frame([10]), Answers([0], [1], None, [np.nan]), "prediction is missing"),
    ],
)
def test_what_does_not_fit_together(frame: Frame, answers: Answers, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        estimate_share(frame, answers)
    with pytest.raises(ValueError, match="takes predictions"):
        estimate_share(Frame([10]), Answers([0], [1]), method=Method.PPI)


@pytest.mark.parametrize("error", [0.0, 0.05])
@pytest.mark.parametrize("share", [0.002, 0.01, 0.05, 0.35])
def test_the_default_interval_holds(share: float, error: float) -> None:
    random = np.random.default_rng([7, round(1000 * share)])
    sizes, drawn = np.array([12_000, 6_000, 2_000]), np.array([200, 60, 40])
    counts = np.round(sizes.sum() * share * np.array([0.2, 0.2, 0.6])).astype(int)
    counts[2] = min(counts[2], 1_900)
    counts[0] += round(sizes.sum() * share) - counts.sum()
    truth = counts.sum() / sizes.sum()
    machine = [np.arange(size) < count for size, count in zip(sizes, counts, strict=True)]
    scores = [np.where(one, random.beta(4, 1.5, len(one)), random.beta(1, 12, len(one))) for one in machine]
    frame = Frame(sizes, [one.sum() for one in scores], [(one**2).sum() for one in scores])
    held, draws = 0, 50 if error else 120
    for _ in range(draws):
        rows = [random.choice(size, n, replace=False) for size, n in zip(sizes, drawn, strict=True)]
        true = np.concatenate([one[at] for one, at in zip(machine, rows, strict=True)])
        said = true ^ (random.random(len(true)) < error)
        prediction = np.concatenate([one[at] for one, at in zip(scores, rows, strict=True)])
        errors = None
        if error:
            missed, accused = random.binomial(100, error, 2)
            errors = Confusion(Calls(missed, 100 - missed), Calls(100 - accused, accused))
        found = estimate_share(frame, Answers(np.repeat(range(3), drawn), said, None, prediction), errors=errors)
        held += found.low <= truth <= found.high
    assert held / draws >= 0.93 - 2 * np.sqrt(0.95 * 0.05 / draws)
