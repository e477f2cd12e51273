"""Waits for a submitted task without holding a worker slot.

A running task enters ``worker``, which is imported inside the methods, as in the operators' module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_seedream.airflow_compat import DEFERRAL_FAILED
from airflow_provider_seedream.apixo.model import DEFAULT_GENERATION_TIMEOUT, DEFAULT_MODEL, MODELS
from airflow_provider_seedream.apixo.rules import find_problems
from airflow_provider_seedream.errors import InvalidRequestError
from airflow_provider_seedream.hooks.connection_form import DEFAULT_CONN_ID
from airflow_provider_seedream.hooks.mixin import UsesSeedreamHook
from airflow_provider_seedream.links.seedream import SeedreamGalleryLink, SeedreamResultLink
from airflow_provider_seedream.parameters import (
    check_task_id,
    is_templated,
    read_optional_seconds,
    refuse_for_good,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_seedream.apixo.records import Submission
    from airflow_provider_seedream.apixo.watch import Watch


_MODEL_FIELDS = ("model", "resolution")


class SeedreamTaskSensor(UsesSeedreamHook, BaseSensorOperator):
    """Waits until a task has ended, and returns its result.

    What Submit recorded (resolution, number of images, price, time) is found by itself when Submit is
    upstream; for a task that was submitted elsewhere, ``model`` and ``resolution`` set the pace.

    Returns (XCom) the :class:`~airflow_provider_seedream.result.Result`.

    :param seedream_task_id: the API's taskId, usually ``submit.output``. (templated)
    :param seedream_conn_id: connection of type ``seedream``. (templated)
    :param model: model of a task that was submitted elsewhere. (templated)
    :param resolution: resolution of a task that was submitted elsewhere. (templated)
    :param timeout: seconds that this sensor waits in total, in every mode.
    :param first_poll: seconds from the task's creation to the first poll; ``None`` follows the model
        (2K: 20, 4K: 30).
    :param poke_interval: seconds between two polls; ``None`` follows the model (2K: 3-5, 4K: 5), or is 60
        while a deferred sensor expects a callback to Airflow.
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
        with refuse_for_good():
            interval = read_optional_seconds("poke_interval", poke_interval)
        usual = MODELS[DEFAULT_MODEL].resolutions["2K"].pace.interval_high
        super().__init__(timeout=timeout, poke_interval=interval or usual, **kwargs)
        self.poll_interval = interval
        self.seedream_task_id = seedream_task_id
        self.seedream_conn_id = seedream_conn_id
        self.model = model
        self.resolution = resolution
        self.deferrable = deferrable
        self.give_up_after = self.timeout
        with refuse_for_good():
            self.first_poll = read_optional_seconds("first_poll", first_poll, zero_allowed=True)
            if not is_templated(seedream_task_id):
                check_task_id(seedream_task_id)
            self._check_model(frozenset(name for name in _MODEL_FIELDS if is_templated(getattr(self, name))))
        self.poked: tuple[Submission, Watch] | None = None

    def execute(self, context: Context) -> Any:
        """Wait in the mode that was asked for."""
        from airflow_provider_seedream.worker import sensor

        if self.deferrable:
            return sensor.wait(self, context)
        with sensor.poking(self):
            return super().execute(context)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Resume with the trigger's event, or by a callback."""
        from airflow_provider_seedream.worker import sensor

        return sensor.resume(self, context, event)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume; where the trigger was lost, what is left of the wait is waited for here."""
        if next_method != DEFERRAL_FAILED:
            return super().resume_execution(next_method, next_kwargs, context)
        from airflow_provider_seedream.worker import sensor

        return sensor.resume_without_trigger(self, context, next_kwargs)

    def poke(self, context: Context) -> PokeReturnValue | bool:
        """Poll once, if a poll is due; sets ``poke_interval`` to the time until the next one."""
        from airflow_provider_seedream.worker import sensor

        return sensor.poke(self, context)

    def check_parameters(self) -> None:
        """Check what templates have rendered to.

        :raises InvalidRequestError: it is no taskId, or no model or resolution that the API knows.
        """
        check_task_id(self.seedream_task_id)
        self._check_model()

    def _check_model(self, unknown: frozenset[str] = frozenset()) -> None:
        if problems := list(find_problems({name: getattr(self, name) for name in _MODEL_FIELDS}, unknown)):
            raise InvalidRequestError(problems)
