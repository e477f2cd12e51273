"""The last lines that a failed task logs, as a person reads them in Airflow's web interface."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_seedream.errors import (
    ConnectionConfigError,
    SeedreamError,
)
from airflow_provider_seedream.operators.seedream import SeedreamDownloadOperator, SeedreamGenerateOperator
from airflow_provider_seedream.worker.failures import LINE_CHARACTERS
from tests.support.airflow_tries import TaskTries
from tests.support.apixo import Apixo, Connect
from tests.support.purchases import (
    assert_one_purchase,
    bought,
    generate,
)

Operators = SeedreamGenerateOperator | SeedreamDownloadOperator


def last_lines(make: Callable[[], Operators], capsys: pytest.CaptureFixture[str]) -> tuple[str, str, str]:
    """Run a task that fails, and return what the last lines of its log say, by their three openings."""
    capsys.readouterr()
    with pytest.raises(Exception, match="Charged: "):
        TaskTries(make).run()
    events = re.findall(r"\[error +\] (.*?) +\[airflow", capsys.readouterr().out)
    assert max(len(event) for event in events) <= LINE_CHARACTERS
    text = " ".join(events)
    (found,) = re.findall(r"(What happened: .*) (What it cost: .*) (What a retry does: .*)", text)
    return tuple(found)  # type: ignore[return-value]


def blocking(prompt: str = "a fox") -> SeedreamGenerateOperator:
    return SeedreamGenerateOperator(
        task_id="generate", prompt=prompt, first_poll=0, generation_timeout=1, deferrable=False
    )


class TestLastLines:
    def test_say_what_happened_what_it_cost_and_what_a_retry_does(
        self, connected: Apixo, connect: Connect, capsys: pytest.CaptureFixture[str]
    ) -> None:
        connect(host=connected.base_url, password="invalid")
        happened, cost, retry = last_lines(blocking, capsys)
        assert "What happened: APIXO refused the submission, nothing was charged: HTTP 401" in happened
        assert "Put a valid APIXO key into the connection's password." in happened
        assert "What it cost: nothing by this try." in cost
        assert "What a retry does: none, it could not help." in retry

    def test_name_what_was_bought_and_how_to_get_it(
        self, connected: Apixo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        happened, cost, retry = last_lines(lambda: blocking("[[seconds:9000]]"), capsys)
        (bought,) = connected.tasks()
        assert "did not finish by its deadline" in happened
        assert f"What it cost: at most 0.035 USD for task {bought['taskId']}" in cost
        assert "carries on with what was bought" in retry
        assert "finish the job at no cost" in retry

    def test_are_there_for_tasks_that_buy_nothing_too(
        self, connected: Apixo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        happened, cost, retry = last_lines(
            lambda: SeedreamDownloadOperator(
                task_id="download", seedream_task_id="nobody", destination=str(tmp_path)
            ),
            capsys,
        )
        assert "nobody" in happened
        assert "What it cost: nothing by this Airflow task." in cost
        assert "What a retry does: " in retry

    def test_no_second_traceback_hides_them(self, connected: Apixo, connect: Connect) -> None:
        connect(host=connected.base_url, password="invalid")
        with pytest.raises(Exception, match="HTTP 401") as caught:
            TaskTries(blocking).run()
        assert caught.value.__suppress_context__


pytestmark = pytest.mark.usefixtures("quick")


class TestWhileSomethingIsPaidFor:
    """A retry that cannot even begin must still name what is paid for."""

    def paid(self, **arguments: Any) -> TaskTries:
        task = generate(prompt="x [[seconds:60]]", **arguments)
        task.run_until_deferral()
        return task

    def test_a_connection_that_cannot_be_read_may_pass(
        self, connected: Apixo, monkeypatch: pytest.MonkeyPatch, connect: Connect
    ) -> None:
        task = self.paid()
        monkeypatch.delenv("AIRFLOW_CONN_SEEDREAM_DEFAULT")
        with pytest.raises(ConnectionConfigError, match="Retry: carries on") as failure:
            task.run()
        assert bought(connected)[0] in str(failure.value)
        connect(host=connected.base_url)
        assert_one_purchase(connected, task.run())

    @pytest.mark.parametrize("changes", [{"prompt": "{{ x }}"}, {"max_cost": "{{ x }}"}])
    def test_a_template_that_renders_to_nothing_names_it(
        self, connected: Apixo, changes: dict[str, Any]
    ) -> None:
        task = self.paid()
        made = task._make

        def make(**_: Any) -> Any:
            operator = made(**changes)
            for name in changes:
                setattr(operator, name, "")
            return operator

        task._make = make
        if "prompt" in changes:
            with pytest.raises(AirflowFailException, match=bought(connected)[0]):
                task.run()
        else:
            # Nothing is bought, so no limit is needed.
            assert_one_purchase(connected, task.run())

    def test_a_task_that_is_not_known_for_a_while_is_left_to_the_retry(self, connected: Apixo) -> None:
        task = generate(deferrable=False)
        connected.fault("/statusTask", times=2, status=404)
        with (
            mock.patch("airflow_provider_seedream.apixo.watch.MAX_FAILED_POLLS", 2),
            mock.patch("airflow_provider_seedream.apixo.watch.compute_backoff", return_value=0.01),
            pytest.raises(SeedreamError, match="Gave up watching.*Retry: carries on"),
        ):
            task.run()
        assert_one_purchase(connected, task.run())
