"""Calls Airflow's public REST API as its users do, and waits for what they wait for."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

API_ATTEMPTS = 5
API_SECONDS = 30

NEEDS_3_3 = "callback_mode.py"
"""The example that older Airflows refuse to parse; that must not stop the others there."""


class StackError(RuntimeError):
    """Airflow did not do what it should; the message names the log to read."""


class _BusyError(StackError):
    """The API could not answer for now."""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who logs in with name and password.

    :param role: of Airflow's simple auth manager: ``viewer``, ``user``, ``op`` or ``admin``.
    """

    name: str
    role: str
    password: str = field(repr=False)


class AirflowApi:
    """A running Airflow, as its REST API shows it.

    :param url: of the api-server, base path included.
    :param users: who may log in; the first makes the calls of :meth:`call_api`. Without any,
        no login is needed.
    :param home: ``AIRFLOW_HOME``, where the logs are that errors point to.
    """

    def __init__(self, url: str, users: Sequence[User], home: Path) -> None:
        self.url = url
        self.home = home
        self._users = users

    def call_api(self, method: str, path: str, **options: Any) -> Any:
        """Call Airflow's public REST API (``/api/v2``) and return the decoded JSON.

        SQLite may be locked for a moment, which the API reports as a 5xx or by no answer in time; the
        call is then sent again.
        """
        for _ in range(API_ATTEMPTS - 1):
            with contextlib.suppress(_BusyError):
                return self._call(method, path, **options)
            time.sleep(1)
        return self._call(method, path, **options)

    def _call(self, method: str, path: str, **options: Any) -> Any:
        try:
            response = httpx.request(
                method,
                f"{self.url}/api/v2{path}",
                headers={"Authorization": f"Bearer {self.get_token()}"},
                timeout=API_SECONDS,
                trust_env=False,
                **options,
            )
        except httpx.TimeoutException as error:
            raise _BusyError(f"{method} {path}: no answer within {API_SECONDS} s") from error
        if response.is_error:
            kind = _BusyError if response.is_server_error else StackError
            raise kind(f"{method} {path}: {response.status_code} {response.text[:500]}")
        return response.json() if response.content else None

    def get_token(self, user: User | None = None) -> str:
        """Return a user's token for the REST API; the first user's if not given."""
        url = f"{self.url}/auth/token"
        if user := user or next(iter(self._users), None):
            body = {"username": user.name, "password": user.password}
            answer = httpx.post(url, json=body, timeout=API_SECONDS, trust_env=False)
        else:
            answer = httpx.get(url, timeout=API_SECONDS, trust_env=False)
        if answer.is_error:
            raise _BusyError(f"no token: {answer.status_code} {answer.text[:500]}")
        return str(answer.json()["access_token"])

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Trigger a DAG, as soon as the DAG processor has found it, and return the run id."""
        self.wait_for_dag(dag_id)
        # With an id of our own, a call that is sent again starts no second run.
        run_id = f"run-{secrets.token_hex(4)}"
        body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf or {})}
        try:
            self.call_api("POST", f"/dags/{dag_id}/dagRuns", json=body)
        except StackError:
            self.get_run_state(dag_id, run_id)
        return run_id

    def wait_for_dag(self, dag_id: str) -> None:
        """Wait until the DAG processor has found a DAG.

        :raises StackError: it did not, or some DAG cannot be imported.
        """
        self.wait_until(lambda: self._is_known(dag_id), f"DAG {dag_id} is parsed", 120)

    def _is_known(self, dag_id: str) -> bool:
        errors = self.call_api("GET", "/importErrors")["import_errors"]
        if errors := [one for one in errors if not one["filename"].endswith(NEEDS_3_3)]:
            raise StackError(f"DAG import error: {errors[0]['stack_trace']}")
        return any(dag["dag_id"] == dag_id for dag in self.call_api("GET", "/dags?limit=100")["dags"])

    def get_run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a DAG run."""
        return str(self.call_api("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def list_task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return all task instances of a DAG run."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances?limit=1000"
        return list(self.call_api("GET", path)["task_instances"])

    def get_task_instance(
        self, dag_id: str, run_id: str, task_id: str, map_index: int = -1
    ) -> dict[str, Any]:
        """Return one task instance: ``id``, ``state``, ``try_number``, ``rendered_fields`` and more."""
        mapped = f"/{map_index}" if map_index >= 0 else ""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}{mapped}"
        return dict(self.call_api("GET", path))

    def wait_for_task(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        *states: str,
        map_index: int = -1,
        timeout: float = 120,
    ) -> dict[str, Any]:
        """Wait until a task instance is in one of some states, and return it."""
        found: dict[str, Any] = {}

        def arrived() -> bool:
            found.update(self.get_task_instance(dag_id, run_id, task_id, map_index))
            return found["state"] in states

        self.wait_until(arrived, f"{dag_id}.{task_id} is {' or '.join(states)}", timeout)
        return found

    def mark_failed(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> None:
        """Mark a task instance as failed, as a user does in the UI."""
        mapped = f"/{map_index}" if map_index >= 0 else ""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}{mapped}"
        self.call_api("PATCH", path, json={"new_state": "failed"})

    def clear(self, dag_id: str, run_id: str, *task_ids: str) -> None:
        """Clear task instances, so that they run anew, as a user does in the UI."""
        body = {"dag_run_id": run_id, "task_ids": task_ids, "dry_run": False, "only_failed": False}
        self.call_api("POST", f"/dags/{dag_id}/clearTaskInstances", json=body)

    def read_xcom(
        self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1
    ) -> Any:
        """Return one XCom value, decoded."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.call_api("GET", f"{path}?map_index={map_index}&deserialize=false")["value"]

    def read_task_log(
        self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1
    ) -> str:
        """Return the task's log as text, one event a line."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        content = self.call_api("GET", f"{path}?map_index={map_index}&full_content=true")["content"]
        return "\n".join(
            " ".join(str(value) for value in entry.values()) if isinstance(entry, dict) else str(entry)
            for entry in content
        )

    def wait_for_run(self, dag_id: str, run_id: str, timeout: float = 300) -> str:
        """Wait until a DAG run has ended, and return its state."""
        self.wait_until(
            lambda: self.get_run_state(dag_id, run_id) in ("success", "failed"),
            f"{dag_id} {run_id} ends",
            timeout,
        )
        return self.get_run_state(dag_id, run_id)

    def wait_until(self, condition: Callable[[], bool], what: str, timeout: float) -> None:
        """Ask again until a condition holds.

        :raises StackError: it did not hold within ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise StackError(f"waited {timeout:.0f} s in vain until {what}; see the logs in {self.home}")
            time.sleep(0.5)
