"""The life of a task as its owner sees it."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from airflow_provider_seedream.sandbox import tasks
from tests.unit.sandbox.users import Account, Clock, accepted

PRICE = Decimal("0.035")


class TestATaskLives:
    def test_pending_then_processing_then_success(self, account: Account, clock: Clock) -> None:
        task = account.submit()
        seen = [account.status(task)["state"]]
        clock.advance(10)
        seen.append(account.status(task)["state"])
        clock.advance(30)
        seen.append(account.status(task)["state"])
        assert seen == ["pending", "processing", "success"]

    @pytest.mark.parametrize(("resolution", "low", "high"), [("2K", 25, 35), ("4K", 40, 55)])
    def test_it_takes_the_typical_time_of_its_resolution(
        self, account: Account, clock: Clock, resolution: str, low: int, high: int
    ) -> None:
        tasks = [account.submit(resolution=resolution) for _ in range(20)]
        clock.advance(60)
        costs = {account.status(task)["costTime"] / 1000 for task in tasks}
        assert all(low <= seconds <= high for seconds in costs)
        assert len(costs) > 10, "the tasks do not differ"

    def test_times_are_unix_milliseconds_and_add_up(self, account: Account, clock: Clock) -> None:
        created = round(clock() * 1000)
        task = account.submit()
        assert account.status(task)["createTime"] == created
        clock.advance(60)
        status = account.status(task)
        assert status["completeTime"] - status["createTime"] == status["costTime"]

    def test_all_images_are_delivered_unless_told_otherwise(self, account: Account, clock: Clock) -> None:
        tasks = [
            account.submit(max_images=10),
            account.submit(max_images=10, sequential_image_generation="auto"),
        ]
        clock.advance(60)
        assert [len(account.urls(task)) for task in tasks] == [10, 10]

    def test_task_ids_cannot_be_guessed(self, account: Account) -> None:
        ids = {account.submit() for _ in range(5)}
        assert len(ids) == 5
        assert all(task.startswith("task_") and len(task) == 37 for task in ids)


class TestTheClockAloneDecides:
    """Of a task that takes 30 seconds."""

    @pytest.mark.parametrize(
        ("now", "state"),
        [
            (0, "pending"),
            (4.4, "pending"),
            (4.6, "processing"),
            (29.9, "processing"),
            (30, "success"),
            (1e9, "success"),
        ],
    )
    def test_its_state(self, now: float, state: str) -> None:
        assert tasks.find_state(accepted(), now) == state

    def test_that_it_has_failed(self) -> None:
        task = accepted(fail=True)
        assert [tasks.find_state(task, now) for now in (29.9, 30)] == ["processing", "failed"]

    def test_that_its_results_expire_15_days_after_its_end(self) -> None:
        task, end = accepted(), 30 + 15 * 24 * 3600
        assert [tasks.has_expired(task, now) for now in (end - 1, end)] == [False, True]


class TestAStatusHasThePagesKeys:
    def test_while_it_runs(self) -> None:
        assert set(tasks.make_status(accepted(), 10, "http://x")) == {"taskId", "state", "createTime"}

    def test_of_a_success(self) -> None:
        task = accepted(max_images=2, at=100)
        status = tasks.make_status(task, 130, "http://y")
        assert set(status) == {"taskId", "state", "createTime", "completeTime", "costTime", "resultJson"}
        assert (status["createTime"], status["completeTime"], status["costTime"]) == (
            100_000,
            130_000,
            30_000,
        )
        assert json.loads(status["resultJson"])["resultUrls"] == [
            f"http://y/results/{task.id}/{task.token}/{number}.png" for number in (1, 2)
        ]

    def test_of_a_failure(self) -> None:
        status = tasks.make_status(accepted(fail=True), 30, "http://x")
        assert set(status) == {"taskId", "state", "createTime", "completeTime", "failCode", "failMsg"}
        assert (status["failCode"], status["failMsg"]) == ("Timeout", "Provider processing timed out")

    def test_of_a_callback(self) -> None:
        task = accepted()
        assert tasks.make_callback(task) == {
            "code": 200,
            "message": "success",
            "data": tasks.make_status(task, 30, "http://x"),
        }
        assert tasks.make_callback(accepted(fail=True))["code"] == 500


class TestMoney:
    @pytest.mark.parametrize(
        ("task", "delivered"),
        [
            (accepted(5), 5),
            (accepted(5, deliver=2), 2),
            (accepted(5, deliver=9), 5),
            (accepted(5, fail=True), 0),
            (accepted(5, deliver=2, fail=True), 0),
        ],
        ids=["all", "some", "no more than ordered", "failed", "failed with some"],
    )
    def test_comes_back_for_what_is_not_delivered(self, task: tasks.Task, delivered: int) -> None:
        assert (task.precharge, task.will_deliver) == (5 * PRICE, delivered)
        assert task.precharge - task.refund == delivered * PRICE
