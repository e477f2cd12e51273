"""Keeps accounts, tasks and money: pre-charge at acceptance, refund of what was not delivered.

Money that leaves an account is ``charged``, money that comes back is ``refunded``: what an account paid in
the end is the difference. Refunds are booked whenever anybody asks, so they need no timer and no poll.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from airflow_provider_seedream.sandbox import tasks
from airflow_provider_seedream.sandbox.envelope import RefusedCall
from airflow_provider_seedream.sandbox.tasks import Task


@dataclass(slots=True)
class LedgerAccount:
    """The money of one API key, in USD."""

    deposit: Decimal
    charged: Decimal = Decimal(0)
    refunded: Decimal = Decimal(0)

    @property
    def balance(self) -> Decimal:
        """USD left."""
        return self.deposit - self.charged + self.refunded


@dataclass(slots=True)
class LedgerEntry:
    """A task and what happened around it: polls, in epoch seconds, and callback deliveries."""

    task: Task
    poll_times: list[float] = field(default_factory=list)
    callbacks: list[dict[str, Any]] = field(default_factory=list)


class Ledger:
    """All accounts and tasks of one sandbox.

    :param deposit: what every new account starts with, in USD.
    """

    def __init__(self, deposit: Decimal) -> None:
        self._deposit = deposit
        self._accounts: dict[str, LedgerAccount] = {}
        self._entries: dict[str, LedgerEntry] = {}
        self._open: list[tuple[float, str]] = []  # a heap: the next task to end comes first

    def open_account(self, key: str, now: float) -> LedgerAccount:
        """Return the account of a key, opened at its first use."""
        self._settle(now)
        return self._accounts.setdefault(key, LedgerAccount(self._deposit))

    def book(self, task: Task) -> LedgerEntry:
        """Accept a task and take its pre-charge.

        :raises RefusedCall: 402 when the balance does not cover it; nothing is charged then.
        """
        account = self.open_account(task.key, task.created_at)
        if account.balance < task.precharge:
            raise RefusedCall(402, f"Balance {account.balance} USD does not cover {task.precharge} USD")
        account.charged += task.precharge
        heapq.heappush(self._open, (task.completes_at, task.id))
        entry = self._entries[task.id] = LedgerEntry(task)
        return entry

    def find_task(self, task_id: str) -> Task | None:
        """Return a task, whoever it belongs to."""
        entry = self._entries.get(task_id)
        return entry.task if entry else None

    def find_callback(self, task_id: str, now: float) -> tuple[LedgerEntry, str]:
        """Return a task that has ended and its callback URL.

        :raises RefusedCall: 404 for an unknown task, 400 for one that has not ended or has no callback URL.
        """
        entry = self._entries.get(task_id)
        if entry is None:
            raise RefusedCall(404, "Task not found")
        url = entry.task.order.callback_url
        if url is None or now < entry.task.completes_at:
            raise RefusedCall(
                400, "The task has no callback_url" if url is None else "The task has not ended"
            )
        return entry, url

    def poll(self, key: str, model_id: str, task_id: str, now: float) -> Task:
        """Return a task to its owner; the poll is counted.

        :raises RefusedCall: 404 for an unknown task and for one of another account or model.
        """
        entry = self._entries.get(task_id)
        if entry is None or entry.task.key != key or entry.task.order.model.id != model_id:
            raise RefusedCall(404, "Task not found")
        entry.poll_times.append(now)
        return entry.task

    def report(self, now: float) -> dict[str, Any]:
        """Return accounts and tasks as JSON; money in USD, times in epoch seconds."""
        self._settle(now)
        return {
            "accounts": {key: _account_to_json(account) for key, account in self._accounts.items()},
            "tasks": [_entry_to_json(entry, now) for entry in self._entries.values()],
        }

    def _settle(self, now: float) -> None:
        while self._open and self._open[0][0] <= now:
            task = self._entries[heapq.heappop(self._open)[1]].task
            self._accounts[task.key].refunded += task.refund


def _account_to_json(account: LedgerAccount) -> dict[str, float]:
    return _to_usd(balance=account.balance, charged=account.charged, refunded=account.refunded)


def _entry_to_json(entry: LedgerEntry, now: float) -> dict[str, Any]:
    task = entry.task
    ended = now >= task.completes_at
    return {
        "taskId": task.id,
        "state": tasks.find_state(task, now),
        "requested": task.order.max_images,
        "delivered": task.will_deliver if ended else 0,
        **_to_usd(charged=task.precharge, refunded=task.refund if ended else Decimal(0)),
        "polls": len(entry.poll_times),
        "submitted_at": task.created_at,
        "completed_at": task.completes_at if ended else None,
        "poll_times": entry.poll_times,
        "callback_url": task.order.callback_url,
        "callbacks": entry.callbacks,
    }


def _to_usd(**amounts: Decimal) -> dict[str, float]:
    """Return exact amounts as JSON numbers; JSON has no decimals, so this is the last step."""
    return {name: float(amount) for name, amount in amounts.items()}
