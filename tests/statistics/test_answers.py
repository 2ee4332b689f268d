"""Effective numbers of answers: against published values, enumeration and simulation."""

import itertools
import math

import numpy as np
import pyarrow as pa
import pytest

from pipelines.statistics import answers, answers_compare
from pipelines.statistics.answers import chao1, coverage, entropy, estimate, jackknife, same_interval, same_probability
from pipelines.statistics.answers_compare import over_prompts, ratio
from pipelines.statistics.answers_groups import LEAST, group_answers
from pipelines.statistics.answers_rarefy import at, coverage_at, rarefied, size_for_coverage

# Spiders under girdled and under logged trees (Ellison et al. 2010), the worked example of the iNEXT package; its
# estimates of richness, Shannon and Simpson diversity and coverage as in Hsieh et al. (Methods Ecol. Evol. 7, 2016).
GIRDLED = [46, 22, 17, 15, 15, 9, 8, 6, 6, 4, *[2] * 4, *[1] * 12]
LOGGED = [88, 22, 16, 15, 13, 10, 8, 8, 7, 7, 7, 5, 4, 4, 4, *[3] * 4, *[2] * 4, *[1] * 14]


def zipf(size: int, power: float = 1.0) -> np.ndarray:
    weights = 1 / np.arange(1, size + 1) ** power
    return weights / weights.sum()


def geometric(rate: float) -> np.ndarray:
    weights = (1 - rate) ** np.arange(int(40 / rate))
    return weights / weights.sum()


def uniform(size: int) -> np.ndarray:
    return np.full(size, 1 / size)


def text(*values: str) -> pa.Array:
    return pa.array(values, pa.large_string())


class TestPublishedValues:
    @pytest.mark.parametrize(
        ("counts", "values"), [(GIRDLED, (43.893, 13.826, 8.175)), (LOGGED, (61.403, 16.337, 6.920))]
    )
    def test_hill_numbers_are_those_of_inext(self, counts: list[int], values: tuple[float, ...]) -> None:
        found = estimate(counts)
        assert [each.value for each in found.effective] == pytest.approx(values, abs=5e-4)
        assert chao1(counts) == pytest.approx(values[0], abs=5e-4)

    def test_coverage_is_that_of_inext(self) -> None:
        assert coverage(GIRDLED) == pytest.approx(0.9289, abs=5e-5)
        assert coverage(LOGGED) == pytest.approx(0.9446, abs=5e-5)


class TestEnumeration:
    counts = np.array([4, 3, 2, 1, 1])

    @pytest.mark.parametrize("size", [1, 2, 5, 10, 11])
    def test_rarefied_numbers_are_those_of_all_subsamples(self, size: int) -> None:
        of = np.repeat(np.arange(5), self.counts)
        draws = [np.bincount(of[list(d)], minlength=5) for d in itertools.combinations(range(11), size)]
        expected = np.mean([np.bincount(draw, minlength=size + 1)[1:] for draw in draws], axis=0)
        share = np.arange(1, size + 1) / size
        assert rarefied(self.counts, 0, size) == pytest.approx(expected.sum())
        assert rarefied(self.counts, 1, size) == pytest.approx(math.exp(-(expected * share * np.log(share)).sum()))
        assert rarefied(self.counts, 2, size) == pytest.approx(1 / (expected * share**2).sum())

    @pytest.mark.parametrize("size", [1, 4, 10])
    def test_coverage_at_a_size_is_how_often_one_more_is_known(self, size: int) -> None:
        of = np.repeat(np.arange(5), self.counts)
        known = [
            np.isin(of[[i for i in range(11) if i not in drawn]], of[list(drawn)]).mean()
            for drawn in itertools.combinations(range(11), size)
        ]
        assert coverage_at(self.counts, size) == pytest.approx(np.mean(known))

    def test_size_for_coverage_is_the_first_that_covers_it(self) -> None:
        size = size_for_coverage(GIRDLED, 0.8)
        assert coverage_at(GIRDLED, size - 1) < 0.8 <= coverage_at(GIRDLED, size)
        assert size_for_coverage([1] * 9, 0.8) == 8

    def test_jackknife_leaves_out_each_sample_once(self) -> None:
        left = [entropy(np.array(c)) for i, n in enumerate(self.counts) for c in [self.less(i)] for _ in range(n)]
        error = math.sqrt(10 / 11 * ((np.array(left) - np.mean(left)) ** 2).sum())
        assert jackknife(self.counts, entropy) == pytest.approx(error)

    def less(self, at: int) -> list[int]:
        return [int(n) - (i == at) for i, n in enumerate(self.counts) if n - (i == at)]

    def test_unseen_part_of_the_entropy_is_its_series(self) -> None:
        for n, a in [(50, 1e-4), (50, 0.3), (1000, 0.004), (1000, 0.006)]:
            j = np.arange(1, 400_000)
            series = float(np.sum(np.exp(j * math.log1p(-a)) / (n - 1 + j)))
            assert answers._unseen_entropy(n, a) == pytest.approx(series, rel=1e-6)

    def test_share_of_equal_pairs_is_unbiased(self) -> None:
        p = np.array([0.5, 0.3, 0.2])
        total = 0.0
        for draw in itertools.product(range(3), repeat=5):
            total += np.prod(p[list(draw)]) * same_probability(np.bincount(draw, minlength=3))
        assert total == pytest.approx((p**2).sum())


class TestEnds:
    def test_no_repeat_has_no_upper_limit(self) -> None:
        found = estimate([1] * 500)
        assert found.same.value == found.same.low == 0
        assert all(math.isinf(each.high) for each in found.effective)
        # A single answer of probability p leaves no pair with probability (1 - p)^n + n p (1 - p)^(n - 1).
        p = math.sqrt(1 / found.effective[2].low)
        assert (1 - p) ** 500 + 500 * p * (1 - p) ** 499 <= 0.025 + 1e-9
        assert found.effective[2].low > 5000

    def test_one_answer_only(self) -> None:
        found = estimate([200])
        assert found.same.value == found.same.high == 1
        assert 0.025 ** (1 / 200) ** 2 >= found.same.low > 0.9
        assert found.effective[1].value == pytest.approx(1)
        assert found.coverage == 1

    def test_two_samples_are_enough_and_one_is_not(self) -> None:
        assert estimate([1, 1]).samples == 2
        assert estimate([2]).answers == 1
        for counts in ([1], [], [0, 1]):
            with pytest.raises(ValueError, match="two samples"):
                estimate(counts)

    @pytest.mark.parametrize("size", [0, 12])
    def test_sizes_beyond_the_samples_are_refused(self, size: int) -> None:
        with pytest.raises(ValueError, match="between 1 and the 11"):
            rarefied([4, 3, 2, 1, 1], 1, size)

    def test_limits_hold_their_value(self) -> None:
        random = np.random.default_rng(5)
        for _ in range(40):
            counts = random.integers(0, random.integers(2, 40), random.integers(2, 40))
            if counts.sum() < 2:
                continue
            found = estimate(counts)
            assert 0 <= found.same.low <= found.same.value <= found.same.high <= 1
            for each in found.effective:
                assert 1 - 1e-9 <= each.low <= each.value * (1 + 1e-9) <= each.high * (1 + 1e-9)
            for order in range(3):
                size = int(random.integers(1, counts.sum() + 1))
                some = at(counts, order, size)
                assert 1 - 1e-9 <= some.low <= some.value + 1e-9 <= some.high + 2e-9 <= size + 1e-6


def covered(p: np.ndarray, size: int, times: int, seed: int) -> tuple[float, float]:
    """How often the intervals for order 1 and 2 hold the truth."""
    random = np.random.default_rng(seed)
    one, two = math.exp(-(p * np.log(p)).sum()), 1 / (p**2).sum()
    hits = np.zeros(2)
    for _ in range(times):
        effective = estimate(random.multinomial(size, p)).effective
        hits += [
            found.low <= truth * (1 + 1e-9) and truth <= found.high * (1 + 1e-9)
            for found, truth in zip(effective[1:], (one, two), strict=True)
        ]
    return float(hits[0] / times), float(hits[1] / times)


TRUTHS = {
    "uniform 2": uniform(2),
    "uniform 100": uniform(100),
    "uniform 2000": uniform(2000),
    "zipf 25": zipf(25),
    "zipf 1000": zipf(1000),
    "zipf 1000, 1.5": zipf(1000, 1.5),
    "geometric 0.5": geometric(0.5),
    "geometric 0.03": geometric(0.03),
    "one and unique": np.concatenate([[0.05], np.full(20_000, 0.95 / 20_000)]),
    "nearly one": np.concatenate([[0.95], np.full(20_000, 0.05 / 20_000)]),
}


class TestCoverage:
    @pytest.mark.parametrize("name", ["uniform 2", "zipf 25", "zipf 1000, 1.5", "geometric 0.03", "uniform 2000"])
    def test_intervals_hold_the_truth(self, name: str) -> None:
        # 150 draws: less than 0.90 has a chance of 2 % where the coverage is just 0.95.
        assert min(covered(TRUTHS[name], 200, 150, 1)) >= 0.9

    @pytest.mark.slow
    @pytest.mark.parametrize("size", [100, 300, 1000])
    @pytest.mark.parametrize("name", list(TRUTHS))
    def test_intervals_hold_the_truth_in_93_of_100(self, name: str, size: int) -> None:
        # Two standard errors of 400 draws below 0.93, since 60 coverages are looked at.
        assert min(covered(TRUTHS[name], size, 400, 2)) >= 0.93 - 2 * math.sqrt(0.93 * 0.07 / 400)

    def test_same_answer_limits_are_not_far_too_wide(self) -> None:
        random = np.random.default_rng(3)
        p = zipf(25)
        found = [same_interval(random.multinomial(1000, p)) for _ in range(200)]
        width = np.mean([math.log(each.high / each.low) for each in found])
        spread = np.std([math.log(each.value) for each in found])
        assert width < 1.5 * 2 * 1.96 * spread


class TestPrompts:
    def test_means_are_those_of_equally_weighted_communities(self) -> None:
        found = over_prompts([np.array([50, 50]), np.array([25] * 4)])
        assert found.same.value == pytest.approx((same_probability([50, 50]) + same_probability([25] * 4)) / 2)
        assert found.effective[2].value == pytest.approx(1 / found.same.value)
        assert found.effective[1].value == pytest.approx(math.exp((entropy([50, 50]) + entropy([25] * 4)) / 2))
        assert found.samples == 200
        with pytest.raises(ValueError, match="no prompt"):
            over_prompts([])

    def test_many_prompts_count_as_a_sample_of_prompts(self) -> None:
        wide = [np.full(size, 40) for size in (2, 4, 8, 16, 32, 64)]
        few, many = over_prompts(wide[:4]), over_prompts(wide)
        assert few.same.high - few.same.low < 0.1  # these very prompts
        assert many.same.high - many.same.low > 0.2

    @pytest.mark.slow
    def test_limits_hold_for_prompts_like_these(self) -> None:
        random = np.random.default_rng(7)
        population = np.maximum(2, random.lognormal(3, 0.5, 100_000).astype(int))
        two, one = 1 / np.mean(1 / population), math.exp(np.mean(np.log(population)))
        hits = np.zeros(2)
        for _ in range(400):
            prompts = [random.multinomial(80, uniform(s)) for s in random.choice(population, 15)]
            effective = over_prompts(prompts).effective
            hits += [effective[q].low <= truth <= effective[q].high for q, truth in ((1, one), (2, two))]
        assert (hits / 400 >= 0.92).all()


class TestRatio:
    def test_a_ratio_needs_the_same_prompts(self) -> None:
        with pytest.raises(ValueError, match="same prompts"):
            ratio([np.array([2, 2])], [])

    def test_against_people_without_any_repeat(self) -> None:
        found = ratio([np.array([400, 300, 300])], [np.ones(1000, int)])
        assert found.value == found.low == 0
        assert found.high < 0.01
        assert found.p_value < 1e-8

    def test_it_turns_with_its_sides(self) -> None:
        a, b = np.array([40, 30, 20, 10]), np.array([10] * 9)
        there, back = ratio([a], [b]), ratio([b], [a])
        assert there.value == pytest.approx(1 / back.value)
        assert there.low == pytest.approx(1 / back.high)
        assert there.p_value == pytest.approx(back.p_value, rel=0.05)

    def test_one_answer_without_end_in_either_shows_nothing(self) -> None:
        found = ratio([np.ones(50, int)], [np.ones(50, int)])
        assert (found.low, found.high) == (0, math.inf)
        assert found.p_value == pytest.approx(1)

    @pytest.mark.parametrize("prompts", [1, pytest.param(8, marks=pytest.mark.slow)])
    def test_p_values_are_conservative_without_a_difference(self, prompts: int) -> None:
        # Different answers, equally many in effect: uniform 9 has 9, Zipf of 25 has 9.07.
        random = np.random.default_rng(11)
        found = [
            ratio(
                [random.multinomial(150, zipf(25)) for _ in range(prompts)],
                [random.multinomial(100, uniform(9)) for _ in range(prompts)],
            ).p_value
            for _ in range(100)
        ]
        assert np.mean(np.array(found) <= 0.05) <= 0.13
        assert np.mean(np.array(found) <= 0.2) <= 0.4

    def test_a_jackknife_over_prompts_is_that_of_the_logarithm(self) -> None:
        a, b = np.array([0.1, 0.2, 0.3, 0.2, 0.1]), np.array([0.2, 0.2, 0.2, 0.1, 0.3])
        left = [math.log(np.delete(b, i).mean() / np.delete(a, i).mean()) for i in range(5)]
        assert answers_compare._left_out(a, b) == pytest.approx(math.sqrt(4 / 5 * np.sum((left - np.mean(left)) ** 2)))


class TestGroups:
    def group(self, *values: str, near: bool = True) -> list[int]:
        return group_answers(text(*values), np.zeros(len(values), np.int64), near).tolist()

    def test_case_and_punctuation_make_no_difference(self) -> None:
        assert self.group("Because it's there!", "because it s THERE", "Because.") == [0, 0, 2]

    def test_short_answers_differ_by_any_word(self) -> None:
        assert self.group("The capital is Paris", "The capital is Rome", "Paris", "Rome") == [0, 1, 2, 3]
        words = [f"w{i}" for i in range(LEAST - 1)]
        assert self.group(" ".join(words), " ".join([*words[:-1], "x"])) == [0, 1]

    def test_a_joke_may_change_a_word_in_ten(self) -> None:
        joke = "Why did the bicycle fall over in the yard? Because it was simply two tired to stand."
        assert self.group(joke, joke.replace("yard", "garden"), f"Sure! {joke}") == [0, 0, 0]
        assert self.group(joke, "Why did the bicycle go to school? It wanted to learn how to stand on its own.") == [
            0,
            1,
        ]
        assert self.group(joke, joke.replace("yard", "garden"), near=False) == [0, 1]

    def test_long_answers_are_near_duplicates_by_runs_of_words(self) -> None:
        words = [f"w{i}" for i in range(200)]
        changed = [*words[:100], "x", *words[101:]]
        shuffled = words[::-1]
        assert self.group(" ".join(words), " ".join(changed), " ".join(shuffled)) == [0, 0, 2]

    def test_no_similar_pair_falls_between_the_two_rules(self) -> None:
        words = [f"w{i}" for i in range(62)]
        for size in range(40, 62):
            assert self.group(" ".join(words[:size]), " ".join(words[: size + 1])) == [0, 0], size

    def test_answers_without_words_are_the_same_if_their_bytes_are(self) -> None:
        assert self.group("\N{GRINNING FACE}", "...", "\N{GRINNING FACE}", "!!!") == [0, 1, 0, 3]

    def test_answers_to_different_prompts_are_never_the_same(self) -> None:
        assert group_answers(text("yes", "yes", "no", "yes"), np.array([0, 1, 0, 0])).tolist() == [0, 1, 2, 0]

    def test_no_sample_has_no_group(self) -> None:
        assert not len(group_answers(text(), np.empty(0, np.int64)))

    def test_the_order_of_samples_makes_no_difference(self) -> None:
        random = np.random.default_rng(2)
        base = [" ".join(f"w{k}" for k in random.integers(0, 5000, 20)) for _ in range(6)]
        texts = [" ".join(np.where(random.random(20) < 0.04, "x", base[i].split())) for i in random.integers(0, 6, 80)]
        sizes = sorted(np.unique(self.group(*texts), return_counts=True)[1].tolist())
        for _ in range(3):
            shuffled = [texts[i] for i in random.permutation(80)]
            assert sorted(np.unique(self.group(*shuffled), return_counts=True)[1].tolist()) == sizes
