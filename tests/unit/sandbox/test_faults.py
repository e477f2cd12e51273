"""Faults on demand, as a client meets them on the wire."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from airflow_provider_seedream.sandbox.faults import Fault, Faults, corrupt, read_fault
from tests.unit.sandbox.users import MODEL, Account, text_to_image


def raw_exchange(url: str) -> bytes:
    """All bytes that a GET brings until the server ends the connection."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=30) as connection:
        connection.sendall(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
        received = b""
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except ConnectionResetError:
            pass
        return received


class TestAStatusInPlaceOfTheApi:
    def test_has_its_headers_and_body_and_no_effect(self, account: Account) -> None:
        body = {"code": 429, "message": "slow down", "data": None}
        account.fault("/generateTask", {"status": 429, "headers": {"Retry-After": "2"}, "body": body})
        answer = account.post({"input": text_to_image()})
        assert (answer.status_code, answer.headers["retry-after"], answer.json()) == (429, "2", body)
        assert account.balance() == 100
        assert account.ledger()["tasks"] == []

    def test_can_be_a_page_of_html(self, account: Account) -> None:
        account.fault("/statusTask", {"status": 502, "body": "<html>Bad Gateway</html>"})
        answer = account.poll("task_1")
        assert (answer.status_code, answer.text) == (502, "<html>Bad Gateway</html>")
        assert answer.headers["content-type"] == "text/html"

    def test_has_the_envelope_of_the_page_unless_told_otherwise(self, account: Account) -> None:
        account.fault("/apikeys", {"status": 503})
        answer = account.call("GET", "/apikeys/current-balance")
        assert answer.json()["code"] == 503

    def test_can_redirect(self, account: Account, url: str) -> None:
        account.fault("/results", {"status": 302, "headers": {"Location": "http://example.com/"}})
        answer = account.http.get(url)
        assert (answer.status_code, answer.headers["location"]) == (302, "http://example.com/")

    def test_can_be_one_that_has_no_body(self, account: Account) -> None:
        account.fault("/statusTask", {"status": 204, "body": "ignored"})
        assert account.poll("task_1").content == b""


class TestADroppedConnection:
    def test_before_the_effect_submits_nothing(self, account: Account) -> None:
        account.fault("/generateTask", {"drop": "before"})
        with pytest.raises(httpx.TransportError):
            account.post({"input": text_to_image()})
        assert account.balance() == 100
        assert account.ledger()["tasks"] == []

    def test_after_the_effect_has_charged_a_task_that_the_client_does_not_know(
        self, account: Account
    ) -> None:
        account.fault("/generateTask", {"drop": "after"})
        with pytest.raises(httpx.TransportError):
            account.post({"input": text_to_image()})
        assert account.balance() == 99.965
        assert len(account.ledger()["tasks"]) == 1

    def test_ends_on_the_wire_without_a_byte(self, account: Account, url: str) -> None:
        account.fault("/results", {"drop": "before"})
        assert raw_exchange(url) == b""

    def test_is_recorded_as_not_answered(self, account: Account) -> None:
        account.fault("/generateTask", {"drop": "after"})
        with pytest.raises(httpx.TransportError):
            account.post({"input": text_to_image()})
        assert [request["status"] for request in account.ledger()["requests"]] == [None]


class TestDamagedBytes:
    def test_a_cut_transfer_announces_all_and_sends_a_part(self, account: Account, url: str) -> None:
        size = int(account.http.head(url).headers["content-length"])
        account.fault("/results", {"truncate": 1000})
        head, _, body = raw_exchange(url).partition(b"\r\n\r\n")
        assert f"content-length: {size}".encode() in head
        assert len(body) == 1000

    def test_a_cut_transfer_can_be_resumed(self, account: Account, url: str) -> None:
        whole = account.http.get(url).content
        account.fault("/results", {"truncate": 1000})
        begun = raw_exchange(url).partition(b"\r\n\r\n")[2]
        rest = account.http.get(url, headers={"Range": f"bytes={len(begun)}-"})
        assert begun + rest.content == whole

    def test_a_corrupt_body_has_the_same_length_and_other_bytes(self, account: Account, url: str) -> None:
        whole = account.http.get(url).content
        account.fault("/results", {"corrupt": True})
        damaged = account.http.get(url).content
        wrong = [at for at, (a, b) in enumerate(zip(whole, damaged, strict=True)) if a != b]
        assert len(wrong) == 16
        assert wrong[0] > len(whole) * 0.4
        assert wrong[-1] < len(whole) * 0.6

    def test_a_status_can_be_cut_too(self, account: Account) -> None:
        task = account.submit()
        account.fault("/statusTask", {"truncate": 10})
        with pytest.raises(httpx.RemoteProtocolError):
            account.poll(task)


class TestADelay:
    def test_lets_the_client_give_up_on_a_request_that_has_effect(self, account: Account) -> None:
        account.fault("/generateTask", {"delay": 60})
        with pytest.raises(httpx.ReadTimeout):
            account.call("POST", f"/generateTask/{MODEL}", json={"input": text_to_image()}, timeout=0.5)
        assert account.balance() == 99.965

    def test_goes_with_a_status(self, account: Account) -> None:
        account.fault("/statusTask", {"delay": 0.05, "status": 504})
        assert account.poll("task_1").status_code == 504

    def test_holds_up_nobody_else(self, account: Account) -> None:
        account.fault("/generateTask", {"delay": 60})
        with pytest.raises(httpx.ReadTimeout):
            account.call("POST", f"/generateTask/{MODEL}", json={}, timeout=0.5)
        assert account.balance() == 100


class TestWhichRequestsAreHit:
    def test_as_many_as_asked_for(self, account: Account) -> None:
        account.fault("/apikeys", {"status": 500}, times=2)
        codes = [account.call("GET", "/apikeys/current-balance").status_code for _ in range(3)]
        assert codes == [500, 500, 200]

    def test_those_under_the_path_only(self, account: Account) -> None:
        account.fault("/statusTask", {"status": 500})
        assert account.balance() == 100
        assert account.poll("task_1").status_code == 500

    def test_those_of_the_method_only(self, account: Account, url: str) -> None:
        account.fault("/results", {"status": 500}, method="GET")
        assert account.http.head(url).status_code == 200
        assert account.http.get(url).status_code == 500

    def test_one_fault_after_the_other(self, account: Account) -> None:
        account.fault("/statusTask", {"status": 500})
        account.fault("/statusTask", {"status": 429})
        assert [account.poll("task_1").status_code for _ in range(3)] == [500, 429, 404]

    def test_none_after_they_are_cleared(self, account: Account) -> None:
        account.fault("/statusTask", {"status": 500}, times=9)
        assert account.control("DELETE", "/faults").json() == {"faults": []}
        assert account.poll("task_1").status_code == 404


class TestAFaultThatStaysOn:
    """For soaks: a share of all requests fails, whoever sends them."""

    def polls(self, account: Account, number: int) -> list[int]:
        return [account.poll("task_1").status_code for _ in range(number)]

    def test_hits_every_nth_request(self, account: Account) -> None:
        account.fault("/statusTask", {"status": 500}, every=3, times=1000)
        assert self.polls(account, 7) == [404, 404, 500, 404, 404, 500, 404]

    def test_is_used_up_by_the_requests_that_it_hit(self, account: Account) -> None:
        account.fault("/statusTask", {"status": 500}, every=2, times=2)
        assert self.polls(account, 6) == [404, 500, 404, 500, 404, 404]

    def test_counts_no_requests_of_other_paths_and_methods(self, account: Account, url: str) -> None:
        account.fault("/results", {"status": 500}, every=2, method="GET", times=9)
        account.balance()
        account.http.head(url)
        assert [account.http.get(url).status_code for _ in range(2)] == [200, 500]

    def test_goes_with_others_on_one_path(self, account: Account) -> None:
        for status in (429, 500, 502):
            account.fault("/statusTask", {"status": status}, every=3, times=1000)
        assert self.polls(account, 9) == [404, 404, 429, 500, 502, 429, 404, 500, 429]

    def test_shows_what_is_left_of_it(self, account: Account) -> None:
        account.fault("/statusTask", {"status": 500}, every=2, times=9)
        self.polls(account, 3)
        (fault,) = account.fault("/results", {"corrupt": True}).json()["faults"][:1]
        assert (fault["every"], fault["times"]) == (2, 8)


class TestABadFaultIsRefused:
    @pytest.mark.parametrize(
        ("change", "word"),
        [
            ({"path": "/generateTsk"}, "matches no request"),
            ({"path": "/api/v1/generateTask"}, "matches no request"),
            ({"path": 7}, "path"),
            ({"times": 0}, "times"),
            ({"times": "2"}, "times"),
            ({"every": 0}, "every"),
            ({"every": 1.5}, "every"),
            ({"method": "PUT"}, "method"),
            ({"extra": 1}, "extra"),
            ({"action": {}}, "needs one of"),
            ({"action": {"stauts": 500}}, "stauts"),
            ({"action": {"status": 42}}, "status"),
            ({"action": {"status": 500, "headers": {"X": "a\r\nb"}}}, "headers"),
            ({"action": {"body": "x"}}, "need"),
            ({"action": {"drop": "now"}}, "drop"),
            ({"action": {"drop": "after", "truncate": 1}}, "sends no answer"),
            ({"action": {"delay": -1}}, "delay"),
            ({"action": {"truncate": -1}}, "truncate"),
            ({"action": {"corrupt": "yes"}}, "corrupt"),
        ],
    )
    def test_with_what_is_wrong_and_what_is_allowed(
        self, account: Account, change: dict[str, Any], word: str
    ) -> None:
        body = {"path": "/generateTask", "action": {"status": 500}} | change
        answer = account.control("POST", "/faults", json=body)
        error = answer.json()["data"]["error"]
        assert answer.status_code == 400
        assert word in error
        assert "Allowed:" in error

    @pytest.mark.parametrize("raw", [b"", b"nonsense", b"[]", b"\xff", b"[" * 100_000])
    def test_when_it_is_no_json_object(self, account: Account, raw: bytes) -> None:
        assert account.control("POST", "/faults", content=raw).status_code == 400


class TestWithoutAServer:
    def fault(self, **fields: Any) -> Fault:
        return read_fault(json.dumps({"path": "/statusTask", "action": {"status": 500}, **fields}).encode())

    def test_the_oldest_fault_comes_first_and_is_gone_when_used_up(self) -> None:
        faults = Faults()
        faults.add(self.fault())
        faults.add(self.fault(action={"delay": 3}))
        taken = [faults.take("GET", "/statusTask/seedream-4-5") for _ in range(3)]
        assert [action and (action.status, action.delay) for action in taken] == [(500, 0), (None, 3), None]
        assert faults.report() == []

    def test_a_fault_without_a_method_is_for_all(self) -> None:
        assert self.fault().matches("HEAD", "/statusTask")
        assert not self.fault(method="GET").matches("HEAD", "/statusTask")
        assert not self.fault().matches("GET", "/results")

    @pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1000])
    def test_a_damaged_body_keeps_its_length_and_no_more_than_16_bytes_change(self, size: int) -> None:
        body = bytes(range(256)) * 4
        damaged = corrupt(body[:size])
        assert len(damaged) == size
        assert sum(a != b for a, b in zip(body, damaged, strict=False)) == min(size, 16)
