"""`reserve calibrate`: a detector folder out of models and labelled text, and a cascade of it."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the torch extra")

from detectors import load_detector
from detectors.cascade import Cascade
from pipelines.cli import main
from tests.detectors import generated, small_models


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generated.write_sets(tmp_path_factory.mktemp("sets"), sets=2, rows=320)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return small_models.roberta(tmp_path_factory.mktemp("model"), {0: "LABEL_0", 1: "LABEL_1"})


def test_a_classifier_and_a_cascade_before_it(
    sets: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classifier, cascade = tmp_path / "classifier", tmp_path / "cascade"
    text = ["--text", str(sets), "--output"]
    how = ["--machine-label", "LABEL_1", "--minimum-tokens", "40", "--max-tokens", "50", "--device", "cpu"]
    assert main(["calibrate", "sequence-classifier", model, *text, str(classifier), *how]) == 0
    printed = capsys.readouterr()
    for word in ("decision threshold", "AUROC all sets", "set0", "FPR", f"inspect.detector={classifier}"):
        assert word in printed.out
    assert "scored 640 of 640 texts" in printed.err
    written = json.loads((classifier / "detector.json").read_text())
    assert written["options"]["max_tokens"] == 50
    assert written["settings"] == {"machine_labels": ["LABEL_1"]}
    assert load_detector(str(classifier)).name == "sequence-classifier"

    parts = ["embedded", str(classifier)]
    assert main(["calibrate", "cascade", *parts, *text, str(cascade), "--agreement", "0.8", "--texts", "200"]) == 0
    printed = capsys.readouterr()
    for word in ("band of the cheap", "same verdict", "texts that it flags, the cascade flags", "sent:", "warning"):
        assert word in printed.out
    assert json.loads((cascade / "detector.json").read_text())["measured"]["options"]["agreement"] == 0.8
    opened = load_detector(str(cascade))
    assert isinstance(opened, Cascade)
    assert main(["evaluate", "--text", str(sets), "--model", str(cascade), "--split", "all", "--draws", "2"]) == 0


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["oracle", "m"], "'oracle' is none of sequence-classifier"),
        (["sequence-classifier", "/nowhere/model"], "no model '/nowhere/model'"),
        (["sequence-classifier", "{model}"], "say with machine_labels"),
        (["sequence-classifier", "{model}", "--machine-label", "robot"], "no label 'robot'"),
        (["binoculars", "{model}"], "binoculars takes 2 models; 1 are given"),
        (["binoculars", "{model}", "{model}", "--machine-label", "x"], "only a sequence classifier has labels"),
        (["sequence-classifier", "{model}", "--dtype", "float8"], "dtype 'float8'"),
        (["sequence-classifier", "{model}", "--agreement", "0.9"], "--agreement: only a cascade"),
        (["sequence-classifier", "{model}", "--texts", "0"], "--texts 0"),
        (["cascade", "embedded"], "a cascade takes two detectors"),
        (["cascade", "embedded", "/nowhere"], "/nowhere is neither"),
        (["cascade", "embedded", "embedded", "--agreement", "2"], "agreement is 2.0"),
        (["cascade", "embedded", "embedded", "--max-tokens", "90"], "--max-tokens: a cascade reads"),
    ],
)
def test_wrong_calls_say_what_is_wrong(
    model: str, sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], word: str
) -> None:
    call = [argument.format(model=model) for argument in arguments]
    assert main(["calibrate", *call, "--text", str(sets), "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert word in error
    assert error.strip().count("\n") == 0


def test_missing_text_is_said(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["calibrate", "sequence-classifier", model, "--machine-label", "LABEL_1", "--output", str(tmp_path / "out")]
    assert main([*call, "--text", "/nowhere"]) == 2
    assert "no Parquet file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
