"""Settings for all tests."""

import os

from hypothesis import settings

# The same examples on every run, so that a failure comes of a change. HYPOTHESIS_PROFILE=search looks further.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("search", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
