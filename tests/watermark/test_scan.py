"""The scanner: many keys and tokenizers at once say what each says alone."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.crawls import rows
from tests.watermark.marked import VOCABULARY, marked_text, save_tokenizer, tokenizer, unmarked_text
from watermark import sites
from watermark.registry import load_registry
from watermark.scan import Scanner
from watermark.windows import windows

KEYS = {
    "lefthash": {"scheme": "kgw", "variant": "transformers", "key": 11},
    "lefthash-2": {"scheme": "kgw", "variant": "transformers", "key": 12},
    "minhash": {"scheme": "kgw", "variant": "lm-watermarking", "key": 13, "parameters": {"seeding": "minhash"}},
    "unigram": {"scheme": "unigram", "variant": "unigram", "key": 14},
    "synthid": {"scheme": "synthid", "variant": "transformers", "key": [3, 99, 456, 7]},
    "textseal": {"scheme": "exponential", "variant": "textseal", "key": 15},
    "textseal-2": {"scheme": "exponential", "variant": "textseal", "key": 16},
}


def write(folder: Path, *names: str, **changes: object) -> str:
    save_tokenizer(folder)
    entries = [
        {"id": name, "tokenizer": "tokenizer.json", "vocab_size": VOCABULARY, **KEYS[name], **changes} for name in names
    ]
    path = folder / f"{'-'.join(names)[:60]}.yaml"
    path.write_text(yaml.safe_dump({"keys": entries}))
    return str(path)


@pytest.fixture(scope="module")
def scanner(tmp_path_factory: pytest.TempPathFactory) -> Scanner:
    return Scanner(load_registry(write(tmp_path_factory.mktemp("keys"), *KEYS)))


@pytest.fixture(scope="module")
def texts(scanner: Scanner) -> list[str]:
    keys = {mark.entry.id: mark.key for mark in scanner.marks}
    human = [row["text"] for row in rows(40)]
    return [*human, "", "few words", marked_text(keys["synthid"], 300, 1), marked_text(keys["lefthash-2"], 300, 2)]


def test_keys_are_scored_together_only_where_they_differ_in_nothing_else(scanner: Scanner) -> None:
    (family,) = scanner.families
    assert sorted(len(group.keys) for group in family.groups) == [1, 1, 1, 2, 2]
    assert sorted(family.columns.tolist()) == list(range(len(KEYS)))


def test_many_keys_say_what_each_says_alone(scanner: Scanner, texts: list[str], tmp_path: Path) -> None:
    together = scanner.scan(texts)
    for column, name in enumerate(KEYS):
        alone = Scanner(load_registry(write(tmp_path, name))).scan(texts)
        np.testing.assert_allclose(alone.log_p[:, 0], together.log_p[:, column], rtol=1e-9, atol=1e-12)
        assert (alone.scored[:, 0] == together.scored[:, column]).all()
        assert (alone.stretch[:, 0] == together.stretch[:, column]).all()


def test_a_text_says_the_same_in_any_company(scanner: Scanner, texts: list[str]) -> None:
    together = scanner.scan(texts)
    for row in (0, 7, len(texts) - 2, len(texts) - 1):
        alone = scanner.scan([texts[row]])
        np.testing.assert_array_equal(alone.log_p[0], together.log_p[row])


def test_marked_texts_stand_out_under_their_own_key_alone(scanner: Scanner, texts: list[str]) -> None:
    log_p = scanner.scan(texts).log_p
    names = list(KEYS)
    assert log_p[-2, names.index("synthid")] < -50
    assert log_p[-1, names.index("lefthash-2")] < -50
    others = np.ones(log_p.shape, bool)
    others[-2, names.index("synthid")] = others[-1, names.index("lefthash-2")] = False
    assert log_p[others].min() > -12


def test_empty_and_short_texts_are_not_judged(scanner: Scanner) -> None:
    found = scanner.scan(["", "a"])
    assert (found.log_p[0] == 0).all()
    assert (found.scored[0] == 0).all()
    assert not len(scanner.scan([]).log_p)


def test_the_most_telling_stretch_is_where_the_marked_passage_stands(scanner: Scanner) -> None:
    key = scanner.marks[4].key
    before, after = unmarked_text(900, 1), unmarked_text(700, 2)
    found = scanner.scan([f"{before} {marked_text(key, 250, 3)} {after}"])
    first, last = found.stretch[0, 4].tolist()
    assert found.log_p[0, 4] < -50
    assert 700 < first < 1000
    assert 1000 < last < 1400


def test_a_site_is_one_text_of_distinct_windows(scanner: Scanner, texts: list[str]) -> None:
    tokens, offsets = scanner.tokenizers[0].encode(texts)
    (family,) = scanner.families
    samples, starts = sites.sample_documents(tokens, offsets, family.width, np.full(len(texts), 7, np.uint64))
    one = sites.merge(samples[starts[-2] : starts[-1]], 7)
    log_p, scored = scanner.scan_sites(0, [one, sites.merge(np.concatenate([one, one]), 7)])
    assert (log_p[0] == log_p[1]).all(), "repeating a document adds nothing"
    assert log_p[0, list(KEYS).index("lefthash-2")] < -20
    assert (scored[0] <= sites.PER_DOCUMENT).all()


def test_samples_are_the_smallest_distinct_windows() -> None:
    rng = np.random.default_rng(0)
    lengths = [0, 1, 3, 100, 131, 5000]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    for vocabulary, width in ((4, 2), (300, 0), (50_000, 3)):
        tokens = rng.integers(0, vocabulary, offsets[-1]).astype(np.int32)
        found, starts = sites.sample_documents(tokens, offsets, width, np.arange(len(lengths), dtype=np.uint64))
        for document in range(len(lengths)):
            batch = windows(tokens, offsets[document : document + 2], width) if lengths[document] else None
            positions = batch.positions if batch else np.zeros(0, np.int64)
            rows_of = np.array([tokens[at - width : at + 1] for at in positions], np.int32).reshape(-1, width + 1)
            distinct = np.unique(rows_of, axis=0)
            smallest = distinct[np.argsort(sites.hashes(distinct, document))][: sites.PER_DOCUMENT]
            assert (found[starts[document] : starts[document + 1]] == smallest).all()


def test_merging_samples_is_the_same_in_any_order() -> None:
    rng = np.random.default_rng(1)
    parts = [rng.integers(0, 50, (300, 2)).astype(np.int32) for _ in range(7)]
    whole = sites.merge(np.concatenate(parts), 5)
    stepwise = parts[3]
    for part in (parts[5], parts[0], parts[6], parts[1], parts[4], parts[2]):
        stepwise = sites.merge(np.concatenate([part, stepwise]), 5)
    assert (whole == stepwise).all()
    assert len(whole) == sites.PER_SITE


def test_the_text_of_a_mark_encodes_to_the_tokens_that_were_drawn() -> None:
    tokens = np.random.default_rng(3).choice(np.array(tokenizer().encode(" of the and in").ids), 50).tolist()
    assert tokenizer().encode(tokenizer().decode(tokens)).ids == tokens


def test_hosts_keep_samples_of_their_own() -> None:
    tokens = np.arange(5000, dtype=np.int32)
    salts = [sites.salt(host) for host in ("a.example", "b.example")]
    one, two = (
        sites.sample_documents(tokens, np.array([0, 5000]), 1, np.array([salt], np.uint64))[0] for salt in salts
    )
    assert len(one) == len(two) == sites.PER_DOCUMENT
    assert len(set(one[:, 0]) & set(two[:, 0])) < 20, "3.3 in common are to be expected"
