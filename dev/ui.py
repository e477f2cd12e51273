"""Runs an Airflow for a browser: the example DAGs and the gallery, against a sandbox on this machine.

Everything stays in one folder, ``.ui`` inside the clone, and is there again at the next start.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import secrets
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from airflow_provider_seedream.apixo.hosts import is_loopback
from dev.airflow_api import StackError, User
from dev.airflow_stack import AirflowStack
from dev.local_sandbox import KEY, ROOT, run_sandbox
from dev.ports import find_free_port
from dev.terminal import Clock, end_on_signals

HOME = ROOT / ".ui"
PREFERRED_PORT = 8080
TIME_SCALE = 0.6
"""A 2K picture then takes 15-21 s, and its first poll comes after 20 s, as with the real API."""

CONNECTION = "seedream_default"
POOL = {
    "name": "seedream",
    "slots": 4,
    "description": "APIXO generations at a time",
    "include_deferred": True,
}
FIRST_DAG = "seedream_studio"

READY = """
Airflow is ready.

  address   {url}
  user      {user.name}
  password  {user.password}

Log in, open the DAG {dag} and press Trigger. About half a minute later its pictures are under
Browse > Seedream images. Ctrl-C ends everything; {home} keeps it for the next start.
"""


def make_admin(home: Path) -> User:
    """Return the user who logs in; the password is made at the first start."""
    file = home / "password"
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_urlsafe(9))
    return User("admin", "admin", file.read_text())


def set_up(stack: AirflowStack, base_url: str, home: Path) -> None:
    """Put into Airflow's database what the examples need, where nobody has put something else.

    :param base_url: of the sandbox.
    """
    variables = {
        "seedream_destination": (home / "images").as_uri(),
        "seedream_published": (home / "published").as_uri(),
    }
    for key, value in variables.items():
        _create_unless_there(stack, "/variables", {"key": key, "value": value})
    _create_unless_there(stack, "/pools", POOL)
    host = {"connection_id": CONNECTION, "conn_type": "seedream", "host": base_url}
    if not _create_unless_there(stack, "/connections", {**host, "password": KEY}) and _leads_here(stack):
        # The sandbox may have another port than the last time.
        stack.call_api("PATCH", f"/connections/{CONNECTION}", params={"update_mask": "host"}, json=host)


def _create_unless_there(stack: AirflowStack, path: str, body: dict[str, object]) -> bool:
    """Make something, and tell whether it was made; ``False`` if it is there already."""
    try:
        stack.call_api("POST", path, json=body)
    except StackError as error:
        if " 409 " not in str(error):
            raise
        return False
    return True


def _leads_here(stack: AirflowStack) -> bool:
    """Tell whether the connection's host is a sandbox, rather than what a user has put there."""
    host = stack.call_api("GET", f"/connections/{CONNECTION}")["host"] or ""
    return is_loopback(urlsplit(host).hostname)


@contextlib.contextmanager
def lock(home: Path) -> Iterator[None]:
    """Let only one Airflow at a time use the folder.

    :raises SystemExit: another one does.
    """
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"Another 'make ui' uses {home}; end that one first.") from None
        yield


def main() -> None:
    """Start everything, say how to log in, and wait for Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--time-scale", type=float, default=TIME_SCALE, help="factor on generation times")
    parser.add_argument("--home", type=Path, default=HOME, help="folder for everything that is kept")
    arguments = parser.parse_args()
    home: Path = arguments.home.resolve()
    end_on_signals()
    clock = Clock()
    with lock(home), run_sandbox(arguments.time_scale, home / "sandbox.log") as base_url:
        clock.say(f"sandbox ready at {base_url}")
        user = make_admin(home)
        stack = AirflowStack(
            home / "airflow",
            ROOT / "dags_examples",
            {"AIRFLOW__CORE__TEST_CONNECTION": "Enabled"},
            users=[user],
            port=find_free_port(PREFERRED_PORT),
            on_step=clock.say,
        )
        with stack:
            clock.say("Airflow answers; reading the examples")
            set_up(stack, base_url, home)
            stack.wait_for_dag(FIRST_DAG)
            print(READY.format(url=stack.url, user=user, dag=FIRST_DAG, home=home), flush=True)
            while True:
                stack.check_processes()
                time.sleep(1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(1)
