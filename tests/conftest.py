"""Settings for all tests."""

import os

import pytest
from hypothesis import settings

# The same examples on every run, so that a failure comes of a change. HYPOTHESIS_PROFILE=search looks further.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("search", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with whole runs first: they take longest, and no worker should be left with one at the end."""
    items.sort(key=lambda item: not item.path.name.startswith(("test_run", "test_remote", "test_cli", "test_releases")))
