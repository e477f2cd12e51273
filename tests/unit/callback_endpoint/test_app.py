"""Where APIXO calls: what counts as a callback, and what everybody else can reach, learn and cost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from airflow_provider_seedream.callback_endpoint.app import create_app
from airflow_provider_seedream.callback_endpoint.limits import EndpointLimits
from airflow_provider_seedream.callback_endpoint.standing import Reason, RefusedDelivery
from airflow_provider_seedream.callbacks.delivery import Delivery
from tests.unit.callback_endpoint.callback_site import (
    ACCEPTED,
    BODY,
    GIGABYTE,
    LATER,
    REFUSAL,
    Counted,
    FakeDeliveries,
    Server,
    Site,
    answer_of,
    eventually,
    new_token,
    post,
    refusal,
    request,
)
from tests.unit.callback_endpoint.callback_world import World


class TestACallback:
    def test_is_recorded_before_it_is_answered(self, site: Site, deliveries: FakeDeliveries) -> None:
        assert site.deliver(deliveries.token) == ACCEPTED
        assert deliveries.received == [Delivery("task_1", "success")]

    @pytest.mark.parametrize("code", [500, 200])
    def test_of_a_failure_has_either_shape(self, site: Site, deliveries: FakeDeliveries, code: int) -> None:
        body = {"code": code, "message": "failed", "data": {"taskId": "task_1", "state": "failed"}}
        assert site.deliver(deliveries.token, json.dumps(body).encode()) == ACCEPTED
        assert deliveries.received == [Delivery("task_1", "failed")]

    @pytest.mark.parametrize("media_type", ["Application/JSON", "application/json; charset=utf-8"])
    def test_may_spell_its_type_differently(
        self, site: Site, deliveries: FakeDeliveries, media_type: str
    ) -> None:
        assert site.send(post(deliveries.token.to_text(), media_type=media_type)) == ACCEPTED

    def test_may_come_in_pieces(self, site: Site, deliveries: FakeDeliveries) -> None:
        pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"
        headers = ("Content-Type: application/json", "Transfer-Encoding: chunked")
        assert site.send(request("POST", deliveries.token.to_text(), pieces, *headers)) == ACCEPTED
        assert deliveries.received == [Delivery("task_1", "success")]

    def test_may_be_as_long_as_the_limit(self, site: Site, deliveries: FakeDeliveries) -> None:
        body = BODY.ljust(EndpointLimits().body_bytes)
        assert site.deliver(deliveries.token, body) == ACCEPTED
        assert site.deliver(deliveries.token, body + b" ") == REFUSAL

    def test_of_a_task_with_the_longest_ids_still_fits(self, site: Site, deliveries: FakeDeliveries) -> None:
        deliveries.token = new_token(
            dag_id="d" * 250, run_id="\u65e5" * 250, task_id="t" * 250, map_index=2**31 - 1
        )
        assert site.deliver(deliveries.token) == ACCEPTED


TOKENS: dict[str, Callable[[str], str]] = {
    "another": lambda _: new_token().to_text(),
    "of another task": lambda text: f"{new_token(task_id='other').to_text().split('.')[0]}.{text[-43:]}",
    "empty": lambda _: "",
    "cut short": lambda text: text[:-1],
    "without a nonce": lambda text: text.split(".")[0],
    "without a task": lambda text: text[-44:],
    "too long": lambda text: "A" * 60_000 + text,
    "with more behind it": lambda text: f"{text}/",
    "of other letters": lambda text: f"{text[:-1]}%C3%A9",
    "of broken letters": lambda text: f"{text[:-1]}%FF",
    "encoded twice": lambda text: text.replace(".", "%252E"),
    "with a zero byte": lambda text: f"{text}%00",
    "with a carriage return": lambda text: f"%0dSet-Cookie:a=b%0d{text}",
    "in a query": lambda text: f"?token={text}",
    "below another": lambda text: f"x/seedream/callback/{text}",
}


class TestARefusal:
    """One answer, byte for byte: nobody learns why, nothing that was sent comes back, nothing is recorded."""

    @pytest.mark.parametrize("kind", TOKENS)
    def test_of_a_token(self, site: Site, deliveries: FakeDeliveries, kind: str) -> None:
        assert site.send(post(TOKENS[kind](deliveries.token.to_text()))) == REFUSAL
        assert deliveries.received == []
        assert site.read.total == 0

    @pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
    def test_of_another_method(self, site: Site, deliveries: FakeDeliveries, method: str) -> None:
        assert site.send(post(deliveries.token.to_text()).replace(b"POST", method.encode(), 1)) == REFUSAL
        assert deliveries.checks == 0

    def test_of_head_has_the_same_headers(self, site: Site, deliveries: FakeDeliveries) -> None:
        assert site.send(request("HEAD", deliveries.token.to_text())) == REFUSAL.removesuffix(b"not found\n")

    @pytest.mark.parametrize("reason", Reason)
    def test_by_what_the_database_knows(
        self, site: Site, deliveries: FakeDeliveries, counted: Counted, reason: Reason
    ) -> None:
        deliveries.trouble = RefusedDelivery(reason)
        assert site.deliver(deliveries.token) == REFUSAL
        assert counted.get(timeout=30) == refusal(reason.value)

    def test_comes_without_reading_what_a_stranger_sends(self, site: Site) -> None:
        with site.connect() as connection:
            text = new_token().to_text()
            head = ("Content-Type: application/json", f"Content-Length: {GIGABYTE}", "Expect: 100-continue")
            connection.sendall(request("POST", text, b"", *head))
            assert answer_of(connection) == REFUSAL
        assert site.read.total == 0

    def test_of_a_websocket(self, site: Site, deliveries: FakeDeliveries) -> None:
        upgrade = request(
            "GET", deliveries.token.to_text(), b"", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ).replace(b"Connection: close", b"Connection: Upgrade")  # fmt: skip
        with site.connect() as connection:
            connection.sendall(upgrade)
            assert connection.recv(65536).startswith(b"HTTP/1.1 403 ")
        assert deliveries.checks == 0


class TestTroubleWithTheDatabase:
    def test_asks_the_sender_to_repeat_whatever_the_token(
        self, site: Site, deliveries: FakeDeliveries
    ) -> None:
        deliveries.trouble = ConnectionError("the database is down")
        answer = site.deliver(deliveries.token)
        assert answer.startswith(LATER)
        assert b"retry-after: 30\r\n" in answer
        assert site.deliver(new_token()) == answer


class TestWithAirflowsOwnDatabase:
    def test_a_waiting_task_is_resumed_and_every_repeat_accepted(self, server: Server, world: World) -> None:
        site = Site(server, create_app())
        token = world.generating(not_before=0.0)
        assert site.deliver(token) == ACCEPTED
        assert world.state() == "scheduled"
        assert site.deliver(token) == ACCEPTED
        assert site.deliver(world.token()) == REFUSAL

    def test_a_task_that_has_just_begun_to_wait_is_resumed_a_little_later(
        self, server: Server, world: World
    ) -> None:
        site = Site(server, create_app())
        token = world.generating(not_before=time.time() + 0.5)
        assert site.deliver(token) == ACCEPTED
        assert world.record(token)
        assert eventually(lambda: world.state() == "scheduled")
