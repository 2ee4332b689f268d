"""What tests of several files look at and leave as it is."""

from pathlib import Path

import pytest

from tests.reserve.sealed import small_output


@pytest.fixture(scope="session")
def sealed_output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small output, sealed and signed, for reading alone."""
    return small_output(tmp_path_factory.mktemp("sealed"))[0]
