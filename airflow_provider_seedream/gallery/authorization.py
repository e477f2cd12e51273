"""Asks Airflow, anew with every request, whose images a user may see."""

from __future__ import annotations

from collections.abc import Iterable

from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import HTTPException, Request

requires_dag_of_path = requires_access_dag("GET", DagAccessEntity.XCOM)
"""Dependency of a route whose path holds ``{dag_id}``: images and manifests are what a task has returned."""


def select_readable(dag_ids: Iterable[str], request: Request, user: BaseUser) -> frozenset[str]:
    """Select those of some DAGs whose images a user may see."""
    return frozenset(dag_id for dag_id in dag_ids if _may_read(dag_id, request, user))


def _may_read(dag_id: str, request: Request, user: BaseUser) -> bool:
    # The same check as for a path, so that a page never lists what its images would refuse.
    check = requires_access_dag("GET", DagAccessEntity.XCOM, param_dag_id=dag_id)
    try:
        check(request, user)
    except HTTPException:
        return False
    return True
