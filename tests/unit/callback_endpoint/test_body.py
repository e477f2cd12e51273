"""What counts as the body of a callback, and how much of anything else is read."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Message

from airflow_provider_seedream.callback_endpoint.body import NotADelivery, check_headers, read_delivery
from airflow_provider_seedream.callbacks.delivery import Delivery
from tests.unit.callback_endpoint.callback_site import (
    ACCEPTED,
    BODY,
    GIGABYTE,
    LATER,
    REFUSAL,
    Counted,
    FakeDeliveries,
    OpenSite,
    Site,
    answer_of,
    changed,
    new_token,
    post,
    refusal,
    request,
)

BODIES: dict[str, Callable[[str], bytes]] = {
    "empty": lambda text: post(text, b""),
    "no JSON": lambda text: post(text, b"taskId=task_1"),
    "half": lambda text: post(text, BODY[:-1]),
    "no text": lambda text: post(text, b"\xff\xfe\x00"),
    "deep lists": lambda text: post(text, b"[" * 60_000),
    "deep objects": lambda text: post(text, b'{"data":' * 8_000),
    "a list": lambda text: post(text, b"[1]"),
    "a long number": lambda text: post(text, b"1" * 60_000),
    "no data": lambda text: post(text, b'{"code": 200}'),
    "a number as taskId": lambda text: post(text, changed(taskId=7)),
    "no taskId": lambda text: post(text, changed(taskId="")),
    "a long taskId": lambda text: post(text, changed(taskId="t" * 10_000)),
    "a taskId of two lines": lambda text: post(text, changed(taskId="t\nINFO all is well")),
    "a taskId with a zero": lambda text: post(text, changed(taskId="t\0")),
    "no body": lambda text: request("POST", text, b"", "Content-Type: application/json"),
}


ANNOUNCEMENTS: dict[str, Callable[[str], bytes]] = {
    "a form": lambda text: post(text, media_type="application/x-www-form-urlencoded"),
    "text": lambda text: post(text, media_type="text/plain"),
    "nearly JSON": lambda text: post(text, media_type="application/jsonp"),
    "no type": lambda text: request("POST", text, BODY, f"Content-Length: {len(BODY)}"),
    "two types": lambda text: post(text, BODY, "Content-Type: application/json"),
    "two types in one": lambda text: post(text, media_type="application/json, text/html"),
    "a gigabyte announced": lambda text: request(
        "POST", text, BODY, "Content-Type: application/json", f"Content-Length: {GIGABYTE}"
    ),
}


class TestARefusal:
    """One answer, byte for byte, and nothing is recorded."""

    @pytest.mark.parametrize("kind", BODIES)
    def test_of_a_body(self, site: Site, deliveries: FakeDeliveries, counted: Counted, kind: str) -> None:
        assert site.send(BODIES[kind](deliveries.token.to_text())) == REFUSAL
        assert deliveries.received == []
        assert counted.get(timeout=30) == refusal("body")

    @pytest.mark.parametrize("kind", ANNOUNCEMENTS)
    def test_of_what_is_announced_comes_before_it_is_read(
        self, site: Site, deliveries: FakeDeliveries, counted: Counted, kind: str
    ) -> None:
        assert site.send(ANNOUNCEMENTS[kind](deliveries.token.to_text())) == REFUSAL
        assert site.read.total == 0
        assert counted.get(timeout=30) == refusal("body")


class TestHeaders:
    JSON = (b"content-type", b"application/json")

    @pytest.mark.parametrize(
        "headers",
        [
            [JSON],
            [JSON, (b"content-length", b"0")],
            [JSON, (b"content-length", b"64")],
            [(b"content-type", b"application/JSON ; charset=utf-8"), (b"x-other", b"1"), (b"x-other", b"2")],
        ],
        ids=["of a body in chunks", "empty", "as long as may be", "with a character set"],
    )
    def test_of_a_callback_are_taken(self, headers: list[tuple[bytes, bytes]]) -> None:
        check_headers(headers, 64)

    @pytest.mark.parametrize("length", [b"65", b"-1", b"+1", b"1e1", b"", b"0" * 21, b"9" * 5000, b"\xb2"])
    def test_that_announce_no_length_within_the_limit_are_refused(self, length: bytes) -> None:
        with pytest.raises(NotADelivery):
            check_headers([self.JSON, (b"content-length", length)], 64)

    def test_that_announce_two_lengths_are_refused(self) -> None:
        with pytest.raises(NotADelivery):
            check_headers([self.JSON, (b"content-length", b"1"), (b"content-length", b"1")], 64)


class TestReading:
    @staticmethod
    def receive(*pieces: bytes, end: str = "http.request") -> Callable[[], Awaitable[Message]]:
        """Hands out a body in pieces, and no message more."""
        messages: list[Message] = [
            {"type": "http.request", "body": piece, "more_body": True} for piece in pieces
        ]
        messages.append({"type": end})

        async def next_message() -> Message:
            return messages.pop(0)

        return next_message

    async def test_puts_pieces_together_up_to_the_limit(self) -> None:
        receive = self.receive(BODY[:10], b"", BODY[10:])
        assert await read_delivery(receive, most=len(BODY), seconds=30) == Delivery("task_1", "success")

    async def test_stops_with_the_first_byte_too_many(self) -> None:
        receive = self.receive(BODY, b" ", b"never read")
        with pytest.raises(NotADelivery):
            await read_delivery(receive, most=len(BODY), seconds=30)
        assert (await receive())["body"] == b"never read"

    async def test_takes_no_body_whose_sender_went_away(self) -> None:
        with pytest.raises(NotADelivery):
            await read_delivery(self.receive(BODY, end="http.disconnect"), most=10_000, seconds=30)


class TestABodyWithAValidToken:
    """The vendor's, or of whoever has stolen one address."""

    def test_of_a_gigabyte_is_dropped_at_the_limit(
        self, site: Site, deliveries: FakeDeliveries, counted: Counted
    ) -> None:
        headers = ("Content-Type: application/json", "Transfer-Encoding: chunked")
        blocks = (b"10000\r\n" + b" " * 65536 + b"\r\n" for _ in range(GIGABYTE // 65536))
        with site.connect() as connection:
            connection.sendall(request("POST", deliveries.token.to_text(), b"", *headers))
            with pytest.raises(OSError, match="Broken pipe|reset"):
                deque(map(connection.sendall, blocks), maxlen=0)
        assert counted.get(timeout=30) == refusal("body")
        assert site.read.total < 1024**2
        assert deliveries.received == []

    def test_that_takes_too_long_is_refused(self, open_site: OpenSite, deliveries: FakeDeliveries) -> None:
        site = open_site(body_seconds=0.1)
        with site.connect() as connection:
            connection.sendall(post(deliveries.token.to_text())[:-1])
            assert answer_of(connection) == REFUSAL
        assert deliveries.received == []

    def test_that_is_cut_off_is_not_recorded(
        self, site: Site, deliveries: FakeDeliveries, counted: Counted
    ) -> None:
        with site.connect() as connection:
            # What there is of it is a whole callback, but more was announced.
            connection.sendall(post(deliveries.token.to_text(), BODY + b" ")[:-1])
            while not site.read.total:
                assert site.deliver(new_token()) == REFUSAL
        while (counter := counted.get(timeout=30)) == refusal("token"):
            pass
        assert counter == refusal("body")
        assert deliveries.received == []

    def test_holds_one_of_few_places(
        self, open_site: OpenSite, deliveries: FakeDeliveries, counted: Counted
    ) -> None:
        site = open_site(bodies=1)
        with site.connect() as slow:
            slow.sendall(post(deliveries.token.to_text())[:-1])
            while not site.read.total:
                assert site.deliver(new_token()) == REFUSAL
            assert site.deliver(deliveries.token).startswith(LATER)
        while counted.get(timeout=30) != refusal("body"):
            pass
        assert site.deliver(deliveries.token) == ACCEPTED
