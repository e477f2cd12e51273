"""Tells Airflow what to mount, and where its pages offer the gallery; every Airflow process imports this."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowPlugin

from airflow_provider_seedream.airflow_compat import has_task_state_store, needs_connection_test_fix
from airflow_provider_seedream.callback_endpoint.token_redaction import TokenRedaction
from airflow_provider_seedream.plugins.connection_test_fix import ConnectionTestFix
from airflow_provider_seedream.plugins.lazy_app import LazyApp
from airflow_provider_seedream.urls import (
    BROWSE_TAB,
    CALLBACK_PATH,
    MOUNT,
    RUN_TAB,
    TASK_TAB,
    read_base_path,
)

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_RUN = "/dags/{DAG_ID}/runs/{RUN_ID}"


def make_gallery_app() -> ASGIApp:
    """Make the application with the images, not imported yet."""

    def load() -> ASGIApp:
        from airflow_provider_seedream.gallery.app import create_app
        from airflow_provider_seedream.gallery.security_headers import SecurityHeaders

        return SecurityHeaders(create_app())

    return LazyApp("The Seedream gallery", load)


def make_callback_app() -> ASGIApp:
    """Make the application that APIXO calls, not imported yet; no log ever has a token."""

    def load() -> ASGIApp:
        from airflow_provider_seedream.callback_endpoint.app import create_app

        return create_app()

    return TokenRedaction(LazyApp("The endpoint of Seedream callbacks", load))


class BarePath:
    """Passes on what asks for ``CALLBACK_PATH`` itself, which a mount at it does not fit without a slash.

    :param callbacks: answers that.
    :param gallery: answers all else.
    """

    def __init__(self, callbacks: ASGIApp, gallery: ASGIApp) -> None:
        self._callbacks = callbacks
        self._gallery = gallery
        self._paths = {CALLBACK_PATH, f"{read_base_path()}{CALLBACK_PATH}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        app = self._callbacks if scope["path"] in self._paths else self._gallery
        await app(scope, receive, send)


def list_apps(*, has_state_store: bool) -> list[dict[str, Any]]:
    """Return the applications in the order in which Airflow tries them on an address.

    :param has_state_store: whether Airflow keeps what a task has bought, which callbacks are checked
        against (3.3+).
    """
    gallery = make_gallery_app()
    if not has_state_store:
        return [_mount("Seedream gallery", gallery, MOUNT)]
    callbacks = make_callback_app()
    return [
        _mount("Seedream callbacks", callbacks, CALLBACK_PATH),
        _mount("Seedream gallery", BarePath(callbacks, gallery), MOUNT),
    ]


def _mount(name: str, app: ASGIApp, url_prefix: str) -> dict[str, Any]:
    return {"name": name, "app": app, "url_prefix": url_prefix}


def _make_view(name: str, destination: str, route: str, path: str, **more: str) -> dict[str, str]:
    return {
        "name": name,
        "destination": destination,
        "url_route": route,
        "href": f"{read_base_path()}{MOUNT}{path}",
        "icon": f"{read_base_path()}{MOUNT}/static/icon.svg",
        "icon_dark_mode": f"{read_base_path()}{MOUNT}/static/icon-dark.svg",
        **more,
    }


class SeedreamPlugin(AirflowPlugin):
    """The gallery: a page under *Browse*, and a tab on DAG runs and task instances (Airflow 3.1+); and
    where APIXO calls (3.3+)."""

    name = "seedream"
    # Lists, and not class variables to a type checker, since that is how Airflow declares them.
    fastapi_apps = list_apps(has_state_store=has_task_state_store())
    fastapi_root_middlewares = (
        [{"name": "Seedream connection tests", "middleware": ConnectionTestFix}]
        if needs_connection_test_fix()
        else []
    )
    # Airflow's page fills in the braces; for a task that is not mapped, {MAP_INDEX} stays as it is.
    external_views = [  # noqa: RUF012
        _make_view("Seedream images", "nav", BROWSE_TAB, "/", category="browse"),
        _make_view("Images", "dag_run", RUN_TAB, _RUN),
        _make_view("Images", "task_instance", TASK_TAB, f"{_RUN}/tasks/{{TASK_ID}}/{{MAP_INDEX}}"),
    ]
