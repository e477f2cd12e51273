"""Decides when Airflow tries again, by the kind of the failure (Airflow 3.3+)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_seedream.airflow_compat import import_retry_policies
from airflow_provider_seedream.errors import (
    AmbiguousSubmitError,
    ChargedError,
    Kind,
    SeedreamError,
    TaskFailedError,
)
from airflow_provider_seedream.times import to_seconds

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, RetryDecision, RetryPolicy
else:
    RetryDecision, RetryPolicy = import_retry_policies()

DEFAULT_BASE = {Kind.RATE_LIMIT: 60.0, Kind.TRANSIENT: 20.0, Kind.UNKNOWN: 60.0}
"""Seconds before the second try; doubled for each further one."""

CARRY_ON_SECONDS = 10.0
"""Polling what is paid for costs nothing, so it need not wait long."""

LOST_ANSWER_SECONDS = 180.0
"""After which a callback has come, if it comes: the vendor's provider gives up a generation then."""


class SeedreamRetryPolicy(RetryPolicy):
    """Turns what APIXO said into the delay of a retry; for the ``retry_policy`` of a task with this provider.

    ``Retry-After`` is kept to. Without it, a throttled submission waits 60 s, a passing fault 20 s, an
    unknown one 60 s, each doubled per try up to ``max_delay``; what only polls a paid task waits
    10 s, and 180 s where a callback may yet tell what became of a lost answer. What no retry can help
    fails at once, in plain Python tasks with the hook, too. Other exceptions are left to the task's own
    ``retry_delay``.

    :param max_delay: longest delay chosen here, in seconds or as a timedelta; APIXO may ask for more.
    """

    def __init__(self, max_delay: float | timedelta = 900.0) -> None:
        self.max_delay = float(to_seconds(max_delay))

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,
        context: Context | None = None,
    ) -> RetryDecision:
        """Decide about one failure; called by Airflow in the worker."""
        if not isinstance(exception, SeedreamError):
            return RetryDecision.default()
        if not exception.retryable:
            return RetryDecision.fail(reason=f"{exception.cause.meaning}: a retry cannot help")
        delay = self._choose_delay(exception, try_number)
        return RetryDecision.retry(delay=timedelta(seconds=delay), reason=exception.cause.meaning)

    def _choose_delay(self, error: SeedreamError, try_number: int) -> float:
        if error.retry_after is not None:
            return max(1.0, error.retry_after)
        if isinstance(error, AmbiguousSubmitError) and error.callback_may_tell:
            return LOST_ANSWER_SECONDS
        if isinstance(error, ChargedError) and not isinstance(error, TaskFailedError):
            return CARRY_ON_SECONDS
        base = DEFAULT_BASE.get(error.cause.kind, DEFAULT_BASE[Kind.UNKNOWN])
        return float(min(self.max_delay, base * 2 ** min(max(0, try_number - 1), 16)))

    def serialize(self) -> dict[str, Any]:
        """Return the arguments, JSON-safe."""
        return {"max_delay": self.max_delay}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> SeedreamRetryPolicy:
        """Make the policy again: the reverse of :meth:`serialize`."""
        return cls(**data)
