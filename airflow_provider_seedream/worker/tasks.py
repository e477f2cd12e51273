"""Names what a worker needs to know of operators and sensor, which lie a floor above it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_seedream.apixo.records import Submission
    from airflow_provider_seedream.apixo.request import GenerateRequest
    from airflow_provider_seedream.apixo.watch import Watch
    from airflow_provider_seedream.hooks.seedream import SeedreamHook
    from airflow_provider_seedream.purchases.terms import Terms


class RunningTask(Protocol):
    """Any operator or sensor of this package while it runs; parameters as its docstring has them."""

    seedream_conn_id: str

    @property
    def hook(self) -> SeedreamHook:
        """The hook of the task's connection."""

    @property
    def log(self) -> Logger:
        """The log of the task."""

    @property
    def execution_timeout(self) -> timedelta | None:
        """Airflow's parameter."""

    @property
    def upstream_task_ids(self) -> Collection[str]:
        """The tasks before this one."""

    def defer(self, *, trigger: Any, method_name: str, timeout: timedelta) -> NoReturn:
        """Free the worker slot, which Airflow does."""


class BuyingTask(RunningTask, Protocol):
    """Submit or Generate.

    :ivar report_kill: says what goes on at APIXO; ``on_kill`` calls it.
    """

    report_kill: Callable[[], None] | None

    def read_request(self) -> GenerateRequest:
        """Return the rendered, validated request."""

    def make_terms(self) -> Terms:
        """Return the terms on which the task buys."""


class GeneratingTask(BuyingTask, Protocol):
    """Generate."""

    destination: Any
    storage_conn_id: str | None
    filename: str
    generation_timeout: float
    first_poll: float | None
    poll_interval: float | None
    deferrable: bool
    wait_for_completion: bool
    min_images: int
    on_partial: str
    if_exists: str
    saves_images: bool


class DownloadingTask(RunningTask, Protocol):
    """Download."""

    destination: Any
    storage_conn_id: str | None
    filename: str
    result: Mapping[str, Any] | None
    seedream_task_id: str | None
    urls: Sequence[str] | None
    model: str


class WatchingTask(RunningTask, Protocol):
    """The sensor.

    :ivar give_up_after: seconds that it waits in all.
    :ivar poked: what it watches, from its first poke on.
    """

    seedream_task_id: str
    model: str
    resolution: str
    first_poll: float | None
    poll_interval: float | None
    give_up_after: float
    poked: tuple[Submission, Watch] | None
    timeout: Any
    poke_interval: Any
    soft_fail: bool
    never_fail: bool

    @property
    def reschedule(self) -> bool:
        """True where it frees its slot between two pokes."""

    def check_parameters(self) -> None:
        """Check what templates have rendered to."""
