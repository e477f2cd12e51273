"""Pauses after failures grow, are spread, and have a bound."""

from __future__ import annotations

from airflow_provider_seedream.apixo.backoff import MAX_BACKOFF, compute_backoff


def low(a: float, b: float) -> float:
    return a


def high(a: float, b: float) -> float:
    return b


class TestBackoff:
    def test_grows_with_full_jitter_up_to_a_bound(self) -> None:
        assert [compute_backoff(n, high) for n in (1, 2, 3)] == [2, 4, 8]
        assert compute_backoff(1000, high) == MAX_BACKOFF
        assert compute_backoff(3, low) == 0

    def test_has_a_floor_that_never_exceeds_its_ceiling(self) -> None:
        assert compute_backoff(3, low, floor=0.5) == 0.5
        assert compute_backoff(1, low, base=0.01, floor=5) == 0.02
