"""The life of a task as its owner sees it, and the directives that steer it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from airflow_provider_seedream.sandbox.tasks import FAIL_MESSAGES
from tests.unit.sandbox.users import Account, Clock


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


class TestATaskBelongsToItsAccountAndModel:
    def test_another_account_gets_404(self, open_account: Callable[[str], Account]) -> None:
        mine, other = open_account("mine"), open_account("other")
        task = mine.submit()
        assert other.poll(task).status_code == 404
        assert mine.poll(task).status_code == 200

    @pytest.mark.parametrize("task_id", ["task_12345678", "../../etc", "\x00", "狐", "x" * 5000])
    def test_an_unknown_task_is_404(self, account: Account, task_id: str) -> None:
        assert account.poll(task_id).status_code == 404

    def test_no_task_id_is_400(self, account: Account) -> None:
        assert account.call("GET", "/statusTask/seedream-4-5").status_code == 400


class TestDirectives:
    @pytest.mark.parametrize("code", [*FAIL_MESSAGES, "SomethingNew"])
    def test_a_task_fails_with_the_code_asked_for(self, account: Account, clock: Clock, code: str) -> None:
        task = account.submit(f"a fox [[fail:{code}]]")
        clock.advance(60)
        status = account.status(task)
        assert (status["state"], status["failCode"]) == ("failed", code)
        assert status["failMsg"]
        assert "resultJson" not in status

    def test_a_part_is_delivered(self, account: Account, clock: Clock) -> None:
        task = account.submit("a fox [[deliver:2]]", max_images=5)
        clock.advance(60)
        assert len(account.urls(task)) == 2

    def test_no_more_is_delivered_than_was_asked_for(self, account: Account, clock: Clock) -> None:
        task = account.submit("a fox [[deliver:9]]", max_images=3)
        clock.advance(60)
        assert len(account.urls(task)) == 3

    def test_a_success_can_be_empty(self, account: Account, clock: Clock) -> None:
        task = account.submit("a fox [[deliver:0]]", max_images=3)
        clock.advance(60)
        assert json.loads(account.status(task)["resultJson"]) == {"resultUrls": []}
        assert account.balance() == 100

    def test_an_unknown_state_is_shown_in_place_of_processing(self, account: Account, clock: Clock) -> None:
        task = account.submit("a fox [[state:processing_r2]]")
        assert account.status(task)["state"] == "pending"
        clock.advance(15)
        assert account.status(task)["state"] == "processing_r2"
        clock.advance(45)
        assert account.status(task)["state"] == "success"

    def test_the_generation_time_is_set(self, account: Account, clock: Clock) -> None:
        task = account.submit("a fox [[seconds:200]]")
        clock.advance(199)
        assert account.status(task)["state"] == "processing"
        clock.advance(2)
        assert account.status(task)["costTime"] == 200_000

    def test_other_words_in_brackets_are_text(self, account: Account, clock: Clock) -> None:
        task = account.submit("a sign that says [[open]] and [[hours:9-5]]")
        clock.advance(60)
        assert account.status(task)["state"] == "success"


class TestEveryLookIsCounted:
    def test_polls_and_their_times_stand_in_the_ledger(self, account: Account, clock: Clock) -> None:
        task = account.submit()
        submitted = clock()
        times = []
        for _ in range(3):
            clock.advance(5)
            times.append(clock())
            account.poll(task)
        entry = account.ledger()["tasks"][0]
        assert entry["taskId"] == task
        assert entry["submitted_at"] == submitted
        assert (entry["polls"], entry["poll_times"]) == (3, times)
