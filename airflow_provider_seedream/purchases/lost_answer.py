"""What a callback tells of a submission whose answer was lost: the taskId of what was paid for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_seedream.errors import PollFailedError

if TYPE_CHECKING:
    from airflow_provider_seedream.hooks.seedream import SeedreamHook
    from airflow_provider_seedream.purchases.journal import Intent
    from airflow_provider_seedream.purchases.journal_store import JournalStore

CALLBACK_SECONDS = 900.0
"""After a submission, while a callback may still name its task: the vendor gives up a generation after 180 s,
and repeats a delivery up to 3 times."""

CLOCKS_APART = 60.0
"""Seconds by which APIXO's clock may be behind the worker's."""


def may_still_come(intent: Intent | None, now: float) -> bool:
    """Whether a callback may yet name what a submission has bought.

    :param intent: the submission.
    :param now: epoch seconds.
    """
    return intent is not None and intent.callback_digest is not None and now < intent.at + CALLBACK_SECONDS


def task_named(intent: Intent | None, store: JournalStore, hook: SeedreamHook, model: str) -> str | None:
    """The taskId that a callback has named for a lost answer, if APIXO confirms that the task is ours.

    :param intent: the submission.
    :raises PollFailedError: APIXO cannot be asked at the moment.
    """
    note = store.note(intent.callback_digest) if intent and intent.callback_digest else None
    if intent is None or note is None:
        return None
    try:
        status = hook.get_status(note.seedream_task_id, model)
    except PollFailedError as error:
        if error.retryable:
            raise
        hook.log.warning("A callback named task %r: %s", note.seedream_task_id, error)
        return None
    if (status.created_at or intent.at) < intent.at - CLOCKS_APART:
        hook.log.warning("A callback named task %r, which is older.", note.seedream_task_id)
        return None
    hook.log.info("The answer to the submission was lost; a callback has told it.")
    return status.task_id
