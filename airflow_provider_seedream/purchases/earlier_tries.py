"""Asks what has become of the purchases of earlier tries, and keeps those that are worth waiting for."""

from __future__ import annotations

import time
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING

from airflow_provider_seedream.apixo.verdict import Verdict, make_task_failed_error
from airflow_provider_seedream.errors import Kind, PollFailedError, SeedreamError
from airflow_provider_seedream.purchases.spending import sum_costs

if TYPE_CHECKING:
    from airflow_provider_seedream.apixo.records import Submission
    from airflow_provider_seedream.apixo.status import TaskStatus
    from airflow_provider_seedream.hooks.seedream import SeedreamHook
    from airflow_provider_seedream.purchases.journal_store import JournalStore
    from airflow_provider_seedream.purchases.terms import Terms

UNKNOWN_GRACE_SECONDS = 60.0
"""A task that was accepted less than this ago may be unknown to the API for a moment."""

UNKNOWN_POLLS = 3
"""How often APIXO must say that it does not know a task before that is believed, and paid for."""

UNKNOWN_PAUSE = 2.0
"""Seconds between these polls."""


class _Fate(Enum):
    """The state of a purchase of an earlier try."""

    ALIVE = "has delivered, or may still do so"
    FAILED = "failed, and was refunded"
    UNKNOWN = "is not known to the API"


class EarlierTries:
    """The purchases of one Airflow task's earlier tries.

    :param verdicts: how purchases ended, by taskId; what is learned here is added.
    """

    def __init__(
        self, hook: SeedreamHook, terms: Terms, store: JournalStore, verdicts: dict[str, Verdict]
    ) -> None:
        self._hook = hook
        self._terms = terms
        self._store = store
        self._verdicts = verdicts

    def keep_alive_ones(self) -> bool:
        """Ask for each purchase, and forget those that failed or are unknown; tell whether one is left.

        Top-ups are nothing without the main purchase.

        :raises TaskFailedError: the main task failed in a way that buying it anew cannot help.
        """
        purchases = self._store.journal.purchases
        fates = {one.seedream_task_id: self._ask_fate(one) for one in purchases}
        lost_main = fates[purchases[0].seedream_task_id] is not _Fate.ALIVE
        failed = [task_id for task_id, fate in fates.items() if fate is _Fate.FAILED]
        gone = [task_id for task_id, fate in fates.items() if lost_main or fate is _Fate.UNKNOWN]
        journal = self._store.journal.without(failed, refunded=True)
        self._store.journal = journal.without(gone, refunded=False)
        return bool(self._store.journal.purchases)

    def turn_to(self, fingerprint: str) -> None:
        """Begin anew for another request than that of the record, if there is a record."""
        journal = self._store.journal
        if journal.purchases or journal.intent:
            self._hook.log.warning(
                "An earlier try was about another request, so this one is bought. Bought before: %s.",
                journal.summary,
            )
        if self._terms.has_budget:
            self._ask_costs()
        self._store.journal = journal.for_request(fingerprint, sum_costs(journal, self._verdicts))
        self._verdicts.clear()

    def remember(self, status: TaskStatus) -> None:
        """Keep how a purchase ended, if it has."""
        if verdict := Verdict.from_status(status):
            self._verdicts[status.task_id] = verdict

    def _ask_costs(self) -> None:
        """Ask how the purchases ended; one that does not tell counts with its pre-charge."""
        for one in self._store.journal.purchases:
            with suppress(SeedreamError):
                self.remember(self._hook.get_status(one.seedream_task_id, one.model))

    def _ask_fate(self, submission: Submission) -> _Fate:
        """Ask what has become of a purchase, and remember how it ended."""
        task_id = submission.seedream_task_id
        for poll in range(UNKNOWN_POLLS):
            if poll:
                time.sleep(UNKNOWN_PAUSE)
            try:
                status = self._hook.get_status(task_id, submission.model)
            except PollFailedError as error:
                if not _is_unknown(error, submission):
                    self._hook.log.warning("%s Waiting on.", error)
                    return _Fate.ALIVE
                self._hook.log.warning("%s", error)
                continue
            return self._read_fate(status)
        self._hook.log.warning("APIXO does not know task %s (any more). It is submitted anew.", task_id)
        return _Fate.UNKNOWN

    def _read_fate(self, status: TaskStatus) -> _Fate:
        self.remember(status)
        if not status.finished or status.succeeded:
            return _Fate.ALIVE
        error = make_task_failed_error(status, self._terms.retryable_codes)
        is_main = status.task_id == self._store.journal.purchases[0].seedream_task_id
        if is_main and not error.retryable:
            raise error
        self._hook.log.warning("%s It is submitted anew.", error)
        return _Fate.FAILED


def _is_unknown(error: SeedreamError, submission: Submission) -> bool:
    """Tell whether APIXO itself says that there is no such task, and it is not just too early to tell."""
    age = time.time() - (submission.submitted_at or 0.0)
    return error.cause.kind is Kind.NOT_FOUND and age > UNKNOWN_GRACE_SECONDS
