"""The sandbox as a thread: it starts, says so, and ends cleanly, whatever comes over its connections."""

from __future__ import annotations

import socket

import httpx
import pytest

from airflow_provider_seedream.sandbox.server import SandboxServer, listen, read_origin
from tests.unit.sandbox.users import Account


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


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_the_origin_of_a_listener_is_a_url(host: str, shown: str) -> None:
    with listen(host, 0) as listener:
        assert read_origin(listener) == f"http://{shown}:{listener.getsockname()[1]}"
