"""Buys for one Airflow task, and remembers across its tries what it has bought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_provider_seedream.apixo.model import SEEDREAM_4_5
from airflow_provider_seedream.apixo.records import SUBMISSION_KEY, Submission
from airflow_provider_seedream.apixo.verdict import Verdict
from airflow_provider_seedream.callbacks.delivery import ResumeEvent
from airflow_provider_seedream.errors import (
    AmbiguousSubmitError,
    ConnectionConfigError,
    InterruptedJobError,
    NotChargedError,
    PollFailedError,
    RecordError,
    SeedreamError,
    TaskFailedError,
)
from airflow_provider_seedream.purchases.buying import Buyer, make_top_up
from airflow_provider_seedream.purchases.earlier_tries import EarlierTries
from airflow_provider_seedream.purchases.journal import NextAction
from airflow_provider_seedream.purchases.journal_store import JournalStore
from airflow_provider_seedream.purchases.lost_answer import LostAnswers
from airflow_provider_seedream.result import Result

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.sdk.types import Logger

    from airflow_provider_seedream.apixo.request import GenerateRequest
    from airflow_provider_seedream.apixo.status import TaskStatus
    from airflow_provider_seedream.hooks.seedream import SeedreamHook
    from airflow_provider_seedream.purchases.journal import Intent
    from airflow_provider_seedream.purchases.terms import Terms


class Purchases:
    """The purchases of one Airflow task, the main submission first, then its top-ups.

    A segment of a task (a try up to its deferral, or from there on) begins with :meth:`load` or
    :meth:`resume`, before anything else that can fail: only then is it known what a failure costs.

    :param verdicts: how those ended that are known to have ended, by taskId.
    :param refusal: what kept the last top-up from being bought.
    """

    def __init__(self, hook: SeedreamHook, context: Context, terms: Terms) -> None:
        self._hook = hook
        self._ti: Any = context["ti"]
        self._terms = terms
        self.resumed = False
        self.verdicts: dict[str, Verdict] = {}
        self.refusal: SeedreamError | None = None
        self._store = JournalStore(context, durable=terms.durable, log=hook.log)
        self._lost_answers = LostAnswers(hook, terms, self._store)
        self._earlier_tries = EarlierTries(hook, terms, self._store, self.verdicts)
        self._buyer = Buyer(hook, self._ti, terms, self._store, self._lost_answers, self.verdicts)

    @property
    def submissions(self) -> tuple[Submission, ...]:
        """The purchases that APIXO has accepted."""
        return self._store.journal.purchases

    @property
    def log(self) -> Logger:
        """The log of the task."""
        return self._hook.log

    @property
    def record_lasts(self) -> bool:
        """True where a retry of the Airflow task finds what was bought."""
        return self._store.record_lasts

    @property
    def perhaps_charged(self) -> Decimal | None:
        """USD that submissions without an answer may have cost."""
        journal = self._store.journal
        open_charge = journal.intent.charge if journal.intent else Decimal(0)
        return journal.lost + open_charge or None

    def keep_record(self) -> None:
        """Record what could not be recorded before, if there is something."""
        self._store.retry_recording()

    # --- a segment begins ----------------------------------------------------------------------------

    def load(self) -> None:
        """Learn what earlier tries have bought.

        :raises RecordError: it cannot be read.
        """
        self._store.load()

    def resume(self, event: Any = None) -> None:
        """Learn what this try has bought before it deferred, from everything that tells.

        :param event: of the trigger; ``None`` where it was lost.
        :raises RecordError: nothing tells, and the record may be readable later.
        :raises InterruptedJobError: nothing tells.
        """
        self.resumed = True
        named, verdicts = Verdict.read_event(event)
        self.verdicts.update(verdicts)
        if resumed := ResumeEvent.from_event(event):
            named += resumed.seedream_task_ids
        problem = self._try_to_load()
        recorded = self._store.journal
        told = [*self._read_pushed(), *self._describe_unrecorded(named, recorded.intent)]
        self._store.journal = recorded.with_purchases(told)
        if not self.submissions:
            raise problem or InterruptedJobError("what this try has bought is in its log only")
        if problem is None and self._store.journal is not recorded:
            self._store.record_purchases(self._store.journal)

    def find_again(self, request: GenerateRequest) -> bool:
        """Tell whether an earlier try has bought this request, so that nothing needs to be bought.

        A task that failed, or that the API does not know, counts as not bought.

        :raises AmbiguousSubmitError: a charge may have happened, and ``on_ambiguous_submit`` is ``fail``.
        :raises TaskFailedError: the task failed in a way that buying it anew cannot help.
        """
        # The connection's routing may change between tries; what was bought stays bought.
        fingerprint = request.fingerprint
        action = self._store.journal.next_action(fingerprint)
        if action is NextAction.AMBIGUOUS:
            if task_id := self._lost_answers.wait(request.model):
                self._buyer.record(self.add_routing(request), task_id)
            action = self._store.journal.next_action(fingerprint)
        if action is NextAction.CARRY_ON:
            return self._carry_on(request)
        if action is NextAction.AMBIGUOUS:
            self._lost_answers.settle()
        elif self._store.journal.fingerprint != fingerprint:
            self._earlier_tries.turn_to(fingerprint)
        return False

    def _carry_on(self, request: GenerateRequest) -> bool:
        if not self._earlier_tries.keep_alive_ones():
            return False
        main = self.submissions[0]
        self.log.info("Carrying on with task %s; nothing is bought again.", main.seedream_task_id)
        self._buyer.push(replace(main, request=request.input))
        return True

    def _try_to_load(self) -> RecordError | None:
        try:
            self._store.load()
        except RecordError as error:
            self.log.warning("%s", error)
            return error
        return None

    def _read_pushed(self) -> list[Submission]:
        """Return what was pushed to XCom."""
        ti = self._ti
        try:
            pushed = ti.xcom_pull(task_ids=ti.task_id, key=SUBMISSION_KEY, map_indexes=ti.map_index)
            return [Submission.from_json(pushed)] if isinstance(pushed, Mapping) else []
        except Exception as error:  # noqa: BLE001 - the event and the journal tell as well
            self.log.warning("The submission cannot be read from XCom: %s", error)
            return []

    def _describe_unrecorded(self, task_ids: Sequence[str], intent: Intent | None) -> list[Submission]:
        """Return what is known of tasks whose submission was not recorded: what was paid for is kept."""
        try:
            price = self._hook.account.price_per_image
        except ConnectionConfigError:
            price = SEEDREAM_4_5.price_per_image
        requested = int(intent.charge / price) if intent else None
        return [Submission.unrecorded(one, price_per_image=price, requested=requested) for one in task_ids]

    # --- buying --------------------------------------------------------------------------------------

    def add_routing(self, request: GenerateRequest) -> GenerateRequest:
        """Return the request with the connection's routing, where it names none of its own."""
        return self._buyer.add_routing(request)

    def buy(self, request: GenerateRequest) -> None:
        """Submit, with the intent recorded before and the taskId after; this spends money.

        :raises NotChargedError: budget or balance do not allow it, or APIXO refused it.
        :raises AmbiguousSubmitError: the answer was lost; a charge may have happened.
        """
        self._buyer.buy(request)

    def top_up(self, missing: int) -> bool:
        """Buy the images that did not come; tell whether anything was bought.

        What keeps it from buying is logged and kept in ``refusal``: the images that came are kept in any
        case.

        :param missing: number of images.
        """
        request = make_top_up(self.submissions, self.verdicts, missing, self.log)
        if request is None:
            return False
        if task_id := self._lost_answers.find_task(request.model):
            self._buyer.record(self.add_routing(request), task_id)
            return True
        try:
            self._lost_answers.settle()
            self._buyer.buy(request)
        except (NotChargedError, AmbiguousSubmitError) as error:
            self.refusal = error
            self.log.warning("%d image(s) are missing and cannot be bought: %s", missing, error)
            return False
        return True

    # --- what came of it -----------------------------------------------------------------------------

    def poll_delivered(self) -> bool:
        """Poll for those purchases whose callback has come, which is but a hint.

        :returns: whether APIXO says of one that it is still in progress.
        """
        in_progress = False
        for one in self._unfinished:
            if one.callback_digest is None or self._store.read_delivery(one.callback_digest) is None:
                continue
            try:
                status = self._hook.get_status(one.seedream_task_id, one.model)
            except PollFailedError as error:
                self.log.warning("%s Waiting on.", error)
                continue
            self._earlier_tries.remember(status)
            in_progress = in_progress or not status.finished
        return in_progress

    @property
    def awaits_callback(self) -> bool:
        """True where APIXO calls Airflow for everything that is waited for."""
        return all(one.callback_digest is not None for one in self._unfinished)

    @property
    def pending(self) -> bool:
        """True where a purchase has no verdict yet."""
        return bool(self._unfinished)

    @property
    def _unfinished(self) -> list[Submission]:
        return [one for one in self.submissions if one.seedream_task_id not in self.verdicts]

    @property
    def polls(self) -> int:
        """Status requests that it took."""
        return sum(verdict.polls for verdict in self.verdicts.values())

    def make_result(self) -> Result:
        """Return the result of all purchases together.

        :raises ChargedError: the main task did not deliver, or it is not known how a purchase ended.
        """
        main, *top_ups = self.submissions
        finished = [(main, self._read_success(main))]
        for top_up in top_ups:
            try:
                finished.append((top_up, self._read_success(top_up)))
            except TaskFailedError as error:
                self.log.warning("A top-up brought nothing: %s", error)
        return Result.of(*finished)

    def _read_success(self, submission: Submission) -> TaskStatus:
        return self.verdicts[submission.seedream_task_id].require_success(self._terms.retryable_codes)

    def report_kill(self) -> None:
        """Say what goes on at APIXO when the worker is told to stop."""
        for submission in self.submissions:
            ended = submission.seedream_task_id in self.verdicts
            self.log.warning(
                "Task %s %s.",
                submission.seedream_task_id,
                "has ended; what it delivered is billed, and stays available at APIXO"
                if ended
                else "cannot be cancelled: APIXO goes on with it, and bills what it delivers",
            )
        if intent := self._store.journal.intent:
            self.log.warning(
                "A submission is on its way: it may be accepted, and charged with %s USD.", intent.charge
            )
