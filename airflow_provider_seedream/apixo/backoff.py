"""Computes how long to pause after a failure; the dice are an argument."""

from __future__ import annotations

from collections.abc import Callable

Uniform = Callable[[float, float], float]
"""A draw between two bounds, such as ``random.uniform``."""

MAX_BACKOFF = 60.0
"""Longest pause in seconds that is chosen by us; the API's own ``Retry-After`` may ask for more."""

MIN_PAUSE = 0.1
"""Shortest pause in seconds after a poll that failed."""


def compute_backoff(attempt: int, uniform: Uniform, *, base: float = 1.0, floor: float = 0.0) -> float:
    """Return the seconds to wait after a failed attempt: exponential, with full jitter.

    :param attempt: number of the attempt, from 1.
    :param base: most seconds after the first; doubled for each further one.
    :param floor: least seconds.
    """
    ceiling = min(MAX_BACKOFF, base * 2 ** min(attempt, 16))
    return uniform(min(floor, ceiling), ceiling)
