"""The model of the recursion experiment: its probabilities, its samples and its perplexity."""

import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.recursion import diet
from benchmarks.recursion_model import Documents, Model, Vocabulary, structure_of, train
from benchmarks.recursion_watch import alarms, first_alarms, worse_by

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
    vocabulary = Vocabulary.of(texts, 10)
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
    kept = {pair: 0.5 if pair in pairs else 0.0 for pair in counts}

    def tables() -> tuple[dict[int, float], dict[tuple[int, int], float], dict[int, float]]:
        low = {w: sum(n * (1 - kept[p]) for p, n in counts.items() if p[1] == w) for w in range(size)}
        base = {w: (1 - unseen) * low[w] / sum(low.values()) + unseen / size for w in range(size)}
        contexts = {p[0] for p in counts}
        sums = {h: sum(n for p, n in counts.items() if p[0] == h) for h in contexts}
        own = {p: n * kept[p] / (sums[p[0]] + 1) for p, n in counts.items()}
        back = {h: 1 - sum(q for p, q in own.items() if p[0] == h) for h in contexts}
        return base, own, back

    for _ in range(10):
        base, own, back = tables()
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
    vocabulary = Vocabulary.of(["One word, (two) words. Two", "One word"], 100)
    assert vocabulary.render(vocabulary.encode(["One word, two. Three"])) == ["One word, two. unk"]


def test_a_dose_is_a_share_of_the_documents() -> None:
    human = Documents(np.zeros(1000, np.int64), np.full(100, 10))
    last = Documents(np.ones(1000, np.int64), np.full(100, 10))
    random = np.random.default_rng(1)
    for dose in (0.0, 0.05, 0.5):
        mixed = diet(f"anchored {dose:.0%}", human, [last], random)
        assert len(mixed.words) == 1000
        assert (mixed.words == 0).mean() == pytest.approx(dose)
    assert len(diet("accumulate", human, [last, last], random).words) == 3000
    assert diet("replace", human, [], random) is human


def test_alarms_know_only_what_came_before() -> None:
    """0.02 is under 5 % by itself, but not as the last of three of which the others are high."""
    run = {"perplexity": [100.0, 104.0, 106.0], "against": {"human": {"mattr": {"p": [0.5, 0.9, 0.02]}}}}
    assert alarms(run, "human") == {"mattr": [False, False, False]}
    run["against"]["human"]["mattr"]["p"][2] = 0.01
    assert first_alarms(run) == {"human": {"mattr": 2}}
    assert worse_by(run) == 2
    assert worse_by(run | {"perplexity": []}) is None
