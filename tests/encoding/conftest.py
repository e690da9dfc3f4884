"""What the tests of the encoding kernel share."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("encoding", database=None, deadline=None, max_examples=100)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "encoding"))
