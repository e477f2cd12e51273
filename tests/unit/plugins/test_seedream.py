"""What Airflow loads in every process, and what a fault in it costs."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from airflow_provider_seedream.gallery import app
from airflow_provider_seedream.plugins.seedream import (
    SeedreamPlugin,
    list_apps,
    make_callback_app,
    make_gallery_app,
)
from airflow_provider_seedream.urls import CALLBACK_PATH, MOUNT


def host() -> TestClient:
    """An api-server with the plugin and one page of its own."""
    airflow = FastAPI()
    airflow.mount(MOUNT, make_gallery_app())
    airflow.add_api_route("/home", lambda: "home")
    return TestClient(airflow)


def whole_host() -> TestClient:
    """An api-server with all that the plugin mounts."""
    airflow = FastAPI()
    for mounted in list_apps(has_state_store=True):
        airflow.mount(mounted["url_prefix"], mounted["app"])
    return TestClient(airflow, raise_server_exceptions=False)


class TestAFaultInTheGallery:
    def test_costs_its_own_pages_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken() -> FastAPI:
            raise ImportError("a library is missing")

        monkeypatch.setattr(app, "create_app", broken)
        client = host()
        assert client.get("/home").status_code == 200
        answer = client.get(f"{MOUNT}/")
        assert answer.status_code == 503
        assert "the log of the api-server says why" in answer.text
        assert answer.headers["X-Content-Type-Options"] == "nosniff"

    def test_of_the_importing_kind_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "airflow_provider_seedream.gallery.app", None)
        assert host().get(f"{MOUNT}/").status_code == 503


class TestTheCallbackEndpoint:
    def test_answers_before_the_gallery_which_is_mounted_around_it(self) -> None:
        prefixes = [app["url_prefix"] for app in list_apps(has_state_store=True)]
        assert prefixes == [CALLBACK_PATH, MOUNT]

    def test_is_not_there_where_airflow_has_no_state_store(self) -> None:
        assert [app["url_prefix"] for app in list_apps(has_state_store=False)] == [MOUNT]

    @pytest.mark.parametrize("path", [CALLBACK_PATH, f"{CALLBACK_PATH}?token=secret"])
    def test_refuses_its_own_path_without_a_slash_as_all_else(self, path: str) -> None:
        answer, usual = whole_host().post(path), whole_host().post(f"{CALLBACK_PATH}/x")
        assert (answer.status_code, answer.text, answer.headers) == (404, "not found\n", usual.headers)

    def test_works_when_the_gallery_does_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "airflow_provider_seedream.gallery.app", None)
        assert whole_host().get(f"{MOUNT}/").status_code == 503
        assert whole_host().post(f"{CALLBACK_PATH}/x").text == "not found\n"

    def test_costs_the_gallery_nothing_when_it_cannot_start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "airflow_provider_seedream.callback_endpoint.app", None)
        answer = whole_host().post(f"{CALLBACK_PATH}/secret")
        assert answer.status_code == 503
        assert "secret" not in answer.text
        assert whole_host().get(f"{MOUNT}/").status_code != 503

    @pytest.mark.parametrize("end", ["/secret", "/", ""])
    @pytest.mark.parametrize("base", ["", "/airflow"])
    async def test_hides_the_token_even_then(
        self, monkeypatch: pytest.MonkeyPatch, base: str, end: str
    ) -> None:
        monkeypatch.setitem(sys.modules, "airflow_provider_seedream.callback_endpoint.app", None)
        path = f"{base}{CALLBACK_PATH}{end}"
        scope: dict[str, Any] = {
            "type": "http", "method": "POST", "headers": [], "path": path, "raw_path": path.encode(),
            "query_string": b"secret",
        }  # fmt: skip

        async def send(message: Any) -> None:
            assert "secret" not in str(scope)

        await make_callback_app()(scope, lambda: None, send)  # type: ignore[arg-type, return-value]
        assert scope["path"] == f"{base}{CALLBACK_PATH}/***"


class TestEveryProcess:
    def test_finds_the_plugin_whatever_airflow_does_with_providers(self) -> None:
        (found,) = entry_points(group="airflow.plugins", name="seedream")
        assert found.load() is SeedreamPlugin

    @pytest.mark.parametrize(
        "heavy", ["fastapi", "jinja2.environment", "PIL", "cachetools", "sqlalchemy.orm"]
    )
    def test_pays_for_none_of_the_gallerys_libraries(self, heavy: str) -> None:
        code = (
            "import sys, airflow.sdk.plugins_manager; before = set(sys.modules)\n"
            "import airflow_provider_seedream.plugins.seedream\n"
            f"sys.exit({heavy!r} in set(sys.modules) - before)"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestViews:
    def test_are_on_tasks_on_runs_and_under_browse(self) -> None:
        views = {view["destination"]: view for view in SeedreamPlugin.external_views}
        assert views.keys() == {"nav", "dag_run", "task_instance"}
        assert views["nav"]["category"] == "browse"
        assert views["task_instance"]["href"].endswith(
            "/seedream/dags/{DAG_ID}/runs/{RUN_ID}/tasks/{TASK_ID}/{MAP_INDEX}"
        )
        assert len({view["url_route"] for view in views.values()}) == 3
