"""What was bought by earlier tries is carried on with, and only a clear or a failure buys anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout

from airflow_provider_seedream.errors import (
    DeadlineError,
    DownloadError,
    RefusedError,
    SeedreamError,
    TaskFailedError,
)
from airflow_provider_seedream.hooks.seedream import SeedreamHook
from airflow_provider_seedream.purchases.buying import Buyer
from airflow_provider_seedream.worker import generate as generate_module
from tests.support.airflow_tries import worker_dies
from tests.support.apixo import Apixo, Connect
from tests.support.purchases import (
    AnyTask,
    assert_one_purchase,
    bought,
    generate,
    no_pauses,
    submit,
    task_id_of,
    wait_until_finished,
)

pytestmark = pytest.mark.usefixtures("quick")


class TestARetryCarriesOnWithWhatWasBought:
    def test_after_the_worker_died_right_after_the_record(self, any_task: AnyTask, connected: Apixo) -> None:
        task = any_task()
        with worker_dies(Buyer, "push"):
            task.run()
        assert_one_purchase(connected, task.run())

    def test_after_the_worker_died_while_the_task_was_in_progress(self, connected: Apixo) -> None:
        task = generate(prompt="x [[seconds:60]]")
        task.run_until_deferral()
        result = task.run()
        assert bought(connected) == [task_id_of(result)]

    def test_after_success_whatever_made_airflow_retry(self, any_task: AnyTask, connected: Apixo) -> None:
        task = any_task()
        first = task.run()
        assert task_id_of(task.run()) == task_id_of(first)
        assert len(bought(connected)) == 1

    def test_a_finished_task_is_delivered_without_deferring_again(self, connected: Apixo) -> None:
        task = generate()
        task.run()
        deferrals = len(task.deferrals)
        task.run()
        assert len(task.deferrals) == deferrals == 1

    def test_after_a_deadline(self, any_task: AnyTask, connected: Apixo) -> None:
        task = generate(prompt="x [[seconds:200]]", generation_timeout=0.2)
        with pytest.raises(DeadlineError, match="Retry: carries on with what was bought"):
            task.run()
        assert task_id_of(task.run(generation_timeout=60)) == bought(connected)[0]
        assert len(bought(connected)) == 1

    def test_after_a_download_that_failed(self, connected: Apixo, tmp_path: Path) -> None:
        task = generate(destination=tmp_path.as_uri())
        connected.fault("/results", times=1, status=404, body="gone")
        with pytest.raises((DownloadError, AirflowFailException)):
            task.run()
        result = task.run()
        assert [Path(image["path"].removeprefix("file://")).exists() for image in result["images"]] == [True]
        assert len(bought(connected)) == 1

    def test_after_execution_timeout_hit_the_saving(self, connected: Apixo, tmp_path: Path) -> None:
        task = generate(destination=tmp_path.as_uri())
        with (
            mock.patch.object(generate_module, "save", side_effect=AirflowTaskTimeout("too slow")),
            pytest.raises(SeedreamError, match="AirflowTaskTimeout: too slow.*Retry: carries on"),
        ):
            task.run()
        task.run()
        assert len(bought(connected)) == 1

    def test_after_the_state_store_failed_once_the_money_was_spent(self, connected: Apixo) -> None:
        """The first try can still finish the job; what was not recorded is a case for the next test class."""
        task = generate()
        real = task.store.set
        refusals = iter([None, ConnectionError("api-server gone")])

        def flaky(key: str, value: Any) -> None:
            if error := next(refusals, None):
                raise error
            real(key, value)

        with mock.patch.object(task.store, "set", flaky), mock.patch("time.sleep"):
            task.run()
        assert task_id_of(task.run()) == bought(connected)[0]
        assert len(bought(connected)) == 1

    def test_the_submission_is_in_xcom_again(self, any_task: AnyTask) -> None:
        task = any_task()
        first = task.run()
        task.run()
        record = task.xcom.get("submission")
        assert record["seedream_task_id"] == task_id_of(first)
        assert record["request"]["prompt"] == "a fox"


class TestATaskThatFailedIsBoughtAnew:
    def test_when_a_retry_may_help(
        self, any_task: AnyTask, connected: Apixo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        task = any_task(prompt="x [[fail:Timeout]]")
        with worker_dies(Buyer, "push"):
            task.run()
        wait_until_finished(connected)
        with pytest.raises(TaskFailedError) if any_task is not submit else worker_dies(Buyer, "push"):
            task.run()
        assert len(bought(connected)) == 2
        assert "It is submitted anew" in capsys.readouterr().out

    def test_not_when_no_retry_can_help(self, any_task: AnyTask, connected: Apixo) -> None:
        task = any_task(prompt="x [[fail:SensitiveContentDetected]]")
        with worker_dies(Buyer, "push"):
            task.run()
        wait_until_finished(connected)
        with pytest.raises(AirflowFailException, match="SensitiveContentDetected.*nothing.*Retry: none"):
            task.run()
        assert len(bought(connected)) == 1

    def test_when_apixo_does_not_know_it_any_more(
        self, any_task: AnyTask, connected: Apixo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        task = any_task()
        task.run()
        connected.fault("/statusTask", times=3, status=404)
        with (
            mock.patch("airflow_provider_seedream.purchases.earlier_tries.UNKNOWN_GRACE_SECONDS", -1.0),
            no_pauses(),
        ):
            result = task.run()
        assert bought(connected)[1] == task_id_of(result)
        assert "It is submitted anew" in capsys.readouterr().out

    def test_not_when_one_answer_says_so_and_the_next_does_not(
        self, any_task: AnyTask, connected: Apixo
    ) -> None:
        task = any_task()
        task.run()
        connected.fault("/statusTask", times=2, status=404)
        with (
            mock.patch("airflow_provider_seedream.purchases.earlier_tries.UNKNOWN_GRACE_SECONDS", -1.0),
            no_pauses(),
        ):
            assert_one_purchase(connected, task.run())

    def test_not_when_it_is_too_young_to_be_known(self, connected: Apixo) -> None:
        task = submit()
        task.run()
        connected.fault("/statusTask", status=404)
        assert_one_purchase(connected, task.run())

    def test_not_when_its_status_cannot_be_read(self, connected: Apixo) -> None:
        task = submit()
        task.run()
        connected.fault("/statusTask", status=401)
        assert_one_purchase(connected, task.run())


class TestARetriedFailure:
    def test_of_the_generation_submits_anew(self, connected: Apixo) -> None:
        task = generate(prompt="x [[fail:Timeout]]")
        for _ in range(2):
            with pytest.raises(TaskFailedError, match="Charged: nothing.*Retry: submits anew"):
                task.run()
        assert len(bought(connected)) == 2

    def test_codes_can_be_made_retryable(self, connected: Apixo) -> None:
        task = generate(prompt="x [[fail:PromptInvalid]]", retryable_fail_codes=["prompt_invalid"])
        with pytest.raises(TaskFailedError, match="Retry: submits anew"):
            task.run()

    def test_codes_can_be_made_final(self) -> None:
        with pytest.raises(AirflowFailException, match="Timeout.*Retry: none"):
            generate(prompt="x [[fail:Timeout]]", retryable_fail_codes=[]).run()

    def test_of_the_submission_buys_nothing_twice(self, any_task: AnyTask, connected: Apixo) -> None:
        task = any_task()
        connected.fault("/generateTask", status=429, headers={"Retry-After": "90"})
        with pytest.raises(RefusedError, match="Charged: nothing by this try. Retry: submits anew"):
            task.run()
        task.run()
        assert len(bought(connected)) == 1


class TestAClearBuysAnew:
    def test_of_a_finished_task(
        self, any_task: AnyTask, connected: Apixo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        task = any_task()
        first = task_id_of(task.run())
        task.clear()
        second = task_id_of(task.run())
        assert bought(connected) == [first, second]
        log = capsys.readouterr().out
        assert "The task was cleared, so what it bought before does not count" in log
        assert log.count(first) > 0

    def test_and_the_retry_after_a_clear_does_not(self, any_task: AnyTask, connected: Apixo) -> None:
        task = any_task()
        task.run()
        task.clear()
        second = task_id_of(task.run())
        assert task_id_of(task.run()) == second
        assert len(bought(connected)) == 2

    def test_also_after_a_lost_answer(self, any_task: AnyTask, connected: Apixo) -> None:
        task = any_task()
        with worker_dies(SeedreamHook, "submit", after=True):
            task.run()
        task.clear()
        assert task_id_of(task.run()) == bought(connected)[1]


class TestAnotherRequestIsNotCarriedOn:
    def test_when_a_mapped_list_was_reordered(
        self, any_task: AnyTask, connected: Apixo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        task = any_task()
        fox = task_id_of(task.run(prompt="a fox"))
        owl = task_id_of(task.run(prompt="an owl"))
        assert bought(connected) == [fox, owl]
        assert "about another request" in capsys.readouterr().out

    @pytest.mark.parametrize(
        "change",
        [{"max_images": 2}, {"resolution": "4K"}, {"aspect_ratio": "1:1"}, {"provider": "official"}],
        ids=lambda change: next(iter(change)),
    )
    def test_when_anything_that_is_bought_differs(self, connected: Apixo, change: dict[str, Any]) -> None:
        task = submit()
        assert task.run() != task.run(**change)


class TestChangesBetweenTries:
    def test_of_the_connections_routing_carry_on(
        self, any_task: AnyTask, connected: Apixo, connect: Connect
    ) -> None:
        task = any_task()
        task.run()
        connect(host=connected.base_url, extra={"provider": "official"})
        assert_one_purchase(connected, task.run())

    def test_of_the_number_of_retries_do_not_hide_a_clear(self, connected: Apixo) -> None:
        task = submit()
        task.run()
        task.clear(retries=0)
        task.run()
        assert len(bought(connected)) == 2
