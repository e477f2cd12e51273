"""Airflow's simple auth manager with one thing more: which DAGs a user may read, as a file says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

RIGHTS_FILE = "SEEDREAM_TEST_RIGHTS"
"""Environment variable with the path of a JSON object: user name to a list of DAG ids. It is read with every
question, so a right can be withdrawn while a page is open. Who is not in it is limited by the role alone."""


class RightsAuthManager(SimpleAuthManager):
    """For ``[core] auth_manager`` of the tests."""

    def is_authorized_dag(self, *, user: SimpleAuthManagerUser, details: Any = None, **more: Any) -> bool:
        """Whether role and file allow it; a question about no DAG in particular is one about any.

        So answers Airflow's own FAB auth manager, too: who may read none is refused the list (403).
        """
        if not super().is_authorized_dag(user=user, details=details, **more):
            return False
        allowed = json.loads(Path(os.environ[RIGHTS_FILE]).read_text()).get(user.username)
        dag_id = details.id if details else None
        return allowed is None or (dag_id in allowed if dag_id else bool(allowed))
