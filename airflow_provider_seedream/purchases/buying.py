"""Submits a request: checks what it may cost, records the intent before the POST, and the taskId after."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_provider_seedream.apixo.records import SUBMISSION_KEY, Submission
from airflow_provider_seedream.apixo.request import GenerateRequest
from airflow_provider_seedream.apixo.rules import CALLBACK
from airflow_provider_seedream.callbacks.address import add_callback
from airflow_provider_seedream.errors import AmbiguousSubmitError, NotChargedError
from airflow_provider_seedream.hooks.seedream import check_sendable
from airflow_provider_seedream.purchases.journal import Intent
from airflow_provider_seedream.purchases.spending import check_balance, check_budget, sum_spent
from airflow_provider_seedream.urls import TaskAddress

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_seedream.apixo.verdict import Verdict
    from airflow_provider_seedream.hooks.seedream import SeedreamHook
    from airflow_provider_seedream.purchases.journal_store import JournalStore
    from airflow_provider_seedream.purchases.lost_answer import LostAnswers
    from airflow_provider_seedream.purchases.terms import Terms


MAX_TOP_UPS = 3
"""How often missing images are bought at most."""


def make_top_up(
    submissions: Sequence[Submission], verdicts: Mapping[str, Verdict], missing: int, log: Logger
) -> GenerateRequest | None:
    """Return the request for images that did not come; ``None`` where they are not to be bought.

    :param submissions: the main one first.
    :param missing: number of images.
    """
    main, last = submissions[0], verdicts[submissions[-1].seedream_task_id]
    if len(submissions) > MAX_TOP_UPS or not (last.status and last.status.succeeded):
        return None
    if main.request is None:
        log.warning("What was asked for is not known (any more), so it is not topped up.")
        return None
    if main.request.get("sequential_image_generation") == "auto":
        log.info("A connected set may have fewer images than asked for; it is not topped up.")
        return None
    order = {**main.request, "max_images": missing, "model": main.model, "provider": main.provider}
    return GenerateRequest(**order)


class Buyer:
    """Buys for one Airflow task.

    :param ti: the task instance.
    :param verdicts: of the purchases that are known to have ended, by taskId.
    """

    def __init__(
        self,
        hook: SeedreamHook,
        ti: Any,
        terms: Terms,
        store: JournalStore,
        lost_answers: LostAnswers,
        verdicts: Mapping[str, Verdict],
    ) -> None:
        self._hook = hook
        self._ti = ti
        self._terms = terms
        self._store = store
        self._lost_answers = lost_answers
        self._verdicts = verdicts
        self._warned = False

    def add_routing(self, request: GenerateRequest) -> GenerateRequest:
        """Return the request with the connection's routing, where it names none of its own."""
        provider = self._hook.account.provider
        return replace(request, provider=provider) if request.provider is None and provider else request

    def buy(self, request: GenerateRequest) -> None:
        """Submit, with the intent recorded before and the taskId after; this spends money.

        :raises NotChargedError: budget or balance do not allow it, or APIXO refused it.
        :raises AmbiguousSubmitError: the answer was lost; a charge may have happened.
        """
        request = self.add_routing(request)
        check_sendable(request, self._hook.account)
        self._warn_if_no_record_lasts()
        self.record(request, self._submit(request))

    def record(self, request: GenerateRequest, task_id: str) -> None:
        """Record what APIXO has accepted.

        :param request: as sent.
        """
        intent = self._store.journal.intent
        submission = replace(
            Submission.of(
                request, task_id, price_per_image=self._hook.account.price_per_image, now=time.time()
            ),
            callback_digest=intent.callback_digest if intent else None,
        )
        # Logged first: if the record cannot be kept, the log still has the taskId.
        self._hook.log.info("APIXO accepted task %s and pre-charged %s USD.", task_id, submission.charged)
        self._store.record_purchases(self._store.journal.record(submission))
        if len(self._store.journal.purchases) == 1:
            self.push(submission)

    def push(self, submission: Submission) -> None:
        """Push the main submission to XCom, where the sensor and the gallery find it."""
        self._ti.xcom_push(key=SUBMISSION_KEY, value=submission.to_json())

    def _submit(self, request: GenerateRequest) -> str:
        try:
            return self._post(request)
        except AmbiguousSubmitError as error:
            if error.seedream_task_id:
                self._hook.log.warning("%s", error)
                return error.seedream_task_id
            if task_id := self._lost_answers.find_task(request.model):
                return task_id
            self._lost_answers.write_off(error)
        try:
            return self._post(request)
        except AmbiguousSubmitError as error:
            error.resubmits = True
            raise

    def _post(self, request: GenerateRequest) -> str:
        request, digest = self._add_callback_url(request)
        charge = request.compute_max_cost(self._hook.account.price_per_image)
        check_budget(charge, sum_spent(self._store.journal, self._verdicts), self._terms.limit)
        balance = self._read_balance(charge)
        self._hook.log.info(
            "Submitting %d image(s), %s %s, to %s; at most %s USD.",
            request.max_images, request.resolution, request.mode, request.model, charge,
        )  # fmt: skip
        intent = Intent(
            fingerprint=request.fingerprint,
            at=time.time(),
            charge=charge,
            balance=balance,
            callback_digest=digest,
        )
        self._store.record_before_spending(self._store.journal.intending(intent))
        try:
            return self._hook.submit(request, balance=balance, read_balance=False)
        except NotChargedError:
            self._store.record_withdrawal()
            raise

    def _add_callback_url(self, request: GenerateRequest) -> tuple[GenerateRequest, str | None]:
        """Return the request with the URL that APIXO calls, and the digest in it, where that is Airflow's."""
        own_url, ti = self._terms.callback_url, self._ti
        if own_url is not None:
            return replace(request, request_type=CALLBACK, callback_url=own_url), None
        # Without a record that lasts, a callback could not be told from a forged one; a worker may be older
        # than the DAG processor, which has let this pass.
        if not self._terms.calls_airflow or not self._store.survives_retries:
            return request, None
        task = TaskAddress(ti.dag_id, ti.run_id, ti.task_id, ti.map_index)
        return add_callback(request, task, self._hook.account, self._hook.seedream_conn_id)

    def _read_balance(self, charge: Decimal) -> Decimal | None:
        """Return the USD on the key before a submission; where the terms say so, they must cover it."""
        if not self._terms.check_balance:
            return self._hook.try_balance()
        balance = self._hook.get_balance()
        check_balance(charge, balance)
        return balance

    def _warn_if_no_record_lasts(self) -> None:
        if self._terms.durable and not self._store.survives_retries and not self._warned:
            self._warned = True
            self._hook.log.warning(
                "This Airflow has no task state store (3.3 has): if the worker dies after the submission, "
                "a retry does not find what was bought, and buys again."
            )
