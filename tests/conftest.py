"""Settings for every test."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # tests run side by side; must be set before torch is imported

from hypothesis import settings

settings.register_profile("noisy machine", deadline=None)
settings.load_profile("noisy machine")
