"""What Airflow mounts and where its pages offer the gallery; every Airflow process imports this."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import AirflowPlugin

from airflow_provider_seedream.ui.addresses import BROWSE_TAB, MOUNT, RUN_TAB, TASK_TAB, base_path
from airflow_provider_seedream.ui.portless import AFFECTED_VERSIONS, PortlessConnectionTests

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

log = logging.getLogger(__name__)

_RUN = "/dags/{DAG_ID}/runs/{RUN_ID}"


class LazyApp:
    """The application, imported with the first request: no other process needs it, and a fault in it costs
    its own pages, not the api-server."""

    def __init__(self) -> None:
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._app is None:
            self._app = _load()
        await self._app(scope, receive, send)


def _load() -> ASGIApp:
    from airflow_provider_seedream.ui.headers import SecurityHeaders

    return SecurityHeaders(_application())


def _application() -> ASGIApp:
    try:
        from airflow_provider_seedream.ui.app import create_app

        return create_app()
    except Exception:
        log.exception("The Seedream gallery cannot start; the rest of Airflow is not affected")
        from starlette.responses import PlainTextResponse

        return PlainTextResponse(
            "The Seedream gallery could not start; the log of the api-server says why.", status_code=503
        )


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
    """The gallery: a page under *Browse*, and a tab on DAG runs and task instances (Airflow 3.1+)."""

    name = "seedream"
    # Lists, and not class variables to a type checker, since that is how Airflow declares them.
    fastapi_apps = [{"name": "Seedream gallery", "app": LazyApp(), "url_prefix": MOUNT}]  # noqa: RUF012
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
