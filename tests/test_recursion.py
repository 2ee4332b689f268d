"""The model of the recursion experiment: its probabilities, its samples and its perplexity."""

import math
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats

from benchmarks.recursion import Parts, diet, some
from benchmarks.recursion_model import Documents, Model, Vocabulary, structure_of, train
from benchmarks.recursion_plot import plot, table
from benchmarks.recursion_watch import (
    FAMILY,
    FIRST_MODELS,
    HUMAN_TEXT,
    TAILS,
    VARIANCE,
    Watch,
    alarms,
    first_alarms,
    first_of,
    worse_by,
)
from pipelines.statistics.panel.state import State, state_of

WORDS = 12


def documents(count: int = 60, seed: int = 3) -> Documents:
    """Random documents of a Markov chain, so that contexts matter."""
    random = np.random.default_rng(seed)
    chain = random.dirichlet(np.full(WORDS, 0.4), WORDS)
    lengths = random.integers(1, 30, count)
    words = []
    for length in lengths:
        word = 0
        for _ in range(length):
            word = int(random.choice(WORDS, p=chain[word]))
            words.append(word)
    return Documents(np.array(words), lengths)


def model(order: int, words_per_weight: float = 8.0) -> Model:
    made = documents()
    return train(made, structure_of(made, WORDS, order, words_per_weight))


def distribution(made: Model, context: list[int]) -> np.ndarray:
    """p(word | context) of all words; the context is a whole document so far."""
    found = []
    for word in range(WORDS):
        text = np.array([*context, word])
        found.append(made.probability(text, np.array([len(text)]))[-1])
    return np.array(found)


@pytest.mark.parametrize("order", [2, 3])
def test_probabilities_sum_to_one(order: int) -> None:
    made, random = model(order), np.random.default_rng(5)
    for _ in range(30):
        context = random.integers(0, WORDS, random.integers(0, 6)).tolist()
        found = distribution(made, context)
        assert found.sum() == pytest.approx(1, abs=1e-9)
        assert (found > 0).all()


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_samples_follow_the_probabilities(temperature: float) -> None:
    made = model(3)
    drawn = made.sample(np.full(40_000, 3), np.random.default_rng(8), temperature).words.reshape(-1, 3)
    common = np.unique(drawn[:, :2], axis=0, return_counts=True)
    contexts: list[list[int]] = [[], *common[0][np.argsort(-common[1])[:5]].tolist()]
    for context in contexts:
        here = drawn[(drawn[:, : len(context)] == context).all(axis=1), len(context)]
        expected = distribution(made, context) ** (1 / temperature)
        expected *= len(here) / expected.sum()
        few = expected < 5
        seen = np.bincount(here, minlength=WORDS).astype(float)
        pooled = [np.append(part[~few], part[few].sum()) if few.any() else part for part in (seen, expected)]
        assert stats.chisquare(*pooled).pvalue > 1e-4


def test_a_temperature_above_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"temperature = 1\.5"):
        model(2).sample(np.array([3]), np.random.default_rng(1), 1.5)


def test_perplexity_by_brute_force() -> None:
    """Bigrams written out with dictionaries: a mixture of the pairs with a weight and single words."""
    texts = ["a b a b c", "b a b a", "c a b", "a c a b b"]
    vocabulary = Vocabulary.of(texts)
    made = vocabulary.encode(texts)
    size = len(vocabulary.words)
    structure = structure_of(made, size, 2, 3.0)
    total, pairs = size + 1, [(int(p) // (size + 1), int(p) % (size + 1)) for p in structure.packed[0]]
    assert 0 < len(pairs) < 8
    counts: dict[tuple[int, int], int] = {}
    at = 0
    for length in made.lengths:
        before = total - 1
        for word in made.words[at : at + length].tolist():
            counts[before, word] = counts.get((before, word), 0) + 1
            before = word
        at += length
    single = np.bincount(made.words, minlength=size)
    unseen = max(int((single == 1).sum()), 1) / len(made.words)
    assert structure.unseen == pytest.approx(unseen)
    base_unseen = unseen
    kept = {pair: 0.5 if pair in pairs else 0.0 for pair in counts}

    def tables() -> tuple[dict[int, float], dict[tuple[int, int], float], dict[int, float]]:
        low = {w: sum(n * (1 - kept[p]) for p, n in counts.items() if p[1] == w) for w in range(size)}
        base = {w: (1 - base_unseen) * low[w] / sum(low.values()) + base_unseen / size for w in range(size)}
        contexts = {p[0] for p in counts}
        sums = {h: sum(n for p, n in counts.items() if p[0] == h) for h in contexts}
        own = {p: n * kept[p] / (sums[p[0]] + 1) for p, n in counts.items()}
        back = {h: 1 - sum(q for p, q in own.items() if p[0] == h) for h in contexts}
        return base, own, back

    def lowest() -> float:
        return sum(n * (1 - kept[p]) for p, n in counts.items())

    for _ in range(10):
        base, own, back = tables()
        base_unseen = min(unseen * len(made.words) / lowest(), 0.5)
        kept = {p: own[p] / (own[p] + back[p[0]] * base[p[1]]) for p in counts}
    base, own, back = tables()
    logs, held_out = [], vocabulary.encode(["b c c a", "a a"])
    at = 0
    for length in held_out.lengths:
        before = total - 1
        for word in held_out.words[at : at + length].tolist():
            logs.append(math.log(own.get((before, word), 0.0) + back.get(before, 1.0) * base[word]))
            before = word
        at += length
    assert train(made, structure).perplexity(held_out) == pytest.approx(math.exp(-np.mean(logs)), rel=1e-9)


def test_training_raises_the_likelihood() -> None:
    made = documents()
    structure = structure_of(made, WORDS, 3, 8.0)
    found = [train(made, structure, steps).perplexity(made) for steps in (0, 1, 3, 10)]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[-1]


def test_text_comes_back() -> None:
    vocabulary = Vocabulary.of(["One word, (two) words. Two", "One word"])
    assert vocabulary.render(vocabulary.encode(["One word, two. Three"])) == ["One word, two. unk"]


def test_words_that_were_not_seen_are_not_written() -> None:
    """They have a probability, so that perplexity is finite, but a lost word stays lost."""
    made = documents()
    some_words = Documents(np.where(made.words == 4, 0, made.words), made.lengths)
    found = train(some_words, structure_of(made, WORDS, 2, 8.0))
    assert distribution(found, [1, 2])[4] > 0
    drawn = found.sample(np.full(30_000, 2), np.random.default_rng(2)).words
    assert set(drawn.tolist()) == set(some_words.words.tolist())


def test_the_unseen_have_the_share_of_human_text() -> None:
    made = documents()
    structure = replace(structure_of(made, WORDS, 2, 1e9), unseen=0.06)
    without = Documents(np.where(made.words == 4, 0, made.words), made.lengths)
    found = distribution(train(without, structure), [1])
    assert found[4] == pytest.approx(0.06 / WORDS, rel=0.02)
    # One word in five from the lowest level, the rest from pairs: the share is that of all words, not of this level.
    paired = train(without, replace(structure_of(made, WORDS, 2, 4.0), unseen=0.06))
    start = np.cumsum(without.lengths) - without.lengths
    before = np.where(np.isin(np.arange(len(made.words)), start), -1, np.roll(without.words, 1))
    each = [distribution(paired, [] if word < 0 else [int(word)])[4] for word in range(-1, WORDS)]
    assert np.mean([each[word + 1] for word in before]) == pytest.approx(0.06 / WORDS, rel=0.1)


def test_an_anchor_is_a_share_of_the_words_and_drawn_anew() -> None:
    def block(first: int) -> Documents:
        return Documents(np.repeat(np.arange(first, first + 100), 10), np.full(100, 10))

    parts = Parts(block(900), block(0), [], [block(100), block(200)])
    last, random = block(500), np.random.default_rng(1)
    assert diet("replace", parts, [], random) is parts.own
    assert diet("replace", parts, [last], random) is last
    assert diet("human", parts, [last, last], random) is parts.reserve[1]
    assert len(diet("accumulate", parts, [last, last], random).words) == 3000
    for dose in (0.05, 0.5, 0.8):
        mixed, again = (diet(f"anchored {dose:.0%}", parts, [last], random) for _ in range(2))
        reserve = (mixed.words >= 100) & (mixed.words < 300)
        assert len(mixed.words) == 1000
        assert reserve.mean() == pytest.approx(dose)
        assert (mixed.words[~reserve] >= 500).all()
        assert len(np.unique(mixed.words)) == 100
        assert set(again.words[reserve]) != set(mixed.words[reserve])


def test_documents_are_drawn_without_replacement() -> None:
    documents = Documents(np.arange(60), np.array([10, 20, 30]))
    assert sorted(some(documents, 60, np.random.default_rng(1)).words) == list(range(60))
    assert len(some(documents, 9, np.random.default_rng(1)).words) == 0


def test_alarms_are_one_family_of_what_came_before() -> None:
    """0.02 is under 5 % by itself, but not as one of four or six."""
    p = {"mattr": {"p": [0.5, 0.02, 0.3]}, "hapax_share": {"p": [0.9, 0.6, 0.008]}}
    run = {"perplexity": [100.0, 104.0, 106.0], "against": {FIRST_MODELS: p}}
    assert alarms(run, FIRST_MODELS) == {"mattr": [False] * 3, "hapax_share": [False, False, True]}
    assert first_alarms(run) == {FIRST_MODELS: {"hapax_share": 2}}
    assert (first_of(run, TAILS), first_of(run, VARIANCE), worse_by(run)) == (2, None, 2)
    p["hapax_share"]["p"][2] = 0.009
    assert first_of(run) is None
    p["mattr"]["p"][2] = float("nan")
    assert first_of(run) == 2
    assert worse_by(run | {"perplexity": [100.0, 105.0]}) is None


def test_a_lost_tail_alarms_and_a_further_draw_does_not() -> None:
    """Texts of a long-tailed distribution, and of one without its rare words; the common ones are as they were."""
    chance = 1 / np.arange(1, 3001)

    def corpus(seed: int, words: int = 3000) -> State:
        random = np.random.default_rng(seed)
        p = chance[:words] / chance[:words].sum()
        return state_of([" ".join(f"w{word}" for word in row) for row in random.choice(words, (300, 60), p=p)])

    watch = Watch({FIRST_MODELS: [corpus(seed) for seed in range(6)]})
    run = {"perplexity": []} | watch.over([corpus(7), corpus(8), corpus(9, 1500)])
    assert set(run["against"][FIRST_MODELS]) == set(FAMILY)
    first = first_alarms(run)[FIRST_MODELS]
    assert first.keys() & {"hapax_share", "missing_mass"}
    assert set(first.values()) == {2}


def test_table_and_plot_tell_of_the_alarms() -> None:
    def run(arm: str, tail: float, last: float) -> dict[str, Any]:
        one = {"value": [3.0, 2.0], "low": [2.9, 1.9], "high": [3.1, 2.1], "band": [2.8, 3.0, 3.2]}
        found = {name: one | {"p": [0.5, tail if name == "hapax_share" else 0.6]} for name in FAMILY}
        against = {FIRST_MODELS: found, HUMAN_TEXT: found}
        return {"seed": 7, "arm": arm, "temperature": 1.0, "perplexity": [100.0, last], "against": against}

    runs = [run("replace", 1e-6, 104.0), run("human", 0.7, 101.0)]
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table(runs).splitlines()[2:]]
    assert rows[0] == ["replace", "1", "7", "1.040", "never", "1", "hapax_share", "1", "never", "1/2", "1"]
    assert rows[1][4:9] == ["never", "never", "–", "never", "never"]
    drawn = ElementTree.fromstring(plot(runs))
    circles = drawn.findall(".//{http://www.w3.org/2000/svg}circle")
    assert [circle[0].text for circle in circles] == ["replace: alarm at 1"]
