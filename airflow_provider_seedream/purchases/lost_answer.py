"""Settles a submission whose answer nobody recorded: waits, learns the taskId from a callback, gives up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from airflow_provider_seedream.errors import AmbiguousSubmitError, PollFailedError

if TYPE_CHECKING:
    from airflow_provider_seedream.hooks.seedream import SeedreamHook
    from airflow_provider_seedream.purchases.journal import Intent
    from airflow_provider_seedream.purchases.journal_store import JournalStore
    from airflow_provider_seedream.purchases.terms import Terms

CALLBACK_SECONDS = 900.0
"""After a submission, while a callback may still name its task: the vendor gives up a generation after 180 s,
and repeats a delivery up to 3 times."""

CLOCKS_APART = 60.0
"""Seconds by which APIXO's clock may be behind the worker's."""

ANSWER_PAUSE = 2.0
"""Seconds between two readings of the record of a submission that may still be on its way."""


def may_be_told_later(intent: Intent | None, now: float) -> bool:
    """Tell whether a callback may yet name what a submission has bought.

    :param intent: the submission.
    :param now: epoch seconds.
    """
    return intent is not None and intent.callback_digest is not None and now < intent.at + CALLBACK_SECONDS


def may_be_on_its_way(intent: Intent, request_timeout: float, now: float) -> bool:
    """Tell whether another worker may still be about to record the answer.

    :param request_timeout: seconds that one HTTP request may take.
    :param now: epoch seconds.
    """
    return now < intent.at + request_timeout


class LostAnswers:
    """One Airflow task's submission without an answer, which its journal calls the intent."""

    def __init__(self, hook: SeedreamHook, terms: Terms, store: JournalStore) -> None:
        self._hook = hook
        self._terms = terms
        self._store = store

    def wait(self, model: str) -> str | None:
        """Leave another worker, which Airflow took for dead, the time to record what it is just buying.

        :returns: the taskId, where a callback has told it.
        :raises PollFailedError: a callback has, and APIXO cannot be asked at the moment.
        """
        while (task_id := self.find_task(model)) is None:
            intent = self._store.journal.intent
            timeout = self._hook.account.request_timeout
            if intent is None or not may_be_on_its_way(intent, timeout, time.time()):
                return None
            time.sleep(ANSWER_PAUSE)
            self._store.load()
        return task_id

    def find_task(self, model: str) -> str | None:
        """Return the taskId that a callback has named for the intent, if APIXO confirms that it is ours.

        :raises PollFailedError: APIXO cannot be asked at the moment.
        """
        intent = self._store.journal.intent
        digest = intent.callback_digest if intent else None
        delivery = self._store.read_delivery(digest) if digest else None
        if intent is None or delivery is None:
            return None
        log = self._hook.log
        try:
            status = self._hook.get_status(delivery.seedream_task_id, model)
        except PollFailedError as error:
            if error.retryable:
                raise
            log.warning("A callback named task %r: %s", delivery.seedream_task_id, error)
            return None
        if (status.created_at or intent.at) < intent.at - CLOCKS_APART:
            log.warning("A callback named task %r, which is older.", delivery.seedream_task_id)
            return None
        log.info("The answer to the submission was lost; a callback has told it.")
        return status.task_id

    def settle(self) -> None:
        """Decide about a submission of an earlier try, if there is one whose answer nobody recorded.

        :raises AmbiguousSubmitError: it is not to be repeated.
        """
        intent = self._store.journal.intent
        if intent is None:
            return
        detail = (
            f"an earlier try ended between sending it and recording the answer; {intent.charge} USD at most"
        )
        self.write_off(AmbiguousSubmitError(detail, intent.balance, self._hook.try_balance()))

    def write_off(self, error: AmbiguousSubmitError) -> None:
        """Count a lost answer as spent, so that its request may be submitted again.

        :param error: that tells of it.
        :raises AmbiguousSubmitError: the same, where it is not to be repeated.
        """
        if self._terms.on_ambiguous_submit == "fail":
            error.callback_may_tell = may_be_told_later(self._store.journal.intent, time.time())
            raise error from None
        self._hook.log.warning("%s Submitting again, since on_ambiguous_submit is 'resubmit'.", error)
        self._store.journal = self._store.journal.written_off()
