"""Marked text is found after what the web does to it, and changed human text is not."""

import numpy as np
import pytest
import yaml

from benchmarks.watermark_changes import Change, Human, edited, half, through_the_web
from tests.crawls import rows
from tests.watermark.marked import VOCABULARY, preference, save_tokenizer, tokenizer, words
from watermark.registry import load_registry
from watermark.scan import Scanner

KEYS = {
    "lefthash": {"scheme": "kgw", "variant": "transformers", "key": 11},
    "minhash": {"scheme": "kgw", "variant": "lm-watermarking", "key": 13, "parameters": {"seeding": "minhash"}},
    "unigram": {"scheme": "unigram", "variant": "unigram", "key": 14},
    "synthid": {"scheme": "synthid", "variant": "transformers", "key": list(range(3, 33))},
    "synthid-sha256": {"scheme": "synthid", "variant": "deepmind", "key": list(range(3, 33))},
    "three-bricks": {"scheme": "exponential", "variant": "three-bricks", "key": 15, "parameters": {"ngram": 2}},
    "textseal": {"scheme": "exponential", "variant": "textseal", "key": 16},
}
MARKS = [".", ",", '"', "'", "Ċ"]  # tokens between the words, for the changes to change
LENGTH = 260  # tokens
HUMAN = Human.of([row["text"] for row in rows()])

CHANGES: dict[str, Change] = {
    "edited": edited(HUMAN.words),
    "half": half,
    "through the web": through_the_web,
    "in a page": HUMAN.around(4 * 6 * LENGTH),  # some six characters a token
}


@pytest.fixture(scope="module")
def scanner(tmp_path_factory: pytest.TempPathFactory) -> Scanner:
    folder = tmp_path_factory.mktemp("keys")
    save_tokenizer(folder)
    entries = [
        {"id": name, "tokenizer": "tokenizer.json", "vocab_size": VOCABULARY, **key} for name, key in KEYS.items()
    ]
    (folder / "keys.yaml").write_text(yaml.safe_dump({"keys": entries}))
    return Scanner(load_registry(str(folder / "keys.yaml")))


@pytest.fixture(scope="module")
def marked(scanner: Scanner) -> list[str]:
    """A text for each key."""
    return [written(mark.key, LENGTH, seed) for seed, mark in enumerate(scanner.marks)]


def written(key: object, length: int, seed: int, share: float = 0.7) -> str:
    """Words and, at one place in eight, punctuation: a share of the tokens is the one that the key likes best."""
    rng = np.random.default_rng(seed)
    vocabulary = tokenizer().get_vocab()
    between = np.array([vocabulary[token] for token in MARKS], np.int32)
    tokens = rng.choice(words(), 8).tolist()
    while len(tokens) < length + 8:
        candidates = between if len(tokens) % 8 == 0 else rng.choice(words(), 16, replace=False)
        best = int(np.argmax(preference(key, tokens)[candidates]))
        tokens.append(int(candidates[best if rng.random() < share else rng.integers(len(candidates))]))
    return tokenizer().decode(tokens[8:]).strip()


def log10_p(scanner: Scanner, texts: list[str]) -> np.ndarray:
    """float64[texts, keys]."""
    return scanner.scan(texts).log_p / np.log(10)


def changed(change: Change, texts: list[str]) -> list[str]:
    random = np.random.default_rng(5)
    return [change(text, random) for text in texts]


def test_the_changes_change(marked: list[str]) -> None:
    for name, change in CHANGES.items():
        assert all(new != old for new, old in zip(changed(change, marked), marked, strict=True)), name
    web = " ".join(changed(through_the_web, marked))
    assert '"' not in web
    assert "”" in web
    assert "’" in web
    assert "\n" not in web
    lengths = [len(new) / len(old) for new, old in zip(changed(CHANGES["in a page"], marked), marked, strict=True)]
    assert 3 < min(lengths) < max(lengths) < 8


@pytest.mark.parametrize(("name", "least"), [("edited", -8), ("half", -8), ("through the web", -7), ("in a page", -8)])
def test_marks_outlive_a_change(scanner: Scanner, marked: list[str], name: str, least: float) -> None:
    before, after = np.diag(log10_p(scanner, marked)), np.diag(log10_p(scanner, changed(CHANGES[name], marked)))
    assert (after < least).all(), dict(zip(KEYS, after.round(1), strict=True))
    assert before.mean() < 0.9 * after.mean(), "a change that costs nothing changes nothing"


@pytest.mark.parametrize("name", CHANGES)
def test_no_mark_comes_from_a_change(scanner: Scanner, marked: list[str], name: str) -> None:
    """Of human text, and of text that another key marked."""
    human = [row["text"][:3000] for row in rows(20)]
    found = log10_p(scanner, changed(CHANGES[name], human + marked))
    others = np.vstack([np.ones((len(human), len(KEYS)), bool), ~np.eye(len(KEYS), dtype=bool)])
    assert found[others].min() > -5, f"{others.sum()} tests"


def test_all_changes_at_once(scanner: Scanner) -> None:
    """Edited, cropped, printed and put into a page: of a longer text enough is left."""
    few = [list(KEYS).index(name) for name in ("lefthash", "synthid", "textseal")]
    texts = [written(scanner.marks[at].key, 3 * LENGTH, at) for at in few]
    for change in CHANGES.values():
        texts = changed(change, texts)
    found = log10_p(scanner, texts)[np.arange(len(few)), few]
    assert (found < -6).all(), found


def test_the_stretch_is_where_the_marked_paragraph_is(scanner: Scanner, marked: list[str]) -> None:
    """In a page twelve times as long: the scan says more than the whole, and says where."""
    around = HUMAN.around(12 * 6 * LENGTH)
    pages = changed(around, marked)
    found = scanner.scan(pages)
    tally = scanner.tallies(pages)
    for number, (page, text, mark) in enumerate(zip(pages, marked, scanner.marks, strict=True)):
        whole = mark.variant.scheme.log_p_value(
            tally.statistic[number, [number]], tally.scored[number, [number]], [mark.key]
        )
        assert found.log_p[number, number] < whole[0] - 5, mark.entry.id
        begin = page.index(" ".join(text.split()))
        first, last = found.stretch[number, number]
        encoding = tokenizer().encode(page, add_special_tokens=False)
        told = (encoding.offsets[first][0], encoding.offsets[last - 1][1])
        overlap = min(told[1], begin + len(text)) - max(told[0], begin)
        assert overlap > 0.5 * min(told[1] - told[0], len(text)), (mark.entry.id, told, begin)
