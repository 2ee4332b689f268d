from __future__ import annotations

from pathlib import Path

import pytest

from detectors.corpus import Corpus, read_corpus
from detectors.fitting import FitOptions
from detectors.ngrams import Tokens, tokenise
from detectors.training import TrainOptions, train
from tests.detectors.generated import write_sets

OPTIONS = TrainOptions(
    languages=("en",),
    batches=2,
    false_positive_rate=0.01,
    fit=FitOptions(crops=4000, bits=14, word_ngrams=2, least_sets=2),
)


@pytest.fixture(scope="session")
def generated_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="session")
def generated_corpus(generated_sets: Path) -> tuple[Corpus, Tokens]:
    corpus = read_corpus(generated_sets)
    return corpus, tokenise(corpus.levelled)


@pytest.fixture(scope="session")
def trained(generated_sets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    train(generated_sets, folder, OPTIONS)
    return folder


@pytest.fixture(scope="session")
def shared_text() -> Path:
    folder = Path(__file__).parents[3] / "shared" / "text"
    if not folder.is_dir():
        pytest.skip("../shared/text is absent")
    return folder
