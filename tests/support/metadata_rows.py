"""Puts finished and unfinished tasks into Airflow's metadata database without running them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


class MetadataRows:
    """Rows of one database; the session belongs to the caller, who commits.

    :param session: an SQLAlchemy session on a migrated metadata database.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._versions: dict[str, Any] = {}

    def dag(self, dag_id: str) -> Any:
        """A DAG with a version, which task instances need; made once."""
        from airflow.models.dag import DagModel
        from airflow.models.dag_version import DagVersion
        from airflow.models.dagbundle import DagBundleModel
        from sqlalchemy import select

        if dag_id not in self._versions:
            bundle = self._session.scalar(select(DagBundleModel.name).limit(1))
            if self._session.get(DagModel, dag_id) is None:
                self._session.add(
                    DagModel(dag_id=dag_id, bundle_name=bundle, is_stale=False, fileloc=f"{dag_id}.py")
                )
                self._session.flush()
            version = self._session.scalar(select(DagVersion).where(DagVersion.dag_id == dag_id).limit(1))
            if version is None:
                version = DagVersion(dag_id=dag_id, version_number=1, bundle_name=bundle)
                self._session.add(version)
                self._session.flush()
            self._versions[dag_id] = version
        return self._versions[dag_id]

    def run(self, dag_id: str, run_id: str, state: str = "success", at: datetime = START) -> Any:
        """A DAG run."""
        from airflow.models.dagrun import DagRun
        from airflow.utils.types import DagRunType

        self.dag(dag_id)
        run = DagRun(
            dag_id=dag_id, run_id=run_id, run_type=DagRunType.MANUAL, state=state, start_date=at,
            run_after=at, logical_date=None,
        )  # fmt: skip
        self._session.add(run)
        self._session.flush()
        return run

    def find_run(self, dag_id: str, run_id: str) -> Any:
        """A DAG run that is there already, or ``None``."""
        from airflow.models.dagrun import DagRun
        from sqlalchemy import select

        return self._session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))

    def task(
        self,
        run: Any,
        task_id: str,
        map_index: int = -1,
        *,
        operator: str = "SeedreamGenerateOperator",
        state: str = "success",
        xcoms: Mapping[str, Any] | None = None,
        at: datetime = START,
    ) -> None:
        """A task instance of a run, with what it has pushed."""
        from airflow.models.taskinstance import TaskInstance
        from airflow.models.xcom import XComModel
        from airflow.providers.standard.operators.empty import EmptyOperator

        version = self.dag(run.dag_id)
        ti = TaskInstance(
            EmptyOperator(task_id=task_id), run_id=run.run_id, map_index=map_index, state=state,
            dag_version_id=version.id,
        )  # fmt: skip
        ti.dag_id, ti.operator, ti.start_date = run.dag_id, operator, at
        self._session.add(ti)
        self._session.flush()
        for key, value in (xcoms or {}).items():
            self._session.add(
                XComModel(
                    dag_run_id=run.id, task_id=task_id, map_index=map_index, key=key, dag_id=run.dag_id,
                    run_id=run.run_id, value=value, timestamp=at,
                )
            )  # fmt: skip
        self._session.flush()

    def defer(
        self, run: Any, task_id: str, map_index: int = -1, *, classpath: str, kwargs: Mapping[str, Any]
    ) -> None:
        """Let a task instance wait for a trigger."""
        from airflow.models.taskinstance import TaskInstance
        from airflow.models.trigger import Trigger
        from sqlalchemy import select

        trigger = Trigger(classpath=classpath, kwargs=dict(kwargs))
        self._session.add(trigger)
        self._session.flush()
        ti = self._session.scalar(
            select(TaskInstance).where(
                TaskInstance.dag_id == run.dag_id,
                TaskInstance.run_id == run.run_id,
                TaskInstance.task_id == task_id,
                TaskInstance.map_index == map_index,
            )
        )
        ti.state, ti.trigger_id, ti.next_method = "deferred", trigger.id, "execute_complete"
        self._session.flush()

    def keep(self, run: Any, task_id: str, map_index: int = -1, *, key: str, value: Any) -> None:
        """Put a value into the state of a task instance, as a worker does (Airflow 3.3+)."""
        from airflow.state import TaskScope, get_state_backend

        scope = TaskScope(run.dag_id, run.run_id, task_id, map_index)
        get_state_backend().set(scope, key, json.dumps(value), session=self._session)


def after(minutes: float) -> datetime:
    """So many minutes after ``START``."""
    return START + timedelta(minutes=minutes)


def saved_entry(
    seedream_task_id: str = "task_1",
    prompt: str = "a fox",
    images: int = 1,
    destination: str = "file:///data/images",
    **changes: Any,
) -> dict[str, Any]:
    """What a task pushes when it has saved images, in the shape of ``IndexEntry.to_json``."""
    return {
        "seedream_task_id": seedream_task_id,
        "destination": destination,
        "manifest": f"{destination}/{seedream_task_id}-manifest.json",
        "prompt": prompt,
        "cost_usd": round(0.035 * images, 3),
        "reused": False,
        "images": [
            {
                "index": index,
                "name": f"{seedream_task_id}-{index}.png",
                "sha256": "0" * 64,
                "width": 2048,
                "height": 2048,
            }
            for index in range(1, images + 1)
        ],
        **changes,
    }


def submission(seedream_task_id: str = "task_1", prompt: str = "a fox", images: int = 1) -> dict[str, Any]:
    """The part of what a task pushes when it has bought images that the gallery reads."""
    return {
        "seedream_task_id": seedream_task_id,
        "requested": images,
        "charged_usd": round(0.035 * images, 3),
        "request": {"prompt": prompt, "max_images": images},
    }
