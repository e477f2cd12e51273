"""Buys for one Airflow task, and remembers across its tries what it has bought."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_provider_seedream.apixo.errors import (
    AmbiguousSubmitError,
    BalanceError,
    BudgetError,
    Kind,
    LookFailedError,
    NotChargedError,
    SeedreamError,
    TaskFailedError,
)
from airflow_provider_seedream.apixo.journal import Intent, Journal, NextStep
from airflow_provider_seedream.apixo.records import Submission, result_record
from airflow_provider_seedream.apixo.request import GenerateRequest
from airflow_provider_seedream.apixo.verdict import Verdict, task_failed
from airflow_provider_seedream.hooks.seedream import check_sendable
from airflow_provider_seedream.journal_store import JournalStore
from airflow_provider_seedream.steps import SUBMISSION_KEY

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_seedream.apixo.task import TaskStatus
    from airflow_provider_seedream.hooks.seedream import SeedreamHook

UNKNOWN_GRACE_SECONDS = 60.0
"""A task that was accepted less than this ago may be unknown to the API for a moment."""

MAX_TOP_UPS = 3
"""How often missing images are bought at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On what terms an Airflow task buys.

    :param durable: whether a retry finds what was bought.
    :param on_ambiguous_submit: ``fail`` or ``resubmit``, where a charge may have happened.
    :param max_cost: USD that the Airflow task may spend in all its tries; ``None`` is no limit.
    :param check_balance: whether the key's balance must cover a submission before it is sent.
    :param retryable_codes: normalized failCodes that a retry may help; ``None`` leaves it to the tables.
    """

    durable: bool = True
    on_ambiguous_submit: str = "fail"
    max_cost: Decimal | None = None
    check_balance: bool = False
    retryable_codes: frozenset[str] | None = None


class Purchases:
    """What one Airflow task buys and has bought, the main submission first, then its top-ups.

    :param verdicts: how those ended that are known to have ended, by taskId.
    """

    def __init__(self, hook: SeedreamHook, context: Context, terms: Terms) -> None:
        self._hook = hook
        self._ti: Any = context["ti"]
        self._terms = terms
        self._store = JournalStore(context, durable=terms.durable, log=hook.log)
        self._journal = Journal(max_tries=self._store.max_tries, fingerprint="")
        self.verdicts: dict[str, Verdict] = {}

    @property
    def bought(self) -> tuple[Submission, ...]:
        """What APIXO has accepted and has not failed."""
        return self._journal.purchases

    @property
    def carries_on(self) -> bool:
        """Whether a retry of the Airflow task finds what was bought."""
        return self._store.survives_retries

    @property
    def perhaps_charged(self) -> Decimal | None:
        """USD that submissions without an answer may have cost."""
        open_charge = self._journal.intent.charge if self._journal.intent else Decimal(0)
        return self._journal.lost + open_charge or None

    def as_sent(self, request: GenerateRequest) -> GenerateRequest:
        """The request with the connection's routing, where it names none of its own."""
        provider = self._hook.account.provider
        return replace(request, provider=provider) if request.provider is None and provider else request

    # --- a try begins --------------------------------------------------------------------------------

    def carry_on(self, request: GenerateRequest) -> bool:
        """Whether an earlier try has bought this request, so that nothing needs to be bought.

        A task that failed, or that the API does not know, counts as not bought.

        :raises RecordError: what was bought cannot be read.
        :raises AmbiguousSubmitError: a charge may have happened, and ``on_ambiguous_submit`` is ``fail``.
        :raises TaskFailedError: the task failed in a way that buying it anew cannot help.
        """
        request = self.as_sent(request)
        former = self._store.load()
        step = former.next_step(request.fingerprint) if former else NextStep.BUY
        if former is None or step is NextStep.BUY:
            self._forget(former)
            self._journal = Journal(max_tries=self._store.max_tries, fingerprint=request.fingerprint)
            return False
        self._journal = former
        if step is NextStep.AMBIGUOUS:
            self._settle_intent()
            return False
        return self._find_again(request)

    def resume(self, verdicts: Mapping[str, Verdict]) -> None:
        """Take up what this try bought before it deferred.

        :param verdicts: of the trigger, by taskId.
        """
        self._journal = self._store.load() or self._journal_without_record(verdicts)
        self.verdicts = dict(verdicts)

    def buy(self, request: GenerateRequest) -> Submission:
        """Submit, with the intent recorded before and the taskId after; this spends money.

        :raises NotChargedError: budget or balance do not allow it, or APIXO refused it.
        :raises AmbiguousSubmitError: the answer was lost; a charge may have happened.
        """
        request = self.as_sent(request)
        check_sendable(request, self._hook.account)
        charge = request.max_cost(self._hook.account.price_per_image)
        self._check_budget(charge)
        self._warn_of_what_is_not_protected()
        task_id = self._submit(request, charge)
        return self._record(request, task_id)

    # --- carrying on ---------------------------------------------------------------------------------

    def _find_again(self, request: GenerateRequest) -> bool:
        main = self.bought[0]
        gone = [one.seedream_task_id for one in self.bought if not self._is_alive(one)]
        if main.seedream_task_id in gone:
            gone = [one.seedream_task_id for one in self.bought]
        self._journal = self._journal.without(gone)
        if not self.bought:
            return False
        self._hook.log.info("Carrying on with task %s; nothing is bought again.", main.seedream_task_id)
        self._push(replace(main, request=request.input))
        return True

    def _is_alive(self, submission: Submission) -> bool:
        """Whether a purchase has delivered or may still do so; remembers how it ended."""
        task_id = submission.seedream_task_id
        try:
            status = self._hook.get_status(task_id, submission.model)
        except LookFailedError as error:
            unknown = _is_unknown(error, submission)
            self._hook.log.warning("%s %s", error, "Submitting anew." if unknown else "Waiting on.")
            return not unknown
        if status.finished and not status.succeeded:
            self._judge_failure(status)
            return False
        if verdict := Verdict.of_look(status):
            self.verdicts[task_id] = verdict
        return True

    def _judge_failure(self, status: TaskStatus) -> None:
        error = task_failed(status, self._terms.retryable_codes)
        if not error.retryable and status.task_id == self.bought[0].seedream_task_id:
            raise error
        self._hook.log.warning("%s It is submitted anew.", error)

    def _settle_intent(self) -> None:
        """Decide about a submission of an earlier try whose answer nobody recorded."""
        intent = self._journal.intent
        if intent is None:
            return
        error = AmbiguousSubmitError(
            f"an earlier try ended between sending it and recording the answer; {intent.charge} USD at most",
            intent.balance,
            self._hook.glance_at_balance(),
        )
        if self._terms.on_ambiguous_submit == "fail":
            raise error
        self._write_off(error)

    def _forget(self, former: Journal | None) -> None:
        if former and (former.purchases or former.intent):
            self._hook.log.warning(
                "An earlier try was about another request, so this one is bought. The record of that: %s",
                former.to_json(),
            )

    def _journal_without_record(self, verdicts: Mapping[str, Verdict]) -> Journal:
        """Even without its record, what was paid for is kept."""
        ti = self._ti
        pushed = ti.xcom_pull(task_ids=ti.task_id, key=SUBMISSION_KEY, map_indexes=ti.map_index)
        if isinstance(pushed, Mapping):
            found = [Submission.from_json(pushed)]
        else:
            price = self._hook.account.price_per_image
            found = [Submission(seedream_task_id=one, price_per_image=price) for one in verdicts]
        fingerprint = found[0].fingerprint or "" if found else ""
        return Journal(max_tries=self._store.max_tries, fingerprint=fingerprint, purchases=tuple(found))

    def report_kill(self) -> None:
        """Say what goes on at APIXO when the worker is told to stop."""
        for submission in self.bought:
            ended = submission.seedream_task_id in self.verdicts
            self._hook.log.warning(
                "Task %s %s.",
                submission.seedream_task_id,
                "has ended; what it delivered is billed, and stays available at APIXO"
                if ended
                else "cannot be cancelled: APIXO goes on with it, and bills what it delivers",
            )
        if self._journal.intent:
            self._hook.log.warning(
                "A submission is on its way: it may be accepted, and charged with %s USD.",
                self._journal.intent.charge,
            )

    # --- what came of it -----------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Whether a purchase has no verdict yet."""
        return any(one.seedream_task_id not in self.verdicts for one in self.bought)

    @property
    def looks(self) -> int:
        """Status requests that it took."""
        return sum(verdict.looks for verdict in self.verdicts.values())

    def result(self) -> dict[str, Any]:
        """The result record of all purchases together.

        :raises ChargedError: the main task did not deliver, or it is not known how a purchase ended.
        """
        main, *top_ups = self.bought
        finished = [(main, self._success(main))]
        for top_up in top_ups:
            try:
                finished.append((top_up, self._success(top_up)))
            except TaskFailedError as error:
                self._hook.log.warning("A top-up brought nothing: %s", error)
        return result_record(*finished)

    def _success(self, submission: Submission) -> TaskStatus:
        return self.verdicts[submission.seedream_task_id].success(self._terms.retryable_codes)

    def top_up(self, missing: int) -> bool:
        """Buy the images that did not come; whether anything was bought.

        What keeps it from buying is logged: the images that came are kept in any case.

        :param missing: number of images.
        """
        main, last = self.bought[0], self.verdicts[self.bought[-1].seedream_task_id]
        if len(self.bought) > MAX_TOP_UPS or not (last.status and last.status.succeeded):
            return False
        if main.request is None:
            self._hook.log.warning("What was asked for is not known (any more), so it is not topped up.")
            return False
        if main.request.get("sequential_image_generation") == "auto":
            self._hook.log.info("A connected set may have fewer images than asked for; it is not topped up.")
            return False
        try:
            self._settle_intent()
            self.buy(GenerateRequest(**{**main.request, "max_images": missing}, model=main.model))
        except (NotChargedError, AmbiguousSubmitError) as error:
            self._hook.log.warning("%d image(s) are missing and cannot be bought: %s", missing, error)
            return False
        return True

    # --- buying --------------------------------------------------------------------------------------

    def _check_budget(self, charge: Decimal) -> None:
        limit = self._terms.max_cost
        spent = self._journal.lost + sum((self._cost(one) for one in self.bought), Decimal(0))
        if limit is not None and spent + charge > limit:
            raise BudgetError(spent + charge, limit, spent)

    def _cost(self, submission: Submission) -> Decimal:
        """USD that a purchase costs; its pre-charge, as long as it has not ended."""
        verdict = self.verdicts.get(submission.seedream_task_id)
        if verdict and verdict.status and verdict.status.finished:
            return len(verdict.status.urls) * submission.price_per_image
        return submission.charged or Decimal(0)

    def _balance_before(self, charge: Decimal) -> Decimal | None:
        if not self._terms.check_balance:
            return self._hook.glance_at_balance()
        balance = self._hook.get_balance()
        if balance < charge:
            raise BalanceError(charge, balance)
        return balance

    def _submit(self, request: GenerateRequest, charge: Decimal) -> str:
        try:
            return self._post(request, charge)
        except AmbiguousSubmitError as error:
            if self._terms.on_ambiguous_submit == "fail":
                raise
            self._write_off(error)
        try:
            self._check_budget(charge)
            return self._post(request, charge)
        except AmbiguousSubmitError as error:
            error.retry_helps = True
            raise

    def _post(self, request: GenerateRequest, charge: Decimal) -> str:
        balance = self._balance_before(charge)
        self._hook.log.info(
            "Submitting %d image(s), %s %s, to %s; at most %s USD.",
            request.max_images,
            request.resolution,
            request.mode,
            request.model,
            charge,
        )
        intent = Intent(fingerprint=request.fingerprint, at=time.time(), charge=charge, balance=balance)
        self._journal = self._journal.intending(intent)
        self._store.save(self._journal)
        try:
            return self._hook.submit(request, balance=balance)
        except NotChargedError:
            self._journal = self._journal.withdrawn()
            self._store.save_if_possible(self._journal)
            raise

    def _write_off(self, error: AmbiguousSubmitError) -> None:
        self._hook.log.warning("%s Submitting again, since on_ambiguous_submit is 'resubmit'.", error)
        self._journal = self._journal.written_off()

    def _record(self, request: GenerateRequest, task_id: str) -> Submission:
        price = self._hook.account.price_per_image
        submission = Submission.of(request, task_id, price_per_image=price, now=time.time())
        # Logged first: if the record cannot be kept, the log still has the taskId.
        self._hook.log.info("APIXO accepted task %s and pre-charged %s USD.", task_id, submission.charged)
        self._journal = self._journal.bought(submission)
        self._store.save_if_possible(self._journal)
        if len(self.bought) == 1:
            self._push(submission)
        return submission

    def _push(self, submission: Submission) -> None:
        self._ti.xcom_push(key=SUBMISSION_KEY, value=submission.to_json())

    def _warn_of_what_is_not_protected(self) -> None:
        if self._terms.durable and not self._store.survives_retries:
            self._hook.log.warning(
                "This Airflow has no task state store (3.3 has): if the worker dies after the submission, "
                "a retry does not find what was bought, and buys again."
            )


def _is_unknown(error: SeedreamError, submission: Submission) -> bool:
    """Whether APIXO itself says that there is no such task, and it is not just too early to tell."""
    age = time.time() - (submission.submitted_at or 0.0)
    return error.cause.kind is Kind.NOT_FOUND and age > UNKNOWN_GRACE_SECONDS
