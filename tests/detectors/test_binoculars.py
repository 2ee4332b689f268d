from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")

from detectors.binoculars import Binoculars, perplexity_quotient  # noqa: E402
from detectors.curvature import FastDetectGPT  # noqa: E402
from detectors.models import ModelOptions  # noqa: E402
from tests.detectors import small_models  # noqa: E402
from tests.detectors.test_curvature import log_softmax, logits_of  # noqa: E402
from tests.watermark.models import english  # noqa: E402

SHORTEST = ModelOptions(minimum_tokens=10)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("causal")
    return small_models.llama(folder / "observer", 1), small_models.gpt2(folder / "performer", 2, vocabulary=448)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [text[: 60 + 37 * number] for number, text in enumerate(english()[:24])]


def directly(observer: str, performer: str, text: str, last_position: bool = False, limit: int = 128) -> float:
    """Mean surprise of the performer over its mean cross-entropy under the observer, in float64."""
    ids = small_models.tokenizer()(text)["input_ids"][:limit]
    q, p = (logits_of(model, ids)[:, : small_models.VOCABULARY] for model in (observer, performer))
    log_p, probability = log_softmax(p), np.exp(log_softmax(q))
    surprise = -np.mean([log_p[place, token] for place, token in enumerate(ids[1:])])
    cross = [-np.dot(probability[place], log_p[place]) for place in range(len(ids) - (not last_position))]
    return float(surprise / np.mean(cross))


@pytest.mark.parametrize("last_position", [False, True])
@pytest.mark.parametrize("batch_tokens", [None, 1 << 14])
def test_the_score_is_the_formula_from_logits(
    models: tuple[str, str], texts: list[str], last_position: bool, batch_tokens: int | None
) -> None:
    options = ModelOptions(minimum_tokens=10, batch_tokens=batch_tokens)
    found = Binoculars(*models, last_position=last_position, options=options).raw(texts).value
    expected = [directly(*models, text, last_position) for text in texts]
    assert np.std(expected) > 0.01
    assert found == pytest.approx(expected, abs=1e-5)


def test_the_roles_are_not_exchangeable(models: tuple[str, str], texts: list[str]) -> None:
    one, other = Binoculars(*models, options=SHORTEST), Binoculars(*models[::-1], options=SHORTEST)
    assert np.abs(one.raw(texts).value - other.raw(texts).value).max() > 1e-3
    assert one.digest != other.digest


def test_tokens_that_the_observer_wrote_score_one_on_average(models: tuple[str, str]) -> None:
    """The cross-perplexity is the mean surprise of the performer at what the observer writes."""
    written = small_models.sampled(models[0], 40, 100, seed=3)
    drawn = np.random.default_rng(4).integers(1, small_models.VOCABULARY, (40, 100)).tolist()

    def mean(performer: str, rows: list[list[int]]) -> float:
        both = [[torch.tensor(logits_of(model, row)) for model in (models[0], performer)] for row in rows]
        return float(np.mean([perplexity_quotient(q, p, row) for (q, p), row in zip(both, rows, strict=True)]))

    for performer in models:
        assert mean(performer, written) == pytest.approx(1, abs=0.03)
    assert mean(models[0], drawn) > 1.1


def test_half_precision_logits_are_reduced_in_float32() -> None:
    generator = torch.Generator().manual_seed(1)
    one, other = (torch.randn(300, 5000, generator=generator) * 4 for _ in range(2))
    tokens = torch.randint(0, 5000, (300,), generator=generator).tolist()
    for dtype in (torch.bfloat16, torch.float16):
        coarse, second = one.to(dtype), other.to(dtype)
        for last in (False, True):
            exact = perplexity_quotient(coarse.double(), second.double(), tokens, last)
            assert perplexity_quotient(coarse, second, tokens, last) == pytest.approx(exact, rel=1e-6)


def test_models_of_different_tokenizers_are_refused(models: tuple[str, str], tmp_path: Path) -> None:
    other = small_models.llama(tmp_path / "other", 1)
    small_models.train_tokenizer(english()[::2], 390).save_pretrained(other)
    for make in (lambda: Binoculars(models[0], other), lambda: FastDetectGPT(models[0], other)):
        with pytest.raises(ValueError, match="do not share a tokenizer"):
            make().load()


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path: Path) -> None:
    folder = small_models.llama(tmp_path / "model", 1)
    small_models.train_tokenizer(english(), 500).save_pretrained(folder)
    with pytest.raises(ValueError, match="do not belong together"):
        FastDetectGPT(folder).load()
