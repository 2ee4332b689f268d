from __future__ import annotations

import ast
import pickle
from pathlib import Path

import numpy as np
import pytest

import detectors
from detectors.base import LANGUAGE, TOO_SHORT
from detectors.embedded import Embedded, SeenTexts, guess_language
from detectors.levelling import level

PLAIN = (
    "The committee met on Tuesday to talk about the bridge, which had been closed since the flood. Most members "
    "wanted it rebuilt in stone; two of them thought that a ferry would do, as in their fathers' time. Nobody "
    "asked the ferryman. He was on the river, and by the time he came back the vote was over and they had gone home. "
    "It rained that night, and the water rose again by a foot or so, which settled the matter for a year."
)


@pytest.fixture(scope="module")
def shipped() -> Embedded:
    return Embedded()


def test_scores_have_the_promised_shape(shipped: Embedded) -> None:
    scores = shipped.score([PLAIN, "short", PLAIN, ""], ["en", "en", "fr", None])
    assert scores.abstained == [None, TOO_SHORT, LANGUAGE, TOO_SHORT]
    assert scores.score.dtype == scores.probability.dtype == np.float32
    assert np.isnan(scores.score[1:]).all()
    assert np.isnan(scores.probability[1:]).all()
    assert 0 < scores.probability[0] < 1


def test_minimum_length_is_exact(shipped: Embedded) -> None:
    least = shipped.settings.minimum_tokens
    words = " ".join(["the river and"] * least).split()
    for count, reason in ((least - 2, TOO_SHORT), (least - 1, None)):  # levelling adds the full stop
        assert shipped.score([" ".join(words[:count])], ["en"]).abstained == [reason]


def test_layout_does_not_change_the_score(shipped: Embedded) -> None:
    laid_out = [
        PLAIN,
        PLAIN.replace(". ", ".\n\n* "),
        "# " + PLAIN.replace("'", "’"),
        PLAIN.replace(" ", "  "),
        PLAIN.upper(),
    ]
    scores = shipped.score(laid_out, ["en"] * 5)
    assert len(set(scores.probability.tolist())) == 1


def test_only_the_start_is_scored(shipped: Embedded) -> None:
    long = (PLAIN + " ") * 20
    one, other = shipped.score([long, long + "As an AI language model, I cannot. " * 500], ["en", "en"]).score
    assert one == other


def test_hostile_strings(shipped: Embedded) -> None:
    hostile = [
        PLAIN.replace(" ", "\n"),
        PLAIN.replace(" ", "\0"),
        PLAIN + "\ud800\udfff",
        "</s> __label__human " + PLAIN,
        "\ud800" * 5000,
        "\0" * 5000,
        "😀" * 3000,
        "a" * 100_000,
        ("\u202e\ufe0f\u200d" + PLAIN),
        "的" * 100,
    ]
    for language in ("en", "zh", None, "", "EN-us", "xx"):
        scores = shipped.score(hostile, [language] * len(hostile))
        for probability, reason in zip(scores.probability, scores.abstained, strict=True):
            assert np.isnan(probability) == (reason is not None)


def test_language_tags_and_guesses(shipped: Embedded) -> None:
    scores = shipped.score([PLAIN] * 4, ["en", "en-US", "EN_gb", None])
    assert scores.abstained == [None] * 4
    assert len(set(scores.score.tolist())) == 1
    spanish = (
        "En un lugar de la Mancha, de cuyo nombre no quiero acordarme, no ha mucho tiempo que vivía un hidalgo. " * 5
    )
    assert guess_language(level(spanish)) is None
    assert guess_language(level("我们今天去了河边看船，后来下雨了，大家都回家了。" * 4)) == "zh"
    assert guess_language(level("今日は川へ行って船を見ました。雨が降ったので帰りました。" * 4)) is None
    assert guess_language(b"") is None


def test_empty_batch_and_wrong_lengths(shipped: Embedded) -> None:
    assert shipped.score([], []).abstained == []
    with pytest.raises(ValueError, match="2 texts but 1 languages"):
        shipped.score(["a", "b"], ["en"])


def test_pickles_small_and_scores_the_same(shipped: Embedded) -> None:
    before = shipped.score([PLAIN], ["en"])
    packed = pickle.dumps(shipped)
    assert len(packed) < 500
    assert pickle.loads(packed).score([PLAIN], ["en"]).score == before.score


def test_batching_does_not_matter(shipped: Embedded) -> None:
    texts = [PLAIN, "心里很难过，" * 30, PLAIN[::-1], PLAIN[:250] * 2]
    together = shipped.score(texts, ["en", "zh", "en", "en"]).score
    alone = [shipped.score([text], [code]).score[0] for text, code in zip(texts, ["en", "zh", "en", "en"], strict=True)]
    np.testing.assert_array_equal(together, alone)


def test_is_silent(shipped: Embedded, capfd: pytest.CaptureFixture[str]) -> None:
    Embedded().score([PLAIN], ["en"])
    assert capfd.readouterr() == ("", "")


def test_model_fits_the_package() -> None:
    folder = Path(detectors.__file__).parent / "models"
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 5_000_000
    assert (folder / "MODEL_CARD.md").is_file()


def test_missing_or_damaged_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="reserve train"):
        Embedded(tmp_path).load()
    (tmp_path / "detector.json").write_text("{}")
    with pytest.raises(ValueError, match=r"detector\.json is damaged"):
        Embedded(tmp_path).error_rates()


def test_seen_texts_round_trip() -> None:
    keys = [3, 2**63 + 9, 17, 3]
    seen = SeenTexts.from_bytes(SeenTexts.from_keys(keys).to_bytes())
    assert seen.contains([*keys, 4]).tolist() == [True] * 4 + [False]


def test_no_detector_imports_the_pipelines() -> None:
    for file in sorted(Path(detectors.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & {"pipelines", "watermark", "apache_beam"}, file.name
