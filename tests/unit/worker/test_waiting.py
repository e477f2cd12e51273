"""A wait ends in time for our own words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_seedream.apixo.model import Pace
from airflow_provider_seedream.apixo.records import Submission
from airflow_provider_seedream.worker import waiting
from airflow_provider_seedream.worker.waiting import (
    choose_pace,
    defer_until_finished,
    find_deadline,
    find_deadline_of_try,
)
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
        waited = deferral.trigger.deadline - task._started.timestamp()
        assert 40 <= waited < 3600 - 5


def submission(**fields: Any) -> Submission:
    return Submission(seedream_task_id="task_1", price_per_image=Decimal("0.035"), **fields)


class TestThePace:
    def test_is_the_models(self) -> None:
        assert choose_pace(submission(), None, None) == Pace(20, 3, 5)
        assert choose_pace(submission(resolution="4K"), None, None) == Pace(30, 5, 5)

    def test_or_the_users(self) -> None:
        assert choose_pace(submission(), 0.0, 7.0) == Pace(0, 7, 7)

    def test_is_slow_while_a_callback_is_expected(self) -> None:
        assert choose_pace(submission(), None, None, awaits_callback=True) == Pace(20, 60, 60)

    def test_unless_the_user_has_chosen_it(self) -> None:
        assert choose_pace(submission(), None, 7.0, awaits_callback=True) == Pace(20, 7, 7)


NOW = 1_790_000_000.0


@pytest.fixture
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "time", SimpleNamespace(time=lambda: NOW))


@pytest.mark.usefixtures("stopped_clock")
class TestTheDeadline:
    def task(self, execution_timeout: timedelta | None = None) -> Any:
        return SimpleNamespace(execution_timeout=execution_timeout, log=SimpleNamespace(info=lambda *_: None))

    def context(self, seconds_ago: float = 0.0) -> Any:
        return {"ti": SimpleNamespace(start_date=datetime.fromtimestamp(NOW - seconds_ago, tz=UTC))}

    def test_is_that_of_the_timeout(self) -> None:
        assert find_deadline(self.context(999), self.task(), 60) == NOW + 60

    @pytest.mark.parametrize(("allowed", "margin"), [(600, 5), (20, 2)])
    def test_comes_a_little_before_execution_timeout_which_counts_from_the_start_of_the_try(
        self, allowed: float, margin: float
    ) -> None:
        deadline = find_deadline(self.context(10), self.task(timedelta(seconds=allowed)), 900)
        assert deadline == NOW - 10 + allowed - margin

    def test_of_a_wait_that_began_with_the_try_counts_from_there(self) -> None:
        assert find_deadline_of_try(self.context(100), self.task(), 900) == NOW + 800

    def test_counts_from_now_where_airflow_does_not_tell_when_the_try_began(self) -> None:
        context: Any = {"ti": SimpleNamespace()}
        assert find_deadline_of_try(context, self.task(), 900) == NOW + 900


@pytest.mark.usefixtures("stopped_clock")
class TestTheTriggerPolls:
    def created_at(self, *, just_polled: bool) -> float:
        deferred: dict[str, Any] = {}
        task: Any = SimpleNamespace(defer=lambda **arguments: deferred.update(arguments))
        defer_until_finished(
            task,
            [submission(submitted_at=1000.0)],
            Pace(20, 3, 5),
            deadline=NOW + 900,
            conn_id="seedream_default",
            just_polled=just_polled,
            awaits_callback=False,
        )
        return float(deferred["trigger"].created_at)

    def test_when_the_pace_says_so(self) -> None:
        assert self.created_at(just_polled=False) == 1000.0

    def test_one_interval_after_the_worker_has(self) -> None:
        assert self.created_at(just_polled=True) + 20 == NOW + 5
