"""One Airflow task across its tries: what Airflow keeps, wipes and counts between them, as it was seen to do.

``dag.test()`` knows no retries and no clears. The doubles here round-trip through JSON as the real stores
do; that the real ones behave like this is shown by ``tests/faults`` on real processes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.sdk import BaseOperator


class WorkerDied(BaseException):
    """Nothing can catch a SIGKILL, so nothing but the test may catch this."""


@contextmanager
def worker_dies(owner: Any, name: str, *, after: bool = False, at: int = 1) -> Iterator[None]:
    """The worker dies at a call, the first or a later one, or right after it; nobody can catch that."""
    real = getattr(owner, name)
    calls = iter(range(1, at + 1))

    def call(*args: Any, **kwargs: Any) -> Any:
        last = next(calls) == at
        result = real(*args, **kwargs) if after or not last else None
        if last:
            raise WorkerDied(name)
        return result

    with mock.patch.object(owner, name, call), pytest.raises(WorkerDied):
        yield


class Store:
    """The task state store of Airflow 3.3; XCom, where it is wiped."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.fails: Exception | None = None
        self.refuses_after: int | None = None
        self.writes: list[Any] = []

    def get(self, key: str, default: Any = None) -> Any:
        if self.fails:
            raise self.fails
        return json.loads(self.texts[key]) if key in self.texts else default

    def set(self, key: str, value: Any) -> None:
        if self.fails or (self.refuses_after is not None and len(self.writes) >= self.refuses_after):
            raise self.fails or ConnectionError("the store is gone")
        assert value is not None
        self.writes.append(value)
        self.texts[key] = json.dumps(value, allow_nan=False)


class TaskTries:
    """An Airflow task that can be run, retried and cleared.

    :param make: makes the operator, as every parsing of the DAG does.
    :param retries: of the task.
    :param state_store: ``False`` stands for Airflow before 3.3.
    """

    def __init__(
        self, make: Callable[..., BaseOperator], *, retries: int = 2, state_store: bool = True
    ) -> None:
        self._make = make
        self._retries = retries
        self.store: Store = Store()
        self._has_store = state_store
        self.xcom = Store()
        self.max_tries = retries
        self.try_number = 0
        self.deferrals: list[TaskDeferred] = []

    def run(self, **changes: Any) -> Any:
        """The next try, from its start to its end; returns what it pushes to XCom."""
        return self._resume_to_end(*self.run_until_deferral(**changes))

    def run_until_deferral(self, **changes: Any) -> tuple[BaseOperator, Any]:
        """The next try up to its deferral, or to its end."""
        self.try_number += 1
        self.xcom = Store()
        operator = self._make(**changes)
        self._started = datetime.now(tz=UTC)
        return operator, self._segment(lambda: operator.execute(self._context()))

    def resume(self, operator: BaseOperator, event: Any) -> Any:
        """What Airflow does with a trigger's event, and all that follows until the try ends."""
        return self._resume_to_end(operator, self.resume_until_deferral(operator, event))

    def resume_until_deferral(self, operator: BaseOperator, event: Any) -> Any:
        """What Airflow does with a trigger's event, up to the next deferral, or to the end of the try."""
        return self._segment(lambda: operator.execute_complete(self._context(), event))  # type: ignore[attr-defined]

    def resume_without_trigger(self, operator: BaseOperator) -> Any:
        """What Airflow does when a trigger was lost, or its own timeout passed."""
        failure = {"error": "Trigger timeout"}
        return self._segment(lambda: operator.resume_execution("__fail__", failure, self._context()))

    def clear(self, retries: int | None = None) -> None:
        """What a user's clear does (Airflow 3.3.2): ``max_tries`` is set anew, the state store stays.

        :param retries: of the task by now.
        """
        self.max_tries = self.try_number + (self._retries if retries is None else retries)

    def _resume_to_end(self, operator: BaseOperator, outcome: Any) -> Any:
        while isinstance(outcome, TaskDeferred):
            event = asyncio.run(first_event(outcome.trigger))
            outcome = self.resume_until_deferral(operator, json.loads(json.dumps(event)))
        return outcome

    def _segment(self, run: Callable[[], Any]) -> Any:
        try:
            return run()
        except TaskDeferred as deferred:
            self.deferrals.append(deferred)
            return deferred

    def _context(self) -> Any:
        ti = SimpleNamespace(
            dag_id="d",
            run_id="r",
            task_id="generate",
            map_index=-1,
            try_number=self.try_number,
            max_tries=self.max_tries,
            start_date=self._started,
            xcom_push=lambda key, value: self.xcom.set(key, value),
            xcom_pull=lambda task_ids, key, map_indexes=None: self.xcom.get(key),
        )
        return {"ti": ti, "outlets": [], **({"task_state_store": self.store} if self._has_store else {})}


def deferral(outcome: Any) -> dict[str, Any]:
    """The arguments of the trigger on which a task has deferred."""
    assert isinstance(outcome, TaskDeferred), outcome
    return dict(outcome.trigger.serialize()[1])


async def first_event(trigger: Any) -> Any:
    """The payload of a trigger's event."""
    async for event in trigger.run():
        return event.payload
    raise AssertionError("the trigger ended without an event")
