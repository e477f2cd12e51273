"""What is counted when images were bought; that it arrives at StatsD is shown in ``tests/faults``."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_seedream import metrics
from tests.support.apixo import Apixo
from tests.support.purchases import generate

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """Amounts by the name of the counter."""
    amounts: dict[str, list[Any]] = {}

    def incr(name: str, amount: float, tags: dict[str, str]) -> None:
        assert tags == {"model": "seedream-4-5", "resolution": "2K"}
        amounts.setdefault(name, []).append(amount)

    monkeypatch.setattr(metrics.Stats, "incr", incr)
    return amounts


def test_a_result_is_counted_once(connected: Apixo, counted: dict[str, list[Any]]) -> None:
    generate(prompt="x [[deliver:2]]", max_images=3).run()
    assert counted["seedream.images"] == [2]
    assert counted["seedream.cost_usd"] == [0.07]
    assert counted["seedream.polls"] == [connected.tasks()[0]["polls"]]
    assert len(counted["seedream.wait_seconds"]) == 1


def test_a_failure_costs_nothing_and_is_not_counted(connected: Apixo, counted: dict[str, list[Any]]) -> None:
    with pytest.raises(Exception, match="Timeout"):
        generate(prompt="x [[fail:Timeout]]").run()
    assert counted == {}
