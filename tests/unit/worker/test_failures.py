"""The last lines that a failed task logs, as a person reads them in Airflow's web interface."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_seedream.operators.seedream import SeedreamDownloadOperator, SeedreamGenerateOperator
from airflow_provider_seedream.worker.failures import LINE_CHARACTERS
from tests.support.airflow_tries import TaskTries
from tests.support.apixo import Apixo, Connect

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


def generate(prompt: str = "a fox") -> SeedreamGenerateOperator:
    return SeedreamGenerateOperator(
        task_id="generate", prompt=prompt, first_poll=0, generation_timeout=1, deferrable=False
    )


class TestLastLines:
    def test_say_what_happened_what_it_cost_and_what_a_retry_does(
        self, connected: Apixo, connect: Connect, capsys: pytest.CaptureFixture[str]
    ) -> None:
        connect(host=connected.base_url, password="invalid")
        happened, cost, retry = last_lines(generate, capsys)
        assert "What happened: APIXO refused the submission, nothing was charged: HTTP 401" in happened
        assert "Put a valid APIXO key into the connection's password." in happened
        assert "What it cost: nothing by this try." in cost
        assert "What a retry does: none, it could not help." in retry

    def test_name_what_was_bought_and_how_to_get_it(
        self, connected: Apixo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        happened, cost, retry = last_lines(lambda: generate("[[seconds:9000]]"), capsys)
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
            TaskTries(generate).run()
        assert caught.value.__suppress_context__
