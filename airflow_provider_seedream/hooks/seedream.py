"""Connects an Airflow connection with the API: credentials in, answers out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any, TypeVar

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_seedream.apixo import exchange
from airflow_provider_seedream.apixo.account import Account
from airflow_provider_seedream.apixo.client import ApixoClient, AsyncApixoClient
from airflow_provider_seedream.apixo.exchange import Exchange, Timing
from airflow_provider_seedream.apixo.model import DEFAULT_GENERATION_TIMEOUT, DEFAULT_MODEL, MODELS, Pace
from airflow_provider_seedream.apixo.request import GenerateRequest, check_holds_no_key, check_reachable
from airflow_provider_seedream.apixo.status import TaskStatus
from airflow_provider_seedream.apixo.verdict import Verdict
from airflow_provider_seedream.apixo.watch import Watch
from airflow_provider_seedream.errors import ConnectionConfigError, Kind
from airflow_provider_seedream.hooks.connection import read_account
from airflow_provider_seedream.hooks.connection_form import (
    CONN_TYPE,
    DEFAULT_CONN_ID,
    HOOK_NAME,
    make_form_behaviour,
    make_form_widgets,
)
from airflow_provider_seedream.hooks.shared_client import shared_poll_client
from airflow_provider_seedream.times import to_seconds

T = TypeVar("T")


class SeedreamHook(BaseHook):
    """Speaks to APIXO with the credentials of an Airflow connection.

    Every call exists twice: for plain Python tasks, and with the suffix ``_async`` for event loops.

    :param seedream_conn_id: id of a connection of type ``seedream``.
    """

    conn_name_attr = "seedream_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = CONN_TYPE
    hook_name = HOOK_NAME

    # Airflow before 3.2 asks the hook; later versions read the provider's metadata.
    get_connection_form_widgets = staticmethod(make_form_widgets)
    get_ui_field_behaviour = staticmethod(make_form_behaviour)

    def __init__(self, seedream_conn_id: str = DEFAULT_CONN_ID, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seedream_conn_id = seedream_conn_id
        self._timing = Timing()
        self._known_account: Account | None = None

    @property
    def account(self) -> Account:
        """The account of the connection: where the API is, who asks, and at what price.

        :raises ConnectionConfigError: there is no such connection, no key, or an unusable field.
        """
        if self._known_account is None:
            try:
                conn = self.get_connection(self.seedream_conn_id)
            except Exception as error:
                raise _make_lookup_error(self.seedream_conn_id, error) from error
            self._known_account = read_account(conn)
        return self._known_account

    async def get_account_async(self) -> Account:
        """Return :attr:`account`, on an event loop."""
        from airflow.providers.common.compat.connection import get_async_connection

        if self._known_account is None:
            try:
                conn = await get_async_connection(self.seedream_conn_id, self)
            except Exception as error:
                # Airflow reports a database that is busy as a connection that is missing, and what waits in
                # a triggerer is paid for: a retry may find it.
                raise _make_lookup_error(self.seedream_conn_id, error, Kind.UNKNOWN) from error
            self._known_account = read_account(conn)
        return self._known_account

    # --- the calls -----------------------------------------------------------------------------------

    def submit(
        self, request: GenerateRequest, *, balance: Decimal | None = None, read_balance: bool = True
    ) -> str:
        """Submit a generation; this spends money.

        :param balance: the key's balance in USD, where it was just read.
        :param read_balance: read it first, which is free, where it is not given; the error of a submission
            whose answer gets lost tells it.
        :returns: the API's taskId.
        :raises NotChargedError: the request was refused or never arrived.
        :raises AmbiguousSubmitError: the answer was lost; a charge may have happened.
        """
        check_sendable(request, self.account)
        return self._run(self._make_submission(request, balance, read_balance))

    async def submit_async(
        self, request: GenerateRequest, *, balance: Decimal | None = None, read_balance: bool = True
    ) -> str:
        """Do as :meth:`submit`, on an event loop."""
        account = await self.get_account_async()
        check_sendable(request, account)
        async with AsyncApixoClient(account) as client:
            return await client.run(self._make_submission(request, balance, read_balance))

    def get_status(self, seedream_task_id: str, model: str = DEFAULT_MODEL) -> TaskStatus:
        """Read a task's status.

        :raises PollFailedError: it could not be read.
        """
        return self._run(self._make_status_poll(seedream_task_id, model))

    async def get_status_async(self, seedream_task_id: str, model: str = DEFAULT_MODEL) -> TaskStatus:
        """Do as :meth:`get_status`, on an event loop."""
        return await self._run_async(self._make_status_poll(seedream_task_id, model))

    def get_balance(self) -> Decimal:
        """Return the key's balance in USD; free of charge.

        :raises NotChargedError: it could not be read.
        """
        return self._run(exchange.fetch_balance(timing=self._timing, report=self.log.info))

    def try_balance(self) -> Decimal | None:
        """Ask once for the key's balance in USD; ``None`` where it cannot be read."""
        return self._run(exchange.try_balance(timing=self._timing))

    async def get_balance_async(self) -> Decimal:
        """Do as :meth:`get_balance`, on an event loop."""
        return await self._run_async(exchange.fetch_balance(timing=self._timing, report=self.log.info))

    def wait(
        self,
        seedream_task_id: str,
        *,
        model: str = DEFAULT_MODEL,
        resolution: str = "2K",
        created_at: float | None = None,
        timeout: float | timedelta = DEFAULT_GENERATION_TIMEOUT,
    ) -> TaskStatus:
        """Wait for a task at the model's pace, blocking the calling thread.

        :param created_at: epoch seconds of the submission, where known: the first poll waits for it.
        :param timeout: from now; seconds, or a timedelta (pendulum's, too).
        :returns: the status of a task that delivered at least one image.
        :raises TaskFailedError: the API reports a failure.
        :raises DeadlineError: the timeout passed first.
        :raises PollFailedError: the status could not be read.
        """
        watch = self._start_wait(seedream_task_id, model, resolution, created_at, timeout)
        self.watch([watch], model)
        return Verdict.of(watch).require_success()

    async def wait_async(
        self,
        seedream_task_id: str,
        *,
        model: str = DEFAULT_MODEL,
        resolution: str = "2K",
        created_at: float | None = None,
        timeout: float | timedelta = DEFAULT_GENERATION_TIMEOUT,  # noqa: ASYNC109 - a deadline of the task, not of this call
    ) -> TaskStatus:
        """Do as :meth:`wait`, on an event loop."""
        watch = self._start_wait(seedream_task_id, model, resolution, created_at, timeout)
        await self.watch_async([watch], model)
        return Verdict.of(watch).require_success()

    def test_connection(self) -> tuple[bool, str]:
        """Tell whether host and key are right, in words for a person, within seconds; costs nothing."""
        from airflow_provider_seedream.hooks.probe import probe

        try:
            account = self.account
        except ConnectionConfigError as error:
            # Without the id: Airflow tests a copy of the connection, whose id is random.
            words = f"{error.cause.meaning} {error.cause.remedy}"
            return False, words[:1].upper() + words[1:]
        return probe(account)

    # --- watching ------------------------------------------------------------------------------------

    def start_watch(
        self, seedream_task_id: str, pace: Pace, *, created_at: float | None, deadline: float
    ) -> Watch:
        """Start a watch that polls now, or when the pace says for a task that was just created."""
        return Watch.start(
            seedream_task_id,
            pace,
            created_at=created_at,
            deadline=deadline,
            now=self._timing.now(),
            uniform=self._timing.uniform,
        )

    def watch(self, watches: list[Watch], model: str) -> None:
        """Poll tasks until every watch has its outcome, blocking the calling thread."""
        self._run(exchange.watch(watches, model, timing=self._timing, report=self.log.info))

    async def watch_async(
        self, watches: list[Watch], model: str, report: Callable[[str], None] | None = None
    ) -> None:
        """Do as :meth:`watch`, on an event loop."""
        await self._run_async(
            exchange.watch(watches, model, timing=self._timing, report=report or self.log.info)
        )

    def poll(self, watch: Watch, model: str) -> None:
        """Poll once and tell the watch."""
        self._run(exchange.poll(watch, model, timing=self._timing, report=self.log.info))

    # --- plumbing ------------------------------------------------------------------------------------

    def _make_submission(
        self, request: GenerateRequest, balance: Decimal | None, read_balance: bool
    ) -> Exchange[str]:
        return exchange.submit_with_balances(
            request, before=balance, read_balance=read_balance, timing=self._timing, report=self.log.warning
        )

    def _make_status_poll(self, task_id: str, model: str) -> Exchange[TaskStatus]:
        return exchange.fetch_status(task_id, model, timing=self._timing, report=self.log.info)

    def _start_wait(
        self,
        task_id: str,
        model: str,
        resolution: str,
        created_at: float | None,
        timeout: float | timedelta,
    ) -> Watch:
        pace = MODELS[model].resolutions[resolution].pace
        deadline = self._timing.now() + to_seconds(timeout)
        return self.start_watch(task_id, pace, created_at=created_at, deadline=deadline)

    def _run(self, call: Exchange[T]) -> T:
        with ApixoClient(self.account) as client:
            return client.run(call)

    async def _run_async(self, call: Exchange[T]) -> T:
        async with shared_poll_client(await self.get_account_async()) as client:
            return await client.run(call)


def check_sendable(request: GenerateRequest, account: Account) -> None:
    """Check what can be said against a request only when the account is known.

    :raises InvalidRequestError: it must not be sent to this account.
    """
    check_reachable(request, api_is_local=account.is_local)
    check_holds_no_key(request, account.api_key)


def _make_lookup_error(conn_id: str, error: Exception, kind: Kind = Kind.KEY) -> ConnectionConfigError:
    remedy = f"Add it: airflow connections add {conn_id} --conn-type {CONN_TYPE} --conn-password YOUR_KEY"
    return ConnectionConfigError(f"Connection '{conn_id}' cannot be read ({error}).", remedy, kind)
