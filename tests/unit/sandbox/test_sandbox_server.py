"""The sandbox as a process and as a thread: it starts, says so, and ends cleanly."""

from __future__ import annotations

import ast
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import httpx
import pytest

import airflow_provider_seedream.sandbox as package
from airflow_provider_seedream.sandbox.server import SandboxServer
from tests.unit.sandbox.users import Account, text_to_image

COMMAND = [sys.executable, "-m", "airflow_provider_seedream.sandbox"]
READY = re.compile(r"APIXO sandbox ready at (http://127\.0\.0\.1:\d+)/api/v1\n")


@contextmanager
def process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command line as a process, once it is ready, and its origin."""
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            assert running.stdout is not None
            ready = READY.fullmatch(running.stdout.readline())
            assert ready
            yield running, ready.group(1)
        finally:
            running.kill()


def end(running: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str, str]:
    running.send_signal(number)
    out, err = running.communicate(timeout=20)
    return running.returncode, out, err


class TestTheCommandLine:
    def test_serves_as_its_options_say_and_ends_at_sigterm(self, http: httpx.Client) -> None:
        options = ["--port", "0", "--time-scale", "0", "--balance", "1.5", "--deliver", "1"]
        with process(*options) as (running, origin):
            headers = {"Authorization": "Bearer key"}
            body = {"input": text_to_image(max_images=3)}
            answer = http.post(f"{origin}/api/v1/generateTask/seedream-4-5", json=body, headers=headers)
            task = http.get(f"{origin}/sandbox/ledger").json()["tasks"][0]
            balance = http.get(f"{origin}/api/v1/apikeys/current-balance", headers=headers).json()
            ended = end(running, signal.SIGTERM)
        assert answer.status_code == 200
        assert (task["state"], task["requested"], task["delivered"]) == ("success", 3, 1)
        assert balance["data"] == 1.465
        assert ended == (0, "", "")

    def test_ends_at_ctrl_c_though_answers_are_delayed_and_images_are_drawn(self, http: httpx.Client) -> None:
        with process("--port", "0", "--time-scale", "0") as (running, origin):
            account = Account(SimpleNamespace(origin=origin, base_url=f"{origin}/api/v1"), http, "key")
            account.fault("/apikeys", {"delay": 3000})
            tasks = [account.submit(max_images=10, resolution="4K") for _ in range(4)]
            urls = [url for task in tasks for url in account.urls(task)]
            paths = ["/api/v1/apikeys/current-balance", *(urlsplit(url).path for url in urls)]
            with ExitStack() as waiting:
                for path in paths:
                    address = ("127.0.0.1", urlsplit(origin).port)
                    connection = waiting.enter_context(socket.create_connection(address))
                    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                while len(account.ledger()["requests"]) < 2 * len(tasks) + len(paths):
                    pass
                ended = end(running, signal.SIGINT)
        assert ended == (0, "", "")

    def test_says_in_one_line_that_the_port_is_in_use(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            ended = subprocess.run([*COMMAND, "--port", port], capture_output=True, text=True, timeout=30)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr.count("\n") == 1
        assert port in ended.stderr
        assert "--port" in ended.stderr

    @pytest.mark.parametrize(
        "arguments",
        [
            ["--time-scale", "fast"],
            ["--time-scale", "nan"],
            ["--balance", "-1"],
            ["--balance", "NaN"],
            ["--deliver", "x"],
            ["--host", "256.0.0.1"],
            ["--port", "70000"],
        ],
    )
    def test_refuses_what_it_cannot_use(
        self, arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from airflow_provider_seedream.sandbox import __main__ as command

        monkeypatch.setattr(command.signal, "signal", lambda *_: None)
        try:
            code = command.main(arguments)
        except SystemExit as exit_of_argparse:
            code = exit_of_argparse.code
        assert code == 2
        assert arguments[0] in capsys.readouterr().err


class TestTheServerForTests:
    def test_serves_on_a_free_port_and_is_gone_afterwards(self, http: httpx.Client) -> None:
        with SandboxServer(time_scale=0.001, balance=2, fail="Timeout") as sandbox:
            account = Account(sandbox, http, "key")
            assert sandbox.base_url == f"{sandbox.origin}/api/v1"
            assert account.balance() == 2
        with pytest.raises(httpx.ConnectError):
            account.balance()

    def test_two_of_them_know_nothing_of_each_other(self, http: httpx.Client) -> None:
        with SandboxServer() as one, SandboxServer() as other:
            first, second = Account(one, http, "key"), Account(other, http, "key")
            task = first.submit()
            assert second.poll(task).status_code == 404
            assert (first.balance(), second.balance()) == (99.965, 100)

    def test_stops_though_a_request_is_being_answered(self, http: httpx.Client) -> None:
        sandbox = SandboxServer().start()
        account = Account(sandbox, http, "key")
        account.fault("/generateTask", {"delay": 3000})
        with pytest.raises(httpx.ReadTimeout):
            account.call("POST", "/generateTask/seedream-4-5", json={}, timeout=0.1)
        sandbox.stop()
        sandbox.stop()
        assert not sandbox.is_running

    def test_a_port_in_use_is_an_error_at_once(self) -> None:
        with SandboxServer() as sandbox, pytest.raises(OSError, match="in use"):
            SandboxServer(port=int(sandbox.origin.rpartition(":")[2]))


class TestHostileConnections:
    @pytest.mark.parametrize(
        "sent",
        [
            b"\x16\x03\x01 this is TLS\r\n\r\n",
            b"GET /api/v1/statusTask/seedream-4-5?taskId=%ff%00 HTTP/1.1\r\nHost: \xff\r\n\r\n",
            b"GET /api/v1/statusTask/seedream-4-5/ HTTP/1.1\r\nHost: [::1\r\n\r\n",
            b"POST /api/v1/generateTask/seedream-4-5 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n"
            b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
            b"GET /results/%2e%2e/x/1.png HTTP/1.0\r\n\r\n",
        ],
    )
    def test_do_not_end_it(self, account: Account, sent: bytes) -> None:
        address = ("127.0.0.1", int(account.server.origin.rpartition(":")[2]))
        with socket.create_connection(address, timeout=30) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
        assert account.balance() == 100


class TestTheSandboxStandsApart:
    """It shares only the table of models with the client, so that each can catch the other's mistakes."""

    def test_it_imports_nothing_else_of_the_package_and_no_airflow(self) -> None:
        own, table = "airflow_provider_seedream.sandbox", "airflow_provider_seedream.apixo.model"
        for path in Path(package.__path__[0]).glob("*.py"):
            for name in imports(path):
                assert not name.startswith("airflow") or name.startswith(own) or name == table, path

    def test_it_runs_without_airflow(self) -> None:
        code = "import sys, airflow_provider_seedream.sandbox.__main__; print('airflow' in sys.modules)"
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert ended.stdout == "False\n", ended.stderr


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
