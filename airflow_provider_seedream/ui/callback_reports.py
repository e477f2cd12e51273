"""What the log says of callbacks: a line for each that is new, one a minute for what strangers send."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from airflow_provider_seedream.metrics import count_delivery, count_refusal

if TYPE_CHECKING:
    from airflow_provider_seedream.callbacks.delivery import Delivery
    from airflow_provider_seedream.callbacks.token import CallbackToken
    from airflow_provider_seedream.ui.callback_desk import Receipt

log = logging.getLogger(__name__)

MINUTE = 60.0
_MAX_CHARACTERS = 300


class Reports:
    """Of one process; what comes from outside is quoted, so that nobody can forge a line.

    :param seconds: between two lines of the same kind.
    :param clock: seconds, from any start.
    """

    def __init__(self, *, seconds: float = MINUTE, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._refusals: Counter[str] = Counter()
        self._quiet_until = float("-inf")

    def accepted(self, token: CallbackToken, delivery: Delivery, receipt: Receipt) -> None:
        """A delivery was recorded, or had been."""
        outcome = _outcome(receipt)
        count_delivery(outcome)
        # What may be sent any number of times must not fill the log.
        is_new = delivery.is_final and not receipt.repeated
        log.log(
            logging.INFO if is_new else logging.DEBUG,
            "Callback for %s: APIXO task %r is said to be %r; %s",
            _named(token),
            delivery.seedream_task_id,
            delivery.state,
            outcome,
        )

    def resumed_later(self, token: CallbackToken, receipt: Receipt) -> None:
        """A task that was not ready for its callback was resumed."""
        log.info("The callback for %s has resumed %d task(s) now", _named(token), receipt.resumed)

    def refused(self, reason: str) -> None:
        """A request was refused; the log has their number, once a minute.

        :param reason: a word of ours.
        """
        count_refusal(reason)
        if not self._refusals:
            asyncio.get_running_loop().call_later(self._seconds, self._write_refusals)
        self._refusals[reason] += 1

    def troubled(self, error: Exception, token: CallbackToken) -> None:
        """The database could not be asked; the log has the first such error of a minute."""
        if self._clock() < self._quiet_until:
            return
        self._quiet_until = self._clock() + self._seconds
        text = repr(str(error)).replace(token.nonce, "***")
        log.warning(
            "Callbacks cannot be recorded at the moment, and APIXO is asked to repeat them: %s: %s",
            type(error).__name__,
            text[:_MAX_CHARACTERS],
        )

    def _write_refusals(self) -> None:
        by_reason = ", ".join(f"{reason} {number}" for reason, number in self._refusals.most_common())
        total = self._refusals.total()
        self._refusals.clear()
        log.info("%d callbacks were refused in the last %g s: %s", total, self._seconds, by_reason)


def _outcome(receipt: Receipt) -> str:
    if receipt.resumed:
        return "resumed"
    return "repeated" if receipt.repeated else "parked"


def _named(token: CallbackToken) -> str:
    task = token.task
    return f"dag {task.dag_id!r}, run {task.run_id!r}, task {task.task_id!r}, map index {task.map_index}"
