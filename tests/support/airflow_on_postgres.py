"""What the tests share that run many tasks on Airflow with PostgreSQL, and end its processes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.fernet import Fernet

from dev.postgres import Postgres

SETTINGS = {
    "AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode(),
    # More at once are no sooner done on two cores, and let servers answer late.
    "AIRFLOW__CORE__PARALLELISM": "8",
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "64",
    # A dead triggerer or worker is missed after seconds, not minutes.
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
}


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A metadata database, in a folder that PostgreSQL's user can reach."""
    with tempfile.TemporaryDirectory(prefix="seedream-postgres-") as folder, Postgres(Path(folder)) as server:
        yield server
