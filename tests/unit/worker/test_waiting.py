"""A wait ends in time for our own words."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support.apixo import Apixo
from tests.support.purchases import (
    generate,
)

pytestmark = pytest.mark.usefixtures("quick")


class TestExecutionTimeout:
    def test_bounds_the_wait_while_deferred(self, connected: Apixo) -> None:
        """Airflow 3.1-3.3 do not enforce it there."""
        task = generate(prompt="x [[seconds:900]]", execution_timeout=timedelta(seconds=30))
        _, deferral = task.run_until_deferral()
        assert deferral.trigger.deadline == pytest.approx(task._started.timestamp() + 27, abs=1)

    def test_a_shorter_generation_timeout_stays(self, connected: Apixo) -> None:
        task = generate(
            prompt="x [[seconds:900]]", execution_timeout=timedelta(hours=1), generation_timeout=40
        )
        _, deferral = task.run_until_deferral()
        assert deferral.trigger.deadline == pytest.approx(task._started.timestamp() + 40, abs=5)
