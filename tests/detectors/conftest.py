from __future__ import annotations

from pathlib import Path

import pytest

from detectors.fitting import FitOptions
from detectors.training import TrainOptions, train
from tests.detectors.generated import write_sets

OPTIONS = TrainOptions(
    languages=("en",), fit=FitOptions(lines=2500, buckets=3000, least_count=2, epochs=6, learning_rate=0.5)
)


@pytest.fixture(scope="session")
def generated_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sets(tmp_path_factory.mktemp("sets"))


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
