"""The command line: the sandbox as a process that starts, says so, and ends cleanly."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from urllib.parse import urlsplit

import httpx
import pytest

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
