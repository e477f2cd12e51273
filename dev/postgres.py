"""Runs a PostgreSQL server in one folder, for as long as somebody needs it."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from dev.ports import find_free_ports
from dev.service import Service

USUAL_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
PROGRAMS = ("initdb", "postgres", "pg_isready", "pg_dump", "psql")
USER = "airflow"
START_SECONDS = 60
SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    # A socket's path has a limit of 107 bytes, which a test's folder may exceed.
    "unix_socket_directories": "",
    "max_connections": "200",
    # The data need not survive a power cut.
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
}


class PostgresError(RuntimeError):
    """PostgreSQL is missing, or one of its programs failed."""


def find_binaries() -> Path:
    """Return the folder of PostgreSQL's server programs, from PATH or one of the usual places.

    :raises PostgresError: names the package to install.
    """
    on_path = shutil.which("initdb")
    candidates = [Path(on_path).resolve().parent] if on_path else []
    for place in USUAL_PLACES:
        candidates += sorted(Path("/").glob(place.lstrip("/")), key=_read_version, reverse=True)
    for folder in candidates:
        if all((folder / program).is_file() for program in PROGRAMS):
            return folder
    raise PostgresError(
        f"PostgreSQL's {', '.join(PROGRAMS)} are neither on PATH nor in {', '.join(USUAL_PLACES)}. "
        "Install the server: 'apt-get install postgresql' (Debian, Ubuntu), 'dnf install postgresql-server' "
        "(Fedora) or 'brew install postgresql' (macOS)."
    )


def _read_version(folder: Path) -> int:
    digits = "".join(character for character in folder.parent.name if character.isdigit())
    return int(digits or 0)


class Postgres(Service):
    """A cluster of its own on a free loopback port, open to every local user.

    :param folder: where it lives; made if missing. PostgreSQL refuses to run as root: for root it runs as
        ``postgres`` or ``nobody``, who must be able to reach the folder, so none of its parents may be
        closed to others (as pytest's ``tmp_path`` is).
    """

    def __init__(self, folder: Path) -> None:
        self._binaries = find_binaries()
        self._folder = folder.resolve()
        self._data = self._folder / "data"
        self._log = self._folder / "server.log"
        self._owner = _find_unprivileged_user() if os.geteuid() == 0 else None
        self._server: subprocess.Popen[bytes] | None = None
        (self._port,) = find_free_ports(1)
        self._address = f"{USER}@127.0.0.1:{self._port}/postgres"
        self._database = ("--dbname", f"postgresql://{self._address}")

    @property
    def url(self) -> str:
        """The database's URL, as SQLAlchemy reads it."""
        # The driver's name: Airflow brings psycopg2, which is no longer SQLAlchemy's default.
        return f"postgresql+psycopg2://{self._address}"

    def start(self) -> Self:
        """Make the cluster and start its server, and return when it takes connections."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._owner is not None:
            os.chown(self._folder, self._owner.pw_uid, self._owner.pw_gid)
        self._run_program(
            "initdb", "-D", self._data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"
        )
        options = [f"--{name}={value}" for name, value in {"port": str(self._port), **SETTINGS}.items()]
        with self._log.open("wb") as log:
            self._server = subprocess.Popen(
                [self._binaries / "postgres", "-D", self._data, *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **self._make_process_options(),
            )
        self._wait_until_ready(self._server)
        return self

    def _wait_until_ready(self, server: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while server.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(PostgresError):
                self._run_program("pg_isready", *self._database)
                return
            time.sleep(0.1)
        raise PostgresError(f"PostgreSQL did not start: {self._log.read_text(errors='replace')[-2000:]}")

    def stop(self) -> None:
        """End the server, whoever is still connected; a second call does nothing."""
        if self._server is not None:
            # PostgreSQL's "immediate shutdown": its children end first.
            self._server.send_signal(signal.SIGQUIT)
            self._server.wait()

    def dump(self) -> str:
        """Return the whole database, structure and rows, as SQL text."""
        return self._run_program("pg_dump", *self._database)

    def query(self, sql: str) -> list[list[str]]:
        """Return the rows of a query, every value as text, NULL as the empty string."""
        lines = self._run_program("psql", "-XAtq", "-F", "\x1f", "-R", "\x1e", *self._database, "-c", sql)
        return [row.split("\x1f") for row in lines.rstrip("\n").split("\x1e") if row]

    def _run_program(self, program: str, *arguments: str | Path) -> str:
        """Run one of PostgreSQL's programs and return its standard output."""
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [self._binaries / program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            **self._make_process_options(),
        )
        if done.returncode != 0:
            raise PostgresError(f"{program} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def _make_process_options(self) -> dict[str, Any]:
        options: dict[str, Any] = {
            "cwd": "/",
            "env": {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
            "stdin": subprocess.DEVNULL,
        }
        if self._owner is not None:
            options |= {"user": self._owner.pw_uid, "group": self._owner.pw_gid, "extra_groups": []}
        return options


def _find_unprivileged_user() -> pwd.struct_passwd:
    """Return the user in whose name root runs PostgreSQL."""
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise PostgresError("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody.")
