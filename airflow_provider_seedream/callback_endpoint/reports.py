"""Logs and counts callbacks: a line for each that is new, one a minute for what strangers send."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy import exc

from airflow_provider_seedream.callback_endpoint.limits import Busy
from airflow_provider_seedream.metrics import count_delivery, count_refusal

if TYPE_CHECKING:
    from airflow_provider_seedream.callback_endpoint.standing import Reason, ReceiveResult
    from airflow_provider_seedream.callbacks.delivery import Delivery
    from airflow_provider_seedream.callbacks.token import CallbackToken

log = logging.getLogger(__name__)

MINUTE = 60.0
_MAX_CHARACTERS = 300

_PASSING = (Busy, OSError, exc.DBAPIError, exc.TimeoutError)
"""Trouble that says nothing of our own code."""


class Reports:
    """The log of one process; what comes from outside is quoted, so that nobody can forge a line.

    :param seconds: between two lines of the same kind.
    :param clock: seconds, from any start.
    """

    def __init__(self, *, seconds: float = MINUTE, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._refusals: Counter[Reason] = Counter()
        self._quiet_until: dict[str, float] = {}
        self._traced: set[type[Exception]] = set()

    def log_delivery(self, token: CallbackToken, delivery: Delivery, result: ReceiveResult) -> None:
        """Log that a delivery was recorded, or had been."""
        outcome = _name_outcome(delivery, result)
        count_delivery(outcome)
        # What may be sent any number of times must not fill the log.
        is_new = delivery.is_final and not result.repeated
        log.log(
            logging.INFO if is_new else logging.DEBUG,
            "Callback for %s: APIXO task %r is said to be %r; %s",
            token.task.in_words,
            delivery.seedream_task_id,
            delivery.state,
            outcome,
        )

    def log_resumed(self, token: CallbackToken, result: ReceiveResult) -> None:
        """Log that a task that was not ready for its callback was resumed."""
        log.info("The callback for %s has resumed %d task(s) now", token.task.in_words, result.resumed)

    def log_left_to_polling(self) -> None:
        """Log, once a minute, that there was no room to try a task again that was not ready."""
        self._warn_once("Too many tasks are not ready for their callbacks: some are left to polling")

    def log_refusal(self, reason: Reason) -> None:
        """Count a refused request; the log has their number, once a minute."""
        count_refusal(reason.value)
        if not self._refusals:
            asyncio.get_running_loop().call_later(self._seconds, self._write_refusals)
        self._refusals[reason] += 1

    def log_not_recorded(self, error: Exception, token: CallbackToken) -> None:
        """Log, once a minute, that a delivery could not be recorded."""
        self._log_trouble("Callbacks cannot be recorded now, and APIXO is asked to repeat them", error, token)

    def log_not_resumed(self, error: Exception, token: CallbackToken) -> None:
        """Log, once a minute, that a task could not be tried again."""
        self._log_trouble("Tasks whose callbacks are recorded cannot be resumed now", error, token)

    def _log_trouble(self, what: str, error: Exception, token: CallbackToken) -> None:
        kind, text = type(error), repr(str(error)).replace(token.nonce, "***")
        self._warn_once(what, f": {kind.__name__}: {text[:_MAX_CHARACTERS]}")
        if not isinstance(error, _PASSING) and kind not in self._traced:
            self._traced.add(kind)
            # Only where, and not what: messages, also those of causes, may hold what was sent.
            frames = "".join(traceback.format_tb(error.__traceback__))
            log.error("The endpoint of callbacks has a fault, %s at:\n%s", kind.__name__, frames)

    def _warn_once(self, what: str, details: str = "") -> None:
        now = self._clock()
        if now >= self._quiet_until.get(what, now):
            self._quiet_until[what] = now + self._seconds
            log.warning("%s%s", what, details)

    def _write_refusals(self) -> None:
        by_reason = ", ".join(f"{reason} {number}" for reason, number in self._refusals.most_common())
        total = self._refusals.total()
        self._refusals.clear()
        log.info("%d callbacks were refused in the last %g s: %s", total, self._seconds, by_reason)


def _name_outcome(delivery: Delivery, result: ReceiveResult) -> str:
    if result.resumed:
        return "resumed"
    if not delivery.is_final:
        return "unfinished"
    return "repeated" if result.repeated else "parked"
