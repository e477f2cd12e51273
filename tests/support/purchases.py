"""Airflow tasks that buy, across their tries, and what they have bought."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any
from unittest import mock

from airflow_provider_seedream.apixo.exchange import Timing
from airflow_provider_seedream.apixo.request import GenerateRequest
from airflow_provider_seedream.hooks.seedream import SeedreamHook
from airflow_provider_seedream.operators.seedream import SeedreamGenerateOperator, SeedreamSubmitOperator
from tests.support.airflow_tries import TaskTries
from tests.support.apixo import Apixo

QUICK: dict[str, Any] = {"first_poll": 0.0, "poll_interval": 0.05}
"""No pauses before and between the polls."""

AnyTask = Callable[..., TaskTries]
"""Makes one of the tasks that buy, given its parameters."""


def generate(state_store: bool = True, **fixed: Any) -> TaskTries:
    """Return a Generate task with these parameters."""

    def make(**changes: Any) -> SeedreamGenerateOperator:
        return SeedreamGenerateOperator(
            **{"task_id": "generate", "prompt": "a fox", **QUICK, **fixed, **changes}
        )

    return TaskTries(make, state_store=state_store)


def submit(state_store: bool = True, **fixed: Any) -> TaskTries:
    """Return a Submit task with these parameters."""

    def make(**changes: Any) -> SeedreamSubmitOperator:
        return SeedreamSubmitOperator(**{"task_id": "submit", "prompt": "a fox", **fixed, **changes})

    return TaskTries(make, state_store=state_store)


def task_id_of(result: Any) -> str:
    """Return APIXO's taskId in what a task that buys returns."""
    return str(result if isinstance(result, str) else result["seedream_task_id"])


def bought(apixo: Apixo) -> list[str]:
    """Return the taskIds of all purchases, in their order."""
    return [task["taskId"] for task in apixo.tasks()]


def no_pauses() -> Any:
    """Let no time pass between the polls of a task that is not known."""
    return mock.patch("airflow_provider_seedream.purchases.earlier_tries.UNKNOWN_PAUSE", 0.0)


def wait_until_finished(apixo: Apixo) -> None:
    """Wait until the sandbox's one task has ended."""
    hook = SeedreamHook()
    while not hook.get_status(bought(apixo)[0]).finished:
        pass


def assert_one_purchase(apixo: Apixo, result: Any) -> None:
    """Check that a result is that of the only purchase there was."""
    assert bought(apixo) == [task_id_of(result)]


def charged(apixo: Apixo) -> Decimal:
    """Return the USD that the sandbox kept, in all."""
    account = apixo.ledger()["accounts"][apixo.key]
    return Decimal(str(account["charged"])) - Decimal(str(account["refunded"]))


@contextmanager
def nothing_is_kept_after(task: TaskTries, writes: int) -> Iterator[None]:
    """Let the state store take so many writes and then fail."""
    task.store.refuses_after = writes
    with mock.patch("time.sleep"):
        yield
    task.store.refuses_after = None


def buy_finished() -> str:
    """Return the taskId of a generation that has just delivered."""
    hook = SeedreamHook()
    hook._timing = Timing(uniform=lambda low, high: 0.05)
    task_id = hook.submit(GenerateRequest(prompt="a fox"))
    hook.wait(task_id)
    return task_id
