"""Budgets and balances are kept in all tries together."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from unittest import mock

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_seedream.apixo.records import Submission
from airflow_provider_seedream.apixo.status import TaskStatus
from airflow_provider_seedream.apixo.verdict import Verdict
from airflow_provider_seedream.errors import (
    BudgetError,
    RefusedError,
)
from airflow_provider_seedream.operators.seedream import (
    SeedreamSubmitOperator,
)
from airflow_provider_seedream.purchases.journal import Journal
from airflow_provider_seedream.purchases.spending import check_budget, sum_spent
from tests.support.airflow_tries import TaskTries
from tests.support.apixo import Apixo, Connect
from tests.support.purchases import (
    AnyTask,
    bought,
    generate,
    no_pauses,
    submit,
)

pytestmark = pytest.mark.usefixtures("quick")


class TestMaxCost:
    def test_a_submission_beyond_it_is_not_sent(self, any_task: AnyTask, connected: Apixo) -> None:
        with pytest.raises(AirflowFailException, match=r"max_cost=0.1 USD does not cover.*0.105 USD"):
            any_task(max_images=3, max_cost=0.1).run()
        assert connected.requests("/generateTask") == []

    def test_a_submission_that_just_fits_is_sent(self, any_task: AnyTask, connected: Apixo) -> None:
        any_task(max_images=3, max_cost=0.105).run()
        assert len(bought(connected)) == 1

    def test_it_goes_by_the_price_of_the_connection(
        self, any_task: AnyTask, connected: Apixo, connect: Connect
    ) -> None:
        connect(host=connected.base_url, extra={"price_per_image": "0.04"})
        with pytest.raises(AirflowFailException, match="max_cost"):
            any_task(max_images=3, max_cost=0.105).run()

    def test_a_charge_that_may_have_happened_counts(self, any_task: AnyTask, connected: Apixo) -> None:
        connected.fault("/generateTask", drop="after")
        with pytest.raises(AirflowFailException, match="max_cost=0.05 USD.*Charged: perhaps 0.035 USD"):
            any_task(on_ambiguous_submit="resubmit", max_cost=0.05).run()
        assert len(bought(connected)) == 1

    def test_what_was_refunded_does_not(self, connected: Apixo) -> None:
        task = generate(prompt="x [[fail:Timeout]]", max_cost=0.035)
        with pytest.raises(Exception, match="Timeout"):
            task.run()
        task.run(prompt="x")
        assert len(bought(connected)) == 2

    @pytest.mark.parametrize("value", [0, -1, True, "much", float("nan"), float("inf")])
    def test_a_wrong_one_is_refused_when_the_dag_is_parsed(self, value: Any) -> None:
        with pytest.raises(ValueError, match="max_cost.*must be USD above 0"):
            SeedreamSubmitOperator(task_id="submit", prompt="a fox", max_cost=value)

    @pytest.mark.parametrize("rendered", ["", "None", None, "much"])
    def test_a_template_that_renders_to_none_is_not_no_limit(self, connected: Apixo, rendered: Any) -> None:
        operator = SeedreamSubmitOperator(task_id="submit", prompt="a fox", max_cost="{{ params.budget }}")
        operator.max_cost = rendered
        with pytest.raises(AirflowFailException, match="max_cost"):
            TaskTries(lambda: operator).run()
        assert connected.requests("/generateTask") == []


class TestCheckBalance:
    def test_refuses_before_the_post(self, any_task: AnyTask, connected: Apixo) -> None:
        connected.fault("/apikeys", status=200, body={"code": 200, "message": "success", "data": 0.03})
        with pytest.raises(AirflowFailException, match=r"balance of 0.03 USD does not cover.*0.035 USD"):
            any_task(check_balance=True).run()
        assert connected.requests("/generateTask") == []

    def test_a_balance_that_just_covers_it_is_enough(self, any_task: AnyTask, connected: Apixo) -> None:
        connected.fault("/apikeys", status=200, body={"code": 200, "message": "success", "data": 0.035})
        any_task(check_balance=True).run()
        assert len(bought(connected)) == 1

    def test_a_balance_that_cannot_be_read_is_not_taken_for_granted(
        self, any_task: AnyTask, connected: Apixo
    ) -> None:
        connected.fault("/apikeys", status=429, headers={"Retry-After": "90"})
        with pytest.raises(RefusedError, match="did not tell the balance.*Retry: submits anew"):
            any_task(check_balance=True).run()
        assert connected.requests("/generateTask") == []


class TestWhatIsSpentStaysSpent:
    def test_also_when_every_try_asks_for_something_else(self, connected: Apixo) -> None:
        task = generate(max_cost=0.05)
        task.run(prompt="at noon")
        with pytest.raises(AirflowFailException, match="max_cost=0.05 USD.*0.035 USD of them"):
            task.run(prompt="at one")
        assert len(bought(connected)) == 1

    def test_also_when_apixo_does_not_know_it_any_more(self, connected: Apixo) -> None:
        task = submit(max_cost=0.05)
        task.run()
        connected.fault("/statusTask", times=3, status=404)
        with (
            mock.patch("airflow_provider_seedream.purchases.earlier_tries.UNKNOWN_GRACE_SECONDS", -1.0),
            no_pauses(),
            pytest.raises(AirflowFailException, match="max_cost=0.05"),
        ):
            task.run()
        assert len(bought(connected)) == 1

    def test_a_clear_begins_anew(self, connected: Apixo) -> None:
        task = submit(max_cost=0.05)
        task.run()
        task.clear()
        task.run()
        assert len(bought(connected)) == 2


class TestTheSum:
    BOUGHT = Submission(seedream_task_id="task_1", price_per_image=Decimal("0.035"), requested=3)
    JOURNAL = Journal(
        max_tries=0, fingerprint="f", purchases=(BOUGHT,), lost=Decimal("0.07"), spent=Decimal("0.14")
    )

    def test_counts_a_purchase_with_its_pre_charge_until_it_has_ended(self) -> None:
        assert sum_spent(self.JOURNAL, {}) == Decimal("0.315")

    @pytest.mark.parametrize(
        ("state", "urls", "cost"), [("success", ("u",), "0.245"), ("failed", (), "0.21")]
    )
    def test_and_then_with_what_came(self, state: str, urls: tuple[str, ...], cost: str) -> None:
        verdict = Verdict.from_status(TaskStatus("task_1", state, urls))
        assert verdict
        assert sum_spent(self.JOURNAL, {"task_1": verdict}) == Decimal(cost)

    def test_may_reach_the_limit_and_not_pass_it(self) -> None:
        check_budget(Decimal("0.035"), Decimal("0.07"), Decimal("0.105"))
        check_budget(Decimal(1000), Decimal(1000), None)
        with pytest.raises(BudgetError, match="max_cost=0.104 USD"):
            check_budget(Decimal("0.035"), Decimal("0.07"), Decimal("0.104"))
