"""Generate in callback mode, and what the api-server makes of a callback when it comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow.sdk import BaseOperator

from airflow_provider_seedream.callbacks.delivery import make_delivery_key
from airflow_provider_seedream.operators.seedream import SeedreamGenerateOperator
from tests.support.airflow_tries import TaskTries
from tests.support.api_server import ApiServer
from tests.support.apixo import Apixo

LONG = "a fox [[seconds:100000]]"
"""Is not finished before the test."""


def generate_with_callback(**fixed: Any) -> TaskTries:
    """Return a Generate task in callback mode with these parameters."""

    def make(**changes: Any) -> SeedreamGenerateOperator:
        return SeedreamGenerateOperator(
            **{"task_id": "generate", "prompt": "a fox", "request_type": "callback", **fixed, **changes}
        )

    return TaskTries(make)


def leave_delivery(tries: TaskTries, endpoint: ApiServer, number: int = 1) -> None:
    """Record a callback, when it comes, as the api-server does."""
    heard = endpoint.wait_for(number)
    tries.store.set(make_delivery_key(heard.token.digest), heard.record.to_json())


def lose_the_answer(apixo: Apixo) -> None:
    """Let the submission be accepted, and its answer be lost."""
    apixo.fault("/generateTask", drop="after")


def make_with_callback(
    options: dict[str, Any], make: Callable[..., BaseOperator] = SeedreamGenerateOperator
) -> BaseOperator:
    """Return an operator in callback mode with these parameters, as the parsing of a DAG does."""
    return make(**{"task_id": "generate", "prompt": "a fox", "request_type": "callback", **options})
