"""Keeps an Airflow task's journal of purchases: across its tries where Airflow can, else within the try."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_seedream.airflow_compat import find_task_state_store
from airflow_provider_seedream.callbacks.delivery import DeliveryRecord, find_delivery, make_delivery_key
from airflow_provider_seedream.errors import RecordError
from airflow_provider_seedream.purchases.journal import UNKNOWN_REQUEST, Journal, is_cleared

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.sdk.types import Logger

KEY = "seedream_journal"
"""Key in the task state store (Airflow 3.3+), or in XCom where there is none."""

SAVE_ATTEMPTS = 3
_PAUSE = 1.0


class _Backend(Protocol):
    def get(self, key: str) -> Any: ...

    def set(self, key: str, value: Any) -> None: ...


class _XCom:
    """Lasts as long as the try, its deferrals included; Airflow wipes it before the next one."""

    def __init__(self, ti: Any) -> None:
        self._ti = ti

    def get(self, key: str) -> Any:
        ti = self._ti
        return ti.xcom_pull(task_ids=ti.task_id, key=key, map_indexes=ti.map_index)

    def set(self, key: str, value: Any) -> None:
        self._ti.xcom_push(key=key, value=value)


class JournalStore:
    """One Airflow task's journal, as it stands now and as Airflow keeps it.

    :param durable: whether to use the task state store, which Airflow has from 3.3 on.
    """

    def __init__(self, context: Context, *, durable: bool, log: Logger) -> None:
        store = find_task_state_store(context) if durable else None
        ti: Any = context["ti"]
        self._backend: _Backend = _XCom(ti) if store is None else store
        self._log = log
        self._max_tries: int = getattr(ti, "max_tries", 0) or 0
        self._is_kept = True
        self.survives_retries = store is not None
        self.journal = Journal(max_tries=self._max_tries, fingerprint=UNKNOWN_REQUEST)

    @property
    def record_lasts(self) -> bool:
        """True where a retry of the Airflow task finds what was bought."""
        return self.survives_retries and self._is_kept

    def load(self) -> None:
        """Read what was bought by earlier tries, unless the user has cleared the task since.

        :raises RecordError: there is a record, and it cannot be read; that is another thing than none.
        """
        try:
            record = self._backend.get(KEY)
        except Exception as error:
            raise RecordError(
                f"Airflow does not tell what this task has bought before ({_describe(error)}).",
                "Nothing is bought until it does.",
                retryable=True,
            ) from error
        if record is None:
            return
        if is_cleared(record, self._max_tries):
            self._log.info(
                "The task was cleared, so what it bought before does not count: %s", _list_task_ids(record)
            )
            return
        self.journal = _parse(record)

    def record_before_spending(self, journal: Journal) -> None:
        """Keep a journal before money is spent.

        :raises RecordError: it could not be kept.
        """
        try:
            self._backend.set(KEY, journal.to_json())
        except Exception as error:
            raise RecordError(
                f"Airflow does not keep the record of a purchase ({_describe(error)}).",
                "Nothing is bought until it does.",
                retryable=True,
            ) from error
        self.journal = journal

    def record_purchases(self, journal: Journal) -> None:
        """Keep a journal after money was spent, when failing would help nobody."""
        self.journal = journal
        self._is_kept = self._try_to_write()

    def record_withdrawal(self) -> None:
        """Keep that what was intended was not bought; where that cannot be kept, the next try finds out."""
        self.journal = self.journal.withdrawn()
        self._try_to_write()

    def retry_recording(self) -> None:
        """Keep the purchases that could not be kept before, if there are any."""
        if not self._is_kept:
            self._is_kept = self._try_to_write()

    def read_delivery(self, digest: str) -> DeliveryRecord | None:
        """Return what the api-server has recorded of a purchase's callback, if it has, and it can be read.

        :param digest: of the callback's nonce.
        """
        try:
            return find_delivery([self._backend.get(make_delivery_key(digest))], digest)
        except Exception as error:  # noqa: BLE001 - a callback only makes things quicker
            self._log.warning("Airflow does not tell whether a callback has come: %s", _describe(error))
            return None

    def _try_to_write(self) -> bool:
        for attempt in range(1, SAVE_ATTEMPTS + 1):
            try:
                self._backend.set(KEY, self.journal.to_json())
                return True
            except Exception as error:  # noqa: BLE001 - whatever it is, the purchase has happened
                self._log.warning(
                    "Attempt %d of %d to record the purchase failed: %s", attempt, SAVE_ATTEMPTS, error
                )
            if attempt < SAVE_ATTEMPTS:
                time.sleep(_PAUSE)
        return False


def _parse(record: Any) -> Journal:
    try:
        return Journal.from_json(record)
    except ValueError as error:
        raise RecordError(
            f"The record of what this task has bought before cannot be read ({error}).",
            f"Find its taskId in the logs of the earlier tries. Delete the task's state {KEY!r}, or "
            "use durable=False once, to buy anew.",
            retryable=False,
        ) from None


def _list_task_ids(record: Any) -> list[Any]:
    """Return the taskIds in a record, whatever else it is."""
    purchases = record.get("purchases")
    found = purchases if isinstance(purchases, list) else []
    return [one.get("seedream_task_id") for one in found if isinstance(one, dict)]


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
