from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")

from detectors.base import HELD_OUT, LANGUAGE, LEFT_OUT, TOO_SHORT  # noqa: E402
from detectors.binoculars import Binoculars  # noqa: E402
from detectors.calibrate import calibrate, render  # noqa: E402
from detectors.cascade import Cascade  # noqa: E402
from detectors.cascade_fitting import CascadeOptions, unseen  # noqa: E402
from detectors.corpus import read_corpus  # noqa: E402
from detectors.curvature import FastDetectGPT  # noqa: E402
from detectors.evaluation import EvaluationOptions, evaluate  # noqa: E402
from detectors.model_fitting import CalibrationOptions, fit  # noqa: E402
from detectors.model_folder import KINDS, kind_of, make_detector, open_detector, write_detector  # noqa: E402
from detectors.models import ModelOptions  # noqa: E402
from tests.detectors import small_models  # noqa: E402

READING = ModelOptions(minimum_tokens=10, batch_tokens=4096)
OPTIONS = CalibrationOptions(texts=None, least=50, false_positive_rate=0.05)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return small_models.llama(tmp_path_factory.mktemp("model"), 1)


@pytest.fixture(scope="module")
def sets(model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sets: what the model wrote against what another of its kind wrote."""
    other = small_models.llama(tmp_path_factory.mktemp("other"), 2)
    words = small_models.tokenizer()

    def texts(name: str) -> list[list[str]]:
        written = [str(text) for text in words.batch_decode(small_models.sampled(name, 168, 80, 1))]
        return [written[start : start + 56] for start in (0, 56, 112)]

    return small_models.write_sets(tmp_path_factory.mktemp("sets"), texts(other), texts(model))


@pytest.fixture(scope="module")
def folder(model: str, sets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("calibrated")
    content = calibrate("fast-detectgpt", [model], sets, output, reading=READING, options=OPTIONS)
    assert json.loads((output / "detector.json").read_text()) == content
    return output


def opened(folder: Path) -> FastDetectGPT:
    found = open_detector(folder, lambda name: opened(Path(name)))
    assert isinstance(found, FastDetectGPT)
    return found


def test_a_calibrated_detector_speaks_where_it_was_calibrated(folder: Path, sets: Path) -> None:
    detector, corpus = opened(folder), read_corpus(sets)
    scores = detector.score(
        [*corpus.texts, "short", corpus.texts[0], corpus.texts[0]], [*corpus.languages, "en", "fr", None]
    )
    assert scores.abstained[-3:] == [TOO_SHORT, LANGUAGE, LANGUAGE]
    assert np.isnan(scores.probability[-3:]).all()
    probability = scores.probability[:-3].astype(np.float64)
    assert probability[corpus.machine].mean() > 0.58
    assert probability[~corpus.machine].mean() < 0.42
    order = np.argsort(scores.score[:-3][np.char.str_len(corpus.texts) > 0])
    assert np.corrcoef(np.argsort(order), np.argsort(np.argsort(probability)))[0, 1] > 0.95
    assert detector.languages == ("en",)
    assert (
        evaluate(detector, corpus, options=EvaluationOptions(draws=2, levelled=False)).seen_in_training
        > len(corpus) / 2
    )


def test_error_rates_are_counted_on_what_was_left_out(folder: Path, sets: Path) -> None:
    rates, corpus = opened(folder).error_rates(), read_corpus(sets)
    left_out = rates.decision.of_kind(LEFT_OUT)
    assert [part.set for part in left_out] == ["set0", "set1", "set2"]
    assert sum(part.human for part in left_out) == int((~corpus.machine).sum())
    whole = [part for part in rates.decision.of_kind(HELD_OUT) if not part.set]
    fine = [part for part in rates.decision.of_kind(HELD_OUT) if part.set]
    assert sum(part.human for part in fine) == sum(part.human for part in whole) < len(corpus) / 3
    assert whole[0].true_positive_rate > 0.2 > 0.1 > whole[0].false_positive_rate
    assert rates.quantification.threshold <= rates.decision.threshold


def test_what_is_left_out_moves_neither_its_own_map_nor_its_threshold(model: str, sets: Path, tmp_path: Path) -> None:
    """Turning the labels of one set around changes its own counts in one way only: human and machine change places."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    turned = tmp_path / "sets"
    shutil.copytree(sets, turned)
    table = pq.read_table(turned / "set2.parquet")
    labels = ["human" if label == "machine" else "machine" for label in table["label"].to_pylist()]
    pq.write_table(
        table.set_column(table.schema.get_field_index("label"), "label", pa.array(labels)), turned / "set2.parquet"
    )
    detector = FastDetectGPT(model, options=READING)
    one, other = (
        fit(detector, read_corpus(folder), OPTIONS).detector.error_rates().decision.of_kind(LEFT_OUT)[-1]
        for folder in (sets, turned)
    )
    assert (one.human, one.human_flagged, one.machine_flagged) == (
        other.machine,
        other.machine_flagged,
        other.human_flagged,
    )


def test_low_binoculars_mean_a_machine(model: str, sets: Path, tmp_path: Path) -> None:
    calibrated = fit(Binoculars(model, model, options=READING), read_corpus(sets), OPTIONS)
    write_detector(calibrated, tmp_path)
    detector, corpus = open_detector(tmp_path, opened), read_corpus(sets)
    scores = detector.score(corpus.texts, corpus.languages.tolist())
    assert scores.score[corpus.machine].mean() < scores.score[~corpus.machine].mean()
    assert scores.probability[corpus.machine].mean() > 0.6 > 0.4 > scores.probability[~corpus.machine].mean()


def test_the_digest_follows_the_calibration(folder: Path, model: str) -> None:
    detector = opened(folder)
    assert detector.digest != FastDetectGPT(model, options=READING).digest
    assert detector.model_digest == FastDetectGPT(model, options=READING).model_digest


def test_a_changed_model_is_refused(folder: Path, model: str, tmp_path: Path) -> None:
    moved = tmp_path / "detector"
    shutil.copytree(folder, moved)
    shutil.copytree(model, moved / "model")
    path = moved / "detector.json"
    data = json.loads(path.read_text())
    data["models"] = {"scoring": "model", "reference": "model"}
    path.write_text(json.dumps(data))
    before = opened(moved)
    before.load()
    assert before.models["scoring"] == str(moved / "model")
    small_models.llama(moved / "model", 7)
    with pytest.raises(ValueError, match="calibrate it again"):
        opened(moved).load()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.update(kind="oracle"), "'oracle' is none of sequence-classifier"),
        (lambda data: data.pop("calibration"), "damaged"),
        (lambda data: data["options"].update(more=1), "damaged"),
        (lambda data: data.pop("kind"), "names no kind"),
    ],
)
def test_a_damaged_folder_says_so(folder: Path, tmp_path: Path, change: object, message: str) -> None:
    data = json.loads((folder / "detector.json").read_text())
    change(data)  # type: ignore[operator]
    (tmp_path / "detector.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match=message):
        open_detector(tmp_path, opened)


def test_a_folder_without_a_kind_is_another_detectors(trained: Path, tmp_path: Path) -> None:
    assert kind_of(trained) is None
    with pytest.raises(FileNotFoundError, match="reserve calibrate"):
        kind_of(tmp_path)


def test_too_little_text_is_said_with_numbers(model: str, sets: Path) -> None:
    corpus = read_corpus(sets / "set0.parquet")
    with pytest.raises(ValueError, match="en: 56 human, 56 machine"):
        fit(FastDetectGPT(model, options=READING), corpus, CalibrationOptions(least=57))
    with pytest.raises(ValueError, match=r"rate of 0\.01 needs"):
        fit(FastDetectGPT(model, options=READING), corpus, CalibrationOptions(least=56))


@pytest.mark.parametrize(
    ("kind", "count"), [("sequence-classifier", 2), ("fast-detectgpt", 3), ("binoculars", 1), ("cascade", 2)]
)
def test_the_number_of_models_fits_the_kind(kind: str, count: int) -> None:
    assert kind in KINDS
    with pytest.raises(ValueError, match=kind):
        make_detector(kind, ["m"] * count, (), READING)


def test_a_cascade_of_two_model_detectors(folder: Path, model: str, sets: Path, tmp_path: Path) -> None:
    expensive = tmp_path / "binoculars"
    calibrate("binoculars", [model, model], sets, expensive, reading=READING, options=OPTIONS)

    def opener(name: str) -> object:
        return open_detector(Path(name), opener)

    parts = [opener(str(path)) for path in (folder, expensive)]
    corpus = read_corpus(sets)
    new = unseen(corpus, *parts)
    assert 0 < new.sum() < len(corpus) / 2
    output = tmp_path / "cascade"
    content = calibrate(
        "cascade", [str(folder), str(expensive)], sets, output, cascade=CascadeOptions(), open_detector=opener
    )
    assert content["measured"]["texts"] + content["measured"]["chosen_on"] == new.sum()
    cascade = opener(str(output))
    assert isinstance(cascade, Cascade)
    scores = cascade.score(corpus.texts, corpus.languages.tolist())
    assert np.isfinite(scores.probability).all()
    assert cascade.counts.seen == len(corpus)
    for made in (content, json.loads((folder / "detector.json").read_text())):
        assert "FPR" in render(made)
