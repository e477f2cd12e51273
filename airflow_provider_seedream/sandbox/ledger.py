"""Accounts, tasks and money: pre-charge at acceptance, refund of what was not delivered.

Money that leaves an account is ``charged``, money that comes back is ``refunded``: what an account paid in
the end is the difference. Refunds are booked whenever anybody looks, so they need no timer and no poll.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from airflow_provider_seedream.sandbox import tasks
from airflow_provider_seedream.sandbox.envelope import Refusal
from airflow_provider_seedream.sandbox.tasks import Task


@dataclass(slots=True)
class Account:
    """What one API key has, in USD."""

    deposit: Decimal
    charged: Decimal = Decimal(0)
    refunded: Decimal = Decimal(0)

    @property
    def balance(self) -> Decimal:
        """USD left."""
        return self.deposit - self.charged + self.refunded


@dataclass(slots=True)
class Entry:
    """A task and what happened around it: looks, in epoch seconds, and callback deliveries."""

    task: Task
    poll_times: list[float] = field(default_factory=list)
    callbacks: list[dict[str, Any]] = field(default_factory=list)


class Ledger:
    """All accounts and tasks of one sandbox.

    :param deposit: what every new account starts with, in USD.
    """

    def __init__(self, deposit: Decimal) -> None:
        self._deposit = deposit
        self._accounts: dict[str, Account] = {}
        self._entries: dict[str, Entry] = {}
        self._open: list[tuple[float, str]] = []  # a heap: the next task to end comes first

    def account(self, key: str, now: float) -> Account:
        """The account of a key, opened at its first use."""
        self._settle(now)
        return self._accounts.setdefault(key, Account(self._deposit))

    def book(self, task: Task) -> Entry:
        """Accept a task and take its pre-charge.

        :raises Refusal: 402 when the balance does not cover it; nothing is charged then.
        """
        account = self.account(task.key, task.created_at)
        if account.balance < task.precharge:
            raise Refusal(402, f"Balance {account.balance} USD does not cover {task.precharge} USD")
        account.charged += task.precharge
        heapq.heappush(self._open, (task.completes_at, task.id))
        entry = self._entries[task.id] = Entry(task)
        return entry

    def find(self, task_id: str) -> Task | None:
        """A task, whoever it belongs to."""
        entry = self._entries.get(task_id)
        return entry.task if entry else None

    def called(self, task_id: str, now: float) -> tuple[Entry, str]:
        """A task that has ended and the URL that is called for it.

        :raises Refusal: 404 for an unknown task, 400 for one that has not ended or was not submitted with a
            callback URL.
        """
        entry = self._entries.get(task_id)
        if entry is None:
            raise Refusal(404, "Task not found")
        url = entry.task.order.callback_url
        if url is None or now < entry.task.completes_at:
            raise Refusal(400, "The task has no callback_url" if url is None else "The task has not ended")
        return entry, url

    def poll(self, key: str, model_id: str, task_id: str, now: float) -> Task:
        """A task as its owner asks for it; the look is counted.

        :raises Refusal: 404 for an unknown task and for one of another account or model.
        """
        entry = self._entries.get(task_id)
        if entry is None or entry.task.key != key or entry.task.order.model.id != model_id:
            raise Refusal(404, "Task not found")
        entry.poll_times.append(now)
        return entry.task

    def report(self, now: float) -> dict[str, Any]:
        """Accounts and tasks as JSON; money in USD, times in epoch seconds."""
        self._settle(now)
        return {
            "accounts": {key: _account(account) for key, account in self._accounts.items()},
            "tasks": [_entry(entry, now) for entry in self._entries.values()],
        }

    def _settle(self, now: float) -> None:
        while self._open and self._open[0][0] <= now:
            task = self._entries[heapq.heappop(self._open)[1]].task
            self._accounts[task.key].refunded += task.refund


def _account(account: Account) -> dict[str, float]:
    return _usd(balance=account.balance, charged=account.charged, refunded=account.refunded)


def _entry(entry: Entry, now: float) -> dict[str, Any]:
    task = entry.task
    ended = now >= task.completes_at
    return {
        "taskId": task.id,
        "state": tasks.state(task, now),
        "requested": task.order.max_images,
        "delivered": task.will_deliver if ended else 0,
        **_usd(charged=task.precharge, refunded=task.refund if ended else Decimal(0)),
        "polls": len(entry.poll_times),
        "submitted_at": task.created_at,
        "completed_at": task.completes_at if ended else None,
        "poll_times": entry.poll_times,
        "callback_url": task.order.callback_url,
        "callbacks": entry.callbacks,
    }


def _usd(**amounts: Decimal) -> dict[str, float]:
    """Exact amounts as JSON numbers; JSON has no decimals, so this is the last step."""
    return {name: float(amount) for name, amount in amounts.items()}
