"""Runs a real Airflow in one folder, each component a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import httpx
import psutil

from dev.airflow_api import AirflowApi, StackError, User
from dev.ports import find_free_ports
from dev.processes import find_processes, hold_signals, read_title, run_child
from dev.service import Service

COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
STARTUP_SECONDS = 180


class AirflowStack(AirflowApi, Service):
    """Starts Airflow's components, and leaves no process behind.

    :param home: ``AIRFLOW_HOME``; made if missing, and reused by the next start.
    :param dags_folder: where the DAGs are.
    :param env: more environment, such as connections, variables, and any Airflow setting.
    :param database_url: the metadata database, such as ``postgresql+psycopg2://user@host:port/name``; a
        SQLite file in ``home`` if not given, which is too slow for many tasks at once.
    :param python: interpreter of the environment in which Airflow is installed.
    :param users: who may log in; the first, an ``admin``, also makes the calls of :meth:`call_api`. Without
        any, everybody is an administrator and there is no login.
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
        any_port, worker_log_port, trigger_log_port = find_free_ports(3)
        port = port or any_port
        super().__init__(f"http://127.0.0.1:{port}{base_path}", users, home.resolve())
        self._python = python
        self._components = components
        self._on_step = on_step
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
            **self._make_login_settings(),
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

    def start(self) -> Self:
        """Prepare the database and start every component, and return when the API answers."""
        self.home.mkdir(parents=True, exist_ok=True)
        self._write_passwords()
        self._on_step("preparing Airflow's database")
        self.run_airflow("db", "migrate")
        self._on_step(f"starting Airflow: {', '.join(self._components)}")
        for component in self._components:
            self.start_component(component)
        self.wait_until(self._is_healthy, "all components are healthy", STARTUP_SECONDS)
        return self

    @property
    def _passwords_file(self) -> Path:
        return self.home / "passwords.json"

    def _write_passwords(self) -> None:
        self._passwords_file.touch(mode=0o600)
        self._passwords_file.write_text(json.dumps({user.name: user.password for user in self._users}))

    def _make_login_settings(self) -> dict[str, str]:
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
        with self.find_log(name).open("ab") as log, hold_signals():
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
        while alive := find_processes({popen.pid}):
            for process in alive:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            popen.wait()
            psutil.wait_procs(alive, timeout=8)

    def stop(self) -> None:
        """End every process that was started here, forked workers and orphans included."""
        for process in self._list_processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        psutil.wait_procs(self._list_processes(), timeout=8)
        for process in self._list_processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for popen in self.processes.values():
            popen.wait()
        self.processes.clear()

    def _list_processes(self) -> list[psutil.Process]:
        return find_processes({popen.pid for popen in self.processes.values()})

    def check_processes(self) -> None:
        """Notice a component that has ended by itself.

        :raises StackError: with the end of its log.
        """
        for component, process in self.processes.items():
            if process.poll() is not None:
                raise StackError(
                    f"airflow {component} ended with {process.returncode}: {self._read_tail(component)}"
                )

    def _is_healthy(self) -> bool:
        self.check_processes()
        with contextlib.suppress(httpx.HTTPError, ValueError):
            health = httpx.get(f"{self.url}/api/v2/monitor/health", timeout=5, trust_env=False).json()
            parts = {"metadatabase", *(name.replace("-", "_") for name in self._components)} - {"api_server"}
            return all(health[part]["status"] == "healthy" for part in parts)
        return False

    def run_airflow(self, *arguments: str) -> str:
        """Run an ``airflow`` command and return its standard output."""
        command = [self._python, "-m", "airflow", *arguments]
        with run_child(command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            output, errors = process.communicate()
        if process.returncode != 0:
            raise StackError(f"airflow {' '.join(arguments)} failed: {output[-2000:]}{errors[-2000:]}")
        return output

    def kill_task(
        self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, *, with_worker: bool = False
    ) -> None:
        """End the process that runs a task instance without warning (SIGKILL), as a lack of memory does.

        :param with_worker: also the worker process above it, as the loss of a machine does; the scheduler
            then learns of it by ``[scheduler] task_instance_heartbeat_timeout`` only.
        :raises StackError: no process runs it.
        """
        uuid = self.get_task_instance(dag_id, run_id, task_id, map_index)["id"]
        # Titles: "airflow worker -- UUID" the task, "airflow worker -- LocalExecutor: UUID" the one above.
        running = [process for process in self._list_processes() if read_title(process).endswith(uuid)]
        doomed = [process for process in running if with_worker or "LocalExecutor" not in read_title(process)]
        if not doomed:
            raise StackError(f"no process runs {dag_id}.{task_id} of {run_id}")
        for process in sorted(doomed, key=lambda one: "LocalExecutor" not in read_title(one)):
            process.kill()

    def find_log(self, component: str) -> Path:
        """Return the file to which a component's output goes."""
        return self.home / f"{component}.log"

    def _read_tail(self, component: str) -> str:
        return self.find_log(component).read_text(errors="replace")[-2000:]
