from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from watermark.calibration import Options, apply, fit
from watermark.fitting import fit_nulls, lean, rank
from watermark.registry import load_registry
from watermark.scan import Scanner
from watermark.textseal import log_binomial_tail

WORDS, USED = 400, 40
TEXTSEAL = (30, 33, 34, 36)  # the first, second and last lean to the frequent pairs of these texts
OPTIONS = Options(documents=200, in_bucket=300)


@pytest.fixture(scope="module")
def scanner(tmp_path_factory: pytest.TempPathFactory) -> Scanner:
    """A key of one scheme and several of another, over a tokenizer of whole words."""
    folder = tmp_path_factory.mktemp("registry")
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": {f"w{n}": n for n in range(WORDS)}, "unk_token": "w0"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    shared = {"tokenizer": "tokenizer.json", "vocab_size": WORDS}
    keys = [
        {"id": "first", "scheme": "unigram", "variant": "unigram", "key": 1, **shared},
        *({"id": f"seal{n}", "scheme": "exponential", "variant": "textseal", "key": n, **shared} for n in TEXTSEAL),
    ]
    (folder / "keys.yaml").write_text(json.dumps({"keys": keys}))
    return Scanner(load_registry(str(folder / "keys.yaml")))


def texts_of(rng: np.random.Generator, count: int) -> list[str]:
    """Texts in which few words are frequent, as in a language: a key that favours those leans."""
    share = 1.0 / np.arange(5, USED + 5)
    words = np.random.default_rng(5).permutation(WORDS)[:USED]
    lengths = np.exp(rng.uniform(np.log(60), np.log(400), count)).astype(int)
    drawn = rng.choice(words, lengths.sum(), p=share / share.sum())
    return [" ".join(f"w{n}" for n in part) for part in np.split(drawn, np.cumsum(lengths)[:-1])]


def test_a_fit_is_the_lean_of_whole_texts_and_the_ranks_of_scans_without_it(scanner: Scanner) -> None:
    texts = texts_of(np.random.default_rng(0), 350)
    groups = [f"host{number // 3}" for number in range(350)]
    fits = fit_nulls(scanner, texts, groups, OPTIONS)
    tally = scanner.tallies(texts)
    leaning = [
        lean(tally.statistic[:, key], tally.scored[:, key], groups, mean, OPTIONS)
        for key, mean in enumerate(scanner.null_means().tolist())
    ]
    found = scanner.with_nulls(leaning).scan(texts)
    for key, (null, one) in enumerate(zip(leaning, fits, strict=True)):
        assert not null.buckets
        ranked = rank(null, found.log_p[:, key], found.scored[:, key], OPTIONS)
        assert one.null == replace(ranked, site_shift=one.null.site_shift)
        assert one.null.documents == 350
    exact = scanner.scan(texts).log_p
    assert [one.exact_rate for one in fits] == np.mean(exact <= np.log(0.01), axis=0).tolist()


def test_keys_that_lean_towards_frequent_words_hold_their_rate_once_fitted(scanner: Scanner) -> None:
    fits = fit_nulls(scanner, texts_of(np.random.default_rng(1), 1000), [str(n) for n in range(1000)], OPTIONS)
    fresh = texts_of(np.random.default_rng(2), 1000)
    before = scanner.scan(fresh).log_p
    after = scanner.with_nulls([one.null for one in fits]).scan(fresh).log_p
    assert np.all(after >= before - 1e-9)
    hits = np.sum(after <= np.log(0.01), axis=0)
    for count in hits.tolist():
        assert stats.binomtest(count, 1000, 0.01, alternative="greater").pvalue > 1e-3
    leaning = [key for key, one in enumerate(fits) if one.exact_rate > 0.02]
    assert leaning, "no key leans, so that the rates above show nothing"
    assert all(np.sum(before[:, key] <= np.log(0.01)) > 1000 * 0.015 for key in leaning)
    assert all(fits[key].null.shift > 0 for key in leaning)


def test_lean_and_rank_of_one_key_are_what_calibration_fits() -> None:
    rng = np.random.default_rng(3)
    scored = rng.integers(60, 900, 1000)
    statistic = rng.binomial(scored, 0.27).astype(float)
    scored[:10], statistic[:10] = 0, 0.0
    groups = np.arange(1000) // 4

    def log_p(total: np.ndarray, n: np.ndarray) -> np.ndarray:
        return log_binomial_tail(total, n, 0.25)

    null = lean(statistic, scored, groups, 0.25, OPTIONS)
    whole = fit(statistic, scored, groups, log_p, 0.25, options=OPTIONS)
    assert (null.shift, null.longest, null.buckets) == (whole.shift, whole.longest, ())
    unranked = np.where(scored > 0, apply(null, statistic, scored, log_p), 0.0)
    assert rank(null, unranked, scored, OPTIONS).documents == whole.documents == 990


def test_groups_of_any_kind_tie_documents_together() -> None:
    rng = np.random.default_rng(4)
    scored = np.full(600, 400)
    # Six hosts that differ: their documents are alike, so that 600 documents say little more than six.
    statistic = rng.binomial(scored, np.repeat(rng.uniform(0.22, 0.3, 6), 100)).astype(float)
    hosts = np.repeat(["a", "b", "c", "d", "e", "f"], 100)
    tied = lean(statistic, scored, hosts, 0.25, OPTIONS).shift
    assert tied == lean(statistic, scored, np.repeat([1, "x", None, 2.5, "y", 7], 100), 0.25, OPTIONS).shift
    assert tied > lean(statistic, scored, np.arange(600), 0.25, OPTIONS).shift + 0.005


def test_too_few_texts_are_refused_by_the_key_that_cannot_score_them(scanner: Scanner) -> None:
    texts = [*texts_of(np.random.default_rng(6), 150), *["w1"] * 150]
    with pytest.raises(ValueError, match=r"^seal30: 150 texts with scored tokens are too few .* at least 200"):
        fit_nulls(scanner, texts, [str(n) for n in range(300)], OPTIONS)
    with pytest.raises(ValueError, match=r"^first: .*single group"):
        fit_nulls(scanner, texts_of(np.random.default_rng(7), 250), ["host"] * 250, OPTIONS)


def test_a_fitted_null_survives_its_file(scanner: Scanner, tmp_path: Path) -> None:
    fits = fit_nulls(scanner, texts_of(np.random.default_rng(8), 200), [str(n) for n in range(200)], OPTIONS)
    path = tmp_path / "nulls.json"
    path.write_text(json.dumps([one.null.to_dict() for one in fits]))
    again = [type(fits[0].null).from_dict(item) for item in json.loads(path.read_text())]
    assert again == [one.null for one in fits]
