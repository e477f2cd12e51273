"""Money: charged when a task is accepted, given back for what was not delivered, and always exact."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_seedream.sandbox.ledger import Ledger
from tests.unit.sandbox.users import Account, Clock, accepted, text_to_image

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

    def test_wholly_when_it_fails_though_nobody_looks_at_it(self, account: Account, clock: Clock) -> None:
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


class TestResetStartsAfresh:
    def test_no_task_account_fault_or_request_is_left(self, account: Account) -> None:
        account.submit()
        account.fault("/statusTask", {"status": 500})
        account.control("POST", "/reset")
        report = account.ledger()
        assert (report["accounts"], report["tasks"], report["requests"]) == ({}, [], [])
        assert account.poll("task_1").status_code == 404


SUBMISSIONS = st.lists(
    st.tuples(
        st.integers(1, 10), st.none() | st.integers(0, 10), st.booleans(), st.integers(0, 50), st.booleans()
    ),
    max_size=30,
)


class TestTheBooksAlwaysBalance:
    @settings(deadline=None)
    @given(submissions=SUBMISSIONS)
    def test_whoever_looks_and_whenever(
        self, submissions: list[tuple[int, int | None, bool, int, bool]]
    ) -> None:
        ledger, now, paid = Ledger(Decimal(100)), 0.0, Decimal(0)
        for count, deliver, fail, pause, look in submissions:
            now += pause
            task = accepted(count, deliver, fail, now)
            ledger.book(task)
            paid += task.will_deliver * PRICE
            if look:
                ledger.report(now)
        assert ledger.account("k", now + 30).balance == 100 - paid
