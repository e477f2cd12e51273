"""Buys for one Airflow task, and remembers across its tries what it has bought."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_provider_seedream.apixo.model import SEEDREAM_4_5
from airflow_provider_seedream.apixo.records import SUBMISSION_KEY, Submission, result_record
from airflow_provider_seedream.apixo.request import GenerateRequest
from airflow_provider_seedream.apixo.rules import CALLBACK
from airflow_provider_seedream.apixo.verdict import Verdict, task_failed
from airflow_provider_seedream.callbacks.address import calling_airflow
from airflow_provider_seedream.callbacks.delivery import ResumeEvent
from airflow_provider_seedream.errors import (
    AmbiguousSubmitError,
    BalanceError,
    BudgetError,
    ConnectionConfigError,
    InterruptedJobError,
    NotChargedError,
    PollFailedError,
    RecordError,
    SeedreamError,
    TaskFailedError,
)
from airflow_provider_seedream.hooks.seedream import check_sendable
from airflow_provider_seedream.links.seedream import offer_gallery
from airflow_provider_seedream.purchases import lost_answer
from airflow_provider_seedream.purchases.earlier_tries import UNKNOWN_PAUSE, UNKNOWN_POLLS, _Fate, _is_unknown
from airflow_provider_seedream.purchases.journal import UNKNOWN_REQUEST, Intent, Journal, NextAction
from airflow_provider_seedream.purchases.journal_store import JournalStore
from airflow_provider_seedream.purchases.terms import Terms
from airflow_provider_seedream.urls import TaskAddress

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.sdk.types import Logger

    from airflow_provider_seedream.apixo.status import TaskStatus
    from airflow_provider_seedream.hooks.seedream import SeedreamHook


ANSWER_PAUSE = 2.0
"""Seconds between two looks for the record of a submission that may still be on its way."""

MAX_TOP_UPS = 3
"""How often missing images are bought at most."""


class Purchases:
    """What one Airflow task buys and has bought, the main submission first, then its top-ups.

    A segment of a task (a try up to its deferral, or from there on) begins with :meth:`load` or
    :meth:`resume`, before anything else that can fail: only then is it known what a failure costs.

    :param verdicts: how those ended that are known to have ended, by taskId.
    :param refusal: what kept the last top-up from being bought.
    """

    def __init__(self, hook: SeedreamHook, context: Context, terms: Terms) -> None:
        self._hook = hook
        self._ti: Any = context["ti"]
        self._terms = terms
        self._store = JournalStore(context, durable=terms.durable, log=hook.log)
        self._journal = Journal(max_tries=self._store.max_tries, fingerprint=UNKNOWN_REQUEST)
        self._recorded = True
        self._warned = False
        self.resumed = False
        self.verdicts: dict[str, Verdict] = {}
        self.refusal: SeedreamError | None = None

    @property
    def submissions(self) -> tuple[Submission, ...]:
        """What APIXO has accepted."""
        return self._journal.purchases

    @property
    def log(self) -> Logger:
        """Where the task says what it buys."""
        return self._hook.log

    @property
    def record_lasts(self) -> bool:
        """Whether a retry of the Airflow task finds what was bought."""
        return self._store.survives_retries and self._recorded

    @property
    def perhaps_charged(self) -> Decimal | None:
        """USD that submissions without an answer may have cost."""
        open_charge = self._journal.intent.charge if self._journal.intent else Decimal(0)
        return self._journal.lost + open_charge or None

    def keep_record(self) -> None:
        """Record what could not be recorded before, if there is something."""
        if not self._recorded:
            self._recorded = self._store.save_if_possible(self._journal)

    # --- a segment begins ----------------------------------------------------------------------------

    def load(self) -> None:
        """Learn what earlier tries have bought.

        :raises RecordError: it cannot be read.
        """
        self._journal = self._store.load() or self._journal

    def resume(self, event: Any = None) -> None:
        """Learn what this try has bought before it deferred, from everything that tells.

        :param event: of the trigger; ``None`` where it was lost.
        :raises RecordError: nothing tells, and the record may be readable later.
        :raises InterruptedJobError: nothing tells.
        """
        self.resumed = True
        named, self.verdicts = Verdict.read_event(event)
        if resumption := ResumeEvent.from_event(event):
            named += resumption.seedream_task_ids
        journal, problem = self._recorded_journal()
        self._journal = journal.with_purchases([*self._pushed(), *self._foreign(named, journal)])
        if not self.submissions:
            raise problem or InterruptedJobError("what this try has bought is in its log only")
        if problem is None and self._journal is not journal:
            self._recorded = self._store.save_if_possible(self._journal)

    def find_again(self, request: GenerateRequest) -> bool:
        """Whether an earlier try has bought this request, so that nothing needs to be bought.

        A task that failed, or that the API does not know, counts as not bought.

        :raises AmbiguousSubmitError: a charge may have happened, and ``on_ambiguous_submit`` is ``fail``.
        :raises TaskFailedError: the task failed in a way that buying it anew cannot help.
        """
        # The connection's routing may change between tries; what was bought stays bought.
        fingerprint = request.fingerprint
        step = self._journal.next_action(fingerprint)
        if step is NextAction.AMBIGUOUS:
            self._wait_for_the_answer(request)
            step = self._journal.next_action(fingerprint)
        if step is NextAction.CARRY_ON:
            return self._find_alive(request)
        if step is NextAction.AMBIGUOUS:
            self._settle_intent()
        elif self._journal.fingerprint != fingerprint:
            self._turn_to(fingerprint)
        return False

    # --- buying --------------------------------------------------------------------------------------

    def as_sent(self, request: GenerateRequest) -> GenerateRequest:
        """The request with the connection's routing, where it names none of its own."""
        provider = self._hook.account.provider
        return replace(request, provider=provider) if request.provider is None and provider else request

    def buy(self, request: GenerateRequest) -> None:
        """Submit, with the intent recorded before and the taskId after; this spends money.

        :raises NotChargedError: budget or balance do not allow it, or APIXO refused it.
        :raises AmbiguousSubmitError: the answer was lost; a charge may have happened.
        """
        request = self.as_sent(request)
        check_sendable(request, self._hook.account)
        self._warn_of_what_is_not_protected()
        self._record(request, self._submit(request))

    def top_up(self, missing: int) -> bool:
        """Buy the images that did not come; whether anything was bought.

        What keeps it from buying is logged and kept in ``refusal``: the images that came are kept in any
        case.

        :param missing: number of images.
        """
        main, last = self.submissions[0], self.verdicts[self.submissions[-1].seedream_task_id]
        if len(self.submissions) > MAX_TOP_UPS or not (last.status and last.status.succeeded):
            return False
        if main.request is None:
            self._hook.log.warning("What was asked for is not known (any more), so it is not topped up.")
            return False
        if main.request.get("sequential_image_generation") == "auto":
            self._hook.log.info("A connected set may have fewer images than asked for; it is not topped up.")
            return False
        order = {**main.request, "max_images": missing, "model": main.model, "provider": main.provider}
        request = GenerateRequest(**order)
        if self._learn_from_callback(request):
            return True
        try:
            self._settle_intent()
            self.buy(request)
        except (NotChargedError, AmbiguousSubmitError) as error:
            self.refusal = error
            self._hook.log.warning("%d image(s) are missing and cannot be bought: %s", missing, error)
            return False
        return True

    def _submit(self, request: GenerateRequest) -> str:
        try:
            return self._post(request)
        except AmbiguousSubmitError as error:
            if error.seedream_task_id:
                self._hook.log.warning("%s", error)
                return error.seedream_task_id
            if task_id := self._named_by_callback(request.model):
                return task_id
            if self._terms.on_ambiguous_submit == "fail":
                raise self._with_hope(error) from None
            self._write_off(error)
        try:
            return self._post(request)
        except AmbiguousSubmitError as error:
            error.retry_helps = True
            raise

    def _post(self, request: GenerateRequest) -> str:
        request, digest = self._addressed(request)
        charge = request.max_cost(self._hook.account.price_per_image)
        self._check_budget(charge)
        balance = self._balance_before(charge)
        self._hook.log.info(
            "Submitting %d image(s), %s %s, to %s; at most %s USD.",
            request.max_images,
            request.resolution,
            request.mode,
            request.model,
            charge,
        )
        intent = Intent(
            fingerprint=request.fingerprint,
            at=time.time(),
            charge=charge,
            balance=balance,
            callback_digest=digest,
        )
        journal = self._journal.intending(intent)
        self._store.save(journal)
        self._journal = journal
        try:
            return self._hook.submit(request, balance=balance, read_balance=False)
        except NotChargedError:
            self._journal = self._journal.withdrawn()
            self._store.save_if_possible(self._journal)
            raise

    def _addressed(self, request: GenerateRequest) -> tuple[GenerateRequest, str | None]:
        """The request with the URL that APIXO calls; the digest in it, where that is Airflow's."""
        own_url, ti = self._terms.callback_url, self._ti
        if own_url is not None:
            return replace(request, request_type=CALLBACK, callback_url=own_url), None
        # Without a record that lasts, a callback could not be told from a forged one; a worker may be older
        # than the DAG processor, which has let this pass.
        if not self._terms.calls_airflow or not self._store.survives_retries:
            return request, None
        task = TaskAddress(ti.dag_id, ti.run_id, ti.task_id, ti.map_index)
        return calling_airflow(request, task, self._hook.account, self._hook.seedream_conn_id)

    def _record(self, request: GenerateRequest, task_id: str) -> None:
        price = self._hook.account.price_per_image
        intent = self._journal.intent
        submission = replace(
            Submission.of(request, task_id, price_per_image=price, now=time.time()),
            callback_digest=intent.callback_digest if intent else None,
        )
        # Logged first: if the record cannot be kept, the log still has the taskId.
        self._hook.log.info("APIXO accepted task %s and pre-charged %s USD.", task_id, submission.charged)
        self._journal = self._journal.record(submission)
        self._recorded = self._store.save_if_possible(self._journal)
        if len(self.submissions) == 1:
            self._push(submission)

    def _push(self, submission: Submission) -> None:
        self._ti.xcom_push(key=SUBMISSION_KEY, value=submission.to_json())
        offer_gallery(self._ti, self.log)

    def _check_budget(self, charge: Decimal) -> None:
        limit = self._terms.limit
        known = sum((self._cost(one) for one in self.submissions), Decimal(0))
        spent = self._journal.lost + self._journal.spent + known
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
            return self._hook.try_balance()
        balance = self._hook.get_balance()
        if balance < charge:
            raise BalanceError(charge, balance)
        return balance

    def _warn_of_what_is_not_protected(self) -> None:
        if self._terms.durable and not self._store.survives_retries and not self._warned:
            self._warned = True
            self._hook.log.warning(
                "This Airflow has no task state store (3.3 has): if the worker dies after the submission, "
                "a retry does not find what was bought, and buys again."
            )

    # --- a submission without an answer --------------------------------------------------------------

    def _wait_for_the_answer(self, request: GenerateRequest) -> None:
        """Leave another worker, which Airflow took for dead, the time to record what it is just buying."""
        while not self._learn_from_callback(request):
            intent = self._journal.intent
            if intent is None or not self._may_be_on_its_way(intent):
                return
            time.sleep(ANSWER_PAUSE)
            self.load()

    def _may_be_on_its_way(self, intent: Intent) -> bool:
        return time.time() < intent.at + self._hook.account.request_timeout

    def _learn_from_callback(self, request: GenerateRequest) -> bool:
        """Whether a callback has told a lost answer; it is recorded then.

        :raises PollFailedError: APIXO cannot be asked at the moment.
        """
        task_id = self._named_by_callback(request.model)
        if task_id is not None:
            self._record(self.as_sent(request), task_id)
        return task_id is not None

    def _named_by_callback(self, model: str) -> str | None:
        return lost_answer.task_named(self._journal.intent, self._store, self._hook, model)

    def _settle_intent(self) -> None:
        """Decide about a submission of an earlier try whose answer nobody recorded."""
        intent = self._journal.intent
        if intent is None:
            return
        error = AmbiguousSubmitError(
            f"an earlier try ended between sending it and recording the answer; {intent.charge} USD at most",
            intent.balance,
            self._hook.try_balance(),
        )
        if self._terms.on_ambiguous_submit == "fail":
            raise self._with_hope(error)
        self._write_off(error)

    def _with_hope(self, error: AmbiguousSubmitError) -> AmbiguousSubmitError:
        """The error, which a retry can help as long as a callback may still name the task."""
        if lost_answer.may_still_come(self._journal.intent, time.time()):
            error.callback_may_tell = error.retry_helps = True
        return error

    def _write_off(self, error: AmbiguousSubmitError) -> None:
        self._hook.log.warning("%s Submitting again, since on_ambiguous_submit is 'resubmit'.", error)
        self._journal = self._journal.written_off()

    # --- what earlier tries have bought --------------------------------------------------------------

    def _turn_to(self, fingerprint: str) -> None:
        """Begin anew for another request than that of the record, if there is a record."""
        if self.submissions or self._journal.intent:
            self._hook.log.warning(
                "An earlier try was about another request, so this one is bought. Bought before: %s.",
                self._journal.summary,
            )
        self._journal = self._journal.for_request(fingerprint, self._spent_on_others())
        self.verdicts = {}

    def _spent_on_others(self) -> Decimal:
        """USD that purchases for another request cost; looked up where there is a limit to keep."""
        if self._terms.has_budget:
            for one in self.submissions:
                with suppress(SeedreamError):
                    self._remember(self._hook.get_status(one.seedream_task_id, one.model))
        return sum((self._cost(one) for one in self.submissions), Decimal(0))

    def _find_alive(self, request: GenerateRequest) -> bool:
        main = self.submissions[0]
        fates = {one.seedream_task_id: self._fate(one) for one in self.submissions}
        lost_main = fates[main.seedream_task_id] is not _Fate.ALIVE
        failed = [task_id for task_id, fate in fates.items() if fate is _Fate.FAILED]
        self._journal = self._journal.without(failed, refunded=True)
        gone = [task_id for task_id, fate in fates.items() if lost_main or fate is _Fate.UNKNOWN]
        self._journal = self._journal.without(gone, refunded=False)
        if not self.submissions:
            return False
        self._hook.log.info("Carrying on with task %s; nothing is bought again.", main.seedream_task_id)
        self._push(replace(main, request=request.input))
        return True

    def _fate(self, submission: Submission) -> _Fate:
        """What has become of a purchase; remembers how it ended."""
        task_id = submission.seedream_task_id
        for look in range(UNKNOWN_POLLS):
            if look:
                time.sleep(UNKNOWN_PAUSE)
            try:
                status = self._hook.get_status(task_id, submission.model)
            except PollFailedError as error:
                if not _is_unknown(error, submission):
                    self._hook.log.warning("%s Waiting on.", error)
                    return _Fate.ALIVE
                self._hook.log.warning("%s", error)
                continue
            return self._fate_by(status)
        self._hook.log.warning("APIXO does not know task %s (any more). It is submitted anew.", task_id)
        return _Fate.UNKNOWN

    def _fate_by(self, status: TaskStatus) -> _Fate:
        self._remember(status)
        if not status.finished or status.succeeded:
            return _Fate.ALIVE
        error = task_failed(status, self._terms.retryable_codes)
        if not error.retryable and status.task_id == self.submissions[0].seedream_task_id:
            raise error
        self._hook.log.warning("%s It is submitted anew.", error)
        return _Fate.FAILED

    def _remember(self, status: TaskStatus) -> None:
        if verdict := Verdict.of_status(status):
            self.verdicts[status.task_id] = verdict

    # --- what this try has bought --------------------------------------------------------------------

    def _recorded_journal(self) -> tuple[Journal, RecordError | None]:
        try:
            return self._store.load() or self._journal, None
        except RecordError as error:
            self._hook.log.warning("%s", error)
            return self._journal, error

    def _pushed(self) -> list[Submission]:
        """What was pushed to XCom; the only record that the first release made."""
        ti = self._ti
        try:
            pushed = ti.xcom_pull(task_ids=ti.task_id, key=SUBMISSION_KEY, map_indexes=ti.map_index)
            return [Submission.from_json(pushed)] if isinstance(pushed, Mapping) else []
        except Exception as error:  # noqa: BLE001 - the event and the journal tell as well
            self._hook.log.warning("The submission cannot be read from XCom: %s", error)
            return []

    def _foreign(self, task_ids: Sequence[str], journal: Journal) -> list[Submission]:
        """What is known of tasks whose submission was not recorded: even so, what was paid for is kept."""
        try:
            price = self._hook.account.price_per_image
        except ConnectionConfigError:
            price = SEEDREAM_4_5.price_per_image
        requested = int(journal.intent.charge / price) if journal.intent else None
        return [
            Submission(seedream_task_id=one, price_per_image=price, requested=requested) for one in task_ids
        ]

    # --- what callbacks have told --------------------------------------------------------------------

    def poll_delivered(self) -> bool:
        """Look at those purchases whose callback has come, which is but a hint.

        :returns: whether APIXO says of one that it is still in progress.
        """
        in_progress = False
        for one in self._unfinished:
            if one.callback_digest is None or self._store.note(one.callback_digest) is None:
                continue
            try:
                status = self._hook.get_status(one.seedream_task_id, one.model)
            except PollFailedError as error:
                self._hook.log.warning("%s Waiting on.", error)
                continue
            self._remember(status)
            in_progress = in_progress or not status.finished
        return in_progress

    @property
    def await_callback(self) -> bool:
        """Whether APIXO calls Airflow for everything that is waited for."""
        return all(one.callback_digest is not None for one in self._unfinished)

    # --- what came of it -----------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Whether a purchase has no verdict yet."""
        return bool(self._unfinished)

    @property
    def _unfinished(self) -> list[Submission]:
        return [one for one in self.submissions if one.seedream_task_id not in self.verdicts]

    @property
    def polls(self) -> int:
        """Status requests that it took."""
        return sum(verdict.polls for verdict in self.verdicts.values())

    def result(self) -> dict[str, Any]:
        """The result record of all purchases together.

        :raises ChargedError: the main task did not deliver, or it is not known how a purchase ended.
        """
        main, *top_ups = self.submissions
        finished = [(main, self._success(main))]
        for top_up in top_ups:
            try:
                finished.append((top_up, self._success(top_up)))
            except TaskFailedError as error:
                self._hook.log.warning("A top-up brought nothing: %s", error)
        return result_record(*finished)

    def _success(self, submission: Submission) -> TaskStatus:
        return self.verdicts[submission.seedream_task_id].success(self._terms.retryable_codes)

    def report_kill(self) -> None:
        """Say what goes on at APIXO when the worker is told to stop."""
        for submission in self.submissions:
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
