from __future__ import annotations

import pickle
from functools import cache
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")

from transformers import AutoModelForCausalLM  # noqa: E402

from detectors.base import TOO_SHORT  # noqa: E402
from detectors.curvature import FastDetectGPT, curvature  # noqa: E402
from detectors.model_detector import UNCALIBRATED  # noqa: E402
from detectors.models import ModelOptions  # noqa: E402
from tests.detectors import small_models  # noqa: E402
from tests.watermark.models import english  # noqa: E402

SHORTEST = ModelOptions(minimum_tokens=10)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("causal")
    return small_models.llama(folder / "one", 1), small_models.gpt2(folder / "two", 2, vocabulary=448)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [text[: 60 + 37 * number] for number, text in enumerate(english()[:24])]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


@cache
def loaded(model: str) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(model).eval()


def logits_of(model: str, ids: list[int]) -> np.ndarray:
    with torch.no_grad():
        out = loaded(model)(torch.tensor([ids])).logits[0]
    return np.asarray(out.numpy(), np.float64)


def directly(scoring: str, reference: str, text: str, limit: int = 128) -> float:
    """The formula of the paper, position by position, in float64, from the logits of the text alone."""
    ids = small_models.tokenizer()(text)["input_ids"][:limit]
    p, q = (logits_of(model, ids)[:-1, : small_models.VOCABULARY] for model in (scoring, reference))
    surplus = variance = 0.0
    for log_p, log_q, token in zip(log_softmax(p), log_softmax(q), ids[1:], strict=True):
        mean = np.dot(np.exp(log_q), log_p)
        surplus += log_p[token] - mean
        variance += np.dot(np.exp(log_q), log_p**2) - mean**2
    return surplus / np.sqrt(variance)


@pytest.mark.parametrize("two", [False, True])
def test_the_score_is_the_formula_from_logits(models: tuple[str, str], texts: list[str], two: bool) -> None:
    reference = models[1] if two else models[0]
    detector = FastDetectGPT(models[0], reference, options=SHORTEST)
    expected = [directly(models[0], reference, text) for text in texts]
    assert np.std(expected) > 0.5
    assert detector.raw(texts).value == pytest.approx(expected, abs=1e-5)
    assert detector.raw(texts).tokens.max() == 128  # the last texts are cut at the context


def test_neighbours_padding_and_order_do_not_change_a_score(models: tuple[str, str], texts: list[str]) -> None:
    alone = FastDetectGPT(models[0], models[1], options=SHORTEST)
    batched = FastDetectGPT(models[0], models[1], options=ModelOptions(minimum_tokens=10, batch_tokens=1 << 14))
    one = [float(alone.raw([text]).value[0]) for text in texts]
    assert alone.raw(texts).value.tolist() == one  # to the last bit
    assert batched.raw(texts).value == pytest.approx(one, abs=1e-5)
    assert batched.raw(texts[::-1]).value[::-1] == pytest.approx(one, abs=1e-5)


def test_the_side_on_which_a_tokenizer_pads_does_not_matter(
    models: tuple[str, str], texts: list[str], tmp_path: Path
) -> None:
    left = small_models.llama(tmp_path / "left", 1)
    tokenizer = small_models.train_tokenizer(english(), small_models.VOCABULARY)
    tokenizer.padding_side = tokenizer.truncation_side = "left"
    tokenizer.save_pretrained(left)
    options = ModelOptions(minimum_tokens=10, batch_tokens=4096, max_tokens=100)
    expected = FastDetectGPT(models[0], options=options).raw(texts[:4]).value
    assert FastDetectGPT(left, options=options).raw(texts[:4]).value == pytest.approx(expected, abs=1e-5)


def test_truncation_reads_the_beginning(models: tuple[str, str], texts: list[str]) -> None:
    options = ModelOptions(minimum_tokens=10, max_tokens=40)
    found = FastDetectGPT(models[0], options=options).raw(texts)
    assert found.tokens.max() == 40
    assert found.value == pytest.approx([directly(models[0], models[0], text, 40) for text in texts], abs=1e-5)


def test_the_analytic_form_is_the_limit_of_sampling() -> None:
    """The paper's sampled curvature: the text's likelihood among those of texts drawn position by position from q."""
    random = np.random.default_rng(0)
    p, q = random.normal(0, 1.5, (2, 6, 5))
    tokens = [0, 3, 1, 4, 2, 0, 1]
    log_p, probability = log_softmax(p), np.exp(log_softmax(q))
    draws = 400_000
    likelihood = np.zeros(draws)
    for position in range(6):
        likelihood += log_p[position][random.choice(5, draws, p=probability[position])]
    own = sum(log_p[position, token] for position, token in enumerate(tokens[1:]))
    sampled = (own - likelihood.mean()) / likelihood.std()
    assert curvature(torch.tensor(p), torch.tensor(q), tokens) == pytest.approx(sampled, abs=0.01)


def test_half_precision_logits_are_reduced_in_float32() -> None:
    logits = torch.randn(300, 5000, generator=torch.Generator().manual_seed(1)) * 4
    tokens = torch.randint(0, 5000, (301,), generator=torch.Generator().manual_seed(2)).tolist()
    for dtype in (torch.bfloat16, torch.float16):
        coarse = logits.to(dtype)
        exact = curvature(coarse.double(), coarse.double(), tokens)
        assert curvature(coarse, coarse, tokens) == pytest.approx(exact, rel=1e-6)


def test_a_model_that_is_certain_gives_no_score() -> None:
    logits = torch.full((3, 4), -1e4)
    logits[:, 1] = 1e4
    assert np.isnan(curvature(logits, logits, [1, 1, 1, 1]))


def test_short_texts_abstain_and_odd_ones_do_not_raise(models: tuple[str, str]) -> None:
    detector = FastDetectGPT(models[0], options=SHORTEST)
    odd = ["", " ", "one two", "\x00" * 40, "\ud83d lone surrogate " * 5, "字" * 50, "a" * 100_000]
    scores = detector.score(odd, [None] * len(odd))
    assert scores.abstained[:3] == [TOO_SHORT] * 3
    assert scores.abstained[3:] == [UNCALIBRATED] * 4
    assert np.isnan(scores.probability).all()
    assert np.isfinite(scores.score[3:]).all()


def test_a_pickled_detector_scores_alike_and_carries_no_model(models: tuple[str, str], texts: list[str]) -> None:
    detector = FastDetectGPT(models[0], models[1], options=SHORTEST)
    before = detector.raw(texts[:3]).value.tolist()
    data = pickle.dumps(detector)
    assert len(data) < 2000
    assert pickle.loads(data).raw(texts[:3]).value.tolist() == before
    assert pickle.loads(data).digest == detector.digest


def test_the_digest_follows_models_and_settings(models: tuple[str, str], tmp_path: Path) -> None:
    copy = small_models.llama(tmp_path / "copy", 1)
    assert FastDetectGPT(copy).digest == FastDetectGPT(models[0]).digest
    others = [
        FastDetectGPT(small_models.llama(tmp_path / "other", 5)),
        FastDetectGPT(models[0], models[1]),
        FastDetectGPT(models[0], options=ModelOptions(max_tokens=100)),
    ]
    assert len({FastDetectGPT(models[0]).digest, *(one.digest for one in others)}) == 4
    Path(copy, "README.md").write_text("a description")
    assert FastDetectGPT(copy).digest == FastDetectGPT(models[0]).digest
    path = Path(copy, "tokenizer.json")
    path.write_text(path.read_text().replace('"merges"', ' "merges"'))
    assert FastDetectGPT(copy).digest != FastDetectGPT(models[0]).digest


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing-here"):
        FastDetectGPT(str(tmp_path / "nothing-here")).load()


@pytest.mark.parametrize(
    "wrong",
    [{"minimum_tokens": 1}, {"max_tokens": 10}, {"dtype": "float8"}, {"batch_tokens": 0}],
)
def test_wrong_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ModelOptions(**wrong)  # type: ignore[arg-type]
