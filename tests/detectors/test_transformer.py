from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit

torch = pytest.importorskip("torch", reason="needs the torch extra")

from transformers import pipeline  # noqa: E402

from detectors.models import ModelOptions  # noqa: E402
from detectors.transformer import SequenceClassifier, machine_indices  # noqa: E402
from tests.detectors import small_models  # noqa: E402
from tests.watermark.models import english  # noqa: E402

TWO = {0: "Real", 1: "Fake"}


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [text[: 60 + 37 * number] for number, text in enumerate(english()[:24])]


def of_pipeline(model: str, texts: list[str], machine: set[str], limit: int) -> np.ndarray:
    """The sum of the scores that transformers' own pipeline gives to the labels, one text at a time."""
    classify = pipeline("text-classification", model=model, top_k=None, device="cpu")
    found = [classify([text], truncation=True, max_length=limit)[0] for text in texts]
    return np.array([sum(one["score"] for one in labels if one["label"] in machine) for labels in found])


@pytest.mark.parametrize("batch_tokens", [None, 1 << 14])
@pytest.mark.parametrize(
    ("labels", "machine", "more"),
    [
        (TWO, {"Fake"}, {}),
        ({0: "human", 1: "gpt", 2: "llm"}, {"gpt", "llm"}, {}),
        ({0: "machine-generated"}, {"machine-generated"}, {}),
        ({0: "human", 1: "ai"}, {"ai"}, {"problem_type": "multi_label_classification"}),
    ],
)
def test_the_score_is_that_of_the_pipeline(
    tmp_path: Path, texts: list[str], labels: dict[int, str], machine: set[str], more: dict[str, object],
    batch_tokens: int | None,
) -> None:  # fmt: skip
    model = small_models.roberta(tmp_path, labels, **more)
    detector = SequenceClassifier(model, options=ModelOptions(minimum_tokens=10, batch_tokens=batch_tokens))
    found = detector.raw(texts)
    expected = of_pipeline(model, texts, machine, 64)
    assert np.ptp(expected) > 0.01
    assert expit(found.value) == pytest.approx(expected, abs=1e-6)
    assert found.value == pytest.approx(logit(expected), abs=1e-4)
    assert found.tokens.max() == 64  # RoBERTa's 66 positions hold 64 tokens


@pytest.mark.parametrize("padding", [None, 0])
def test_a_decoder_classifies_the_end_of_the_text_whatever_its_neighbours(
    tmp_path: Path, texts: list[str], padding: int | None
) -> None:
    model = small_models.gpt2_classifier(tmp_path, padding)
    detector = SequenceClassifier(model, options=ModelOptions(minimum_tokens=10, batch_tokens=1 << 14))
    expected = of_pipeline(model, texts, {"machine"}, 128)
    assert expit(detector.raw(texts).value) == pytest.approx(expected, abs=1e-6)


def test_labels_that_say_what_they_mean_are_read() -> None:
    assert machine_indices({0: "Human", 1: "ChatGPT"}, (), "m") == (1,)
    assert machine_indices({0: "Fake", 1: "Real"}, (), "m") == (0,)
    assert machine_indices({0: "human_written", 1: "machine_generated", 2: "AI text"}, (), "m") == (1, 2)
    assert machine_indices({0: "human"}, (), "m") == ()
    assert machine_indices({0: "LABEL_0", 1: "LABEL_1"}, ("LABEL_1",), "m") == (1,)


@pytest.mark.parametrize(
    ("labels", "named", "message"),
    [
        ({0: "LABEL_0", 1: "LABEL_1"}, (), "'LABEL_0', 'LABEL_1'; say with machine_labels"),
        ({0: "human", 1: "mixed"}, (), "'human', 'mixed'"),
        ({0: "ai", 1: "gpt"}, (), "'ai', 'gpt'"),
        ({0: "human", 1: "ai"}, ("robot",), "no label 'robot'.*'human', 'ai'"),
        ({0: "human", 1: "ai"}, ("human", "ai"), "not every label"),
    ],
)
def test_labels_that_do_not_are_listed(labels: dict[int, str], named: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        machine_indices(labels, named, "m")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads the memory map of Linux")
def test_weights_are_mapped_so_that_processes_share_them(tmp_path: Path, texts: list[str]) -> None:
    model = small_models.roberta(tmp_path, TWO)
    detector = SequenceClassifier(model, options=ModelOptions(minimum_tokens=10, device="cpu"))
    detector.raw(texts[:1])
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if "model.safetensors" in line]
    ranges = [tuple(int(end, 16) for end in line[0].split("-")) for line in lines if line[5].startswith(str(tmp_path))]
    places = [weights.data_ptr() for weights in detector._loaded.model.module.parameters()]
    assert all(any(first <= place < last for first, last in ranges) for place in places)


def test_naming_the_other_label_turns_the_score(tmp_path: Path, texts: list[str]) -> None:
    model = small_models.roberta(tmp_path, TWO)
    fake, real = (SequenceClassifier(model, (name,), ModelOptions(minimum_tokens=10)) for name in ("Fake", "Real"))
    assert fake.raw(texts).value == pytest.approx(-real.raw(texts).value)
    assert fake.digest != real.digest
