"""Queries and locks on the database that Airflow is run on in earnest."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.postgres import Postgres
from tests.support.airflow_on_postgres import postgres

ROOT = Path(__file__).resolve().parents[2]

PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")

STORABLE = "not nan and not inf and not test_what_is_no_task_id_is_not_searched_for"
"""The others' forgeries are values that PostgreSQL refuses to store."""

pytestmark = pytest.mark.long


@pytest.fixture
def database() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


def run_tests(database: Postgres, *arguments: str) -> None:
    """Run tests of another file with PostgreSQL as the metadata database."""
    done = subprocess.run(
        [*PYTEST, *arguments],
        cwd=ROOT,
        env={**os.environ, "SEEDREAM_TEST_DATABASE": database.url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    tables = database.query("select count(*) from information_schema.tables where table_name = 'xcom'")
    assert tables == [["1"]]


def test_the_gallery_lists_the_same_from_postgresql(database: Postgres) -> None:
    run_tests(database, "tests/unit/gallery/test_queries.py", "-k", STORABLE)


def test_callbacks_resume_the_same_tasks_as_often_on_postgresql(database: Postgres) -> None:
    folder = "tests/unit/callback_endpoint"
    run_tests(database, f"{folder}/test_deliveries.py", f"{folder}/test_resuming.py")
