"""Computes how long to pause after a failure; the dice are an argument."""

from __future__ import annotations

from collections.abc import Callable

Uniform = Callable[[float, float], float]
"""A draw between two bounds, such as ``random.uniform``."""

MAX_BACKOFF = 60.0
"""Longest pause in seconds that is chosen by us; the API's own ``Retry-After`` may ask for more."""

MIN_PAUSE = 0.1
"""Shortest pause in seconds after a look that failed."""


def backoff(attempt: int, uniform: Uniform, *, base: float = 1.0, floor: float = 0.0) -> float:
    """Seconds to wait after failed attempt number ``attempt`` (from 1): exponential, with full jitter."""
    ceiling = min(MAX_BACKOFF, base * 2 ** min(attempt, 16))
    return uniform(min(floor, ceiling), ceiling)
