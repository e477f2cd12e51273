"""What Airflow mounts and where its pages offer the gallery; every Airflow process imports this."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import AirflowPlugin
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_seedream.ui.addresses import (
    BROWSE_TAB,
    CALLBACK_PATH,
    MOUNT,
    RUN_TAB,
    TASK_TAB,
    base_path,
)
from airflow_provider_seedream.ui.hidden_token import HiddenToken
from airflow_provider_seedream.ui.portless import AFFECTED_VERSIONS, PortlessConnectionTests

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

log = logging.getLogger(__name__)

_RUN = "/dags/{DAG_ID}/runs/{RUN_ID}"


class LazyApp:
    """An application that is imported with the first request: no other process needs it, and a fault in it
    costs its own pages, not the api-server.

    :param name: what it is, for the log and for whoever asks for a page while it cannot start.
    :param load: imports and makes it.
    """

    def __init__(self, name: str, load: Callable[[], ASGIApp]) -> None:
        self._name = name
        self._load = load
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._app is None:
            self._app = self._loaded()
        await self._app(scope, receive, send)

    def _loaded(self) -> ASGIApp:
        try:
            return self._load()
        except Exception:
            log.exception("%s cannot start; the rest of Airflow is not affected", self._name)
            from starlette.responses import PlainTextResponse

            return PlainTextResponse(
                f"{self._name} could not start; the log of the api-server says why.",
                status_code=503,
                headers={"X-Content-Type-Options": "nosniff"},
            )


def gallery_app() -> ASGIApp:
    """The pages with the images, not imported yet."""

    def load() -> ASGIApp:
        from airflow_provider_seedream.ui.app import create_app
        from airflow_provider_seedream.ui.headers import SecurityHeaders

        return SecurityHeaders(create_app())

    return LazyApp("The Seedream gallery", load)


def callback_app() -> ASGIApp:
    """Where APIXO calls, not imported yet; no log ever has a token."""

    def load() -> ASGIApp:
        from airflow_provider_seedream.ui.callback_app import create_app

        return create_app()

    return HiddenToken(LazyApp("The endpoint of Seedream callbacks", load))


def mounted_apps(*, has_state_store: bool) -> list[dict[str, Any]]:
    """What Airflow mounts, in the order in which it looks for the first that fits an address.

    :param has_state_store: whether Airflow keeps what a task has bought, which callbacks are checked
        against (3.3+).
    """
    gallery = {"name": "Seedream gallery", "app": gallery_app(), "url_prefix": MOUNT}
    callbacks = {"name": "Seedream callbacks", "app": callback_app(), "url_prefix": CALLBACK_PATH}
    return [callbacks, gallery] if has_state_store else [gallery]


def _view(name: str, destination: str, route: str, path: str, **more: str) -> dict[str, str]:
    return {
        "name": name,
        "destination": destination,
        "url_route": route,
        "href": f"{base_path()}{MOUNT}{path}",
        "icon": f"{base_path()}{MOUNT}/static/icon.svg",
        "icon_dark_mode": f"{base_path()}{MOUNT}/static/icon-dark.svg",
        **more,
    }


class SeedreamPlugin(AirflowPlugin):
    """The gallery: a page under *Browse*, and a tab on DAG runs and task instances (Airflow 3.1+); and
    where APIXO calls (3.3+)."""

    name = "seedream"
    # Lists, and not class variables to a type checker, since that is how Airflow declares them.
    fastapi_apps = mounted_apps(has_state_store=AIRFLOW_V_3_3_PLUS)
    fastapi_root_middlewares = (
        [{"name": "Seedream connection tests", "middleware": PortlessConnectionTests}]
        if airflow_version in AFFECTED_VERSIONS
        else []
    )
    # Airflow's page fills in the braces; for a task that is not mapped, {MAP_INDEX} stays as it is.
    external_views = [  # noqa: RUF012
        _view("Seedream images", "nav", BROWSE_TAB, "/", category="browse"),
        _view("Images", "dag_run", RUN_TAB, _RUN),
        _view("Images", "task_instance", TASK_TAB, f"{_RUN}/tasks/{{TASK_ID}}/{{MAP_INDEX}}"),
    ]
