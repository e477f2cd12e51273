"""A real Airflow in one folder, each component a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psutil

from dev.processes import child, uninterrupted

COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
STARTUP_SECONDS = 180
API_ATTEMPTS = 5
API_SECONDS = 30

NEEDS_3_3 = "callback_mode.py"
"""The example that older Airflows refuse to parse; that must not stop the others there."""


class StackError(RuntimeError):
    """Airflow did not do what it should; the message names the log to read."""


class _BusyError(StackError):
    """The API could not answer for now."""


def free_ports(count: int) -> list[int]:
    """TCP ports of the loopback address that nobody uses."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def free_port(preferred: int) -> int:
    """A TCP port of the loopback address, or any other where that one is in use."""
    with socket.socket() as one:
        # As the server does: connections that have just ended are no hindrance.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", preferred))
        except OSError:
            return free_ports(1)[0]
    return preferred


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who logs in with name and password.

    :param role: of Airflow's simple auth manager: ``viewer``, ``user``, ``op`` or ``admin``.
    """

    name: str
    role: str
    password: str = field(repr=False)


class AirflowStack:
    """Starts Airflow's components, speaks to its REST API, and leaves no process behind.

    :param home: ``AIRFLOW_HOME``; made if missing, and reused by the next start.
    :param dags_folder: where the DAGs are.
    :param env: more environment, such as connections, variables, and any Airflow setting.
    :param database_url: the metadata database, such as ``postgresql+psycopg2://user@host:port/name``; a
        SQLite file in ``home`` if not given, which is too slow for many tasks at once.
    :param python: interpreter of the environment in which Airflow is installed.
    :param users: who may log in; the first, an ``admin``, also makes the calls of :meth:`api`. Without any,
        everybody is an administrator and there is no login.
    :param components: what is started, out of :data:`COMPONENTS`.
    :param port: of the api-server; a free one if not given.
    :param on_step: told what is done while it starts.
    :param base_path: path below which the api-server answers, such as ``/airflow``.
    """

    def __init__(
        self,
        home: Path,
        dags_folder: Path,
        env: Mapping[str, str] | None = None,
        *,
        database_url: str | None = None,
        python: str = sys.executable,
        users: Sequence[User] = (),
        components: Sequence[str] = COMPONENTS,
        port: int | None = None,
        on_step: Callable[[str], None] = lambda step: None,
        base_path: str = "",
    ) -> None:
        self.home = home.resolve()
        self._python = python
        self._users = users
        self._components = components
        self._on_step = on_step
        any_port, worker_log_port, trigger_log_port = free_ports(3)
        port = port or any_port
        self.url = f"http://127.0.0.1:{port}{base_path}"
        self.env = {
            # Settings of another Airflow on this machine must not leak in.
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags_folder.resolve()),
            # Several processes write to one SQLite file; they must wait for each other, not fail.
            # Airflow derives the URL of its asynchronous driver (aiosqlite, asyncpg) from this one.
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database_url
            or f"sqlite:///{self.home}/airflow.db?timeout=60",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            **self._login_settings(),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__MAXIMUM_PAGE_LIMIT": "1000",
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_log_port),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_log_port),
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "PYTHONUNBUFFERED": "1",
            **(env or {}),
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    # --- life ----------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Prepare the database and start every component; returns when the API answers."""
        self.home.mkdir(parents=True, exist_ok=True)
        self._write_passwords()
        self._on_step("preparing Airflow's database")
        self.airflow("db", "migrate")
        self._on_step(f"starting Airflow: {', '.join(self._components)}")
        for component in self._components:
            self.start_component(component)
        self.wait_until(self._healthy, "all components are healthy", STARTUP_SECONDS)
        return self

    @property
    def _passwords_file(self) -> Path:
        return self.home / "passwords.json"

    def _write_passwords(self) -> None:
        self._passwords_file.touch(mode=0o600)
        self._passwords_file.write_text(json.dumps({user.name: user.password for user in self._users}))

    def _login_settings(self) -> dict[str, str]:
        if not self._users:
            return {"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True"}
        return {
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(
                f"{user.name}:{user.role}" for user in self._users
            ),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self._passwords_file),
        }

    def start_component(
        self, component: str, name: str | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        """Start one component in a session of its own, its output in ``HOME/NAME.log``.

        :param name: by which it is killed; the component's own if not given. A second triggerer needs one.
        :param env: environment that only it has.
        """
        name = name or component
        # The log server's port belongs to the first triggerer; logs are also read from the files.
        options = ["--skip-serve-logs"] if component == "triggerer" and name != component else []
        with self.log_of(name).open("ab") as log, uninterrupted():
            self.processes[name] = subprocess.Popen(
                [self._python, "-m", "airflow", component, *options],
                env=self.env | dict(env or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """End a component without warning (SIGKILL), with every process that it has started."""
        popen = self.processes.pop(name)
        while alive := _processes_of({popen.pid}):
            for process in alive:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            popen.wait()
            psutil.wait_procs(alive, timeout=8)

    def stop(self) -> None:
        """End every process that was started here, forked workers and orphans included."""
        for process in self._own_processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        psutil.wait_procs(self._own_processes(), timeout=8)
        for process in self._own_processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for popen in self.processes.values():
            popen.wait()
        self.processes.clear()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _own_processes(self) -> list[psutil.Process]:
        """Everything in the components' sessions: orphans keep the session when their parent is gone."""
        return _processes_of({popen.pid for popen in self.processes.values()})

    def check_processes(self) -> None:
        """Notice a component that has ended by itself.

        :raises StackError: with the end of its log.
        """
        for component, process in self.processes.items():
            if process.poll() is not None:
                raise StackError(
                    f"airflow {component} ended with {process.returncode}: {self._tail(component)}"
                )

    def _healthy(self) -> bool:
        self.check_processes()
        with contextlib.suppress(httpx.HTTPError, ValueError):
            health = httpx.get(f"{self.url}/api/v2/monitor/health", timeout=5, trust_env=False).json()
            parts = {"metadatabase", *(name.replace("-", "_") for name in self._components)} - {"api_server"}
            return all(health[part]["status"] == "healthy" for part in parts)
        return False

    # --- use -----------------------------------------------------------------------------------------

    def airflow(self, *arguments: str) -> str:
        """Run an ``airflow`` command and return its standard output."""
        command = [self._python, "-m", "airflow", *arguments]
        with child(command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            output, errors = process.communicate()
        if process.returncode != 0:
            raise StackError(f"airflow {' '.join(arguments)} failed: {output[-2000:]}{errors[-2000:]}")
        return output

    def api(self, method: str, path: str, **options: Any) -> Any:
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
                headers={"Authorization": f"Bearer {self.token()}"},
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

    def token(self, user: User | None = None) -> str:
        """A user's token for the REST API; the first user's if not given."""
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
        """Trigger a DAG, as soon as the DAG processor has found it; returns the run id."""
        self.wait_for_dag(dag_id)
        # With an id of our own, a call that is sent again starts no second run.
        run_id = f"run-{secrets.token_hex(4)}"
        body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf or {})}
        try:
            self.api("POST", f"/dags/{dag_id}/dagRuns", json=body)
        except StackError:
            self.run_state(dag_id, run_id)
        return run_id

    def wait_for_dag(self, dag_id: str) -> None:
        """Wait until the DAG processor has found a DAG.

        :raises StackError: it did not, or some DAG cannot be imported.
        """
        self.wait_until(lambda: self._is_known(dag_id), f"DAG {dag_id} is parsed", 120)

    def _is_known(self, dag_id: str) -> bool:
        errors = self.api("GET", "/importErrors")["import_errors"]
        if errors := [one for one in errors if not one["filename"].endswith(NEEDS_3_3)]:
            raise StackError(f"DAG import error: {errors[0]['stack_trace']}")
        return any(dag["dag_id"] == dag_id for dag in self.api("GET", "/dags?limit=100")["dags"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        """State of a DAG run."""
        return str(self.api("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """All task instances of a DAG run."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances?limit=1000"
        return list(self.api("GET", path)["task_instances"])

    def task_instance(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        """One task instance: ``id``, ``state``, ``try_number``, ``rendered_fields`` and more."""
        mapped = f"/{map_index}" if map_index >= 0 else ""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}{mapped}"
        return dict(self.api("GET", path))

    def wait_for_task(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        *states: str,
        map_index: int = -1,
        timeout: float = 120,
    ) -> dict[str, Any]:
        """Wait until a task instance is in one of some states; returns it."""
        found: dict[str, Any] = {}

        def arrived() -> bool:
            found.update(self.task_instance(dag_id, run_id, task_id, map_index))
            return found["state"] in states

        self.wait_until(arrived, f"{dag_id}.{task_id} is {' or '.join(states)}", timeout)
        return found

    def kill_task(
        self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, *, with_worker: bool = False
    ) -> None:
        """End the process that runs a task instance without warning (SIGKILL), as a lack of memory does.

        :param with_worker: also the worker process above it, as the loss of a machine does; the scheduler
            then learns of it by ``[scheduler] task_instance_heartbeat_timeout`` only.
        :raises StackError: no process runs it.
        """
        uuid = self.task_instance(dag_id, run_id, task_id, map_index)["id"]
        # Titles: "airflow worker -- UUID" the task, "airflow worker -- LocalExecutor: UUID" the one above.
        running = [process for process in self._own_processes() if _title(process).endswith(uuid)]
        doomed = [process for process in running if with_worker or "LocalExecutor" not in _title(process)]
        if not doomed:
            raise StackError(f"no process runs {dag_id}.{task_id} of {run_id}")
        for process in sorted(doomed, key=lambda one: "LocalExecutor" not in _title(one)):
            process.kill()

    def mark_failed(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> None:
        """Mark a task instance as failed, as a user does in the UI."""
        mapped = f"/{map_index}" if map_index >= 0 else ""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}{mapped}"
        self.api("PATCH", path, json={"new_state": "failed"})

    def clear(self, dag_id: str, run_id: str, *task_ids: str) -> None:
        """Clear task instances, so that they run anew, as a user does in the UI."""
        body = {"dag_run_id": run_id, "task_ids": task_ids, "dry_run": False, "only_failed": False}
        self.api("POST", f"/dags/{dag_id}/clearTaskInstances", json=body)

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1
    ) -> Any:
        """One XCom value, decoded."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.api("GET", f"{path}?map_index={map_index}&deserialize=false")["value"]

    def task_log(
        self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1
    ) -> str:
        """The task's log as text, one event a line."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        content = self.api("GET", f"{path}?map_index={map_index}&full_content=true")["content"]
        return "\n".join(
            " ".join(str(value) for value in entry.values()) if isinstance(entry, dict) else str(entry)
            for entry in content
        )

    def wait_for_run(self, dag_id: str, run_id: str, timeout: float = 300) -> str:
        """Wait until a DAG run has ended; returns its state."""
        self.wait_until(
            lambda: self.run_state(dag_id, run_id) in ("success", "failed"),
            f"{dag_id} {run_id} ends",
            timeout,
        )
        return self.run_state(dag_id, run_id)

    def wait_until(self, condition: Callable[[], bool], what: str, timeout: float) -> None:
        """Ask again until a condition holds.

        :raises StackError: it did not hold within ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                logs = ", ".join(str(self.log_of(component)) for component in COMPONENTS)
                raise StackError(f"waited {timeout:.0f} s in vain until {what}; see {logs}")
            time.sleep(0.5)

    def log_of(self, component: str) -> Path:
        """Where a component's output goes."""
        return self.home / f"{component}.log"

    def _tail(self, component: str) -> str:
        return self.log_of(component).read_text(errors="replace")[-2000:]


def _processes_of(sessions: set[int]) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if _session_of(process.pid) in sessions]


def _title(process: psutil.Process) -> str:
    """The command line, which Airflow overwrites with a title, or nothing for a process that has ended."""
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.Error:
        return ""


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None
