"""What all tests share."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# The first draw of text builds a table of all characters, which takes seconds on a small machine.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")
