"""Shares of a sample: exact over all lots, of a fixed total, and nested. Enumeration is the reference."""

import doctest
from collections.abc import Iterator
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.reserve import allocation, frame, mixing
from pipelines.reserve.allocation import Allocation, allocate, expectation
from pipelines.reserve.frame import Counter, Frame, word_counter
from pipelines.reserve.sample import Request, draw, token_spread

EVERY = list(Allocation)


@pytest.mark.parametrize("module", [allocation, mixing])
def test_examples(module: object) -> None:
    assert doctest.testmod(module, extraglobs={"np": np}).failed == 0  # type: ignore[arg-type]


class Lots:
    """Stands for the keyed lots, and gives every outcome in turn."""

    def __init__(self) -> None:
        self.tape: list[tuple[int, int]] = []  # the lot that was given, and how many there are
        self.at = 0

    def __call__(self, key: str, begin: int, end: int, below: int) -> int:
        if self.at == len(self.tape):
            self.tape.append((0, below))
        lot, known = self.tape[self.at]
        assert known == below
        self.at += 1
        return lot

    def outcomes(self) -> Iterator[None]:
        while True:
            self.at = 0
            yield
            while self.tape and self.tape[-1][0] + 1 == self.tape[-1][1]:
                self.tape.pop()
            if not self.tape:
                return
            lot, below = self.tape.pop()
            self.tape.append((lot + 1, below))

    @property
    def probability(self) -> Fraction:
        chance = Fraction(1)
        for _, below in self.tape:
            chance /= below
        return chance


@pytest.fixture
def lots(monkeypatch: pytest.MonkeyPatch) -> Lots:
    lots = Lots()
    monkeypatch.setattr(allocation, "_lot", lots)
    return lots


def one_column(count: int) -> np.ndarray:
    return np.arange(count)[None]


@pytest.mark.parametrize("how", EVERY)
@pytest.mark.parametrize("sizes", [[4], [3, 2, 1], [1, 1, 1, 1], [7, 1], [1, 4, 2]])
def test_every_stratum_gives_what_it_should_on_average(sizes: list[int], how: Allocation, lots: Lots) -> None:
    numbers = np.array(sizes)
    for total in range(sum(sizes) + 1):
        mean, whole = [Fraction(0)] * len(sizes), Fraction(0)
        for _ in lots.outcomes():
            found = allocate(numbers, one_column(len(sizes)), total, how, "0").sampled.tolist()
            assert sum(found) == total
            assert all(0 <= n <= size for n, size in zip(found, sizes, strict=True))
            mean = [m + lots.probability * n for m, n in zip(mean, found, strict=True)]
            whole += lots.probability
        assert whole == 1
        assert [float(m) for m in mean] == pytest.approx(expectation(numbers, total, how).tolist(), abs=1e-12)
        if how is Allocation.PROPORTIONAL:
            assert mean == [Fraction(total * size, sum(sizes)) for size in sizes]


def test_shares_by_hand() -> None:
    sizes = np.array([100, 25, 4, 1])
    assert expectation(sizes, 26, Allocation.PROPORTIONAL).tolist() == [20, 5, 0.8, 0.2]
    assert expectation(sizes, 14, Allocation.EQUAL).tolist() == [4.5, 4.5, 4, 1]
    assert expectation(sizes, 10, Allocation.EQUAL).tolist() == [3, 3, 3, 1]
    assert expectation(sizes, 18, Allocation.SQRT).tolist() == [10, 5, 2, 1]  # the square roots themselves
    assert expectation(sizes, 35, Allocation.SQRT).tolist() == [20, 10, 4, 1]  # twice, as far as there are so many


def frame_of(strata: list[list[int]], seed: str = "0") -> Frame:
    """A frame whose documents are their tokens: ids are the numbers of documents."""
    tokens = np.array([t for stratum in strata for t in stratum])
    ids = np.zeros((len(tokens), 16), np.uint8)
    ids[:, 14:] = np.arange(len(tokens))[:, None].astype(">u2").view(np.uint8).reshape(-1, 2)
    codes = frame._Codes()
    labels = np.concatenate(
        [
            np.full(len(stratum), codes.known.setdefault(f"s{at:04}", len(codes.known)))
            for at, stratum in enumerate(strata)
        ]
    )
    return frame._sorted(len(tokens), ids, [codes], [labels], seed, tokens)


def numbers(ids: np.ndarray) -> list[int]:
    return [int(i) for i in ids[:, 14:].copy().view(">u2").ravel()]


@pytest.mark.parametrize("how", EVERY)
@pytest.mark.parametrize(
    "asked", [{"documents": 1}, {"documents": 3}, {"documents": 4}, {"tokens": 30}, {"tokens": 101}]
)
def test_inclusion_probabilities_by_enumeration(
    asked: dict[str, int], how: Allocation, lots: Lots, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every order of the documents, times every lot: each document as often as stated, and totals without bias."""
    strata = [[3, 50, 7], [40, 2]]
    request = Request(**asked, stratify=("host",), allocation=how)  # type: ignore[arg-type]
    included = [Fraction(0)] * 5
    stated: dict[int, float] = {}
    estimate, cases = 0.0, list(permutations(range(5)))
    for order in cases:
        keys = np.array([b"%d" % place for place in order], "S16")
        monkeypatch.setattr(frame, "_drawing_keys", lambda ids, seed, keys=keys: keys)
        population = frame_of(strata)
        for _ in lots.outcomes():
            found = draw(population, request)
            for number, stratum in zip(numbers(found.ids), found.strata.tolist(), strict=True):
                included[number] += lots.probability / len(cases)
                stated[number] = float(found.probabilities[stratum])
                value = [3, 50, 7, 40, 2][number]
                estimate += float(lots.probability) / len(cases) * value / stated[number]
    assert [float(p) for p in included] == pytest.approx([stated[number] for number in range(5)], abs=1e-12)
    assert estimate == pytest.approx(102)


@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=8),
    st.sampled_from(EVERY),
    st.text(max_size=3),
)
def test_a_larger_sample_holds_the_smaller(sizes: list[int], how: Allocation, seed: str) -> None:
    population = frame_of([[1] * size for size in sizes], seed)
    before: set[int] = set()
    for count in range(1, sum(sizes) + 1):
        found = numbers(draw(population, Request(documents=count, allocation=how, seed=seed)).ids)
        assert len(found) == count
        assert found == sorted(found)
        assert before < set(found)
        before = set(found)


def test_margins_stay_near_their_shares() -> None:
    """With more strata than documents, the first column is still spread as it should be."""
    random = np.random.default_rng(5)
    months = np.sort(random.integers(0, 12, 3000))
    columns = np.stack([months, np.arange(3000)])
    sizes = random.integers(1, 4, 3000)
    share = np.bincount(months, sizes) / sizes.sum()
    for seed in range(20):
        found = allocate(sizes, columns, 600, Allocation.PROPORTIONAL, str(seed)).sampled
        assert np.abs(np.bincount(months, found) - 600 * share).max() < 2
        assert found.max() <= 3


@pytest.mark.parametrize("how", EVERY)
def test_estimates_have_no_bias_over_seeds(how: Allocation) -> None:
    random = np.random.default_rng(7)
    strata = [random.geometric(0.02, int(size)).tolist() for size in random.geometric(0.2, 30)]
    population = frame_of(strata)
    assert population.tokens is not None
    truth, values = int(population.tokens.sum()), {}
    for number, tokens in zip(numbers(population.ids), population.tokens.tolist(), strict=True):
        values[number] = tokens
    estimates, held = [], []
    for seed in range(500):
        found = draw(frame_of(strata, str(seed)), Request(tokens=truth // 5, allocation=how, seed=str(seed)))
        own = np.array([values[number] for number in numbers(found.ids)])
        estimates.append(float((own / found.probabilities[found.strata]).sum()))
        held.append(int(own.sum()))
    error = np.std(estimates) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - truth) < 3 * error
    assert error < 0.02 * truth  # or the line above would say nothing
    # The tokens that were asked for are the mean over seeds, to within one document.
    mean, spread = token_spread(population, found)
    assert mean is not None
    assert spread is not None
    assert truth // 5 <= mean < truth // 5 + 150
    assert abs(np.mean(held) - mean) < 4 * np.std(held) / np.sqrt(len(held))
    assert spread == pytest.approx(np.std(held), rel=0.1)


def test_words_are_counted_in_any_script() -> None:
    import pyarrow as pa

    texts = pa.array(["one, two; three-four", "", "…!", "人类写的", "naïve café 3.5"], pa.large_string())
    assert word_counter().measure(texts).tolist() == [4, 1, 1, 4, 4]
    assert isinstance(word_counter(), Counter)
