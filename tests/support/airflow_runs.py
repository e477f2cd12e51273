"""Runs a test's DAG by Airflow's own ``dag.test()``: real templates, XCom, mapping and deferral.

All in one process, so it cannot show what needs several: retries, kills, races. ``tests/e2e`` does.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from airflow_provider_seedream.operators.seedream import SeedreamGenerateOperator
from tests.support.purchases import QUICK


def prepare_database() -> None:
    """Make the metadata database of this test session."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.utils.db import initdb

    (Path(os.environ["AIRFLOW_HOME"]) / "dags").mkdir(exist_ok=True)
    initdb()
    DagBundlesManager().sync_bundles_to_db()


class FinishedRun:
    """A DAG run that has ended."""

    def __init__(self, dag_run: Any) -> None:
        self._dag_run = dag_run
        self.state = str(dag_run.state)

    def task_state(self, task_id: str, map_index: int = -1) -> str:
        """State of a task instance."""
        return str(self._dag_run.get_task_instance(task_id, map_index=map_index).state)

    def xcom(self, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """An XCom value, decoded; ``None`` where there is none."""
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session

        with create_session() as session:
            query = XComModel.get_many(
                run_id=self._dag_run.run_id,
                key=key,
                task_ids=task_id,
                dag_ids=self._dag_run.dag_id,
                map_indexes=map_index,
            )
            row = session.execute(query.with_only_columns(XComModel.value)).first()
            return None if row is None else XComModel.deserialize_value(row)


def run_dag(dag: DAG) -> FinishedRun:
    """Register a DAG and run it to its end."""
    try:
        from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    except ImportError:  # Airflow 3.1
        from airflow.models.dagbag import DagBag, sync_bag_to_db  # type: ignore[no-redef, attr-defined]

    bag = DagBag(Path(os.environ["AIRFLOW_HOME"]) / "dags")
    bag.bag_dag(dag)
    sync_bag_to_db(bag, "dags-folder", None)
    return FinishedRun(dag.test())


def run_generate(dag: DAG, **arguments: Any) -> FinishedRun:
    """Run a DAG of one Generate task with these parameters."""
    with dag:
        SeedreamGenerateOperator(task_id="generate", **{"prompt": "a fox", **QUICK, **arguments})
    return run_dag(dag)
