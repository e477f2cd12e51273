"""Readers of the gallery, with Airflow's own tokens and checks, and what they may find there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from fastapi import FastAPI
from fastapi.testclient import TestClient

from airflow_provider_seedream.plugins.seedream import make_gallery_app
from airflow_provider_seedream.storage.index import SAVED_KEY
from airflow_provider_seedream.urls import MOUNT
from tests.support.metadata_rows import MetadataRows
from tests.unit.gallery.gallery_site import (
    CommittingRows,
    Reader,
    RightsPerDag,
    save,
)


@pytest.fixture(scope="module")
def auth(airflow_database: None) -> Iterator[RightsPerDag]:
    from airflow.api_fastapi.app import create_auth_manager, purge_cached_app

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__CORE__AUTH_MANAGER", f"{RightsPerDag.__module__}.RightsPerDag")
        patch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "s" * 64)
        purge_cached_app()
        yield create_auth_manager()  # type: ignore[misc]
    purge_cached_app()


@pytest.fixture
def log_in(auth: RightsPerDag, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes readers; each with the DAGs that they may read."""
    host = FastAPI()
    host.mount(MOUNT, make_gallery_app())

    def make(*dag_ids: str, name: str = "ann") -> Reader:
        monkeypatch.setitem(RightsPerDag.rights, name, set(dag_ids))
        token = auth.generate_jwt(SimpleAuthManagerUser(username=name, role="viewer"))
        return Reader(TestClient(host, cookies={"_token": token}, raise_server_exceptions=False))

    make.nobody = Reader(TestClient(host))  # type: ignore[attr-defined]
    return make


@pytest.fixture
def rows(airflow_database: None) -> Iterator[MetadataRows]:
    """Rows that the application sees; they are gone after the test."""
    from airflow.models.dag import DagModel
    from airflow.models.dag_version import DagVersion
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.settings import Session
    from sqlalchemy import delete

    with Session() as session:
        yield CommittingRows(session)
        session.rollback()
        for model in (XComModel, TaskInstance, DagRun, DagVersion, DagModel):
            session.execute(delete(model).where(model.dag_id.in_(("art", "secret"))))
        session.commit()


@pytest.fixture
def saved(rows: MetadataRows, tmp_path: Path) -> dict[str, Any]:
    """One image of one task, saved."""
    entry = save(tmp_path / "images")
    rows.task(rows.run("art", "r1"), "draw", xcoms={SAVED_KEY: entry})
    return entry
