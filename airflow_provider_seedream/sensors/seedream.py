"""Waits for a submitted task without holding a worker slot.

What only a running task needs is imported inside the methods, as in the operators' module.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_seedream.apixo.model import DEFAULT_GENERATION_TIMEOUT, DEFAULT_MODEL, MODELS
from airflow_provider_seedream.apixo.rules import find_problems
from airflow_provider_seedream.errors import DeadlineError, InvalidRequestError, SeedreamError
from airflow_provider_seedream.hooks.connection_form import DEFAULT_CONN_ID
from airflow_provider_seedream.hooks.mixin import UsesSeedreamHook
from airflow_provider_seedream.links.seedream import SeedreamGalleryLink, SeedreamResultLink
from airflow_provider_seedream.parameters import (
    check_task_id,
    final_refusals,
    is_templated,
    optional_seconds,
    seconds,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_seedream.apixo.records import Submission
    from airflow_provider_seedream.apixo.verdict import Verdict
    from airflow_provider_seedream.apixo.watch import Watch


_MODEL_FIELDS = ("model", "resolution")


class SeedreamTaskSensor(UsesSeedreamHook, BaseSensorOperator):
    """Waits until a task has ended, and returns its result.

    What Submit recorded (resolution, number of images, price, time) is found by itself when Submit is
    upstream; for a task that was submitted elsewhere, ``model`` and ``resolution`` set the pace.

    Returns (XCom) the result record described at
    :func:`~airflow_provider_seedream.apixo.records.result_record`.

    :param seedream_task_id: the API's taskId, usually ``submit.output``. (templated)
    :param seedream_conn_id: connection of type ``seedream``. (templated)
    :param model: model of a task that was submitted elsewhere. (templated)
    :param resolution: resolution of a task that was submitted elsewhere. (templated)
    :param timeout: seconds that this sensor waits in total, in every mode.
    :param first_poll: seconds from the task's creation to the first look; ``None`` follows the model
        (2K: 20, 4K: 30).
    :param poke_interval: seconds between two looks; ``None`` follows the model (2K: 3-5, 4K: 5), or is 60
        while a deferred sensor awaits a callback to Airflow.
    :param deferrable: wait in the triggerer; by default Airflow's ``[operators] default_deferrable``.
    :raises TaskFailedError: the generation failed and a retry may help; otherwise the task fails at once.
    :raises DeadlineError: the timeout passed; the task may still finish.
    :raises PollFailedError: the status could not be read for too long.
    """

    template_fields: Sequence[str] = ("seedream_task_id", "seedream_conn_id", "model", "resolution")
    ui_color = "#e8e3f5"
    operator_extra_links = (SeedreamGalleryLink(), SeedreamResultLink())

    def __init__(
        self,
        *,
        seedream_task_id: str,
        seedream_conn_id: str = DEFAULT_CONN_ID,
        model: str = DEFAULT_MODEL,
        resolution: str = "2K",
        timeout: float | timedelta = DEFAULT_GENERATION_TIMEOUT,
        first_poll: float | timedelta | None = None,
        poke_interval: float | timedelta | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        interval = MODELS[DEFAULT_MODEL].resolutions["2K"].pace.interval_high
        super().__init__(
            timeout=timeout,
            poke_interval=interval if poke_interval is None else seconds("poke_interval", poke_interval),
            **kwargs,
        )
        self.seedream_task_id = seedream_task_id
        self.seedream_conn_id = seedream_conn_id
        self.model = model
        self.resolution = resolution
        self.poll_interval = None if poke_interval is None else self.poke_interval
        self.deferrable = deferrable
        self._give_up_after = self.timeout
        with final_refusals():
            self.first_poll = optional_seconds("first_poll", first_poll, zero_allowed=True)
            if not is_templated(seedream_task_id):
                check_task_id(seedream_task_id)
            self._check_model(frozenset(name for name in _MODEL_FIELDS if is_templated(getattr(self, name))))
        self._poked: tuple[Submission, Watch] | None = None

    def execute(self, context: Context) -> Any:
        """Wait in the mode that was asked for."""
        from airflow_provider_seedream.worker import waiting

        with self._advising():
            if not self.deferrable:
                # Our deadline tells what happened and what it cost; Airflow's is left as the backstop.
                self.timeout = self._give_up_after + waiting.BACKSTOP_SECONDS
                return super().execute(context)
            return self._defer(context, deadline=waiting.wait_until(context, self, self._give_up_after))

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Resume with the trigger's event, or by a callback."""
        from airflow_provider_seedream.apixo.verdict import Verdict
        from airflow_provider_seedream.worker import submissions, waiting

        with self._advising():
            if resumption := waiting.read_resume_event(event, self.log):
                deadline = resumption.deadline or waiting.rest_of_wait(context, self, self._give_up_after)
                return self._defer(context, deadline=deadline, delivered=True)
            submission = self._submission(context)
            _, verdicts = Verdict.read_event(event)
            verdict = verdicts.get(submission.seedream_task_id) or self._wait_here(submission, context)
            return submissions.conclude(submission, verdict)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume; where the trigger was lost, what is left of the wait is waited for here."""
        from airflow_provider_seedream.worker import submissions, waiting

        if next_method != waiting.DEFERRAL_FAILED:
            return super().resume_execution(next_method, next_kwargs, context)
        with self._advising():
            waiting.report_failed_deferral(self.log, next_kwargs)
            submission = self._submission(context)
            return submissions.conclude(submission, self._wait_here(submission, context))

    def poke(self, context: Context) -> PokeReturnValue | bool:
        """Look once, if a look is due; sets ``poke_interval`` to the time until the next one."""
        if self._poked is None:
            submission = self._submission(context)
            if submission.callback_digest:
                self.log.info("No callback resumes a sensor that is not deferrable, so it looks as usual.")
            deadline = self._started_at(context) + self._give_up_after
            self._poked = submission, self._start_watch(submission, deadline)
        submission, watch = self._poked
        if watch.outcome is None and watch.next_poll <= time.time():
            self.hook.poll(watch, submission.model)
        if watch.outcome is not None:
            return PokeReturnValue(True, self._concluded(submission, watch))
        self.poke_interval = max(0.0, watch.next_poll - time.time())
        return False

    def _defer(self, context: Context, *, deadline: float, delivered: bool = False) -> dict[str, Any]:
        """Free the worker slot, unless the task is known to have ended.

        :param deadline: epoch seconds at which the wait ends.
        :param delivered: whether a callback has come, whose word is not taken for it.
        """
        from airflow_provider_seedream.worker import submissions, waiting

        submission = self._submission(context)
        digest = submission.callback_digest or ""
        # In this order: a callback that comes later finds the sensor, one that came before is found by it.
        registered = bool(digest) and waiting.register(context, digest, self.log)
        delivered = delivered or (registered and submissions.callback_came(context, self, digest))
        watch = self._start_watch(submission, deadline, awaits_callback=registered)
        if delivered or watch.next_poll <= time.time():
            # What is already finished is delivered without deferring.
            self.hook.poll(watch, submission.model)
        if watch.outcome is not None:
            return self._concluded(submission, watch)
        return waiting.defer_until_finished(
            self,
            [submission],
            watch.pace,
            deadline=watch.deadline,
            conn_id=self.seedream_conn_id,
            next_poll=watch.next_poll if watch.status else None,
            awaits_callback=registered,
        )

    def _wait_here(self, submission: Submission, context: Context) -> Verdict:
        """Wait in the worker for what is left of this try's time."""
        from airflow_provider_seedream.worker import waiting

        pace = waiting.paced(submission, self.first_poll, self.poll_interval)
        deadline = waiting.rest_of_wait(context, self, self._give_up_after)
        return waiting.wait(self.hook, [submission], pace, deadline=deadline)[submission.seedream_task_id]

    def _concluded(self, submission: Submission, watch: Watch) -> dict[str, Any]:
        from airflow_provider_seedream.apixo.verdict import Verdict
        from airflow_provider_seedream.worker import submissions

        return submissions.conclude(submission, Verdict.of(watch))

    def _submission(self, context: Context) -> Submission:
        """What was bought, as recorded upstream or as far as the parameters tell."""
        from airflow_provider_seedream.worker import submissions

        check_task_id(self.seedream_task_id)
        self._check_model()
        return submissions.find_submission(
            context, self, self.seedream_task_id
        ) or submissions.foreign_submission(
            self.hook, self.seedream_task_id, model=self.model, resolution=self.resolution
        )

    def _check_model(self, unknown: frozenset[str] = frozenset()) -> None:
        if problems := list(find_problems({name: getattr(self, name) for name in _MODEL_FIELDS}, unknown)):
            raise InvalidRequestError(problems)

    def _start_watch(
        self, submission: Submission, deadline: float, *, awaits_callback: bool = False
    ) -> Watch:
        from airflow_provider_seedream.worker import waiting

        return self.hook.start_watch(
            submission.seedream_task_id,
            waiting.paced(submission, self.first_poll, self.poll_interval, awaits_callback=awaits_callback),
            created_at=submission.submitted_at,
            deadline=deadline,
        )

    def _started_at(self, context: Context) -> float:
        """Epoch seconds of this try's first poke, which in reschedule mode another process has seen."""
        first = context["ti"].get_first_reschedule_date(context) if self.reschedule else None
        return first.timestamp() if first else time.time()

    @contextmanager
    def _advising(self) -> Iterator[None]:
        from airflow_provider_seedream.worker.failures import advising

        a_retry = "looks at the same task again, and buys nothing"
        with advising(self.log, a_retry), self._soft_failures():
            yield

    @contextmanager
    def _soft_failures(self) -> Iterator[None]:
        """Airflow skips softly only for its own exceptions; what may pass is left to retries."""
        try:
            yield
        except SeedreamError as error:
            final = not error.retryable or isinstance(error, DeadlineError)
            if self.never_fail or (self.soft_fail and final):
                raise AirflowSkipException(f"Skipping: {error}") from error
            raise
