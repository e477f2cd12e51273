"""Money: charged when a task is accepted, given back for what was not delivered, and always exact."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_seedream.sandbox.envelope import RefusedCall
from airflow_provider_seedream.sandbox.ledger import Ledger
from tests.unit.sandbox.users import MODEL, Account, Clock, accepted, text_to_image

PRICE = Decimal("0.035")


class TestAnAcceptedTaskIsCharged:
    def test_for_all_images_that_it_asks_for(self, account: Account) -> None:
        account.submit(max_images=10)
        assert account.balance() == 99.65

    def test_and_nothing_comes_back_for_what_was_delivered(self, account: Account, clock: Clock) -> None:
        account.submit(max_images=4)
        clock.advance(60)
        assert account.balance() == 99.86

    def test_accounts_pay_each_for_itself(self, open_account: Callable[[str], Account]) -> None:
        one, other = open_account("one"), open_account("other")
        one.submit()
        assert (one.balance(), other.balance()) == (99.965, 100)


class TestWhatWasNotDeliveredIsGivenBack:
    def test_when_the_task_ends_not_before(self, account: Account, clock: Clock) -> None:
        account.submit("a fox [[deliver:2]]", max_images=5)
        clock.advance(20)
        assert account.balance() == 99.825
        clock.advance(40)
        assert account.balance() == 99.93

    def test_wholly_when_it_fails_though_nobody_polls_it(self, account: Account, clock: Clock) -> None:
        account.submit("a fox [[fail:Timeout]]", max_images=5)
        clock.advance(60)
        report = account.ledger()
        assert report["accounts"][account.key] == {"balance": 100, "charged": 0.175, "refunded": 0.175}
        task = report["tasks"][0]
        assert (task["state"], task["delivered"], task["polls"]) == ("failed", 0, 0)
        assert (task["charged"], task["refunded"]) == (0.175, 0.175)


class TestAnEmptyAccount:
    def test_is_refused_with_402_and_not_charged(self, account: Account) -> None:
        for _ in range(285):
            account.submit(max_images=10)
        assert account.balance() == 0.25
        answer = account.post({"input": text_to_image(max_images=8)})
        assert (answer.status_code, answer.json()["code"]) == (402, 402)
        assert answer.json()["message"] == "Insufficient balance or quota"
        assert account.balance() == 0.25
        assert account.submit(max_images=7)

    def test_can_submit_again_once_a_refund_arrives(self, account: Account, clock: Clock) -> None:
        account.submit("a fox [[fail:Timeout]]", max_images=10)
        for _ in range(284):
            account.submit("a fox [[seconds:500]]", max_images=10)
        account.submit("a fox [[seconds:500]]", max_images=7)
        assert account.post({"input": text_to_image()}).status_code == 402
        clock.advance(60)
        assert account.submit()


SUBMISSIONS = st.lists(
    st.tuples(
        st.integers(1, 10), st.none() | st.integers(0, 10), st.booleans(), st.integers(0, 50), st.booleans()
    ),
    max_size=30,
)


class TestTheBooksAlwaysBalance:
    @settings(deadline=None)
    @given(submissions=SUBMISSIONS)
    def test_whoever_asks_and_whenever(
        self, submissions: list[tuple[int, int | None, bool, int, bool]]
    ) -> None:
        ledger, now, paid = Ledger(Decimal(100)), 0.0, Decimal(0)
        for count, deliver, fail, pause, ask in submissions:
            now += pause
            task = accepted(count, deliver, fail, now)
            ledger.book(task)
            paid += task.will_deliver * PRICE
            if ask:
                ledger.report(now)
        assert ledger.open_account("k", now + 30).balance == 100 - paid


class TestATaskBelongsToItsAccountAndModel:
    def test_another_account_gets_404(self, open_account: Callable[[str], Account]) -> None:
        mine, other = open_account("mine"), open_account("other")
        task = mine.submit()
        assert other.poll(task).status_code == 404
        assert mine.poll(task).status_code == 200

    @pytest.mark.parametrize("task_id", ["task_12345678", "../../etc", "\x00", "狐", "x" * 5000])
    def test_an_unknown_task_is_404(self, account: Account, task_id: str) -> None:
        assert account.poll(task_id).status_code == 404


class TestEveryPollIsCounted:
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


class TestWithoutAServer:
    def test_what_an_account_cannot_pay_is_refused_and_leaves_no_task(self) -> None:
        ledger = Ledger(Decimal("0.10"))
        task = accepted(max_images=3)
        with pytest.raises(RefusedCall, match="0.10 USD does not cover 0.105 USD") as refused:
            ledger.book(task)
        assert refused.value.code == 402
        assert ledger.find_task(task.id) is None
        assert ledger.open_account("k", 0).balance == Decimal("0.10")

    def test_a_poll_of_another_account_or_model_is_refused_and_not_counted(self) -> None:
        ledger, task = Ledger(Decimal(1)), accepted()
        ledger.book(task)
        for key, model in (("other", MODEL), ("k", "seedream-5")):
            with pytest.raises(RefusedCall, match="Task not found"):
                ledger.poll(key, model, task.id, 1)
        assert ledger.poll("k", MODEL, task.id, 2) is task
        assert ledger.report(3)["tasks"][0]["poll_times"] == [2]

    def test_a_refund_comes_at_the_second_at_which_the_task_ends(self) -> None:
        ledger = Ledger(Decimal(1))
        ledger.book(accepted(max_images=2, fail=True))
        balances = [ledger.open_account("k", now).balance for now in (29.9, 30.0)]
        assert balances == [1 - 2 * PRICE, 1]

    def test_a_task_without_a_callback_has_none(self) -> None:
        ledger, task = Ledger(Decimal(1)), accepted()
        ledger.book(task)
        with pytest.raises(RefusedCall, match="no callback_url"):
            ledger.find_callback(task.id, 100)
